//! What lies behind the mean latency of a loaded service: its service time, or how many servers a replica has.
//!
//! A latency contains the wait for the servers. Taken for the service time it would count that wait twice, the more the busier the
//! service is. What remains after the wait of the model is taken out is right at any load: near the whole latency when servers idle,
//! and near what the throughput says when they do not.

use super::Station;
use super::prediction::Law;
use crate::queue::erlang::{Blocking, Pool};
use crate::queue::pooling::interpolate;

/// Relative precision of the answers.
const PRECISION: f64 = 1e-6;
/// Service times are looked for from this part of the latency on: less is no work at all.
const SHORTEST: f64 = 1e-12;
/// Steps after which an answer is precise enough in any case.
const STEPS: u32 = 80;
/// Most servers of a replica that anybody has.
const SERVERS_MOST: f64 = 4_096.0;

/// The mean service time (in seconds) of a service whose requests take `latency` seconds on average at `arrival_rate` requests per
/// second on so many replicas. The service time of the station itself does not matter, but for its variation. `None` for senseless
/// input.
///
/// Where arrivals and servers cannot be told apart from an overload, it is the longest service time that the servers can carry.
#[must_use]
pub fn service_time_behind(station: &Station, latency: f64, arrival_rate: f64, replicas: u32) -> Option<f64> {
    let valid =
        station.is_valid() && latency > 0.0 && latency.is_finite() && arrival_rate >= 0.0 && arrival_rate.is_finite() && replicas > 0;
    if !valid {
        return None;
    }
    let carried = station.lanes() * f64::from(replicas) / arrival_rate;
    // What is left of the latency falls with the service time. Its share keeps the search quick where latencies grow without bound.
    let left = |time: f64| {
        let time = time.max(SHORTEST * latency);
        let needed = slowdown(station, arrival_rate, time, replicas).map(|slow| time * slow);
        latency * needed.map_or(-1.0, |needed| (latency - needed) / (latency + needed))
    };
    Some(zero_of_falling(left, latency.min(carried)) * station.servers.min(1.0))
}

/// The servers of each replica when these are busy for the share `utilization` of the time and requests take `latency` seconds on
/// average; at least one. The servers, the workers and the service time of the station itself do not matter. `None` for senseless
/// input.
///
/// With little load this is the number of requests under way over the utilization: a request that waits for something else than
/// servers half of its time needs half of one. The nearer the utilization is to one the less it says.
#[must_use]
pub fn servers_behind(station: &Station, latency: f64, arrival_rate: f64, replicas: u32, utilization: f64) -> Option<f64> {
    let valid = latency > 0.0 && latency.is_finite() && arrival_rate > 0.0 && arrival_rate.is_finite() && replicas > 0;
    if !(valid && utilization > 0.0 && utilization < 1.0) {
        return None;
    }
    // Requests under way on a replica; they grow with the servers at the same utilization.
    let under_way = arrival_rate * latency / f64::from(replicas);
    let left = |servers: f64| {
        let time = utilization * servers * f64::from(replicas) / arrival_rate;
        let slow = slowdown(&Station { servers, workers: None, ..station.clone() }, arrival_rate, time, replicas);
        slow.map_or(-1.0, |slow| under_way - utilization * servers * slow)
    };
    if left(1.0) <= 0.0 {
        return Some(1.0);
    }
    let most = (under_way / utilization).clamp(1.0, SERVERS_MOST);
    Some(1.0 + zero_of_falling(|more| left(1.0 + more), most - 1.0))
}

/// How much longer than the `time` in seconds that they take alone requests take. `None` when the servers cannot carry them.
fn slowdown(station: &Station, arrival_rate: f64, time: f64, replicas: u32) -> Option<f64> {
    let (lanes, count, load) = (station.lanes(), f64::from(replicas), arrival_rate * time);
    let law = |lanes: f64, load: f64| Law::of(station, &Pool::climb(lanes, &mut Blocking::new(load))?, time);
    let mean = |lanes: f64, load: f64| law(lanes, load).map(|law| law.mean());
    let split = mean(lanes, load / count)?;
    let pooled = if replicas == 1 || (station.pooling - 1.0).abs() < 1e-9 { split } else { mean(lanes * count, load)? };
    Some(interpolate(pooled, split, station.pooling))
}

/// Where a falling function that begins above zero at zero reaches it, at most `high`: false position, with the weight of an end
/// that stays halved (the Illinois rule).
fn zero_of_falling(function: impl Fn(f64) -> f64, high: f64) -> f64 {
    let (mut low, mut above) = (0.0, function(0.0));
    let (mut high, mut below) = (high, function(high));
    let mut last_was_low = None;
    for _ in 0..STEPS {
        if below >= 0.0 || above <= 0.0 || high - low <= PRECISION * high {
            break;
        }
        let guess = (low + (high - low) * above / (above - below)).clamp(low, high);
        let found = function(guess);
        if found > 0.0 {
            (low, above) = (guess, found);
            below *= if last_was_low == Some(true) { 0.5 } else { 1.0 };
        } else {
            (high, below) = (guess, found);
            above *= if last_was_low == Some(false) { 0.5 } else { 1.0 };
        }
        last_was_low = Some(found > 0.0);
        if found.abs() <= PRECISION * guess {
            return guess;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sizing::{Discipline, Prediction, ServiceTime, predict};

    fn station(servers: f64, pooling: f64, discipline: Discipline) -> Station {
        Station { discipline, pooling, ..Station::new(ServiceTime::from_moments(0.05, 1.0).unwrap(), servers) }
    }

    /// Mean latency and utilization of a station.
    fn seen(station: &Station, rate: f64, replicas: u32) -> (f64, f64) {
        let Some(Prediction::Stable(stable)) = predict(station, rate, replicas) else { panic!("{rate} is unstable") };
        (stable.mean(), stable.utilization())
    }

    /// Guarantees: one server doubles a latency at half its capacity: behind 100 ms at 10/s are 50 ms, behind 50 ms without load
    /// 50 ms, and behind an overload what the servers can carry.
    #[test]
    fn known_answers() {
        let one = station(1.0, 1.0, Discipline::Sharing);
        assert!((service_time_behind(&one, 0.1, 10.0, 1).unwrap() - 0.05).abs() < 1e-6);
        assert!((service_time_behind(&one, 0.05, 0.0, 1).unwrap() - 0.05).abs() < 1e-9);
        assert!((service_time_behind(&one, 1e6, 40.0, 2).unwrap() / 0.05 - 1.0).abs() < 1e-3);
        // Two servers: 1 / (1 - ρ²).
        let two = station(2.0, 1.0, Discipline::Sharing);
        assert!((service_time_behind(&two, 0.05 / (1.0 - 0.25), 20.0, 1).unwrap() - 0.05).abs() < 1e-6);
        // Half a server: what takes 50 ms of a whole one takes 100 ms when it is alone.
        let half = station(0.5, 1.0, Discipline::Sharing);
        assert!((service_time_behind(&half, 0.1, 0.0, 1).unwrap() - 0.05).abs() < 1e-9);
        // One busy half of the time has one request under way on average, or it has more servers than one.
        assert!((servers_behind(&one, 0.1, 10.0, 1, 0.5).unwrap() - 1.0).abs() < 1e-6);
        assert!((servers_behind(&one, 0.1, 100.0, 1, 0.01).unwrap() / 1000.0 - 1.0).abs() < 1e-6);
    }

    /// Guarantees: what is no latency, load or utilization has no answer.
    #[test]
    fn senseless_input() {
        let one = station(1.0, 1.0, Discipline::Sharing);
        for (latency, rate, replicas) in [(0.0, 1.0, 1), (f64::NAN, 1.0, 1), (1.0, -1.0, 1), (1.0, f64::INFINITY, 1), (1.0, 1.0, 0)] {
            assert_eq!(service_time_behind(&one, latency, rate, replicas), None);
            assert_eq!(servers_behind(&one, latency, rate, replicas, 0.5), None);
        }
        assert_eq!(service_time_behind(&Station { servers: 0.0, ..one.clone() }, 1.0, 1.0, 1), None);
        for utilization in [0.0, 1.0, f64::NAN] {
            assert_eq!(servers_behind(&one, 1.0, 1.0, 1, utilization), None);
        }
    }

    proptest! {
        /// Guarantees: the service time and the servers that a prediction was made with are found behind it, whatever they are.
        #[test]
        fn predictions_are_inverted(
            servers in 0.2_f64..40.0,
            replicas in 1_u32..40,
            pooling in 0.0_f64..1.0,
            utilization in 0.02_f64..0.9,
            is_fifo in any::<bool>(),
        ) {
            let discipline = if is_fifo { Discipline::Fifo } else { Discipline::Sharing };
            let station = station(servers, pooling, discipline);
            let rate = utilization * servers.max(1.0) * f64::from(replicas) / station.request_time();
            let (mean, busy) = seen(&station, rate, replicas);
            let found = service_time_behind(&station, mean, rate, replicas).unwrap();
            prop_assert!((found / 0.05 - 1.0).abs() < 1e-4, "{}", found);
            if servers >= 1.0 && busy < 0.6 {
                let found = servers_behind(&station, mean, rate, replicas, busy).unwrap();
                prop_assert!((found / servers - 1.0).abs() < 0.01, "{}", found);
            }
        }
    }
}
