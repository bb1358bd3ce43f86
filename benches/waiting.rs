//! What waiting and watching cost, those who wait and those who do not: `cargo bench --bench waiting`. Figures:
//! `benches/README.md`.
//!
//! On a memory store, in one process. Each case and the one that it is compared to take turns in short rounds, so that
//! whatever else the machine does hits both; the medians are compared.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tower_lock::{
    LockRequest, LockStore, Locks, MemoryStore, ResourceKey,
    store::{LockQuery, Watch},
};

/// Calls of a case before it is the next one's turn.
const BATCH: usize = 64;
/// Who looks on.
const CROWD: usize = 9_900;

fn main() {
    // `cargo bench` says so; `cargo test --benches` does not, and then each case just has to work.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let rounds = if measuring { 100 } else { 1 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut cases = cases().await;
        for round in 0..=rounds {
            for case in &mut cases {
                let spent = case.batch().await;
                // The first round warms up.
                if round > 0 {
                    case.spent.push(spent);
                }
            }
        }
        if !measuring {
            println!("all {} cases work; cargo bench --bench waiting measures them", cases.len());
            return;
        }
        let medians: Vec<f64> = cases.iter_mut().map(|case| median(&mut case.spent)).collect();
        println!("{:<72} {:>9} {:>8}", "", "µs each", "ratio");
        for (case, spent) in cases.iter().zip(&medians) {
            let ratio = case.base.map_or(String::new(), |base| format!("{:.2}", spent / medians[base]));
            println!("{:<72} {spent:>9.2} {ratio:>8}", case.name);
        }
        many().await;
    });
}

struct Case {
    name: String,
    /// The row that it is compared to.
    base: Option<usize>,
    work: Box<dyn FnMut() -> Pin<Box<dyn Future<Output = usize>>>>,
    spent: Vec<f64>,
}

impl Case {
    /// Microseconds for each thing done.
    async fn batch(&mut self) -> f64 {
        let start = Instant::now();
        let done = (self.work)().await;
        start.elapsed().as_secs_f64() * 1e6 / done as f64
    }
}

fn case(
    name: impl Into<String>,
    base: Option<usize>,
    work: impl FnMut() -> Pin<Box<dyn Future<Output = usize>>> + 'static,
) -> Case {
    Case { name: name.into(), base, work: Box::new(work), spent: Vec::new() }
}

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::parse(path).expect("a path").into_owned()
}

async fn pair(locks: &Locks, path: &str) {
    let granted = locks.acquire(LockRequest::exclusive(path)).await.expect("nobody else");
    locks.release(granted.token()).await.expect("a store");
}

async fn pairs(locks: Locks) -> usize {
    for _ in 0..BATCH {
        pair(&locks, "/free/a").await;
    }
    BATCH
}

/// Locks that many watch, each at a resource of its own; they are kept as long as the streams are.
async fn watched(of_it: usize, elsewhere: usize) -> (Locks, Vec<Watch>) {
    let store = MemoryStore::new();
    let mut watches = Vec::new();
    for at in 0..of_it + elsewhere {
        let path = if at < of_it { "/free/a".to_owned() } else { format!("/crowd/{at}") };
        let mut watch = store.watch(&LockQuery::covering(key(&path)));
        watch.next().await.expect("a watch").expect("synced");
        watches.push(watch);
    }
    (Locks::new(store), watches)
}

async fn cases() -> Vec<Case> {
    let mut cases = Vec::new();

    let alone = Locks::new(MemoryStore::new());
    cases.push(case("acquire and release, nobody waits or watches", None, move || Box::pin(pairs(alone.clone()))));

    let (locks, crowd) = watched(0, CROWD).await;
    cases.push(case(format!("the same, {CROWD} watch other resources"), Some(0), move || {
        let _ = &crowd;
        Box::pin(pairs(locks.clone()))
    }));

    let (locks, dead) = watched(1, 0).await;
    cases.push(case("the same, one watches it and never reads", Some(0), move || {
        let _ = &dead;
        Box::pin(pairs(locks.clone()))
    }));

    // Those who wait for locks of other resources, 99 each.
    let locks = Locks::new(MemoryStore::new());
    let mut waiting = Vec::new();
    for at in 0..CROWD {
        let path = format!("/crowd/{}", at / 99);
        if at % 99 == 0 {
            _ = locks.acquire(LockRequest::exclusive(&path).endless()).await;
        }
        let locks = locks.clone();
        let mut acquire: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
            _ = locks.acquire(LockRequest::exclusive(path).waiting(Duration::from_secs(3_600))).await;
        });
        assert_eq!(acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
        waiting.push(acquire);
    }
    assert_eq!(locks.waiting(), CROWD);
    cases.push(case(format!("the same, {CROWD} wait for other resources"), Some(0), move || {
        let _ = &waiting;
        Box::pin(pairs(locks.clone()))
    }));

    // A lock that goes from hand to hand: each in line gets it and gives it to the next.
    let locks = Locks::new(MemoryStore::new());
    cases.push(case("acquire and release in line, 64 at once", Some(0), move || {
        let locks = locks.clone();
        Box::pin(async move {
            let each = (0..BATCH).map(|_| async {
                let granted = locks.acquire(LockRequest::exclusive("/a").waiting(Duration::from_secs(60))).await;
                locks.release(granted.expect("its turn").token()).await.expect("a store");
            });
            join_all(each).await.len()
        })
    }));
    cases
}

/// Many at once: how long until all who wait for one release have been told.
async fn many() {
    let store = MemoryStore::new();
    let locks = Locks::new(store.clone());
    let granted = locks.acquire(LockRequest::exclusive("/a")).await.expect("nobody else");
    let watches: FuturesUnordered<_> = (0..10_000)
        .map(|_| store.watch(&LockQuery::covering(key("/a"))))
        .map(|mut watch| async move {
            // Synced, then the end.
            watch.next().await.expect("a watch").expect("synced");
            watch.next().await.expect("a watch").expect("the end");
        })
        .collect();
    let mut told = pin!(watches.collect::<Vec<()>>());
    assert!(told.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let start = Instant::now();
    locks.release(granted.token()).await.expect("a store");
    let released = start.elapsed();
    told.await;
    println!(
        "a release that 10,000 watch: {:.1} ms until it is answered, {:.1} ms until all have read it",
        released.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3,
    );
}

fn median(spent: &mut [f64]) -> f64 {
    spent.sort_by(f64::total_cmp);
    spent[spent.len() / 2]
}
