//! Acquires in line on a node that is cut off from its engine and comes back, again and again: all are served in the end.
#![cfg(all(unix, any(feature = "redis", feature = "postgres")))]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_lock::{LockRequest, LockStore, Locks, RefusalCode};

use crate::{kit::LONG, support::cable::Cable};

/// `far` goes through the cable, `near` does not.
async fn all_are_served_over_outages(far: Arc<dyn LockStore>, near: Arc<dyn LockStore>, cable: &Cable) {
    let (far, near) = (Locks::new(far), Locks::new(near));
    for round in 0..4u64 {
        let held = near.acquire(LockRequest::exclusive("/a")).await.expect("what is free is had");
        let served: Arc<Mutex<Vec<usize>>> = Arc::default();
        let mut line = tokio::task::JoinSet::new();
        for number in 0..5 {
            let (locks, near, served) = (far.clone(), near.clone(), served.clone());
            line.spawn(async move {
                // A grant whose answer is lost in the cable cannot be undone through it; it ends by itself.
                let request = LockRequest::exclusive("/a").lifetime(Duration::from_secs(1));
                let granted = locks.acquire(request.waiting(LONG)).await.expect("whoever waits is served");
                served.lock().unwrap().push(number);
                near.release(granted.token()).await.expect("the engine is there");
            });
            let places = number + 1;
            while far.waiting() < places {
                assert!(line.try_join_next().is_none(), "nobody is served yet");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // The first is to be in line before the cable is pulled: whoever comes to a store that is down is told so.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        for step in 0..6 {
            if step % 2 == 0 {
                cable.pull();
            } else {
                cable.plug();
            }
            if step == round {
                near.release(held.token()).await.expect("the engine is there");
            }
            tokio::time::sleep(Duration::from_millis(20 * (step + round) % 70)).await;
        }
        cable.plug();
        while let Some(done) = line.join_next().await {
            done.expect("whoever waits is served");
        }
        assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3, 4], "in order, outage or not");
        assert_eq!(far.waiting(), 0);
        let last = loop {
            match near.acquire(LockRequest::exclusive("/a")).await {
                Ok(last) => break last,
                Err(refusal) => assert_eq!(refusal.code(), RefusalCode::Locked),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        near.release(last.token()).await.expect("the engine is there");
    }
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis() {
    use tower_lock::store::RedisStore;

    let server = crate::support::engines::RedisServer::shared();
    let cable = Cable::to(server.port()).await;
    let name = uuid::Uuid::new_v4().to_string();
    let node = |url: &str| Arc::new(RedisStore::builder(url).namespace(&name).build().expect("a sound URL"));
    all_are_served_over_outages(node(&cable.through(&server.url(), server.port())), node(&server.url()), &cable).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    use tower_lock::store::PostgresStore;

    let server = crate::support::engines::PostgresServer::shared();
    let cable = Cable::to(server.port()).await;
    let name = uuid::Uuid::new_v4().to_string();
    let node = |url: &str| {
        let limit = Duration::from_secs(20);
        Arc::new(PostgresStore::builder(url).namespace(&name).time_limit(limit).build().expect("a sound URL"))
    };
    let near = node(&server.url());
    near.migrate().await.expect("the schema is made");
    all_are_served_over_outages(node(&cable.through(&server.url(), server.port())), near, &cable).await;
}
