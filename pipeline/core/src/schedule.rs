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
