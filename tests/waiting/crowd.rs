//! Ten thousand who wait and ten thousand who watch, on one store.

use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tower_lock::{
    LockRequest, Locks, MemoryStore, ResourceKey,
    store::{LockEvent, LockQuery, LockStore, Watch},
};

use crate::{
    kit::{Ears, LONG},
    support::{Call, Rigged},
};

const RESOURCES: usize = 100;
const EACH: usize = 100;

fn path(resource: usize) -> String {
    format!("/projects/{resource}/plan")
}

/// Bytes of memory that this process has in use; nothing where the system does not tell.
fn in_use() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    Some(pages * 4_096)
}

/// How many bytes each of so many has taken since `before`.
fn each_of(many: usize, before: Option<u64>) -> Option<u64> {
    Some(in_use()?.saturating_sub(before?) / many as u64)
}

/// One who reads everything, until it is told of the last lock.
async fn reads_to_the_end(store: impl LockStore, mut watch: Watch, key: ResourceKey<'static>) {
    let last = |lock: &tower_lock::Lock| lock.client_ref() == Some("last");
    while let Some(event) = watch.next().await {
        let over = match event.expect("a store in memory does not fail") {
            LockEvent::Granted(lock) => last(&lock),
            LockEvent::Synced => {
                store.find(&LockQuery::covering(key.borrowed())).await.expect("an answer").locks.iter().any(last)
            }
            _ => false,
        };
        if over {
            return;
        }
    }
    panic!("a watch is endless while its store lives");
}

/// All are woken, none is lost, whoever is first in line is served first, and readers that never read cost next to nothing.
#[tokio::test]
async fn ten_thousand_wait_in_line_and_ten_thousand_watch() {
    let rig = Rigged::new(MemoryStore::new());
    let store = Ears::new(rig.clone());
    let locks = Locks::new(store.clone());
    let mut held = Vec::new();
    for resource in 0..RESOURCES {
        held.push(locks.acquire(LockRequest::exclusive(path(resource))).await.unwrap().token());
    }

    // Watchers: one in ten reads all, one in ten is slow and stops after an event, the rest never read.
    let started = in_use();
    let (mut readers, mut dead) = (JoinSet::new(), Vec::new());
    for number in 0..RESOURCES * EACH {
        let key = ResourceKey::parse(&path(number % RESOURCES)).unwrap().into_owned();
        let mut watch = rig.watch(&LockQuery::covering(key.borrowed()));
        match number % 10 {
            0 => drop(readers.spawn(reads_to_the_end(rig.clone(), watch, key))),
            1 => {
                assert!(matches!(watch.next().await, Some(Ok(LockEvent::Synced))));
                dead.push(watch);
            }
            _ => dead.push(watch),
        }
    }
    println!("a watcher takes {:?} bytes", each_of(RESOURCES * EACH, started));

    // Tasks of one thread come in the order they were started in.
    let started = in_use();
    let served: Arc<Mutex<Vec<Vec<usize>>>> = Arc::new(Mutex::new(vec![Vec::new(); RESOURCES]));
    let mut line = JoinSet::new();
    for number in 0..EACH {
        for resource in 0..RESOURCES {
            let (locks, served) = (locks.clone(), served.clone());
            line.spawn(async move {
                let granted = locks.acquire(LockRequest::exclusive(path(resource)).waiting(LONG)).await.unwrap();
                served.lock().unwrap()[resource].push(number);
                tokio::task::yield_now().await;
                locks.release(granted.token()).await.unwrap();
            });
        }
    }
    while locks.waiting() < RESOURCES * EACH || store.open() < RESOURCES {
        tokio::task::yield_now().await;
    }
    println!("a waiter takes {:?} bytes, its task included", each_of(RESOURCES * EACH, started));
    assert!(locks.acquire(LockRequest::exclusive("/free").waiting(LONG)).await.is_ok(), "what is free is had");
    let asked = rig.calls(Call::Acquire);
    assert!(asked <= RESOURCES * 3 + 1, "{asked} questions: only those in front ask");
    assert_eq!(store.open(), RESOURCES, "only those in front watch");

    for token in held {
        locks.release(token).await.unwrap();
    }
    while let Some(done) = line.join_next().await {
        done.unwrap();
    }
    let in_order: Vec<usize> = (0..EACH).collect();
    assert!(served.lock().unwrap().iter().all(|served| *served == in_order), "whoever came first is served first");
    let asked = rig.calls(Call::Acquire) - asked;
    assert!(asked <= RESOURCES * EACH * 3, "{asked} questions: each is woken when it is worth asking");
    assert_eq!((locks.waiting(), store.open()), (0, 0));
    let grown = each_of(RESOURCES * EACH, started);
    println!("with ten thousand grants told, a waiter and a watcher take {grown:?} bytes");
    assert!(grown.is_none_or(|bytes| bytes < 32 * 1024), "those who never read cost little");

    for resource in 0..RESOURCES {
        let _last = locks.acquire(LockRequest::exclusive(path(resource)).client_ref("last")).await.unwrap();
    }
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
    drop(dead);
}
