//! What only a store in Redis has: an engine that is missing, full, read-only, stopped, foreign or a cluster; keys of its
//! own; a subscription that breaks.
#![cfg(all(unix, feature = "conformance", feature = "redis"))]

#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/faults.rs"]
mod faults;
#[path = "redis/foreign.rs"]
mod foreign;
#[path = "redis/keys.rs"]
mod keys;
#[path = "redis/kit.rs"]
mod kit;
mod support;
