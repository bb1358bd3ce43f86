//! `Write`, what a store is asked before a write, and `Verdict`, what it answers.

use super::Permit;
use crate::{
    lock::{HolderProof, Lock, LostLock, Principal, Target, rules::Answer},
    request::Conditions,
};

/// What a store is asked before a write.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Write<'a> {
    /// What the write may change.
    pub targets: &'a [Target<'a>],
    /// What must be true, and which tokens were submitted.
    pub conditions: &'a Conditions<'a>,
    /// Who writes.
    pub principal: Option<&'a Principal>,
    /// What proves that a caller holds a lock.
    pub proof: &'a HolderProof,
    /// How many blocking locks to name at most; the default is 100.
    pub blockers: usize,
    pub(in crate::store) sight: Sight,
}

/// What the store has said of a write before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Sight {
    /// Nothing: it was not asked.
    Unseen,
    /// [`LockStore::let_through`](super::LockStore::let_through) gave nothing, a moment ago.
    NotLetThrough,
}

impl<'a> Write<'a> {
    /// An anonymous write of `targets` under `conditions`.
    #[must_use]
    pub const fn new(targets: &'a [Target<'a>], conditions: &'a Conditions<'a>) -> Self {
        Self {
            targets,
            conditions,
            principal: None,
            proof: &HolderProof::TokenAndPrincipal,
            blockers: 100,
            sight: Sight::Unseen,
        }
    }

    /// The same write by `principal`.
    #[must_use]
    pub const fn by(mut self, principal: Option<&'a Principal>) -> Self {
        self.principal = principal;
        self
    }

    /// The same write, where `proof` proves a holder.
    #[must_use]
    pub const fn proven_by(mut self, proof: &'a HolderProof) -> Self {
        self.proof = proof;
        self
    }

    /// The same write, of which [`LockStore::let_through`](super::LockStore::let_through) has just said nothing: the look that
    /// found something in its way need not be taken again. It makes no difference to the answer.
    #[must_use]
    pub const fn not_let_through(mut self) -> Self {
        self.sight = Sight::NotLetThrough;
        self
    }

    /// The same write, naming at most `limit` blocking locks.
    #[must_use]
    pub const fn naming(mut self, limit: usize) -> Self {
        self.blockers = limit;
        self
    }
}

/// What becomes of a write.
#[derive(Debug)]
#[must_use = "the write counts as ended once its permit is dropped"]
pub enum Verdict {
    /// It may go on.
    Admitted(Admitted),
    /// It may not: 412 `lock_lost` when a condition was false, else 423 `locked`.
    Refused(Box<Refused>),
}

/// A write that may go on.
#[derive(Debug)]
pub struct Admitted {
    /// Keeps it registered as in flight.
    pub permit: Permit,
    /// The locks that it touches and answered for; nothing where none stood in the way.
    pub answered: Option<Box<[Lock]>>,
}

/// Why a write may not go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The locks that block, also where a condition was false, up to the limit.
    pub blockers: Vec<Lock>,
    /// Whether there are more than those.
    pub truncated: bool,
    /// Whether a condition was false.
    pub condition_failed: bool,
    /// The locks that the caller believes in and that a false condition names, and why they are none.
    pub lost: Vec<LostLock>,
}

impl Refused {
    /// The refusal of a write that touches `touched` and stands to them as `each` says; `lost` where a condition was
    /// false. Names at most `limit` locks.
    pub(in crate::store) fn of(lost: Option<Vec<LostLock>>, touched: Vec<Lock>, each: &[Answer], limit: usize) -> Self {
        let blocks = touched.into_iter().zip(each).filter(|(_, answer)| **answer == Answer::Refused);
        let mut blockers: Vec<Lock> = blocks.map(|(lock, _)| lock).collect();
        let truncated = blockers.len() > limit;
        blockers.truncate(limit);
        Self { blockers, truncated, condition_failed: lost.is_some(), lost: lost.unwrap_or_default() }
    }
}

impl Verdict {
    /// The permit and what was answered for, if the write may go on.
    pub fn admitted(self) -> Option<Admitted> {
        match self {
            Self::Admitted(admitted) => Some(admitted),
            Self::Refused(_) => None,
        }
    }

    /// Why the write may not go on, if so.
    #[must_use]
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Admitted(_) => None,
            Self::Refused(refused) => Some(refused),
        }
    }
}
