//! `Home`: all the slots of one registry, and those of them that no thread keeps.

use std::sync::{Arc, atomic::Ordering};

use super::slot::{IDS, Slot};
use crate::store::memory::sync::{AtomicU64, Mutex};

/// Slots that are not looked through for ones to give back.
const FEW: usize = 64;

#[derive(Debug)]
pub(super) struct Home {
    /// The next block of ids.
    ids: AtomicU64,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
pub(super) struct List {
    /// A slot whose `Arc` is here alone belongs to nobody: the thread that kept it is gone.
    all: Vec<Arc<Slot>>,
    /// Those that no thread keeps.
    spare: Vec<Arc<Slot>>,
    /// At how many slots those that belong to nobody are looked for.
    limit: usize,
}

impl Home {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { ids: AtomicU64::new(0), list: Mutex::new(List { limit: FEW, ..List::default() }) })
    }

    /// The id before the first of a block that is given to nobody else.
    pub(super) fn ids(&self) -> u64 {
        self.ids.fetch_add(IDS, Ordering::Relaxed)
    }

    /// A slot for the caller, which owns it from here on.
    #[cold]
    pub(super) fn take(self: &Arc<Self>) -> Arc<Slot> {
        let mut list = self.list.lock();
        if list.spare.is_empty() && list.all.len() >= list.limit {
            list.reclaim();
        }
        if let Some(slot) = list.spare.pop() {
            return slot;
        }
        let slot = Arc::new(Slot::new(self));
        // Entered before it is used. A scan that has passed by here was over by then, so that its marks are seen.
        list.all.push(slot.clone());
        slot
    }

    /// Takes slots back that their owners have no use for. Never waits: while the list is in use they are left to be
    /// reclaimed.
    #[cold]
    pub(super) fn give_back(&self, slots: impl IntoIterator<Item = Arc<Slot>>) {
        if let Some(mut list) = self.list.try_lock() {
            list.spare.extend(slots);
        }
    }

    /// Looks at every slot. Afterwards, where most were found idle, some are given back.
    pub(super) fn scan(&self, mut each: impl FnMut(&Arc<Slot>) -> Go) {
        let mut list = self.list.lock();
        let mut idle = 0;
        for slot in &list.all {
            match each(slot) {
                Go::Idle => idle += 1,
                Go::On => {}
                Go::Stop => return,
            }
        }
        if idle > FEW + list.all.len() / 2 {
            list.trim();
        }
    }

    pub(super) fn running(&self) -> usize {
        self.list.lock().all.iter().filter(|slot| slot.running().is_some()).count()
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> Vec<Arc<Slot>> {
        self.list.lock().all.clone()
    }
}

/// How a scan goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    On,
    /// No write was running there.
    Idle,
    Stop,
}

impl List {
    /// Makes slots that belong to nobody spare ones, and sets when to look for some again: so late that the looks cost a
    /// slot no more than making it.
    fn reclaim(&mut self) {
        for slot in &mut self.all {
            if Arc::get_mut(slot).is_some() {
                self.spare.push(slot.clone());
            }
        }
        self.limit = FEW.max(2 * (self.all.len() - self.spare.len()));
    }

    /// Gives memory back after a peak, a part of it at a time: a scan is a part of an acquire, which must not stall.
    fn trim(&mut self) {
        let most = FEW.max(self.all.len() / 8);
        self.spare.truncate(self.spare.len().saturating_sub(most));
        let mut at = 0;
        for _ in 0..most {
            while at < self.all.len() && Arc::strong_count(&self.all[at]) > 1 {
                at += 1;
            }
            if at >= self.all.len() {
                break;
            }
            self.all.swap_remove(at);
        }
        self.limit = FEW.max(self.limit.min(2 * self.all.len()));
        shrink(&mut self.all);
        shrink(&mut self.spare);
    }
}

fn shrink<T>(list: &mut Vec<T>) {
    if list.capacity() > FEW && list.len() < list.capacity() / 4 {
        list.shrink_to(list.len() * 2);
    }
}
