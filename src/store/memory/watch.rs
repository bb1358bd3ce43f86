//! Watchers of the memory store: a bounded queue each, and no cost while there are none.

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
    lock::{Lock, LockId, LockKind, Principal, ResourceKey},
    store::{LockEvent, LockQuery, Select, StoreError, StoreErrorKind, Watch},
};

/// Events that a reader may be behind before it has to read the state anew.
const QUEUE: usize = 256;
/// Watchers of one store.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Watchers {
    count: AtomicUsize,
    all: Mutex<Vec<Arc<Watcher>>>,
}

#[derive(Debug)]
struct Watcher {
    select: Selected,
    principal: Option<Option<Principal>>,
    kind: Option<LockKind>,
    older_than: Option<Duration>,
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
    events: VecDeque<LockEvent>,
    waker: Option<Waker>,
    closed: bool,
}

impl Watchers {
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    /// Watches what fits `query`, from now on.
    pub(super) fn subscribe(self: &Arc<Self>, query: &LockQuery<'_>) -> Watch {
        let mut all = self.all.lock();
        if all.len() >= MOST {
            let error = StoreError::new(StoreErrorKind::Other, "ten thousand watchers are the limit");
            return Watch::new(Refused(Some(error)));
        }
        let watcher = Arc::new(Watcher {
            select: match &query.select {
                Select::Covering(key) => Selected::Covering(key.clone().into_owned()),
                Select::AtOrBelow(key) => Selected::AtOrBelow(key.clone().into_owned()),
                Select::Id(id) => Selected::Id(*id),
            },
            principal: query.principal.map(Option::<&Principal>::cloned),
            kind: query.kind.cloned(),
            older_than: query.older_than,
            queue: Mutex::new(Queue { events: VecDeque::from([LockEvent::Synced]), waker: None, closed: false }),
        });
        all.push(watcher.clone());
        self.count.store(all.len(), Ordering::Release);
        Watch::new(Events { watcher, watchers: Arc::downgrade(self) })
    }

    /// Hands `news` to whom it concerns. Who is to be woken is given back, to be woken when no lock is held.
    pub(super) fn publish(&self, news: &mut Vec<LockEvent>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if news.is_empty() {
            return wakers;
        }
        let all = self.all.lock();
        for event in news.drain(..) {
            for watcher in all.iter().filter(|watcher| watcher.wants(&event)) {
                wakers.extend(watcher.push(event.clone()));
            }
        }
        wakers
    }

    /// The store is gone: every stream ends after what it has.
    pub(super) fn close(&self) {
        for watcher in self.all.lock().drain(..) {
            let waker = {
                let mut queue = watcher.queue.lock();
                queue.closed = true;
                queue.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn unsubscribe(&self, watcher: &Arc<Watcher>) {
        let mut all = self.all.lock();
        if let Some(at) = all.iter().position(|other| Arc::ptr_eq(other, watcher)) {
            all.swap_remove(at);
        }
        self.count.store(all.len(), Ordering::Release);
    }
}

impl Watcher {
    fn wants(&self, event: &LockEvent) -> bool {
        let lock: &Lock = match event {
            LockEvent::Synced => return true,
            LockEvent::Granted(lock) | LockEvent::Refreshed(lock) | LockEvent::Breaking(lock) => lock,
            LockEvent::Ended { lock, .. } => lock,
        };
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

    fn push(&self, event: LockEvent) -> Option<Waker> {
        let mut queue = self.queue.lock();
        if queue.events.len() >= QUEUE {
            // Too slow: what was missed is made good by reading the state anew.
            queue.events.clear();
            queue.events.push_back(LockEvent::Synced);
        } else {
            queue.events.push_back(event);
        }
        queue.waker.take()
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
            Some(event) => Poll::Ready(Some(Ok(event))),
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
