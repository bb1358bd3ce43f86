//! `Incident`: what went wrong while a request went on, told to a hook.

use std::{fmt, sync::Arc};

use crate::store::StoreError;

/// Something an operator should know of, although the request it happened to was not refused for it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incident<'a> {
    /// The store could not answer, and the write was let through, because the policy says so
    /// ([`LocksBuilder::fail_open`](super::LocksBuilder::fail_open)).
    AdmittedUnchecked {
        /// The path of the write.
        path: &'a str,
        /// What the store said.
        error: &'a StoreError,
    },
    /// Locks of a resource that is gone could not be ended; they will expire.
    LocksLeft {
        /// The path that is gone.
        path: &'a str,
        /// What the store said.
        error: &'a StoreError,
    },
    /// The locks that a write answered for could not be renewed or ended after it, as was asked; they end when they expire.
    NotAfterWrite {
        /// What the store said.
        error: &'a StoreError,
    },
    /// A lock granted to a caller who had left could not be ended; it will expire.
    UndoFailed {
        /// What the store said.
        error: &'a StoreError,
    },
}

impl Incident<'_> {
    /// Which incident, as one word: `admitted_unchecked`, `locks_left`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::AdmittedUnchecked { .. } => "admitted_unchecked",
            Self::LocksLeft { .. } => "locks_left",
            Self::NotAfterWrite { .. } => "not_after_write",
            Self::UndoFailed { .. } => "undo_failed",
        }
    }

    /// The path that it is about, where there is one.
    #[must_use]
    pub const fn path(&self) -> Option<&str> {
        match self {
            Self::AdmittedUnchecked { path, .. } | Self::LocksLeft { path, .. } => Some(path),
            Self::NotAfterWrite { .. } | Self::UndoFailed { .. } => None,
        }
    }

    /// What the store said.
    #[must_use]
    pub const fn error(&self) -> &StoreError {
        match self {
            Self::AdmittedUnchecked { error, .. }
            | Self::LocksLeft { error, .. }
            | Self::NotAfterWrite { error }
            | Self::UndoFailed { error } => error,
        }
    }
}

impl fmt::Display for Incident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AdmittedUnchecked { path, error } => write!(f, "write to {path} let through unchecked: {error}"),
            Self::LocksLeft { path, error } => write!(f, "{path} is gone, its locks are not: {error}"),
            Self::NotAfterWrite { error } => write!(f, "the locks of a write are as they were before it: {error}"),
            Self::UndoFailed { error } => write!(f, "a lock nobody waits for any more is left: {error}"),
        }
    }
}

pub(crate) type IncidentHook = Arc<dyn Fn(&Incident<'_>) + Send + Sync>;
