//! What was observed: the last hours step by step, four weeks in buckets of five minutes or more.

use super::calendar::DAY;
use super::ring::{Ring, signed};

/// Buckets are at least this long, in seconds: a season is smoothed over some minutes anyway.
const BUCKET_MIN: i64 = 300;
/// For how long steps are kept one by one, in seconds.
const STEPS_KEPT: i64 = 3 * 3600;
/// For how many days buckets are kept. Rings round this up, by more than the windows before the oldest day need.
pub(super) const DAYS_KEPT: i64 = 28;

/// The observed numbers of one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct History {
    /// Length of a step, in seconds.
    pub(super) step: i64,
    /// Steps of a bucket.
    pub(super) per_bucket: i64,
    /// Buckets of a day.
    pub(super) per_day: i64,
    /// Numbers step by step.
    pub(super) steps: Ring,
    /// Means of buckets; the newest may still grow.
    pub(super) buckets: Ring,
    /// Means of the days that end with each bucket.
    pub(super) days: Ring,
    growing: (i64, f64, f64),
    last: Option<(i64, f64)>,
    typical: Option<f64>,
    settled: bool,
}

// === impl History ===

impl History {
    /// For a step that divides the day, in seconds.
    pub(super) fn new(step: i64) -> Self {
        let bucket = (1..).map(|parts| parts * step).find(|bucket| *bucket >= BUCKET_MIN && DAY % bucket == 0).unwrap_or(DAY);
        let room = |seconds: i64, of: i64| usize::try_from(seconds / of).unwrap_or(1);
        Self {
            step,
            per_bucket: bucket / step,
            per_day: DAY / bucket,
            steps: Ring::new(room(STEPS_KEPT.max(4 * bucket), step)),
            buckets: Ring::new(room(DAYS_KEPT * DAY, bucket)),
            days: Ring::new(room(DAYS_KEPT * DAY, bucket)),
            growing: (i64::MIN, 0.0, 0.0),
            last: None,
            typical: None,
            settled: false,
        }
    }

    /// Length of a bucket, in seconds.
    pub(super) fn bucket_seconds(&self) -> i64 {
        self.step * self.per_bucket
    }

    /// Takes the number of a step, or that there is none.
    pub(super) fn observe(&mut self, step: i64, number: Option<f64>) {
        self.steps.write(step, number);
        let bucket = step.div_euclid(self.per_bucket);
        if bucket != self.growing.0 {
            self.end_bucket();
            self.growing = (bucket, 0.0, 0.0);
        }
        if let Some(number) = number {
            self.growing = (bucket, self.growing.1 + number, self.growing.2 + 1.0);
            self.last = Some((step, number));
        }
        let (_, sum, known) = self.growing;
        self.buckets.write(bucket, (known > 0.0).then(|| sum / known));
    }

    /// The last known number that is not older than a day, or not a number.
    pub(super) fn last(&self, now: i64) -> f64 {
        let steps_per_day = self.per_day * self.per_bucket;
        self.last.filter(|(step, _)| now - step <= steps_per_day).map_or(f64::NAN, |(_, number)| number)
    }

    /// Mean of the last day that was known, or of the first hours: the size of the series, also through an outage.
    pub(super) fn typical(&self) -> Option<f64> {
        self.typical.or(self.last.map(|(_, number)| number))
    }

    /// Smoothed number around a bucket, or not a number. Buckets of a quarter of an hour and more are smooth enough.
    pub(super) fn around(&self, bucket: i64) -> f64 {
        let middle = self.buckets.at(bucket);
        if self.bucket_seconds() >= 900 {
            return middle;
        }
        let (mut sum, mut weights) = (0.0, 0.0);
        for (number, weight) in [(self.buckets.at(bucket - 1), 1.0), (middle, 2.0), (self.buckets.at(bucket + 1), 1.0)] {
            if !number.is_nan() {
                sum += weight * number;
                weights += weight;
            }
        }
        if weights > 0.0 { sum / weights } else { f64::NAN }
    }

    /// Number of slots of the day, and the slot of a step.
    pub(super) fn slot(&self, step: i64) -> usize {
        usize::try_from(step.div_euclid(self.per_bucket).rem_euclid(self.per_day)).unwrap_or(0)
    }

    /// The day of a step, in days since the epoch.
    pub(super) fn day(&self, step: i64) -> i64 {
        step.div_euclid(self.per_bucket * self.per_day)
    }

    /// Writes the mean of the day that ends with the bucket that grows no more, when half of that day is known.
    fn end_bucket(&mut self) {
        let (bucket, _, _) = self.growing;
        if bucket == i64::MIN {
            return;
        }
        let known = (0..self.per_day).filter(|back| !self.buckets.at(bucket - back).is_nan()).count();
        let mean = (signed(known) * 2 >= self.per_day).then(|| self.buckets.mean(bucket, self.per_day));
        self.days.write(bucket, mean);
        self.settled |= mean.is_some();
        let so_far = || Some(self.buckets.mean(bucket, self.per_day)).filter(|mean| !self.settled && !mean.is_nan());
        self.typical = mean.or_else(so_far).or(self.typical);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: buckets hold at least five minutes and divide the day.
    #[test]
    fn bucket_lengths() {
        let lengths = [60, 120, 180, 240, 300, 900, 3600].map(|step| History::new(step).bucket_seconds());
        assert_eq!(lengths, [300, 360, 360, 480, 300, 900, 3600]);
    }

    /// Guarantees: a bucket is the mean of its known steps, and the last number grows stale after a day.
    #[test]
    fn buckets_are_means() {
        let mut history = History::new(60);
        for step in 0..5_i32 {
            history.observe(step.into(), (step != 2).then(|| f64::from(step)));
        }
        assert!((history.buckets.at(0) - 2.0).abs() < 1e-6);
        history.observe(5, None);
        assert!(history.buckets.at(1).is_nan() && (history.last(5) - 4.0).abs() < 1e-9);
        assert!(history.last(5 + 1440).is_nan());
    }
}
