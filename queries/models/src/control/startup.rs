//! How long replicas take to start: quantiles of the last starts, with a prior for services that have hardly been scaled.

use std::collections::VecDeque;

/// Starts that are remembered.
pub const STARTS: usize = 50;
/// Median and 90th percentile that are assumed before any start was seen, in seconds.
const PRIOR: (f64, f64) = (60.0, 120.0);
/// How many starts the prior counts for.
const PRIOR_STARTS: f64 = 3.0;
/// A start that takes this many times the 90th percentile will not come.
const LOST: f64 = 3.0;

/// The last starts of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Startups {
    seconds: VecDeque<f64>,
    /// What somebody says instead.
    said: Option<f64>,
}

// === impl Startups ===

impl Startups {
    /// Every start takes so many seconds, as somebody says; whatever is recorded.
    #[must_use]
    pub fn said(seconds: f64) -> Self {
        Self { seconds: VecDeque::new(), said: Some(seconds).filter(|seconds| *seconds >= 0.0 && seconds.is_finite()) }
    }

    /// Takes note of a start: seconds from the order of a replica until it served. What is negative or no number is ignored.
    pub fn record(&mut self, seconds: f64) {
        if !(seconds >= 0.0 && seconds.is_finite()) {
            return;
        }
        if self.seconds.len() >= STARTS {
            self.seconds.pop_front();
        }
        self.seconds.push_back(seconds);
    }

    /// How many starts are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seconds.len()
    }

    /// Half of all starts take at most so many seconds.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5, PRIOR.0)
    }

    /// Nine of ten starts take at most so many seconds.
    #[must_use]
    pub fn p90(&self) -> f64 {
        self.quantile(0.9, PRIOR.1)
    }

    /// Whether a replica that was ordered so long ago and does not serve is lost.
    #[must_use]
    pub fn is_lost(&self, age: f64) -> bool {
        age > LOST * self.p90()
    }

    /// The empirical quantile (the order statistic at or above it), drawn to the prior while there are few starts.
    fn quantile(&self, q: f64, prior: f64) -> f64 {
        if let Some(said) = self.said {
            return said;
        }
        let mut sorted: Vec<f64> = self.seconds.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let count = (0..sorted.len()).fold(0.0, |count, _| count + 1.0);
        let below = (0..sorted.len()).zip((1..).map(f64::from)).find(|(_, rank)| *rank >= q * count - 1e-9);
        let own = below.and_then(|(place, _)| sorted.get(place)).copied().unwrap_or(prior);
        (PRIOR_STARTS * prior + count * own) / (PRIOR_STARTS + count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the prior alone at first; the starts' own quantiles later on; no more than fifty starts count.
    #[test]
    fn from_prior_to_measurement() {
        let mut starts = Startups::default();
        assert!((starts.median() - 60.0).abs() < 1e-9 && (starts.p90() - 120.0).abs() < 1e-9);
        assert!(starts.is_lost(361.0) && !starts.is_lost(359.0));
        starts.record(f64::NAN);
        starts.record(-1.0);
        assert_eq!(starts.count(), 0);
        (0..60).for_each(|_| starts.record(600.0));
        (1..=50).for_each(|second| starts.record(f64::from(second)));
        // (3 * 120 + 50 * 45) / 53, and (3 * 60 + 50 * 25) / 53.
        assert!((starts.p90() - 49.245_283).abs() < 1e-6 && (starts.median() - 26.981_132).abs() < 1e-6);
    }
}
