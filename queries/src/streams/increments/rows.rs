//! Rows of `increments` on their way into a batch: growth spread over the seconds that it covers.

use std::sync::Arc;

use arrow::array::{BinaryBuilder, BooleanArray, Float64Array, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::take;
use tracescale_core::schema::Stream;
use tracescale_core::time::nanos;
use tracescale_models::counter::Growth;

use super::series::Value;
use crate::derive::DeriveError;
use crate::streams::columns::{Columns, assemble, failed};
use crate::streams::{Config, EncodeHistogram, seconds};

const SECOND: i64 = 1_000_000_000;
/// Slice widths in seconds. All divide, or are multiples of, the default slide of five, so that no slice straddles a pane.
const WIDTHS: [i64; 5] = [1, 5, 10, 30, 60];
/// Values that stand for one bucket in the sketch: an explicit bucket is wide, an exponential one narrow from scale 2 on.
const EXPLICIT_PARTS: u32 = 8;

/// See the module.
pub(super) struct Rows {
    longest_spread: i64,
    max_slices: i64,
    encode: EncodeHistogram,
    truncated: u64,
    times: Vec<i64>,
    /// The row of the input batch that each row came from.
    sources: Vec<u32>,
    increments: Vec<f64>,
    covered: Vec<f64>,
    resets: Vec<bool>,
    counts: Vec<Option<f64>>,
    histograms: BinaryBuilder,
    slices: Vec<Slice>,
}

/// A part of a covered interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slice {
    /// Beginning, nanoseconds since the epoch.
    pub(super) time: i64,
    /// Its length in seconds.
    pub(super) seconds: f64,
    /// Its share of the interval.
    pub(super) share: f64,
}

// === impl Rows ===

impl Rows {
    pub(super) fn new(config: &Config, encode: EncodeHistogram) -> Self {
        Self {
            longest_spread: nanos(config.longest_spread).max(SECOND),
            max_slices: i64::from(config.max_slices.max(1)),
            encode,
            truncated: 0,
            times: Vec::new(),
            sources: Vec::new(),
            increments: Vec::new(),
            covered: Vec::new(),
            resets: Vec::new(),
            counts: Vec::new(),
            histograms: BinaryBuilder::new(),
            slices: Vec::new(),
        }
    }

    /// Points of which a part was left out.
    pub(super) fn truncated(&self) -> u64 {
        self.truncated
    }

    /// Adds the growth that the point in row `source` showed.
    pub(super) fn push(&mut self, source: usize, growth: &Growth<Value>) {
        let mut slices = std::mem::take(&mut self.slices);
        self.truncated += u64::from(spread(growth.from, growth.to, self.longest_spread, self.max_slices, &mut slices));
        let (increment, count, mut points) = match &growth.value {
            Value::Number(value) => (*value, None, Vec::new()),
            Value::Explicit(histogram) => {
                (histogram.estimated_sum().unwrap_or(0.0), Some(histogram.count), histogram.points(EXPLICIT_PARTS))
            }
            Value::Exponential(histogram) => {
                let parts = if histogram.scale >= 2 { 1 } else { EXPLICIT_PARTS };
                let sum = histogram.sum.or_else(|| histogram.mean_of_buckets().map(|mean| mean * histogram.count()));
                (sum.unwrap_or(0.0), Some(histogram.count()), histogram.points(parts))
            }
            Value::Totals(totals) => (totals.sum, Some(totals.count), Vec::new()),
        };
        let whole: Vec<f64> = points.iter().map(|(_, weight)| *weight).collect();
        for (place, slice) in slices.iter().enumerate() {
            self.times.push(slice.time);
            self.sources.push(u32::try_from(source).unwrap_or(u32::MAX));
            self.increments.push(increment * slice.share);
            self.covered.push(slice.seconds);
            // One restart is one row, however many slices its growth is spread over.
            self.resets.push(growth.is_reset && place == 0);
            self.counts.push(count.map(|count| count * slice.share));
            if points.is_empty() {
                self.histograms.append_null();
            } else {
                for (point, weight) in points.iter_mut().zip(&whole) {
                    point.1 = weight * slice.share;
                }
                self.histograms.append_value((self.encode)(&points));
            }
        }
        self.slices = slices;
    }

    pub(super) fn finish(mut self, columns: Columns<'_>) -> Result<Vec<RecordBatch>, DeriveError> {
        if self.times.is_empty() {
            return Ok(Vec::new());
        }
        let sources = UInt32Array::from(self.sources);
        let copy = |column| take(columns.array(column)?, &sources, None).map_err(|source| failed(Stream::Increments, source));
        let batch = assemble(
            Stream::Increments,
            vec![
                Arc::new(TimestampNanosecondArray::from(self.times)),
                copy("service_name")?,
                copy("service_namespace")?,
                copy("service_instance_id")?,
                copy("metric_name")?,
                copy("unit")?,
                copy("series_id")?,
                Arc::new(Float64Array::from(self.increments)),
                Arc::new(Float64Array::from(self.covered)),
                Arc::new(BooleanArray::from(self.resets)),
                Arc::new(Float64Array::from(self.counts)),
                Arc::new(self.histograms.finish()),
                copy("attributes")?,
            ],
        )?;
        Ok(vec![batch])
    }
}

/// Cuts `(from, to]` into slices on multiples of the finest width that needs at most `most` of them. Only the newest part of at
/// most `longest` nanoseconds is kept; says whether something was left out. An empty interval is one slice without length.
pub(super) fn spread(from: i64, to: i64, longest: i64, most: i64, slices: &mut Vec<Slice>) -> bool {
    slices.clear();
    let whole = to.saturating_sub(from);
    if whole <= 0 {
        slices.push(Slice { time: to, seconds: 0.0, share: 1.0 });
        return false;
    }
    let begin = from.max(to.saturating_sub(longest));
    let needed = |width: i64| (to - begin).div_euclid(width * SECOND) + i64::from((to - begin).rem_euclid(width * SECOND) > 0);
    let width = WIDTHS.into_iter().find(|width| needed(*width) <= most).unwrap_or_else(|| needed(most).max(1)) * SECOND;
    let mut at = begin;
    while at < to {
        let end = at.div_euclid(width).saturating_add(1).saturating_mul(width).min(to);
        slices.push(Slice { time: at, seconds: seconds(end - at), share: seconds(end - at) / seconds(whole) });
        at = end;
    }
    begin > from
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread_seconds(from: i64, to: i64) -> (Vec<(i64, f64, f64)>, bool) {
        let mut slices = Vec::new();
        let truncated = spread(from * SECOND, to * SECOND, 60 * SECOND, 12, &mut slices);
        (slices.iter().map(|slice| (slice.time / SECOND, slice.seconds, slice.share)).collect(), truncated)
    }

    /// Guarantees: a short interval is cut at whole seconds, a long one at multiples of five.
    #[test]
    fn slices_are_aligned() {
        assert_eq!(spread_seconds(10, 13).0, [(10, 1.0, 1.0 / 3.0), (11, 1.0, 1.0 / 3.0), (12, 1.0, 1.0 / 3.0)]);
        let (slices, truncated) = spread_seconds(3, 63);
        assert_eq!((slices[0], slices[1], slices.len(), truncated), ((3, 2.0, 2.0 / 60.0), (5, 5.0, 5.0 / 60.0), 13, false));
    }

    /// Guarantees: sixty seconds in windows of fifteen are four equal parts.
    #[test]
    fn an_export_interval_is_shared_by_its_windows() {
        let mut windows = [0.0; 4];
        for (time, _, share) in spread_seconds(0, 60).0 {
            windows[usize::try_from(time / 15).unwrap()] += share;
        }
        assert!(windows.iter().all(|share| (share - 0.25).abs() < 1e-12));
    }

    /// Guarantees: of growth over five minutes the last one is kept, with its fifth of the growth.
    #[test]
    fn old_growth_is_left_out() {
        let (slices, truncated) = spread_seconds(0, 300);
        assert!(truncated);
        assert_eq!(slices[0].0, 240);
        assert!((slices.iter().map(|slice| slice.2).sum::<f64>() - 0.2).abs() < 1e-12);
    }
}
