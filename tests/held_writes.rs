//! A refused write whose client would rather wait: held unread and without readiness, forwarded when the lock goes, refused when
//! the time is up; off unless allowed.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use support::{
    Answer, Call, Mode, ProbeError, Rigged, SECOND, Text, bodies::Untouchable, by, holding, lock, lock_for, locks_of_users,
    poll_once, probe, request, send, until, with,
};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_lock::{
    Depth, Limits, LockLayer, LockRequest, LockScope, Locks, MemoryStore, locks::LocksBuilder, store::ManualClock,
};

struct World {
    clock: ManualClock,
    store: MemoryStore,
    rigged: Rigged,
    locks: Locks,
}

/// Locks that clients may wait for, by one clock for store and waits.
fn world(mode: Mode, change: impl FnOnce(LocksBuilder) -> LocksBuilder) -> World {
    let clock = ManualClock::new();
    let store = support::stores::memory(clock.clock());
    let rigged = Rigged::all(store.clone(), mode);
    let locks = change(locks_of_users(rigged.clone()).clock(clock.clock()).allow_waiting()).build();
    World { clock, store, rigged, locks }
}

/// On a store that answers at once, and on one that answers later.
fn worlds() -> [World; 2] {
    [Mode::Pass, Mode::Later].map(|mode| world(mode, |builder| builder))
}

fn saved()
-> impl Service<Request<Text>, Response = Response<Text>, Error = ProbeError, Future: Send> + Clone + Send + 'static {
    probe(async |_: Request<Text>| Ok(Response::new(Text::default())))
}

fn patient(path: &str, seconds: u64) -> Request<Text> {
    with(request("PUT", path), "prefer", format!("wait={seconds}"))
}

/// Lets everybody come to rest.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Lets tasks on other threads run too.
async fn soon(what: &str, mut reached: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

/// Sends in a task of its own; comes back once it waits.
async fn held<S>(world: &World, mut service: S, request: Request<Text>) -> tokio::task::JoinHandle<Answer>
where
    S: Service<Request<Text>, Response = Response<tower_lock::respond::ResponseBody<Text>>, Error = ProbeError>
        + Send
        + 'static,
    S::Future: Send,
{
    let before = world.locks.waiting();
    let task = tokio::spawn(async move { send(&mut service, request).await });
    soon("it waits", || world.locks.waiting() > before).await;
    task
}

#[tokio::test]
async fn a_held_write_goes_on_when_the_lock_goes() {
    for world in worlds() {
        let token = lock(&world.locks, "/a", Depth::Infinity).await;
        let service = LockLayer::new(world.locks.clone()).layer(saved());
        let write = held(&world, service, patient("/a/b", 10)).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!write.is_finished(), "the lock is still there");
        world.locks.release(token).await.unwrap();
        let answer = write.await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (200, Some("wait=10")));
        assert_eq!(world.locks.waiting(), 0);
        assert_eq!(world.store.stats().in_flight, 0);
    }
}

#[tokio::test]
async fn when_the_time_is_up_it_is_refused_as_of_now() {
    for world in worlds() {
        lock(&world.locks, "/a", Depth::Infinity).await;
        let service = LockLayer::new(world.locks.clone()).layer(saved());
        let write = held(&world, service, patient("/a", 10)).await;
        world.clock.advance(10 * SECOND);
        let answer = write.await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (423, Some("wait=10")));
        assert_eq!(answer.json()["locks"][0]["expires_in"], 290, "what it is told is of now");
        assert_eq!(answer.header("retry-after"), Some("290"));
        assert_eq!(world.locks.waiting(), 0);
    }
}

#[tokio::test]
async fn an_expiry_is_noticed_though_nobody_tells() {
    for world in worlds() {
        _ = world.locks.acquire(LockRequest::exclusive("/a").lifetime(5 * SECOND)).await.unwrap();
        let service = LockLayer::new(world.locks.clone()).layer(saved());
        let write = held(&world, service, patient("/a", 10)).await;
        // Not before: the lock is still there.
        world.clock.advance(4 * SECOND);
        settle().await;
        assert!(!write.is_finished());
        // By less than a second after.
        for _ in 0..19 {
            world.clock.advance(SECOND / 10);
            settle().await;
        }
        assert_eq!(write.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn what_comes_into_the_way_next_is_waited_for_as_well() {
    for world in worlds() {
        let first = lock(&world.locks, "/a", Depth::Infinity).await;
        let second = lock(&world.locks, "/b", Depth::Infinity).await;
        let service = LockLayer::new(world.locks.clone()).layer(saved());
        let moved = with(with(request("MOVE", "/a/x"), "destination", "/b/x"), "prefer", "wait=10");
        let write = held(&world, service, moved).await;
        world.locks.release(first).await.unwrap();
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        assert!(!write.is_finished(), "the other lock is still there");
        world.locks.release(second).await.unwrap();
        assert_eq!(write.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn nobody_waits_unless_it_is_allowed_and_asked_for_and_can_help() {
    let allowed = world(Mode::Pass, |builder| builder);
    let off = locks_of_users(MemoryStore::new()).build();
    for (locks, prefer, path, status) in [
        (&off, "wait=10", "/a", 423),
        (&allowed.locks, "wait=0", "/a", 423),
        (&allowed.locks, "respond-async", "/a", 423),
        (&allowed.locks, "wait=10", "/a/../a", 400),
    ] {
        if locks.covering(&tower_lock::ResourceKey::parse("/a").unwrap()).await.unwrap().is_empty() {
            lock(locks, "/a", Depth::Infinity).await;
        }
        let mut service = LockLayer::new(locks.clone()).layer(saved());
        let answer = send(&mut service, with(request("PUT", path), "prefer", prefer)).await;
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (status, None), "{prefer} {path}");
    }
    // A lock that was lost does not come back.
    let token = lock_for(&allowed.locks, "ann", "/b", LockScope::Exclusive).await;
    allowed.locks.release(token).await.unwrap();
    let mut service = LockLayer::new(allowed.locks.clone()).layer(saved());
    let answer = send(&mut service, by(holding(patient("/b", 10), token), "ann")).await;
    assert_eq!((answer.status.as_u16(), &*answer.code()), (412, "lock_lost"));
}

#[tokio::test]
async fn a_lock_lost_while_waiting_is_told_at_once() {
    for world in worlds() {
        // Ann holds one lock and waits for another.
        let own = lock_for(&world.locks, "ann", "/a", LockScope::Exclusive).await;
        let other = lock_for(&world.locks, "ben", "/b", LockScope::Exclusive).await;
        let service = LockLayer::new(world.locks.clone()).layer(saved());
        let moved = with(with(request("MOVE", "/a/x"), "destination", "/b/x"), "prefer", "wait=10");
        let write = held(&world, service, by(holding(moved, own), "ann")).await;
        world.locks.release(own).await.unwrap();
        world.locks.release(other).await.unwrap();
        let answer = write.await.unwrap();
        assert_eq!((answer.status.as_u16(), &*answer.code()), (412, "lock_lost"));
        assert_eq!(answer.header("preference-applied"), Some("wait=10"));
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_the_limit() {
    let mut limits = Limits::default();
    limits.wait = 7 * SECOND;
    let world = world(Mode::Pass, |builder| builder.limits(limits));
    lock(&world.locks, "/a", Depth::Infinity).await;
    let service = LockLayer::new(world.locks.clone()).layer(saved());
    let write = held(&world, service, patient("/a", 86_400)).await;
    world.clock.advance(7 * SECOND);
    let answer = write.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (423, Some("wait=7")));
}

#[tokio::test]
async fn too_many_are_refused_at_once() {
    let mut limits = Limits::default();
    (limits.waiters_per_resource, limits.waiters) = (2, 3);
    let world = world(Mode::Pass, |builder| builder.limits(limits));
    lock(&world.locks, "/", Depth::Infinity).await;
    let layer = LockLayer::new(world.locks.clone());
    let mut waiting = Vec::new();
    for path in ["/a", "/a", "/b"] {
        waiting.push(held(&world, layer.layer(saved()), patient(path, 10)).await);
    }
    for path in ["/a", "/c"] {
        let answer = send(&mut layer.layer(saved()), patient(path, 10)).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (429, "too_many_waiting"), "{path}");
        assert!(answer.header("retry-after").is_some());
    }
    waiting.pop().unwrap().abort();
    until("its place is free", || world.locks.waiting() == 2).await;
    waiting.push(held(&world, layer.layer(saved()), patient("/c", 10)).await);
}

#[tokio::test]
async fn a_held_write_holds_no_readiness() {
    for world in worlds() {
        let token = lock(&world.locks, "/a", Depth::Infinity).await;
        // Of one place in all, as `ConcurrencyLimitLayer` would share it.
        let places = tower::limit::GlobalConcurrencyLimitLayer::new(1);
        let layer = LockLayer::new(world.locks.clone());
        let make = || layer.layer(places.layer(saved()));
        let mut writes = Vec::new();
        for _ in 0..5 {
            writes.push(held(&world, make(), patient("/a", 10)).await);
        }
        // Also after it was asked about again, and refused again.
        let other = lock(&world.locks, "/b", Depth::Infinity).await;
        let moved = with(with(request("MOVE", "/b/x"), "destination", "/a/x"), "prefer", "wait=10");
        writes.push(held(&world, make(), moved).await);
        world.locks.release(other).await.unwrap();
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        assert_eq!(send(&mut make(), request("GET", "/a")).await.status, 200, "reads go on");
        assert_eq!(send(&mut make(), request("PUT", "/c")).await.status, 200, "and other writes");
        world.locks.release(token).await.unwrap();
        for write in writes {
            assert_eq!(write.await.unwrap().status, 200);
        }
        assert_eq!(world.store.stats().in_flight, 0);
    }
}

#[tokio::test]
async fn a_service_that_is_never_ready_is_waited_for_no_longer_than_the_time() {
    for world in worlds() {
        let token = lock(&world.locks, "/a", Depth::Infinity).await;
        let places = tower::limit::GlobalConcurrencyLimitLayer::new(1);
        let layer = LockLayer::new(world.locks.clone());
        let write = held(&world, layer.layer(places.layer(saved())), patient("/a", 10)).await;
        let mut taken = places.layer(saved());
        taken.ready().await.unwrap();
        world.locks.release(token).await.unwrap();
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        assert!(!write.is_finished());
        assert_eq!(world.store.stats().in_flight, 0, "not admitted before it can run");
        world.clock.advance(10 * SECOND);
        assert_eq!(write.await.unwrap().status, 423);
        assert_eq!(world.locks.waiting(), 0);
    }
}

#[tokio::test]
async fn the_errors_of_the_service_are_its_own() {
    /// Is ready but once in all.
    #[derive(Clone)]
    struct Breaks(Arc<Mutex<u32>>);

    impl Service<Request<Text>> for Breaks {
        type Response = Response<Text>;
        type Error = ProbeError;
        type Future = std::future::Ready<Result<Response<Text>, ProbeError>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), ProbeError>> {
            let mut left = self.0.lock().unwrap();
            std::task::Poll::Ready(match *left {
                0 => Err(ProbeError("broken")),
                _ => {
                    *left -= 1;
                    Ok(())
                }
            })
        }

        fn call(&mut self, _: Request<Text>) -> Self::Future {
            std::future::ready(Ok(Response::new(Text::default())))
        }
    }

    for world in worlds() {
        let token = lock(&world.locks, "/a", Depth::Infinity).await;
        let mut service = LockLayer::new(world.locks.clone()).layer(Breaks(Arc::new(Mutex::new(2))));
        let task = tokio::spawn(async move { service.ready().await.unwrap().call(patient("/a", 10)).await.map(|_| ()) });
        until("it waits", || world.locks.waiting() == 1).await;
        world.locks.release(token).await.unwrap();
        assert_eq!(task.await.unwrap().unwrap_err(), ProbeError("broken"));
        assert_eq!((world.locks.waiting(), world.store.stats().in_flight), (0, 0));
    }
}

#[tokio::test]
async fn the_body_is_not_touched_while_it_waits() {
    for world in worlds() {
        lock(&world.locks, "/a", Depth::Infinity).await;
        let inner = tower::service_fn(async |_: Request<Untouchable>| Ok::<_, ProbeError>(Response::new(Text::default())));
        let mut service = LockLayer::new(world.locks.clone()).layer(inner);
        let mut asked = Request::put("/a").body(Untouchable).unwrap();
        asked.headers_mut().insert("prefer", "wait=10".parse().unwrap());
        let mut waiting = std::pin::pin!(service.call(asked));
        for _ in 0..100 {
            assert!(poll_once(waiting.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        world.clock.advance(10 * SECOND);
        assert_eq!(waiting.await.unwrap().status(), 423);
    }
}

/// Polls a held write so many times, with the lock released before one of the polls, and drops it.
async fn dropped_after(polls: usize, release_at: usize) -> bool {
    let world = world(Mode::Later, |builder| builder);
    let token = lock(&world.locks, "/a", Depth::Infinity).await;
    let mut service = LockLayer::new(world.locks.clone()).layer(saved());
    let mut write = Box::pin(async { send(&mut service, patient("/a", 10)).await });
    let mut done = false;
    for poll in 0..polls {
        if poll == release_at {
            world.locks.release(token).await.unwrap();
        }
        if poll_once(write.as_mut()).is_ready() {
            done = true;
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(write);
    until("nothing is left", || world.locks.waiting() == 0 && world.store.stats().in_flight == 0).await;
    // Nobody is in anybody's way.
    if polls > release_at {
        _ = world.locks.acquire(LockRequest::exclusive("/a").draining(Duration::ZERO)).await.expect("nothing is left");
    }
    done
}

#[tokio::test]
async fn a_held_write_dropped_anywhere_leaves_nothing() {
    let mut finished = 0;
    for polls in 0..40 {
        for release_at in [0, 1, 2, 3, 5, 8, 13, 100] {
            finished += usize::from(dropped_after(polls, release_at).await);
        }
    }
    assert!(finished > 20, "some come to their end: {finished}");
}

#[tokio::test]
async fn an_outage_is_sat_out() {
    let world = world(Mode::Pass, |builder| builder);
    let token = lock(&world.locks, "/a", Depth::Infinity).await;
    let service = LockLayer::new(world.locks.clone()).layer(saved());
    let write = held(&world, service, patient("/a", 30)).await;
    world.rigged.set(Call::Admit, Mode::Fail);
    world.locks.release(token).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!write.is_finished(), "a store that is down may come back");
    world.rigged.set(Call::Admit, Mode::Pass);
    for _ in 0..10 {
        world.clock.advance(SECOND);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(write.await.unwrap().status, 200);

    // Down until the end, it is 503 and not 423.
    let token = lock(&world.locks, "/a", Depth::Infinity).await;
    let service = LockLayer::new(world.locks.clone()).layer(saved());
    let write = held(&world, service, patient("/a", 30)).await;
    world.rigged.set(Call::Admit, Mode::Fail);
    world.locks.release(token).await.unwrap();
    for _ in 0..31 {
        world.clock.advance(SECOND);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    let answer = write.await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.code()), (503, "store_unavailable"));
}

#[tokio::test]
async fn no_wake_up_is_lost_between_a_refusal_and_the_wait() {
    for round in 0..300 {
        let world = world(if round % 2 == 0 { Mode::Pass } else { Mode::Later }, |builder| builder);
        let token = lock(&world.locks, "/a", Depth::Infinity).await;
        let mut service = LockLayer::new(world.locks.clone()).layer(saved());
        let write = tokio::spawn(async move { send(&mut service, patient("/a", 10)).await });
        for _ in 0..round % 11 {
            tokio::task::yield_now().await;
        }
        world.locks.release(token).await.unwrap();
        // The clock stands still: nothing but the release wakes it.
        let answer = tokio::time::timeout(Duration::from_secs(60), write).await.expect("it is woken").unwrap();
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_release_the_queued_acquire_goes_before_waiting_writes() {
    for round in 0..100 {
        let world = world(if round % 2 == 0 { Mode::Pass } else { Mode::Later }, |builder| builder);
        let token = lock(&world.locks, "/a", Depth::Infinity).await;
        let layer = LockLayer::new(world.locks.clone());
        let mut writes = Vec::new();
        for _ in 0..3 {
            writes.push(held(&world, layer.layer(saved()), patient("/a/x", 30)).await);
        }
        // It comes after them.
        let before = world.locks.waiting();
        let locks = world.locks.clone();
        let queued = tokio::spawn(async move { locks.acquire(LockRequest::exclusive("/a").waiting(30 * SECOND)).await });
        soon("it stands in line", || world.locks.waiting() > before).await;
        world.locks.release(token).await.unwrap();
        let granted = queued.await.unwrap().expect("granted");
        assert!(writes.iter().all(|write| !write.is_finished()), "round {round}: a write went before it");
        world.locks.release(granted.token()).await.unwrap();
        for write in writes {
            assert_eq!(write.await.unwrap().status, 200);
        }
    }
}
