//! Upper quantiles from how far what came was above what had been forecast, without a distribution (conformal prediction).
//!
//! How far is counted in two units at once: the forecast, and the usual number of the series. Steady mixtures of requests vary in
//! proportion to what is expected; what is mostly nothing and sometimes something varies the same whatever is expected. Which unit holds
//! for a series, a lead and a level is told by the pinball loss of the quantiles that each would have given.

use std::collections::VecDeque;

use super::ring::narrow;

/// Quantiles that are kept calibrated.
pub(super) const LEVELS: [f64; 5] = [0.5, 0.75, 0.9, 0.95, 0.99];
/// Units.
const UNITS: usize = 2;
/// First of the levels whose loss tells of the unit; those below go by its.
const TELLING: usize = 2;
/// How far above is an unknown series at these levels, in either unit: pooled from recorded series.
const POOLED: [f64; LEVELS.len()] = [0.0, 0.15, 0.35, 0.5, 1.0];
/// Rows that a level needs to be trusted on its own; until then it is mixed with the pooled one. A hundred and fifty leave one or two
/// above the highest level: little, but on recorded series better than a quantile of other series, which hourly steps would keep for good.
const NEEDED: [f64; LEVELS.len()] = [50.0, 50.0, 50.0, 50.0, 150.0];
/// The most rows that are kept.
const KEPT_MAX: f64 = 1024.0;
/// Share of the usual number that is added to the forecast when it is the unit: near zero a few requests in proportion to none
/// would say nothing, and the first requests after an outage would make quantiles explode.
const FLOOR: f64 = 0.25;
/// The greatest distance that is kept, in its unit.
const ABOVE_MAX: f64 = 1000.0;
/// How fast a level is corrected when too much or too little came above it (Gibbs and Candès, 2021): per day, shared by the rows of the
/// day, and the most per row. The share above is wrong in the long run by no more than the level moved: a tenth is worth four tenths of
/// the rows of one day.
const CORRECTION: f64 = 0.24;
const CORRECTION_MAX: f64 = 0.02;
/// How far below its name a level may be corrected, and the highest that it may become. Recorded series need more than a few points
/// downwards: forecasts get better as they learn, so older rows are too wide for them.
const CORRECTED_BOUNDS: (f64, f64) = (0.1, 1.1);
/// The highest level that is read off the kept rows, and how much wider a quantile becomes for each point that it is corrected beyond:
/// were the correction cut off there, too much would come above it in the long run.
const HIGHEST: f64 = 0.995;
const BEYOND: f64 = 1.0;
/// For how long the loss of a unit counts: its weight falls to 1/e in so many days.
const LOSS_DAYS: f64 = 14.0;

/// A forecast that quantiles are measured from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Base {
    /// What was forecast.
    pub(super) point: f64,
    /// The usual number of the series then.
    pub(super) usual: f64,
}

/// How far above its forecasts a series came.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conformal {
    newest: VecDeque<Row>,
    sorted: [Vec<f32>; UNITS],
    kept: usize,
    /// The greatest of what came in the kept rows.
    greatest: f64,
    correction: f64,
    effective: [f64; LEVELS.len()],
    losses: [[f64; LEVELS.len()]; UNITS],
    loss_memory: f64,
}

/// What came, and how far above its forecast in each unit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    above: [f32; UNITS],
    came: f32,
}

// === impl Base ===

impl Base {
    fn units(self) -> [f64; UNITS] {
        let floor = FLOOR * self.usual;
        [self.point + floor, self.usual + floor]
    }

    /// How far above the forecast a number is in each unit. Without a unit nothing was ever above zero: a number is then as far as can be
    /// told.
    fn above(self, came: f64) -> [f64; UNITS] {
        let unknown = if came > self.point { ABOVE_MAX } else { 0.0 };
        self.units().map(|unit| if unit > 0.0 { ((came - self.point) / unit).min(ABOVE_MAX) } else { unknown })
    }
}

// === impl Conformal ===

impl Conformal {
    /// Keeps the rows of so many days, of which so many come a day.
    pub(super) fn new(days: f64, per_day: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let kept = (days * per_day).clamp(64.0, KEPT_MAX) as usize;
        Self {
            newest: VecDeque::new(),
            sorted: [const { Vec::new() }; UNITS],
            kept,
            greatest: 0.0,
            correction: (CORRECTION / per_day).min(CORRECTION_MAX),
            effective: LEVELS,
            losses: [[0.0; LEVELS.len()]; UNITS],
            loss_memory: (-1.0 / (LOSS_DAYS * per_day)).exp(),
        }
    }

    /// Learns what came after a forecast, and whether it was above the quantiles given then.
    pub(super) fn learn(&mut self, base: Base, came: f64, exceeded: &[bool; LEVELS.len()]) {
        if !came.is_finite() {
            return;
        }
        for unit in 0..UNITS {
            let uppers = self.uppers_in(unit, base);
            for place in TELLING..LEVELS.len() {
                let over = came - uppers[place];
                let loss = f64::max(LEVELS[place] * over, (LEVELS[place] - 1.0) * over);
                self.losses[unit][place] = self.loss_memory * self.losses[unit][place] + loss;
            }
        }
        self.keep(Row { above: base.above(came).map(narrow), came: narrow(came) });
        for (place, level) in LEVELS.iter().enumerate() {
            let surprise = if exceeded[place] { 1.0 } else { 0.0 };
            let corrected = self.effective[place] + self.correction * (surprise - (1.0 - level));
            self.effective[place] = corrected.clamp(level - CORRECTED_BOUNDS.0, CORRECTED_BOUNDS.1);
        }
    }

    /// The quantile of each level for a forecast.
    pub(super) fn uppers(&self, base: Base) -> [f64; LEVELS.len()] {
        let all: [_; UNITS] = std::array::from_fn(|unit| self.uppers_in(unit, base));
        // Each level is corrected on its own and has its own unit; a higher one must not fall below a lower one for that.
        let mut greatest = 0.0;
        std::array::from_fn(|place| {
            let telling = place.max(TELLING);
            let unit = usize::from(self.losses[1][telling] < self.losses[0][telling]);
            greatest = f64::max(greatest, all[unit][place]);
            greatest
        })
    }

    /// The quantiles that a unit alone would give.
    fn uppers_in(&self, unit: usize, base: Base) -> [f64; LEVELS.len()] {
        #[expect(clippy::cast_precision_loss, reason = "at most a thousand rows")]
        let known = self.newest.len() as f64;
        let length = base.units()[unit];
        std::array::from_fn(|place| {
            let trust = (known / NEEDED[place]).min(1.0);
            let wider = 1.0 + BEYOND * (self.effective[place] - HIGHEST).max(0.0);
            let own = self.order(unit, self.effective[place].min(HIGHEST)).map(|above| (above + 1.0) * wider - 1.0);
            let above = own.map_or(POOLED[place], |own| trust * own + (1.0 - trust) * POOLED[place]);
            let upper = (base.point + above * length).max(0.0);
            // No further than was ever seen, unless the forecast itself is near that: a wild night in proportion to its forecast says
            // nothing about a busy day.
            let most = f64::max(self.greatest, (1.0 + POOLED[place]) * base.point);
            if trust < 1.0 { upper } else { upper.min(most) }
        })
    }

    fn keep(&mut self, row: Row) {
        if self.newest.len() >= self.kept
            && let Some(oldest) = self.newest.pop_front()
        {
            for (sorted, old) in self.sorted.iter_mut().zip(oldest.above) {
                sorted.remove(sorted.partition_point(|kept| *kept < old));
            }
            if f64::from(oldest.came) >= self.greatest {
                self.greatest = self.newest.iter().map(|row| f64::from(row.came)).fold(0.0, f64::max);
            }
        }
        self.newest.push_back(row);
        self.greatest = self.greatest.max(f64::from(row.came));
        for (sorted, new) in self.sorted.iter_mut().zip(row.above) {
            sorted.insert(sorted.partition_point(|kept| *kept < new), new);
        }
    }

    /// The order statistic that at least the share `level` of the next rows is not above, given that they are like those kept.
    fn order(&self, unit: usize, level: f64) -> Option<f64> {
        let sorted = &self.sorted[unit];
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a thousand rows")]
        let place = (level * (sorted.len() as f64 + 1.0)).ceil() as usize;
        let last = sorted.len().checked_sub(1)?;
        sorted.get(place.saturating_sub(1).min(last)).map(|above| f64::from(*above))
    }
}

#[cfg(test)]
mod tests;
