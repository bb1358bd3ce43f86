//! `Queue`: what one watcher has not read yet: little, and next to nothing for one that never reads.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::store::{LockEvent, StoreError};

/// What waits to be read. Those whom an event concerns share it.
#[derive(Debug)]
enum Told {
    Synced,
    Event(Arc<LockEvent>),
    CutOff(StoreError),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    told: VecDeque<Told>,
    waker: Option<Waker>,
    closed: bool,
    /// Whether it was ever told to read the state.
    synced: bool,
    /// The last that waits is a word to read the state anew, which will show whatever happens before that is read.
    behind: bool,
}

impl Queue {
    /// The queue of one that misses nothing from here on.
    pub(super) fn synced() -> Self {
        Self { told: VecDeque::from([Told::Synced]), synced: true, ..Self::default() }
    }

    /// The queue of one that hears nothing until it is told to read the state.
    pub(super) fn late() -> Self {
        Self::default()
    }

    /// Tells an event, to one that may be `most` behind. Who is to be woken comes back.
    pub(super) fn push(&mut self, event: &Arc<LockEvent>, most: usize) -> Option<Waker> {
        if !self.synced || self.behind {
            return None;
        }
        if self.told.len() < most {
            self.told.push_back(Told::Event(event.clone()));
        } else {
            // Too slow: what was missed is made good by reading the state anew. While the store is cut off, that has to wait.
            let last = match self.told.drain(..).rfind(|told| !matches!(told, Told::Event(_))) {
                Some(Told::CutOff(why)) => Told::CutOff(why),
                _ => Told::Synced,
            };
            self.behind = matches!(last, Told::Synced);
            self.told = VecDeque::from([last]);
        }
        self.waker.take()
    }

    /// Tells that something may be missed from here on.
    pub(super) fn cut_off(&mut self, why: StoreError) -> Option<Waker> {
        // Of several such in a row the last is enough, and nothing can be read anew now.
        self.told.retain(|told| matches!(told, Told::Event(_)));
        self.told.push_back(Told::CutOff(why));
        self.behind = false;
        self.waker.take()
    }

    /// Tells to read the state: what waits to be read is older than that.
    pub(super) fn resync(&mut self) -> Option<Waker> {
        self.told.retain(|told| matches!(told, Told::CutOff(_)));
        self.told.push_back(Told::Synced);
        self.told.shrink_to_fit();
        self.behind = self.synced;
        self.synced = true;
        self.waker.take()
    }

    /// The same, unless it was told before.
    pub(super) fn resync_once(&mut self) -> Option<Waker> {
        if self.synced { None } else { self.resync() }
    }

    /// Nothing more will come.
    pub(super) fn close(&mut self) -> Option<Waker> {
        self.closed = true;
        self.waker.take()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<LockEvent, StoreError>>> {
        let Some(told) = self.told.pop_front() else {
            if self.closed {
                return Poll::Ready(None);
            }
            match &mut self.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                waker => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        if self.told.is_empty() {
            // Most of the time a watcher waits, and then it needs no room.
            self.told = VecDeque::new();
        }
        Poll::Ready(Some(match told {
            Told::Synced => {
                self.behind = false;
                Ok(LockEvent::Synced)
            }
            Told::Event(event) => Ok(Arc::unwrap_or_clone(event)),
            Told::CutOff(why) => Err(why),
        }))
    }
}
