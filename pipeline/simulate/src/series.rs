//! Load as it changes over time: a number per interval, and what holds between.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::time::{Timestamp, nanos};

use crate::number;

/// What holds between the numbers of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Interpolation {
    /// A straight line from the start of an interval to the start of the next.
    #[default]
    Linear,
    /// The number of the interval.
    Step,
}

/// A number per interval from `start` on. Before it the first number holds, after the end the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Series {
    /// When the first interval begins.
    #[serde(default)]
    pub start: Timestamp,
    /// Length of an interval.
    #[serde(with = "tracescale_core::duration::text")]
    pub interval: Duration,
    /// The numbers: requests per second for a load, a factor for a service time.
    pub values: Vec<f64>,
    /// What all numbers are multiplied by.
    #[serde(default = "one")]
    pub scale: f64,
    /// What holds between.
    #[serde(default)]
    pub interpolation: Interpolation,
}

/// Why a series cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SeriesError {
    /// No numbers.
    #[error("the series has no values")]
    Empty,
    /// An interval of no length.
    #[error("the interval of the series is zero")]
    Interval,
    /// A number that no load can have.
    #[error("value {value} at position {position} of the series (scale {scale}) is negative or not finite")]
    Value {
        /// Where.
        position: usize,
        /// What.
        value: f64,
        /// The scale.
        scale: f64,
    },
}

fn one() -> f64 {
    1.0
}

// === impl Series ===

impl Series {
    /// The same number always.
    #[must_use]
    pub fn constant(value: f64) -> Self {
        Self::of(Duration::from_secs(60), vec![value])
    }

    /// Rates per interval from the epoch on, with straight lines between.
    #[must_use]
    pub fn of(interval: Duration, values: Vec<f64>) -> Self {
        Self { start: Timestamp::EPOCH, interval, values, scale: 1.0, interpolation: Interpolation::Linear }
    }

    /// A series from counts per interval. A count is taken for the rate at the start of its interval.
    #[must_use]
    pub fn from_counts(interval: Duration, counts: &[f64]) -> Self {
        let seconds = interval.as_secs_f64();
        Self::of(interval, counts.iter().map(|count| count / seconds).collect())
    }

    /// The same series that begins at another time.
    #[must_use]
    pub fn starting(self, start: Timestamp) -> Self {
        Self { start, ..self }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// When there are none, or one is negative or not finite.
    pub fn validate(&self) -> Result<(), SeriesError> {
        if self.values.is_empty() {
            return Err(SeriesError::Empty);
        }
        if nanos(self.interval) == 0 {
            return Err(SeriesError::Interval);
        }
        let valid = |value: f64| value >= 0.0 && value.is_finite();
        match self.values.iter().position(|value| !valid(value * self.scale)) {
            Some(position) => Err(SeriesError::Value { position, value: self.values[position], scale: self.scale }),
            None => Ok(()),
        }
    }

    /// The number at a time.
    #[must_use]
    pub fn at(&self, time: Timestamp) -> f64 {
        let (segment, within) = self.locate(time);
        let (from, to) = self.segment(segment);
        from + (to - from) * within
    }

    /// Mean of the series over `[from, to)`; exact for intervals not shorter than the given stretch, and by the middle of
    /// sixteen parts otherwise.
    #[must_use]
    pub fn mean(&self, from: Timestamp, to: Timestamp) -> f64 {
        let length = to.since(from);
        if length <= self.interval {
            return self.at(from + length / 2);
        }
        let part = length / 16;
        (0..16).map(|place| self.at(from + part * place + part / 2)).sum::<f64>() / 16.0
    }

    /// Number at the start and just before the end of an interval. Before the first interval (`None`) it is constant.
    pub(crate) fn segment(&self, segment: Option<usize>) -> (f64, f64) {
        let last = self.values.len().saturating_sub(1);
        let value = |place: usize| self.values.get(place.min(last)).copied().unwrap_or_default() * self.scale;
        match (segment, self.interpolation) {
            (None, _) => (value(0), value(0)),
            (Some(place), Interpolation::Linear) => (value(place), value(place.saturating_add(1))),
            (Some(place), Interpolation::Step) => (value(place), value(place)),
        }
    }

    /// When an interval ends; `None` when the series has no end there, because its last number holds for good.
    pub(crate) fn segment_end(&self, segment: Option<usize>) -> Option<Timestamp> {
        let next = segment.map_or(0, |place| place + 1);
        if next >= self.values.len() {
            return None;
        }
        let offset = nanos(self.interval).saturating_mul(i64::try_from(next).unwrap_or(i64::MAX));
        Some(Timestamp::from_nanos(self.start.as_nanos().saturating_add(offset)))
    }

    /// The interval of a time, and which share of it has passed.
    fn locate(&self, time: Timestamp) -> (Option<usize>, f64) {
        let (interval, passed) = (nanos(self.interval).max(1), time.as_nanos().saturating_sub(self.start.as_nanos()));
        if passed < 0 {
            return (None, 0.0);
        }
        let place = usize::try_from(passed / interval).unwrap_or(usize::MAX);
        (Some(place), number::seconds(passed % interval) / number::seconds(interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(series: &Series, seconds: i64) -> f64 {
        series.at(Timestamp::from_secs(seconds))
    }

    /// Guarantees: straight lines between the starts of intervals, constants outside.
    #[test]
    fn interpolates_linearly() {
        let series = Series::of(Duration::from_secs(60), vec![10.0, 20.0, 5.0]);
        let found = [-60, 0, 30, 60, 90, 120, 500].map(|seconds| at(&series, seconds));
        assert_eq!(found.to_vec(), [10.0, 10.0, 15.0, 20.0, 12.5, 5.0, 5.0].to_vec());
        let step = Series { interpolation: Interpolation::Step, scale: 2.0, ..series };
        assert_eq!([0, 59, 60, 300].map(|seconds| at(&step, seconds)).to_vec(), [20.0, 20.0, 40.0, 10.0].to_vec());
    }

    /// Guarantees: counts become rates, and the mean of a stretch is the area under the line.
    #[test]
    fn counts_and_means() {
        let series = Series::from_counts(Duration::from_secs(60), &[600.0, 1200.0]).starting(Timestamp::from_secs(60));
        assert!((at(&series, 90) - 15.0).abs() < 1e-12);
        assert!((series.mean(Timestamp::from_secs(60), Timestamp::from_secs(120)) - 15.0).abs() < 1e-12);
        assert!((series.mean(Timestamp::from_secs(60), Timestamp::from_secs(180)) - 17.5).abs() < 0.1);
    }

    /// Guarantees: what is no load is refused with its place.
    #[test]
    fn refuses_what_is_no_load() {
        let minute = Duration::from_secs(60);
        assert_eq!(Series::of(minute, vec![]).validate(), Err(SeriesError::Empty));
        assert_eq!(Series::of(Duration::ZERO, vec![1.0]).validate(), Err(SeriesError::Interval));
        let text = Series::of(minute, vec![1.0, -2.0]).validate().unwrap_err().to_string();
        assert_eq!(text, "value -2 at position 1 of the series (scale 1) is negative or not finite");
    }
}
