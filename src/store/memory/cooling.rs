//! Where an acquire has just given up waiting for writes. For a while nobody may wait there again, so that repeated
//! acquires, each of which refuses new writes while it waits, cannot starve the writers.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::lock::{LockParts, Timestamp, rules};

/// More than this many at once, and the oldest is forgotten: a bound on memory, not on safety.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Cooling(VecDeque<(Arc<LockParts>, Timestamp)>);

impl Cooling {
    /// An acquire of `parts` gave up at `now` after waiting for `drain`.
    pub(super) fn gave_up(&mut self, parts: &Arc<LockParts>, now: Timestamp, drain: Duration) {
        self.0.retain(|(_, until)| now < *until);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((parts.clone(), now.after(drain.saturating_mul(2))));
    }

    /// Until when no mark may be set for `coming`, if it may not now.
    pub(super) fn until(&self, coming: &LockParts, now: Timestamp) -> Option<Timestamp> {
        if self.0.is_empty() {
            return None;
        }
        let here = |parts: &LockParts| rules::overlap((&parts.root, parts.depth), (&coming.root, coming.depth));
        self.0.iter().filter(|(parts, until)| now < *until && here(parts)).map(|(_, until)| *until).max()
    }
}
