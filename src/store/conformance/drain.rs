//! Section 4, locks coming: marks, waiting for writes in flight (G3), busy and its cool-down.

use std::{collections::VecDeque, future::Future, pin::Pin, task::Poll, time::Duration};

use super::{fixture::Fixture, kit::*};
use crate::{
    lock::{Depth, Gone, Lock, LockId, LockKind, LockScope, LockState, LockToken, LostCause, Reach, Target},
    store::{Acquired, Authority, LockQuery, LockStore, Refreshed, Release, Released, Span, Which},
};

fn granted(answer: Acquired, rule: &str) -> Vec<Lock> {
    match answer {
        Acquired::Granted(locks) => locks,
        other => panic!("{rule}: not granted but {other:?}"),
    }
}

fn busy(answer: &Acquired, rule: &str) -> Duration {
    match answer {
        Acquired::Busy { retry_after } => *retry_after,
        other => panic!("{rule}: expected busy, not {other:?}"),
    }
}

/// `acquire` answers *granted* only when no write that the lock would refuse is still running (G3).
pub async fn a_grant_waits_for_the_writes_it_would_refuse<F: Fixture>(fixture: &F) {
    let rule = "when `acquire` answers granted, no write that the lock would refuse still runs (G3)";
    let cases: Vec<(&str, Depth, Vec<Target<'static>>)> = vec![
        ("/a/b", Depth::Infinity, vec![put("/a/b")]),
        ("/a/b", Depth::Infinity, vec![put("/a/b/c/d")]),
        ("/a/b", Depth::Zero, vec![put("/a/b")]),
        ("/a/b", Depth::Zero, vec![create("/a/b/new")]),
        ("/a/b", Depth::Zero, vec![delete("/a/b/old")]),
        ("/a/b", Depth::Zero, vec![delete("/a")]),
        ("/a/b", Depth::Infinity, vec![delete("/a")]),
        ("/a/b", Depth::Infinity, vec![delete("/")]),
        ("/a/b", Depth::Infinity, vec![replace_below("/a")]),
        ("/a/b", Depth::Infinity, vec![put("/x"), put("/a/b/c")]),
        ("/a/b", Depth::Infinity, rename("/x", "/a/b/c").to_vec()),
        ("/a/b", Depth::Infinity, rename("/a", "/x").to_vec()),
        ("/", Depth::Infinity, vec![put("/a")]),
        ("/", Depth::Zero, vec![create("/a")]),
        ("/", Depth::Zero, rename("/a/b", "/c").to_vec()),
    ];
    for (root, depth, targets) in cases {
        let store = fixture.fresh().await;
        let running = Wr::of(BOB, targets.clone()).admitted(&store, "nothing is locked").await;
        let mut coming = marked(&store, &Ask::new(ANN, root, LockScope::Exclusive, depth)).await;
        still_pending(&mut coming, &format!("{rule}: {root} {depth:?} over {targets:?}")).await;
        drop(running);
        granted(answer(coming).await, "the write has ended");
    }
}

/// A write that was let through the short way is waited for like any other, and one that the mark touches is not let through.
pub async fn a_grant_waits_for_what_was_let_through<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let write = Wr::of(BOB, [create("/a/b/c")]);
    let Some(running) = write.let_through(&store) else { return };
    let mut coming = marked(&store, &Ask::exclusive(ANN, "/a")).await;
    still_pending(&mut coming, "when `acquire` answers granted, no write that the lock would refuse still runs (G3)").await;
    assert!(write.let_through(&store).is_none(), "a mark refuses as the lock would");
    drop(running);
    granted(answer(coming).await, "the write has ended");
    assert!(write.let_through(&store).is_none(), "it is locked");
}

/// It waits for exactly those: other writes do not hold it up.
pub async fn a_grant_waits_for_no_other_write<F: Fixture>(fixture: &F) {
    let rule = "a mark waits for exactly the writes that it would refuse";
    let store = fixture.fresh().await;
    let writes = [
        Wr::put(BOB, "/"),
        Wr::put(BOB, "/a"),
        Wr::of(BOB, [create("/a")]),
        Wr::of(BOB, [create("/a/bc")]),
        Wr::delete(BOB, "/a/c"),
        Wr::delete(BOB, "/a/b!"),
        Wr::of(BOB, rename("/a/x", "/a/y")),
        Wr::of(BOB, [Target::unlink(key("/a").in_namespace("n"))]),
    ];
    let mut running = Vec::new();
    for write in writes {
        running.push(write.admitted(&store, "nothing is locked").await);
    }
    let deep = Ask::exclusive(ANN, "/a/b").draining(Duration::ZERO).go(&store).await;
    granted(deep, rule);
    let store = fixture.fresh().await;
    let member = Wr::put(BOB, "/a/b").admitted(&store, "nothing is locked").await;
    let below = Wr::of(BOB, [create("/a/b/c")]).admitted(&store, "nothing is locked").await;
    granted(Ask::shallow(ANN, "/a").draining(Duration::ZERO).go(&store).await, "depth zero leaves members alone");
    drop((running, member, below));
}

/// A write that another shared lock excused is waited for once that lock has ended: the new one would refuse it now.
pub async fn an_excuse_ends_with_the_lock_that_gave_it<F: Fixture>(fixture: &F) {
    let rule = "when `acquire` answers granted, no write that the lock would refuse still runs (G3)";
    let store = fixture.fresh().await;
    let other = Wr::put(EVE, "/z").admitted(&store, "nothing is locked").await;
    let held = Ask::shared(BOB, "/a").one(&store).await;
    let excused = Wr::put(BOB, "/a/b").with(&held).admitted(&store, "its own lock answers").await;
    let mut coming = marked(&store, &Ask::shared(ANN, "/")).await;
    held.end(&store).await;
    drop(other);
    still_pending(&mut coming, rule).await;
    drop(excused);
    granted(answer(coming).await, "both writes have ended");
}

/// A mark refuses as the lock would, is shown as pending with a deadline, and conflicts as the lock would.
pub async fn a_mark_refuses_and_conflicts_as_the_lock<F: Fixture>(fixture: &F) {
    let (store, drain) = (fixture.fresh().await, fixture.grain() * 10);
    let running = Wr::put(BOB, "/a/x").admitted(&store, "nothing is locked").await;
    let ask = Ask::exclusive(ANN, "/a").draining(drain);
    let mut coming = marked(&store, &ask).await;
    let pending = |locks: &[Lock], rule: &str| {
        same_ids(locks, [ask.id()], rule);
        assert_eq!(locks[0].state(), LockState::Pending, "{rule}: its state is pending");
        assert_eq!(locks[0].generation(), 0, "{rule}: the generation starts at the grant");
        let deadline = locks[0].expires_at().expect("a mark has a deadline of its own");
        assert!(deadline <= locks[0].life().seen_at.after(drain), "{rule}: the mark's deadline is the acquire's");
    };
    for write in [Wr::put(EVE, "/a/y"), Wr::put(BOB, "/a/x"), Wr::delete(EVE, "/"), Wr::put(ANN, "/a")] {
        pending(&write.refused(&store, "a mark refuses as the lock would").await.blockers, "a mark refuses");
    }
    Wr::put(EVE, "/b").admitted(&store, "a mark refuses nothing else").await;
    for other in [Ask::exclusive(BOB, "/a/z"), Ask::exclusive(ANN, "/"), Ask::shared(EVE, "/a/x")] {
        match other.go(&store).await {
            Acquired::Conflict(conflict) => pending(&conflict.blockers, "a mark conflicts"),
            other => panic!("a mark conflicts exactly as the lock would, not {other:?}"),
        }
    }
    Ask::exclusive(BOB, "/b").one(&store).await;
    still_pending(&mut coming, "the write still runs (G3)").await;
    drop(running);
    granted(answer(coming).await, "the write has ended");
}

/// Its token answers for nothing before the grant, and no one reads, refreshes or clears a lock by it.
pub async fn the_token_of_a_mark_answers_for_nothing<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let running = Wr::delete(BOB, "/a/x").admitted(&store, "nothing is locked").await;
    let ask = Ask::exclusive(ANN, "/a").draining(grain * 100);
    let mut coming = marked(&store, &ask).await;
    let token = ask.locks[0].token;
    let mut write = Wr::put(ANN, "/a/y");
    write.tokens.push(token);
    let refused = write.refused(&store, "a mark's token answers for nothing").await;
    same_ids(&refused.blockers, [ask.id()], "a mark's token answers for nothing");
    let refused = Wr::put(ANN, "/a/y").header("If", format!("(<{}>)", token.urn())).refused(&store, "not live yet").await;
    assert!(refused.condition_failed, "a mark's token makes no condition true");
    let refreshed = refresh_as(&store, ANN, &token, Span::Same).await;
    assert!(matches!(refreshed, Refreshed::Lost(_)), "a mark is not refreshed: {refreshed:?}");
    let replaces = Ask::exclusive(ANN, "/z").replacing(Swap::Own(token)).go(&store).await;
    assert!(!matches!(replaces, Acquired::Granted(_)), "a mark's token replaces nothing");
    let gone = [Gone { key: key("/a"), reach: Reach::AtOrBelow }];
    let cleared = answer(store.clear(&gone, running.permit.id())).await;
    assert_eq!(cleared, 0, "clearing spares marks");
    still_pending(&mut coming, "the write still runs (G3)").await;
    drop(running);
    let lock = granted(answer(coming).await, "the write has ended").remove(0);
    let held = Held { lock, token, who: ANN };
    Wr::put(ANN, "/a/y").with(&held).admitted(&store, "from the grant on it answers").await;
}

/// Lifetime and generation start at the grant, not at the mark.
pub async fn life_starts_at_the_grant<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let running = Wr::put(BOB, "/a/x").admitted(&store, "nothing is locked").await;
    let ask = Ask::shared(ANN, "/a").living(grain * 60).draining(grain * 100);
    let coming = marked(&store, &ask).await;
    let between = Ask::exclusive(EVE, "/b").one(&store).await;
    fixture.advance(grain * 20).await;
    drop(running);
    let lock = granted(answer(coming).await, "the write has ended").remove(0);
    let later = Ask::exclusive(EVE, "/c").one(&store).await;
    assert!(lock.created_at() >= between.lock.created_at().after(grain * 20), "created at the grant");
    assert!(lock.created_at() <= later.lock.created_at(), "created at the grant");
    assert_eq!(lock.expires_at(), Some(lock.created_at().after(grain * 60)), "the lifetime starts at the grant");
}

/// Past its limit the mark is withdrawn, the answer is busy, and writers go on at once.
pub async fn past_the_limit_it_is_busy_and_writers_go_on<F: Fixture>(fixture: &F) {
    let (store, drain) = (fixture.fresh().await, fixture.grain() * 10);
    let running = Wr::put(BOB, "/a/x").admitted(&store, "nothing is locked").await;
    let ask = Ask::exclusive(ANN, "/a").draining(drain);
    let coming = marked(&store, &ask).await;
    fixture.advance(drain).await;
    Wr::put(EVE, "/a/y").admitted(&store, "a mark past its deadline refuses nothing").await;
    let retry = busy(&answer(coming).await, "past the limit `acquire` answers busy");
    assert!(retry > Duration::ZERO, "busy says when to ask again");
    assert!(find(&store, LockQuery::id(ask.id())).await.is_empty(), "the mark is withdrawn");
    drop(running);
    fixture.advance(drain * 3).await;
    ask.one(&store).await;
}

/// After busy no overlapping mark is set for twice the limit: repeated acquires cannot starve writers.
pub async fn repeated_acquires_cannot_starve_writers<F: Fixture>(fixture: &F) {
    let (store, drain) = (fixture.fresh().await, fixture.grain() * 10);
    let mut running = Wr::put(BOB, "/a/x").admitted(&store, "nothing is locked").await;
    let coming = marked(&store, &Ask::exclusive(ANN, "/a").draining(drain)).await;
    fixture.advance(drain).await;
    busy(&answer(coming).await, "past the limit `acquire` answers busy");
    let rule = "within twice the limit an acquire over a running write is busy at once, and sets no mark";
    for _ in 0..18 {
        for again in [
            Ask::exclusive(ANN, "/a"),
            Ask::exclusive(EVE, "/a/x"),
            Ask::exclusive(EVE, "/"),
            Ask::several(EVE, &["/z", "/a/x"]),
        ] {
            let again = again.draining(drain);
            busy(&again.go(&store).await, rule);
            assert!(find(&store, LockQuery::id(again.id())).await.is_empty(), "{rule}");
        }
        let next = Wr::put(BOB, "/a/x").admitted(&store, "writers go on while acquires repeat").await;
        running = next;
        fixture.advance(fixture.grain()).await;
    }
    let free = Ask::exclusive(ANN, "/a/free").draining(drain).one(&store).await;
    free.end(&store).await;
    let apart = Wr::put(BOB, "/b/x").admitted(&store, "nothing is locked there").await;
    let elsewhere = marked(&store, &Ask::exclusive(ANN, "/b").draining(drain)).await;
    drop(apart);
    granted(answer(elsewhere).await, "the cool-down is about overlapping marks");
    fixture.advance(fixture.grain() * 3).await;
    let coming = marked(&store, &Ask::exclusive(ANN, "/a").draining(drain)).await;
    drop(running);
    granted(answer(coming).await, "after the cool-down marks are set again");
}

/// Where acquires are asked for without pause and writes overlap without pause, writers have most of the time.
pub async fn writers_keep_their_share_of_time<F: Fixture>(fixture: &F) {
    const TICKS: usize = 300;
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let mut running = VecDeque::new();
    running.push_back(Wr::put(BOB, "/a/x").admitted(&store, "nothing is locked").await);
    let mut coming = None;
    let (mut admitted, mut tried) = (0, 0);
    for _ in 0..TICKS {
        let mut pending = coming.take().unwrap_or_else(|| Ask::exclusive(ANN, "/a").draining(grain * 10).start(&store));
        let answered = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut pending).poll(cx))).await;
        if answered.is_pending() {
            coming = Some(pending);
        }
        tried += 1;
        if let Some(admission) = Wr::put(BOB, "/a/x").verdict(&store).await.admitted() {
            admitted += 1;
            running.push_back(admission);
            if running.len() > 2 {
                running.pop_front();
            }
        }
        fixture.advance(grain).await;
    }
    assert!(admitted * 2 > tried, "repeated acquires cannot starve writers: {admitted} of {tried} writes were admitted");
}

/// No time to wait: busy at once, without a mark.
pub async fn no_time_to_wait_is_busy_at_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let running = Wr::delete(BOB, "/a").admitted(&store, "nothing is locked").await;
    let ask = Ask::exclusive(ANN, "/a/b/c").draining(Duration::ZERO);
    busy(&ask.go(&store).await, "nothing is waited for");
    assert!(find(&store, LockQuery::id(ask.id())).await.is_empty(), "no mark is left");
    Wr::put(BOB, "/a/b/c").admitted(&store, "no mark is left").await;
    drop(running);
    ask.one(&store).await;
}

/// A dropped acquire withdraws its mark.
pub async fn a_dropped_acquire_withdraws_its_mark<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let running = Wr::put(BOB, "/a/x").admitted(&store, "nothing is locked").await;
    for ask in [Ask::exclusive(ANN, "/a"), Ask::several(ANN, &["/a", "/b"])] {
        let ask = ask.draining(fixture.grain() * 1_000);
        drop(marked(&store, &ask).await);
        // A network store withdraws in the background.
        let mut tries = 0;
        while Wr::put(EVE, "/a/y").verdict(&store).await.refused().is_some() {
            tries += 1;
            assert!(tries < 10_000, "a dropped acquire withdraws its mark");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(find(&store, LockQuery::id(ask.id())).await.is_empty(), "a dropped acquire withdraws its mark");
    }
    // One that was never polled as well.
    drop(Ask::exclusive(ANN, "/a").draining(fixture.grain() * 1_000).start(&store));
    drop(running);
    Ask::exclusive(EVE, "/a").one(&store).await;
}

/// Once its mark is gone the same request may come again, word for word: whatever is left of the first does nothing to it.
pub async fn a_dropped_acquire_may_be_asked_again<F: Fixture>(fixture: &F) {
    let rule = "a mark belongs to the acquire that set it";
    let store = fixture.fresh().await;
    for round in 0..40 * soak() {
        let running = Wr::put(BOB, "/a/x").admitted(&store, "nothing is locked").await;
        let ask = Ask::exclusive(ANN, "/a").draining(fixture.grain() * 1_000);
        let mut first = marked(&store, &ask).await;
        // Dropped at different moments: a look at the writes may be under way.
        for _ in 0..round % 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            still_pending(&mut first, rule).await;
        }
        drop(first);
        let mut tries = 0;
        while !find(&store, LockQuery::id(ask.id())).await.is_empty() {
            tries += 1;
            assert!(tries < 10_000, "a dropped acquire withdraws its mark");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut again = marked(&store, &ask).await;
        still_pending(&mut again, rule).await;
        drop(running);
        let locks = granted(answer(again).await, rule);
        ask.held(locks)[0].end(&store).await;
    }
}

/// The caller's own permit, passed in, is not waited for; others are.
pub async fn ones_own_permit_is_not_waited_for<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let own = Wr::put(ANN, "/a").admitted(&store, "nothing is locked").await;
    let ask = Ask::exclusive(ANN, "/a").within(&own.permit).draining(Duration::ZERO);
    let lock = ask.one(&store).await;
    Wr::put(BOB, "/a").blocked(&store, &[&lock], "the lock protects").await;
    lock.end(&store).await;
    let other = Wr::put(ANN, "/a").admitted(&store, "nothing is locked").await;
    let ask = Ask::exclusive(ANN, "/a").within(&own.permit).draining(Duration::ZERO);
    busy(&ask.go(&store).await, "nobody is excepted by name, only the permit passed in");
    drop(other);
    ask.one(&store).await;
}

/// A write admitted with a shared lock's token is not waited for where that token answers for the new lock too, of what
/// the write changes; and is, where it does not.
pub async fn writes_that_vouch_for_the_lock_are_not_waited_for<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let narrow = Ask::shared(ANN, "/a/b").one(&store).await;
    let inside = Wr::put(ANN, "/a/b/x").with(&narrow).admitted(&store, "its own token").await;
    let wide = Ask::shared(BOB, "/a").draining(Duration::ZERO).one(&store).await;
    Wr::put(ANN, "/a/b/x").with(&narrow).admitted(&store, "the mark would not have refused it").await;
    wide.end(&store).await;
    let ask = Ask::exclusive(BOB, "/a").replacing(Swap::Break(narrow.lock.id())).draining(Duration::ZERO);
    busy(&ask.go(&store).await, "an exclusive lock refuses it, so it waits");
    let freeze = Ask::shared(BOB, "/a").kind(LockKind::Freeze).draining(Duration::ZERO);
    busy(&freeze.go(&store).await, "a freeze is vouched for by nobody, so it waits");
    drop(inside);

    let outside = Wr::of(ANN, [put("/a/b/x"), put("/a/c")]).with(&narrow).admitted(&store, "its own token").await;
    let ask = Ask::shared(BOB, "/a").draining(Duration::ZERO);
    busy(&ask.go(&store).await, "of what this write changes, the token does not cover all");
    Ask::shared(BOB, "/a/b").draining(Duration::ZERO).one(&store).await;
    drop(outside);
    ask.one(&store).await;
}

/// Until the grant a lock to be replaced keeps protecting.
pub async fn until_the_grant_the_replaced_lock_protects<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let old = Ask::shared(ANN, "/a").one(&store).await;
    let running = Wr::put(ANN, "/a/x").with(&old).admitted(&store, "its own token").await;
    let ask = Ask::exclusive(ANN, "/a").replacing(Swap::Own(old.token)).draining(fixture.grain() * 10);
    let mut coming = marked(&store, &ask).await;
    still_pending(&mut coming, "the holder's own write is refused by the new lock, so it is waited for (G3)").await;
    assert!(seen(&store, &old).await.is_some(), "until the grant the replaced lock lives");
    let refused = Wr::put(EVE, "/a/y").refused(&store, "both refuse").await;
    same_ids(&refused.blockers, [old.lock.id(), ask.id()], "lock and mark refuse");
    drop(coming);
    let mut tries = 0;
    while Wr::put(ANN, "/a/x").with(&old).verdict(&store).await.refused().is_some() {
        tries += 1;
        assert!(tries < 10_000, "a withdrawn replacement leaves the old lock as it was");
        tokio::task::yield_now().await;
    }
    let coming = marked(&store, &ask_again(&ask)).await;
    drop(running);
    let new = granted(answer(coming).await, "the write has ended").remove(0);
    assert!(seen(&store, &old).await.is_none(), "the replaced lock ended with the grant");
    same_ids(&find(&store, LockQuery::covering(key("/a"))).await, [new.id()], "and one lock is left");
}

fn ask_again(ask: &Ask) -> Ask {
    ask.clone().token(LockToken::random()).with(|parts| parts.id = LockId::random())
}

/// A mark whose token is given back while it waits is not granted.
pub async fn an_undo_reaches_a_mark<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let running = Wr::put(BOB, "/a").admitted(&store, "nothing is locked").await;
    let ask = Ask::exclusive(ANN, "/a").draining(fixture.grain() * 1_000);
    let coming = marked(&store, &ask).await;
    let _undone = release_as(&store, ANN, &ask.locks[0].token).await;
    drop(running);
    let late = answer(coming).await;
    assert!(!matches!(late, Acquired::Granted(_)), "an undo may overtake its acquire, also while that waits");
    Wr::put(BOB, "/a").admitted(&store, "nothing is left of it").await;
}

/// A lock broken under its holder's write: the successor waits for that write (G3).
pub async fn a_successor_drains_the_broken_holders_write<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let old = Ask::exclusive(ANN, "/a").one(&store).await;
    let running = Wr::put(ANN, "/a/x").with(&old).admitted(&store, "its own token").await;
    let by_break = Ask::exclusive(BOB, "/a").replacing(Swap::Break(old.lock.id())).draining(Duration::ZERO);
    busy(&by_break.go(&store).await, "the holder's write still runs (G3)");
    assert!(seen(&store, &old).await.is_some(), "a replacement that fails ends nothing");
    let ended = old.broken(&store, BOB, Duration::ZERO).await;
    assert!(matches!(ended, Released::Released(_)), "a break without grace ends a lock in use: {ended:?}");
    let ask = Ask::exclusive(BOB, "/a").draining(fixture.grain() * 10);
    let mut coming = marked(&store, &ask).await;
    still_pending(&mut coming, "a successor drains as in G3").await;
    drop(running);
    granted(answer(coming).await, "the write has ended");
    let authority = Authority::Guard;
    let late = answer(store.release(&Release::new(Which::Token(&old.token), authority))).await;
    assert!(matches!(late, Released::Lost(_)), "the broken lock stays gone: {late:?}");
    let lost = match old.release(&store).await {
        Released::Lost(lost) => lost,
        other => panic!("the broken lock stays gone: {other:?}"),
    };
    assert_eq!(lost.cause, LostCause::Broken, "it was broken (G8)");
}

/// Ordinary writers never refuse or delay one another, whatever they write, however many there are.
pub async fn writers_leave_each_other_alone<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut running = Vec::new();
    for round in 0..50 {
        let who = [ANN, BOB, NOBODY][round % 3];
        for write in [
            Wr::put(who, "/a/x"),
            Wr::of(who, [create("/a/x")]),
            Wr::delete(who, "/a/x"),
            Wr::delete(who, "/a"),
            Wr::delete(who, "/"),
            Wr::of(who, rename("/a", "/b")),
        ] {
            running.push(write.admitted(&store, "ordinary writers never refuse or delay one another (G3)").await);
        }
    }
    // They end in no order.
    while running.len() > 1 {
        running.swap_remove(running.len() / 2);
    }
    let last = running.pop();
    busy(&Ask::exclusive(ANN, "/a/x").draining(Duration::ZERO).go(&store).await, "one still runs (G3)");
    drop(last);
    Ask::exclusive(ANN, "/a/x").one(&store).await;
}
