//! `DavLayer`: puts class 2 before a handler of class 1.

use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{
    DavService,
    mint::Mint,
    settings::{Settings, Tokens},
};
use crate::locks::Locks;

/// Gives a WebDAV handler that knows nothing of locks the whole of RFC 4918 locking. See the [module docs](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put before a service"]
pub struct DavLayer {
    locks: Locks,
    settings: Settings,
}

impl DavLayer {
    /// A layer over `locks`, or over a bare store under the default policy.
    ///
    /// The default policy lets nobody anonymous lock, and nobody the root: see
    /// [`LocksBuilder::principal`](crate::LocksBuilder::principal), [`allow_anonymous`](crate::LocksBuilder::allow_anonymous)
    /// and [`authorizer`](crate::LocksBuilder::authorizer).
    pub fn new(locks: impl Into<Locks>) -> Self {
        let settings = Settings {
            mint: Mint::random(),
            tokens: Tokens::ToTheirHolder,
            body: 1024 * 1024,
            multistatus: 32 * 1024 * 1024,
        };
        Self { locks: locks.into(), settings }
    }

    /// What tokens are made with, the same on every node and after every restart; keep it as you keep a password. Without
    /// it each layer makes up its own: a lock then still holds everywhere, but its holder is shown the token again only
    /// by the layer that granted it.
    ///
    /// Who knows the secret can find the token of every lock that this layer granted, whose id it knows, but not use it
    /// as another principal.
    pub fn token_secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.settings.mint = Mint::derive(secret.as_ref());
        self
    }

    /// Shows a token nowhere but in the answer to the LOCK that made it (RFC 4918 section 6.5 allows either). Unless this
    /// is said, `lockdiscovery` shows it to the principal that holds the lock, and to nobody else.
    pub fn hide_tokens(mut self) -> Self {
        self.settings.tokens = Tokens::Never;
        self
    }

    /// The most bytes of the body of a PROPFIND or PROPPATCH, 1 MiB unless said; more is 413. The body of a LOCK is limited
    /// by [`Limits::body`](crate::Limits::body).
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.settings.body = bytes;
        self
    }

    /// The most bytes of a handler's multistatus that the layer reads, to put the lock properties into it, or to see a write
    /// to its end; 32 MiB unless said. It takes up to ten times as much memory while it is read. Past it a PROPFIND of infinite depth is answered 403
    /// `propfind-finite-depth` (RFC 4918 section 9.1), any other 507. Also the most bytes of locks that it puts there: past
    /// that, any other has `lockdiscovery` as a property with status 507.
    pub fn multistatus_limit(mut self, bytes: usize) -> Self {
        self.settings.multistatus = bytes;
        self
    }
}

impl<S> Layer<S> for DavLayer {
    type Service = DavService<S>;

    fn layer(&self, inner: S) -> DavService<S> {
        DavService::new(inner, self.locks.clone(), Arc::new(self.settings.clone()))
    }
}

impl fmt::Debug for DavLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DavLayer").field("locks", &self.locks).finish_non_exhaustive()
    }
}
