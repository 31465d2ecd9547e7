//! The data folder's printed scores of the baselines, and what this evaluator finds for them: a test of the evaluator.

use std::path::Path;

use serde::Serialize;

use super::accuracy::{Score, baselines};
use super::recording::Recording;
use super::{ForecastsError, recording};

/// A printed row and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Which series.
    pub series: &'static str,
    /// Length of a step, in seconds.
    pub step: i64,
    /// Whether the horizon is a day; else an hour.
    pub day: bool,
    /// What is printed: last value, a day ago, a week ago, profile × level.
    pub printed: [Score; 4],
    /// What was found.
    pub found: Vec<Score>,
}

/// Series, step, whether the horizon is a day, and the printed scores (MASE, WAPE in percent).
type Printed = (&'static str, i64, bool, [(f64, f64); 4]);

/// The rows of the data folder. Two series are left out: how the reference filled the holes of the load balancer's requests, and where
/// it began the hours of the image requests, is not told.
const PRINTED: &[Printed] = &[
    ("nasa", 300, false, [(0.695, 23.6), (1.030, 35.0), (0.938, 31.6), (0.587, 19.9)]),
    ("nasa", 300, true, [(1.221, 46.7), (0.922, 35.2), (0.802, 30.5), (0.812, 31.0)]),
    ("nasa", 3600, true, [(1.448, 41.6), (0.897, 25.6), (0.676, 18.9), (0.884, 25.3)]),
    ("nyc-taxi", 1800, false, [(0.464, 11.8), (1.627, 41.6), (0.953, 24.5), (0.449, 11.4)]),
    ("nyc-taxi", 1800, true, [(2.301, 52.2), (1.265, 28.9), (0.678, 15.5), (1.631, 36.9)]),
    ("taylor", 1800, true, [(3.250, 19.1), (1.146, 6.4), (0.294, 1.7), (0.977, 5.6)]),
    ("twitter-amzn", 300, false, [(0.738, 29.0), (0.839, 33.0), (0.869, 34.2), (0.651, 25.6)]),
    ("twitter-amzn", 300, true, [(1.083, 42.0), (0.914, 35.5), (0.948, 36.8), (0.750, 29.1)]),
    ("bike", 3600, false, [(0.356, 28.0), (0.759, 60.2), (1.523, 121.6), (0.297, 23.5)]),
    ("bike", 3600, true, [(1.338, 80.5), (0.707, 41.1), (1.392, 80.6), (0.965, 57.4)]),
    ("wikipedia", 3600, false, [(1.106, 13.4), (1.056, 12.7), (1.006, 12.1), (0.428, 5.1)]),
    ("wikipedia", 3600, true, [(4.492, 49.8), (1.063, 11.7), (0.678, 7.6), (0.898, 9.9)]),
];

// === impl Reference ===

impl Reference {
    /// The greatest relative difference of a found percentage error from the printed one.
    #[must_use]
    pub fn difference(&self) -> f64 {
        let pairs = self.printed.iter().zip(&self.found);
        pairs.map(|(printed, found)| (found.wape / printed.wape - 1.0).abs()).fold(0.0, f64::max)
    }

    /// The same of the scaled errors.
    #[must_use]
    pub fn scaled_difference(&self) -> f64 {
        let pairs = self.printed.iter().zip(&self.found);
        pairs.map(|(printed, found)| (found.mase / printed.mase - 1.0).abs()).fold(0.0, f64::max)
    }
}

/// Scores the baselines on the printed rows.
pub(super) fn reproduce(root: &Path) -> Result<Vec<Reference>, ForecastsError> {
    PRINTED.iter().map(|row| reproduce_row(root, row)).collect()
}

fn reproduce_row(root: &Path, (series, step, day, printed): &Printed) -> Result<Reference, ForecastsError> {
    let recording = zeros_for_holes(recording(root, series, *step)?);
    let (origins, steps) = if *day { (recording.daily_origins(), recording.day) } else { (recording.hourly_origins(), recording.hour) };
    let found = baselines(&recording, &origins, steps);
    let printed = printed.map(|(mase, wape)| Score { mase, wape: wape / 100.0 });
    Ok(Reference { series, step: *step, day: *day, printed, found })
}

/// The printed scaled errors of the web server count the hours of its outages as idle. Only here: ours is judged without them.
fn zeros_for_holes(mut recording: Recording) -> Recording {
    recording.series.values.iter_mut().for_each(|value| *value = Some(value.unwrap_or(0.0)));
    recording
}
