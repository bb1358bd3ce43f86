//! `Standing`: how it stands with the locks of a guard, by its own reckoning and by what the store has told.
//!
//! Everything that may be known of a loss is decided here, once: what is lost stays lost, whatever the store answers later.

use std::time::Duration;

use tokio::sync::watch;

use super::super::{
    Caller, Locks, Refusal, RefusalCode,
    race::{First, race},
};
use crate::lock::{Lock, LostCause, LostLock, Timestamp};

/// Shared by a guard, by what keeps its locks alive, and by the futures that wait for a loss.
#[derive(Debug)]
pub(super) struct Standing {
    locks: Locks,
    state: watch::Sender<State>,
}

#[derive(Debug)]
struct State {
    each: Vec<Each>,
    lost: Option<Refusal>,
    breaking: Option<Refusal>,
}

/// One of the locks.
#[derive(Debug)]
struct Each {
    lock: Lock,
    /// When it is over, by the clock of this process; none while it is endless.
    deadline: Option<Timestamp>,
    breaking: Option<LostLock>,
    lost: Option<LostLock>,
}

impl Standing {
    /// `granted` were asked for at `asked`, so they live from then at the earliest.
    pub(super) fn new(locks: Locks, granted: &[Lock], asked: Timestamp) -> Self {
        let each = |lock: &Lock| Each {
            lock: lock.clone(),
            deadline: left(lock).map(|left| asked.after(left)),
            breaking: None,
            lost: None,
        };
        let state = State { each: granted.iter().map(each).collect(), lost: None, breaking: None };
        Self { locks, state: watch::Sender::new(state) }
    }

    pub(super) fn locks(&self) -> &Locks {
        &self.locks
    }

    /// When the lock at `at` is over, by what is known now.
    pub(super) fn deadline_of(&self, at: usize) -> Option<Timestamp> {
        self.state.borrow().each[at].deadline
    }

    /// When the first of those that are left is over.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let state = self.state.borrow();
        state.each.iter().filter(|each| each.lost.is_none()).filter_map(|each| each.deadline).min()
    }

    pub(super) fn is_lost(&self, at: usize) -> bool {
        self.state.borrow().each[at].lost.is_some()
    }

    /// The refusal of whatever relies on the locks, if one of them is lost or its time is up.
    pub(super) fn check(&self) -> Option<Refusal> {
        let now = self.locks.clock().now();
        {
            let state = self.state.borrow();
            let is_due = |each: &Each| each.lost.is_none() && each.deadline.is_some_and(|deadline| deadline <= now);
            if !state.each.iter().any(is_due) {
                return state.lost.clone();
            }
        }
        self.state.send_if_modified(|state| {
            let due = state.each.iter_mut().filter(|each| each.lost.is_none());
            for each in due.filter(|each| each.deadline.is_some_and(|deadline| deadline <= now)) {
                each.lost = Some(each.breaking.clone().unwrap_or_else(|| LostLock {
                    at: each.lock.expires_at(),
                    ..Self::about(&each.lock, LostCause::Expired)
                }));
            }
            self.tell_lost(state);
            true
        });
        self.state.borrow().lost.clone()
    }

    /// The lock at `at` lives on; `lock` was answered to what was asked at `sent`.
    pub(super) fn lives_on(&self, at: usize, lock: &Lock, sent: Timestamp) {
        self.edit(at, |each| {
            each.deadline = left(lock).map(|left| sent.after(left));
            each.lock = lock.clone();
        });
    }

    /// The lock at `at` ends no later than it did when somebody saw it as `lock`.
    pub(super) fn ends_by(&self, at: usize, lock: &Lock, seen: Timestamp) {
        let Some(ends) = left(lock).map(|left| seen.after(left)) else { return };
        self.edit(at, |each| each.deadline = Some(each.deadline.map_or(ends, |deadline| deadline.min(ends))));
    }

    /// The lock at `at` is being broken, as `why` says.
    pub(super) fn breaks(&self, at: usize, why: LostLock) {
        self.state.send_if_modified(|state| {
            let Some(each) = state.each.get_mut(at).filter(|each| each.lost.is_none()) else { return false };
            each.breaking = Some(why);
            let all: Vec<LostLock> = state.each.iter().filter_map(|each| each.breaking.clone()).collect();
            state.breaking = Some(self.refusal(&state.each[at].lock, all));
            true
        });
    }

    /// The lock at `at` is being broken; nobody is told before it is known by whom and why.
    pub(super) fn is_said_to_break(&self, at: usize, why: LostLock) {
        self.edit(at, |each| each.breaking = Some(why));
    }

    /// What is known of the break of the lock at `at`.
    pub(super) fn is_breaking(&self, at: usize) -> bool {
        self.state.borrow().each[at].breaking.is_some()
    }

    /// The lock at `at` is gone.
    pub(super) fn lose(&self, at: usize, lost: LostLock) {
        self.state.send_if_modified(|state| {
            let Some(each) = state.each.get_mut(at).filter(|each| each.lost.is_none()) else { return false };
            // The store tells nothing of a lock that it has forgotten; of this one we know more.
            let known = Self::about(&each.lock, lost.cause);
            each.lost = Some(LostLock { id: lost.id.or(known.id), root: lost.root.or(known.root), ..lost });
            self.tell_lost(state);
            true
        });
    }

    /// The guard has ended its locks, or given them away: whoever waits for a loss waits no longer.
    pub(super) fn end(&self, how: End) {
        self.state.send_if_modified(|state| {
            if state.lost.is_none() {
                state.lost = Some(match how {
                    End::Released => {
                        let lost = state.each.iter().map(|each| Self::about(&each.lock, LostCause::Released)).collect();
                        self.refusal(&state.each[0].lock, lost)
                    }
                    End::Kept => Refusal::new(
                        RefusalCode::LockLost,
                        "The guard of this lock is gone; the lock lives on, and nobody watches it here.",
                    ),
                });
            }
            true
        });
    }

    /// The refusal, once a lock is lost.
    pub(super) async fn until_lost(&self) -> Refusal {
        let mut news = self.state.subscribe();
        loop {
            news.mark_unchanged();
            if let Some(refusal) = self.check() {
                return refusal;
            }
            // What keeps the locks alive may be gone with its runtime, so the time is watched here as well.
            let runtime = tokio::runtime::Handle::try_current().is_ok();
            match self.deadline().filter(|_| runtime) {
                Some(deadline) => _ = race(news.changed(), self.locks.clock().sleep_until(deadline)).await,
                None => _ = news.changed().await,
            }
        }
    }

    /// Why the locks are going to be lost, once that is known; or why they are lost.
    pub(super) async fn until_breaking(&self) -> Refusal {
        let mut news = self.state.subscribe();
        let breaking = async {
            match news.wait_for(|state| state.breaking.is_some()).await.map(|state| state.breaking.clone()) {
                Ok(Some(refusal)) => refusal,
                _ => std::future::pending().await,
            }
        };
        match race(breaking, self.until_lost()).await {
            First::One(refusal) | First::Other(refusal) => refusal,
        }
    }

    fn edit(&self, at: usize, edit: impl FnOnce(&mut Each)) {
        self.state.send_if_modified(|state| {
            let Some(each) = state.each.get_mut(at).filter(|each| each.lost.is_none()) else { return false };
            edit(each);
            true
        });
    }

    fn tell_lost(&self, state: &mut State) {
        let lost: Vec<LostLock> = state.each.iter().filter_map(|each| each.lost.clone()).collect();
        if let Some(first) = state.each.iter().find(|each| each.lost.is_some()) {
            state.lost = Some(self.refusal(&first.lock, lost));
        }
    }

    fn refusal(&self, first: &Lock, lost: Vec<LostLock>) -> Refusal {
        let holder = Caller::application(first.principal().cloned());
        self.locks.lock_lost(&holder, Some(first.root()), lost, Vec::new(), false)
    }

    /// `lock` is gone; no more than that is known.
    pub(super) fn about(lock: &Lock, cause: LostCause) -> LostLock {
        LostLock { id: Some(lock.id()), root: Some(lock.root().clone()), ..LostLock::new(cause) }
    }
}

/// How a guard ends that has lost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its locks end with it.
    Released,
    /// They live on.
    Kept,
}

/// How long `lock` had still to live when the store saw it; nothing, where it is endless.
pub(super) fn left(lock: &Lock) -> Option<Duration> {
    lock.expires_at().map(|end| end.since(lock.life().seen_at))
}
