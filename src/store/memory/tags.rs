//! The filter's table of tags: which hashes it may have, in two bytes each.
//!
//! A group is one word of four tags of fifteen bits, 0 for a free place. What finds its group full goes to the next one
//! that has room, and every group it passes by counts it in the four bits that are left. A reader goes on to the next group
//! only while that count is not 0, so taking something out leaves nothing behind that would have to be cleaned up, and what
//! is in the table never moves.
//!
//! Who enters a hash keeps [`Entries`] beside the tags: more of each hash, and how often it was entered.

use std::sync::atomic::Ordering;

use super::sync::AtomicU64;

/// Tags in a group.
const TAGS: usize = 4;
const LANES: u64 = 0x0001_0001_0001_0001;
/// The tags of a group; the bits between them are the count of those that passed by.
const ALL_TAGS: u64 = 0x7fff * LANES;
const PASSED: u64 = 0x8000 * LANES;
/// A count that high has been lost, and stays.
const UNCOUNTED: u64 = 15;

/// How much of a hash decides: where it goes, its tag, and whether two are taken for one.
const KEPT: u64 = (1 << 40) - 1;
/// Where in that the tag is. The low bits choose the group.
const TAG_AT: u32 = 25;

/// What readers see.
#[derive(Debug)]
pub(super) struct Tags(Box<[AtomicU64]>);

impl Tags {
    /// A table of `groups` groups, a power of two.
    pub(super) fn new(groups: usize) -> Self {
        Self((0..groups).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether `hash` may have been entered; certain where it has not.
    #[inline]
    pub(super) fn may_have(&self, hash: u64) -> bool {
        let wanted = tag(hash) * LANES;
        let mut at = hash;
        for _ in 0..self.0.len() {
            let group = self.0[self.index(at)].load(Ordering::Acquire);
            // Exact: a tag that differs carries into its own top bit and no further.
            let differs = ((group & ALL_TAGS) ^ wanted) + ALL_TAGS;
            if differs & PASSED != PASSED {
                return true;
            }
            if group & PASSED == 0 {
                break;
            }
            at = at.wrapping_add(1);
        }
        false
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose a group")]
    fn index(&self, at: u64) -> usize {
        at as usize & (self.0.len() - 1)
    }

    fn change(&self, group: usize, change: impl FnOnce(u64) -> u64) {
        let next = change(self.0[group].load(Ordering::Relaxed));
        self.0[group].store(next, Ordering::Release);
    }
}

/// What the tags stand for. Only the one writer has it.
#[derive(Debug)]
pub(super) struct Entries {
    /// For each tag the part of the hash that is kept, and above it how often it was entered; 0 for a free place.
    places: Box<[u64]>,
    used: usize,
}

const ONE: u64 = KEPT + 1;

impl Entries {
    pub(super) fn new(groups: usize) -> Self {
        Self { places: vec![0; groups * TAGS].into(), used: 0 }
    }

    /// Whether they and so many more leave a table of `groups` groups some air.
    pub(super) fn fit_into(&self, groups: usize, more: usize) -> bool {
        self.used + more <= groups * TAGS / 4 * 3
    }

    /// Places that are taken.
    #[cfg(all(test, not(tower_lock_loom)))]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// All of them, entered in a bigger table.
    pub(super) fn moved_to(&self, bigger: &Tags) -> Self {
        let mut moved = Self::new(bigger.0.len());
        for entry in self.places.iter().filter(|entry| **entry != 0) {
            moved.add(bigger, entry & KEPT, entry & !KEPT);
        }
        moved
    }

    /// Counts `hash` once more.
    pub(super) fn put(&mut self, tags: &Tags, hash: u64) {
        let kept = hash & KEPT;
        match self.find(tags, kept) {
            // Full up: it stays until the next table is filled.
            Some(place) => self.places[place] = self.places[place].checked_add(ONE).unwrap_or(self.places[place]),
            None => self.add(tags, kept, ONE),
        }
    }

    /// Counts `hash` once less.
    pub(super) fn take(&mut self, tags: &Tags, hash: u64) {
        let kept = hash & KEPT;
        let found = self.find(tags, kept);
        debug_assert!(found.is_some(), "taken out more often than entered");
        let Some(place) = found else { return };
        let entry = &mut self.places[place];
        if *entry >> KEPT.count_ones() == u64::MAX >> KEPT.count_ones() {
            return;
        }
        *entry -= ONE;
        if *entry & !KEPT != 0 {
            return;
        }
        *entry = 0;
        self.used -= 1;
        let group = place / TAGS;
        tags.change(group, |word| word & !(0x7fff << lane(place)));
        for_each_before(tags, kept, group, |before| tags.change(before, |word| with_passed(word, passed(word), -1)));
    }

    /// Where a hash is. Two that agree in what is kept are one, and stay so as long as one of them is there.
    fn find(&self, tags: &Tags, kept: u64) -> Option<usize> {
        let mut at = kept;
        for _ in 0..tags.0.len() {
            let group = tags.index(at);
            let places = &self.places[group * TAGS..][..TAGS];
            if let Some(lane) = places.iter().position(|entry| *entry != 0 && entry & KEPT == kept) {
                return Some(group * TAGS + lane);
            }
            if tags.0[group].load(Ordering::Relaxed) & PASSED == 0 {
                break;
            }
            at = at.wrapping_add(1);
        }
        None
    }

    /// Enters what is not there yet.
    fn add(&mut self, tags: &Tags, kept: u64, count: u64) {
        let mut at = kept;
        let place = loop {
            let group = tags.index(at);
            let places = &self.places[group * TAGS..][..TAGS];
            if let Some(lane) = places.iter().position(|entry| *entry == 0) {
                break group * TAGS + lane;
            }
            at = at.wrapping_add(1);
        };
        self.places[place] = kept | count;
        self.used += 1;
        let group = place / TAGS;
        tags.change(group, |word| word | tag(kept) << lane(place));
        for_each_before(tags, kept, group, |before| tags.change(before, |word| with_passed(word, passed(word), 1)));
    }
}

/// The groups that `kept` passed by on its way to `group`.
fn for_each_before(tags: &Tags, kept: u64, group: usize, mut each: impl FnMut(usize)) {
    let mut at = kept;
    while tags.index(at) != group {
        each(tags.index(at));
        at = at.wrapping_add(1);
    }
}

#[inline]
const fn tag(hash: u64) -> u64 {
    let tag = hash >> TAG_AT & 0x7fff;
    // 0 is a free place.
    if tag == 0 { 1 } else { tag }
}

const fn lane(place: usize) -> usize {
    place % TAGS * 16
}

/// How many passed by a group.
const fn passed(word: u64) -> u64 {
    (word >> 15 & 1) | (word >> 31 & 1) << 1 | (word >> 47 & 1) << 2 | (word >> 63) << 3
}

/// The group with that count changed by one, unless it was lost.
const fn with_passed(word: u64, passed: u64, by: i64) -> u64 {
    if passed == UNCOUNTED {
        return word;
    }
    let count = passed.wrapping_add_signed(by);
    let spread = (count & 1) << 15 | (count >> 1 & 1) << 31 | (count >> 2 & 1) << 47 | (count >> 3) << 63;
    (word & ALL_TAGS) | spread
}

#[cfg(all(test, not(tower_lock_loom)))]
mod tests;
