//! `LockView`: what a caller is shown of a lock. The one shape in refusals, inspections and lists.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Access, Action, AuthorizeAsk, Caller, Locks};
use crate::lock::{Depth, Lock, LockId, LockKind, LockScope, LockState, LostCause, LostLock, Owner, Timestamp};

/// What a caller is shown of a lock; what they may not see is left out. Serialises as an item of `locks` in section 7's
/// body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LockView {
    /// The public handle.
    pub lock_id: LockId,
    /// The lock's root, as a canonical path.
    pub resource: String,
    /// Who else may lock it.
    pub scope: LockScope,
    /// How far below the root it reaches.
    pub depth: Depth,
    /// What it is for.
    pub kind: LockKind,
    /// Who holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Their own public text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ref: Option<String>,
    /// The stage of its life.
    pub state: LockState,
    /// Whether a write that it answers for is in flight.
    pub in_use: bool,
    /// When it was granted.
    pub created_at: Timestamp,
    /// When it ends unless refreshed; none when it is endless.
    pub expires_at: Option<Timestamp>,
    /// In how many seconds that is, rounded up.
    pub expires_in: Option<u64>,
    /// Larger than that of every overlapping lock before.
    pub generation: u64,
    /// Whether the caller holds it.
    pub mine: bool,
    /// Whether the caller may break it.
    pub can_break: bool,
}

/// What a caller is told of a lock that they believed in. Serialises as an item of `lost`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostView {
    /// The public handle, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_id: Option<LockId>,
    /// What it was rooted at, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Why it is gone.
    pub cause: LostCause,
    /// When it ended, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Who ended it, if it was somebody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<LostLock> for LostView {
    fn from(lost: LostLock) -> Self {
        Self {
            lock_id: lost.id,
            resource: lost.root.map(|root| root.path().to_owned()),
            cause: lost.cause,
            at: lost.at,
            by: lost.actor.map(|actor| actor.as_str().to_owned()),
            reason: lost.reason.map(|reason| reason.to_string()),
        }
    }
}

impl LockView {
    /// The tag of a state of `resource` (of nothing in particular, where that is empty) in which these are its locks, as an
    /// opaque word. What changes while nothing happens is left out: `expires_in` counts down, `in_use` follows every write.
    pub(crate) fn tag(resource: &str, locks: &[Self]) -> String {
        let mut hash = Sha256::new();
        hash.update(resource);
        for lock in locks {
            let lasting = Self { expires_in: None, in_use: false, ..lock.clone() };
            hash.update(b"\n");
            hash.update(serde_json::to_vec(&lasting).expect("a lock is plain data"));
        }
        hash.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a caller may see of a lock, and do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// [`Access::Limited`] or [`Access::Allowed`].
    access: Access,
    mine: bool,
    can_break: bool,
}

/// A lock as far as a caller may see it: a [`LockView`] without copies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'l> {
    /// All of it: what may be hidden is to be asked of `Shown`.
    pub(crate) lock: &'l Lock,
    pub(crate) sight: Sight,
}

impl<'l> Shown<'l> {
    fn is_full(self) -> bool {
        self.sight.access == Access::Allowed
    }

    pub(crate) fn owner(self) -> Option<&'l Owner> {
        Some(self.lock.owner()).filter(|owner| self.is_full() && **owner != Owner::default())
    }

    pub(crate) fn reason(self) -> Option<&'l str> {
        self.lock.reason().filter(|_| self.is_full())
    }

    pub(crate) fn client_ref(self) -> Option<&'l str> {
        self.lock.client_ref().filter(|_| self.is_full())
    }

    pub(crate) fn is_mine(self) -> bool {
        self.sight.mine
    }

    pub(crate) fn can_break(self) -> bool {
        self.sight.can_break
    }
}

impl From<Shown<'_>> for LockView {
    fn from(shown: Shown<'_>) -> Self {
        let lock = shown.lock;
        Self {
            lock_id: lock.id(),
            resource: lock.root().path().to_owned(),
            scope: lock.scope(),
            depth: lock.depth(),
            kind: lock.kind().clone(),
            owner: shown.owner().cloned(),
            reason: shown.reason().map(str::to_owned),
            client_ref: shown.client_ref().map(str::to_owned),
            state: lock.state(),
            in_use: lock.in_use(),
            created_at: lock.created_at(),
            expires_at: lock.expires_at(),
            expires_in: lock.expires_in(),
            generation: lock.generation(),
            mine: shown.is_mine(),
            can_break: shown.can_break(),
        }
    }
}

impl Locks {
    /// What `caller` is shown of `lock`; nothing, where the authorizer says so.
    #[must_use]
    pub fn view(&self, caller: &Caller, lock: &Lock) -> Option<LockView> {
        self.sight(caller, lock).map(|sight| Shown { lock, sight }.into())
    }

    /// What `caller` may see of `lock`; nothing, where the authorizer says so.
    pub(super) fn sight(&self, caller: &Caller, lock: &Lock) -> Option<Sight> {
        let access = self.access(caller, Action::See, lock);
        (access != Access::Denied).then(|| Sight {
            access,
            mine: caller.principal().is_some() && lock.principal() == caller.principal(),
            can_break: self.access(caller, Action::Break, lock) == Access::Allowed,
        })
    }

    /// What `caller` is shown of a lock that they have just acquired, or proven to hold: all of it.
    pub(crate) fn own_view(&self, caller: &Caller, lock: &Lock) -> LockView {
        let can_break = self.access(caller, Action::Break, lock) == Access::Allowed;
        Shown { lock, sight: Sight { access: Access::Allowed, mine: true, can_break } }.into()
    }

    /// What `caller` may do with `lock`.
    pub(crate) fn access(&self, caller: &Caller, action: Action, lock: &Lock) -> Access {
        if caller.is_application() {
            return Access::Allowed;
        }
        self.policy().authorizer.authorize(&AuthorizeAsk {
            action,
            principal: caller.principal(),
            key: lock.root(),
            kind: lock.kind(),
            depth: lock.depth(),
            lifetime: None,
            lock: Some(lock),
        })
    }
}
