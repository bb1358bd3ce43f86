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
    durable::{Change, Notes, Queue, Seen, Ticket, Undo},
    filter::Filter,
    graveyard::Memory,
    inflight::Registry,
    prefix::Prefix,
    record::{Breaker, End, Ends, Record, Stage},
    table::Table,
};
use crate::{
    lock::{Lock, LockParts, LostLock, Principal, Timestamp, TokenDigest, TokenKey},
    store::{Clock, Lifetime, LockEvent, StoreError, watchers::Watchers},
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
    /// By how many microseconds the store's time is ahead of its clock: where that is behind what an earlier process saw.
    ahead: u64,
    pub(super) watchers: Arc<Watchers>,
    /// Where steps wait to be written down; none for a store without a file.
    pub(super) queue: Option<Arc<Queue>>,
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
            ahead: 0,
            watchers: Arc::default(),
            queue: None,
        }
    }

    /// The time that decides: the clock's, but never earlier than it ever was. A clock that steps back makes time stand
    /// still; it revives nothing.
    pub(super) fn now(&self) -> Timestamp {
        let shown = self.clock.now().as_micros() + self.ahead;
        let latest = self.latest.load(Ordering::Acquire);
        if shown <= latest {
            // Somebody wrote as much down within this microsecond, or the clock stepped back.
            return Timestamp::from_micros(latest);
        }
        Timestamp::from_micros(self.latest.fetch_max(shown, Ordering::AcqRel).max(shown))
    }

    /// From here on the store's time is `time` at least, and moves on with the clock.
    #[cfg(feature = "redb")]
    pub(super) fn not_before(&mut self, time: Timestamp) {
        self.ahead = time.as_micros().saturating_sub(self.clock.now().as_micros());
    }

    /// The number of the latest grant.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// One step that may change something: nobody sees it half done, and watchers hear of it in the order of the steps.
    /// Answers also what has to be durable before anybody is told.
    pub(super) fn edit<T>(&self, step: impl FnOnce(&mut Edit<'_>) -> T) -> (T, Ticket) {
        let notes = self.queue.as_ref().map(|_| Notes::default());
        self.step(notes, |edit| {
            edit.prune(PRUNE);
            step(edit)
        })
    }

    /// Why no step may be taken now, if so.
    pub(super) fn overfull(&self) -> Option<StoreError> {
        self.queue.as_ref()?.overfull()
    }

    /// One step of which nothing is to be written down.
    pub(super) fn in_memory<T>(&self, step: impl FnOnce(&mut Edit<'_>) -> T) -> T {
        self.step(None, step).0
    }

    fn step<T>(&self, notes: Option<Notes>, step: impl FnOnce(&mut Edit<'_>) -> T) -> (T, Ticket) {
        let mut table = self.table.write();
        // Dropped before the table is let go.
        let changing = Changing(&self.filter);
        let now = self.now();
        let mut edit = Edit { core: self, table: &mut table, now, notes };
        let done = step(&mut edit);
        let notes = edit.notes.take();
        let ticket = match &self.queue {
            Some(queue) => self.note(queue, notes.unwrap_or_default(), &mut table, now),
            None => None,
        };
        if table.news.is_empty() {
            return (done, ticket);
        }
        let wakers = self.watchers.publish(&mut table.news);
        drop(changing);
        drop(table);
        wakers.into_iter().for_each(Waker::wake);
        (done, ticket)
    }

    /// Puts a step into the queue; its news too, unless nobody waits for it to be written down.
    #[cold]
    fn note(&self, queue: &Queue, mut notes: Notes, table: &mut Table, now: Timestamp) -> Ticket {
        table.graveyard.forgotten().into_iter().for_each(|key| notes.hint(Change::Forget { key }));
        let news = if notes.promised() { std::mem::take(&mut table.news) } else { Vec::new() };
        queue.add(notes.into_step(news), Seen { now, generation: self.generation() })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.watchers.close();
    }
}

/// Ends what a step does to the filter, also where the step panics.
struct Changing<'c>(&'c Filter);

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
    /// What is to be written down; none where a step is of memory alone.
    pub(super) notes: Option<Notes>,
}

impl Edit<'_> {
    /// The lock or mark in `slot` if it counts and is not about to go. One that does not count any more is buried.
    pub(super) fn living(&mut self, slot: u32) -> Option<&mut Record> {
        if !self.table.records.get(slot)?.live(self.now) {
            self.bury(slot, End::Itself);
            return None;
        }
        self.table.records.get_mut(slot).filter(|record| record.leaving.is_none())
    }

    pub(super) fn snapshot(&self, slot: u32) -> Option<Lock> {
        Some(self.table.records.get(slot)?.snapshot(self.now, self.core.lease))
    }

    /// Enters a mark. One that is not granted in this very step has to be queued by its deadline.
    pub(super) fn mark(
        &mut self,
        (parts, prefixes): (&Arc<LockParts>, &[Prefix]),
        digest: TokenDigest,
        lifetime: Lifetime,
        until: Timestamp,
    ) -> u32 {
        let record = Record {
            parts: parts.clone(),
            digest,
            stage: Stage::Pending,
            created_at: self.now,
            expires_at: Some(until).into(),
            life_end: Ends::NEVER,
            span: lifetime.span.into(),
            most: lifetime.most.into(),
            generation: 0,
            leaving: None,
            pins: self.table.spare_pins.take(),
            rivalry: super::record::Rivalry::Never,
            place: super::record::Place::default(),
        };
        self.table.link(&self.core.filter, record, prefixes)
    }

    /// Makes a lock of a mark: here its life starts, and here it gets its generation.
    pub(super) fn grant(&mut self, slot: u32, lifetime: Lifetime) -> Option<Lock> {
        // Numbers are given under the table's lock alone. Released so that a write admitted under this lock, on whichever
        // core, knows its number.
        let generation = self.core.generation.load(Ordering::Relaxed) + 1;
        self.core.generation.store(generation, Ordering::Release);
        let now = self.now;
        let record = self.table.records.get_mut(slot)?;
        let life_end = lifetime.total.map(|total| now.after(total));
        record.stage = Stage::Held;
        record.created_at = now;
        let ends = earlier(lifetime.span.map(|span| now.after(span)), life_end);
        record.life_end = life_end.into();
        record.expires_at = ends.into();
        record.generation = generation;
        self.table.requeue(slot, ends);
        if self.notes.is_some() {
            self.put(slot, Some(Undo::Granted(self.table.records.id(slot))));
        }
        let lock = self.snapshot(slot)?;
        self.tell(|| LockEvent::Granted(lock.clone()));
        Some(lock)
    }

    /// Takes a mark away without a trace: its token may be proposed again.
    pub(super) fn withdraw(&mut self, slot: u32) {
        self.table.unlink(&self.core.filter, slot);
    }

    /// Ends a lock, remembers it and says so. A mark whose time is up only goes. In a store with a file, one that ends by
    /// somebody's word leaves: it goes when that is written down.
    pub(super) fn bury(&mut self, slot: u32, end: End) -> Option<Lock> {
        let by_itself = matches!(end, End::Itself);
        if self.notes.is_some() && !by_itself && self.table.records.get(slot).is_some_and(|record| !record.is_mark()) {
            return self.leave(slot, end);
        }
        let mut record = self.table.unlink(&self.core.filter, slot)?;
        if record.is_mark() && by_itself {
            return None;
        }
        let (now, lease) = (self.now, self.core.lease);
        let (grave, noted) = match record.leaving.take() {
            // Decided and noted before.
            Some(grave) => (*grave, true),
            // Of a step in memory alone nobody else needs the grave.
            None if self.notes.is_none() => {
                let lost = record.lost_rootless(end, now);
                self.tell_end(&record, &lost);
                let (of, principal) = ((record.digest, &record.parts.root), record.parts.principal.clone());
                self.table.graveyard.bury_rooted(of, principal, lost, now);
                let (lock, pins) = record.into_lock(now, lease);
                self.table.spare_pins.give(pins);
                return Some(lock);
            }
            None => {
                let lost = record.lost_by(end, now);
                (self.table.graveyard.dig(record.digest, record.parts.principal.clone(), lost, now), false)
            }
        };
        self.tell_end(&record, &grave.lost);
        if record.is_mark() {
            self.dug(&grave);
        } else if let Some(notes) = self.notes.as_mut().filter(|_| !noted) {
            notes.hint(Change::Gone { generation: record.generation });
            notes.hint(Change::Dead(grave.clone()));
        }
        self.table.graveyard.bury(grave, now);
        Some(record.into_lock(now, lease).0)
    }

    /// Tells watchers that a lock has ended. Of a mark they never heard.
    fn tell_end(&mut self, record: &Record, lost: &LostLock) {
        if !record.is_mark() {
            let (now, lease) = (self.now, self.core.lease);
            self.tell(|| LockEvent::Ended {
                lock: record.snapshot(now, lease),
                cause: lost.cause,
                actor: lost.actor.clone(),
                reason: lost.reason.clone(),
            });
        }
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
                let again = record.life_end.get().map_or(again, |end| again.min(end));
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
