//! `PostgresStore`: locks in PostgreSQL, for many processes.
//!
//! ```text
//! admit, guarded ──► one function call, in a connection of its own ──► rows to judge, the write registered
//! admit, check-only ──► one SELECT, in a shared connection
//! everything else ──► one function call
//! watch ──► LISTEN in a connection of its own, while somebody watches
//! ```

mod acquire;
mod admit;
mod builder;
mod connection;
mod core;
mod error;
mod excuse;
mod find;
mod finish;
mod keys;
mod late;
mod listener;
mod manage;
mod schema;
mod statements;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

pub use self::builder::PostgresStoreBuilder;
use self::core::Core;
use super::{
    Acquire, Acquired, LockPage, LockQuery, LockStore, Refresh, Refreshed, Release, Released, StoreError, StoreFuture,
    Verdict, Watch, Write, WriteId,
};
use crate::lock::Gone;

/// Locks in PostgreSQL 13 or later, for many processes. A cheap handle: clones share the connections.
///
/// ```no_run
/// use tower_lock::{LockLayer, Locks, store::PostgresStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::new("postgres://app:secret@db.example.org/app")?;
/// store.migrate().await?;
/// let layer = LockLayer::new(Locks::builder(store).build());
/// # Ok(()) }
/// ```
///
/// Nothing is connected before the store is used. Every call is one round trip, also for several roots or targets and for
/// whole subtrees; but where an acquire waits for writes in flight, where a shared lock may excuse one of them, and where a
/// function of the caller's decides who holds a lock ([`HolderProof::Custom`](crate::lock::HolderProof)).
///
/// # What is promised
///
/// | | guarded (the default) | [`check_only`](PostgresStoreBuilder::check_only) |
/// |---|---|---|
/// | a write that a lock refuses is not admitted (G1) | from the grant on, on every node | the same |
/// | no lock is granted over a write that it would refuse (G3) | on every node, or the write's lease has run out | no: what was let through before may still run |
/// | two conflicting locks never live at once (G4) | yes | yes |
/// | ended locks are absent at once, by the server's clock (G5) | yes | yes |
/// | every grant has a larger `generation` (G6) | yes | yes; a write let through in the moment of a grant may carry that grant's number |
/// | a lock does not end under its holder's write (G7) | yes, up to its total life | no |
/// | what was answered outlives a crash of the server | yes, registrations too | yes |
/// | cost of a write that meets no lock | a transaction | a look at an index |
///
/// Nodes in both modes may share a store; what is promised is then what the node in question promises. A write is registered
/// for [`write_lease`](PostgresStoreBuilder::write_lease), which its node renews; a node that dies holds up others for one
/// lease at most. A node that stood still for longer finds its permits lapsed, and the layer stops the writes.
///
/// **`generation`** is the fencing number: a sequence, taken at the grant. What no lock can stop (a process that stood still
/// between its admission and its effect) is stopped by whatever it writes to, if that refuses a smaller number than it has
/// seen for a resource.
///
/// **Failover.** As long as the server keeps what it acknowledged, so does this store: commits wait for the disk also where
/// `synchronous_commit` is off by default. A standby that is promoted has lost what had not reached it, unless replication is
/// synchronous: locks that were granted, writes that were registered (so that a lock may be granted over them), and grants
/// may get numbers a second time.
///
/// # Setting up
///
/// [`PostgresStore::migrate`] makes the tables and functions in a schema of their own (`tower_lock`), versioned, and is safe
/// to run from many nodes at once. A store on a missing, older, newer or foreign schema answers every call with
/// [`Incompatible`](super::StoreErrorKind). The role that migrates owns the schema, and needs `CREATE` on the database or an empty
/// schema of that name of its own. One that only uses it needs `USAGE` on the schema, `SELECT, INSERT, UPDATE, DELETE` on its tables
/// and `USAGE, SELECT` on its sequences.
///
/// Stores of different [`namespace`](PostgresStoreBuilder::namespace)s share a schema without knowing of each other. About 700
/// bytes are kept for a lock, indexes included.
///
/// # Connections
///
/// Up to sixteen for calls that may wait for a lock in the server, two for checks (all callers share them, and their
/// questions follow one another without waiting), one while anybody watches. They are made when they are needed, replaced
/// after ten minutes or when a call in them failed, and made again with growing pauses when the server was away. No call
/// takes longer than [`time_limit`](PostgresStoreBuilder::time_limit), connecting included; the server is told the same limit,
/// so it does not go on for a caller who has gone. For TLS give a [connector](PostgresStoreBuilder::tls).
///
/// **Proxies.** Behind one that gives every transaction another session (PgBouncer in transaction mode) say
/// [`through_proxy`](PostgresStoreBuilder::through_proxy): nothing is prepared or set for a session, each call is one transaction as
/// it is anyway, and a watch looks for changes twice a second. Checks cost more so, since they are planned each time. Session mode
/// needs nothing. Statements must reach the primary, never a read replica.
///
/// **Advisory locks.** The two-number form is used with the first numbers 1414287179 to 1414287182, in transactions only; the
/// one-number form, and all others, are yours. At most some twenty for a path, however deep.
///
/// **Watching** costs nothing while nobody does. While somebody watches, every change writes an event and notifies, and
/// notifications make commits follow one another.
#[derive(Clone)]
pub struct PostgresStore(Arc<Core>);

impl PostgresStore {
    /// A store at `url`, with the defaults of [`PostgresStore::builder`]. Connects when it is first used.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).build()
    }

    /// A store at `url` (`postgres://user:password@host/database`, or `key=value` pairs), with settings of its own. Whether
    /// that is a URL is said by [`PostgresStoreBuilder::build`].
    pub fn builder(url: &str) -> PostgresStoreBuilder {
        PostgresStoreBuilder::at(url.parse())
    }

    /// The same, for a server that is reached in a way no URL can say: whatever the client crate knows.
    pub fn builder_with(config: tokio_postgres::Config) -> PostgresStoreBuilder {
        PostgresStoreBuilder::at(Ok(config))
    }

    /// Makes the schema, or brings it to the version of this release. Run it before the store is used, from as many nodes
    /// at once as you like; where nothing is to be done it does nothing.
    ///
    /// # Errors
    /// What the server says; [`StoreErrorKind::Incompatible`](super::StoreErrorKind) for a schema that is somebody else's, or a later
    /// release's. Nothing was changed then.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        const DOING: &str = "migrating the schema";
        let work = async {
            let (mut client, messages) = self.0.connections.bare().await?;
            let driver = tokio::spawn(connection::drive(messages));
            let done = self.0.connections.schema.migrate(&mut client).await;
            drop(client);
            let _ = driver.await;
            done
        };
        super::remote::deadline::within(self.0.limit.max(Duration::from_secs(30)), DOING, work).await
    }

    /// Moves the clock by `change`, once the steps under way have had time to end. For tests.
    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub async fn between_steps(&self, change: impl FnOnce()) {
        if let Some(moved) = &self.0.moved {
            // One whose future is not polled does not end. One that runs must: it would carry the old time past the move.
            let _none = tokio::time::timeout(Duration::from_secs(5), moved.steps.write()).await;
            change();
        }
    }

    /// Renews the leases of all writes in flight now. For tests that move the clock.
    ///
    /// # Errors
    /// What the server says.
    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub async fn renew_now(&self) -> Result<(), StoreError> {
        match &self.0.writes {
            Some(writes) => writes.renew_now().await,
            None => Ok(()),
        }
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("writes", &self.0.writes).finish_non_exhaustive()
    }
}

impl LockStore for PostgresStore {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        self.0.admit(write)
    }

    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        self.0.acquire(request)
    }

    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        self.0.refresh(refresh)
    }

    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        self.0.release(release)
    }

    // The write that took the resources keeps its registration until its permit goes.
    fn clear(&self, gone: &[Gone<'_>], _under: Option<WriteId>) -> StoreFuture<usize> {
        self.0.clear(gone)
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        self.0.find(query)
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        let watch = self.0.watchers.join(query);
        self.0.listener.ensure(&self.0);
        watch
    }
}
