//! How the model refreshes, releases, breaks and clears.

use std::{sync::Arc, time::Duration};

use super::{
    acquire::earlier,
    state::{Ending, Held, State},
};
use crate::{
    lock::{Gone, HolderClaim, Lock, LockKind, LostCause, LostLock, ResourceKey, Timestamp, TokenDigest, TokenKey, rules},
    store::{Authority, FinalTerm, Lifetime, LockEvent, Refresh, Refreshed, Release, Released, Which, WriteId},
};

impl State {
    pub(super) fn refresh(&mut self, refresh: &Refresh<'_>, key: &TokenKey, now: Timestamp) -> Refreshed {
        let Some(at) = self.at(&refresh.which, key) else {
            return Refreshed::Lost(self.absent(&refresh.which, &refresh.authority, key));
        };
        if matches!(refresh.authority, Authority::Break { .. }) || !self.may(at, &refresh.which, &refresh.authority, now) {
            return Refreshed::NotHolder;
        }
        if let Some(lost) = self.elsewhere(at, refresh.covering, now) {
            return Refreshed::Lost(lost);
        }
        let lock = &mut self.locks[at];
        if let Some(ending) = &lock.breaking {
            let mut lost = LostLock::new(LostCause::Broken);
            (lost.id, lost.root, lost.at) = (Some(lock.parts.id), Some(lock.parts.root.clone()), lock.cap);
            (lost.actor, lost.reason) = (ending.actor.clone(), ending.reason.clone());
            return Refreshed::Lost(lost);
        }
        lock.last = Lifetime::refreshed(lock.most, lock.last, refresh.span);
        lock.expires_at = earlier(lock.last.map(|span| now.after(span)), lock.cap);
        let term = if lock.cap.is_some() && lock.expires_at == lock.cap { FinalTerm::Yes } else { FinalTerm::No };
        let lock = self.snapshot(&self.locks[at], now);
        self.tell(&LockEvent::Refreshed(lock.clone()));
        Refreshed::Refreshed(lock, term)
    }

    pub(super) fn release(&mut self, release: &Release<'_>, key: &TokenKey, now: Timestamp) -> Released {
        let Some(at) = self.at(&release.which, key) else {
            let lost = self.absent(&release.which, &release.authority, key);
            if let Which::Token(token) = release.which {
                self.burn(key.digest(token), now);
            }
            return Released::Lost(lost);
        };
        if !self.may(at, &release.which, &release.authority, now) {
            return Released::NotHolder;
        }
        if let Some(lost) = self.elsewhere(at, release.covering, now) {
            return Released::Lost(lost);
        }
        if let Authority::Break { actor, reason, grace } = release.authority {
            let reason = Some(Arc::from(reason));
            return self.break_at(at, Ending { cause: LostCause::Broken, actor: actor.cloned(), reason }, grace, now);
        }
        Released::Released(self.end(at, Ending::by_itself(LostCause::Released), now))
    }

    pub(super) fn clear(&mut self, gone: &[Gone<'_>], under: Option<WriteId>, now: Timestamp) -> usize {
        if under.is_some_and(|id| !self.writes.iter().any(|write| write.id == id)) {
            return 0;
        }
        let taken = |lock: &Held| gone.iter().any(|gone| gone.takes(&lock.parts.root));
        let mut count = 0;
        while let Some(at) = self.locks.iter().position(taken) {
            self.end(at, Ending::by_itself(LostCause::ResourceGone), now);
            count += 1;
        }
        count
    }

    fn break_at(&mut self, at: usize, ending: Ending, grace: Duration, now: Timestamp) -> Released {
        if grace.is_zero() {
            return Released::Released(self.end(at, ending, now));
        }
        let lock = &mut self.locks[at];
        lock.cap = earlier(lock.cap, Some(now.after(grace)));
        lock.expires_at = earlier(lock.expires_at, lock.cap);
        let (actor, reason) = (ending.actor.clone(), ending.reason.clone());
        lock.breaking = Some(ending);
        let lock = self.snapshot(&self.locks[at], now);
        self.tell(&LockEvent::Breaking { lock: lock.clone(), actor, reason });
        Released::Breaking(lock)
    }

    fn end(&mut self, at: usize, ending: Ending, now: Timestamp) -> Lock {
        let lock = self.locks.remove(at);
        let seen = self.snapshot(&lock, now);
        self.bury(lock, ending, now);
        seen
    }

    fn at(&self, which: &Which<'_>, key: &TokenKey) -> Option<usize> {
        match which {
            Which::Token(token) => {
                let digest: TokenDigest = key.digest(token);
                self.locks.iter().position(|lock| lock.digest == digest)
            }
            Which::Id(id) => self.locks.iter().position(|lock| lock.parts.id == *id),
        }
    }

    fn may(&self, at: usize, which: &Which<'_>, authority: &Authority<'_>, now: Timestamp) -> bool {
        let lock = self.snapshot(&self.locks[at], now);
        match authority {
            Authority::Holder { principal, proof } => {
                proof.answers(&HolderClaim::new(&lock, matches!(which, Which::Token(_)), *principal))
            }
            Authority::Principal(principal) => lock.principal() == Some(*principal) && *lock.kind() != LockKind::Freeze,
            Authority::Guard | Authority::Break { .. } => true,
        }
    }

    fn absent(&self, which: &Which<'_>, authority: &Authority<'_>, key: &TokenKey) -> LostLock {
        let principal = match authority {
            Authority::Holder { principal, .. } => *principal,
            Authority::Principal(principal) => Some(*principal),
            Authority::Guard | Authority::Break { .. } => None,
        };
        match which {
            Which::Token(token) => self.lost(key.digest(token), principal),
            Which::Id(_) => LostLock::new(LostCause::Unknown),
        }
    }

    fn elsewhere(&self, at: usize, covering: Option<&ResourceKey<'_>>, now: Timestamp) -> Option<LostLock> {
        let lock = self.snapshot(&self.locks[at], now);
        let covers = covering.is_none_or(|key| rules::covers(lock.root(), lock.depth(), key));
        (!covers).then(|| LostLock::out_of_scope(&lock))
    }
}
