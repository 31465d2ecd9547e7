//! What load each number of replicas can take: the model's sizing, computed where somebody asks and read many times.

use std::sync::OnceLock;

use crate::sizing::{Objective, Station, keeps};

/// Most replicas that a curve describes.
const REPLICAS_MOST: u32 = 10_000;
/// How near the highest utilization of a number of replicas is found, relative.
const PRECISION: f64 = 5e-4;
/// Steps from where it is expected, in precisions at first, and how much longer each next one is.
const STEP: f64 = 2.0;
const LONGER: f64 = 3.0;
/// Grid of replicas: each count up to this, then steps of a quarter of an octave.
const EACH: u32 = 4;

/// The highest arrival rate that each number of replicas takes while it keeps an objective and a utilization.
///
/// A service never asks for most of it: the model is asked when a rate or a number of replicas first is, for all numbers below.
#[derive(Clone, Debug)]
pub struct Curve {
    station: Station,
    objective: Objective,
    utilization_max: f64,
    /// Requests per second of a replica that is always busy.
    one: f64,
    most: u32,
    /// Highest utilizations on the grid of replicas; known up to somewhere.
    knots: Box<[(u32, OnceLock<f64>)]>,
}

// === impl Curve ===

/// Curves of the same question are the same, whatever was asked of them.
impl PartialEq for Curve {
    fn eq(&self, other: &Self) -> bool {
        let question = |curve: &Self| (curve.objective, curve.utilization_max, curve.most);
        self.station == other.station && question(self) == question(other)
    }
}

impl Curve {
    /// The curve of a station up to `most` replicas. Exact for few replicas; in between, the utilization is interpolated by the
    /// reciprocal of the replicas. `None` when no number of replicas keeps the objective, or for senseless input.
    #[must_use]
    pub fn new(station: &Station, objective: &Objective, utilization_max: f64, most: u32) -> Option<Self> {
        let is_sensible = utilization_max > 0.0 && utilization_max <= 1.0 && (1..=REPLICAS_MOST).contains(&most);
        // An idle replica serves as fast as many idle ones.
        if !is_sensible || keeps(station, 0.0, objective, 1) != Some(true) {
            return None;
        }
        let one = station.capacity();
        let knots = grid(most).map(|replicas| (replicas, OnceLock::new())).collect();
        Some(Self { station: station.clone(), objective: *objective, utilization_max, one, most, knots })
    }

    /// Mean service time that it is computed for, in seconds.
    #[must_use]
    pub fn service_time(&self) -> f64 {
        self.station.service_time.mean()
    }

    /// Most replicas that it knows.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most
    }

    /// Requests per second that so many replicas take; the highest known for more, none for none.
    #[must_use]
    pub fn rate(&self, replicas: u32) -> f64 {
        let replicas = replicas.min(self.most);
        if replicas == 0 {
            return 0.0;
        }
        let place = self.knots.partition_point(|(count, _)| *count < replicas);
        self.utilization(place, replicas) * self.one * f64::from(replicas)
    }

    /// The fewest replicas that take a rate: none for no load, all that are known for what even these cannot take.
    #[must_use]
    pub fn replicas(&self, rate: f64) -> u32 {
        if rate <= 0.0 {
            return 0;
        }
        let takes = |place: usize, replicas: u32| self.utilization(place, replicas) * self.one * f64::from(replicas) >= rate;
        // From few replicas on, so that no more of the grid is computed than is needed.
        let enough = self.knots.iter().enumerate().find(|(place, (count, _))| takes(*place, *count));
        let Some((place, (high, _))) = enough else { return self.most };
        let mut high = *high;
        let mut low = place.checked_sub(1).and_then(|before| self.knots.get(before)).map_or(0, |(count, _)| *count);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if takes(place, middle) { high = middle } else { low = middle }
        }
        high
    }

    /// Replicas, with a fraction, for comparisons with a tolerance: at most [`Self::replicas`], and more than one less.
    #[must_use]
    pub fn fractional(&self, rate: f64) -> f64 {
        let whole = self.replicas(rate);
        let (above, below) = (self.rate(whole), self.rate(whole.saturating_sub(1)));
        let share = if above > below { ((rate - below) / (above - below)).clamp(0.0, 1.0) } else { 1.0 };
        f64::from(whole) - 1.0 + share
    }

    /// The highest utilization of so many replicas, at most as many as the knot has and more than the one before: linear in the
    /// reciprocal of the replicas.
    fn utilization(&self, place: usize, replicas: u32) -> f64 {
        let Some((high, above)) = self.knot(place) else { return 0.0 };
        let before = if replicas == high { None } else { place.checked_sub(1).and_then(|before| self.knot(before)) };
        let Some((low, below)) = before else { return above };
        let reciprocal = |count: u32| 1.0 / f64::from(count);
        let share = (reciprocal(low) - reciprocal(replicas)) / (reciprocal(low) - reciprocal(high));
        below + (above - below) * share
    }

    /// A knot of the grid and its utilization, for which those before it are computed first.
    fn knot(&self, place: usize) -> Option<(u32, f64)> {
        let (replicas, known) = self.knots.get(place)?;
        if let Some(utilization) = known.get() {
            return Some((*replicas, *utilization));
        }
        let (mut before, mut last) = (None, None);
        for (replicas, known) in &self.knots[..=place] {
            let found = *known.get_or_init(|| self.highest(*replicas, before, last));
            (before, last) = (last, Some((*replicas, found)));
        }
        last
    }

    /// The highest utilization at which so many replicas keep the objective, from those of the last two knots: fewer replicas kept
    /// it at the last one's, and one pool of more servers is never worse.
    fn highest(&self, replicas: u32, before: Option<(u32, f64)>, last: Option<(u32, f64)>) -> f64 {
        let capacity = self.one * f64::from(replicas);
        let holds = |utilization: f64| keeps(&self.station, capacity * utilization, &self.objective, replicas) == Some(true);
        let (mut low, mut high) = (last.map_or(0.0, |(_, utilization)| utilization), self.utilization_max);
        if low >= high || holds(high) {
            return high;
        }
        if let Some((before, last)) = before.zip(last) {
            (low, high) = gallop(holds, (low, high), expected(before, last, replicas));
        }
        while high - low > PRECISION * high {
            let middle = 0.5 * (low + high);
            if holds(middle) { low = middle } else { high = middle }
        }
        low
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

/// The utilization that two smaller numbers of replicas let expect: pools gain by about the root of their servers.
fn expected((fewer, before): (u32, f64), (few, last): (u32, f64), replicas: u32) -> f64 {
    let root = |count: u32| 1.0 / f64::from(count).sqrt();
    last + (last - before) * (root(few) - root(replicas)) / (root(fewer) - root(few))
}

/// A narrower bracket of where `holds` ends: from what is expected in growing steps to the side where that lies.
fn gallop(holds: impl Fn(f64) -> bool, (mut low, mut high): (f64, f64), expected: f64) -> (f64, f64) {
    let (mut at, mut step) = (expected, STEP * PRECISION * high);
    let is_below = at <= low || (at < high && holds(at));
    if is_below {
        low = low.max(at);
        at = low + step;
        while at < high && holds(at) {
            (low, step) = (at, step * LONGER);
            at += step;
        }
        high = high.min(at);
    } else {
        high = high.min(at);
        at = high - step;
        while at > low && !holds(at) {
            (high, step) = (at, step * LONGER);
            at -= step;
        }
        low = low.max(at);
    }
    (low, high)
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

    /// The highest rate by halving alone, to one in a million.
    fn plainly(station: &Station, objective: &Objective, replicas: u32) -> f64 {
        let capacity = station.servers.max(1.0) * f64::from(replicas) / station.request_time();
        let holds = |utilization: f64| keeps(station, capacity * utilization, objective, replicas) == Some(true);
        let (mut low, mut high) = (0.0, 0.95);
        while high - low > 1e-6 {
            let middle = 0.5 * (low + high);
            if holds(middle) { low = middle } else { high = middle }
        }
        low * capacity
    }

    /// Guarantees: on the grid of replicas rates are within a thousandth of those of a plain search and never above, for small and
    /// large replicas, every balancer and calm and wild service times; in whatever order they are asked for.
    #[test]
    fn rates_are_those_of_a_plain_search() {
        for servers in [1.0, 2.0, 8.0, 32.0] {
            for (pooling, scv) in [(0.0, 1.0), (0.5, 0.2), (0.5, 1.0), (0.5, 4.0), (1.0, 0.2), (1.0, 4.0)] {
                let station = Station { pooling, ..Station::new(ServiceTime::from_moments(0.05, scv).unwrap(), servers) };
                let curve = Curve::new(&station, &OBJECTIVE, 0.95, 64).unwrap();
                for replicas in [64, 1, 2, 6, 24] {
                    let (found, plain) = (curve.rate(replicas), plainly(&station, &OBJECTIVE, replicas));
                    assert!((0.999..1.000_2).contains(&(found / plain)), "{servers} {pooling} {scv} {replicas}: {found} {plain}");
                }
            }
        }
    }

    /// Guarantees: no more is computed than is asked for, and curves are equal whatever was asked of them.
    #[test]
    fn computes_what_is_asked_for() {
        let (curve, untouched) =
            (Curve::new(&station(0.15), &OBJECTIVE, 0.95, 1_000).unwrap(), Curve::new(&station(0.15), &OBJECTIVE, 0.95, 1_000).unwrap());
        let known = |curve: &Curve| curve.knots.iter().filter(|(_, utilization)| utilization.get().is_some()).count();
        assert_eq!((curve.replicas(20.0), known(&curve), known(&untouched)), (1, 1, 0));
        assert!(curve.rate(5) > 0.0 && known(&curve) == 5 && curve == untouched);
        assert_eq!((curve.rate(1_000).to_bits(), known(&curve)), (untouched.rate(1_000).to_bits(), curve.knots.len()));
    }
}
