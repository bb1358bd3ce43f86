//! `Prefer` on a write through the layer: held while a lock is in the way, and what becomes of the writer's own lock.

use std::time::Duration;

use super::{
    handler::Handler,
    kit::{Answer, Dav},
    shape::Shape,
};
use crate::support::{Call, Mode};

const SECOND: Duration = Duration::from_secs(1);

fn patient() -> Dav {
    // Waits are timed by the system's clock here; the store's stands still.
    Dav::with(Shape::default(), tower_lock::LocksBuilder::allow_waiting)
}

/// Sends, and comes back once it waits.
async fn held(dav: &Dav, ask: super::kit::Ask) -> tokio::task::JoinHandle<Answer> {
    let before = dav.locks.waiting();
    let answer = ask.spawn();
    for _ in 0..10_000 {
        if dav.locks.waiting() > before {
            return answer;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never waits");
}

#[tokio::test]
async fn a_write_is_held_until_the_lock_goes() {
    for mode in [Mode::Pass, Mode::Later] {
        let dav = patient();
        for call in [Call::Admit, Call::Release, Call::Find] {
            dav.rigged.set(call, mode);
        }
        let mut token = dav.as_("ann").locked("/c/", "infinity").await;
        for ask in [
            dav.as_("bob").put("/c/m", "new"),
            dav.as_("bob").put("/c/fresh", "new"),
            dav.as_("bob").move_("/c/d/", "/e/d/"),
        ] {
            let write = held(&dav, ask.header("prefer", "wait=20")).await;
            assert!(dav.handler.take_writes().is_empty(), "nothing reaches the handler");
            dav.as_("ann").unlock("/c/", &token).expect(204).await;
            let answer = write.await.unwrap();
            assert!(answer.status.is_success(), "{answer:?}");
            assert_eq!(answer.header("preference-applied"), "wait=20");
            assert_eq!(dav.handler.take_writes().len(), 1);
            dav.assert_nothing_left(&[], "after a held write").await;
            assert_eq!(dav.locks.waiting(), 0);
            token = dav.as_("ann").locked("/c/", "infinity").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_up_the_refusal_is_as_ever() {
    let dav = patient();
    dav.as_("ann").locked("/a", "0").await;
    let answer = dav.as_("bob").put("/a", "x").header("prefer", "wait=2").expect(423).await;
    assert_eq!(answer.header("preference-applied"), "wait=2");
    assert!(answer.text.contains("lock-token-submitted"), "{answer:?}");
    assert_eq!(dav.locks.waiting(), 0);
    assert!(dav.handler.take_writes().is_empty());
}

#[tokio::test]
async fn too_many_are_429_and_no_precondition() {
    let mut limits = tower_lock::Limits::default();
    limits.waiters = 0;
    let dav = Dav::with(Shape::default(), |builder| builder.allow_waiting().limits(limits));
    dav.as_("ann").locked("/a", "0").await;
    dav.as_("bob").put("/a", "x").header("prefer", "wait=2").expect(429).await;
    dav.as_("bob").put("/a", "x").expect(423).await;
}

#[tokio::test]
async fn a_held_write_holds_no_readiness() {
    let limited = |handler: Handler| tower::limit::ConcurrencyLimit::new(handler, 1);
    let dav = Dav::made(Shape::default(), tower_lock::LocksBuilder::allow_waiting, |layer| layer, limited);
    let token = dav.as_("ann").locked("/a", "0").await;
    let writes = [
        held(&dav, dav.as_("bob").put("/a", "1").header("prefer", "wait=20")).await,
        held(&dav, dav.as_("bob").put("/a", "2").header("prefer", "wait=20")).await,
    ];
    dav.as_("bob").get("/a").expect(200).await;
    dav.as_("bob").put("/b", "x").expect(204).await;
    dav.as_("ann").unlock("/a", &token).expect(204).await;
    for write in writes {
        assert_eq!(write.await.unwrap().status, 204);
    }
}

#[tokio::test]
async fn a_held_write_dropped_anywhere_leaves_nothing() {
    let mut finished = 0;
    for polls in 0..60 {
        let dav = patient();
        dav.rigged.set(Call::Admit, Mode::Later);
        let token = dav.as_("ann").locked("/a", "0").await;
        let mut write = dav.as_("bob").put("/a", "x").header("prefer", "wait=20").sending();
        for poll in 0..polls {
            if poll == polls / 2 {
                dav.locks.release(token.parse().unwrap()).await.unwrap();
            }
            if crate::support::poll_once(write.as_mut()).is_ready() {
                finished += 1;
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(write);
        assert_eq!(dav.locks.waiting(), 0);
        let left: &[&str] = if polls == 0 { &["/a"] } else { &[] };
        dav.assert_nothing_left(left, "dropped").await;
    }
    assert!(finished > 5, "some come to their end: {finished}");
}

#[tokio::test]
async fn a_write_renews_or_ends_the_lock_that_answered_for_it_if_told() {
    let dav = Dav::new();
    let token = dav.as_("ann").lock("/a").timeout("Second-120").expect(200).await.token();
    let put = |preference| {
        let put = dav.as_("ann").put("/a", "x").if_(&format!("(<{token}>)"));
        put.header("prefer", preference)
    };
    dav.clock.advance(100 * SECOND);
    assert_eq!(put("lock=renew").expect(204).await.header("preference-applied"), "lock=renew");
    dav.clock.advance(100 * SECOND);
    assert_eq!(dav.roots().await, ["/a"]);
    put("lock=keep").expect(204).await;
    assert_eq!(dav.roots().await, ["/a"]);
    assert_eq!(put("lock=release").expect(204).await.header("preference-applied"), "lock=release");
    dav.assert_nothing_left(&[], "released").await;
    put("lock=release").expect(412).await;
}

#[tokio::test]
async fn whoever_writes_properties_is_alive_too() {
    let dav = Dav::new();
    let token = dav.as_("ann").lock("/a").timeout("Second-120").expect(200).await.token();
    let patch = |preference| {
        let patch = dav.as_("ann").proppatch("/a").if_(&format!("(<{token}>)"));
        patch.header("prefer", preference)
    };
    dav.clock.advance(100 * SECOND);
    assert_eq!(patch("lock=renew").expect(207).await.header("preference-applied"), "lock=renew");
    dav.clock.advance(100 * SECOND);
    assert_eq!(dav.roots().await, ["/a"]);
}
