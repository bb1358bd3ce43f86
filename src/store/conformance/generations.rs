//! G6: every grant carries a larger generation than every overlapping lock before it, every permit the current one.

use super::{fixture::Fixture, kit::*};
use crate::lock::{Depth, LockScope};

/// Generations grow from grant to grant, over parents, children, shared locks and several roots.
pub async fn generations_grow_where_locks_overlap<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let rule = "every grant has a larger generation than every overlapping lock granted before (G6)";
    let mut before = 0;
    for path in ["/a", "/a/b", "/", "/a/b/c", "/a", "/"] {
        let lock = Ask::exclusive(ANN, path).one(&store).await;
        assert!(lock.lock.generation() > before, "{rule}: {path}");
        before = lock.lock.generation();
        lock.end(&store).await;
    }
    for (at, scope) in [LockScope::Shared; 4].into_iter().enumerate() {
        let depth = if at % 2 == 0 { Depth::Infinity } else { Depth::Zero };
        let lock = Ask::new(BOB, "/a", scope, depth).one(&store).await;
        assert!(lock.lock.generation() > before, "{rule}: shared locks that live together too");
        before = lock.lock.generation();
    }
    let locks = Ask::several(EVE, &["/x/1", "/x/2"]).all(&store).await;
    for lock in &locks {
        lock.end(&store).await;
    }
    let above = Ask::exclusive(EVE, "/x").one(&store).await;
    assert!(locks.iter().all(|lock| lock.lock.generation() < above.lock.generation()), "{rule}: several roots");
}

/// Generations grow over expiry, breaks, and any number of locks elsewhere; ended locks count.
pub async fn generations_outlive_their_locks<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let mut before = 0;
    for round in 0..5 {
        let lock = Ask::exclusive(ANN, "/a").living(grain * 10).one(&store).await;
        assert!(lock.lock.generation() > before, "a successor's generation is larger, however its predecessor ended (G6)");
        before = lock.lock.generation();
        match round % 3 {
            0 => fixture.advance(grain * 10).await,
            1 => drop(lock.broken(&store, BOB, std::time::Duration::ZERO).await),
            _ => lock.end(&store).await,
        }
    }
    fixture.advance((grain * 4_000).min(fixture.patience())).await;
    let late = Ask::exclusive(ANN, "/a").one(&store).await;
    assert!(late.lock.generation() > before, "generations are not forgotten with the dead (G6)");
}

/// Every permit knows the generation current at its admission: no smaller than any lock before, smaller than any after.
pub async fn permits_know_the_generation<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let first = Ask::exclusive(ANN, "/a").one(&store).await;
    let held = Wr::put(ANN, "/a/x").with(&first).admitted(&store, "its own token").await.permit.generation();
    assert!(held >= first.lock.generation(), "a permit knows the generation current at its admission (G6)");
    first.end(&store).await;
    let stalled = Wr::delete(BOB, "/a").admitted(&store, "nothing is locked").await;
    let stale = stalled.permit.generation();
    assert!(stale >= first.lock.generation(), "also that of locks which have ended (G6)");
    drop(stalled);
    let second = Ask::exclusive(ANN, "/a/b").one(&store).await;
    assert!(second.lock.generation() > stale, "a later grant is larger: a stalled writer is told apart (G6)");
    let fresh = Wr::put(ANN, "/a/b").with(&second).admitted(&store, "its own token").await;
    assert!(fresh.permit.generation() >= second.lock.generation(), "and its holder is not (G6)");
    let number = fresh.permit.generation();
    Ask::exclusive(BOB, "/z").one(&store).await;
    assert_eq!(fresh.permit.generation(), number, "a permit's number is that of its admission");
}
