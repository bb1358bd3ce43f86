//! `SeenClock`: when the engine's clock was last read, so that a plain look need not read it again.
//!
//! A look that is asked for a moment later knows between which two times it was answered. Only where a lock ends between
//! those does the clock have to be read once more.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::lock::Timestamp;

/// How long a reading is good for. So late at most is it seen that somebody has set the clock.
const FRESH: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct SeenClock(Mutex<Option<Reading>>);

/// What the engine's clock showed at some moment between two of this node's.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    engine: Timestamp,
    sent: Instant,
    received: Instant,
}

impl SeenClock {
    /// The engine has answered, between these two, what its clock showed.
    pub(super) fn saw(&self, engine: Timestamp, sent: Instant, received: Instant) {
        *self.0.lock() = Some(Reading { engine, sent, received });
    }

    /// The last reading, unless it is too old.
    pub(super) fn recent(&self) -> Option<Reading> {
        self.0.lock().filter(|reading| reading.sent.elapsed() < FRESH)
    }
}

impl Reading {
    /// The earliest and the latest time that the engine's clock can have shown while it answered something else.
    pub(super) fn span(&self, sent: Instant, received: Instant) -> (Timestamp, Timestamp) {
        let (least, most) = (sent.saturating_duration_since(self.received), received.saturating_duration_since(self.sent));
        (self.engine.after(least), self.engine.after(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_answer_lies_between_two_times() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let reading = Reading { engine: Timestamp::from_micros(1_000_000), sent: start, received: start + ms(2) };
        let span = reading.span(start + ms(10), start + ms(13));
        assert_eq!((span.0.as_micros(), span.1.as_micros()), (1_008_000, 1_013_000));
        // One that overtook the reading.
        let span = reading.span(start + ms(1), start + ms(3));
        assert_eq!((span.0.as_micros(), span.1.as_micros()), (1_000_000, 1_003_000));
    }
}
