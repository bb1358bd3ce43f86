//! What the model remembers: lists of locks, marks, writes and graves, searched from end to end.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::queue::Queue;
use crate::{
    lock::{
        Effect, Lock, LockId, LockLife, LockParts, LockState, LostCause, LostLock, Membership, Principal, ResourceKey,
        Target, Timestamp, TokenDigest,
    },
    store::{Lifetime, LockEvent, Quota, WriteId},
};

/// What a lock in use is said to have left at least.
const LEASE: Duration = Duration::from_secs(30);
/// How long a dead lock is remembered, and how many are.
const REMEMBERED: Duration = Duration::from_secs(3_600);
const GRAVES: usize = 10_000;

#[derive(Default)]
pub(super) struct State {
    pub(super) locks: Vec<Held>,
    pub(super) marks: Vec<Mark>,
    pub(super) writes: Vec<Running>,
    pub(super) cooling: Vec<Cooling>,
    pub(super) graves: Vec<Grave>,
    pub(super) generation: u64,
    pub(super) serial: u64,
    pub(super) watchers: Vec<Weak<Queue>>,
}

/// A lock that was granted.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) parts: Arc<LockParts>,
    pub(super) digest: TokenDigest,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    /// The end of its total life, or of its grace period: no write in flight holds it longer.
    pub(super) cap: Option<Timestamp>,
    pub(super) most: Option<Duration>,
    pub(super) last: Option<Duration>,
    pub(super) generation: u64,
    pub(super) breaking: Option<Ending>,
}

/// Why a lock ends.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) cause: LostCause,
    pub(super) actor: Option<Principal>,
    pub(super) reason: Option<Arc<str>>,
}

/// An acquire that waits for writes in flight.
pub(super) struct Mark {
    pub(super) serial: u64,
    pub(super) locks: Vec<(Arc<LockParts>, TokenDigest)>,
    pub(super) replaces: Vec<(LockId, Ending)>,
    /// Those of them that only one may replace.
    pub(super) once: Vec<LockId>,
    pub(super) lifetime: Lifetime,
    pub(super) quota: Quota,
    pub(super) drain: Duration,
    pub(super) created_at: Timestamp,
    pub(super) deadline: Timestamp,
    pub(super) within: Option<WriteId>,
}

/// A write in flight.
pub(super) struct Running {
    pub(super) id: WriteId,
    pub(super) targets: Vec<Target<'static>>,
    /// The locks whose own tokens it submitted.
    pub(super) own: Vec<Arc<LockParts>>,
    pub(super) generation: u64,
}

/// Where no mark is set for a while.
pub(super) struct Cooling {
    pub(super) parts: Arc<LockParts>,
    pub(super) until: Timestamp,
}

/// A lock that ended, or a token that was burnt before it had a lock.
pub(super) struct Grave {
    pub(super) digest: TokenDigest,
    pub(super) parts: Option<Arc<LockParts>>,
    pub(super) ending: Ending,
    pub(super) at: Timestamp,
}

impl Ending {
    pub(super) const fn by_itself(cause: LostCause) -> Self {
        Self { cause, actor: None, reason: None }
    }
}

impl State {
    /// Brings everything up to `now`: what has run out is gone before anybody looks.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let writes = &self.writes;
        let (gone, live): (Vec<Held>, Vec<Held>) = self.locks.drain(..).partition(|lock| {
            let past = |end: Option<Timestamp>| end.is_some_and(|end| end <= now);
            past(lock.cap) || (past(lock.expires_at) && !in_use(writes, lock.parts.id))
        });
        self.locks = live;
        for lock in gone {
            let ending = lock.breaking.clone().unwrap_or(Ending::by_itself(LostCause::Expired));
            let end = lock.expires_at.or(lock.cap).map_or(now, |end| end.min(now));
            self.bury(lock, ending, end);
        }
        let (late, waiting): (Vec<Mark>, Vec<Mark>) = self.marks.drain(..).partition(|mark| mark.deadline <= now);
        self.marks = waiting;
        for mark in late {
            let until = now.after(mark.drain * 2);
            self.cooling.extend(mark.locks.into_iter().map(|(parts, _)| Cooling { parts, until }));
        }
        self.cooling.retain(|cooling| cooling.until > now);
        self.graves.retain(|grave| now < grave.at.after(REMEMBERED));
    }

    pub(super) fn snapshot(&self, lock: &Held, now: Timestamp) -> Lock {
        let in_use = in_use(&self.writes, lock.parts.id);
        let leased = now.after(LEASE);
        let leased = lock.cap.map_or(leased, |cap| cap.min(leased));
        Lock::new(
            lock.parts.clone(),
            LockLife {
                state: if lock.breaking.is_some() { LockState::Breaking } else { LockState::Held },
                created_at: lock.created_at,
                expires_at: lock.expires_at.map(|end| if in_use { end.max(leased) } else { end }),
                generation: lock.generation,
                in_use,
                seen_at: now,
            },
        )
    }

    /// Every lock and every mark, as the world sees them.
    pub(super) fn everything(&self, now: Timestamp) -> Vec<Lock> {
        let pending = |mark: &Mark, parts: &Arc<LockParts>| {
            let life = LockLife {
                state: LockState::Pending,
                created_at: mark.created_at,
                expires_at: Some(mark.deadline),
                generation: 0,
                in_use: false,
                seen_at: now,
            };
            Lock::new(parts.clone(), life)
        };
        let held = self.locks.iter().map(|lock| self.snapshot(lock, now));
        let coming = self.marks.iter().flat_map(|mark| mark.locks.iter().map(move |(parts, _)| pending(mark, parts)));
        held.chain(coming).collect()
    }

    pub(super) fn digest_of(&self, id: LockId) -> Option<TokenDigest> {
        self.locks.iter().find(|lock| lock.parts.id == id).map(|lock| lock.digest)
    }

    /// Ends a lock, and remembers why.
    pub(super) fn bury(&mut self, lock: Held, ending: Ending, now: Timestamp) {
        let seen = self.snapshot(&lock, now);
        self.tell(&LockEvent::Ended {
            lock: seen,
            cause: ending.cause,
            actor: ending.actor.clone(),
            reason: ending.reason.clone(),
        });
        self.remember(Grave { digest: lock.digest, parts: Some(lock.parts), ending, at: now });
    }

    /// A token never seen is used up.
    pub(super) fn burn(&mut self, digest: TokenDigest, now: Timestamp) {
        if !self.graves.iter().any(|grave| grave.digest == digest) {
            self.remember(Grave { digest, parts: None, ending: Ending::by_itself(LostCause::Unknown), at: now });
        }
    }

    fn remember(&mut self, grave: Grave) {
        if self.graves.len() == GRAVES {
            self.graves.remove(0);
        }
        self.graves.push(grave);
    }

    /// What `principal` may know of the lock that this token had.
    pub(super) fn lost(&self, digest: TokenDigest, principal: Option<&Principal>) -> LostLock {
        let mut lost = LostLock::new(LostCause::Unknown);
        if let Some(grave) = self.graves.iter().find(|grave| grave.digest == digest)
            && let Some(parts) = &grave.parts
            && parts.principal.as_ref() == principal
        {
            lost.cause = grave.ending.cause;
            lost.id = Some(parts.id);
            lost.root = Some(parts.root.clone());
            lost.at = Some(grave.at);
            lost.actor = grave.ending.actor.clone();
            lost.reason = grave.ending.reason.clone();
        }
        lost
    }

    pub(super) fn tell(&mut self, event: &LockEvent) {
        self.watchers.retain(|watcher| {
            watcher.upgrade().is_some_and(|queue| {
                queue.offer(event);
                true
            })
        });
    }
}

fn in_use(writes: &[Running], id: LockId) -> bool {
    writes.iter().any(|write| write.own.iter().any(|own| own.id == id))
}

pub(super) fn owned(target: &Target<'_>) -> Target<'static> {
    let (effect, membership): (Effect, Membership) = (target.effect, target.membership);
    let key: ResourceKey<'static> = target.key.clone().into_owned();
    Target { key, effect, membership }
}
