//! Upper quantiles from what came in proportion to what had been forecast, without a distribution (conformal prediction).

use std::collections::VecDeque;

use super::ring::narrow;

/// Quantiles that are kept calibrated.
pub(super) const LEVELS: [f64; 5] = [0.5, 0.75, 0.9, 0.95, 0.99];
/// Ratios of an unknown series at these levels: pooled from recorded series.
const POOLED: [f64; 5] = [1.0, 1.15, 1.35, 1.5, 2.0];
/// Ratios that a level needs to be trusted on its own.
const NEEDED: [f64; 5] = [50.0, 50.0, 50.0, 50.0, 500.0];
/// The most ratios that are kept.
const KEPT_MAX: usize = 1024;
/// How fast a level is corrected when too much or too little came above it (Gibbs and Candès, 2021).
const CORRECTION: f64 = 0.005;
/// How far below its name a level may be corrected, and the highest that it may become.
const CORRECTED_BOUNDS: (f64, f64) = (0.03, 0.995);

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
    /// Keeps the ratios of so many forecasts.
    pub(super) fn new(kept: usize) -> Self {
        Self { newest: VecDeque::new(), sorted: Vec::new(), kept: kept.clamp(64, KEPT_MAX), effective: LEVELS }
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
        std::array::from_fn(|place| {
            let trust = (known / NEEDED[place]).min(1.0);
            match self.order(self.effective[place]) {
                Some(own) if trust >= 1.0 => own,
                Some(own) => trust * own + (1.0 - trust) * POOLED[place],
                None => POOLED[place],
            }
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
