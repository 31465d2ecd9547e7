//! One kind of peak: the regressions that forecast it, and how far they have been off.

use std::collections::VecDeque;
use std::sync::OnceLock;

use super::compact::{Half, Newest};
use super::features::{COUNT, Features, Record, SLOPES, SPREAD_COUNT, Spread};
use super::prior::{PRIOR, prior_change, prior_spread};
use super::regression::Regression;
use super::{DAY, Peak, real};

/// Samples between outcomes: neighbours say nearly the same.
const OUTCOME_EVERY: usize = 4;
/// Outcomes kept: four days.
pub(super) const OUTCOMES_MOST: usize = 4 * DAY / OUTCOME_EVERY;
/// With fewer outcomes every sample makes one.
const OUTCOMES_FEW: usize = 480;
/// With fewer outcomes the prior has a say beside them: most of a day's.
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
    span: usize,
    change: Regression<COUNT>,
    /// Logarithm of how far forecasts are off.
    spread: Regression<SPREAD_COUNT>,
    /// Forecasts whose peak is not known yet, oldest first: logarithms of the peaks.
    open: VecDeque<f64>,
    /// The newest forecast; not the last open one between two samples.
    now: Option<Forecast>,
    /// How far peaks were from their forecasts, in logarithms and in order of time.
    errors: Newest<Half>,
    /// The same in units of what was expected, in order of size, as of the first question after they were last due.
    sorted: OnceLock<Box<[Half]>>,
}

/// What spoke for the spread of each outcome that is kept.
pub(super) type Spreads = Newest<Packed>;

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

/// What speaks for a spread, but for the constant, in a byte each: outcomes differ by far more than a hundredth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed([u8; SPREAD_COUNT - 1]);

/// Steps of one in these, and the least that each can be.
const PACKED_STEPS: f64 = 32.0;
const PACKED_LEAST: [f64; SPREAD_COUNT - 1] = [-6.25, -6.25, -7.96875, -6.25];

// === impl Basis ===

impl Basis {
    /// The same a few seconds later, at another level (logarithm).
    pub(super) fn at(mut self, level: f64) -> Self {
        self.features[SLOPES].iter_mut().for_each(|slope| *slope += level - self.level);
        Self { level, ..self }
    }
}

// === impl Packed ===

impl Packed {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
    pub(super) fn new(spread: &Spread) -> Self {
        let [_, values @ ..] = spread;
        Self(std::array::from_fn(|place| ((values[place] - PACKED_LEAST[place]) * PACKED_STEPS).round() as u8))
    }

    fn get(self) -> Spread {
        let [hour, quarter, counted, yesterday] =
            std::array::from_fn(|place| PACKED_LEAST[place] + f64::from(self.0[place]) / PACKED_STEPS);
        [1.0, hour, quarter, counted, yesterday]
    }
}

// === impl Head ===

impl Head {
    /// Both in samples; the span at most the horizon.
    pub(super) fn new(horizon: usize, span: usize) -> Self {
        Self {
            span,
            change: Regression::new(prior_change(real(horizon))),
            spread: Regression::new(prior_spread(real(horizon))),
            open: VecDeque::new(),
            now: None,
            errors: Newest::of_most(OUTCOMES_MOST),
            sorted: OnceLock::new(),
        }
    }

    /// Settles the oldest forecast, which was made from `basis`. Learns from it if `is_whole`: its whole stretch was measured. The
    /// outcome is kept if `is_kept`.
    pub(super) fn settle(&mut self, record: &Record, basis: &Basis, is_whole: bool, is_kept: bool) {
        let Some(centre) = self.open.pop_front().filter(|_| is_whole) else { return };
        let peak = record.peak_log(self.span);
        self.change.learn(&basis.features, peak - basis.level);
        let error = peak - centre;
        self.spread.learn(&basis.spread, (error.abs() + ERROR_LEAST).ln());
        if is_kept {
            self.errors.push(Half::new(error));
        }
    }

    /// Makes the next forecast, at the `samples`th sample.
    pub(super) fn observe(&mut self, basis: &Basis, samples: usize) {
        if self.change.is_due(samples) {
            self.change.fit();
        }
        if self.spread.is_due(samples) {
            self.spread.fit();
        }
        self.look(basis);
        self.open.extend(self.now.map(|now| now.centre));
        let often = match self.errors.len() {
            0..OUTCOMES_FEW => SORT_EVERY[0],
            OUTCOMES_FEW..OUTCOMES_ENOUGH => SORT_EVERY[1],
            _ => SORT_EVERY[2],
        };
        if samples.is_multiple_of(often) || samples == 1 {
            let _ = self.sorted.take();
        }
    }

    /// Whether an outcome of the `samples`th sample is worth keeping.
    pub(super) fn is_outcome(&self, samples: usize) -> bool {
        samples.is_multiple_of(OUTCOME_EVERY) || self.errors.len() < OUTCOMES_FEW
    }

    /// Makes a forecast that nothing will be learned from.
    pub(super) fn look(&mut self, basis: &Basis) {
        let change = self.change.predict(&basis.features).clamp(CHANGE.0, CHANGE.1);
        self.now = Some(Forecast { basis: *basis, centre: basis.level + change });
    }

    /// The outcomes in the units of what is expected now, and in order; few of them together with the prior.
    fn sort(&self, spreads: &Spreads) -> Box<[Half]> {
        let outcome = |(error, spread): (Half, Packed)| Half::new(error.get() / scale(&self.spread, &spread.get()));
        let mut sorted: Vec<Half> = self.errors.iter().zip(spreads.iter()).map(outcome).collect();
        if self.errors.len() < OUTCOMES_ENOUGH {
            sorted.extend(PRIOR.map(Half::new));
        }
        sorted.sort_unstable();
        sorted.into_boxed_slice()
    }

    /// How many outcomes are kept.
    #[cfg(test)]
    pub(super) fn outcomes(&self) -> usize {
        self.errors.len()
    }

    /// The newest forecast, of a load of so many requests per second; `None` before the first.
    pub(super) fn peak(&self, spreads: &Spreads, level: f64, offset: f64) -> Option<Peak<'_>> {
        let Forecast { basis, centre } = self.now?;
        let outcomes = self.sorted.get_or_init(|| self.sort(spreads));
        let is_prior = self.errors.len() < PRIOR.len();
        Some(Peak { centre, scale: scale(&self.spread, &basis.spread), outcomes, offset, level, is_prior })
    }
}

/// How far a forecast is likely to be off, in logarithms.
fn scale(spread: &Regression<SPREAD_COUNT>, features: &Spread) -> f64 {
    spread.predict(features).exp().clamp(SCALE.0, SCALE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what speaks for a spread comes back to a hundredth or two; beyond its range it is the end of it.
    #[test]
    fn spreads_are_packed() {
        for step in 0..170 {
            let value = -6.2 + 0.0469 * f64::from(step);
            let spread = [1.0, value.min(1.7), value.min(1.7), value.min(0.0), value.min(1.7)];
            let back = Packed::new(&spread).get();
            assert!(
                back.iter().zip(spread).all(|(back, spread)| (back - spread).abs() <= 0.5 / PACKED_STEPS + 1e-9),
                "{spread:?} {back:?}"
            );
        }
        let ends = Packed::new(&[1.0, -99.0, 99.0, f64::NAN, f64::INFINITY]).get();
        assert!(ends.iter().all(|end| end.is_finite()) && ends[1] < -6.0 && ends[2] > 1.7, "{ends:?}");
    }
}
