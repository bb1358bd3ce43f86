//! The hashes of a path and of all that is above it.
//!
//! An engine keeps locks under the hash of their root, so an 8 KiB path with thousands of segments asks for thousands of
//! short keys and not for megabytes. The hash says where to look, never who is meant: what is found is compared by its
//! path. It is part of what is stored, so it is the same on every node and in every release.

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::{lock::ResourceKey, store::stored::namespace_text};

/// A path, or one above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Place {
    /// Of the namespace and the path.
    pub(in crate::store) hash: [u8; 16],
    /// How many bytes of the path it is.
    pub(in crate::store) end: usize,
}

impl Place {
    /// The hash as a number, for indexes of numbers. What collides is told apart by its path.
    pub(in crate::store) fn bits(&self) -> i64 {
        let mut half = [0; 8];
        half.copy_from_slice(&self.hash[..8]);
        i64::from_be_bytes(half)
    }
}

/// `key` and all that is above it, the root first. Of a path too long to be a lock's root, only what could be one.
pub(in crate::store) fn chain(key: &ResourceKey<'_>) -> SmallVec<[Place; 8]> {
    let path = key.path().as_bytes();
    let mut hasher = Sha256::new();
    hasher.update(namespace_text(key).as_bytes());
    // No namespace holds a NUL as text, so where it ends is clear.
    hasher.update([0]);
    let mut places = SmallVec::new();
    let mut add = |hasher: &Sha256, end: usize| {
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.clone().finalize()[..16]);
        places.push(Place { hash, end });
    };
    let mut read = 1;
    hasher.update(&path[..1]);
    add(&hasher, 1);
    let ends = (2..path.len()).filter(|at| path[*at] == b'/').chain((path.len() > 1).then_some(path.len()));
    for end in ends.take_while(|end| *end <= ResourceKey::MAX_ROOT) {
        hasher.update(&path[read..end]);
        read = end;
        add(&hasher, end);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{Depth, rules};

    fn key(path: &str) -> ResourceKey<'_> {
        ResourceKey::from_canonical(path)
    }

    fn whole(key: &ResourceKey<'_>) -> [u8; 16] {
        chain(key).last().expect("never empty").hash
    }

    #[test]
    fn the_chain_is_all_that_could_cover_a_path() {
        for path in ["/", "/a", "/a/b", "/ab/c/d", "/a//b", "/a/", "//", "//b", "/ü/%00/x y"] {
            let key = key(path);
            let chained: Vec<&str> = chain(&key).iter().map(|place| &path[..place.end]).collect();
            let covering: Vec<&str> = (1..=path.len())
                .filter(|end| path.is_char_boundary(*end))
                .map(|end| &path[..end])
                .filter(|root| rules::covers(&ResourceKey::from_canonical(*root), Depth::Infinity, &key))
                .collect();
            assert_eq!(chained, covering, "{path}");
            for place in chain(&key) {
                assert_eq!(place.hash, whole(&ResourceKey::from_canonical(&path[..place.end])), "{path}");
            }
        }
    }

    #[test]
    fn namespaces_have_places_of_their_own() {
        let keys = [key("/a"), key("/a").in_namespace(""), key("/a").in_namespace("x"), key("/a").in_namespace("x/a")];
        let distinct: std::collections::HashSet<[u8; 16]> = keys.iter().map(whole).collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn the_hash_never_changes() {
        // What stores hold is found by it: another value would lose every lock that is held across an upgrade.
        let hex = |key: &ResourceKey<'_>| whole(key).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&key("/docs/7")), "753df43f13d06e79d7e4ede3b39003b9");
        assert_eq!(hex(&key("/docs/7").in_namespace("acme")), "febec231eb04271027ffd3004751dae3");
    }

    #[test]
    fn a_long_path_asks_for_no_more_than_can_be_locked() {
        let path = "/a".repeat(6_000);
        let places = chain(&key(&path)).into_vec();
        assert_eq!(places.last().map(|place| place.end), Some(ResourceKey::MAX_ROOT));
        assert_eq!(places.len(), ResourceKey::MAX_ROOT / 2 + 1);
    }
}
