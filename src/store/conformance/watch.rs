//! `watch`: synced first, then every change; no release is missed between reading and waiting.

use std::{sync::Arc, time::Duration};

use super::{fixture::Fixture, kit::*};
use crate::{
    lock::{LockState, LostCause},
    store::{Acquired, Follow, Followed, LockEvent, LockQuery, LockStore, ManualClock, Refreshed, Released, Span, Watch},
};

async fn next(watch: &mut Watch) -> LockEvent {
    match watch.next().await {
        Some(Ok(event)) => event,
        other => panic!("a watch is endless while its store lives: {other:?}"),
    }
}

/// The first event is `Synced`; then grants, refreshes, breaks and ends, in order.
pub async fn it_tells_what_happens<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let earlier = Ask::exclusive(ANN, "/a/earlier").one(&store).await;
    let mut watch = store.watch(&LockQuery::at_or_below(key("/a")));
    assert_eq!(next(&mut watch).await, LockEvent::Synced, "`Synced` comes first");
    let lock = Ask::exclusive(ANN, "/a/b").living(grain * 1_000).one(&store).await;
    Ask::exclusive(ANN, "/b").one(&store).await;
    Ask::exclusive(ANN, "/ab").one(&store).await;
    let _refreshed = lock.refresh(&store, Span::Same).await;
    let _breaking = lock.broken(&store, BOB, grain * 100).await;
    let ended = lock.release(&store).await;
    assert!(matches!(ended, Released::Released(_)), "its holder may end it early: {ended:?}");
    let _broken = earlier.broken(&store, BOB, Duration::ZERO).await;
    let id = lock.lock.id();
    assert!(matches!(next(&mut watch).await, LockEvent::Granted(lock) if lock.id() == id), "a grant is told");
    assert!(matches!(next(&mut watch).await, LockEvent::Refreshed(lock) if lock.id() == id), "a refresh is told");
    match next(&mut watch).await {
        LockEvent::Breaking { lock, actor, reason } => {
            assert_eq!(lock.id(), id, "a break that begins is told");
            assert_eq!((actor, reason.as_deref()), (principal(BOB), Some("because")), "by whom, and in what words");
        }
        other => panic!("a break that begins is told, not {other:?}"),
    }
    match next(&mut watch).await {
        LockEvent::Ended { lock, .. } => assert_eq!(lock.id(), id, "an end is told"),
        other => panic!("an end is told, not {other:?}"),
    }
    match next(&mut watch).await {
        LockEvent::Ended { lock, cause, actor, reason } => {
            assert_eq!((lock.id(), cause), (earlier.lock.id(), LostCause::Broken), "an end is told, and why");
            assert_eq!((actor, reason.as_deref()), (principal(BOB), Some("because")), "by whom, and in what words");
        }
        other => panic!("an end is told, not {other:?}"),
    }
}

/// Covering and below: a watch of a resource sees the locks above it; other changes are not told.
pub async fn it_tells_what_fits<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut covering = store.watch(&LockQuery::covering(key("/a/b/c")));
    assert_eq!(next(&mut covering).await, LockEvent::Synced, "`Synced` comes first");
    Ask::shared(ANN, "/a/b/c/d").one(&store).await;
    Ask::exclusive(ANN, "/a/x").one(&store).await;
    Ask::shallow(ANN, "/a").one(&store).await;
    let above = Ask::shared(ANN, "/a/b/c").one(&store).await;
    let mut by_id = store.watch(&LockQuery::id(above.lock.id()));
    assert_eq!(next(&mut by_id).await, LockEvent::Synced, "`Synced` comes first");
    above.end(&store).await;
    assert!(matches!(next(&mut covering).await, LockEvent::Granted(lock) if lock.id() == above.lock.id()), "what covers");
    assert!(
        matches!(next(&mut covering).await, LockEvent::Ended { lock, .. } if lock.id() == above.lock.id()),
        "what covers"
    );
    assert!(matches!(next(&mut by_id).await, LockEvent::Ended { lock, .. } if lock.id() == above.lock.id()), "by id");
}

/// A waiter who watches, reads on `Synced`, and sleeps until an event misses no release.
pub async fn no_release_is_missed_between_reading_and_waiting<F: Fixture>(fixture: &F) {
    let store = Arc::new(fixture.fresh().await);
    for round in 0..200 {
        let lock = Ask::exclusive(ANN, "/a").one(&store).await;
        let waiter = tokio::spawn({
            let store = store.clone();
            async move {
                let mut watch = store.watch(&LockQuery::covering(key("/a")));
                let mut synced = false;
                loop {
                    let event = next(&mut watch).await;
                    synced |= event == LockEvent::Synced;
                    assert!(synced, "`Synced` comes first");
                    if find(&store, LockQuery::covering(key("/a"))).await.is_empty() {
                        return;
                    }
                }
            }
        });
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        lock.end(&store).await;
        waiter.await.expect("a waiter misses no release");
    }
}

/// A reader that is too slow is told to read the state again, and sees everything from there on.
pub async fn a_slow_reader_is_told_to_read_again<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut watch = store.watch(&LockQuery::at_or_below(key("/a")));
    assert_eq!(next(&mut watch).await, LockEvent::Synced, "`Synced` comes first");
    let mut live = None;
    for at in 0..5_000 {
        let lock = Ask::exclusive(ANN, "/a").one(&store).await;
        if at < 4_999 {
            lock.end(&store).await;
        } else {
            live = Some(lock.lock.id());
        }
    }
    // What a reader believes: every event applied, the state read anew on every `Synced`.
    let (mut believed, mut events) = (None, 0);
    while believed != live {
        events += 1;
        match next(&mut watch).await {
            LockEvent::Synced => {
                believed = find(&store, LockQuery::at_or_below(key("/a"))).await.first().map(crate::lock::Lock::id);
            }
            LockEvent::Granted(lock) => believed = Some(lock.id()),
            LockEvent::Ended { .. } => believed = None,
            _ => {}
        }
        assert!(events < 20_000, "a watch comes to the present");
    }
}

/// A dropped watch is forgotten, and costs nobody anything.
pub async fn dropped_watches_are_forgotten<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for _ in 0..100 {
        let mut watch = store.watch(&LockQuery::at_or_below(key("/")));
        assert_eq!(next(&mut watch).await, LockEvent::Synced, "`Synced` comes first");
        drop(watch);
        drop(store.watch(&LockQuery::at_or_below(key("/"))));
        Ask::exclusive(ANN, "/a").one(&store).await.end(&store).await;
    }
}

/// Stores need not tell of what expires. Who follows a lock over any store hears of it all the same: once, and of nothing
/// else, whatever the store tells when it meets the dead lock later.
pub async fn who_follows_hears_of_an_expiry_once<F: Fixture>(fixture: &F) {
    let store: Arc<dyn LockStore> = Arc::new(fixture.fresh().await);
    let (hand, grain) = (ManualClock::new(), fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 4).one(&store).await;
    let broken = Ask::exclusive(ANN, "/b").living(grain * 400).one(&store).await;
    let mut follows = [
        Follow::covering(store.clone(), key("/a/b"), 10, hand.clock()),
        Follow::lock(store.clone(), lock.lock.id(), hand.clock()),
        Follow::lock(store.clone(), broken.lock.id(), hand.clock()),
    ];
    for follow in &mut follows {
        match told(follow).await {
            Followed::Now(locks) => assert_eq!(locks.len(), 1, "the state comes first"),
            other => panic!("the state comes first, not {other:?}"),
        }
    }
    let _breaking = broken.broken(&store, BOB, grain * 4).await;
    assert!(matches!(told(&mut follows[2]).await, Followed::Event(LockEvent::Breaking { .. })), "a break is told");
    fixture.advance(grain * 5).await;
    hand.advance(grain * 5);
    for (follow, (id, ended)) in follows.iter_mut().zip([
        (lock.lock.id(), LostCause::Expired),
        (lock.lock.id(), LostCause::Expired),
        (broken.lock.id(), LostCause::Broken),
    ]) {
        match told(follow).await {
            Followed::Event(LockEvent::Ended { lock, cause, actor, reason }) => {
                assert_eq!((lock.id(), cause), (id, ended), "an end is told when its time is up, and why");
                let whose = if cause == LostCause::Broken { (principal(BOB), Some("because")) } else { (None, None) };
                assert_eq!((actor, reason.as_deref()), whose, "by whom, and in what words");
            }
            other => panic!("an end is told when its time is up, not {other:?}"),
        }
    }
    // Now the store meets the dead locks.
    let next = Ask::exclusive(BOB, "/a").one(&store).await;
    Ask::exclusive(BOB, "/b").one(&store).await;
    match told(&mut follows[0]).await {
        Followed::Event(LockEvent::Granted(lock)) => assert_eq!(lock.id(), next.lock.id(), "an expiry is told once"),
        other => panic!("an expiry is told once, and not followed by {other:?}"),
    }
}

async fn told(follow: &mut Follow) -> Followed {
    follow.next().await.unwrap_or_else(|error| panic!("the store failed: {error}"))
}

fn ended(event: LockEvent, held: &Held, cause: LostCause, by: Option<(Who, &str)>, rule: &str) {
    match event {
        LockEvent::Ended { lock, cause: told, actor, reason } => {
            assert_eq!((lock.id(), told), (held.lock.id(), cause), "{rule}");
            let (who, why) = by.map_or((NOBODY, None), |(who, why)| (who, Some(why)));
            assert_eq!((actor, reason.as_deref()), (principal(who), why), "{rule}: by whom, and in what words");
        }
        other => panic!("{rule}: an end is told, not {other:?}"),
    }
}

/// Who watches a lock by its id, and who watches a resource below it, hears of its break: by whom, why, and until when.
pub async fn a_break_is_told_with_who_why_and_until_when<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 1_000).one(&store).await;
    let id = lock.lock.id();
    let queries = [LockQuery::id(id), LockQuery::covering(key("/a/b/c")), LockQuery::at_or_below(key("/"))];
    let mut watches: Vec<Watch> = queries.iter().map(|query| store.watch(query)).collect();
    for watch in &mut watches {
        assert_eq!(next(watch).await, LockEvent::Synced, "`Synced` comes first");
    }
    let first = lock.broken(&store, BOB, grain * 500).await;
    let second = lock.broken(&store, EVE, grain * 10).await;
    let (Released::Breaking(first), Released::Breaking(second)) = (first, second) else {
        panic!("a break with grace takes its time")
    };
    assert!(second.expires_at() < first.expires_at(), "a second break shortens the grace");
    for watch in &mut watches {
        for (breaking, who) in [(&first, BOB), (&second, EVE)] {
            match next(watch).await {
                LockEvent::Breaking { lock, actor, reason } => {
                    assert_eq!((lock.id(), lock.state()), (id, LockState::Breaking), "a break that begins is told");
                    assert_eq!(lock.expires_at(), breaking.expires_at(), "and until when the holder may write");
                    assert_eq!((actor, reason.as_deref()), (principal(who), Some("because")), "by whom, in what words");
                }
                other => panic!("a break that begins is told, not {other:?}"),
            }
        }
    }
    let _end = lock.broken(&store, ANN, Duration::ZERO).await;
    for watch in &mut watches {
        ended(next(watch).await, &lock, LostCause::Broken, Some((ANN, "because")), "a break that ends a lock is told");
    }
}

/// A lock that is replaced, one's own or another's that is broken, ends and is followed in one step: nothing is told between.
pub async fn a_replacement_is_told_as_one_step<F: Fixture>(fixture: &F) {
    let store = Arc::new(fixture.fresh().await);
    let mut watch = store.watch(&LockQuery::at_or_below(key("/a")));
    assert_eq!(next(&mut watch).await, LockEvent::Synced, "`Synced` comes first");
    // Others make noise, so that there is something to come between.
    let noise = tokio::spawn({
        let store = store.clone();
        async move {
            for _ in 0..8 {
                Ask::shared(EVE, "/a/noise").one(&store).await.end(&store).await;
            }
        }
    });
    let mut lock = Ask::exclusive(ANN, "/a/x").one(&store).await;
    let mut steps = Vec::new();
    for round in 0..15 {
        let (who, swap, cause) = match round % 3 {
            0 => (BOB, Swap::Break(lock.lock.id()), LostCause::Broken),
            1 => (BOB, Swap::Own(lock.token), LostCause::Replaced),
            _ => (BOB, Swap::Id(lock.lock.id()), LostCause::Replaced),
        };
        let new = Ask::exclusive(who, "/a/x").replacing(swap).one(&store).await;
        steps.push((lock, cause, new.lock.id()));
        lock = new;
    }
    noise.await.expect("noise");
    let mut events = Vec::new();
    while !matches!(events.last(), Some(LockEvent::Granted(last)) if last.id() == lock.lock.id()) {
        events.push(next(&mut watch).await);
    }
    for (old, cause, new) in steps {
        let of_old = |event: &LockEvent| matches!(event, LockEvent::Ended { lock, .. } if lock.id() == old.lock.id());
        let ends: Vec<usize> = (0..events.len()).filter(|at| of_old(&events[*at])).collect();
        assert_eq!(ends.len(), 1, "what is replaced ends once");
        let by = (cause == LostCause::Broken).then_some((BOB, "because"));
        ended(events[ends[0]].clone(), &old, cause, by, "what is replaced ends first");
        assert!(
            matches!(events.get(ends[0] + 1), Some(LockEvent::Granted(lock)) if lock.id() == new),
            "and what replaces it is told next: {:?}",
            events.get(ends[0] + 1)
        );
    }
}

/// A lock whose time was up is told as expired, once, when a later step meets it at the latest, and before whatever takes its
/// place; nothing else is told of it.
pub async fn an_expired_lock_is_announced<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let mut watch = store.watch(&LockQuery::at_or_below(key("/")));
    assert_eq!(next(&mut watch).await, LockEvent::Synced, "`Synced` comes first");
    let paths = ["/a/0", "/a/1/deep", "/a/2", "/a/3", "/a/4/x", "/a/5"];
    let mut locks = Vec::new();
    for path in paths {
        locks.push(Ask::exclusive(ANN, path).living(grain * 5).one(&store).await);
    }
    let stays = Ask::exclusive(ANN, "/b").living(grain * 1_000).one(&store).await;
    let breaking = locks[0].broken(&store, BOB, grain * 3).await;
    assert!(matches!(breaking, Released::Breaking(_)), "a break with grace takes its time: {breaking:?}");
    fixture.advance(grain * 6).await;
    // Each is met by another step.
    assert!(matches!(locks[1].refresh(&store, Span::Same).await, Refreshed::Lost(_)), "it has expired");
    assert!(matches!(locks[2].release(&store).await, Released::Lost(_)), "it has expired");
    assert!(matches!(locks[3].broken(&store, EVE, Duration::ZERO).await, Released::Lost(_)), "it has expired");
    Wr::put(BOB, "/a/4/x").admitted(&store, "it has expired").await;
    let swapped = Ask::exclusive(BOB, "/c").replacing(Swap::Break(locks[5].lock.id())).go(&store).await;
    assert!(matches!(swapped, Acquired::Lost(_)), "it has expired: {swapped:?}");
    let heir = Ask::exclusive(BOB, "/a").one(&store).await;
    // And again, so that it could be told twice.
    for lock in &locks {
        assert!(matches!(lock.release(&store).await, Released::Lost(_)), "it is gone");
    }
    fixture.advance(grain * 2).await;
    heir.end(&store).await;
    stays.end(&store).await;
    let (mut told, mut granted) = (Vec::new(), false);
    loop {
        match next(&mut watch).await {
            LockEvent::Ended { lock, .. } if lock.id() == stays.lock.id() => break,
            LockEvent::Ended { lock, .. } if lock.id() == heir.lock.id() => assert!(granted, "ends come after grants"),
            LockEvent::Ended { lock, cause, actor, reason } => {
                assert!(!granted, "the dead are told before what takes their place");
                told.push((lock.id(), cause, actor, reason));
            }
            LockEvent::Granted(lock) => granted |= lock.id() == heir.lock.id(),
            LockEvent::Breaking { .. } => {}
            other => panic!("an expiry is told as an end, not as {other:?}"),
        }
    }
    for (at, lock) in locks.iter().enumerate() {
        let mut ends = told.iter().filter(|(id, ..)| *id == lock.lock.id());
        let (one, two) = (ends.next(), ends.next());
        let (_, cause, actor, reason) = one.unwrap_or_else(|| panic!("the end of {} is told", paths[at]));
        assert_eq!(two, None, "and once");
        let (who, why) = if at == 0 { (BOB, Some("because")) } else { (NOBODY, None) };
        let expected = if at == 0 { LostCause::Broken } else { LostCause::Expired };
        assert_eq!((cause, actor, reason.as_deref()), (&expected, &principal(who), why), "why, by whom, in what words");
    }
}
