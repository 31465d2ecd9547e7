//! One kind of peak: the regressions that forecast it, and how far they have been off.

use std::collections::VecDeque;

use super::features::{COUNT, Features, Record, SLOPES, SPREAD_COUNT, Spread};
use super::prior::{PRIOR, prior_change, prior_spread};
use super::regression::Regression;
use super::{DAY, Peak, real};

/// Samples between outcomes: neighbours of 15 s say the same.
const OUTCOME_EVERY: usize = 4;
/// Outcomes kept: four days.
const OUTCOMES_MOST: usize = 4 * DAY / OUTCOME_EVERY;
/// With fewer outcomes every sample makes one.
const OUTCOMES_FEW: usize = 480;
/// With fewer outcomes the prior has a say beside them: a day's.
const OUTCOMES_ENOUGH: usize = DAY / OUTCOME_EVERY;
/// Samples between two sortings of few, of some and of enough outcomes.
const SORT_EVERY: [usize; 3] = [4, 20, 240];
/// Forecasts further than this from the level, in logarithms, are not believed.
const CHANGE: (f64, f64) = (-1.5, 1.0);
/// Errors below this say nothing of the spread.
const ERROR_LEAST: f64 = 0.003;
/// Least and largest spread that is expected.
const SCALE: (f64, f64) = (0.002, 2.0);

/// Forecasts the highest level of the last `span` samples before the horizon.
#[derive(Clone, Debug)]
pub(super) struct Head {
    horizon: usize,
    span: usize,
    change: Regression<COUNT>,
    /// Logarithm of how far forecasts are off.
    spread: Regression<SPREAD_COUNT>,
    /// Forecasts whose peak is not known yet, oldest first.
    open: VecDeque<Forecast>,
    /// The newest forecast; not the last open one between two samples.
    now: Option<Forecast>,
    /// How far peaks were from their forecasts, in order of time.
    outcomes: VecDeque<Outcome>,
    /// The same in units of what was expected, in order of size, as of the last sorting.
    sorted: Vec<f64>,
}

/// What a forecast is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Basis {
    pub(super) features: Features,
    pub(super) spread: Spread,
    /// Logarithm of the level.
    pub(super) level: f64,
}

/// A forecast.
#[derive(Clone, Copy, Debug)]
struct Forecast {
    basis: Basis,
    /// Logarithm of the forecast peak.
    centre: f64,
}

/// How far a peak was from its forecast, in logarithms, and what spoke for that beforehand. Half precision is plenty.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    error: f32,
    spread: [f32; SPREAD_COUNT],
}

// === impl Basis ===

impl Basis {
    /// The same a few seconds later, at another level (logarithm).
    pub(super) fn at(mut self, level: f64) -> Self {
        self.features[SLOPES].iter_mut().for_each(|slope| *slope += level - self.level);
        Self { level, ..self }
    }
}

// === impl Head ===

impl Head {
    /// Both in samples; the span at most the horizon.
    pub(super) fn new(horizon: usize, span: usize) -> Self {
        Self {
            horizon,
            span,
            change: Regression::new(prior_change(real(horizon))),
            spread: Regression::new(prior_spread(real(horizon))),
            open: VecDeque::new(),
            now: None,
            outcomes: VecDeque::new(),
            sorted: Vec::new(),
        }
    }

    /// Takes note of a sample, the `samples`th: learns from the forecast that it settles if `is_whole`, its whole stretch having been measured, and makes the next
    /// one.
    pub(super) fn observe(&mut self, record: &Record, basis: &Basis, samples: usize, is_whole: bool) {
        if self.open.len() >= self.horizon
            && let Some(settled) = self.open.pop_front()
            && is_whole
        {
            self.learn(&settled, record.peak_log(self.span), samples);
        }
        if self.change.is_due(samples) {
            self.change.fit();
        }
        if self.spread.is_due(samples) {
            self.spread.fit();
        }
        self.look(basis);
        self.open.extend(self.now);
        let often = match self.outcomes.len() {
            0..OUTCOMES_FEW => SORT_EVERY[0],
            OUTCOMES_FEW..OUTCOMES_ENOUGH => SORT_EVERY[1],
            _ => SORT_EVERY[2],
        };
        if samples.is_multiple_of(often) || samples == 1 {
            self.sort();
        }
    }

    /// Makes a forecast that nothing will be learned from.
    pub(super) fn look(&mut self, basis: &Basis) {
        let change = self.change.predict(&basis.features).clamp(CHANGE.0, CHANGE.1);
        self.now = Some(Forecast { basis: *basis, centre: basis.level + change });
    }

    /// What a forecast came to.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits of a logarithm are enough, and half the memory")]
    fn learn(&mut self, settled: &Forecast, peak: f64, samples: usize) {
        let Forecast { basis, centre } = settled;
        self.change.learn(&basis.features, peak - basis.level);
        let error = peak - centre;
        self.spread.learn(&basis.spread, (error.abs() + ERROR_LEAST).ln());
        if samples.is_multiple_of(OUTCOME_EVERY) || self.outcomes.len() < OUTCOMES_FEW {
            if self.outcomes.len() >= OUTCOMES_MOST {
                self.outcomes.pop_front();
            }
            self.outcomes.push_back(Outcome { error: error as f32, spread: basis.spread.map(|value| value as f32) });
        }
    }

    /// Brings the outcomes into the units of what is expected now, and in order; few of them together with the prior.
    fn sort(&mut self) {
        let spread = &self.spread;
        let outcome = |outcome: &Outcome| f64::from(outcome.error) / scale(spread, &outcome.spread.map(f64::from));
        self.sorted.clear();
        self.sorted.extend(self.outcomes.iter().map(outcome));
        if self.outcomes.len() < OUTCOMES_ENOUGH {
            self.sorted.extend(PRIOR);
        }
        self.sorted.sort_by(f64::total_cmp);
    }

    /// How many outcomes are kept.
    #[cfg(test)]
    pub(super) fn outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// The newest forecast, of a load of so many requests per second; `None` before the first.
    pub(super) fn peak(&self, level: f64, offset: f64) -> Option<Peak<'_>> {
        let Forecast { basis, centre } = self.now?;
        let is_prior = self.outcomes.len() < PRIOR.len();
        Some(Peak { centre, scale: scale(&self.spread, &basis.spread), outcomes: &self.sorted, offset, level, is_prior })
    }
}

/// How far a forecast is likely to be off, in logarithms.
fn scale(spread: &Regression<SPREAD_COUNT>, features: &Spread) -> f64 {
    spread.predict(features).exp().clamp(SCALE.0, SCALE.1)
}
