//! `Deference`: writes that waited let the acquires in front go first.
//!
//! Once a lock has ended, an acquire that has stood in line for it takes precedence over a write that was held back by it.
//! So the write makes those in front ask, whose lock would cover what it changes, and asks when each of them has been
//! answered or has left.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use super::Line;
use crate::lock::ResourceKey;

/// A write that waits, as the line sees it.
pub(crate) struct Deference {
    line: Arc<Line>,
    targets: Arc<[ResourceKey<'static>]>,
    number: u64,
    /// For each turn that was in front since the lock ended: the answer that it is to have first.
    seen: HashMap<u64, u64>,
    /// The turn that has our waker.
    at: Option<u64>,
}

impl Deference {
    /// A write of `targets`.
    pub(crate) fn new(line: Arc<Line>, targets: Arc<[ResourceKey<'static>]>) -> Self {
        let number = line.number();
        Self { line, targets, number, seen: HashMap::new(), at: None }
    }

    /// A lock in the way may have ended just now: whatever the turns in front were answered before does not count.
    pub(crate) fn begin(&mut self) {
        self.seen.clear();
    }

    /// Ready once all who go first have had their turn.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.line.is_empty() {
            return Poll::Ready(());
        }
        let at = self.line.unanswered(&self.targets, &mut self.seen, self.number, cx.waker());
        if self.at != at {
            self.forget();
        }
        self.at = at;
        match at {
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }

    fn forget(&mut self) {
        if let Some(ticket) = self.at.take() {
            self.line.forget(ticket, self.number);
        }
    }
}

impl Drop for Deference {
    fn drop(&mut self) {
        self.forget();
    }
}

impl fmt::Debug for Deference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deference").field("targets", &self.targets).finish_non_exhaustive()
    }
}
