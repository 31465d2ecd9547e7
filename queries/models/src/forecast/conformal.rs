//! Upper quantiles from how far what came was above what had been forecast, without a distribution (conformal prediction).
//!
//! How far is counted in two units at once: the forecast, and the usual number of the series. Steady mixtures of requests vary in
//! proportion to what is expected; what is mostly nothing and sometimes something varies the same whatever is expected. Which unit holds
//! for a series, a lead and a level is told by the pinball loss of the quantiles that each would have given.

mod feedback;

use std::collections::VecDeque;

use super::ring::narrow;
use feedback::Feedback;

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
/// For how many days a row counts for quantiles up to `RECENT_UP_TO`: the newer ones tell more of tomorrow, but leave too few for the
/// highest.
const RECENT_DAYS: f64 = 10.0;
const RECENT_UP_TO: f64 = 0.95;
/// The highest level that is read off the kept rows, and how much wider a quantile becomes for each point that it is beyond: were it cut
/// off there, too much would come above it in the long run.
const HIGHEST: f64 = 0.995;
const BEYOND: f64 = 0.3;
/// For how long the loss of a unit counts: its weight falls to 1/e in so many days.
const LOSS_DAYS: f64 = 14.0;

/// A level for each quantile.
pub(super) type Levels = [f64; LEVELS.len()];

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
    sorted: Sorted,
    kept: usize,
    /// The newest of them alone.
    recent: Sorted,
    recent_kept: usize,
    /// The greatest of what came in the kept rows.
    greatest: f64,
    feedback: Feedback,
    losses: [[f64; LEVELS.len()]; UNITS],
    loss_memory: f64,
}

/// How far above their forecasts rows were, in order, in each unit.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sorted([Vec<f32>; UNITS]);

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
        let rows = |days: f64| (days * per_day).clamp(64.0, KEPT_MAX) as usize;
        Self {
            newest: VecDeque::new(),
            sorted: Sorted::default(),
            kept: rows(days),
            recent: Sorted::default(),
            recent_kept: rows(days.min(RECENT_DAYS)),
            greatest: 0.0,
            feedback: Feedback::new(per_day),
            losses: [[0.0; LEVELS.len()]; UNITS],
            loss_memory: (-1.0 / (LOSS_DAYS * per_day)).exp(),
        }
    }

    /// The quantiles of a forecast that is to be judged, and their levels, which [`Self::learn`] or [`Self::forget`] is to be called with.
    pub(super) fn give(&mut self, base: Base) -> ([f64; LEVELS.len()], Levels) {
        let levels = self.feedback.levels();
        self.feedback.given(&levels);
        (self.uppers(base), levels)
    }

    /// Notes that what was to judge quantiles of these levels did not come.
    pub(super) fn forget(&mut self, levels: &Levels) {
        self.feedback.lost(levels);
    }

    /// Learns what came after a forecast, and whether it was above the quantiles given then.
    pub(super) fn learn(&mut self, base: Base, came: f64, levels: &Levels, exceeded: &[bool; LEVELS.len()]) {
        if !came.is_finite() {
            return self.forget(levels);
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
        self.feedback.told(levels, exceeded);
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
        let (length, levels) = (base.units()[unit], self.feedback.levels());
        std::array::from_fn(|place| {
            let trust = (known / NEEDED[place]).min(1.0);
            let wider = 1.0 + BEYOND * (levels[place] - HIGHEST).max(0.0);
            let rows = if LEVELS[place] <= RECENT_UP_TO { &self.recent } else { &self.sorted };
            let own = rows.order(unit, levels[place].min(HIGHEST)).map(|above| (above + 1.0) * wider - 1.0);
            let above = own.map_or(POOLED[place], |own| trust * own + (1.0 - trust) * POOLED[place]);
            let upper = (base.point + above * length).max(0.0);
            // No further than was ever seen, unless the forecast itself is near that: a wild night in proportion to its forecast says
            // nothing about a busy day.
            let most = f64::max(self.greatest, (1.0 + POOLED[place]) * base.point);
            if trust < 1.0 { upper } else { upper.min(most) }
        })
    }

    fn keep(&mut self, row: Row) {
        if let Some(aged) = self.newest.len().checked_sub(self.recent_kept).and_then(|place| self.newest.get(place)) {
            self.recent.remove(aged);
        }
        if self.newest.len() >= self.kept
            && let Some(oldest) = self.newest.pop_front()
        {
            self.sorted.remove(&oldest);
            if f64::from(oldest.came) >= self.greatest {
                self.greatest = self.newest.iter().map(|row| f64::from(row.came)).fold(0.0, f64::max);
            }
        }
        self.newest.push_back(row);
        self.greatest = self.greatest.max(f64::from(row.came));
        self.sorted.insert(&row);
        self.recent.insert(&row);
    }
}

// === impl Sorted ===

impl Sorted {
    fn insert(&mut self, row: &Row) {
        for (sorted, new) in self.0.iter_mut().zip(row.above) {
            sorted.insert(sorted.partition_point(|kept| *kept < new), new);
        }
    }

    /// Removes a row that was inserted.
    fn remove(&mut self, row: &Row) {
        for (sorted, old) in self.0.iter_mut().zip(row.above) {
            sorted.remove(sorted.partition_point(|kept| *kept < old));
        }
    }

    /// The order statistic that at least the share `level` of the next rows is not above, given that they are like those kept.
    fn order(&self, unit: usize, level: f64) -> Option<f64> {
        let sorted = &self.0[unit];
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a thousand rows")]
        let place = (level * (sorted.len() as f64 + 1.0)).ceil() as usize;
        let last = sorted.len().checked_sub(1)?;
        sorted.get(place.saturating_sub(1).min(last)).map(|above| f64::from(*above))
    }
}

#[cfg(test)]
mod tests;
