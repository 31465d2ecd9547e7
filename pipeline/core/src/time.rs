//! Points in time as the whole system counts them: nanoseconds since the Unix epoch, UTC.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z. Arithmetic saturates, so that a broken clock cannot panic us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

// === impl Timestamp ===

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The latest representable time (year 2262).
    pub const MAX: Self = Self(i64::MAX);
    /// The earliest representable time (year 1677).
    pub const MIN: Self = Self(i64::MIN);

    /// A time from nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// A time from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// A time from whole seconds since the Unix epoch.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The start of the interval of length `width` that holds this time; intervals are aligned to the epoch.
    /// Times before the epoch round down too. A zero `width` leaves the time as it is.
    #[must_use]
    pub fn floor(self, width: Duration) -> Self {
        let width = nanos(width);
        if width == 0 { self } else { Self(self.0.saturating_sub(self.0.rem_euclid(width))) }
    }

    /// How long after `earlier` this time is; zero when it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// As a calendar time in UTC.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_nanos(self.0)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(nanos(rhs)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(rhs)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// Nanoseconds of a duration, saturating at about 292 years.
#[must_use]
pub fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: intervals are aligned to the epoch on both sides of it.
    #[test]
    fn floor_is_aligned_before_and_after_the_epoch() {
        let five = Duration::from_secs(5);
        assert_eq!(Timestamp::from_secs(12).floor(five), Timestamp::from_secs(10));
        assert_eq!(Timestamp::from_secs(-1).floor(five), Timestamp::from_secs(-5));
        assert_eq!(Timestamp::from_secs(10).floor(five), Timestamp::from_secs(10));
    }

    /// Guarantees: no arithmetic on extreme clocks panics or wraps.
    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
        assert!(!Timestamp::MIN.to_string().is_empty());
    }
}
