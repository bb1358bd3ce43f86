//! `Expiry`: which lock is to be looked at next. A heap in which everything knows its place, so that what is refreshed or
//! released is taken out at once and nothing stale is left behind.
//!
//! Ends mostly come in the order of the grants, so putting one in and taking the latest out again touch the last places
//! only.

use crate::lock::Timestamp;

/// Not in the queue.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Parts of the heap are allocated in this size, so that growing moves nothing.
const CHUNK: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// All full but the last.
    chunks: Vec<Vec<Due>>,
    /// An empty chunk, so that who comes and goes at the edge of one allocates nothing.
    spare: Option<Vec<Due>>,
    len: usize,
}

/// When something is to be looked at. Who puts it in keeps [`Moved::place`] for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Timestamp,
    slot: u32,
}

/// Something stands in another place than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) slot: u32,
    pub(super) place: u32,
}

impl Expiry {
    /// What is first, and when.
    pub(super) fn first(&self) -> Option<(Timestamp, u32)> {
        let due = self.chunks.first()?.first()?;
        Some((due.at, due.slot))
    }

    /// The time of what stands in `place`.
    pub(super) fn at(&self, place: u32) -> Option<Timestamp> {
        Some(self.chunks.get(place as usize / CHUNK)?.get(place as usize % CHUNK)?.at)
    }

    /// Puts `slot` in. `moved` hears where everything stands that has moved, this one included.
    pub(super) fn insert(&mut self, at: Timestamp, slot: u32, moved: impl FnMut(Moved)) {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(self.spare.take().unwrap_or_else(|| Vec::with_capacity(room)));
        }
        let due = Due { at, slot };
        self.chunks.last_mut().expect("made just now, if there was none").push(due);
        self.len += 1;
        self.settle(self.len - 1, due, moved);
    }

    /// Takes out what stands in `place`. `moved` hears where everything stands that has moved.
    pub(super) fn remove(&mut self, place: u32, moved: impl FnMut(Moved)) {
        let place = place as usize;
        if place >= self.len {
            return;
        }
        let Some(last) = self.chunks.last_mut().and_then(Vec::pop) else { return };
        self.len -= 1;
        if self.chunks.len() > 1 && self.chunks.last().is_some_and(Vec::is_empty) {
            self.spare = self.chunks.pop();
        }
        if place < self.len {
            self.settle(place, last, moved);
        }
    }

    /// Finds the place for `due`, starting from one that is empty.
    fn settle(&mut self, mut place: usize, due: Due, mut moved: impl FnMut(Moved)) {
        while place > 0 && self.get((place - 1) / 4) > due {
            self.put(place, self.get((place - 1) / 4), &mut moved);
            place = (place - 1) / 4;
        }
        loop {
            let children = 4 * place + 1..(4 * place + 5).min(self.len);
            match children.min_by_key(|child| self.get(*child)) {
                Some(child) if self.get(child) < due => {
                    self.put(place, self.get(child), &mut moved);
                    place = child;
                }
                _ => break,
            }
        }
        self.put(place, due, &mut moved);
    }

    fn get(&self, place: usize) -> Due {
        self.chunks[place / CHUNK][place % CHUNK]
    }

    fn put(&mut self, place: usize, due: Due, moved: &mut impl FnMut(Moved)) {
        self.chunks[place / CHUNK][place % CHUNK] = due;
        moved(Moved { slot: due.slot, place: u32::try_from(place).expect("no more than there are slots") });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use super::*;

    #[test]
    fn the_earliest_is_first_and_everything_is_where_it_is_said_to_be() {
        let mut expiry = Expiry::default();
        let mut places: HashMap<u32, u32> = HashMap::new();
        let mut model: BTreeSet<(Timestamp, u32)> = BTreeSet::new();
        let mut random = 7_u64;
        for step in 0..60_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slot = (random >> 33) as u32 % 12_000;
            if let Some(place) = places.remove(&slot) {
                let at = expiry.at(place).unwrap();
                expiry.remove(place, |moved| _ = places.insert(moved.slot, moved.place));
                assert!(model.remove(&(at, slot)), "it stood where it was said to");
            } else if (random >> 13) % 10 < if step < 40_000 { 9 } else { 2 } {
                let at = Timestamp::from_micros((random >> 3) % 1_000);
                expiry.insert(at, slot, |moved| _ = places.insert(moved.slot, moved.place));
                model.insert((at, slot));
            }
            assert_eq!(expiry.first(), model.first().copied());
            assert_eq!((expiry.len, places.len()), (model.len(), model.len()));
        }
        while let Some((at, slot)) = expiry.first() {
            assert_eq!(model.pop_first(), Some((at, slot)));
            expiry.remove(0, |moved| _ = places.insert(moved.slot, moved.place));
        }
        assert!(model.is_empty());
    }
}
