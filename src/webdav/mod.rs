//! Sixth floor: [`DavLayer`], RFC 4918 locking for a WebDAV handler that knows nothing of locks (feature `webdav`).

mod body;
mod layer;
mod service;

pub use self::{
    body::RequestBody,
    layer::DavLayer,
    service::{DavFuture, DavService},
};
