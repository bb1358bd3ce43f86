//! Where two features meet: preferences and bodies that go on, hooks that panic, leases that lapse and counters.

mod support;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use support::{
    Mode, ProbeError, Rigged, SECOND, Text, by, holding, leases::Leases, lock_for, locks_of_users, probe, request, send,
    until, with,
};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_lock::{ActivityKind, LockLayer, LockRequest, LockScope, Locks, Refusal, ResourceKey, store::ManualClock};

/// A body that goes on until it is told to end.
#[derive(Clone, Default)]
struct Open(Arc<(AtomicBool, Mutex<Option<Waker>>)>);

impl Open {
    fn end(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        if let Some(waker) = self.0.1.lock().unwrap().take() {
            waker.wake();
        }
    }
}

impl Body for Open {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0.0.load(Ordering::SeqCst) {
            return Poll::Ready(None);
        }
        *self.0.1.lock().unwrap() = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn refused(refusal: &Refusal, _: &http::request::Parts) -> Response<Open> {
    let open = Open::default();
    open.end();
    let mut response = Response::new(open);
    *response.status_mut() = refusal.status();
    response
}

async fn live(locks: &Locks, path: &str) -> usize {
    locks.covering(&ResourceKey::parse(path).unwrap()).await.unwrap().len()
}

#[tokio::test]
async fn a_lock_does_not_end_while_the_body_of_its_last_write_goes_on() {
    for mode in [Mode::Pass, Mode::Later] {
        let clock = ManualClock::new();
        let memory = support::stores::memory(clock.clock());
        let locks = locks_of_users(Rigged::all(memory.clone(), mode)).clock(clock.clock()).build();
        let token = lock_for(&locks, "ann", "/a", LockScope::Exclusive).await;
        let open = Open::default();
        let body = open.clone();
        let probe = probe(move |_: Request<Text>| {
            let body = body.clone();
            async move { Ok::<_, ProbeError>(Response::new(body)) }
        });
        let mut service = LockLayer::new(locks.clone()).respond_with(refused).until_body_ends().layer(probe);
        let write = with(by(holding(request("PUT", "/a"), token), "ann"), "prefer", "lock=release");
        let call = service.ready().await.unwrap().call(write);
        let answer = tokio::time::timeout(SECOND * 5, call).await.expect("it answers").unwrap();
        assert_eq!(answer.headers()["preference-applied"], "lock=release");
        assert_eq!(memory.stats().in_flight, 1);
        let other = service.ready().await.unwrap().call(by(request("PUT", "/a"), "bob")).await.unwrap();
        assert_eq!(other.status(), 423, "{mode:?}: it is still being written");
        open.end();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
        drop(body);
        assert_eq!(memory.stats().in_flight, 0);
        until("the lock has ended", || memory.stats().locks == 0).await;
        assert_eq!(live(&locks, "/a").await, 0);
    }
}

#[tokio::test]
async fn a_release_that_did_not_happen_is_not_said_to_have() {
    let locks = locks_of_users(support::stores::memory(ManualClock::new().clock())).build();
    let token = lock_for(&locks, "ann", "/a", LockScope::Exclusive).await;
    let probe = probe(async |_: Request<Text>| {
        let mut response = Response::new(Text::default());
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        Ok::<_, ProbeError>(response)
    });
    let mut service = LockLayer::new(locks.clone()).layer(probe);
    let write = with(by(holding(request("PUT", "/a"), token), "ann"), "prefer", "lock=release");
    let answer = send(&mut service, write).await;
    assert_eq!((answer.status.as_u16(), live(&locks, "/a").await), (500, 1));
    assert_eq!(answer.header("preference-applied"), None);
}

#[tokio::test]
async fn a_hook_that_panics_harms_nobody() {
    let clock = ManualClock::new();
    let memory = support::stores::memory(clock.clock());
    let locks =
        locks_of_users(memory.clone()).clock(clock.clock()).on_activity(|_| panic!("a hook of the application")).build();
    let granted = locks.acquire(LockRequest::exclusive("/a").lifetime(SECOND * 10)).await.unwrap();
    let probe = probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Text::default())));
    let mut service = LockLayer::new(locks.clone()).layer(probe);
    assert_eq!(send(&mut service, request("PUT", "/a")).await.status, 423);
    let write = with(holding(request("DELETE", "/a"), granted.token()), "prefer", "lock=release");
    assert_eq!(send(&mut service, write).await.status, 200);
    let guard = locks.hold(LockRequest::exclusive("/g").lifetime(SECOND * 30)).await.unwrap();
    for _ in 0..10 {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        clock.advance(SECOND * 12);
    }
    guard.checkpoint().unwrap();
    drop(guard);
    let counted = locks.acquire(LockRequest::exclusive("/b").lifetime(SECOND)).await.unwrap();
    clock.advance(SECOND * 2);
    until("one expiry is counted", || locks.stats().expired == 1).await;
    drop(counted);
    _ = locks.acquire(LockRequest::exclusive("/b").lifetime(SECOND)).await.unwrap();
    clock.advance(SECOND * 2);
    until("and the next", || locks.stats().expired == 2).await;
    let stats = locks.stats();
    assert_eq!(
        (stats.waiting, stats.watching, stats.guards, memory.stats().in_flight, memory.stats().locks),
        (0, 0, 0, 0, 0)
    );
}

#[tokio::test]
async fn a_write_that_is_stopped_is_told_as_refused() {
    let (leases, told) = (Leases::default(), Arc::new(Mutex::new(Vec::new())));
    let hears = told.clone();
    let locks = Locks::builder(Rigged::all(leases.clone(), Mode::Later))
        .on_activity(move |activity| {
            assert_eq!(activity.kind, ActivityKind::Refused);
            hears.lock().unwrap().push(activity.code().unwrap().to_string());
        })
        .build();
    let probe = probe(move |_: Request<Text>| std::future::pending::<Result<Response<Text>, ProbeError>>());
    let service = LockLayer::new(locks.clone()).layer(probe);
    let answer = tokio::spawn(service.oneshot(request("PUT", "/a")));
    until("the lease is watched", || leases.is_watched()).await;
    leases.lapse();
    assert_eq!(answer.await.unwrap().unwrap().status(), 503);
    assert_eq!(told.lock().unwrap()[..], ["store_unavailable"]);
    assert_eq!(locks.stats().refused.unavailable, 1);
}

#[tokio::test]
async fn a_mark_that_is_broken_is_no_lock_for_anybody() {
    let memory = support::stores::memory(ManualClock::new().clock());
    let locks = locks_of_users(memory.clone()).build();
    let probe = probe(async |_: Request<Text>| std::future::pending::<Result<Response<Text>, ProbeError>>().await);
    let mut service = LockLayer::new(locks.clone()).layer(probe);
    let mut write = Box::pin(service.ready().await.unwrap().call(request("PUT", "/a")));
    assert!(support::poll_once(write.as_mut()).is_pending());
    let mut acquire = Box::pin(locks.acquire(LockRequest::exclusive("/a")));
    assert!(support::poll_once(acquire.as_mut()).is_pending());
    let mark = locks.covering(&ResourceKey::parse("/a").unwrap()).await.unwrap().remove(0);
    _ = locks.break_lock(mark.id(), "why", SECOND * 60).await.unwrap();
    drop(write);
    let refused = acquire.await.unwrap_err();
    assert_eq!(refused.status().as_u16(), 412, "{refused}");
    assert_eq!((memory.stats().locks, memory.stats().in_flight), (0, 0));
}

#[tokio::test]
async fn the_longest_spans_are_no_trap() {
    use std::time::Duration;
    use tower_lock::locks::{KindLifetime, Lifetimes};
    let mut lifetimes = Lifetimes::default();
    lifetimes.app = KindLifetime { default: None, most: None, total: None };
    let locks = Locks::builder(tower_lock::MemoryStore::new()).lifetimes(lifetimes).build();
    let kind = || tower_lock::LockKind::from("review");
    let guard = locks.hold(LockRequest::exclusive("/a").kind(kind()).lifetime(Duration::MAX)).await.unwrap();
    let waits = LockRequest::exclusive("/a").kind(kind()).lifetime(Duration::MAX).waiting(Duration::MAX);
    let next = tokio::spawn({
        let locks = locks.clone();
        async move { locks.hold(waits).await }
    });
    until("it waits", || locks.waiting() == 1).await;
    _ = locks.break_lock(guard.lock().id(), "why", Duration::MAX).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!next.is_finished() && guard.is_held());
    guard.release().await.unwrap();
    let next = next.await.unwrap().unwrap();
    assert!(next.is_held());
    drop(next);
    assert_eq!((locks.waiting(), locks.stats().guards), (0, 0));
}
