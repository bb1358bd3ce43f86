//! Whoever leaves while waiting leaves nothing: no place, no watch, no lock, and nobody behind who is not served.

use std::task::Poll;

use tower_lock::{LockRequest, Locks, MemoryStore, store::LockStore};

use crate::{
    kit::{Ears, Hand, waiting},
    support::{Call, Mode, Rigged, until},
};

/// How many polls a run is followed for. Runs that end earlier are over.
const POLLS: usize = 24;

/// A store that answers some of its calls late, so that there are more moments to leave at.
fn rigged(late: &[Call]) -> (MemoryStore, Ears<Rigged<MemoryStore>>) {
    let memory = MemoryStore::new();
    let store = Rigged::new(memory.clone());
    for call in late {
        store.set(*call, Mode::Later);
    }
    (memory, Ears::new(store))
}

/// Everybody has left, and what is locked now can be locked by the next.
async fn nothing_is_left(memory: &MemoryStore, store: &Ears<impl LockStore>, locks: &Locks, when: &str) {
    until(when, || locks.waiting() == 0 && store.open() == 0).await;
    until(when, || memory.stats().in_flight == 0).await;
    // What was granted at that moment is undone in the background, where the store answers late.
    for _ in 0..1_000 {
        if let Ok(guard) = locks.hold(LockRequest::exclusive("/")).await {
            guard.release().await.unwrap();
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{when}: a lock is left: {:?}", locks.acquire(LockRequest::exclusive("/")).await);
}

/// Polls an acquire so many times and drops it, between one in front of it and one behind. The lock in the way of all ends
/// before poll number `ends`, that of the one in front four polls later. Whether it was still waiting when it was dropped.
async fn leaves_after(polls: usize, ends: usize, late: &[Call]) -> bool {
    let (memory, store) = rigged(late);
    let locks = Locks::new(store.clone());
    let mut held = Some(locks.acquire(LockRequest::exclusive("/a")).await.unwrap().token());
    let mut before = Some(waiting(&locks, LockRequest::exclusive("/a")));
    assert!(before.as_mut().unwrap().run().is_pending());
    let mut leaver = waiting(&locks, LockRequest::exclusive("/a").and("/b"));
    let mut after = waiting(&locks, LockRequest::shared("/a"));
    for poll in 0..polls {
        if (poll == ends || poll == ends + 4)
            && let Some(token) = held.take()
        {
            locks.release(token).await.unwrap();
        }
        if let Some(Poll::Ready(granted)) = before.as_mut().map(Hand::poll) {
            held = Some(granted.unwrap().token());
            before = None;
        }
        if leaver.poll().is_ready() {
            return false;
        }
        assert!(after.poll().is_pending(), "nobody passes");
        tokio::task::yield_now().await;
    }
    let when = format!("left after {polls} polls, the lock gone before number {ends}, late: {late:?}");
    drop((leaver, before));
    if let Some(token) = held {
        locks.release(token).await.unwrap();
    }
    let mut served = None;
    until(&when, || match after.poll() {
        Poll::Ready(granted) => {
            served = Some(granted.expect("whoever stands behind is served"));
            true
        }
        Poll::Pending => false,
    })
    .await;
    locks.release(served.expect("served").token()).await.unwrap();
    nothing_is_left(&memory, &store, &locks, &when).await;
    true
}

#[tokio::test]
async fn whoever_leaves_at_any_point_leaves_nothing() {
    use Call::{Acquire, Find, Release};
    let mut left = 0;
    for late in [&[][..], &[Acquire], &[Acquire, Release], &[Acquire, Find, Release]] {
        for ends in 0..6 {
            for polls in 0..POLLS {
                left += usize::from(leaves_after(polls, ends, late).await);
            }
        }
    }
    assert!(left > 100, "only {left} left while they waited");
}

/// The same for one that leaves while the store is asked for the last time, or is told of the end only then.
#[tokio::test]
async fn a_place_left_while_the_store_is_asked_goes_to_the_next() {
    let (memory, store) = rigged(&[]);
    let gate = Rigged::new(memory.clone());
    let ears = Ears::new(gate.clone());
    drop(store);
    let locks = Locks::new(ears.clone());
    let held = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let (mut first, mut second) =
        (waiting(&locks, LockRequest::exclusive("/a")), waiting(&locks, LockRequest::exclusive("/a")));
    assert!(first.run().is_pending() && second.run().is_pending());
    locks.release(held.token()).await.unwrap();
    // Granted in the store, and the answer is on its way.
    gate.set(Call::Acquire, Mode::Gated);
    assert!(first.run().is_pending());
    assert_eq!(memory.stats().locks, 1);
    gate.set(Call::Acquire, Mode::Pass);
    drop(first);
    assert!(second.wakes() > 0);
    let guard = second.run();
    let Poll::Ready(Ok(granted)) = guard else { panic!("not granted: {guard:?}") };
    locks.release(granted.token()).await.unwrap();
    nothing_is_left(&memory, &ears, &locks, "left while asked").await;
}
