//! `DavLayer`: puts class 2 before a handler of class 1.

use std::fmt;

use tower_layer::Layer;

use super::DavService;
use crate::locks::Locks;

/// Gives a WebDAV handler that knows nothing of locks the whole of RFC 4918 locking. See the [module docs](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put before a service"]
pub struct DavLayer {
    locks: Locks,
}

impl DavLayer {
    /// A layer over `locks`, or over a bare store under the default policy.
    pub fn new(locks: impl Into<Locks>) -> Self {
        Self { locks: locks.into() }
    }
}

impl<S> Layer<S> for DavLayer {
    type Service = DavService<S>;

    fn layer(&self, inner: S) -> DavService<S> {
        DavService::new(inner, self.locks.clone())
    }
}

impl fmt::Debug for DavLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DavLayer").field("locks", &self.locks).finish()
    }
}
