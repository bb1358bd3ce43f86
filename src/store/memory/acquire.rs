//! Granting locks: all that an acquire asks for, or none, in one step; or marks, while writes are in flight.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use smallvec::SmallVec;

use super::{
    core::{Core, Edit, breaker},
    drain::Draining,
    durable::settled,
    graveyard::Asker,
    inflight::Met,
    latch::Latch,
    plan::{Plan, Right, Successor},
    prefix::{Prefix, Prefixes},
    record::{End, Record, Rivalry, Stage},
    slab::SlotId,
    table::Table,
};
use crate::{
    lock::{Depth, HolderClaim, LockKind, LockParts, LostCause, LostLock, Timestamp, TokenDigest},
    store::{Acquire, Acquired, Conflict, NewLock, Quota, QuotaExceeded, Replaces, StoreFuture},
};

/// Ended locks in the way of an acquire that it buries; more than these only count as ended, for good.
const BURY: usize = 1024;
/// How long who may not wait is told to wait.
const A_MOMENT: Duration = Duration::from_secs(1);

/// One of the locks that are asked for, with what is worked out of it once.
struct Coming<'r> {
    new: &'r NewLock,
    digest: TokenDigest,
    /// Those of its root.
    prefixes: &'r [Prefix],
}

/// What the first step of an acquire comes to.
enum Step {
    Done(Acquired),
    Wait(Box<Wait>),
}

/// The marks stand, and writes have to end first.
struct Wait {
    plan: Plan,
    latch: Arc<Latch>,
    writes: Vec<Met>,
    /// What the clock shows.
    shown: Timestamp,
}

impl Core {
    pub(super) fn acquire(self: &Arc<Self>, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        if let Some(error) = self.overfull() {
            return StoreFuture::failed(error);
        }
        // Worked out before the table is locked; of one lock, as almost always, in place.
        match request.locks {
            [new] => self.acquire_all(request, &[self.coming(new, &self.filter.seed.all(&new.parts.root))]),
            several => {
                let prefixes: Vec<Prefixes> = several.iter().map(|new| self.filter.seed.all(&new.parts.root)).collect();
                let coming = several.iter().zip(&prefixes).map(|(new, prefixes)| self.coming(new, prefixes));
                self.acquire_all(request, &coming.collect::<Vec<_>>())
            }
        }
    }

    fn coming<'r>(&self, new: &'r NewLock, prefixes: &'r [Prefix]) -> Coming<'r> {
        Coming { new, digest: self.key.digest(&new.token), prefixes }
    }

    fn acquire_all(self: &Arc<Self>, request: &Acquire<'_>, coming: &[Coming<'_>]) -> StoreFuture<Acquired> {
        let (step, ticket) = self.edit(|edit| edit.acquire(request, coming));
        match step {
            Step::Done(answer) => settled(answer, ticket),
            Step::Wait(wait) => {
                let Wait { plan, latch, writes, shown } = *wait;
                let wake = self.clock.sleep_until(shown.after(request.drain));
                StoreFuture::new(Draining::new(self.clone(), plan, latch, writes, wake, request.drain))
            }
        }
    }
}

impl Edit<'_> {
    fn acquire(&mut self, request: &Acquire<'_>, coming: &[Coming<'_>]) -> Step {
        for Coming { new, digest, prefixes } in coming {
            self.table.touch(&self.core.filter, new.parts.id, digest, prefixes);
        }
        if let Some(answer) = self.proposals(request, coming) {
            return Step::Done(answer);
        }
        let replaces = match self.replaced(request) {
            Ok(replaces) => replaces,
            Err(answer) => return Step::Done(answer),
        };
        if let Some(conflict) = self.conflicts(request, coming, &replaces) {
            return Step::Done(Acquired::Conflict(conflict));
        }
        // The layers above refuse such a request as malformed; granting it would break G4.
        if in_its_own_way(coming) {
            return Step::Done(Acquired::Conflict(Conflict::default()));
        }
        if let Some(whose) = self.over_quota(request, &replaces) {
            return Step::Done(Acquired::OverQuota(whose));
        }
        self.announce(request, coming, replaces)
    }

    /// What the proposed tokens and ids alone decide.
    fn proposals(&mut self, request: &Acquire<'_>, coming: &[Coming<'_>]) -> Option<Acquired> {
        let asker = Asker::Principal(request.principal);
        let (mut repeated, mut pending, mut taken) = (Vec::new(), false, false);
        let mut lost = Vec::new();
        // One of a kind is not compared with others.
        let mut others = (coming.len() > 1).then(<(HashSet<_>, HashSet<_>)>::default);
        for Coming { new, digest, .. } in coming {
            let there = self.table.by_token(digest);
            let slot = there.filter(|slot| self.living(*slot).is_some());
            match slot.and_then(|slot| self.table.records.get(slot)) {
                Some(record) if same(&record.parts, &new.parts) => {
                    pending |= record.is_mark();
                    repeated.extend(slot);
                    continue;
                }
                Some(_) => taken = true,
                None if there.is_some() => lost.extend(self.table.gone(digest, asker, self.now)),
                None => lost.extend(self.table.graveyard.by_token(digest, asker, self.now)),
            }
            let id = new.parts.id;
            let there = self.table.by_id(id);
            taken |= there.is_some_and(|slot| self.living(slot).is_some());
            let gone = |table: &Table| match there {
                Some(_) => table.id_is_gone(id, self.now),
                None => table.graveyard.has_id(id, self.now),
            };
            // Ids prove nothing, so nothing is told of the lock that had this one.
            if lost.is_empty() && gone(self.table) {
                lost.push(LostLock::new(LostCause::Unknown));
            }
            taken |= others.as_mut().is_some_and(|(tokens, ids)| !tokens.insert(*digest) || !ids.insert(id));
        }
        if !lost.is_empty() {
            return Some(Acquired::Lost(lost));
        }
        if repeated.is_empty() && !taken {
            return None;
        }
        if taken || repeated.len() != request.locks.len() || twice(&repeated) {
            return Some(Acquired::Taken);
        }
        if pending {
            return Some(Acquired::Busy { retry_after: A_MOMENT });
        }
        let locks = repeated.into_iter().filter_map(|slot| self.snapshot(slot)).collect();
        Some(Acquired::Repeated(locks))
    }

    /// The locks to be replaced, if the caller may replace them.
    fn replaced(&mut self, request: &Acquire<'_>) -> Result<Vec<Successor>, Acquired> {
        let mut replaces: Vec<Successor> = Vec::new();
        for replaced in request.replaces {
            let (slot, end, right) = match replaced {
                Replaces::Held(token) => {
                    let digest = self.core.key.digest(token);
                    let slot = self.table.by_token(&digest).filter(|slot| self.replaceable(*slot, Right::Holder));
                    let Some(slot) = slot else {
                        let lost = self.table.lost(&digest, Asker::Principal(request.principal), self.now);
                        return Err(Acquired::Lost(vec![lost]));
                    };
                    let held = self.snapshot(slot);
                    let its_own =
                        held.is_some_and(|lock| request.proof.answers(&HolderClaim::new(&lock, true, request.principal)));
                    if !its_own {
                        return Err(Acquired::NotHolder);
                    }
                    (slot, End::Replaced, Right::Holder)
                }
                Replaces::Own { id } => {
                    let slot = self.table.by_id(*id).filter(|slot| self.replaceable(*slot, Right::Own));
                    let Some(slot) = slot else {
                        return Err(Acquired::Lost(vec![LostLock::new(LostCause::Unknown)]));
                    };
                    let theirs = |record: &Record| {
                        record.parts.principal.as_ref() == request.principal && record.parts.kind != LockKind::Freeze
                    };
                    if request.principal.is_none() || !self.table.records.get(slot).is_some_and(theirs) {
                        return Err(Acquired::NotHolder);
                    }
                    (slot, End::Replaced, Right::Own)
                }
                Replaces::Broken { id, reason } => {
                    let slot = self.table.by_id(*id).filter(|slot| self.replaceable(*slot, Right::Break));
                    let Some(slot) = slot else {
                        return Err(Acquired::Lost(vec![LostLock::new(LostCause::Unknown)]));
                    };
                    (slot, End::Broken(breaker(request.principal, reason)), Right::Break)
                }
            };
            replaces.push(Successor { of: self.table.records.id(slot), end, right });
        }
        Ok(replaces)
    }

    /// Whether a lock may be replaced at all: it is granted and lives, and its holder does not slip out of a break.
    pub(super) fn replaceable(&mut self, slot: u32, right: Right) -> bool {
        self.living(slot).is_some_and(|record| match record.stage {
            Stage::Pending => false,
            Stage::Held => true,
            Stage::Breaking(_) => right == Right::Break,
        })
    }

    /// The locks and marks in the way, those to be replaced aside. Ended ones are buried.
    fn conflicts(&mut self, request: &Acquire<'_>, coming: &[Coming<'_>], replaces: &[Successor]) -> Option<Conflict> {
        let (filter, table) = (&self.core.filter, &*self.table);
        if coming.iter().all(|coming| Table::has_room(filter, &coming.new.parts, coming.prefixes)) {
            return None;
        }
        let in_the_way = |coming: &Coming<'_>| table.in_the_way(filter, &coming.new.parts, coming.prefixes);
        let spared: HashSet<u32> = replaces.iter().map(|successor| successor.of.slot).collect();
        let (mut live, mut ended): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        'all: for coming in coming {
            for slot in in_the_way(coming) {
                let Some(record) = table.records.get(slot).filter(|_| !spared.contains(&slot)) else { continue };
                if record.live(self.now) {
                    if seen.insert(slot) {
                        live.push(slot);
                    }
                    if live.len() > request.blockers {
                        break 'all;
                    }
                } else if ended.len() < BURY && seen.insert(slot) {
                    ended.push(slot);
                }
            }
        }
        for slot in ended {
            self.bury(slot, End::Itself);
        }
        if live.is_empty() {
            return None;
        }
        let truncated = live.len() > request.blockers;
        live.truncate(request.blockers);
        Some(Conflict { blockers: live.into_iter().filter_map(|slot| self.snapshot(slot)).collect(), truncated })
    }

    /// Whose quota the new locks would break. Marks count, locks to be replaced do not.
    fn over_quota(&mut self, request: &Acquire<'_>, replaces: &[Successor]) -> Option<QuotaExceeded> {
        if request.quota == Quota::UNLIMITED {
            return None;
        }
        let principal = &request.locks.first()?.parts.principal;
        loop {
            let spared = |whose: &dyn Fn(&LockParts) -> bool| {
                if replaces.is_empty() {
                    return 0;
                }
                let slots: HashSet<u32> = replaces.iter().map(|successor| successor.of.slot).collect();
                slots.iter().filter_map(|slot| self.table.records.get(*slot)).filter(|record| whose(&record.parts)).count()
            };
            let new = request.locks.len();
            let theirs = self.table.of_principal(principal.as_ref()).len() - spared(&|parts| parts.principal == *principal);
            let all = self.table.records.len() - spared(&|_| true);
            let exceeded = if theirs.saturating_add(new) > request.quota.principal {
                QuotaExceeded::Principal
            } else if all.saturating_add(new) > request.quota.store {
                QuotaExceeded::Store
            } else {
                return None;
            };
            // Ended locks use up nothing.
            if self.table.next_due(self.now).is_some() {
                self.prune(BURY);
            } else if self.bury_released_late() == 0 {
                return Some(exceeded);
            }
        }
    }

    /// Sets the marks, and grants at once where no write is in the way.
    fn announce(&mut self, request: &Acquire<'_>, coming: &[Coming<'_>], replaces: Vec<Successor>) -> Step {
        let parts: SmallVec<[&LockParts; 1]> = coming.iter().map(|coming| &*coming.new.parts).collect();
        let cooling = parts.iter().filter_map(|parts| self.table.cooling.until(parts, self.now)).max();
        let may_wait = cooling.is_none() && !request.drain.is_zero();
        let busy = Acquired::Busy { retry_after: cooling.map_or(A_MOMENT, |until| until.since(self.now).max(A_MOMENT)) };
        let registry = self.core.registry.as_ref();
        if !may_wait && registry.is_some_and(|registry| registry.meets(&parts, request.within)) {
            return Step::Done(busy);
        }
        let until = self.now.after(request.drain);
        let mut marks: SmallVec<[SlotId; 1]> = SmallVec::new();
        for Coming { new, digest, prefixes } in coming {
            let slot = self.mark((&new.parts, prefixes), *digest, request.lifetime, until);
            marks.push(self.table.records.id(slot));
        }
        if !replaces.is_empty() {
            for lock in marks.iter().copied().chain(replaces.iter().map(|old| old.of)) {
                if let Some(record) = self.table.records.get_mut(lock.slot) {
                    record.rivalry = Rivalry::Possible;
                }
            }
        }
        // The marks stand, and now all writes are looked through: each is either seen here or sees them.
        let Some(registry) = registry.filter(|registry| registry.meets(&parts, request.within)) else {
            return Step::Done(self.grant_all(&marks, replaces, request.lifetime));
        };
        if !may_wait {
            marks.iter().for_each(|mark| self.withdraw(mark.slot));
            return Step::Done(busy);
        }
        let plan = Plan { marks, replaces, lifetime: request.lifetime, within: request.within };
        let latch = Latch::new(request.locks.iter().map(|lock| lock.parts.clone()).collect());
        let writes = registry.attach(&latch, request.within);
        if writes.is_empty() {
            // They ended meanwhile.
            return Step::Done(self.carry_out(plan));
        }
        plan.marks.iter().for_each(|mark| self.table.requeue(mark.slot, Some(until)));
        // By what the clock shows, not by the store's time: where that stands still the wait must not.
        Step::Wait(Box::new(Wait { plan, latch, writes, shown: self.core.clock.now() }))
    }
}

/// Whether roots of one request overlap each other.
fn in_its_own_way(coming: &[Coming<'_>]) -> bool {
    if coming.len() < 2 {
        return false;
    }
    let mut roots: HashMap<u64, Depth> = HashMap::new();
    let whole_and_above = || coming.iter().filter_map(|coming| Some((coming, coming.prefixes.split_last()?)));
    let twice =
        |(coming, (whole, _)): (&Coming<'_>, (&Prefix, _))| roots.insert(whole.hash, coming.new.parts.depth).is_some();
    if whole_and_above().any(twice) {
        return true;
    }
    let covered = |prefix: &Prefix| roots.get(&prefix.hash) == Some(&Depth::Infinity);
    whole_and_above().any(|(_, (_, above))| above.iter().any(covered))
}

/// Whether a lock is the one that a request asks for again.
fn same(held: &LockParts, asked: &LockParts) -> bool {
    held.principal == asked.principal && held.root == asked.root && held.scope == asked.scope && held.depth == asked.depth
}

fn twice(slots: &[u32]) -> bool {
    let mut seen = HashSet::new();
    !slots.iter().all(|slot| seen.insert(slot))
}
