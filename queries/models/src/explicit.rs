//! Histograms with explicit bucket bounds: exact at their edges, a guess between them.

use crate::counter::Cumulative;

/// Counts of values in `(-∞, b₀], (b₀, b₁], …, (bₙ, ∞)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExplicitHistogram {
    /// Upper edges, increasing; the last bucket has none.
    pub bounds: Vec<f64>,
    /// One count more than there are bounds; empty when the sender gives only count and sum.
    pub counts: Vec<f64>,
    /// Number of values.
    pub count: f64,
    /// Sum of all values; `None` when the sender did not say.
    pub sum: Option<f64>,
}

/// The share of values above a threshold, known exactly only at an edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FractionAbove {
    /// Share of values above `edge`.
    pub fraction: f64,
    /// The edge that was used: the threshold, or the next edge below it.
    pub edge: f64,
    /// Whether the threshold is an edge.
    pub exact: bool,
}

// === impl ExplicitHistogram ===

impl ExplicitHistogram {
    /// Whether counts and bounds fit together. The bucket above the last bound has no bound of its own, not even an infinite one.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        (self.counts.is_empty() && self.bounds.is_empty() || self.counts.len() == self.bounds.len() + 1)
            && self.bounds.is_sorted_by(|a, b| a < b)
            && self.bounds.iter().all(|bound| bound.is_finite())
    }

    /// The share of values above `threshold`. Rounds a threshold between two edges down, which overstates: an objective is
    /// never called met because of an interpolation. `None` when empty or when no edge lies at or below the threshold.
    #[must_use]
    pub fn fraction_above(&self, threshold: f64) -> Option<FractionAbove> {
        let total: f64 = self.counts.iter().sum();
        if !self.is_well_formed() || total <= 0.0 || threshold.is_nan() {
            return None;
        }
        let edge = self.bounds.partition_point(|bound| *bound <= threshold).checked_sub(1)?;
        let below: f64 = self.counts[..=edge].iter().sum();
        let bound = self.bounds[edge];
        Some(FractionAbove { fraction: 1.0 - below / total, edge: bound, exact: bound >= threshold })
    }

    /// The value below which the share `q` of the values lies, interpolated linearly within its bucket; the open buckets at both
    /// ends give their edge. `None` when empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total: f64 = self.counts.iter().sum();
        if !self.is_well_formed() || total <= 0.0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let (target, mut seen) = (q * total, 0.0);
        for (place, count) in self.counts.iter().enumerate() {
            if *count > 0.0 && seen + count >= target {
                let (low, high) = self.edges(place)?;
                return Some(low + (high - low) * (target - seen) / count);
            }
            seen += count;
        }
        self.bounds.last().copied()
    }

    /// Sum of the values, estimated from the middles of the buckets when the sender gave none. `None` when neither is known.
    #[must_use]
    pub fn estimated_sum(&self) -> Option<f64> {
        self.sum.or_else(|| {
            let weigh = |(place, count): (usize, &f64)| self.edges(place).map(|(low, high)| count * 0.5 * (low + high));
            (!self.bounds.is_empty() && self.is_well_formed()).then(|| self.counts.iter().enumerate().filter_map(weigh).sum())
        })
    }

    /// The values as `(representative, count)` pairs, `parts` per bucket and all strictly inside it, so that a sketch of
    /// them keeps every count on its side of each edge.
    #[must_use]
    pub fn points(&self, parts: u32) -> Vec<(f64, f64)> {
        let parts = parts.max(1);
        let mut points = Vec::new();
        if !self.is_well_formed() {
            return points;
        }
        for (place, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let Some((low, high)) = self.edges(place) else { continue };
            let parts = if high > low { parts } else { 1 };
            for part in 0..parts {
                let at = (f64::from(part) + 0.5) / f64::from(parts);
                points.push((low + (high - low) * at, count / f64::from(parts)));
            }
        }
        points
    }

    /// Edges of a bucket. The first is taken to begin at zero when its edge is positive; the last is a point just above its edge.
    fn edges(&self, place: usize) -> Option<(f64, f64)> {
        let (first, last) = (*self.bounds.first()?, *self.bounds.last()?);
        if place == 0 {
            return Some(if first > 0.0 { (0.0, first) } else { (first, first) });
        }
        match self.bounds.get(place) {
            Some(high) => Some((*self.bounds.get(place - 1)?, *high)),
            None => Some((above(last), above(last))),
        }
    }
}

/// The smallest representative of "above this edge" that a sketch of two or three digits still tells from the edge itself.
fn above(edge: f64) -> f64 {
    edge + edge.abs() * 0.01
}

impl Cumulative for ExplicitHistogram {
    fn since(&self, earlier: &Self) -> Option<Self> {
        if self.bounds != earlier.bounds || self.counts.len() != earlier.counts.len() || self.count < earlier.count {
            return None;
        }
        let counts: Vec<f64> = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now - then).collect();
        let sum = self.sum.zip(earlier.sum).map(|(now, then)| now - then);
        let valid = counts.iter().all(|count| *count >= 0.0);
        valid.then(|| Self { bounds: self.bounds.clone(), counts, count: self.count - earlier.count, sum })
    }

    fn scaled(&self, share: f64) -> Self {
        Self {
            bounds: self.bounds.clone(),
            counts: self.counts.iter().map(|count| count * share).collect(),
            count: self.count * share,
            sum: self.sum.map(|sum| sum * share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram() -> ExplicitHistogram {
        ExplicitHistogram { bounds: vec![0.1, 0.25, 0.5], counts: vec![80.0, 15.0, 4.0, 1.0], count: 100.0, sum: Some(9.0) }
    }

    /// Guarantees: at an edge the share above is exact; between edges it is that of the edge below, and marked.
    #[test]
    fn fractions_are_exact_at_edges_only() {
        let at_edge = histogram().fraction_above(0.25).unwrap();
        assert!(at_edge.exact && (at_edge.fraction - 0.05).abs() < 1e-12);
        let between = histogram().fraction_above(0.3).unwrap();
        assert!(!between.exact && (between.fraction - 0.05).abs() < 1e-12 && (between.edge - 0.25).abs() < 1e-12);
        assert_eq!(histogram().fraction_above(0.05), None);
        assert_eq!(ExplicitHistogram::default().fraction_above(1.0), None);
    }

    /// Guarantees: quantiles interpolate linearly within a bucket; the last bucket gives no more than "just above its edge".
    #[test]
    fn quantiles_interpolate() {
        assert!((histogram().quantile(0.4).unwrap() - 0.05).abs() < 1e-12);
        assert!((histogram().quantile(0.95).unwrap() - 0.25).abs() < 1e-12);
        assert!((histogram().quantile(0.97).unwrap() - 0.375).abs() < 1e-12);
        assert!((histogram().quantile(1.0).unwrap() - 0.505).abs() < 1e-12);
    }

    /// Guarantees: the points of a histogram lie on the same side of every edge as its counts do.
    #[test]
    fn points_respect_the_edges() {
        let points = histogram().points(8);
        let above = |edge: f64| points.iter().filter(|(value, _)| *value > edge).map(|(_, count)| count).sum::<f64>();
        assert!((above(0.1) - 20.0).abs() < 1e-9 && (above(0.25) - 5.0).abs() < 1e-9 && (above(0.5) - 1.0).abs() < 1e-9);
    }

    /// Guarantees: growth is per bucket; changed bounds or a bucket that shrank are a reset.
    #[test]
    fn growth_per_bucket() {
        let mut later = histogram();
        later.counts[1] += 5.0;
        later.count += 5.0;
        let growth = later.since(&histogram()).unwrap();
        assert_eq!(growth.counts, [0.0, 5.0, 0.0, 0.0]);
        assert_eq!(histogram().since(&later), None);
        later.bounds[0] = 0.05;
        assert_eq!(later.since(&histogram()), None);
    }

    /// Guarantees: without a sum the middle of each bucket stands for its values.
    #[test]
    fn sums_are_estimated_when_missing() {
        let unknown = ExplicitHistogram { sum: None, ..histogram() };
        let expected = 80.0 * 0.05 + 15.0 * 0.175 + 4.0 * 0.375 + 0.505;
        assert!((unknown.estimated_sum().unwrap() - expected).abs() < 1e-9);
        assert_eq!(histogram().estimated_sum(), Some(9.0));
    }

    /// Guarantees: what is not known is not zero: without bounds there is nothing to estimate a sum from, and an infinite bound is
    /// no bound.
    #[test]
    fn sums_without_bounds_are_unknown() {
        let unbounded = ExplicitHistogram { bounds: Vec::new(), counts: vec![4.0], count: 4.0, sum: None };
        assert_eq!((unbounded.is_well_formed(), unbounded.estimated_sum()), (true, None));
        let mut infinite = histogram();
        infinite.bounds[2] = f64::INFINITY;
        assert!(!infinite.is_well_formed());
    }
}
