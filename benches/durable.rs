//! What durable locks cost: `cargo bench --features redb --bench durable [folder]`.
//!
//! An acquire and a release of a lock that is held in memory and in a file, 100,000 others held, beside what the machine
//! needs for two times a write of as many bytes and an `fdatasync`. Both take turns in short rounds on the same disk (the
//! current folder's, unless one is named). The file grows in one floor, as that of a log does; the other writes where
//! bytes already are, which no growing file can.

use std::{
    env,
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tower_lock::{
    Depth, LockKind, LockScope, LockStore, LockToken, MemoryStore, Owner, Principal, ResourceKey,
    lock::{Claim, LockParts},
    store::{Acquire, Acquired, Authority, Lifetime, NewLock, Release, Released, Which},
};

/// About what the journal takes for one change.
const BYTES: usize = 512;

fn main() -> io::Result<()> {
    // `cargo bench` says so; `cargo test --benches` does not, and then it just has to work.
    let measuring = env::args().any(|arg| arg == "--bench");
    let folder = env::args().skip(1).find(|arg| !arg.starts_with('-')).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    let (held, rounds, pairs) = if measuring { (100_000, 12, 100) } else { (100, 1, 4) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let path = folder.path().join("locks.redb");
    let store = open(&path);
    runtime.block_on(fill(&store, held));

    println!("{held} locks held; microseconds for an acquire and a release, median and 99 of 100");
    println!("{:<34} {:>9} {:>9} {:>12} {:>14}", "", "p50", "p99", "of floor p50", "pairs a second");
    for callers in [1, 16, 64] {
        let (mut ours, mut growing, mut inside) = (Spent::default(), Spent::default(), Spent::default());
        for round in 0..rounds {
            runtime.block_on(ours.pairs(&store, callers, pairs, round));
            growing.floor(&folder.path().join("floor"), Floor::Growing, pairs)?;
            inside.floor(&folder.path().join("floor"), Floor::Inside, pairs)?;
        }
        let floor = growing.percentile(50);
        for (name, mut spent) in [
            (format!("store, {callers} callers"), ours),
            ("  2 writes, 2 syncs: growing file".to_owned(), growing),
            ("  2 writes, 2 syncs: inside a file".to_owned(), inside),
        ] {
            let (p50, p99) = (spent.percentile(50), spent.percentile(99));
            println!("{name:<34} {p50:>9.0} {p99:>9.0} {:>12.2} {:>14.0}", p50 / floor, spent.a_second());
        }
    }
    drop(store);
    let start = Instant::now();
    let again = open(&path);
    println!("opened with {} locks and {} dead in {:?}", again.stats().locks, again.stats().dead, start.elapsed());
    println!("the file has {} bytes", fs::metadata(&path)?.len());
    Ok(())
}

fn open(path: &Path) -> MemoryStore {
    MemoryStore::open(path).expect("a folder to write to")
}

fn new(path: &str) -> NewLock {
    let (token, id) = LockToken::random_with_id();
    let parts = LockParts {
        id,
        root: ResourceKey::parse(path).expect("a path").into_owned(),
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: Some(Principal::new("ann")),
        owner: Owner::id("u-17").named("Legal desk"),
        reason: Some("nightly export".into()),
        client_ref: None,
        claim: Claim::Made,
    };
    NewLock { parts: Arc::new(parts), token }
}

async fn acquire(store: &MemoryStore, lock: &NewLock) {
    let lifetime = Lifetime { span: Some(Duration::from_secs(86_400)), most: None, total: None };
    let request = Acquire::new(std::slice::from_ref(lock), lock.parts.principal.as_ref()).living(lifetime);
    assert!(matches!(store.acquire(&request).await, Ok(Acquired::Granted(_))), "nobody is in the way");
}

async fn fill(store: &MemoryStore, held: usize) {
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for at in (task..held).step_by(64) {
                acquire(&store, &new(&format!("/held/{}/{at}", at % 100))).await;
            }
        });
    }
    tasks.join_all().await;
}

/// What each pair took, and all of them together.
#[derive(Default)]
struct Spent {
    micros: Vec<f64>,
    whole: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Floor {
    Growing,
    Inside,
}

impl Spent {
    async fn pairs(&mut self, store: &MemoryStore, callers: usize, pairs: usize, round: usize) {
        let mut tasks = JoinSet::new();
        let start = Instant::now();
        for caller in 0..callers {
            let store = store.clone();
            tasks.spawn(async move {
                let mut micros = Vec::with_capacity(pairs);
                for pair in 0..pairs {
                    let lock = new(&format!("/some/{caller}/{round}/{pair}"));
                    let start = Instant::now();
                    acquire(&store, &lock).await;
                    let release = Release::new(Which::Token(&lock.token), Authority::Guard);
                    assert!(matches!(store.release(&release).await, Ok(Released::Released(_))), "it is held");
                    micros.push(start.elapsed().as_secs_f64() * 1e6);
                }
                micros
            });
        }
        self.micros.extend(tasks.join_all().await.into_iter().flatten());
        self.whole += start.elapsed();
    }

    fn floor(&mut self, path: &Path, floor: Floor, pairs: usize) -> io::Result<()> {
        let mut file = File::create(path)?;
        if floor == Floor::Inside {
            file.write_all(&vec![0; 2 * BYTES * pairs])?;
            file.sync_all()?;
            file.seek(SeekFrom::Start(0))?;
        }
        let begin = Instant::now();
        for _ in 0..pairs {
            let start = Instant::now();
            for _ in 0..2 {
                file.write_all(&[7; BYTES])?;
                file.sync_data()?;
            }
            self.micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
        self.whole += begin.elapsed();
        Ok(())
    }

    fn percentile(&mut self, percent: usize) -> f64 {
        self.micros.sort_by(f64::total_cmp);
        self.micros[(self.micros.len() * percent / 100).min(self.micros.len() - 1)]
    }

    fn a_second(&self) -> f64 {
        self.micros.len() as f64 / self.whole.as_secs_f64()
    }
}
