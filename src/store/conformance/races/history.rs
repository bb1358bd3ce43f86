//! Who held what while who wrote what, and which rule that breaks.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    lock::{Depth, Effect, Lock, LockId, LockParts, Membership, Target, Timestamp, rules},
    store::Refused,
};

/// What a history shows: how often each rule was broken, and how often each thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Violations {
    /// Locks granted while a write that they would refuse was still running (G3).
    pub overtaken: usize,
    /// Writes admitted under a lock that they did not answer for (G1, G7).
    pub bypassed: usize,
    /// Conflicting locks that lived at once (G4).
    pub conflicting: usize,
    /// Generations that did not grow, and permits that knew too small or too large a one (G6).
    pub generations: usize,
    /// Writes refused though the locks named were not in their way (G3).
    pub needless: usize,
    /// The first break, in words.
    pub first: Option<String>,
    /// Writes admitted.
    pub admitted: usize,
    /// Writes refused.
    pub refused: usize,
    /// Acquires granted.
    pub granted: usize,
    /// Acquires in conflict.
    pub conflicts: usize,
    /// Acquires busy.
    pub busy: usize,
    /// Acquires dropped.
    pub dropped: usize,
    /// Locks replaced.
    pub replaced: usize,
}

impl Violations {
    /// Whether no rule was broken.
    #[must_use]
    pub const fn none(&self) -> bool {
        self.overtaken + self.bypassed + self.conflicting + self.generations + self.needless == 0
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.overtaken += other.overtaken;
        self.bypassed += other.bypassed;
        self.conflicting += other.conflicting;
        self.generations += other.generations;
        self.needless += other.needless;
        self.first = self.first.take().or_else(|| other.first.clone());
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.granted += other.granted;
        self.conflicts += other.conflicts;
        self.busy += other.busy;
        self.dropped += other.dropped;
        self.replaced += other.replaced;
    }
}

pub(super) struct History(Mutex<Book>);

struct Book {
    now: Timestamp,
    held: Vec<Holding>,
    running: Vec<Running>,
    serial: u64,
    /// The largest generation granted for each root and depth.
    granted: HashMap<(String, Depth), u64>,
    /// The largest generation that a permit knew, for each kind of target.
    known: HashMap<(String, Effect, Membership), (Target<'static>, u64)>,
    found: Violations,
}

struct Holding {
    lock: Lock,
    expires_at: Option<Timestamp>,
    /// How many writes in the history it answers for.
    pins: usize,
}

/// A write as the history has it.
#[derive(Clone)]
pub(super) struct Running {
    serial: u64,
    pub(super) targets: Vec<Target<'static>>,
    /// The locks whose tokens it submitted.
    pub(super) own: Vec<Arc<LockParts>>,
}

/// What was true before an acquire or a write was asked for.
#[derive(Clone, Copy)]
pub(super) struct Before {
    generation: u64,
}

impl History {
    pub(super) fn new(now: Timestamp) -> Self {
        Self(Mutex::new(Book {
            now,
            held: Vec::new(),
            running: Vec::new(),
            serial: 0,
            granted: HashMap::new(),
            known: HashMap::new(),
            found: Violations::default(),
        }))
    }

    /// The clock is about to move: what may have run out then is no longer held for certain.
    pub(super) fn passes(&self, span: Duration) {
        let mut book = self.0.lock();
        book.now = book.now.after(span);
        let now = book.now;
        book.held.retain(|held| held.pins > 0 || held.expires_at.is_none_or(|end| end > now));
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Violations)) {
        add(&mut self.0.lock().found);
    }

    /// Before locks are asked for: their generations must be larger than all that is known now.
    pub(super) fn before_acquire(&self, locks: &[Arc<LockParts>]) -> Before {
        let book = self.0.lock();
        let overlaps = |(root, depth): &(String, Depth)| {
            let root = crate::lock::ResourceKey::from_canonical(root.as_str());
            locks.iter().any(|lock| rules::overlap((&root, *depth), (&lock.root, lock.depth)))
        };
        let granted = book.granted.iter().filter(|(at, _)| overlaps(at)).map(|(_, generation)| *generation);
        let touched = |target: &Target<'static>| locks.iter().any(|lock| rules::touches(&lock.root, lock.depth, target));
        let known = book.known.values().filter(|(target, _)| touched(target)).map(|(_, generation)| *generation);
        Before { generation: granted.chain(known).max().unwrap_or(0) }
    }

    /// Before a write is asked for: its permit must know all generations that were granted for what it touches.
    pub(super) fn before_write(&self, targets: &[Target<'static>]) -> Before {
        let book = self.0.lock();
        let touched = |(root, depth): &(String, Depth)| {
            let root = crate::lock::ResourceKey::from_canonical(root.as_str());
            targets.iter().any(|target| rules::touches(&root, *depth, target))
        };
        let granted = book.granted.iter().filter(|(at, _)| touched(at)).map(|(_, generation)| *generation);
        Before { generation: granted.max().unwrap_or(0) }
    }

    /// Locks were granted. `within` is the write from inside of which they were asked for.
    pub(super) fn granted(&self, before: Before, locks: &[Lock], within: Option<u64>) {
        let mut book = self.0.lock();
        book.found.granted += 1;
        for lock in locks {
            if lock.generation() <= before.generation {
                book.broken(
                    |found| &mut found.generations,
                    || format!("{lock:?} was granted after generation {}", before.generation),
                );
            }
            let at = (lock.root().path().to_owned(), lock.depth());
            let largest = book.granted.entry(at).or_default();
            *largest = lock.generation().max(*largest);
        }
        let now = book.now;
        // One that has expired since it was granted, before it came into the history, stands in nobody's way.
        for lock in locks.iter().filter(|lock| lock.expires_at().is_none_or(|end| end > now)) {
            if let Some(other) = book.held.iter().find(|held| rules::conflict(held.lock.parts(), lock.parts())) {
                let other = other.lock.clone();
                book.broken(|found| &mut found.conflicting, || format!("{lock:?} lives beside {other:?}"));
            }
            let would_refuse = |write: &&Running| {
                Some(write.serial) != within && rules::would_refuse(lock.parts(), &write.targets, &write.own)
            };
            if let Some(write) = book.running.iter().find(would_refuse) {
                let targets = write.targets.clone();
                book.broken(|found| &mut found.overtaken, || format!("{lock:?} was granted over a write of {targets:?}"));
            }
            book.held.push(Holding { lock: lock.clone(), expires_at: lock.expires_at(), pins: 0 });
        }
    }

    /// A lock's end is about to be asked for.
    pub(super) fn ends(&self, gone: impl Fn(&Lock) -> bool) {
        self.0.lock().held.retain(|held| !gone(&held.lock));
    }

    /// A lock lives on.
    pub(super) fn refreshed(&self, lock: &Lock) {
        let mut book = self.0.lock();
        if let Some(held) = book.held.iter_mut().find(|held| held.lock.id() == lock.id()) {
            held.expires_at = lock.expires_at();
        }
    }

    /// Some lock that is held now, for one who breaks it.
    pub(super) fn any_held(&self, at: usize) -> Option<LockId> {
        let book = self.0.lock();
        (!book.held.is_empty()).then(|| book.held[at % book.held.len()].lock.id())
    }

    /// A write was admitted; answers its number.
    pub(super) fn enters(
        &self,
        before: Before,
        targets: &[Target<'static>],
        own: Vec<Arc<LockParts>>,
        generation: u64,
    ) -> u64 {
        let mut book = self.0.lock();
        book.found.admitted += 1;
        if generation < before.generation {
            book.broken(
                |found| &mut found.generations,
                || format!("a permit knows {generation}, but {} was granted before", before.generation),
            );
        }
        let submitted = |lock: &Lock| own.iter().any(|own| own.id == lock.id());
        let refuses = |held: &&Holding| !submitted(&held.lock) && rules::would_refuse(held.lock.parts(), targets, &own);
        if let Some(held) = book.held.iter().find(refuses) {
            let lock = held.lock.clone();
            book.broken(|found| &mut found.bypassed, || format!("a write of {targets:?} was admitted under {lock:?}"));
        }
        for held in &mut book.held {
            let (root, depth) = (held.lock.root(), held.lock.depth());
            if submitted(&held.lock) && targets.iter().any(|target| rules::touches(root, depth, target)) {
                held.pins += 1;
            }
        }
        for target in targets {
            let at = (target.key.path().to_owned(), target.effect, target.membership);
            let known = book.known.entry(at).or_insert_with(|| (target.clone(), 0));
            known.1 = known.1.max(generation);
        }
        book.serial += 1;
        let serial = book.serial;
        book.running.push(Running { serial, targets: targets.to_vec(), own });
        serial
    }

    /// A write is about to end.
    pub(super) fn leaves(&self, serial: u64) {
        let mut book = self.0.lock();
        let Some(at) = book.running.iter().position(|write| write.serial == serial) else { return };
        let write = book.running.swap_remove(at);
        let now = book.now;
        for held in &mut book.held {
            let (root, depth) = (held.lock.root(), held.lock.depth());
            let own = write.own.iter().any(|own| own.id == held.lock.id());
            if own && write.targets.iter().any(|target| rules::touches(root, depth, target)) {
                held.pins = held.pins.saturating_sub(1);
            }
        }
        book.held.retain(|held| held.pins > 0 || held.expires_at.is_none_or(|end| end > now));
    }

    /// A write was refused: somebody must be in its way.
    pub(super) fn refused(&self, targets: &[Target<'static>], refused: &Refused) {
        let mut book = self.0.lock();
        book.found.refused += 1;
        let in_the_way = |lock: &Lock| targets.iter().any(|target| rules::touches(lock.root(), lock.depth(), target));
        if refused.blockers.is_empty() || !refused.blockers.iter().all(in_the_way) {
            book.broken(|found| &mut found.needless, || format!("a write of {targets:?} was refused by {refused:?}"));
        }
    }

    pub(super) fn close(&self) -> Violations {
        self.0.lock().found.clone()
    }
}

impl Book {
    fn broken(&mut self, which: impl FnOnce(&mut Violations) -> &mut usize, what: impl FnOnce() -> String) {
        *which(&mut self.found) += 1;
        self.found.first.get_or_insert_with(what);
    }
}
