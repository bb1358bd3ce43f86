//! `RedisStore`: locks in Redis 7 or Valkey, for many processes.
//!
//! ```text
//! admit ──► one script: what does it touch? registered unless refused ──► the pure rules, here
//! acquire ──► one script: granted, refused, or marks ──► another, until the writes in flight have ended
//! ```

mod acquire;
mod admit;
mod connection;
mod core;
mod error;
mod find;
mod keys;
mod listen;
mod manage;
mod scripts;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use self::{
    acquire::Asked,
    admit::Case,
    connection::{Link, info_of},
    core::{Core, Time},
    error::store_error,
    find::Search,
    keys::Keys,
    listen::Listener,
    manage::{Order, gone_text},
};
use super::{
    Acquire, Acquired, Authority, LockPage, LockQuery, LockStore, Refresh, Refreshed, Release, Released, StoreError,
    StoreFuture, Verdict, Watch, Write, WriteId,
    remote::{question::Question, writes::Writes},
    watchers::Watchers,
};
use crate::lock::{Gone, TokenKey};

/// Locks in Redis.
#[derive(Clone)]
pub struct RedisStore(Arc<Core>);

/// Builds a [`RedisStore`].
#[must_use]
pub struct RedisStoreBuilder {
    info: Result<redis::ConnectionInfo, StoreError>,
    namespace: String,
    secret: Option<Vec<u8>>,
    guard: Guard,
    lease: Duration,
    limit: Duration,
    time: Time,
}

/// Whether writes are registered while they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    Guarded,
    CheckOnly,
}

impl RedisStore {
    /// A store with the default settings at `url`, `redis://user:password@host:port/database`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Other`](super::StoreErrorKind::Other) when this is no such URL.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).build()
    }

    /// A store with settings of its own.
    pub fn builder(url: &str) -> RedisStoreBuilder {
        RedisStoreBuilder::at(info_of(url))
    }

    /// The same, for an engine that is reached in a way no URL can say.
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

impl RedisStoreBuilder {
    fn at(info: Result<redis::ConnectionInfo, StoreError>) -> Self {
        Self {
            info,
            namespace: "tower-lock".to_owned(),
            secret: None,
            guard: Guard::Guarded,
            lease: Duration::from_secs(30),
            limit: Duration::from_millis(250),
            time: Time::Engine,
        }
    }

    /// Whose locks these are.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// What the digests of tokens are keyed with.
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.secret = Some(secret.as_ref().to_vec());
        self
    }

    /// Registers no writes.
    pub fn check_only(mut self) -> Self {
        self.guard = Guard::CheckOnly;
        self
    }

    /// How long a write lives in the engine unless renewed.
    pub fn write_lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(100));
        self
    }

    /// How long a call may take.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit.max(Duration::from_millis(1));
        self
    }

    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub fn clock_offset(mut self, micros: Arc<std::sync::atomic::AtomicI64>) -> Self {
        self.time = Time::Offset(micros);
        self
    }

    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub fn clock_at(mut self, micros: Arc<std::sync::atomic::AtomicI64>) -> Self {
        self.time = Time::Fixed(micros);
        self
    }

    /// The store.
    ///
    /// # Errors
    /// [`StoreErrorKind::Other`](super::StoreErrorKind::Other) for a URL that is none.
    pub fn build(self) -> Result<RedisStore, StoreError> {
        let info = self.info?;
        // What the client itself finds wrong about it.
        redis::Client::open(info.clone()).map_err(|error| store_error("reading where the engine is", error))?;
        let secret = self.secret.unwrap_or_else(|| format!("tower-lock {}", self.namespace).into_bytes());
        let (keys, link) = (Keys::of(&self.namespace), Link::new(info, self.limit));
        Ok(RedisStore(Arc::new_cyclic(|me| {
            let registrar = me.clone() as std::sync::Weak<dyn super::remote::writes::Registrar>;
            Core {
                keys,
                link,
                writes: (self.guard == Guard::Guarded).then(|| Writes::new(self.lease, registrar)),
                key: TokenKey::derive(&secret),
                lease: self.lease,
                time: self.time,
                watchers: Arc::new(Watchers::unsynced()),
                listener: Listener::default(),
                me: me.clone(),
            }
        })))
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

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
