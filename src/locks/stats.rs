//! `LockStats`: how often what happened, for what an operator graphs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Activity, ActivityKind, Locks, RefusalCode};

/// How often what happened through one [`Locks`] since it was built, and how many of what there are now.
///
/// What another node or another `Locks` over the same store does is counted there. The numbers are read one by one, so
/// they may be of slightly different moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockStats {
    /// Locks granted, transfers and claims not counted.
    pub granted: u64,
    /// Locks answered again to an acquire that proposed the same token.
    pub repeated: u64,
    /// Refreshes, those of guards included.
    pub refreshed: u64,
    /// Locks that their holders ended.
    pub released: u64,
    /// Locks whose time was up. Counted only where there is a hook ([`LocksBuilder::on_activity`](super::LocksBuilder::on_activity),
    /// or the feature `tracing`): stores expire silently.
    pub expired: u64,
    /// Breaks with a grace period that have begun.
    pub breaking: u64,
    /// Locks broken: at once, or, where there is a hook, at the end of a grace period.
    pub broken: u64,
    /// Locks replaced by another one of their holder's.
    pub replaced: u64,
    /// Locks handed to another principal.
    pub transferred: u64,
    /// Locks whose token was claimed by whom they were handed to.
    pub claimed: u64,
    /// Locks that went with their resource.
    pub cleared: u64,
    /// What was refused.
    pub refused: RefusalStats,
    /// Requests and acquires that began to wait for a lock.
    pub waits_begun: u64,
    /// Those that got what they waited for.
    pub waits_served: u64,
    /// Those that did not: their time was up, or they left.
    pub waits_given_up: u64,
    /// How many wait now.
    pub waiting: usize,
    /// How many watch now: event streams and [`Locks::watch`](super::Locks::watch).
    pub watching: usize,
    /// Guards now.
    pub guards: usize,
}

/// How many refusals there were, in groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusalStats {
    /// 423: a lock was in the way.
    pub locked: u64,
    /// 412: a lock was lost, or another condition was false.
    pub lost: u64,
    /// 409: a write in flight, a proposed token in use, a lock that does not cover.
    pub conflict: u64,
    /// 403.
    pub forbidden: u64,
    /// 428: no lock where one is demanded.
    pub required: u64,
    /// 429 and 503 `store_full`: too many locks, too many waiting.
    pub limited: u64,
    /// 503: the store could not answer.
    pub unavailable: u64,
    /// Everything else: malformed, not found, not known.
    pub malformed: u64,
}

impl RefusalStats {
    /// How many there were in all.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.locked
            + self.lost
            + self.conflict
            + self.forbidden
            + self.required
            + self.limited
            + self.unavailable
            + self.malformed
    }
}

/// The counters behind [`LockStats`]. They order nothing, so relaxed is enough; and none is touched by a write that
/// nothing stands in the way of.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    granted: AtomicU64,
    repeated: AtomicU64,
    refreshed: AtomicU64,
    released: AtomicU64,
    expired: AtomicU64,
    breaking: AtomicU64,
    broken: AtomicU64,
    replaced: AtomicU64,
    transferred: AtomicU64,
    claimed: AtomicU64,
    cleared: AtomicU64,
    refused: Refused,
    waits_begun: AtomicU64,
    waits_served: AtomicU64,
    waits_given_up: AtomicU64,
    guards: AtomicUsize,
}

#[derive(Debug, Default)]
struct Refused {
    locked: AtomicU64,
    lost: AtomicU64,
    conflict: AtomicU64,
    forbidden: AtomicU64,
    required: AtomicU64,
    limited: AtomicU64,
    unavailable: AtomicU64,
    malformed: AtomicU64,
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn count(&self, activity: &Activity<'_>) {
        one_more(match activity.kind {
            ActivityKind::Acquired => &self.granted,
            ActivityKind::Repeated => &self.repeated,
            ActivityKind::Refreshed => &self.refreshed,
            ActivityKind::Released => &self.released,
            ActivityKind::Expired => &self.expired,
            ActivityKind::Breaking => &self.breaking,
            ActivityKind::Broken => &self.broken,
            ActivityKind::Replaced => &self.replaced,
            ActivityKind::Transferred => &self.transferred,
            ActivityKind::Claimed => &self.claimed,
            ActivityKind::Cleared => &self.cleared,
            ActivityKind::Refused => self.refused.group(activity.code()),
        });
    }
}

impl Refused {
    fn group(&self, code: Option<RefusalCode>) -> &AtomicU64 {
        use RefusalCode as Code;
        let Some(code) = code else { return &self.malformed };
        match code {
            Code::Locked | Code::Frozen => &self.locked,
            Code::LockLost | Code::ConditionFailed => &self.lost,
            Code::WriteInProgress | Code::ProposalConflict | Code::NotCovered => &self.conflict,
            Code::Forbidden => &self.forbidden,
            Code::LockRequired => &self.required,
            Code::LockQuota | Code::StoreFull => &self.limited,
            Code::StoreUnavailable => &self.unavailable,
            _ if code.status() == http::StatusCode::TOO_MANY_REQUESTS => &self.limited,
            _ => &self.malformed,
        }
    }

    fn read(&self) -> RefusalStats {
        RefusalStats {
            locked: read(&self.locked),
            lost: read(&self.lost),
            conflict: read(&self.conflict),
            forbidden: read(&self.forbidden),
            required: read(&self.required),
            limited: read(&self.limited),
            unavailable: read(&self.unavailable),
            malformed: read(&self.malformed),
        }
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Locks {
    /// How often what happened, and how many of what there are now.
    ///
    /// ```
    /// # use tower_lock::{LockRequest, Locks, MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let locks = Locks::new(MemoryStore::new());
    /// let guard = locks.hold(LockRequest::exclusive("/docs/7")).await?;
    /// assert!(locks.acquire(LockRequest::exclusive("/docs")).await.is_err());
    /// let stats = locks.stats();
    /// assert_eq!((stats.granted, stats.refused.locked, stats.guards), (1, 1, 1));
    /// drop(guard);
    /// assert_eq!((locks.stats().released, locks.stats().guards), (1, 0));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn stats(&self) -> LockStats {
        let counters = self.counters();
        LockStats {
            granted: read(&counters.granted),
            repeated: read(&counters.repeated),
            refreshed: read(&counters.refreshed),
            released: read(&counters.released),
            expired: read(&counters.expired),
            breaking: read(&counters.breaking),
            broken: read(&counters.broken),
            replaced: read(&counters.replaced),
            transferred: read(&counters.transferred),
            claimed: read(&counters.claimed),
            cleared: read(&counters.cleared),
            refused: counters.refused.read(),
            waits_begun: read(&counters.waits_begun),
            waits_served: read(&counters.waits_served),
            waits_given_up: read(&counters.waits_given_up),
            waiting: self.waiting(),
            watching: self.watching(),
            guards: counters.guards.load(Ordering::Relaxed),
        }
    }
}

impl Locks {
    /// Counts somebody who begins to wait.
    pub(crate) fn counted_wait(&self) -> CountedWait {
        CountedWait::new(self.clone())
    }
}

/// Counted among the guards as long as this lives.
#[derive(Debug)]
pub(super) struct CountedGuard(Locks);

impl CountedGuard {
    pub(super) fn new(locks: Locks) -> Self {
        locks.counters().guards.fetch_add(1, Ordering::Relaxed);
        Self(locks)
    }
}

impl Drop for CountedGuard {
    fn drop(&mut self) {
        self.0.counters().guards.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counted among those who began to wait; and among those who gave up when this is dropped, unless they were served.
#[derive(Debug)]
pub(crate) struct CountedWait {
    locks: Locks,
    served: bool,
}

impl CountedWait {
    pub(crate) fn new(locks: Locks) -> Self {
        one_more(&locks.counters().waits_begun);
        Self { locks, served: false }
    }

    /// What was waited for has come.
    pub(crate) fn served(&mut self) {
        self.served = true;
    }
}

impl Drop for CountedWait {
    fn drop(&mut self) {
        let counters = self.locks.counters();
        one_more(if self.served { &counters.waits_served } else { &counters.waits_given_up });
    }
}
