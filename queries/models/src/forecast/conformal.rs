//! Upper quantiles from what came in proportion to what had been forecast, without a distribution (conformal prediction).

use std::collections::VecDeque;

use super::ring::narrow;

/// Quantiles that are kept calibrated.
pub(super) const LEVELS: [f64; 5] = [0.5, 0.75, 0.9, 0.95, 0.99];
/// Ratios of an unknown series at these levels: pooled from recorded series.
const POOLED: [f64; 5] = [1.0, 1.15, 1.35, 1.5, 2.0];
/// Ratios that a level needs to be trusted on its own; until then it is mixed with the pooled one. A hundred and fifty leave one or two
/// above the highest level: little, but on recorded series better than a quantile of other series, which hourly steps would keep for good.
const NEEDED: [f64; 5] = [50.0, 50.0, 50.0, 50.0, 150.0];
/// The most ratios that are kept.
const KEPT_MAX: f64 = 1024.0;
/// How fast a level is corrected when too much or too little came above it (Gibbs and Candès, 2021), per ratio.
const CORRECTION: f64 = 0.005;
/// How far below its name a level may be corrected, and the highest that it may become. Recorded series need more than a few points
/// downwards: forecasts get better as they learn, so older ratios are too wide for them.
const CORRECTED_BOUNDS: (f64, f64) = (0.1, 1.05);

/// The highest level that is read off the kept ratios, and how much wider a quantile becomes for each point that it is corrected beyond:
/// were the correction cut off there, too much would come above it in the long run.
const HIGHEST: f64 = 0.995;
const BEYOND: f64 = 5.0;

/// Ratios of what came to what had been forecast.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conformal {
    newest: VecDeque<f32>,
    sorted: Vec<f32>,
    kept: usize,
    effective: [f64; LEVELS.len()],
}

// === impl Conformal ===

impl Conformal {
    /// Keeps the ratios of so many days, of which so many come a day.
    pub(super) fn new(days: f64, per_day: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let kept = (days * per_day).clamp(64.0, KEPT_MAX) as usize;
        Self { newest: VecDeque::new(), sorted: Vec::new(), kept, effective: LEVELS }
    }

    /// Learns one ratio, and whether what came was above the upper quantiles given then.
    pub(super) fn learn(&mut self, ratio: f64, above: &[bool; LEVELS.len()]) {
        if !ratio.is_finite() {
            return;
        }
        if self.newest.len() >= self.kept
            && let Some(oldest) = self.newest.pop_front()
        {
            let place = self.sorted.partition_point(|kept| *kept < oldest);
            self.sorted.remove(place);
        }
        let ratio = narrow(ratio);
        self.newest.push_back(ratio);
        self.sorted.insert(self.sorted.partition_point(|kept| *kept < ratio), ratio);
        for (place, level) in LEVELS.iter().enumerate() {
            let surprise = if above[place] { 1.0 } else { 0.0 };
            let corrected = self.effective[place] + CORRECTION * (surprise - (1.0 - level));
            self.effective[place] = corrected.clamp(level - CORRECTED_BOUNDS.0, CORRECTED_BOUNDS.1);
        }
    }

    /// The ratio of each level.
    pub(super) fn ratios(&self) -> [f64; LEVELS.len()] {
        #[expect(clippy::cast_precision_loss, reason = "at most a thousand ratios")]
        let known = self.sorted.len() as f64;
        let mut greatest = 0.0;
        std::array::from_fn(|place| {
            let trust = (known / NEEDED[place]).min(1.0);
            let wider = 1.0 + BEYOND * (self.effective[place] - HIGHEST).max(0.0);
            let own = self.order(self.effective[place].min(HIGHEST)).map(|ratio| ratio * wider);
            let ratio = own.map_or(POOLED[place], |own| trust * own + (1.0 - trust) * POOLED[place]);
            // Each level is corrected on its own; a higher one must not fall below a lower one for that.
            greatest = f64::max(greatest, ratio);
            greatest
        })
    }

    /// The order statistic that at least the share `level` of the next ratios is not above, given that they are like those kept.
    fn order(&self, level: f64) -> Option<f64> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most a thousand ratios"
        )]
        let place = (level * (self.sorted.len() as f64 + 1.0)).ceil() as usize;
        let last = self.sorted.len().checked_sub(1)?;
        self.sorted.get(place.saturating_sub(1).min(last)).map(|ratio| f64::from(*ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: without ratios the pooled ones stand; of a thousand even ones the order statistics are found.
    #[test]
    fn order_statistics() {
        let mut conformal = Conformal::new(14.0, 288.0);
        assert!((conformal.ratios()[3] - 1.5).abs() < 1e-12);
        for place in 0..1000_u32 {
            // A permutation of 0..1000, so that old and new ratios are alike; no level is corrected.
            conformal.learn(f64::from(place * 7 % 1000) / 1000.0, &[false; LEVELS.len()]);
            conformal.effective = LEVELS;
        }
        let ratios = conformal.ratios();
        assert!((ratios[2] - 0.9).abs() < 0.002 && (ratios[4] - 0.99).abs() < 0.002, "{ratios:?}");
    }

    /// Guarantees: old ratios are forgotten, and what is not a number is not learnt.
    #[test]
    fn bounded_memory() {
        let mut conformal = Conformal::new(1.0, 100.0);
        for place in 0..300_u32 {
            conformal.learn(if place < 200 { 50.0 } else { 1.0 }, &[false; LEVELS.len()]);
        }
        conformal.learn(f64::NAN, &[true; LEVELS.len()]);
        assert_eq!((conformal.newest.len(), conformal.sorted.len(), conformal.sorted.last()), (100, 100, Some(&1.0)));
    }

    /// Guarantees: what came above too often raises a level, too rarely lowers it, and quantiles never cross.
    #[test]
    fn levels_are_corrected() {
        let mut conformal = Conformal::new(14.0, 288.0);
        for place in 0..600_u32 {
            conformal.learn(1.0 + f64::from(place % 100) / 100.0, &[false, false, true, false, false]);
        }
        assert!(conformal.effective[2] > 1.0 && conformal.effective[3] < 0.95);
        assert!(conformal.ratios().is_sorted(), "{:?}", conformal.ratios());
    }
}
