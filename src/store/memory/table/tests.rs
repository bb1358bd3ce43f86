//! Whatever comes and goes, every index says what a scan of everything would say.

use super::*;
use crate::{
    lock::{Claim, LockKind, LockToken, Owner, Target, TokenKey},
    store::memory::{
        filter::Glance,
        pins::Pins,
        record::{Ends, Rivalry, Stage},
    },
};

const NAMESPACES: [Option<&str>; 3] = [None, Some("t"), Some("")];
const SCOPES: [LockScope; 2] = [LockScope::Exclusive, LockScope::Shared];
const DEPTHS: [Depth; 2] = [Depth::Infinity, Depth::Zero];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// Few paths, of which many are prefixes of others, as text or by segments; exact keys with empty segments too.
    fn key(&mut self) -> ResourceKey<'static> {
        let parts = ["/", "/a", "/a", "/ab", "/a/b", "/ä", "/a\u{1}", "/a0", "/12345678"];
        let path: String = (0..self.below(4)).map(|_| parts[self.below(parts.len())]).collect();
        let key = ResourceKey::from_canonical(if path.is_empty() { "/".into() } else { path });
        match NAMESPACES[self.below(6) % 4 % 3] {
            None => key,
            Some(namespace) => key.in_namespace(namespace),
        }
    }

    fn principal(&mut self) -> Option<Principal> {
        [None, Some("alice"), Some("bob"), Some("")][self.below(4)].map(Principal::new)
    }

    fn parts(&mut self) -> LockParts {
        LockParts {
            id: LockId::random(),
            root: self.key(),
            scope: SCOPES[self.below(2)],
            depth: DEPTHS[self.below(2)],
            kind: LockKind::User,
            principal: self.principal(),
            owner: Owner::default(),
            reason: None,
            client_ref: None,
            claim: Claim::Made,
        }
    }
}

/// One that was put in.
struct Linked {
    slot: u32,
    parts: Arc<LockParts>,
    digest: TokenDigest,
    at: Option<Timestamp>,
}

struct Model {
    filter: Filter,
    table: Table,
    all: Vec<Linked>,
    key: TokenKey,
}

impl Model {
    fn link(&mut self, parts: LockParts) {
        let (parts, digest) = (Arc::new(parts), self.key.digest(&LockToken::random()));
        let record = Record {
            parts: parts.clone(),
            digest,
            stage: Stage::Held,
            created_at: Timestamp::EPOCH,
            expires_at: Ends::NEVER,
            life_end: Ends::NEVER,
            span: None.into(),
            most: None.into(),
            generation: 0,
            leaving: None,
            pins: Arc::<Pins>::default(),
            rivalry: Rivalry::Never,
            place: Place::default(),
        };
        let prefixes = self.filter.seed.all(&record.parts.root);
        let slot = self.table.link(&self.filter, record, &prefixes);
        self.filter.changed();
        self.all.push(Linked { slot, parts, digest, at: None });
    }

    fn unlink(&mut self, at: usize) {
        let gone = self.all.swap_remove(at);
        let record = self.table.unlink(&self.filter, gone.slot).expect("it is there");
        self.filter.changed();
        assert_eq!((record.parts.id, record.digest), (gone.parts.id, gone.digest));
        assert!(
            record.pins.ended() && self.table.by_token(&gone.digest).is_none() && self.table.by_id(gone.parts.id).is_none()
        );
    }

    fn requeue(&mut self, at: usize, time: Option<Timestamp>) {
        self.all[at].at = time;
        self.table.requeue(self.all[at].slot, time);
    }

    fn slots(&self, is: impl Fn(&LockParts) -> bool) -> Vec<u32> {
        sorted(self.all.iter().filter(|linked| is(&linked.parts)).map(|linked| linked.slot))
    }

    /// Everything is where it is said to be.
    fn check_places(&self) {
        assert_eq!(self.table.records.len(), self.all.len());
        for linked in &self.all {
            assert_eq!(self.table.by_token(&linked.digest), Some(linked.slot));
            assert_eq!(self.table.by_id(linked.parts.id), Some(linked.slot));
            let place = self.table.records.get(linked.slot).unwrap().place;
            let node = self.table.nodes.get(place.node).unwrap();
            assert_eq!((node.root(), node.scope()), (&linked.parts.root, linked.parts.scope));
            assert_eq!(node.of(linked.parts.depth)[place.in_node as usize], linked.slot);
            let theirs = self.table.of_principal(linked.parts.principal.as_ref());
            assert_eq!(theirs[place.of_principal as usize], linked.slot);
            assert_eq!(self.table.expiry.at(place.queued), linked.at);
        }
        for principal in [None, Some("alice"), Some("bob"), Some(""), Some("nobody")] {
            let principal = principal.map(Principal::new);
            let theirs = sorted(self.table.of_principal(principal.as_ref()).iter().copied());
            assert_eq!(theirs, self.slots(|parts| parts.principal == principal));
        }
        let first = self.all.iter().filter_map(|linked| Some((linked.at?, linked.slot))).min();
        assert_eq!(self.table.next_due(Timestamp::MAX), first.map(|(_, slot)| slot));
    }

    fn check_about(&self, coming: &LockParts, from: &str) {
        let key = &coming.root;
        let above = self.table.above(&self.filter, key);
        let found = sorted(above.iter().flat_map(|node| node.all()));
        let covers = |parts: &LockParts| rules::covers(&parts.root, Depth::Infinity, key);
        assert_eq!(found, self.slots(covers), "at or above {key:?}");
        assert!(above.is_sorted_by_key(|node| node.root().path().len()), "outermost first");
        let mut one_by_one: Vec<&Node> = Vec::new();
        let whole = self.table.each_above(&self.filter, key, |node| {
            one_by_one.push(node);
            ControlFlow::Continue(())
        });
        assert_eq!(whole, ControlFlow::Continue(self.filter.seed.whole(key)));
        assert!(one_by_one.is_sorted_by_key(|node| node.root().path().len()), "outermost first");
        assert_eq!(sorted(one_by_one.iter().flat_map(|node| node.all())), found);
        let mut first = 0;
        let stopped = self.table.each_above(&self.filter, key, |_| {
            first += 1;
            ControlFlow::Break(())
        });
        assert_eq!((first, stopped.is_break()), if found.is_empty() { (0, false) } else { (1, true) }, "no further");

        for from in [None, Some(from)] {
            let below: Vec<&Node> = self.table.below(key, from).collect();
            let found = sorted(below.iter().flat_map(|node| node.all()));
            let further = |parts: &LockParts| from.is_none_or(|from| parts.root.path() >= from);
            assert_eq!(found, self.slots(|parts| parts.root.is_below(key) && further(parts)), "below {key:?} from {from:?}");
            assert!(below.is_sorted_by_key(|node| node.root().path()), "in order");
            assert!(below.len() <= found.len(), "each once");
        }

        let in_the_way: Vec<u32> =
            self.table.in_the_way(&self.filter, coming, &self.filter.seed.all(&coming.root)).collect();
        assert_eq!(sorted(in_the_way.iter().copied()), self.slots(|parts| rules::conflict(parts, coming)), "{coming:?}");

        let sees = |target| self.filter.look(&[target]) == Glance::Look;
        let touched = |target: &Target<'_>| self.all.iter().any(|l| rules::touches(&l.parts.root, l.parts.depth, target));
        for target in [Target::write(key.clone()), Target::unlink(key.clone())] {
            assert!(sees(target.clone()) || !touched(&target), "{target:?}");
        }
    }
}

/// In order, and each once: the root is met twice above an exact key that starts with an empty segment.
fn sorted(slots: impl Iterator<Item = u32>) -> Vec<u32> {
    let slots: std::collections::BTreeSet<u32> = slots.collect();
    slots.into_iter().collect()
}

#[test]
fn random_histories_leave_every_index_as_a_scan_would_have_it_and_nothing_behind() {
    let mut random = Random(11);
    let mut model =
        Model { filter: Filter::new(), table: Table::new(Memory::default()), all: Vec::new(), key: TokenKey::random() };
    for most in [3, 40, 400] {
        for step in 0..1_200 {
            let fills = model.all.len() < most && random.below(9) < if step % 500 < 300 { 6 } else { 3 };
            if fills || model.all.is_empty() {
                let parts = random.parts();
                model.link(parts);
            } else {
                let at = random.below(model.all.len());
                match random.below(3) {
                    0 => model.requeue(at, None),
                    1 => model.requeue(at, Some(Timestamp::from_micros(random.below(50) as u64))),
                    _ => model.unlink(at),
                }
            }
            let (coming, from) = (random.parts(), random.key());
            model.check_about(&coming, from.path());
            if step % 10 == 0 {
                model.check_places();
            }
        }
        while !model.all.is_empty() {
            model.unlink(random.below(model.all.len()));
            model.check_places();
        }
        let table = &model.table;
        assert_eq!((table.nodes.len(), table.principals.len(), table.by_principal.len()), (0, 0, 0));
        assert!(table.namespaces.is_empty() && table.plain.exclusive.is_empty() && table.plain.shared.is_empty());
        assert_eq!([table.by_hash.len(), table.by_token.len(), table.by_id.len()], [0; 3]);
        let everything = [Target::unlink(ResourceKey::from_canonical("/"))];
        assert_eq!(model.filter.look(&everything), Glance::Clear, "and the filter is empty again");
    }
}
