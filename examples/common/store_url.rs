//! The store that a URL names. Every example takes one as its second argument:
//!
//! | URL | store | feature |
//! |---|---|---|
//! | `memory:` (also without an argument) | in this process, gone with it | |
//! | `redb:locks.redb` | in this process, kept in a file | `redb` |
//! | `redis://:password@host:6379` | in Redis or Valkey, for many processes | `redis` |
//! | `postgres://user:password@host:5432/database` | in PostgreSQL, for many processes | `postgres` |

use std::{error::Error, sync::Arc};

use tower_lock::{LockStore, MemoryStore};

/// The store that `url` names; the one in memory where there is none.
pub(crate) async fn open(url: Option<String>) -> Result<Arc<dyn LockStore>, Box<dyn Error>> {
    let url = url.unwrap_or_else(|| "memory:".to_owned());
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "memory" => Ok(Arc::new(MemoryStore::new())),
        "redb" => redb(url.trim_start_matches("redb:")),
        "redis" | "rediss" => redis(&url),
        "postgres" | "postgresql" => postgres(&url).await,
        _ => Err(format!("{url}: no store has such a URL; known are memory:, redb:path, redis://… and postgres://…").into()),
    }
}

#[cfg(feature = "redb")]
fn redb(path: &str) -> Result<Arc<dyn LockStore>, Box<dyn Error>> {
    Ok(Arc::new(MemoryStore::open(path)?))
}

#[cfg(feature = "redis")]
fn redis(url: &str) -> Result<Arc<dyn LockStore>, Box<dyn Error>> {
    Ok(Arc::new(tower_lock::store::RedisStore::new(url)?))
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str) -> Result<Arc<dyn LockStore>, Box<dyn Error>> {
    let store = tower_lock::store::PostgresStore::new(url)?;
    // As often as one likes, and from many processes at once. A service would rather do it when it is deployed.
    store.migrate().await?;
    Ok(Arc::new(store))
}

macro_rules! without {
    ($($feature:literal $open:ident $($asynchronous:ident)?;)*) => { $(
        #[cfg(not(feature = $feature))]
        $($asynchronous)? fn $open(_: &str) -> Result<Arc<dyn LockStore>, Box<dyn Error>> {
            Err(concat!("this needs the feature ", $feature, ": cargo run --features ", $feature, " --example …").into())
        }
    )* };
}
without! {
    "redb" redb;
    "redis" redis;
    "postgres" postgres async;
}
