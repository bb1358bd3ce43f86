//! `Jitter`: what keeps many clients from coming back at one moment.

use std::{fmt, time::Duration};

/// Where in the range that a pause is spread over it ends. Random, but for tests.
#[derive(Clone, Copy, Default)]
pub struct Jitter(Option<f64>);

impl Jitter {
    /// Anywhere in the range, each time anew, by the operating system's randomness.
    #[must_use]
    pub const fn random() -> Self {
        Self(None)
    }

    /// Always at this part of the range: 0 is its begin, 1 its end, and there is nothing outside.
    #[must_use]
    pub fn fixed(part: f64) -> Self {
        Self(Some(if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }))
    }

    fn part(self) -> f64 {
        self.0.unwrap_or_else(|| {
            let random = u32::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..4].try_into().unwrap_or_default());
            f64::from(random) / f64::from(u32::MAX)
        })
    }

    /// Something from nothing to `range`.
    pub(super) fn of(self, range: Duration) -> Duration {
        range.mul_f64(self.part())
    }

    /// `span`, ten per cent more or less.
    pub(super) fn about(self, span: Duration) -> Duration {
        span.mul_f64(0.9) + self.of(span / 5)
    }
}

impl fmt::Debug for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("Jitter(random)"),
            Some(part) => write!(f, "Jitter({part})"),
        }
    }
}
