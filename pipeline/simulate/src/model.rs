//! Stationary queueing models: what the latency is if the load stays as it is. Times are in units of the mean service time.
//!
//! The formulas are those of the models; here they are tabulated, because a simulated second must be cheap.

mod table;

use tracescale_models::queue::erlang::Pool;
pub use tracescale_models::queue::erlang::{erlang_b, erlang_c};
use tracescale_models::queue::general::{Variability, Wait, allen_cunneen};
use tracescale_models::queue::sharing;
pub use tracescale_models::queue::sharing::{Slowdown, sharing_tail};

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

/// Slowdown under processor sharing of `servers` servers for work of squared coefficient of variation `scv`; without bound where
/// the load is more than they can do.
#[must_use]
pub fn slowdown(servers: u32, utilization: f64, scv: f64) -> Slowdown {
    let unbounded = Slowdown { mean: f64::INFINITY, variance: f64::INFINITY, decorrelation: 0.0 };
    sharing::slowdown(f64::from(servers), utilization, scv).unwrap_or(unbounded)
}

/// Wait in M/G/c (Allen and Cunneen; exact for one server); without bound where the load is more than the servers can do.
#[must_use]
pub fn wait(servers: u32, utilization: f64, scv: f64) -> Wait {
    let pool = Pool::new(f64::from(servers), utilization * f64::from(servers)).zip(Variability::new(1.0, scv));
    let unbounded = Wait { probability: 1.0, mean: f64::INFINITY };
    pool.map_or(unbounded, |(pool, both)| Wait { probability: pool.wait_probability(), mean: allen_cunneen(&pool, both) })
}

/// P(T > t) in order of arrival: an exponential tail of the wait, over the points of the work.
#[must_use]
pub fn queue_tail(points: &[(f64, f64)], wait: &Wait, t: f64) -> f64 {
    points.iter().map(|(work, weight)| weight * wait.tail(t - work)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found / expected - 1.0).abs() < relative, "{found} is not {expected}");
    }

    /// Guarantees: the mean wait is that of Pollaczek and Khinchine for one server and Erlang's for many.
    #[test]
    fn mean_waits() {
        close(wait(1, 0.8, 4.0).mean, 10.0, 1e-9);
        close(wait(1, 0.9, 0.0).mean, 4.5, 1e-9);
        close(wait(10, 0.9, 1.0).mean, 0.668_731_524_1, 1e-9);
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
        close(queue_tail(&points, &wait(1, 0.9, 1.0), 46.051_702), 0.01, 0.02);
        close(queue_tail(&points, &wait(10, 0.9, 1.0), 6.249_876_7), 0.01, 0.05);
    }
}
