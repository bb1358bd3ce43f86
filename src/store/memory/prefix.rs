//! One pass over a path gives a seeded hash for every prefix that a lock above it could be rooted at.
//!
//! A prefix hash depends on nothing but the namespace and the prefix, so the hash of `/a/b` as a root is the one that
//! `/a/b/c` meets on its way down. The seed is random per store: nobody outside can make two paths collide.
//!
//! The path is read in words of eight bytes, from its start. Each is multiplied with a key of its place, and the products
//! are added up: no product waits for the one before, so the processor works on several at once. What a prefix has in the
//! word in which it ends is multiplied with the sum of the words before and with its length. Only prefixes that somebody
//! asks for cost that.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    ops::{ControlFlow, Deref},
};

use crate::lock::ResourceKey;

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
const END: u64 = 0xd6e8_feb8_6659_fd93;

/// The random start of all hashes of one store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed {
    /// The sum before the first word of a path without a namespace.
    start: u64,
    /// The key of the first word, and what each further one's key is ahead of the one before.
    first: u64,
    step: u64,
    /// What words are multiplied with.
    factor: u64,
}

/// One prefix of a path, the whole path included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    /// How many segments it has; 0 is the root of the tree.
    pub(super) depth: usize,
    /// Its hash, namespace included.
    pub(super) hash: u64,
    /// How many bytes of the path it is.
    pub(super) end: usize,
}

/// Those of one path, outermost first, the path itself last.
// An array is written more quickly than a vector that might grow, and where it is to stay.
#[derive(Debug)]
pub(super) struct Prefixes {
    few: [Prefix; USUAL],
    len: usize,
    /// All of them, where there are more.
    many: Vec<Prefix>,
}

/// More are rare.
const USUAL: usize = 10;

impl Deref for Prefixes {
    type Target = [Prefix];

    fn deref(&self) -> &[Prefix] {
        match self.few.get(..self.len) {
            Some(few) => few,
            None => &self.many,
        }
    }
}

/// Where a path can be cut: all that the hash of a prefix is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) depth: usize,
    pub(super) end: usize,
    /// The words before the one in which it ends.
    sum: u64,
    /// What it has of that word, and the word's key.
    part: u64,
    key: u64,
}

impl Cut {
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        fold(self.sum ^ (self.end as u64).wrapping_mul(MIX), self.part ^ self.key)
    }

    #[inline]
    pub(super) fn prefix(&self) -> Prefix {
        Prefix { depth: self.depth, hash: self.hash(), end: self.end }
    }
}

impl Seed {
    pub(super) fn random() -> Self {
        let state = RandomState::new();
        let [start, first, step, factor] = [1_u8, 2, 3, 4].map(|which| state.hash_one(which));
        Self { start, first, step: step | 1, factor: factor | 1 }
    }

    /// The same seed every time, so that a model goes the same way again.
    #[cfg(test)]
    pub(super) const fn fixed() -> Self {
        Self { start: END, first: MIX, step: 0xa076_1d64_78bd_642f, factor: 0x9fb2_1c65_1e98_df25 }
    }

    /// The prefixes of `key`'s path, outermost first, the path itself last.
    #[cfg(test)]
    pub(super) fn prefixes(&self, key: &ResourceKey<'_>) -> impl Iterator<Item = Prefix> + use<> {
        self.all(key).to_vec().into_iter()
    }

    /// The same, for a lock on `key`: all that has to do with its root goes by them.
    #[inline(never)]
    pub(super) fn all(&self, key: &ResourceKey<'_>) -> Prefixes {
        let (mut few, mut len) = ([Prefix { depth: 0, hash: 0, end: 0 }; USUAL], 0);
        let whole = self.each_above(key, |cut| match few.get_mut(len) {
            Some(place) => {
                *place = cut.prefix();
                len += 1;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        });
        match (whole, few.get_mut(len)) {
            (ControlFlow::Continue(whole), Some(place)) => {
                *place = whole.prefix();
                Prefixes { few, len: len + 1, many: Vec::new() }
            }
            _ => self.all_of_many(key),
        }
    }

    #[cold]
    fn all_of_many(&self, key: &ResourceKey<'_>) -> Prefixes {
        let mut many = Vec::new();
        let whole = self.each_above(key, |cut| {
            many.push(cut.prefix());
            ControlFlow::<Infallible>::Continue(())
        });
        let ControlFlow::Continue(whole) = whole;
        many.push(whole.prefix());
        Prefixes { few: [whole.prefix(); USUAL], len: many.len(), many }
    }

    /// The hash and depth of `key`'s whole path.
    pub(super) fn whole(&self, key: &ResourceKey<'_>) -> Prefix {
        let ControlFlow::Continue(whole) = self.each_above(key, |_| ControlFlow::<Infallible>::Continue(()));
        whole.prefix()
    }

    /// Goes through what lies above `key`, outermost first, and then gives the whole path.
    #[inline(always)]
    pub(super) fn each_above<B>(
        &self,
        key: &ResourceKey<'_>,
        mut each: impl FnMut(Cut) -> ControlFlow<B>,
    ) -> ControlFlow<B, Cut> {
        let path = key.path().as_bytes();
        let sum = match key.namespace() {
            None => self.start,
            Some(namespace) => self.of_namespace(namespace.as_bytes()),
        };
        let mut cut = Cut { depth: 0, end: path.len().min(1), sum, part: u64::from(b'/'), key: self.first };
        if path.len() < 2 {
            return ControlFlow::Continue(cut);
        }
        each(cut)?;
        let (words, rest) = path.as_chunks::<8>();
        let mut start = 0;
        // The slash at the start is the root's.
        let mut skip = 0xff;
        for word in words {
            let word = u64::from_le_bytes(*word);
            let slashes = slashes(word) & !skip;
            each_cut(&mut cut, word, slashes, start, &mut each)?;
            cut.sum = cut.sum.wrapping_add(fold(word ^ cut.key, self.factor));
            cut.key = cut.key.wrapping_add(self.step);
            start += 8;
            skip = 0;
        }
        let word = last_word(path, rest);
        each_cut(&mut cut, word, slashes(word) & !skip, start, &mut each)?;
        ControlFlow::Continue(Cut { depth: cut.depth + 1, end: path.len(), part: word, ..cut })
    }

    #[inline(never)]
    fn of_namespace(&self, text: &[u8]) -> u64 {
        let start = self.start ^ END ^ (text.len() as u64).wrapping_mul(MIX);
        text.chunks(8).fold(fold(start, self.factor), |sum, part| {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            fold(sum ^ u64::from_le_bytes(bytes), self.factor)
        })
    }
}

/// The cuts in one word, which starts at byte `start`.
#[inline(always)]
fn each_cut<B>(
    cut: &mut Cut,
    word: u64,
    mut slashes: u64,
    start: usize,
    each: &mut impl FnMut(Cut) -> ControlFlow<B>,
) -> ControlFlow<B> {
    while slashes != 0 {
        let bits = slashes.trailing_zeros() & !7;
        slashes &= slashes - 1;
        cut.depth += 1;
        each(Cut { end: start + bits as usize / 8, part: word & ((1 << bits) - 1), ..*cut })?;
    }
    ControlFlow::Continue(())
}

/// A bit in each byte that is a slash.
#[inline(always)]
const fn slashes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const LOW: u64 = 0x7f * ONES;
    let differs = word ^ (ONES * b'/' as u64);
    // No byte carries into the next, so each bit is exact.
    !(((differs & LOW) + LOW) | differs | LOW)
}

/// The bytes after the last whole word, padded with zeros.
#[inline(always)]
fn last_word(path: &[u8], rest: &[u8]) -> u64 {
    // Read so that no length has to be looped over.
    if rest.is_empty() {
        return 0;
    }
    if let Some(eight) = path.last_chunk::<8>() {
        return u64::from_le_bytes(*eight) >> (64 - 8 * rest.len());
    }
    match (rest.first_chunk::<4>(), rest.last_chunk::<4>(), rest) {
        (Some(first), Some(last), _) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (rest.len() - 4))
        }
        (_, _, [one, two, three]) => u64::from(*one) | u64::from(*two) << 8 | u64::from(*three) << 16,
        (_, _, [one, two]) => u64::from(*one) | u64::from(*two) << 8,
        (_, _, [one, ..]) => u64::from(*one),
        (_, _, []) => 0,
    }
}

/// The two halves of a product, folded into one.
#[inline(always)]
fn fold(one: u64, other: u64) -> u64 {
    let wide = u128::from(one) * u128::from(other);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a product are folded into one")]
    let folded = (wide as u64) ^ ((wide >> 64) as u64);
    folded
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn key(path: &str) -> ResourceKey<'_> {
        ResourceKey::from_canonical(path)
    }

    #[test]
    fn every_prefix_hashes_as_it_does_alone() {
        let seed = Seed::random();
        for path in ["/", "/a", "/a/b", "/abcdefg/h", "/abcdefgh/i", "/abcdefghi/j/k", "/ä/ö€/x", "/a%00/%25/b"] {
            for prefix in seed.prefixes(&key(path)) {
                let alone = key(&path[..prefix.end]);
                assert_eq!(seed.whole(&alone), prefix, "{path} to {}", prefix.end);
            }
            assert_eq!(seed.prefixes(&key(path)).last().unwrap().end, path.len());
        }
    }

    #[test]
    fn prefixes_of_any_length_hash_as_they_do_alone() {
        let seed = Seed::random();
        // A slash at every place of a word, segments of every length, bytes of every kind.
        let text: String = "aä/€b\u{1f512}c\0d".chars().cycle().filter(|c| *c != '/').take(90).collect();
        for first in 0..20 {
            for second in 0..20 {
                let cut = |from: usize, len: usize| text.chars().skip(from).take(len).collect::<String>();
                let path = format!("/{}/{}/{}", cut(0, first), cut(first, second), cut(second, 17));
                let found: Vec<_> = seed.prefixes(&key(&path)).collect();
                for (depth, prefix) in found.iter().enumerate() {
                    assert_eq!(prefix.depth, depth);
                    // An empty first segment is a root that is spelled as the root of all.
                    if prefix.end > 1 {
                        assert_eq!(seed.whole(&key(&path[..prefix.end])), *prefix, "{path} to {}", prefix.end);
                    }
                }
                assert_eq!(found.len(), path.matches('/').count() + 1, "{path}");
            }
        }
    }

    #[test]
    fn a_path_of_any_depth_has_all_its_prefixes() {
        let (seed, text) = (Seed::random(), "/a/bcd/efghijkl/m".repeat(10));
        for end in (1..=text.len()).filter(|end| text.as_bytes().get(*end).is_none_or(|byte| *byte == b'/')) {
            let path = key(&text[..end]);
            let all = seed.all(&path);
            assert_eq!(all.len(), 1 + path.path().matches('/').count());
            assert_eq!(all[0], seed.whole(&key("/")));
            for (depth, prefix) in all.iter().enumerate().skip(1) {
                assert_eq!((prefix.depth, *prefix), (depth, seed.whole(&key(&text[..prefix.end]))), "{path}");
            }
        }
    }

    #[test]
    fn words_that_change_places_change_the_hash() {
        let seed = Seed::random();
        let words = ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"];
        let mut seen = HashMap::new();
        for one in words {
            for two in words {
                for three in words {
                    let path = format!("/1234567{one}{two}{three}x");
                    assert_eq!(seen.insert(seed.whole(&key(&path)).hash, path), None);
                }
            }
        }
    }

    #[test]
    fn the_prefixes_are_the_ancestors_in_order() {
        let seed = Seed::random();
        let long = format!("/{}/x", "y".repeat(8 * 1024));
        for (path, ends) in [("/", vec![1]), ("/a/bc/d", vec![1, 2, 5, 7]), (&*long, vec![1, 8193, 8195])] {
            let found: Vec<usize> = seed.prefixes(&key(path)).map(|prefix| prefix.end).collect();
            assert_eq!(found, ends, "{path:.20}");
            let depths: Vec<usize> = seed.prefixes(&key(path)).map(|prefix| prefix.depth).collect();
            assert_eq!(depths, (0..ends.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn different_prefixes_have_different_hashes() {
        let seed = Seed::random();
        let mut seen: HashMap<u64, String> = HashMap::new();
        let parts = ["", "a", "ab", "b", "abcdefgh", "abcdefghi", "a%00", "aaaaaaaaaaaaaaaa", "\u{1}", "//"];
        for one in parts {
            for two in parts {
                for three in parts {
                    let path = format!("/{one}/{two}{three}");
                    let hash = seed.whole(&key(&path)).hash;
                    let other = seen.insert(hash, path.clone());
                    assert!(other.is_none() || other.as_deref() == Some(&*path), "{other:?} {path}");
                }
            }
        }
    }

    #[test]
    fn exact_keys_with_empty_segments_have_the_ancestors_that_coverage_gives_them() {
        let seed = Seed::random();
        for path in ["/a/", "/a//b", "//b", "/a//", "//"] {
            for end in (1..path.len()).filter(|end| path.as_bytes()[*end] == b'/') {
                let root = key(&path[..end]);
                let met = seed.prefixes(&key(path)).any(|prefix| prefix.hash == seed.whole(&root).hash);
                assert!(met, "{root:?} above {path}");
            }
        }
    }

    #[test]
    fn namespaces_have_nothing_in_common() {
        let seed = Seed::random();
        let hash = |key: &ResourceKey<'_>| seed.whole(key).hash;
        let (plain, a, b) = (key("/x"), key("/x").in_namespace("a"), key("/x").in_namespace("b"));
        assert!(hash(&plain) != hash(&a) && hash(&a) != hash(&b) && hash(&plain) != hash(&b));
        assert_ne!(hash(&plain), hash(&key("/x").in_namespace("")));
        assert_ne!(hash(&key("/").in_namespace("")), hash(&key("/")));
    }
}
