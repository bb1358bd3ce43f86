use std::{
    sync::atomic::AtomicUsize,
    task::{Wake, Waker},
};

use super::*;
use crate::lock::{Claim, Depth, LockId, LockKind, Owner};

fn parts(path: &str, scope: LockScope) -> Arc<LockParts> {
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

fn exclusive(path: &str) -> Arc<LockParts> {
    parts(path, LockScope::Exclusive)
}

fn write(path: &str) -> [Target<'_>; 1] {
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
    let permit = registry.register(&write("/a/b"), 7, Vec::new());
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
    let permit = registry.register(&targets, 1, Vec::new());
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
    let kept =
        registry.shards.iter().map(|shard| shard.writes.lock().slots.iter().map(|w| w.text.capacity()).sum::<usize>());
    assert!(kept.sum::<usize>() <= KEEP, "long texts are given back");
}

#[test]
fn an_id_means_nothing_once_its_write_has_ended() {
    let registry = Registry::new();
    let first = registry.register(&write("/a"), 1, Vec::new());
    let id = first.id().unwrap();
    let shard = registry.shards[Entry::of(id).shard].clone();
    drop(first);
    let second = registry.register(&write("/a"), 2, Vec::new());
    assert_eq!(Entry::of(second.id().unwrap()).slot, Entry::of(id).slot, "the slot is used again");
    shard.clone().end(id);
    assert!(registry.meets(&[exclusive("/a")], None), "the first one's id does not end the second");
    assert_eq!((second.generation(), shard.generation(id)), (2, 0));
}

#[test]
fn a_latch_opens_when_the_last_write_ends_and_wakes_once() {
    let registry = Registry::new();
    let (one, other) = (registry.register(&write("/a/1"), 1, Vec::new()), registry.register(&write("/a/2"), 1, Vec::new()));
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
    let permit = registry.register(&write("/a/1"), 1, Vec::new());
    for _ in 0..100 {
        let latch = Latch::new(Box::new([exclusive("/a")]));
        let writes = registry.attach(&latch, None);
        registry.detach(&latch, &writes);
        assert_eq!(Arc::strong_count(&latch), 1);
    }
    drop(permit);
}

#[test]
fn a_shared_lock_excuses_its_write_from_other_shared_ones_while_it_lives() {
    let registry = Registry::new();
    let own = Answering { parts: parts("/a/1", LockScope::Shared), pins: Arc::default() };
    let pins = own.pins.clone();
    pins.pin().unwrap();
    let permit = registry.register(&write("/a/1"), 1, vec![own]);
    assert!(!registry.meets(&[parts("/a", LockScope::Shared)], None));
    assert!(registry.meets(&[exclusive("/a")], None));
    pins.end();
    assert!(registry.meets(&[parts("/a", LockScope::Shared)], None), "a lock that ended excuses nothing any more");
    drop(permit);
    assert!(!pins.in_use(), "its pin went with it");
}
