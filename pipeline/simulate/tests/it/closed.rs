//! Closed forms of queueing theory, each checked against reference values of many digits.

use tracescale_simulate::model::{erlang_b, erlang_c};

/// Mean wait in M/M/c with work of mean 1.
pub(crate) fn wait_mmc(servers: u32, utilization: f64) -> f64 {
    let count = f64::from(servers);
    erlang_c(servers, utilization * count) / (count * (1.0 - utilization))
}

/// Quantile of the wait in M/M/c.
pub(crate) fn wait_quantile_mmc(servers: u32, utilization: f64, q: f64) -> f64 {
    let count = f64::from(servers);
    ((erlang_c(servers, utilization * count) / (1.0 - q)).ln() / (count * (1.0 - utilization))).max(0.0)
}

/// Quantile of the sojourn in M/M/c, by halving.
pub(crate) fn sojourn_quantile_mmc(servers: u32, utilization: f64, q: f64) -> f64 {
    let wait = erlang_c(servers, utilization * f64::from(servers));
    let delta = f64::from(servers) * (1.0 - utilization);
    let tail = |x: f64| {
        let gap = 1.0 - delta;
        let both = if gap.abs() * x < 1e-9 { x * (-x).exp() } else { ((-delta * x).exp() - (-x).exp()) / gap };
        (-x).exp() + wait * both
    };
    halve(0.0, 1e6, |x| tail(x) > 1.0 - q)
}

/// Mean wait in M/G/1 (Pollaczek and Khinchine).
pub(crate) fn wait_mg1(utilization: f64, scv: f64) -> f64 {
    utilization * (1.0 + scv) / (2.0 * (1.0 - utilization))
}

/// Probability of waiting in GI/M/1: the root of σ = A*(1 − σ) for the transform of the gaps.
pub(crate) fn sigma(transform: impl Fn(f64) -> f64) -> f64 {
    halve(0.0, 1.0 - 1e-9, |s| transform(1.0 - s) > s)
}

/// Transform of the gaps of an Erlang-4 renewal process of this rate.
pub(crate) fn erlang4_gaps(rate: f64) -> impl Fn(f64) -> f64 {
    move |s| (4.0 * rate / (4.0 * rate + s)).powi(4)
}

/// Transform of hyperexponential gaps with balanced means.
pub(crate) fn hyperexponential_gaps(rate: f64, scv: f64) -> impl Fn(f64) -> f64 {
    let p = 0.5 * (1.0 + ((scv - 1.0) / (scv + 1.0)).sqrt());
    let phase = move |share: f64, s: f64| share * 2.0 * share * rate / (2.0 * share * rate + s);
    move |s| phase(p, s) + phase(1.0 - p, s)
}

/// Blocking probability of M/M/c/K.
pub(crate) fn blocking(servers: u32, capacity: u32, utilization: f64) -> f64 {
    let inverse = 1.0 / erlang_b(servers, utilization * f64::from(servers));
    let more = i32::try_from(capacity - servers).unwrap();
    let geometric: f64 = (0..=more).map(|power| utilization.powi(power)).sum();
    utilization.powi(more) / (inverse - 1.0 + geometric)
}

/// Mean of a fork–join of two M/M/1 branches (exact), or of up to 32 (Nelson and Tantawi).
pub(crate) fn fork_join_mean(branches: u32, utilization: f64) -> f64 {
    let harmonic = |n: u32| (1..=n).map(|k| 1.0 / f64::from(k)).sum::<f64>();
    let ratio = harmonic(branches) / harmonic(2);
    let single = 1.0 / (1.0 - utilization);
    (ratio + (1.0 - ratio) * 4.0 * utilization / 11.0) * (12.0 - utilization) / 8.0 * single
}

/// Upper bound of a quantile of a fork–join of M/M/1 branches.
pub(crate) fn fork_join_bound(branches: u32, utilization: f64, q: f64) -> f64 {
    -(1.0 - q.powf(1.0 / f64::from(branches))).ln() / (1.0 - utilization)
}

/// The place between two where a falling condition ceases to hold.
fn halve(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

fn close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-6, "{found} is not {expected}");
}

/// Guarantees: M/M/c means and quantiles match the reference, where the two exponents are equal too.
#[test]
fn mmc_reference() {
    for (servers, utilization, mean, wait99, sojourn99) in [
        (1, 0.9, 9.0, 44.998_096_7, 46.051_701_86),
        (2, 0.8, 1.777_777_778, 10.660_609, 11.937_370_24),
        (10, 0.9, 0.668_731_524_1, 4.202_797_577, 6.249_876_699),
        (100, 0.99, 0.882_768_462_6, 4.480_477_856, 6.514_880_199),
    ] {
        close(wait_mmc(servers, utilization), mean);
        close(wait_quantile_mmc(servers, utilization, 0.99), wait99);
        close(sojourn_quantile_mmc(servers, utilization, 0.99), sojourn99);
    }
}

/// Guarantees: mean waits of M/G/1 and waiting probabilities of GI/M/1 match the reference.
#[test]
fn single_server_reference() {
    close(wait_mg1(0.8, 4.0), 10.0);
    close(wait_mg1(0.95, 0.25), 11.875);
    close(sigma(erlang4_gaps(0.8)), 0.693_944_722);
    close(sigma(erlang4_gaps(0.5)), 0.301_931_087);
    close(sigma(hyperexponential_gaps(0.8, 4.0)), 0.907_571_663);
    close(sigma(hyperexponential_gaps(0.5, 4.0)), 0.683_772_234);
}

/// Guarantees: blocking and fork–join match the reference.
#[test]
fn blocking_and_fork_join_reference() {
    for (servers, capacity, utilization, expected) in
        [(1, 10, 0.8, 0.023_492_857_58), (4, 20, 1.2, 0.171_910_280_9), (10, 10, 0.8, 0.121_661_064_3), (10, 30, 0.95, 0.020_586_079_43)]
    {
        close(blocking(servers, capacity, utilization), expected);
    }
    close(fork_join_mean(2, 0.8), 7.0);
    close(fork_join_mean(8, 0.5), 4.784_821_4);
    close(fork_join_bound(8, 0.5, 0.99), 13.360_438);
}
