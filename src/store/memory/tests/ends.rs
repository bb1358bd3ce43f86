//! How locks end.

use super::*;
use crate::store::FinalTerm;

#[test]
fn an_ended_lock_is_absent_at_once_and_stays_so() {
    let bench = Bench::new();
    let lock = exclusive("/a", "ann");
    bench.living(&lock, lifetime(MINUTE, HOUR));
    bench.hand.advance(MINUTE);
    assert!(bench.roots().is_empty());
    assert!(bench.put("/a", &[], "bob").admitted().is_some());
    bench.hand.step_back(HOUR);
    assert!(bench.roots().is_empty(), "a clock stepping back revives nothing");
    assert!(bench.put("/a", &[], "bob").admitted().is_some());
    assert!(
        matches!(bench.refresh(&lock.token, "ann", Span::Same), Refreshed::Lost(lost) if cause(&lost) == LostCause::Expired)
    );
    assert!(matches!(bench.release(&lock.token, "ann"), Released::Lost(lost) if cause(&lost) == LostCause::Expired));
    assert!(matches!(bench.release(&lock.token, "bob"), Released::Lost(lost) if cause(&lost) == LostCause::Unknown));
}

#[test]
fn a_clock_that_stepped_back_does_not_make_an_acquire_wait_longer() {
    let bench = Bench::new();
    let write = bench.admitted("/a");
    assert!(bench.roots().is_empty());
    bench.hand.step_back(HOUR);
    let lock = exclusive("/a", "ann");
    let locks = std::slice::from_ref(&lock);
    let mut acquire = bench.store.acquire(&Acquire::new(locks, lock.parts.principal.as_ref()).draining(SECOND));
    assert!(poll(&mut acquire).is_none());
    bench.hand.advance(SECOND);
    assert!(matches!(poll(&mut acquire), Some(Acquired::Busy { .. })));
    drop(write);
}

#[test]
fn a_lock_does_not_end_under_its_holders_write_up_to_its_total_life() {
    let bench = Bench::new();
    let lock = exclusive("/a", "ann");
    bench.living(&lock, lifetime(MINUTE, HOUR));
    let upload = bench.put("/a", &[&lock.token], "ann").admitted().unwrap();
    let reported = upload.answered.as_ref().unwrap()[0].clone();
    assert!(reported.in_use() && reported.expires_at().unwrap().since(bench.hand.clock().now()) == MINUTE);
    for _ in 0..3 {
        bench.hand.advance(15 * MINUTE);
        assert!(bench.put("/a", &[], "bob").refused().is_some(), "pinned");
        bench.acquire(&exclusive("/elsewhere", "cid"));
        bench.hand.advance(MINUTE);
        let page = at_once(bench.store.find(&LockQuery::id(lock.parts.id)));
        assert_eq!(page.locks[0].expires_in(), Some(30), "at least one lease more");
    }
    bench.hand.advance(12 * MINUTE);
    assert!(bench.put("/a", &[], "bob").admitted().is_some(), "its total life is over");
    drop(upload);
    let Released::Lost(lost) = bench.release(&lock.token, "ann") else { panic!("still there") };
    assert_eq!(lost.cause, LostCause::Expired);
}

#[test]
fn the_last_pin_of_an_expired_lock_takes_it_along() {
    let bench = Bench::new();
    let lock = exclusive("/a", "ann");
    bench.living(&lock, lifetime(MINUTE, HOUR));
    let (one, other) =
        (bench.put("/a", &[&lock.token], "ann").admitted(), bench.put("/a", &[&lock.token], "ann").admitted());
    bench.hand.advance(2 * MINUTE);
    drop(one);
    assert_eq!(bench.roots(), ["/a"]);
    let third = bench.put("/a", &[&lock.token], "ann").admitted();
    drop(other);
    assert_eq!(bench.roots(), ["/a"]);
    drop(third);
    assert!(bench.roots().is_empty());
    let refused = bench.put("/a", &[&lock.token], "ann");
    assert!(refused.admitted().is_some(), "no lock, and a token alone is no condition");
}

#[test]
fn an_acquire_over_an_expired_lock_waits_for_the_writes_it_pinned() {
    let bench = Bench::new();
    let lock = exclusive("/a", "ann");
    bench.living(&lock, lifetime(MINUTE, 2 * MINUTE));
    let upload = bench.put("/a", &[&lock.token], "ann").admitted();
    bench.hand.advance(2 * MINUTE);
    let next = exclusive("/a", "bob");
    let locks = std::slice::from_ref(&next);
    let mut acquire = bench.store.acquire(&Acquire::new(locks, next.parts.principal.as_ref()));
    assert!(poll(&mut acquire).is_none(), "the stalled upload is still running");
    drop(upload);
    assert!(matches!(poll(&mut acquire), Some(Acquired::Granted(_))));
}

#[test]
fn a_refresh_restarts_the_lifetime_up_to_the_total_life() {
    let bench = Bench::new();
    let lock = exclusive("/a", "ann");
    let life = Lifetime { span: Some(MINUTE), most: Some(10 * MINUTE), total: Some(12 * MINUTE) };
    bench.living(&lock, life);
    let left = |refreshed: Refreshed| match refreshed {
        Refreshed::Refreshed(lock, last) => (lock.expires_in().unwrap(), last),
        other => panic!("{other:?}"),
    };
    bench.hand.advance(59 * SECOND);
    assert_eq!(left(bench.refresh(&lock.token, "ann", Span::Same)), (60, FinalTerm::No));
    assert_eq!(left(bench.refresh(&lock.token, "ann", Span::For(HOUR))), (600, FinalTerm::No), "clamped");
    bench.hand.advance(9 * MINUTE);
    assert_eq!(left(bench.refresh(&lock.token, "ann", Span::Endless)), (121, FinalTerm::Yes), "the total life");
    assert!(matches!(bench.refresh(&lock.token, "bob", Span::Same), Refreshed::NotHolder));
    bench.hand.advance(121 * SECOND);
    assert!(matches!(bench.refresh(&lock.token, "ann", Span::Same), Refreshed::Lost(_)));
}

#[test]
fn a_break_with_grace_lets_the_holder_write_and_nothing_else() {
    let bench = Bench::new();
    let lock = exclusive("/a", "ann");
    let granted = bench.acquire(&lock);
    let Released::Breaking(breaking) = bench.break_it(granted.id(), MINUTE) else { panic!("not breaking") };
    assert_eq!(breaking.expires_in(), Some(60));
    let long = bench.put("/a", &[&lock.token], "ann").admitted().expect("the holder writes on");
    assert!(bench.put("/a", &[], "bob").refused().is_some());
    assert!(matches!(bench.try_acquire(&[exclusive("/a", "bob")]), Acquired::Conflict(_)));
    let Refreshed::Lost(lost) = bench.refresh(&lock.token, "ann", Span::Same) else { panic!("refreshed") };
    assert_eq!(
        (lost.cause, lost.at, lost.reason.as_deref()),
        (LostCause::Broken, breaking.expires_at(), Some("night work"))
    );
    assert!(matches!(bench.break_it(granted.id(), HOUR), Released::Breaking(lock) if lock.expires_in() == Some(60)));
    bench.hand.advance(MINUTE);
    assert!(bench.roots().is_empty(), "pins fall with it");
    let next = exclusive("/a", "bob");
    let locks = std::slice::from_ref(&next);
    let mut acquire = bench.store.acquire(&Acquire::new(locks, next.parts.principal.as_ref()));
    assert!(poll(&mut acquire).is_none(), "a successor drains");
    drop(long);
    assert!(matches!(poll(&mut acquire), Some(Acquired::Granted(_))));
    let Released::Lost(lost) = bench.release(&lock.token, "ann") else { panic!("still there") };
    assert_eq!((lost.cause, lost.actor), (LostCause::Broken, Some(who("admin"))));
}

#[test]
fn a_token_released_before_it_was_seen_is_burnt() {
    let bench = Bench::new();
    let lock = exclusive("/a", "ann");
    assert!(matches!(bench.release(&lock.token, "ann"), Released::Lost(lost) if lost.cause == LostCause::Unknown));
    assert!(matches!(bench.try_acquire(&[lock]), Acquired::Lost(_)));
    assert_eq!(bench.store.stats().locks, 0);
}

#[test]
fn a_thousand_expired_locks_leave_memory_a_few_by_each_step() {
    let bench = Bench::new();
    for at in 0..1_000 {
        bench.living(&exclusive(&format!("/{at}"), "ann"), lifetime(MINUTE, HOUR));
    }
    bench.hand.advance(MINUTE);
    assert!(bench.roots().is_empty());
    for step in 1..=16 {
        let _ = bench.release(&LockToken::random(), "ann");
        assert_eq!(bench.store.stats().locks, 1_000_usize.saturating_sub(64 * step));
    }
}
