//! A histogram of durations with buckets 1 % wide: quantiles of any number of requests in a fixed amount of memory.

/// Smallest value that is told from zero, in seconds.
const LEAST: f64 = 1e-7;
/// Width of a bucket relative to its lower edge.
const GROWTH: f64 = 1.01;
/// Number of buckets: up to 10⁶ s, that is ln(10¹³) / ln(1.01) and a bit.
const BUCKETS: usize = 3009;

/// Weighted durations in seconds. Values above 10⁶ s count in the last bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct LogHistogram {
    /// Allocated with the first value.
    weights: Vec<f64>,
    /// Weight of values that are zero, or next to it.
    zeros: f64,
    total: f64,
    sum: f64,
}

// === impl LogHistogram ===

impl LogHistogram {
    /// A histogram of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { weights: Vec::new(), zeros: 0.0, total: 0.0, sum: 0.0 }
    }

    /// Counts a value.
    pub fn record(&mut self, value: f64) {
        self.add(value, 1.0);
    }

    /// Counts a value `weight` times.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.total += weight;
        if value < LEAST {
            self.zeros += weight;
            return;
        }
        self.sum += value * weight;
        if self.weights.is_empty() {
            self.weights = vec![0.0; BUCKETS];
        }
        let place = crate::number::position((value / LEAST).ln() * RECIPROCAL_LN_GROWTH).min(BUCKETS - 1);
        self.weights[place] += weight;
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        self.weights.fill(0.0);
        (self.zeros, self.total, self.sum) = (0.0, 0.0, 0.0);
    }

    /// Weight of all values.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.total
    }

    /// Share of the values that are zero. `None` when empty.
    #[must_use]
    pub fn share_of_zeros(&self) -> Option<f64> {
        (self.total > 0.0).then(|| self.zeros / self.total)
    }

    /// Exact mean, in seconds. `None` when empty.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.total > 0.0).then(|| self.sum / self.total)
    }

    /// The value below which the share `q` of the values lies, within half a percent, in seconds. `None` when empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.total <= 0.0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let target = q * self.total;
        let mut seen = self.zeros;
        if seen >= target {
            return Some(0.0);
        }
        let mut last = 0.0;
        for (place, weight) in self.weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            let low = LEAST * GROWTH.powf(crate::number::real_length(place));
            if seen + weight >= target {
                return Some(low * GROWTH.powf((target - seen) / weight));
            }
            seen += weight;
            last = low * GROWTH;
        }
        Some(last)
    }

    /// Adds all values of another histogram.
    pub fn merge(&mut self, other: &Self) {
        if self.weights.is_empty() {
            self.weights.clone_from(&other.weights);
        } else {
            for (own, more) in self.weights.iter_mut().zip(&other.weights) {
                *own += more;
            }
        }
        self.zeros += other.zeros;
        self.total += other.total;
        self.sum += other.sum;
    }
}

/// 1 / ln(1.01).
const RECIPROCAL_LN_GROWTH: f64 = 100.499_170_807_130_52;

impl Default for LogHistogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: quantiles are right within a bucket of 1 %, and the mean is exact.
    #[test]
    fn quantiles_within_one_percent() {
        let mut histogram = LogHistogram::new();
        for value in 1..=10_000 {
            histogram.record(f64::from(value) * 1e-3);
        }
        for (q, value) in [(0.5, 5.0), (0.95, 9.5), (0.99, 9.9)] {
            assert!((histogram.quantile(q).unwrap() / value - 1.0).abs() < 0.01);
        }
        assert!((histogram.mean().unwrap() - 5.0005).abs() < 1e-9);
        assert!((RECIPROCAL_LN_GROWTH * GROWTH.ln() - 1.0).abs() < 1e-12);
    }

    /// Guarantees: zeros are values, an empty histogram knows nothing, and values out of range are kept.
    #[test]
    fn edges() {
        let mut histogram = LogHistogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.mean(), histogram.share_of_zeros()), (None, None, None));
        histogram.add(0.0, 3.0);
        histogram.add(1e9, 1.0);
        assert_eq!(histogram.quantile(0.75), Some(0.0));
        assert!(histogram.quantile(1.0).unwrap() > 9e5);
        assert!((histogram.share_of_zeros().unwrap() - 0.75).abs() < 1e-12);
        histogram.clear();
        assert!(histogram.count().abs() < 1e-12);
    }

    /// Guarantees: merging is the same as recording together.
    #[test]
    fn merge_is_recording_together() {
        let (mut one, mut two, mut both) = (LogHistogram::new(), LogHistogram::new(), LogHistogram::new());
        for (value, weight) in [(0.0, 1.0), (0.5, 2.0), (3.0, 4.0)] {
            one.add(value, weight);
            two.add(value * 2.0, 1.0);
            both.add(value, weight);
            both.add(value * 2.0, 1.0);
        }
        one.merge(&two);
        assert_eq!(one.quantile(0.9), both.quantile(0.9));
        assert!((one.mean().unwrap() - both.mean().unwrap()).abs() < 1e-12);
    }
}
