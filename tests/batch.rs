//! Bulk writes: the locks of each item, in every mode, and what becomes of the others.

mod support;

#[path = "batch/records.rs"]
mod records;

#[path = "batch/answers.rs"]
mod answers;
#[path = "batch/engines.rs"]
mod engines;
#[path = "batch/flight.rs"]
mod flight;
#[path = "batch/http.rs"]
mod http;
#[path = "batch/limits.rs"]
mod limits;
#[path = "batch/modes.rs"]
mod modes;
#[path = "batch/random.rs"]
mod random;
#[path = "batch/rules.rs"]
mod rules;
