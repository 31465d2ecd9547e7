//! From values and times to places in a plot, and the ticks that tell people where they are.

use std::time::Duration;

use tracescale_core::time::{Timestamp, nanos};

use crate::number::seconds;

/// Most ticks of a time axis.
const TIME_TICKS_MAX: u32 = 13;
/// Distances between ticks in seconds; weeks follow.
const DISTANCES: [u64; 19] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 2 * 86_400];
/// A week in seconds.
const WEEK: u64 = 7 * 86_400;
/// From Monday to Thursday.
const THURSDAY: Duration = Duration::from_secs(3 * 86_400);

/// A value axis. Values outside of it are drawn at its ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// Lowest value.
    pub low: f64,
    /// Highest value.
    pub high: f64,
    /// Place of the lowest.
    pub from: f64,
    /// Place of the highest.
    pub to: f64,
    /// Whether equal factors, not equal differences, are equally far apart (above one).
    pub logarithmic: bool,
}

/// A time axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TimeScale {
    /// First time.
    pub from: Timestamp,
    /// Last time.
    pub until: Timestamp,
    /// Place of the first.
    pub left: f64,
    /// Place of the last.
    pub right: f64,
}

/// A tick of a time axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeTick {
    /// When.
    pub at: Timestamp,
    /// The time of day, or the date at midnight.
    pub label: String,
    /// Whether a day begins.
    pub midnight: bool,
}

// === impl Scale ===

impl Scale {
    /// Where a value is.
    pub(super) fn at(&self, value: f64) -> f64 {
        let place = |value: f64| if self.logarithmic { value.max(0.0).ln_1p() } else { value };
        let (low, high) = (place(self.low), place(self.high));
        let share = (place(value) - low) / (high - low).max(f64::MIN_POSITIVE);
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        self.from + (self.to - self.from) * share
    }

    /// Round values within, about `count` of them; whole numbers only if asked for.
    pub(super) fn ticks(&self, count: f64, whole: bool) -> Vec<f64> {
        if self.logarithmic {
            let steps = (0..18).flat_map(|power| [1.0, 3.0].map(|digit| digit * 10f64.powi(power)));
            return std::iter::once(0.0).chain(steps).filter(|value| (self.low..=self.high).contains(value)).collect();
        }
        let distance = round_distance((self.high - self.low) / count, whole);
        let first = (self.low / distance - 1e-9).ceil();
        let places = std::iter::successors(Some(first), |place| Some(place + 1.0)).map(|place| place * distance);
        places.take_while(|value| *value <= self.high + 1e-9 * distance).take(50).collect()
    }
}

/// The highest value of an axis that shows values up to this, with some air.
pub(super) fn round_up(highest: f64, count: f64, whole: bool) -> f64 {
    let highest = if highest.is_finite() && highest > 0.0 { highest } else { 1.0 };
    let distance = round_distance(highest / count, whole);
    // Half steps waste less of the plot than whole ones.
    (highest * 1.04 / distance * 2.0).ceil() / 2.0 * distance
}

/// The next of 1, 2, 5, 10, 20…
fn round_distance(least: f64, whole: bool) -> f64 {
    let least = if least.is_finite() && least > 0.0 { least } else { 1.0 };
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9)).unwrap_or(10.0);
    if whole { (factor * power).max(1.0) } else { factor * power }
}

// === impl TimeScale ===

impl TimeScale {
    /// Where a time is; times outside are at the ends.
    pub(super) fn at(&self, time: Timestamp) -> f64 {
        let span = seconds(nanos(self.until.since(self.from)).max(1));
        let share = seconds(nanos(time.since(self.from))) / span;
        self.left + (self.right - self.left) * share.min(1.0)
    }

    /// Ticks at round times in UTC, at most thirteen.
    pub(super) fn ticks(&self) -> Vec<TimeTick> {
        let span = self.until.since(self.from);
        let fits = |distance: &u64| span.as_secs() / distance < u64::from(TIME_TICKS_MAX);
        let weeks = span.as_secs() / WEEK / u64::from(TIME_TICKS_MAX - 1) + 1;
        let distance = DISTANCES.into_iter().find(fits).unwrap_or(weeks.saturating_mul(WEEK));
        let width = Duration::from_secs(distance);
        // Weeks begin on Mondays; the epoch was a Thursday.
        let shift = if distance < WEEK { Duration::ZERO } else { THURSDAY };
        let before = (self.from + shift).floor(width) - shift;
        let first = if before < self.from { before + width } else { before };
        let times = (0..=TIME_TICKS_MAX).map(|count| first + width * count).take_while(|time| *time <= self.until);
        times.map(|time| TimeTick::at(time, width)).collect()
    }
}

// === impl TimeTick ===

impl TimeTick {
    fn at(at: Timestamp, distance: Duration) -> Self {
        let midnight = at.floor(Duration::from_secs(86_400)) == at;
        let pattern = match midnight {
            true => "%a %-d %b",
            false if distance < Duration::from_secs(60) => "%H:%M:%S",
            false => "%H:%M",
        };
        Self { at, label: at.to_utc().format(pattern).to_string(), midnight }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(from: i64, length: i64) -> Vec<String> {
        let (from, until) = (Timestamp::from_secs(from), Timestamp::from_secs(from + length));
        let ticks = TimeScale { from, until, left: 0.0, right: 1000.0 }.ticks();
        assert!(ticks.iter().all(|tick| from <= tick.at && tick.at <= until));
        ticks.into_iter().map(|tick| tick.label).collect()
    }

    /// Guarantees: an hour has ticks every five minutes, a day every two hours, two weeks every two days, all at round times.
    #[test]
    fn times() {
        // Monday, 6 January 2025, 10:07.
        let start = 1_736_158_020;
        let hour = labels(start, 3600);
        assert_eq!((hour.len(), hour[0].as_str(), hour[11].as_str()), (12, "10:10", "11:05"));
        let day = labels(start, 86_400);
        assert_eq!((day.len(), day[0].as_str(), day[6].as_str(), day[7].as_str()), (12, "12:00", "Tue 7 Jan", "02:00"));
        let weeks = labels(start, 14 * 86_400);
        assert_eq!(weeks, ["Tue 7 Jan", "Thu 9 Jan", "Sat 11 Jan", "Mon 13 Jan", "Wed 15 Jan", "Fri 17 Jan", "Sun 19 Jan"]);
        let months = labels(start, 70 * 86_400);
        assert!(months.len() == 10 && months.iter().all(|label| label.starts_with("Mon")), "{months:?}");
        assert_eq!(labels(start, 10)[0], "10:07:00");
    }

    /// Guarantees: the shortest and the longest times have few ticks, and no value leaves its axis.
    #[test]
    fn extremes() {
        for (from, until) in [(Timestamp::EPOCH, Timestamp::EPOCH), (Timestamp::MIN, Timestamp::MAX), (Timestamp::MAX, Timestamp::MIN)] {
            let scale = TimeScale { from, until, left: 10.0, right: 20.0 };
            assert!(scale.ticks().len() <= 14);
            assert!([from, until, Timestamp::EPOCH].iter().all(|time| (10.0..=20.0).contains(&scale.at(*time))));
        }
        let scale = Scale { low: 0.0, high: 0.0, from: 100.0, to: 0.0, logarithmic: false };
        assert!([0.0, 5.0, f64::NAN, f64::INFINITY].iter().all(|value| (0.0..=100.0).contains(&scale.at(*value))));
    }

    /// Guarantees: ticks of values are round, whole where asked, and logarithmic ones start at zero.
    #[test]
    fn values() {
        let scale = |high, logarithmic| Scale { low: 0.0, high, from: 0.0, to: 1.0, logarithmic };
        assert_eq!(scale(10.4, false).ticks(5.0, true), [0.0, 5.0, 10.0]);
        assert_eq!(scale(2.5, false).ticks(5.0, true), [0.0, 1.0, 2.0]);
        assert_eq!(scale(1.0, false).ticks(5.0, false).len(), 6);
        assert_eq!(scale(50.0, true).ticks(5.0, true), [0.0, 1.0, 3.0, 10.0, 30.0]);
        assert!([0.0, 3.0, 97.0, 1e6].iter().all(|most| round_up(*most, 4.0, true) >= *most));
    }
}
