//! Refreshing and ending a lock: `Refresh`, `Release`, and by what right.

use std::time::Duration;

use super::Span;
use crate::lock::{HolderProof, Lock, LockId, LockToken, LostLock, Principal, ResourceKey};

/// Which lock is meant.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// The one with this token, which counts as submitted.
    Token(&'a LockToken),
    /// The one with this id.
    Id(LockId),
}

/// By what right a lock is refreshed or ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Authority<'a> {
    /// The holder's, proven as writes are. Nobody proves to hold a [`LockKind::Freeze`](crate::lock::LockKind::Freeze).
    Holder {
        /// Who asks.
        principal: Option<&'a Principal>,
        /// What proves a holder.
        proof: &'a HolderProof,
    },
    /// That of the principal who holds it, authenticated, without the token. Never the anonymous one's.
    Principal(&'a Principal),
    /// That of the code which set the lock and keeps its token ([`LockGuard`](crate::LockGuard)), whatever the kind.
    Guard,
    /// That of somebody who was allowed to break it. Ends any lock; refreshes none.
    Break {
        /// Who.
        actor: Option<&'a Principal>,
        /// Why.
        reason: &'a str,
        /// How long the holder may still write; its refresh is refused from now on.
        grace: Duration,
    },
}

/// A request to restart a lock's lifetime.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Refresh<'a> {
    /// Which lock.
    pub which: Which<'a>,
    /// By what right.
    pub authority: Authority<'a>,
    /// A resource that it must cover; any, if none is named.
    pub covering: Option<&'a ResourceKey<'a>>,
    /// How long it is to live from now, within the [`Lifetime`](super::Lifetime) that it was granted with.
    pub span: Span,
}

impl<'a> Refresh<'a> {
    /// A request to let a lock live on for `span` from now.
    #[must_use]
    pub const fn new(which: Which<'a>, authority: Authority<'a>, span: Span) -> Self {
        Self { which, authority, covering: None, span }
    }

    /// The same request, for a lock that must cover `key`.
    #[must_use]
    pub const fn covering(mut self, key: Option<&'a ResourceKey<'a>>) -> Self {
        self.covering = key;
        self
    }
}

/// What comes of a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Refreshed {
    /// The lock lives on (200).
    Refreshed(Lock, FinalTerm),
    /// It is gone, is being broken, or does not cover the resource (412 `lock_lost`).
    Lost(LostLock),
    /// The caller does not hold it (403 `forbidden`).
    NotHolder,
}

/// Whether a lock can be refreshed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalTerm {
    /// It can.
    No,
    /// It cannot: its total life ends with this term.
    Yes,
}

/// A request to end a lock.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Release<'a> {
    /// Which lock.
    pub which: Which<'a>,
    /// By what right.
    pub authority: Authority<'a>,
    /// A resource that it must cover; any, if none is named.
    pub covering: Option<&'a ResourceKey<'a>>,
}

impl<'a> Release<'a> {
    /// A request to end a lock.
    #[must_use]
    pub const fn new(which: Which<'a>, authority: Authority<'a>) -> Self {
        Self { which, authority, covering: None }
    }

    /// The same request, for a lock that must cover `key`.
    #[must_use]
    pub const fn covering(mut self, key: Option<&'a ResourceKey<'a>>) -> Self {
        self.covering = key;
        self
    }
}

/// What comes of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Released {
    /// The lock has ended (204, or 200 with it).
    Released(Lock),
    /// It is being broken, and ends when the grace period does (202).
    Breaking(Lock),
    /// It was gone already, and a token never seen is burnt (204 to a release by token); or it does not cover the
    /// resource (409).
    Lost(LostLock),
    /// The caller does not hold it (403 `forbidden`).
    NotHolder,
}
