use std::{sync::Weak, task::Waker};

use parking_lot::Mutex;

use super::*;
use crate::{
    lock::{Claim, Depth, LockKind, LockLife, LockParts, LockScope, Owner},
    store::{Acquire, Acquired, ManualClock, Refresh, Refreshed, Release, Released, Verdict, Write, WriteId},
};

const SECOND: Duration = Duration::from_secs(1);

/// A store that answers and tells what a test lays out for it.
#[derive(Default)]
struct Scripted {
    now: Mutex<Vec<Lock>>,
    fails: Mutex<bool>,
    finds: Mutex<usize>,
    /// One for each watch.
    told: Mutex<Vec<Weak<Told>>>,
}

type Told = Mutex<(VecDeque<Option<Result<LockEvent, StoreError>>>, Option<Waker>)>;

struct Events(Arc<Told>);

impl Stream for Events {
    type Item = Result<LockEvent, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut told = self.0.lock();
        if let Some(event) = told.0.pop_front() {
            return Poll::Ready(event);
        }
        told.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Scripted {
    fn tell(&self, event: impl Into<Option<Result<LockEvent, StoreError>>>) {
        let watches = self.told.lock();
        let told = watches.last().and_then(Weak::upgrade).expect("it is watched");
        told.lock().0.push_back(event.into());
        let waker = told.lock().1.take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn event(&self, event: LockEvent) {
        self.tell(Ok(event));
    }

    fn has(&self, locks: &[Lock]) {
        *self.now.lock() = locks.to_vec();
    }

    fn watches(&self) -> usize {
        self.told.lock().iter().filter(|told| told.strong_count() > 0).count()
    }
}

fn failure() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "as the test wants it")
}

impl LockStore for Scripted {
    fn admit(&self, _: &Write<'_>) -> StoreFuture<Verdict> {
        StoreFuture::failed(failure())
    }

    fn acquire(&self, _: &Acquire<'_>) -> StoreFuture<Acquired> {
        StoreFuture::failed(failure())
    }

    fn refresh(&self, _: &Refresh<'_>) -> StoreFuture<Refreshed> {
        StoreFuture::failed(failure())
    }

    fn release(&self, _: &Release<'_>) -> StoreFuture<Released> {
        StoreFuture::failed(failure())
    }

    fn clear(&self, _: &[crate::lock::Gone<'_>], _: Option<WriteId>) -> StoreFuture<usize> {
        StoreFuture::failed(failure())
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        *self.finds.lock() += 1;
        if *self.fails.lock() {
            return StoreFuture::failed(failure());
        }
        let mut locks = self.now.lock().clone();
        let more = locks.len() > query.limit;
        locks.truncate(query.limit);
        StoreFuture::ready(LockPage { next: locks.last().filter(|_| more).map(Cursor::of), locks })
    }

    fn watch(&self, _: &LockQuery<'_>) -> Watch {
        let told = Arc::new(Told::default());
        self.told.lock().push(Arc::downgrade(&told));
        Watch::new(Events(told))
    }
}

struct Bench {
    store: Arc<Scripted>,
    hand: ManualClock,
    follow: Follow,
}

impl Bench {
    fn new() -> Self {
        let (store, hand) = (Arc::new(Scripted::default()), ManualClock::new());
        let key = ResourceKey::from_canonical("/a");
        let follow = Follow::covering(store.clone(), key, 3, hand.clock());
        Self { store, hand, follow }
    }

    /// One that has read its state.
    fn synced(locks: &[Lock]) -> Self {
        let mut bench = Self::new();
        bench.store.has(locks);
        bench.none("nothing is known before the subscription stands");
        bench.store.event(LockEvent::Synced);
        bench.now(locks);
        bench
    }

    fn poll(&mut self) -> Option<Result<Followed, StoreError>> {
        match self.follow.poll_told(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(told) => Some(told),
            Poll::Pending => None,
        }
    }

    #[track_caller]
    fn none(&mut self, why: &str) {
        let told = self.poll();
        assert!(told.is_none(), "{why}: {told:?}");
    }

    #[track_caller]
    fn now(&mut self, locks: &[Lock]) {
        match self.poll() {
            Some(Ok(Followed::Now(found))) => assert_eq!(found, locks),
            told => panic!("the state, not {told:?}"),
        }
    }

    #[track_caller]
    fn fails(&mut self) {
        let told = self.poll();
        assert!(matches!(told, Some(Err(_))), "an error, not {told:?}");
    }

    #[track_caller]
    fn event(&mut self) -> LockEvent {
        match self.poll() {
            Some(Ok(Followed::Event(event))) => event,
            told => panic!("an event, not {told:?}"),
        }
    }

    #[track_caller]
    fn end(&mut self, of: &Lock) -> (LostCause, Option<String>) {
        match self.event() {
            LockEvent::Ended { lock, cause, reason, .. } => {
                assert_eq!(lock.id(), of.id());
                (cause, reason.map(|reason| reason.to_string()))
            }
            event => panic!("an end, not {event:?}"),
        }
    }
}

/// A lock that was seen when the store's clock showed `seen` seconds, and ends at `end`.
fn lock(state: LockState, seen: u64, end: u64) -> Lock {
    let parts = LockParts {
        id: LockId::random(),
        root: ResourceKey::from_canonical("/a"),
        scope: LockScope::Shared,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: None,
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    };
    seen_again(&Lock::new(Arc::new(parts), life(state, seen, end)), state, seen, end)
}

fn seen_again(lock: &Lock, state: LockState, seen: u64, end: u64) -> Lock {
    Lock::new(lock.parts().clone(), life(state, seen, end))
}

fn life(state: LockState, seen: u64, end: u64) -> LockLife {
    let at = |seconds: u64| Timestamp::from_micros(seconds * 1_000_000);
    LockLife { state, created_at: at(0), expires_at: Some(at(end)), generation: 1, in_use: false, seen_at: at(seen) }
}

fn ended(lock: &Lock, cause: LostCause) -> LockEvent {
    LockEvent::Ended { lock: lock.clone(), cause, actor: None, reason: None }
}

#[test]
fn expiry_is_told_once_though_the_store_tells_it_too() {
    // The clocks have nothing to do with each other.
    let held = lock(LockState::Held, 100, 160);
    let mut bench = Bench::synced(std::slice::from_ref(&held));
    bench.hand.advance(SECOND * 59);
    bench.none("it lives");
    bench.store.has(&[]);
    bench.none("the store is not asked before its time is up");
    bench.hand.advance(SECOND);
    assert_eq!(bench.end(&held).0, LostCause::Expired);
    bench.store.event(ended(&held, LostCause::Expired));
    bench.none("it was told");
    assert_eq!(bench.follow.locks().len(), 0);

    // And the other way round.
    let mut bench = Bench::synced(std::slice::from_ref(&held));
    bench.store.event(ended(&held, LostCause::Expired));
    assert_eq!(bench.end(&held).0, LostCause::Expired);
    bench.store.has(&[]);
    bench.hand.advance(SECOND * 600);
    bench.none("it was told");
}

#[test]
fn what_was_told_before_the_answer_is_the_cause() {
    let held = lock(LockState::Held, 0, 60);
    let mut bench = Bench::synced(std::slice::from_ref(&held));
    bench.hand.advance(SECOND * 60);
    bench.store.has(&[]);
    bench.store.event(ended(&held, LostCause::Released));
    assert_eq!(bench.end(&held).0, LostCause::Released);
    bench.none("nothing else happened");
}

#[test]
fn a_refresh_puts_the_end_off() {
    let held = lock(LockState::Held, 0, 60);
    let mut bench = Bench::synced(std::slice::from_ref(&held));
    bench.hand.advance(SECOND * 30);
    bench.store.event(LockEvent::Refreshed(seen_again(&held, LockState::Held, 30, 90)));
    assert!(matches!(bench.event(), LockEvent::Refreshed(_)));
    let finds = *bench.store.finds.lock();
    bench.hand.advance(SECOND * 59);
    bench.none("it lives");
    assert_eq!(*bench.store.finds.lock(), finds, "the store is not asked in vain");
    bench.store.has(&[]);
    bench.hand.advance(SECOND);
    assert_eq!(bench.end(&held).0, LostCause::Expired);
}

#[test]
fn a_lock_that_lives_past_its_end_is_looked_at_now_and_then() {
    let held = lock(LockState::Held, 0, 60);
    let mut bench = Bench::synced(std::slice::from_ref(&held));
    for second in 60..70 {
        bench.hand.advance(if second == 60 { SECOND * 60 } else { SECOND });
        // A write keeps it alive.
        bench.store.has(&[seen_again(&held, LockState::Held, second, second)]);
        let finds = *bench.store.finds.lock();
        bench.none("it lives");
        assert_eq!(*bench.store.finds.lock(), finds + 1, "once in a while");
    }
    bench.store.has(&[]);
    bench.hand.advance(SECOND);
    assert_eq!(bench.end(&held).0, LostCause::Expired);
}

#[test]
fn a_grace_that_ends_is_a_break_with_its_reason() {
    let held = lock(LockState::Held, 0, 60);
    let mut bench = Bench::synced(std::slice::from_ref(&held));
    let breaking = seen_again(&held, LockState::Breaking, 0, 10);
    let event = LockEvent::Breaking { lock: breaking, actor: Some(Principal::new("eve")), reason: Some("now".into()) };
    bench.store.event(event.clone());
    assert_eq!(bench.event(), event);
    bench.store.has(&[]);
    bench.hand.advance(SECOND * 10);
    assert_eq!(bench.end(&held), (LostCause::Broken, Some("now".to_owned())));
}

#[test]
fn after_every_gap_comes_the_state() {
    let (one, two) = (lock(LockState::Held, 0, 60), lock(LockState::Held, 0, 60));
    let mut bench = Bench::synced(std::slice::from_ref(&one));
    bench.store.tell(Err(failure()));
    bench.fails();
    bench.store.tell(Err(failure()));
    bench.none("that was told");
    bench.hand.advance(SECOND * 600);
    bench.none("nobody knows what became of it");
    bench.store.has(std::slice::from_ref(&two));
    bench.store.event(LockEvent::Synced);
    bench.now(&[two]);
    bench.store.has(&[]);
    bench.store.event(LockEvent::Synced);
    bench.now(&[]);
    bench.store.event(ended(&one, LostCause::Released));
    bench.none("it was over before the state was read");
}

#[test]
fn a_store_that_fails_is_asked_again() {
    let mut bench = Bench::new();
    *bench.store.fails.lock() = true;
    bench.none("not yet");
    bench.store.event(LockEvent::Synced);
    bench.fails();
    for _ in 0..10 {
        bench.store.event(LockEvent::Granted(lock(LockState::Held, 0, 60)));
        bench.hand.advance(SECOND * 5);
        bench.none("it was told");
    }
    assert!(*bench.store.finds.lock() > 8);
    *bench.store.fails.lock() = false;
    bench.hand.advance(SECOND * 5);
    bench.now(&[]);

    // The same when the store fails to say whether a lock is still there.
    let held = lock(LockState::Held, 0, 60);
    bench.store.event(LockEvent::Granted(held.clone()));
    assert!(matches!(bench.event(), LockEvent::Granted(_)));
    *bench.store.fails.lock() = true;
    bench.hand.advance(SECOND * 60);
    bench.fails();
    *bench.store.fails.lock() = false;
    bench.hand.advance(SECOND);
    bench.now(&[]);
}

#[test]
fn a_watch_that_ends_is_opened_anew() {
    let held = lock(LockState::Held, 0, 60);
    let mut bench = Bench::synced(&[]);
    bench.store.tell(None);
    bench.fails();
    assert_eq!(bench.store.watches(), 0);
    bench.none("after a pause");
    bench.hand.advance(SECOND);
    bench.none("it is opened");
    assert_eq!(bench.store.watches(), 1);
    // Refused: it says so, and ends.
    bench.store.tell(Err(failure()));
    bench.store.tell(None);
    bench.none("that was told");
    bench.hand.advance(SECOND);
    bench.none("it is opened");
    bench.store.has(std::slice::from_ref(&held));
    bench.store.event(LockEvent::Synced);
    bench.now(&[held]);
    drop(bench.follow);
    assert_eq!(bench.store.watches(), 0);
}

#[test]
fn a_mark_that_is_withdrawn_is_missed() {
    let mark = lock(LockState::Pending, 0, 60);
    let mut bench = Bench::synced(std::slice::from_ref(&mark));
    bench.hand.advance(SECOND);
    bench.none("it is still there");
    bench.store.has(&[]);
    bench.hand.advance(SECOND);
    bench.now(&[]);

    // One that becomes a lock is told as such.
    let mut bench = Bench::synced(std::slice::from_ref(&mark));
    let held = seen_again(&mark, LockState::Held, 1, 61);
    bench.store.has(std::slice::from_ref(&held));
    bench.hand.advance(SECOND);
    bench.store.event(LockEvent::Granted(held.clone()));
    assert_eq!(bench.event(), LockEvent::Granted(held.clone()));
    bench.store.has(&[]);
    bench.hand.advance(SECOND * 60);
    assert_eq!(bench.end(&held).0, LostCause::Expired);
}

#[test]
fn what_is_beyond_the_page_is_told_all_the_same() {
    let all: Vec<Lock> = (0..5).map(|_| lock(LockState::Held, 0, 60)).collect();
    let mut bench = Bench::new();
    bench.store.has(&all);
    bench.none("not yet");
    bench.store.event(LockEvent::Synced);
    bench.now(&all[..3]);
    bench.store.event(ended(&all[4], LostCause::Released));
    assert_eq!(bench.end(&all[4]).0, LostCause::Released);
    bench.store.event(LockEvent::Granted(lock(LockState::Held, 0, 60)));
    assert!(matches!(bench.event(), LockEvent::Granted(_)));
    assert_eq!(bench.follow.locks().len(), 3, "no more are remembered than a page has");
}

#[test]
fn a_store_that_does_not_answer_is_given_up() {
    let hand = ManualClock::new();
    let now = hand.clock().now();
    let mut asking = Asking {
        purpose: Purpose::State,
        asked: now,
        answer: StoreFuture::new(std::future::pending()),
        limit: hand.clock().sleep_until(now.after(ANSWER)),
    };
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(asking.poll(cx).is_pending());
    hand.advance(ANSWER);
    assert!(matches!(asking.poll(cx), Poll::Ready(Err(error)) if error.kind() == StoreErrorKind::TimedOut));
}
