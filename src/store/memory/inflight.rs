//! The registry of the writes in flight: acquires find here which writes they have to wait for.
//!
//! Each write stands in a slot of its own, which nobody but its permit and its thread touches as long as no acquire comes
//! along. A thread keeps the slots of the writes that ended there and uses them again, so a registration takes no lock,
//! shares no line of memory and allocates nothing. A mutex guards only the list of all slots: it is locked when a slot is
//! made, or handed from thread to thread, and by the scan of an acquire. After a peak of writes its slots are given back,
//! some by each scan.
//!
//! **Why no write and no mark miss each other.** A write stores its state and then looks at the filter; an acquire enters
//! its marks into the filter and then reads the states. A sequentially consistent fence stands in between on both sides,
//! so one of the two sees the other: the look sees the marks, or the scan sees the write. A slot that the scan does not
//! know yet was made after it under the list's mutex, so the look sees the marks. Whatever is registered in a slot after
//! the scan has read its state sees them too.

use std::{
    ops::Deref,
    sync::{Arc, atomic::Ordering},
};

use self::{
    home::{Go, Home},
    slot::Slot,
};
use super::{latch::Latch, pins::Pins, sync::fence};
use crate::{
    lock::{LockParts, LockScope, Target},
    store::{Permit, WriteId},
};

mod home;
mod idle;
mod slot;
mod text;

#[derive(Debug)]
pub(super) struct Registry {
    home: Arc<Home>,
}

/// A lock that answers for a write with its own token, and is pinned by it.
#[derive(Debug)]
pub(super) struct Answering {
    /// What it is, if it is a shared lock: those alone excuse a write from others.
    shared: Option<Arc<LockParts>>,
    pub(super) pins: Arc<Pins>,
}

impl Answering {
    pub(super) fn new(parts: &Arc<LockParts>, pins: Arc<Pins>) -> Self {
        Self { shared: (parts.scope == LockScope::Shared).then(|| parts.clone()), pins }
    }
}

/// A write that an acquire waits for.
#[derive(Debug)]
pub(super) struct Met(Arc<Slot>);

impl Registry {
    pub(super) fn new() -> Self {
        Self { home: Home::new() }
    }

    /// Registers a write let through by the locks `answering`, which it pins. From here on, an acquire whose locks would refuse
    /// it waits for it.
    #[inline(always)]
    pub(super) fn register<A>(&self, targets: &[Target<'_>], generation: u64, answering: A) -> Permit
    where
        A: IntoIterator<Item = Answering, IntoIter: ExactSizeIterator>,
    {
        let slot = idle::take(&self.home).unwrap_or_else(|| self.home.take());
        let id = slot.begin(&self.home, targets, generation, answering);
        Permit::new(slot, id)
    }

    /// The writes that are running, other than `within`, and that `latch`'s locks would refuse. The latch is attached to each.
    pub(super) fn attach(&self, latch: &Arc<Latch>, within: Option<WriteId>) -> Vec<Met> {
        let mut met = Vec::new();
        self.each_meeting(&latch.coming, within, |slot, seen| {
            if slot.wait(seen, latch) {
                met.push(Met(slot.clone()));
            }
            Go::On
        });
        met
    }

    /// Whether a write is running that `coming` would refuse, other than `within`.
    pub(super) fn meets(&self, coming: &[impl Deref<Target = LockParts>], within: Option<WriteId>) -> bool {
        let mut met = false;
        self.each_meeting(coming, within, |_, _| {
            met = true;
            Go::Stop
        });
        met
    }

    fn each_meeting(
        &self,
        coming: &[impl Deref<Target = LockParts>],
        within: Option<WriteId>,
        mut met: impl FnMut(&Arc<Slot>, slot::Seen) -> Go,
    ) {
        // Between the marks, which have been entered, and the states.
        fence(Ordering::SeqCst);
        self.home.scan(|slot| match slot.running() {
            None => Go::Idle,
            Some(seen) if Some(seen.id()) != within && slot.meets(seen, coming) => met(slot, seen),
            Some(_) => Go::On,
        });
        // A write that was found to be over while it was looked at is over with all that it did.
        fence(Ordering::Acquire);
    }

    /// How many writes are running.
    pub(super) fn len(&self) -> usize {
        self.home.running()
    }
}

/// Takes `latch` off the writes `from`, whose end nobody waits for any more.
pub(super) fn detach(latch: &Arc<Latch>, from: &[Met]) {
    from.iter().for_each(|met| met.0.forget(latch));
}

#[cfg(all(tower_lock_loom, test))]
mod races;
#[cfg(test)]
mod tests;
