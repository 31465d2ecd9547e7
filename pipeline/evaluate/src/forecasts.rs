//! Forecasts on recorded series, by rolling origins, against naive forecasters.
//!
//! ```text
//! load ─▶ recording ─┬▶ baselines ─▶ the data folder's reference scores, reproduced
//!                    ├▶ accuracy    ours against the best of the baselines in hindsight, an hour and a day ahead
//!                    ├▶ coverage    how often what came was below the upper quantiles
//!                    └▶ contest     the hourly series of M4
//! ```
//!
//! A forecaster sees a series once, from its first number on, and is never told what comes: its settings are those of production, the
//! same for all series. The baselines see the same past.

mod accuracy;
mod baseline;
mod cases;
mod contest;
mod coverage;
mod recording;
mod reference;
mod text;

use std::path::Path;

use serde::Serialize;
use tracescale_models::forecast::SettingsError;

pub use accuracy::Accuracy;
pub use contest::ContestScore;
pub use coverage::Coverage;
pub use reference::Reference;

use crate::load::{LoadError, load};
use recording::Recording;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The printed scores of the data folder, and what this evaluator finds for them.
    pub reference: Vec<Reference>,
    /// Errors by series and horizon.
    pub accuracy: Vec<Accuracy>,
    /// Upper quantiles by series and horizon.
    pub coverage: Vec<Coverage>,
    /// The M4 contest, when it was asked for.
    pub contest: Option<ContestScore>,
    /// Whether the bars are met.
    pub bars: Bars,
}

/// What the figures must be, and are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bars {
    /// Series and horizons.
    pub cases: usize,
    /// Of these, where ours errs less than the best baseline in hindsight; two thirds are asked for.
    pub better: usize,
    /// Of these, where ours errs more than 1.1 times as much; none may.
    pub worse: usize,
    /// Geometric mean of our error over that of the best baseline.
    pub mean_ratio: f64,
    /// Upper quantiles (series, horizon, level) with enough origins.
    pub quantiles: usize,
    /// Of these, within 1.5 points of their name.
    pub covered: usize,
    /// As many as would be if all quantiles were right on average ([`Coverage::by_chance`]).
    pub covered_by_chance: f64,
    /// Mean quantile over the mean of what came, and pinball loss over that mean: geometric means over the same quantiles.
    pub width: f64,
    /// See `width`.
    pub pinball: f64,
}

/// Which days are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Days {
    /// The last ones of each recording.
    Last,
    /// The last ones before those, as if each recording had ended there: for choosing constants without a look at the last ones.
    Before,
}

/// Why the evaluation cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ForecastsError {
    /// A recording cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A series cannot be brought to a step.
    #[error("series {name} cannot be brought to steps of {step} s; hint: a multiple of its own step that divides a day")]
    Step {
        /// Which series.
        name: String,
        /// Which step, in seconds.
        step: i64,
    },
    /// A forecaster cannot be made.
    #[error("a forecaster for steps of {step} s: {source}")]
    Settings {
        /// Which step, in seconds.
        step: i64,
        /// Why.
        source: SettingsError,
    },
}

/// Measures forecasts on all recorded series of the data folder `root` that are long enough. Takes about a minute in release.
///
/// # Errors
/// When a recording cannot be read.
pub fn evaluate(root: &Path) -> Result<Report, ForecastsError> {
    let contest = contest::score(root)?;
    let report = evaluate_some(root, Days::Last, |_| true)?;
    Ok(Report { contest: Some(contest), ..report })
}

/// Measures forecasts on the recorded series whose names are chosen, without the contest.
///
/// # Errors
/// When a recording cannot be read.
pub fn evaluate_some(root: &Path, days: Days, chosen: impl Fn(&str) -> bool) -> Result<Report, ForecastsError> {
    let (mut accuracy, mut coverage) = (Vec::new(), Vec::new());
    for (name, step) in cases::ALL.iter().filter(|(name, _)| chosen(name)) {
        let mut recording = recording(root, name, *step)?;
        if days == Days::Before {
            recording = recording.before_judged();
        }
        let (found, covered) = accuracy::replay(&recording)?;
        accuracy.extend(found);
        coverage.extend(covered);
    }
    let reference = reference::reproduce(root)?;
    let bars = bars(&accuracy, &coverage);
    Ok(Report { reference, accuracy, coverage, contest: None, bars })
}

/// Reads a series in steps of a length.
fn recording(root: &Path, name: &str, step: i64) -> Result<Recording, ForecastsError> {
    let series = load(root, name)?.resample(step).and_then(Recording::new);
    series.ok_or_else(|| ForecastsError::Step { name: name.to_owned(), step })
}

/// Counts what meets the bars.
fn bars(accuracy: &[Accuracy], rows: &[Coverage]) -> Bars {
    let ratios: Vec<f64> = accuracy.iter().map(Accuracy::ratio).collect();
    let logarithms: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let enough = || rows.iter().filter(|row| row.enough);
    let deviations: Vec<f64> = enough().flat_map(Coverage::deviations).collect();
    // Where nothing was ever above the quantiles and they were zero, nothing is lost, and there is no logarithm.
    let geometric = |of: fn(&Coverage) -> [f64; 3]| {
        let logarithms: Vec<f64> = enough().flat_map(of).filter(|share| *share > 0.0).map(f64::ln).collect();
        mean(&logarithms).map_or(f64::NAN, f64::exp)
    };
    Bars {
        cases: ratios.len(),
        better: ratios.iter().filter(|ratio| **ratio < 1.0).count(),
        worse: ratios.iter().filter(|ratio| **ratio > 1.1).count(),
        mean_ratio: mean(&logarithms).map_or(f64::NAN, f64::exp),
        quantiles: deviations.len(),
        covered: deviations.iter().filter(|deviation| deviation.abs() <= coverage::TOLERANCE).count(),
        covered_by_chance: enough().flat_map(|row| row.by_chance).sum(),
        width: geometric(|row| row.width),
        pinball: geometric(|row| row.pinball),
    }
}

/// The mean of some numbers; `None` of none.
fn mean(numbers: &[f64]) -> Option<f64> {
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / number(numbers.len()))
}

/// A count as a number.
#[expect(clippy::cast_precision_loss, reason = "a number of steps is far below 2^52")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
