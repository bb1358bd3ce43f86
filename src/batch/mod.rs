//! Sixth floor: locks for each item of a bulk write. Feature `batch`.

mod answer;
mod codec;
mod exchange;
mod item;
mod layer;
mod service;
mod verdicts;

pub use self::{
    codec::{BatchCodec, Unmergeable},
    item::Item,
    layer::BatchLayer,
    service::{BatchFuture, BatchService},
    verdicts::Verdicts,
};
pub use crate::middleware::RequestBody;
