//! Granting locks.

use super::*;
use crate::store::{Quota, QuotaExceeded, Replaces};

fn waiting(bench: &Bench, lock: &NewLock, drain: Duration) -> StoreFuture<Acquired> {
    let locks = std::slice::from_ref(lock);
    bench.store.acquire(&Acquire::new(locks, lock.parts.principal.as_ref()).draining(drain))
}

#[test]
fn an_acquire_waits_for_exactly_the_writes_that_it_would_refuse() {
    let bench = Bench::new();
    let (inside, outside) = (bench.admitted("/a/b"), bench.admitted("/ab"));
    let lock = exclusive("/a", "ann");
    let mut acquire = waiting(&bench, &lock, MINUTE);
    assert!(poll(&mut acquire).is_none());
    assert!(bench.put("/a/c", &[], "bob").refused().is_some(), "the mark refuses as the lock will");
    assert!(bench.put("/a/c", &[&lock.token], "ann").refused().is_some(), "its token answers for nothing yet");
    drop(inside);
    bench.hand.advance(SECOND);
    let Some(Acquired::Granted(locks)) = poll(&mut acquire) else { panic!("not granted") };
    assert_eq!(locks[0].expires_at().unwrap().since(locks[0].created_at()), Duration::from_secs(300));
    assert_eq!(locks[0].created_at(), bench.hand.clock().now(), "life starts at the grant");
    drop(outside);
}

#[test]
fn a_dropped_acquire_leaves_nothing_at_any_point() {
    let bench = Bench::new();
    let write = bench.admitted("/a/b");
    for polls in 0..3 {
        let lock = exclusive("/a", "ann");
        let mut acquire = waiting(&bench, &lock, MINUTE);
        assert_eq!(bench.roots(), ["/a"], "a mark is seen");
        (0..polls).for_each(|_| assert!(poll(&mut acquire).is_none()));
        drop(acquire);
        assert_eq!(bench.store.stats().locks, 0);
        assert!(bench.put("/a/x", &[], "bob").admitted().is_some());
    }
    let lock = exclusive("/a", "ann");
    let acquire = waiting(&bench, &lock, MINUTE);
    drop(write);
    drop(acquire);
    assert_eq!(bench.store.stats().locks, 0, "though it could have been granted");
    bench.acquire(&lock);
}

#[test]
fn past_its_limit_an_acquire_is_busy_and_for_twice_that_nobody_waits_there() {
    let bench = Bench::new();
    let write = bench.admitted("/a/b");
    let mut acquire = waiting(&bench, &exclusive("/a", "ann"), SECOND);
    assert!(poll(&mut acquire).is_none());
    bench.hand.advance(SECOND);
    assert!(matches!(poll(&mut acquire), Some(Acquired::Busy { retry_after }) if retry_after == 2 * SECOND));
    assert!(bench.put("/a/c", &[], "bob").admitted().is_some(), "the mark is gone");
    for again in [exclusive("/a", "ann"), exclusive("/a/b", "bob"), exclusive("/", "cid")] {
        assert!(matches!(at_once(waiting(&bench, &again, MINUTE)), Acquired::Busy { .. }), "no mark is set");
    }
    let other = exclusive("/a/other", "ann");
    bench.acquire(&other);
    let _ = bench.release(&other.token, "ann");
    bench.hand.advance(2 * SECOND);
    let mut acquire = waiting(&bench, &exclusive("/a", "ann"), SECOND);
    assert!(poll(&mut acquire).is_none(), "now it may wait again");
    drop(write);
    assert!(matches!(poll(&mut acquire), Some(Acquired::Granted(_))));
}

#[test]
fn without_a_wait_an_acquire_over_a_write_is_busy_at_once() {
    let bench = Bench::new();
    let write = bench.admitted("/a");
    let lock = exclusive("/a", "ann");
    assert!(matches!(at_once(waiting(&bench, &lock, Duration::ZERO)), Acquired::Busy { .. }));
    assert_eq!(bench.store.stats().locks, 0);
    drop(write);
    assert!(matches!(at_once(waiting(&bench, &lock, Duration::ZERO)), Acquired::Granted(_)), "the same token");
    assert_eq!(bench.put("/a", &[&lock.token], "ann").admitted().unwrap().answered.unwrap().len(), 1);
}

#[test]
fn the_callers_own_write_is_not_waited_for() {
    let bench = Bench::new();
    let write = bench.admitted("/a");
    let lock = exclusive("/a", "ann");
    let locks = std::slice::from_ref(&lock);
    let request = Acquire::new(locks, lock.parts.principal.as_ref()).within(write.permit.id());
    assert!(matches!(at_once(bench.store.acquire(&request)), Acquired::Granted(_)));
}

#[test]
fn a_released_mark_is_lost_to_its_acquire() {
    let bench = Bench::new();
    let write = bench.admitted("/a");
    let lock = exclusive("/a", "ann");
    let mut acquire = waiting(&bench, &lock, MINUTE);
    assert!(matches!(bench.release(&lock.token, "bob"), Released::NotHolder));
    assert!(matches!(bench.release(&lock.token, "ann"), Released::Released(_)));
    drop(write);
    let Some(Acquired::Lost(lost)) = poll(&mut acquire) else { panic!("granted all the same") };
    assert_eq!(lost[0].cause, LostCause::Released);
    assert!(matches!(bench.try_acquire(&[lock]), Acquired::Lost(_)), "its token is burnt");
}

#[test]
fn of_several_roots_all_are_granted_or_none() {
    let bench = Bench::new();
    bench.acquire(&exclusive("/c", "bob"));
    let locks = ["/a", "/b", "/c/d"].map(|path| exclusive(path, "ann"));
    assert!(matches!(bench.try_acquire(&locks), Acquired::Conflict(conflict) if conflict.blockers.len() == 1));
    assert_eq!(bench.roots(), ["/c"]);
    let write = bench.admitted("/b/x");
    let principal = who("ann");
    let mut acquire = bench.store.acquire(&Acquire::new(&locks[..2], Some(&principal)).draining(SECOND));
    assert!(poll(&mut acquire).is_none() && bench.roots() == ["/a", "/b", "/c"]);
    bench.hand.advance(SECOND);
    assert!(matches!(poll(&mut acquire), Some(Acquired::Busy { .. })) && bench.roots() == ["/c"]);
    drop(write);
    let Acquired::Granted(granted) = bench.try_acquire(&locks[..2]) else { panic!("not granted") };
    assert!(granted[0].generation() < granted[1].generation(), "each has a number of its own");
    assert!(matches!(bench.try_acquire(&locks[..2]), Acquired::Repeated(again) if again.len() == 2));
    assert!(matches!(bench.try_acquire(&[locks[0].clone(), exclusive("/z", "ann")]), Acquired::Taken));
}

#[test]
fn locks_of_one_request_never_overlap() {
    let bench = Bench::new();
    for (one, other) in [("/a", "/a"), ("/a", "/a/b/c"), ("/a/b/c", "/a"), ("/", "/x")] {
        assert!(matches!(bench.try_acquire(&[exclusive(one, "ann"), exclusive(other, "ann")]), Acquired::Conflict(_)));
    }
    let twice = exclusive("/t", "ann");
    let other = NewLock { token: twice.token, ..exclusive("/u", "ann") };
    assert!(matches!(bench.try_acquire(&[twice, other]), Acquired::Taken));
    assert_eq!(bench.store.stats().locks, 0);
    let flat = [new("/a", LockScope::Exclusive, Depth::Zero, "ann"), exclusive("/a/b", "ann"), exclusive("/ab", "ann")];
    assert!(matches!(bench.try_acquire(&flat), Acquired::Granted(_)));
}

#[test]
fn conflicts_are_seen_above_at_and_below_and_only_there() {
    let bench = Bench::new();
    for held in ["/a/b", "/%00", "/ä/€"] {
        bench.acquire(&exclusive(held, "ann"));
    }
    for (path, depth, free) in [
        ("/", Depth::Infinity, false),
        ("/", Depth::Zero, true),
        ("/a", Depth::Infinity, false),
        ("/a", Depth::Zero, true),
        ("/a/b/c", Depth::Zero, false),
        ("/a/bc", Depth::Infinity, true),
        ("/ä/€/x", Depth::Zero, false),
        ("/%00/x", Depth::Infinity, false),
    ] {
        let lock = new(path, LockScope::Shared, depth, "bob");
        let got = bench.try_acquire(std::slice::from_ref(&lock));
        assert_eq!(matches!(got, Acquired::Granted(_)), free, "{path} {depth}: {got:?}");
        if free {
            let _ = bench.release(&lock.token, "bob");
        }
    }
}

#[test]
fn namespaces_have_nothing_to_do_with_each_other() {
    let bench = Bench::new();
    let within = |path: &str, namespace: &'static str| {
        let lock = exclusive(path, "ann");
        let parts = LockParts { root: lock.parts.root.clone().in_namespace(namespace), ..(*lock.parts).clone() };
        NewLock { parts: Arc::new(parts), ..lock }
    };
    let locks = [within("/", "one"), within("/", "two"), exclusive("/", "ann")];
    locks.iter().for_each(|lock| drop(bench.acquire(lock)));
    assert!(matches!(bench.try_acquire(&[within("/x", "two")]), Acquired::Conflict(_)));
    let _ = bench.release(&locks[1].token, "ann");
    bench.acquire(&within("/x", "two"));
    assert_eq!(bench.roots(), ["/"], "the list of one namespace");
    let refused = bench.refused(&[Target::unlink(key("/").in_namespace("two"))], &[], "bob");
    assert_eq!(refused.blockers.len(), 1);
}

#[test]
fn ten_thousand_shared_locks_on_one_root_get_on_with_each_other() {
    let bench = Bench::new();
    let locks: Vec<NewLock> = (0..10_000).map(|_| shared("/a", "ann")).collect();
    locks.iter().for_each(|lock| drop(bench.acquire(lock)));
    let refused = bench.refused(&[Target::write(key("/a/b"))], &[], "bob");
    assert!(refused.blockers.len() == 100 && refused.truncated);
    let admitted = bench.put("/a/b", &[&locks[9_999].token], "ann").admitted().expect("one vouches for all");
    assert_eq!(admitted.answered.as_ref().unwrap().iter().filter(|lock| lock.in_use()).count(), 1);
    drop(admitted);
    let mut seen = 0;
    let mut after = None;
    loop {
        let mut query = LockQuery::at_or_below(key("/a")).limit(999);
        query.after = after;
        let page = at_once(bench.store.find(&query));
        seen += page.locks.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 10_000);
    for lock in &locks {
        assert!(matches!(bench.release(&lock.token, "ann"), Released::Released(_)));
    }
    assert_eq!(bench.store.stats().locks, 0);
    assert!(bench.admit(&[Target::unlink(key("/"))], &[], "bob").admitted().is_some());
}

#[test]
fn a_replaced_lock_protects_until_its_successor_is_granted() {
    let bench = Bench::new();
    let (first, second) = (shared("/a", "ann"), exclusive("/a", "ann"));
    bench.acquire(&first);
    let write = bench.put("/a", &[&first.token], "ann").admitted().unwrap();
    let (principal, locks) = (who("ann"), std::slice::from_ref(&second));
    let replaces = [Replaces::Held(&first.token)];
    let mut acquire = bench.store.acquire(&Acquire::new(locks, Some(&principal)).replacing(&replaces).draining(SECOND));
    assert!(poll(&mut acquire).is_none());
    assert_eq!(bench.roots(), ["/a", "/a"]);
    drop(write);
    assert!(matches!(poll(&mut acquire), Some(Acquired::Granted(_))));
    assert_eq!(bench.roots(), ["/a"]);
    assert!(
        matches!(bench.refresh(&first.token, "ann", Span::Same), Refreshed::Lost(lost) if lost.cause == LostCause::Replaced)
    );
    let mallory = who("mallory");
    let (locks, replaces) = ([exclusive("/a", "mallory")], [Replaces::Held(&second.token)]);
    let request = Acquire::new(&locks, Some(&mallory)).replacing(&replaces);
    assert!(matches!(at_once(bench.store.acquire(&request)), Acquired::NotHolder));
    let id = second.parts.id;
    let replaces = [Replaces::Broken { id, reason: "urgent" }];
    let request = Acquire::new(&locks, Some(&mallory)).replacing(&replaces);
    assert!(matches!(at_once(bench.store.acquire(&request)), Acquired::Granted(_)));
    let Released::Lost(lost) = bench.release(&second.token, "ann") else { panic!("still there") };
    assert_eq!((lost.cause, lost.reason.as_deref(), lost.actor), (LostCause::Broken, Some("urgent"), Some(mallory)));
}

#[test]
fn quotas_count_what_lives_and_what_is_coming() {
    let bench = Bench::new();
    let asked = |path: &str, name: &str, quota: Quota| {
        let (lock, principal) = (exclusive(path, name), who(name));
        let locks = std::slice::from_ref(&lock);
        let request = Acquire::new(locks, Some(&principal)).within_quota(quota).living(lifetime(MINUTE, HOUR));
        (at_once(bench.store.acquire(&request)), lock)
    };
    let quota = Quota { principal: 2, store: 3 };
    for (path, name, over) in [
        ("/1", "ann", None),
        ("/2", "ann", None),
        ("/3", "ann", Some(QuotaExceeded::Principal)),
        ("/3", "bob", None),
        ("/4", "bob", Some(QuotaExceeded::Store)),
    ] {
        match asked(path, name, quota).0 {
            Acquired::Granted(_) => assert_eq!(over, None, "{path}"),
            Acquired::OverQuota(whose) => assert_eq!(Some(whose), over, "{path}"),
            other => panic!("{other:?}"),
        }
    }
    bench.hand.advance(MINUTE);
    assert!(matches!(asked("/4", "ann", quota).0, Acquired::Granted(_)), "ended locks use up nothing");
}

#[test]
fn a_lock_that_its_last_write_held_beyond_its_time_uses_up_no_quota_afterwards() {
    let bench = Bench::new();
    let lock = exclusive("/a", "ann");
    bench.living(&lock, lifetime(MINUTE, HOUR));
    let write = bench.put("/a", &[&lock.token], "ann").admitted();
    bench.hand.advance(2 * MINUTE);
    let asked = || {
        let (locks, principal) = ([exclusive("/b", "ann")], who("ann"));
        let quota = Quota { principal: 1, store: 10 };
        at_once(bench.store.acquire(&Acquire::new(&locks, Some(&principal)).within_quota(quota)))
    };
    assert!(matches!(asked(), Acquired::OverQuota(QuotaExceeded::Principal)), "it lives as long as the write");
    drop(write);
    // It was looked at while it was held, so in the queue its turn has not come again.
    assert!(matches!(asked(), Acquired::Granted(_)));
    assert!(bench.store.core.table.read().overdue.is_empty(), "nobody remembers it there");
}
