//! `Core`: what all handles of one memory store share; `Edit`: one step that changes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use parking_lot::RwLock;

use super::{
    filter::Filter,
    graveyard::Memory,
    inflight::Registry,
    pins::Pins,
    record::{Breaker, Record, Stage},
    table::Table,
};
use crate::{
    lock::{Lock, LockParts, LostCause, LostLock, Principal, Timestamp, TokenDigest, TokenKey},
    store::{Clock, Lifetime, LockEvent, watchers::Watchers},
};

/// Ended locks that one step buries, apart from those in its way.
const PRUNE: usize = 64;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) filter: Filter,
    pub(super) generation: AtomicU64,
    /// Where writes in flight are registered; none for a check-only store.
    pub(super) registry: Option<Registry>,
    pub(super) table: RwLock<Table>,
    pub(super) key: TokenKey,
    pub(super) lease: Duration,
    pub(super) clock: Clock,
    /// The latest time ever seen.
    latest: AtomicU64,
    pub(super) watchers: Arc<Watchers>,
}

impl Core {
    pub(super) fn new(clock: Clock, registry: Option<Registry>, lease: Duration, memory: Memory) -> Self {
        Self {
            filter: Filter::new(),
            // The wall clock, so that a restarted process goes on above the numbers of the one before.
            generation: AtomicU64::new(Timestamp::system_now().as_micros()),
            registry,
            table: RwLock::new(Table::new(memory)),
            key: TokenKey::random(),
            lease,
            clock,
            latest: AtomicU64::new(0),
            watchers: Arc::default(),
        }
    }

    /// The time that decides: the clock's, but never earlier than it ever was. A clock that steps back makes time stand
    /// still; it revives nothing.
    pub(super) fn now(&self) -> Timestamp {
        let shown = self.clock.now().as_micros();
        Timestamp::from_micros(self.latest.fetch_max(shown, Ordering::AcqRel).max(shown))
    }

    /// The number of the latest grant.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// One step that may change something: nobody sees it half done, and watchers hear of it in the order of the steps.
    pub(super) fn edit<T>(&self, step: impl FnOnce(&mut Edit<'_>) -> T) -> T {
        let mut table = self.table.write();
        let changing = Changing::start(&self.filter);
        let now = self.now();
        let mut edit = Edit { core: self, table: &mut table, now };
        edit.prune(PRUNE);
        let done = step(&mut edit);
        let wakers = self.watchers.publish(&mut table.news);
        drop(changing);
        drop(table);
        wakers.into_iter().for_each(Waker::wake);
        done
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.watchers.close();
    }
}

/// Marks the filter as changing, and as changed also where a step panics.
struct Changing<'c>(&'c Filter);

impl<'c> Changing<'c> {
    fn start(filter: &'c Filter) -> Self {
        filter.changing();
        Self(filter)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.changed();
    }
}

/// One step under the table's write lock.
pub(super) struct Edit<'a> {
    pub(super) core: &'a Core,
    pub(super) table: &'a mut Table,
    pub(super) now: Timestamp,
}

/// Why a lock ends in this step.
#[derive(Debug)]
pub(super) enum End {
    /// Its time is up, its own or that of a break's grace.
    Itself,
    Released,
    Replaced,
    ResourceGone,
    Broken(Breaker),
}

impl Edit<'_> {
    /// The lock or mark in `slot` if it counts. One that does not any more is buried.
    pub(super) fn living(&mut self, slot: u32) -> Option<&mut Record> {
        if !self.table.records.get(slot)?.live(self.now) {
            self.bury(slot, End::Itself);
            return None;
        }
        self.table.records.get_mut(slot)
    }

    pub(super) fn snapshot(&self, slot: u32) -> Option<Lock> {
        Some(self.table.records.get(slot)?.snapshot(self.now, self.core.lease))
    }

    /// Enters a mark.
    pub(super) fn mark(&mut self, parts: &Arc<LockParts>, digest: TokenDigest, lifetime: Lifetime, until: Timestamp) -> u32 {
        let record = Record {
            parts: parts.clone(),
            digest,
            stage: Stage::Pending,
            created_at: self.now,
            expires_at: Some(until),
            life_end: None,
            span: lifetime.span,
            most: lifetime.most,
            generation: 0,
            pins: Arc::<Pins>::default(),
            queued: None,
            place: super::record::Place::default(),
        };
        self.table.link(&self.core.filter, record)
    }

    /// Makes a lock of a mark: here its life starts, and here it gets its generation.
    pub(super) fn grant(&mut self, slot: u32, lifetime: Lifetime) -> Option<Lock> {
        // Released so that a write admitted under the lock, on whichever core, knows its number.
        let generation = self.core.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let now = self.now;
        let record = self.table.records.get_mut(slot)?;
        let life_end = lifetime.total.map(|total| now.after(total));
        record.stage = Stage::Held;
        record.created_at = now;
        record.life_end = life_end;
        record.expires_at = earlier(lifetime.span.map(|span| now.after(span)), life_end);
        record.generation = generation;
        let ends = record.expires_at;
        self.table.requeue(slot, ends);
        let lock = self.snapshot(slot)?;
        self.tell(|| LockEvent::Granted(lock.clone()));
        Some(lock)
    }

    /// Takes a mark away without a trace: its token may be proposed again.
    pub(super) fn withdraw(&mut self, slot: u32) {
        self.table.unlink(&self.core.filter, slot);
    }

    /// Ends a lock, remembers it and says so. A mark whose time is up only goes.
    pub(super) fn bury(&mut self, slot: u32, end: End) -> Option<Lock> {
        let lock = self.snapshot(slot)?;
        let record = self.table.unlink(&self.core.filter, slot)?;
        if record.is_mark() && matches!(end, End::Itself) {
            return None;
        }
        let known = LostLock {
            id: Some(record.parts.id),
            root: Some(record.parts.root.clone()),
            at: Some(self.now),
            ..LostLock::new(LostCause::Released)
        };
        let lost = match end {
            End::Itself => record.end_by_itself(self.now),
            End::Released => known,
            End::Replaced => LostLock { cause: LostCause::Replaced, ..known },
            End::ResourceGone => LostLock { cause: LostCause::ResourceGone, ..known },
            End::Broken(by) => LostLock { cause: LostCause::Broken, actor: by.actor, reason: Some(by.reason), ..known },
        };
        if !record.is_mark() {
            let (cause, actor, reason) = (lost.cause, lost.actor.clone(), lost.reason.clone());
            self.tell(|| LockEvent::Ended { lock: lock.clone(), cause, actor, reason });
        }
        self.table.graveyard.bury(record.digest, record.parts.principal.clone(), lost, self.now);
        Some(lock)
    }

    /// Buries up to `most` of those whose time is up, oldest first; how many.
    pub(super) fn prune(&mut self, most: usize) -> usize {
        let mut buried = 0;
        for _ in 0..most {
            let Some(slot) = self.table.next_due(self.now) else { break };
            let Some(record) = self.table.records.get(slot) else { break };
            if record.live(self.now) {
                // A write of its holder's keeps it: look again later.
                let again = self.now.after(self.core.lease.max(Duration::from_millis(1)));
                let again = record.life_end.map_or(again, |end| again.min(end));
                self.table.requeue(slot, Some(again));
                self.table.overdue.insert(self.table.records.id(slot));
            } else {
                self.bury(slot, End::Itself);
                buried += 1;
            }
        }
        buried
    }

    /// Buries those that ended with the last write which held them beyond their own time; how many.
    pub(super) fn bury_released_late(&mut self) -> usize {
        let before = self.table.overdue.len();
        for held in self.table.overdue.clone() {
            // Refreshed or held, it stays; what has ended is taken out of the set as well.
            self.living(held.slot);
        }
        before - self.table.overdue.len()
    }

    /// Tells watchers, if there are any.
    pub(super) fn tell(&mut self, event: impl FnOnce() -> LockEvent) {
        if self.core.watchers.any() {
            self.table.news.push(event());
        }
    }
}

/// The earlier of two ends, of which either may never come.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Who breaks a lock, and why.
pub(super) fn breaker(actor: Option<&Principal>, reason: &str) -> Breaker {
    Breaker { actor: actor.cloned(), reason: reason.into() }
}
