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
        Self::from_micros(self.0.saturating_add(micros(span)))
    }

    /// This point in time moved back by `span`, at most to [`Timestamp::EPOCH`].
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
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

/// Whole microseconds, as many as a number can say.
pub(crate) const fn micros(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000).saturating_add(span.subsec_micros() as u64)
}

impl Timestamp {
    /// `2026-11-21T04:00:00Z`: RFC 3339 in UTC, to the second.
    #[must_use]
    pub(crate) fn rfc3339(self) -> [u8; 20] {
        let seconds = self.0 / 1_000_000;
        // Until the end of the year 9999 there are fewer days than 32 bits hold.
        let (days, second) = ((seconds / 86_400) as u32, (seconds % 86_400) as u32);
        let (year, month, day) = date(days);
        let mut text = *b"0000-00-00T00:00:00Z";
        let two = |number: u32| [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        let fields = [year / 100, year % 100, month, day, second / 3_600, second / 60 % 60, second % 60];
        for (at, field) in [0, 2, 5, 8, 11, 14, 17].into_iter().zip(fields) {
            text[at..at + 2].copy_from_slice(&two(field));
        }
        text
    }
}

/// Year, month and day, so many days after 1970-01-01, by the Gregorian calendar.
///
/// Years are counted from March, so that the day of a leap year is the last one, and in turns of 400, which all have the
/// same number of days.
const fn date(days: u32) -> (u32, u32, u32) {
    const IN_400_YEARS: u32 = 146_097;
    const IN_100_YEARS: u32 = 36_524;
    const IN_4_YEARS: u32 = 1_461;
    /// From 0000-03-01 to 1970-01-01.
    const BEFORE: u32 = 719_468;
    let days = days + BEFORE;
    let (turn, day) = (days / IN_400_YEARS, days % IN_400_YEARS);
    // Without the leap days so far, all years would be of the same length.
    let year = (day - day / (IN_4_YEARS - 1) + day / IN_100_YEARS - day / (IN_400_YEARS - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Of any five months from March on, 153 days: 31, 30, 31, 30, 31.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = 400 * turn + year;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
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
        f.write_str(std::str::from_utf8(&self.rfc3339()).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_rfc3339_micros(SystemTime::from(*self)), f)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.rfc3339()).expect("digits are ASCII"))
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
    fn every_day_is_written_as_it_is_called() {
        const DAY: u64 = 86_400_000_000;
        let told = |time: Timestamp| humantime::format_rfc3339_seconds(SystemTime::from(time)).to_string();
        // Every day of 800 years, each at another time of the day, and the last days of all.
        let days = (0..365 * 800).map(|day| day * DAY + day * 295_001_003 % DAY);
        let last = (0..400).map(|day| Timestamp::MAX.as_micros() - day * DAY);
        for time in days.chain(last).map(Timestamp::from_micros) {
            assert_eq!(time.to_string(), told(time));
        }
        for micros in [0, 1, 999_999, 1_000_000, 951_782_399_999_999, 951_782_400_000_000, u64::MAX] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(time.to_string(), told(time));
        }
    }

    #[test]
    fn debugging_shows_the_microseconds() {
        assert_eq!(format!("{:?}", Timestamp::from_micros(1_000_001)), "1970-01-01T00:00:01.000001Z");
    }

    #[test]
    fn nothing_overflows() {
        assert_eq!(Timestamp::MAX.after(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_micros(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }
}
