//! The two engines under one name, and the stores on them.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tower_lock::LockStore;
#[cfg(feature = "postgres")]
use tower_lock::store::PostgresStore;
#[cfg(feature = "redis")]
use tower_lock::store::RedisStore;

use super::engines::{PostgresServer, RedisServer};

/// Which engine a test is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(all(feature = "redis", feature = "postgres")), allow(dead_code, reason = "a feature is off"))]
pub(crate) enum Kind {
    Redis,
    Postgres,
}

/// An engine of a test's own, which keeps what it acknowledged.
pub(crate) enum Engine {
    Redis(RedisServer),
    Postgres(PostgresServer),
}

macro_rules! forward {
    ($($name:ident)*) => { $(pub(crate) fn $name(&self) {
        match self {
            Self::Redis(server) => server.$name(),
            Self::Postgres(server) => server.$name(),
        }
    })* };
}

impl Engine {
    pub(crate) fn start(kind: Kind) -> Self {
        match kind {
            Kind::Redis => Self::Redis(RedisServer::options().durable().start()),
            Kind::Postgres => Self::Postgres(PostgresServer::options().durable().start()),
        }
    }

    /// One that keeps nothing when it is killed.
    #[cfg(feature = "redis")]
    pub(crate) fn forgetful() -> Self {
        Self::Redis(RedisServer::start())
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Redis(server) => server.url(),
            Self::Postgres(server) => server.url(),
        }
    }

    forward!(kill restart pause resume);

    /// The errors that its clients were answered, as its log has them, and how often each.
    pub(crate) fn errors(&self) -> BTreeMap<String, usize> {
        let mut errors = BTreeMap::new();
        if let Self::Postgres(server) = self {
            let log = server.log();
            for error in log.lines().filter_map(|line| Some(line.split_once("ERROR:")?.1.trim())) {
                *errors.entry(error.to_owned()).or_default() += 1;
            }
        }
        errors
    }
}

/// How a store is opened. Every node of a fleet opens it alike.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoreConfig {
    pub(crate) url: String,
    pub(crate) namespace: String,
    pub(crate) guard: Guard,
    pub(crate) lease: Duration,
    pub(crate) time_limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Guard {
    Guarded,
    CheckOnly,
}

impl StoreConfig {
    /// Guarded, with the default lease, and patient: a machine under load is no fault.
    pub(crate) fn new(engine: &Engine) -> Self {
        Self {
            url: engine.url(),
            namespace: "fleet".to_owned(),
            guard: Guard::Guarded,
            lease: Duration::from_secs(30),
            time_limit: Duration::from_secs(10),
        }
    }

    #[cfg(feature = "redis")]
    fn redis(&self, offset: Arc<AtomicI64>) -> Arc<dyn LockStore> {
        let builder = RedisStore::builder(&self.url).namespace(&self.namespace);
        let builder = builder.write_lease(self.lease).time_limit(self.time_limit).clock_offset(offset);
        let builder = if self.guard == Guard::CheckOnly { builder.check_only() } else { builder };
        Arc::new(builder.build().expect("a sound URL"))
    }

    #[cfg(feature = "postgres")]
    async fn postgres(&self, offset: Arc<AtomicI64>) -> Arc<dyn LockStore> {
        let builder = PostgresStore::builder(&self.url).namespace(&self.namespace);
        let builder = builder.write_lease(self.lease).time_limit(self.time_limit).clock_offset(offset);
        let builder = if self.guard == Guard::CheckOnly { builder.check_only() } else { builder };
        let store = builder.build().expect("a sound URL");
        // All nodes at once, as they do who let every process see to it.
        store.migrate().await.expect("the schema");
        Arc::new(store)
    }

    /// A handle on the store, by a clock that is so many microseconds off.
    pub(crate) async fn open(&self, offset: Arc<AtomicI64>) -> Arc<dyn LockStore> {
        match self.url.split(':').next() {
            #[cfg(feature = "redis")]
            Some("redis") => self.redis(offset),
            #[cfg(feature = "postgres")]
            Some("postgres") => self.postgres(offset).await,
            _ => panic!("no engine has the URL {}", self.url),
        }
    }
}
