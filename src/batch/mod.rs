//! Sixth floor: locks for each item of a bulk write. Feature `batch`.

mod answer;
mod codec;
mod exchange;
mod head;
mod item;
mod json;
mod layer;
mod responses;
mod service;
mod vault;
mod verdicts;

pub use self::{
    codec::{BatchCodec, Unmergeable},
    item::Item,
    layer::BatchLayer,
    responses::ResponsesBatch,
    service::{BatchFuture, BatchService},
    vault::VaultBatch,
    verdicts::Verdicts,
};
pub use crate::middleware::RequestBody;
