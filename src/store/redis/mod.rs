//! `RedisStore`: locks in Redis 7 or Valkey, for many processes.
//!
//! ```text
//! admit ──► one script: what does it touch? registered unless refused ──► the pure rules, here
//! acquire ──► one script: granted, refused, or marks ──► another, until the writes in flight have ended
//! ```

mod acquire;
mod admit;
mod builder;
mod clock;
mod connection;
mod core;
mod error;
mod find;
mod keys;
mod listen;
mod manage;
mod scripts;
mod wire;

use std::{fmt, sync::Arc};

pub use self::builder::RedisStoreBuilder;
use self::{
    acquire::Asked,
    admit::Case,
    core::Core,
    find::Search,
    manage::{Order, gone_text},
};
use super::{
    Acquire, Acquired, Authority, LockPage, LockQuery, LockStore, Refresh, Refreshed, Release, Released, StoreError,
    StoreFuture, Verdict, Watch, Write, WriteId, remote::question::Question,
};
use crate::lock::Gone;

/// Locks in Redis 7 or Valkey, for as many processes as share them. A cheap handle: clones share one connection.
///
/// ```no_run
/// use tower_lock::{LockLayer, Locks, store::RedisStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::builder("redis://user:password@redis.example:6379")
///     .namespace("documents")
///     .build()?;
/// let locks = Locks::builder(store).build();
/// let layer = LockLayer::new(locks);
/// # Ok(()) }
/// ```
///
/// Every call is one message to the engine and one answer: a script that decides by the engine's clock and changes
/// everything in one step. Only these ask again: an acquire that waits for writes in flight; a call that finds more than
/// a thousand locks expired; one whose [`HolderProof`](crate::lock::HolderProof) is a closure, which runs here, between
/// two steps; a write that a lock admits and a condition refuses. What has ended on this node goes along with the next
/// call. It is used inside of a tokio runtime with timers and I/O.
///
/// # What is promised
///
/// | | guarded (the default) | [`check_only`](RedisStoreBuilder::check_only) |
/// |---|---|---|
/// | a write is refused while a lock stands that it does not answer for (G1) | yes | as of the moment it is asked: a lock may be granted while it still runs |
/// | no lock is granted over a write that it would refuse (G3) | yes, on all nodes; or that write's lease has run out, and it was told to stop before | no |
/// | conflicting locks never live at once (G4) | yes | yes |
/// | every lock ends (G5); dead ones are told apart (G8) | yes | yes |
/// | generations grow (G6); a permit knows the latest of its step | yes | yes |
/// | a lock does not end under its holder's write (G7) | yes; a node that died holds it one lease longer at most | no |
/// | an unlocked write costs | a script that registers it, and its end along with a later call | a plain read |
///
/// All nodes of a fleet use the same mode: a write that is let through by a check-only node is known to nobody.
///
/// # What the engine may lose
///
/// A lock or a registration is as safe as the engine keeps what it acknowledged.
///
/// - **A restart** of the same engine loses nothing with `appendonly yes` and `appendfsync always`; with `everysec` up to
///   a second or two of grants, releases and registrations; without persistence, everything.
/// - **A failover** may lose what was acknowledged and not yet replicated: replication is asynchronous. Then a lock that
///   was granted is gone, or one that was released is back, and two holders may believe in one lock. `WAIT` would narrow that
///   window and not close it, nor do several engines with a majority of them, so neither is offered.
/// - **Eviction.** No key has a time to live, so policies named `volatile-*` take nothing away. `allkeys-*` may: use
///   `noeviction`. Full, the engine grants nothing and admits nothing
///   ([`ReadOnly`](crate::store::StoreErrorKind::ReadOnly), answered 503), but releases, refreshes and renewals go on.
/// - **A clock** that is set back lets locks live longer by as much; what an acquire has found expired stays so. One that
///   is set ahead ends locks early.
///
/// For all of this there is the [generation](crate::lock::Lock::generation): each grant's is at least the engine's time in
/// microseconds and larger than the last, so it grows over restarts, and over failovers unless the clocks of the two differ
/// by more than was lost. A database that refuses a smaller number than it has seen for a resource is safe where the
/// engine was not: two holders cannot both write, nor can a holder that was paused for longer than its lock.
///
/// # Engine and connection
///
/// - **Connection.** One, made at the first call and made anew when it breaks: after a crash of the engine calls fail at
///   once with [`Unavailable`](crate::store::StoreErrorKind::Unavailable) and succeed within a quarter of a second of its
///   return. One more, while somebody watches. No call takes longer than
///   [`time_limit`](RedisStoreBuilder::time_limit). An engine that stood still may yet carry out what was cut off: a
///   registration then lapses with its lease, and a lock is undone by its token, which [`Locks`](crate::Locks) does.
/// - **Cluster.** All keys of a namespace carry it in braces, as a hash tag, and so lie in one slot; the connection
///   follows the slot to the node that has it. One namespace is the work of one core of one node; spread load by
///   namespaces. Scripts declare all keys they touch.
/// - **TLS.** `rediss://`, with a TLS feature of the `redis` crate (version 1) switched on beside ours, such as
///   `tokio-rustls-comp` or `tokio-native-tls-comp`.
/// - **Rights.** An ACL needs `~tower-lock:*`, `&tower-lock:*`, `+@connection +@scripting +@hash +@sortedset +publish +subscribe +time`.
/// - **Sentinel and proxies.** Give the address that leads to the primary. A node that became a replica is left at its first
///   refusal, and the address is looked up again.
///
/// # Keys
///
/// Fifteen, however many locks there are, and only `…:locks` (with the schema's version and the last generation) once all
/// has ended, was swept and is forgotten: hashes and sorted sets named `tower-lock:{namespace}:…`, and a channel
/// `…:events`. Locks are kept under a hash of their root, so that a deep path asks for short names. Many shared locks on
/// one and the same root stand in one field, which every write below it reads. A lock takes about 1.1 kilobytes, its own
/// text (root, owner, reason) of some fifty bytes included, and a dead one half of that; 100,000 dead ones are remembered,
/// each for an hour. Keys that hold something else than this release writes are left as they are
/// ([`Incompatible`](crate::store::StoreErrorKind::Incompatible)). Tokens are nowhere among it, only digests.
#[derive(Clone)]
pub struct RedisStore(Arc<Core>);

impl RedisStore {
    /// A store with the default settings at `url`, `redis://user:password@host:port/database` or `unix:///path`. Nothing
    /// is asked of the engine before the first call.
    ///
    /// # Errors
    /// [`StoreErrorKind::Other`](super::StoreErrorKind::Other) for a URL that is none.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).build()
    }

    /// A store at `url` with settings of its own.
    pub fn builder(url: &str) -> RedisStoreBuilder {
        RedisStoreBuilder::at_url(url)
    }

    /// The same, for an engine that is reached in a way no URL says: certificates of one's own, settings of TCP.
    pub fn builder_with(client: &redis::Client) -> RedisStoreBuilder {
        RedisStoreBuilder::at(Ok(client.get_connection_info().clone()))
    }

    /// Renews the leases of all writes in flight now.
    ///
    /// # Errors
    /// Those of any call.
    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub async fn renew_now(&self) -> Result<(), StoreError> {
        match &self.0.writes {
            Some(writes) => writes.renew_now().await,
            None => Ok(()),
        }
    }
}

impl LockStore for RedisStore {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        let case = Case::new(Question::of(write, &self.0.key));
        StoreFuture::new(self.0.clone().admit(case))
    }

    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        match Asked::new(&self.0, request) {
            Ok(asked) => StoreFuture::new(self.0.clone().acquire(asked)),
            Err(error) => StoreFuture::failed(error),
        }
    }

    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        if matches!(refresh.authority, Authority::Break { .. }) {
            return StoreFuture::ready(Refreshed::NotHolder);
        }
        StoreFuture::new(self.0.clone().refresh(Order::refresh(&self.0, refresh)))
    }

    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        StoreFuture::new(self.0.clone().release(Order::release(&self.0, release)))
    }

    fn clear(&self, gone: &[Gone<'_>], under: Option<WriteId>) -> StoreFuture<usize> {
        StoreFuture::new(self.0.clone().clear(gone.iter().map(gone_text).collect(), under))
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        StoreFuture::new(self.0.clone().find(Search::of(query)))
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        self.0.watch(query)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.watchers.close();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("link", &self.0.link).finish_non_exhaustive()
    }
}
