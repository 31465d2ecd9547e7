//! Special functions that confidence intervals need: log-gamma, the incomplete gamma and beta functions and the inverse of
//! the former. Written out here because a statistics crate for five functions would be the larger burden.

/// Iterations after which a series or a continued fraction is taken as converged; both need about √a of them.
const ITERATIONS: u32 = 100_000;
/// Relative size of a term that no longer changes the sum.
const EPSILON: f64 = 1e-15;
/// Keeps a continued fraction away from a division by zero.
const TINY: f64 = 1e-300;
/// Coefficients of the Lanczos approximation with g = 7.
const LANCZOS: [f64; 9] = [
    0.999_999_999_999_809_9,
    676.520_368_121_885_1,
    -1_259.139_216_722_402_8,
    771.323_428_777_653_1,
    -176.615_029_162_140_6,
    12.507_343_278_686_905,
    -0.138_571_095_265_720_12,
    9.984_369_578_019_572e-6,
    1.505_632_735_149_311_6e-7,
];

/// ln Γ(x) for x > 0.
#[must_use]
pub fn ln_gamma(x: f64) -> f64 {
    if x < 0.5 {
        // Reflection keeps the approximation in the half plane where it is accurate.
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let mut sum = LANCZOS[0];
    let mut offset = 0.0;
    for coefficient in &LANCZOS[1..] {
        offset += 1.0;
        sum += coefficient / (x + offset);
    }
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The regularised lower incomplete gamma function P(a, x): the probability that a gamma variable of shape `a` and scale 1 is
/// at most `x`. Zero for `x <= 0`.
#[must_use]
pub fn gamma_p(a: f64, x: f64) -> f64 {
    if x <= 0.0 || a <= 0.0 {
        return 0.0;
    }
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        for _ in 0..ITERATIONS {
            n += 1.0;
            term *= x / n;
            sum += term;
            if term < sum * EPSILON {
                break;
            }
        }
        return (front * sum).clamp(0.0, 1.0);
    }
    // Modified Lentz evaluation of the continued fraction of the upper function.
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / b;
    let mut h = d;
    let mut i = 0.0;
    for _ in 0..ITERATIONS {
        i += 1.0;
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / nonzero(an * d + b);
        c = nonzero(b + an / c);
        let delta = d * c;
        h *= delta;
        if (delta - 1.0).abs() < EPSILON {
            break;
        }
    }
    (1.0 - front * h).clamp(0.0, 1.0)
}

/// The value `x` with P(a, x) = p. `None` outside `0 < p < 1`, `a > 0`.
#[must_use]
pub fn gamma_quantile(a: f64, p: f64) -> Option<f64> {
    if !(a > 0.0 && a.is_finite() && p > 0.0 && p < 1.0) {
        return None;
    }
    // Wilson–Hilferty: the cube root of a gamma variable is nearly normal.
    let spread = 1.0 / (9.0 * a);
    let root = 1.0 - spread + normal_quantile(p) * spread.sqrt();
    let guess = a * root.max(1e-6).powi(3);
    if a > 1e6 {
        return Some(guess); // its error is far below the resolution of any count by now
    }
    Some(halley(a, p, guess).unwrap_or_else(|| bisect(a, p, guess)))
}

/// Halley's iteration, which triples the digits of the guess with every step. `None` where it leaves the range or creeps, as it
/// does in the far tails.
fn halley(a: f64, p: f64, guess: f64) -> Option<f64> {
    let log_gamma = ln_gamma(a);
    let mut x = guess;
    for _ in 0..8 {
        let density = ((a - 1.0) * x.ln() - x - log_gamma).exp();
        let newton = (gamma_p(a, x) - p) / density;
        let step = newton / (1.0 - 0.5 * newton * ((a - 1.0) / x - 1.0)).max(0.5);
        x -= step;
        if !(x.is_finite() && x > 0.0) {
            return None;
        }
        // The next step would be the cube of this one.
        if step.abs() <= x * 1e-6 {
            return Some(x);
        }
    }
    None
}

fn bisect(a: f64, p: f64, guess: f64) -> f64 {
    let (mut low, mut high) = (guess, guess.max(1e-9));
    while low > 0.0 && gamma_p(a, low) > p {
        low = if low < 1e-290 { 0.0 } else { low * 0.5 };
    }
    while gamma_p(a, high) < p {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if high - low <= high * 1e-12 {
            break;
        }
        if gamma_p(a, middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The standard normal quantile, to about nine digits (Acklam's rational approximation).
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] =
        [-54.476_098_798_224_06, 161.585_836_858_040_9, -155.698_979_859_886_6, 66.801_311_887_719_72, -13.280_681_552_885_72];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_4,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [0.007_784_695_709_041_462, 0.322_467_129_070_039_8, 2.445_134_137_142_996, 3.754_408_661_907_416];
    let tail = |q: f64| polynomial(&C, q) / (polynomial(&D, q) * q + 1.0);
    if p < 0.024_25 {
        tail((-2.0 * p.max(TINY).ln()).sqrt())
    } else if p > 1.0 - 0.024_25 {
        -tail((-2.0 * (1.0 - p).max(TINY).ln()).sqrt())
    } else {
        let q = p - 0.5;
        let r = q * q;
        polynomial(&A, r) * q / (polynomial(&B, r) * r + 1.0)
    }
}

/// The regularised incomplete beta function I_x(a, b), for a, b > 0.
#[must_use]
pub fn beta_regularized(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) { front * beta_fraction(a, b, x) / a } else { 1.0 - front * beta_fraction(b, a, 1.0 - x) / b }
}

/// P(X <= k) of a binomial variable with `n` trials of probability `q`.
#[must_use]
pub fn binomial_cdf(k: f64, n: f64, q: f64) -> f64 {
    if k < 0.0 {
        0.0
    } else if k >= n {
        1.0
    } else {
        beta_regularized(n - k.floor(), k.floor() + 1.0, 1.0 - q)
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    let mut m = 0.0;
    for _ in 0..ITERATIONS {
        m += 1.0;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / nonzero(1.0 + even * d);
        c = nonzero(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / nonzero(1.0 + odd * d);
        c = nonzero(1.0 + odd / c);
        let delta = d * c;
        h *= delta;
        if (delta - 1.0).abs() < EPSILON {
            break;
        }
    }
    h
}

/// Horner's scheme, highest power first.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

fn nonzero(x: f64) -> f64 {
    if x.abs() < TINY { TINY } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected}");
    }

    /// Guarantees: log-gamma agrees with factorials and with Γ(1/2) = √π.
    #[test]
    fn log_gamma_is_the_factorial() {
        close(ln_gamma(5.0), 24f64.ln(), 1e-12);
        close(ln_gamma(0.5), 0.5 * std::f64::consts::PI.ln(), 1e-12);
        close(ln_gamma(101.0), 363.739_375_555_563_5, 1e-9);
    }

    /// Guarantees: the incomplete gamma function is the exponential distribution at shape 1, on both branches.
    #[test]
    fn gamma_of_shape_one_is_exponential() {
        for x in [0.1, 1.0, 1.9, 2.1, 7.0] {
            close(gamma_p(1.0, x), 1.0 - (-x).exp(), 1e-12);
        }
    }

    /// Guarantees: the gamma quantile inverts the distribution over the range of counts that occur.
    #[test]
    fn gamma_quantile_inverts() {
        for a in [0.5, 1.0, 11.0, 401.0, 10_001.0, 200_000.0] {
            for p in [0.025, 0.5, 0.975] {
                close(gamma_p(a, gamma_quantile(a, p).unwrap()), p, 1e-8);
            }
        }
        assert_eq!(gamma_quantile(1.0, 1.0), None);
    }

    /// Guarantees: the fast iteration finds what bisection finds, and where it gives up bisection takes over.
    #[test]
    fn halley_agrees_with_bisection() {
        for a in [0.3, 0.5, 1.0, 2.0, 7.0, 42.0, 1_000.0, 1.2e5] {
            for p in [1e-12, 1e-4, 0.025, 0.5, 0.975, 0.9999] {
                let slow = bisect(a, p, a);
                let fast = gamma_quantile(a, p).unwrap();
                assert!((fast - slow).abs() <= 1e-9 * slow, "a = {a}, p = {p}: {fast} and {slow}");
            }
        }
        assert!([100.0, 1_000.0, 1e5].iter().all(|a| halley(*a, 0.025, *a).is_some()));
    }

    /// Guarantees: the usual normal quantiles.
    #[test]
    fn normal_quantiles() {
        close(normal_quantile(0.975), 1.959_963_985, 1e-8);
        close(normal_quantile(0.01), -2.326_347_874, 1e-8);
        close(normal_quantile(0.5), 0.0, 1e-12);
    }

    /// Guarantees: the binomial distribution of ten fair coins.
    #[test]
    fn binomial_of_ten_coins() {
        close(binomial_cdf(5.0, 10.0, 0.5), 638.0 / 1024.0, 1e-12);
        close(binomial_cdf(-1.0, 10.0, 0.5), 0.0, 0.0);
        close(binomial_cdf(10.0, 10.0, 0.5), 1.0, 0.0);
    }
}
