//! `PostgresStoreBuilder`: a store that differs from the default.

use std::{fmt, sync::Arc, time::Duration};

use tokio_postgres::{
    Config, NoTls, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use super::{
    PostgresStore,
    connection::{By, Connect, Connections, Statements},
    core::{Core, Late, Listener},
    keys::Space,
    wire::micros,
};
use crate::{
    lock::TokenKey,
    store::{
        StoreError, StoreErrorKind,
        remote::writes::{Registrar, Writes},
        watchers::Watchers,
    },
};

/// Builds a [`PostgresStore`] that differs from the default. Nothing is connected before the store is used.
#[must_use]
pub struct PostgresStoreBuilder {
    config: Result<Config, tokio_postgres::Error>,
    connect: Box<dyn Connect>,
    schema: String,
    namespace: String,
    secret: Option<Vec<u8>>,
    guard: Guard,
    statements: Statements,
    lease: Duration,
    limit: Duration,
    connections: usize,
    #[cfg(feature = "conformance")]
    offset: Option<Arc<std::sync::atomic::AtomicI64>>,
}

/// Whether writes are registered while they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    Guarded,
    CheckOnly,
}

impl PostgresStoreBuilder {
    pub(super) fn at(config: Result<Config, tokio_postgres::Error>) -> Self {
        Self {
            config,
            connect: Box::new(By(NoTls)),
            schema: "tower_lock".to_owned(),
            namespace: "tower-lock".to_owned(),
            secret: None,
            guard: Guard::Guarded,
            statements: Statements::Prepared,
            lease: Duration::from_secs(30),
            limit: Duration::from_millis(250),
            connections: 16,
            #[cfg(feature = "conformance")]
            offset: None,
        }
    }

    /// Encrypts connections by `connector`, any that the client crate takes (`tokio-postgres-rustls`,
    /// `postgres-native-tls`, …). Without one connections are plain, and a URL that demands TLS fails.
    pub fn tls<T>(mut self, connector: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        self.connect = Box::new(By(connector));
        self
    }

    /// The schema that the tables are in, `tower_lock` by default. [`PostgresStore::migrate`] makes it.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// The name of this store within its schema, `tower-lock` by default. Stores of different names know nothing of each
    /// other.
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = name.into();
        self
    }

    /// What the digests of tokens are keyed with; the same on all nodes. The namespace by default: a token has 122 random
    /// bits, so its digest needs no secret to be safe. One hides whether two dumps hold the same token.
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secret = Some(secret.into());
        self
    }

    /// Registers no writes: cheaper, and without G3 and G7. A lock may be granted while a write that it refuses is still
    /// running, and may expire under its holder's write.
    pub fn check_only(mut self) -> Self {
        self.guard = Guard::CheckOnly;
        self
    }

    /// For a proxy that gives every transaction another session (PgBouncer's transaction mode, and the like): statements are
    /// not prepared but sent with every call, nothing is set for the session, and a watch asks twice a second.
    pub fn through_proxy(mut self) -> Self {
        self.statements = Statements::Unprepared;
        self
    }

    /// How long a write stands that its node does not renew any more; 30 seconds by default, the same on all nodes. Renewed
    /// every third of it.
    pub fn write_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long a call of the store may take, connecting included; 250 milliseconds by default. Waiting for writes in flight
    /// is not part of it.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How many connections there are at most, two for checks and one for watches aside; 16 by default.
    pub fn connections(mut self, most: usize) -> Self {
        self.connections = most;
        self
    }

    /// Moves the server's clock, in microseconds; a value of thirty years and more is the time itself, which then stands
    /// still.
    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub fn clock_offset(mut self, offset: Arc<std::sync::atomic::AtomicI64>) -> Self {
        self.offset = Some(offset);
        self
    }

    /// The store. It connects when it is first used.
    ///
    /// # Errors
    /// [`StoreErrorKind::Other`] for a URL that is none.
    pub fn build(self) -> Result<PostgresStore, StoreError> {
        let config = self
            .config
            .map_err(|error| StoreError::new(StoreErrorKind::Other, "reading the URL of the database").caused_by(error))?;
        let secret = self.secret.unwrap_or_else(|| self.namespace.clone().into_bytes());
        let space = Space::new(&self.schema, &self.namespace);
        let connections =
            Connections::new(config, self.connect, &self.schema, self.statements, self.limit, self.connections);
        Ok(PostgresStore(Arc::new_cyclic(|me: &std::sync::Weak<Core>| {
            let registrar: std::sync::Weak<dyn Registrar> = me.clone();
            Core {
                me: me.clone(),
                connections,
                space,
                key: TokenKey::derive(&secret),
                lease: self.lease,
                lease_micros: micros(self.lease).max(1),
                limit: self.limit,
                wait: i32::try_from(self.limit.as_millis()).unwrap_or(i32::MAX).max(1),
                writes: (self.guard == Guard::Guarded).then(|| Writes::new(self.lease, registrar)),
                watchers: Arc::new(Watchers::unsynced()),
                listener: Listener::default(),
                late: Late::default(),
                #[cfg(feature = "conformance")]
                moved: self.offset.map(|offset| super::core::Moved { offset, steps: tokio::sync::RwLock::default() }),
                #[cfg(not(feature = "conformance"))]
                moved: None,
            }
        })))
    }
}

impl fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the configuration: it holds a password.
        f.debug_struct("PostgresStoreBuilder")
            .field("schema", &self.schema)
            .field("namespace", &self.namespace)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}
