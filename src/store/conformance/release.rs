//! Release, break, and what is remembered of the dead (G8).

use std::time::Duration;

use super::{fixture::Fixture, kit::*};
use crate::{
    lock::{HolderProof, LockId, LockKind, LockState, LockToken, LostCause, LostLock},
    store::{Acquired, Authority, LockStore, Refreshed, Release, Released, Span, Which},
};

fn lost(answer: Released, rule: &str) -> LostLock {
    match answer {
        Released::Lost(lost) => lost,
        other => panic!("{rule}: expected a lost lock, not {other:?}"),
    }
}

/// Its holder ends a lock at once; once more, it is gone.
pub async fn a_released_lock_is_gone_at_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    match lock.release(&store).await {
        Released::Released(ended) => assert_eq!(ended.id(), lock.lock.id(), "the answer says which"),
        other => panic!("its holder releases a lock, not {other:?}"),
    }
    Wr::put(BOB, "/a").admitted(&store, "an ended lock is absent from every answer at once (G5)").await;
    assert!(seen(&store, &lock).await.is_none(), "an ended lock is absent from every answer at once (G5)");
    assert_eq!(lost(lock.release(&store).await, "it is gone").cause, LostCause::Released, "told apart (G8)");
}

/// Who may release: the holder, its principal, the guard; never a stranger, never the anonymous for another.
pub async fn only_the_holder_releases<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (ann, bob) = (principal(ANN), principal(BOB));
    let (ann, bob) = (ann.as_ref(), bob.as_ref());
    let token = |principal| Authority::Holder { principal, proof: &HolderProof::TokenAndPrincipal };
    let bearer = |principal| Authority::Holder { principal, proof: &HolderProof::Token };
    let name = |principal| Authority::Holder { principal, proof: &HolderProof::Principal };
    let cases = [
        (true, token(ann), true),
        (true, token(bob), false),
        (true, token(None), false),
        (false, token(ann), false),
        (true, bearer(bob), true),
        (false, bearer(ann), false),
        (false, name(ann), true),
        (false, name(bob), false),
        (false, name(None), false),
        (false, Authority::Principal(ann.expect("a principal")), true),
        (false, Authority::Principal(bob.expect("a principal")), false),
        (true, Authority::Guard, true),
        (false, Authority::Guard, true),
    ];
    for (shown, authority, may) in cases {
        let lock = Ask::exclusive(ANN, "/a").one(&store).await;
        let which = if shown { Which::Token(&lock.token) } else { Which::Id(lock.lock.id()) };
        let released = answer(store.release(&Release::new(which, authority))).await;
        match (&released, may) {
            (Released::Released(_), true) => {}
            (Released::NotHolder, false) => {
                assert!(seen(&store, &lock).await.is_some(), "who may not, ends nothing");
                lock.end(&store).await;
            }
            _ => panic!("{which:?} by {authority:?}: {released:?}"),
        }
    }
    let nobodys = Ask::exclusive(NOBODY, "/b").one(&store).await;
    let authority = Authority::Principal(ann.expect("a principal"));
    let released = answer(store.release(&Release::new(Which::Id(nobodys.lock.id()), authority))).await;
    assert_eq!(released, Released::NotHolder, "an anonymous lock is nobody's by name");
}

/// Nobody proves to hold a freeze; the code that set it ends it, and so does a break.
pub async fn a_freeze_ends_by_guard_or_break<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let freeze = || Ask::exclusive(ANN, "/a").kind(LockKind::Freeze);
    let lock = freeze().one(&store).await;
    assert_eq!(lock.release(&store).await, Released::NotHolder, "nobody proves to hold a freeze");
    let guard = answer(store.release(&Release::new(Which::Token(&lock.token), Authority::Guard))).await;
    assert!(matches!(guard, Released::Released(_)), "the code that set it ends it: {guard:?}");
    let lock = freeze().one(&store).await;
    let broken = lock.broken(&store, BOB, Duration::ZERO).await;
    assert!(matches!(broken, Released::Released(_)), "an authorised break ends it: {broken:?}");
    Wr::put(BOB, "/a").admitted(&store, "it is gone").await;
}

/// A release through a resource that the lock does not cover says so and ends nothing.
pub async fn a_release_goes_through_a_covered_resource<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let who = principal(ANN);
    let authority = Authority::Holder { principal: who.as_ref(), proof: &HolderProof::TokenAndPrincipal };
    for path in ["/a", "/a/b/c"] {
        let lock = Ask::exclusive(ANN, "/a").one(&store).await;
        for elsewhere in ["/", "/ab", "/b"] {
            let key = key(elsewhere);
            let release = Release::new(Which::Token(&lock.token), authority).covering(Some(&key));
            let out = lost(answer(store.release(&release)).await, "it does not cover this");
            assert_eq!(out.cause, LostCause::OutOfScope, "it lives, but not here");
            assert!(seen(&store, &lock).await.is_some(), "and lives on");
        }
        let key = key(path);
        let release = Release::new(Which::Token(&lock.token), authority).covering(Some(&key));
        let released = answer(store.release(&release)).await;
        assert!(matches!(released, Released::Released(_)), "through any resource the lock covers: {released:?}");
    }
}

/// A break without grace ends any lock at once, and its holder hears who and why.
pub async fn a_break_ends_a_lock_at_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    let broken = lock.broken(&store, BOB, Duration::ZERO).await;
    assert!(matches!(&broken, Released::Released(ended) if ended.id() == lock.lock.id()), "it has ended: {broken:?}");
    Wr::put(EVE, "/a").admitted(&store, "an ended lock is absent from every answer at once (G5)").await;
    let heard = match lock.refresh(&store, Span::Same).await {
        Refreshed::Lost(lost) => lost,
        other => panic!("a broken lock is lost: {other:?}"),
    };
    assert_eq!(heard.cause, LostCause::Broken, "told apart (G8)");
    assert_eq!((heard.actor, heard.reason.as_deref()), (principal(BOB), Some("because")), "who broke it, and why");
    assert_eq!((heard.id, heard.root.as_ref()), (Some(lock.lock.id()), Some(lock.lock.root())), "which it was");
    let unknown = Authority::Break { actor: None, reason: "because", grace: Duration::ZERO };
    let unknown = answer(store.release(&Release::new(Which::Id(LockId::random()), unknown))).await;
    assert_eq!(lost(unknown, "there is none").cause, LostCause::Unknown, "a lock that never was is unknown");
}

/// A break with grace: the holder may still write, its refresh is lost with the deadline, nobody new acquires, and the
/// lock ends at the deadline.
pub async fn a_break_with_grace_lets_the_holder_finish<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 1_000).one(&store).await;
    let breaking = match lock.broken(&store, BOB, grain * 10).await {
        Released::Breaking(breaking) => breaking,
        other => panic!("a break with grace takes its time, not {other:?}"),
    };
    let deadline = breaking.life().seen_at.after(grain * 10);
    assert_eq!((breaking.state(), breaking.expires_at()), (LockState::Breaking, Some(deadline)), "it ends with the grace");
    fixture.advance(grain * 9).await;
    Wr::put(ANN, "/a/x").with(&lock).admitted(&store, "during the grace the holder's writes are admitted").await;
    Wr::put(EVE, "/a/x").blocked(&store, &[&lock], "during the grace others are refused").await;
    assert!(matches!(Ask::exclusive(BOB, "/a").go(&store).await, Acquired::Conflict(_)), "nobody new acquires");
    match lock.refresh(&store, Span::Same).await {
        Refreshed::Lost(lost) => {
            assert_eq!((lost.cause, lost.at), (LostCause::Broken, Some(deadline)), "lost, with the deadline");
        }
        other => panic!("a lock being broken is not refreshed: {other:?}"),
    }
    let slips = Ask::exclusive(ANN, "/a").replacing(Swap::Own(lock.token)).go(&store).await;
    assert!(!matches!(slips, Acquired::Granted(_)), "nobody slips out of a break by replacing what is broken");
    fixture.advance(grain).await;
    assert!(seen(&store, &lock).await.is_none(), "it ends at the deadline");
    Ask::exclusive(BOB, "/a").one(&store).await;
    assert_eq!(lost(lock.release(&store).await, "it is gone").cause, LostCause::Broken, "and was broken (G8)");
}

/// At the end of a grace period pins fall, and the successor drains (G3).
pub async fn at_the_end_of_the_grace_pins_fall<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 1_000).one(&store).await;
    let running = Wr::put(ANN, "/a/x").with(&lock).admitted(&store, "its own token").await;
    let broken = lock.broken(&store, BOB, grain * 10).await;
    assert!(matches!(broken, Released::Breaking(_)), "a break with grace takes its time: {broken:?}");
    fixture.advance(grain * 10).await;
    assert!(seen(&store, &lock).await.is_none(), "at the end of the grace pins fall");
    let mut coming = marked(&store, &Ask::exclusive(BOB, "/a").draining(grain * 10)).await;
    still_pending(&mut coming, "a successor drains as in G3").await;
    drop(running);
    assert!(matches!(answer(coming).await, Acquired::Granted(_)), "the write has ended");
}

/// A grace period never prolongs a lock, and a second break only shortens the first.
pub async fn a_grace_never_prolongs<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let lock = Ask::exclusive(ANN, "/a").living(grain * 5).one(&store).await;
    let broken = lock.broken(&store, BOB, grain * 50).await;
    assert!(
        matches!(&broken, Released::Breaking(lock) if lock.expires_at() <= Some(lock.life().seen_at.after(grain * 5))),
        "a grace never prolongs: {broken:?}"
    );
    let again = lock.broken(&store, EVE, Duration::ZERO).await;
    assert!(matches!(again, Released::Released(_)), "a break without grace ends it at once: {again:?}");
    Wr::put(BOB, "/a").admitted(&store, "it is gone").await;
    let lock = Ask::exclusive(ANN, "/a").living(grain * 50).one(&store).await;
    let _first = lock.broken(&store, BOB, grain * 10).await;
    let _second = lock.broken(&store, BOB, grain * 40).await;
    fixture.advance(grain * 10).await;
    Wr::put(EVE, "/a").admitted(&store, "a second break does not prolong the first").await;
}

/// Dead locks are remembered for an hour.
pub async fn the_dead_are_remembered<F: Fixture>(fixture: &F) {
    let hour = Duration::from_secs(3_600);
    if fixture.patience() < hour {
        return;
    }
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    lock.end(&store).await;
    let burnt = LockToken::random();
    let _lost = release_as(&store, ANN, &burnt).await;
    fixture.advance(hour - Duration::from_secs(60)).await;
    assert_eq!(lost(lock.release(&store).await, "it is gone").cause, LostCause::Released, "remembered for an hour (G8)");
    let late = Ask::exclusive(ANN, "/b").token(burnt).go(&store).await;
    assert!(matches!(late, Acquired::Lost(_)), "a burnt token is remembered as well: {late:?}");
}

/// What happened to a lock is told to its principal with its token only.
pub async fn the_dead_are_told_to_their_own<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    lock.end(&store).await;
    for who in [BOB, NOBODY] {
        let heard = lost(release_as(&store, who, &lock.token).await, "it is gone");
        assert_eq!(heard, LostLock::new(LostCause::Unknown), "told to the same principal with the token only (G9)");
    }
    let (bob, id) = (principal(BOB), Which::Id(lock.lock.id()));
    let authority = Authority::Holder { principal: bob.as_ref(), proof: &HolderProof::TokenAndPrincipal };
    let heard = lost(answer(store.release(&Release::new(id, authority))).await, "it is gone");
    assert_eq!(heard, LostLock::new(LostCause::Unknown), "told to the same principal with the token only (G9)");
}

/// Whoever held a lock that was broken, and does not know, is told so by whatever it does next with the token: who and why.
pub async fn the_former_holder_is_told_who_and_why<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    for grace in [Duration::ZERO, grain * 5] {
        let lock = Ask::exclusive(ANN, "/a").living(grain * 1_000).one(&store).await;
        let _broken = lock.broken(&store, BOB, grace).await;
        fixture.advance(grace).await;
        let heir = Ask::exclusive(BOB, "/a").one(&store).await;
        let urn = lock.token.urn();
        let told = |heard: &LostLock, rule: &str| {
            assert_eq!((heard.cause, heard.id), (LostCause::Broken, Some(lock.lock.id())), "{rule} (G8)");
            assert_eq!((&heard.actor, heard.reason.as_deref()), (&principal(BOB), Some("because")), "{rule}: who and why");
            assert!(heard.at.is_some(), "{rule}: and when");
        };
        for (name, value) in [("If", format!("(<{urn}>)")), ("Lock-Token", format!("<{urn}>"))] {
            let refused = Wr::put(ANN, "/a").header(name, value).refused(&store, "the token is gone").await;
            assert!(refused.condition_failed, "a token that is gone is a false condition");
            told(only(&refused.lost), "a write with the token of a broken lock is told");
            same_ids(&refused.blockers, [heir.lock.id()], "and by whom the resource is locked now");
        }
        match lock.refresh(&store, Span::Same).await {
            Refreshed::Lost(heard) => told(&heard, "a refresh is told"),
            other => panic!("a broken lock is lost: {other:?}"),
        }
        told(&lost(lock.release(&store).await, "it is gone"), "a release is told");
        match Ask::exclusive(ANN, "/b").replacing(Swap::Own(lock.token)).go(&store).await {
            Acquired::Lost(heard) => told(only(&heard), "an acquire that replaces it is told"),
            other => panic!("a broken lock is lost: {other:?}"),
        }
        heir.end(&store).await;
    }
}
