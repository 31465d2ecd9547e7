//! A recorded series as the load of one service: scaled to a peak, and cut into history, training and test by time.

use std::time::Duration;

use tracescale_core::time::Timestamp;
use tracescale_simulate::series::Series;

/// Requests per second that the busiest thousandth of the record is scaled to.
pub(super) const PEAK: f64 = 1000.0;
/// Counts of a minute are smoothed over as many: the record's counting noise would be scaled with it.
const SMOOTHED: usize = 5;
/// Steps that are smoothed.
const FINE: Duration = Duration::from_secs(60);
/// Longest training and test parts, in days.
const TRAIN_DAYS: f64 = 2.0;
const TEST_DAYS: f64 = 3.0;
const DAY: f64 = 86_400.0;

/// A load over time.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) name: String,
    pub(super) rates: Series,
    /// Beginning of the record.
    pub(super) start: Timestamp,
    pub(super) train: Part,
    pub(super) test: Part,
}

/// A stretch of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

// === impl Part ===

impl Part {
    pub(super) fn seconds(&self) -> f64 {
        self.until.since(self.from).as_secs_f64()
    }
}

// === impl Workload ===

impl Workload {
    /// Counts (or rates) per interval from a start on. `None` when there is no load in them.
    pub(super) fn new(name: &str, start: Timestamp, interval: Duration, values: &[f64]) -> Option<Self> {
        let smooth = if interval == FINE { smoothed(values) } else { values.to_vec() };
        let mut sorted = smooth.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (sorted.len() * 999 / 1000).min(sorted.len().checked_sub(1)?);
        let top = sorted[place];
        if top <= 0.0 {
            return None;
        }
        let length = interval.as_secs_f64() * real(smooth.len());
        let test = (TEST_DAYS * DAY).min(length * 0.4);
        let train = (TRAIN_DAYS * DAY).min(length * 0.3);
        let end = start + Duration::from_secs_f64(length);
        let minute = Duration::from_secs(60);
        let test_from = (end - Duration::from_secs_f64(test)).floor(minute);
        let train_from = (test_from - Duration::from_secs_f64(train)).floor(minute);
        let scale = PEAK / top;
        let rates = Series::of(interval, smooth.iter().map(|value| value * scale).collect()).starting(start);
        Some(Self {
            name: name.to_owned(),
            rates,
            start,
            train: Part { from: train_from, until: test_from },
            test: Part { from: test_from, until: end.floor(minute) },
        })
    }
}

fn smoothed(values: &[f64]) -> Vec<f64> {
    let half = SMOOTHED / 2;
    (0..values.len())
        .map(|place| {
            let near = &values[place.saturating_sub(half)..(place + half + 1).min(values.len())];
            near.iter().sum::<f64>() / real(near.len())
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a length is far below 2^53")]
fn real(length: usize) -> f64 {
    length as f64
}
