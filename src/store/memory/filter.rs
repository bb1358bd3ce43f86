//! The lock-free filter in front of the table: says "no lock here" for certain, or "look".
//!
//! Readers load and never wait. They look at a bit mask of the depths at which locks are rooted (0: there is no lock at
//! all, one load, no hashing), then at one slot for each prefix of the path whose depth has a bit. A slot counts what
//! hashes to it and keeps part of the hash, so two prefixes that share a slot are still told apart unless both are there
//! at once.
//!
//! Writers are the holder of the table's write lock, so there is one at a time. The filter grows by levels: a fuller one
//! is filled and then published; older ones are left as they are.
//!
//! **Why that is enough.** A writer registers its write under a shard's mutex and then looks here; an acquire enters its
//! mark here and then scans each shard under its mutex. If the scan of a shard came before the write was registered
//! there, the mutex makes everything entered before visible to the look. Else the scan sees the write and waits for it.
//! So a look may miss only what an acquire enters while the write is registered already, and each of those waits. The
//! same holds for a reader that still looks at an older level. In a check-only store nobody waits, so there a look counts
//! only if nothing was changed meanwhile ([`Filter::glance`]).

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering, fence},
};

use super::prefix::{Prefix, Seed};
use crate::lock::{Effect, LockParts, ResourceKey, Target};

/// Slots in the first level; each further one has four times as many.
const FIRST: usize = 1024;
/// Enough for 2^10 * 4^11 slots, more than there is memory for.
const LEVELS: usize = 12;
/// The last bit of the mask stands for this depth and all below.
const DEEPEST: usize = 63;
/// What is asked of a prefix: is a lock rooted below it?
const BELOW: u64 = 0xa076_1d64_78bd_642f;

const COUNT: u64 = 0xffff_ffff;
const MIXED: u64 = 1 << 63;

/// Whether a look at the filter settles the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glance {
    /// No lock touches what was asked about.
    Clear,
    /// There may be one: ask the table.
    Look,
}

pub(super) struct Filter {
    pub(super) seed: Seed,
    /// A bit for each depth at which a lock is rooted.
    depths: AtomicU64,
    /// Which level readers use.
    level: AtomicUsize,
    levels: [OnceLock<Box<[AtomicU64]>>; LEVELS],
    /// Odd while a change is under way.
    changes: AtomicU64,
}

/// The writer's side, kept behind the table's write lock.
#[derive(Debug)]
pub(super) struct Tally {
    by_depth: [u32; DEEPEST + 1],
    /// Slots of the current level that are not empty.
    used: usize,
}

impl Default for Tally {
    fn default() -> Self {
        Self { by_depth: [0; DEEPEST + 1], used: 0 }
    }
}

impl Filter {
    pub(super) fn new() -> Self {
        let filter = Self {
            seed: Seed::random(),
            depths: AtomicU64::new(0),
            level: AtomicUsize::new(0),
            levels: [const { OnceLock::new() }; LEVELS],
            changes: AtomicU64::new(0),
        };
        filter.levels[0].get_or_init(|| empty(FIRST));
        filter
    }

    /// Whether any lock or mark may touch `targets`, for a write that is registered already.
    #[inline]
    pub(super) fn look(&self, targets: &[Target<'_>]) -> Glance {
        // One load for a store without locks.
        let depths = self.depths.load(Ordering::Acquire);
        if depths == 0 {
            return Glance::Clear;
        }
        self.look_at(depths, targets)
    }

    #[inline(never)]
    fn look_at(&self, depths: u64, targets: &[Target<'_>]) -> Glance {
        let slots = self.slots();
        if targets.iter().any(|target| self.touched(slots, depths, target)) { Glance::Look } else { Glance::Clear }
    }

    /// The same for a write that nobody waits for: what it saw counts only if nothing changed while it looked, so that
    /// one lock taking the place of another is never seen half done.
    #[inline]
    pub(super) fn glance(&self, targets: &[Target<'_>]) -> Glance {
        let before = self.changes.load(Ordering::Acquire);
        if before % 2 == 1 {
            return Glance::Look;
        }
        let seen = self.look(targets);
        fence(Ordering::Acquire);
        if self.changes.load(Ordering::Relaxed) == before { seen } else { Glance::Look }
    }

    /// Whether any lock may be rooted at `key` or at a prefix of it.
    pub(super) fn may_cover(&self, prefix: &Prefix) -> bool {
        let depths = self.depths.load(Ordering::Acquire);
        depths & bit(prefix.depth) != 0 && has(self.slots(), prefix.hash)
    }

    /// Whether any lock may be rooted strictly below the path whose last prefix is `whole`.
    pub(super) fn may_have_below(&self, whole: &Prefix) -> bool {
        let depths = self.depths.load(Ordering::Acquire);
        deeper(depths, whole.depth) && has(self.slots(), whole.hash ^ BELOW)
    }

    fn touched(&self, slots: &[AtomicU64], depths: u64, target: &Target<'_>) -> bool {
        let mut whole = None;
        for prefix in self.seed.prefixes(&target.key) {
            if depths & bit(prefix.depth) != 0 && has(slots, prefix.hash) {
                return true;
            }
            whole = Some(prefix);
        }
        let Some(whole) = whole else { return false };
        target.effect == Effect::Unlink && deeper(depths, whole.depth) && has(slots, whole.hash ^ BELOW)
    }

    fn slots(&self) -> &[AtomicU64] {
        self.levels[self.level.load(Ordering::Acquire)].get().map_or(&[], |level| level)
    }

    /// Says that a change of several steps starts; every one is ended by [`Filter::changed`].
    pub(super) fn changing(&self) {
        let before = self.changes.load(Ordering::Relaxed);
        self.changes.store(before.wrapping_add(1), Ordering::Relaxed);
        // What follows must not be seen before the number is odd.
        fence(Ordering::Release);
    }

    pub(super) fn changed(&self) {
        let before = self.changes.load(Ordering::Relaxed);
        self.changes.store(before.wrapping_add(1), Ordering::Release);
    }

    /// Enters a lock. `all` are the locks entered so far, from which a bigger level is filled when this one is full.
    pub(super) fn insert<'l>(&self, tally: &mut Tally, root: &ResourceKey<'_>, all: impl Iterator<Item = &'l LockParts>) {
        let at = self.level.load(Ordering::Relaxed);
        let slots = self.slots();
        if tally.used > slots.len() / 2 && at + 1 < LEVELS {
            let bigger = self.levels[at + 1].get_or_init(|| empty(slots.len() * 4));
            tally.used = 0;
            for parts in all {
                tally.used += self.enter(bigger, &parts.root);
            }
            self.level.store(at + 1, Ordering::Release);
        }
        let depth = self.seed.whole(root).depth.min(DEEPEST);
        tally.used += self.enter(self.slots(), root);
        tally.by_depth[depth] += 1;
        self.depths.fetch_or(bit(depth), Ordering::Release);
    }

    /// Takes a lock out again.
    pub(super) fn remove(&self, tally: &mut Tally, root: &ResourceKey<'_>) {
        let depth = self.seed.whole(root).depth.min(DEEPEST);
        tally.by_depth[depth] -= 1;
        if tally.by_depth[depth] == 0 {
            self.depths.fetch_and(!bit(depth), Ordering::Release);
        }
        let slots = self.slots();
        each_entry(&self.seed, root, |hash| tally.used -= usize::from(take(slots, hash)));
    }

    fn enter(&self, slots: &[AtomicU64], root: &ResourceKey<'_>) -> usize {
        let mut fresh = 0;
        each_entry(&self.seed, root, |hash| fresh += usize::from(put(slots, hash)));
        fresh
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("level", &self.level).finish_non_exhaustive()
    }
}

/// What a lock on `root` enters: its root, and "something below" for each of its ancestors.
fn each_entry(seed: &Seed, root: &ResourceKey<'_>, mut entry: impl FnMut(u64)) {
    let mut last: Option<Prefix> = None;
    for prefix in seed.prefixes(root) {
        if let Some(above) = last.replace(prefix) {
            entry(above.hash ^ BELOW);
        }
    }
    if let Some(whole) = last {
        entry(whole.hash);
    }
}

fn empty(len: usize) -> Box<[AtomicU64]> {
    (0..len).map(|_| AtomicU64::new(0)).collect()
}

const fn bit(depth: usize) -> u64 {
    1 << if depth < DEEPEST { depth } else { DEEPEST }
}

/// Whether the mask has a depth below `depth`.
const fn deeper(depths: u64, depth: usize) -> bool {
    if depth < DEEPEST { depths >> (depth + 1) != 0 } else { depths & bit(DEEPEST) != 0 }
}

/// Where a hash goes, and which part of it is kept there. The hash is folded once more, so that `BELOW` moves it.
fn place(len: usize, hash: u64) -> (usize, u64) {
    let hash = hash.wrapping_mul(0x9fb2_1c65_1e98_df25);
    let hash = hash ^ (hash >> 29);
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose a slot")]
    let slot = hash as usize & (len - 1);
    (slot, (hash >> 1) & !MIXED & !COUNT)
}

fn has(slots: &[AtomicU64], hash: u64) -> bool {
    if slots.is_empty() {
        return true;
    }
    let (slot, mark) = place(slots.len(), hash);
    let held = slots[slot].load(Ordering::Acquire);
    held & COUNT != 0 && (held & MIXED != 0 || held & !COUNT == mark)
}

/// Counts one more; whether the slot was empty before.
fn put(slots: &[AtomicU64], hash: u64) -> bool {
    let (slot, mark) = place(slots.len(), hash);
    let held = slots[slot].load(Ordering::Relaxed);
    let next = match held & COUNT {
        0 => mark | 1,
        // Full up: stays so until the next level is filled. 2^32 locks below one path are more than memory holds.
        COUNT => held,
        _ if held & MIXED != 0 || held & !COUNT == mark => held + 1,
        _ => (held + 1) | MIXED,
    };
    slots[slot].store(next, Ordering::Release);
    held & COUNT == 0
}

/// Counts one less; whether the slot is empty now.
fn take(slots: &[AtomicU64], hash: u64) -> bool {
    let (slot, _) = place(slots.len(), hash);
    let held = slots[slot].load(Ordering::Relaxed);
    debug_assert!(held & COUNT != 0, "taken out more often than entered");
    // What is mixed stays so until the slot is empty: it cannot be told which of the two is left.
    let next = if held & COUNT <= 1 { 0 } else { held - 1 };
    slots[slot].store(next, Ordering::Release);
    next == 0
}

#[cfg(test)]
mod tests;
