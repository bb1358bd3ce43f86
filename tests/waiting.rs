//! Waiting for locks from Rust: in order of arrival, without a lost wake-up, within limits, and without a trace of those
//! who leave.

mod support;

#[path = "waiting/crowd.rs"]
mod crowd;
#[path = "waiting/engines.rs"]
mod engines;
#[path = "waiting/kit.rs"]
mod kit;
#[path = "waiting/leaving.rs"]
mod leaving;
#[path = "waiting/order.rs"]
mod order;
#[path = "waiting/outage.rs"]
mod outage;
#[path = "waiting/wakeups.rs"]
mod wakeups;
