//! Refusals behind a real tonic server, as a real tonic client sees them, and byte by byte.
#![cfg(feature = "grpc")]
#![allow(unreachable_pub, reason = "modules of one binary")]

mod support;

#[path = "grpc/bounds.rs"]
mod bounds;
#[path = "grpc/calls.rs"]
mod calls;
#[path = "grpc/kit.rs"]
mod kit;
#[path = "grpc/refusals.rs"]
mod refusals;
#[path = "grpc/stopped.rs"]
mod stopped;
#[cfg(unix)]
#[path = "grpc/story.rs"]
mod story;
#[path = "grpc/wire.rs"]
mod wire;
