//! The largest value of each interval, for the last so many intervals: what memory is judged by, for memory that was not
//! there once is a process that died.

use std::collections::BTreeMap;

use super::histogram::{Buckets, DecayingHistogram};

/// Most intervals kept, whatever is asked for.
const MAX_INTERVALS: u16 = 1024;

/// Peaks by interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Peaks {
    /// Length of an interval in seconds.
    interval: f64,
    /// Intervals that count.
    count: u16,
    /// By number of the interval since the epoch.
    peaks: BTreeMap<i64, f64>,
}

// === impl Peaks ===

impl Peaks {
    /// Keeps the peaks of the last `count` intervals of `interval` seconds each. `None` when there would be none.
    #[must_use]
    pub fn try_new(interval: f64, count: u16) -> Option<Self> {
        let sensible = interval > 0.0 && interval.is_finite() && (1..=MAX_INTERVALS).contains(&count);
        sensible.then(|| Self { interval, count, peaks: BTreeMap::new() })
    }

    /// Takes note of a value at a time (seconds). False when it is no value, or older than everything that counts.
    pub fn add(&mut self, value: f64, time: f64) -> bool {
        if !(value >= 0.0 && value.is_finite() && time.is_finite()) {
            return false;
        }
        let place = self.place(time);
        let newest = self.peaks.last_key_value().map_or(place, |(newest, _)| place.max(*newest));
        let oldest = newest.saturating_sub(i64::from(self.count) - 1);
        if place < oldest {
            return false;
        }
        self.peaks.entry(place).and_modify(|peak| *peak = peak.max(value)).or_insert(value);
        // Late values may fill gaps, but nothing older than the span is kept: the map is bounded.
        self.peaks = self.peaks.split_off(&oldest);
        true
    }

    /// The largest peak that still counts at `now`. `None` when there is none.
    #[must_use]
    pub fn max(&self, now: f64) -> Option<f64> {
        self.counting(now).map(|(_, peak)| peak).max_by(f64::total_cmp)
    }

    /// The peaks that still count at `now`, each with the time (seconds) at which its interval ends, oldest first.
    pub fn counting(&self, now: f64) -> impl Iterator<Item = (f64, f64)> + '_ {
        let newest = self.place(now);
        let oldest = newest.saturating_sub(i64::from(self.count) - 1);
        // Relative to now, so that the number of an interval need not be exact as a float.
        let end = move |place: i64| now + (f64::from(i32::try_from(place - newest).unwrap_or(0)) + 1.0) * self.interval;
        self.peaks.range(oldest..=newest).map(move |(place, peak)| (end(*place), *peak))
    }

    /// The peaks that count at `now` as a histogram in which each has weight one at the end of its interval.
    #[must_use]
    pub fn histogram(&self, now: f64, half_life: f64) -> DecayingHistogram {
        let mut histogram = DecayingHistogram::new(Buckets::memory(), half_life);
        for (time, peak) in self.counting(now) {
            // Peaks were checked when they came.
            let _ = histogram.add(peak, 1.0, time);
        }
        histogram
    }

    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates; no clock shows such a time")]
    fn place(&self, time: f64) -> i64 {
        (time / self.interval).floor().clamp(-1e15, 1e15) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: f64 = 3600.0;

    /// Guarantees: the largest value of an interval counts until the span has passed, then the next one does.
    #[test]
    fn peaks_expire() {
        let mut peaks = Peaks::try_new(HOUR, 168).unwrap();
        assert_eq!(peaks.max(0.0), None);
        assert!(peaks.add(3e8, 0.0) && peaks.add(5e8, 100.0) && peaks.add(2e8, 200.0));
        assert!(peaks.add(4e8, 10.0 * HOUR));
        assert_eq!(peaks.max(10.0 * HOUR), Some(5e8));
        assert_eq!(peaks.max(167.9 * HOUR), Some(5e8));
        assert_eq!(peaks.max(168.0 * HOUR), Some(4e8));
        assert_eq!(peaks.max(400.0 * HOUR), None);
    }

    /// Guarantees: late values fill gaps, values older than the span are turned away, and the memory is bounded.
    #[test]
    fn late_values_fill_gaps() {
        let mut peaks = Peaks::try_new(HOUR, 168).unwrap();
        assert!(peaks.add(1e8, 1000.0 * HOUR));
        assert!(peaks.add(9e8, 900.0 * HOUR));
        assert!(!peaks.add(9e9, 800.0 * HOUR) && !peaks.add(f64::NAN, 1000.0 * HOUR) && !peaks.add(-1.0, 1000.0 * HOUR));
        assert_eq!(peaks.max(1000.0 * HOUR), Some(9e8));
        for hour in 0..5000 {
            assert!(peaks.add(1e8, (1000.0 + f64::from(hour)) * HOUR));
        }
        assert!(peaks.peaks.len() <= 168, "{}", peaks.peaks.len());
    }

    /// Guarantees: spans without an interval cannot be made.
    #[test]
    fn senseless_spans_are_none() {
        assert!(Peaks::try_new(0.0, 8).is_none() && Peaks::try_new(HOUR, 0).is_none() && Peaks::try_new(f64::NAN, 8).is_none());
    }
}
