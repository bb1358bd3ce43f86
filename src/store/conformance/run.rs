//! How cases are run: each by itself on a runtime of four threads, or all in a row.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::Duration,
};

use super::fixture::{Fixture, Mode};

/// A case that takes longer than this hangs: something is waited for that does not come.
const HANGS: Duration = Duration::from_secs(300);

/// What a case asks of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Needs {
    /// Any store.
    Any,
    /// One that registers writes.
    Guarded,
}

/// One case of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Case {
    /// The module that it stands in.
    pub module: &'static str,
    /// Its name, which is the rule that it proves.
    pub name: &'static str,
    /// What it asks of a store.
    pub needs: Needs,
}

/// What came of all cases.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
#[must_use]
pub struct Report {
    /// The cases that the store passed.
    pub passed: Vec<Case>,
    /// Those that it was not asked, because it registers no writes.
    pub not_asked: Vec<Case>,
    /// Those that it failed, with the rule that is broken.
    pub failed: Vec<(Case, String)>,
}

impl Report {
    /// Panics with every rule that is broken, if there is one.
    ///
    /// # Panics
    /// When a case failed.
    pub fn expect_all_passed(&self) {
        let broken: Vec<String> =
            self.failed.iter().map(|(case, why)| format!("{}::{}: {why}", case.module, case.name)).collect();
        assert!(broken.is_empty(), "{} of the cases failed:\n{}", broken.len(), broken.join("\n"));
    }
}

impl Needs {
    fn met_by(self, mode: Mode) -> bool {
        self == Self::Any || mode == Mode::Guarded
    }
}

/// Runs one case on a runtime of its own, with four threads.
///
/// # Panics
/// When the case fails or hangs.
pub fn run<F: Fixture>(fixture: &F, needs: Needs, case: impl AsyncFnOnce(&F)) {
    if !needs.met_by(fixture.mode()) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("a runtime for the case");
    let done = runtime.block_on(async { tokio::time::timeout(HANGS, case(fixture)).await });
    assert!(done.is_ok(), "the case hangs: something is waited for that does not come");
}

macro_rules! all {
    ({ $fixture:ident, $report:ident } $($module:ident { $($case:ident: $needs:ident,)* })*) => {
        $($({
            let case = Case { module: stringify!($module), name: stringify!($case), needs: Needs::$needs };
            if case.needs.met_by($fixture.mode()) {
                match survives(super::$module::$case(&$fixture)).await {
                    Ok(()) => $report.passed.push(case),
                    Err(why) => $report.failed.push((case, why)),
                }
            } else {
                $report.not_asked.push(case);
            }
        })*)*
    };
}

/// Runs all cases in a row, on the runtime of the caller: best one with several threads, for the races.
pub async fn run_all<F: Fixture>(fixture: F) -> Report {
    let mut report = Report::default();
    crate::__conformance_cases! { all { fixture, report } }
    report
}

/// The message of a case that panics or hangs.
async fn survives(case: impl Future<Output = ()>) -> Result<(), String> {
    let mut case = pin!(tokio::time::timeout(HANGS, case));
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| case.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
        Ok(Poll::Ready(Err(_))) => Poll::Ready(Err("it hangs".to_owned())),
        Err(panic) => Poll::Ready(Err(message(&*panic))),
    })
    .await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".to_owned())
}
