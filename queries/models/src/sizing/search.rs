//! The smallest number of replicas that holds an objective.

use super::prediction::Law;
use super::{Objective, SERVERS_MAX, Station};
use crate::queue::erlang::{Blocking, Pool, whole};

/// Relative precision of the quantiles in the search; a replica more or less moves them by far more.
const PRECISION: f64 = 1e-4;
/// How much slower than the work alone a pool is taken to be at first.
const NEARLY: f64 = 1.01;

/// What an objective needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizing {
    /// The smallest number of replicas that keeps it. Zero without load.
    Replicas(u32),
    /// No number of replicas keeps it, because requests take longer even alone.
    Infeasible {
        /// Share of the requests that do.
        share_above: f64,
    },
}

/// A search for one service at one load.
struct Search<'a> {
    station: &'a Station,
    arrival_rate: f64,
    load: f64,
    lanes: f64,
    /// The objective in units of the mean time of a request alone.
    latency: f64,
    /// The quantile of the objective for requests that are alone, in the same units.
    alone: f64,
    /// Share of the requests that may exceed it.
    level: f64,
}

/// The smallest number of replicas that serves `arrival_rate` (requests per second), keeps the objective and is busy for at most
/// the share `utilization_max` of the time. `None` for senseless input or an absurd number.
#[must_use]
pub fn size(station: &Station, arrival_rate: f64, objective: &Objective, utilization_max: f64) -> Option<Sizing> {
    if !(utilization_max > 0.0 && utilization_max <= 1.0) {
        return None;
    }
    let search = Search::new(station, arrival_rate, objective)?;
    let alone = station.service_time.share_above(search.latency * station.service_time.mean());
    // Weights that sum to the level but for rounding keep it.
    if alone > search.level * (1.0 + 1e-9) {
        return Some(Sizing::Infeasible { share_above: alone });
    }
    if search.load <= 0.0 {
        return Some(Sizing::Replicas(0));
    }
    search.replicas(utilization_max).map(Sizing::Replicas)
}

/// Whether so many replicas keep the objective at `arrival_rate`; cheaper than the latency itself. `None` for senseless input.
#[must_use]
pub fn keeps(station: &Station, arrival_rate: f64, objective: &Objective, replicas: u32) -> Option<bool> {
    let search = Search::new(station, arrival_rate, objective)?;
    (replicas > 0).then(|| search.holds(replicas, &mut Blocking::new(search.load)))
}

// === impl Search ===

impl<'a> Search<'a> {
    fn new(station: &'a Station, arrival_rate: f64, objective: &Objective) -> Option<Self> {
        let valid = station.is_valid() && objective.is_valid() && arrival_rate >= 0.0 && arrival_rate.is_finite();
        if !valid {
            return None;
        }
        Some(Self {
            station,
            arrival_rate,
            load: station.load(arrival_rate),
            lanes: station.lanes(),
            latency: objective.latency / station.request_time(),
            alone: station.service_time.quantile(objective.quantile)? / station.service_time.mean(),
            level: 1.0 - objective.quantile,
        })
    }

    fn replicas(&self, utilization_max: f64) -> Option<u32> {
        let most = (SERVERS_MAX / self.lanes).min(f64::from(u32::MAX / 4));
        let least = (self.arrival_rate / (self.station.capacity() * utilization_max) * (1.0 - 1e-12)).ceil().max(1.0);
        if least >= most {
            return None;
        }
        // `low` is too few; what is above `high` is enough.
        let mut blocking = Blocking::new(self.load);
        let (mut low, mut high, mut step) = (whole(least) - 1, whole(least), 1);
        // Steps grow fast: to halve a range that is too wide costs less than to reach it.
        while !self.holds(high, &mut blocking) {
            low = high;
            high = high.saturating_add(step);
            step = step.saturating_mul(4);
            if f64::from(high) > most {
                return None;
            }
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let mut ahead = blocking;
            if self.holds(middle, &mut ahead) {
                high = middle;
            } else {
                (low, blocking) = (middle, ahead);
            }
        }
        Some(high)
    }

    /// Whether so many replicas keep the objective. Leaves the recursion at their servers when they do not.
    fn holds(&self, replicas: u32, blocking: &mut Blocking) -> bool {
        let (points, pooling) = (self.station.service_time.unit_points(), self.station.pooling);
        let count = f64::from(replicas);
        let split = || Pool::new(self.lanes, self.load / count).and_then(|pool| Law::new(self.station, &pool));
        let late = |law: &Law, t: f64| law.exceeds(points, t, self.level);
        if (pooling - 1.0).abs() < 1e-9 || replicas == 1 {
            return split().is_some_and(|law| !late(&law, self.latency));
        }
        let mut ahead = *blocking;
        let Some(pooled) = Pool::climb(self.lanes * count, &mut ahead).and_then(|pool| Law::new(self.station, &pool)) else {
            return false;
        };
        if late(&pooled, self.latency) {
            *blocking = ahead;
            return false;
        }
        if pooling <= 0.0 {
            return true;
        }
        let Some(split) = split() else { return false };
        if pooling <= 1.0 && !late(&split, self.latency) {
            return true;
        }
        if pooling < 1.0 {
            return self.meets(&pooled, &split);
        }
        // Worse than random: the split replica must make up for what the pool lacks.
        self.leaves_room(&pooled, &split)
    }

    /// Whether the quantile between those of pool and split keeps the objective: whether some time that the pool keeps leaves the
    /// split a time that it keeps too.
    fn meets(&self, pooled: &Law, split: &Law) -> bool {
        let points = self.station.service_time.unit_points();
        // No pool is faster than the work alone, and a large one hardly slower: where much is left or missing, one look is enough.
        let (mut low, mut high, mut own) = (self.alone, self.latency, (self.alone * NEARLY).min(self.latency));
        loop {
            match (pooled.exceeds(points, own, self.level), split.exceeds(points, self.left(own), self.level)) {
                (false, false) => return true,
                (true, true) => return false,
                (true, false) => low = own,
                (false, true) => high = own,
            }
            // A wait for workers has steps, which make exact quantiles dear; without them one quantile is cheaper than many looks.
            if self.station.workers.is_none() {
                return self.leaves_room(pooled, split);
            }
            if high - low <= PRECISION * high {
                return false;
            }
            own = 0.5 * (low + high);
        }
    }

    /// Whether the quantile of the pool leaves the split a time that it keeps.
    fn leaves_room(&self, pooled: &Law, split: &Law) -> bool {
        let points = self.station.service_time.unit_points();
        let own = pooled.exceeded_by(points, self.level, PRECISION);
        own.is_some_and(|own| !split.exceeds(points, self.left(own), self.level))
    }

    /// The time that the split may take when the pool takes its own.
    fn left(&self, own: f64) -> f64 {
        let pooling = self.station.pooling;
        (self.latency - (1.0 - pooling) * own) / pooling
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizing::{Discipline, Prediction, ServiceTime, predict};

    fn station(scv: f64, servers: f64, pooling: f64) -> Station {
        Station { pooling, ..Station::new(ServiceTime::from_moments(0.05, scv).unwrap(), servers) }
    }

    fn exceeded(station: &Station, rate: f64, replicas: u32, quantile: f64) -> Option<f64> {
        match predict(station, rate, replicas)? {
            Prediction::Stable(stable) => stable.quantile(quantile),
            Prediction::Unstable { .. } => None,
        }
    }

    /// Guarantees: for every discipline, balancer and size of replica, the number keeps objective and utilization, and one
    /// replica less breaks one of them.
    #[test]
    fn the_smallest_number_that_holds() {
        for discipline in [Discipline::Sharing, Discipline::Fifo] {
            for (scv, servers, pooling) in
                [(0.25, 1.0, 1.0), (1.0, 2.0, 0.2), (1.0, 0.5, 1.0), (2.0, 4.0, 0.0), (1.0, 1.5, 0.5), (1.0, 1.0, 1.3)]
            {
                for (rate, latency) in [(3.0, 0.6), (40.0, 0.8), (900.0, 0.5), (5000.0, 0.9)] {
                    let station = Station { discipline, ..station(scv, servers, pooling) };
                    let objective = Objective { latency, quantile: 0.99 };
                    let Some(Sizing::Replicas(replicas)) = size(&station, rate, &objective, 0.85) else { panic!("{station:?}") };
                    let utilization = |replicas: u32| station.load(rate) / (servers.max(1.0) * f64::from(replicas));
                    let found = exceeded(&station, rate, replicas, 0.99).unwrap();
                    assert!(found <= latency * 1.001 && utilization(replicas) <= 0.85, "{station:?} {rate} {replicas} {found}");
                    if replicas > 1 {
                        let fewer = exceeded(&station, rate, replicas - 1, 0.99);
                        let broken = utilization(replicas - 1) > 0.85 || fewer.is_none_or(|found| found > latency * 0.999);
                        assert!(broken, "{station:?} {rate} {replicas} {fewer:?}");
                    }
                }
            }
        }
    }

    /// Guarantees: an objective that requests miss even alone is told apart, with the share that does, and never sized.
    #[test]
    fn infeasible_is_not_many() {
        let station = station(1.0, 2.0, 1.0);
        let objective = Objective { latency: 0.1, quantile: 0.99 };
        let Some(Sizing::Infeasible { share_above }) = size(&station, 100.0, &objective, 0.85) else { panic!("sized") };
        assert!((share_above - (-2f64).exp()).abs() < 0.02, "{share_above}");
        // Half a core takes twice as long, so that this objective is feasible on a whole one only.
        let objective = Objective { latency: 0.4, quantile: 0.99 };
        assert!(matches!(size(&Station { servers: 0.5, ..station.clone() }, 100.0, &objective, 0.85), Some(Sizing::Infeasible { .. })));
        assert!(matches!(size(&station, 100.0, &objective, 0.85), Some(Sizing::Replicas(_))));
    }

    /// Guarantees: no load needs no replica and any load at least one; senseless numbers need nothing that could be said.
    #[test]
    fn idle_and_senseless() {
        let station = station(1.0, 1.0, 1.0);
        let objective = Objective { latency: 0.5, quantile: 0.99 };
        assert_eq!(size(&station, 0.0, &objective, 0.85), Some(Sizing::Replicas(0)));
        assert_eq!(size(&station, 1e-9, &objective, 0.85), Some(Sizing::Replicas(1)));
        for (rate, utilization) in
            [(-1.0, 0.85), (f64::NAN, 0.85), (f64::INFINITY, 0.85), (1e300, 0.85), (1.0, 0.0), (1.0, 1.1), (1.0, f64::NAN)]
        {
            assert_eq!(size(&station, rate, &objective, utilization), None);
        }
        assert_eq!(size(&Station { servers: 0.0, ..station.clone() }, 1.0, &objective, 0.85), None);
        assert_eq!(size(&Station { pooling: 2.0, ..station.clone() }, 1.0, &objective, 0.85), None);
        assert_eq!(size(&Station { arrival_scv: f64::NAN, ..station.clone() }, 1.0, &objective, 0.85), None);
        for (latency, quantile) in [(0.0, 0.99), (f64::NAN, 0.99), (0.5, 1.0), (0.5, 0.0), (0.5, f64::NAN)] {
            assert_eq!(size(&station, 1.0, &Objective { latency, quantile }, 0.85), None);
        }
    }

    /// Guarantees: work queued in one place needs the numbers of servers of M/M/c, when service is exponential.
    #[test]
    fn worker_pools_are_erlangs() {
        for (rate, mean, latency, workers) in
            [(50.0, 0.1, 0.4, 7), (100.0, 0.05, 0.3, 7), (1000.0, 0.05, 0.25, 53), (5000.0, 0.02, 0.1, 103)]
        {
            let service_time = ServiceTime::from_moments(mean, 1.0).unwrap();
            let station = Station { discipline: Discipline::Fifo, pooling: 0.0, ..Station::new(service_time, 1.0) };
            let quantile = if (rate - 50.0f64).abs() < 1.0 { 0.95 } else { 0.99 };
            let Some(Sizing::Replicas(found)) = size(&station, rate, &Objective { latency, quantile }, 1.0) else { panic!("infeasible") };
            assert!(found.abs_diff(workers) <= 1, "{rate}: {found} is not {workers}");
        }
    }
}
