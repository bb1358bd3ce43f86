//! `Plan`: what an acquire does in one step, once no write is in its way.

use smallvec::SmallVec;

use super::{core::Edit, record::End, slab::SlotId};
use crate::{
    lock::Lock,
    store::{Acquired, Lifetime, WriteId},
};

/// A lock that ends when those which replace it are granted, and not before.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) of: SlotId,
    pub(super) end: End,
    pub(super) right: Right,
}

/// By what right a lock is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Its token.
    Holder,
    /// It is of the caller's principal. Such a lock is replaced once.
    Own,
    Break,
}

/// What is to happen once nothing stands in the way any more.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) marks: SmallVec<[SlotId; 1]>,
    pub(super) replaces: Vec<Successor>,
    pub(super) lifetime: Lifetime,
    /// The caller's own write, which is not waited for.
    pub(super) within: Option<WriteId>,
}

impl Edit<'_> {
    /// Whether what only one may replace is there still.
    pub(super) fn still_there(&mut self, plan: &Plan) -> bool {
        let mut once = plan.replaces.iter().filter(|successor| successor.right == Right::Own);
        once.all(|old| self.table.records.has(old.of) && self.replaceable(old.of.slot, Right::Own))
    }

    /// Grants what was planned: the marks become locks, and what they replace ends, in this very step.
    pub(super) fn carry_out(&mut self, plan: Plan) -> Acquired {
        self.grant_all(&plan.marks, plan.replaces, plan.lifetime)
    }

    pub(super) fn grant_all(&mut self, marks: &[SlotId], replaces: Vec<Successor>, lifetime: Lifetime) -> Acquired {
        for successor in replaces {
            // It may have ended while the marks waited, and then needs no end.
            if self.table.records.has(successor.of) && self.living(successor.of.slot).is_some() {
                self.bury(successor.of.slot, successor.end);
            }
        }
        let mut locks: Vec<Lock> = Vec::with_capacity(marks.len());
        for mark in marks {
            locks.extend(self.grant(mark.slot, lifetime));
        }
        Acquired::Granted(locks)
    }
}
