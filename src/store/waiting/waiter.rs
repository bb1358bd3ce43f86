//! `Waiter`: an acquire in line, and when it is worth asking the store.
//!
//! ```text
//! while waiter.again().await == Again::Ask {
//!     let answer = store.acquire(..).await;
//!     if waiter.answered(&answer) == Settled::Yes { return answer }
//! }
//! // The time is up: the last answer is it.
//! ```

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use super::{Blocked, Line, Wants, line::Turn};
use crate::{
    lock::Timestamp,
    store::{Acquired, Clock, ClockSleep, LockStore, StoreError},
};

/// What somebody who waits is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// To ask the store, once more or for the first time.
    Ask,
    /// To make do with the last answer.
    TimeUp,
}

/// Whether an answer is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is: waiting changes nothing about it.
    Yes,
    /// Something is in the way that may go.
    No,
}

/// An acquire in line. Dropping it gives up its place.
#[must_use]
pub(crate) struct Waiter {
    turn: Turn,
    blocked: Blocked,
    clock: Clock,
    until: ClockSleep,
    asked_at: Timestamp,
    ends_at: Timestamp,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Just come.
    New,
    /// Others are in front.
    Behind,
    /// In front, and never asked but on arrival.
    Arrived,
    /// In front, and asks again.
    Front,
}

impl Waiter {
    /// Joins `line` for locks in `store`, until `clock` shows `until`.
    pub(crate) fn join(line: &Arc<Line>, wants: Wants, store: Arc<dyn LockStore>, clock: Clock, until: Timestamp) -> Self {
        Self {
            turn: line.join(wants),
            blocked: Blocked::new(store, clock.clone()),
            until: clock.sleep_until(until),
            asked_at: clock.now(),
            ends_at: until,
            clock,
            stage: Stage::New,
        }
    }

    /// Waits until it is worth asking, or until the time is up.
    pub(crate) async fn again(&mut self) -> Again {
        poll_fn(|cx| self.poll_again(cx)).await
    }

    fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<Again> {
        if Pin::new(&mut self.until).poll(cx).is_ready() {
            return Poll::Ready(Again::TimeUp);
        }
        self.stage = match self.stage {
            Stage::New if self.turn.poll_front(cx).is_ready() => Stage::Arrived,
            Stage::New | Stage::Behind => {
                self.stage = Stage::Behind;
                ready!(self.turn.poll_front(cx));
                Stage::Front
            }
            Stage::Arrived | Stage::Front => {
                let poked = self.turn.poll_poked(cx).is_ready();
                if self.blocked.poll_changed(cx).is_pending() && !poked {
                    return Poll::Pending;
                }
                Stage::Front
            }
        };
        self.asked_at = self.clock.now();
        self.turn.asking();
        Poll::Ready(Again::Ask)
    }

    /// Whether nobody goes first.
    pub(crate) fn is_front(&self) -> bool {
        self.turn.poll_front(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// How long a question may take that may take `most`: all of that for somebody who has just come and would be answered
    /// by then without waiting, no longer than the time that is left for whoever has waited.
    pub(crate) fn within(&self, most: Duration) -> Duration {
        match self.stage {
            Stage::New | Stage::Arrived => most,
            Stage::Behind | Stage::Front => most.min(self.ends_at.since(self.asked_at)),
        }
    }

    /// What the store has answered.
    pub(crate) fn answered(&mut self, answer: &Result<Acquired, StoreError>) -> Settled {
        self.turn.answered();
        match answer {
            Ok(Acquired::Conflict(conflict)) => self.blocked.by_these(conflict, self.asked_at),
            Ok(Acquired::Busy { retry_after }) => self.blocked.by_writes(*retry_after),
            // Whoever comes to a store that is down is told so; whoever has waited goes on waiting.
            Err(_) if self.stage != Stage::Arrived => self.blocked.failed(),
            _ => return Settled::Yes,
        }
        Settled::No
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("turn", &self.turn).field("blocked", &self.blocked).finish_non_exhaustive()
    }
}
