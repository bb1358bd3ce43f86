//! Refreshing and ending locks.

use super::{
    core::{Core, Edit, breaker, earlier},
    durable::settled,
    graveyard::Asker,
    record::{Breaker, End, Stage},
};
use crate::{
    lock::{Gone, HolderClaim, Lock, LockKind, LockParts, LostCause, LostLock, Reach, ResourceKey, TokenDigest, rules},
    store::{Authority, FinalTerm, Lifetime, LockEvent, Refresh, Refreshed, Release, Released, StoreFuture, Which},
};

/// Why a lock is not there for whoever asks.
enum Absent {
    Lost(LostLock),
    NotHolder,
}

impl Core {
    pub(super) fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        if matches!(refresh.authority, Authority::Break { .. }) {
            return StoreFuture::ready(Refreshed::NotHolder);
        }
        if let Some(error) = self.overfull() {
            return StoreFuture::failed(error);
        }
        let asked = Asked::of(self, refresh.which, &refresh.authority, refresh.covering);
        let (answer, ticket) = self.edit(|edit| match edit.find_asked(&asked) {
            Ok(slot) => edit.refresh(slot, refresh),
            Err(Absent::Lost(lost)) => Refreshed::Lost(lost),
            Err(Absent::NotHolder) => Refreshed::NotHolder,
        });
        settled(answer, ticket)
    }

    pub(super) fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        if let Some(error) = self.overfull() {
            return StoreFuture::failed(error);
        }
        let asked = Asked::of(self, release.which, &release.authority, release.covering);
        let (answer, ticket) = self.edit(|edit| match edit.find_asked(&asked) {
            Ok(slot) => edit.release(slot, &release.authority),
            Err(Absent::Lost(lost)) => {
                edit.burn(&asked);
                Released::Lost(lost)
            }
            Err(Absent::NotHolder) => Released::NotHolder,
        });
        settled(answer, ticket)
    }

    pub(super) fn clear(&self, gone: &[Gone<'_>]) -> StoreFuture<usize> {
        if let Some(error) = self.overfull() {
            return StoreFuture::failed(error);
        }
        let (ended, ticket) = self.edit(|edit| gone.iter().map(|gone| edit.clear(gone)).sum());
        settled(ended, ticket)
    }
}

/// Which lock is meant and by whom.
struct Asked<'a> {
    which: Which<'a>,
    /// Of the token, if it was named by one.
    digest: Option<TokenDigest>,
    authority: &'a Authority<'a>,
    covering: Option<&'a ResourceKey<'a>>,
}

impl<'a> Asked<'a> {
    fn of(core: &Core, which: Which<'a>, authority: &'a Authority<'a>, covering: Option<&'a ResourceKey<'a>>) -> Self {
        let digest = match which {
            Which::Token(token) => Some(core.key.digest(token)),
            Which::Id(_) => None,
        };
        Self { which, digest, authority, covering }
    }

    fn asker(&self) -> Asker<'a> {
        match *self.authority {
            Authority::Holder { principal, .. } => Asker::Principal(principal),
            Authority::Principal(principal) => Asker::Principal(Some(principal)),
            Authority::Guard => Asker::Guard,
            Authority::Break { actor, .. } => Asker::Principal(actor),
        }
    }

    /// Whether the authority reaches as far as the lock with these `parts`. What it looks like is asked for rarely.
    fn may(&self, parts: &LockParts, snapshot: impl FnOnce() -> Lock) -> bool {
        match *self.authority {
            Authority::Holder { principal, proof } => {
                let (holder, submitted) = (parts.principal.as_ref(), self.digest.is_some());
                match proof.holds_plainly(holder, submitted, principal) {
                    Some(holds) => holds && parts.kind != LockKind::Freeze,
                    None => proof.answers(&HolderClaim::new(&snapshot(), submitted, principal)),
                }
            }
            Authority::Principal(principal) => parts.principal.as_ref() == Some(principal) && parts.kind != LockKind::Freeze,
            Authority::Guard | Authority::Break { .. } => true,
        }
    }
}

impl Edit<'_> {
    /// The living lock or mark that is meant, if the caller may touch it and it covers what it must.
    fn find_asked(&mut self, asked: &Asked<'_>) -> Result<u32, Absent> {
        let slot = match (asked.which, &asked.digest) {
            (_, Some(digest)) => self.table.by_token(digest),
            (Which::Id(id), None) => self.table.by_id(id),
            (Which::Token(_), None) => None,
        };
        let (now, lease) = (self.now, self.core.lease);
        let Some((slot, record)) = slot.and_then(|slot| Some((slot, &*self.living(slot)?))) else {
            // What became of a lock is told against its token only.
            let lost = asked.digest.map(|digest| self.table.lost(&digest, asked.asker(), now));
            return Err(Absent::Lost(lost.unwrap_or(LostLock::new(LostCause::Unknown))));
        };
        let (parts, snapshot) = (&record.parts, || record.snapshot(now, lease));
        if !asked.may(parts, snapshot) {
            return Err(Absent::NotHolder);
        }
        match asked.covering {
            Some(key) if !rules::covers(&parts.root, parts.depth, key) => {
                Err(Absent::Lost(LostLock::out_of_scope(&snapshot())))
            }
            _ => Ok(slot),
        }
    }

    fn refresh(&mut self, slot: u32, refresh: &Refresh<'_>) -> Refreshed {
        let (now, before) = (self.now, self.before(slot));
        let Some(record) = self.table.records.get_mut(slot) else {
            return Refreshed::Lost(LostLock::new(LostCause::Unknown));
        };
        match record.stage {
            // Its token answers for nothing before the grant.
            Stage::Pending => return Refreshed::Lost(LostLock::new(LostCause::Unknown)),
            Stage::Breaking(_) => return Refreshed::Lost(record.end_by_itself(now)),
            Stage::Held => {}
        }
        let span = Lifetime::refreshed(record.most.get(), record.span.get(), refresh.span);
        let life_end = record.life_end.get();
        let ends = earlier(span.map(|span| now.after(span)), life_end);
        let capped = life_end.is_some() && ends == life_end;
        record.span = span.into();
        record.expires_at = ends.into();
        self.table.requeue(slot, ends);
        self.put(slot, before);
        let Some(lock) = self.snapshot(slot) else { return Refreshed::Lost(LostLock::new(LostCause::Unknown)) };
        self.tell(|| LockEvent::Refreshed(lock.clone()));
        Refreshed::Refreshed(lock, if capped { FinalTerm::Yes } else { FinalTerm::No })
    }

    fn release(&mut self, slot: u32, authority: &Authority<'_>) -> Released {
        let unknown = || Released::Lost(LostLock::new(LostCause::Unknown));
        let end = match *authority {
            Authority::Break { actor, reason, grace } => {
                let breaker = breaker(actor, reason);
                let is_mark = self.table.records.get(slot).is_none_or(super::record::Record::is_mark);
                if !grace.is_zero() && !is_mark {
                    return self.start_break(slot, breaker, self.now.after(grace)).map_or_else(unknown, Released::Breaking);
                }
                End::Broken(breaker)
            }
            _ => End::Released,
        };
        self.bury(slot, end).map_or_else(unknown, Released::Released)
    }

    /// From here on the holder may write on until `deadline`, but no longer refresh.
    fn start_break(&mut self, slot: u32, breaker: Breaker, deadline: crate::lock::Timestamp) -> Option<Lock> {
        let before = self.before(slot);
        let record = self.table.records.get_mut(slot)?;
        // Who breaks it a second time may shorten the grace, and never lengthens it.
        let life_end = earlier(record.life_end.get(), Some(deadline));
        let ends = earlier(record.expires_at.get(), life_end);
        record.life_end = life_end.into();
        record.expires_at = ends.into();
        let (actor, reason) = (breaker.actor.clone(), Some(breaker.reason.clone()));
        record.stage = Stage::Breaking(Box::new(breaker));
        self.table.requeue(slot, ends);
        self.put(slot, before);
        let lock = self.snapshot(slot)?;
        self.tell(|| LockEvent::Breaking { lock: lock.clone(), actor, reason });
        Some(lock)
    }

    /// A token that was released without ever having been seen may not be used any more.
    fn burn(&mut self, asked: &Asked<'_>) {
        let Some(digest) = asked.digest else { return };
        let known = self.table.by_token(&digest).is_some()
            || self.table.graveyard.by_token(&digest, Asker::Guard, self.now).is_some();
        if !known {
            let principal = match asked.asker() {
                Asker::Principal(principal) => principal.cloned(),
                Asker::Guard => None,
            };
            let grave = self.table.graveyard.dig_burnt(digest, principal, self.now);
            self.dug(&grave);
            self.table.graveyard.bury(grave, self.now);
        }
    }

    /// Ends the granted locks that go with a resource, pinned or not: their holders' own write took it.
    fn clear(&mut self, gone: &Gone<'_>) -> usize {
        let mut slots: Vec<u32> = Vec::new();
        if gone.reach != Reach::Below {
            let here = self.table.above(&self.core.filter, &gone.key);
            slots.extend(here.iter().filter(|node| gone.takes(node.root())).flat_map(|node| node.all()));
        }
        let whole = self.core.filter.seed.whole(&gone.key);
        if gone.reach != Reach::At && self.core.filter.may_have_below(&whole) {
            slots.extend(self.table.below(&gone.key, None).flat_map(super::table::Node::all));
        }
        slots.retain(|slot| self.living(*slot).is_some_and(|record| !record.is_mark()));
        slots.into_iter().filter_map(|slot| self.bury(slot, End::ResourceGone)).count()
    }
}
