//! Nothing is told, and nothing lets go, before it is durable.

use std::sync::atomic::Ordering;

use super::*;
use crate::{
    lock::LostCause,
    store::{LockEvent, Replaces},
};

#[test]
fn a_lock_blocks_until_its_end_is_durable() {
    type End = fn(&Bench, &NewLock) -> StoreFuture<Released>;
    let ends: [(LostCause, End); 2] = [
        (LostCause::Released, |bench, lock| bench.release(lock)),
        (LostCause::Broken, |bench, lock| bench.break_it(lock.parts.id, Duration::ZERO)),
    ];
    for (cause, end) in ends {
        let bench = Bench::new();
        let held = new("/a", "ann");
        bench.acquire(&held);
        let mut watch = bench.store().watch(&LockQuery::at_or_below(key("/")));
        assert!(matches!(wait(watch.next()), Some(Ok(LockEvent::Synced))));
        bench.disk.shut();
        let mut ending = end(&bench, &held);
        bench.disk.until_one_waits();
        assert!(poll(&mut ending).is_none(), "not answered before");
        assert!(bench.refused("/a/b"), "it blocks strangers");
        assert!(bench.put("/a/b", Some(&held)).refused().is_some(), "its token is spent");
        assert!(matches!(wait(bench.try_acquire(&[new("/a", "bob")])), Ok(Acquired::Conflict(_))));
        // Whoever is told that it is gone is told so when it is for certain.
        let mut again = bench.release(&held);
        let mut refresh = bench.refresh(&held, Span::Same);
        let mut elsewhere = NewLock { parts: new("/elsewhere", "ann").parts, token: held.token };
        let mut same_token = bench.try_acquire(std::slice::from_ref(&elsewhere));
        elsewhere = new("/elsewhere", "ann");
        let mut parts = LockParts::clone(&elsewhere.parts);
        parts.id = held.parts.id;
        let same_id = [NewLock { parts: Arc::new(parts), token: elsewhere.token }];
        let mut same_id = bench.try_acquire(&same_id);
        for waits in [
            poll(&mut again).is_none(),
            poll(&mut refresh).is_none(),
            poll(&mut same_token).is_none(),
            poll(&mut same_id).is_none(),
        ] {
            assert!(waits);
        }
        bench.disk.open();
        assert!(matches!(wait(ending), Ok(Released::Released(lock)) if lock.id() == held.parts.id));
        assert!(matches!(wait(again), Ok(Released::Lost(lost)) if lost.cause == cause));
        assert!(matches!(wait(refresh), Ok(Refreshed::Lost(lost)) if lost.cause == cause));
        assert!(matches!(wait(same_token), Ok(Acquired::Lost(lost)) if lost[0].cause == cause));
        assert!(matches!(wait(same_id), Ok(Acquired::Lost(lost)) if lost[0].cause == LostCause::Unknown));
        let told = wait(watch.next()).unwrap().unwrap();
        assert!(matches!(told, LockEvent::Ended { cause: told, .. } if told == cause));
        assert!(!bench.refused("/a/b"));
        bench.acquire(&new("/a", "bob"));
    }
}

#[test]
fn what_is_replaced_protects_until_the_grant_is_durable() {
    let bench = Bench::new();
    let (old, next) = (new("/a", "ann"), new("/a/b", "ann"));
    bench.acquire(&old);
    bench.disk.shut();
    let (locks, owner, replaces) = ([next.clone()], who("ann"), [Replaces::Held(&old.token)]);
    let mut acquire = bench.store().acquire(&Acquire::new(&locks, Some(&owner)).replacing(&replaces));
    bench.disk.until_one_waits();
    assert!(poll(&mut acquire).is_none());
    assert!(bench.refused("/a/c") && bench.refused("/a/b/c"));
    bench.disk.open();
    assert!(matches!(wait(acquire), Ok(Acquired::Granted(_))));
    assert!(!bench.refused("/a/c") && bench.refused("/a/b/c"));
}

#[test]
fn a_repeat_is_answered_when_the_first_is_durable() {
    let bench = Bench::new();
    let lock = [new("/a", "ann")];
    bench.disk.shut();
    let mut first = bench.try_acquire(&lock);
    bench.disk.until_one_waits();
    let mut repeat = bench.try_acquire(&lock);
    assert!(poll(&mut first).is_none() && poll(&mut repeat).is_none());
    assert!(bench.refused("/a"), "the lock counts at once");
    bench.disk.open();
    assert!(matches!(wait(first), Ok(Acquired::Granted(_))));
    assert!(matches!(wait(repeat), Ok(Acquired::Repeated(_))));
    // With nothing left to be written down it is answered at once.
    assert!(bench.try_acquire(&lock).into_ready().is_ok());
}

#[test]
fn an_acquire_that_nobody_waits_for_is_there_and_can_be_undone() {
    let mut bench = Bench::new();
    let lock = new("/a", "ann");
    bench.disk.shut();
    drop(bench.try_acquire(std::slice::from_ref(&lock)));
    bench.disk.open();
    assert!(matches!(wait(bench.release(&lock)), Ok(Released::Released(_))));
    bench.restart();
    assert!(bench.all().is_empty());
}

#[test]
fn callers_share_a_commit() {
    let bench = Bench::with(1 << 20, 100_000);
    bench.acquire(&new("/first", "ann"));
    let before = bench.disk.syncs.load(Ordering::Relaxed);
    bench.disk.shut();
    let locks: Vec<NewLock> = (0..100).map(|at| new(&format!("/a/{at}"), "ann")).collect();
    let waiting: Vec<StoreFuture<Acquired>> =
        locks.iter().map(|lock| bench.try_acquire(std::slice::from_ref(lock))).collect();
    bench.disk.open();
    for acquire in waiting {
        assert!(matches!(wait(acquire), Ok(Acquired::Granted(_))));
    }
    let syncs = bench.disk.syncs.load(Ordering::Relaxed) - before;
    assert!(syncs <= 3, "{syncs} syncs for a hundred locks");
}

#[test]
fn an_expiry_costs_no_commit() {
    let bench = Bench::new();
    for at in 0..20 {
        bench.acquire(&new(&format!("/a/{at}"), "ann"));
    }
    bench.hand.advance(2 * MINUTE);
    let before = bench.disk.syncs.load(Ordering::Relaxed);
    let stranger = new("/x", "ann");
    bench.acquire(&stranger);
    assert!(bench.disk.syncs.load(Ordering::Relaxed) - before <= 1, "they went along with a grant");
    assert_eq!(bench.store().stats().locks, 1);
    assert!(matches!(wait(bench.refresh(&new("/y", "ann"), Span::Same)), Ok(Refreshed::Lost(_))));
}
