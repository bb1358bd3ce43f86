//! What survives: restarts, a loss of power, a disk that fails.

mod disks;
mod faults;
mod leaving;
mod power;
mod reopen;

use std::{future::Future, sync::Arc, time::Duration};

use self::disks::TestDisk;
use super::{Settings, file::Disk, ledger::Opened, open::start};
use crate::{
    lock::{
        Claim, Depth, Gone, HolderProof, Lock, LockId, LockKind, LockParts, LockScope, LockToken, Owner, Principal, Reach,
        ResourceKey, Target,
    },
    request::Conditions,
    store::{
        Acquire, Acquired, Authority, Lifetime, LockQuery, LockStore, ManualClock, NewLock, Refresh, Refreshed, Release,
        Released, Span, StoreError, StoreFuture, Verdict, Which, Write,
        memory::{MemoryStore, graveyard::Memory, inflight::Registry},
    },
};

const MINUTE: Duration = Duration::from_secs(60);
/// Long enough for the heads, short enough to be folded now and then.
const SHORT: u64 = 8 << 12;

/// A store on a disk that the test holds in its hand, with a clock to move.
struct Bench {
    disk: Arc<TestDisk>,
    hand: ManualClock,
    store: Option<MemoryStore>,
}

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

fn gone(path: &str) -> Gone<'static> {
    Gone { key: key(path), reach: Reach::AtOrBelow }
}

fn who(name: &str) -> Principal {
    Principal::new(name)
}

fn new(path: &str, principal: &str) -> NewLock {
    let parts = LockParts {
        id: LockId::random(),
        root: key(path),
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: Some(who(principal)),
        owner: Owner::id(principal),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    };
    NewLock { parts: Arc::new(parts), token: LockToken::random() }
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn poll<T>(future: &mut StoreFuture<T>) -> Option<Result<T, StoreError>> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut cx) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}

fn settings(hand: &ManualClock, dead: usize) -> Settings {
    Settings {
        clock: hand.clock(),
        registry: Some(Registry::new()),
        lease: Duration::from_secs(30),
        memory: Memory { most: dead, ..Memory::default() },
    }
}

fn open(disk: &Arc<TestDisk>, hand: &ManualClock, dead: usize) -> Result<MemoryStore, StoreError> {
    let disk: Disk = disk.clone();
    let (core, writer) = start(Opened::on(&disk)?, settings(hand, dead))?;
    Ok(MemoryStore { core, _writer: Some(Arc::new(writer)) })
}

impl Bench {
    fn new() -> Self {
        Self::with(SHORT, 100_000)
    }

    fn with(journal: u64, dead: usize) -> Self {
        let (disk, hand) = (Arc::new(TestDisk::default()), ManualClock::new());
        let on: Disk = disk.clone();
        let (core, writer) = start(Opened::fresh(&on, journal).unwrap(), settings(&hand, dead)).unwrap();
        Self { disk, hand, store: Some(MemoryStore { core, _writer: Some(Arc::new(writer)) }) }
    }

    fn store(&self) -> &MemoryStore {
        self.store.as_ref().unwrap()
    }

    /// The process ends in good order and another one opens the file.
    fn restart(&mut self) {
        self.store = None;
        self.store = Some(open(&self.disk, &self.hand, 100_000).unwrap());
    }

    fn try_acquire(&self, locks: &[NewLock]) -> StoreFuture<Acquired> {
        let lifetime = Lifetime { span: Some(MINUTE), most: Some(10 * MINUTE), total: Some(60 * MINUTE) };
        self.store().acquire(&Acquire::new(locks, locks[0].parts.principal.as_ref()).living(lifetime))
    }

    fn acquire(&self, lock: &NewLock) -> Lock {
        match wait(self.try_acquire(std::slice::from_ref(lock))).unwrap() {
            Acquired::Granted(mut locks) => locks.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn release(&self, lock: &NewLock) -> StoreFuture<Released> {
        let principal = lock.parts.principal.as_ref();
        let authority = Authority::Holder { principal, proof: &HolderProof::TokenAndPrincipal };
        self.store().release(&Release::new(Which::Token(&lock.token), authority))
    }

    fn refresh(&self, lock: &NewLock, span: Span) -> StoreFuture<Refreshed> {
        let principal = lock.parts.principal.as_ref();
        let authority = Authority::Holder { principal, proof: &HolderProof::TokenAndPrincipal };
        self.store().refresh(&Refresh::new(Which::Token(&lock.token), authority, span))
    }

    fn break_it(&self, id: LockId, grace: Duration) -> StoreFuture<Released> {
        let admin = who("admin");
        let authority = Authority::Break { actor: Some(&admin), reason: "night work", grace };
        self.store().release(&Release::new(Which::Id(id), authority))
    }

    fn put(&self, path: &str, lock: Option<&NewLock>) -> Verdict {
        let mut conditions = Conditions::default();
        if let Some(lock) = lock {
            conditions.submit(lock.token).unwrap();
        }
        let targets = [Target::write(key(path))];
        let principal = lock.and_then(|lock| lock.parts.principal.as_ref());
        wait(self.store().admit(&Write::new(&targets, &conditions).by(principal))).unwrap()
    }

    fn refused(&self, path: &str) -> bool {
        self.put(path, None).refused().is_some()
    }

    /// All locks, without what depends on the moment.
    fn all(&self) -> Vec<Lock> {
        let page = wait(self.store().find(&LockQuery::at_or_below(key("/")).limit(usize::MAX))).unwrap();
        let still = |lock: &Lock| {
            Lock::new(lock.parts().clone(), crate::lock::LockLife { seen_at: crate::lock::Timestamp::EPOCH, ..*lock.life() })
        };
        page.locks.iter().map(still).collect()
    }
}
