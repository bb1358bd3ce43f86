//! Waiting on behalf of callers: who may, how long, how many at once, and what a refused write waits for.

mod acquire;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, HeaderValue};

use super::{Caller, Limits, LockRequest, Locks, Refusal, RefusalCode, builder::Waits, stats::CountedWait};
use crate::{
    lock::{ResourceKey, Timestamp},
    request::Preferences,
    store::{
        Clock, ClockSleep,
        waiting::{Again, Blocked, Deference, Full, Line, Place, Seats},
    },
};

/// How long a write that may go on lets acquires go first, which have stood in line: longer only where the store takes its
/// time with them, and then their marks are in its way anyhow.
const YIELDS: Duration = Duration::from_secs(1);

/// Where callers wait: the places, and the line of those who acquire.
#[derive(Debug)]
pub(super) struct Room {
    seats: Arc<Seats>,
    line: Arc<Line>,
}

impl Room {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { seats: Arc::new(Seats::new(limits.waiters_per_resource, limits.waiters)), line: Arc::default() }
    }
}

/// For how long somebody is kept waiting at most, and until when that is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    span: Duration,
    until: Timestamp,
}

impl Patience {
    /// When the time is up, by [`Locks::clock`].
    pub(crate) fn until(&self) -> Timestamp {
        self.until
    }

    /// The value of `Preference-Applied` (RFC 7240 section 3).
    pub(crate) fn applied(&self) -> HeaderValue {
        HeaderValue::try_from(format!("wait={}", self.span.as_secs())).expect("letters and digits")
    }
}

impl Locks {
    /// How many wait at the moment: acquires in line, writes that are held back, and callers who wait for news.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.room().seats.taken()
    }

    /// How long a request is kept waiting that would rather wait: as long as it says, up to [`Limits::wait`]. Not at all
    /// where that was not allowed.
    pub(crate) fn patience(&self, headers: &HeaderMap) -> Option<Patience> {
        if self.policy().waits == Waits::Off {
            return None;
        }
        let span = Preferences::of(headers).wait?.min(self.limits().wait);
        // A caller with a deadline is to hear why before it.
        #[cfg(feature = "grpc")]
        let span = crate::request::grpc_timeout(headers).map_or(span, |timeout| span.min(timeout / 10 * 9));
        self.patient(span)
    }

    /// The same for an acquire: code waits as long as it says.
    pub(super) fn patience_for(&self, caller: &Caller, request: &LockRequest) -> Option<Patience> {
        let span = request.waiting?;
        if caller.is_application() {
            return self.patient(span);
        }
        if self.policy().waits == Waits::Off {
            return None;
        }
        self.patient(span.min(self.limits().wait))
    }

    fn patient(&self, span: Duration) -> Option<Patience> {
        (!span.is_zero()).then(|| Patience { span, until: self.clock().now().after(span) })
    }

    /// A place for somebody who waits for news of `key`.
    ///
    /// # Errors
    /// 429 `too_many_waiting`.
    pub(crate) fn place_to_wait(&self, key: &ResourceKey<'_>) -> Result<Place, Refusal> {
        self.place(Arc::from([key.clone().into_owned()]))
    }

    fn place(&self, keys: Arc<[ResourceKey<'static>]>) -> Result<Place, Refusal> {
        self.room().seats.take(keys).map_err(|full| self.too_many(full))
    }

    fn too_many(&self, full: Full) -> Refusal {
        let detail = match full {
            Full::Resource => "As many are waiting for this resource as may.",
            Full::Process => "As many are waiting as may.",
        };
        self.signed(Refusal::new(RefusalCode::TooManyWaiting, detail).retry_in(1))
    }

    /// A place for a write of `targets` that was refused, to wait until it is worth asking again.
    ///
    /// # Errors
    /// 429 `too_many_waiting`.
    pub(crate) fn wait_behind(
        &self,
        refusal: &Refusal,
        targets: Vec<ResourceKey<'static>>,
        patience: &Patience,
    ) -> Result<Waiting, Refusal> {
        let targets: Arc<[ResourceKey<'static>]> = targets.into();
        let place = self.place(targets.clone())?;
        let clock = self.clock().clone();
        let mut waiting = Waiting {
            blocked: Blocked::new(self.store().clone(), clock.clone()),
            deference: Deference::new(self.room().line.clone(), targets),
            until: clock.sleep_until(patience.until),
            asked_at: clock.now(),
            clock,
            stage: Stage::Blocked,
            counted: CountedWait::new(self.clone()),
            _place: place,
        };
        waiting.behind(refusal);
        Ok(waiting)
    }

    fn room(&self) -> &Room {
        &self.inner.room
    }
}

/// A write that was refused and waits for what is in its way to go. Dropping it gives up its place.
pub(crate) struct Waiting {
    blocked: Blocked,
    deference: Deference,
    clock: Clock,
    until: ClockSleep,
    asked_at: Timestamp,
    stage: Stage,
    counted: CountedWait,
    _place: Place,
}

enum Stage {
    /// Something is in the way.
    Blocked,
    /// Perhaps nothing is, but acquires go first; not for longer than this.
    Yielding(ClockSleep),
}

impl Waiting {
    /// Ready when the store is to be asked again, or when the time is up. After [`Again::Ask`], [`Waiting::behind`] says
    /// what came of it before this is polled again.
    pub(crate) fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<Again> {
        if Pin::new(&mut self.until).poll(cx).is_ready() {
            return Poll::Ready(Again::TimeUp);
        }
        loop {
            match &mut self.stage {
                Stage::Blocked => {
                    ready!(self.blocked.poll_changed(cx));
                    self.deference.begin();
                    self.stage = Stage::Yielding(self.clock.sleep_until(self.clock.now().after(YIELDS)));
                }
                Stage::Yielding(most) => {
                    if self.deference.poll(cx).is_pending() && Pin::new(most).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.stage = Stage::Blocked;
                    self.asked_at = self.clock.now();
                    return Poll::Ready(Again::Ask);
                }
            }
        }
    }

    /// The write goes on.
    pub(crate) fn served(&mut self) {
        self.counted.served();
    }

    /// The write was refused again.
    pub(crate) fn behind(&mut self, refusal: &Refusal) {
        match refusal.blocker() {
            Some(lock) => self.blocked.by(lock, self.asked_at),
            None if refusal.code() == RefusalCode::StoreUnavailable => self.blocked.failed(),
            None => self.blocked.by_something(),
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("blocked", &self.blocked).finish_non_exhaustive()
    }
}

const _: fn() = || {
    fn movable<T: Unpin + Send>() {}
    movable::<Waiting>();
};

#[cfg(test)]
mod tests;
