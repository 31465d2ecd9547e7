//! How far a number from a window may be trusted: Poisson intervals, effective sample size, and the sample sizes below which a
//! quantile says nothing. A view carries these so that a policy can refuse to act on thin data.

use crate::special::{binomial_cdf, gamma_quantile};

/// Both tails of a 95 % interval.
const TAIL: f64 = 0.025;

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The exact 95 % interval for the mean of a Poisson count `count` (need not be whole: an effective count is not).
/// `None` for a negative or unbounded count.
#[must_use]
pub fn poisson_interval(count: f64) -> Option<Interval> {
    if !(count >= 0.0 && count.is_finite()) {
        return None;
    }
    let low = if count > 0.0 { gamma_quantile(count, TAIL)? } else { 0.0 };
    Some(Interval { low, high: gamma_quantile(count + 1.0, 1.0 - TAIL)? })
}

/// Half of the exact 95 % interval relative to the count; 0.2 means "known to ± 20 %". `None` for a count of zero.
#[must_use]
pub fn relative_half_width(count: f64) -> Option<f64> {
    if count <= 0.0 {
        return None;
    }
    let interval = poisson_interval(count)?;
    Some((interval.high - interval.low) / (2.0 * count))
}

/// How far a number behind which `count` effective samples stand may be trusted, from 0 (not at all) to 1: one minus the relative
/// half-width of its 95 % interval. 100 samples give 0.8, 1000 give 0.94, fewer than about six give 0. `None` without samples.
#[must_use]
pub fn score(count: f64) -> Option<f64> {
    relative_half_width(count).map(|half_width| (1.0 - half_width).max(0.0))
}

/// Effective number of samples of weighted observations: (Σk)² / Σk², zero without observations. `None` when the sums contradict
/// each other.
#[must_use]
pub fn effective_samples(sum: f64, sum_of_squares: f64) -> Option<f64> {
    let none = sum.abs() + sum_of_squares.abs() <= 0.0;
    if none { Some(0.0) } else { (sum_of_squares > 0.0 && sum >= 0.0).then(|| sum * sum / sum_of_squares) }
}

/// Relative standard error of a rate from weighted observations, Poisson arrivals included: √Σk² / Σk.
#[must_use]
pub fn relative_standard_error(sum: f64, sum_of_squares: f64) -> Option<f64> {
    (sum > 0.0 && sum_of_squares >= 0.0).then(|| sum_of_squares.sqrt() / sum)
}

/// Samples that the mean of a service time of squared coefficient of variation `scv` needs to be known to ± `error` (relative).
#[must_use]
pub fn samples_for_mean(scv: f64, error: f64) -> Option<f64> {
    (scv >= 0.0 && error > 0.0).then(|| ((1.96 / error).powi(2) * scv).ceil())
}

/// Fewest samples for which a distribution-free 95 % upper bound on the `q`-quantile exists.
#[must_use]
pub fn samples_for_quantile(q: f64) -> Option<f64> {
    (q > 0.0 && q < 1.0).then(|| (0.05f64.ln() / q.ln()).ceil())
}

/// The ranks (1-based) of the order statistics that enclose the `q`-quantile of `n` samples with 95 % confidence.
/// `None` when `n` is too small for an upper bound.
#[must_use]
pub fn quantile_ranks(n: u32, q: f64) -> Option<(u32, u32)> {
    if n == 0 || !(q > 0.0 && q < 1.0) {
        return None;
    }
    let low = binomial_quantile(TAIL, n, q);
    let high = binomial_quantile(1.0 - TAIL, n, q) + 1;
    (high <= n).then_some((low.max(1), high))
}

/// Relative error of a waiting time that follows from a relative error of the utilization: about 1 / (1 − ρ) as large.
/// `None` at or beyond saturation.
#[must_use]
pub fn wait_amplification(relative_error: f64, utilization: f64) -> Option<f64> {
    (0.0..1.0).contains(&utilization).then(|| relative_error / (1.0 - utilization))
}

/// Smallest `k` with P(X <= k) >= p.
fn binomial_quantile(p: f64, n: u32, q: f64) -> u32 {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if binomial_cdf(f64::from(middle), f64::from(n), q) >= p {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the exact Poisson limits of the reference table, to its printed digits.
    #[test]
    fn poisson_limits_match_the_table() {
        let table = [
            (0.0, 0.0, 3.689, 0.001),
            (1.0, 0.025, 5.572, 0.001),
            (3.0, 0.619, 8.767, 0.001),
            (5.0, 1.623, 11.668, 0.001),
            (10.0, 4.795, 18.390, 0.001),
            (20.0, 12.217, 30.888, 0.001),
            (30.0, 20.241, 42.827, 0.001),
            (50.0, 37.111, 65.919, 0.001),
            (100.0, 81.364, 121.627, 0.001),
            (200.0, 173.24, 229.72, 0.01),
            (400.0, 361.76, 441.19, 0.01),
            (1000.0, 938.97, 1063.95, 0.01),
            (10_000.0, 9804.95, 10_197.95, 0.02),
        ];
        for (count, low, high, tolerance) in table {
            let interval = poisson_interval(count).unwrap();
            assert!((interval.low - low).abs() <= tolerance && (interval.high - high).abs() <= tolerance, "{count}: {interval:?}");
        }
        assert_eq!(poisson_interval(-1.0), None);
        assert_eq!(poisson_interval(f64::NAN), None);
    }

    /// Guarantees: the relative half-widths of the reference table, and none for no events.
    #[test]
    fn half_widths_match_the_table() {
        for (count, percent) in [
            (1.0, 277.0),
            (3.0, 136.0),
            (5.0, 100.0),
            (10.0, 68.0),
            (20.0, 47.0),
            (50.0, 29.0),
            (100.0, 20.0),
            (200.0, 14.0),
            (400.0, 9.9),
            (1000.0, 6.2),
            (10_000.0, 2.0),
        ] {
            let actual = relative_half_width(count).unwrap() * 100.0;
            assert!((actual - percent).abs() <= 0.6, "{count}: {actual}");
        }
        assert_eq!(relative_half_width(0.0), None);
    }

    /// Guarantees: the score grows with the sample from 0 towards 1, and there is none without samples.
    #[test]
    fn scores_grow_with_the_sample() {
        assert_eq!(score(0.0), None);
        assert_eq!(score(4.0), Some(0.0));
        let scores: Vec<f64> = [10.0, 100.0, 1000.0, 1e7].into_iter().filter_map(score).collect();
        assert!(scores.is_sorted() && (scores[1] - 0.80).abs() < 0.01 && scores[3] < 1.0, "{scores:?}");
    }

    /// Guarantees: 500 spans of weight 1 and 50 of weight 100 are worth 60.4 samples, ± 12.9 %.
    #[test]
    fn effective_sample_size_of_mixed_sampling() {
        let (sum, squares) = (5500.0, 500.0 + 50.0 * 10_000.0);
        assert!((effective_samples(sum, squares).unwrap() - 60.44).abs() < 0.01);
        assert!((relative_standard_error(sum, squares).unwrap() - 0.1286).abs() < 0.0001);
        assert_eq!((effective_samples(0.0, 0.0), effective_samples(1.0, 0.0)), (Some(0.0), None));
        assert_eq!(relative_standard_error(0.0, 0.0), None);
    }

    /// Guarantees: the least sample sizes of the reference table.
    #[test]
    fn least_sample_sizes() {
        for (q, n) in [(0.90, 29.0), (0.95, 59.0), (0.99, 299.0), (0.999, 2995.0)] {
            assert_eq!(samples_for_quantile(q), Some(n));
        }
        assert_eq!(samples_for_mean(2.0, 0.1), Some(769.0));
        assert_eq!(samples_for_quantile(1.0), None);
    }

    /// Guarantees: the order-statistic ranks of the reference table.
    #[test]
    fn ranks_match_the_table() {
        for (n, q, ranks) in [
            (1000, 0.99, (983, 997)),
            (3000, 0.99, (2959, 2981)),
            (10_000, 0.99, (9880, 9920)),
            (300, 0.95, (277, 293)),
            (1000, 0.95, (936, 964)),
        ] {
            assert_eq!(quantile_ranks(n, q), Some(ranks), "{n} {q}");
        }
        assert_eq!(quantile_ranks(50, 0.99), None);
    }

    /// Guarantees: near saturation an error of the utilization is amplified, and at saturation nothing is said.
    #[test]
    fn amplification_near_saturation() {
        assert!((wait_amplification(0.1, 0.8).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(wait_amplification(0.1, 1.0), None);
    }
}
