//! `Follow`: which locks there are and what becomes of them, over any store: the state first, then every change, the end of
//! a lock that expires included.
//!
//! Stores expire lazily and need not tell. So the ends of the locks that are known here are timed, and the store is asked
//! whether they are gone: its clock decides, ours only says when to ask.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;

use super::{
    Clock, ClockSleep, Cursor, LockEvent, LockPage, LockQuery, LockStore, StoreError, StoreErrorKind, StoreFuture, Watch,
};
use crate::lock::{Lock, LockId, LockState, LostCause, Principal, ResourceKey, Timestamp};

/// How long the store may take to say which locks there are.
const ANSWER: Duration = Duration::from_secs(5);
/// The pause after a store that could not say it, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// The pause before a watch that ended is opened anew.
const REOPEN: Duration = Duration::from_secs(1);
/// After how long a mark is looked at again: nobody tells of one that is withdrawn.
const MARK: Duration = Duration::from_millis(200);
/// After how long a lock is looked at again that a write keeps alive beyond its end.
const IN_USE: Duration = Duration::from_secs(1);

/// What becomes of the locks that cover a resource, or of one lock. Endless.
///
/// At most a page of locks is known at a time: of those beyond it, what the store tells is passed on, and ends by expiry are
/// not timed.
#[must_use = "streams do nothing unless polled"]
pub struct Follow {
    store: Arc<dyn LockStore>,
    clock: Clock,
    query: LockQuery<'static>,
    watch: Option<Watch>,
    sight: Sight,
    asking: Option<Asking>,
    /// In the order of their roots and ids.
    known: Vec<Known>,
    /// Whether there are locks that are not known.
    partial: bool,
    /// Those whose time was up when the store was asked, and which it no longer had.
    gone: VecDeque<LockId>,
    gone_by: Timestamp,
    /// What our clock shows more than the store's, in microseconds.
    ahead: Option<i64>,
    /// When to try again what failed.
    again: Option<Timestamp>,
    pause: Duration,
    timer: Option<(Timestamp, ClockSleep)>,
}

/// What is told of the locks that are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Followed {
    /// The locks that there are. Comes first, and again after every gap, also after every error.
    Now(Vec<Lock>),
    /// What happened to one of them. [`LostCause::Expired`] is told once for a lock, whether or not the store tells it too.
    Event(LockEvent),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// The state was not read yet.
    None,
    /// Nothing has been missed since it was read.
    Clear,
    /// Something may have been missed, and that was told.
    Lost,
}

struct Known {
    lock: Lock,
    /// Who breaks it and why, for one whose grace runs.
    breaker: (Option<Principal>, Option<Arc<str>>),
    /// When it has to be looked at, by our clock.
    due: Option<Timestamp>,
}

/// A question to the store.
struct Asking {
    purpose: Purpose,
    asked: Timestamp,
    answer: StoreFuture<LockPage>,
    limit: ClockSleep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Which locks there are.
    State,
    /// Which of those whose time is up there still are.
    Ends,
}

impl Follow {
    /// The locks that cover `key`, at most `page` of them at a time.
    pub fn covering(store: Arc<dyn LockStore>, key: ResourceKey<'static>, page: usize, clock: Clock) -> Self {
        Self::new(store, LockQuery::covering(key).limit(page), clock)
    }

    /// The lock with this id.
    pub fn lock(store: Arc<dyn LockStore>, id: LockId, clock: Clock) -> Self {
        Self::new(store, LockQuery::id(id).limit(1), clock)
    }

    fn new(store: Arc<dyn LockStore>, query: LockQuery<'static>, clock: Clock) -> Self {
        Self {
            store,
            gone_by: clock.now(),
            clock,
            query,
            watch: None,
            sight: Sight::None,
            asking: None,
            known: Vec::new(),
            partial: false,
            gone: VecDeque::new(),
            ahead: None,
            again: None,
            pause: PAUSES.0,
            timer: None,
        }
    }

    /// The locks that are known, as of what was told last.
    pub fn locks(&self) -> impl ExactSizeIterator<Item = &Lock> {
        self.known.iter().map(|known| &known.lock)
    }

    /// What is told next.
    pub async fn next(&mut self) -> Result<Followed, StoreError> {
        std::future::poll_fn(|cx| self.poll_told(cx)).await
    }

    /// The same, polled.
    pub fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<Result<Followed, StoreError>> {
        loop {
            if let Some(told) = ready!(self.step(cx)) {
                return Poll::Ready(told);
            }
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Followed, StoreError>>> {
        // What happens meanwhile waits in the queue of the watch, and counts after the answer.
        if let Some(asking) = &mut self.asking {
            let answer = ready!(asking.poll(cx));
            let (purpose, asked) = (asking.purpose, asking.asked);
            self.asking = None;
            return Poll::Ready(self.answered(purpose, asked, answer));
        }
        if self.watch.is_none() && self.again.is_none() {
            self.watch = Some(self.store.watch(&self.query));
        }
        if let Some(watch) = &mut self.watch
            && let Poll::Ready(event) = Pin::new(watch).poll_next(cx)
        {
            return Poll::Ready(self.heard(event));
        }
        // All that was told before the store was asked has been heard by now: what is missing even so ended by itself.
        if let Some(id) = self.gone.pop_front() {
            return Poll::Ready(self.ended(id));
        }
        let Some(time) = self.next_time() else { return Poll::Pending };
        let timer = match &mut self.timer {
            Some((set, timer)) if *set == time => timer,
            timer => &mut timer.insert((time, self.clock.sleep_until(time))).1,
        };
        ready!(Pin::new(timer).poll(cx));
        self.timer = None;
        if self.again.take().is_none() {
            self.ask(Purpose::Ends);
        } else if self.watch.is_some() {
            self.ask(Purpose::State);
        }
        Poll::Ready(None)
    }

    fn next_time(&self) -> Option<Timestamp> {
        match self.sight {
            _ if self.again.is_some() => self.again,
            // The state is read anew before anything can be said of ends.
            Sight::None | Sight::Lost => None,
            Sight::Clear => self.known.iter().filter_map(|known| known.due).min(),
        }
    }

    fn ask(&mut self, purpose: Purpose) {
        let asked = self.clock.now();
        let (answer, limit) = (self.store.find(&self.query), self.clock.sleep_until(asked.after(ANSWER)));
        self.asking = Some(Asking { purpose, asked, answer, limit });
    }

    fn answered(
        &mut self,
        purpose: Purpose,
        asked: Timestamp,
        answer: Result<LockPage, StoreError>,
    ) -> Option<Result<Followed, StoreError>> {
        let page = match answer {
            Ok(page) => page,
            Err(error) => {
                self.again = Some(self.clock.now().after(self.pause));
                self.pause = (self.pause * 2).min(PAUSES.1);
                return self.lost_sight(error);
            }
        };
        self.pause = PAUSES.0;
        if let Some(lock) = page.locks.first() {
            self.ahead = Some(micros_between(lock.life().seen_at, self.clock.now()));
        }
        match purpose {
            Purpose::State => {
                let known = |lock: &Lock| Known { lock: lock.clone(), breaker: (None, None), due: self.due(lock) };
                self.known = page.locks.iter().map(known).collect();
                self.partial = page.next.is_some();
                self.gone.clear();
                self.sight = Sight::Clear;
                Some(Ok(Followed::Now(page.locks)))
            }
            Purpose::Ends => {
                self.compare(asked, &page);
                None
            }
        }
    }

    /// Looks for the locks whose time is up in what the store still has.
    fn compare(&mut self, asked: Timestamp, page: &LockPage) {
        self.gone_by = asked;
        let (soonest, mut known) = (self.clock.now().after(IN_USE), std::mem::take(&mut self.known));
        known.retain_mut(|known| {
            if known.due.is_none_or(|due| due > asked) {
                return true;
            }
            let id = known.lock.id();
            match page.locks.iter().find(|lock| lock.id() == id) {
                // A write keeps it alive, or the clocks do not quite agree. Our own idea of it waits for an event.
                Some(lock) if lock.state() == LockState::Pending => known.due = self.due(lock),
                Some(lock) => known.due = self.due(lock).map(|due| due.max(soonest)),
                None if page.next.as_ref().is_some_and(|end| end.precedes(&known.lock)) => {
                    // It is on a page that is not looked at any more.
                    self.partial = true;
                    return false;
                }
                None => self.gone.push_back(id),
            }
            true
        });
        self.known = known;
    }

    /// What is told of a lock that was gone when its time was up.
    fn ended(&mut self, id: LockId) -> Option<Result<Followed, StoreError>> {
        let at = self.known.iter().position(|known| known.lock.id() == id)?;
        if self.known[at].due.is_none_or(|due| due > self.gone_by) {
            return None;
        }
        let Known { lock, breaker: (actor, reason), .. } = self.known.remove(at);
        Some(Ok(match lock.state() {
            LockState::Pending => Followed::Now(self.locks().cloned().collect()),
            LockState::Breaking => Followed::Event(LockEvent::Ended { lock, cause: LostCause::Broken, actor, reason }),
            _ => Followed::Event(LockEvent::Ended { lock, cause: LostCause::Expired, actor: None, reason: None }),
        }))
    }

    fn heard(&mut self, event: Option<Result<LockEvent, StoreError>>) -> Option<Result<Followed, StoreError>> {
        match event {
            None => {
                self.watch = None;
                self.again = Some(self.clock.now().after(REOPEN));
                self.lost_sight(StoreError::new(StoreErrorKind::Unavailable, "a watch of locks has ended"))
            }
            Some(Err(error)) => self.lost_sight(error),
            Some(Ok(LockEvent::Synced)) => {
                self.again = None;
                self.ask(Purpose::State);
                None
            }
            // The state that is to be read has it.
            Some(Ok(_)) if self.sight != Sight::Clear => None,
            Some(Ok(event)) => self.happened(event),
        }
    }

    fn happened(&mut self, event: LockEvent) -> Option<Result<Followed, StoreError>> {
        match &event {
            LockEvent::Ended { lock, .. } => {
                let at = self.known.iter().position(|known| known.lock.id() == lock.id());
                if let Some(at) = at {
                    self.known.remove(at);
                } else if !self.partial {
                    // Told already, or over before the state was read.
                    return None;
                }
            }
            LockEvent::Breaking { lock, actor, reason } => self.learn(lock, (actor.clone(), reason.clone())),
            LockEvent::Granted(lock) | LockEvent::Refreshed(lock) => self.learn(lock, (None, None)),
            LockEvent::Synced => return None,
        }
        Some(Ok(Followed::Event(event)))
    }

    fn learn(&mut self, lock: &Lock, breaker: (Option<Principal>, Option<Arc<str>>)) {
        // An event may have been on its way for long: the smallest difference is the least wrong.
        let ahead = micros_between(lock.life().seen_at, self.clock.now());
        self.ahead = Some(self.ahead.map_or(ahead, |known| known.min(ahead)));
        let known = Known { lock: lock.clone(), breaker, due: self.due(lock) };
        let place = |other: &Known| Cursor::of(&other.lock).cmp(&Cursor::of(lock));
        match self.known.binary_search_by(place) {
            Ok(at) => self.known[at] = known,
            Err(_) if self.known.len() >= self.query.limit => self.partial = true,
            Err(at) => self.known.insert(at, known),
        }
    }

    /// When `lock` has to be looked at, by our clock.
    fn due(&self, lock: &Lock) -> Option<Timestamp> {
        if lock.state() == LockState::Pending {
            return Some(self.clock.now().after(MARK));
        }
        let (end, ahead) = (lock.expires_at()?.as_micros(), self.ahead.unwrap_or_default());
        Some(Timestamp::from_micros(end.saturating_add_signed(ahead)))
    }

    /// From here on something may be missed. Told once, until the state is read again.
    fn lost_sight(&mut self, error: StoreError) -> Option<Result<Followed, StoreError>> {
        self.gone.clear();
        let told = std::mem::replace(&mut self.sight, Sight::Lost) == Sight::Lost;
        if told { None } else { Some(Err(error)) }
    }
}

impl Asking {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<LockPage, StoreError>> {
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx) {
            return Poll::Ready(answer);
        }
        ready!(Pin::new(&mut self.limit).poll(cx));
        Poll::Ready(Err(StoreError::new(StoreErrorKind::TimedOut, "looking for locks")))
    }
}

impl Stream for Follow {
    type Item = Result<Followed, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_told(cx).map(Some)
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("query", &self.query).field("sight", &self.sight).finish_non_exhaustive()
    }
}

/// How much later `b` is than `a`.
fn micros_between(a: Timestamp, b: Timestamp) -> i64 {
    // The end of the year 9999 is far from what an `i64` holds.
    b.as_micros().cast_signed() - a.as_micros().cast_signed()
}

#[cfg(test)]
mod tests;
