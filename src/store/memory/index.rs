//! `Index`: from a hash to the numbers of what has it. It grows by a few entries at a time.
//!
//! One large table would move all its entries when it is full: with a million of them everybody waits for a tenth of a
//! second. This one is made of segments, and whenever they are too full on average the next one in turn is split in two
//! (linear hashing). What a number stands for, and so its hash, is with the caller, so an entry is four bytes.
//!
//! A segment is made of buckets, each of which is one line of a cache: twelve numbers, and beside each a byte of its hash.
//! Looking for a number, entering it and taking it out touch the same line, which nearly always is the only one. What finds
//! its bucket full goes to the next that has room, and those that it passes by count it, so that nothing is looked for
//! any further than it may be.

/// Entries in a segment, on average, above which one is split.
const FULL: usize = 224;
/// Numbers in a bucket.
const LANES: usize = 12;

#[derive(Debug, Default)]
pub(super) struct Index {
    segments: Vec<Segment>,
    len: usize,
}

#[derive(Debug, Default)]
struct Segment {
    buckets: Box<[Bucket]>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket {
    /// A tag for each number, 0 for a free place. The upper half of the second word counts those that passed by.
    tags: [u64; 2],
    numbers: [u32; LANES],
}

/// One that passed by.
const ONE: u64 = 1 << 32;

impl Index {
    /// The numbers entered under `hash`, and some of other hashes.
    #[inline]
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> + use<'_> {
        let buckets = self.segments.get(place(self.segments.len(), hash)).map_or(&[][..], |segment| &segment.buckets);
        let at = start(buckets.len(), hash);
        let tag = tag(hash);
        Same { buckets, at, left: buckets.len(), tag, found: buckets.get(at).map_or(0, |bucket| bucket.with(tag)) }
    }

    /// The number entered under `hash` that `is` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.candidates(hash).find(|number| is(*number))
    }

    /// Enters a number that is not here yet. `hash_of` tells the hash of any that was entered.
    pub(super) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if self.len >= self.segments.len() * FULL {
            self.split(&hash_of);
        }
        let at = place(self.segments.len(), hash);
        let segment = &mut self.segments[at];
        if segment.is_full() {
            segment.grow(&hash_of);
        }
        segment.put(hash, number);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let at = place(self.segments.len(), hash);
        if self.segments.get_mut(at).is_some_and(|segment| segment.take(hash, number)) {
            self.len -= 1;
        }
    }

    /// Reads where `hash` is looked for, so that it is near when that is done. Nothing depends on what comes out.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u64 {
        let segment = self.segments.get(place(self.segments.len(), hash));
        segment.and_then(|segment| segment.buckets.get(start(segment.buckets.len(), hash))).map_or(0, |at| at.tags[0])
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One segment more, with its share of the one it comes from.
    #[cold]
    fn split(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let count = self.segments.len();
        self.segments.push(Segment::default());
        if count == 0 {
            return;
        }
        let from = count ^ (1 << count.ilog2());
        let hashed = self.segments[from].hashed(hash_of);
        let moving = hashed.iter().filter(|(hash, _)| place(count + 1, *hash) == count).count();
        // Each is split again when it has twice as many, and grows once before.
        for (at, len) in [(from, hashed.len() - moving), (count, moving)] {
            self.segments[at] = Segment::with_room(len + len / 2);
        }
        for (hash, number) in hashed {
            let to = if place(count + 1, hash) == count { count } else { from };
            self.segments[to].put(hash, number);
        }
    }
}

impl Segment {
    /// Empty, with room for so many.
    fn with_room(len: usize) -> Self {
        Self { buckets: vec![Bucket::EMPTY; len / LANES + 1].into(), len: 0 }
    }

    fn is_full(&self) -> bool {
        self.len >= self.buckets.len() * LANES * 7 / 8
    }

    #[cold]
    fn grow(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let hashed = self.hashed(hash_of);
        *self = Self::with_room(2 * hashed.len());
        hashed.into_iter().for_each(|(hash, number)| self.put(hash, number));
    }

    /// All that is in it. The hashes are asked for one after the other, with nothing between: each is in cold memory.
    fn hashed(&self, hash_of: &impl Fn(u32) -> u64) -> Vec<(u64, u32)> {
        let numbers = self.buckets.iter().flat_map(Bucket::all);
        let mut hashed = Vec::with_capacity(self.len);
        hashed.extend(numbers.map(|number| (hash_of(number), number)));
        hashed
    }

    /// Enters a number. There must be room.
    fn put(&mut self, hash: u64, number: u32) {
        let mut at = start(self.buckets.len(), hash);
        while !self.buckets[at].put(tag(hash), number) {
            self.buckets[at].tags[1] += ONE;
            at = next(self.buckets.len(), at);
        }
        self.len += 1;
    }

    /// Takes a number out; whether it was there.
    fn take(&mut self, hash: u64, number: u32) -> bool {
        let (first, count) = (start(self.buckets.len(), hash), self.buckets.len());
        let mut at = first;
        for _ in 0..count {
            let bucket = &mut self.buckets[at];
            if bucket.take(tag(hash), number) {
                while at != first {
                    at = at.checked_sub(1).unwrap_or(count - 1);
                    self.buckets[at].tags[1] -= ONE;
                }
                self.len -= 1;
                return true;
            }
            if bucket.tags[1] < ONE {
                break;
            }
            at = next(count, at);
        }
        false
    }
}

impl Bucket {
    const EMPTY: Self = Self { tags: [0; 2], numbers: [0; LANES] };

    /// A bit for each number with this tag; see [`lane`].
    #[inline]
    fn with(&self, tag: u64) -> u64 {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const LOW: u64 = 0x7f * ONES;
        // The high bit of each byte that is the tag. No byte carries into the next, so each is exact.
        let same = |tags: u64| {
            let differs = tags ^ (tag * ONES);
            !(((differs & LOW) + LOW) | differs | LOW)
        };
        same(self.tags[0]) >> 7 | (same(self.tags[1]) & u64::from(u32::MAX)) >> 6
    }

    /// Enters a number, if there is room.
    fn put(&mut self, tag: u64, number: u32) -> bool {
        let free = self.with(0);
        if free == 0 {
            return false;
        }
        let lane = lane(free);
        self.tags[lane / 8] |= tag << (lane % 8 * 8);
        self.numbers[lane] = number;
        true
    }

    /// Takes a number out; whether it was here.
    fn take(&mut self, tag: u64, number: u32) -> bool {
        let mut found = self.with(tag);
        while found != 0 {
            let lane = lane(found);
            if self.numbers[lane] == number {
                self.tags[lane / 8] &= !(0xff << (lane % 8 * 8));
                return true;
            }
            found &= found - 1;
        }
        false
    }

    fn all(&self) -> impl Iterator<Item = u32> + use<'_> {
        (0..LANES).filter(|lane| self.tags[lane / 8] >> (lane % 8 * 8) & 0xff != 0).map(|lane| self.numbers[lane])
    }
}

/// The numbers of one tag from one bucket on.
struct Same<'i> {
    buckets: &'i [Bucket],
    at: usize,
    /// Buckets that are still to come, this one included.
    left: usize,
    tag: u64,
    /// Those in this bucket that are still to come.
    found: u64,
}

impl Iterator for Same<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        loop {
            let bucket = self.buckets.get(self.at)?;
            if self.found != 0 {
                let number = bucket.numbers[lane(self.found)];
                self.found &= self.found - 1;
                return Some(number);
            }
            if bucket.tags[1] < ONE || self.left <= 1 {
                return None;
            }
            self.left -= 1;
            self.at = next(self.buckets.len(), self.at);
            self.found = self.buckets[self.at].with(self.tag);
        }
    }
}

/// The place of the first of the bits of [`Bucket::with`]: the first eight are the lowest of their bytes, the others the
/// second.
#[inline]
fn lane(found: u64) -> usize {
    let bit = found.trailing_zeros() as usize;
    (bit % 8 * 8 + bit / 8) % 16
}

#[inline]
const fn tag(hash: u64) -> u64 {
    let tag = hash >> 56;
    // 0 is a free place.
    if tag == 0 { 1 } else { tag }
}

/// The bucket of `count` at which a hash is looked for first.
#[inline]
const fn start(count: usize, hash: u64) -> usize {
    (((hash & 0xff_ffff) * count as u64) >> 24) as usize
}

const fn next(count: usize, at: usize) -> usize {
    if at + 1 < count { at + 1 } else { 0 }
}

/// Which of `count` segments a hash belongs to. Neither the bits that choose a bucket within a segment, which are the low
/// ones, nor the eight top ones, which are its tag there, take part.
#[inline]
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
    fn coming_and_going_leaves_nothing_behind() {
        let mut index = Index::default();
        (0..3_000).for_each(|number| index.insert(mixed(number), number, mixed));
        let room = |index: &Index| index.segments.iter().map(|segment| segment.buckets.len()).sum::<usize>();
        let before = room(&index);
        // Each time another of them, so that every bucket is passed by and left again.
        for number in 3_000..60_000 {
            index.insert(mixed(number), number, mixed);
            index.remove(mixed(number), number);
            index.remove(mixed(number), number);
        }
        assert!(room(&index) <= before + before / 8, "{before} {}", room(&index));
        assert!((0..3_000).all(|number| index.find(mixed(number), |other| other == number) == Some(number)));
        (0..3_000).for_each(|number| index.remove(mixed(number), number));
        assert_eq!(index.len(), 0);
        assert!(index.segments.iter().flat_map(|segment| &segment.buckets).all(|bucket| bucket.tags == [0; 2]));
    }

    #[test]
    fn twelve_are_in_a_line_and_those_of_one_tag_are_all_found() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
        let mut bucket = Bucket::EMPTY;
        for number in 0..12 {
            assert!(bucket.put(if number % 3 == 0 { 0x80 } else { 0x7f + u64::from(number) }, number));
        }
        assert!(!bucket.put(1, 12), "it is full");
        bucket.tags[1] += 3 * ONE;
        let found = |bucket: &Bucket| {
            let mut bits = bucket.with(0x80);
            std::iter::from_fn(|| {
                let lane = (bits != 0).then(|| lane(bits))?;
                bits &= bits - 1;
                Some(bucket.numbers[lane])
            })
            .collect::<HashSet<u32>>()
        };
        assert_eq!(found(&bucket), HashSet::from([0, 1, 3, 6, 9]));
        assert!(bucket.take(0x80, 9) && !bucket.take(0x80, 9) && !bucket.take(0x80, 2));
        assert_eq!(found(&bucket), HashSet::from([0, 1, 3, 6]));
        assert_eq!((bucket.tags[1] >> 32, bucket.all().count()), (3, 11));
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
