//! The forecast that scaling needs: not the rate at some time, but the highest rate until an order made now can help.
//!
//! Level, slopes and what the same time of day brought are regressed on the logarithm of that peak. How far past peaks were from
//! their forecasts, in units of how restless the load was at the time, says how far this one may be: quantiles without a law,
//! calibrated on the last days (Vovk, Gammerman and Shafer, 2005; the scaling makes quiet hours cheap and restless ones safe).
//! Where replicas start slowly, what comes at the end of that time is forecast by itself: a peak that is over before an order
//! serves is a reason to keep replicas, and none to order them.

mod compact;
mod features;
mod head;
mod prior;
mod regression;

use std::collections::VecDeque;

use compact::{Half, Newest};
use features::Record;
use head::{Basis, Head, OUTCOMES_MOST, Packed, Spreads};

/// Seconds of one sample.
pub(super) const SAMPLE: f64 = 15.0;
/// Samples of a day.
const DAY: usize = 5_760;
/// Longest horizon: six hours.
const HORIZON_MOST: f64 = 21_600.0;
/// Samples before the horizon that an order is for: a minute.
const LATE: usize = 4;
/// Horizons of at most so many samples are no longer than what an order is for, by and large.
const LATE_FROM: usize = 8;
/// Rates between samples that are kept, one per phase: more often than every second nobody looks.
const BETWEEN_MOST: usize = 15;

/// Forecasts peaks of one arrival rate from a sample every 15 s.
#[derive(Clone, Debug)]
pub struct PeakForecaster {
    /// Samples until an order helps.
    horizon: usize,
    record: Record,
    whole: Head,
    /// What comes at the end of long horizons.
    late: Option<Head>,
    /// What the forecasts were made from whose peak is not known yet, oldest first.
    open: VecDeque<Basis>,
    /// What the outcomes that both keep came from.
    spreads: Spreads,
    samples: usize,
    /// Samples since the last gap.
    unbroken: usize,
    /// What the forecast after the last sample was made from.
    basis: Option<Basis>,
    /// Rates that were seen between the last two samples and since: seconds after the sample, rate.
    between: Vec<(f64, f64)>,
    /// Requests per second now.
    level: f64,
}

/// What the highest rate before the horizon may be.
#[derive(Clone, Copy, Debug)]
pub struct Peak<'a> {
    centre: f64,
    scale: f64,
    outcomes: &'a [Half],
    offset: f64,
    /// Requests per second now: the mean of the last 30 s.
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
        let horizon = samples_in(horizon);
        valid.then(|| Self {
            horizon,
            record: Record::new(offset, horizon),
            whole: Head::new(horizon, horizon - 1),
            late: (horizon > LATE_FROM).then(|| Head::new(horizon, LATE)),
            open: VecDeque::new(),
            spreads: Newest::of_most(OUTCOMES_MOST),
            samples: 0,
            unbroken: 0,
            basis: None,
            between: Vec::new(),
            level: 0.0,
        })
    }

    /// The same for another horizon, learned anew from the last day and a half, before which its weeks are known as they were. `None`
    /// for a horizon that cannot be.
    #[must_use]
    pub fn with_horizon(&self, horizon: f64) -> Option<Self> {
        let mut other = Self::new(horizon, self.record.offset())?;
        let (record, rates) = self.record.rewound(other.horizon);
        other.record = record;
        rates.for_each(|rate| other.observe(Some(rate)));
        Some(other)
    }

    /// Seconds that are looked ahead: the horizon, rounded up to samples.
    #[must_use]
    pub fn horizon(&self) -> f64 {
        SAMPLE * real(self.horizon)
    }

    /// Takes the mean rate of the next 15 s; `None` (or what is no rate) for a gap, after which nothing is learned until all
    /// samples of a forecast are measured again.
    pub fn observe(&mut self, rate: Option<f64>) {
        let measured = rate.filter(|rate| *rate >= 0.0 && rate.is_finite());
        self.unbroken = if measured.is_some() { self.unbroken.saturating_add(1) } else { 0 };
        self.record.push(measured);
        self.samples = self.samples.saturating_add(1);
        self.level = self.record.level();
        let (features, spread) = (self.record.features(self.horizon), self.record.spread(self.horizon));
        let basis = Basis { features, spread, level: self.record.log(self.level) };
        self.basis = Some(basis);
        if measured.is_none() {
            self.between.clear();
        }
        let settled = if self.open.len() >= self.horizon { self.open.pop_front() } else { None };
        let is_whole = self.unbroken > self.horizon + 2;
        let is_kept = is_whole && self.whole.is_outcome(self.samples);
        if let Some(settled) = settled.filter(|_| is_kept) {
            self.spreads.push(Packed::new(&settled.spread));
        }
        for head in std::iter::once(&mut self.whole).chain(&mut self.late) {
            if let Some(settled) = settled {
                head.settle(&self.record, &settled, is_whole, is_kept);
            }
            head.observe(&basis, self.samples);
        }
        self.open.push_back(basis);
    }

    /// Looks again between two samples, `passed` seconds after the last one: takes the mean rate of the last 15 s, which that
    /// sample overlaps. Nothing is learned from it; the level is newer. Ignored without a rate, and before the first sample.
    pub fn look(&mut self, passed: f64, rate: Option<f64>) {
        let Some((rate, basis)) = rate.filter(|rate| *rate >= 0.0 && rate.is_finite()).zip(self.basis) else { return };
        // The level is a mean of 30 s, of which the first half was seen a sample ago.
        let before = match self.between.iter_mut().find(|(at, _)| (at - passed).abs() < 0.5) {
            Some((_, seen)) => std::mem::replace(seen, rate),
            None => {
                if self.between.len() < BETWEEN_MOST {
                    self.between.push((passed, rate));
                }
                self.record.level()
            }
        };
        self.level = 0.5 * (rate + before);
        let basis = basis.at(self.record.log(self.level));
        for head in std::iter::once(&mut self.whole).chain(&mut self.late) {
            head.look(&basis);
        }
    }

    /// The forecast as of the last sample; `None` before the first.
    #[must_use]
    pub fn peak(&self) -> Option<Peak<'_>> {
        self.whole.peak(&self.spreads, self.level, self.record.offset())
    }

    /// The same of the last minute before the horizon alone: what an order made now is for. As [`Self::peak`] for short horizons.
    #[must_use]
    pub fn late_peak(&self) -> Option<Peak<'_>> {
        self.late.as_ref().unwrap_or(&self.whole).peak(&self.spreads, self.level, self.record.offset())
    }
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
        Some(((self.centre + outcome.get() * self.scale).exp() - self.offset).max(0.0))
    }

    /// The probability that the peak is above a rate in requests per second. Beyond everything that was seen it falls as an
    /// exponential tail through the highest tenth does, from one in all cases and one more.
    #[must_use]
    pub fn exceedance(&self, rate: f64) -> f64 {
        let outcome = ((rate.max(0.0) + self.offset).ln() - self.centre) / self.scale;
        let above = self.outcomes.len() - self.outcomes.partition_point(|other| *other <= Half::new(outcome));
        if above > 0 {
            return real(above) / self.count();
        }
        let (Some(most), Some(usual)) = (self.outcomes.last(), self.outcomes.get(self.outcomes.len() * 9 / 10)) else { return 1.0 };
        let (most, usual) = (most.get(), usual.get());
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
