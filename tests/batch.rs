//! Bulk writes: the locks of each item, in every mode, and what becomes of the others.

mod support;

#[path = "batch/records.rs"]
mod records;

#[path = "batch/answers.rs"]
mod answers;
#[path = "batch/limits.rs"]
mod limits;
#[path = "batch/modes.rs"]
mod modes;
#[path = "batch/rules.rs"]
mod rules;
