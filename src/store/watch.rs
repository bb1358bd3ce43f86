//! `Watch`: what happens to locks, as a stream.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::StoreError;
use crate::lock::{Lock, LostCause, Principal};

/// What happened to a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockEvent {
    /// From here on nothing is missed: read the state now. Comes first, and again after every gap (a reconnect, a reader
    /// that was too slow).
    Synced,
    /// It was granted.
    Granted(Lock),
    /// It lives on.
    Refreshed(Lock),
    /// A break with a grace period has begun, or was shortened.
    Breaking {
        /// The lock, which ends when the grace does.
        lock: Lock,
        /// Who breaks it.
        actor: Option<Principal>,
        /// Why, in their words.
        reason: Option<std::sync::Arc<str>>,
    },
    /// It has ended. Stores expire lazily and need not say [`LostCause::Expired`]: who waits times that itself.
    Ended {
        /// The lock as it was.
        lock: Lock,
        /// Why.
        cause: LostCause,
        /// Who ended it, if it was somebody else.
        actor: Option<Principal>,
        /// Why, in the words of who ended it.
        reason: Option<std::sync::Arc<str>>,
    },
}

/// What happens to the locks that fit a [`LockQuery`](super::LockQuery). Endless unless the store is dropped.
#[must_use = "streams do nothing unless polled"]
pub struct Watch(Pin<Box<dyn Stream<Item = Result<LockEvent, StoreError>> + Send>>);

impl Watch {
    /// A watch over `events`.
    pub fn new<S>(events: S) -> Self
    where
        S: Stream<Item = Result<LockEvent, StoreError>> + Send + 'static,
    {
        Self(Box::pin(events))
    }

    /// The next event, once there is one.
    pub async fn next(&mut self) -> Option<Result<LockEvent, StoreError>> {
        std::future::poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

impl Stream for Watch {
    type Item = Result<LockEvent, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl LockEvent {
    /// The lock that it happened to; none for [`LockEvent::Synced`].
    #[must_use]
    pub const fn lock(&self) -> Option<&Lock> {
        match self {
            Self::Synced => None,
            Self::Granted(lock) | Self::Refreshed(lock) | Self::Breaking { lock, .. } | Self::Ended { lock, .. } => {
                Some(lock)
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
