//! The store with a file, killed at random moments under load, many times; and files that are not whole, or not ours.
//!
//! The load runs in a child process: this test binary again, which then runs the test `child` alone. Before it asks the
//! store for something it writes what to its output, and after the answer which. The parent kills it, opens the file and
//! compares. `TOWER_LOCK_SOAK=n` kills `n` times as often.
#![cfg(feature = "redb")]

#[path = "crash/files.rs"]
mod files;
#[path = "crash/ledger.rs"]
mod ledger;
#[path = "crash/load.rs"]
mod load;

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use tower_lock::{
    MemoryStore,
    lock::{Claim, Depth, LockId, LockKind, LockParts, LockScope, LockToken, Owner, Principal, ResourceKey},
    store::{
        Acquire, Acquired, Authority, LockQuery, LockStore, NewLock, Refresh, Refreshed, Release, Released, Span,
        StoreError, Which,
    },
};

/// How often the child is killed.
const KILLS: usize = 36;
/// Tells the test binary that it is the child, and where the file is.
const FILE: &str = "TOWER_LOCK_CRASH_FILE";
const SEED: &str = "TOWER_LOCK_CRASH_SEED";

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::parse(path).unwrap().into_owned()
}

fn ann() -> Principal {
    Principal::new("ann")
}

fn new(path: &str) -> NewLock {
    let parts = LockParts {
        id: LockId::random(),
        root: key(path),
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::Job,
        principal: Some(ann()),
        owner: Owner::id("ann").named("Ann"),
        reason: Some("load".into()),
        client_ref: None,
        claim: Claim::Made,
    };
    NewLock { parts: Arc::new(parts), token: LockToken::random() }
}

async fn refresh(store: &MemoryStore, token: &LockToken, span: Span) -> Result<Refreshed, StoreError> {
    store.refresh(&Refresh::new(Which::Token(token), Authority::Principal(&ann()), span)).await
}

async fn release(store: &MemoryStore, token: &LockToken) -> Result<Released, StoreError> {
    store.release(&Release::new(Which::Token(token), Authority::Principal(&ann()))).await
}

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

fn soak() -> usize {
    std::env::var("TOWER_LOCK_SOAK").ok().and_then(|soak| soak.parse().ok()).unwrap_or(1)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Not a test of its own: what the child runs, until it is killed.
#[test]
fn child() {
    let Ok(file) = std::env::var(FILE) else { return };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    runtime().block_on(load::run(Path::new(&file), seed));
}

/// Ends the child also where the test fails.
struct Killed(Child);

impl Killed {
    fn start(file: &Path, seed: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        command.env(FILE, file).env(SEED, seed.to_string()).env("RUST_BACKTRACE", "0");
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// SIGKILL. What it had written until then; a last line that is not whole does not count.
    fn kill(mut self, mut heard: String, mut pipe: impl Read) -> String {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).unwrap();
        heard.push_str(&String::from_utf8(rest).unwrap());
        let whole = heard.rfind('\n').map_or(0, |end| end + 1);
        heard.truncate(whole);
        heard
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_was_answered_survives_being_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("locks.redb");
    let (mut known, mut random) = (ledger::Known::default(), Random::new(0x5EED));
    let runtime = runtime();
    for round in 0..KILLS * soak() {
        let mut child = Killed::start(&file, round as u64);
        let mut pipe = BufReader::new(child.0.stdout.take().unwrap());
        let mut heard = String::new();
        // Now and then while it opens the file, or makes it; else under load.
        if round % 6 != 0 {
            while !heard.contains("open\n") {
                assert_ne!(pipe.read_line(&mut heard).unwrap(), 0, "the child cannot open the file: {heard}");
            }
        }
        thread::sleep(Duration::from_micros(random.below(60_000)));
        known.hear(&child.kill(heard, pipe));
        runtime.block_on(known.compare(&file, round, &mut random));
    }
    known.expect_enough(soak());
}

async fn all(store: &MemoryStore) -> Vec<tower_lock::Lock> {
    store.find(&LockQuery::at_or_below(key("/")).limit(usize::MAX)).await.unwrap().locks
}

async fn acquire(store: &MemoryStore, locks: &[NewLock]) -> Acquired {
    store.acquire(&Acquire::new(locks, Some(&ann()))).await.unwrap()
}
