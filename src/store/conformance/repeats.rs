//! Section 4, repeats: an acquire whose answer was lost can be asked again; tokens and ids are used once.

use super::{fixture::Fixture, kit::*};
use crate::{
    lock::{Depth, LockId, LockScope, LockToken, LostCause},
    store::{Acquired, Released},
};

/// A repeat is answered with the lock that was granted, expiry untouched.
pub async fn a_repeat_is_answered_with_the_lock<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let ask = Ask::exclusive(ANN, "/a").living(fixture.grain() * 60);
    let lock = ask.one(&store).await.lock;
    fixture.advance(fixture.grain() * 10).await;
    // The client proposed the token; the id that the server makes up differs from one request to the next.
    let other_words = ask.clone().living(fixture.grain() * 600).with(|parts| {
        parts.id = LockId::random();
        parts.reason = Some("once more".into());
    });
    for again in [ask, other_words] {
        match again.go(&store).await {
            Acquired::Repeated(locks) => {
                assert_eq!(locks.len(), 1, "one lock was granted");
                assert_eq!(locks[0].id(), lock.id(), "a repeat is answered with that lock");
                assert_eq!(locks[0].expires_at(), lock.expires_at(), "a repeat leaves the expiry alone");
                assert_eq!(locks[0].generation(), lock.generation(), "a repeat is no new grant");
                assert_eq!(locks[0].reason(), lock.reason(), "a repeat changes nothing");
            }
            other => panic!("the same token, principal, root, scope and depth is a repeat, not {other:?}"),
        }
    }
}

/// While the acquire still waits for a write, its repeat is told to come back: there is no lock yet to answer with.
pub async fn a_repeat_of_an_acquire_that_waits_is_busy<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let running = Wr::put(BOB, "/a").admitted(&store, "nothing is locked").await;
    let ask = Ask::exclusive(ANN, "/a");
    let coming = marked(&store, &ask).await;
    match ask.go(&store).await {
        Acquired::Busy { .. } => {}
        other => panic!("the lock is not granted yet, so its repeat is busy, not {other:?}"),
    }
    match ask.clone().with(|parts| parts.depth = Depth::Zero).go(&store).await {
        Acquired::Taken => {}
        other => panic!("the token is in use for something else, not {other:?}"),
    }
    drop(running);
    match answer(coming).await {
        Acquired::Granted(_) => {}
        other => panic!("a repeat leaves the acquire alone: {other:?}"),
    }
    match ask.go(&store).await {
        Acquired::Repeated(_) => {}
        other => panic!("now it is a repeat, not {other:?}"),
    }
}

/// Anything else under a token in use is 409, and changes nothing.
pub async fn anything_else_under_a_token_in_use_is_taken<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let ask = Ask::exclusive(ANN, "/a");
    let lock = ask.one(&store).await;
    let changes = [
        ("another principal", Ask { who: BOB, ..ask.clone() }.with(|parts| parts.principal = principal(BOB))),
        ("no principal", Ask { who: NOBODY, ..ask.clone() }.with(|parts| parts.principal = None)),
        ("another root", ask.clone().with(|parts| parts.root = key("/b"))),
        ("another namespace", ask.clone().with(|parts| parts.root = key("/a").in_namespace("n"))),
        ("another scope", ask.clone().with(|parts| parts.scope = LockScope::Shared)),
        ("another depth", ask.clone().with(|parts| parts.depth = Depth::Zero)),
        ("an elsewhere free root", Ask::exclusive(ANN, "/free").token(lock.token)),
    ];
    for (what, ask) in changes {
        // A proposed id is the first reason to refuse; take it away to look at the token alone.
        for ask in [ask.clone(), ask.with(|parts| parts.id = LockId::random())] {
            assert_eq!(ask.go(&store).await, Acquired::Taken, "{what} under a token in use is 409");
        }
    }
    let more = Ask::several(ANN, &["/a", "/b"]).token(lock.token);
    assert_eq!(more.go(&store).await, Acquired::Taken, "more roots under a token in use is 409");
    Wr::put(BOB, "/b").admitted(&store, "none of them was granted").await;
    Wr::put(ANN, "/a").with(&lock).admitted(&store, "the lock is what it was").await;
}

/// A proposed id only names: in use it is 409, whoever asks, and it never yields a token.
pub async fn an_id_in_use_is_taken<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    for (who, path) in [(ANN, "/a"), (BOB, "/a"), (BOB, "/b")] {
        let ask = Ask::exclusive(who, path).with(|parts| parts.id = lock.lock.id());
        assert_eq!(ask.go(&store).await, Acquired::Taken, "an id in use is 409");
    }
    Wr::put(BOB, "/b").admitted(&store, "nothing was granted").await;
}

/// Several roots repeat as one: all equal, or 409.
pub async fn several_roots_repeat_as_one<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let ask = Ask::several(ANN, &["/a", "/b"]);
    let locks = ask.all(&store).await;
    match ask.go(&store).await {
        Acquired::Repeated(again) => {
            let ids = |locks: &[crate::lock::Lock]| locks.iter().map(crate::lock::Lock::id).collect::<Vec<_>>();
            assert_eq!(ids(&again), locks.iter().map(|held| held.lock.id()).collect::<Vec<_>>(), "the same, in order");
        }
        other => panic!("the same request is a repeat, not {other:?}"),
    }
    let mut swapped = ask.clone();
    let token = swapped.locks[0].token;
    swapped.locks[0].token = swapped.locks[1].token;
    swapped.locks[1].token = token;
    assert_eq!(swapped.go(&store).await, Acquired::Taken, "each token belongs to its own root");
    let half = Ask::of(ANN, vec![ask.locks[0].clone(), Ask::exclusive(ANN, "/c").locks.remove(0)]);
    assert_eq!(half.go(&store).await, Acquired::Taken, "half a repeat is none");
    Wr::put(BOB, "/c").admitted(&store, "and grants nothing").await;
}

/// Proposing a token or an id that is gone is `lock_lost`, told in full to its own principal only.
pub async fn tokens_and_ids_are_used_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let ask = Ask::exclusive(ANN, "/a");
    let lock = ask.one(&store).await;
    lock.end(&store).await;
    match ask.go(&store).await {
        Acquired::Lost(lost) => {
            assert_eq!(only(&lost).cause, LostCause::Released, "why it is gone (G8)");
            assert_eq!(only(&lost).id, Some(lock.lock.id()), "which it was");
            assert_eq!(only(&lost).root.as_ref(), Some(lock.lock.root()), "what it was on");
        }
        other => panic!("a token that is gone is 412, not {other:?}"),
    }
    match Ask::exclusive(BOB, "/b").token(lock.token).go(&store).await {
        Acquired::Lost(lost) => assert_eq!(only(&lost).cause, LostCause::Unknown, "dead locks are told to their principal"),
        other => panic!("a token is used once, by anybody; not {other:?}"),
    }
    let same_id = Ask::exclusive(ANN, "/b").with(|parts| parts.id = lock.lock.id()).go(&store).await;
    assert!(matches!(same_id, Acquired::Lost(_)), "an id is used once, not {same_id:?}");
    Wr::put(BOB, "/a").admitted(&store, "nothing was granted").await;
    Wr::put(BOB, "/b").admitted(&store, "nothing was granted").await;
}

/// Releasing a token never seen burns it, so that an undo may overtake its acquire.
pub async fn an_undo_may_overtake_its_acquire<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let ask = Ask::exclusive(ANN, "/a");
    let undone = release_as(&store, ANN, &ask.locks[0].token).await;
    assert!(matches!(undone, Released::Lost(_)), "there was no such lock: {undone:?}");
    let late = ask.go(&store).await;
    assert!(matches!(late, Acquired::Lost(_)), "a burnt token is gone before it came, not {late:?}");
    Wr::put(BOB, "/a").admitted(&store, "nothing was granted").await;
    let second = Ask::several(ANN, &["/b", "/c"]);
    let _ = release_as(&store, ANN, &second.locks[1].token).await;
    let late = second.go(&store).await;
    assert!(matches!(late, Acquired::Lost(_)), "one burnt token among several undoes all, not {late:?}");
    Wr::of(BOB, [put("/b"), put("/c")]).admitted(&store, "nothing was granted").await;
}

/// A conflict, a quota or a busy answer uses nothing up: the same proposal is granted later.
pub async fn a_refused_proposal_is_not_used_up<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let first = Ask::exclusive(BOB, "/a").one(&store).await;
    let ask = Ask::exclusive(ANN, "/a").token(LockToken::random());
    assert!(matches!(ask.go(&store).await, Acquired::Conflict(_)), "somebody else holds it (G4)");
    first.end(&store).await;
    let full = Ask { quota: crate::store::Quota { principal: 0, store: 0 }, ..ask.clone() };
    assert!(matches!(full.go(&store).await, Acquired::OverQuota(_)), "no lock is allowed (G10)");
    ask.one(&store).await;
}
