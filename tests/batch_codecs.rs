//! The codecs of bulk writes: what they read, keep, merge and refuse, by themselves and within a layer.
#![cfg(feature = "batch")]

#[path = "batch_codecs/kit.rs"]
mod kit;
#[path = "batch_codecs/oracle.rs"]
mod oracle;
#[path = "batch_codecs/random.rs"]
mod random;
#[path = "batch_codecs/reading.rs"]
mod reading;
#[path = "batch_codecs/responses.rs"]
mod responses;
#[path = "batch_codecs/site.rs"]
mod site;
#[path = "batch_codecs/story.rs"]
mod story;
mod support;
#[path = "batch_codecs/vault.rs"]
mod vault;
