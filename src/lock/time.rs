//! `Timestamp`: a point in time as stores count it, in whole microseconds since the Unix epoch.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A point in time by a store's clock: microseconds since 1970-01-01T00:00:00Z.
///
/// All times that decide something (expiry, write leases, the deadline of a mark) are the store's own, so two nodes
/// whose clocks differ still agree about one lock. Displayed and serialised as RFC 3339 in UTC, to the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The last point in time that can be displayed: the end of the year 9999.
    pub const MAX: Self = Self(253_402_300_799_000_000);

    /// A point in time from microseconds since the Unix epoch; what lies past [`Timestamp::MAX`] becomes that.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::MAX.0 { Self::MAX } else { Self(micros) }
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// What the operating system's clock shows now. Only a store's clock may decide anything; see
    /// [`Clock`](crate::store::Clock).
    #[must_use]
    pub fn system_now() -> Self {
        Self::from(SystemTime::now())
    }

    /// This point in time moved on by `span`, at most to [`Timestamp::MAX`].
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// This point in time moved back by `span`, at most to [`Timestamp::EPOCH`].
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// How many seconds there are from `now` until this, rounded up: never less than what is really left.
    #[must_use]
    pub const fn seconds_from(self, now: Self) -> u64 {
        self.0.saturating_sub(now.0).div_ceil(1_000_000)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        time.duration_since(UNIX_EPOCH).map_or(Self::EPOCH, |span| Self::EPOCH.after(span))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_micros(time.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(SystemTime::from(*self)).fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_micros(SystemTime::from(*self)).fmt(f)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_seconds_are_rounded_up() {
        let now = Timestamp::from_micros(5_000_000);
        assert_eq!(now.after(Duration::from_micros(1)).seconds_from(now), 1);
        assert_eq!(now.after(Duration::from_secs(1)).seconds_from(now), 1);
        assert_eq!(now.after(Duration::from_micros(1_000_001)).seconds_from(now), 2);
        assert_eq!(Timestamp::EPOCH.seconds_from(now), 0);
    }

    #[test]
    fn nothing_overflows() {
        assert_eq!(Timestamp::MAX.after(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_micros(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }
}
