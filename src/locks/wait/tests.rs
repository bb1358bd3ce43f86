//! Writes that are held back, driven as the layer drives them.

use std::{
    future::{Future, poll_fn},
    sync::atomic::{AtomicUsize, Ordering},
    task::{Wake, Waker},
};

use http::{Extensions, Method, Uri, Version};

use super::*;
use crate::{
    Lock, LockRequest, MemoryStore, Principal,
    locks::{Demand, Judgement},
    request::RequestView,
    store::{LockQuery, LockStore, ManualClock, Permit},
};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(600);

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

fn wait(n: &str) -> HeaderMap {
    HeaderMap::from_iter([(http::header::HeaderName::from_static("prefer"), HeaderValue::from_str(n).unwrap())])
}

fn builder(store: &MemoryStore) -> super::super::LocksBuilder {
    let limits = Limits { wait: LONG, waiters_per_resource: 20_000, waiters: 20_000, ..Limits::default() };
    Locks::builder(store.clone()).limits(limits).allow_waiting()
}

fn on(hand: &ManualClock) -> (MemoryStore, Locks) {
    let store = MemoryStore::builder().clock(hand.clock()).build();
    let locks = builder(&store).clock(hand.clock()).build();
    (store, locks)
}

async fn judge(locks: &Locks, path: &str) -> Result<Permit, Refusal> {
    let (method, headers, extensions) = (Method::PUT, HeaderMap::new(), Extensions::new());
    let uri = path.parse::<Uri>().unwrap();
    let request =
        RequestView { method: &method, uri: &uri, version: Version::HTTP_11, headers: &headers, extensions: &extensions };
    match locks.judge(request, Demand::None) {
        Judgement::Ready(verdict) => verdict,
        Judgement::Pending(verdict) => verdict.await,
    }
    .map(|admitted| admitted.permit)
}

/// What the layer does with a write that would rather wait.
async fn write(locks: Locks, path: &'static str, asked: Arc<AtomicUsize>) -> Result<Permit, Refusal> {
    let patience = locks.patience(&wait("wait=600")).expect("allowed");
    let mut refusal = match judge(&locks, path).await {
        Ok(permit) => return Ok(permit),
        Err(refusal) => refusal,
    };
    let mut waiting = locks.wait_behind(&refusal, vec![key(path)], &patience)?;
    while poll_fn(|cx| waiting.poll_again(cx)).await == Again::Ask {
        asked.fetch_add(1, Ordering::SeqCst);
        match judge(&locks, path).await {
            Ok(permit) => return Ok(permit),
            Err(again) => refusal = again,
        }
        waiting.behind(&refusal);
    }
    Err(refusal)
}

/// A future polled by hand, with a count of its wake-ups.
struct Hand<T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<T> Hand<T> {
    fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { future: Box::pin(future), wakes: Arc::default() }
    }

    fn poll(&mut self) -> Poll<T> {
        self.future.as_mut().poll(&mut Context::from_waker(&Waker::from(self.wakes.clone())))
    }

    fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }

    /// Polls as long as it is woken.
    fn run(&mut self) -> Poll<T> {
        loop {
            let before = self.wakes();
            let polled = self.poll();
            if polled.is_ready() || self.wakes() == before {
                return polled;
            }
        }
    }
}

fn writing(locks: &Locks, path: &'static str) -> Hand<Result<Permit, Refusal>> {
    Hand::new(write(locks.clone(), path, Arc::default()))
}

fn acquiring(locks: &Locks, path: &'static str) -> Hand<Result<super::super::Granted, Refusal>> {
    let locks = locks.clone();
    Hand::new(async move { locks.acquire(LockRequest::exclusive(path).waiting(LONG)).await })
}

fn admitted(poll: Poll<Result<Permit, Refusal>>) -> Permit {
    match poll {
        Poll::Ready(Ok(permit)) => permit,
        other => panic!("not admitted: {other:?}"),
    }
}

#[test]
fn a_preference_is_heeded_where_it_is_allowed_and_capped() {
    let (store, hand) = (MemoryStore::new(), ManualClock::new());
    let off = Locks::builder(store.clone()).build();
    assert!(off.patience(&wait("wait=5")).is_none());
    let locks = Locks::builder(store).clock(hand.clock()).allow_waiting().build();
    let patience = locks.patience(&wait("wait=5")).unwrap();
    assert_eq!((patience.applied().to_str().unwrap(), patience.until()), ("wait=5", hand.clock().now().after(SECOND * 5)));
    let patience = locks.patience(&wait("wait=99999")).unwrap();
    assert_eq!((patience.applied().to_str().unwrap(), patience.until()), ("wait=30", hand.clock().now().after(SECOND * 30)));
    for none in ["wait=0", "wait=soon", "respond-async"] {
        assert!(locks.patience(&wait(none)).is_none(), "{none}");
    }
}

#[tokio::test]
async fn a_write_goes_on_once_the_lock_has_gone() {
    let hand = ManualClock::new();
    let (store, locks) = on(&hand);
    // By its end, by its time, and by a break.
    let held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let mut release = writing(&locks, "/a/b");
    assert!(release.run().is_pending());
    assert_eq!(locks.waiting(), 1);
    locks.release(held.token()).await.unwrap();
    drop(admitted(release.run()));
    let _held = locks.acquire(LockRequest::exclusive("/a").lifetime(SECOND * 60)).await.unwrap();
    let mut expiry = writing(&locks, "/a/b");
    assert!(expiry.run().is_pending());
    hand.advance(SECOND * 59);
    assert!(expiry.run().is_pending());
    hand.advance(SECOND);
    drop(admitted(expiry.run()));
    assert_eq!((locks.waiting(), store.stats().in_flight), (0, 0));
}

#[tokio::test]
async fn when_its_time_is_up_it_makes_do_with_the_last_refusal() {
    let hand = ManualClock::new();
    let (_, locks) = on(&hand);
    let _held = locks.hold(LockRequest::exclusive("/a").kind(crate::LockKind::Freeze)).await.unwrap();
    let mut held_back = writing(&locks, "/a/b");
    assert!(held_back.run().is_pending());
    hand.advance(LONG);
    match held_back.run() {
        Poll::Ready(Err(refusal)) => assert_eq!(refusal.code(), RefusalCode::Frozen),
        other => panic!("{other:?}"),
    }
    assert_eq!(locks.waiting(), 0);
}

#[tokio::test]
async fn queued_acquires_go_before_waiting_writes() {
    let hand = ManualClock::new();
    let (_, locks) = on(&hand);
    let held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let mut writes: Vec<_> = (0..3).map(|_| writing(&locks, "/a/b")).collect();
    let (mut first, mut second) = (acquiring(&locks, "/a"), acquiring(&locks, "/a"));
    assert!(writes.iter_mut().all(|write| write.run().is_pending()));
    assert!(first.run().is_pending() && second.run().is_pending());
    locks.release(held.token()).await.unwrap();
    let mut token = None;
    for acquire in [&mut first, &mut second] {
        // The writes are polled first, and hold back all the same.
        assert!(writes.iter_mut().all(|write| write.run().is_pending()), "acquires in line go first");
        let Poll::Ready(Ok(granted)) = acquire.run() else { panic!("not granted") };
        assert!(writes.iter_mut().all(|write| write.run().is_pending()));
        if let Some(token) = token.replace(granted.token()) {
            panic!("two locks at once: {token:?}");
        }
        locks.release(token.take().unwrap()).await.unwrap();
    }
    writes.iter_mut().for_each(|write| drop(admitted(write.run())));
}

#[tokio::test]
async fn a_write_goes_on_when_those_before_it_leave_or_stand_still() {
    let hand = ManualClock::new();
    let (_, locks) = on(&hand);
    let held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let (mut first, mut second) = (acquiring(&locks, "/a"), acquiring(&locks, "/a"));
    assert!(first.run().is_pending() && second.run().is_pending());
    let mut write = writing(&locks, "/a/b");
    assert!(write.run().is_pending());
    locks.release(held.token()).await.unwrap();
    assert!(write.run().is_pending());
    let woken = write.wakes();
    drop(first);
    assert!(write.wakes() > woken && write.run().is_pending(), "the next one goes first as well");
    // Nobody polls it: a write does not wait for that for ever.
    hand.advance(SECOND);
    drop(admitted(write.run()));
    drop(second);
    assert_eq!(locks.waiting(), 0);
}

#[tokio::test]
async fn an_acquire_that_waits_for_something_else_does_not_hold_a_write_back() {
    let hand = ManualClock::new();
    let (_, locks) = on(&hand);
    let (here, elsewhere) = (LockRequest::exclusive("/a/b"), LockRequest::exclusive("/a/c"));
    let (here, _elsewhere) = (locks.acquire(here).await.unwrap(), locks.acquire(elsewhere).await.unwrap());
    let mut acquire = acquiring(&locks, "/a");
    let mut write = writing(&locks, "/a/b");
    assert!(acquire.run().is_pending() && write.run().is_pending());
    locks.release(here.token()).await.unwrap();
    assert!(write.run().is_pending(), "the acquire is to try first");
    assert!(acquire.run().is_pending(), "and is still blocked");
    drop(admitted(write.run()));
}

/// A write in the way of which the store names another lock first each time: it watches them all, and sleeps.
#[tokio::test]
async fn another_first_blocker_each_time_is_no_busy_loop() {
    let hand = ManualClock::new();
    let (store, locks) = on(&hand);
    for count in [2, 9] {
        let mut refusals = Vec::new();
        for at in 0..count {
            let _kept = locks.acquire(LockRequest::exclusive(format!("/{count}/{at}"))).await.unwrap();
            let lock: Vec<Lock> = store.find(&LockQuery::covering(key(&format!("/{count}/{at}")))).await.unwrap().locks;
            refusals.push(locks.locked(&Caller::application(None), None, lock, false));
        }
        let patience = locks.patience(&wait("wait=600")).unwrap();
        let mut waiting = locks.wait_behind(&refusals[0], vec![key("/x")], &patience).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut asked = 0;
        for round in 0..30 {
            while waiting.poll_again(&mut cx).is_ready() {
                asked += 1;
                assert!(asked < 100, "a busy loop");
                waiting.behind(&refusals[asked % count]);
            }
            if round == 0 {
                assert!(asked <= 5, "{asked} questions to begin with");
            }
            hand.advance(SECOND);
        }
        assert!(asked <= 5 + 30, "{asked} questions in half a minute");
    }
}

/// Nobody knows what is in the way, or the store is down: it is asked after a pause.
#[tokio::test]
async fn without_a_lock_to_watch_the_store_is_asked_after_a_pause() {
    let hand = ManualClock::new();
    let (_, locks) = on(&hand);
    let down = locks.store_failed(crate::store::StoreError::new(crate::store::StoreErrorKind::Unavailable, "rigged"));
    for (refusal, least, most) in [(Refusal::new(RefusalCode::Locked, "Somehow."), 29, 30), (down, 7, 12)] {
        let patience = locks.patience(&wait("wait=600")).unwrap();
        let mut waiting = locks.wait_behind(&refusal, vec![], &patience).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut asked = 0;
        for _ in 0..30 {
            hand.advance(SECOND);
            if waiting.poll_again(&mut cx).is_ready() {
                asked += 1;
                waiting.behind(&refusal);
                assert!(waiting.poll_again(&mut cx).is_pending());
            }
        }
        assert!((least..=most).contains(&asked), "{asked} questions in half a minute");
    }
}

#[tokio::test]
async fn a_place_is_counted_whatever_it_is_for() {
    let limits = Limits { waiters_per_resource: 2, ..Limits::default() };
    let locks = Locks::builder(MemoryStore::new()).limits(limits).allow_waiting().build();
    let _held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let refusal = judge(&locks, "/a").await.unwrap_err();
    let patience = locks.patience(&wait("wait=9")).unwrap();
    let reader = locks.place_to_wait(&key("/a")).unwrap();
    let writer = locks.wait_behind(&refusal, vec![key("/a")], &patience).unwrap();
    assert_eq!(locks.waiting(), 2);
    for refusal in [
        locks.place_to_wait(&key("/a")).unwrap_err(),
        locks.wait_behind(&refusal, vec![key("/b"), key("/a")], &patience).unwrap_err(),
        locks.acquire(LockRequest::exclusive("/a").waiting(LONG)).await.unwrap_err(),
    ] {
        assert_eq!(refusal.code(), RefusalCode::TooManyWaiting);
    }
    drop((reader, writer));
    assert_eq!(locks.waiting(), 0);
}

/// Dropped after any number of polls, whenever the lock goes: no place, no write in flight, no waker is left.
#[tokio::test]
async fn a_write_that_leaves_at_any_point_leaves_nothing() {
    for ends in 0..6 {
        for polls in 0..12 {
            // By the system's clock: one that is moved by hand keeps its wakers.
            let store = MemoryStore::new();
            let locks = builder(&store).build();
            let held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
            let mut acquire = acquiring(&locks, "/a");
            assert!(acquire.run().is_pending());
            let mut leaver = writing(&locks, "/a/b");
            for poll in 0..polls {
                if poll == ends {
                    locks.release(held.token()).await.unwrap();
                }
                if poll == ends + 3 {
                    let Poll::Ready(Ok(granted)) = acquire.run() else { panic!("not granted") };
                    locks.release(granted.token()).await.unwrap();
                    acquire = Hand::new(std::future::pending());
                }
                if leaver.poll().is_ready() {
                    break;
                }
            }
            let waker = Arc::downgrade(&leaver.wakes);
            drop(leaver);
            drop(acquire);
            assert_eq!(waker.strong_count(), 0, "{ends} {polls}");
            assert_eq!((locks.waiting(), store.stats().in_flight), (0, 0), "{ends} {polls}");
        }
    }
}

/// Whatever the moment at which the lock ends, a write that was refused hears of it. It would wait for ten minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_end_is_missed_between_a_423_and_the_wait() {
    let locks = builder(&MemoryStore::new()).build();
    for round in 0..600 {
        let held = locks.acquire(LockRequest::exclusive("/a").principal(Principal::new("ann"))).await.unwrap();
        let write = tokio::spawn(write(locks.clone(), "/a/b", Arc::default()));
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        locks.release(held.token()).await.unwrap();
        drop(write.await.unwrap().unwrap());
    }
    assert_eq!(locks.waiting(), 0);
}

/// Ten thousand writes behind one lock: each is woken, asks once more, and goes on.
#[tokio::test]
async fn ten_thousand_writes_behind_one_lock_all_go_on() {
    let locks = builder(&MemoryStore::new()).build();
    let held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let asked: Vec<Arc<AtomicUsize>> = (0..10_000).map(|_| Arc::default()).collect();
    let mut writes: Vec<_> = asked.iter().map(|asked| Hand::new(write(locks.clone(), "/a/b", asked.clone()))).collect();
    assert!(writes.iter_mut().all(|write| write.run().is_pending()));
    assert_eq!(locks.waiting(), 10_000);
    let woken: Vec<usize> = writes.iter().map(Hand::wakes).collect();
    locks.release(held.token()).await.unwrap();
    assert!(writes.iter().zip(&woken).all(|(write, woken)| write.wakes() == woken + 1), "all are woken, once");
    writes.iter_mut().for_each(|write| drop(admitted(write.run())));
    drop(writes);
    assert!(asked.iter().all(|asked| asked.load(Ordering::SeqCst) == 2), "once when the watch stood, and once at the end");
    assert_eq!(locks.waiting(), 0);
}
