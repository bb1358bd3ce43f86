//! A store that fails while somebody waits: they go on waiting, and only at the end are told so.

use std::time::Duration;

use tower_lock::{LockRequest, Locks, MemoryStore, RefusalCode, store::ManualClock};

use crate::{
    kit::{Ears, LONG, back, granted, lost_from_sight, refused, waiting},
    support::{Call, Mode, Rigged},
};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    hand: ManualClock,
    memory: MemoryStore,
    rig: Rigged<MemoryStore>,
    store: Ears<Rigged<MemoryStore>>,
    locks: Locks,
}

fn world() -> World {
    let hand = ManualClock::new();
    let memory = MemoryStore::builder().clock(hand.clock()).build();
    let rig = Rigged::new(memory.clone());
    let store = Ears::new(rig.clone());
    let locks = Locks::builder(store.clone()).clock(hand.clock()).build();
    World { hand, memory, rig, store, locks }
}

fn request() -> LockRequest {
    LockRequest::exclusive("/a").lifetime(Duration::from_secs(3_000))
}

#[tokio::test]
async fn whoever_comes_to_a_store_that_is_down_is_told_so_at_once() {
    let World { rig, locks, .. } = world();
    rig.set(Call::Acquire, Mode::Fail);
    assert_eq!(refused(waiting(&locks, request()).run()).code(), RefusalCode::StoreUnavailable);
    assert_eq!(locks.waiting(), 0);
}

#[tokio::test]
async fn whoever_waits_goes_on_waiting_and_hears_what_happened_meanwhile() {
    let World { rig, store, locks, memory, .. } = world();
    let held = locks.acquire(request()).await.unwrap();
    let mut line = [waiting(&locks, request()), waiting(&locks, request())];
    assert!(line.iter_mut().all(|waiter| waiter.run().is_pending()));
    rig.set(Call::Acquire, Mode::Fail);
    store.tell(lost_from_sight);
    assert!(line.iter_mut().all(|waiter| waiter.run().is_pending()));
    // It ends while nobody hears of it.
    store.hear(crate::kit::Hearing::Deaf);
    Locks::new(memory).release(held.token()).await.unwrap();
    assert!(line.iter_mut().all(|waiter| waiter.run().is_pending()));
    rig.set(Call::Acquire, Mode::Pass);
    store.hear(crate::kit::Hearing::Good);
    store.tell(back);
    assert!(line[1].run().is_pending());
    let first = granted(line[0].run());
    locks.release(first.token()).await.unwrap();
    let _second = granted(line[1].run());
    assert_eq!((locks.waiting(), store.open()), (0, 0));
}

#[tokio::test]
async fn without_news_the_store_is_asked_after_pauses_that_grow() {
    let World { hand, rig, store, locks, .. } = world();
    let held = locks.acquire(request()).await.unwrap();
    let mut waiter = waiting(&locks, request());
    assert!(waiter.run().is_pending());
    rig.set(Call::Acquire, Mode::Fail);
    store.tell(lost_from_sight);
    assert!(waiter.run().is_pending());
    let before = rig.calls(Call::Acquire);
    for _ in 0..60 {
        hand.advance(SECOND);
        assert!(waiter.run().is_pending());
    }
    let asked = rig.calls(Call::Acquire) - before;
    assert!((10..=20).contains(&asked), "asked {asked} times in a minute");
    store.hear(crate::kit::Hearing::Deaf);
    rig.set(Call::Acquire, Mode::Pass);
    locks.release(held.token()).await.unwrap();
    for _ in 0..6 {
        hand.advance(SECOND);
        if waiter.run().is_ready() {
            return;
        }
    }
    panic!("a store that is back is not asked");
}

#[tokio::test]
async fn only_when_the_time_is_up_is_the_answer_503() {
    let World { hand, rig, locks, store, .. } = world();
    let _held = locks.acquire(request()).await.unwrap();
    let mut waiter = waiting(&locks, request());
    assert!(waiter.run().is_pending());
    rig.set(Call::Acquire, Mode::Fail);
    store.tell(lost_from_sight);
    assert!(waiter.run().is_pending());
    hand.advance(SECOND);
    assert!(waiter.run().is_pending());
    hand.advance(LONG);
    assert_eq!(refused(waiter.run()).code(), RefusalCode::StoreUnavailable);
    assert_eq!(store.open(), 0);
}

/// An answer that never came may have been a grant: it is undone, its token is used up, and the next question is put with
/// another.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_uses_up_its_token() {
    let memory = MemoryStore::new();
    let rig = Rigged::new(memory.clone());
    let locks = Locks::new(Ears::new(rig.clone()));
    let held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let waiter = tokio::spawn({
        let locks = locks.clone();
        async move { locks.acquire(LockRequest::exclusive("/a").waiting(LONG)).await }
    });
    while rig.calls(Call::Acquire) < 3 {
        tokio::task::yield_now().await;
    }
    // Granted in the store, and never answered.
    rig.set(Call::Acquire, Mode::Gated);
    locks.release(held.token()).await.unwrap();
    while rig.calls(Call::Acquire) < 4 {
        tokio::task::yield_now().await;
    }
    rig.set(Call::Acquire, Mode::Pass);
    let granted = waiter.await.unwrap().expect("it asks again, and is granted");
    assert_eq!(memory.stats().locks, 1, "the one of the lost answer was ended");
    locks.release(granted.token()).await.unwrap();
}
