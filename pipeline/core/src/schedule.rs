//! Schedules: recurring spans of time that set other bounds, such as a floor for office hours.
//!
//! A schedule begins when its cron expression matches the wall clock of its time zone and lasts for a *physical*
//! duration: a schedule of 8 h lasts 8 h also on the day the clocks change. A begin that falls into the hour that is
//! skipped in spring begins right after it; one that falls into the doubled hour of autumn begins once, at its first pass.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The longest schedule: overlap of a schedule with itself needs no more.
pub const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// A schedule as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleSpec {
    /// Name that reasons mention.
    pub name: String,
    /// Five fields (minute hour day-of-month month day-of-week), or `@daily` and the like: when the schedule begins.
    pub cron: String,
    /// IANA time zone of the expression, such as `Europe/Berlin`.
    pub timezone: String,
    /// How long it lasts from each begin.
    #[serde(with = "crate::duration::text")]
    pub duration: Duration,
    /// The lower bound while it is active; `None` leaves the policy's.
    pub min: Option<u32>,
    /// The upper bound while it is active; `None` leaves the policy's.
    pub max: Option<u32>,
}

/// A schedule that was checked.
#[derive(Clone, Debug)]
pub struct Schedule {
    spec: ScheduleSpec,
    cron: Cron,
    timezone: Tz,
}

/// Why an expression is not a usable cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It does not parse; the text is the parser's.
    #[error("not a cron expression: {0}")]
    Syntax(String),
    /// It parses but no date matches it, such as 30 February.
    #[error("no date ever matches this cron expression")]
    Never,
}

/// Parses a cron expression of five fields and makes sure that it matches some day.
///
/// # Errors
/// When it does not parse or never matches.
pub fn parse_cron(text: &str) -> Result<Cron, CronError> {
    // Longer texts are never meant, and the parser's cost grows with lists.
    if text.len() > 200 {
        return Err(CronError::Syntax("longer than 200 characters".to_owned()));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(text).map_err(|error| CronError::Syntax(error.to_string()))?;
    let probe = DateTime::<Utc>::from_timestamp(1_700_000_000, 0).unwrap_or_default();
    cron.find_next_occurrence(&probe, true).map_err(|_| CronError::Never)?;
    Ok(cron)
}

/// Finds an IANA time zone; names are matched exactly, as the database spells them.
#[must_use]
pub fn parse_timezone(text: &str) -> Option<Tz> {
    Tz::from_str(text).ok()
}

/// The local time of an instant in a time zone, in seconds since 1970 as if the clock on the wall showed UTC; UTC for a zone
/// that there is not.
#[must_use]
pub fn local_seconds(timezone: &str, time: Timestamp) -> i64 {
    let utc = time.to_utc().naive_utc();
    let zone = parse_timezone(timezone).unwrap_or(Tz::UTC);
    zone.from_utc_datetime(&utc).naive_local().and_utc().timestamp()
}

/// Reads a day such as `2026-12-25`, as days since 1970-01-01.
#[must_use]
pub fn parse_day(text: &str) -> Option<i64> {
    let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.signed_duration_since(chrono::NaiveDate::default()).num_days())
}

/// Reads a point in time as RFC 3339 writes it, with a time zone; `None` for anything else or outside 1677..2262.
#[must_use]
pub fn parse_instant(text: &str) -> Option<Timestamp> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(Timestamp::from_nanos(time.timestamp_nanos_opt()?))
}

// === impl Schedule ===

impl Schedule {
    /// Puts checked parts together.
    #[must_use]
    pub(crate) fn new(spec: ScheduleSpec, cron: Cron, timezone: Tz) -> Self {
        Self { spec, cron, timezone }
    }

    /// As it was written.
    #[must_use]
    pub fn spec(&self) -> &ScheduleSpec {
        &self.spec
    }

    /// When the newest begin at or before `now` was; `None` when there was none in the calendar's range.
    #[must_use]
    pub fn last_begin(&self, now: Timestamp) -> Option<Timestamp> {
        let local = self.timezone.from_utc_datetime(&now.to_utc().naive_utc());
        let begin = self.cron.find_previous_occurrence(&local, true).ok()?;
        Some(Timestamp::from_nanos(begin.timestamp_nanos_opt()?))
    }

    /// True while the schedule holds: `[begin, begin + duration)`.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.last_begin(now).is_some_and(|begin| begin <= now && now < begin + self.spec.duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, timezone: &str, hours: u64) -> Schedule {
        let spec = ScheduleSpec {
            name: "s".into(),
            cron: cron.into(),
            timezone: timezone.into(),
            duration: Duration::from_secs(hours * 3600),
            min: Some(1),
            max: None,
        };
        let (cron, timezone) = (parse_cron(&spec.cron).unwrap(), parse_timezone(&spec.timezone).unwrap());
        Schedule::new(spec, cron, timezone)
    }

    fn at(text: &str) -> Timestamp {
        parse_instant(text).unwrap()
    }

    /// Guarantees: a schedule follows the wall clock of its zone on both sides of a change of the clocks.
    #[test]
    fn schedules_follow_the_wall_clock() {
        let office = schedule("0 8 * * MON-FRI", "Europe/Berlin", 10);
        // Winter: 08:00 is 07:00 UTC. Summer: 06:00 UTC.
        for (time, active) in [
            ("2026-03-27T06:59:59Z", false),
            ("2026-03-27T07:00:00Z", true),
            ("2026-03-27T16:59:59Z", true),
            ("2026-03-27T17:00:00Z", false),
            ("2026-03-28T10:00:00Z", false),
            ("2026-03-30T05:59:59Z", false),
            ("2026-03-30T06:00:00Z", true),
        ] {
            assert_eq!(office.is_active(at(time)), active, "{time}");
        }
    }

    /// Guarantees: a begin in the hour that spring skips begins right after it, for the full duration.
    #[test]
    fn the_skipped_hour_is_not_lost() {
        let night = schedule("30 2 * * *", "Europe/Berlin", 2);
        // On 29 March 2026, 02:00 becomes 03:00 at 01:00 UTC.
        let active: Vec<bool> = ["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z", "2026-03-29T02:59:59Z", "2026-03-29T03:31:00Z"]
            .map(|time| night.is_active(at(time)))
            .into();
        assert_eq!(active, [false, true, true, false]);
    }

    /// Guarantees: a begin in the hour that autumn doubles begins once, and lasts its physical duration.
    #[test]
    fn the_doubled_hour_begins_once() {
        let night = schedule("30 2 * * *", "Europe/Berlin", 1);
        // On 25 October 2026, 03:00 becomes 02:00 at 01:00 UTC: 02:30 is at 00:30 and at 01:30 UTC.
        let times =
            ["2026-10-25T00:29:59Z", "2026-10-25T00:30:00Z", "2026-10-25T01:29:59Z", "2026-10-25T01:31:00Z", "2026-10-25T02:00:00Z"];
        assert_eq!(times.map(|time| night.is_active(at(time))), [false, true, true, false, false]);
    }

    /// Guarantees: in every hour of the days around both changes, over many zones and expressions, a begin is never in the
    /// future and activity is what its begin says.
    #[test]
    fn begins_are_never_ahead() {
        for zone in
            ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo", "Africa/Casablanca"]
        {
            for cron in ["0 * * * *", "*/7 * * * *", "30 2 * * *", "0 0 * * SUN", "15 1 29 2 *"] {
                let schedule = schedule(cron, zone, 3);
                for start in [
                    "2026-03-07T00:00:00Z",
                    "2026-03-28T00:00:00Z",
                    "2026-04-04T00:00:00Z",
                    "2026-10-03T00:00:00Z",
                    "2026-10-24T00:00:00Z",
                    "2026-10-31T00:00:00Z",
                ] {
                    for step in 0..(48 * 3) {
                        let now = at(start) + Duration::from_secs(step * 1200 + 1);
                        if let Some(begin) = schedule.last_begin(now) {
                            assert!(begin <= now, "{zone} {cron} {now}: {begin}");
                        }
                    }
                }
            }
        }
    }

    /// Guarantees: expressions that cannot work are refused, extreme clocks are survived.
    #[test]
    fn expressions_are_checked() {
        assert!(matches!(parse_cron("61 * * * *"), Err(CronError::Syntax(_))));
        assert!(matches!(parse_cron("* * * *"), Err(CronError::Syntax(_))));
        assert!(matches!(parse_cron("0 0 0 * * *"), Err(CronError::Syntax(_))));
        assert_eq!(parse_cron("0 0 30 2 *").err(), Some(CronError::Never));
        assert!(parse_cron("@daily").is_ok());
        assert!(parse_timezone("Europe/Berln").is_none());
        let yearly = schedule("0 0 1 1 *", "UTC", 24 * 366);
        for now in [Timestamp::MIN, Timestamp::MAX, Timestamp::EPOCH] {
            let _ = yearly.is_active(now);
        }
        assert!(parse_instant("9999-01-01T00:00:00Z").is_none());
    }
}
