//! `ModelStore`: section 4 written down as plainly as it can be, to compare other stores with.
//!
//! One mutex, lists, and searches from end to end. It keeps every rule and no promise of speed; nobody should serve
//! from it.

mod acquire;
mod admit;
mod manage;
mod queue;
mod state;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::{
    acquire::Start,
    queue::{Events, Queue},
    state::State,
};
use super::Mode;
use crate::{
    lock::{Gone, Target, TokenKey},
    request::Conditions,
    store::{
        Acquire, Acquired, Admitted, Clock, Cursor, InFlight, LockPage, LockQuery, LockStore, Permit, Refresh, Refreshed,
        Release, Released, StoreFuture, Verdict, Watch, Write, WriteId,
    },
};

/// A store that searches lists: the reference that other stores are compared with.
#[derive(Clone)]
pub struct ModelStore(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    clock: Clock,
    key: TokenKey,
    mode: Mode,
    changed: Notify,
}

impl ModelStore {
    /// An empty store that goes by `clock` and registers writes.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::in_mode(clock, Mode::Guarded)
    }

    /// An empty store in either mode.
    #[must_use]
    pub fn in_mode(clock: Clock, mode: Mode) -> Self {
        let (key, changed) = (TokenKey::random(), Notify::new());
        Self(Arc::new(Shared { state: Mutex::default(), clock, key, mode, changed }))
    }
}

impl Shared {
    /// One atomic step: everything is brought up to date first, and whoever waits looks again afterwards.
    fn step<T>(&self, work: impl FnOnce(&mut State, crate::lock::Timestamp) -> T) -> T {
        let answer = {
            let mut state = self.state.lock();
            let now = self.clock.now();
            state.sweep(now);
            let answer = work(&mut state, now);
            state.sweep(now);
            answer
        };
        self.changed.notify_waiters();
        answer
    }
}

impl LockStore for ModelStore {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        let shared = &self.0;
        let permit = |id: WriteId, generation: u64| match shared.mode {
            Mode::Guarded => Permit::new(shared.clone(), id),
            Mode::CheckOnly => Permit::unguarded(generation),
        };
        StoreFuture::ready(shared.step(|state, now| state.admit(write, &shared.key, shared.mode, now, permit)))
    }

    fn let_through(&self, targets: &[Target<'_>]) -> Option<Permit> {
        match self.admit(&Write::new(targets, &Conditions::NONE)).into_ready().ok()?.ok()? {
            Verdict::Admitted(Admitted { permit, answered: None }) => Some(permit),
            _ => None,
        }
    }

    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        let shared = self.0.clone();
        let (serial, deadline) = match shared.step(|state, now| state.acquire(request, &shared.key, now)) {
            Start::Answer(answer) => return StoreFuture::ready(answer),
            Start::Marked(serial, deadline) => (serial, deadline),
        };
        let mark = Withdraw { shared, serial };
        StoreFuture::new(async move {
            let shared = &mark.shared;
            loop {
                let mut changed = pin!(shared.changed.notified());
                // Listen before looking: a change in between would be missed.
                changed.as_mut().enable();
                let answer = {
                    let mut state = shared.state.lock();
                    let now = shared.clock.now();
                    state.sweep(now);
                    state.settle(serial, now)
                };
                if let Some(answer) = answer {
                    shared.changed.notify_waiters();
                    return Ok(answer);
                }
                let mut late = pin!(shared.clock.sleep_until(deadline));
                poll_fn(|cx| if changed.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { late.as_mut().poll(cx) })
                    .await;
            }
        })
    }

    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        StoreFuture::ready(self.0.step(|state, now| state.refresh(refresh, &self.0.key, now)))
    }

    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        StoreFuture::ready(self.0.step(|state, now| state.release(release, &self.0.key, now)))
    }

    fn clear(&self, gone: &[Gone<'_>], under: Option<WriteId>) -> StoreFuture<usize> {
        StoreFuture::ready(self.0.step(|state, now| state.clear(gone, under, now)))
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        let mut locks = self.0.step(|state, now| state.everything(now));
        locks.retain(|lock| query.fits(lock) && query.after.as_ref().is_none_or(|cursor| cursor.precedes(lock)));
        locks.sort_by(|a, b| (a.root().path(), a.id()).cmp(&(b.root().path(), b.id())));
        let more = locks.len() > query.limit;
        locks.truncate(query.limit);
        let next = locks.last().filter(|_| more).map(Cursor::of);
        StoreFuture::ready(LockPage { locks, next })
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        let queue = Queue::new(query);
        self.0.step(|state, _| state.watchers.push(Arc::downgrade(&queue)));
        Watch::new(Events(queue))
    }
}

impl InFlight for Shared {
    fn end(self: Arc<Self>, write: WriteId) {
        self.step(|state, _| state.writes.retain(|running| running.id != write));
    }

    fn poll_lapsed(&self, _: WriteId, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn generation(&self, write: WriteId) -> u64 {
        let state = self.state.lock();
        state.writes.iter().find(|running| running.id == write).map_or(state.generation, |running| running.generation)
    }
}

/// Takes the mark away with the future that waits for it.
struct Withdraw {
    shared: Arc<Shared>,
    serial: u64,
}

impl Drop for Withdraw {
    fn drop(&mut self) {
        self.shared.step(|state, _| state.withdraw(self.serial));
    }
}

impl std::fmt::Debug for ModelStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ModelStore")
    }
}
