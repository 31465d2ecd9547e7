//! How far a load balancer makes replicas one pool. A random split makes each replica a queue of its own, one shared queue makes
//! them one pool, and everything else lies between: mean and quantiles are interpolated by a factor that calibration refines.

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
    (room > 1e-3 * pooled && factor.is_finite()).then(|| factor.clamp(0.0, 1.5))
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
