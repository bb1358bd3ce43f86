//! What becomes of a write that a lock may stand in the way of.
//!
//! It is decided and registered under the table's read lock, which no acquire shares: each finds it either not there, and
//! it will find the acquire's marks, or registered, with the locks that answer for it.

use std::{collections::HashSet, ops::ControlFlow};

use smallvec::SmallVec;

use super::{core::Core, graveyard::Asker, inflight::Answering, record::Record, table::Table};
use crate::{
    lock::{
        Depth, Effect, HolderClaim, HolderProof, Lock, LockKind, LockScope, LockToken, LostCause, LostLock, ResourceKey,
        Timestamp, TokenDigest,
        rules::{self, Answer},
    },
    request::Sole,
    store::{Admitted, Permit, Refused, Verdict, Write},
};

/// What a caller sent, digested before any lock is taken.
type Digests = SmallVec<[TokenDigest; 4]>;

impl Core {
    #[inline(never)]
    pub(super) fn decide(&self, write: &Write<'_>) -> Verdict {
        match write.conditions.tokens() {
            [token] => self.decide_by(write, &[self.key.digest(token)]),
            tokens => self.decide_by(write, &tokens.iter().map(|token| self.key.digest(token)).collect::<Digests>()),
        }
    }

    // An answer is made where it is returned: moved on the way there, it would cost as much as a look at the table.
    #[inline(always)]
    fn decide_by(&self, write: &Write<'_>, digests: &[TokenDigest]) -> Verdict {
        loop {
            let table = self.table.read();
            let case = Case::new(self, &table, write, digests);
            match case.shortly() {
                Decided::So(verdict) => return verdict,
                Decided::Again => {}
                Decided::Otherwise => {
                    if let Decided::So(verdict) = case.fully() {
                        return verdict;
                    }
                }
            }
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
    /// For each digest, the granted lock that it stands for, if it counts.
    held: SmallVec<[Option<u32>; 4]>,
}

/// How far one way of deciding has come.
enum Decided {
    So(Verdict),
    /// A lock that was to answer ended by another's word since it was looked at: look again, it is gone.
    Again,
    /// This way is not for such a write.
    Otherwise,
}

impl<'c> Case<'c> {
    fn new(core: &'c Core, table: &'c Table, write: &'c Write<'c>, digests: &'c [TokenDigest]) -> Self {
        let now = core.now();
        let mut held = SmallVec::new();
        for digest in digests {
            let slot = table.by_token(digest);
            held.push(slot.filter(|slot| table.records.get(*slot).is_some_and(|record| record.held(now))));
        }
        Self { core, table, now, write, digests, held }
    }
}

impl Case<'_> {
    /// The short way, for what most writes come with: no token, or the one of the only lock they meet. Where it answers it
    /// answers as the other does, without a copy of any lock but those that are shown.
    #[inline(always)]
    fn shortly(&self) -> Decided {
        match self.held[..] {
            _ if !matches!(self.write.proof, HolderProof::TokenAndPrincipal | HolderProof::Token) => Decided::Otherwise,
            [] if self.write.conditions.is_empty() || self.failed().is_none() => self.without_token(),
            [slot] => match slot.and_then(|slot| Some((slot, self.table.records.get(slot)?))) {
                Some((slot, record)) if self.answers_plainly(record) => self.with_its_token(slot, record),
                _ => Decided::Otherwise,
            },
            _ => Decided::Otherwise,
        }
    }

    /// Of a write that answers for nothing and whose conditions are true.
    #[inline(never)]
    fn without_token(&self) -> Decided {
        let (mut slots, mut blockers) = (SmallVec::<[u32; 8]>::new(), Vec::new());
        let _ = self.each_touched(|slot| {
            let Some(record) = self.table.records.get(slot).filter(|record| record.live(self.now)) else {
                return ControlFlow::Continue(());
            };
            if !slots.contains(&slot) {
                slots.push(slot);
                blockers.push(record.snapshot(self.now, self.core.lease));
            }
            if blockers.len() > self.write.blockers { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if blockers.is_empty() {
            return self.admit(&[], &[]);
        }
        let truncated = blockers.len() > self.write.blockers;
        blockers.truncate(self.write.blockers);
        Decided::So(Verdict::Refused(Box::new(Refused { blockers, truncated, ..Refused::default() })))
    }

    /// Of a write whose one token is that of the lock in `slot`, for which it answers.
    #[inline(always)]
    fn with_its_token(&self, slot: u32, record: &Record) -> Decided {
        let conditions = self.write.conditions;
        let (covers, demanded) = match conditions.sole() {
            Some(Sole { resource, demanded }) => {
                let covers = |key: &ResourceKey<'_>| rules::covers(&record.parts.root, record.parts.depth, key);
                (resource.is_none_or(covers), demanded)
            }
            None => (self.failed().is_none(), false),
        };
        if !covers {
            return Decided::Otherwise;
        }
        if self.is_alone(record) {
            return self.admit_under(record);
        }
        let mut met = false;
        // Its token may answer for another lock as well, or that may be in the way: that is for the other way.
        let alone = self.each_touched(|other| {
            met |= other == slot;
            let counts = || self.table.records.get(other).is_some_and(|record| record.live(self.now));
            if other != slot && counts() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match alone {
            ControlFlow::Continue(()) if met => self.admit_under(record),
            // What is demanded is that it covers something that is written.
            ControlFlow::Continue(()) if !demanded => self.admit(&[], &[]),
            _ => Decided::Otherwise,
        }
    }

    /// Whether a lock that lives touches what is written, and surely no other does that lives.
    ///
    /// What is written lies under it. Whatever else touched that would cover a part of it, so would overlap with the lock, and
    /// does not live beside it. Where what is written is the lock's root itself, its parent does not lie under the lock: a lock
    /// of depth zero there would protect its membership. One that reaches down from there, or further up, covers the root.
    fn is_alone(&self, record: &Record) -> bool {
        let (root, depth) = (&record.parts.root, record.parts.depth);
        depth == Depth::Infinity
            && record.excludes_others()
            && self.table.all_reach_down()
            && !self.write.targets.is_empty()
            && self.write.targets.iter().all(|target| rules::covers(root, depth, &target.key))
    }

    /// The general way, for every write.
    #[cold]
    #[inline(never)]
    fn fully(&self) -> Decided {
        let lost = self.condition();
        let (touched, slots) = self.touched();
        let answers = rules::answers(&touched, self.write.targets, self.write.principal, self.write.proof, |lock| {
            self.submitted().any(|slot| self.table.records.get(slot).is_some_and(|record| record.parts.id == lock.id()))
        });
        if lost.is_some() || !answers.admit() {
            return Decided::So(Verdict::Refused(Box::new(Refused::of(lost, touched, &answers.each, self.write.blockers))));
        }
        let own = slots.iter().zip(&answers.each).filter(|(_, answer)| **answer == Answer::Own).map(|(slot, _)| *slot);
        let own: SmallVec<[u32; 4]> = own.collect();
        self.admit(&own, &slots)
    }

    /// The granted locks whose tokens were submitted.
    fn submitted(&self) -> impl Iterator<Item = u32> + use<'_> {
        self.held.iter().flatten().copied()
    }

    fn lock(&self, slot: u32) -> Option<Lock> {
        Some(self.table.records.get(slot)?.snapshot(self.now, self.core.lease))
    }

    /// Whether the write's token, which is that of this lock, answers for it, where no function has to be asked.
    fn answers_plainly(&self, record: &Record) -> bool {
        let plainly = self.write.proof.holds_plainly(record.parts.principal.as_ref(), true, self.write.principal);
        record.parts.kind != LockKind::Freeze && plainly == Some(true)
    }

    /// The tokens for which a condition is false.
    fn failed(&self) -> Option<Vec<LockToken>> {
        let tokens = self.write.conditions.tokens();
        let held = |token: &LockToken| {
            let at = tokens.iter().position(|other| other == token)?;
            self.held[at]
        };
        let matches = |token: &LockToken, key: &ResourceKey<'_>| {
            let record = held(token).and_then(|slot| self.table.records.get(slot));
            record.is_some_and(|record| rules::covers(&record.parts.root, record.parts.depth, key))
        };
        let its_own = |token: &LockToken| held(token).is_some_and(|slot| self.its_own(slot));
        self.write.conditions.failed_on_write(matches, its_own)
    }

    /// What was lost, if a condition is false.
    fn condition(&self) -> Option<Vec<LostLock>> {
        let failed = self.failed()?;
        let tokens = self.write.conditions.tokens();
        let lost = |token: &LockToken| tokens.iter().position(|other| other == token).map(|at| self.lost(at));
        Some(failed.iter().filter_map(lost).collect())
    }

    /// Whether a submitted lock is the caller's and covers something that the write changes.
    fn its_own(&self, slot: u32) -> bool {
        let Some(record) = self.table.records.get(slot) else { return false };
        let parts = &record.parts;
        self.write.targets.iter().any(|target| rules::touches(&parts.root, parts.depth, target))
            && match self.write.proof.holds_plainly(parts.principal.as_ref(), true, self.write.principal) {
                Some(holds) => holds,
                None => self.is_held(&record.snapshot(self.now, self.core.lease)),
            }
    }

    /// Whether a submitted lock is the caller's.
    fn is_held(&self, lock: &Lock) -> bool {
        self.write.proof.holds(&HolderClaim::new(lock, true, self.write.principal))
    }

    /// What is to be said of the token that was submitted as this one.
    fn lost(&self, at: usize) -> LostLock {
        match self.held[at].and_then(|slot| self.lock(slot)) {
            None => self.table.lost(&self.digests[at], Asker::Principal(self.write.principal), self.now),
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
        let _ = self.each_touched(|slot| {
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
        let mut own = Vec::new();
        let mut consider = |slot: u32| {
            let Some(record) = self.table.records.get(slot).filter(|record| record.held(self.now)) else { return };
            let (root, depth) = (&record.parts.root, record.parts.depth);
            let lock = record.snapshot(self.now, self.core.lease);
            let claim = HolderClaim::new(&lock, self.submitted().any(|other| other == slot), self.write.principal);
            let touched = self.write.targets.iter().any(|target| rules::touches(root, depth, target));
            if touched && self.write.proof.answers(&claim) && !own.contains(&slot) {
                own.push(slot);
            }
        };
        match self.write.proof {
            HolderProof::TokenAndPrincipal | HolderProof::Token => {
                self.submitted().for_each(&mut consider);
            }
            HolderProof::Principal => {
                self.table.of_principal(self.write.principal).iter().for_each(|slot| consider(*slot));
            }
            // A function may say anything of any lock, so all that are touched have to be shown to it.
            HolderProof::Custom(_) => {
                let _ = self.each_touched(|slot| {
                    consider(slot);
                    ControlFlow::Continue(())
                });
            }
        }
        own
    }

    /// Every lock and mark that a target touches, ended ones included; one that several touch comes several times.
    fn each_touched(&self, mut each: impl FnMut(u32) -> ControlFlow<()>) -> ControlFlow<()> {
        for target in self.write.targets {
            let whole = self.table.each_above(&self.core.filter, &target.key, |node| {
                // Rooted at the target or above it, one that reaches down touches it, whatever else the write changes.
                node.of(Depth::Infinity).iter().try_for_each(|slot| each(*slot))?;
                if !node.of(Depth::Zero).is_empty() && rules::touches(node.root(), Depth::Zero, target) {
                    node.of(Depth::Zero).iter().try_for_each(|slot| each(*slot))?;
                }
                ControlFlow::Continue(())
            })?;
            if target.effect == Effect::Unlink && self.core.filter.may_have_below(&whole) {
                for node in self.table.below(&target.key, None) {
                    for depth in [Depth::Infinity, Depth::Zero] {
                        if !node.of(depth).is_empty() && rules::touches(node.root(), depth, target) {
                            node.of(depth).iter().try_for_each(|slot| each(*slot))?;
                        }
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Lets the write go on: pins `own`, the locks that answer, and registers it, still under the table's lock, so that no
    /// acquire comes in between. `touched` are shown, those that answer in use.
    fn admit(&self, own: &[u32], touched: &[u32]) -> Decided {
        let Some(answering) = self.pin(own) else { return Decided::Again };
        let generation = self.core.generation();
        let permit = match &self.core.registry {
            Some(registry) => registry.register(self.write.targets, generation, answering),
            None => Permit::unguarded(generation),
        };
        let answered = match touched {
            [] => None,
            slots => Some(slots.iter().filter_map(|slot| self.lock(*slot)).collect()),
        };
        Decided::So(Verdict::Admitted(Admitted { permit, answered }))
    }

    /// The same for a write that one lock answers for, and that touches no other.
    #[inline(always)]
    fn admit_under(&self, record: &Record) -> Decided {
        let permit = match &self.core.registry {
            Some(registry) => {
                if record.pins.pin().is_err() {
                    return Decided::Again;
                }
                let answering = [Answering::new(&record.parts, record.pins.clone())];
                registry.register(self.write.targets, self.core.generation(), answering)
            }
            None => Permit::unguarded(self.core.generation()),
        };
        let answered = Some(Box::new([record.snapshot(self.now, self.core.lease)]) as Box<[Lock]>);
        Decided::So(Verdict::Admitted(Admitted { permit, answered }))
    }

    /// Pins the locks that answer; none when one of them has ended.
    fn pin(&self, own: &[u32]) -> Option<SmallVec<[Answering; 1]>> {
        let mut answering = SmallVec::<[Answering; 1]>::new();
        if self.core.registry.is_none() {
            return Some(answering);
        }
        for slot in own {
            let Some(record) = self.table.records.get(*slot) else { continue };
            if record.pins.pin().is_err() {
                answering.iter().for_each(|lock| lock.pins.unpin());
                return None;
            }
            answering.push(Answering::new(&record.parts, record.pins.clone()));
        }
        Some(answering)
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

#[cfg(test)]
mod tests;
