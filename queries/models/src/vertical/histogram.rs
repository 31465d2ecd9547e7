//! A histogram of buckets that widen exponentially and weights that fade: the memory of a year in some hundred numbers.
//!
//! Bucket `n` starts at `first·(ratioⁿ − 1)/(ratio − 1)`. Instead of making every old weight smaller, a new one is made
//! larger, `2^((t − reference)/half-life)`; before that number gets large the reference moves and all weights with it.

/// Half-lives between the reference and a sample before the reference moves.
const FAR: f64 = 100.0;
/// Most buckets that a histogram may have, whatever it is asked for.
const MAX_BUCKETS: i32 = 4096;

/// Where buckets begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buckets {
    first: f64,
    ratio: f64,
    count: i32,
}

/// Weighted values, of which older ones count less.
#[derive(Clone, Debug, PartialEq)]
pub struct DecayingHistogram {
    buckets: Buckets,
    /// Seconds until a weight counts half.
    half_life: f64,
    /// Time at which a sample counts its own weight; `None` before the first.
    reference: Option<f64>,
    weights: Vec<f64>,
}

// === impl Buckets ===

impl Buckets {
    /// Buckets of which the first ends at `first`, each `ratio` times as wide as the one before it, as many as reach `most`.
    /// `None` when that makes no sense (`first` not positive, `ratio` not above 1, `most` not above `first`) or takes
    /// thousands of buckets.
    #[must_use]
    pub fn try_new(first: f64, ratio: f64, most: f64) -> Option<Self> {
        let sensible = first > 0.0 && ratio > 1.0 && most > first && most.is_finite() && ratio.is_finite();
        let exact = ((most * (ratio - 1.0) / first).ln_1p() / ratio.ln()).ceil() + 1.0;
        let count = (1..=MAX_BUCKETS).find(|count| f64::from(*count) >= exact)?;
        sensible.then_some(Self { first, ratio, count })
    }

    /// 0.01 to 1000 cores in 176 buckets.
    #[must_use]
    pub const fn cpu() -> Self {
        Self { first: 0.01, ratio: 1.05, count: 176 }
    }

    /// 10 MB to 1 TB in 176 buckets.
    #[must_use]
    pub const fn memory() -> Self {
        Self { first: 1e7, ratio: 1.05, count: 176 }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> i32 {
        self.count
    }

    /// Where bucket `n` starts.
    #[must_use]
    pub fn start(self, n: i32) -> f64 {
        self.first * (self.ratio.powi(n) - 1.0) / (self.ratio - 1.0)
    }

    /// The value that stands for bucket `n`: its end, so that a request covers what was in it. The last bucket has none.
    fn value(self, n: i32) -> f64 {
        self.start(if n + 1 < self.count { n + 1 } else { n })
    }

    /// The bucket of a value. Logarithms err by a rounding at the edges, so the edges themselves decide.
    fn find(self, value: f64) -> i32 {
        let (mut low, mut high) = (0, self.count - 1);
        while low < high {
            let middle = low + (high - low + 1) / 2;
            if self.start(middle) <= value {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}

// === impl DecayingHistogram ===

impl DecayingHistogram {
    /// An empty histogram. Without a positive `half_life` (seconds) nothing fades.
    #[must_use]
    pub fn new(buckets: Buckets, half_life: f64) -> Self {
        let weights = (0..buckets.count).map(|_| 0.0).collect();
        Self { buckets, half_life, reference: None, weights }
    }

    /// Counts a value at a time (seconds). False when the value is negative, or anything is no number, or the weight is not
    /// positive: such a sample says nothing.
    pub fn add(&mut self, value: f64, weight: f64, time: f64) -> bool {
        if !(value >= 0.0 && value.is_finite() && weight > 0.0 && weight.is_finite() && time.is_finite()) {
            return false;
        }
        let mut reference = *self.reference.get_or_insert(time);
        if self.half_lives(time - reference) > FAR {
            let factor = (-self.half_lives(time - reference)).exp2();
            self.weights.iter_mut().for_each(|weight| *weight *= factor);
            (reference, self.reference) = (time, Some(time));
        }
        let bucket = self.buckets.find(value);
        let weight = weight * self.half_lives(time - reference).exp2();
        if let Some(sum) = usize::try_from(bucket).ok().and_then(|bucket| self.weights.get_mut(bucket)) {
            *sum += weight;
        }
        true
    }

    /// True while nothing counts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.weights.iter().all(|weight| *weight <= 0.0)
    }

    /// The value that the share `share` (0..1) of the weight does not exceed: the end of its bucket. `None` when empty.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<f64> {
        self.quantile(share, |_| 1.0)
    }

    /// The value below which the share `share` (0..1) of the *load* was: each bucket counts its weight times its value, so
    /// that the busy hours count as much as they did (Autopilot's load-adjusted percentile). `None` when empty.
    #[must_use]
    pub fn load_adjusted_percentile(&self, share: f64) -> Option<f64> {
        self.quantile(share, |value| value)
    }

    /// The weighted mean of the buckets' values. `None` when empty.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let total: f64 = self.weights.iter().sum();
        let load: f64 = self.filled().map(|(value, weight)| value * weight).sum();
        (total > 0.0).then(|| load / total)
    }

    fn quantile(&self, share: f64, factor: impl Fn(f64) -> f64) -> Option<f64> {
        if !(0.0..=1.0).contains(&share) {
            return None;
        }
        let total: f64 = self.filled().map(|(value, weight)| weight * factor(value)).sum();
        let mut passed = 0.0;
        let mut last = None;
        for (value, weight) in self.filled() {
            passed += weight * factor(value);
            last = Some(value);
            // What is missing by a rounding does not open another bucket.
            if passed >= share * total * (1.0 - 1e-12) {
                return last;
            }
        }
        last
    }

    /// The buckets that hold anything: value and weight.
    fn filled(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        (0..self.buckets.count)
            .zip(&self.weights)
            .filter(|(_, weight)| **weight > 0.0)
            .map(|(bucket, weight)| (self.buckets.value(bucket), *weight))
    }

    fn half_lives(&self, seconds: f64) -> f64 {
        if self.half_life > 0.0 { seconds / self.half_life } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: f64 = 3600.0;

    fn near(got: f64, expected: f64, relative: f64) -> bool {
        (got - expected).abs() <= relative * expected.abs()
    }

    /// Guarantees: buckets start where those of the VPA do, and there are as many of them for both resources.
    #[test]
    fn buckets_start_at_the_reference_values() {
        let starts = [(1, 0.01), (2, 0.0205), (3, 0.031_525), (10, 0.125_779), (50, 2.093_48), (100, 26.100_25)];
        for (n, start) in starts {
            assert!(near(Buckets::cpu().start(n), start, 5e-6), "{n}: {}", Buckets::cpu().start(n));
            assert!(near(Buckets::memory().start(n), start * 1e9, 5e-6), "{n}");
        }
        assert_eq!(Buckets::try_new(0.01, 1.05, 1000.0), Some(Buckets::cpu()));
        assert_eq!(Buckets::try_new(1e7, 1.05, 1e12), Some(Buckets::memory()));
        assert_eq!((Buckets::cpu().count(), Buckets::memory().count()), (176, 176));
    }

    /// Guarantees: buckets that make no sense cannot be made.
    #[test]
    fn senseless_buckets_are_none() {
        for (first, ratio, most) in [(0.0, 1.05, 1.0), (0.1, 1.0, 1.0), (1.0, 1.05, 0.5), (f64::NAN, 1.05, 1.0), (1e-300, 1.000_1, 1e300)] {
            assert_eq!(Buckets::try_new(first, ratio, most), None, "{first} {ratio} {most}");
        }
    }

    /// Guarantees: a sample one half-life old counts half of a new one, also after the reference has moved.
    #[test]
    fn weights_fade_by_half_lives() {
        for later in [0.0, 150.0 * 24.0 * HOUR] {
            let mut histogram = DecayingHistogram::new(Buckets::cpu(), 24.0 * HOUR);
            assert!(histogram.add(5.0, 1.0, 0.0));
            assert!(histogram.add(1.0, 1.0, later));
            assert!(histogram.add(2.0, 2.0, later + 24.0 * HOUR));
            // Weights relative to the first of the two late ones: 1 and 4.
            let low = histogram.percentile(if later > 0.0 { 0.199 } else { 0.16 });
            let high = histogram.percentile(if later > 0.0 { 0.201 } else { 0.17 });
            assert!(low.is_some_and(|value| near(value, 1.0, 0.08)), "{low:?}");
            assert!(high.is_some_and(|value| near(value, 2.0, 0.08)), "{high:?}");
        }
    }

    /// Guarantees: the load-adjusted percentile weighs time by what was used in it: a tenth of the time at 10 cores and the
    /// rest at 0.1 is nine tenths of the load at 10.
    #[test]
    fn load_counts_as_much_as_it_was() {
        let mut histogram = DecayingHistogram::new(Buckets::cpu(), 12.0 * HOUR);
        for _ in 0..90 {
            assert!(histogram.add(0.1, 1.0, 0.0));
        }
        for _ in 0..10 {
            assert!(histogram.add(10.0, 1.0, 0.0));
        }
        assert!(histogram.percentile(0.5).is_some_and(|value| near(value, 0.1, 0.3)));
        assert!(histogram.percentile(0.9).is_some_and(|value| near(value, 0.1, 0.3)));
        assert!(histogram.load_adjusted_percentile(0.5).is_some_and(|value| near(value, 10.0, 0.06)));
        assert!(histogram.load_adjusted_percentile(0.05).is_some_and(|value| near(value, 0.1, 0.3)));
        assert!(histogram.mean().is_some_and(|value| near(value, 1.09, 0.1)));
    }

    /// Guarantees: without samples there is no answer, and what is no sample is turned away.
    #[test]
    fn nothing_is_not_zero() {
        let mut histogram = DecayingHistogram::new(Buckets::cpu(), 12.0 * HOUR);
        assert_eq!((histogram.percentile(0.9), histogram.mean(), histogram.is_empty()), (None, None, true));
        for (value, weight, time) in
            [(-1.0, 1.0, 0.0), (f64::NAN, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, f64::INFINITY, 0.0), (1.0, 1.0, f64::NAN)]
        {
            assert!(!histogram.add(value, weight, time));
        }
        assert!(histogram.is_empty());
        assert!(histogram.add(0.0, 1.0, 0.0));
        assert_eq!(histogram.percentile(1.5), None);
        assert_eq!(histogram.percentile(0.5), Some(Buckets::cpu().start(1)));
    }

    proptest! {
        /// Guarantees: a percentile is never below the value that it stands for, and above it by one bucket at most.
        #[test]
        fn one_value_is_found_again(value in 0.0_f64..900.0, share in 0.0_f64..1.0) {
            let mut histogram = DecayingHistogram::new(Buckets::cpu(), 12.0 * HOUR);
            prop_assert!(histogram.add(value, 1.0, 0.0));
            let found = histogram.percentile(share).unwrap();
            prop_assert!(found >= value && found <= value * 1.05 + 0.010_001, "{value} {found}");
            prop_assert_eq!(histogram.load_adjusted_percentile(share), Some(found));
        }

        /// Guarantees: percentiles do not fall when their share rises, whatever the samples and their order in time.
        #[test]
        fn percentiles_are_in_order(samples in proptest::collection::vec((0.0_f64..2e3, 0.0_f64..1e7), 1..40)) {
            let mut histogram = DecayingHistogram::new(Buckets::cpu(), 12.0 * HOUR);
            for (value, time) in samples {
                prop_assert!(histogram.add(value, 1.0, time));
            }
            let values: Vec<f64> = (0..=20).map(|i| histogram.percentile(f64::from(i) / 20.0).unwrap()).collect();
            prop_assert!(values.is_sorted(), "{:?}", values);
        }
    }
}
