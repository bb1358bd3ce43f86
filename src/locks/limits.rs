//! `Limits` and `Lifetimes`: how much, how many and how long. Section 9 of the design as values.

use std::time::Duration;

use crate::{
    lock::LockKind,
    store::{Lifetime, Quota},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How much and how many, and how long to wait. Past each of them stands a clear refusal.
///
/// ```
/// use tower_lock::{Limits, Locks, MemoryStore};
///
/// let mut limits = Limits::default();
/// limits.locks_per_principal = 20;
/// let locks = Locks::builder(MemoryStore::new()).limits(limits).build();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Locks that one principal may hold, 1,000; more is 429 `lock_quota`.
    pub locks_per_principal: usize,
    /// Locks in the store, 1,000,000; more is 503 `store_full`.
    pub locks_in_store: usize,
    /// Roots of one acquire, 100; more is 400.
    pub roots_per_request: usize,
    /// Items of one bulk write, and resources of one check, 1,000; more is 413 for a write, 400 for a check.
    pub items: usize,
    /// Locks named in a refusal, 100; more sets `"truncated": true`. One of a whole bulk write names up to [`Limits::items`].
    pub blockers_named: usize,
    /// Locks on one page of a list, 100 unless asked for less or more; at most 1,000.
    pub page: usize,
    /// Bytes of a management body, 64 KiB; more is 413.
    pub body: usize,
    /// Bytes of owner text, 8 KiB; more is 400. A reason may be as long.
    pub owner_text: usize,
    /// Bytes of `client_ref`, 1 KiB; more is 400.
    pub client_ref: usize,
    /// How long the store may take to decide about a write, 250 ms; longer is 503 `store_unavailable`.
    pub admit_within: Duration,
    /// How long it may take for anything else, 5 s, waits for writes in flight not counted; longer is 503.
    pub answer_within: Duration,
    /// How long an acquire waits for writes in flight unless it says so itself, 5 s; longer is 409
    /// `write_in_progress`. Also the most that a caller over HTTP can ask for.
    pub drain: Duration,
    /// How long a client may wait for a lock at most, 30 s, where that is allowed at all
    /// ([`LocksBuilder::allow_waiting`](super::LocksBuilder::allow_waiting)); asked for more, it waits so long. Code waits as
    /// long as it says ([`LockRequest::waiting`](super::LockRequest::waiting)).
    pub wait: Duration,
    /// Requests and callers that wait for the locks of one resource, 100; more is 429 `too_many_waiting`.
    pub waiters_per_resource: usize,
    /// Those that wait in this process, 10,000; more is 429.
    pub waiters: usize,
    /// Those that watch locks in this process, over event streams and in code, 10,000; more is 429.
    pub watchers: usize,
    /// After how long without an event a stream sends a comment, so that proxies keep it open, 15 s;
    /// zero is never.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            locks_per_principal: 1_000,
            locks_in_store: 1_000_000,
            roots_per_request: 100,
            items: 1_000,
            blockers_named: 100,
            page: 100,
            body: 64 * 1024,
            owner_text: 8 * 1024,
            client_ref: 1024,
            admit_within: Duration::from_millis(250),
            answer_within: Duration::from_secs(5),
            drain: Duration::from_secs(5),
            wait: Duration::from_secs(30),
            waiters_per_resource: 100,
            waiters: 10_000,
            watchers: 10_000,
            heartbeat: Duration::from_secs(15),
        }
    }
}

impl Limits {
    pub(crate) fn quota(&self) -> Quota {
        Quota { principal: self.locks_per_principal, store: self.locks_in_store }
    }
}

/// How long locks of one kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindLifetime {
    /// What a lock gets that does not ask; none is endless.
    pub default: Option<Duration>,
    /// The most that one grant or refresh gives; asked for more, a lock is clamped to this, and told so. None lets
    /// endless ones be asked for.
    pub most: Option<Duration>,
    /// How long a lock lives in all, however often it is refreshed; none is endless.
    pub total: Option<Duration>,
}

/// How long locks live, by kind.
///
/// | kind | unless asked | at most | in all |
/// |---|---|---|---|
/// | `User` | 5 min | 1 h | 24 h |
/// | `App` and kinds of your own | 5 min | 1 h | 7 days |
/// | `Job` | 15 min | 24 h | 7 days |
/// | `Freeze` | endless | endless | endless |
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lifetimes {
    /// For [`LockKind::User`].
    pub user: KindLifetime,
    /// For [`LockKind::App`] and [`LockKind::Other`].
    pub app: KindLifetime,
    /// For [`LockKind::Job`].
    pub job: KindLifetime,
    /// For [`LockKind::Freeze`].
    pub freeze: KindLifetime,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            user: KindLifetime { default: Some(5 * MINUTE), most: Some(HOUR), total: Some(DAY) },
            app: KindLifetime { default: Some(5 * MINUTE), most: Some(HOUR), total: Some(7 * DAY) },
            job: KindLifetime { default: Some(15 * MINUTE), most: Some(DAY), total: Some(7 * DAY) },
            freeze: KindLifetime { default: None, most: None, total: None },
        }
    }
}

/// The lifetime that somebody asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Whatever the kind gives.
    #[default]
    Default,
    /// So long.
    For(Duration),
    /// Without an end.
    Endless,
}

/// Whether somebody got the lifetime that they asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clamped {
    No,
    Yes,
}

impl Lifetimes {
    pub(crate) fn of(&self, kind: &LockKind) -> KindLifetime {
        match kind {
            LockKind::User => self.user,
            LockKind::Job => self.job,
            LockKind::Freeze => self.freeze,
            _ => self.app,
        }
    }

    /// What a lock of `kind` gets, and whether that is less than was asked for.
    pub(crate) fn grant(&self, kind: &LockKind, asked: Asked) -> (Lifetime, Clamped) {
        let KindLifetime { default, most, total } = self.of(kind);
        let wanted = match asked {
            Asked::Default => default,
            Asked::For(span) => Some(span),
            Asked::Endless => None,
        };
        let least = |a: Option<Duration>, b: Option<Duration>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let span = least(least(wanted, most), total);
        (Lifetime { span, most: least(most, total), total }, if span == wanted { Clamped::No } else { Clamped::Yes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_clamped_and_reported() {
        let lifetimes = Lifetimes::default();
        let grant = |kind: LockKind, asked| {
            let (lifetime, clamped) = lifetimes.grant(&kind, asked);
            (lifetime.span, clamped)
        };
        assert_eq!(grant(LockKind::User, Asked::Default), (Some(5 * MINUTE), Clamped::No));
        assert_eq!(grant(LockKind::User, Asked::For(2 * HOUR)), (Some(HOUR), Clamped::Yes));
        assert_eq!(grant(LockKind::User, Asked::Endless), (Some(HOUR), Clamped::Yes));
        assert_eq!(grant(LockKind::Job, Asked::For(2 * HOUR)), (Some(2 * HOUR), Clamped::No));
        assert_eq!(grant(LockKind::Freeze, Asked::Default), (None, Clamped::No));
        assert_eq!(grant(LockKind::Freeze, Asked::For(HOUR)), (Some(HOUR), Clamped::No));
        assert_eq!(grant(LockKind::from("review"), Asked::Default), (Some(5 * MINUTE), Clamped::No));
    }
}
