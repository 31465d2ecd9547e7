//! Hours of UTC, which are the folders of the archive.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tracescale_core::time::Timestamp;

const SECONDS: i64 = 3600;
const MICROS: i64 = SECONDS * 1_000_000;

/// An hour: hours since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hour(i64);

// === impl Hour ===

impl Hour {
    /// The hour of a time.
    #[must_use]
    pub const fn of(time: Timestamp) -> Self {
        Self(time.as_nanos().div_euclid(MICROS * 1000))
    }

    /// The hour of a time as it is archived, in microseconds since the epoch.
    pub(crate) const fn of_micros(micros: i64) -> Self {
        Self(micros.div_euclid(MICROS))
    }

    /// Its first moment.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp::from_secs(self.0.saturating_mul(SECONDS))
    }

    /// Its end, exclusive.
    #[must_use]
    pub const fn end(self) -> Timestamp {
        Timestamp::from_secs(self.0.saturating_add(1).saturating_mul(SECONDS))
    }
}

impl fmt::Display for Hour {
    /// Its folder, the way Hive names partitions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: DateTime<Utc> = self.start().to_utc();
        write!(f, "{}", start.format("date=%Y-%m-%d/hour=%H"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: an hour holds its start and not its end, on both sides of the epoch, and names its folder.
    #[test]
    fn hours_are_half_open_and_named_in_utc() {
        for seconds in [0, 1_788_000_000, -1, -3600, -3601] {
            let time = Timestamp::from_secs(seconds);
            let hour = Hour::of(time);
            assert!(hour.start() <= time && time < hour.end(), "{time}");
            assert_eq!(hour, Hour::of_micros(seconds * 1_000_000));
        }
        assert_eq!(Hour::of(Timestamp::from_secs(1_788_000_000)).to_string(), "date=2026-08-29/hour=10");
        assert_eq!(Hour::of(Timestamp::from_secs(-1)).to_string(), "date=1969-12-31/hour=23");
    }
}
