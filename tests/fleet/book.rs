//! What the clients of a fleet saw: locks and writes, with the times between which each is certain.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tower_lock::lock::{Depth, Lock, LockParts, ResourceKey, Target, rules};

use super::trace::now;

/// A lock that was granted.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) parts: LockParts,
    pub(crate) generation: u64,
    /// When it was asked for.
    pub(crate) asked: u64,
    /// When its holder heard that it is granted: from here on it is held for certain.
    pub(crate) granted: u64,
    /// Until when it is held for certain unless it is released: its end, counted from when it or its last refresh was
    /// asked for.
    pub(crate) until: u64,
    /// The moment before its release was sent.
    pub(crate) released: Option<u64>,
    /// When its holder was told that it is gone, although it had not released it.
    pub(crate) lost: Option<u64>,
}

/// A write that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) targets: Vec<Target<'static>>,
    /// The locks whose tokens it submitted, by their place in the book.
    pub(crate) own: Vec<usize>,
    pub(crate) sent: u64,
    /// What was answered, and when.
    pub(crate) answer: Option<(u16, u64)>,
}

/// All of it. The number of a write, and of a lock, is its place here.
#[derive(Default)]
pub(crate) struct Book(Mutex<Pages>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    pub(crate) locks: Vec<Held>,
    pub(crate) writes: Vec<Sent>,
    /// How often a thing happened: an operation and its status, 0 where there was no answer.
    pub(crate) tally: BTreeMap<(&'static str, u16), u64>,
    /// Calls that got no answer in time, and answers that nothing explains.
    pub(crate) wrong: Vec<String>,
    /// When writes were answered with 204, for who asks whether they go on.
    pub(crate) written: Vec<u64>,
}

impl Book {
    pub(crate) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, what: &'static str, status: u16) {
        *self.pages().tally.entry((what, status)).or_default() += 1;
    }

    pub(crate) fn wrong(&self, what: String) {
        self.pages().wrong.push(what);
    }

    /// A write is about to be sent; answers its number.
    pub(crate) fn sends(&self, targets: Vec<Target<'static>>, own: Vec<usize>) -> u64 {
        let mut pages = self.pages();
        pages.writes.push(Sent { targets, own, sent: now(), answer: None });
        pages.writes.len() as u64 - 1
    }

    pub(crate) fn answered(&self, write: u64, status: u16) {
        let mut pages = self.pages();
        let at = now();
        pages.writes[usize::try_from(write).expect("a place")].answer = Some((status, at));
        if status == 204 {
            pages.written.push(at);
        }
    }

    /// A lock was granted that was asked for then.
    pub(crate) fn granted(&self, parts: LockParts, generation: u64, asked: u64, lifetime: u64) -> usize {
        let mut pages = self.pages();
        let until = asked + lifetime;
        pages.locks.push(Held { parts, generation, asked, granted: now(), until, released: None, lost: None });
        pages.locks.len() - 1
    }

    /// A refresh that was sent then was answered with 200.
    pub(crate) fn refreshed(&self, lock: usize, sent: u64, lifetime: u64) {
        let held = &mut self.pages().locks[lock];
        held.until = held.until.max(sent + lifetime);
    }

    /// The end of a lock is about to be asked for.
    pub(crate) fn ends(&self, lock: usize) {
        self.pages().locks[lock].released.get_or_insert_with(now);
    }

    /// Its holder was told that it is gone.
    pub(crate) fn lost(&self, lock: usize) {
        self.pages().locks[lock].lost.get_or_insert_with(now);
    }

    /// The locks at or below `root` that are held for certain now, which `found` does not hold.
    pub(crate) fn missing(&self, root: &str, found: &[Lock]) -> Vec<Held> {
        let pages = self.pages();
        let (at, root) = (now(), key(root));
        let held = pages.locks.iter().filter(|held| {
            held.until > at && held.released.is_none() && rules::covers(&root, Depth::Infinity, &held.parts.root)
        });
        held.filter(|held| !found.iter().any(|lock| lock.id() == held.parts.id)).cloned().collect()
    }
}

pub(crate) fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}
