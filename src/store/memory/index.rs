//! `Index`: from a hash to the numbers of what has it. It grows by a few entries at a time.
//!
//! One large table would move all its entries when it is full: with a million of them everybody waits for a tenth of a
//! second. This one is made of segments, and whenever they are too full on average the next one in turn is split in two
//! (linear hashing). What a number stands for, and so its hash, is with the caller, so an entry is four bytes.

use hashbrown::HashTable;

/// Entries in a segment, on average, above which one is split.
const FULL: usize = 224;

#[derive(Debug, Default)]
pub(super) struct Index {
    segments: Vec<HashTable<u32>>,
    len: usize,
}

impl Index {
    /// The numbers entered under `hash`, and some of other hashes.
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> + use<'_> {
        self.segments
            .get(place(self.segments.len(), hash))
            .into_iter()
            .flat_map(move |segment| segment.iter_hash(hash))
            .copied()
    }

    /// The number entered under `hash` that `is` accepts.
    pub(super) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.segments.get(place(self.segments.len(), hash))?.find(hash, |number| is(*number)).copied()
    }

    /// Enters a number that is not here yet. `hash_of` tells the hash of any that was entered.
    pub(super) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if self.len >= self.segments.len() * FULL {
            self.split(&hash_of);
        }
        let at = place(self.segments.len(), hash);
        self.segments[at].insert_unique(hash, number, |number| hash_of(*number));
        self.len += 1;
    }

    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let at = place(self.segments.len(), hash);
        let Some(segment) = self.segments.get_mut(at) else { return };
        if let Ok(entry) = segment.find_entry(hash, |other| *other == number) {
            entry.remove();
            self.len -= 1;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One segment more, with its share of the one it comes from.
    fn split(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let count = self.segments.len();
        self.segments.push(HashTable::new());
        if count == 0 {
            return;
        }
        let from = count ^ (1 << count.ilog2());
        let old = std::mem::take(&mut self.segments[from]);
        let hashed: Vec<(u64, u32)> = old.into_iter().map(|number| (hash_of(number), number)).collect();
        let moving = hashed.iter().filter(|(hash, _)| place(count + 1, *hash) == count).count();
        self.segments[from].reserve(hashed.len() - moving, |number| hash_of(*number));
        self.segments[count].reserve(moving, |number| hash_of(*number));
        for (hash, number) in hashed {
            let to = if place(count + 1, hash) == count { count } else { from };
            self.segments[to].insert_unique(hash, number, |number| hash_of(*number));
        }
    }
}

/// Which of `count` segments a hash belongs to. Neither the bits that choose a place within a segment, which are the low
/// ones, nor the seven top ones, which are its tag there, take part.
fn place(count: usize, hash: u64) -> usize {
    if count < 2 {
        return 0;
    }
    let rounds = (count - 1).ilog2();
    let at = usize::try_from(hash >> 24 & 0xffff_ffff).unwrap_or(0) & ((2 << rounds) - 1);
    if at < count { at } else { at ^ (1 << rounds) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn mixed(number: u32) -> u64 {
        let hash = u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash ^ (hash >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn everything_is_found_again_while_it_grows_and_shrinks() {
        let mut index = Index::default();
        assert_eq!(index.find(7, |_| true), None);
        index.remove(7, 7);
        let mut model = HashSet::new();
        let mut random = 1_u64;
        for step in 0..60_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (random >> 33) as u32 % 20_000;
            // First it fills, then it empties.
            let fills = (random >> 20) % 10 < if step < 40_000 { 8 } else { 2 };
            if fills && model.insert(number) {
                index.insert(mixed(number), number, mixed);
            } else if !fills {
                index.remove(mixed(number), number);
                model.remove(&number);
            }
            let asked = number ^ 1;
            assert_eq!(index.find(mixed(asked), |other| other == asked).is_some(), model.contains(&asked));
            assert_eq!(index.candidates(mixed(asked)).any(|other| other == asked), model.contains(&asked));
        }
        assert_eq!(index.len(), model.len());
        assert!(
            (0..20_000)
                .all(|number| index.find(mixed(number), |other| other == number).is_some() == model.contains(&number))
        );
    }

    #[test]
    fn what_has_one_hash_is_told_apart() {
        let mut index = Index::default();
        for number in 0..1_000 {
            index.insert(42, number, |_| 42);
        }
        assert!((0..1_000).all(|number| index.find(42, |other| other == number) == Some(number)));
        index.remove(42, 500);
        assert_eq!(index.candidates(42).filter(|number| *number == 500).count(), 0);
        assert_eq!(index.len(), 999);
    }

    #[test]
    fn a_hash_belongs_to_one_segment_and_a_split_moves_it_to_the_new_one_alone() {
        for number in 0..5_000 {
            let hash = mixed(number);
            for count in 1..300 {
                let (before, after) = (place(count, hash), place(count + 1, hash));
                assert!(before < count && (after == before || (after == count && before == count ^ (1 << count.ilog2()))));
            }
        }
    }
}
