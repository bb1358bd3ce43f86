//! `RedisStoreBuilder`: where the engine is, whose locks these are, and how long anything may take.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    RedisStore,
    clock::SeenClock,
    connection::{Link, info_of},
    core::{Core, Listener, Time},
    error::store_error,
    keys::Keys,
};
use crate::{
    lock::TokenKey,
    store::{
        StoreError,
        remote::writes::{Registrar, Writes},
        watchers::Watchers,
    },
};

/// Builds a [`RedisStore`] that differs from the default.
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

impl RedisStoreBuilder {
    pub(super) fn at_url(url: &str) -> Self {
        Self::at(info_of(url))
    }

    pub(super) fn at(info: Result<redis::ConnectionInfo, StoreError>) -> Self {
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

    /// Whose locks these are; `tower-lock` unless set. Stores of different namespaces know nothing of one another, and in
    /// a cluster each lies in a slot of its own. This is not the namespace of a
    /// [`ResourceKey`](crate::lock::ResourceKey): one store keeps the locks of many tenants or hosts.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// What the digests of tokens are keyed with, the same for all nodes; made from the namespace unless set. A token has
    /// 122 random bits, so a digest gives none away even without; a secret also hides whether two deployments hold the
    /// same token. Locks that were granted under another secret are not found by their tokens any more.
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.secret = Some(secret.as_ref().to_vec());
        self
    }

    /// Registers no writes: cheaper, and without G3 and G7. See the [table](RedisStore#what-is-promised).
    pub fn check_only(mut self) -> Self {
        self.guard = Guard::CheckOnly;
        self
    }

    /// How long a write stays registered in the engine unless it is renewed, which happens every third of it; 30 seconds
    /// unless set, at least 100 milliseconds. So long at most does a node that died delay an acquire or the end of a lock.
    /// The same for all nodes.
    pub fn write_lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(100));
        self
    }

    /// How long a call may take, waiting for a connection included; 250 milliseconds unless set, at least one. An acquire
    /// that waits for writes in flight asks several times, and each time counts. Past it, the answer is
    /// [`TimedOut`](crate::store::StoreErrorKind::TimedOut).
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit.max(Duration::from_millis(1));
        self
    }

    /// Moves the time by which the store decides by so many microseconds.
    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub fn clock_offset(mut self, micros: Arc<std::sync::atomic::AtomicI64>) -> Self {
        self.time = Time::Offset(micros);
        self
    }

    /// Lets the time by which the store decides stand at so many microseconds.
    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub fn clock_at(mut self, micros: Arc<std::sync::atomic::AtomicI64>) -> Self {
        self.time = Time::Fixed(micros);
        self
    }

    /// The store. Nothing is asked of the engine before the first call, so it need not be there yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Other`](crate::store::StoreErrorKind::Other) for a URL that is none.
    pub fn build(self) -> Result<RedisStore, StoreError> {
        let info = self.info?;
        // What the client itself finds wrong about it.
        redis::Client::open(info.clone()).map_err(|error| store_error("reading where the engine is", error))?;
        let secret = self.secret.unwrap_or_else(|| format!("tower-lock {}", self.namespace).into_bytes());
        let (keys, link) = (Keys::of(&self.namespace), Link::new(info, self.limit));
        Ok(RedisStore(Arc::new_cyclic(|me: &Weak<Core>| {
            let registrar: Weak<dyn Registrar> = me.clone();
            Core {
                keys,
                link,
                writes: (self.guard == Guard::Guarded).then(|| Writes::new(self.lease, registrar)),
                key: TokenKey::derive(&secret),
                lease: self.lease,
                time: self.time,
                clock: SeenClock::default(),
                watchers: Arc::new(Watchers::unsynced()),
                listener: Listener::default(),
                me: me.clone(),
            }
        })))
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the password nor the secret.
        f.debug_struct("RedisStoreBuilder")
            .field("namespace", &self.namespace)
            .field("guard", &self.guard)
            .field("write_lease", &self.lease)
            .field("time_limit", &self.limit)
            .finish_non_exhaustive()
    }
}
