//! Sixth floor: [`DavLayer`], RFC 4918 locking for a WebDAV handler that knows nothing of locks (feature `webdav`).

mod body;
#[allow(dead_code, reason = "what answers PROPFIND comes next")]
mod discovery;
mod layer;
#[allow(dead_code, reason = "what answers LOCK comes next")]
mod lockinfo;
#[allow(dead_code, reason = "what answers PROPFIND comes next")]
mod multistatus;
#[allow(dead_code, reason = "what answers PROPPATCH comes next")]
mod proppatch;
mod service;
#[allow(dead_code, reason = "what answers PROPFIND comes next")]
mod wanted;
#[allow(dead_code, reason = "what answers PROPFIND comes next")]
mod xml;

pub use self::{
    body::RequestBody,
    layer::DavLayer,
    service::{DavFuture, DavService},
};
