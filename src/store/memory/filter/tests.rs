use std::sync::Arc;

use super::*;
use crate::lock::{Claim, Depth, LockId, LockKind, LockScope, Owner};

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

fn parts(root: ResourceKey<'static>) -> Arc<LockParts> {
    Arc::new(LockParts {
        id: LockId::random(),
        root,
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: None,
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    })
}

/// A filter and all that is in it.
struct Model {
    filter: Filter,
    tally: Tally,
    all: Vec<Arc<LockParts>>,
}

impl Model {
    fn new() -> Self {
        Self { filter: Filter::new(), tally: Tally::default(), all: Vec::new() }
    }

    fn insert(&mut self, root: ResourceKey<'static>) {
        self.filter.insert(&mut self.tally, &root, self.all.iter().map(|parts| &**parts));
        self.all.push(parts(root));
    }

    fn remove(&mut self, at: usize) {
        let gone = self.all.swap_remove(at);
        self.filter.remove(&mut self.tally, &gone.root);
    }

    fn above(&self, key: &ResourceKey<'_>) -> bool {
        self.all.iter().any(|parts| parts.root == *key || key.is_below(&parts.root))
    }

    fn below(&self, key: &ResourceKey<'_>) -> bool {
        self.all.iter().any(|parts| parts.root.is_below(key))
    }
}

fn random(state: &mut u64, limit: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 20) % limit
}

fn some_path(state: &mut u64) -> ResourceKey<'static> {
    let depth = random(state, 6);
    let path: String = (0..depth).map(|_| format!("/segment{}", random(state, 7))).collect();
    let key = key(if path.is_empty() { "/" } else { &path });
    if random(state, 4) == 0 { key.in_namespace("tenant") } else { key }
}

#[test]
fn it_never_misses_a_lock_and_seldom_sees_one_that_is_not_there() {
    let (mut model, mut state) = (Model::new(), 0x1234_5678_9abc_def1);
    let (mut asked, mut wrong) = (0_u32, 0_u32);
    // Up over the first boundaries, and down to nothing again.
    for (steps, grow) in [(4_000, 3), (9_000, 1)] {
        for _ in 0..steps {
            if random(&mut state, 4) < grow || model.all.is_empty() {
                let root = some_path(&mut state);
                let root = if random(&mut state, 2) == 0 {
                    key(&format!("{}/leaf{}", root.path().trim_end_matches('/'), random(&mut state, 5_000)))
                } else {
                    root
                };
                model.insert(root);
            } else {
                let at = usize::try_from(random(&mut state, model.all.len() as u64)).unwrap();
                model.remove(at);
            }
            if random(&mut state, 8) == 0 {
                let target = some_path(&mut state);
                let (above, below) = (model.above(&target), model.below(&target));
                for (target, there) in [(Target::write(target.clone()), above), (Target::unlink(target), above || below)] {
                    let seen = model.filter.look(std::slice::from_ref(&target)) == Glance::Look;
                    assert!(seen || !there, "{target:?} is locked");
                    asked += u32::from(!there);
                    wrong += u32::from(seen && !there);
                }
            }
        }
    }
    assert!(asked > 100 && wrong * 5 < asked, "{wrong} of {asked} looks at nothing found something");
    while !model.all.is_empty() {
        model.remove(model.all.len() - 1);
    }
    assert_eq!(model.tally.used, 0);
    assert_eq!(model.filter.depths.load(Ordering::Relaxed), 0, "one load again");
}

#[test]
fn it_grows_before_it_is_half_full_and_finds_all_afterwards() {
    let mut model = Model::new();
    for at in 0..20_000 {
        model.insert(key(&format!("/docs/{at}")));
        if at % 997 == 0 {
            let seen = |at: usize| model.filter.look(&[Target::write(key(&format!("/docs/{at}/x")))]) == Glance::Look;
            assert!((0..=at).step_by(101).all(seen));
        }
    }
    let slots = model.filter.slots().len();
    assert!(model.tally.used <= slots / 2 + 2, "{} in {slots}", model.tally.used);
    let free = (0..10_000).filter(|at| model.filter.look(&[Target::write(key(&format!("/files/{at}")))]) == Glance::Clear);
    assert!(free.count() > 8_500);
}

#[test]
fn depths_beyond_the_mask_share_its_last_bit() {
    let mut model = Model::new();
    let deep = |levels: usize| key(&"/d".repeat(levels));
    for levels in [62, 63, 64, 200] {
        model.insert(deep(levels));
        assert_eq!(model.filter.look(&[Target::write(deep(levels))]), Glance::Look, "{levels}");
        assert_eq!(model.filter.look(&[Target::write(deep(levels + 1))]), Glance::Look, "{levels}");
        for above in [1, 61, levels - 1] {
            // Deeper than the mask tells apart, two hashes in one slot may cost a look.
            if above < 62 {
                assert_eq!(model.filter.look(&[Target::write(deep(above))]), Glance::Clear, "{above} above {levels}");
            }
            assert_eq!(model.filter.look(&[Target::unlink(deep(above))]), Glance::Look, "{above} above {levels}");
        }
        model.remove(0);
        assert_eq!(model.filter.look(&[Target::unlink(key("/"))]), Glance::Clear);
    }
}

#[test]
fn a_glance_during_a_change_settles_nothing() {
    let mut model = Model::new();
    model.insert(key("/a"));
    let free = [Target::write(key("/b"))];
    assert_eq!(model.filter.glance(&free), Glance::Clear);
    model.filter.changing();
    assert_eq!(model.filter.glance(&free), Glance::Look);
    model.filter.changed();
    assert_eq!(model.filter.glance(&free), Glance::Clear);
}
