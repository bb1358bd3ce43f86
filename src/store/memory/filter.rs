//! The lock-free filter in front of the table: says "no lock here" for certain, or "look".
//!
//! Readers load and never wait. They look at a bit mask of the depths at which locks are rooted (0: there is no lock at
//! all, one load, no hashing), then at one group of [tags](super::tags) for each prefix of the path whose depth has a bit.
//! Where nothing is locked below a path's first segment, they look no further.
//!
//! Writers are the holder of the table's write lock, so there is one at a time. The filter grows by levels: a larger one
//! is filled, a few groups in each step, and then published; older ones are left as they are.
//!
//! **Why that is enough.** A writer registers its write and then looks here; an acquire enters its mark here and then
//! scans the registrations. A fence on either side makes one of them see the other: if the scan missed the registration,
//! everything entered before is visible to the look. Else the scan sees the write and waits for it. So a look may miss only
//! what an acquire enters while the write is registered already, and each of those waits. The same holds for a reader that
//! still looks at an older level. In a check-only store nobody waits, so there a look counts only if no lock was taken
//! out meanwhile ([`Filter::glance`]).

use std::{
    hint,
    ops::ControlFlow,
    sync::{OnceLock, atomic::Ordering},
};

use super::{
    prefix::{Cut, Prefix, Seed},
    sync::{AtomicU32, AtomicU64, fence},
    tags::{Entries, Growth, Tags},
};
use crate::lock::{Effect, ResourceKey, Target};

/// Groups in the first level; each further one has twice as many.
const FIRST: usize = if cfg!(all(tower_lock_loom, test)) { 2 } else { 256 };
/// Enough for 2^29 groups, more than there is memory for.
const LEVELS: u32 = 22;
/// The last bit of the mask stands for this depth and all below.
const DEEPEST: usize = 63;

/// How often a look is tried that changes get in the way of. One try, where every order of the threads is tried.
const PATIENCE: usize = if cfg!(all(tower_lock_loom, test)) { 1 } else { 256 };

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
    /// A bit for each depth at which a lock is rooted. Bits go at the end of a step only, so 0 says that there was a moment
    /// without any lock.
    depths: AtomicU64,
    /// What `depths` will be at the end of the step. Of the writer alone.
    remaining: AtomicU64,
    /// Which level readers use.
    level: AtomicU32,
    levels: [OnceLock<Tags>; LEVELS as usize],
    /// Odd from where a step takes out a lock until it ends.
    changes: AtomicU64,
}

/// The writer's side, kept behind the table's write lock.
#[derive(Debug)]
pub(super) struct Tally {
    by_depth: [u32; DEEPEST + 1],
    /// What the tags of the current level stand for.
    entries: Entries,
    /// The next level, while it is filled.
    growth: Option<Box<Growth>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { by_depth: [0; DEEPEST + 1], entries: Entries::new(FIRST), growth: None }
    }
}

impl Filter {
    pub(super) fn new() -> Self {
        Self::seeded(Seed::random())
    }

    fn seeded(seed: Seed) -> Self {
        let filter = Self {
            seed,
            depths: AtomicU64::new(0),
            remaining: AtomicU64::new(0),
            level: AtomicU32::new(0),
            levels: [const { OnceLock::new() }; LEVELS as usize],
            changes: AtomicU64::new(0),
        };
        filter.levels[0].get_or_init(|| Tags::new(FIRST));
        filter
    }

    /// Whether there is no lock at all, nor was there at some moment of the call.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.depths.load(Ordering::Acquire) == 0
    }

    /// Whether any lock or mark may touch `targets`, for a write that is registered already.
    #[inline]
    pub(super) fn look(&self, targets: &[Target<'_>]) -> Glance {
        // One load for a store without locks.
        match self.depths.load(Ordering::Acquire) {
            0 => Glance::Clear,
            depths => self.look_at(depths, targets),
        }
    }

    /// The same for a write that nobody waits for: what it saw counts only if nothing went while it looked, so that
    /// one lock taking the place of another is never seen half done.
    #[inline]
    pub(super) fn glance(&self, targets: &[Target<'_>]) -> Glance {
        match self.depths.load(Ordering::Acquire) {
            0 => Glance::Clear,
            _ => self.glance_at(targets),
        }
    }

    #[inline(never)]
    fn glance_at(&self, targets: &[Target<'_>]) -> Glance {
        for _ in 0..PATIENCE {
            let before = self.changes.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let seen = self.look(targets);
                fence(Ordering::Acquire);
                if self.changes.load(Ordering::Relaxed) == before {
                    return seen;
                }
            }
            // A change is over in a few microseconds. To be put to sleep by the table's lock, and woken, takes ten times that.
            hint::spin_loop();
        }
        Glance::Look
    }

    #[inline(never)]
    fn look_at(&self, depths: u64, targets: &[Target<'_>]) -> Glance {
        let Some(tags) = self.tags() else { return Glance::Look };
        if targets.iter().any(|target| self.touched(tags, depths, target)) { Glance::Look } else { Glance::Clear }
    }

    /// Goes through the prefixes of `key` at which any lock may be rooted, outermost first. Gives the last of all in the end,
    /// which is the path itself.
    // What is done with one is apart: it would be repeated wherever a path can be cut.
    pub(super) fn each_covering(
        &self,
        key: &ResourceKey<'_>,
        each: &mut dyn FnMut(&Prefix) -> ControlFlow<()>,
    ) -> ControlFlow<(), Prefix> {
        let (depths, tags) = (self.depths.load(Ordering::Acquire), self.tags());
        let mut cut_at = |cut: &Cut| match rooted(depths, tags, cut) {
            Some(prefix) => each(&prefix),
            None => ControlFlow::Continue(()),
        };
        let whole = self.seed.each_above(key, |cut| cut_at(&cut))?;
        cut_at(&whole)?;
        ControlFlow::Continue(whole.prefix())
    }

    /// Those of `prefixes` at which any lock may be rooted.
    pub(super) fn rooted_at<'p>(&self, prefixes: &'p [Prefix]) -> impl Iterator<Item = &'p Prefix> {
        let (depths, tags) = (self.depths.load(Ordering::Acquire), self.tags());
        prefixes
            .iter()
            .filter(move |prefix| depths & bit(prefix.depth) != 0 && tags.is_none_or(|tags| tags.may_have(prefix.hash)))
    }

    /// Whether any lock may be rooted strictly below the path whose last prefix is `whole`.
    pub(super) fn may_have_below(&self, whole: &Prefix) -> bool {
        let depths = self.depths.load(Ordering::Acquire);
        deeper(depths, whole.depth) && self.tags().is_none_or(|tags| tags.may_have(below(whole.hash)))
    }

    #[inline]
    fn touched(&self, tags: &Tags, depths: u64, target: &Target<'_>) -> bool {
        let reached = self.seed.each_above(&target.key, |cut| {
            if depths & bit(cut.depth) != 0 && tags.may_have(cut.hash()) {
                return ControlFlow::Break(true);
            }
            if cut.depth == 1 && !tags.may_have(below(cut.hash())) {
                return ControlFlow::Break(false);
            }
            ControlFlow::Continue(())
        });
        let whole = match reached {
            ControlFlow::Break(touched) => return touched,
            ControlFlow::Continue(whole) => whole,
        };
        let unlinked = target.effect == Effect::Unlink && deeper(depths, whole.depth);
        (depths & bit(whole.depth) != 0 && tags.may_have(whole.hash())) || (unlinked && tags.may_have(below(whole.hash())))
    }

    #[inline]
    fn tags(&self) -> Option<&Tags> {
        self.levels[self.level.load(Ordering::Acquire) as usize].get()
    }

    #[cfg(all(test, not(tower_lock_loom)))]
    fn level_groups(&self) -> usize {
        FIRST << self.level.load(Ordering::Relaxed)
    }

    /// Says that from here on what is seen may be half of a step. A step that only enters locks never does: who misses some
    /// of them has looked before the step. Who misses one that goes may have missed as well what was entered in its place.
    fn changing(&self) {
        let before = self.changes.load(Ordering::Relaxed);
        if before.is_multiple_of(2) {
            self.changes.store(before.wrapping_add(1), Ordering::Relaxed);
            // What follows must not be seen before the number is odd.
            fence(Ordering::Release);
        }
    }

    /// Ends a step: every one that enters locks or takes some out.
    pub(super) fn changed(&self) {
        let remaining = self.remaining.load(Ordering::Relaxed);
        if self.depths.load(Ordering::Relaxed) != remaining {
            self.depths.store(remaining, Ordering::Release);
        }
        let before = self.changes.load(Ordering::Relaxed);
        if !before.is_multiple_of(2) {
            self.changes.store(before.wrapping_add(1), Ordering::Release);
        }
    }

    /// Enters a lock on `root`.
    #[cfg(test)]
    pub(super) fn insert(&self, tally: &mut Tally, root: &ResourceKey<'_>) {
        self.enter(tally, &self.seed.all(root));
    }

    /// Reads what entering a lock on the root with these prefixes, or taking it out, will read, but for what all locks near it
    /// share. Nothing depends on what comes out.
    pub(super) fn touch(&self, tally: &Tally, prefixes: &[Prefix]) -> u64 {
        let Some(tags) = self.tags() else { return 0 };
        let shared = prefixes.len().saturating_sub(2);
        entries(prefixes).skip(shared).fold(0, |seen, hash| seen ^ tally.entries.touch(tags, hash))
    }

    /// Enters a lock on the root with these prefixes.
    pub(super) fn enter(&self, tally: &mut Tally, prefixes: &[Prefix]) {
        self.make_room(tally, prefixes.len());
        let Some(tags) = self.tags() else { return };
        for hash in entries(prefixes) {
            tally.entries.put(tags, hash);
            if let Some(growth) = &mut tally.growth {
                growth.put((&tally.entries, tags), hash);
            }
        }
        let depth = (prefixes.len() - 1).min(DEEPEST);
        tally.by_depth[depth] += 1;
        let depths = self.remaining.load(Ordering::Relaxed) | bit(depth);
        self.remaining.store(depths, Ordering::Relaxed);
        let shown = self.depths.load(Ordering::Relaxed);
        if shown & bit(depth) == 0 {
            self.depths.store(shown | bit(depth), Ordering::Release);
        }
    }

    /// Sees to it that there is room for so many more, a level further up if need be.
    fn make_room(&self, tally: &mut Tally, more: usize) {
        if tally.growth.is_none() {
            tally.growth = Growth::due(&tally.entries).map(Box::new);
        }
        if let Some(growth) = &mut tally.growth {
            growth.step(&tally.entries);
            if growth.is_done(&tally.entries) {
                self.grow(tally);
            }
        }
        // Only what has a great many prefixes goes further at once.
        while !tally.entries.has_room(more) {
            self.grow(tally);
        }
    }

    /// Goes on to the next level.
    fn grow(&self, tally: &mut Tally) {
        let growth = tally.growth.take().map_or_else(|| Growth::of(&tally.entries), |growth| *growth);
        let next = self.level.load(Ordering::Relaxed) + 1;
        let (bigger, entries) = growth.finished(&tally.entries);
        tally.entries = entries;
        let fresh = self.levels[next as usize].set(bigger);
        debug_assert!(fresh.is_ok(), "each level is filled once");
        self.level.store(next, Ordering::Release);
    }

    /// Takes a lock on `root` out again.
    #[cfg(test)]
    pub(super) fn remove(&self, tally: &mut Tally, root: &ResourceKey<'_>) {
        self.take(tally, &self.seed.all(root));
    }

    /// Takes a lock on the root with these prefixes out again.
    pub(super) fn take(&self, tally: &mut Tally, prefixes: &[Prefix]) {
        let Some(tags) = self.tags() else { return };
        self.changing();
        for hash in entries(prefixes) {
            if let Some(growth) = &mut tally.growth {
                growth.take((&tally.entries, tags), hash);
            }
            tally.entries.take(tags, hash);
        }
        let depth = (prefixes.len() - 1).min(DEEPEST);
        tally.by_depth[depth] -= 1;
        if tally.by_depth[depth] == 0 {
            let depths = self.remaining.load(Ordering::Relaxed) & !bit(depth);
            self.remaining.store(depths, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("level", &self.level).finish_non_exhaustive()
    }
}

/// The prefix that ends at `cut`, if any lock may be rooted there.
#[inline(always)]
fn rooted(depths: u64, tags: Option<&Tags>, cut: &Cut) -> Option<Prefix> {
    if depths & bit(cut.depth) == 0 {
        return None;
    }
    let prefix = cut.prefix();
    tags.is_none_or(|tags| tags.may_have(prefix.hash)).then_some(prefix)
}

/// What a lock enters on the root with these prefixes: "something below" for each of its ancestors, and its root, last.
fn entries(prefixes: &[Prefix]) -> impl Iterator<Item = u64> {
    let (whole, above) = prefixes.split_last().expect("a path has itself among its prefixes");
    above.iter().map(|prefix| below(prefix.hash)).chain(Some(whole.hash))
}

/// What says that a lock is rooted below the path with this hash.
const fn below(hash: u64) -> u64 {
    hash.rotate_left(32)
}

#[inline]
const fn bit(depth: usize) -> u64 {
    1 << if depth < DEEPEST { depth } else { DEEPEST }
}

/// Whether the mask has a depth below `depth`.
const fn deeper(depths: u64, depth: usize) -> bool {
    if depth < DEEPEST { depths >> (depth + 1) != 0 } else { depths & bit(DEEPEST) != 0 }
}

#[cfg(all(test, not(tower_lock_loom)))]
mod tests;

#[cfg(all(test, tower_lock_loom))]
mod races;
