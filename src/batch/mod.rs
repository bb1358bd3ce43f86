//! Sixth floor: locks for each item of a bulk write. Feature `batch`.

mod codec;
mod item;
mod verdicts;

pub use self::{
    codec::{BatchCodec, Unmergeable},
    item::Item,
    verdicts::Verdicts,
};
