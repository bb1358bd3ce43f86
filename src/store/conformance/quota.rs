//! G10: how many locks there may be, for a principal and in the store, decided in the step that grants.

use std::sync::Arc;

use super::{
    fixture::{Fixture, Mode},
    kit::*,
};
use crate::store::{Acquired, LockQuery, QuotaExceeded};

const ANY: usize = usize::MAX;

/// A principal's quota counts its own live locks; the anonymous callers are one principal.
pub async fn a_principal_has_so_many_locks<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for who in [ANN, NOBODY] {
        let path = |at: usize| format!("/{}/{at}", who.unwrap_or("-"));
        let mut locks = Vec::new();
        for at in 0..3 {
            locks.push(Ask::exclusive(who, &path(at)).quota(3, ANY).one(&store).await);
        }
        let over = Ask::exclusive(who, &path(3)).quota(3, ANY);
        assert_eq!(over.go(&store).await, Acquired::OverQuota(QuotaExceeded::Principal), "over quota is an outcome (G10)");
        assert!(find(&store, LockQuery::id(over.id())).await.is_empty(), "and grants nothing");
        Ask::exclusive(BOB, &path(4)).quota(3, ANY).one(&store).await.end(&store).await;
        locks[0].end(&store).await;
        over.one(&store).await;
        let two = [path(5), path(6)];
        let several = Ask::several(who, &[&two[0], &two[1]]).quota(4, ANY);
        assert_eq!(several.go(&store).await, Acquired::OverQuota(QuotaExceeded::Principal), "all or none");
        Wr::put(EVE, &two[0]).admitted(&store, "all or none").await;
    }
}

/// A store's quota counts everybody's.
pub async fn a_store_has_so_many_locks<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").quota(ANY, 2).one(&store).await;
    Ask::exclusive(BOB, "/b").quota(ANY, 2).one(&store).await;
    let over = Ask::exclusive(EVE, "/c").quota(ANY, 2);
    assert_eq!(over.go(&store).await, Acquired::OverQuota(QuotaExceeded::Store), "the store is full (G10)");
    lock.end(&store).await;
    over.one(&store).await;
}

/// Expired, replaced and repeated locks do not count.
pub async fn the_dead_do_not_count<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let ask = Ask::exclusive(ANN, "/a").living(grain * 10).quota(1, 1);
    ask.one(&store).await;
    assert!(matches!(ask.go(&store).await, Acquired::Repeated(_)), "a repeat is no new lock");
    fixture.advance(grain * 10).await;
    let second = Ask::exclusive(ANN, "/b").quota(1, 1).one(&store).await;
    let third = Ask::exclusive(ANN, "/b").quota(1, 1).replacing(Swap::Own(second.token)).one(&store).await;
    let moved = Ask::exclusive(ANN, "/c").quota(1, 1).replacing(Swap::Own(third.token)).one(&store).await;
    let _broken = moved.broken(&store, BOB, std::time::Duration::ZERO).await;
    Ask::exclusive(ANN, "/d").quota(1, 1).one(&store).await;
}

/// Who names a lock twice among those to be replaced makes room for one, and ends one.
pub async fn a_lock_that_is_replaced_twice_over_makes_room_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").quota(1, 1).one(&store).await;
    let twice = |ask: Ask| ask.replacing(Swap::Own(lock.token)).replacing(Swap::Own(lock.token));
    for (quota, whose) in [((1, ANY), QuotaExceeded::Principal), ((ANY, 1), QuotaExceeded::Store)] {
        let two = twice(Ask::several(ANN, &["/b", "/c"]).quota(quota.0, quota.1));
        assert_eq!(two.go(&store).await, Acquired::OverQuota(whose), "one goes, two come (G10)");
    }
    Wr::put(ANN, "/a").with(&lock).admitted(&store, "what was not replaced is held").await;
    let one = twice(Ask::exclusive(ANN, "/b").quota(1, 1)).one(&store).await;
    assert_eq!(find(&store, LockQuery::at_or_below(key("/"))).await, [one.lock], "one goes, one comes");
}

/// A lock that outlived its own end under a write does not count once that write has ended.
pub async fn a_lock_held_late_does_not_count_afterwards<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 10).one(&store).await;
    let running = Wr::put(ANN, "/a/x").with(&lock).admitted(&store, "its own token").await;
    fixture.advance(grain * 11).await;
    let over = Ask::exclusive(ANN, "/b").quota(1, ANY);
    assert_eq!(over.go(&store).await, Acquired::OverQuota(QuotaExceeded::Principal), "it lives under the write (G7)");
    drop(running);
    fixture.advance(fixture.write_lease()).await;
    over.quota(1, 1).one(&store).await;
}

/// A conflict comes before a quota: who could not have the lock anyway hears that.
pub async fn a_conflict_comes_before_a_quota<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    Ask::exclusive(ANN, "/a").one(&store).await;
    let both = Ask::exclusive(BOB, "/a").quota(0, 0).go(&store).await;
    assert!(matches!(both, Acquired::Conflict(_)), "conflicts come before quotas, not {both:?}");
}

/// Racing acquires never exceed a quota, nor do marks that become locks.
pub async fn racing_acquires_keep_to_the_quota<F: Fixture>(fixture: &F) {
    let store = Arc::new(fixture.fresh().await);
    let running = match fixture.mode() {
        Mode::Guarded => Some(Wr::put(EVE, "/r/0").admitted(&store, "nothing is locked").await),
        Mode::CheckOnly => None,
    };
    let tasks: Vec<_> = (0..16)
        .map(|at| {
            let store = store.clone();
            tokio::spawn(async move { Ask::exclusive(ANN, &format!("/r/{at}")).quota(5, ANY).go(&store).await })
        })
        .collect();
    tokio::task::yield_now().await;
    drop(running);
    let mut granted = 0;
    for task in tasks {
        match task.await.expect("an acquire does not panic") {
            Acquired::Granted(locks) => granted += locks.len(),
            Acquired::OverQuota(QuotaExceeded::Principal) => {}
            other => panic!("granted or over quota, not {other:?}"),
        }
    }
    assert_eq!(granted, 5, "a quota is applied in the step that grants (G10)");
    assert_eq!(find(&store, LockQuery::at_or_below(key("/r"))).await.len(), 5, "no more are live (G10)");
}
