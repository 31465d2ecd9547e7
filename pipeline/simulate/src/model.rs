//! Stationary queueing models: what the latency is if the load stays as it is. Times are in units of the mean service time.
//!
//! Sources: Erlang (1917); Pollaczek and Khinchine; Allen and Cunneen for the mean wait of G/G/c; for processor sharing the
//! insensitive mean of symmetric queues (Kelly) and the conditional variance of Yashkov and Ott, extended to several servers and
//! turned into a distribution by gamma laws of matching moments.

mod table;

use tracescale_models::special::gamma_p;

pub use table::{LEVELS, LatencyTable, Law};

/// Highest utilization that a stationary answer is given for.
pub const UTILIZATION_MAX: f64 = 0.999;

/// How a service shares its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All requests at once.
    Processor,
    /// In order of arrival.
    Queue,
}

/// Slowdown of requests under processor sharing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    /// Mean sojourn per unit of work; exact for every distribution of work.
    pub mean: f64,
    /// Variance of the slowdown of a very small request.
    pub variance: f64,
    /// Rate at which the slowdown forgets itself, per unit of work.
    pub decorrelation: f64,
}

/// Probability that a request is blocked when `servers` servers without a queue are offered `load` erlang.
#[must_use]
pub fn erlang_b(servers: u32, load: f64) -> f64 {
    (1..=servers).fold(1.0, |blocked, server| load * blocked / (f64::from(server) + load * blocked))
}

/// Probability that a request must wait in M/M/c; 1 when the load is at least the number of servers.
#[must_use]
pub fn erlang_c(servers: u32, load: f64) -> f64 {
    let servers_real = f64::from(servers);
    if load >= servers_real {
        return 1.0;
    }
    let blocked = erlang_b(servers, load);
    blocked / (1.0 - load / servers_real * (1.0 - blocked))
}

/// Slowdown under processor sharing of `servers` servers at `utilization` below 1, for work of squared coefficient of
/// variation `scv`.
#[must_use]
pub fn slowdown(servers: u32, utilization: f64, scv: f64) -> Slowdown {
    let count = f64::from(servers);
    let idle = count * (1.0 - utilization);
    let wait = erlang_c(servers, utilization * count);
    Slowdown {
        mean: 1.0 + wait / idle,
        variance: (wait * (1.0 + utilization) - wait * wait) / (idle * idle),
        decorrelation: (1.0 - utilization) * (idle + wait) * 2.0 / (1.0 + scv),
    }
}

impl Slowdown {
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
}

/// P(T > t) under processor sharing, for work given as `(value, weight)` points of mean 1.
#[must_use]
pub fn sharing_tail(points: &[(f64, f64)], slowdown: &Slowdown, t: f64) -> f64 {
    let tail = |work: f64| {
        let delay = t - work;
        if delay <= 0.0 {
            return 1.0;
        }
        let mean = (slowdown.mean - 1.0) * work;
        let variance = slowdown.sojourn_variance(work);
        if mean <= 0.0 || variance <= 0.0 {
            return 0.0;
        }
        1.0 - gamma_p(mean * mean / variance, delay * mean / variance)
    };
    points.iter().map(|(work, weight)| weight * tail(*work)).sum()
}

/// Mean wait in M/G/c (Allen and Cunneen; exact for one server) at `utilization` below 1.
#[must_use]
pub fn mean_wait(servers: u32, utilization: f64, scv: f64) -> f64 {
    let count = f64::from(servers);
    erlang_c(servers, utilization * count) / (count * (1.0 - utilization)) * (1.0 + scv) / 2.0
}

/// P(T > t) in order of arrival: an exponential tail of the wait, over the points of the work.
#[must_use]
pub fn queue_tail(points: &[(f64, f64)], servers: u32, utilization: f64, scv: f64, t: f64) -> f64 {
    let wait = erlang_c(servers, utilization * f64::from(servers));
    let mean = mean_wait(servers, utilization, scv);
    let tail = |work: f64| {
        let left = t - work;
        if left < 0.0 {
            1.0
        } else if mean <= 0.0 {
            0.0
        } else {
            wait * (-wait * left / mean).exp()
        }
    };
    points.iter().map(|(work, weight)| weight * tail(*work)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found / expected - 1.0).abs() < relative, "{found} is not {expected}");
    }

    /// Guarantees: Erlang's formulas agree with 40-digit reference values from one server to a thousand.
    #[test]
    fn erlang_reference_values() {
        for (servers, utilization, b, c) in [
            (1, 0.9, 0.473_684_210_5, 0.9),
            (2, 0.8, 0.329_896_907_2, 0.711_111_111_1),
            (10, 0.9, 0.167_963_226_3, 0.668_731_524_1),
            (100, 0.99, 0.070_028_074_78, 0.882_768_462_6),
            (1000, 0.95, 0.003_649_293_689, 0.068_253_415_38),
        ] {
            let load = utilization * f64::from(servers);
            close(erlang_b(servers, load), b, 1e-9);
            close(erlang_c(servers, load), c, 1e-9);
        }
        assert!((erlang_c(3, 3.0) - 1.0).abs() < 1e-12);
    }

    /// Guarantees: mean, variance and decorrelation of the slowdown, and the variance of a unit request, match the reference.
    #[test]
    fn slowdown_reference_values() {
        for (servers, utilization, scv, mean, variance, decorrelation, unit) in [
            (1, 0.8, 1.0, 5.0, 20.0, 0.2, 18.730_753),
            (1, 0.8, 4.0, 5.0, 20.0, 0.08, 19.477_165),
            (2, 0.8, 1.0, 2.777_777_8, 4.839_506_2, 0.222_222_22, 4.500_086_5),
            (10, 0.9, 0.25, 1.668_731_5, 0.823_388_04, 0.266_997_04, 0.754_748_75),
            (100, 0.95, 4.0, 1.101_291_4, 0.029_243_693, 0.110_129_14, 0.028_199_083),
        ] {
            let found = slowdown(servers, utilization, scv);
            close(found.mean, mean, 1e-6);
            close(found.variance, variance, 1e-6);
            close(found.decorrelation, decorrelation, 1e-6);
            close(found.sojourn_variance(1.0), unit, 1e-6);
        }
    }

    /// Guarantees: the mean wait is that of Pollaczek and Khinchine for one server and Erlang's for many.
    #[test]
    fn mean_waits() {
        close(mean_wait(1, 0.8, 4.0), 10.0, 1e-9);
        close(mean_wait(1, 0.9, 0.0), 4.5, 1e-9);
        close(mean_wait(10, 0.9, 1.0), 0.668_731_524_1, 1e-9);
    }

    /// Guarantees: tails of exponential work are near the exact quantiles of processor sharing and first come, first served.
    #[test]
    fn tails_at_exact_quantiles() {
        let points = Distribution::Exponential { mean: 1.0 }.points();
        for (servers, utilization, p95, p99) in
            [(1, 0.8, 18.748_111, 36.940_989), (4, 0.9, 10.667_032, 20.904_36), (16, 0.85, 3.616_647, 5.814_416)]
        {
            let law = slowdown(servers, utilization, 1.0);
            close(sharing_tail(&points, &law, p95), 0.05, 0.04);
            close(sharing_tail(&points, &law, p99), 0.01, 0.05);
        }
        close(queue_tail(&points, 1, 0.9, 1.0, 46.051_702), 0.01, 0.02);
        close(queue_tail(&points, 10, 0.9, 1.0, 6.249_876_7), 0.01, 0.05);
    }
}
