//! Lock management over HTTP, verb by verb and status by status, against the memory store under a clock that stands still.

#[path = "endpoint/bad_input.rs"]
mod bad_input;
#[path = "endpoint/bodies.rs"]
mod bodies;
#[path = "endpoint/breaking.rs"]
mod breaking;
#[path = "endpoint/check.rs"]
mod check;
#[path = "endpoint/disclosure.rs"]
mod disclosure;
#[path = "endpoint/fuzz.rs"]
mod fuzz;
#[path = "endpoint/handover.rs"]
mod handover;
#[path = "endpoint/kit.rs"]
mod kit;
#[path = "endpoint/list.rs"]
mod list;
#[path = "endpoint/places.rs"]
mod places;
#[path = "endpoint/proposals.rs"]
mod proposals;
#[path = "endpoint/refusals.rs"]
mod refusals;
#[path = "endpoint/stream.rs"]
mod stream;
mod support;
#[path = "endpoint/verbs.rs"]
mod verbs;
#[path = "endpoint/wait.rs"]
mod wait;
