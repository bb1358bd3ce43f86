//! `Acquire`, a request for locks as a store sees it, and `Acquired`, what comes of it.

use std::{sync::Arc, time::Duration};

use super::WriteId;
use crate::lock::{HolderProof, Lock, LockId, LockParts, LockToken, LostLock, Principal};

/// A request for one or several locks, all or none.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Acquire<'a> {
    /// The locks, each with its token. Their roots do not overlap each other.
    pub locks: &'a [NewLock],
    /// Who asks.
    pub principal: Option<&'a Principal>,
    /// What proves that the caller holds a lock to be replaced.
    pub proof: &'a HolderProof,
    /// Locks that count as absent, and end in the same step.
    pub replaces: &'a [Replaces<'a>],
    /// How long the locks live.
    pub lifetime: Lifetime,
    /// How long to wait for writes in flight. Zero: not at all.
    pub drain: Duration,
    /// How many locks there may be.
    pub quota: Quota,
    /// The caller's own write, which is not waited for.
    pub within: Option<WriteId>,
    /// How many conflicting locks to name at most.
    pub blockers: usize,
}

impl<'a> Acquire<'a> {
    /// A request for `locks` by `principal`: five minutes, at most a day, waiting up to five seconds, without quotas.
    #[must_use]
    pub const fn new(locks: &'a [NewLock], principal: Option<&'a Principal>) -> Self {
        Self {
            locks,
            principal,
            proof: &HolderProof::TokenAndPrincipal,
            replaces: &[],
            lifetime: Lifetime {
                span: Some(Duration::from_secs(300)),
                most: Some(Duration::from_secs(3_600)),
                total: Some(Duration::from_secs(86_400)),
            },
            drain: Duration::from_secs(5),
            quota: Quota::UNLIMITED,
            within: None,
            blockers: 100,
        }
    }

    /// The same request with another lifetime.
    #[must_use]
    pub const fn living(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The same request, waiting at most `drain` for writes in flight.
    #[must_use]
    pub const fn draining(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// The same request, replacing locks.
    #[must_use]
    pub const fn replacing(mut self, replaces: &'a [Replaces<'a>]) -> Self {
        self.replaces = replaces;
        self
    }

    /// The same request under a quota.
    #[must_use]
    pub const fn within_quota(mut self, quota: Quota) -> Self {
        self.quota = quota;
        self
    }

    /// The same request from inside a write of the caller's own.
    #[must_use]
    pub const fn within(mut self, write: Option<WriteId>) -> Self {
        self.within = write;
        self
    }

    /// The same request, where `proof` proves a holder.
    #[must_use]
    pub const fn proven_by(mut self, proof: &'a HolderProof) -> Self {
        self.proof = proof;
        self
    }
}

/// One lock to be granted.
#[derive(Clone, Debug)]
pub struct NewLock {
    /// What it is to be; the store keeps this very `Arc`.
    pub parts: Arc<LockParts>,
    /// Its token, of which the store keeps a digest.
    pub token: LockToken,
}

/// A lock that a new one takes the place of.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Replaces<'a> {
    /// One of the caller's own, by its token.
    Held(&'a LockToken),
    /// One of the caller's own, by its id, without its token: the twin of
    /// [`Authority::Principal`](super::Authority::Principal). The caller is not anonymous and the lock's own principal, and
    /// the lock is no freeze, else it is [`Acquired::NotHolder`]. It has to be held, unbroken, up to the grant of what
    /// replaces it, else it is [`Acquired::Lost`]: of several who replace the same lock one alone is granted.
    Own {
        /// Which.
        id: LockId,
    },
    /// Somebody else's, broken by one who may.
    Broken {
        /// Which.
        id: LockId,
        /// Why, in the words of who breaks it.
        reason: &'a str,
    },
}

/// How long a lock lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// From the grant, and again from every refresh that does not ask for something else; none is endless.
    pub span: Option<Duration>,
    /// The most that a refresh gives; none lets it ask for an endless one. The store keeps it with the lock.
    pub most: Option<Duration>,
    /// In all, refreshed or not; none is endless.
    pub total: Option<Duration>,
}

/// How long a refreshed lock is to live from now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Span {
    /// As long as it was last given.
    #[default]
    Same,
    /// So long; at most [`Lifetime::most`], and not beyond its total life.
    For(Duration),
    /// Without an end, as far as [`Lifetime::most`] and its total life allow.
    Endless,
}

impl Lifetime {
    /// The span that a refresh gives to a lock which was last given `last`, its total life aside.
    #[must_use]
    pub fn refreshed(most: Option<Duration>, last: Option<Duration>, asked: Span) -> Option<Duration> {
        let wanted = match asked {
            Span::Same => last,
            Span::For(span) => Some(span),
            Span::Endless => None,
        };
        match (wanted, most) {
            (Some(wanted), Some(most)) => Some(wanted.min(most)),
            (wanted, most) => wanted.or(most),
        }
    }
}

/// How many locks there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// For the principal who asks.
    pub principal: usize,
    /// In the store.
    pub store: usize,
}

impl Quota {
    /// As many as anybody wants.
    pub const UNLIMITED: Self = Self { principal: usize::MAX, store: usize::MAX };
}

/// What comes of a request for locks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Acquired {
    /// All are granted, in the order they were asked for (201).
    Granted(Vec<Lock>),
    /// All were granted before, to this very request; their expiry is untouched (200).
    Repeated(Vec<Lock>),
    /// Other locks or marks stand in the way (423 `locked`).
    Conflict(Conflict),
    /// Writes that the locks would refuse are still in flight (409 `write_in_progress`).
    Busy {
        /// After how long it is worth asking again.
        retry_after: Duration,
    },
    /// There are too many locks (429 `lock_quota`, 503 `store_full`).
    OverQuota(QuotaExceeded),
    /// A proposed token or id is in use for something else (409 `proposal_conflict`).
    Taken,
    /// A proposed token or id, or one to be replaced, is gone (412 `lock_lost`).
    Lost(Vec<LostLock>),
    /// A lock to be replaced is not the caller's (403 `forbidden`).
    NotHolder,
}

/// The locks and marks in the way of an acquire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conflict {
    /// Which, up to the limit.
    pub blockers: Vec<Lock>,
    /// Whether there are more than those.
    pub truncated: bool,
}

/// Whose quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuotaExceeded {
    /// The principal's.
    Principal,
    /// The store's.
    Store,
}
