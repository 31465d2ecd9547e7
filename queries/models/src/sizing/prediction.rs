//! What latency a service has at a load on so many replicas.

use super::workers::Held;
use super::{Discipline, SERVERS_MAX, Station};
use crate::queue::erlang::{Blocking, Pool};
use crate::queue::general::{Variability, Wait};
use crate::queue::pooling::interpolate;
use crate::queue::root::falling;
use crate::queue::sharing::{Delay, Slowdown};

/// Relative precision of quantiles.
const PRECISION: f64 = 1e-5;
/// Halvings that find the share of the requests above a latency.
const HALVINGS: u32 = 24;
/// Part of the precision of a tail that smaller requests may still add when the sum over them ends.
const REMAINDER: f64 = 0.1;

/// What a model says of a service at a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Prediction<'a> {
    /// The load is at least what the servers can do: the latency grows as long as the load lasts.
    Unstable {
        /// Offered load over what the replicas can do, at least 1.
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
pub(super) struct Law {
    served: Served,
    /// The wait for a worker, where requests hold one.
    held: Option<Held>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Served {
    Sharing(Slowdown),
    Fifo(Wait),
}

/// The tail of a law over the points of the work, for a search that asks at many times.
struct Tail<'a> {
    law: &'a Law,
    points: &'a [(f64, f64)],
    precision: f64,
    /// The delays of the points from the largest on, as far as they were needed.
    delays: Vec<Option<Delay>>,
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
    let utilization = arrival_rate / (station.capacity() * count);
    let law = |lanes: f64, load: f64| Pool::climb(lanes, &mut Blocking::new(load)).and_then(|pool| Law::new(station, &pool));
    let laws = law(lanes * count, load).zip(law(lanes, load / count));
    Some(match laws {
        Some((pooled, split)) => Prediction::Stable(Stable { station, utilization, pooled, split }),
        None => Prediction::Unstable { utilization },
    })
}

// === impl Stable ===

impl Stable<'_> {
    /// Share of what the replicas can do that is asked of them: of the time that a server is busy or, where these are scarcer, a
    /// worker is held.
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
        let (pooled, split) = self.quantiles(q)?;
        Some(interpolate(pooled, split, self.station.pooling))
    }

    /// The same for one pool and for a random split. `None` outside (0, 1).
    #[must_use]
    pub fn quantiles(&self, q: f64) -> Option<(f64, f64)> {
        if !(q > 0.0 && q < 1.0) {
            return None;
        }
        let points = self.station.service_time.unit_points();
        let of = |law: &Law| Some(law.exceeded_by(points, 1.0 - q, PRECISION)? * self.station.request_time());
        let split = of(&self.split)?;
        // One replica is both.
        Some((if self.pooled == self.split { split } else { of(&self.pooled)? }, split))
    }

    /// Share of the requests that take longer than `seconds`.
    #[must_use]
    pub fn share_above(&self, seconds: f64) -> f64 {
        let (points, pooling) = (self.station.service_time.unit_points(), self.station.pooling);
        let t = seconds / self.station.request_time();
        let [mut pooled, mut split] = [&self.pooled, &self.split].map(|law| Tail::new(law, points, PRECISION));
        if pooling <= 0.0 {
            return pooled.at(t);
        }
        // Quantiles are what is interpolated: the share is the one whose two latencies meet at `t`.
        let partner = |pooled: f64| (t - (1.0 - pooling) * pooled) / pooling;
        let (mut low, mut high) = (0.0, t);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            let apart = pooled.at(middle) > split.at(partner(middle));
            if apart { low = middle } else { high = middle }
        }
        let (least, most) = (pooled.at(high), pooled.at(low));
        split.at(partner(high)).clamp(least.min(most), most)
    }

    fn seconds(&self, pooled: f64, split: f64) -> f64 {
        interpolate(pooled, split, self.station.pooling) * self.station.request_time()
    }
}

// === impl Law ===

impl Law {
    /// The law of a pool that serves a station's requests. `None` when its workers cannot.
    pub(super) fn new(station: &Station, pool: &Pool) -> Option<Self> {
        Self::of(station, pool, station.request_time())
    }

    /// The same for requests that take `request_time` seconds alone, whatever the station says.
    pub(super) fn of(station: &Station, pool: &Pool, request_time: f64) -> Option<Self> {
        let service = station.service_time.scv();
        let served = match station.discipline {
            Discipline::Sharing => Served::Sharing(Slowdown::new(pool, service)),
            Discipline::Fifo => Served::Fifo(Wait::new(pool, Variability { arrival: station.arrival_scv, service })),
        };
        let held = station.workers.as_ref().map(|workers| Held::new(station, workers, pool, request_time));
        match held {
            Some(None) => None,
            held => Some(Self { served, held: held.flatten() }),
        }
    }

    /// Mean sojourn.
    pub(super) fn mean(&self) -> f64 {
        let served = match &self.served {
            Served::Sharing(slowdown) => slowdown.mean,
            Served::Fifo(wait) => 1.0 + wait.mean,
        };
        self.held.map_or(served, |held| served.max(1.0 + held.mean()))
    }

    /// P(T > t) of a request of `work`.
    fn tail_of(&self, work: f64, t: f64) -> f64 {
        let served = match &self.served {
            Served::Sharing(slowdown) => slowdown.tail(work, t),
            Served::Fifo(wait) => wait.tail(t - work),
        };
        self.or_held(served, t - work)
    }

    /// The larger of P(T > t) without and with the wait for a worker, `delay` after the work.
    fn or_held(&self, served: f64, delay: f64) -> f64 {
        self.held.map_or(served, |held| served.max(held.tail(delay)))
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
        let mut tail = Tail::new(self, points, precision);
        falling(|t| tail.at(t), level, low, precision)
    }
}

// === impl Tail ===

impl<'a> Tail<'a> {
    fn new(law: &'a Law, points: &'a [(f64, f64)], precision: f64) -> Self {
        Self { law, points, precision, delays: vec![None; points.len()] }
    }

    /// P(T > t).
    fn at(&mut self, t: f64) -> f64 {
        let (mut sum, mut left) = (0.0, 1.0);
        for ((work, weight), delay) in self.points.iter().rev().zip(&mut self.delays) {
            let served = match &self.law.served {
                Served::Sharing(_) if t <= *work => 1.0,
                Served::Sharing(slowdown) => delay.get_or_insert_with(|| slowdown.delay(*work)).tail(t - work),
                Served::Fifo(wait) => wait.tail(t - work),
            };
            let tail = self.law.or_held(served, t - work);
            sum += weight * tail;
            left -= weight;
            // The smaller the request, the smaller its tail.
            if left * tail <= REMAINDER * self.precision * sum {
                break;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizing::ServiceTime;

    fn station(discipline: Discipline, servers: f64, pooling: f64) -> Station {
        Station { discipline, pooling, ..Station::new(ServiceTime::from_moments(0.05, 1.0).unwrap(), servers) }
    }

    fn stable(station: &Station, rate: f64, replicas: u32) -> Stable<'_> {
        match predict(station, rate, replicas) {
            Some(Prediction::Stable(stable)) => stable,
            other => panic!("{other:?}"),
        }
    }

    /// Guarantees: an overload is unstable and no latency, however near the load is to the servers, and senseless input nothing.
    #[test]
    fn overload_is_unstable() {
        let station = station(Discipline::Sharing, 2.0, 1.0);
        for rate in [400.0, 401.0, 1e9] {
            let Some(Prediction::Unstable { utilization }) = predict(&station, rate, 10) else { panic!("{rate}") };
            assert!(utilization >= 1.0 - 1e-12);
        }
        assert!(matches!(predict(&station, 399.99, 10), Some(Prediction::Stable(_))));
        for (rate, replicas) in [(-1.0, 1), (f64::NAN, 1), (f64::INFINITY, 1), (1.0, 0), (1.0, u32::MAX)] {
            assert_eq!(predict(&station, rate, replicas), None, "{rate} {replicas}");
        }
        assert_eq!(predict(&Station { servers: 0.0, ..station.clone() }, 1.0, 1), None);
    }

    /// Guarantees: the share above a quantile is what is left of it, for every discipline and pooling, and for fractional servers.
    #[test]
    fn shares_invert_quantiles() {
        for discipline in [Discipline::Sharing, Discipline::Fifo] {
            for (servers, pooling) in [(1.0, 0.0), (2.5, 0.2), (0.5, 0.5), (2.0, 1.0), (1.0, 1.4)] {
                let station = station(discipline, servers, pooling);
                let stable = stable(&station, 0.8 * 4.0 * servers / 0.05, 4);
                for q in [0.5, 0.95, 0.99, 0.999] {
                    let quantile = stable.quantile(q).unwrap();
                    let share = stable.share_above(quantile * 1.0001);
                    // A wait that is exponential from a point of the work on makes steps of the size of its weight.
                    let step = if discipline == Discipline::Fifo { 0.1 } else { 0.01 };
                    assert!((share / (1.0 - q) - 1.0).abs() < step, "{station:?} {q}: {quantile} {share}");
                }
            }
        }
    }

    /// Guarantees: without load a request takes its service time; more load or less pooling make everything slower, more replicas
    /// faster.
    #[test]
    fn latency_grows_with_load() {
        let shared = station(Discipline::Sharing, 1.0, 0.3);
        assert!((stable(&shared, 0.0, 3).mean() - 0.05).abs() < 1e-12);
        let means: Vec<f64> = (0..60).map(|rate| stable(&shared, f64::from(rate), 3).mean()).collect();
        assert!(means.is_sorted_by(|a, b| a < b), "{means:?}");
        let quantiles: Vec<f64> = (3..40).map(|replicas| stable(&shared, 55.0, replicas).quantile(0.99).unwrap()).collect();
        assert!(quantiles.is_sorted_by(|a, b| a >= b), "{quantiles:?}");
        let split = station(Discipline::Sharing, 1.0, 0.9);
        assert!(stable(&split, 50.0, 3).quantile(0.9) > stable(&shared, 50.0, 3).quantile(0.9));
    }

    /// Guarantees: half a core is one server of half the speed.
    #[test]
    fn less_than_one_server_is_slower() {
        let (half, whole) = (station(Discipline::Sharing, 0.5, 1.0), Station::new(ServiceTime::from_moments(0.1, 1.0).unwrap(), 1.0));
        let (half, whole) = (stable(&half, 5.0, 1), stable(&whole, 5.0, 1));
        assert!((half.mean() / whole.mean() - 1.0).abs() < 1e-9 && (half.utilization() - 0.5).abs() < 1e-12);
    }
}
