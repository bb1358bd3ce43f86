//! `Writes`: the writes of this node that an engine has registered as in flight, and their leases.
//!
//! ```text
//! begin ──► engine registers ──► Permit ──► drop ──► ended, unsent ──► rides along with the next call,
//!                                  │                                   or is flushed by the keeper
//!                                  └── lease: renewed for all at once every third; lapsed, the permit says so
//! ```
//!
//! Two clocks guard a write. The engine's ends its registration one lease after the last renewal that it saw. This
//! node's own, which counts from before each renewal was *sent* and stops a tenth short, ends the permit before that:
//! whatever happens to the network or the engine, a write is stopped here before anybody is granted what it changes.

mod keeper;
mod slots;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};
use uuid::Uuid;

use self::{keeper::Keeper, slots::Slots};
use crate::store::{InFlight, Permit, StoreError, WriteId};

/// What a write in flight is called in the engine: eight bytes for the node, eight that count. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::store) struct WriteName(pub(in crate::store) [u8; 16]);

/// The work of a [`Registrar`].
pub(in crate::store) type Work<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// What the engine does for a node's writes: each for many at once, in one command, within a time limit.
pub(in crate::store) trait Registrar: Send + Sync + 'static {
    /// Lets those that still stand live for another lease, with the locks that they pin; answers those that do not.
    fn renew(&self, writes: &[WriteName]) -> Work<Vec<WriteName>>;

    /// Ends them; unknown ones are no error.
    fn end(&self, writes: &[WriteName]) -> Work<()>;
}

/// The writes of one node. A cheap handle.
#[derive(Clone)]
pub(in crate::store) struct Writes(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    lease: Duration,
    registrar: Weak<dyn Registrar>,
    /// Woken when a write ends here.
    ended: Notify,
    keeper: Keeper,
}

struct State {
    slots: Slots,
    /// The upper half of every name.
    node: u64,
    serial: u64,
    ended: Vec<Ended>,
}

/// A write that has ended here, and of which the engine may not know that yet.
#[derive(Clone, Copy)]
struct Ended {
    name: WriteName,
    at: Instant,
    sent: bool,
    /// A call that carried it has failed since the flush under way began.
    failed: bool,
}

/// One write in flight.
struct Running {
    name: WriteName,
    generation: u64,
    /// When it has to be stopped unless its lease is renewed before.
    until: Instant,
    lapsed: bool,
    waker: Option<Waker>,
}

impl Writes {
    /// No writes yet; each lives for `lease` unless renewed.
    pub(in crate::store) fn new(lease: Duration, registrar: Weak<dyn Registrar>) -> Self {
        let (node, serial) = Uuid::new_v4().as_u64_pair();
        let state = State { slots: Slots::default(), node, serial, ended: Vec::new() };
        Self(Arc::new(Inner { state: Mutex::new(state), lease, registrar, ended: Notify::new(), keeper: Keeper::default() }))
    }

    /// Names a write that the engine is about to be asked for. Its lease counts from here.
    pub(in crate::store) fn begin(&self) -> Begun {
        self.0.keeper.ensure(&self.0);
        let name = self.0.state.lock().next_name();
        Begun { writes: self.0.clone(), name, at: Instant::now(), open: true }
    }

    /// The ends that no call has carried yet; they count as sent from here. For an engine that takes all calls of a node
    /// in the order in which they were sent.
    pub(in crate::store) fn unsent_ends(&self) -> Vec<WriteName> {
        let mut state = self.0.state.lock();
        let unsent = state.ended.iter_mut().filter(|ended| !ended.sent);
        unsent.map(|ended| (ended.sent = true, ended.name).1).collect()
    }

    /// The ends that the engine has not acknowledged, sent or not. For an engine that is reached over several connections.
    pub(in crate::store) fn unacknowledged_ends(&self) -> Vec<WriteName> {
        self.0.state.lock().ended.iter().map(|ended| ended.name).collect()
    }

    /// The engine knows of these ends.
    pub(in crate::store) fn ends_acknowledged(&self, names: &[WriteName]) {
        if !names.is_empty() {
            self.0.state.lock().ended.retain(|ended| !names.contains(&ended.name));
        }
    }

    /// The call that carried these ends failed: another has to.
    pub(in crate::store) fn ends_failed(&self, names: &[WriteName]) {
        if names.is_empty() {
            return;
        }
        for ended in self.0.state.lock().ended.iter_mut().filter(|ended| names.contains(&ended.name)) {
            (ended.sent, ended.failed) = (false, true);
        }
        self.0.keeper.wake_later();
    }

    /// Ready when a write of this node ends after this was called.
    pub(in crate::store) fn next_end(&self) -> Notified<'_> {
        self.0.ended.notified()
    }

    /// What a write is called in the engine, while it is in flight.
    pub(in crate::store) fn name(&self, id: WriteId) -> Option<WriteName> {
        self.0.state.lock().slots.get(id).map(|running| running.name)
    }

    /// Renews the leases of all writes, as the keeper does every third of a lease.
    pub(in crate::store) async fn renew_now(&self) -> Result<(), StoreError> {
        self.0.renew().await
    }

    /// How many writes are in flight on this node.
    pub(in crate::store) fn len(&self) -> usize {
        self.0.state.lock().slots.len()
    }
}

impl State {
    fn next_name(&mut self) -> WriteName {
        self.serial = self.serial.wrapping_add(1);
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.node.to_be_bytes());
        name[8..].copy_from_slice(&self.serial.to_be_bytes());
        WriteName(name)
    }
}

impl Inner {
    /// How long a permit may stand after a renewal was sent: a tenth less than the lease.
    fn term(&self) -> Duration {
        self.lease - self.lease / 10
    }

    /// The engine is to be told that a write has ended.
    fn over(&self, name: WriteName) {
        {
            let mut state = self.state.lock();
            // What is older than a lease the engine has forgotten by itself.
            let (lease, now) = (self.lease, Instant::now());
            if state.ended.first().is_some_and(|oldest| now.duration_since(oldest.at) > lease) {
                state.ended.retain(|ended| now.duration_since(ended.at) <= lease);
            }
            state.ended.push(Ended { name, at: now, sent: false, failed: false });
        }
        self.ended.notify_waiters();
        self.keeper.wake();
    }

    /// Sends what has ended and was not sent.
    async fn flush(&self) -> Result<(), StoreError> {
        let Some(registrar) = self.registrar.upgrade() else { return Ok(()) };
        // They do not count as sent by this: an engine that takes calls in order takes them as unsent when it queues them,
        // so that no other call slips in between.
        let names: Vec<WriteName> = {
            let mut state = self.state.lock();
            let unsent = state.ended.iter_mut().filter(|ended| !ended.sent);
            unsent.map(|ended| (ended.failed = false, ended.name).1).collect()
        };
        if names.is_empty() {
            return Ok(());
        }
        registrar.end(&names).await?;
        self.state.lock().ended.retain(|ended| ended.sent || ended.failed || !names.contains(&ended.name));
        Ok(())
    }

    async fn renew(&self) -> Result<(), StoreError> {
        let Some(registrar) = self.registrar.upgrade() else { return Ok(()) };
        let names: Vec<WriteName> = {
            let state = self.state.lock();
            state.slots.iter().filter(|running| !running.lapsed).map(|running| running.name).collect()
        };
        if names.is_empty() {
            return Ok(());
        }
        let sent = Instant::now();
        let gone = registrar.renew(&names).await?;
        let until = sent + self.term();
        let mut woken = Vec::new();
        for running in self.state.lock().slots.iter_mut() {
            if gone.contains(&running.name) {
                running.lapsed = true;
                woken.extend(running.waker.take());
            } else if names.contains(&running.name) && !running.lapsed {
                running.until = running.until.max(until);
            }
        }
        woken.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Stops what has not been renewed in time; says when the next would have to be.
    fn lapse(&self, now: Instant) -> Option<Instant> {
        let mut woken = Vec::new();
        let mut next = None;
        for running in self.state.lock().slots.iter_mut().filter(|running| !running.lapsed) {
            if running.until <= now {
                running.lapsed = true;
                woken.extend(running.waker.take());
            } else {
                next = Some(next.map_or(running.until, |next: Instant| next.min(running.until)));
            }
        }
        woken.into_iter().for_each(Waker::wake);
        next
    }
}

impl InFlight for Inner {
    fn end(self: Arc<Self>, write: WriteId) {
        let running = self.state.lock().slots.remove(write);
        if let Some(running) = running {
            self.over(running.name);
        }
    }

    fn poll_lapsed(&self, write: WriteId, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let Some(running) = state.slots.get_mut(write) else { return Poll::Ready(()) };
        // By the clock and not only by the flag: a process that was stopped wakes up late.
        if running.lapsed || running.until <= Instant::now() {
            running.lapsed = true;
            return Poll::Ready(());
        }
        match &mut running.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn generation(&self, write: WriteId) -> u64 {
        self.state.lock().slots.get(write).map_or(0, |running| running.generation)
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes").field("in_flight", &self.len()).finish_non_exhaustive()
    }
}

/// A write that the engine is asked for. Dropped without an answer, it is ended: the engine may have registered it.
#[must_use = "dropped, the write is ended"]
pub(in crate::store) struct Begun {
    writes: Arc<Inner>,
    name: WriteName,
    /// When it was begun here, before the engine was asked.
    at: Instant,
    open: bool,
}

impl Begun {
    /// What it is called in the engine.
    pub(in crate::store) fn name(&self) -> WriteName {
        self.name
    }

    /// The engine has registered it.
    pub(in crate::store) fn admitted(mut self, generation: u64) -> Permit {
        self.open = false;
        let until = self.at + self.writes.term();
        let running = Running { name: self.name, generation, until, lapsed: false, waker: None };
        let id = self.writes.state.lock().slots.insert(running);
        Permit::new(self.writes.clone(), id)
    }

    /// The engine has said that it registered nothing.
    pub(in crate::store) fn refused(mut self) {
        self.open = false;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.open {
            self.writes.over(self.name);
        }
    }
}

#[cfg(test)]
mod tests;
