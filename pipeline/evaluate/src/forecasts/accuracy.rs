//! One pass over a recording: forecasts at each origin, and upper quantiles all along.

use serde::Serialize;
use tracescale_models::forecast::{Forecaster, Settings};

use super::baseline::{self, Baseline};
use super::coverage::{Coverage, Watch};
use super::recording::Recording;
use super::{ForecastsError, number};

/// Seconds of an hour and of a day: the horizons.
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// Errors of one series at one horizon.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Accuracy {
    /// Which series.
    pub series: String,
    /// Length of a step, in seconds.
    pub step: i64,
    /// Horizon, in seconds: all steps up to it are forecast.
    pub horizon: i64,
    /// Number of origins.
    pub origins: usize,
    /// Ours.
    pub ours: Score,
    /// The baselines: last value, a day ago, a week ago, profile × level.
    pub baselines: Vec<Score>,
}

/// Error of one forecaster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// Sum of absolute errors over the sum of what came.
    pub wape: f64,
    /// Mean absolute error over that of the value a day ago in the four weeks before each origin.
    pub mase: f64,
}

/// Sums from which a score is made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    errors: f64,
    came: f64,
    scaled: f64,
    steps: f64,
}

/// Origins of one horizon, with the sums of all forecasters.
struct Horizon {
    seconds: i64,
    steps: usize,
    origins: Vec<usize>,
    ours: Sums,
    baselines: Vec<Sums>,
}

// === impl Accuracy ===

impl Accuracy {
    /// The least error of a baseline, in hindsight.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.baselines.iter().map(|score| score.wape).fold(f64::INFINITY, f64::min)
    }

    /// Our error over that of the best baseline.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.ours.wape / self.best()
    }
}

// === impl Sums ===

impl Sums {
    /// Adds forecasts of the steps from an origin on. Steps that did not come are not judged.
    pub(super) fn add(&mut self, recording: &Recording, origin: usize, forecasts: &[Option<f64>]) {
        let scale = recording.scale(origin);
        for (ahead, forecast) in forecasts.iter().enumerate() {
            let Some((forecast, came)) = forecast.zip(recording.value(origin + ahead)) else { continue };
            let error = (forecast - came).abs();
            self.errors += error;
            self.came += came;
            if let Some(scale) = scale.filter(|scale| *scale > 0.0) {
                self.scaled += error / scale;
                self.steps += 1.0;
            }
        }
    }

    pub(super) fn score(&self) -> Score {
        Score { wape: self.errors / self.came, mase: self.scaled / self.steps }
    }
}

// === impl Horizon ===

impl Horizon {
    fn new(seconds: i64, steps: usize, origins: Vec<usize>) -> Self {
        Self { seconds, steps, origins, ours: Sums::default(), baselines: vec![Sums::default(); baseline::ALL.len()] }
    }

    fn forecast(&mut self, recording: &Recording, origin: usize, forecaster: &Forecaster) {
        if self.origins.binary_search(&origin).is_err() {
            return;
        }
        let lead = |ahead: usize| i64::try_from(ahead + 1).unwrap_or(i64::MAX).saturating_mul(recording.series.step);
        let ours: Vec<Option<f64>> = (0..self.steps).map(|ahead| Some(forecaster.forecast(lead(ahead))?.point)).collect();
        self.ours.add(recording, origin, &ours);
        for (sums, baseline) in self.baselines.iter_mut().zip(baseline::ALL) {
            sums.add(recording, origin, &baseline.forecast(recording, origin, self.steps));
        }
    }

    fn finish(&self, recording: &Recording) -> Accuracy {
        Accuracy {
            series: recording.series.name.clone(),
            step: recording.series.step,
            horizon: self.seconds,
            origins: self.origins.len(),
            ours: self.ours.score(),
            baselines: self.baselines.iter().map(Sums::score).collect(),
        }
    }
}

/// Shows a recording to a forecaster, number by number, and asks it at every origin.
pub(super) fn replay(recording: &Recording) -> Result<(Vec<Accuracy>, Vec<Coverage>), ForecastsError> {
    let step = recording.series.step;
    let failed = |source| ForecastsError::Settings { step, source };
    let mut forecaster = Forecaster::new(Settings::up_to(step, DAY)).map_err(failed)?;
    let mut horizons =
        [Horizon::new(HOUR, recording.hour, recording.hourly_origins()), Horizon::new(DAY, recording.day, recording.daily_origins())];
    let mut watches = [Watch::new(recording, HOUR), Watch::new(recording, DAY)];
    for place in 0..recording.len() {
        horizons.iter_mut().for_each(|horizon| horizon.forecast(recording, place, &forecaster));
        let value = recording.value(place);
        watches.iter_mut().for_each(|watch| watch.judge(place, value));
        forecaster.observe(recording.series.time(place), value);
        watches.iter_mut().for_each(|watch| watch.ask(place, &forecaster));
    }
    let accuracy = horizons.iter().map(|horizon| horizon.finish(recording)).collect();
    Ok((accuracy, watches.into_iter().map(|watch| watch.finish(recording)).collect()))
}

/// Scores of the baselines alone at one horizon.
pub(super) fn baselines(recording: &Recording, origins: &[usize], steps: usize) -> Vec<Score> {
    let score = |baseline: Baseline| {
        let mut sums = Sums::default();
        origins.iter().for_each(|origin| sums.add(recording, *origin, &baseline.forecast(recording, *origin, steps)));
        sums.score()
    };
    baseline::ALL.into_iter().map(score).collect()
}

/// A share as points of a hundred.
pub(super) fn percent(share: f64) -> f64 {
    number(100) * share
}
