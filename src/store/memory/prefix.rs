//! One pass over a path gives a seeded hash for every prefix that a lock above it could be rooted at.
//!
//! A prefix hash depends on nothing but the namespace and the prefix, so the hash of `/a/b` as a root is the one that
//! `/a/b/c` meets on its way down. The seed is random per store: nobody outside can make two paths collide.

use std::hash::{BuildHasher, RandomState};

use crate::lock::ResourceKey;

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
const END: u64 = 0xd6e8_feb8_6659_fd93;

/// The random start of all hashes of one store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed {
    start: u64,
    key: u64,
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

impl Seed {
    pub(super) fn random() -> Self {
        let state = RandomState::new();
        Self { start: state.hash_one(1_u8), key: state.hash_one(2_u8) | 1 }
    }

    /// The prefixes of `key`'s path, outermost first, the path itself last.
    pub(super) fn prefixes<'k>(&self, key: &'k ResourceKey<'_>) -> Prefixes<'k> {
        let start = match key.namespace() {
            None => self.start,
            Some(namespace) => self.over(self.start ^ END, namespace.as_bytes()),
        };
        Prefixes { path: key.path().as_bytes(), seed: *self, state: start, next: Next::Root }
    }

    /// The hash and depth of `key`'s whole path.
    pub(super) fn whole(&self, key: &ResourceKey<'_>) -> Prefix {
        let root = Prefix { depth: 0, hash: 0, end: 0 };
        self.prefixes(key).last().unwrap_or(root)
    }

    fn over(&self, start: u64, text: &[u8]) -> u64 {
        let state = text.chunks(8).fold(start, |state, part| self.fold(state ^ word(part)));
        self.end(state, text.len())
    }

    fn fold(&self, value: u64) -> u64 {
        let wide = u128::from(value) * u128::from(self.key);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a product are folded into one")]
        let folded = (wide as u64) ^ ((wide >> 64) as u64);
        folded
    }

    /// The length goes in at the end of each segment, so that neither padding nor the place of a slash is lost.
    fn end(&self, state: u64, len: usize) -> u64 {
        self.fold(state.rotate_left(23) ^ END ^ (len as u64).wrapping_mul(MIX))
    }
}

/// Up to eight bytes as a number, padded with zeros.
fn word(part: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..part.len()].copy_from_slice(part);
    u64::from_le_bytes(bytes)
}

/// Iterator over the prefixes of a path.
#[derive(Debug)]
pub(super) struct Prefixes<'k> {
    path: &'k [u8],
    seed: Seed,
    state: u64,
    next: Next,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Root,
    /// The segment that starts at this byte, of this depth.
    Segment(usize, usize),
    Nothing,
}

impl Iterator for Prefixes<'_> {
    type Item = Prefix;

    fn next(&mut self) -> Option<Prefix> {
        match self.next {
            Next::Root => {
                self.state = self.seed.end(self.state, 0);
                self.next = if self.path.len() > 1 { Next::Segment(1, 1) } else { Next::Nothing };
                Some(Prefix { depth: 0, hash: self.state, end: self.path.len().min(1) })
            }
            Next::Segment(start, depth) => {
                let end = self.segment(start);
                // An exact key may end in a slash, and then has an empty segment after it.
                self.next = if end < self.path.len() { Next::Segment(end + 1, depth + 1) } else { Next::Nothing };
                Some(Prefix { depth, hash: self.state, end })
            }
            Next::Nothing => None,
        }
    }
}

impl Prefixes<'_> {
    /// Hashes the segment that starts at byte `start`, and tells where it ends.
    fn segment(&mut self, start: usize) -> usize {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = 0x8080_8080_8080_8080;
        const SLASHES: u64 = ONES * b'/' as u64;
        let mut at = start;
        let mut state = self.state;
        loop {
            let rest = &self.path[at..];
            let Some((eight, _)) = rest.split_first_chunk::<8>() else {
                let len = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
                state = self.seed.fold(state ^ word(&rest[..len]));
                at += len;
                break;
            };
            let eight = u64::from_le_bytes(*eight);
            let differs = eight ^ SLASHES;
            // The lowest bit set is exactly the first slash; those above may be a borrow's.
            let slashes = differs.wrapping_sub(ONES) & !differs & HIGHS;
            if slashes == 0 {
                state = self.seed.fold(state ^ eight);
                at += 8;
                continue;
            }
            let len = slashes.trailing_zeros() / 8;
            state = self.seed.fold(state ^ (eight & ((1 << (8 * len)) - 1)));
            at += len as usize;
            break;
        }
        self.state = self.seed.end(state, at - start);
        at
    }
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
