//! Paths, principals and tokens as the tables and the advisory locks know them.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::{
    lock::{Effect, Membership, Principal, ResourceKey, Target, TokenDigest},
    store::remote::places,
};

/// The part of a path that is indexed, in bytes; the SQL has the same number.
const HEAD: usize = 1024;
/// Levels that have advisory locks of their own; what is deeper shares that of the level above it, for whoever asks. The
/// server has room for some thousand such locks in all, and a path may have 4,096 levels.
const LEVELS: usize = 16;
/// More advisory locks on paths than this in one step, and it takes the whole namespace instead.
const MOST_KEYS: usize = 512;

/// The store's own namespace as a number, which every other number is mixed with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space(pub(super) i64);

impl Space {
    /// The schema counts too: the channel of a watch is the database's.
    pub(super) fn new(schema: &str, namespace: &str) -> Self {
        Self(number(&[b"tower-lock space", schema.as_bytes(), namespace.as_bytes()]))
    }

    pub(super) fn whose(self, principal: Option<&Principal>) -> i64 {
        let (kind, name): (&[u8], &str) = principal.map_or((b"nobody", ""), |principal| (b"somebody", principal.as_str()));
        self.0 ^ number(&[kind, name.as_bytes()])
    }

    pub(super) fn placed(self, key: &ResourceKey<'_>) -> Placed {
        let chain = places::chain(key);
        let parent_end = key.parent_path().map(str::len);
        let at = |end: Option<usize>| chain.iter().find(|place| Some(place.end) == end).map(|place| place.bits() ^ self.0);
        let (place, parent) = (at(Some(key.path().len())), at(parent_end));
        Placed { chain: chain.iter().map(|place| place.bits() ^ self.0).collect(), place, parent }
    }
}

/// The hash of several texts, each apart from the next.
fn number(texts: &[&[u8]]) -> i64 {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text);
    }
    let mut half = [0; 8];
    half.copy_from_slice(&hasher.finalize()[..8]);
    i64::from_be_bytes(half)
}

/// Where a path is.
pub(super) struct Placed {
    /// The numbers of all that is above it and of itself, the root first.
    pub(super) chain: SmallVec<[i64; 8]>,
    /// Its own, unless it is too long to be locked.
    pub(super) place: Option<i64>,
    /// That of the collection it is a member of.
    pub(super) parent: Option<i64>,
}

impl Placed {
    /// That of its namespace: the one of `/`.
    pub(super) fn realm(&self) -> i64 {
        self.chain.first().copied().unwrap_or_default()
    }
}

/// Everything strictly below a path, as bounds on paths and on their heads; the upper ones are not in it.
pub(super) struct Below {
    pub(super) low: Vec<u8>,
    pub(super) high: Vec<u8>,
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
}

impl Below {
    pub(super) fn of(path: &str) -> Self {
        let joined = |path: &str, end: &[u8]| [path.as_bytes(), end].concat();
        // The byte after `/` is `0`. What lies below the root begins as the root itself does.
        let (from, to) = match path {
            "/" => (joined("/", b"\0"), b"0".to_vec()),
            path => (joined(path, b"/"), joined(path, b"0")),
        };
        if from.len() <= HEAD {
            return Self { low: from.clone(), high: to.clone(), from, to };
        }
        let low = from[..HEAD].to_vec();
        let high = [&low[..], b"\0"].concat();
        Self { low, high, from, to }
    }
}

/// A namespace as bytes; none is not the empty one.
pub(super) fn namespace(key: &ResourceKey<'_>) -> Vec<u8> {
    key.namespace().map_or_else(Vec::new, |namespace| [b"+", namespace.as_bytes()].concat())
}

/// The token as the tables know it.
pub(super) fn digest(digest: &TokenDigest) -> Uuid {
    Uuid::from_bytes(*digest.as_bytes())
}

pub(super) fn bytes(principal: Option<&Principal>) -> Option<Vec<u8>> {
    principal.map(|principal| principal.as_str().as_bytes().to_vec())
}

/// The advisory locks of one step, each in the strongest mode that is asked for, in the order of their numbers: so no two
/// steps wait for each other.
///
/// A lock is shared on all that is above its root and exclusive at it; a write is shared on its target and all above, and
/// exclusive at a target that goes with all below. So an acquire and a write meet wherever a lock touches a write.
#[derive(Default)]
pub(super) struct Keys {
    paths: BTreeMap<i32, Mode>,
    others: BTreeMap<i32, Mode>,
    realms: Vec<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

impl Keys {
    pub(super) fn path(&mut self, placed: &Placed, mode: Mode) {
        let last = placed.chain.len().saturating_sub(1);
        for (level, place) in placed.chain.iter().enumerate().take(LEVELS + 1) {
            let mode = if level == last.min(LEVELS) { mode } else { Mode::Shared };
            Self::add(&mut self.paths, *place, mode);
        }
        if !self.realms.contains(&placed.realm()) {
            self.realms.push(placed.realm());
        }
    }

    pub(super) fn target(&mut self, target: &Target<'_>, placed: &Placed) {
        // What is too long to be locked has nothing at it or below.
        let mode = match target.effect {
            Effect::Unlink if placed.place.is_some() => Mode::Exclusive,
            Effect::Unlink | Effect::Write => Mode::Shared,
        };
        self.path(placed, mode);
    }

    pub(super) fn exclusive(&mut self, number: i64) {
        Self::add(&mut self.others, number, Mode::Exclusive);
    }

    pub(super) fn token(&mut self, token: Uuid) {
        self.exclusive(token_number(token));
    }

    fn add(keys: &mut BTreeMap<i32, Mode>, number: i64, mode: Mode) {
        let held = keys.entry(folded(number)).or_insert(mode);
        *held = mode.max(*held);
    }

    /// As the functions take them: the lowest bit is the mode.
    pub(super) fn into_numbers(mut self) -> Vec<i64> {
        if self.paths.len() > MOST_KEYS {
            // Everybody is at least shared there.
            self.paths.clear();
            for realm in std::mem::take(&mut self.realms) {
                Self::add(&mut self.paths, realm, Mode::Exclusive);
            }
        }
        for (key, mode) in self.others {
            let held = self.paths.entry(key).or_insert(mode);
            *held = mode.max(*held);
        }
        self.paths.into_iter().map(|(key, mode)| (i64::from(key) << 1) | i64::from(mode == Mode::Exclusive)).collect()
    }
}

/// The key of the advisory lock of one token, as [`Keys::into_numbers`] would write it.
pub(super) fn token_key(token: Uuid) -> i64 {
    i64::from(folded(token_number(token))) << 1
}

fn token_number(token: Uuid) -> i64 {
    let (high, low) = token.as_u64_pair();
    (high ^ low.rotate_left(32)).cast_signed()
}

/// Two paths may share an advisory lock: then one waits for the other, needlessly and briefly.
#[expect(clippy::cast_possible_truncation, reason = "both halves are folded into one")]
fn folded(number: i64) -> i32 {
    (number ^ (number >> 32)) as i32
}

/// The targets of a write as the functions take them.
#[derive(Default)]
pub(super) struct Targets {
    pub(super) places: Vec<i64>,
    /// Places where a lock of any depth counts; at the others only those that reach below.
    pub(super) exact: Vec<i64>,
    pub(super) below_realm: Vec<i64>,
    pub(super) low: Vec<Vec<u8>>,
    pub(super) high: Vec<Vec<u8>>,
    pub(super) from: Vec<Vec<u8>>,
    pub(super) to: Vec<Vec<u8>>,
    pub(super) place: Vec<Option<i64>>,
    pub(super) parent: Vec<Option<i64>>,
    pub(super) realm: Vec<i64>,
    pub(super) namespace: Vec<Vec<u8>>,
    pub(super) path: Vec<Vec<u8>>,
    pub(super) unlink: Vec<bool>,
    placed: Vec<Placed>,
}

impl Targets {
    pub(super) fn of(space: Space, targets: &[Target<'_>]) -> Self {
        let mut all = Self::default();
        for target in targets {
            let placed = space.placed(&target.key);
            let parent = placed.parent.filter(|_| target.membership == Membership::Changed);
            all.places.extend_from_slice(&placed.chain);
            all.exact.extend(placed.place.into_iter().chain(parent));
            if target.effect == Effect::Unlink && placed.place.is_some() {
                let below = Below::of(target.key.path());
                all.below_realm.push(placed.realm());
                all.low.push(below.low);
                all.high.push(below.high);
                all.from.push(below.from);
                all.to.push(below.to);
            }
            all.place.push(placed.place);
            all.parent.push(parent);
            all.realm.push(placed.realm());
            all.namespace.push(namespace(&target.key));
            all.path.push(target.key.path().as_bytes().to_vec());
            all.unlink.push(target.effect == Effect::Unlink);
            all.placed.push(placed);
        }
        if targets.len() > 1 {
            all.places.sort_unstable();
            all.places.dedup();
        }
        all
    }

    /// The advisory locks of a step that registers the write.
    pub(super) fn keys(&self, targets: &[Target<'_>]) -> Vec<i64> {
        let mut keys = Keys::default();
        for (target, placed) in targets.iter().zip(&self.placed) {
            keys.target(target, placed);
        }
        keys.into_numbers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> ResourceKey<'_> {
        ResourceKey::from_canonical(path)
    }

    fn keys(path: &str, mode: Mode) -> Vec<i64> {
        let mut keys = Keys::default();
        keys.path(&Space(7).placed(&key(path)), mode);
        keys.into_numbers()
    }

    #[test]
    fn steps_that_may_touch_each_other_share_an_advisory_lock_that_one_has_alone() {
        let deep = "/a".repeat(40);
        let deeper = "/a".repeat(100);
        for (root, target) in [("/", "/a/b"), ("/a", "/a"), ("/a", "/a/b/c"), (&deep, &deeper), ("/a/a", &deeper)] {
            let (lock, write) = (keys(root, Mode::Exclusive), keys(target, Mode::Shared));
            assert!(lock.iter().any(|key| key & 1 == 1 && write.iter().any(|other| other | 1 == *key)), "{root} {target}");
            // A subtree that goes, and a lock below it.
            let (lock, write) = (keys(target, Mode::Exclusive), keys(root, Mode::Exclusive));
            assert!(write.iter().any(|key| key & 1 == 1 && lock.iter().any(|other| other | 1 == *key)), "{root} {target}");
        }
    }

    #[test]
    fn no_path_asks_for_more_than_a_few() {
        let deepest = "/d".repeat(4_096);
        assert_eq!(keys(&deepest, Mode::Exclusive).len(), LEVELS + 1);
        let mut many = Keys::default();
        for at in 0..2_000 {
            many.path(&Space(7).placed(&key(&format!("/a/{at}"))), Mode::Exclusive);
        }
        let root = keys("/", Mode::Exclusive);
        assert_eq!(many.into_numbers(), root, "everybody meets at the root");
    }

    #[test]
    fn they_come_in_the_order_of_their_numbers() {
        let numbers = keys("/a/b/c/d/e/f/g", Mode::Exclusive);
        assert!(numbers.windows(2).all(|pair| pair[0] >> 1 < pair[1] >> 1));
    }

    #[test]
    fn below_is_what_lies_below_and_nothing_else() {
        let long = format!("/{}", "l".repeat(2_000));
        let paths = ["/", "/a", "/a/b", "/a!", "/a/b/c", "/ab", "/b", &long, &format!("{long}/x"), &format!("{long}!")];
        for root in paths {
            let below = Below::of(root);
            for path in paths {
                let bytes = path.as_bytes();
                let head = &bytes[..bytes.len().min(HEAD)];
                let by_head = head >= &below.low[..] && head < &below.high[..];
                let by_path = bytes >= &below.from[..] && bytes < &below.to[..];
                assert_eq!(by_path, key(path).is_below(&key(root)), "{path} below {root}");
                assert!(by_head || !by_path, "{path} below {root}");
            }
        }
    }
}
