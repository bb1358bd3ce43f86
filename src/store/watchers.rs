//! The watchers of a store: a bounded queue each, and no cost while there are none.
//!
//! A store that sees every change itself is synced from the start. One that hears of them from an engine says when it does:
//! each watcher is told `Synced` once the subscription stands, and again whenever something may have been missed.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_core::Stream;
use parking_lot::Mutex;

use crate::{
    lock::{LockId, LockKind, Principal, ResourceKey},
    store::{LockEvent, LockQuery, Select, StoreError, StoreErrorKind, Watch},
};

/// Events that a reader may be behind before it has to read the state anew.
const QUEUE: usize = 256;
/// Watchers of one store.
const MOST: usize = 10_000;

#[derive(Debug)]
pub(in crate::store) struct Watchers {
    count: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    all: Vec<Arc<Watcher>>,
    /// Whether whoever starts to watch now misses nothing from here on.
    synced: bool,
    /// Counts the rounds in which late comers are synced.
    round: u64,
}

#[derive(Debug)]
struct Watcher {
    select: Selected,
    principal: Option<Option<Principal>>,
    kind: Option<LockKind>,
    older_than: Option<Duration>,
    /// The round that syncs it, for one that joined late.
    round: Option<u64>,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
enum Selected {
    Covering(ResourceKey<'static>),
    AtOrBelow(ResourceKey<'static>),
    Id(LockId),
}

#[derive(Debug)]
struct Queue {
    events: VecDeque<Result<LockEvent, StoreError>>,
    waker: Option<Waker>,
    closed: bool,
    /// Whether it was ever told to read the state.
    synced: bool,
}

/// Watchers of a store that sees every change itself.
impl Default for Watchers {
    fn default() -> Self {
        Self { count: AtomicUsize::new(0), inner: Mutex::new(Inner { all: Vec::new(), synced: true, round: 0 }) }
    }
}

#[allow(dead_code, reason = "what only the stores of an engine need")]
impl Watchers {
    /// Watchers of a store that hears of changes from an engine: not synced until [`Watchers::synced`] is called.
    pub(in crate::store) fn unsynced() -> Self {
        Self { count: AtomicUsize::new(0), inner: Mutex::new(Inner { all: Vec::new(), synced: false, round: 0 }) }
    }

    /// From here on nothing is missed: everybody reads the state anew.
    pub(in crate::store) fn synced(&self) {
        let mut inner = self.inner.lock();
        inner.synced = true;
        let wakers: Vec<Waker> = inner.all.iter().filter_map(|watcher| watcher.resync()).collect();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Watches what fits `query`, once it is told so: by [`Watchers::synced`], or at the end of a round. For an engine
    /// that may still tell of what happened before.
    pub(in crate::store) fn join(self: &Arc<Self>, query: &LockQuery<'_>) -> Watch {
        self.enter(query, false)
    }

    /// Whoever has joined by now is in the round that is answered.
    pub(in crate::store) fn next_round(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.round += 1;
        inner.round - 1
    }

    /// Those who joined up to `round` miss nothing from here on.
    pub(in crate::store) fn synced_up_to(&self, round: u64) {
        let inner = self.inner.lock();
        let late = inner.all.iter().filter(|watcher| watcher.round.is_some_and(|joined| joined <= round));
        let wakers: Vec<Waker> = late.filter_map(|watcher| watcher.resync_once()).collect();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// From here on something may be missed; `why` is told to each watcher once.
    pub(in crate::store) fn cut_off(&self, why: impl Fn() -> StoreError) {
        let mut inner = self.inner.lock();
        inner.synced = false;
        let wakers: Vec<Waker> = inner.all.iter().filter_map(|watcher| watcher.push(Err(why()))).collect();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Watchers {
    pub(in crate::store) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    /// Watches what fits `query`, from now on.
    pub(in crate::store) fn subscribe(self: &Arc<Self>, query: &LockQuery<'_>) -> Watch {
        self.enter(query, true)
    }

    fn enter(self: &Arc<Self>, query: &LockQuery<'_>, at_once: bool) -> Watch {
        let mut inner = self.inner.lock();
        if inner.all.len() >= MOST {
            let error = StoreError::new(StoreErrorKind::Other, "ten thousand watchers are the limit");
            return Watch::new(Refused(Some(error)));
        }
        let first = (at_once && inner.synced).then_some(Ok(LockEvent::Synced));
        let round = (!at_once).then_some(inner.round);
        let watcher = Arc::new(Watcher {
            select: match &query.select {
                Select::Covering(key) => Selected::Covering(key.clone().into_owned()),
                Select::AtOrBelow(key) => Selected::AtOrBelow(key.clone().into_owned()),
                Select::Id(id) => Selected::Id(*id),
            },
            principal: query.principal.map(Option::<&Principal>::cloned),
            kind: query.kind.cloned(),
            older_than: query.older_than,
            round,
            queue: Mutex::new(Queue { events: first.into_iter().collect(), waker: None, closed: false, synced: at_once }),
        });
        inner.all.push(watcher.clone());
        self.count.store(inner.all.len(), Ordering::Release);
        Watch::new(Events { watcher, watchers: Arc::downgrade(self) })
    }

    /// Hands `news` to whom it concerns. Who is to be woken is given back, to be woken when no lock is held.
    pub(in crate::store) fn publish(&self, news: &mut Vec<LockEvent>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if news.is_empty() {
            return wakers;
        }
        let inner = self.inner.lock();
        for event in news.drain(..) {
            for watcher in inner.all.iter().filter(|watcher| watcher.wants(&event)) {
                wakers.extend(watcher.push(Ok(event.clone())));
            }
        }
        wakers
    }

    /// The store is gone: every stream ends after what it has.
    pub(in crate::store) fn close(&self) {
        for watcher in self.inner.lock().all.drain(..) {
            let waker = {
                let mut queue = watcher.queue.lock();
                queue.closed = true;
                queue.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn unsubscribe(&self, watcher: &Arc<Watcher>) {
        let all = &mut self.inner.lock().all;
        if let Some(at) = all.iter().position(|other| Arc::ptr_eq(other, watcher)) {
            all.swap_remove(at);
        }
        self.count.store(all.len(), Ordering::Release);
    }
}

impl Watcher {
    fn wants(&self, event: &LockEvent) -> bool {
        let Some(lock) = event.lock() else { return true };
        let mut query = LockQuery::new(match &self.select {
            Selected::Covering(key) => Select::Covering(key.borrowed()),
            Selected::AtOrBelow(key) => Select::AtOrBelow(key.borrowed()),
            Selected::Id(id) => Select::Id(*id),
        });
        query.principal = self.principal.as_ref().map(Option::as_ref);
        query.kind = self.kind.as_ref();
        query.older_than = self.older_than;
        query.fits(lock)
    }

    fn push(&self, event: Result<LockEvent, StoreError>) -> Option<Waker> {
        let mut queue = self.queue.lock();
        if !queue.synced && event.is_ok() {
            return None;
        }
        if queue.events.len() >= QUEUE {
            // Too slow: what was missed is made good by reading the state anew. While the store is cut off, that has to wait.
            queue.events.clear();
            queue.events.push_back(event.and(Ok(LockEvent::Synced)));
        } else {
            queue.events.push_back(event);
        }
        queue.waker.take()
    }
}

#[allow(dead_code, reason = "what only the stores of an engine need")]
impl Watcher {
    /// What waits to be read is older than the state that is to be read now.
    fn resync(&self) -> Option<Waker> {
        let mut queue = self.queue.lock();
        queue.events.retain(Result::is_err);
        queue.events.push_back(Ok(LockEvent::Synced));
        queue.synced = true;
        queue.waker.take()
    }

    fn resync_once(&self) -> Option<Waker> {
        if self.queue.lock().synced { None } else { self.resync() }
    }
}

struct Events {
    watcher: Arc<Watcher>,
    watchers: Weak<Watchers>,
}

impl Stream for Events {
    type Item = Result<LockEvent, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.watcher.queue.lock();
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(watchers) = self.watchers.upgrade() {
            watchers.unsubscribe(&self.watcher);
        }
    }
}

/// A watch that was refused: says so once.
struct Refused(Option<StoreError>);

impl Stream for Refused {
    type Item = Result<LockEvent, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Err))
    }
}
