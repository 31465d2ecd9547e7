//! Up at once, down with care: what too little costs is not what too much costs.

use std::collections::VecDeque;

/// Fewer replicas are worth a change when the demand is at most this share of the supply.
pub const DOWN_TOLERANCE: f64 = 0.9;
/// Demands that are remembered at most.
const REMEMBERED_MOST: usize = 4096;

/// The largest demand of a stretch of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Stabilizer {
    seconds: f64,
    /// Times and demands, times rising and demands falling: what a newer, larger demand covers is forgotten.
    demands: VecDeque<(f64, f64)>,
}

/// Whether so much less is demanded than supplied that replicas should go.
#[must_use]
pub fn is_worth_shrinking(demand: f64, supply: f64) -> bool {
    demand <= DOWN_TOLERANCE * supply
}

// === impl Stabilizer ===

impl Stabilizer {
    /// Remembers demands for so many seconds.
    #[must_use]
    pub fn new(seconds: f64) -> Self {
        Self { seconds, demands: VecDeque::new() }
    }

    /// Takes note of a demand at a time in seconds and gives the largest that is remembered. Times must not fall.
    pub fn largest(&mut self, at: f64, demand: f64) -> f64 {
        while self.demands.back().is_some_and(|(_, other)| *other <= demand) {
            self.demands.pop_back();
        }
        // Of too many, the newest two count as the larger of them: too much for a while, never too little.
        let last = if self.demands.len() >= REMEMBERED_MOST { self.demands.pop_back() } else { None };
        self.demands.push_back((at, last.map_or(demand, |(_, larger)| larger)));
        while self.demands.front().is_some_and(|(then, _)| at - then >= self.seconds) && self.demands.len() > 1 {
            self.demands.pop_front();
        }
        self.demands.front().map_or(demand, |(_, largest)| *largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: however many demands fall one after the other, never less is remembered than there was.
    #[test]
    fn too_many_are_not_too_little() {
        let mut stabilizer = Stabilizer::new(10_000.0);
        let demand = |second: i32| f64::from(10_000 - second);
        (0..5000).for_each(|second| assert!((stabilizer.largest(f64::from(second), demand(second)) - 10_000.0).abs() < 1e-9));
        assert!(stabilizer.demands.len() <= REMEMBERED_MOST);
        assert!(stabilizer.largest(14_500.0, 0.0) >= demand(4501));
    }

    /// Guarantees: the largest demand of the last minute, and none that is older.
    #[test]
    fn remembers_the_largest() {
        let mut stabilizer = Stabilizer::new(60.0);
        let found: Vec<f64> = [(0.0, 5.0), (15.0, 3.0), (30.0, 4.0), (59.0, 1.0), (60.0, 1.0), (90.0, 1.0), (91.0, 7.0)]
            .into_iter()
            .map(|(at, demand)| stabilizer.largest(at, demand))
            .collect();
        assert_eq!(found, [5.0, 5.0, 5.0, 5.0, 4.0, 1.0, 7.0]);
    }

    /// Guarantees: nine of ten is worth a change, a little more is not.
    #[test]
    fn tolerance_downwards() {
        assert!(is_worth_shrinking(9.0, 10.0) && !is_worth_shrinking(9.1, 10.0));
    }
}
