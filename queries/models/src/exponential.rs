//! OpenTelemetry exponential histograms: downscaling, merging, differencing, quantiles.
//!
//! Bucket `i` of scale `s` holds values in `(base^i, base^(i+1)]` with `base = 2^(2^-s)`; one scale lower, two neighbours become one.

use crate::counter::Cumulative;

/// Buckets that one side may span after a merge; more is answered by a lower scale.
const MAX_BUCKETS: usize = 4096;
/// Scales the specification allows.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;

/// Buckets of one sign: `counts[j]` belongs to bucket `offset + j`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// Index of the first bucket.
    pub offset: i32,
    /// Counts, possibly fractional after scaling.
    pub counts: Vec<f64>,
}

/// An exponential histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialHistogram {
    /// Resolution; larger is finer.
    pub scale: i32,
    /// Count of values within ± `zero_threshold`.
    pub zero_count: f64,
    /// Largest magnitude that counts as zero.
    pub zero_threshold: f64,
    /// Values above zero.
    pub positive: Buckets,
    /// Magnitudes of values below zero.
    pub negative: Buckets,
    /// Sum of all values; `None` when the sender did not say.
    pub sum: Option<f64>,
}

// === impl Buckets ===

impl Buckets {
    /// Index one past the last bucket.
    fn end(&self) -> i64 {
        i64::from(self.offset) + i64::try_from(self.counts.len()).unwrap_or(i64::MAX)
    }

    fn total(&self) -> f64 {
        self.counts.iter().sum()
    }

    /// Every bucket as (index, count), empty ones left out.
    fn iter(&self) -> impl DoubleEndedIterator<Item = (i32, f64)> + '_ {
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0.0)
            .map(|(place, count)| (self.offset.saturating_add(i32::try_from(place).unwrap_or(i32::MAX)), *count))
    }

    /// Every `2^by` neighbours become one bucket. The shift is arithmetic, so negative indices round down too.
    fn downscaled(&self, by: u32) -> Self {
        let by = by.min(31);
        let offset = self.offset >> by;
        let mut counts = Vec::new();
        for (index, count) in self.iter() {
            let place = usize::try_from((index >> by) - offset).unwrap_or(0);
            if counts.len() <= place {
                counts.resize(place + 1, 0.0);
            }
            counts[place] += count;
        }
        Self { offset, counts }
    }

    /// Adds `sign` times the buckets of the same scale. `None` when the result would span too many buckets.
    fn add(&mut self, other: &Self, sign: f64) -> Option<()> {
        if other.counts.is_empty() {
            return Some(());
        }
        if self.counts.is_empty() {
            self.offset = other.offset;
        }
        let (offset, end) = (self.offset.min(other.offset), self.end().max(other.end()));
        let length = usize::try_from(end - i64::from(offset)).ok().filter(|length| *length <= MAX_BUCKETS)?;
        let front = usize::try_from(i64::from(self.offset) - i64::from(offset)).ok()?;
        self.counts.splice(0..0, std::iter::repeat_n(0.0, front));
        self.counts.resize(length, 0.0);
        self.offset = offset;
        let shift = usize::try_from(i64::from(other.offset) - i64::from(offset)).ok()?;
        for (place, count) in other.counts.iter().enumerate() {
            self.counts[shift + place] += sign * count;
        }
        Some(())
    }
}

// === impl ExponentialHistogram ===

impl ExponentialHistogram {
    /// Number of values.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.zero_count + self.positive.total() + self.negative.total()
    }

    /// The same values at a lower resolution; a scale that is not lower leaves it as it is.
    #[must_use]
    pub fn downscaled(&self, scale: i32) -> Self {
        let by = u32::try_from(i64::from(self.scale) - i64::from(scale)).unwrap_or(0);
        if by == 0 {
            return self.clone();
        }
        Self { scale, positive: self.positive.downscaled(by), negative: self.negative.downscaled(by), ..self.clone() }
    }

    /// Adds another histogram: both at the smaller scale, the larger zero threshold for both.
    pub fn merge(&mut self, other: &Self) {
        self.combine(other, 1.0);
    }

    /// The value below which the share `q` of the values lies. Within a bucket it is interpolated log-linearly. `None` when empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.count();
        if !(total > 0.0 && (0.0..=1.0).contains(&q)) {
            return None;
        }
        let (target, mut seen) = (q * total, 0.0);
        for (index, count) in self.negative.iter().rev() {
            if seen + count >= target {
                return Some(-self.within(index, 1.0 - (target - seen) / count));
            }
            seen += count;
        }
        if self.zero_count > 0.0 {
            seen += self.zero_count;
            if seen >= target {
                return Some(0.0);
            }
        }
        let mut last = None;
        for (index, count) in self.positive.iter() {
            if seen + count >= target {
                return Some(self.within(index, (target - seen) / count));
            }
            seen += count;
            last = Some(index);
        }
        Some(last.map_or(0.0, |index| self.within(index, 1.0))) // rounding left the target just above the total
    }

    /// Mean from the geometric mid-points of the buckets, for senders that do not give a sum. `None` when empty.
    #[must_use]
    pub fn mean_of_buckets(&self) -> Option<f64> {
        let total = self.count();
        let weigh = |buckets: &Buckets| buckets.iter().map(|(index, count)| count * self.within(index, 0.5)).sum::<f64>();
        (total > 0.0).then(|| (weigh(&self.positive) - weigh(&self.negative)) / total)
    }

    /// The values as `(representative, count)` pairs, `parts` of them per bucket, for a sketch that takes weighted values.
    #[must_use]
    pub fn points(&self, parts: u32) -> Vec<(f64, f64)> {
        let parts = parts.max(1);
        let mut points = Vec::with_capacity(self.positive.counts.len() + self.negative.counts.len() + 1);
        for (buckets, sign) in [(&self.negative, -1.0), (&self.positive, 1.0)] {
            for (index, count) in buckets.iter() {
                for part in 0..parts {
                    let at = (f64::from(part) + 0.5) / f64::from(parts);
                    points.push((sign * self.within(index, at), count / f64::from(parts)));
                }
            }
        }
        if self.zero_count > 0.0 {
            points.push((0.0, self.zero_count));
        }
        points
    }

    /// The value at the share `at` of bucket `index`, on a logarithmic scale.
    fn within(&self, index: i32, at: f64) -> f64 {
        ((f64::from(index) + at) * (-f64::from(self.scale)).exp2()).exp2()
    }

    fn combine(&mut self, other: &Self, sign: f64) {
        let mut scale = self.scale.min(other.scale);
        loop {
            let mut sum = self.downscaled(scale);
            let other = other.downscaled(scale);
            let fits = sum.positive.add(&other.positive, sign).and_then(|()| sum.negative.add(&other.negative, sign));
            if fits.is_some() || scale <= *SCALES.start() {
                sum.zero_count += sign * other.zero_count;
                sum.zero_threshold = sum.zero_threshold.max(other.zero_threshold);
                sum.sum = sum.sum.zip(other.sum).map(|(left, right)| left + sign * right);
                sum.absorb_zero();
                *self = sum;
                return;
            }
            scale -= 1;
        }
    }

    /// Moves buckets that lie wholly within the zero threshold into the zero count.
    fn absorb_zero(&mut self) {
        if self.zero_threshold <= 0.0 {
            return;
        }
        for positive in [true, false] {
            let buckets = if positive { &self.positive } else { &self.negative };
            let inside: Vec<usize> = (0..buckets.counts.len())
                .filter(|place| {
                    let index = buckets.offset.saturating_add(i32::try_from(*place).unwrap_or(i32::MAX));
                    self.within(index, 1.0) <= self.zero_threshold
                })
                .collect();
            let buckets = if positive { &mut self.positive } else { &mut self.negative };
            for place in inside {
                self.zero_count += std::mem::take(&mut buckets.counts[place]);
            }
        }
    }
}

impl Cumulative for ExponentialHistogram {
    fn since(&self, earlier: &Self) -> Option<Self> {
        // A cumulative series only ever loses resolution; a finer scale than before means that it began again.
        if self.scale > earlier.scale || self.count() < earlier.count() {
            return None;
        }
        let mut growth = self.clone();
        growth.combine(earlier, -1.0);
        let counts = growth.positive.counts.iter().chain(&growth.negative.counts).chain([&growth.zero_count]);
        let valid = counts.into_iter().all(|count| *count >= 0.0);
        valid.then_some(growth)
    }

    fn scaled(&self, share: f64) -> Self {
        let mut scaled = self.clone();
        for count in scaled.positive.counts.iter_mut().chain(&mut scaled.negative.counts) {
            *count *= share;
        }
        scaled.zero_count *= share;
        scaled.sum = scaled.sum.map(|sum| sum * share);
        scaled
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "counts and powers of two are exact")]
mod tests {
    use super::*;

    fn reference() -> ExponentialHistogram {
        let counts = vec![10.0, 40.0, 120.0, 300.0, 250.0, 150.0, 80.0, 30.0, 15.0, 5.0];
        ExponentialHistogram { scale: 3, positive: Buckets { offset: -30, counts }, ..Default::default() }
    }

    /// Guarantees: quantiles and mean of the reference histogram to nine decimals.
    #[test]
    fn quantiles_of_the_reference_histogram() {
        let histogram = reference();
        for (q, value) in [(0.50, 0.106_210_625), (0.90, 0.129_128_110), (0.95, 0.136_313_467), (0.99, 0.157_490_131)] {
            let actual = histogram.quantile(q).unwrap();
            assert!((actual - value).abs() < 1e-9, "{q}: {actual}");
        }
        assert!((histogram.mean_of_buckets().unwrap() - 0.108_719_280).abs() < 1e-9);
        assert_eq!(ExponentialHistogram::default().quantile(0.5), None);
    }

    /// Guarantees: downscaling joins neighbours by arithmetic shift, also at negative indices, and keeps the count.
    #[test]
    fn downscaling_joins_neighbours() {
        let buckets = Buckets { offset: -3, counts: vec![1.0, 2.0, 4.0, 8.0, 16.0] }; // indices -3 .. 1
        let joined = buckets.downscaled(1); // -3,-2 → -2,-1; -1 → -1; 0,1 → 0
        assert_eq!(joined, Buckets { offset: -2, counts: vec![1.0, 6.0, 24.0] });
        assert_eq!(reference().downscaled(0).count(), 1000.0);
        assert_eq!(reference().downscaled(5), reference());
    }

    /// Guarantees: a merge happens at the smaller scale with the larger zero threshold, which swallows buckets below it.
    #[test]
    fn merging_takes_the_coarser_side() {
        let mut left = ExponentialHistogram {
            scale: 1,
            positive: Buckets { offset: 0, counts: vec![1.0, 1.0] },
            sum: Some(3.0),
            ..Default::default()
        };
        let right = ExponentialHistogram {
            scale: 0,
            zero_count: 2.0,
            zero_threshold: 0.5,
            positive: Buckets { offset: -3, counts: vec![7.0, 0.0, 0.0, 5.0] },
            sum: Some(8.0),
            ..Default::default()
        };
        left.merge(&right);
        assert_eq!(left.scale, 0);
        assert_eq!(left.zero_count, 9.0); // bucket -3 of scale 0 is (1/8, 1/4]
        assert_eq!(left.count(), 16.0);
        assert_eq!(left.sum, Some(11.0));
        assert_eq!(left.positive.iter().collect::<Vec<_>>(), [(0, 7.0)]);
    }

    /// Guarantees: the difference of two cumulative states is what was added, also after the sender lowered its scale.
    #[test]
    fn differences() {
        let earlier = reference();
        let mut later = reference();
        later.merge(&reference());
        assert_eq!(later.since(&earlier).unwrap(), reference());
        assert_eq!(later.downscaled(1).since(&earlier).unwrap().count(), 1000.0);
        assert_eq!(earlier.since(&later), None);
        assert_eq!(later.since(&earlier.downscaled(2)), None);
    }

    /// Guarantees: histograms that are far apart merge at a lower scale instead of growing without bound.
    #[test]
    fn far_apart_buckets_lower_the_scale() {
        let at = |offset| ExponentialHistogram { scale: 20, positive: Buckets { offset, counts: vec![1.0] }, ..Default::default() };
        let mut wide = at(-20_000_000);
        wide.merge(&at(20_000_000));
        assert_eq!(wide.count(), 2.0);
        assert!(wide.positive.counts.len() <= MAX_BUCKETS);
    }

    /// Guarantees: negative values come first in the order of quantiles.
    #[test]
    fn negative_values_are_smallest() {
        let histogram = ExponentialHistogram {
            negative: Buckets { offset: 0, counts: vec![1.0, 1.0] }, // (-2,-1] and (-4,-2]
            zero_count: 1.0,
            positive: Buckets { offset: 0, counts: vec![1.0] },
            ..Default::default()
        };
        assert_eq!(histogram.quantile(0.0), Some(-4.0));
        assert_eq!(histogram.quantile(0.5), Some(-1.0));
        assert_eq!(histogram.quantile(0.7), Some(0.0));
        assert_eq!(histogram.quantile(1.0), Some(2.0));
    }
}
