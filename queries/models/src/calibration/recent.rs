//! What is usual among the last measurements: a burst that is over soon is not.

use std::collections::VecDeque;

/// The last measurements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent(VecDeque<f64>);

// === impl Recent ===

impl Recent {
    /// Measurements that are compared at most: what lasts for less than half of them is passed over.
    pub const COUNT: usize = 9;

    /// Takes a measurement; gives the median of the last so many ones (nine at most), the lower one of two.
    pub fn observe(&mut self, value: f64, count: usize) -> f64 {
        while self.0.len() >= count.clamp(1, Self::COUNT) {
            let _ = self.0.pop_front();
        }
        self.0.push_back(value);
        self.middle().unwrap_or(value)
    }

    /// The median of what there is, the lower one of two.
    #[must_use]
    pub fn middle(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: four outliers in a row are passed over, a change that lasts is not, and the first measurement counts.
    #[test]
    fn bursts_are_passed_over() {
        let mut recent = Recent::default();
        let found = [1.0, 9.0, 1.1, 1.0, 1.2, 1.0, 1.1, 1.0, 1.0].map(|value| recent.observe(value, Recent::COUNT));
        assert!(found.iter().all(|median| *median <= 1.1), "{found:?}");
        assert!([9.0, 9.0, 9.0].iter().all(|value| recent.observe(*value, Recent::COUNT) < 2.0));
        let after: Vec<f64> = (0..3).map(|_| recent.observe(9.0, Recent::COUNT)).collect();
        assert!(after[2] > 8.0, "{after:?}");
    }
}
