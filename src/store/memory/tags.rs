//! The filter's table of tags: which hashes it may have, in two bytes each.
//!
//! A group is one word of four tags of fifteen bits, 0 for a free place. What finds its group full goes to the next one
//! that has room, and every group it passes by counts it in the four bits that are left. A reader goes on to the next group
//! only while that count is not 0, so taking something out leaves nothing behind that would have to be cleaned up, and what
//! is in the table never moves.
//!
//! Who enters a hash keeps [`Entries`] beside the tags: more of each hash, and how often it was entered.

mod growth;

use std::sync::atomic::Ordering;

pub(super) use self::growth::Growth;
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
        let (wanted, mut at) = (tag(hash), hash);
        for _ in 0..self.0.len() {
            let group = self.0[self.index(at)].load(Ordering::Acquire);
            if lanes_with(group, wanted) != 0 {
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

    fn group(&self, group: usize) -> u64 {
        // Of the writer alone, who wrote what there is.
        self.0[group].load(Ordering::Relaxed)
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
    places: Box<[[u64; TAGS]]>,
    used: usize,
}

const ONE: u64 = KEPT + 1;
/// From here on the count is full up: it stays until the next table is filled.
const FULL: u64 = !KEPT;

/// The entry with its count raised by one, unless that is full up.
const fn once_more(entry: u64) -> u64 {
    if entry >= FULL { entry } else { entry + ONE }
}

/// What has become of a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Taken,
    Free,
}

impl Entries {
    pub(super) fn new(groups: usize) -> Self {
        Self { places: vec![[0; TAGS]; groups].into(), used: 0 }
    }

    /// Whether so many more leave the table some air.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.used + more <= self.places.len() * TAGS / 4 * 3
    }

    /// Places that are taken.
    #[cfg(all(test, not(tower_lock_loom)))]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Reads where `hash` is looked for, so that it is near when that is done. Nothing depends on what comes out.
    #[inline]
    pub(super) fn touch(&self, tags: &Tags, hash: u64) -> u64 {
        let group = tags.index(hash);
        tags.group(group) ^ self.places[group][0]
    }

    /// Counts `hash` once more.
    #[inline]
    pub(super) fn put(&mut self, tags: &Tags, hash: u64) {
        let kept = hash & KEPT;
        let (group, tag) = (tags.index(kept), tag(kept));
        let (word, places) = (tags.group(group), &mut self.places[group]);
        // Almost always it is in its own group already, or nowhere, and there is room for it.
        match first(lanes_with(word, tag)) {
            Some(lane) if places[lane] & KEPT == kept => places[lane] = once_more(places[lane]),
            None if word & PASSED == 0
                && let Some(lane) = first(lanes_with(word, 0)) =>
            {
                places[lane] = kept | ONE;
                self.used += 1;
                tags.change(group, |word| word | tag << (16 * lane));
            }
            _ => self.put_anywhere(tags, kept),
        }
    }

    #[cold]
    fn put_anywhere(&mut self, tags: &Tags, kept: u64) {
        match self.find(tags, kept) {
            Some((group, lane)) => self.places[group][lane] = once_more(self.places[group][lane]),
            None => self.add(tags, kept, ONE),
        }
    }

    /// Counts `hash` once less.
    #[inline]
    pub(super) fn take(&mut self, tags: &Tags, hash: u64) {
        let kept = hash & KEPT;
        let group = tags.index(kept);
        match first(lanes_with(tags.group(group), tag(kept))) {
            // Passed by no other group, as almost always.
            Some(lane) if self.places[group][lane] & KEPT == kept => {
                self.take_at(tags, group, lane);
            }
            _ => self.take_anywhere(tags, kept),
        }
    }

    #[cold]
    fn take_anywhere(&mut self, tags: &Tags, kept: u64) {
        let found = self.find(tags, kept);
        debug_assert!(found.is_some(), "taken out more often than entered");
        let Some((group, lane)) = found else { return };
        if self.take_at(tags, group, lane) == Left::Free {
            for_each_before(tags, kept, group, |before| tags.change(before, |word| with_passed(word, passed(word), -1)));
        }
    }

    fn take_at(&mut self, tags: &Tags, group: usize, lane: usize) -> Left {
        let entry = &mut self.places[group][lane];
        if *entry >= FULL {
            return Left::Taken;
        }
        *entry -= ONE;
        if *entry >= ONE {
            return Left::Taken;
        }
        *entry = 0;
        self.used -= 1;
        tags.change(group, |word| word & !(0x7fff << (16 * lane)));
        Left::Free
    }

    /// Where a hash is. Two that agree in what is kept are one, and stay so as long as one of them is there.
    fn find(&self, tags: &Tags, kept: u64) -> Option<(usize, usize)> {
        let (tag, mut at) = (tag(kept), kept);
        for _ in 0..tags.0.len() {
            let group = tags.index(at);
            let word = tags.group(group);
            let mut lanes = lanes_with(word, tag);
            while let Some(lane) = first(lanes) {
                if self.places[group][lane] & KEPT == kept {
                    return Some((group, lane));
                }
                lanes &= lanes - 1;
            }
            if word & PASSED == 0 {
                break;
            }
            at = at.wrapping_add(1);
        }
        None
    }

    /// Enters what is not there yet.
    fn add(&mut self, tags: &Tags, kept: u64, count: u64) {
        let mut at = kept;
        let (group, lane) = loop {
            let group = tags.index(at);
            if let Some(lane) = first(lanes_with(tags.group(group), 0)) {
                break (group, lane);
            }
            at = at.wrapping_add(1);
        };
        self.places[group][lane] = kept | count;
        self.used += 1;
        tags.change(group, |word| word | tag(kept) << (16 * lane));
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

/// The lanes of a group that have this tag, each by its top bit.
#[inline]
const fn lanes_with(word: u64, tag: u64) -> u64 {
    // Exact: a tag that differs carries into its own top bit and no further.
    !(((word & ALL_TAGS) ^ (tag * LANES)) + ALL_TAGS) & PASSED
}

/// The first of those lanes.
#[inline]
const fn first(lanes: u64) -> Option<usize> {
    if lanes == 0 { None } else { Some(lanes.trailing_zeros() as usize / 16) }
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
