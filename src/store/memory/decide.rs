//! What becomes of a write that a lock may stand in the way of.
//!
//! It is decided and registered under the table's read lock, which no acquire shares: each finds it either not there, and
//! it will find the acquire's marks, or registered, with the locks that answer for it.

use std::{collections::HashSet, ops::ControlFlow};

use smallvec::SmallVec;

use super::{
    core::Core,
    graveyard::Asker,
    inflight::Answering,
    table::{Node, Table},
};
use crate::{
    lock::{
        Depth, Effect, HolderClaim, HolderProof, Lock, LockId, LockKind, LockScope, LockToken, LostCause, LostLock,
        ResourceKey, Timestamp, TokenDigest,
        rules::{self, Answer},
    },
    store::{Admitted, Permit, Refused, Verdict, Write},
};

/// What a caller sent, digested before any lock is taken.
type Digests = SmallVec<[TokenDigest; 4]>;

impl Core {
    #[cold]
    #[inline(never)]
    pub(super) fn decide(&self, write: &Write<'_>) -> Verdict {
        let digests: Digests = write.conditions.tokens().iter().map(|token| self.key.digest(token)).collect();
        loop {
            let table = self.table.read();
            let case = Case { core: self, table: &table, now: self.now(), write, digests: &digests };
            let lost = case.condition();
            let (touched, slots) = case.touched();
            let submitted = case.submitted();
            let answers = rules::answers(&touched, write.targets, write.principal, write.proof, |lock| {
                submitted.iter().any(|(_, id)| *id == lock.id())
            });
            if lost.is_some() || !answers.admit() {
                return Verdict::Refused(Box::new(Refused::of(lost, touched, &answers.each, write.blockers)));
            }
            let own = slots.iter().zip(&answers.each).filter(|(_, answer)| **answer == Answer::Own).map(|(slot, _)| *slot);
            // One of them ended by another's word since it was looked at: look again, it is gone.
            let Some(answering) = case.pin(own) else { continue };
            return Verdict::Admitted(case.admitted(answering, &slots));
        }
    }
}

/// One write before the table.
struct Case<'c> {
    core: &'c Core,
    table: &'c Table,
    now: Timestamp,
    write: &'c Write<'c>,
    digests: &'c [TokenDigest],
}

impl Case<'_> {
    /// The granted lock that a digest stands for, if it counts.
    fn held(&self, digest: &TokenDigest) -> Option<u32> {
        let slot = self.table.by_token(digest)?;
        self.table.records.get(slot)?.held(self.now).then_some(slot)
    }

    fn lock(&self, slot: u32) -> Option<Lock> {
        Some(self.table.records.get(slot)?.snapshot(self.now, self.core.lease))
    }

    /// The granted locks whose tokens were submitted.
    fn submitted(&self) -> SmallVec<[(u32, LockId); 4]> {
        let held = self.digests.iter().filter_map(|digest| self.held(digest));
        held.filter_map(|slot| Some((slot, self.table.records.get(slot)?.parts.id))).collect()
    }

    /// What was lost, if a condition is false.
    fn condition(&self) -> Option<Vec<LostLock>> {
        let conditions = self.write.conditions;
        if conditions.is_empty() {
            return None;
        }
        let digest_of =
            |token: &LockToken| conditions.tokens().iter().position(|other| other == token).map(|at| &self.digests[at]);
        let matches = |token: &LockToken, key: &ResourceKey<'_>| {
            let record = digest_of(token).and_then(|digest| self.held(digest)).and_then(|slot| self.table.records.get(slot));
            record.is_some_and(|record| rules::covers(&record.parts.root, record.parts.depth, key))
        };
        let its_own =
            |token: &LockToken| digest_of(token).and_then(|digest| self.held(digest)).is_some_and(|slot| self.its_own(slot));
        let failed = conditions.failed_on_write(matches, its_own);
        let lost = failed?.iter().filter_map(digest_of).map(|digest| self.lost(digest)).collect();
        Some(lost)
    }

    /// Whether a submitted lock is the caller's and covers something that the write changes.
    fn its_own(&self, slot: u32) -> bool {
        let Some(lock) = self.lock(slot) else { return false };
        self.is_held(&lock) && self.write.targets.iter().any(|target| rules::touches(lock.root(), lock.depth(), target))
    }

    /// Whether a submitted lock is the caller's.
    fn is_held(&self, lock: &Lock) -> bool {
        self.write.proof.holds(&HolderClaim::new(lock, true, self.write.principal))
    }

    fn lost(&self, digest: &TokenDigest) -> LostLock {
        match self.held(digest).and_then(|slot| self.lock(slot)) {
            None => self.table.lost(digest, Asker::Principal(self.write.principal), self.now),
            Some(lock) if lock.principal() == self.write.principal || self.is_held(&lock) => LostLock::out_of_scope(&lock),
            Some(_) => LostLock::new(LostCause::Unknown),
        }
    }

    /// The locks and marks that the write touches, those it may answer for first; of the others no more than are named
    /// in a refusal and one.
    fn touched(&self) -> (Vec<Lock>, Vec<u32>) {
        let mut found = Found::default();
        let mut vouching = false;
        for slot in self.own() {
            let Some(lock) = self.lock(slot) else { continue };
            vouching |= lock.scope() == LockScope::Shared;
            found.add(slot, lock);
        }
        let mut hopeless = 0;
        let _ = self.each_touched(&mut |slot| {
            let Some(lock) = self.table.records.get(slot).filter(|record| record.live(self.now)) else {
                return ControlFlow::Continue(());
            };
            if found.seen.contains(&slot) {
                return ControlFlow::Continue(());
            }
            let shared = lock.parts.scope == LockScope::Shared && lock.parts.kind != LockKind::Freeze;
            let lock = lock.snapshot(self.now, self.core.lease);
            found.add(slot, lock);
            hopeless += usize::from(!(vouching && shared));
            if hopeless > self.write.blockers { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (found.locks, found.slots)
    }

    /// The locks that the write touches and answers for with their own tokens.
    fn own(&self) -> Vec<u32> {
        let submitted = self.submitted();
        let mut own = Vec::new();
        let mut consider = |slot: u32| {
            let Some(record) = self.table.records.get(slot).filter(|record| record.held(self.now)) else { return };
            let (root, depth) = (&record.parts.root, record.parts.depth);
            let lock = record.snapshot(self.now, self.core.lease);
            let claim = HolderClaim::new(&lock, submitted.iter().any(|(other, _)| *other == slot), self.write.principal);
            let touched = self.write.targets.iter().any(|target| rules::touches(root, depth, target));
            if touched && self.write.proof.answers(&claim) && !own.contains(&slot) {
                own.push(slot);
            }
        };
        match self.write.proof {
            HolderProof::TokenAndPrincipal | HolderProof::Token => {
                submitted.iter().for_each(|(slot, _)| consider(*slot));
            }
            HolderProof::Principal => {
                self.table.of_principal(self.write.principal).iter().for_each(|slot| consider(*slot));
            }
            // A function may say anything of any lock, so all that are touched have to be shown to it.
            HolderProof::Custom(_) => {
                let _ = self.each_touched(&mut |slot| {
                    consider(slot);
                    ControlFlow::Continue(())
                });
            }
        }
        own
    }

    /// Every lock and mark that a target touches, ended ones included; one that several touch comes several times.
    fn each_touched(&self, each: &mut dyn FnMut(u32) -> ControlFlow<()>) -> ControlFlow<()> {
        for target in self.write.targets {
            let mut visit = |node: &Node| {
                for depth in [Depth::Infinity, Depth::Zero] {
                    if !node.of(depth).is_empty() && rules::touches(node.root(), depth, target) {
                        node.of(depth).iter().try_for_each(|slot| each(*slot))?;
                    }
                }
                ControlFlow::Continue(())
            };
            for node in self.table.above(&self.core.filter, &target.key) {
                visit(node)?;
            }
            let whole = self.core.filter.seed.whole(&target.key);
            if target.effect == Effect::Unlink && self.core.filter.may_have_below(&whole) {
                for node in self.table.below(&target.key, None) {
                    visit(node)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Pins the locks that answer; none when one of them has ended.
    fn pin(&self, own: impl Iterator<Item = u32>) -> Option<Vec<Answering>> {
        let mut answering: Vec<Answering> = Vec::new();
        if self.core.registry.is_none() {
            return Some(answering);
        }
        for slot in own {
            let Some(record) = self.table.records.get(slot) else { continue };
            if record.pins.pin().is_err() {
                answering.iter().for_each(|lock| lock.pins.unpin());
                return None;
            }
            answering.push(Answering { parts: record.parts.clone(), pins: record.pins.clone() });
        }
        Some(answering)
    }

    /// Registers the write, still under the table's lock: no acquire comes in between.
    fn admitted(&self, answering: Vec<Answering>, touched: &[u32]) -> Admitted {
        let generation = self.core.generation();
        let permit = match &self.core.registry {
            Some(registry) => registry.register(self.write.targets, generation, answering),
            None => Permit::unguarded(generation),
        };
        // Read again: those that answer are in use now.
        let answered: Box<[Lock]> = touched.iter().filter_map(|slot| self.lock(*slot)).collect();
        Admitted { permit, answered: (!answered.is_empty()).then_some(answered) }
    }
}

#[derive(Default)]
struct Found {
    locks: Vec<Lock>,
    slots: Vec<u32>,
    seen: HashSet<u32>,
}

impl Found {
    fn add(&mut self, slot: u32, lock: Lock) {
        if self.seen.insert(slot) {
            self.locks.push(lock);
            self.slots.push(slot);
        }
    }
}
