//! What is usual among the last measurements: a burst that is over soon is not.

use std::collections::VecDeque;

/// Measurements that are compared: what lasts for less than half of them is passed over.
const COUNT: usize = 9;

/// The last measurements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent(VecDeque<f64>);

// === impl Recent ===

impl Recent {
    /// Takes a measurement; the median of the last nine, the lower one of two.
    pub fn median(&mut self, value: f64) -> f64 {
        if self.0.len() == COUNT {
            let _ = self.0.pop_front();
        }
        self.0.push_back(value);
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() - 1) / 2).copied().unwrap_or(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: four outliers in a row are passed over, a change that lasts is not, and the first measurement counts.
    #[test]
    fn bursts_are_passed_over() {
        let mut recent = Recent::default();
        let found = [1.0, 9.0, 1.1, 1.0, 1.2, 1.0, 1.1, 1.0, 1.0].map(|value| recent.median(value));
        assert!(found.iter().all(|median| *median <= 1.1), "{found:?}");
        assert!([9.0, 9.0, 9.0].iter().all(|value| recent.median(*value) < 2.0));
        let after: Vec<f64> = (0..3).map(|_| recent.median(9.0)).collect();
        assert!(after[2] > 8.0, "{after:?}");
    }
}
