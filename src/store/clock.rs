//! `Clock`: the time by which a store decides, and one that tests can move.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::lock::Timestamp;

/// The clock of a store that lives in this process.
///
/// The system clock shows the wall time at which it was made, moved on by the monotonic clock: stepping the machine's
/// time neither ends a lock nor revives one.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System { wall: Timestamp, start: Instant },
    Manual(Arc<Manual>),
}

struct Manual {
    now: AtomicU64,
    sleepers: Mutex<Vec<(Timestamp, Waker)>>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System { wall: Timestamp::system_now(), start: Instant::now() })
    }

    /// What it shows now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { wall, start } => wall.after(start.elapsed()),
            Source::Manual(manual) => Timestamp::from_micros(manual.now.load(Ordering::Acquire)),
        }
    }

    /// Ready once the clock shows `time`.
    ///
    /// # Panics
    /// When first polled outside of a tokio runtime, for the system's clock.
    pub fn sleep_until(&self, time: Timestamp) -> ClockSleep {
        ClockSleep { clock: self.clone(), time, timer: None }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

/// A clock that stands still until it is moved. For tests.
///
/// ```
/// use std::time::Duration;
/// use tower_lock::store::{Clock, ManualClock};
///
/// let hand = ManualClock::new();
/// let clock: Clock = hand.clock();
/// let before = clock.now();
/// hand.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(before), Duration::from_secs(60));
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<Manual>);

impl ManualClock {
    /// A clock that shows 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Manual { now: AtomicU64::new(1_767_225_600_000_000), sleepers: Mutex::default() }))
    }

    /// The clock to give to a store.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.0.clone()))
    }

    /// Moves the clock on, and wakes who slept until then.
    pub fn advance(&self, span: Duration) {
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.0.now.fetch_add(span, Ordering::AcqRel);
        self.wake();
    }

    /// Moves the clock back, as a clock that is set by hand or by a network may be.
    pub fn step_back(&self, span: Duration) {
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.0.now.fetch_sub(span, Ordering::AcqRel);
    }

    fn wake(&self) {
        let now = self.clock().now();
        let due: Vec<Waker> = {
            let mut sleepers = self.0.sleepers.lock();
            let (due, later) = sleepers.drain(..).partition(|(time, _)| *time <= now);
            *sleepers = later;
            due.into_iter().map(|(_, waker): (Timestamp, Waker)| waker).collect()
        };
        due.into_iter().for_each(Waker::wake);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManualClock({:?})", self.clock().now())
    }
}

/// Ready once a [`Clock`] shows a time.
#[must_use = "futures do nothing unless polled"]
pub struct ClockSleep {
    clock: Clock,
    time: Timestamp,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Future for ClockSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        match &this.clock.0 {
            Source::System { .. } => {
                let left = this.time.since(this.clock.now());
                this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(left))).as_mut().poll(cx)
            }
            Source::Manual(manual) => {
                let mut sleepers = manual.sleepers.lock();
                // Read under the mutex: an advance in between would find nobody to wake.
                if Timestamp::from_micros(manual.now.load(Ordering::Acquire)) >= this.time {
                    return Poll::Ready(());
                }
                if !sleepers.iter().any(|(time, waker)| *time == this.time && waker.will_wake(cx.waker())) {
                    sleepers.push((this.time, cx.waker().clone()));
                }
                Poll::Pending
            }
        }
    }
}

impl fmt::Debug for ClockSleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClockSleep({:?})", self.time)
    }
}
