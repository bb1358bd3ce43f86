//! The watchers of a store: a bounded queue each, and no cost while there are none.
//!
//! What happens to a lock costs as much as the depth of its root and those whom it concerns, however many watch. A store
//! that sees every change itself is synced from the start. One that hears of them from an engine says when it does: each
//! watcher is told `Synced` once the subscription stands, and again whenever something may have been missed.

mod index;
mod queue;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
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

use self::{
    index::{Index, Watched},
    queue::Queue,
};
use crate::{
    lock::{Lock, LockKind, Principal},
    store::{LockEvent, LockQuery, StoreError, StoreErrorKind, Watch},
};

/// Watchers of one store.
const MOST: usize = 32_768;
/// Events that a reader may be behind before it has to read the state anew: where few watch, and where many do.
const QUEUE: (usize, usize) = (64, 8);
/// Events that wait for all readers together.
const QUEUED: usize = 262_144;

#[derive(Debug)]
pub(in crate::store) struct Watchers {
    count: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    all: Vec<Option<Entry>>,
    free: Vec<u32>,
    index: Index,
    /// Whether whoever starts to watch now misses nothing from here on.
    synced: bool,
    /// Counts the rounds in which late comers are synced.
    round: u64,
    /// The late comers and the rounds that sync them, in their order. Some may have gone.
    late: VecDeque<(u64, u32)>,
}

#[derive(Debug)]
struct Entry {
    watcher: Arc<Watcher>,
    /// Where it stands among those who watch the same.
    at: u32,
}

#[derive(Debug)]
struct Watcher {
    watched: Watched,
    filter: Option<Box<Filter>>,
    /// The round that syncs it, for one that joined late.
    round: Option<u64>,
    queue: Mutex<Queue>,
}

/// What a watcher wants to hear of, besides where.
#[derive(Debug)]
struct Filter {
    principal: Option<Option<Principal>>,
    kind: Option<LockKind>,
    older_than: Option<Duration>,
}

/// Watchers of a store that sees every change itself.
impl Default for Watchers {
    fn default() -> Self {
        Self { count: AtomicUsize::new(0), inner: Mutex::new(Inner { synced: true, ..Inner::default() }) }
    }
}

#[allow(dead_code, reason = "what only the stores of an engine need")]
impl Watchers {
    /// Watchers of a store that hears of changes from an engine: not synced until [`Watchers::synced`] is called.
    pub(in crate::store) fn unsynced() -> Self {
        Self { count: AtomicUsize::new(0), inner: Mutex::default() }
    }

    /// From here on nothing is missed: everybody reads the state anew.
    pub(in crate::store) fn synced(&self) {
        let mut inner = self.inner.lock();
        inner.synced = true;
        inner.late.clear();
        let wakers: Vec<Waker> = inner.everybody().filter_map(|watcher| watcher.queue.lock().resync()).collect();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Watches what fits `query`, once it is told so: by [`Watchers::synced`], or at the end of a round. For an engine
    /// that may still tell of what happened before.
    pub(in crate::store) fn join(self: &Arc<Self>, query: &LockQuery<'_>) -> Watch {
        self.enter(query, Start::Late)
    }

    /// Whoever has joined by now is in the round that is answered.
    pub(in crate::store) fn next_round(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.round += 1;
        inner.round - 1
    }

    /// Those who joined up to `round` miss nothing from here on.
    pub(in crate::store) fn synced_up_to(&self, round: u64) {
        let mut inner = self.inner.lock();
        let mut wakers = Vec::new();
        while inner.late.front().is_some_and(|(joined, _)| *joined <= round) {
            let Some((_, number)) = inner.late.pop_front() else { break };
            // Another may have its number by now, who joined in a later round.
            let late = inner.watcher(number).filter(|watcher| watcher.round.is_some_and(|joined| joined <= round));
            wakers.extend(late.and_then(|watcher| watcher.queue.lock().resync_once()));
        }
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// From here on something may be missed; `why` is told to each watcher once.
    pub(in crate::store) fn cut_off(&self, why: impl Fn() -> StoreError) {
        let mut inner = self.inner.lock();
        inner.synced = false;
        let wakers: Vec<Waker> = inner.everybody().filter_map(|watcher| watcher.queue.lock().cut_off(why())).collect();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// From when on a watcher misses nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Now, where the store is synced.
    Now,
    /// From the round on that it is in.
    Late,
}

impl Watchers {
    pub(in crate::store) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    /// Watches what fits `query`, from now on.
    pub(in crate::store) fn subscribe(self: &Arc<Self>, query: &LockQuery<'_>) -> Watch {
        self.enter(query, Start::Now)
    }

    fn enter(self: &Arc<Self>, query: &LockQuery<'_>, start: Start) -> Watch {
        let mut inner = self.inner.lock();
        let count = inner.all.len() - inner.free.len();
        if count >= MOST {
            let error = StoreError::new(StoreErrorKind::Other, format!("{MOST} watchers are the limit"));
            return Watch::new(Refused(Some(error)));
        }
        let filtered = query.principal.is_some() || query.kind.is_some() || query.older_than.is_some();
        let watcher = Arc::new(Watcher {
            watched: inner.index.watched(&query.select),
            filter: filtered.then(|| Box::new(Filter::of(query))),
            round: (start == Start::Late).then_some(inner.round),
            queue: Mutex::new(match start {
                Start::Now if inner.synced => Queue::synced(),
                _ => Queue::late(),
            }),
        });
        let number = inner.free.pop().unwrap_or_else(|| {
            inner.all.push(None);
            u32::try_from(inner.all.len() - 1).unwrap_or(u32::MAX)
        });
        let at = inner.index.enter(&watcher.watched, number);
        inner.all[number as usize] = Some(Entry { watcher: watcher.clone(), at });
        if start == Start::Late {
            let round = inner.round;
            inner.late.push_back((round, number));
        }
        self.count.store(count + 1, Ordering::Release);
        Watch::new(Events { watcher, number, watchers: Arc::downgrade(self) })
    }

    /// Hands `news` to whom it concerns. Who is to be woken is given back, to be woken when no lock is held.
    pub(in crate::store) fn publish(&self, news: &mut Vec<LockEvent>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if news.is_empty() {
            return wakers;
        }
        let inner = self.inner.lock();
        let most = (QUEUED / self.count.load(Ordering::Relaxed).max(1)).clamp(QUEUE.1, QUEUE.0);
        for event in news.drain(..).map(Arc::new) {
            let Some(lock) = event.lock() else { continue };
            inner.index.concerned(lock, |number| {
                let Some(watcher) = inner.watcher(number).filter(|watcher| watcher.wants(lock)) else { return };
                wakers.extend(watcher.queue.lock().push(&event, most));
            });
        }
        wakers
    }

    /// The store is gone: every stream ends after what it has.
    pub(in crate::store) fn close(&self) {
        let inner = std::mem::take(&mut *self.inner.lock());
        self.count.store(0, Ordering::Release);
        let wakers: Vec<Waker> = inner.everybody().filter_map(|watcher| watcher.queue.lock().close()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn leave(&self, number: u32, watcher: &Arc<Watcher>) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(place) = inner.all.get_mut(number as usize) else { return };
        let Some(entry) = place.take_if(|entry| Arc::ptr_eq(&entry.watcher, watcher)) else { return };
        inner.free.push(number);
        let moved =
            inner.index.leave(&watcher.watched, entry.at).and_then(|moved| inner.all.get_mut(moved as usize)?.as_mut());
        if let Some(moved) = moved {
            moved.at = entry.at;
        }
        if inner.free.len() == inner.all.len() {
            // The last one puts out the light.
            (inner.all, inner.free, inner.late) = Default::default();
        } else if inner.late.len() > 2 * MOST {
            // Nothing is heard, and they come and go.
            let (all, mut seen) = (&inner.all, HashSet::new());
            let round = |number: u32| all.get(number as usize)?.as_ref()?.watcher.round;
            inner.late.retain(|(joined, number)| round(*number) == Some(*joined) && seen.insert(*number));
        }
        self.count.store(inner.all.len() - inner.free.len(), Ordering::Release);
    }
}

impl Inner {
    fn watcher(&self, number: u32) -> Option<&Arc<Watcher>> {
        self.all.get(number as usize)?.as_ref().map(|entry| &entry.watcher)
    }

    fn everybody(&self) -> impl Iterator<Item = &Arc<Watcher>> {
        self.all.iter().flatten().map(|entry| &entry.watcher)
    }
}

impl Watcher {
    /// Whether it wants to hear of a lock that is where it watches.
    fn wants(&self, lock: &Lock) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.fits(lock))
    }
}

impl Filter {
    fn of(query: &LockQuery<'_>) -> Self {
        let principal = query.principal.map(Option::<&Principal>::cloned);
        Self { principal, kind: query.kind.cloned(), older_than: query.older_than }
    }

    fn fits(&self, lock: &Lock) -> bool {
        let mut query = LockQuery::id(lock.id());
        query.principal = self.principal.as_ref().map(Option::as_ref);
        query.kind = self.kind.as_ref();
        query.older_than = self.older_than;
        query.fits(lock)
    }
}

struct Events {
    watcher: Arc<Watcher>,
    number: u32,
    watchers: Weak<Watchers>,
}

impl Stream for Events {
    type Item = Result<LockEvent, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.watcher.queue.lock().poll(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(watchers) = self.watchers.upgrade() {
            watchers.leave(self.number, &self.watcher);
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
