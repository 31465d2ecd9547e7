//! What latency a service has at a load on so many replicas.

use super::{Discipline, SERVERS_MAX, Station};
use crate::queue::erlang::{Blocking, Pool};
use crate::queue::general::{Variability, Wait};
use crate::queue::root::falling;
use crate::queue::sharing::Slowdown;

/// Relative precision of quantiles.
const PRECISION: f64 = 1e-6;
/// Halvings that find the share of the requests above a latency.
const HALVINGS: u32 = 24;
/// Part of a tail that smaller requests may still add when the sum over them ends.
const REMAINDER: f64 = 1e-7;

/// What a model says of a service at a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Prediction<'a> {
    /// The load is at least what the servers can do: the latency grows as long as the load lasts.
    Unstable {
        /// Offered load per server, at least 1.
        utilization: f64,
    },
    /// The latency that the service settles at.
    Stable(Stable<'a>),
}

/// A service in equilibrium. Latencies are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stable<'a> {
    station: &'a Station,
    utilization: f64,
    /// All replicas behind one queue, as near as the load balancer comes to it.
    pooled: Law,
    /// Each replica on its own.
    split: Law,
}

/// The distribution of the sojourn of a pool of servers, in units of the mean time of a request alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Law {
    Sharing(Slowdown),
    Fifo(Wait),
}

/// What `replicas` replicas of a service make of `arrival_rate` (requests per second). `None` for senseless input or no replica.
#[must_use]
pub fn predict(station: &Station, arrival_rate: f64, replicas: u32) -> Option<Prediction<'_>> {
    let count = f64::from(replicas);
    let valid = station.is_valid() && arrival_rate >= 0.0 && arrival_rate.is_finite() && replicas > 0;
    if !valid || station.servers * count > SERVERS_MAX {
        return None;
    }
    let (load, lanes) = (station.load(arrival_rate), station.lanes());
    let utilization = load / (lanes * count);
    let law = |lanes: f64, load: f64| Pool::climb(lanes, &mut Blocking::new(load)).map(|pool| Law::new(station, &pool));
    let laws = law(lanes * count, load).zip(law(lanes, load / count));
    Some(match laws {
        Some((pooled, split)) => Prediction::Stable(Stable { station, utilization, pooled, split }),
        None => Prediction::Unstable { utilization },
    })
}

// === impl Stable ===

impl Stable<'_> {
    /// Share of the time that a server is busy.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        self.utilization
    }

    /// Mean latency.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.seconds(self.pooled.mean(), self.split.mean())
    }

    /// The latency that the share `1 - q` of the requests exceeds. `None` outside (0, 1).
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if !(q > 0.0 && q < 1.0) {
            return None;
        }
        let points = self.station.service_time.unit_points();
        let of = |law: &Law| law.exceeded_by(points, 1.0 - q, PRECISION);
        Some(self.seconds(of(&self.pooled)?, of(&self.split)?))
    }

    /// Share of the requests that take longer than `seconds`.
    #[must_use]
    pub fn share_above(&self, seconds: f64) -> f64 {
        let (points, pooling) = (self.station.service_time.unit_points(), self.station.pooling);
        let t = seconds / self.station.request_time();
        if pooling <= 0.0 {
            return self.pooled.tail(points, t);
        }
        // Quantiles are what is interpolated: the share is the one whose two latencies meet at `t`.
        let partner = |pooled: f64| (t - (1.0 - pooling) * pooled) / pooling;
        let (mut low, mut high) = (0.0, t);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            let apart = self.pooled.tail(points, middle) > self.split.tail(points, partner(middle));
            if apart { low = middle } else { high = middle }
        }
        let (least, most) = (self.pooled.tail(points, high), self.pooled.tail(points, low));
        self.split.tail(points, partner(high)).clamp(least.min(most), most)
    }

    fn seconds(&self, pooled: f64, split: f64) -> f64 {
        (pooled + self.station.pooling * (split - pooled)) * self.station.request_time()
    }
}

// === impl Law ===

impl Law {
    /// The law of a pool that serves a station's requests.
    pub(super) fn new(station: &Station, pool: &Pool) -> Self {
        let service = station.service_time.scv();
        match station.discipline {
            Discipline::Sharing => Self::Sharing(Slowdown::new(pool, service)),
            Discipline::Fifo => Self::Fifo(Wait::new(pool, Variability { arrival: station.arrival_scv, service })),
        }
    }

    fn mean(&self) -> f64 {
        match self {
            Self::Sharing(slowdown) => slowdown.mean,
            Self::Fifo(wait) => 1.0 + wait.mean,
        }
    }

    /// P(T > t) of a request of `work`.
    fn tail_of(&self, work: f64, t: f64) -> f64 {
        match self {
            Self::Sharing(slowdown) => slowdown.tail(work, t),
            Self::Fifo(wait) => wait.tail(t - work),
        }
    }

    /// P(T > t) over the points of the work.
    fn tail(&self, points: &[(f64, f64)], t: f64) -> f64 {
        let (mut sum, mut left) = (0.0, 1.0);
        for (work, weight) in points.iter().rev() {
            let tail = self.tail_of(*work, t);
            sum += weight * tail;
            left -= weight;
            // The smaller the request, the smaller its tail.
            if left * tail <= REMAINDER * sum {
                break;
            }
        }
        sum
    }

    /// Whether P(T > t) is above `level`; cheaper than the tail itself.
    pub(super) fn exceeds(&self, points: &[(f64, f64)], t: f64, level: f64) -> bool {
        let (mut sum, mut left) = (0.0, 1.0);
        for (work, weight) in points.iter().rev() {
            let tail = self.tail_of(*work, t);
            sum += weight * tail;
            left -= weight;
            if sum > level || sum + left * tail <= level {
                break;
            }
        }
        sum > level
    }

    /// The time that the share `level` of the requests exceeds.
    pub(super) fn exceeded_by(&self, points: &[(f64, f64)], level: f64, precision: f64) -> Option<f64> {
        // A sojourn is at least its work, so the search begins at the quantile of the work.
        let mut left = level;
        let alone = points.iter().rev().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        let low = alone.map_or(0.0, |(work, _)| work * (1.0 - 1e-9));
        falling(|t| self.tail(points, t), level, low, precision)
    }
}
