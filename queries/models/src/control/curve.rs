//! What load each number of replicas can take: the model's sizing, computed once and read many times.

use crate::sizing::{Objective, Station, keeps};

/// Most replicas that a curve describes.
const REPLICAS_MOST: u32 = 10_000;
/// How near the highest utilization of a number of replicas is found.
const PRECISION: f64 = 2.5e-4;
/// Grid of replicas: each count up to this, then steps of a quarter of an octave.
const EACH: u32 = 4;

/// The highest arrival rate that each number of replicas takes while it keeps an objective and a utilization.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Mean service time that it was computed for, in seconds.
    service_time: f64,
    /// Requests per second, by replicas from one on; rising.
    rates: Vec<f64>,
}

// === impl Curve ===

impl Curve {
    /// The curve of a station up to `most` replicas. Exact for few replicas; in between, the utilization is interpolated by the
    /// reciprocal of the replicas. `None` when no number of replicas keeps the objective, or for senseless input.
    #[must_use]
    pub fn new(station: &Station, objective: &Objective, utilization_max: f64, most: u32) -> Option<Self> {
        if !(utilization_max > 0.0 && utilization_max <= 1.0 && (1..=REPLICAS_MOST).contains(&most)) {
            return None;
        }
        let mut knots: Vec<(u32, f64)> = Vec::new();
        for replicas in grid(most) {
            let before = knots.last().map_or(0.0, |(_, utilization)| *utilization);
            knots.push((replicas, highest_utilization(station, objective, (before, utilization_max), replicas)?));
        }
        let one = station.servers.max(1.0) / station.request_time();
        let rates = (1..=most).map(|replicas| interpolated(&knots, replicas) * one * f64::from(replicas)).collect();
        Some(Self { service_time: station.service_time.mean(), rates })
    }

    /// Mean service time that it was computed for, in seconds.
    #[must_use]
    pub fn service_time(&self) -> f64 {
        self.service_time
    }

    /// Most replicas that it knows.
    #[must_use]
    pub fn most(&self) -> u32 {
        u32::try_from(self.rates.len()).unwrap_or(u32::MAX)
    }

    /// Requests per second that so many replicas take; the highest known for more, none for none.
    #[must_use]
    pub fn rate(&self, replicas: u32) -> f64 {
        let place = usize::try_from(replicas.min(self.most())).unwrap_or(0);
        place.checked_sub(1).and_then(|place| self.rates.get(place)).copied().unwrap_or(0.0)
    }

    /// The fewest replicas that take a rate: none for no load, all that are known for what even these cannot take.
    #[must_use]
    pub fn replicas(&self, rate: f64) -> u32 {
        if rate <= 0.0 {
            return 0;
        }
        let below = self.rates.partition_point(|highest| *highest < rate);
        u32::try_from(below).unwrap_or(u32::MAX).saturating_add(1).min(self.most())
    }

    /// Replicas, with a fraction, for comparisons with a tolerance: at most [`Self::replicas`], and more than one less.
    #[must_use]
    pub fn fractional(&self, rate: f64) -> f64 {
        let whole = self.replicas(rate);
        let (above, below) = (self.rate(whole), self.rate(whole.saturating_sub(1)));
        let share = if above > below { ((rate - below) / (above - below)).clamp(0.0, 1.0) } else { 1.0 };
        f64::from(whole) - 1.0 + share
    }
}

/// Numbers of replicas for which the model is asked.
fn grid(most: u32) -> impl Iterator<Item = u32> {
    let next = move |replicas: &u32| {
        let step = if *replicas < EACH { 1 } else { (1 << replicas.ilog2()) / 2 };
        (*replicas < most).then(|| (replicas + step).min(most))
    };
    std::iter::successors(Some(1), next)
}

/// The highest utilization between two at which so many replicas keep the objective: fewer replicas kept it at the lower one, and one
/// pool of more servers is never worse. `None` when even idle ones break it.
fn highest_utilization(station: &Station, objective: &Objective, (least, most): (f64, f64), replicas: u32) -> Option<f64> {
    let capacity = station.servers.max(1.0) * f64::from(replicas) / station.request_time();
    let holds = |utilization: f64| keeps(station, capacity * utilization, objective, replicas) == Some(true);
    if least <= 0.0 && !holds(0.0) {
        return None;
    }
    let (mut low, mut high) = (least, most);
    if low >= high || holds(high) {
        return Some(high);
    }
    while high - low > PRECISION {
        let middle = 0.5 * (low + high);
        if holds(middle) { low = middle } else { high = middle }
    }
    Some(low)
}

/// The utilization between knots, linear in the reciprocal of the replicas.
fn interpolated(knots: &[(u32, f64)], replicas: u32) -> f64 {
    let place = knots.partition_point(|(count, _)| *count < replicas);
    let Some((high, above)) = knots.get(place).or(knots.last()).copied() else { return 0.0 };
    let Some((low, below)) = place.checked_sub(1).and_then(|before| knots.get(before)).copied() else { return above };
    let reciprocal = |count: u32| 1.0 / f64::from(count);
    if low == high {
        return above;
    }
    let share = (reciprocal(low) - reciprocal(replicas)) / (reciprocal(low) - reciprocal(high));
    below + (above - below) * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizing::{ServiceTime, Sizing, size};

    fn station(pooling: f64) -> Station {
        Station { pooling, ..Station::new(ServiceTime::from_moments(0.05, 1.0).unwrap(), 2.0) }
    }

    const OBJECTIVE: Objective = Objective { latency: 0.5, quantile: 0.99 };

    /// Guarantees: the curve's replicas are those of the sizing, within one where it interpolates.
    #[test]
    fn agrees_with_sizing() {
        for pooling in [0.0, 0.15, 1.0] {
            let curve = Curve::new(&station(pooling), &OBJECTIVE, 0.95, 90).unwrap();
            for rate in [1.0, 25.0, 90.0, 333.0, 1000.0, 1800.0] {
                let Some(Sizing::Replicas(expected)) = size(&station(pooling), rate, &OBJECTIVE, 0.95) else { unreachable!() };
                assert!(curve.replicas(rate).abs_diff(expected) <= 1, "{pooling} {rate}: {} {expected}", curve.replicas(rate));
            }
        }
    }

    /// Guarantees: rates rise; fractions lie between; no load needs nobody; what is beyond the curve gets its end.
    #[test]
    fn reads_both_ways() {
        let curve = Curve::new(&station(0.15), &OBJECTIVE, 0.95, 40).unwrap();
        assert!((1..40).all(|replicas| curve.rate(replicas) < curve.rate(replicas + 1)));
        assert!((1..=40).all(|replicas| curve.replicas(curve.rate(replicas)) == replicas));
        assert_eq!((curve.replicas(0.0), curve.replicas(1e9), curve.most()), (0, 40, 40));
        let middle = 0.5 * (curve.rate(7) + curve.rate(8));
        assert!((curve.fractional(middle) - 7.5).abs() < 1e-9);
        assert_eq!(Curve::new(&station(0.15), &Objective { latency: 0.1, ..OBJECTIVE }, 0.95, 40), None);
    }
}
