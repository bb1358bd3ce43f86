//! One watcher's queue: `Synced` first, then what happens, and `Synced` again when the reader was too slow.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use parking_lot::Mutex;

use crate::{
    lock::{LockKind, Principal, ResourceKey},
    store::{LockEvent, LockQuery, Select, StoreError},
};

/// How many events wait for a reader before it is told to read the state again.
const SLOW: usize = 256;

pub(super) struct Queue {
    wanted: Wanted,
    inner: Mutex<Inner>,
}

struct Inner {
    events: VecDeque<LockEvent>,
    waker: Option<Waker>,
}

/// A query that owns what it asks.
struct Wanted {
    select: Select<'static>,
    principal: Option<Option<Principal>>,
    kind: Option<LockKind>,
}

impl Queue {
    pub(super) fn new(query: &LockQuery<'_>) -> Arc<Self> {
        let own = |key: &ResourceKey<'_>| key.clone().into_owned();
        let select = match &query.select {
            Select::Covering(key) => Select::Covering(own(key)),
            Select::AtOrBelow(key) => Select::AtOrBelow(own(key)),
            Select::Id(id) => Select::Id(*id),
        };
        let wanted =
            Wanted { select, principal: query.principal.map(Option::<&Principal>::cloned), kind: query.kind.cloned() };
        let events = VecDeque::from([LockEvent::Synced]);
        Arc::new(Self { wanted, inner: Mutex::new(Inner { events, waker: None }) })
    }

    /// Takes an event if it is wanted.
    pub(super) fn offer(&self, event: &LockEvent) {
        let Some(lock) = event.lock() else { return };
        let mut query = LockQuery::new(self.wanted.select.clone());
        query.principal = self.wanted.principal.as_ref().map(Option::as_ref);
        query.kind = self.wanted.kind.as_ref();
        if query.fits(lock) {
            let mut inner = self.inner.lock();
            if inner.events.len() < SLOW {
                inner.events.push_back(event.clone());
            } else {
                inner.events = VecDeque::from([LockEvent::Synced]);
            }
            if let Some(waker) = inner.waker.take() {
                waker.wake();
            }
        }
    }
}

/// The reader's end.
pub(super) struct Events(pub(super) Arc<Queue>);

impl Stream for Events {
    type Item = Result<LockEvent, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut inner = self.0.inner.lock();
        match inner.events.pop_front() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
