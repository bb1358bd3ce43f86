//! `Record`: a lock or a mark as the table keeps it, and when it counts.

use std::{sync::Arc, time::Duration};

use super::{expiry::NOWHERE, graveyard::Grave, pins::Pins};
use crate::lock::{
    Lock, LockLife, LockParts, LockScope, LockState, LostCause, LostLock, Principal, Timestamp, TokenDigest, micros,
};

#[derive(Debug)]
pub(super) struct Record {
    pub(super) parts: Arc<LockParts>,
    pub(super) digest: TokenDigest,
    pub(super) stage: Stage,
    /// When it was granted; when it was announced, while it is a mark.
    pub(super) created_at: Timestamp,
    /// When it ends by itself unless pinned; for a mark, its deadline.
    pub(super) expires_at: Ends,
    /// When it ends even if it is pinned.
    pub(super) life_end: Ends,
    /// What it was last given.
    pub(super) span: Term,
    /// The most that a refresh gives.
    pub(super) most: Term,
    pub(super) generation: u64,
    /// Its end, decided and not yet written down: until it is, the lock still blocks and answers for nothing.
    pub(super) leaving: Option<Box<Grave>>,
    pub(super) pins: Arc<Pins>,
    /// Whether another may live beside it that it conflicts with.
    pub(super) rivalry: Rivalry,
    /// Where it stands in the table's indexes.
    pub(super) place: Place,
}

/// Of two locks that conflict, one replaces the other, or neither would be there: a mark stands beside the lock that it is to
/// replace, and a lock in a store with a file beside one that it has replaced, until that is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rivalry {
    /// It has replaced none, and none was ever announced that would replace it.
    #[default]
    Never,
    Possible,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) node: u32,
    pub(super) in_node: u32,
    /// The principal that holds it, and which of that principal's locks it is.
    pub(super) principal: u32,
    pub(super) of_principal: u32,
    /// In the queue of those that will expire.
    pub(super) queued: u32,
}

impl Default for Place {
    fn default() -> Self {
        Self { node: 0, in_node: 0, principal: 0, of_principal: 0, queued: NOWHERE }
    }
}

/// A time that may never come: half as large as an `Option`, of which a record has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends(u64);

impl Ends {
    pub(super) const NEVER: Self = Self(u64::MAX);

    pub(super) fn get(self) -> Option<Timestamp> {
        (self != Self::NEVER).then(|| Timestamp::from_micros(self.0))
    }
}

impl From<Option<Timestamp>> for Ends {
    fn from(time: Option<Timestamp>) -> Self {
        // No time is as late as that: see `Timestamp::MAX`.
        time.map_or(Self::NEVER, |time| Self(time.as_micros()))
    }
}

/// How long something lives that may be endless, to the microsecond, as times are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term(u64);

impl Term {
    const ENDLESS: Self = Self(u64::MAX);

    pub(super) fn get(self) -> Option<Duration> {
        (self != Self::ENDLESS).then(|| Duration::from_micros(self.0))
    }
}

impl From<Option<Duration>> for Term {
    fn from(span: Option<Duration>) -> Self {
        span.map_or(Self::ENDLESS, |span| Self(micros(span).min(u64::MAX - 1)))
    }
}

#[derive(Clone, Debug)]
pub(super) enum Stage {
    Pending,
    Held,
    /// Broken; its holder may still write until `life_end`.
    Breaking(Box<Breaker>),
}

/// Who breaks a lock, and why.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    pub(super) actor: Option<Principal>,
    pub(super) reason: Arc<str>,
}

/// Why a lock ends.
#[derive(Debug)]
pub(super) enum End {
    /// Its time is up, its own or that of a break's grace.
    Itself,
    Released,
    Replaced,
    ResourceGone,
    Broken(Breaker),
}

impl Record {
    pub(super) fn is_mark(&self) -> bool {
        matches!(self.stage, Stage::Pending)
    }

    /// Whether it counts at `now`. Once this has said no it never says yes again, whatever the clock does.
    pub(super) fn live(&self, now: Timestamp) -> bool {
        if self.life_end.get().is_some_and(|end| now >= end) {
            self.pins.end();
            return false;
        }
        match self.expires_at.get() {
            Some(end) if now >= end => !self.pins.expire(),
            _ => !self.pins.ended(),
        }
    }

    /// Whether it is a granted lock that counts and is not about to end.
    pub(super) fn held(&self, now: Timestamp) -> bool {
        !self.is_mark() && self.leaving.is_none() && self.live(now)
    }

    /// Whether it is a lock that excludes all others from what it covers, and does so by itself.
    pub(super) fn excludes_others(&self) -> bool {
        self.parts.scope == LockScope::Exclusive && self.rivalry == Rivalry::Never
    }

    /// What it looks like from outside.
    pub(super) fn snapshot(&self, now: Timestamp, lease: Duration) -> Lock {
        Lock::new(self.parts.clone(), self.life(now, lease))
    }

    /// What it looked like, for one that is in the table no longer, and its pins.
    pub(super) fn into_lock(self, now: Timestamp, lease: Duration) -> (Lock, Arc<Pins>) {
        let life = self.life(now, lease);
        (Lock::new(self.parts, life), self.pins)
    }

    fn life(&self, now: Timestamp, lease: Duration) -> LockLife {
        let in_use = self.pins.in_use();
        let expires_at = match self.expires_at.get() {
            Some(end) if in_use => {
                let pinned = end.max(now.after(lease));
                Some(self.life_end.get().map_or(pinned, |life| pinned.min(life)))
            }
            own => own,
        };
        let state = match self.stage {
            Stage::Pending => LockState::Pending,
            Stage::Held => LockState::Held,
            Stage::Breaking(_) => LockState::Breaking,
        };
        LockLife { state, created_at: self.created_at, expires_at, generation: self.generation, in_use, seen_at: now }
    }

    /// What is to be remembered of it when it ends at `now` by `end`.
    pub(super) fn lost_by(&self, end: End, now: Timestamp) -> LostLock {
        match end {
            End::Itself => self.end_by_itself(now),
            end => LostLock { root: Some(self.parts.root.clone()), ..self.lost_rootless(end, now) },
        }
    }

    /// The same but for its root, of which nothing need be copied.
    pub(super) fn lost_rootless(&self, end: End, now: Timestamp) -> LostLock {
        let known = LostLock { id: Some(self.parts.id), at: Some(now), ..LostLock::new(LostCause::Released) };
        match end {
            End::Itself => self.own_end(now),
            End::Released => known,
            End::Replaced => LostLock { cause: LostCause::Replaced, ..known },
            End::ResourceGone => LostLock { cause: LostCause::ResourceGone, ..known },
            End::Broken(by) => LostLock { cause: LostCause::Broken, actor: by.actor, reason: Some(by.reason), ..known },
        }
    }

    /// Why and when it ended by itself, or will, for one that is not buried yet.
    pub(super) fn end_by_itself(&self, now: Timestamp) -> LostLock {
        match &self.leaving {
            Some(leaving) => leaving.lost.clone(),
            None => LostLock { root: Some(self.parts.root.clone()), ..self.own_end(now) },
        }
    }

    /// Its end by itself, but for its root.
    fn own_end(&self, now: Timestamp) -> LostLock {
        let own = match (self.expires_at.get(), self.life_end.get()) {
            (Some(own), Some(life)) => own.min(life),
            (own, life) => own.or(life).unwrap_or(now),
        };
        let lost = LostLock { id: Some(self.parts.id), at: Some(own), ..LostLock::new(LostCause::Expired) };
        match &self.stage {
            Stage::Breaking(breaker) => LostLock {
                cause: LostCause::Broken,
                at: self.life_end.get(),
                actor: breaker.actor.clone(),
                reason: Some(breaker.reason.clone()),
                ..lost
            },
            Stage::Pending | Stage::Held => lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_told_from_what_ends_as_late_as_can_be() {
        for time in [None, Some(Timestamp::EPOCH), Some(Timestamp::MAX)] {
            assert_eq!(Ends::from(time).get(), time);
        }
        for span in [None, Some(Duration::ZERO), Some(Duration::from_micros(1_500_000))] {
            assert_eq!(Term::from(span).get(), span);
        }
        assert!(Term::from(Some(Duration::MAX)).get().is_some_and(|span| span > Duration::from_secs(1 << 40)));
    }

    #[test]
    fn a_record_is_of_two_lines_of_a_cache_and_being_optional_costs_nothing() {
        assert!(size_of::<Option<Record>>() <= 128, "{}", size_of::<Record>());
    }
}
