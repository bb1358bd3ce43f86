//! What went wrong in the engine or on the way to it, as a [`StoreError`] that keeps its source.

use std::borrow::Cow;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::{StoreError, StoreErrorKind};

/// What was found is not what this release writes.
pub(super) fn incompatible(what: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::Incompatible, what)
}

/// The error of a store, from that of the client.
pub(super) fn store_error(doing: &'static str, error: RedisError) -> StoreError {
    let kind = kind(&error);
    let what = if kind == StoreErrorKind::Incompatible {
        Cow::Owned(error.detail().unwrap_or(doing).to_owned())
    } else {
        Cow::Borrowed(doing)
    };
    StoreError::new(kind, what).caused_by(error)
}

fn kind(error: &RedisError) -> StoreErrorKind {
    match error.kind() {
        ErrorKind::AuthenticationFailed => StoreErrorKind::Denied,
        ErrorKind::InvalidClientConfig => StoreErrorKind::Other,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType | ErrorKind::RESP3NotSupported => StoreErrorKind::Incompatible,
        ErrorKind::Server(ServerErrorKind::ReadOnly) => StoreErrorKind::ReadOnly,
        ErrorKind::Server(ServerErrorKind::NoPerm) => StoreErrorKind::Denied,
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask,
        ) => StoreErrorKind::Unavailable,
        ErrorKind::Io if error.is_timeout() => StoreErrorKind::TimedOut,
        ErrorKind::Io => StoreErrorKind::Unavailable,
        // Scripts run into what they cannot read; nothing else of ours is refused so.
        ErrorKind::Server(ServerErrorKind::ResponseError) if error.detail().is_some_and(|why| why.contains("script")) => {
            StoreErrorKind::Incompatible
        }
        _ => match error.code() {
            Some("TOWERLOCK" | "WRONGTYPE") => StoreErrorKind::Incompatible,
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => StoreErrorKind::Denied,
            Some("OOM" | "MISCONF" | "NOREPLICAS" | "READONLY") => StoreErrorKind::ReadOnly,
            Some("BUSY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN") => StoreErrorKind::Unavailable,
            _ => StoreErrorKind::Other,
        },
    }
}
