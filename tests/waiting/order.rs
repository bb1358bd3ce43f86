//! Who goes first.

use tower_lock::{LockRequest, Locks, MemoryStore, RefusalCode};

use crate::kit::{granted, waiting};

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
        token = granted(line[at].run()).token();
        line[at] = waiting(&locks, LockRequest::exclusive("/b"));
    }
    assert_eq!(locks.waiting(), 0);
}
