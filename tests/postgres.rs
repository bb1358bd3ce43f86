//! What only the PostgreSQL store has: a schema, connections that break, a server that is full of other things.
//!
//! The rules themselves are asked of it by `conformance_postgres`.
#![cfg(all(feature = "conformance", feature = "postgres"))]

mod support;

#[path = "postgres/faults.rs"]
mod faults;
#[path = "postgres/keys.rs"]
mod keys;
#[path = "postgres/kit.rs"]
mod kit;
#[path = "postgres/load.rs"]
mod load;
#[path = "postgres/repeats.rs"]
mod repeats;
#[path = "postgres/schema.rs"]
mod schema;
