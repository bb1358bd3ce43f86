//! What nobody tells is timed or looked at, by the hub's clock; what somebody tells is heard.

use std::time::Duration;

use tower_lock::{
    LockRequest, Locks, MemoryStore,
    lock::{Principal, ResourceKey, Target},
    request::Conditions,
    store::{Authority, LockStore, ManualClock, Permit, Release, Verdict, Which, Write},
};

use crate::kit::{Ears, Hearing, granted, waiting};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn by(hand: &ManualClock) -> (Ears<MemoryStore>, Locks) {
    let store = Ears::new(MemoryStore::builder().clock(hand.clock()).build());
    let locks = Locks::builder(store.clone()).clock(hand.clock()).build();
    (store, locks)
}

fn for_a_minute(path: &str) -> LockRequest {
    LockRequest::exclusive(path).lifetime(MINUTE)
}

#[tokio::test]
async fn an_expiry_is_waited_for_to_the_instant() {
    let hand = ManualClock::new();
    let (_, locks) = by(&hand);
    let _held = locks.acquire(for_a_minute("/a")).await.unwrap();
    let mut line = [waiting(&locks, for_a_minute("/a")), waiting(&locks, for_a_minute("/a"))];
    assert!(line.iter_mut().all(|waiter| waiter.run().is_pending()));
    for at in 0..2 {
        hand.advance(MINUTE - Duration::from_micros(1));
        let woken = line[at].wakes();
        assert!(line[at].run().is_pending());
        assert_eq!(line[at].wakes(), woken, "it sleeps until then");
        hand.advance(Duration::from_micros(1));
        assert!(line[at].wakes() > woken);
        let _held = granted(line[at].run());
        assert!(line.get_mut(at + 1).is_none_or(|next| next.run().is_pending()));
        if at == 0 {
            line[0] = waiting(&locks, LockRequest::exclusive("/x"));
        }
    }
}

#[tokio::test]
async fn a_refresh_moves_the_time_and_a_break_brings_it_forward() {
    let hand = ManualClock::new();
    let (store, locks) = by(&hand);
    let held = locks.acquire(for_a_minute("/a")).await.unwrap();
    let mut waiter = waiting(&locks, for_a_minute("/a"));
    assert!(waiter.run().is_pending());
    for _ in 0..3 {
        hand.advance(MINUTE / 2);
        locks.refresh(held.token(), None).await.unwrap();
        assert!(waiter.run().is_pending());
    }
    let admin = Principal::new("admin");
    let grace = Duration::from_secs(20);
    let authority = Authority::Break { actor: Some(&admin), reason: "lunch", grace };
    let _ = store.release(&Release::new(Which::Id(held.lock().id()), authority)).await.unwrap();
    assert!(waiter.run().is_pending());
    hand.advance(grace - SECOND);
    assert!(waiter.run().is_pending());
    hand.advance(SECOND);
    let _ = granted(waiter.run());
}

/// Whoever waits for an endless lock hears of its end, and is not woken before.
#[tokio::test]
async fn an_endless_lock_is_not_looked_at() {
    let hand = ManualClock::new();
    let (_, locks) = by(&hand);
    let held = locks.hold(LockRequest::exclusive("/a").kind(tower_lock::LockKind::Freeze)).await.unwrap();
    let mut waiter = waiting(&locks, for_a_minute("/a"));
    assert!(waiter.run().is_pending());
    let before = waiter.wakes();
    hand.advance(MINUTE * 9);
    assert_eq!(waiter.wakes(), before);
    drop(held);
    let _ = granted(waiter.run());
}

async fn write(store: &impl LockStore, path: &'static str, token: Option<tower_lock::LockToken>) -> Permit {
    let mut conditions = Conditions::default();
    if let Some(token) = token {
        conditions.submit(token).unwrap();
    }
    let targets = [Target::write(ResourceKey::parse(path).unwrap())];
    match store.admit(&Write::new(&targets, &conditions)).await.unwrap() {
        Verdict::Admitted(admitted) => admitted.permit,
        Verdict::Refused(refused) => panic!("{refused:?}"),
    }
}

#[tokio::test]
async fn a_lock_that_lives_on_by_a_write_is_looked_at_until_the_write_has_ended() {
    let hand = ManualClock::new();
    let (store, locks) = by(&hand);
    let held = locks.acquire(for_a_minute("/a")).await.unwrap();
    let permit = write(&store, "/a/b", Some(held.token())).await;
    let mut waiter = waiting(&locks, for_a_minute("/a"));
    assert!(waiter.run().is_pending());
    for _ in 0..75 {
        hand.advance(SECOND);
        assert!(waiter.run().is_pending(), "the write goes on, and so does its lock");
    }
    drop(permit);
    // Reported to live for thirty seconds more.
    hand.advance(SECOND);
    let _ = granted(waiter.run());
}

#[tokio::test]
async fn a_mark_that_is_withdrawn_is_not_waited_for() {
    let hand = ManualClock::new();
    let (store, locks) = by(&hand);
    let permit = write(&store, "/a/b", None).await;
    // Waits for the write, and goes away.
    let mut coming = crate::kit::Hand::new({
        let locks = locks.clone();
        async move { locks.acquire(LockRequest::exclusive("/a").draining(MINUTE)).await }
    });
    assert!(coming.run().is_pending());
    let mut waiter = waiting(&locks, LockRequest::exclusive("/a/x"));
    assert!(waiter.run().is_pending(), "the mark is in its way");
    drop(coming);
    hand.advance(Duration::from_millis(200));
    let _ = granted(waiter.run());
    drop(permit);
}

/// An acquire over a write that does not end is busy; it keeps its place and is granted once the write has.
#[tokio::test]
async fn whoever_is_busy_asks_again_in_its_place() {
    let hand = ManualClock::new();
    let (store, locks) = by(&hand);
    let permit = write(&store, "/a", None).await;
    let mut first = waiting(&locks, LockRequest::exclusive("/a").draining(SECOND));
    let mut second = waiting(&locks, LockRequest::exclusive("/a").draining(SECOND));
    for _ in 0..8 {
        assert!(first.run().is_pending() && second.run().is_pending());
        hand.advance(SECOND);
    }
    drop(permit);
    for _ in 0..8 {
        assert!(second.run().is_pending(), "it does not pass");
        if let std::task::Poll::Ready(done) = first.run() {
            let held = done.unwrap();
            locks.release(held.token()).await.unwrap();
            for _ in 0..8 {
                if second.run().is_ready() {
                    return;
                }
                hand.advance(SECOND);
            }
            panic!("the second is never granted");
        }
        hand.advance(SECOND);
    }
    panic!("the first is never granted");
}

/// Where a store's watches say nothing, or are refused, the store is asked once a second: no lost lock is waited for long.
#[tokio::test]
async fn where_nothing_is_told_the_store_is_asked() {
    for hearing in [Hearing::Deaf, Hearing::Refused] {
        let hand = ManualClock::new();
        let (store, locks) = by(&hand);
        store.hear(hearing);
        let held = locks.acquire(for_a_minute("/a")).await.unwrap();
        let mut waiter = waiting(&locks, for_a_minute("/a"));
        for _ in 0..10 {
            assert!(waiter.run().is_pending());
            hand.advance(SECOND);
        }
        assert!(waiter.run().is_pending());
        assert!(store.open() <= 1, "{hearing:?}");
        locks.release(held.token()).await.unwrap();
        assert!(waiter.run().is_pending(), "{hearing:?}: nobody told");
        hand.advance(SECOND);
        let _ = granted(waiter.run());
        assert_eq!(store.open(), 0);
    }
}

/// Many acquires of few resources from many threads, several roots among them: everybody is served, nobody at the same
/// time as another, and nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_is_served_and_nothing_is_left() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    let store = Ears::new(MemoryStore::new());
    let locks = Locks::new(store.clone());
    let paths = ["/a", "/b", "/c", "/d"];
    let inside: Arc<[AtomicUsize; 4]> = Arc::default();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..24usize {
        let (locks, inside) = (locks.clone(), inside.clone());
        tasks.spawn(async move {
            for round in 0..60usize {
                let first = (worker * 7 + round * 3) % 4;
                let second = (first + 1 + (worker + round) % 3) % 4;
                let mut request = LockRequest::exclusive(paths[first]);
                let mut roots = vec![first];
                if round % 2 == 0 {
                    request = request.and(paths[second]);
                    roots.push(second);
                }
                let granted = locks.acquire(request.waiting(crate::kit::LONG)).await.expect("everybody is served");
                for root in &roots {
                    assert_eq!(inside[*root].fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                }
                if round % 5 == 0 {
                    tokio::task::yield_now().await;
                }
                for root in &roots {
                    inside[*root].fetch_sub(1, Ordering::SeqCst);
                }
                for token in granted.tokens() {
                    locks.release(*token).await.unwrap();
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!((locks.waiting(), store.open()), (0, 0));
}
