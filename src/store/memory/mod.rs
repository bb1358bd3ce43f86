//! `MemoryStore`: locks in the memory of one process. The default store.
//!
//! ```text
//! admit ──► registry (slots) ──► filter (lock-free) ──► table (one RwLock), only on a hit
//! acquire ──► table ──► filter ──► registry: wait for the writes that the new lock refuses
//! ```

mod acquire;
mod admit;
mod cooling;
mod core;
mod decide;
mod drain;
mod durable;
mod expiry;
mod filter;
mod find;
mod graveyard;
mod index;
mod inflight;
mod latch;
mod manage;
mod order;
mod pins;
mod plan;
mod prefix;
mod record;
mod slab;
mod sync;
mod table;
mod tags;

use std::{fmt, sync::Arc, time::Duration};

use self::{core::Core, durable::Writer, graveyard::Memory, inflight::Registry};
use super::{
    Acquire, Acquired, Clock, LockPage, LockQuery, LockStore, Permit, Refresh, Refreshed, Release, Released, StoreFuture,
    Verdict, Watch, Write, WriteId,
};
use crate::lock::{Gone, Target};

/// Locks in the memory of this process. A cheap handle: clones share the locks.
///
/// It keeps all guarantees G1 to G10 for the writes and locks that go through it, and answers everything at once but an
/// acquire that waits for writes in flight. Nothing runs in the background: a lock whose time is up is absent from every
/// answer at once, and is taken out of memory by later acquires, refreshes and releases, a bounded number by each.
///
/// - A write that meets no lock costs a registration and a look at a table of hashes; it allocates nothing and waits for
///   nobody.
/// - Time never goes back: where a clock steps back, the store's time stands still until the clock has caught up. Nothing
///   that has ended is revived.
/// - A lock takes about 600 bytes, its own text (root, owner, reason) of some sixty bytes included; a dead one that is
///   remembered, about 200.
///
/// Not promised: what another process does (two processes with a memory store each know nothing of one another), and
/// locks after a restart, which are gone unless they are kept in a file (`MemoryStoreBuilder::open`, feature `redb`).
/// Without one, generations start at the wall clock, in microseconds, so they go on rising over a restart as long as that
/// clock does and fewer than a million locks a second were granted.
///
/// A closure given as [`HolderProof`](crate::lock::HolderProof) runs inside a step of the store, and must not call it.
///
/// An acquire that waits for writes in flight, by the system's clock, is polled inside of a tokio runtime with timers.
///
/// ```
/// use std::sync::Arc;
/// use tower_lock::{lock::{Claim, Depth, LockId, LockKind, LockParts, LockScope, LockToken, Owner, ResourceKey, Target}};
/// use tower_lock::request::Conditions;
/// use tower_lock::store::{Acquire, Acquired, LockStore, MemoryStore, NewLock, Verdict, Write};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let parts = LockParts {
///     id: LockId::random(),
///     root: ResourceKey::parse("/docs")?.into_owned(),
///     scope: LockScope::Exclusive,
///     depth: Depth::Infinity,
///     kind: LockKind::User,
///     principal: None,
///     owner: Owner::default(),
///     reason: None,
///     client_ref: None,
///     claim: Claim::Made,
/// };
/// let locks = [NewLock { parts: Arc::new(parts), token: LockToken::random() }];
/// assert!(matches!(store.acquire(&Acquire::new(&locks, None)).await?, Acquired::Granted(_)));
///
/// let targets = [Target::write(ResourceKey::parse("/docs/7")?)];
/// let conditions = Conditions::default();
/// let verdict = store.admit(&Write::new(&targets, &conditions)).await?;
/// assert_eq!(verdict.refused().unwrap().blockers[0].root().path(), "/docs");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    core: Arc<Core>,
    /// Writes to the file; none without one. Ends with the last handle.
    _writer: Option<Arc<Writer>>,
}

/// Builds a [`MemoryStore`] that differs from the default.
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryStoreBuilder {
    clock: Clock,
    guard: Guard,
    lease: Duration,
    memory: Memory,
}

/// Whether writes are registered while they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    Guarded,
    CheckOnly,
}

/// How much a [`MemoryStore`] holds, for tests and gauges. Each number is exact for some moment of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Locks and marks in memory, among them those that have ended and are still to be taken out.
    pub locks: usize,
    /// Dead locks remembered.
    pub dead: usize,
    /// Writes registered as in flight; always 0 for a check-only store.
    pub in_flight: usize,
}

impl MemoryStore {
    /// An empty store: guarded writes, the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A store with its locks in the file at `path` too: [`MemoryStoreBuilder::open`] with the defaults.
    ///
    /// # Errors
    /// As there: the file is of something else, damaged, open in another process, or cannot be read or written.
    #[cfg(feature = "redb")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redb")))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, super::StoreError> {
        Self::builder().open(path)
    }

    /// A store with settings of its own.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            clock: Clock::system(),
            guard: Guard::Guarded,
            lease: Duration::from_secs(30),
            memory: Memory::default(),
        }
    }

    /// How much it holds.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        let (locks, dead) = {
            let table = self.core.table.read();
            (table.records.len(), table.graveyard.len())
        };
        MemoryStats { locks, dead, in_flight: self.core.registry.as_ref().map_or(0, Registry::len) }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guard = if self.core.registry.is_some() { Guard::Guarded } else { Guard::CheckOnly };
        f.debug_struct("MemoryStore").field("guard", &guard).field("clock", &self.core.clock).finish_non_exhaustive()
    }
}

impl MemoryStoreBuilder {
    /// The clock that decides when locks end; the system's by default.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Registers no writes: cheaper, and without G3 and G7. A lock may be granted while a write that it refuses is still
    /// running, and may expire under its holder's write.
    pub fn check_only(mut self) -> Self {
        self.guard = Guard::CheckOnly;
        self
    }

    /// How long from now a lock that is in use is reported to live at least; 30 seconds by default. Writes of this store
    /// have no lease that could lapse: they end when their permits are dropped.
    pub fn write_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How many dead locks are remembered at most; 100,000 by default, the oldest go first. Each is forgotten after an
    /// hour.
    pub fn remember(mut self, dead: usize) -> Self {
        self.memory.most = dead;
        self
    }

    /// The store, in memory alone.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        let registry = self.registry();
        let core = Core::new(self.clock, registry, self.lease, self.memory);
        MemoryStore { core: Arc::new(core), _writer: None }
    }

    /// The store with its locks in the file at `path` too, which is made where there is none: locks are back after a
    /// restart and after a crash. For one machine and one process; several processes need a store that they share.
    ///
    /// Checks and permits stay in memory and cost what they cost without a file. Whatever changes a lock is written to the
    /// file, and synced, before it is answered; callers that wait at the same time share one sync. A thread of its own
    /// does that, so it works in any runtime.
    ///
    /// | | promised |
    /// |---|---|
    /// | acquire, refresh, release, break, clear | durable when answered; in the order in which they were decided |
    /// | a crash, of the process or of the machine | loses nothing that was answered. What was not may have happened or not; half of an acquire of several roots never |
    /// | a lock that ends by somebody's word | blocks until its end is durable: no write goes past it that a crash would put behind it again |
    /// | tokens and ids | work again after a restart; those used up are remembered as without one |
    /// | G3 over a restart | nothing is waited for: the writes in flight died with the process. What they left behind them on its way to another system is held off by generations alone |
    /// | marks (acquires that waited for writes), and what pinned a lock beyond its own end | gone with the process: so are those who waited and wrote |
    /// | expiry | by the wall clock: a lock may expire while no process runs. A wall clock that is behind what the file has last seen revives nothing: time goes on from there |
    /// | generations | grow over restarts, wherever the wall clock is |
    /// | check-only | the same, without G3 and G7 |
    ///
    /// **When the file cannot be written** (the disk is full, read-only, broken), the calls that wait for it fail with
    /// [`StoreErrorKind::ReadOnly`](super::StoreErrorKind) or another kind, and are undone in memory; locks that are
    /// durable go on blocking, and writes are checked as before. Later calls try the file again, a few times a second, and
    /// when it takes writes again all is written anew. What failed in such a call may be found in the file if the process
    /// ends before that.
    ///
    /// Dropping the last handle writes down what is left and closes the file before it returns, so it may block for some
    /// milliseconds. The file is of this crate: a journal, and a redb database behind it. It holds no token, but who locked
    /// what and why, and the secret by which guesses of tokens could be tried: let nobody read it who may not. It has a few
    /// megabytes, and about 700 bytes more for each lock that was ever held at once.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tower_lock::{lock::{Claim, Depth, LockId, LockKind, LockParts, LockScope, LockToken, Owner, ResourceKey}};
    /// use tower_lock::store::{Acquire, Acquired, LockQuery, LockStore, MemoryStore, NewLock};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("locks.redb");
    /// # let parts = LockParts {
    /// #     id: LockId::random(),
    /// #     root: ResourceKey::parse("/docs/7")?.into_owned(),
    /// #     scope: LockScope::Exclusive,
    /// #     depth: Depth::Infinity,
    /// #     kind: LockKind::User,
    /// #     principal: None,
    /// #     owner: Owner::default(),
    /// #     reason: None,
    /// #     client_ref: None,
    /// #     claim: Claim::Made,
    /// # };
    /// # let locks = [NewLock { parts: Arc::new(parts), token: LockToken::random() }];
    /// let store = MemoryStore::open(&path)?;
    /// assert!(matches!(store.acquire(&Acquire::new(&locks, None)).await?, Acquired::Granted(_)));
    /// drop(store);
    ///
    /// let store = MemoryStore::open(&path)?;
    /// let found = store.find(&LockQuery::covering(ResourceKey::parse("/docs/7")?)).await?;
    /// assert_eq!(found.locks[0].id(), locks[0].parts.id);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StoreErrorKind::Incompatible`](super::StoreErrorKind) where the file is of something else, of a later release, cut
    /// off or damaged: it is then left as it is, byte by byte. `Unavailable` where a process, or another store, has it
    /// open. `Denied`, `ReadOnly` or `Other` as the system says. It blocks while it reads.
    #[cfg(feature = "redb")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redb")))]
    pub fn open(self, path: impl AsRef<std::path::Path>) -> Result<MemoryStore, super::StoreError> {
        let registry = self.registry();
        let settings = durable::Settings { clock: self.clock, registry, lease: self.lease, memory: self.memory };
        let (core, writer) = durable::open(path.as_ref(), settings)?;
        Ok(MemoryStore { core, _writer: Some(Arc::new(writer)) })
    }

    fn registry(&self) -> Option<Registry> {
        match self.guard {
            Guard::Guarded => Some(Registry::new()),
            Guard::CheckOnly => None,
        }
    }
}

impl LockStore for MemoryStore {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        self.core.admit(write)
    }

    fn let_through(&self, targets: &[Target<'_>]) -> Option<Permit> {
        self.core.let_through(targets)
    }

    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        self.core.acquire(request)
    }

    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        self.core.refresh(refresh)
    }

    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        self.core.release(release)
    }

    // The write that took the resources keeps its registration until its permit goes; nothing has to be looked up for it.
    fn clear(&self, gone: &[Gone<'_>], _under: Option<WriteId>) -> StoreFuture<usize> {
        self.core.clear(gone)
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        StoreFuture::ready(self.core.find(query))
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        self.core.watchers.subscribe(query)
    }
}

#[cfg(test)]
mod tests;
