//! Fork and join: a request that waits for the slowest of several branches.
//!
//! Sources: Nelson and Tantawi (1988) for the mean; for quantiles the bound of independent branches, which is near because branches
//! that see the same arrivals are late together; the generalised exponential law (Nguyen and others) for branches of which only
//! mean and variance are known.

use super::root::falling;

/// Branches up to which the mean is known.
const BRANCHES_MAX: u32 = 32;
/// Most branches of which quantiles are answered.
const FAN_OUT_MAX: u32 = 1_000_000;

/// Sojourn of a branch of which only mean and variance are known: F(x) = (1 - e^(-x/β))^α.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeneralizedExponential {
    shape: f64,
    scale: f64,
}

/// Mean time until all of `branches` M/M/1 branches with the same arrivals are done, when one takes `mean_sojourn` at
/// `utilization`. Exact for two branches. `None` beyond 32, where it was never checked, and for senseless input.
#[must_use]
pub fn mean_of_slowest(branches: u32, utilization: f64, mean_sojourn: f64) -> Option<f64> {
    if !((1..=BRANCHES_MAX).contains(&branches) && (0.0..1.0).contains(&utilization) && mean_sojourn > 0.0) {
        return None;
    }
    if branches == 1 {
        return Some(mean_sojourn);
    }
    let ratio = harmonic(branches) / harmonic(2);
    let factor = ratio + (1.0 - ratio) * 4.0 * utilization / 11.0;
    Some(factor * (12.0 - utilization) / 8.0 * mean_sojourn)
}

/// Upper bound on the mean until all of `branches` exponential sojourns are done.
#[must_use]
pub fn mean_of_slowest_bound(branches: u32, mean_sojourn: f64) -> Option<f64> {
    ((1..=FAN_OUT_MAX).contains(&branches) && mean_sojourn > 0.0).then(|| harmonic(branches) * mean_sojourn)
}

/// Upper bound on the `quantile` of the time until all of `branches` exponential sojourns are done; a tight one.
#[must_use]
pub fn quantile_of_slowest(branches: u32, mean_sojourn: f64, quantile: f64) -> Option<f64> {
    let valid = (1..=FAN_OUT_MAX).contains(&branches) && mean_sojourn > 0.0 && quantile > 0.0 && quantile < 1.0;
    valid.then(|| -late(quantile, f64::from(branches)).ln() * mean_sojourn)
}

/// The `quantile` of the time until independent branches with these tails P(T > t) are done. `None` without branches, outside
/// (0, 1), and when a branch may take for ever.
#[must_use]
pub fn quantile_of_different(tails: &[&dyn Fn(f64) -> f64], quantile: f64) -> Option<f64> {
    let valid = !tails.is_empty() && quantile > 0.0 && quantile < 1.0;
    let late = |t: f64| -(tails.iter().map(|tail| (-tail(t).clamp(0.0, 1.0)).ln_1p()).sum::<f64>()).exp_m1();
    valid.then(|| falling(late, 1.0 - quantile, 0.0, 1e-10)).flatten()
}

/// The share of each branch that may be late when all of `branches` must be in time with probability `quantile`.
fn late(quantile: f64, branches: f64) -> f64 {
    -(quantile.ln() / branches).exp_m1()
}

fn harmonic(count: u32) -> f64 {
    (1..=count).map(|n| 1.0 / f64::from(n)).sum()
}

// === impl GeneralizedExponential ===

impl GeneralizedExponential {
    /// The law of this mean and variance. `None` unless both are positive, and for squared coefficients of variation outside
    /// [0.02, 100].
    #[must_use]
    pub fn from_moments(mean: f64, variance: f64) -> Option<Self> {
        let scv = variance / (mean * mean);
        if !(mean > 0.0 && mean.is_finite() && (0.02..=100.0).contains(&scv)) {
            return None;
        }
        let moments = |shape: f64| (digamma(shape + 1.0) - digamma(1.0), trigamma(1.0) - trigamma(shape + 1.0));
        let (mut low, mut high): (f64, f64) = (-12.0, 24.0);
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            let (mean, variance) = moments(middle.exp());
            if variance > scv * mean * mean { low = middle } else { high = middle }
        }
        let shape = (0.5 * (low + high)).exp();
        Some(Self { shape, scale: mean / moments(shape).0 })
    }

    /// P(T > t).
    #[must_use]
    pub fn tail(&self, t: f64) -> f64 {
        if t <= 0.0 { 1.0 } else { -(self.shape * (-(-t / self.scale).exp()).ln_1p()).exp_m1() }
    }

    /// The `quantile` of the slowest of `branches` independent branches of this law. `None` without branches and outside (0, 1).
    #[must_use]
    pub fn quantile_of_slowest(&self, branches: u32, quantile: f64) -> Option<f64> {
        let valid = branches > 0 && quantile > 0.0 && quantile < 1.0;
        valid.then(|| -self.scale * late(quantile, self.shape * f64::from(branches)).ln())
    }
}

/// ψ(x) for x > 0: recurrence up to where the asymptotic series holds.
fn digamma(x: f64) -> f64 {
    let (mut x, mut sum) = (x, 0.0);
    while x < 10.0 {
        sum -= 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    sum + x.ln() - 0.5 / x - square * (1.0 / 12.0 - square * (1.0 / 120.0 - square / 252.0))
}

/// ψ'(x) for x > 0, in the same way.
fn trigamma(x: f64) -> f64 {
    let (mut x, mut sum) = (x, 0.0);
    while x < 10.0 {
        sum += 1.0 / (x * x);
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    sum + 1.0 / x + 0.5 * square + square / x * (1.0 / 6.0 - square * (1.0 / 30.0 - square / 42.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (u32, f64, f64, f64, f64, [(f64, f64); 3]);

    /// Branches, utilization; bound on the mean, Nelson and Tantawi's mean, simulated mean; bound and simulation of P95, P99 and
    /// P99.9. -1 where there is none.
    const TABLE: [Row; 15] = [
        (2, 0.5, 3.0, 2.875, 2.871, [(7.352_276_7, 7.25), (10.591_616, 10.52), (15.201_305, 15.2)]),
        (2, 0.8, 7.5, 7.0, 7.017, [(18.380_692, 18.2), (26.479_04, 26.7), (38.003_262, 38.6)]),
        (2, 0.9, 15.0, 13.875, 13.99, [(36.761_383, 36.8), (52.958_079, 53.7), (76.006_524, 78.4)]),
        (4, 0.5, 4.166_666_7, 3.789_772_7, -1.0, [(8.725_788_8, -1.0), (11.975_399, -1.0), (16.587_349, -1.0)]),
        (4, 0.9, 20.833_333, 17.504_924, -1.0, [(43.628_944, -1.0), (59.876_996, -1.0), (82.936_745, -1.0)]),
        (8, 0.5, 5.435_714_3, 4.784_821_4, 4.853, [(10.105_682, 9.85), (13.360_438, 13.25), (17.973_518, 17.9)]),
        (8, 0.8, 13.589_286, 11.03, 11.40, [(25.264_205, 24.3), (33.401_094, 33.0), (44.933_796, 45.3)]),
        (8, 0.9, 27.178_571, 21.453_393, 22.45, [(50.528_409, 48.9), (66.802_188, 65.5), (89.867_591, 86.6)]),
        (16, 0.9, 33.807_29, 25.578_264, -1.0, [(57.443_865, -1.0), (73.730_52, -1.0), (96.798_751, -1.0)]),
        (32, 0.5, 8.116_990_4, 6.887_185_6, 6.887, [(12.873_465, 12.35), (16.132_084, 15.87), (20.746_013, 20.6)]),
        (32, 0.8, 20.292_476, 15.466_293, 15.81, [(32.183_663, 30.2), (40.330_211, 39.3), (51.865_033, 50.4)]),
        (32, 0.9, 40.584_952, 29.795_818, 30.65, [(64.367_325, 59.4), (80.660_422, 76.4), (103.730_07, 97.7)]),
        (100, 0.8, 25.936_888, -1.0, 19.28, [(37.878_109, 34.6), (46.026_848, 44.1), (57.562_151, 57.1)]),
        (100, 0.9, 51.873_775, -1.0, 37.19, [(75.756_219, 67.5), (92.053_697, 85.4), (115.124_3, 106.6)]),
        (1000, 0.9, 74.854_709, -1.0, -1.0, [(98.779_762, -1.0), (115.079_1, -1.0), (138.150_11, -1.0)]),
    ];

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found / expected - 1.0).abs() <= relative, "{found} is not {expected}");
    }

    /// Guarantees: bounds and means agree with the reference to its digits; simulated means are within 5 % of the approximation,
    /// and simulated quantiles from a tenth below the bound to the noise of the simulation above it.
    #[test]
    fn matches_the_reference() {
        for (branches, utilization, bound, mean, simulated, quantiles) in TABLE {
            let sojourn = 1.0 / (1.0 - utilization);
            close(mean_of_slowest_bound(branches, sojourn).unwrap(), bound, 1e-7);
            match mean_of_slowest(branches, utilization, sojourn) {
                Some(found) => {
                    close(found, mean, 1e-7);
                    assert!(simulated < 0.0 || (found / simulated - 1.0).abs() < 0.05, "{branches} {utilization}");
                }
                None => assert!(mean < 0.0),
            }
            for (quantile, (bound, simulated)) in [0.95, 0.99, 0.999].into_iter().zip(quantiles) {
                close(quantile_of_slowest(branches, sojourn, quantile).unwrap(), bound, 1e-7);
                assert!(simulated < 0.0 || (-0.11..0.035).contains(&(simulated / bound - 1.0)), "{branches} {utilization} {quantile}");
            }
        }
    }

    /// Guarantees: of exponential branches the black box is the bound itself; its moments are those that were asked for.
    #[test]
    fn black_boxes() {
        let exponential = GeneralizedExponential::from_moments(5.0, 25.0).unwrap();
        for quantile in [0.5, 0.95, 0.999] {
            close(exponential.quantile_of_slowest(8, quantile).unwrap(), quantile_of_slowest(8, 5.0, quantile).unwrap(), 1e-6);
        }
        for scv in [0.1, 0.5, 2.0, 6.0] {
            let law = GeneralizedExponential::from_moments(2.0, 4.0 * scv).unwrap();
            // Moments as integrals of the tail and of t times the tail.
            let (step, mut mean, mut square) = (0.002, 0.0, 0.0);
            for place in 0..100_000 {
                let t = (f64::from(place) + 0.5) * step;
                mean += law.tail(t) * step;
                square += 2.0 * t * law.tail(t) * step;
            }
            close(mean, 2.0, 5e-3);
            close(square / (mean * mean) - 1.0, scv, 2e-2);
            close(law.tail(law.quantile_of_slowest(1, 0.99).unwrap()), 0.01, 1e-9);
        }
        assert_eq!(GeneralizedExponential::from_moments(1.0, 0.0), None);
        assert_eq!(GeneralizedExponential::from_moments(0.0, 1.0), None);
    }

    /// Guarantees: digamma and trigamma have their known values.
    #[test]
    fn polygammas() {
        close(digamma(1.0), -0.577_215_664_901_532_9, 1e-9);
        close(trigamma(1.0), std::f64::consts::PI.powi(2) / 6.0, 1e-9);
        close(digamma(0.5), -1.963_510_026_021_423_5, 1e-9);
    }

    /// Guarantees: different branches are no later than the slowest as often as all of them, and the slowest alone is a bound from
    /// below.
    #[test]
    fn different_branches() {
        let (fast, slow) = (|t: f64| (-t).exp(), |t: f64| (-t / 3.0).exp());
        let found = quantile_of_different(&[&fast, &slow], 0.99).unwrap();
        assert!(found >= quantile_of_slowest(1, 3.0, 0.99).unwrap() && found <= quantile_of_slowest(2, 3.0, 0.99).unwrap());
        close((1.0 - fast(found)) * (1.0 - slow(found)), 0.99, 1e-9);
        close(quantile_of_different(&[&slow, &slow], 0.95).unwrap(), quantile_of_slowest(2, 3.0, 0.95).unwrap(), 1e-8);
        assert_eq!(quantile_of_different(&[], 0.99), None);
        assert_eq!(quantile_of_different(&[&|_| 0.5], 0.99), None);
        assert_eq!((mean_of_slowest(33, 0.5, 1.0), mean_of_slowest(4, 1.0, 1.0), quantile_of_slowest(0, 1.0, 0.9)), (None, None, None));
    }
}
