//! `SeenLock` and `Loss`: what a server tells of a lock that is there, and of one that is gone.
//!
//! Read as far as they can be: a member that is missing, or is not what it should be, is as if it had not been said.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use serde_json::Value;

use crate::lock::{Depth, LockId, LockKind, LockScope, LockState, LostCause, Owner, Timestamp};

/// A lock, as far as the server shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenLock {
    /// The public handle.
    pub lock_id: Option<LockId>,
    /// The lock's root, as a canonical path.
    pub resource: Option<String>,
    /// Who else may lock it.
    pub scope: Option<LockScope>,
    /// How far below the root it reaches.
    pub depth: Option<Depth>,
    /// What it is for.
    pub kind: Option<LockKind>,
    /// Who holds it.
    pub owner: Option<Owner>,
    /// Why, in their words.
    pub reason: Option<String>,
    /// Their own public text.
    pub client_ref: Option<String>,
    /// The stage of its life; none also for a word that this version does not know.
    pub state: Option<LockState>,
    /// Whether a write that it answers for is in flight.
    pub in_use: bool,
    /// When it was granted, by the server's clock.
    pub created_at: Option<Timestamp>,
    /// When it ends unless refreshed, by the server's clock.
    pub expires_at: Option<Timestamp>,
    /// In how long that is, in whole seconds, rounded up. None where it is endless or the server does not say.
    pub expires_in: Option<Duration>,
    /// Larger than that of every overlapping lock before.
    pub generation: Option<u64>,
    /// Whether the caller holds it.
    pub mine: bool,
    /// Whether the caller may break it.
    pub can_break: bool,
}

/// How a lock was lost: the answer of [`RemoteGuard::lost`](super::RemoteGuard::lost), and what a 412 `lock_lost` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The public handle, where known.
    pub lock_id: Option<LockId>,
    /// What it was rooted at, where known.
    pub resource: Option<String>,
    /// Why it is gone; [`LostCause::Unknown`] also for a word that this version does not know.
    pub cause: LostCause,
    /// When it ended by the server's clock, where known; for a break whose grace period runs, when it will.
    pub at: Option<Timestamp>,
    /// Who ended it, if it was somebody else.
    pub by: Option<String>,
    /// Why, in their words.
    pub reason: Option<String>,
}

/// How long a lock has to live, as the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Endless,
    Seconds(u64),
}

impl SeenLock {
    pub(super) fn read(value: &Value) -> Option<Self> {
        value.is_object().then(|| Self {
            lock_id: Self::id_in(value),
            resource: owned(value, "resource"),
            scope: text(value, "scope").and_then(|word| word.parse().ok()),
            depth: text(value, "depth").and_then(|word| word.parse().ok()),
            kind: text(value, "kind").map(LockKind::from),
            owner: value.get("owner").and_then(owner),
            reason: owned(value, "reason"),
            client_ref: owned(value, "client_ref"),
            state: text(value, "state").and_then(state),
            in_use: flag(value, "in_use"),
            created_at: time(value, "created_at"),
            expires_at: time(value, "expires_at"),
            expires_in: seconds(value, "expires_in").map(Duration::from_secs),
            generation: value.get("generation").and_then(Value::as_u64),
            mine: flag(value, "mine"),
            can_break: flag(value, "can_break"),
        })
    }

    pub(super) fn id_in(value: &Value) -> Option<LockId> {
        text(value, "lock_id")?.parse().ok()
    }
}

impl Left {
    /// What a lock says of it, if it does.
    pub(super) fn read(lock: &Value) -> Option<Self> {
        match lock.get("expires_in")? {
            Value::Null => Some(Self::Endless),
            _ => seconds(lock, "expires_in").map(Self::Seconds),
        }
    }
}

impl Loss {
    pub(super) fn read(value: &Value) -> Option<Self> {
        value.is_object().then(|| Self {
            lock_id: text(value, "lock_id").and_then(|id| id.parse().ok()),
            resource: owned(value, "resource"),
            cause: text(value, "cause").map_or(LostCause::Unknown, cause),
            at: time(value, "at"),
            by: owned(value, "by"),
            reason: owned(value, "reason"),
        })
    }

    /// No more than that is known.
    pub(super) const fn new(cause: LostCause) -> Self {
        Self { lock_id: None, resource: None, cause, at: None, by: None, reason: None }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.resource {
            Some(resource) => write!(f, "the lock on {resource} ")?,
            None => f.write_str("the lock ")?,
        }
        f.write_str(match self.cause {
            LostCause::Expired => "has expired",
            LostCause::Released => "was released",
            LostCause::Broken => "was broken",
            LostCause::Replaced => "was replaced",
            LostCause::ResourceGone => "went with its resource",
            LostCause::OutOfScope => "does not cover this",
            _ => "is not known to the server",
        })?;
        if let Some(by) = &self.by {
            write!(f, " by {by}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        if let Some(at) = self.at {
            write!(f, " at {at}")?;
        }
        Ok(())
    }
}

impl Error for Loss {}

pub(super) fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

fn owned(value: &Value, name: &str) -> Option<String> {
    text(value, name).map(str::to_owned)
}

pub(super) fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// A number of seconds, zero or more; a broken one is rounded up.
pub(super) fn seconds(value: &Value, name: &str) -> Option<u64> {
    let number = value.get(name)?;
    // What a float has past all integers becomes the largest one.
    number.as_u64().or_else(|| number.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds.ceil() as u64))
}

pub(super) fn list<T>(value: &Value, name: &str, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    value.get(name).and_then(Value::as_array).map(|list| list.iter().filter_map(read).collect()).unwrap_or_default()
}

fn time(value: &Value, name: &str) -> Option<Timestamp> {
    humantime::parse_rfc3339(text(value, name)?).ok().map(Timestamp::from)
}

fn owner(value: &Value) -> Option<Owner> {
    let part = |name| text(value, name).map(Arc::from);
    let (id, name) = (part("id"), part("name"));
    let mut owner = Owner::default();
    (owner.id, owner.name) = (id, name);
    (owner != Owner::default()).then_some(owner)
}

fn state(word: &str) -> Option<LockState> {
    [LockState::Held, LockState::Pending, LockState::Breaking, LockState::Offered]
        .into_iter()
        .find(|state| state.as_str() == word)
}

fn cause(word: &str) -> LostCause {
    use LostCause::{Broken, Expired, OutOfScope, Released, Replaced, ResourceGone, Unknown};
    let known = [Expired, Released, Broken, Replaced, ResourceGone, OutOfScope];
    known.into_iter().find(|cause| cause.as_str() == word).unwrap_or(Unknown)
}
