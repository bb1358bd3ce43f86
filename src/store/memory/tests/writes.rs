//! Writes before locks.

use super::*;
use crate::{
    lock::{Gone, Reach},
    store::{LockEvent, memory::filter::Glance},
};

#[test]
fn a_write_is_refused_under_a_lock_and_goes_on_with_its_token() {
    let bench = Bench::new();
    let lock = exclusive("/a", "ann");
    let granted = bench.acquire(&lock);
    let refused = bench.refused(&[Target::write(key("/a/b"))], &[], "bob");
    assert_eq!(refused.blockers, vec![granted.clone()]);
    assert!(!refused.truncated && !refused.condition_failed && refused.lost.is_empty());
    assert!(bench.put("/a/b", &[&lock.token], "bob").refused().is_some(), "a token works for its principal only");
    let admitted = bench.put("/a/b", &[&lock.token], "ann").admitted().unwrap();
    let answered = admitted.answered.as_deref().unwrap();
    assert_eq!((answered[0].id(), answered[0].in_use()), (granted.id(), true));
    assert_eq!(admitted.permit.generation(), granted.generation());
    assert!(bench.put("/b", &[], "bob").admitted().unwrap().answered.is_none());
    assert_eq!(bench.store.stats().in_flight, 1, "only the one whose permit still lives");
    drop(admitted);
    assert_eq!(bench.store.stats().in_flight, 0);
}

#[test]
fn unlinks_and_memberships_meet_the_locks_they_change() {
    let bench = Bench::new();
    let deep = exclusive("/a/b/c", "ann");
    bench.acquire(&deep);
    bench.acquire(&new("/", LockScope::Exclusive, Depth::Zero, "ann"));
    for (target, blocked) in [
        (Target::write(key("/a")), false),
        (Target::write_member(key("/a/b")), false),
        (Target::write(key("/a/b/c/d")), true),
        (Target::write(key("/a/b/cd")), false),
        (Target::unlink(key("/a/b")), true),
        (Target::unlink(key("/a/b/x")), false),
        (Target::write(key("/")), true),
        (Target::write(key("/new")), false),
        (Target::write_member(key("/new")), true),
        (Target::unlink(key("/new")), true),
        (Target::unlink(key("/")), true),
    ] {
        let refused = bench.admit(std::slice::from_ref(&target), &[], "bob").refused().is_some();
        assert_eq!(refused, blocked, "{target:?}");
    }
    let both = bench.refused(&[Target::unlink(key("/"))], &[], "bob");
    let roots: Vec<&str> = both.blockers.iter().map(|lock| lock.root().path()).collect();
    assert_eq!(roots, ["/", "/a/b/c"], "in the order of their roots, each once");
    let one = bench.refused(&[Target::unlink(key("/"))], &[&deep.token], "ann");
    assert_eq!(one.blockers.len(), 1, "a token answers for its own lock");
}

#[test]
fn a_refusal_names_no_more_than_it_was_asked_for() {
    let bench = Bench::new();
    for at in 0..7 {
        bench.acquire(&exclusive(&format!("/a/{at}"), "ann"));
    }
    let (targets, conditions) = ([Target::unlink(key("/a"))], Conditions::default());
    for (limit, named, truncated) in [(0, 0, true), (6, 6, true), (7, 7, false), (100, 7, false)] {
        let verdict = at_once(bench.store.admit(&Write::new(&targets, &conditions).naming(limit)));
        let refused = verdict.refused().unwrap();
        assert_eq!((refused.blockers.len(), refused.truncated), (named, truncated));
    }
}

#[test]
fn very_long_paths_are_checked_against_what_is_above_them() {
    let bench = Bench::new();
    let root = format!("/{}", "x/".repeat(4_000).trim_end_matches('/'));
    bench.acquire(&exclusive(&root, "ann"));
    assert!(bench.put(&format!("{root}/{}", "y".repeat(20_000)), &[], "bob").refused().is_some());
    assert!(bench.put(&format!("{root}y"), &[], "bob").admitted().is_some());
    assert!(bench.admit(&[Target::unlink(key("/x"))], &[], "bob").refused().is_some());
}

#[test]
fn every_kind_of_proof_is_decided_by_the_rules() {
    let bench = Bench::new();
    let (lock, ann, bob) = (exclusive("/a", "ann"), who("ann"), who("bob"));
    bench.acquire(&lock);
    let targets = [Target::write(key("/a"))];
    let with = |proof: &HolderProof, tokens: &[&LockToken], who: &Principal| {
        let conditions = submitting(tokens);
        let write = Write::new(&targets, &conditions).by(Some(who)).proven_by(proof);
        at_once(bench.store.admit(&write)).admitted().is_some()
    };
    let custom = HolderProof::by(|claim| claim.principal.is_some_and(|who| who.as_str() == "bob"));
    for (proof, tokens, who, admitted) in [
        (&HolderProof::TokenAndPrincipal, &[][..], &ann, false),
        (&HolderProof::Principal, &[], &ann, true),
        (&HolderProof::Principal, &[&lock.token], &bob, false),
        (&HolderProof::Token, &[&lock.token], &bob, true),
        (&custom, &[], &bob, true),
        (&custom, &[&lock.token], &ann, false),
    ] {
        assert_eq!(with(proof, tokens, who), admitted, "{proof:?} {who}");
    }
}

#[test]
fn locks_go_with_their_resources_and_marks_are_spared() {
    let bench = Bench::new();
    let (top, below, deeper) = (
        new("/a", LockScope::Exclusive, Depth::Zero, "ann"),
        new("/a/b", LockScope::Exclusive, Depth::Zero, "ann"),
        exclusive("/a/b/c", "ann"),
    );
    for lock in [&top, &below, &deeper] {
        bench.acquire(lock);
    }
    let tokens = [&top.token, &below.token, &deeper.token];
    let unlink = bench.admit(&[Target::unlink(key("/a"))], &tokens, "ann").admitted().unwrap();
    assert_eq!(unlink.answered.as_ref().unwrap().len(), 3);
    let coming = exclusive("/a/x", "bob");
    let locks = std::slice::from_ref(&coming);
    let mut acquire = bench.store.acquire(&Acquire::new(locks, coming.parts.principal.as_ref()));
    assert!(poll(&mut acquire).is_none());
    let clear = |reach| at_once(bench.store.clear(&[Gone { key: key("/a"), reach }], unlink.permit.id()));
    assert_eq!(clear(Reach::Below), 2);
    assert_eq!(clear(Reach::AtOrBelow), 1);
    assert_eq!(bench.roots(), ["/a/x"]);
    drop(unlink);
    assert!(matches!(poll(&mut acquire), Some(Acquired::Granted(_))));
    let Released::Lost(lost) = bench.release(&deeper.token, "ann") else { panic!("still there") };
    assert_eq!(lost.cause, LostCause::ResourceGone);
}

#[test]
fn a_store_that_only_checks_registers_nothing() {
    let bench = Bench { store: MemoryStore::builder().check_only().build(), hand: ManualClock::new() };
    let write = bench.admitted("/a");
    assert!(write.permit.id().is_none());
    let lock = exclusive("/a", "ann");
    let granted = bench.acquire(&lock);
    assert!(write.permit.generation() < granted.generation());
    let own = bench.put("/a", &[&lock.token], "ann").admitted().unwrap();
    assert_eq!((own.permit.generation(), bench.store.stats().in_flight), (granted.generation(), 0));
    assert!(bench.put("/a", &[], "bob").refused().is_some());
}

/// The next event, if there is one at hand.
fn next(watch: &mut crate::store::Watch) -> Option<LockEvent> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut next = std::pin::pin!(watch.next());
    match next.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(event) => Some(event.expect("endless").expect("no error")),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn a_watcher_hears_of_what_fits_in_order_and_of_gaps() {
    let bench = Bench::new();
    let mut watch = bench.store.watch(&LockQuery::at_or_below(key("/a")));
    assert_eq!(next(&mut watch), Some(LockEvent::Synced));
    let (lock, other) = (exclusive("/a/b", "ann"), exclusive("/b", "ann"));
    let granted = bench.acquire(&lock);
    bench.acquire(&other);
    let _ = bench.refresh(&lock.token, "ann", Span::Same);
    let _ = bench.break_it(granted.id(), MINUTE);
    let _ = bench.release(&lock.token, "ann");
    assert_eq!(next(&mut watch), Some(LockEvent::Granted(granted)));
    assert!(matches!(next(&mut watch), Some(LockEvent::Refreshed(_))));
    assert!(matches!(next(&mut watch), Some(LockEvent::Breaking { .. })));
    assert!(matches!(next(&mut watch), Some(LockEvent::Ended { cause: LostCause::Released, .. })));
    assert_eq!(next(&mut watch), None);
    for at in 0..300 {
        bench.acquire(&exclusive(&format!("/a/{at}"), "ann"));
    }
    assert_eq!(next(&mut watch), Some(LockEvent::Synced), "too slow: the state is to be read anew");
    let after = std::iter::from_fn(|| next(&mut watch)).count();
    assert_eq!(after, 0, "the state shows what happened before it is read");
    drop(watch);
    assert!(!bench.store.core.watchers.any());
}

#[test]
fn watchers_are_bounded_and_end_with_the_store() {
    let store = MemoryStore::new();
    let query = LockQuery::at_or_below(key("/"));
    let mut watches: Vec<_> = (0..32_768).map(|_| store.watch(&query)).collect();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut poll = |watch: &mut crate::store::Watch| std::pin::pin!(watch.next()).poll(&mut cx);
    let mut one_more = store.watch(&query);
    assert!(matches!(poll(&mut one_more), std::task::Poll::Ready(Some(Err(_)))));
    assert!(matches!(poll(&mut one_more), std::task::Poll::Ready(None)));
    drop(store);
    let mut last = watches.pop().unwrap();
    assert!(matches!(poll(&mut last), std::task::Poll::Ready(Some(Ok(LockEvent::Synced)))));
    assert!(matches!(poll(&mut last), std::task::Poll::Ready(None)));
}

#[test]
fn a_step_that_panics_leaves_the_filter_settled() {
    let hand = ManualClock::new();
    let store = MemoryStore::builder().clock(hand.clock()).check_only().build();
    let bench = Bench { store, hand };
    let lock = exclusive("/a", "alice");
    bench.acquire(&lock);
    let core = &bench.store.core;
    let slot = core.table.read().by_token(&core.key.digest(&lock.token)).unwrap();
    // What a caller's own function may do in the middle of one; here after the only lock of all is gone.
    let step = || {
        core.in_memory(|edit| {
            edit.withdraw(slot);
            assert!(edit.table.by_id(lock.parts.id).is_some(), "as a proof may");
        });
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)).is_err());
    let glance = |path: &str| core.filter.glance(&[Target::write(key(path))]);
    assert_eq!(glance("/a"), Glance::Clear);
    bench.acquire(&exclusive("/b", "alice"));
    assert_eq!((glance("/b"), glance("/c")), (Glance::Look, Glance::Clear));
    // A step under way is still told from one that is over.
    let other = exclusive("/d", "alice");
    bench.acquire(&other);
    let slot = core.table.read().by_token(&core.key.digest(&other.token)).unwrap();
    core.in_memory(|edit| {
        assert_eq!(glance("/c"), Glance::Clear);
        edit.withdraw(slot);
        assert_eq!(glance("/c"), Glance::Look);
    });
    assert_eq!(glance("/c"), Glance::Clear);
    bench.refused(&[Target::write(key("/b/c"))], &[], "bob");
}

#[test]
fn a_write_that_meets_no_lock_carries_the_number_of_the_latest_grant() {
    let bench = Bench::new();
    for path in ["/a", "/c"] {
        let granted = bench.acquire(&exclusive(path, "alice"));
        assert_eq!(bench.admitted("/b").permit.generation(), granted.generation());
    }
}
