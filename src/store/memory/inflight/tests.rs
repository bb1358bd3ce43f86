use std::{
    sync::atomic::AtomicUsize,
    task::{Context, Wake, Waker},
};

use super::{slot::KEEP, *};
use crate::{
    lock::{Claim, Depth, LockId, LockKind, LockScope, Owner, ResourceKey},
    store::InFlight,
};

pub(super) fn parts(path: &str, scope: LockScope) -> Arc<LockParts> {
    Arc::new(LockParts {
        id: LockId::random(),
        root: ResourceKey::from_canonical(path.to_owned()),
        scope,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: None,
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    })
}

pub(super) fn exclusive(path: &str) -> Arc<LockParts> {
    parts(path, LockScope::Exclusive)
}

pub(super) fn write(path: &str) -> [Target<'_>; 1] {
    [Target::write(ResourceKey::from_canonical(path))]
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_registered_write_is_met_until_its_permit_goes() {
    let registry = Registry::new();
    let permit = registry.register(&write("/a/b"), 7, []);
    assert_eq!(permit.generation(), 7);
    assert!(registry.meets(&[exclusive("/a")], None));
    assert!(!registry.meets(&[exclusive("/a")], permit.id()), "the caller's own write is not waited for");
    assert!(!registry.meets(&[exclusive("/a/bc")], None));
    drop(permit);
    assert!(!registry.meets(&[exclusive("/a")], None));
    assert_eq!(registry.len(), 0);
}

#[test]
fn namespaces_and_long_paths_are_kept_as_they_are() {
    let registry = Registry::new();
    let long = format!("/{}", "x".repeat(8 * 1024));
    let targets = [
        Target::write(ResourceKey::from_canonical("/a").in_namespace("one")),
        Target::unlink(ResourceKey::from_canonical(&*long)),
        Target::write_member(ResourceKey::from_canonical("/n/%00").in_namespace("")),
    ];
    let permit = registry.register(&targets, 1, []);
    let within = |path: &str, namespace: &'static str| {
        let plain = exclusive(path);
        Arc::new(LockParts { root: plain.root.clone().in_namespace(namespace), ..(*plain).clone() })
    };
    assert!(registry.meets(&[within("/a", "one")], None) && registry.meets(&[within("/n", "")], None));
    assert!(registry.meets(&[exclusive(&long)], None) && registry.meets(&[exclusive(&format!("{long}/below"))], None));
    for other in [within("/a", "two"), within("/a", ""), exclusive("/a"), exclusive("/n")] {
        assert!(!registry.meets(std::slice::from_ref(&other), None), "{other:?}");
    }
    drop(permit);
    let kept = registry.home.slots().iter().map(|slot| slot.kept()).sum::<usize>();
    assert!(kept <= KEEP, "long texts are given back");
}

#[test]
fn an_id_means_nothing_once_its_write_has_ended() {
    let registry = Registry::new();
    let first = registry.register(&write("/a"), 1, []);
    let id = first.id().unwrap();
    drop(first);
    let second = registry.register(&write("/a"), 2, []);
    let slots = registry.home.slots();
    assert_eq!(slots.len(), 1, "the slot is used again");
    slots[0].clone().end(id);
    assert!(registry.meets(&[exclusive("/a")], None), "the first one's id does not end the second");
    assert_eq!((second.generation(), slots[0].generation(id)), (2, 0));
}

#[test]
fn a_latch_opens_when_the_last_write_ends_and_wakes_once() {
    let registry = Registry::new();
    let (one, other) = (registry.register(&write("/a/1"), 1, []), registry.register(&write("/a/2"), 1, []));
    let latch = Latch::new(Box::new([exclusive("/a")]));
    assert_eq!(registry.attach(&latch, None).len(), 2);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(latch.poll(&mut cx).is_pending());
    drop(one);
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    drop(other);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(latch.poll(&mut cx).is_ready());
}

#[test]
fn a_latch_taken_off_leaves_nothing_with_the_writes() {
    let registry = Registry::new();
    let permit = registry.register(&write("/a/1"), 1, []);
    for _ in 0..100 {
        let latch = Latch::new(Box::new([exclusive("/a")]));
        let writes = registry.attach(&latch, None);
        detach(&latch, &writes);
        assert_eq!(Arc::strong_count(&latch), 1);
    }
    drop(permit);
}

#[test]
fn a_shared_lock_excuses_its_write_from_other_shared_ones_while_it_lives() {
    let registry = Registry::new();
    let own = Answering::new(&parts("/a/1", LockScope::Shared), Arc::default());
    let pins = own.pins.clone();
    pins.pin().unwrap();
    let permit = registry.register(&write("/a/1"), 1, [own]);
    assert!(!registry.meets(&[parts("/a", LockScope::Shared)], None));
    assert!(registry.meets(&[exclusive("/a")], None));
    pins.end();
    assert!(registry.meets(&[parts("/a", LockScope::Shared)], None), "a lock that ended excuses nothing any more");
    drop(permit);
    assert!(!pins.in_use(), "its pin went with it");
}

fn far_and_near() -> Vec<String> {
    let mut paths: Vec<String> = ["/", "/a", "/ab", "/a/b", "/a/bc", "/a/b/c", "/b", "/a\u{e9}"].map(str::to_owned).into();
    // Around every border between words, and beyond what fits into a slot.
    for len in [6, 7, 8, 9, 15, 16, 17, 63, 64, 65, 135, 136, 137, 143, 144, 145, 300] {
        paths.push(format!("/{}", "x".repeat(len - 1)));
        paths.push(format!("/{}/y", "x".repeat(len - 1)));
    }
    paths
}

#[test]
fn exactly_the_writes_that_a_lock_would_refuse_are_met() {
    let registry = Registry::new();
    let paths = far_and_near();
    let long = "n".repeat(140);
    let (mut met, mut missed) = (0, 0);
    for namespace in [None, Some(""), Some("one"), Some("one two three"), Some(&*long)] {
        for path in &paths {
            let key = ResourceKey::from_canonical(&**path);
            let key = namespace.into_iter().fold(key, ResourceKey::in_namespace);
            let targets =
                [Target::write(key.clone()), Target::write_member(key.clone()), Target::unlink(key)].map(|target| [target]);
            for target in targets {
                let permit = registry.register(&target, 1, []);
                for root in &paths {
                    for other in [namespace, None, Some("one")] {
                        for depth in [Depth::Zero, Depth::Infinity] {
                            let plain = exclusive(root);
                            let root = other
                                .into_iter()
                                .fold(plain.root.clone(), |key, namespace| key.in_namespace(namespace.to_owned()));
                            let coming = Arc::new(LockParts { root, depth, ..(*plain).clone() });
                            let refused = crate::lock::rules::would_refuse(&coming, &target, &[]);
                            assert_eq!(
                                registry.meets(std::slice::from_ref(&coming), None),
                                refused,
                                "{target:?} {coming:?}"
                            );
                            if refused { met += 1 } else { missed += 1 }
                        }
                    }
                }
                drop(permit);
            }
        }
    }
    assert!(met > 1_000 && missed > 1_000, "{met} {missed}");
    assert_eq!(registry.home.slots().len(), 1);
}

#[test]
fn a_write_of_several_targets_is_met_by_each_and_one_of_none_by_nobody() {
    let registry = Registry::new();
    let key = |path: &'static str| ResourceKey::from_canonical(path);
    let both = registry.register(&[Target::unlink(key("/from")), Target::write(key("/to"))], 1, []);
    assert!(registry.meets(&[exclusive("/from/below")], None) && registry.meets(&[exclusive("/to")], None));
    assert!(!registry.meets(&[exclusive("/to/below")], None) && !registry.meets(&[exclusive("/other")], None));
    drop(both);
    let none = registry.register(&[], 1, []);
    assert!(!registry.meets(&[exclusive("/")], None) && registry.len() == 1);
    drop(none);
}

#[test]
fn ids_are_never_given_twice() {
    let registry = Registry::new();
    let other = registry.register(&write("/b"), 1, []);
    let mut last = 0;
    for _ in 0..slot::IDS + 10 {
        let id = registry.register(&write("/a"), 1, []).id().unwrap().bits();
        assert!(id > last && Some(WriteId::from_bits(id)) != other.id());
        last = id;
    }
    assert_eq!(registry.home.slots().len(), 2);
}

#[test]
fn a_permit_that_outlives_its_store_ends_alone() {
    let registry = Registry::new();
    let home = Arc::downgrade(&registry.home);
    let permits: Vec<Permit> = (0..200).map(|n| registry.register(&write("/a"), n, [])).collect();
    drop(registry);
    assert!(home.upgrade().is_none(), "the slots do not keep the store");
    assert_eq!(permits[3].generation(), 3);
    drop(permits);
    let other = Registry::new();
    let permit = other.register(&write("/a"), 1, []);
    assert!(other.meets(&[exclusive("/a")], None), "what is left of the one is not taken for the other's");
    drop(permit);
}

#[test]
fn thousands_of_stores_share_a_thread() {
    let stores: Vec<Registry> = (0..3_000).map(|_| Registry::new()).collect();
    for round in 1..4 {
        for store in &stores {
            let one = store.register(&write("/a"), round, []);
            let two = store.register(&write("/b"), round, []);
            assert!(store.meets(&[exclusive("/a")], two.id()) && !store.meets(&[exclusive("/a")], one.id()));
            assert_eq!((one.generation(), store.len()), (round, 2));
        }
    }
    assert!(stores.iter().all(|store| store.len() == 0 && store.home.slots().len() <= 4), "they use theirs again");
}

#[test]
fn writes_end_on_other_threads_than_they_were_admitted_on() {
    let registry = Registry::new();
    let (admitted, permits) = std::sync::mpsc::sync_channel::<Permit>(100);
    std::thread::scope(|scope| {
        scope.spawn(move || permits.into_iter().for_each(drop));
        for n in 0..20_000 {
            admitted.send(registry.register(&write("/a"), n, [])).unwrap();
        }
        drop(admitted);
    });
    assert_eq!(registry.len(), 0);
    assert!(registry.home.slots().len() < 1_000, "{} slots", registry.home.slots().len());
}

#[test]
fn threads_that_are_gone_leave_no_slots_behind() {
    struct Late(Option<Arc<Registry>>);
    impl Drop for Late {
        fn drop(&mut self) {
            let registry = self.0.take().unwrap();
            let permit = registry.register(&write("/late"), 1, []);
            assert!(registry.meets(&[exclusive("/late")], None));
            drop(permit);
        }
    }
    thread_local! {
        static LATE: std::cell::RefCell<Late> = const { std::cell::RefCell::new(Late(None)) };
    }
    let registry = Arc::new(Registry::new());
    for n in 0..400 {
        let registry = registry.clone();
        let thread = std::thread::spawn(move || {
            // A write while the thread is torn down, before or after what it keeps is gone.
            if n % 2 == 0 {
                LATE.with(|late| late.borrow_mut().0 = Some(registry.clone()));
            }
            let permits: Vec<Permit> = (0..3).map(|_| registry.register(&write("/a"), 1, [])).collect();
            drop(permits);
            if n % 2 == 1 {
                LATE.with(|late| late.borrow_mut().0 = Some(registry));
            }
        });
        thread.join().unwrap();
    }
    assert_eq!(registry.len(), 0);
    assert!(registry.home.slots().len() <= 130, "{} slots", registry.home.slots().len());
}

#[test]
fn after_a_peak_memory_is_given_back_and_scans_are_short_again() {
    let registry = Registry::new();
    let permits: Vec<Permit> = (0..100_000).map(|n| registry.register(&write("/a"), n, [])).collect();
    assert_eq!((registry.len(), registry.home.slots().len()), (100_000, 100_000));
    assert!(registry.meets(&[exclusive("/a")], None));
    // On two threads, of which one goes away.
    let mut ends = permits.into_iter();
    let here: Vec<Permit> = ends.by_ref().take(50_000).collect();
    std::thread::scope(|scope| scope.spawn(|| ends.for_each(drop)).join().unwrap());
    assert_eq!(registry.len(), 50_000);
    drop(here);
    for _ in 0..100 {
        assert!(!registry.meets(&[exclusive("/a")], None));
    }
    assert!(registry.home.slots().len() < 256, "{} slots", registry.home.slots().len());
    let again: Vec<Permit> = (0..1_000).map(|n| registry.register(&write("/a"), n, [])).collect();
    assert_eq!(registry.len(), 1_000);
    drop(again);
}

#[test]
fn an_acquire_waits_for_one_write_however_often_its_slot_is_used_again() {
    let registry = Registry::new();
    let first = registry.register(&write("/a/1"), 1, []);
    let latch = Latch::new(Box::new([exclusive("/a")]));
    let met = registry.attach(&latch, None);
    assert_eq!(met.len(), 1);
    drop(first);
    for n in 0..1_000 {
        drop(registry.register(&write("/a/2"), n, []));
    }
    assert!(latch.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    detach(&latch, &met);
    assert_eq!(Arc::strong_count(&latch), 1);
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_waiting() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as a waker may");
        }
    }
    let registry = Registry::new();
    let permit = registry.register(&write("/a"), 1, []);
    let woken = Arc::new(Woken::default());
    let wakers = [
        Waker::from(Arc::new(Panics)),
        Waker::from(woken.clone()),
        Waker::from(Arc::new(Panics)),
        Waker::from(woken.clone()),
    ];
    let latches = wakers.each_ref().map(|waker| {
        let latch = Latch::new(Box::new([exclusive("/a")]));
        assert_eq!(registry.attach(&latch, None).len(), 1);
        assert!(latch.poll(&mut Context::from_waker(waker)).is_pending());
        latch
    });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(permit))).is_err());
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert!(latches.iter().all(|latch| latch.poll(&mut Context::from_waker(Waker::noop())).is_ready()));
    let again = registry.register(&write("/b"), 1, []);
    assert_eq!((registry.len(), registry.home.slots().len()), (1, 1), "the slot is used again");
    drop(again);
}

#[test]
fn a_permit_that_is_leaked_is_met_for_ever_and_hurts_nobody_else() {
    let registry = Registry::new();
    std::mem::forget(registry.register(&write("/leaked"), 1, []));
    for n in 0..200 {
        let permit = registry.register(&write("/a"), n, []);
        assert!(registry.meets(&[exclusive("/leaked")], None) && registry.meets(&[exclusive("/a")], None));
        drop(permit);
    }
    assert_eq!((registry.len(), registry.home.slots().len()), (1, 2));
}

#[test]
fn scans_and_writes_of_many_threads_miss_nothing() {
    let registry = Registry::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (registry, stop) = (&registry, &stop);
            scope.spawn(move || {
                let path = format!("/busy/{thread}/{}", "x".repeat(60 * thread));
                while !stop.load(Ordering::Relaxed) {
                    let permits: Vec<Permit> = (0..50).map(|n| registry.register(&write(&path), n, [])).collect();
                    drop(permits);
                }
            });
        }
        let permit = registry.register(&write("/still"), 1, []);
        for _ in 0..2_000 {
            assert!(registry.meets(&[exclusive("/still")], None), "it runs all the while");
            assert!(!registry.meets(&[exclusive("/nobody")], None));
            let latch = Latch::new(Box::new([exclusive("/busy"), exclusive("/still")]));
            let met = registry.attach(&latch, permit.id());
            detach(&latch, &met);
        }
        stop.store(true, Ordering::Relaxed);
        drop(permit);
    });
    assert_eq!(registry.len(), 0);
}
