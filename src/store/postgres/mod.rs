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

/// Locks in PostgreSQL.
#[derive(Clone)]
pub struct PostgresStore(Arc<Core>);

impl PostgresStore {
    /// A store at `url`, with the defaults of [`PostgresStore::builder`]. Connects when it is first used.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        Ok(Self::builder(url)?.build())
    }

    /// A store at `url` (`postgres://user:password@host/database`, or `key=value` pairs), with settings of its own.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn builder(url: &str) -> Result<PostgresStoreBuilder, StoreError> {
        PostgresStoreBuilder::new(url)
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
            // One whose future is not polled does not end.
            let _none = tokio::time::timeout(Duration::from_millis(10), moved.steps.write()).await;
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
