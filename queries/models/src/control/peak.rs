//! The forecast that scaling needs: not the rate at some time, but the highest rate until an order made now can help.
//!
//! Level, slopes and what the same time of day brought are regressed on the logarithm of that peak. How far past peaks were from
//! their forecasts, in units of how restless the load was at the time, says how far this one may be: quantiles without a law,
//! calibrated on the last days (Vovk, Gammerman and Shafer, 2005; the scaling makes quiet hours cheap and restless ones safe).

mod features;
mod regression;

use std::collections::VecDeque;

use features::{COUNT, Features, Record, SPREAD_COUNT, Spread};
use regression::Regression;

/// Seconds of one sample.
pub(super) const SAMPLE: f64 = 15.0;
/// Samples of a day.
const DAY: usize = 5_760;
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
/// Longest horizon: six hours.
const HORIZON_MOST: f64 = 21_600.0;
/// Forecasts further than this from the level, in logarithms, are not believed.
const CHANGE: (f64, f64) = (-0.5, 1.0);
/// Errors below this say nothing of the spread.
const ERROR_LEAST: f64 = 0.003;
/// Least and largest spread that is expected.
const SCALE: (f64, f64) = (0.002, 2.0);
/// What is assumed of `ln(peak / level)` before anything was seen: shares of cases that stay below.
const PRIOR: [f64; 20] =
    [-0.05, 0.0, 0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.22, 0.25, 0.28, 0.32, 0.36, 0.41, 0.69];

/// Forecasts peaks of one arrival rate from a sample every 15 s.
#[derive(Clone, Debug)]
pub struct PeakForecaster {
    /// Samples until an order helps.
    horizon: usize,
    record: Record,
    change: Regression<COUNT>,
    /// Logarithm of how far forecasts are off.
    spread: Regression<SPREAD_COUNT>,
    /// Forecasts whose peak is not known yet, oldest first.
    open: VecDeque<Open>,
    /// How far peaks were from their forecasts, in order of time.
    outcomes: VecDeque<Outcome>,
    /// The same in units of what was expected, in order of size, as of the last sorting.
    sorted: Vec<f64>,
    samples: usize,
    /// Samples since the last gap.
    unbroken: usize,
}

/// A forecast.
#[derive(Clone, Copy, Debug)]
struct Open {
    features: Features,
    /// Logarithm of the level it was made from.
    level: f64,
    /// Logarithm of the forecast peak.
    centre: f64,
    spread: Spread,
}

/// How far a peak was from its forecast, in logarithms, and what spoke for that beforehand. Half precision is plenty.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    error: f32,
    spread: [f32; SPREAD_COUNT],
}

/// What the highest rate before the horizon may be.
#[derive(Clone, Copy, Debug)]
pub struct Peak<'a> {
    centre: f64,
    scale: f64,
    outcomes: &'a [f64],
    offset: f64,
    /// Requests per second now: the mean of the last two samples.
    pub level: f64,
    /// True while the prior has more to say than outcomes.
    pub is_prior: bool,
}

// === impl PeakForecaster ===

impl PeakForecaster {
    /// A forecaster of the peak within `horizon` seconds. Rates far below `offset` (requests per second) are alike: it should be
    /// a small part of what one replica takes. `None` unless both are positive and the horizon is at most six hours.
    #[must_use]
    pub fn new(horizon: f64, offset: f64) -> Option<Self> {
        let valid = horizon > 0.0 && horizon <= HORIZON_MOST && offset > 0.0 && offset.is_finite();
        valid.then(|| Self {
            horizon: samples_in(horizon),
            record: Record::new(offset),
            change: Regression::default(),
            spread: Regression::default(),
            open: VecDeque::new(),
            outcomes: VecDeque::new(),
            sorted: Vec::new(),
            samples: 0,
            unbroken: 0,
        })
    }

    /// The same for another horizon, learned anew from the remembered samples. `None` for a horizon that cannot be.
    #[must_use]
    pub fn with_horizon(&self, horizon: f64) -> Option<Self> {
        let mut other = Self::new(horizon, self.record.offset())?;
        self.record.rates().for_each(|rate| other.observe(Some(rate)));
        Some(other)
    }

    /// Seconds that are looked ahead: the horizon, rounded up to samples.
    #[must_use]
    pub fn horizon(&self) -> f64 {
        (0..self.horizon).fold(0.0, |seconds, _| seconds + SAMPLE)
    }

    /// Takes the mean rate of the next 15 s; `None` (or what is no rate) for a gap, after which nothing is learned until all
    /// samples of a forecast are measured again.
    pub fn observe(&mut self, rate: Option<f64>) {
        let measured = rate.filter(|rate| *rate >= 0.0 && rate.is_finite());
        self.unbroken = if measured.is_some() { self.unbroken.saturating_add(1) } else { 0 };
        self.record.push(measured);
        self.samples = self.samples.saturating_add(1);
        if self.open.len() >= self.horizon
            && let Some(open) = self.open.pop_front()
            && self.unbroken > self.horizon + 2
        {
            self.learn(&open);
        }
        if self.change.is_due(self.samples) {
            self.change.fit();
        }
        if self.spread.is_due(self.samples) {
            self.spread.fit();
        }
        let (level, features) = (self.record.level_log(), self.record.features(self.horizon));
        let change = self.change.predict(&features).clamp(CHANGE.0, CHANGE.1);
        self.open.push_back(Open { features, level, centre: level + change, spread: self.record.spread(self.horizon) });
        let often = match self.outcomes.len() {
            0..OUTCOMES_FEW => SORT_EVERY[0],
            OUTCOMES_FEW..OUTCOMES_ENOUGH => SORT_EVERY[1],
            _ => SORT_EVERY[2],
        };
        if self.samples.is_multiple_of(often) || self.samples == 1 {
            self.sort();
        }
    }

    /// Brings the outcomes into the units of what is expected now, and in order; few of them together with the prior.
    fn sort(&mut self) {
        let spread = &self.spread;
        let outcome = |outcome: &Outcome| f64::from(outcome.error) / scale(spread, &outcome.spread.map(f64::from));
        self.sorted.clear();
        self.sorted.extend(self.outcomes.iter().map(outcome));
        if let Some(open) = self.open.back().filter(|_| self.outcomes.len() < OUTCOMES_ENOUGH) {
            let now = scale(spread, &open.spread);
            self.sorted.extend(PRIOR.iter().map(|change| change / now));
        }
        self.sorted.sort_by(f64::total_cmp);
    }

    /// What a forecast came to.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits of a logarithm are enough, and half the memory")]
    fn learn(&mut self, open: &Open) {
        let peak = self.record.peak_log(self.horizon);
        self.change.learn(&open.features, peak - open.level);
        let error = peak - open.centre;
        self.spread.learn(&open.spread, (error.abs() + ERROR_LEAST).ln());
        if self.samples.is_multiple_of(OUTCOME_EVERY) || self.outcomes.len() < OUTCOMES_FEW {
            if self.outcomes.len() >= OUTCOMES_MOST {
                self.outcomes.pop_front();
            }
            self.outcomes.push_back(Outcome { error: error as f32, spread: open.spread.map(|value| value as f32) });
        }
    }

    /// The forecast as of the last sample; `None` before the first.
    #[must_use]
    pub fn peak(&self) -> Option<Peak<'_>> {
        let open = self.open.back()?;
        let (offset, level) = (self.record.offset(), self.record.level());
        let is_prior = self.outcomes.len() < PRIOR.len();
        Some(Peak { centre: open.centre, scale: scale(&self.spread, &open.spread), outcomes: &self.sorted, offset, level, is_prior })
    }
}

/// How far a forecast is likely to be off, in logarithms.
fn scale(spread: &Regression<SPREAD_COUNT>, features: &Spread) -> f64 {
    spread.predict(features).exp().clamp(SCALE.0, SCALE.1)
}

/// Samples in a stretch of time, rounded up; at least two.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the longest horizon")]
fn samples_in(seconds: f64) -> usize {
    ((seconds / SAMPLE).ceil() as usize).max(2)
}

// === impl Peak ===

impl Peak<'_> {
    /// The rate that the peak stays below with this probability, in requests per second. `None` outside (0, 1).
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    pub fn quantile(&self, probability: f64) -> Option<f64> {
        if !(probability > 0.0 && probability < 1.0) {
            return None;
        }
        let place = (self.count() * probability).ceil() as usize;
        let outcome = self.outcomes.get(place.max(1) - 1).or(self.outcomes.last())?;
        Some(((self.centre + outcome * self.scale).exp() - self.offset).max(0.0))
    }

    /// The probability that the peak is above a rate in requests per second. Beyond everything that was seen it falls as an
    /// exponential tail through the highest tenth does, from one in all cases and one more.
    #[must_use]
    pub fn exceedance(&self, rate: f64) -> f64 {
        let outcome = ((rate.max(0.0) + self.offset).ln() - self.centre) / self.scale;
        let above = self.outcomes.len() - self.outcomes.partition_point(|other| *other <= outcome);
        if above > 0 {
            return real(above) / self.count();
        }
        let (Some(most), Some(usual)) = (self.outcomes.last(), self.outcomes.get(self.outcomes.len() * 9 / 10)) else { return 1.0 };
        let fall = (most - usual) / (self.count() / 10.0).max(std::f64::consts::E).ln();
        let beyond = if fall > 0.0 { ((most - outcome) / fall).exp() } else { 0.0 };
        beyond / (self.count() + 1.0)
    }

    fn count(&self) -> f64 {
        real(self.outcomes.len())
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53 outcomes")]
fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
