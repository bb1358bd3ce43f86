//! Several processes of one small server on one store, and clients that lock, write, refresh, release and hang up all at
//! once. What they saw and what the servers did is written down with the times of one clock, and looked through
//! afterwards: whatever the interleaving, and whatever broke meanwhile, no rule may have been broken.
//!
//! Run for Redis and for PostgreSQL. `TOWER_LOCK_SOAK=n` makes the runs `n` times as long.
#![cfg(all(unix, feature = "conformance", any(feature = "redis", feature = "postgres")))]

#[path = "../support/engines.rs"]
mod engines;

mod audit;
mod audit_checks;
mod book;
mod client;
mod deadlocks;
mod engine;
mod faults;
mod http;
mod node;
mod nodes;
mod races;
mod rng;
mod stepping;
mod trace;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A test of each for each engine.
macro_rules! for_each_engine {
    ($($module:ident { $($test:ident)* })*) => {
        #[cfg(feature = "redis")]
        mod redis {
            $($(#[test]
            fn $test() {
                super::$module::$test(super::engine::Kind::Redis);
            })*)*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $($(#[test]
            fn $test() {
                super::$module::$test(super::engine::Kind::Postgres);
            })*)*
        }
    };
}

for_each_engine! {
    races { nothing_is_broken check_only_is_found_out }
    deadlocks { nobody_hears_of_a_deadlock }
    faults {
        the_engine_is_killed_and_started_again
        the_engine_stands_still_and_goes_on
        nodes_are_killed_and_stopped
        a_stalled_write_is_seen_by_its_generation
        the_clock_steps_back
    }
}

/// Fleets run one after the other: there are few cores, and each fleet is many processes.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many times as long the runs are: `TOWER_LOCK_SOAK`, once unless set.
fn soak() -> u32 {
    std::env::var("TOWER_LOCK_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1).max(1)
}

/// The runtime of a test. The nodes have theirs.
fn run<T>(test: impl Future<Output = T>) -> T {
    let _turn = one_at_a_time();
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime").block_on(test)
}
