//! `Blocked`: what stands in somebody's way, watched until it is worth asking the store again.
//!
//! The first lock in the way is watched by its id; as long as it lives, nothing can come of asking. Whoever is refused
//! subscribes, asks again once the subscription stands, and then sleeps until the store tells of that lock's end, or until
//! its time is up. Nobody is told of:
//!
//! - an expiry: its time is known, and moved by every refresh that is told;
//! - the end of a lock that lives on only because a write of its holder runs: it is looked at every second;
//! - a mark that is withdrawn: it is looked at five times a second.
//!
//! Where the store does not say that its watch stands (an outage, a limit), it is asked every second.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;

use crate::{
    lock::{Lock, LockId, LockState, Timestamp},
    store::{Clock, ClockSleep, Conflict, LockEvent, LockQuery, LockStore, Watch},
};

/// How often somebody looks who is told nothing, and how often at a lock in use.
const POLL: Duration = Duration::from_secs(1);
/// How often somebody looks at a mark.
const POLL_MARK: Duration = Duration::from_millis(200);
/// The longest pause while the store cannot be asked.
const LONGEST: Duration = Duration::from_secs(5);
/// The shortest, however little time a lock has left.
const SHORTEST: Duration = Duration::from_millis(10);
/// Locks watched at once. One is the rule: more only where a store names another first each time.
const WATCHED: usize = 4;

/// What stands in the way of one acquire or one write.
pub(crate) struct Blocked {
    store: Arc<dyn LockStore>,
    clock: Clock,
    watched: Vec<Watched>,
    /// When to ask in any case.
    pause: Option<Timestamp>,
    /// How often in a row the store could not be asked.
    failures: u32,
    alarm: Option<(Timestamp, ClockSleep)>,
}

struct Watched {
    id: LockId,
    watch: Watch,
    /// Whether nothing is missed.
    synced: bool,
    /// When it may have ended without anybody being told.
    look_at: Option<Timestamp>,
}

/// What was heard of one lock.
enum Heard {
    Nothing,
    /// The state is to be read.
    Synced,
    Ended,
    /// Its watch is over.
    Over,
}

impl Blocked {
    /// Nothing known yet; `clock` times what is not told.
    pub(crate) fn new(store: Arc<dyn LockStore>, clock: Clock) -> Self {
        Self { store, clock, watched: Vec::new(), pause: None, failures: 0, alarm: None }
    }

    /// The locks in the way of an acquire that was asked for at `asked_at`.
    pub(crate) fn by_these(&mut self, conflict: &Conflict, asked_at: Timestamp) {
        self.pause = None;
        self.failures = 0;
        if !conflict.truncated {
            self.watched.retain(|watched| conflict.blockers.iter().any(|lock| lock.id() == watched.id));
        }
        // One that is watched already is as good as any.
        let known = |lock: &&Lock| self.watched.iter().any(|watched| watched.id == lock.id());
        match conflict.blockers.iter().find(known).or(conflict.blockers.first()) {
            Some(lock) => self.watch(lock, asked_at),
            None => self.ask_after(POLL),
        }
    }

    /// The first lock in the way of a write that was asked for at `asked_at`.
    pub(crate) fn by(&mut self, lock: &Lock, asked_at: Timestamp) {
        self.pause = None;
        self.failures = 0;
        self.watch(lock, asked_at);
    }

    /// Writes in flight, which end by themselves: it is worth asking after `pause`.
    pub(crate) fn by_writes(&mut self, pause: Duration) {
        self.watched.clear();
        self.failures = 0;
        self.ask_after(pause);
    }

    /// The store could not be asked.
    pub(crate) fn failed(&mut self) {
        let pause = POLL.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures += 1;
        self.ask_after(pause);
    }

    /// Something that nobody tells of: it is looked at again after a while.
    pub(crate) fn by_something(&mut self) {
        self.failures = 0;
        self.ask_after(POLL);
    }

    fn ask_after(&mut self, pause: Duration) {
        self.pause = Some(self.clock.now().after(pause.max(SHORTEST)));
    }

    fn watch(&mut self, lock: &Lock, asked_at: Timestamp) {
        let look_at = look_at(lock, asked_at, self.clock.now());
        if let Some(watched) = self.watched.iter_mut().find(|watched| watched.id == lock.id()) {
            watched.look_at = look_at;
            return;
        }
        if self.watched.len() < WATCHED {
            let watch = self.store.watch(&LockQuery::id(lock.id()));
            self.watched.push(Watched { id: lock.id(), watch, synced: false, look_at });
        } else {
            self.ask_after(POLL);
        }
    }

    /// Ready when it is worth asking the store: what was watched has ended, or may have.
    pub(crate) fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut at = 0;
        while at < self.watched.len() {
            match self.watched[at].poll(cx, &self.clock) {
                Heard::Nothing => at += 1,
                Heard::Synced => return Poll::Ready(()),
                Heard::Ended => {
                    self.watched.swap_remove(at);
                    return Poll::Ready(());
                }
                Heard::Over => {
                    self.watched.swap_remove(at);
                }
            }
        }
        // Whatever is not told must be asked for.
        if self.pause.is_none() && (self.watched.is_empty() || self.watched.iter().any(|watched| !watched.synced)) {
            self.ask_after(POLL);
        }
        let due = self.watched.iter().filter_map(|watched| watched.look_at).chain(self.pause).min();
        let Some(due) = due else {
            self.alarm = None;
            return Poll::Pending;
        };
        let alarm = match &mut self.alarm {
            Some((time, alarm)) if *time == due => alarm,
            other => &mut other.insert((due, self.clock.sleep_until(due))).1,
        };
        ready!(Pin::new(alarm).poll(cx));
        self.alarm = None;
        self.pause = None;
        for watched in &mut self.watched {
            watched.look_at = watched.look_at.filter(|time| *time > due);
        }
        Poll::Ready(())
    }
}

impl Watched {
    fn poll(&mut self, cx: &mut Context<'_>, clock: &Clock) -> Heard {
        loop {
            match Pin::new(&mut self.watch).poll_next(cx) {
                Poll::Pending => return Heard::Nothing,
                Poll::Ready(None) => return Heard::Over,
                Poll::Ready(Some(Err(_))) => self.synced = false,
                Poll::Ready(Some(Ok(LockEvent::Synced))) => {
                    self.synced = true;
                    return Heard::Synced;
                }
                Poll::Ready(Some(Ok(LockEvent::Ended { .. }))) => return Heard::Ended,
                Poll::Ready(Some(Ok(
                    LockEvent::Granted(lock) | LockEvent::Refreshed(lock) | LockEvent::Breaking { lock, .. },
                ))) => {
                    let now = clock.now();
                    self.look_at = look_at(&lock, now, now);
                }
            }
        }
    }
}

/// When `lock` may have ended although nobody tells, if it was as it is at `seen`: by the clock of whoever waits, which need
/// not agree with the store's.
fn look_at(lock: &Lock, seen: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let left = lock.expires_at().map(|end| end.since(lock.life().seen_at));
    let left = match lock.state() {
        LockState::Pending => Some(POLL_MARK),
        // Its own end may have passed: it is then over with the write.
        _ if lock.in_use() => left.map(|left| left.min(POLL)),
        _ => left,
    };
    left.map(|left| seen.after(left).max(now.after(SHORTEST)))
}

impl fmt::Debug for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<LockId> = self.watched.iter().map(|watched| watched.id).collect();
        f.debug_struct("Blocked").field("by", &ids).field("pause", &self.pause).finish_non_exhaustive()
    }
}
