//! `Keeper`: the task that keeps the locks of a guard alive.
//!
//! A lock is refreshed at a third of what it has to live. Where nobody answers it is asked again with growing pauses,
//! until what was left by our own reckoning is over: that counts from before a request was sent, so it never ends after
//! the lock.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::{
        Loss, RemoteLocks, SeenLock,
        seen::Left,
        terms::Life,
        wire::{Grant, Refreshed, Remaining, Term, remaining},
    },
    standing::{Standing, until},
};
use crate::lock::{LockState, LostCause};

/// The shortest pause before a server that did not answer is asked again, and the least that an answer is waited for.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// How long nothing is heard of a lock at most, also where it has long to live: only so a break is heard of.
const SELDOM: Duration = Duration::from_secs(300);
/// The shortest time between two looks at a lock that gets no more time: it is being broken, or in its last term.
const LOOK: Duration = Duration::from_secs(1);

/// Ready once every lock is lost.
pub(super) struct Keeper {
    kept: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Keeper {
    pub(super) fn new(locks: &RemoteLocks, standing: &Arc<Standing>, grants: &[Grant], life: Option<Life>) -> Self {
        let kept = grants.iter().enumerate().map(|(at, grant)| {
            let kept = Kept { locks: locks.clone(), standing: standing.clone(), at, grant: grant.clone(), life };
            Box::pin(kept.keep()) as Pin<Box<_>>
        });
        Self { kept: kept.collect() }
    }
}

impl Future for Keeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.kept.retain_mut(|kept| kept.as_mut().poll(cx).is_pending());
        if self.kept.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// One of the locks.
struct Kept {
    locks: RemoteLocks,
    standing: Arc<Standing>,
    at: usize,
    grant: Grant,
    life: Option<Life>,
}

impl Kept {
    /// Until it is lost.
    async fn keep(self) {
        let now = Instant::now();
        // It may have been refreshed since it was granted.
        let left = self.standing.deadline_of(self.at).map(|deadline| deadline.duration_since(now));
        let mut due = Some(self.next(left, now));
        let mut pause = SHORTEST;
        loop {
            let times = [due, self.standing.deadline_of(self.at)];
            until(times.into_iter().flatten().min()).await;
            if self.standing.is_lost(self.at) {
                return;
            }
            let sent = Instant::now();
            if due.is_none_or(|due| sent < due) {
                continue;
            }
            let answer = match self.standing.breaking_of(self.at) {
                None => self.refresh(sent).await,
                Some(why) => self.look(&why, sent).await,
            };
            due = match answer {
                Ok(next) => {
                    pause = SHORTEST;
                    next
                }
                Err(Unanswered) => {
                    let now = Instant::now();
                    // Ever sooner towards the end.
                    let wait = self.locks.jitter.about(pause).min(self.left(now) / 4).max(SHORTEST);
                    pause = (pause * 2).min(LONGEST);
                    Some(now + wait)
                }
            };
        }
    }

    /// Asks the server to let it live on. When to ask next; never, where there is no use.
    async fn refresh(&self, sent: Instant) -> Result<Option<Instant>, Unanswered> {
        match self.locks.refresh(&self.grant, self.life, self.patience(sent)).await {
            Refreshed::Alive(alive) => {
                self.standing.lives_on(self.at, &alive, sent);
                Ok(Some(match alive.term {
                    Term::More => self.next(alive.left, sent),
                    // It changes nothing, but only so a break is heard of.
                    Term::Last => self.next_look(sent),
                }))
            }
            Refreshed::Gone(refused) => {
                let loss = refused.lost().first().cloned().unwrap_or(Loss::new(LostCause::Unknown));
                if loss.cause == LostCause::Broken {
                    // It may have a little time left.
                    return self.look(&loss, Instant::now()).await;
                }
                self.standing.lose(self.at, &loss);
                Ok(None)
            }
            Refreshed::Failed(_) => Err(Unanswered),
        }
    }

    /// How it stands with a lock of which the server says that it was broken. Unless that is known, it is lost.
    async fn look(&self, why: &Loss, sent: Instant) -> Result<Option<Instant>, Unanswered> {
        let known = self.standing.breaking_of(self.at).is_some();
        let seen = match self.grant.lock.lock_id {
            Some(id) => self.locks.look(id, self.patience(sent)).await,
            None => Ok(None),
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(_) if known => return Err(Unanswered),
            Err(_) => None,
        };
        let breaking = seen.as_ref().filter(|seen| {
            SeenLock::read(seen).is_some_and(|lock| lock.state == Some(LockState::Breaking) && Left::read(seen).is_some())
        });
        let Some(left) = breaking.and_then(|lock| remaining(lock, None)) else {
            self.standing.lose(self.at, why);
            return Ok(None);
        };
        self.standing.breaks(self.at, why, left, sent);
        // A second break may have left it less.
        Ok(Some(self.next_look(sent)))
    }

    /// When one more look is taken at a lock that gets no more time.
    fn next_look(&self, seen: Instant) -> Instant {
        seen + (self.left(seen) / 3).clamp(LOOK, SELDOM)
    }

    /// When it is refreshed next, if it had so long to live at `seen`.
    fn next(&self, left: Remaining, seen: Instant) -> Instant {
        let third = left.map_or(SELDOM, |left| left / 3).clamp(SHORTEST, SELDOM);
        seen + self.locks.jitter.about(third)
    }

    /// How long it has to live, by what is known.
    fn left(&self, now: Instant) -> Duration {
        self.standing.deadline_of(self.at).map_or(SELDOM, |deadline| deadline.saturating_duration_since(now))
    }

    /// How long an answer is waited for: what hangs must not take all the time that is left.
    fn patience(&self, now: Instant) -> Duration {
        (self.left(now) / 3).max(SHORTEST).min(self.locks.patience())
    }
}

/// Nobody answered, or nobody who knows.
struct Unanswered;
