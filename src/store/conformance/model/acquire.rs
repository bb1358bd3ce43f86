//! How the model grants locks: used tokens, replaced locks, conflicts, quotas, writes in flight, in this order.

use std::{sync::Arc, time::Duration};

use super::state::{Cooling, Ending, Held, Mark, State};
use crate::{
    lock::{
        HolderClaim, Lock, LockId, LockKind, LockParts, LostCause, LostLock, Principal, Timestamp, TokenDigest, TokenKey,
        rules,
    },
    store::{Acquire, Acquired, Conflict, LockEvent, QuotaExceeded, Replaces},
};

/// What comes of the first look.
pub(super) enum Start {
    Answer(Acquired),
    /// A mark was set, with this serial number and deadline.
    Marked(u64, Timestamp),
}

type New = (Arc<LockParts>, TokenDigest);
/// The locks to be replaced and how they end, and those among them that only one may replace.
type Replaced = (Vec<(LockId, Ending)>, Vec<LockId>);

impl State {
    pub(super) fn acquire(&mut self, request: &Acquire<'_>, key: &TokenKey, now: Timestamp) -> Start {
        let new: Vec<New> = request.locks.iter().map(|lock| (lock.parts.clone(), key.digest(&lock.token))).collect();
        if let Some(answer) = self.used(&new, request, now) {
            return Start::Answer(answer);
        }
        let (replaces, once) = match self.replaced(request, key, now) {
            Ok(replaces) => replaces,
            Err(answer) => return Start::Answer(answer),
        };
        let mark = Mark {
            serial: self.serial,
            locks: new,
            replaces,
            once,
            lifetime: request.lifetime,
            quota: request.quota,
            drain: request.drain,
            created_at: now,
            deadline: now.after(request.drain),
            within: request.within,
        };
        self.serial += 1;
        if let Some(conflict) = self.conflicts(&mark, request.blockers, now) {
            return Start::Answer(Acquired::Conflict(conflict));
        }
        if let Some(exceeded) = self.over_quota(&mark) {
            return Start::Answer(Acquired::OverQuota(exceeded));
        }
        if !self.waits(&mark) {
            return Start::Answer(Acquired::Granted(self.grant(mark, now)));
        }
        match self.cooling_for(&mark, now) {
            Some(retry_after) => Start::Answer(Acquired::Busy { retry_after }),
            None if request.drain.is_zero() => Start::Answer(Acquired::Busy { retry_after: Duration::from_secs(1) }),
            None => {
                let (serial, deadline) = (mark.serial, mark.deadline);
                self.marks.push(mark);
                Start::Marked(serial, deadline)
            }
        }
    }

    /// Whether a mark can be granted, is over, or waits on.
    pub(super) fn settle(&mut self, serial: u64, now: Timestamp) -> Option<Acquired> {
        let Some(at) = self.marks.iter().position(|mark| mark.serial == serial) else {
            return Some(Acquired::Busy { retry_after: Duration::from_secs(1) });
        };
        if self.waits(&self.marks[at]) {
            return None;
        }
        // What only one may replace has to be there still.
        let there = |id: &LockId| self.locks.iter().any(|lock| lock.parts.id == *id && lock.breaking.is_none());
        if !self.marks[at].once.iter().all(there) {
            self.marks.remove(at);
            return Some(Acquired::Lost(vec![LostLock::new(LostCause::Unknown)]));
        }
        let mark = self.marks.remove(at);
        // Its tokens may have been given back while it waited. A lock to be replaced that has ended meanwhile needs no end:
        // the mark kept everybody else out.
        let used: Vec<LostLock> =
            mark.locks.iter().filter_map(|(parts, digest)| self.gone(parts, *digest, parts.principal.as_ref())).collect();
        if !used.is_empty() {
            return Some(Acquired::Lost(used));
        }
        Some(Acquired::Granted(self.grant(mark, now)))
    }

    /// Takes a mark away that nobody waits for any more.
    pub(super) fn withdraw(&mut self, serial: u64) {
        self.marks.retain(|mark| mark.serial != serial);
    }

    fn used(&self, new: &[New], request: &Acquire<'_>, now: Timestamp) -> Option<Acquired> {
        let live = |digest: TokenDigest| self.locks.iter().find(|lock| lock.digest == digest);
        let found: Vec<Option<&Held>> = new.iter().map(|(_, digest)| live(*digest)).collect();
        let same = |old: &LockParts, parts: &LockParts| {
            old.principal == parts.principal && (&old.root, old.scope, old.depth) == (&parts.root, parts.scope, parts.depth)
        };
        let repeats = |(lock, (parts, _)): (&Option<&Held>, &New)| lock.is_some_and(|lock| same(&lock.parts, parts));
        // The same acquire, while the first still waits: there is no lock yet to answer with.
        let waits = |(parts, digest): &New| {
            self.marks.iter().flat_map(|mark| &mark.locks).any(|(old, other)| other == digest && same(old, parts))
        };
        if new.iter().all(waits) {
            return Some(Acquired::Busy { retry_after: Duration::from_secs(1) });
        }
        if found.iter().zip(new).all(repeats) {
            return Some(Acquired::Repeated(found.into_iter().flatten().map(|lock| self.snapshot(lock, now)).collect()));
        }
        let gone = new.iter().zip(&found).filter(|pair| !repeats((pair.1, pair.0)));
        let lost: Vec<LostLock> =
            gone.filter_map(|((parts, digest), _)| self.gone(parts, *digest, request.principal)).collect();
        if !lost.is_empty() {
            return Some(Acquired::Lost(lost));
        }
        let id_in_use = |id: LockId| {
            self.locks.iter().map(|lock| &lock.parts).any(|parts| parts.id == id)
                || self.marks.iter().flat_map(|mark| &mark.locks).any(|(parts, _)| parts.id == id)
        };
        let pending = |digest: TokenDigest| self.marks.iter().flat_map(|mark| &mark.locks).any(|lock| lock.1 == digest);
        if found.iter().any(Option::is_some) || new.iter().any(|(parts, digest)| id_in_use(parts.id) || pending(*digest)) {
            return Some(Acquired::Taken);
        }
        None
    }

    /// What is known of a proposed token or id that is used up.
    fn gone(&self, parts: &LockParts, digest: TokenDigest, asker: Option<&Principal>) -> Option<LostLock> {
        if self.graves.iter().any(|grave| grave.digest == digest) {
            return Some(self.lost(digest, asker));
        }
        let id_used = self.graves.iter().filter_map(|grave| grave.parts.as_ref()).any(|dead| dead.id == parts.id);
        id_used.then(|| LostLock::new(LostCause::Unknown))
    }

    fn replaced(&self, request: &Acquire<'_>, key: &TokenKey, now: Timestamp) -> Result<Replaced, Acquired> {
        let mut replaced = Vec::new();
        let (mut once, mut lost) = (Vec::new(), Vec::new());
        for replaces in request.replaces {
            match replaces {
                Replaces::Held(token) => {
                    let digest = key.digest(token);
                    let Some(lock) = self.locks.iter().find(|lock| lock.digest == digest) else {
                        lost.push(self.lost(digest, request.principal));
                        continue;
                    };
                    if let Some(broken) = &lock.breaking {
                        // Nobody slips out of a break by replacing what is being broken.
                        let own = lock.parts.principal.as_ref() == request.principal;
                        lost.push(LostLock::new(if own { broken.cause } else { LostCause::Unknown }));
                        continue;
                    }
                    let seen = self.snapshot(lock, now);
                    if !request.proof.answers(&HolderClaim::new(&seen, true, request.principal)) {
                        return Err(Acquired::NotHolder);
                    }
                    replaced.push((lock.parts.id, Ending::by_itself(LostCause::Replaced)));
                }
                Replaces::Own { id } => {
                    let Some(lock) = self.locks.iter().find(|lock| lock.parts.id == *id && lock.breaking.is_none()) else {
                        lost.push(LostLock::new(LostCause::Unknown));
                        continue;
                    };
                    let theirs = request.principal.is_some() && lock.parts.principal.as_ref() == request.principal;
                    if !theirs || lock.parts.kind == LockKind::Freeze {
                        return Err(Acquired::NotHolder);
                    }
                    once.push(*id);
                    replaced.push((*id, Ending::by_itself(LostCause::Replaced)));
                }
                Replaces::Broken { id, reason } => {
                    if self.digest_of(*id).is_none() {
                        lost.push(LostLock::new(LostCause::Unknown));
                        continue;
                    }
                    let reason = Some(Arc::from(*reason));
                    replaced.push((*id, Ending { cause: LostCause::Broken, actor: request.principal.cloned(), reason }));
                }
            }
        }
        if lost.is_empty() { Ok((replaced, once)) } else { Err(Acquired::Lost(lost)) }
    }

    fn conflicts(&self, mark: &Mark, limit: usize, now: Timestamp) -> Option<Conflict> {
        let stays = |lock: &Lock| !mark.replaces.iter().any(|(id, _)| *id == lock.id());
        let clashes = |lock: &Lock| mark.locks.iter().any(|(parts, _)| rules::conflict(parts, lock.parts()));
        let mut blockers: Vec<Lock> = self.everything(now).into_iter().filter(|lock| stays(lock) && clashes(lock)).collect();
        if blockers.is_empty() {
            return None;
        }
        let truncated = blockers.len() > limit;
        blockers.truncate(limit);
        Some(Conflict { blockers, truncated })
    }

    /// Marks count: what is coming will be there.
    fn over_quota(&self, mark: &Mark) -> Option<QuotaExceeded> {
        let replaced = |id: LockId| mark.replaces.iter().any(|(other, _)| *other == id);
        let held = self.locks.iter().map(|lock| &lock.parts);
        let coming = self.marks.iter().flat_map(|mark| &mark.locks).map(|(parts, _)| parts);
        let others: Vec<&Arc<LockParts>> = held.chain(coming).filter(|parts| !replaced(parts.id)).collect();
        let principal = &mark.locks.first()?.0.principal;
        let own = others.iter().filter(|parts| parts.principal == *principal).count();
        if own + mark.locks.len() > mark.quota.principal {
            return Some(QuotaExceeded::Principal);
        }
        (others.len() + mark.locks.len() > mark.quota.store).then_some(QuotaExceeded::Store)
    }

    /// Whether a write is running that the locks to come would refuse, were it asked for now: a shared lock that has ended
    /// vouches for nothing any more.
    fn waits(&self, mark: &Mark) -> bool {
        self.writes.iter().filter(|write| Some(write.id) != mark.within).any(|write| {
            let own: Vec<Arc<LockParts>> =
                write.own.iter().filter(|own| self.digest_of(own.id).is_some()).cloned().collect();
            mark.locks.iter().any(|(parts, _)| rules::would_refuse(parts, &write.targets, &own))
        })
    }

    fn cooling_for(&self, mark: &Mark, now: Timestamp) -> Option<Duration> {
        let overlaps = |cooling: &&Cooling| {
            let old = (&cooling.parts.root, cooling.parts.depth);
            mark.locks.iter().any(|(parts, _)| rules::overlap(old, (&parts.root, parts.depth)))
        };
        self.cooling.iter().filter(overlaps).map(|cooling| cooling.until.since(now)).max()
    }

    fn grant(&mut self, mark: Mark, now: Timestamp) -> Vec<Lock> {
        for (id, ending) in mark.replaces {
            if let Some(at) = self.locks.iter().position(|lock| lock.parts.id == id) {
                let old = self.locks.remove(at);
                self.bury(old, ending, now);
            }
        }
        let mut granted = Vec::new();
        for (parts, digest) in mark.locks {
            self.generation += 1;
            let cap = mark.lifetime.total.map(|total| now.after(total));
            let end = mark.lifetime.span.map(|span| now.after(span));
            let lock = Held {
                parts,
                digest,
                created_at: now,
                expires_at: earlier(end, cap),
                cap,
                most: mark.lifetime.most,
                last: mark.lifetime.span,
                generation: self.generation,
                breaking: None,
            };
            granted.push(self.snapshot(&lock, now));
            self.locks.push(lock);
        }
        for lock in &granted {
            self.tell(&LockEvent::Granted(lock.clone()));
        }
        granted
    }
}

/// The earlier of two ends; none is never.
pub(super) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
