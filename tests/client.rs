//! The other end of a refusal: what a client reads, when it tries again, and what it holds over HTTP.
#![cfg(feature = "client")]

#[path = "client/guard.rs"]
mod guard;
#[path = "client/hostile.rs"]
mod hostile;
#[path = "client/kit.rs"]
mod kit;
#[path = "client/line.rs"]
mod line;
#[path = "client/outages.rs"]
mod outages;
#[path = "client/program.rs"]
mod program;
#[path = "client/read.rs"]
mod read;
#[path = "client/retry.rs"]
mod retry;
mod support;
#[path = "client/wires.rs"]
mod wires;
