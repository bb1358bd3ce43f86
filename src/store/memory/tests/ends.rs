//! How locks end.

use super::*;

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
    let _ = (SECOND, bench.try_acquire(&[shared("/x", "ann")]), bench.break_it(LockId::random(), SECOND));
}
