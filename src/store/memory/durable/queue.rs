//! `Queue`: the steps that are to become durable, in their order; `Settling`: an answer that waits until they are.

use std::{
    borrow::Cow,
    error::Error,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::{Condvar, Mutex};

use super::{Seen, notes::Step};
use crate::store::{Acquired, Refreshed, Released, StoreError, StoreErrorKind, StoreFuture};

/// Changes that nobody waits for, before they are written down all the same.
const MANY: usize = 1024;
/// Steps that wait for the disk, before no more are taken: callers may give up and come again, the steps stay.
const MOST: usize = 1 << 16;

/// What a step's answer waits for; nothing in a store without a file.
pub(in crate::store::memory) type Ticket = Option<Arc<Batch>>;

#[derive(Debug)]
pub(in crate::store::memory) struct Queue {
    state: Mutex<State>,
    /// For the writer: there is something to do.
    work: Condvar,
}

#[derive(Debug)]
struct State {
    steps: Vec<Step>,
    changes: usize,
    seen: Seen,
    /// What the steps that are waiting will be written down with.
    forming: Arc<Batch>,
    /// The last one that somebody waits for.
    promised: Ticket,
    urgent: bool,
    closed: bool,
}

/// Steps that are written down together.
#[derive(Debug, Default)]
pub(in crate::store::memory) struct Batch(Mutex<Outcome>);

#[derive(Debug)]
enum Outcome {
    Waiting(Vec<Waker>),
    Durable,
    Failed(Failure),
}

impl Default for Outcome {
    fn default() -> Self {
        Self::Waiting(Vec::new())
    }
}

/// A failure that several callers are told.
#[derive(Clone, Debug)]
pub(in crate::store::memory) struct Failure {
    kind: StoreErrorKind,
    what: Cow<'static, str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    pub(super) fn new(kind: StoreErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    pub(super) fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let error = Self::new(failure.kind, failure.what);
        match failure.source {
            Some(source) => error.caused_by(source),
            None => error,
        }
    }
}

/// What the writer takes from the queue.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) steps: Vec<Step>,
    pub(super) seen: Seen,
    pub(super) batch: Arc<Batch>,
}

impl Queue {
    pub(in crate::store::memory) fn new() -> Self {
        let state = State {
            steps: Vec::new(),
            changes: 0,
            seen: Seen::default(),
            forming: Arc::default(),
            promised: None,
            urgent: false,
            closed: false,
        };
        Self { state: Mutex::new(state), work: Condvar::new() }
    }

    /// An error for who comes while the disk does not keep up.
    pub(in crate::store::memory) fn overfull(&self) -> Option<StoreError> {
        let full = self.state.lock().steps.len() >= MOST;
        full.then(|| StoreError::new(StoreErrorKind::TimedOut, "too much waits to be written to the file"))
    }

    /// Adds a step, under the lock of the table, and so in the order of the steps. Answers what is to be waited for.
    pub(in crate::store::memory) fn add(&self, step: Step, seen: Seen) -> Ticket {
        let mut state = self.state.lock();
        if state.closed {
            let closed = Batch::default();
            closed.finish(Err(Failure::new(StoreErrorKind::Unavailable, "the store has been closed")));
            return Some(Arc::new(closed));
        }
        let promised = step.promised;
        state.changes += step.changes.len();
        if !step.changes.is_empty() {
            state.seen = state.seen.later(seen);
            state.steps.push(step);
        }
        if promised {
            state.promised = Some(state.forming.clone());
        }
        if !state.urgent && (promised || state.changes >= MANY) {
            state.urgent = true;
            self.work.notify_one();
        }
        state.promised.clone()
    }

    /// What is to be written down next; waits for it. None once the store is closed and nothing is left.
    pub(super) fn next(&self) -> Option<Work> {
        let mut state = self.state.lock();
        while !state.urgent && !state.closed {
            self.work.wait(&mut state);
        }
        if state.steps.is_empty() { None } else { Some(state.take()) }
    }

    /// What has come in since, without waiting.
    pub(super) fn rest(&self) -> Work {
        self.state.lock().take()
    }

    /// Nothing may be added any more; what was is still written down.
    pub(in crate::store::memory) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_one();
    }
}

impl State {
    fn take(&mut self) -> Work {
        self.changes = 0;
        self.urgent = false;
        Work { steps: mem::take(&mut self.steps), seen: self.seen, batch: mem::take(&mut self.forming) }
    }
}

impl Batch {
    /// Says to all who wait how it went.
    pub(super) fn finish(&self, how: Result<(), Failure>) {
        let outcome = match how {
            Ok(()) => Outcome::Durable,
            Err(failure) => Outcome::Failed(failure),
        };
        // Outside of the mutex: what a waker does is not ours to know.
        let before = mem::replace(&mut *self.0.lock(), outcome);
        if let Outcome::Waiting(wakers) = before {
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn is_durable(&self) -> bool {
        matches!(*self.0.lock(), Outcome::Durable)
    }

    /// `place` is where this waiter's waker stands.
    fn poll(&self, place: &mut Option<usize>, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match &mut *self.0.lock() {
            Outcome::Durable => Poll::Ready(Ok(())),
            Outcome::Failed(failure) => Poll::Ready(Err(failure.clone())),
            Outcome::Waiting(wakers) => {
                match place.and_then(|place| wakers.get_mut(place)) {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => {
                        *place = Some(wakers.len());
                        wakers.push(cx.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }
}

/// Whether an answer tells of a lock, so that it must be durable.
pub(in crate::store::memory) trait Telling: Send + Unpin + 'static {
    fn tells(&self) -> bool;
}

impl Telling for Acquired {
    fn tells(&self) -> bool {
        matches!(self, Self::Granted(_) | Self::Repeated(_) | Self::Lost(_))
    }
}

impl Telling for Refreshed {
    fn tells(&self) -> bool {
        !matches!(self, Self::NotHolder)
    }
}

impl Telling for Released {
    fn tells(&self) -> bool {
        !matches!(self, Self::NotHolder)
    }
}

impl Telling for usize {
    fn tells(&self) -> bool {
        true
    }
}

/// An answer that is passed on once what it tells of is durable.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(in crate::store::memory) struct Settling<T> {
    answer: Option<T>,
    batch: Arc<Batch>,
    place: Option<usize>,
}

impl<T: Telling> Settling<T> {
    /// The answer back, if there is nothing to wait for.
    pub(in crate::store::memory) fn new(answer: T, ticket: Ticket) -> Result<Self, T> {
        match ticket {
            Some(batch) if answer.tells() && !batch.is_durable() => Ok(Self { answer: Some(answer), batch, place: None }),
            _ => Err(answer),
        }
    }
}

impl<T: Unpin> Future for Settling<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let how = std::task::ready!(this.batch.poll(&mut this.place, cx));
        match (how, this.answer.take()) {
            (Ok(()), Some(answer)) => Poll::Ready(Ok(answer)),
            (Ok(()), None) => Poll::Pending,
            (Err(failure), _) => Poll::Ready(Err(failure.into())),
        }
    }
}

/// The answer, at once where it tells of nothing that is still to be written down.
pub(in crate::store::memory) fn settled<T: Telling>(answer: T, ticket: Ticket) -> StoreFuture<T> {
    match Settling::new(answer, ticket) {
        Ok(settling) => StoreFuture::new(settling),
        Err(answer) => StoreFuture::ready(answer),
    }
}
