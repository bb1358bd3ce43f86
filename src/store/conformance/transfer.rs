//! Handing over: a lock goes to another principal in one step, is on offer until that one claims it, and is claimed once.

use std::{sync::Arc, time::Duration};

use super::{fixture::Fixture, kit::*};
use crate::{
    lock::{Claim, HolderProof, LockState, LostCause},
    store::{
        Acquired, Authority, LockEvent, LockQuery, LockStore, QuotaExceeded, Refreshed, Release, Released, Span, Which,
    },
};

/// What hands ann's lock over to bob: the same resource, his, on offer, with a token that nobody keeps.
fn to_bob(ask: Ask) -> Ask {
    ask.with(|parts| (parts.principal, parts.claim) = (principal(BOB), Claim::Open))
}

/// What hands `lock` of ann's over to bob.
fn handing_over(lock: &Held) -> Ask {
    to_bob(Ask::exclusive(ANN, lock.lock.root().path())).replacing(Swap::Own(lock.token))
}

fn claiming(offer: &Held) -> Ask {
    Ask::exclusive(BOB, offer.lock.root().path()).replacing(Swap::Id(offer.lock.id()))
}

/// The lock is the other's from the step on in which it is handed over, with a generation of its own, and shows as offered; the
/// old token is gone, and the new one works for nobody who does not have it.
pub async fn a_lock_goes_to_another_in_one_step<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut watch = store.watch(&LockQuery::covering(key("/a")));
    assert!(matches!(watch.next().await, Some(Ok(LockEvent::Synced))), "`Synced` comes first");
    let old = Ask::exclusive(ANN, "/a").one(&store).await;
    let offer = handing_over(&old).one(&store).await;
    assert_eq!(offer.lock.principal(), principal(BOB).as_ref(), "it is another's now");
    assert_eq!((offer.lock.state(), offer.lock.claim()), (LockState::Offered, Claim::Open), "and on offer");
    assert!(offer.lock.generation() > old.lock.generation(), "with a generation of its own (G6)");
    let shown = seen(&store, &offer).await.expect("it is there");
    assert_eq!((shown.state(), shown.claim()), (LockState::Offered, Claim::Open), "and shows as on offer");
    let bob = principal(BOB);
    let his = find(&store, LockQuery::at_or_below(key("/")).held_by(bob.as_ref())).await;
    same_ids(&his, [offer.lock.id()], "it is found among his");
    Wr::put(ANN, "/a").with(&old).blocked(&store, &[&offer], "the old token is gone").await;
    Wr::put(ANN, "/a").with(&offer).blocked(&store, &[&offer], "who made the token does not hold the lock (G9)").await;
    Wr::put(BOB, "/a").blocked(&store, &[&offer], "nor does he whose it is, before he has a token").await;
    let header = format!("(<{}>)", old.token.urn());
    let refused = Wr::put(ANN, "/a").header("If", header).refused(&store, "the old token is gone").await;
    assert_eq!(only(&refused.lost).cause, LostCause::Replaced, "its holder is told that it was replaced (G8)");
    let new = claiming(&offer).one(&store).await;
    assert_eq!((new.lock.state(), new.lock.claim()), (LockState::Held, Claim::Made), "claimed, it is a lock as any other");
    assert!(new.lock.generation() > offer.lock.generation(), "with a generation of its own (G6)");
    Wr::put(BOB, "/a").with(&new).admitted(&store, "the token of the claim answers").await;
    Wr::put(BOB, "/a").with(&offer).blocked(&store, &[&new], "that of the offer does not").await;
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(match watch.next().await {
            Some(Ok(LockEvent::Granted(lock))) => ("granted", lock.id()),
            Some(Ok(LockEvent::Ended { lock, cause, .. })) => (cause.as_str(), lock.id()),
            other => panic!("grants and ends are told, not {other:?}"),
        });
    }
    let (old, offer, new) = (old.lock.id(), offer.lock.id(), new.lock.id());
    let steps = [("granted", old), ("replaced", old), ("granted", offer), ("replaced", offer), ("granted", new)];
    assert_eq!(told, steps, "each step is told as one");
}

/// A lock is taken from its holder for another: broken, with who and why, and on offer to that other.
pub async fn a_lock_is_taken_for_another<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let old = Ask::exclusive(ANN, "/a").one(&store).await;
    let mut ask = to_bob(Ask::exclusive(EVE, "/a")).replacing(Swap::Break(old.lock.id()));
    ask.lifetime.span = Some(fixture.grain() * 1_000);
    let offer = ask.one(&store).await;
    match old.refresh(&store, Span::Same).await {
        Refreshed::Lost(lost) => {
            assert_eq!(lost.cause, LostCause::Broken, "its holder is told that it was broken (G8)");
            assert_eq!((lost.actor, lost.reason.as_deref()), (principal(EVE), Some("because")), "by whom and why");
        }
        other => panic!("a lock that was taken away is lost: {other:?}"),
    }
    claiming(&offer).one(&store).await;
}

/// What was asked again word for word is answered with the lock, though it is another's.
pub async fn handing_over_may_be_repeated<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let old = Ask::exclusive(ANN, "/a").one(&store).await;
    let ask = handing_over(&old);
    let offer = ask.one(&store).await;
    match ask.go(&store).await {
        Acquired::Repeated(locks) => same_ids(&locks, [offer.lock.id()], "it is this very lock"),
        other => panic!("a repeat is answered with the lock, not {other:?}"),
    }
    // Who handed it over and does not hear of it any more takes it back.
    let undone = answer(store.release(&Release::new(Which::Token(&offer.token), Authority::Guard))).await;
    assert!(matches!(undone, Released::Released(_)), "its token ends it for the node that made it: {undone:?}");
}

/// An offer is a lock: it conflicts, it is released by its principal, and it ends when nobody claims it.
pub async fn an_offer_ends_as_any_lock<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let old = Ask::exclusive(ANN, "/a").one(&store).await;
    let offer = handing_over(&old).living(grain * 5).one(&store).await;
    let refused = Ask::exclusive(BOB, "/a/b").go(&store).await;
    assert!(matches!(refused, Acquired::Conflict(_)), "it conflicts, even with his own: {refused:?}");
    fixture.advance(grain * 5).await;
    assert!(seen(&store, &offer).await.is_none(), "an offer expires (G5)");
    let late = claiming(&offer).go(&store).await;
    assert!(matches!(late, Acquired::Lost(_)), "and is not claimed afterwards: {late:?}");
    let old = Ask::exclusive(ANN, "/a").one(&store).await;
    let offer = handing_over(&old).one(&store).await;
    let (ann, bob) = (principal(ANN), principal(BOB));
    for (who, may) in [(ann.as_ref(), false), (bob.as_ref(), true)] {
        let authority = Authority::Principal(who.expect("a principal"));
        let released = answer(store.release(&Release::new(Which::Id(offer.lock.id()), authority))).await;
        assert_eq!(matches!(released, Released::Released(_)), may, "whose it is declines it, nobody else: {released:?}");
    }
    Ask::exclusive(EVE, "/a").one(&store).await;
}

/// Only he to whom it is offered claims it, and nobody claims what is being broken.
pub async fn only_whose_it_is_claims_it<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let offer = handing_over(&Ask::exclusive(ANN, "/a").one(&store).await).one(&store).await;
    for who in [ANN, EVE, NOBODY] {
        let stolen = Ask { who, ..claiming(&offer) }.with(|parts| parts.principal = principal(who)).go(&store).await;
        assert_eq!(stolen, Acquired::NotHolder, "an offer is claimed by whose it is, not by {who:?}");
    }
    let broken = offer.broken(&store, EVE, fixture.grain() * 100).await;
    assert!(matches!(&broken, Released::Breaking(lock) if lock.state() == LockState::Breaking), "it is broken: {broken:?}");
    let slips = claiming(&offer).go(&store).await;
    assert!(matches!(slips, Acquired::Lost(_)), "what is being broken is not claimed: {slips:?}");
}

/// Whoever gets a lock has to have room for it; whoever gives it away needs none.
pub async fn the_quota_is_that_of_whose_it_becomes<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let old = Ask::exclusive(ANN, "/a").one(&store).await;
    let his = Ask::exclusive(BOB, "/b").one(&store).await;
    let full = handing_over(&old).quota(1, usize::MAX).go(&store).await;
    assert_eq!(full, Acquired::OverQuota(QuotaExceeded::Principal), "bob has one already");
    assert!(seen(&store, &old).await.is_some(), "and ann keeps hers");
    Ask::exclusive(ANN, "/c").one(&store).await;
    his.end(&store).await;
    let offer = handing_over(&old).quota(1, 2).one(&store).await;
    claiming(&offer).quota(1, 2).one(&store).await;
    let more = Ask::exclusive(BOB, "/d").quota(1, usize::MAX).go(&store).await;
    assert_eq!(more, Acquired::OverQuota(QuotaExceeded::Principal), "what was handed over counts as his");
}

/// Handing over waits for the writes of the one who had it (G3); until then it protects those.
pub async fn the_writes_of_the_old_holder_end_first<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let old = Ask::exclusive(ANN, "/a").living(grain * 1_000).one(&store).await;
    let running = Wr::put(ANN, "/a/x").with(&old).admitted(&store, "its own token").await;
    let ask = handing_over(&old).draining(grain * 100);
    let mut coming = marked(&store, &ask).await;
    still_pending(&mut coming, "the old holder's write is waited for (G3)").await;
    assert_eq!(seen(&store, &old).await.map(|lock| lock.state()), Some(LockState::Held), "the old lock protects so long");
    drop(running);
    let Acquired::Granted(locks) = answer(coming).await else { panic!("the write has ended") };
    assert_eq!(locks[0].state(), LockState::Offered, "and then it is on offer");
    assert!(seen(&store, &old).await.is_none(), "and the old one is gone");
}

/// However many claim an offer at a time, one gets it.
pub async fn an_offer_is_claimed_once<F: Fixture>(fixture: &F) {
    let store = Arc::new(fixture.fresh().await);
    for round in 0..20 {
        let path = format!("/{round}");
        let shared = round % 2 == 1;
        let ask = if shared { Ask::shared(ANN, &path) } else { Ask::exclusive(ANN, &path) };
        let offer = to_bob(ask).one(&store).await;
        let claims: Vec<_> = (0..8)
            .map(|_| {
                let (store, id, path) = (store.clone(), offer.lock.id(), path.clone());
                tokio::spawn(async move {
                    let ask = if shared { Ask::shared(BOB, &path) } else { Ask::exclusive(BOB, &path) };
                    ask.replacing(Swap::Id(id)).go(&store).await
                })
            })
            .collect();
        let mut granted = 0;
        for claim in claims {
            match claim.await.expect("a claim") {
                Acquired::Granted(_) => granted += 1,
                Acquired::Lost(lost) => assert_eq!(only(&lost).cause, LostCause::Unknown, "an id proves nothing"),
                other => panic!("a claim that comes too late is lost, not {other:?}"),
            }
        }
        assert_eq!(granted, 1, "an offer is claimed once");
        assert_eq!(find(&store, LockQuery::covering(key(&path))).await.len(), 1, "and one lock is left of it");
    }
}

/// Claims that do not stand in each other's way, and all wait for a write, come to the same: one gets it.
pub async fn claims_that_wait_come_to_one<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let offer = to_bob(Ask::shared(ANN, "/a")).living(grain * 1_000).one(&store).await;
    let running = Wr::put(EVE, "/x").admitted(&store, "nothing is locked there").await;
    // Wider than the offer, so that they have to wait; shared, so that they can wait at a time.
    let wide = || Ask::shared(BOB, "/").replacing(Swap::Id(offer.lock.id())).draining(grain * 100);
    let mut claims = Vec::new();
    for _ in 0..3 {
        claims.push(marked(&store, &wide()).await);
    }
    drop(running);
    let mut granted = 0;
    for claim in claims {
        match answer(claim).await {
            Acquired::Granted(_) => granted += 1,
            Acquired::Lost(lost) => assert_eq!(only(&lost).cause, LostCause::Unknown, "an id proves nothing"),
            other => panic!("a claim that comes too late is lost, not {other:?}"),
        }
    }
    assert_eq!(granted, 1, "an offer is claimed once");
    assert_eq!(find(&store, LockQuery::covering(key("/a"))).await.len(), 1, "and one lock is left of it");
}

/// A claim that waits does not slip out of a break that begins meanwhile.
pub async fn a_claim_that_waits_does_not_slip_out_of_a_break<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let offer = to_bob(Ask::shared(ANN, "/a")).living(grain * 1_000).one(&store).await;
    let running = Wr::put(EVE, "/x").admitted(&store, "nothing is locked there").await;
    let wide = Ask::shared(BOB, "/").replacing(Swap::Id(offer.lock.id())).draining(grain * 100);
    let coming = marked(&store, &wide).await;
    let broken = offer.broken(&store, EVE, grain * 500).await;
    assert!(matches!(broken, Released::Breaking(_)), "a break with grace takes its time: {broken:?}");
    drop(running);
    let slips = answer(coming).await;
    assert!(matches!(slips, Acquired::Lost(_)), "what is being broken is not claimed: {slips:?}");
    assert_eq!(seen(&store, &offer).await.map(|lock| lock.state()), Some(LockState::Breaking), "and its time goes on");
    let again = Ask::exclusive(EVE, "/y").draining(Duration::ZERO).go(&store).await;
    assert!(matches!(again, Acquired::Granted(_)), "and nothing is left of the claim: {again:?}");
}

/// A proof of one's own choosing proves no claim: whose it is decides.
pub async fn a_claim_needs_no_proof<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let offer = handing_over(&Ask::exclusive(ANN, "/a").one(&store).await).one(&store).await;
    let mut stolen = Ask { who: EVE, ..claiming(&offer) };
    stolen.proof = HolderProof::Token;
    assert_eq!(stolen.go(&store).await, Acquired::NotHolder, "a proof by token alone proves nothing without one");
    let mut claim = claiming(&offer);
    claim.proof = HolderProof::Custom(Arc::new(|_| false));
    claim.one(&store).await;
}
