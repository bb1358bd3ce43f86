//! `Slot`: one place in the registry, where one write after another is registered.
//!
//! A slot has one owner at a time: the permit of the write that runs in it or, between two writes, the thread that keeps
//! it. Only its owner starts and ends writes, so that takes no lock and shares no line of memory with other writers.
//! Acquires read along: what they have read counts if the state is the same afterwards (a sequence lock).
//!
//! A write with one target of usual length stands in the slot itself. What is rare (several targets, long paths, locks
//! that answer, acquires that wait) is behind a mutex, and the state says that something is there.

use std::{
    ops::Deref,
    sync::{Arc, Weak, atomic::Ordering},
    task::{Context, Poll},
};

use smallvec::SmallVec;

use super::{
    Answering,
    home::Home,
    idle,
    text::{self, Inline},
};
use crate::{
    lock::{LockParts, Target, rules},
    store::{
        InFlight, WriteId,
        memory::{
            latch::{self, Latch},
            sync::{AtomicU64, Mutex, fence},
        },
    },
};

/// A write is registered.
const RUNNING: u64 = 1;
/// Somebody waits for it to end. Set by acquires, all else in the state by the owner alone.
const WAITED: u64 = 1 << 1;
/// Part of what is registered is behind the mutex.
const MORE: u64 = 1 << 2;
/// Above these bits stands the id of the write, or of the last one.
const FLAGS: u32 = 3;
/// A slot counts up within a block of ids, and then draws another: no id is ever given twice.
pub(super) const IDS: u64 = 1 << 20;

/// Buffers above this many bytes are given back when their write ends.
pub(super) const KEEP: usize = 4 * 1024;

// Lines of its own, behind the one in which the counts of its `Arc` stand, which nobody touches while writes come and go.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    state: AtomicU64,
    generation: AtomicU64,
    /// Where it is used again.
    pub(super) home: Weak<Home>,
    more: Mutex<Option<Box<More>>>,
    inline: Inline,
}

#[cfg(not(all(tower_lock_loom, test)))]
const _: () = assert!(size_of::<Slot>() == 192);

/// What does not fit, or is rarely there.
#[derive(Debug, Default)]
pub(super) struct More {
    pub(super) targets: text::Targets,
    answering: Vec<Answering>,
    waiting: Vec<Arc<Latch>>,
}

/// A write as a scan has found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen(u64);

impl Seen {
    pub(super) fn id(self) -> WriteId {
        WriteId::from_bits(self.0 >> FLAGS)
    }
}

impl Slot {
    pub(super) fn new(home: &Arc<Home>) -> Self {
        Self {
            state: AtomicU64::new(home.ids() << FLAGS),
            generation: AtomicU64::new(0),
            home: Arc::downgrade(home),
            more: Mutex::new(None),
            inline: Inline::default(),
        }
    }

    /// Registers a write. By its owner, and only where none is running.
    pub(super) fn begin<A>(&self, home: &Home, targets: &[Target<'_>], generation: u64, answering: A) -> WriteId
    where
        A: IntoIterator<Item = Answering, IntoIter: ExactSizeIterator>,
    {
        let mut id = (self.state.load(Ordering::Relaxed) >> FLAGS) + 1;
        if id.is_multiple_of(IDS) {
            id = home.ids() + 1;
        }
        // A scan that reads any of what follows finds that the write before has ended.
        fence(Ordering::Release);
        self.generation.store(generation, Ordering::Relaxed);
        let fits = self.inline.put(targets);
        let answering = answering.into_iter();
        let mut state = (id << FLAGS) | RUNNING;
        if !fits || answering.len() != 0 {
            state |= MORE;
            self.keep(if fits { &[] } else { targets }, answering);
        }
        self.state.store(state, Ordering::Release);
        // Whoever looks for locks after this sees every mark whose acquire does not see the state.
        fence(Ordering::SeqCst);
        WriteId::from_bits(id)
    }

    #[cold]
    fn keep(&self, targets: &[Target<'_>], answering: impl Iterator<Item = Answering>) {
        let mut more = self.more.lock();
        let more = more.get_or_insert_default();
        targets.iter().for_each(|target| more.targets.push(target));
        more.answering.extend(answering);
    }

    /// The write that is running, if any.
    pub(super) fn running(&self) -> Option<Seen> {
        // With all that was done by writes that have ended: a lock is granted when they are seen to be over.
        let state = self.state.load(Ordering::Acquire);
        (state & RUNNING != 0).then_some(Seen(state))
    }

    /// Whether the write `seen` is still running.
    fn is_still(&self, seen: Seen, ordering: Ordering) -> bool {
        (self.state.load(ordering) ^ seen.0) & !WAITED == 0
    }

    /// Whether any of the locks to come would refuse the write `seen`. Not if it has ended meanwhile, whatever has taken its
    /// place: that was registered after the marks had been entered, and sees them.
    pub(super) fn meets(&self, seen: Seen, coming: &[impl Deref<Target = LockParts>]) -> bool {
        if seen.0 & MORE != 0 {
            return self.meets_more(seen, coming);
        }
        // What does not touch them by a glance does not if it was torn either, for then the write has ended.
        if !coming.iter().any(|coming| self.inline.may_touch(&coming.root)) {
            return false;
        }
        let read = self.inline.read();
        fence(Ordering::Acquire);
        self.is_still(seen, Ordering::Relaxed) && refused(coming, read.target().as_slice(), &[])
    }

    #[cold]
    fn meets_more(&self, seen: Seen, coming: &[impl Deref<Target = LockParts>]) -> bool {
        let more = self.more.lock();
        // Its end needs the mutex too: what is there stays there.
        if !self.is_still(seen, Ordering::Acquire) {
            return false;
        }
        let Some(more) = &*more else { return false };
        // A lock that has ended meanwhile excuses nothing any more.
        let alive = more.answering.iter().filter(|lock| !lock.pins.ended());
        let shared: SmallVec<[Arc<LockParts>; 4]> = alive.filter_map(|lock| lock.shared.clone()).collect();
        let read = self.inline.read();
        let targets: SmallVec<[Target<'_>; 4]> = read.target().into_iter().chain(more.targets.iter()).collect();
        refused(coming, &targets, &shared)
    }

    /// Attaches `latch` to the end of the write `seen`; whether that is still to come.
    pub(super) fn wait(&self, seen: Seen, latch: &Arc<Latch>) -> bool {
        let mut more = self.more.lock();
        let waited = seen.0 | WAITED;
        // From here on its end comes by the mutex, and finds the latch.
        if self.state.compare_exchange(seen.0, waited, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        latch.add();
        more.get_or_insert_default().waiting.push(latch.clone());
        true
    }

    /// Takes `latch` off whatever it is attached to here.
    pub(super) fn forget(&self, latch: &Arc<Latch>) {
        if let Some(more) = &mut *self.more.lock() {
            more.waiting.retain(|other| !Arc::ptr_eq(other, latch));
        }
    }

    /// Ends a write. By its owner, which goes on owning the slot: who waited for it is to be told when that is settled.
    pub(super) fn finish(&self, write: WriteId) -> Finished {
        let (id, state) = (write.bits(), self.state.load(Ordering::Relaxed));
        if state & RUNNING == 0 || state >> FLAGS != id {
            return Finished::Not;
        }
        match self.state.swap(id << FLAGS, Ordering::AcqRel) & (WAITED | MORE) {
            0 => Finished::Alone,
            _ => Finished::Waited(self.clear()),
        }
    }

    /// Empties what is behind the mutex, and unpins the locks that answered. Who waited.
    #[cold]
    fn clear(&self) -> Vec<Arc<Latch>> {
        let mut more = self.more.lock();
        let Some(more) = &mut *more else { return Vec::new() };
        more.targets.clear();
        more.answering.drain(..).for_each(|lock| lock.pins.unpin());
        more.answering.shrink_to(KEEP / size_of::<Answering>());
        std::mem::take(&mut more.waiting)
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.more.lock().as_ref().map_or(0, |more| more.targets.kept())
    }
}

/// What came of the end of a write.
pub(super) enum Finished {
    /// Nothing: no such write is running.
    Not,
    /// Nobody waited.
    Alone,
    /// These are to be told.
    Waited(Vec<Arc<Latch>>),
}

impl InFlight for Slot {
    fn end(self: Arc<Self>, write: WriteId) {
        match self.finish(write) {
            // Whoever owns the slot keeps it.
            Finished::Not => {}
            Finished::Alone => idle::put(self),
            Finished::Waited(waiting) => {
                idle::put(self);
                // Unpinned before: who is woken finds the locks as they are without this write.
                latch::done(&waiting);
            }
        }
    }

    fn poll_lapsed(&self, _: WriteId, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn generation(&self, write: WriteId) -> u64 {
        let seen = self.running().filter(|seen| seen.id() == write);
        seen.map_or(0, |_| self.generation.load(Ordering::Relaxed))
    }
}

fn refused(coming: &[impl Deref<Target = LockParts>], targets: &[Target<'_>], shared: &[Arc<LockParts>]) -> bool {
    coming.iter().any(|coming| rules::would_refuse(coming, targets, shared))
}
