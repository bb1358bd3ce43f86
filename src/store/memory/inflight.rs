//! The writes in flight, in shards so that writers on different cores do not meet.
//!
//! A permit holds the `Arc` of its own shard: one reference count for all cores would cost a third of the throughput. An
//! entry keeps its targets as text in buffers that are used again, so a registration allocates nothing once the shard
//! has grown to its load. It grows to the largest number of writes there ever were at once, and stays so.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{latch::Latch, pins::Pins};
use crate::{
    lock::{Effect, LockParts, LockScope, Membership, ResourceKey, Target, rules},
    store::{InFlight, Permit, WriteId},
};

const MOST_SHARDS: usize = 64;
/// Buffers above this many bytes are given back when their write ends.
const KEEP: usize = 4 * 1024;

#[derive(Debug)]
pub(super) struct Registry {
    shards: Box<[Arc<Shard>]>,
}

/// A lock that answers for a write with its own token, and is pinned by it.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) parts: Arc<LockParts>,
    pub(super) pins: Arc<Pins>,
}

/// The bits of a [`WriteId`]: 6 for the shard, 26 for the slot, 32 for the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    shard: usize,
    slot: usize,
    version: u32,
}

const SLOT_BITS: u32 = 26;

impl Entry {
    fn of(id: WriteId) -> Self {
        let bits = id.bits();
        #[expect(clippy::cast_possible_truncation, reason = "the low half is the version")]
        let version = bits as u32;
        let place = usize::try_from(bits >> 32).unwrap_or(usize::MAX);
        Self { shard: place >> SLOT_BITS, slot: place & ((1 << SLOT_BITS) - 1), version }
    }

    fn id(self) -> WriteId {
        let place = ((self.shard << SLOT_BITS) | self.slot) as u64;
        WriteId::from_bits((place << 32) | u64::from(self.version))
    }
}

// Two cache lines, which are fetched in pairs: neighbours in memory belong to other cores.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    index: usize,
    writes: Mutex<Writes>,
}

#[derive(Debug, Default)]
struct Writes {
    slots: Vec<InFlightWrite>,
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct InFlightWrite {
    version: u32,
    running: bool,
    generation: u64,
    /// Namespaces and paths, one after the other.
    text: String,
    targets: Vec<Span>,
    answering: Vec<Answering>,
    waiting: Vec<Arc<Latch>>,
}

/// Where in the text one target stands.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    /// Where its namespace ends and its path starts; none without a namespace.
    namespace: Option<usize>,
    end: usize,
    effect: Effect,
    membership: Membership,
}

impl Registry {
    pub(super) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = (4 * cores).next_power_of_two().min(MOST_SHARDS);
        Self { shards: (0..count).map(|index| Arc::new(Shard { index, writes: Mutex::default() })).collect() }
    }

    /// Registers a write let through by the locks `answering`, which it pins. From here on, an acquire whose locks would refuse
    /// it waits for it.
    pub(super) fn register(&self, targets: &[Target<'_>], generation: u64, answering: Vec<Answering>) -> Permit {
        let shard = &self.shards[shard_of_thread() & (self.shards.len() - 1)];
        let mut writes = shard.writes.lock();
        let slot = match writes.free.pop() {
            Some(slot) => slot,
            None => {
                assert!(writes.slots.len() < 1 << SLOT_BITS, "sixty million writes in flight in one shard");
                writes.slots.push(InFlightWrite::default());
                writes.slots.len() - 1
            }
        };
        let write = &mut writes.slots[slot];
        write.running = true;
        write.generation = generation;
        write.answering = answering;
        for target in targets {
            write.keep(target);
        }
        let id = Entry { shard: shard.index, slot, version: write.version }.id();
        drop(writes);
        Permit::new(shard.clone(), id)
    }

    /// Whether a write is running that `latch`'s locks would refuse, other than `within`. The latch is attached to each.
    pub(super) fn attach(&self, latch: &Arc<Latch>, within: Option<WriteId>) -> Vec<WriteId> {
        let mut met = Vec::new();
        for shard in &self.shards {
            shard.each_meeting(&latch.coming, within, |id, write| {
                latch.add();
                write.waiting.push(latch.clone());
                met.push(id);
                Go::On
            });
        }
        met
    }

    /// Whether a write is running that `coming` would refuse, other than `within`.
    pub(super) fn meets(&self, coming: &[Arc<LockParts>], within: Option<WriteId>) -> bool {
        let mut met = false;
        for shard in &self.shards {
            shard.each_meeting(coming, within, |_, _| {
                met = true;
                Go::Stop
            });
            if met {
                return true;
            }
        }
        false
    }

    /// Takes `latch` off the writes `from`, whose end nobody waits for any more.
    pub(super) fn detach(&self, latch: &Arc<Latch>, from: &[WriteId]) {
        for id in from {
            let at = Entry::of(*id);
            if let Some(shard) = self.shards.get(at.shard)
                && let Some(write) = shard.writes.lock().running(at)
            {
                write.waiting.retain(|other| !Arc::ptr_eq(other, latch));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.writes.lock()).map(|writes| writes.slots.len() - writes.free.len()).sum()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Go {
    On,
    Stop,
}

impl Shard {
    fn each_meeting(
        &self,
        coming: &[Arc<LockParts>],
        within: Option<WriteId>,
        mut met: impl FnMut(WriteId, &mut InFlightWrite) -> Go,
    ) {
        let mut writes = self.writes.lock();
        if writes.free.len() == writes.slots.len() {
            return;
        }
        for (slot, write) in writes.slots.iter_mut().enumerate().filter(|(_, write)| write.running) {
            let id = Entry { shard: self.index, slot, version: write.version }.id();
            if Some(id) != within && write.meets(coming) && met(id, write) == Go::Stop {
                return;
            }
        }
    }
}

impl InFlight for Shard {
    fn end(self: Arc<Self>, id: WriteId) {
        let at = Entry::of(id);
        if at.shard != self.index {
            return;
        }
        let (answering, waiting) = {
            let mut writes = self.writes.lock();
            let Some(write) = writes.running(at) else { return };
            let over = write.clear();
            writes.free.push(at.slot);
            over
        };
        // Unpinned first: who is woken finds the locks as they are without this write.
        answering.iter().for_each(|lock| lock.pins.unpin());
        waiting.iter().for_each(|latch| latch.done());
    }

    fn poll_lapsed(&self, _: WriteId, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn generation(&self, id: WriteId) -> u64 {
        self.writes.lock().running(Entry::of(id)).map_or(0, |write| write.generation)
    }
}

impl Writes {
    fn running(&mut self, at: Entry) -> Option<&mut InFlightWrite> {
        self.slots.get_mut(at.slot).filter(|write| write.running && write.version == at.version)
    }
}

impl InFlightWrite {
    fn keep(&mut self, target: &Target<'_>) {
        let start = self.text.len();
        let namespace = target.key.namespace().map(|namespace| {
            self.text.push_str(namespace);
            self.text.len()
        });
        self.text.push_str(target.key.path());
        let (effect, membership) = (target.effect, target.membership);
        self.targets.push(Span { start, namespace, end: self.text.len(), effect, membership });
    }

    /// Whether any of the locks to come would refuse it.
    fn meets(&self, coming: &[Arc<LockParts>]) -> bool {
        let targets: SmallVec<[Target<'_>; 4]> = self.targets.iter().map(|span| span.target(&self.text)).collect();
        // A lock that has ended meanwhile excuses nothing any more.
        let shared = self.answering.iter().filter(|lock| lock.parts.scope == LockScope::Shared && !lock.pins.ended());
        let shared: SmallVec<[Arc<LockParts>; 4]> = shared.map(|lock| lock.parts.clone()).collect();
        coming.iter().any(|coming| rules::would_refuse(coming, &targets, &shared))
    }

    /// Makes the slot ready for another write.
    fn clear(&mut self) -> (Vec<Answering>, Vec<Arc<Latch>>) {
        self.running = false;
        self.version = self.version.wrapping_add(1);
        self.text.clear();
        self.targets.clear();
        self.text.shrink_to(KEEP);
        self.targets.shrink_to(KEEP / size_of::<Span>());
        (std::mem::take(&mut self.answering), std::mem::take(&mut self.waiting))
    }
}

impl Span {
    fn target<'t>(&self, text: &'t str) -> Target<'t> {
        let path = &text[self.namespace.unwrap_or(self.start)..self.end];
        let key = ResourceKey::from_canonical(path);
        let key = match self.namespace {
            Some(end) => key.in_namespace(&text[self.start..end]),
            None => key,
        };
        Target { key, effect: self.effect, membership: self.membership }
    }
}

/// Threads take the shards in turn, and stay with theirs.
fn shard_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    // While a thread is being torn down its number is gone, and any will do.
    MINE.try_with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1));
        }
        mine.get()
    })
    .unwrap_or(0)
}

#[cfg(test)]
mod tests;
