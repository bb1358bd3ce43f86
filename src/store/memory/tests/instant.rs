//! The instant between the two halves of an admission, held open: no race has to be won to look into it.

use std::cell::RefCell;

use super::*;

thread_local! {
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Called by an admission on its way; does what a test has put there, once.
pub(in super::super) fn between_registration_and_look() {
    if let Some(happens) = MEANWHILE.with(RefCell::take) {
        happens();
    }
}

/// Admits a write of `/a/b` while `happens` does, and says whether it went through.
fn admit_while(bench: &Bench, happens: impl FnOnce() + 'static) -> Option<Admitted> {
    MEANWHILE.with(|meanwhile| *meanwhile.borrow_mut() = Some(Box::new(happens)));
    let verdict = bench.put("/a/b", &[], "bob");
    assert!(MEANWHILE.with(|meanwhile| meanwhile.borrow().is_none()), "nothing was asked meanwhile");
    verdict.admitted()
}

#[test]
fn an_acquire_in_the_middle_of_an_admission_never_goes_through_with_it() {
    let bench = Bench::new();
    let store = bench.store.clone();
    let admitted = admit_while(&bench, move || {
        let locks = [exclusive("/a", "ann")];
        let principal = who("ann");
        let request = Acquire::new(&locks, Some(&principal)).draining(Duration::ZERO);
        let answer = at_once(store.acquire(&request));
        assert!(matches!(answer, Acquired::Busy { .. }), "the write is registered before it looks: {answer:?}");
    });
    assert!(admitted.is_some(), "nobody was granted anything, so nobody is refused");
}

#[test]
fn a_mark_set_in_the_middle_of_an_admission_is_seen_by_its_look() {
    let bench = Bench::new();
    let store = bench.store.clone();
    let (marked, mark) = std::sync::mpsc::channel();
    let admitted = admit_while(&bench, move || {
        let locks = [exclusive("/a", "ann")];
        let principal = who("ann");
        let coming = store.acquire(&Acquire::new(&locks, Some(&principal)));
        marked.send(coming).expect("the test waits for it");
    });
    assert!(admitted.is_none(), "the mark was entered before the look");
    let mut coming = mark.recv().expect("sent while the write was looked at");
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let granted = std::pin::Pin::new(&mut coming).poll(&mut cx);
    assert!(
        matches!(granted, std::task::Poll::Ready(Ok(Acquired::Granted(_)))),
        "the refused write is in nobody's way: {granted:?}"
    );
}
