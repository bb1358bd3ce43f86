//! `Standing`: how it stands with the locks of a guard, by what the server has told and by our own reckoning.
//!
//! Everything that may be known of a loss is decided here, once: what is lost stays lost, whatever the server answers later.

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::super::{
    Loss, SeenLock,
    wire::{Alive, Grant, Remaining, Term},
};
use crate::lock::LostCause;

/// Shared by a guard, by what keeps its locks alive, and by the futures that wait for a loss.
#[derive(Debug)]
pub(super) struct Standing {
    state: watch::Sender<State>,
}

#[derive(Debug)]
struct State {
    each: Vec<Each>,
    /// The first loss.
    lost: Option<Loss>,
}

/// One of the locks.
#[derive(Debug)]
struct Each {
    /// When it is over by the clock of this process; none while it is endless.
    deadline: Option<Instant>,
    /// Whether no refresh gives it more time.
    last_term: bool,
    /// Why it is about to be lost.
    breaking: Option<Loss>,
    /// What is known of it, for a loss.
    known: Loss,
    lost: bool,
}

impl Standing {
    /// `grants` were asked for at `asked`, so they live from then at the earliest.
    pub(super) fn new(grants: &[Grant], asked: Instant) -> Self {
        let each = |grant: &Grant| Each {
            deadline: deadline(asked, grant.left),
            last_term: false,
            breaking: None,
            known: about(&grant.lock, &grant.name.resource),
            lost: false,
        };
        Self { state: watch::Sender::new(State { each: grants.iter().map(each).collect(), lost: None }) }
    }

    /// When the lock at `at` is over, by what is known now.
    pub(super) fn deadline_of(&self, at: usize) -> Option<Instant> {
        self.state.borrow().each[at].deadline
    }

    /// When the first of those that are left is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state.borrow();
        state.each.iter().filter(|each| !each.lost).filter_map(|each| each.deadline).min()
    }

    /// When the last of them is over; nothing, where one is endless.
    pub(super) fn last_deadline(&self) -> Option<Instant> {
        let state = self.state.borrow();
        state.each.iter().map(|each| each.deadline).reduce(|last, next| Some(last?.max(next?))).flatten()
    }

    pub(super) fn is_last_term(&self) -> bool {
        self.state.borrow().each.iter().any(|each| each.last_term)
    }

    /// Whether the lock at `at` is lost, or its time is up.
    pub(super) fn is_lost(&self, at: usize) -> bool {
        self.check();
        self.state.borrow().each[at].lost
    }

    /// How a lock was lost, if one is, or if its time is up.
    pub(super) fn check(&self) -> Option<Loss> {
        let now = Instant::now();
        let is_due = |each: &Each| !each.lost && each.deadline.is_some_and(|deadline| deadline <= now);
        {
            let state = self.state.borrow();
            if !state.each.iter().any(is_due) {
                return state.lost.clone();
            }
        }
        self.state.send_if_modified(|state| {
            for each in state.each.iter_mut().filter(|each| is_due(each)) {
                each.lost = true;
                let expired = || Loss { cause: LostCause::Expired, ..each.known.clone() };
                state.lost.get_or_insert_with(|| each.breaking.clone().unwrap_or_else(expired));
            }
            true
        });
        self.state.borrow().lost.clone()
    }

    /// Why a lock is about to be lost, if one is.
    pub(super) fn breaking(&self) -> Option<Loss> {
        self.state.borrow().each.iter().find_map(|each| each.breaking.clone())
    }

    pub(super) fn breaking_of(&self, at: usize) -> Option<Loss> {
        self.state.borrow().each[at].breaking.clone()
    }

    /// The lock at `at` lives on; so it was answered to what was asked at `sent`.
    pub(super) fn lives_on(&self, at: usize, alive: &Alive, sent: Instant) {
        self.edit(at, |each| (each.deadline, each.last_term) = (deadline(sent, alive.left), alive.term == Term::Last));
    }

    /// The lock at `at` is being broken, as `why` says, and lives no longer than `left` from `sent`.
    pub(super) fn breaks(&self, at: usize, why: &Loss, left: Remaining, sent: Instant) {
        self.edit(at, |each| {
            // However long it takes to tell us, it ends no later than it would have.
            each.deadline = match (each.deadline, deadline(sent, left)) {
                (Some(before), Some(now)) => Some(before.min(now)),
                (before, now) => before.or(now),
            };
            (each.breaking, each.last_term) = (Some(why.clone().or(&each.known)), true);
        });
    }

    /// The lock at `at` is gone.
    pub(super) fn lose(&self, at: usize, loss: &Loss) {
        self.state.send_if_modified(|state| {
            let Some(each) = state.each.get_mut(at).filter(|each| !each.lost) else { return false };
            each.lost = true;
            let loss = loss.clone().or(&each.known);
            state.lost.get_or_insert(loss);
            true
        });
    }

    /// The guard has ended its locks, or given them away: whoever waits for a loss waits no longer.
    pub(super) fn end(&self) {
        self.state.send_if_modified(|state| {
            let known = state.each.first().map_or(Loss::new(LostCause::Released), |each| each.known.clone());
            state.lost.get_or_insert(Loss { cause: LostCause::Released, ..known });
            true
        });
    }

    /// The loss, once there is one.
    pub(super) async fn until_lost(&self) -> Loss {
        let mut news = self.state.subscribe();
        loop {
            news.mark_unchanged();
            if let Some(loss) = self.check() {
                return loss;
            }
            // What keeps the locks alive may be gone with its runtime, so the time is watched here as well.
            let runtime = tokio::runtime::Handle::try_current().is_ok();
            match self.deadline().filter(|_| runtime) {
                Some(deadline) => _ = tokio::time::timeout_at(deadline, news.changed()).await,
                None => _ = news.changed().await,
            }
        }
    }

    fn edit(&self, at: usize, edit: impl FnOnce(&mut Each)) {
        self.state.send_if_modified(|state| {
            let Some(each) = state.each.get_mut(at).filter(|each| !each.lost) else { return false };
            edit(each);
            true
        });
    }
}

/// When what has `left` to live from `sent` is over.
fn deadline(sent: Instant, left: Remaining) -> Option<Instant> {
    let left = left?;
    // The server's clock may go a little faster than ours. What no clock can count to is as good as endless.
    sent.checked_add(left - left / 1_000)
}

/// Of this lock no more is known than what it is.
fn about(lock: &SeenLock, resource: &str) -> Loss {
    let resource = lock.resource.clone().unwrap_or_else(|| resource.to_owned());
    Loss { lock_id: lock.lock_id, resource: Some(resource), ..Loss::new(LostCause::Unknown) }
}

impl Loss {
    /// What is not told of a loss, but known of the lock.
    fn or(self, known: &Self) -> Self {
        Self { lock_id: self.lock_id.or(known.lock_id), resource: self.resource.or_else(|| known.resource.clone()), ..self }
    }
}

/// Ready at `time`; never, where there is none.
pub(super) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
