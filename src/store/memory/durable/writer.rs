//! The writer: the one thread that owns the file. It writes down whatever has come in since it last did, in one commit.
//!
//! A thread of its own, and not the runtime's: the store works in any runtime and outside of one, and a commit waits for
//! the disk.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Change, Row, Seen,
    queue::{Failure, Queue, Work},
};
use crate::store::{StoreErrorKind, memory::core::Core};

/// After a failure, how long every call fails at once before the file is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Where changes become durable.
pub(super) trait Ledger: Send {
    /// Enters the changes; they are durable when this returns. After an error it is unknown whether they are.
    fn commit(&mut self, changes: &[&Change], seen: Seen) -> Result<(), Failure>;

    /// Opens itself anew and enters these changes in place of everything that it held.
    fn rewrite(&mut self, all: &[&Change], seen: Seen) -> Result<(), Failure>;

    /// Nothing more will come.
    fn close(self: Box<Self>, seen: Seen);
}

/// The thread, for as long as there are handles of the store. Dropped, it writes down what it has, closes the file and
/// waits for that.
#[derive(Debug)]
pub(in crate::store::memory) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(core: Arc<Core>, queue: Arc<Queue>, ledger: Box<dyn Ledger>) -> io::Result<Self> {
        let work = Writing { core, queue: queue.clone(), ledger, failed: None };
        let thread = thread::Builder::new().name("tower-lock writer".to_owned()).spawn(move || work.run())?;
        Ok(Self { queue, thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        // The last handle may go in a waker that the thread itself calls.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

struct Writing {
    core: Arc<Core>,
    queue: Arc<Queue>,
    ledger: Box<dyn Ledger>,
    /// Since when the file is not what memory is, and why.
    failed: Option<(Instant, Failure)>,
}

impl Writing {
    fn run(mut self) {
        let mut seen = Seen::default();
        while let Some(work) = self.queue.next() {
            seen = work.seen;
            match &self.failed {
                None => self.commit(work),
                Some((since, failure)) if since.elapsed() < PAUSE => {
                    let failure = failure.clone();
                    self.undo(work, &failure);
                }
                Some(_) => self.heal(work),
            }
        }
        if self.failed.is_none() {
            let ledger = self.ledger;
            let _ = panic::catch_unwind(AssertUnwindSafe(move || ledger.close(seen)));
        }
    }

    fn commit(&mut self, work: Work) {
        let changes: Vec<&Change> = work.steps.iter().flat_map(|step| &step.changes).collect();
        let ledger = &mut self.ledger;
        match unpanicked(|| ledger.commit(&changes, work.seen)) {
            Ok(()) => {
                self.core.settle(work.steps);
                work.batch.finish(Ok(()));
            }
            Err(failure) => {
                self.undo(work, &failure);
                self.failed = Some((Instant::now(), failure));
            }
        }
    }

    /// Writes down everything that memory holds, the steps of `work` and any later ones included: the file may hold
    /// anything between the last step that was durable and the one that failed.
    fn heal(&mut self, work: Work) {
        let (all, later) = self.core.all_changes(|| self.queue.rest());
        let steps = work.steps.iter().chain(&later.steps);
        let changes: Vec<&Change> = all.iter().chain(steps.flat_map(|step| &step.changes)).collect();
        let (ledger, seen) = (&mut self.ledger, work.seen.later(later.seen));
        let done = unpanicked(|| ledger.rewrite(&changes, seen));
        let batches = [work.batch, later.batch];
        let steps = work.steps.into_iter().chain(later.steps).collect();
        match done {
            Ok(()) => {
                self.failed = None;
                self.core.settle(steps);
                batches.iter().for_each(|batch| batch.finish(Ok(())));
            }
            Err(failure) => {
                self.undo(Work { steps, seen, batch: batches[1].clone() }, &failure);
                batches[0].finish(Err(failure.clone()));
                self.failed = Some((Instant::now(), failure));
            }
        }
    }

    /// Takes the steps of `work` back, and all that came after them: they stand on them.
    fn undo(&self, work: Work, failure: &Failure) {
        let mut batches = vec![work.batch];
        self.core.undo(work.steps, || {
            let later = self.queue.rest();
            batches.push(later.batch);
            later.steps
        });
        batches.into_iter().for_each(|batch| batch.finish(Err(failure.clone())));
    }
}

fn unpanicked(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Failure::new(StoreErrorKind::Other, "the writer panicked")))
}

impl Core {
    /// All that memory holds and a file should, and what `later` gives while nothing can change.
    fn all_changes<T>(&self, later: impl FnOnce() -> T) -> (Vec<Change>, T) {
        let table = self.table.read();
        let granted = table.records.iter().filter(|record| !record.is_mark());
        let locks = granted.map(|record| Change::Put(Row::of(record)));
        let graves = table.graveyard.iter().map(Change::Dead);
        (locks.chain(graves).collect(), later())
    }
}
