//! `StoreError`: why a store could not answer.

use std::{borrow::Cow, error::Error, fmt};

/// Why a store could not answer. Whatever the kind, the caller gets 503 `store_unavailable` and nothing was admitted.
pub struct StoreError(Box<Inner>);

struct Inner {
    kind: StoreErrorKind,
    what: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What went wrong, as far as an operator needs it to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The engine cannot be reached.
    Unavailable,
    /// It did not answer within the limit.
    TimedOut,
    /// It refuses our credentials or rights.
    Denied,
    /// It takes no more writes: full or read-only.
    ReadOnly,
    /// What it holds was not written by this crate, or by another version of it.
    Incompatible,
    /// Anything else.
    Other,
}

impl StoreError {
    /// An error of `kind`; `what` says in a few words what was being done.
    pub fn new(kind: StoreErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, what: what.into(), source: None }))
    }

    /// The same error, with the one that caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.0.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0.kind {
            StoreErrorKind::Unavailable => "the lock store cannot be reached",
            StoreErrorKind::TimedOut => "the lock store did not answer in time",
            StoreErrorKind::Denied => "the lock store refuses access",
            StoreErrorKind::ReadOnly => "the lock store takes no writes",
            StoreErrorKind::Incompatible => "the lock store holds something else",
            StoreErrorKind::Other => "the lock store failed",
        };
        write!(f, "{kind}: {}", self.0.what)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("kind", &self.0.kind)
            .field("what", &self.0.what)
            .field("source", &self.0.source)
            .finish()
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
