use std::{
    sync::atomic::{AtomicBool, AtomicUsize},
    thread,
};

use super::*;

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

/// A filter and all that is in it.
struct Model {
    filter: Filter,
    tally: Tally,
    all: Vec<ResourceKey<'static>>,
}

impl Model {
    fn new() -> Self {
        Self { filter: Filter::new(), tally: Tally::default(), all: Vec::new() }
    }

    /// One in which no two paths of a test are mistaken for each other: for tests that say what is not seen.
    fn fixed() -> Self {
        Self { filter: Filter::seeded(Seed::fixed()), ..Self::new() }
    }

    fn insert(&mut self, root: ResourceKey<'static>) {
        self.filter.insert(&mut self.tally, &root);
        self.filter.changed();
        self.all.push(root);
    }

    fn remove(&mut self, at: usize) {
        let gone = self.all.swap_remove(at);
        self.filter.remove(&mut self.tally, &gone);
        self.filter.changed();
    }

    fn sees(&self, target: Target<'_>) -> bool {
        let targets = [target];
        let seen = self.filter.look(&targets);
        assert_eq!(self.filter.glance(&targets), seen, "nothing changes meanwhile");
        seen == Glance::Look
    }

    fn above(&self, key: &ResourceKey<'_>) -> bool {
        self.all.iter().any(|root| root == key || key.is_below(root))
    }

    fn below(&self, key: &ResourceKey<'_>) -> bool {
        self.all.iter().any(|root| root.is_below(key))
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
                    let seen = model.sees(target.clone());
                    assert!(seen || !there, "{target:?} is locked");
                    asked += u32::from(!there);
                    wrong += u32::from(seen && !there);
                }
            }
        }
    }
    assert!(asked > 100 && wrong * 100 < asked, "{wrong} of {asked} looks at nothing found something");
    while !model.all.is_empty() {
        model.remove(model.all.len() - 1);
    }
    assert_eq!(model.tally.entries.used(), 0);
    assert_eq!(model.filter.depths.load(Ordering::Relaxed), 0, "one load again");
}

#[test]
fn it_grows_before_it_is_full_and_finds_all_afterwards() {
    let mut model = Model::new();
    for at in 0..20_000 {
        model.insert(key(&format!("/docs/{at}")));
        assert!(model.tally.entries.used() <= model.filter.level_groups() * 3, "{at}");
        if at % 997 == 0 {
            assert!((0..=at).step_by(101).all(|at| model.sees(Target::write(key(&format!("/docs/{at}/x"))))));
        }
    }
    let free = |at: &usize| !model.sees(Target::write(key(&format!("/docs/{}", at + 20_000))));
    assert!((0..10_000).filter(free).count() > 9_900);
    let elsewhere = |at: &usize| !model.sees(Target::unlink(key(&format!("/files/{at}"))));
    assert!((0..10_000).filter(elsewhere).count() > 9_900);
}

#[test]
fn what_was_taken_out_costs_nothing_later() {
    let mut model = Model::new();
    model.insert(key("/kept/for/ever"));
    // Far more than there are places, but never many at once.
    for at in 0..50_000 {
        model.insert(key(&format!("/docs/{at}/x")));
        if model.all.len() > 100 {
            model.remove(1);
        }
        assert!(model.sees(Target::unlink(key("/kept"))));
    }
    assert_eq!(model.filter.level.load(Ordering::Relaxed), 0, "it did not grow");
    let free = |at: &usize| !model.sees(Target::unlink(key(&format!("/docs/{at}"))));
    assert!((0..49_000).filter(free).count() > 48_500);
}

#[test]
fn one_root_with_more_ancestors_than_there_are_places_finds_room() {
    let mut model = Model::fixed();
    model.insert(key("/a/b"));
    let long = "/x".repeat(4_000);
    model.insert(key(&long));
    assert!(model.sees(Target::write(key(&format!("{long}/y")))) && model.sees(Target::unlink(key("/x"))));
    assert!(model.sees(Target::write(key("/a/b"))) && !model.sees(Target::unlink(key("/y"))));
}

#[test]
fn many_locks_on_one_root_are_counted() {
    let mut model = Model::fixed();
    let most = 1 << 16;
    (0..most).for_each(|_| model.insert(key("/a/b/c")));
    assert!(model.sees(Target::write(key("/a/b/c/d"))) && model.sees(Target::unlink(key("/a"))));
    (1..most).for_each(|_| model.remove(0));
    assert!(model.sees(Target::write(key("/a/b/c/d"))) && model.sees(Target::unlink(key("/a/b"))));
    model.remove(0);
    assert!(!model.sees(Target::write(key("/a/b/c/d"))) && !model.sees(Target::unlink(key("/"))));
}

#[test]
fn exact_keys_are_seen_as_coverage_has_it() {
    let paths = ["/", "//", "/a", "/a/", "/a//", "/a//b", "//b", "//b/", "///", "/abcdefg", "/abcdefg/", "/abcdefgh/i"];
    for root in paths {
        let mut model = Model::fixed();
        model.insert(key(root));
        for path in paths {
            let (above, below) = (model.above(&key(path)), model.below(&key(path)));
            assert!(model.sees(Target::write(key(path))) || !above, "{root} covers {path}");
            assert!(model.sees(Target::unlink(key(path))) || !(above || below), "{root} is at, above or below {path}");
        }
    }
}

#[test]
fn a_lock_on_the_root_or_on_a_first_segment_is_seen_where_nothing_is_below() {
    for root in ["/", "/a"] {
        let mut model = Model::fixed();
        // Something at the depth that is asked about, so that the look goes as far.
        model.insert(key("/other/x/y/z"));
        assert!(!model.sees(Target::write(key("/a/x/y/z"))));
        model.insert(key(root));
        assert!(model.sees(Target::write(key("/a/x/y/z"))), "{root}");
    }
}

#[test]
fn namespaces_are_apart() {
    let mut model = Model::fixed();
    model.insert(key("/a/b").in_namespace("one"));
    assert!(model.sees(Target::write(key("/a/b/c").in_namespace("one"))));
    assert!(model.sees(Target::unlink(key("/").in_namespace("one"))));
    for other in [key("/a/b/c"), key("/a/b/c").in_namespace("two"), key("/a/b/c").in_namespace("")] {
        assert!(!model.sees(Target::unlink(other)));
    }
}

#[test]
fn readers_never_miss_what_stays_while_others_come_and_go() {
    let mut model = Model::fixed();
    let staying: Vec<_> = (0..200).map(|at| key(&format!("/staying/{}/{at}", at % 7))).collect();
    staying.iter().for_each(|root| model.insert(root.clone()));
    let (filter, tally) = (&model.filter, &mut model.tally);
    let (done, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for root in &staying {
                        assert_eq!(filter.look(&[Target::write(root.borrowed())]), Glance::Look, "{root} is locked");
                        assert_eq!(filter.glance(&[Target::unlink(root.borrowed())]), Glance::Look, "{root} is locked");
                    }
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Over four boundaries, and then up and down at one size.
        let coming: Vec<_> = (0..20_000).map(|at| key(&format!("/staying/{}/x/{at}", at % 7))).collect();
        let insert = |tally: &mut Tally, root: &ResourceKey<'_>| {
            filter.insert(tally, root);
            filter.changed();
        };
        coming[..10_000].iter().for_each(|root| insert(tally, root));
        let mut round = 0;
        while round < 10 || looks.load(Ordering::Relaxed) < 30 {
            for (old, new) in coming[..10_000].iter().zip(&coming[10_000..]) {
                let (old, new) = if round % 2 == 0 { (old, new) } else { (new, old) };
                insert(tally, new);
                filter.remove(tally, old);
                filter.changed();
            }
            round += 1;
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn one_lock_that_takes_the_place_of_another_is_never_seen_half_done() {
    let mut model = Model::fixed();
    model.insert(key("/a"));
    model.filter.remove(&mut model.tally, &key("/a"));
    // The only lock of all is gone for a moment: a write that nobody waits for must not slip through here.
    assert_eq!(model.filter.glance(&[Target::write(key("/a"))]), Glance::Look);
    model.filter.insert(&mut model.tally, &key("/a"));
    model.filter.changed();
    assert_eq!(model.filter.glance(&[Target::write(key("/a"))]), Glance::Look);
}

#[test]
fn depths_beyond_the_mask_share_its_last_bit() {
    let mut model = Model::fixed();
    let deep = |levels: usize| key(&"/d".repeat(levels));
    for levels in [61, 62, 63, 64, 65, 66, 200] {
        model.insert(deep(levels));
        assert!(model.sees(Target::write(deep(levels))), "{levels}");
        assert!(model.sees(Target::write(deep(levels + 1))), "{levels}");
        for above in [1, 2, 60, levels - 1] {
            assert!(!model.sees(Target::write(deep(above))), "{above} above {levels}");
            assert!(model.sees(Target::unlink(deep(above))), "{above} above {levels}");
        }
        model.remove(0);
        assert!(!model.sees(Target::unlink(key("/"))));
    }
}

#[test]
fn a_glance_settles_nothing_from_where_a_lock_goes_until_the_step_ends() {
    let mut model = Model::fixed();
    model.insert(key("/a"));
    let free = [Target::write(key("/b"))];
    // Whoever misses what a step enters has looked before it.
    model.filter.insert(&mut model.tally, &key("/c"));
    assert_eq!(model.filter.glance(&free), Glance::Clear);
    model.filter.remove(&mut model.tally, &key("/c"));
    assert_eq!(model.filter.glance(&free), Glance::Look);
    model.filter.insert(&mut model.tally, &key("/c"));
    assert_eq!(model.filter.glance(&free), Glance::Look);
    model.filter.changed();
    assert_eq!(model.filter.glance(&free), Glance::Clear);
    assert_eq!(model.filter.glance(&[Target::write(key("/c"))]), Glance::Look);
}
