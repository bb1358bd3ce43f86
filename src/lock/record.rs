//! `Lock`: what is known of a lock, without its secret; and `LostLock`, what is remembered of one that ended.

use std::{fmt, sync::Arc};

use super::{Claim, Depth, LockId, LockKind, LockScope, LockState, Owner, Principal, ResourceKey, Timestamp};

/// A lock as a store answered it: a snapshot, cheap to clone, without the token.
#[derive(Clone)]
pub struct Lock {
    parts: Arc<LockParts>,
    life: LockLife,
}

/// What never changes about a lock. Stores build it; everybody else reads it through [`Lock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockParts {
    /// The public handle.
    pub id: LockId,
    /// What was locked.
    pub root: ResourceKey<'static>,
    /// Who else may lock it.
    pub scope: LockScope,
    /// How far below the root the lock reaches.
    pub depth: Depth,
    /// What it is for.
    pub kind: LockKind,
    /// Who must submit the token.
    pub principal: Option<Principal>,
    /// What is shown of the holder.
    pub owner: Owner,
    /// Why, in the holder's words.
    pub reason: Option<Arc<str>>,
    /// The caller's own public text, at most 1 KiB.
    pub client_ref: Option<Arc<str>>,
    /// Whether its principal has its token.
    pub claim: Claim,
}

/// What changes about a lock while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockLife {
    /// The stage it is in; [`LockState::Held`] also for one that is on offer ([`LockParts::claim`]).
    pub state: LockState,
    /// When it was granted (when it was announced, while pending).
    pub created_at: Timestamp,
    /// When it ends unless refreshed; none when it is endless. While a write of its holder runs, the later of its own
    /// end and now plus one write lease.
    pub expires_at: Option<Timestamp>,
    /// Larger than that of every overlapping lock granted before; 0 while pending.
    pub generation: u64,
    /// Whether a write that this lock answers for is in flight.
    pub in_use: bool,
    /// What the store's clock showed when the lock was read: what is left of it counts from here, so that a client
    /// never depends on the clock of the node it talks to.
    pub seen_at: Timestamp,
}

impl Lock {
    /// A lock as a store knows it.
    #[must_use]
    pub fn new(parts: Arc<LockParts>, life: LockLife) -> Self {
        Self { parts, life }
    }

    /// The public handle.
    #[must_use]
    pub fn id(&self) -> LockId {
        self.parts.id
    }

    /// The resource that was locked: the lock's root.
    #[must_use]
    pub fn root(&self) -> &ResourceKey<'static> {
        &self.parts.root
    }

    /// Who else may lock it.
    #[must_use]
    pub fn scope(&self) -> LockScope {
        self.parts.scope
    }

    /// How far below the root it reaches.
    #[must_use]
    pub fn depth(&self) -> Depth {
        self.parts.depth
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> &LockKind {
        &self.parts.kind
    }

    /// Who must submit its token.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.parts.principal.as_ref()
    }

    /// What is shown of its holder.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.parts.owner
    }

    /// Why it was set, in the holder's words.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.parts.reason.as_deref()
    }

    /// The caller's own public text.
    #[must_use]
    pub fn client_ref(&self) -> Option<&str> {
        self.parts.client_ref.as_deref()
    }

    /// The stage of its life. A held lock that its principal has yet to claim is [`LockState::Offered`].
    #[must_use]
    pub fn state(&self) -> LockState {
        match (self.life.state, self.parts.claim) {
            (LockState::Held, Claim::Open) => LockState::Offered,
            (state, _) => state,
        }
    }

    /// Whether its principal has its token.
    #[must_use]
    pub fn claim(&self) -> Claim {
        self.parts.claim
    }

    /// When it was granted.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.life.created_at
    }

    /// When it ends unless refreshed; none when it is endless.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.life.expires_at
    }

    /// How many seconds were left when the store answered, rounded up; none when it is endless.
    #[must_use]
    pub fn expires_in(&self) -> Option<u64> {
        self.life.expires_at.map(|time| time.seconds_from(self.life.seen_at))
    }

    /// Larger than that of every overlapping lock granted before. A database that refuses a smaller number than it has
    /// seen for a resource is safe against stalled writers.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.life.generation
    }

    /// Whether a write that this lock answers for is in flight.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.life.in_use
    }

    /// What never changes about it.
    #[must_use]
    pub fn parts(&self) -> &Arc<LockParts> {
        &self.parts
    }

    /// What changes about it.
    #[must_use]
    pub fn life(&self) -> &LockLife {
        &self.life
    }
}

impl PartialEq for Lock {
    fn eq(&self, other: &Self) -> bool {
        self.life == other.life && (Arc::ptr_eq(&self.parts, &other.parts) || self.parts == other.parts)
    }
}

impl Eq for Lock {}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("parts", &*self.parts).field("life", &self.life).finish()
    }
}

/// Why a lock is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostCause {
    /// It was not refreshed in time, or its total life was over.
    Expired,
    /// Its holder released it.
    Released,
    /// Somebody who may broke it.
    Broken,
    /// Another lock took its place in one step.
    Replaced,
    /// The resource it was rooted at was deleted, moved away or overwritten.
    ResourceGone,
    /// It lives, but nothing that this request touches is covered by it.
    OutOfScope,
    /// The store knows no such lock: it never was, or ended too long ago to be remembered, or belongs to somebody else.
    Unknown,
}

impl LostCause {
    /// The cause as one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Released => "released",
            Self::Broken => "broken",
            Self::Replaced => "replaced",
            Self::ResourceGone => "resource_gone",
            Self::OutOfScope => "out_of_scope",
            Self::Unknown => "unknown",
        }
    }
}

impl serde::Serialize for LostCause {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a store remembers of a lock that a caller still believes in. Told to the principal that held it, and only
/// against its token; everybody else gets [`LostCause::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostLock {
    /// Why it is gone.
    pub cause: LostCause,
    /// Its public handle, where known.
    pub id: Option<LockId>,
    /// What it was rooted at, where known.
    pub root: Option<ResourceKey<'static>>,
    /// When it ended, where known; for a break whose grace period runs, when it will.
    pub at: Option<Timestamp>,
    /// Who ended it, if it was somebody else.
    pub actor: Option<Principal>,
    /// Why, in the words of who ended it.
    pub reason: Option<Arc<str>>,
}

impl LostLock {
    /// A lock of which only the cause is known.
    #[must_use]
    pub const fn new(cause: LostCause) -> Self {
        Self { cause, id: None, root: None, at: None, actor: None, reason: None }
    }

    /// A lock that still lives, but not for what was asked.
    #[must_use]
    pub fn out_of_scope(lock: &Lock) -> Self {
        Self { id: Some(lock.id()), root: Some(lock.root().clone()), ..Self::new(LostCause::OutOfScope) }
    }
}
