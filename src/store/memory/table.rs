//! `Table`: all locks and marks, and the indexes by which none of them is looked for by scanning.
//!
//! Locks of one root and scope share a node, so ten thousand shared locks on one resource are one thing to whoever only
//! asks whether the resource is shared. Nodes are found from below by the hash of their path, and from above in the order
//! of their paths: what lies below `/a` stands together, between `/a/` and `/a0`.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    ops::Bound,
    sync::Arc,
};

use smallvec::SmallVec;

use super::{
    cooling::Cooling,
    filter::{Filter, Tally},
    graveyard::{Asker, Graveyard, Memory},
    record::Record,
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
    by_hash: HashMap<u64, SmallVec<[u32; 2]>, BuildHasherDefault<AsItIs>>,
    plain: Space,
    namespaces: HashMap<Box<str>, Space>,
    by_token: HashMap<TokenDigest, u32>,
    by_id: HashMap<LockId, u32>,
    by_principal: HashMap<Option<Principal>, Vec<u32>>,
    /// Those that end by themselves, by the time at which to look at them.
    expiry: BTreeSet<(Timestamp, u32)>,
    /// Those whose own time was up when they were looked at, while a write held them.
    pub(super) overdue: HashSet<SlotId>,
    tally: Tally,
    pub(super) graveyard: Graveyard,
    pub(super) cooling: Cooling,
    /// What watchers have still to hear of this step.
    pub(super) news: Vec<LockEvent>,
}

/// The roots of one namespace in order of their paths, exclusive and shared ones apart.
#[derive(Debug, Default)]
struct Space {
    exclusive: BTreeMap<RootPath, u32>,
    shared: BTreeMap<RootPath, u32>,
}

impl Space {
    fn of(&self, scope: LockScope) -> &BTreeMap<RootPath, u32> {
        match scope {
            LockScope::Exclusive => &self.exclusive,
            LockScope::Shared => &self.shared,
        }
    }

    fn of_mut(&mut self, scope: LockScope) -> &mut BTreeMap<RootPath, u32> {
        match scope {
            LockScope::Exclusive => &mut self.exclusive,
            LockScope::Shared => &mut self.shared,
        }
    }
}

/// The locks of one root and scope.
#[derive(Debug)]
pub(super) struct Node {
    /// The first lock of the node, for its root and scope.
    parts: Arc<LockParts>,
    hash: u64,
    zero: SmallVec<[u32; 2]>,
    infinity: SmallVec<[u32; 2]>,
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
        match depth {
            Depth::Zero => &self.zero,
            Depth::Infinity => &self.infinity,
        }
    }

    /// The slots of all its locks.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> + use<'_> {
        self.infinity.iter().chain(&self.zero).copied()
    }

    fn of_mut(&mut self, depth: Depth) -> &mut SmallVec<[u32; 2]> {
        match depth {
            Depth::Zero => &mut self.zero,
            Depth::Infinity => &mut self.infinity,
        }
    }
}

/// The path of a root, borrowed from one of the locks on it.
#[derive(Debug)]
struct RootPath(Arc<LockParts>);

impl Borrow<str> for RootPath {
    fn borrow(&self) -> &str {
        self.0.root.path()
    }
}

impl Ord for RootPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.root.path().cmp(other.0.root.path())
    }
}

impl PartialOrd for RootPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RootPath {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for RootPath {}

/// For numbers that are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Table {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            records: Slab::default(),
            nodes: Slab::default(),
            by_hash: HashMap::default(),
            plain: Space::default(),
            namespaces: HashMap::new(),
            by_token: HashMap::new(),
            by_id: HashMap::new(),
            by_principal: HashMap::new(),
            expiry: BTreeSet::new(),
            overdue: HashSet::new(),
            tally: Tally::default(),
            graveyard: Graveyard::new(memory),
            cooling: Cooling::default(),
            news: Vec::new(),
        }
    }

    /// Puts a lock or a mark into every index and into the filter.
    pub(super) fn link(&mut self, filter: &Filter, record: Record) -> u32 {
        filter.insert(&mut self.tally, &record.parts.root);
        let parts = record.parts.clone();
        let (digest, ends) = (record.digest, record.expires_at);
        let slot = self.records.insert(record);
        self.by_token.insert(digest, slot);
        self.by_id.insert(parts.id, slot);
        let of_principal = self.by_principal.entry(parts.principal.clone()).or_default();
        let place_of_principal = index(of_principal.len());
        of_principal.push(slot);
        let (node, in_node) = self.link_node(filter, &parts, slot);
        if let Some(record) = self.records.get_mut(slot) {
            record.place.of_principal = place_of_principal;
            record.place.node = node;
            record.place.in_node = in_node;
        }
        self.requeue(slot, ends);
        slot
    }

    fn link_node(&mut self, filter: &Filter, parts: &Arc<LockParts>, slot: u32) -> (u32, u32) {
        let hash = filter.seed.whole(&parts.root).hash;
        let here = self.by_hash.entry(hash).or_default();
        let same = |node: &&u32| {
            self.nodes.get(**node).is_some_and(|node| node.scope() == parts.scope && *node.root() == parts.root)
        };
        let node = match here.iter().find(same) {
            Some(node) => *node,
            None => {
                let fresh = Node { parts: parts.clone(), hash, zero: SmallVec::new(), infinity: SmallVec::new() };
                let node = self.nodes.insert(fresh);
                here.push(node);
                let space = match parts.root.namespace() {
                    None => &mut self.plain,
                    Some(namespace) => self.namespaces.entry(namespace.into()).or_default(),
                };
                space.of_mut(parts.scope).insert(RootPath(parts.clone()), node);
                node
            }
        };
        let slots = self.nodes.get_mut(node).expect("found or made just now").of_mut(parts.depth);
        slots.push(slot);
        (node, index(slots.len() - 1))
    }

    /// Takes a lock or a mark out of every index and out of the filter. Writes it answers for are told that it ended.
    pub(super) fn unlink(&mut self, filter: &Filter, slot: u32) -> Option<Record> {
        self.requeue(slot, None);
        self.overdue.remove(&self.records.id(slot));
        let record = self.records.remove(slot)?;
        record.pins.end();
        filter.remove(&mut self.tally, &record.parts.root);
        self.by_token.remove(&record.digest);
        self.by_id.remove(&record.parts.id);
        if let Some(slots) = self.by_principal.get_mut(&record.parts.principal) {
            slots.swap_remove(record.place.of_principal as usize);
            match slots.get(record.place.of_principal as usize) {
                Some(moved) => {
                    let place = &mut self.records.get_mut(*moved).expect("indexed, so it is here").place;
                    place.of_principal = record.place.of_principal;
                }
                None if slots.is_empty() => drop(self.by_principal.remove(&record.parts.principal)),
                None => {}
            }
        }
        self.unlink_node(&record);
        Some(record)
    }

    fn unlink_node(&mut self, record: &Record) {
        let Some(node) = self.nodes.get_mut(record.place.node) else { return };
        let slots = node.of_mut(record.parts.depth);
        slots.swap_remove(record.place.in_node as usize);
        if let Some(moved) = slots.get(record.place.in_node as usize) {
            self.records.get_mut(*moved).expect("indexed, so it is here").place.in_node = record.place.in_node;
        }
        if !(node.zero.is_empty() && node.infinity.is_empty()) {
            return;
        }
        let hash = node.hash;
        self.nodes.remove(record.place.node);
        if let Some(here) = self.by_hash.get_mut(&hash) {
            here.retain(|node| *node != record.place.node);
            if here.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
        let (root, scope) = (&record.parts.root, record.parts.scope);
        match root.namespace() {
            None => drop(self.plain.of_mut(scope).remove(root.path())),
            Some(namespace) => {
                if let Some(space) = self.namespaces.get_mut(namespace) {
                    space.of_mut(scope).remove(root.path());
                    if space.exclusive.is_empty() && space.shared.is_empty() {
                        self.namespaces.remove(namespace);
                    }
                }
            }
        }
    }

    /// Says when to look whether a lock has ended by itself.
    pub(super) fn requeue(&mut self, slot: u32, at: Option<Timestamp>) {
        let Some(record) = self.records.get_mut(slot) else { return };
        if record.queued == at {
            return;
        }
        if let Some(before) = std::mem::replace(&mut record.queued, at) {
            self.expiry.remove(&(before, slot));
        }
        if let Some(at) = at {
            self.expiry.insert((at, slot));
        }
    }

    /// The lock that is next to be looked at, if its time has come.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<u32> {
        self.expiry.first().filter(|(at, _)| *at <= now).map(|(_, slot)| *slot)
    }

    /// The lock or mark with this token, whether or not its time is up.
    pub(super) fn by_token(&self, digest: &TokenDigest) -> Option<u32> {
        self.by_token.get(digest).copied()
    }

    /// The lock or mark with this id, whether or not its time is up.
    pub(super) fn by_id(&self, id: LockId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// The locks and marks of one principal.
    pub(super) fn of_principal(&self, principal: Option<&Principal>) -> &[u32] {
        self.by_principal.get(&principal.cloned()).map_or(&[], |slots| slots)
    }

    /// The nodes rooted at `key` or above it, outermost first.
    pub(super) fn above<'t>(&'t self, filter: &Filter, key: &ResourceKey<'_>) -> SmallVec<[&'t Node; 4]> {
        let mut found = SmallVec::new();
        for prefix in filter.seed.prefixes(key) {
            if !filter.may_cover(&prefix) {
                continue;
            }
            let here = self.by_hash.get(&prefix.hash).into_iter().flatten().filter_map(|node| self.nodes.get(*node));
            // A hash names nothing for certain; the path does.
            found.extend(here.filter(|node| {
                node.root().path() == &key.path()[..prefix.end] && node.root().namespace() == key.namespace()
            }));
        }
        found
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
        let stem = if key.is_root() { "" } else { key.path() };
        // `0` is the byte after `/`. Everything is below the root but the root itself, which stands before all others.
        let (first, last) = (Joined::new(stem, b'/'), Joined::new(stem, b'0'));
        let (first, last) = (first.as_str(), last.as_str());
        let start = match from {
            Some(from) if from > first => Bound::Included(from),
            _ if key.is_root() => Bound::Excluded("/"),
            _ => Bound::Included(first),
        };
        let range = (from.is_none_or(|from| from < last))
            .then(|| space.map(|space| space.of(scope).range::<str, _>((start, Bound::Excluded(last)))));
        range.flatten().into_iter().flatten().filter_map(|(_, node)| self.nodes.get(*node))
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

    /// The locks and marks that a new lock might not live beside, ended ones included.
    pub(super) fn in_the_way<'t>(&'t self, filter: &Filter, coming: &LockParts) -> impl Iterator<Item = u32> + use<'t> {
        // Shared locks do not conflict, so a shared one never looks at the others.
        let matters = match coming.scope {
            LockScope::Exclusive => &[LockScope::Exclusive, LockScope::Shared][..],
            LockScope::Shared => &[LockScope::Exclusive],
        };
        let mut slots: SmallVec<[&'t [u32]; 4]> = SmallVec::new();
        for node in self.above(filter, &coming.root) {
            for depth in [Depth::Infinity, Depth::Zero] {
                let overlap = rules::overlap((node.root(), depth), (&coming.root, coming.depth));
                if matters.contains(&node.scope()) && overlap {
                    slots.push(node.of(depth));
                }
            }
        }
        let whole = filter.seed.whole(&coming.root);
        let reaches_below = coming.depth == Depth::Infinity && filter.may_have_below(&whole);
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

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a path and an ASCII byte")
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("no more than there are slots")
}
