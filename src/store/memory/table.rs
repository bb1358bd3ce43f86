//! `Table`: all locks and marks, and the indexes by which none of them is looked for by scanning.
//!
//! Locks of one root and scope share a node, so ten thousand shared locks on one resource are one thing to whoever only
//! asks whether the resource is shared. Nodes are found from below by the hash of their path, and from above in the order
//! of their paths: what lies below `/a` stands together, as all that starts with `/a/`.
//!
//! Indexes hold the numbers of slots and nothing else, and none of them grows in one go: a step takes no longer in a full
//! store because some table had to be made larger.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    hint,
    ops::ControlFlow,
    slice,
    sync::Arc,
};

use smallvec::SmallVec;

use super::{
    cooling::Cooling,
    expiry::{Expiry, Moved, NOWHERE},
    filter::{Filter, Tally},
    graveyard::{Asker, Graveyard, Memory},
    index::Index,
    order::Order,
    pins::Spare,
    prefix::Prefix,
    record::{Place, Record},
    slab::{Slab, SlotId},
};
use crate::{
    lock::{
        Depth, LockId, LockParts, LockScope, LostCause, LostLock, Principal, ResourceKey, Timestamp, TokenDigest, rules,
    },
    store::LockEvent,
};

#[derive(Debug)]
pub(super) struct Table {
    pub(super) records: Slab<Record>,
    nodes: Slab<Node>,
    /// Nodes by the hash of their root.
    by_hash: Index,
    plain: Space,
    namespaces: HashMap<Box<str>, Space>,
    by_token: Index,
    by_id: Index,
    id_key: IdKey,
    principals: Slab<Theirs>,
    by_principal: HashMap<Principal, u32>,
    /// Those of the anonymous caller.
    anonymous: Vec<u32>,
    /// Those that end by themselves, by the time at which to look at them.
    expiry: Expiry,
    /// Those whose own time was up when they were looked at, while a write held them.
    pub(super) overdue: HashSet<SlotId>,
    /// How many are of depth zero.
    shallow: usize,
    tally: Tally,
    pub(super) spare_pins: Spare,
    pub(super) graveyard: Graveyard,
    pub(super) cooling: Cooling,
    /// What watchers have still to hear of this step.
    pub(super) news: Vec<LockEvent>,
}

/// The roots of one namespace in order of their paths, exclusive and shared ones apart.
#[derive(Debug, Default)]
struct Space {
    exclusive: Order,
    shared: Order,
}

impl Space {
    fn of(&self, scope: LockScope) -> &Order {
        match scope {
            LockScope::Exclusive => &self.exclusive,
            LockScope::Shared => &self.shared,
        }
    }

    fn of_mut(&mut self, scope: LockScope) -> &mut Order {
        match scope {
            LockScope::Exclusive => &mut self.exclusive,
            LockScope::Shared => &mut self.shared,
        }
    }
}

/// The locks of one principal.
#[derive(Debug)]
struct Theirs {
    principal: Principal,
    slots: Vec<u32>,
}

/// Stands for the anonymous caller, who has no entry.
const ANONYMOUS: u32 = u32::MAX;

/// The locks of one root and scope.
#[derive(Debug)]
pub(super) struct Node {
    /// The first lock of the node, for its root and scope.
    parts: Arc<LockParts>,
    hash: u64,
    slots: Slots,
}

#[derive(Debug)]
enum Slots {
    /// As almost always.
    One {
        depth: Depth,
        slot: u32,
    },
    Many(Box<Many>),
}

#[derive(Debug, Default)]
struct Many {
    zero: Vec<u32>,
    infinity: Vec<u32>,
}

impl Many {
    fn of_mut(&mut self, depth: Depth) -> &mut Vec<u32> {
        match depth {
            Depth::Zero => &mut self.zero,
            Depth::Infinity => &mut self.infinity,
        }
    }
}

impl Node {
    pub(super) fn root(&self) -> &ResourceKey<'static> {
        &self.parts.root
    }

    pub(super) fn scope(&self) -> LockScope {
        self.parts.scope
    }

    /// The slots of its locks of this depth.
    pub(super) fn of(&self, depth: Depth) -> &[u32] {
        match (&self.slots, depth) {
            (Slots::One { depth: own, slot }, _) if *own == depth => slice::from_ref(slot),
            (Slots::One { .. }, _) => &[],
            (Slots::Many(many), Depth::Zero) => &many.zero,
            (Slots::Many(many), Depth::Infinity) => &many.infinity,
        }
    }

    /// The slots of all its locks.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> + use<'_> {
        self.of(Depth::Infinity).iter().chain(self.of(Depth::Zero)).copied()
    }

    /// Takes one more in; where it stands among those of its depth.
    fn add(&mut self, depth: Depth, slot: u32) -> u32 {
        if let Slots::One { depth, slot } = self.slots {
            let mut many = Box::<Many>::default();
            many.of_mut(depth).push(slot);
            self.slots = Slots::Many(many);
        }
        let Slots::Many(many) = &mut self.slots else { return 0 };
        let slots = many.of_mut(depth);
        slots.push(slot);
        index(slots.len() - 1)
    }

    /// Takes one out; which other stands in its place now, if one does.
    fn take(&mut self, depth: Depth, at: u32) -> Left {
        match &mut self.slots {
            Slots::One { .. } => Left::Nobody,
            Slots::Many(many) => {
                let slots = many.of_mut(depth);
                slots.swap_remove(at as usize);
                let moved = slots.get(at as usize).copied();
                if many.zero.is_empty() && many.infinity.is_empty() { Left::Nobody } else { Left::Others { moved } }
            }
        }
    }
}

/// What is left of a node.
enum Left {
    Nobody,
    Others { moved: Option<u32> },
}

/// Ids may be proposed, so their hash must be nobody's to foresee.
#[derive(Debug)]
pub(super) struct IdKey(u64, u64);

impl IdKey {
    pub(super) fn random() -> Self {
        let state = RandomState::new();
        Self(state.hash_one(1_u8), state.hash_one(2_u8))
    }

    pub(super) fn hash(&self, id: LockId) -> u64 {
        let (high, low) = id.as_uuid().as_u64_pair();
        let wide = u128::from(high ^ self.0) * u128::from(low ^ self.1);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a product are folded into one")]
        let folded = (wide as u64) ^ ((wide >> 64) as u64);
        folded.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// So many locks are near anyhow.
const FEW: usize = 4096;

impl Table {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            records: Slab::default(),
            nodes: Slab::default(),
            by_hash: Index::default(),
            plain: Space::default(),
            namespaces: HashMap::new(),
            by_token: Index::default(),
            by_id: Index::default(),
            id_key: IdKey::random(),
            principals: Slab::default(),
            by_principal: HashMap::new(),
            anonymous: Vec::new(),
            expiry: Expiry::default(),
            overdue: HashSet::new(),
            shallow: 0,
            tally: Tally::default(),
            spare_pins: Spare::default(),
            graveyard: Graveyard::new(memory),
            cooling: Cooling::default(),
            news: Vec::new(),
        }
    }

    /// Reads where a lock is in every index and in the filter, or will be; `prefixes` are those of its root. Among a million
    /// locks each of these places is in memory that no cache has. To wait for all of them at once takes as long as for one,
    /// and then the steps that need them, which would wait for one after the other, find them near.
    pub(super) fn touch(&self, filter: &Filter, id: LockId, digest: &TokenDigest, prefixes: &[Prefix]) {
        if self.records.len() < FEW {
            return;
        }
        let root = prefixes.last().map_or(0, |whole| self.by_hash.touch(whole.hash));
        let (token, named) = (self.by_token.touch(digest.hash()), self.by_id.touch(self.id_key.hash(id)));
        let (filtered, dead) = (filter.touch(&self.tally, prefixes), self.graveyard.touch(digest, id));
        // Or else nobody would need what was read, and it would not be.
        hint::black_box(root ^ token ^ named ^ filtered ^ dead);
    }

    /// Puts a lock or a mark into every index and into the filter, but not into the queue of those that will expire.
    /// `prefixes` are those of its root.
    pub(super) fn link(&mut self, filter: &Filter, record: Record, prefixes: &[Prefix]) -> u32 {
        filter.enter(&mut self.tally, prefixes);
        // Counted once, for the node.
        let (parts, digest) = (record.parts.clone(), record.digest);
        self.shallow += usize::from(parts.depth == Depth::Zero);
        let slot = self.records.insert(record);
        let records = &self.records;
        let token_of = |slot| records.get(slot).map_or(0, |record| record.digest.hash());
        self.by_token.insert(digest.hash(), slot, token_of);
        let id_of = |slot| records.get(slot).map_or(0, |record| self.id_key.hash(record.parts.id));
        self.by_id.insert(self.id_key.hash(parts.id), slot, id_of);
        let (principal, of_principal) = self.link_principal(parts.principal.as_ref(), slot);
        let hash = prefixes.last().map_or(0, |whole| whole.hash);
        let (node, in_node) = self.link_node(hash, parts, slot);
        if let Some(record) = self.records.get_mut(slot) {
            record.place = Place { node, in_node, principal, of_principal, queued: NOWHERE };
        }
        slot
    }

    fn link_principal(&mut self, principal: Option<&Principal>, slot: u32) -> (u32, u32) {
        let (number, slots) = match principal {
            None => (ANONYMOUS, &mut self.anonymous),
            Some(principal) => {
                let number = match self.by_principal.get(principal) {
                    Some(number) => *number,
                    None => {
                        let fresh = Theirs { principal: principal.clone(), slots: Vec::new() };
                        let number = self.principals.insert(fresh);
                        self.by_principal.insert(principal.clone(), number);
                        number
                    }
                };
                (number, &mut self.principals.get_mut(number).expect("found or made just now").slots)
            }
        };
        slots.push(slot);
        (number, index(slots.len() - 1))
    }

    fn link_node(&mut self, hash: u64, parts: Arc<LockParts>, slot: u32) -> (u32, u32) {
        let same =
            |node: u32| self.nodes.get(node).is_some_and(|node| node.scope() == parts.scope && *node.root() == parts.root);
        if let Some(number) = self.by_hash.find(hash, same) {
            let node = self.nodes.get_mut(number).expect("found just now");
            return (number, node.add(parts.depth, slot));
        }
        let slots = Slots::One { depth: parts.depth, slot };
        let number = self.nodes.insert(Node { parts, hash, slots });
        let nodes = &self.nodes;
        let Some(Node { parts, .. }) = nodes.get(number) else { return (number, 0) };
        self.by_hash.insert(hash, number, |node| nodes.get(node).map_or(0, |node| node.hash));
        let space = match parts.root.namespace() {
            None => &mut self.plain,
            Some(namespace) => self.namespaces.entry(namespace.into()).or_default(),
        };
        space.of_mut(parts.scope).insert(parts.root.path(), number, |node| path_of(nodes, node));
        (number, 0)
    }

    /// Takes a lock or a mark out of every index and out of the filter. Writes it answers for are told that it ended.
    pub(super) fn unlink(&mut self, filter: &Filter, slot: u32) -> Option<Record> {
        self.requeue(slot, None);
        if !self.overdue.is_empty() {
            self.overdue.remove(&self.records.id(slot));
        }
        let record = self.records.remove(slot)?;
        record.pins.end();
        self.shallow -= usize::from(record.parts.depth == Depth::Zero);
        let prefixes = filter.seed.all(&record.parts.root);
        self.touch(filter, record.parts.id, &record.digest, &prefixes);
        filter.take(&mut self.tally, &prefixes);
        self.by_token.remove(record.digest.hash(), slot);
        self.by_id.remove(self.id_key.hash(record.parts.id), slot);
        self.unlink_principal(&record);
        self.unlink_node(&record);
        Some(record)
    }

    fn unlink_principal(&mut self, record: &Record) {
        let place = record.place;
        let slots = match self.principals.get_mut(place.principal) {
            Some(theirs) => &mut theirs.slots,
            None => &mut self.anonymous,
        };
        slots.swap_remove(place.of_principal as usize);
        if let Some(moved) = slots.get(place.of_principal as usize) {
            self.records.get_mut(*moved).expect("indexed, so it is here").place.of_principal = place.of_principal;
        } else if slots.is_empty()
            && let Some(theirs) = self.principals.remove(place.principal)
        {
            self.by_principal.remove(&theirs.principal);
        }
    }

    fn unlink_node(&mut self, record: &Record) {
        let Some(node) = self.nodes.get_mut(record.place.node) else { return };
        match node.take(record.parts.depth, record.place.in_node) {
            Left::Others { moved } => {
                if let Some(moved) = moved.and_then(|moved| self.records.get_mut(moved)) {
                    moved.place.in_node = record.place.in_node;
                }
                return;
            }
            Left::Nobody => {}
        }
        self.by_hash.remove(node.hash, record.place.node);
        let (root, scope) = (&record.parts.root, record.parts.scope);
        match root.namespace() {
            None => self.plain.of_mut(scope).remove(root.path(), record.place.node),
            Some(namespace) => {
                if let Some(space) = self.namespaces.get_mut(namespace) {
                    space.of_mut(scope).remove(root.path(), record.place.node);
                    if space.exclusive.is_empty() && space.shared.is_empty() {
                        self.namespaces.remove(namespace);
                    }
                }
            }
        }
        self.nodes.remove(record.place.node);
    }

    /// Says when to look whether a lock has ended by itself.
    pub(super) fn requeue(&mut self, slot: u32, at: Option<Timestamp>) {
        let Some(record) = self.records.get_mut(slot) else { return };
        let place = record.place.queued;
        if place != NOWHERE && self.expiry.at(place) == at {
            return;
        }
        record.place.queued = NOWHERE;
        let records = &mut self.records;
        let mut moved = |moved: Moved| {
            if let Some(record) = records.get_mut(moved.slot) {
                record.place.queued = moved.place;
            }
        };
        if place != NOWHERE {
            self.expiry.remove(place, &mut moved);
        }
        if let Some(at) = at {
            self.expiry.insert(at, slot, &mut moved);
        }
    }

    /// The lock that is next to be looked at, if its time has come.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<u32> {
        self.expiry.first().filter(|(at, _)| *at <= now).map(|(_, slot)| slot)
    }

    /// The lock or mark with this token, whether or not its time is up.
    pub(super) fn by_token(&self, digest: &TokenDigest) -> Option<u32> {
        self.by_token.find(digest.hash(), |slot| self.records.get(slot).is_some_and(|record| record.digest == *digest))
    }

    /// The lock or mark with this id, whether or not its time is up.
    pub(super) fn by_id(&self, id: LockId) -> Option<u32> {
        self.by_id.find(self.id_key.hash(id), |slot| self.records.get(slot).is_some_and(|record| record.parts.id == id))
    }

    /// The locks and marks of one principal.
    pub(super) fn of_principal(&self, principal: Option<&Principal>) -> &[u32] {
        let Some(principal) = principal else { return &self.anonymous };
        let theirs = self.by_principal.get(principal).and_then(|number| self.principals.get(*number));
        theirs.map_or(&[], |theirs| &theirs.slots)
    }

    /// Whether every lock and mark reaches down from its root.
    pub(super) fn all_reach_down(&self) -> bool {
        self.shallow == 0
    }

    /// The nodes rooted at `key` or above it, outermost first.
    pub(super) fn above<'t>(&'t self, filter: &Filter, key: &ResourceKey<'_>) -> SmallVec<[&'t Node; 4]> {
        let mut found = SmallVec::new();
        let _whole = self.each_above(filter, key, |node| {
            found.push(node);
            ControlFlow::Continue(())
        });
        found
    }

    /// Goes through the nodes rooted at `key` or above it, outermost first. Gives the last of its prefixes in the end, which is
    /// all of it.
    pub(super) fn each_above<'t>(
        &'t self,
        filter: &Filter,
        key: &ResourceKey<'_>,
        mut each: impl FnMut(&'t Node) -> ControlFlow<()>,
    ) -> ControlFlow<(), Prefix> {
        filter.each_covering(key, &mut |prefix| self.rooted_at(prefix, key).try_for_each(&mut each))
    }

    /// The nodes rooted at this prefix of `key`.
    fn rooted_at<'t>(&'t self, prefix: &Prefix, key: &ResourceKey<'_>) -> impl Iterator<Item = &'t Node> {
        let here = self.by_hash.candidates(prefix.hash).filter_map(|node| self.nodes.get(node));
        // A hash names nothing for certain; the path does.
        here.filter(move |node| {
            node.hash == prefix.hash
                && Some(node.root().path().as_bytes()) == key.path().as_bytes().get(..prefix.end)
                && node.root().namespace() == key.namespace()
        })
    }

    /// The nodes of `scope` rooted strictly below `key`, from path `from` on if that is further, in order.
    fn below_of<'t>(
        &'t self,
        key: &ResourceKey<'_>,
        scope: LockScope,
        from: Option<&str>,
    ) -> impl Iterator<Item = &'t Node> + use<'t> {
        let space = match key.namespace() {
            None => Some(&self.plain),
            Some(namespace) => self.namespaces.get(namespace),
        };
        let start = Joined::new(if key.is_root() { "" } else { key.path() }, b'/');
        let nodes = &self.nodes;
        let walk = space.map(|space| space.of(scope).starting(start.bytes(), from, |node| path_of(nodes, node)));
        let whole = key.path().len();
        // Everything is below the root but the root itself.
        walk.into_iter().flatten().filter_map(|node| nodes.get(node)).filter(move |node| node.root().path().len() > whole)
    }

    /// The nodes rooted strictly below `key`, from path `from` on if that is further, in the order of their paths.
    pub(super) fn below<'t>(
        &'t self,
        key: &ResourceKey<'_>,
        from: Option<&str>,
    ) -> impl Iterator<Item = &'t Node> + use<'t> {
        let mut exclusive = self.below_of(key, LockScope::Exclusive, from).peekable();
        let mut shared = self.below_of(key, LockScope::Shared, from).peekable();
        std::iter::from_fn(move || match (exclusive.peek(), shared.peek()) {
            (Some(one), Some(other)) if one.root().path() <= other.root().path() => exclusive.next(),
            (_, Some(_)) => shared.next(),
            (_, None) => exclusive.next(),
        })
    }

    /// Whether a new lock stands in nobody's way by the filter alone; mostly so where it does. `prefixes` are those of its root.
    pub(super) fn has_room(filter: &Filter, coming: &LockParts, prefixes: &[Prefix]) -> bool {
        let reaches_below = coming.depth == Depth::Infinity;
        filter.rooted_at(prefixes).next().is_none()
            && !(reaches_below && prefixes.last().is_none_or(|whole| filter.may_have_below(whole)))
    }

    /// The locks and marks that a new lock might not live beside, ended ones included. `prefixes` are those of its root.
    pub(super) fn in_the_way<'t>(
        &'t self,
        filter: &Filter,
        coming: &LockParts,
        prefixes: &[Prefix],
    ) -> impl Iterator<Item = u32> + use<'t> {
        // Shared locks do not conflict, so a shared one never looks at the others.
        let matters = match coming.scope {
            LockScope::Exclusive => &[LockScope::Exclusive, LockScope::Shared][..],
            LockScope::Shared => &[LockScope::Exclusive],
        };
        let mut slots: SmallVec<[&'t [u32]; 4]> = SmallVec::new();
        for node in filter.rooted_at(prefixes).flat_map(|prefix| self.rooted_at(prefix, &coming.root)) {
            for depth in [Depth::Infinity, Depth::Zero] {
                let overlap = rules::overlap((node.root(), depth), (&coming.root, coming.depth));
                if matters.contains(&node.scope()) && overlap {
                    slots.push(node.of(depth));
                }
            }
        }
        let whole = prefixes.last();
        let reaches_below = coming.depth == Depth::Infinity && whole.is_some_and(|whole| filter.may_have_below(whole));
        let root = &coming.root;
        let below = matters.iter().filter(move |_| reaches_below).map(|scope| self.below_of(root, *scope, None));
        let below: SmallVec<[_; 2]> = below.collect();
        slots.into_iter().flatten().copied().chain(below.into_iter().flatten().flat_map(Node::all))
    }

    /// What became of the lock with this token, as `asker` may know it; [`LostCause::Unknown`] when nothing is known.
    pub(super) fn lost(&self, digest: &TokenDigest, asker: Asker<'_>, now: Timestamp) -> LostLock {
        let unburied = self.by_token(digest).and_then(|slot| self.records.get(slot)).filter(|record| !record.is_mark());
        match unburied {
            Some(record) if asker.is(record.parts.principal.as_ref()) => record.end_by_itself(now),
            Some(_) => LostLock::new(LostCause::Unknown),
            None => self.graveyard.by_token(digest, asker, now).unwrap_or_else(|| LostLock::new(LostCause::Unknown)),
        }
    }

    /// What is known of the dead lock with this token, as `asker` may know it; none when nothing is.
    pub(super) fn gone(&self, digest: &TokenDigest, asker: Asker<'_>, now: Timestamp) -> Option<LostLock> {
        let leaving = self.by_token(digest).and_then(|slot| self.records.get(slot)?.leaving.as_ref());
        match leaving {
            Some(_) => Some(self.lost(digest, asker, now)),
            None => self.graveyard.by_token(digest, asker, now),
        }
    }

    /// Whether a lock with this id is gone, or about to go.
    pub(super) fn id_is_gone(&self, id: LockId, now: Timestamp) -> bool {
        let leaving = self.by_id(id).and_then(|slot| self.records.get(slot)?.leaving.as_ref());
        leaving.is_some() || self.graveyard.has_id(id, now)
    }
}

/// A path and one more byte, on the stack unless it is long: a DELETE that the filter sends here for nothing is to cost no
/// allocation.
struct Joined(SmallVec<[u8; 256]>);

impl Joined {
    fn new(path: &str, end: u8) -> Self {
        let mut joined = SmallVec::from_slice(path.as_bytes());
        joined.push(end);
        Self(joined)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn path_of(nodes: &Slab<Node>, node: u32) -> &str {
    nodes.get(node).map_or("", |node| node.root().path())
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("no more than there are slots")
}

#[cfg(test)]
mod tests;
