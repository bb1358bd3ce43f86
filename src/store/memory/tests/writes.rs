//! Writes before locks.

use super::*;

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
