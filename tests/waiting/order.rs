//! Who goes first.

use std::time::Duration;

use tower_lock::{Caller, Limits, LockRequest, LockToken, Locks, MemoryStore, Principal, RefusalCode, store::ManualClock};

use crate::{
    kit::{Ears, granted, refused, waiting},
    support::{Call, Rigged},
};

#[tokio::test]
async fn whoever_came_first_is_served_first() {
    let locks = Locks::new(MemoryStore::new());
    let held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let mut line: Vec<_> = (0..5).map(|_| waiting(&locks, LockRequest::exclusive("/a"))).collect();
    for waiter in &mut line {
        assert!(waiter.run().is_pending());
    }
    assert_eq!(locks.waiting(), 5);
    let mut token = held.token();
    for at in 0..line.len() {
        locks.release(token).await.unwrap();
        // Last comes first, and is not served for all that.
        for waiter in line[at + 1..].iter_mut().rev() {
            assert!(waiter.run().is_pending(), "nobody passes number {at}");
        }
        let refusal = locks.acquire(LockRequest::exclusive("/a")).await.unwrap_err();
        assert_eq!(refusal.code(), RefusalCode::Locked, "a newcomer does not pass either");
        assert_eq!((refusal.to_string().as_str(), refusal.retry_after()), ("Others are waiting for this lock.", Some(1)));
        token = granted(line[at].run()).token();
        let refusal = locks.acquire(LockRequest::exclusive("/a")).await.unwrap_err();
        assert_eq!(refusal.locks().len(), 1, "a refusal names the lock where there is one");
        line[at] = waiting(&locks, LockRequest::exclusive("/b"));
    }
    assert_eq!(locks.waiting(), 0);
}

#[tokio::test]
async fn only_those_in_front_ask_the_store() {
    let store = Rigged::new(Ears::new(MemoryStore::new()));
    let locks = Locks::new(store.clone());
    let _held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let before = store.all_calls();
    let mut line: Vec<_> = (0..50).map(|_| waiting(&locks, LockRequest::exclusive("/a"))).collect();
    for waiter in &mut line {
        assert!(waiter.run().is_pending());
    }
    assert_eq!(store.all_calls() - before, 2, "the first: on arrival, and once its watch stood");
    assert_eq!(store.calls(Call::Find), 0);
}

#[tokio::test]
async fn a_lock_that_is_free_is_had_at_once() {
    let store = Ears::new(MemoryStore::new());
    let locks = Locks::new(store.clone());
    let mut first = waiting(&locks, LockRequest::exclusive("/a"));
    let _held = granted(first.poll());
    assert_eq!((store.made(), locks.waiting()), (0, 0), "nothing is watched for it");
}

#[tokio::test]
async fn a_place_at_several_roots_is_kept_at_all_of_them() {
    let locks = Locks::new(MemoryStore::new());
    let held = locks.acquire(LockRequest::exclusive("/b")).await.unwrap();
    let mut both = waiting(&locks, LockRequest::exclusive("/a").and("/b"));
    let mut one = waiting(&locks, LockRequest::exclusive("/a"));
    assert!(both.run().is_pending() && one.run().is_pending(), "whoever waits for /a and /b came first");
    let refusal = locks.acquire(LockRequest::exclusive("/a")).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.resource()), (RefusalCode::Locked, Some("/a")));
    // Other roots go on.
    locks.hold(LockRequest::exclusive("/a/x")).await.unwrap().release().await.unwrap();
    drop(both);
    assert!(one.wakes() > 0);
    let _one = granted(one.run());
    locks.release(held.token()).await.unwrap();
}

#[tokio::test]
async fn an_upgrade_does_not_wait_behind_those_who_wait_for_it() {
    let locks = Locks::new(MemoryStore::new());
    let mine = locks.acquire(LockRequest::shared("/a")).await.unwrap();
    let other = locks.acquire(LockRequest::shared("/a")).await.unwrap();
    let mut stranger = waiting(&locks, LockRequest::exclusive("/a"));
    assert!(stranger.run().is_pending());
    // Behind the stranger, who waits for this very lock, it would wait for ever.
    let mut upgrade = waiting(&locks, LockRequest::exclusive("/a").replacing(mine.token()));
    assert!(upgrade.run().is_pending());
    locks.release(other.token()).await.unwrap();
    let upgraded = granted(upgrade.run());
    assert!(stranger.run().is_pending());
    // And one that waits for nobody is not refused for those in line.
    let upgraded = locks.acquire(LockRequest::shared("/a").replacing(upgraded.token())).await.unwrap();
    locks.release(upgraded.token()).await.unwrap();
    let _ = granted(stranger.run());
}

#[tokio::test]
async fn a_repeat_is_answered_though_others_wait() {
    let locks = Locks::new(MemoryStore::new());
    let token = LockToken::random();
    let request = || LockRequest::exclusive("/a").principal("ann").propose_token(token);
    let first = locks.acquire(request()).await.unwrap();
    let mut other = waiting(&locks, LockRequest::exclusive("/a").principal("bob"));
    assert!(other.run().is_pending());
    for again in [waiting(&locks, request()).run(), std::task::Poll::Ready(locks.acquire(request()).await)] {
        let again = granted(again);
        assert!(again.is_repeated());
        assert_eq!(again.lock().id(), first.lock().id());
    }
    locks.release(token).await.unwrap();
    // What proposes a token and is no repeat passes nobody, whether it waits or not.
    let fresh = || LockRequest::exclusive("/a").principal("ann").propose_token(LockToken::random());
    let mut later = waiting(&locks, fresh());
    assert!(later.run().is_pending());
    assert_eq!(locks.acquire(fresh()).await.unwrap_err().code(), RefusalCode::Locked);
    let other = granted(other.run());
    locks.release(other.token()).await.unwrap();
    let _ = granted(later.run());
}

#[tokio::test]
async fn when_the_time_is_up_the_last_refusal_is_the_answer() {
    let hand = ManualClock::new();
    let locks = Locks::builder(MemoryStore::builder().clock(hand.clock()).build()).clock(hand.clock()).build();
    let held = locks.acquire(LockRequest::exclusive("/a").reason("lunch")).await.unwrap();
    let five = Duration::from_secs(5);
    let wait = |span: Duration| {
        let locks = locks.clone();
        crate::kit::Hand::new(async move { locks.acquire(LockRequest::exclusive("/a").waiting(span)).await })
    };
    let (mut first, mut second) = (wait(five), wait(five));
    assert!(first.run().is_pending() && second.run().is_pending());
    hand.advance(five - Duration::from_micros(1));
    assert!(first.run().is_pending() && second.run().is_pending());
    hand.advance(Duration::from_micros(1));
    // The second never came to ask: what it is told is read for it.
    for refusal in [refused(first.run()), refused(second.run())] {
        assert_eq!((refusal.code(), refusal.locks().len()), (RefusalCode::Locked, 1));
        assert_eq!(refusal.locks()[0].lock_id, held.lock().id());
    }
    assert_eq!(locks.waiting(), 0);
}

#[tokio::test]
async fn clients_wait_only_where_that_is_allowed_and_no_longer_than_they_may() {
    let hand = ManualClock::new();
    let store = MemoryStore::builder().clock(hand.clock()).build();
    let ann = Caller::remote(Some(Principal::new("ann")));
    for allowed in [false, true] {
        let mut limits = Limits::default();
        limits.wait = Duration::from_secs(10);
        let builder = Locks::builder(store.clone()).clock(hand.clock()).limits(limits);
        let locks = if allowed { builder.allow_waiting().build() } else { builder.build() };
        let held = locks.acquire(LockRequest::exclusive("/a").lifetime(Duration::from_secs(3_000))).await.unwrap();
        let mut remote = crate::kit::Hand::new({
            let (locks, ann) = (locks.clone(), ann.clone());
            async move { locks.acquire_for(&ann, LockRequest::exclusive("/a").waiting(Duration::from_secs(99))).await }
        });
        if allowed {
            assert!(remote.run().is_pending());
            hand.advance(Duration::from_secs(9));
            assert!(remote.run().is_pending());
            hand.advance(Duration::from_secs(1));
        }
        assert_eq!(refused(remote.run()).code(), RefusalCode::Locked);
        // Code waits as long as it says, allowed or not.
        let mut code = waiting(&locks, LockRequest::exclusive("/a"));
        assert!(code.run().is_pending());
        hand.advance(Duration::from_secs(99));
        assert!(code.run().is_pending());
        locks.release(held.token()).await.unwrap();
        locks.release(granted(code.run()).token()).await.unwrap();
    }
}

#[tokio::test]
async fn past_the_limits_nobody_waits_but_what_is_free_is_had() {
    let mut limits = Limits::default();
    limits.waiters_per_resource = 2;
    limits.waiters = 3;
    let locks = Locks::builder(MemoryStore::new()).limits(limits).build();
    for path in ["/a", "/b", "/c"] {
        let _held = locks.acquire(LockRequest::exclusive(path)).await.unwrap();
    }
    let mut line: Vec<_> = ["/a", "/a", "/b"].map(|path| waiting(&locks, LockRequest::exclusive(path))).into();
    assert!(line[..2].iter_mut().all(|waiter| waiter.run().is_pending()));
    let refusal = refused(waiting(&locks, LockRequest::exclusive("/a")).run());
    assert_eq!((refusal.code(), refusal.status().as_u16()), (RefusalCode::TooManyWaiting, 429));
    assert_eq!(refusal.retry_after(), Some(1));
    assert!(line[2].run().is_pending());
    for path in ["/b", "/c"] {
        let refusal = refused(waiting(&locks, LockRequest::exclusive(path)).run());
        assert_eq!(refusal.code(), RefusalCode::TooManyWaiting, "{path}: three wait in all");
    }
    let _ = granted(waiting(&locks, LockRequest::exclusive("/free")).run());
    assert_eq!(locks.waiting(), 3);
    line.clear();
    assert_eq!(locks.waiting(), 0);
    assert!(waiting(&locks, LockRequest::exclusive("/a")).run().is_pending(), "there is room again");
}

#[test]
fn the_limits_are_those_of_the_design() {
    let limits = Limits::default();
    assert_eq!((limits.wait, limits.waiters_per_resource, limits.waiters), (Duration::from_secs(30), 100, 10_000));
}

#[tokio::test]
async fn waits_are_counted_from_their_beginning_to_their_end() {
    let hand = ManualClock::new();
    let locks = Locks::builder(MemoryStore::builder().clock(hand.clock()).build()).clock(hand.clock()).build();
    let waits = || {
        let stats = locks.stats();
        (stats.waits_begun, stats.waits_served, stats.waits_given_up, stats.waiting)
    };
    let _free = granted(waiting(&locks, LockRequest::exclusive("/free")).run());
    assert_eq!(waits(), (0, 0, 0, 0), "what is free is not waited for");
    let held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let mut line: Vec<_> = (0..3).map(|_| waiting(&locks, LockRequest::exclusive("/a"))).collect();
    assert!(line.iter_mut().all(|waiter| waiter.run().is_pending()));
    assert_eq!(waits(), (3, 0, 0, 3));
    line.pop();
    assert_eq!(waits(), (3, 0, 1, 2));
    locks.release(held.token()).await.unwrap();
    let first = granted(line[0].run());
    assert_eq!(waits(), (3, 1, 1, 1));
    hand.advance(crate::kit::LONG);
    // Its time is up, but it comes first and what it waited for is free by now.
    drop(first);
    let second = granted(line[1].run());
    assert_eq!(waits(), (3, 2, 1, 0));
    drop(second);
}

/// What somebody is told whose time is up is of then, not of when the store was last asked.
#[tokio::test]
async fn the_last_refusal_is_of_now() {
    let hand = ManualClock::new();
    let locks = Locks::builder(MemoryStore::builder().clock(hand.clock()).build()).clock(hand.clock()).build();
    let minute = Duration::from_secs(60);
    let _held = locks.acquire(LockRequest::exclusive("/a").lifetime(minute)).await.unwrap();
    let mut waiter = crate::kit::Hand::new({
        let locks = locks.clone();
        async move { locks.acquire(LockRequest::exclusive("/a").waiting(minute / 2)).await }
    });
    assert!(waiter.run().is_pending());
    hand.advance(minute / 2);
    assert_eq!(refused(waiter.run()).retry_after(), Some(30));
}

/// Two nodes on one store: each serves its own in order, and nobody is left over.
#[tokio::test]
async fn on_several_nodes_everybody_is_served_and_each_node_keeps_its_order() {
    use std::sync::{Arc, Mutex};

    let store = MemoryStore::new();
    let nodes = [Locks::new(store.clone()), Locks::new(store.clone()), Locks::new(store.clone())];
    let held = nodes[0].acquire(LockRequest::exclusive("/a")).await.unwrap();
    let served: Arc<Mutex<Vec<(usize, usize)>>> = Arc::default();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        for (node, locks) in nodes.iter().enumerate() {
            let (locks, served) = (locks.clone(), served.clone());
            // Tasks of one thread come in the order they were started in.
            tasks.spawn(async move {
                let granted = locks.acquire(LockRequest::exclusive("/a").waiting(crate::kit::LONG)).await.unwrap();
                served.lock().unwrap().push((node, number));
                tokio::task::yield_now().await;
                locks.release(granted.token()).await.unwrap();
            });
        }
    }
    while nodes.iter().any(|locks| locks.waiting() < 20) {
        tokio::task::yield_now().await;
    }
    nodes[1].release(held.token()).await.unwrap();
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let served = served.lock().unwrap();
    for node in 0..nodes.len() {
        let order: Vec<usize> = served.iter().filter(|(at, _)| *at == node).map(|(_, number)| *number).collect();
        assert_eq!(order, (0..20).collect::<Vec<_>>(), "node {node}");
    }
}
