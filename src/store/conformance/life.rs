//! G5 and G7: how locks expire, are refreshed, and are held by the writes they answer for.

use std::{future::poll_fn, task::Poll, time::Duration};

use super::{
    fixture::{Fixture, Lapse, SteppedBack},
    kit::*,
};
use crate::{
    lock::{Lock, LockKind, LostCause, Timestamp},
    store::{Acquired, Authority, FinalTerm, LockQuery, LockStore, Refresh, Refreshed, Released, Span, Which},
};

/// The least that a clock shows.
const TICK: Duration = Duration::from_micros(1);

fn refreshed(answer: Refreshed, rule: &str) -> (Lock, FinalTerm) {
    match answer {
        Refreshed::Refreshed(lock, term) => (lock, term),
        other => panic!("{rule}: expected a refreshed lock, not {other:?}"),
    }
}

fn lost(answer: Refreshed, rule: &str) -> crate::lock::LostLock {
    match answer {
        Refreshed::Lost(lost) => lost,
        other => panic!("{rule}: expected a lost lock, not {other:?}"),
    }
}

fn left(lock: &Lock, now: Timestamp) -> Duration {
    lock.expires_at().expect("the lock has an end").since(now)
}

/// A lock ends at `expires_at`, not before, and is then absent from every answer at once.
pub async fn an_expired_lock_is_absent_from_every_answer<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let ask = Ask::exclusive(ANN, "/a").living(grain * 10);
    let lock = ask.one(&store).await;
    fixture.advance(grain * 9).await;
    Wr::put(BOB, "/a/x").blocked(&store, &[&lock], "a lock lives until `expires_at` (G5)").await;
    fixture.advance(grain).await;
    let rule = "an ended lock is absent from every answer at once (G5)";
    assert!(seen(&store, &lock).await.is_none(), "{rule}: find by id");
    assert!(find(&store, LockQuery::covering(key("/a/x"))).await.is_empty(), "{rule}: find covering");
    assert!(find(&store, LockQuery::at_or_below(key("/"))).await.is_empty(), "{rule}: find below");
    Wr::put(BOB, "/a/x").admitted(&store, rule).await;
    Wr::delete(BOB, "/").admitted(&store, rule).await;
    assert_eq!(lost(lock.refresh(&store, Span::Same).await, rule).cause, LostCause::Expired, "{rule}: refresh");
    assert!(
        matches!(lock.release(&store).await, Released::Lost(lost) if lost.cause == LostCause::Expired),
        "{rule}: release"
    );
    let refused = Wr::put(ANN, "/a").header("If", format!("(<{}>)", lock.token.urn())).refused(&store, rule).await;
    assert_eq!(only(&refused.lost).cause, LostCause::Expired, "{rule}: a condition");
    assert!(matches!(ask.go(&store).await, Acquired::Lost(_)), "{rule}: a repeat");
    let gone = [crate::lock::Gone { key: key("/"), reach: crate::lock::Reach::AtOrBelow }];
    assert_eq!(answer(store.clear(&gone, None)).await, 0, "{rule}: clear");
    Ask::exclusive(BOB, "/a").one(&store).await;
}

/// A lock that expired is found dead by whoever looks first: an acquire too.
pub async fn an_acquire_takes_the_place_of_an_expired_lock<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let old = Ask::exclusive(ANN, "/a/b/c").living(grain * 10).one(&store).await;
    let shared = Ask::shared(ANN, "/d").living(grain * 5).one(&store).await;
    fixture.advance(grain * 10).await;
    let new = Ask::exclusive(BOB, "/a").one(&store).await;
    assert!(new.lock.generation() > old.lock.generation(), "a successor's generation is larger (G6)");
    Ask::exclusive(BOB, "/d").quota(2, 2).one(&store).await;
    Wr::put(ANN, "/a/b/c").with(&old).blocked(&store, &[&new], "the old token is gone").await;
    assert_eq!(lost(shared.refresh(&store, Span::Same).await, "it expired").cause, LostCause::Expired, "told apart (G8)");
}

/// A refresh restarts the lifetime: as long as last given, or as asked.
pub async fn a_refresh_restarts_the_lifetime<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").lifetime(Some(grain * 10), Some(grain * 100), None).one(&store).await;
    let steps = [
        (Span::Same, 10),
        (Span::For(grain * 30), 30),
        (Span::Same, 30),
        (Span::For(grain * 5_000), 100),
        (Span::Endless, 100),
    ];
    for (span, expected) in steps {
        fixture.advance(grain * 5).await;
        let (now_lives, term) = refreshed(lock.refresh(&store, span).await, "its holder refreshes it");
        let now = now_lives.life().seen_at;
        assert_eq!(left(&now_lives, now), grain * expected, "{span:?}: a refresh restarts the lifetime within its bounds");
        assert_eq!(term, FinalTerm::No, "no total life, no final term");
        assert_eq!(now_lives.generation(), lock.lock.generation(), "a refresh is no new grant");
        assert_eq!(now_lives.created_at(), lock.lock.created_at(), "a refresh is no new grant");
        assert_eq!(seen(&store, &lock).await.and_then(|lock| lock.expires_at()), now_lives.expires_at(), "and it holds");
    }
    let (short, _) = refreshed(lock.refresh(&store, Span::For(grain)).await, "a refresh may shorten");
    assert_eq!(left(&short, short.life().seen_at), grain, "a refresh may shorten");
    fixture.advance(grain).await;
    Ask::exclusive(BOB, "/a").one(&store).await;
}

/// No lock lives past its total life, refreshed or not; the last refresh says so.
pub async fn nothing_outlives_its_total_life<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").lifetime(Some(grain * 10), None, Some(grain * 25)).one(&store).await;
    let end = lock.lock.created_at().after(grain * 25);
    for (at, term) in [(9, FinalTerm::No), (9, FinalTerm::Yes), (5, FinalTerm::Yes)] {
        fixture.advance(grain * at).await;
        let (now_lives, said) = refreshed(lock.refresh(&store, Span::Same).await, "its holder refreshes it");
        assert!(now_lives.expires_at() <= Some(end), "never past its total life (G5)");
        assert_eq!(said, term, "at the cap of its total life a refresh says that it is the last");
    }
    fixture.advance(grain * 2).await;
    assert_eq!(lost(lock.refresh(&store, Span::Endless).await, "its total life is over").cause, LostCause::Expired, "G5");
    let clamped = Ask::exclusive(ANN, "/b").lifetime(Some(grain * 10), None, Some(grain * 4)).one(&store).await;
    assert_eq!(left(&clamped.lock, clamped.lock.created_at()), grain * 4, "total life bounds the first term too");
    let endless = Ask::exclusive(ANN, "/c").lifetime(None, None, Some(grain * 4)).one(&store).await;
    assert_eq!(left(&endless.lock, endless.lock.created_at()), grain * 4, "endless within a total life ends with it");
    fixture.advance(grain * 4).await;
    Wr::of(BOB, [put("/b"), put("/c")]).admitted(&store, "never past its total life (G5)").await;
}

/// A lock without span and total life is endless.
pub async fn only_what_was_granted_endless_is_endless<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").lifetime(None, None, None).kind(LockKind::Freeze).one(&store).await;
    assert_eq!(lock.lock.expires_at(), None, "an endless lock has no end");
    let far = (grain * 4_000).min(fixture.patience());
    fixture.advance(far).await;
    Wr::put(BOB, "/a").blocked(&store, &[&lock], "an endless lock does not expire").await;
    let brief = Ask::exclusive(ANN, "/b").lifetime(Some(grain * 3), None, None).one(&store).await;
    let (now_lives, term) = refreshed(brief.refresh(&store, Span::Endless).await, "no bound was granted");
    assert_eq!((now_lives.expires_at(), term), (None, FinalTerm::No), "a refresh gives what was granted as the most");
}

/// Who may refresh: the holder by its token, the principal where the proof says so, the guard; not a stranger.
pub async fn only_the_holder_refreshes<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 10).one(&store).await;
    for who in [BOB, NOBODY] {
        let refused = refresh_as(&store, who, &lock.token, Span::Same).await;
        assert_eq!(refused, Refreshed::NotHolder, "a token does not work for another principal (G9)");
    }
    let (ann, bob) = (principal(ANN), principal(BOB));
    let id = Which::Id(lock.lock.id());
    let by_token = |who| Authority::Holder { principal: who, proof: &crate::lock::HolderProof::TokenAndPrincipal };
    let by_name = |who| Authority::Holder { principal: who, proof: &crate::lock::HolderProof::Principal };
    let breaker = Authority::Break { actor: bob.as_ref(), reason: "because", grace: Duration::ZERO };
    for (authority, may) in [
        (by_token(ann.as_ref()), false),
        (by_name(ann.as_ref()), true),
        (by_name(bob.as_ref()), false),
        (by_name(None), false),
        (Authority::Principal(ann.as_ref().expect("a principal")), true),
        (Authority::Principal(bob.as_ref().expect("a principal")), false),
        (Authority::Guard, true),
        (breaker, false),
    ] {
        let answered = answer(store.refresh(&Refresh::new(id, authority, Span::Same))).await;
        match (&answered, may) {
            (Refreshed::Refreshed(..), true) | (Refreshed::NotHolder, false) => {}
            _ => panic!("{authority:?} by id: {answered:?}"),
        }
    }
    let freeze = Ask::exclusive(ANN, "/f").kind(LockKind::Freeze).living(grain * 10).one(&store).await;
    assert_eq!(freeze.refresh(&store, Span::Same).await, Refreshed::NotHolder, "nobody proves to hold a freeze");
    let guard = Refresh::new(Which::Token(&freeze.token), Authority::Guard, Span::Same);
    refreshed(answer(store.refresh(&guard)).await, "the code that set it keeps it alive, whatever the kind");
}

/// A refresh through a resource that the lock does not cover says so and changes nothing.
pub async fn a_refresh_goes_through_a_covered_resource<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 10).one(&store).await;
    fixture.advance(grain).await;
    for (path, covered) in [("/a", true), ("/a/b/c", true), ("/", false), ("/ab", false)] {
        let (who, key) = (principal(ANN), key(path));
        let authority = Authority::Holder { principal: who.as_ref(), proof: &crate::lock::HolderProof::TokenAndPrincipal };
        let refresh = Refresh::new(Which::Token(&lock.token), authority, Span::Same).covering(Some(&key));
        match answer(store.refresh(&refresh)).await {
            Refreshed::Refreshed(..) if covered => {}
            Refreshed::Lost(lost) if !covered => assert_eq!(lost.cause, LostCause::OutOfScope, "it lives, but not here"),
            other => panic!("a refresh goes through any resource the lock covers: {path} {other:?}"),
        }
    }
}

/// A clock stepping back does not revive a lock that was given up for expired.
pub async fn a_clock_stepping_back_revives_nothing<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let old = Ask::exclusive(ANN, "/a/b").living(grain * 10).one(&store).await;
    let other = Ask::exclusive(ANN, "/c").living(grain * 10).one(&store).await;
    fixture.advance(grain * 10).await;
    let new = Ask::exclusive(BOB, "/a").one(&store).await;
    let third = Ask::exclusive(BOB, "/c/d").one(&store).await;
    if fixture.step_back(grain * 5).await == SteppedBack::Unable {
        return;
    }
    let rule = "an acquire removes every expired lock that it disregarded: a clock stepping back must not revive one";
    assert!(seen(&store, &old).await.is_none() && seen(&store, &other).await.is_none(), "{rule}");
    Wr::put(ANN, "/a/b").with(&old).blocked(&store, &[&new], rule).await;
    Wr::put(ANN, "/c").with(&other).admitted(&store, rule).await;
    Wr::put(ANN, "/c/d").with(&other).blocked(&store, &[&third], rule).await;
    let refreshed = old.refresh(&store, Span::Same).await;
    assert!(matches!(refreshed, Refreshed::Lost(_)), "{rule}: {refreshed:?}");
}

/// A lock does not end under a write that its holder has in flight: a two-hour upload under a sixty-second lock (G7).
pub async fn a_lock_outlives_its_end_under_its_holders_write<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 60).one(&store).await;
    let upload = Wr::put(ANN, "/a/big").with(&lock).admitted(&store, "its own token").await;
    same_ids(upload.answered.as_deref().unwrap_or_default(), [lock.lock.id()], "it answers for the write");
    let rule = "a lock does not end under a write that its holder has in flight (G7)";
    for _ in 0..24 {
        fixture.advance(grain * 300).await;
        let now = seen(&store, &lock).await.unwrap_or_else(|| panic!("{rule}"));
        assert!(now.in_use(), "a lock under a write is in use");
        assert!(now.expires_at() > Some(now.life().seen_at), "while pinned it reports an end to come");
        Wr::put(BOB, "/a/x").blocked(&store, &[&lock], rule).await;
        assert!(matches!(Ask::exclusive(BOB, "/a/x").go(&store).await, Acquired::Conflict(_)), "{rule}");
    }
    Wr::put(ANN, "/a/small").with(&lock).admitted(&store, rule).await;
    drop(upload);
    fixture.advance(fixture.write_lease() + TICK).await;
    assert!(seen(&store, &lock).await.is_none(), "it ends when the last write it answers for does (G5)");
    Ask::exclusive(BOB, "/a").one(&store).await;
}

/// A write that ends before the lock's own end takes nothing from it; several writes hold it until the last ends.
pub async fn a_lock_ends_with_the_last_of_its_writes<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 60).one(&store).await;
    let first = Wr::put(ANN, "/a/1").with(&lock).admitted(&store, "its own token").await;
    let second = Wr::delete(ANN, "/a/2").with(&lock).admitted(&store, "its own token").await;
    drop(Wr::put(ANN, "/a/3").with(&lock).admitted(&store, "its own token").await);
    assert!(seen(&store, &lock).await.is_some_and(|lock| lock.in_use()), "two writes are in flight");
    fixture.advance(grain * 100).await;
    drop(first);
    fixture.advance(grain * 100).await;
    assert!(seen(&store, &lock).await.is_some_and(|lock| lock.in_use()), "one write is in flight (G7)");
    let (again, _) = refreshed(lock.refresh(&store, Span::Same).await, "a lock in use is refreshed like any other");
    drop(second);
    fixture.advance(grain * 59).await;
    let now = seen(&store, &lock).await.expect("its own end is to come: it was refreshed");
    assert!(!now.in_use() || !fixture.write_lease().is_zero(), "no write is in flight any more");
    assert!(again.expires_at() >= now.expires_at(), "the end is its own again");
    fixture.advance(grain + fixture.write_lease()).await;
    assert!(seen(&store, &lock).await.is_none(), "G5");
}

/// Pins reach up to the total life, and no further.
pub async fn no_write_holds_a_lock_past_its_total_life<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").lifetime(Some(grain * 60), None, Some(grain * 200)).one(&store).await;
    let running = Wr::put(ANN, "/a/x").with(&lock).admitted(&store, "its own token").await;
    fixture.advance(grain * 199).await;
    let now = seen(&store, &lock).await.expect("pinned up to its total life (G7)");
    assert!(now.expires_at() <= Some(lock.lock.created_at().after(grain * 200)), "and it never says more");
    fixture.advance(grain).await;
    assert!(seen(&store, &lock).await.is_none(), "never past its total life (G5)");
    let ask = Ask::exclusive(BOB, "/a").draining(grain * 10);
    let mut coming = marked(&store, &ask).await;
    still_pending(&mut coming, "the old holder's write still runs (G3)").await;
    drop(running);
    assert!(matches!(answer(coming).await, Acquired::Granted(_)), "the write has ended");
}

/// Only locks that answer for a write are held by it: not those of others that merely live beside it.
pub async fn a_write_holds_only_the_locks_that_answer_for_it<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 60).one(&store).await;
    let beside = Ask::exclusive(ANN, "/b").living(grain * 60).one(&store).await;
    let running = Wr::put(ANN, "/a/x").with(&lock).with(&beside).admitted(&store, "its own token").await;
    fixture.advance(grain * 60 + fixture.write_lease()).await;
    assert!(seen(&store, &beside).await.is_none(), "a token that a write did not need holds nothing");
    assert!(seen(&store, &lock).await.is_some(), "the lock that answers lives (G7)");
    lock.end(&store).await;
    assert!(seen(&store, &lock).await.is_none(), "its holder releases it, in use or not");
    drop(running);
}

/// Once its lease has run out, a write is told to stop, no acquire waits for it, it holds no lock, and nothing brings it
/// back: others may have been granted what it changes.
pub async fn a_lapsed_write_is_stopped_and_never_revived<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 60).one(&store).await;
    let pinning = Wr::put(ANN, "/a/big").with(&lock).admitted(&store, "its own token").await;
    let plain = Wr::delete(BOB, "/b").admitted(&store, "nothing is locked there").await;
    for running in [&pinning, &plain] {
        let early = poll_fn(|cx| Poll::Ready(running.permit.poll_lapsed(cx).is_ready())).await;
        assert!(!early, "a write that was just admitted may go on");
    }
    if fixture.lapse().await == Lapse::Never {
        return;
    }
    for running in [&pinning, &plain] {
        poll_fn(|cx| running.permit.poll_lapsed(cx)).await;
    }
    let rule = "a write whose lease has run out guards nothing any more";
    let over = Ask::exclusive(EVE, "/b/c").draining(Duration::ZERO).one(&store).await;
    Wr::delete(BOB, "/b").blocked(&store, &[&over], rule).await;
    over.end(&store).await;
    fixture.advance(grain * 60).await;
    assert!(seen(&store, &lock).await.is_none(), "a write whose lease has run out holds no lock (G5)");

    let rule = "a write whose lease has run out is never revived";
    for _ in 0..3 {
        fixture.advance(grain * 60).await;
        for running in [&pinning, &plain] {
            let lapsed = poll_fn(|cx| Poll::Ready(running.permit.poll_lapsed(cx).is_ready())).await;
            assert!(lapsed, "{rule}");
        }
        Ask::exclusive(EVE, "/b").draining(Duration::ZERO).one(&store).await.end(&store).await;
        Ask::exclusive(BOB, "/a").draining(Duration::ZERO).one(&store).await.end(&store).await;
    }
    let next = Wr::put(BOB, "/b").admitted(&store, "nothing is locked there").await;
    drop((pinning, plain));
    let busy = Ask::exclusive(EVE, "/b").draining(Duration::ZERO).go(&store).await;
    assert!(matches!(busy, Acquired::Busy { .. }), "the end of a lapsed write ends no other: {busy:?}");
    drop(next);
}
