//! How far a load balancer makes replicas one pool. A random split makes each replica a queue of its own, one shared queue makes
//! them one pool, and everything else lies between: mean and quantiles are interpolated by a factor that calibration refines.

/// Largest factor: above 1 the split is worse than random.
pub const POOLING_MAX: f64 = 1.5;

/// How requests reach replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Balancer {
    /// Random per request or connection: iptables and nftables rules, many independent clients, gRPC without balancing per
    /// request. With few long connections the busiest replica's share of the load counts, not this factor.
    Random,
    /// In turn: IPVS `rr`, nginx by default.
    RoundRobin,
    /// The less loaded of two, or a moving average of latency: Envoy, Linkerd.
    PowerOfTwo,
    /// The one with the fewest requests of all.
    LeastOutstanding,
    /// One queue from which all replicas take: a consumer group, a job queue.
    SharedQueue,
}

/// The value at the factor `pooling` between that of one pool and that of a random split.
#[must_use]
pub fn interpolate(pooled: f64, split: f64, pooling: f64) -> f64 {
    pooled + pooling * (split - pooled)
}

/// The factor that explains an observed latency, in [0, 1.5]. `None` when pool and split predict the same, as they do for an
/// idle service.
#[must_use]
pub fn observed_pooling(observed: f64, pooled: f64, split: f64) -> Option<f64> {
    let room = split - pooled;
    let factor = (observed - pooled) / room;
    (room > 1e-3 * pooled && factor.is_finite()).then(|| factor.clamp(0.0, POOLING_MAX))
}

// === impl Balancer ===

impl Balancer {
    /// The factor to begin with, from simulations of each kind.
    #[must_use]
    pub fn pooling(self) -> f64 {
        match self {
            Self::Random => 1.0,
            Self::RoundRobin => 0.5,
            Self::PowerOfTwo => 0.2,
            Self::LeastOutstanding => 0.05,
            Self::SharedQueue => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizing::{Discipline, Prediction, ServiceTime, Station, predict};

    type Row = (Discipline, u32, f64, f64, f64, [(f64, f64); 5]);

    /// Discipline, replicas, servers of each, utilization, squared coefficient of variation of the service time; simulated mean and
    /// P99 behind a random split, in turn, power of two and fewest outstanding, and those of one pool.
    const TABLE: [Row; 14] = [
        (Discipline::Sharing, 4, 1.0, 0.70, 1.0, [(3.35, 23.3), (2.24, 15.4), (1.81, 9.95), (1.51, 8.29), (1.36, 7.28)]),
        (Discipline::Sharing, 4, 1.0, 0.85, 1.0, [(6.72, 50.8), (4.34, 33.3), (2.85, 17.2), (2.39, 15.0), (2.15, 14.0)]),
        (Discipline::Sharing, 4, 1.0, 0.85, 4.0, [(6.76, 72.2), (5.36, 59.9), (2.86, 27.4), (2.48, 24.1), (2.15, 21.2)]),
        (Discipline::Sharing, 4, 4.0, 0.85, 1.0, [(2.16, 14.0), (1.64, 9.98), (1.27, 6.30), (1.21, 5.99), (1.18, 5.80)]),
        (Discipline::Sharing, 16, 1.0, 0.70, 1.0, [(3.35, 23.3), (1.98, 13.7), (1.66, 8.48), (1.08, 5.17), (1.03, 4.75)]),
        (Discipline::Sharing, 16, 1.0, 0.85, 1.0, [(6.82, 52.7), (3.74, 28.5), (2.34, 12.2), (1.33, 6.80), (1.18, 5.80)]),
        (Discipline::Sharing, 16, 1.0, 0.85, 4.0, [(6.81, 73.5), (5.05, 57.0), (2.35, 21.2), (1.33, 11.8), (1.18, 10.4)]),
        (Discipline::Sharing, 16, 4.0, 0.70, 1.0, [(1.36, 7.30), (1.12, 5.58), (1.03, 4.74), (1.00, 4.61), (1.00, 4.62)]),
        (Discipline::Sharing, 16, 4.0, 0.85, 1.0, [(2.19, 14.5), (1.51, 8.90), (1.15, 5.36), (1.02, 4.73), (1.01, 4.68)]),
        (Discipline::Sharing, 16, 4.0, 0.85, 4.0, [(2.18, 21.5), (1.76, 17.4), (1.15, 9.94), (1.02, 8.70), (1.01, 8.73)]),
        (Discipline::Fifo, 4, 1.0, 0.85, 1.0, [(6.82, 31.9), (4.31, 19.9), (2.80, 11.0), (2.38, 10.1), (2.15, 8.56)]),
        (Discipline::Fifo, 16, 1.0, 0.85, 1.0, [(6.81, 31.2), (3.72, 17.3), (2.32, 8.44), (1.32, 5.76), (1.18, 4.87)]),
        (Discipline::Fifo, 4, 8.0, 0.85, 1.0, [(1.50, 5.80), (1.25, 5.02), (1.08, 4.72), (1.06, 4.70), (1.06, 4.68)]),
        (Discipline::Fifo, 16, 8.0, 0.85, 1.0, [(1.49, 5.72), (1.19, 4.91), (1.03, 4.64), (1.00, 4.61), (1.00, 4.61)]),
    ];

    /// Mean and P99 of the model in service times.
    fn model(row: &Row, pooling: f64) -> (f64, f64) {
        let (discipline, replicas, servers, utilization, scv, _) = *row;
        let service_time = ServiceTime::from_moments(1.0, scv).unwrap();
        let station = Station { discipline, pooling, ..Station::new(service_time, servers) };
        let rate = utilization * servers * f64::from(replicas);
        let Some(Prediction::Stable(stable)) = predict(&station, rate, replicas) else { panic!("{station:?}") };
        (stable.mean(), stable.quantile(0.99).unwrap())
    }

    /// Guarantees: a random split and one pool have the latencies of simulations of both.
    #[test]
    fn both_ends_match_simulations() {
        for row in &TABLE {
            for (pooling, (mean, p99)) in [(1.0, row.5[0]), (0.0, row.5[4])] {
                let found = model(row, pooling);
                assert!((found.0 / mean - 1.0).abs() < 0.035, "{row:?} {pooling}: {found:?}");
                assert!((found.1 / p99 - 1.0).abs() < 0.05, "{row:?} {pooling}: {found:?}");
            }
        }
    }

    /// Guarantees: where replicas are busy, the simulated means of each balancer lead to the factors that are known for it, and
    /// interpolation with such a factor gives the mean back.
    #[test]
    fn balancers_have_their_factors() {
        let ranges = [(Balancer::RoundRobin, 0.35, 0.8), (Balancer::PowerOfTwo, 0.04, 0.26), (Balancer::LeastOutstanding, 0.0, 0.08)];
        for row in TABLE.iter().filter(|row| row.3 > 0.8) {
            let (pooled, split) = (model(row, 0.0).0, model(row, 1.0).0);
            for (place, (balancer, low, high)) in ranges.into_iter().enumerate() {
                let mean = row.5[place + 1].0;
                let factor = observed_pooling(mean, pooled, split).unwrap();
                assert!((low..=high).contains(&factor), "{row:?} {balancer:?}: {factor}");
                assert!((low..=high).contains(&balancer.pooling()));
                assert!((interpolate(pooled, split, factor) / mean - 1.0).abs() < 0.01);
            }
        }
        assert_eq!((Balancer::Random.pooling(), Balancer::SharedQueue.pooling()), (1.0, 0.0));
    }

    /// Guarantees: the factor stays in its range, and there is none where pool and split are the same.
    #[test]
    fn factors_in_range() {
        assert_eq!((observed_pooling(9.0, 1.0, 2.0), observed_pooling(0.5, 1.0, 2.0)), (Some(1.5), Some(0.0)));
        assert_eq!((observed_pooling(1.0, 1.0, 1.0), observed_pooling(f64::NAN, 1.0, 2.0)), (None, None));
    }
}
