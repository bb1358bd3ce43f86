//! Granting locks.

use super::*;

#[test]
fn an_acquire_waits_for_exactly_the_writes_that_it_would_refuse() {
    let bench = Bench::new();
    let (inside, outside) = (bench.admitted("/a/b"), bench.admitted("/ab"));
    let lock = exclusive("/a", "ann");
    let mut acquire = bench.store.acquire(&Acquire::new(std::slice::from_ref(&lock), lock.parts.principal.as_ref()));
    assert!(poll(&mut acquire).is_none());
    assert!(bench.put("/a/c", &[], "bob").refused().is_some(), "the mark refuses as the lock will");
    drop(inside);
    assert!(matches!(poll(&mut acquire), Some(Acquired::Granted(_))));
    drop(outside);
}
