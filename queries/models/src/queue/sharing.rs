//! Processor sharing: all requests present share the servers, each on at most one. What computes behaves like this, because the
//! kernel slices time, and it is the default for services.
//!
//! Sources: the mean is that of M/M/c for every distribution of work (symmetric queues, Kelly); the variance given the work is
//! exact for one server (Yashkov, Ott) and extended to several; a gamma law of these moments per amount of work makes the tail.

use super::erlang::Pool;
use super::root::falling;

/// Relative size of a term that no longer matters.
const PRECISION: f64 = 1e-8;
/// Terms after which a series is taken as converged.
const ITERATIONS: u32 = 10_000;
/// Logarithm of a probability that no sum notices.
const NEVER: f64 = -46.0;

/// How requests are slowed by sharing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    /// Mean sojourn per unit of work; exact for every distribution of work.
    pub mean: f64,
    /// Variance of the slowdown of a very small request.
    pub variance: f64,
    /// Rate at which the slowdown forgets itself, per unit of work.
    pub decorrelation: f64,
}

/// How much longer than alone requests of one size take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// Not at all.
    None,
    /// A gamma law.
    Gamma {
        /// Its shape.
        shape: f64,
        /// Its rate, per unit of time.
        rate: f64,
        /// ln Γ(shape), which takes a third of the time of a tail.
        ln_gamma: f64,
    },
    /// For ever.
    Endless,
}

/// Slowdown by `servers` servers (may be fractional, at least 1) at `utilization`, for work of squared coefficient of variation
/// `scv`. `None` from a utilization of 1 on, where nothing is stationary.
#[must_use]
pub fn slowdown(servers: f64, utilization: f64, scv: f64) -> Option<Slowdown> {
    let valid = (0.0..1.0).contains(&utilization) && scv >= 0.0 && scv.is_finite();
    valid.then(|| Pool::new(servers, utilization * servers).map(|pool| Slowdown::new(&pool, scv))).flatten()
}

/// P(T > t) for work given as `(value, weight)` points, in the unit of `t` of which the mean work is one.
#[must_use]
pub fn sharing_tail(points: &[(f64, f64)], slowdown: &Slowdown, t: f64) -> f64 {
    points.iter().map(|(work, weight)| weight * slowdown.tail(*work, t)).sum()
}

/// The time that the share `1 - quantile` of the requests exceeds, for points of mean 1. `None` outside (0, 1).
#[must_use]
pub fn sharing_quantile(points: &[(f64, f64)], slowdown: &Slowdown, quantile: f64) -> Option<f64> {
    let valid = quantile > 0.0 && quantile < 1.0;
    valid.then(|| falling(|t| sharing_tail(points, slowdown, t), 1.0 - quantile, 0.0, 1e-9)).flatten()
}

// === impl Slowdown ===

impl Slowdown {
    /// The slowdown in a pool for work of squared coefficient of variation `scv`.
    #[must_use]
    pub fn new(pool: &Pool, scv: f64) -> Self {
        let (idle, wait, utilization) = (pool.idle(), pool.wait_probability(), pool.utilization());
        Self {
            mean: 1.0 + wait / idle,
            variance: (wait * (1.0 + utilization) - wait * wait) / (idle * idle),
            decorrelation: (1.0 - utilization) * (idle + wait) * 2.0 / (1.0 + scv),
        }
    }

    /// Variance of the sojourn of a request of `work`.
    #[must_use]
    pub fn sojourn_variance(&self, work: f64) -> f64 {
        let x = self.decorrelation * work;
        let most = self.variance * work * work;
        if x < 1e-4 {
            return most * (1.0 - x / 3.0);
        }
        let decay = 2.0 * self.variance * (x + (-x).exp_m1()) / (self.decorrelation * self.decorrelation);
        decay.min(most)
    }

    /// How much longer than `work` a request of it takes.
    #[must_use]
    pub fn delay(&self, work: f64) -> Delay {
        if !self.mean.is_finite() {
            return Delay::Endless;
        }
        let mean = (self.mean - 1.0) * work;
        let variance = self.sojourn_variance(work);
        if mean <= 0.0 || variance <= 0.0 {
            return Delay::None;
        }
        let shape = mean * mean / variance;
        Delay::Gamma { shape, rate: mean / variance, ln_gamma: ln_gamma(shape) }
    }

    /// P(T > t) of a request of `work`.
    #[must_use]
    pub fn tail(&self, work: f64, t: f64) -> f64 {
        // Which delay it is does not matter then, and takes most of the time.
        if t <= work { 1.0 } else { self.delay(work).tail(t - work) }
    }
}

// === impl Delay ===

impl Delay {
    /// P(D > t).
    #[must_use]
    pub fn tail(&self, t: f64) -> f64 {
        match self {
            _ if t <= 0.0 => 1.0,
            Self::None => 0.0,
            Self::Gamma { shape, rate, ln_gamma } => gamma_tail(*shape, *ln_gamma, t * rate),
            Self::Endless => 1.0,
        }
    }
}

/// P(X > x) of a gamma variable of scale 1, to seven digits: sizing spends its time here, and a model needs no more.
fn gamma_tail(shape: f64, ln_gamma: f64, x: f64) -> f64 {
    let log_front = shape * x.ln() - x - ln_gamma;
    if x < shape + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / shape, 1.0 / shape, shape);
        for _ in 0..ITERATIONS {
            n += 1.0;
            term *= x / n;
            sum += term;
            if term < sum * PRECISION {
                break;
            }
        }
        return (1.0 - log_front.exp() * sum).clamp(0.0, 1.0);
    }
    if log_front < NEVER {
        return 0.0;
    }
    // The continued fraction by its convergents, of which only the ratio matters: one division per step.
    let (mut b, mut i) = (x + 1.0 - shape, 0.0);
    let (mut above, mut below, mut above_last, mut below_last) = (1.0, b, 0.0, 1.0);
    let mut value = above / below;
    for _ in 0..ITERATIONS {
        i += 1.0;
        b += 2.0;
        let a = i * (shape - i);
        let scale = 1.0 / (b * below + a * below_last);
        (above, above_last) = ((b * above + a * above_last) * scale, above * scale);
        (below, below_last) = (1.0, below * scale);
        let change = (above - value).abs();
        value = above;
        if change <= value.abs() * PRECISION {
            break;
        }
    }
    (log_front.exp() * value).clamp(0.0, 1.0)
}

/// ln Γ(x) for x > 0 by Stirling's series, beyond where it is exact enough.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 8.0 {
        product *= x;
        x += 1.0;
    }
    let (inverse, half_log_two_pi) = (1.0 / x, 0.918_938_533_204_672_7);
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + half_log_two_pi + series - f64::ln(product)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::special::gamma_p;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found / expected - 1.0).abs() < relative, "{found} is not {expected}");
    }

    /// Exponential work as points of equal weight in the body, and ever finer ones in the tail.
    fn exponential() -> Vec<(f64, f64)> {
        let mut points = Vec::new();
        let mut left = 1.0;
        while left > 1e-7 {
            let weight = left * 0.02;
            // The mean of the stratum, from the partial expectation (1 + x)e^-x of the exponential law.
            let partial = |left: f64| left * (1.0 - left.ln());
            points.push(((partial(left) - partial(left - weight)) / weight, weight));
            left -= weight;
        }
        points.push((1.0 - left.ln(), left));
        points
    }

    /// Guarantees: mean, variance and decorrelation of the slowdown, and the variance of a unit request, match the reference.
    #[test]
    fn slowdown_reference_values() {
        for (servers, utilization, scv, mean, variance, decorrelation, unit) in [
            (1.0, 0.8, 1.0, 5.0, 20.0, 0.2, 18.730_753),
            (1.0, 0.8, 4.0, 5.0, 20.0, 0.08, 19.477_165),
            (2.0, 0.8, 1.0, 2.777_777_8, 4.839_506_2, 0.222_222_22, 4.500_086_5),
            (4.0, 0.9, 1.0, 2.969_383_2, 5.476_1, 0.118_775_33, 5.265_579_4),
            (4.0, 0.9, 2.0, 2.969_383_2, 5.476_1, 0.079_183_551, 5.334_377_5),
            (10.0, 0.9, 1.0, 1.668_731_5, 0.823_388_04, 0.166_873_15, 0.779_436_27),
            (10.0, 0.9, 0.25, 1.668_731_5, 0.823_388_04, 0.266_997_04, 0.754_748_75),
            (32.0, 0.95, 1.0, 1.434_818_8, 0.340_868_03, 0.114_785_51, 0.328_191_63),
            (100.0, 0.95, 4.0, 1.101_291_4, 0.029_243_693, 0.110_129_14, 0.028_199_083),
            (1000.0, 0.99, 1.0, 1.065_908, 0.008_771_830_4, 0.106_590_8, 0.008_468_296_1),
        ] {
            let found = slowdown(servers, utilization, scv).unwrap();
            close(found.mean, mean, 1e-6);
            close(found.variance, variance, 1e-6);
            close(found.decorrelation, decorrelation, 1e-6);
            close(found.sojourn_variance(1.0), unit, 1e-6);
        }
    }

    /// Guarantees: over exponential work the quantiles are those computed for this model elsewhere, and near the exact ones of
    /// M/M/c under processor sharing: the median and P95 within 4.5 %, P99 within 3 %, P99.9 within 6 %; the mean is exact.
    #[test]
    fn quantiles_of_many_systems() {
        let points = exponential();
        for (servers, utilization, [mean, p50, p95, p99, p999], model95, model99) in [
            (1.0, 0.3, [1.428_571, 0.886_604, 4.634_137, 7.919_653, 13.366_409], 4.589, 7.952),
            (1.0, 0.5, [2.0, 1.132_002, 6.863_679, 12.445_541, 22.201_823], 6.811, 12.540),
            (1.0, 0.7, [3.333_333, 1.681_513, 12.126_432, 23.248_703, 43.684_730], 12.097, 23.409),
            (1.0, 0.8, [5.0, 2.351_687, 18.748_111, 36.940_989, 71.247_767], 18.741, 37.137),
            (1.0, 0.9, [10.0, 4.336_106, 38.688_126, 78.332_563, 155.171_407], 38.709, 78.567),
            (1.0, 0.95, [20.0, 8.287_404, 78.634_385, 161.384_094, 324.109_911], 78.672, 161.639),
            (1.0, 0.99, [100.0, 39.890_750, 398.378_243, 826.500_953, 1_678.586_892], 398.433, 826.772),
            (2.0, 0.5, [1.333_333, 0.853_524, 4.223_093, 7.116_793, 12.042_920], 4.210, 7.114),
            (2.0, 0.8, [2.777_778, 1.449_806, 9.930_492, 19.172_561, 36.525_120], 9.882, 19.256),
            (2.0, 0.9, [5.263_158, 2.423_267, 19.886_551, 39.897_487, 78.570_281], 19.822, 40.027),
            (4.0, 0.7, [1.357_212, 0.868_504, 4.290_766, 7.292_490, 12.597_386], 4.282, 7.280),
            (4.0, 0.9, [2.969_383, 1.531_300, 10.667_032, 20.904_360, 40.561_523], 10.599, 20.953),
            (8.0, 0.8, [1.286_028, 0.839_831, 4.008_491, 6.673_098, 11.328_522], 4.003, 6.657),
            (10.0, 0.9, [1.668_732, 1.014_397, 5.441_128, 9.831_043, 18.113_688], 5.413, 9.825),
            (16.0, 0.85, [1.180_509, 0.791_671, 3.616_647, 5.814_416, 9.408_614], 3.615, 5.800),
            (32.0, 0.9, [1.143_186, 0.774_620, 3.478_436, 5.514_758, 8.725_416], 3.478, 5.504),
            (64.0, 0.95, [1.183_753, 0.798_473, 3.611_361, 5.770_479, 9.265_984], 3.609, 5.764),
            (100.0, 0.95, [1.101_291, 0.754_153, 3.327_461, 5.199_281, 8.019_668], 3.327, 5.194),
            (100.0, 0.99, [1.882_768, 1.138_988, 6.157_442, 11.196_275, 20.772_436], 6.131, 11.187),
            (1000.0, 0.99, [1.065_908, 0.735_582, 3.203_370, 4.953_423, 7.502_120], 3.203, 4.953),
        ] {
            let law = slowdown(servers, utilization, 1.0).unwrap();
            let quantile = |q| sharing_quantile(&points, &law, q).unwrap();
            close(law.mean, mean, 1e-6);
            close(quantile(0.5), p50, 0.045);
            close(quantile(0.95), p95, 0.045);
            close(quantile(0.99), p99, 0.03);
            close(quantile(0.999), p999, 0.06);
            close(quantile(0.95), model95, 2e-3);
            close(quantile(0.99), model99, 2e-3);
        }
    }

    /// Guarantees: the fast gamma tail agrees with the careful one on both of its branches.
    #[test]
    fn gamma_tails_agree() {
        for shape in [1e-4, 0.03, 0.5, 1.0, 2.5, 7.9, 8.1, 40.0, 1000.0] {
            for factor in [0.01, 0.3, 0.9, 1.0, 1.1, 2.0, 5.0, 30.0] {
                for x in [shape * factor, factor] {
                    let (fast, careful) = (gamma_tail(shape, ln_gamma(shape), x), 1.0 - gamma_p(shape, x));
                    assert!((fast - careful).abs() < 1e-7, "{shape} {x}: {fast} {careful}");
                }
            }
        }
    }

    /// Guarantees: near saturation of one server the sojourn is the mean times the product of two exponential variables.
    #[test]
    fn heavy_traffic_limit() {
        let law = slowdown(1.0, 0.999, 1.0).unwrap();
        for (q, factor) in [(0.5, 0.395_107), (0.95, 3.997_045), (0.99, 8.314_985)] {
            close(sharing_quantile(&exponential(), &law, q).unwrap(), factor * 1000.0, 0.02);
        }
    }

    /// Guarantees: at saturation there is no number, and a sojourn is at least its work.
    #[test]
    fn saturation_and_bounds() {
        for (servers, utilization) in [(1.0, 1.0), (4.0, 1.2), (4.0, f64::NAN), (0.0, 0.5), (2.0, -0.1)] {
            assert_eq!(slowdown(servers, utilization, 1.0), None);
        }
        let law = slowdown(2.0, 0.7, 1.0).unwrap();
        assert!((law.tail(3.0, 2.9) - 1.0).abs() < 1e-12 && law.tail(3.0, 1e6) < 1e-12);
        let idle = slowdown(2.0, 0.0, 1.0).unwrap();
        assert!((idle.mean - 1.0).abs() < 1e-12 && idle.tail(1.0, 1.000_001).abs() < 1e-12);
        assert_eq!(sharing_quantile(&[(1.0, 1.0)], &law, 1.0), None);
    }
}
