//! Sixth floor: [`DavLayer`], RFC 4918 locking for a WebDAV handler that knows nothing of locks (feature `webdav`).

mod answer;
mod body;
mod discovery;
mod entity_tags;
mod exchange;
mod gone;
mod handler;
mod head;
mod layer;
mod lock;
mod lockinfo;
mod look;
mod mint;
mod multistatus;
mod propfind;
mod proppatch;
mod read;
mod refresh;
mod refusal;
mod service;
mod unlock;
mod wanted;
mod write;
mod xml;

pub use self::{
    body::RequestBody,
    layer::DavLayer,
    service::{DavFuture, DavService},
};
