//! Sizing from plain numbers, any of which may be missing, as SQL has them. Missing or senseless input gives no answer.

use super::{Objective, Prediction, ServiceTime, Sizing, Station, Workers, predict, size};
use crate::queue::erlang::{self, Pool, whole};
use crate::queue::finite::FiniteQueue;
use crate::queue::general::{Variability, Wait};
use crate::queue::join::{self, GeneralizedExponential};
use crate::queue::many::{Fewest, Of, fewest_servers};
use crate::queue::overload;
use crate::queue::scalability::Scalability;

/// Places of a finite queue that are answered: sums run over them, row by row.
const PLACES_MAX: u32 = 10_000;

/// Replicas that keep the share `quantile` of the requests below `latency` (seconds) at `arrival_rate` (requests per second) of
/// mean `service_time` (seconds) and squared coefficient of variation `service_scv`, with `servers` servers per replica shared by
/// all requests, `pooling` between one pool (0) and a random split (1), and at most `utilization_max` busy. `None` also when no
/// number does: see [`latency_feasible`].
#[must_use]
#[expect(clippy::too_many_arguments, reason = "the arguments of a SQL function")]
pub fn replicas_for_latency(
    arrival_rate: Option<f64>,
    service_time: Option<f64>,
    service_scv: Option<f64>,
    servers: Option<f64>,
    latency: Option<f64>,
    quantile: Option<f64>,
    pooling: Option<f64>,
    utilization_max: Option<f64>,
) -> Option<f64> {
    let station = Station { pooling: pooling?, ..station(service_time, service_scv, servers)? };
    replicas(&station, arrival_rate?, &objective(latency, quantile)?, utilization_max?)
}

/// The same for replicas with `workers` (whole) each, of which a request holds one until it is answered: for its own work, and for
/// `outside` seconds in others. `latency` is that of the own work and of what it waits for.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "the arguments of a SQL function")]
pub fn replicas_with_workers(
    arrival_rate: Option<f64>,
    service_time: Option<f64>,
    service_scv: Option<f64>,
    servers: Option<f64>,
    workers: Option<f64>,
    outside: Option<f64>,
    latency: Option<f64>,
    quantile: Option<f64>,
    pooling: Option<f64>,
    utilization_max: Option<f64>,
) -> Option<f64> {
    let (count, outside) = servers_and_load(workers, outside)?;
    let station = station(service_time, service_scv, servers)?;
    let station = Station { pooling: pooling?, workers: Some(Workers { count, outside }), ..station };
    replicas(&station, arrival_rate?, &objective(latency, quantile)?, utilization_max?)
}

/// Whether any number of replicas can keep the share `quantile` of the requests below `latency` (seconds): not when requests
/// that are alone take longer.
#[must_use]
pub fn latency_feasible(
    service_time: Option<f64>,
    service_scv: Option<f64>,
    servers: Option<f64>,
    latency: Option<f64>,
    quantile: Option<f64>,
) -> Option<bool> {
    let sizing = size(&station(service_time, service_scv, servers)?, 0.0, &objective(latency, quantile)?, 1.0)?;
    Some(matches!(sizing, Sizing::Replicas(_)))
}

/// The latency (seconds) that the share `1 - quantile` of the requests exceeds on `replicas` replicas; the other arguments are
/// those of [`replicas_for_latency`]. `None` when the load is more than they can do.
#[must_use]
pub fn predicted_latency(
    arrival_rate: Option<f64>,
    service_time: Option<f64>,
    service_scv: Option<f64>,
    servers: Option<f64>,
    replicas: Option<f64>,
    quantile: Option<f64>,
    pooling: Option<f64>,
) -> Option<f64> {
    let station = Station { pooling: pooling?, ..station(service_time, service_scv, servers)? };
    match predict(&station, arrival_rate?, whole(replicas?))? {
        Prediction::Stable(stable) => stable.quantile(quantile?),
        Prediction::Unstable { .. } => None,
    }
}

/// The highest utilization at which a replica keeps the share `quantile` of its requests below `latency` (seconds), behind a random
/// split; for replicas that share one queue give the servers of all of them.
#[must_use]
pub fn safe_utilization(
    service_time: Option<f64>,
    service_scv: Option<f64>,
    servers: Option<f64>,
    latency: Option<f64>,
    quantile: Option<f64>,
) -> Option<f64> {
    super::safe_utilization(&station(service_time, service_scv, servers)?, &objective(latency, quantile)?)
}

/// Workers, each serving one request at a time from one queue, that keep the wait of the share `quantile` of the requests below
/// `wait` (seconds) at `arrival_rate` (requests per second) of exponential service of mean `service_time` (seconds).
#[must_use]
pub fn replicas_for_wait(arrival_rate: Option<f64>, service_time: Option<f64>, wait: Option<f64>, quantile: Option<f64>) -> Option<f64> {
    let rate = arrival_rate?;
    let fewest = fewest_servers(rate, service_time?, Of::Wait, wait?, quantile?)?;
    match fewest {
        Fewest::Servers(_) if rate <= 0.0 => Some(0.0),
        Fewest::Servers(servers) => Some(f64::from(servers)),
        Fewest::Infeasible { .. } => None,
    }
}

/// Probability that a request is turned away by `servers` servers (whole) without a queue that are offered `load` erlang.
#[must_use]
pub fn erlang_b(servers: Option<f64>, load: Option<f64>) -> Option<f64> {
    servers_and_load(servers, load).map(|(servers, load)| erlang::erlang_b(servers, load))
}

/// Probability that a request waits for one of `servers` servers (whole) that are offered `load` erlang. `None` when the load is
/// more than they can do.
#[must_use]
pub fn erlang_c(servers: Option<f64>, load: Option<f64>) -> Option<f64> {
    let (servers, load) = servers_and_load(servers, load)?;
    (load < f64::from(servers)).then(|| erlang::erlang_c(servers, load))
}

/// Seconds after which `servers` servers at `utilization` have forgotten how they began; formulas for equilibrium hold in windows
/// longer than that.
#[must_use]
pub fn relaxation_time(service_time: Option<f64>, servers: Option<f64>, utilization: Option<f64>) -> Option<f64> {
    overload::relaxation_time(service_time?, servers?, utilization?)
}

/// Servers that drain `backlog` requests within `drain_seconds`, on top of those that the arrivals need.
#[must_use]
pub fn catch_up_servers(backlog: Option<f64>, service_time: Option<f64>, drain_seconds: Option<f64>) -> Option<f64> {
    overload::catch_up_servers(backlog?, service_time?, drain_seconds?)
}

/// Throughput of `workers` workers by the universal scalability law: `single` is that of one, `contention` the share of the work
/// that is not parallel, `coherence` the cost of each pair.
#[must_use]
pub fn usl_throughput(workers: Option<f64>, single: Option<f64>, contention: Option<f64>, coherence: Option<f64>) -> Option<f64> {
    // The law is about whole workers: below one its costs turn into gains.
    let workers = workers.filter(|workers| (*workers >= 1.0 || *workers == 0.0) && workers.is_finite())?;
    Scalability::new(single?, contention?, coherence?).map(|law| law.throughput(workers))
}

/// The wait (seconds) that the share `quantile` of the requests does not exceed in one queue before `servers` servers (at least 1),
/// with arrivals of squared coefficient of variation `arrival_scv` and services of `service_scv` (G/G/c: Kimura, Whitt 1993).
#[must_use]
pub fn wait_quantile(
    arrival_rate: Option<f64>,
    service_time: Option<f64>,
    arrival_scv: Option<f64>,
    service_scv: Option<f64>,
    servers: Option<f64>,
    quantile: Option<f64>,
) -> Option<f64> {
    let time = service_time.filter(|time| *time > 0.0 && time.is_finite())?;
    let pool = Pool::new(servers?, arrival_rate? * time)?;
    Some(Wait::new(&pool, Variability::new(arrival_scv?, service_scv?)?).quantile(quantile?)? * time)
}

/// Probability that a request is turned away where `places` (whole, those in service included) are all that `servers` servers have
/// (M/M/c/K). Unlike a wait it has an answer for any load.
#[must_use]
pub fn loss_probability(arrival_rate: Option<f64>, service_time: Option<f64>, servers: Option<f64>, places: Option<f64>) -> Option<f64> {
    let (servers, load) = servers_and_load(servers, Some(arrival_rate? * service_time.filter(|time| *time >= 0.0)?))?;
    let (places, _) = servers_and_load(places, Some(load))?;
    if load <= 0.0 && places >= servers {
        return Some(0.0);
    }
    FiniteQueue::new(servers, Some(places).filter(|places| *places <= PLACES_MAX)?, load).map(|queue| queue.blocked())
}

/// Requests that wait after `seconds` of a constant load, when `queued` did at first (the fluid limit).
#[must_use]
pub fn queue_after(
    queued: Option<f64>,
    arrival_rate: Option<f64>,
    service_time: Option<f64>,
    servers: Option<f64>,
    seconds: Option<f64>,
) -> Option<f64> {
    overload::queue_after(queued?, arrival_rate?, service_time?, servers?, seconds?)
}

/// Seconds in which `queued` requests are drained beside the arrivals. `None` when they never are.
#[must_use]
pub fn drain_time(queued: Option<f64>, arrival_rate: Option<f64>, service_time: Option<f64>, servers: Option<f64>) -> Option<f64> {
    overload::drain_time(queued?, arrival_rate?, service_time?, servers?)
}

/// Mean time (seconds) until all of `branches` (whole, at most 32) parallel calls are done that take `mean` each on servers of a
/// `utilization`: fork and join (Nelson and Tantawi 1988).
#[must_use]
pub fn fork_join_mean(branches: Option<f64>, mean: Option<f64>, utilization: Option<f64>) -> Option<f64> {
    let (branches, mean) = servers_and_load(branches, mean)?;
    join::mean_of_slowest(branches, utilization?, mean)
}

/// The time (seconds) in which all of `branches` (whole) parallel calls of a mean and a squared coefficient of variation are done
/// in the share `quantile` of the cases: fork and join of independent branches, a tight upper bound where they are not.
#[must_use]
pub fn fork_join_quantile(branches: Option<f64>, mean: Option<f64>, scv: Option<f64>, quantile: Option<f64>) -> Option<f64> {
    let (branches, mean) = servers_and_load(branches, mean)?;
    GeneralizedExponential::from_moments(mean, scv? * mean * mean)?.quantile_of_slowest(branches, quantile?)
}

/// Workers beyond which more of them do less, by the universal scalability law. `None` where there are none.
#[must_use]
pub fn usl_peak(contention: Option<f64>, coherence: Option<f64>) -> Option<f64> {
    Scalability::new(1.0, contention?, coherence?)?.peak().filter(|peak| peak.is_finite())
}

fn replicas(station: &Station, arrival_rate: f64, objective: &Objective, utilization_max: f64) -> Option<f64> {
    match size(station, arrival_rate, objective, utilization_max)? {
        Sizing::Replicas(replicas) => Some(f64::from(replicas)),
        Sizing::Infeasible { .. } => None,
    }
}

fn station(service_time: Option<f64>, service_scv: Option<f64>, servers: Option<f64>) -> Option<Station> {
    Some(Station::new(ServiceTime::from_moments(service_time?, service_scv?)?, servers?))
}

fn objective(latency: Option<f64>, quantile: Option<f64>) -> Option<Objective> {
    Some(Objective { latency: latency?, quantile: quantile? })
}

/// A whole number of servers and a load.
fn servers_and_load(servers: Option<f64>, load: Option<f64>) -> Option<(u32, f64)> {
    let servers = servers.filter(|servers| (1.0..f64::from(u32::MAX)).contains(servers) && servers.fract().abs() <= 0.0)?;
    load.filter(|load| *load >= 0.0 && load.is_finite()).map(|load| (whole(servers), load))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments of [`replicas_for_latency`] in their order, all in range.
    const GOOD: [f64; 8] = [200.0, 0.05, 1.0, 2.0, 0.5, 0.99, 1.0, 0.85];

    fn needed(arguments: [Option<f64>; 8]) -> Option<f64> {
        let [rate, time, scv, servers, latency, quantile, pooling, utilization] = arguments;
        replicas_for_latency(rate, time, scv, servers, latency, quantile, pooling, utilization)
    }

    /// Guarantees: the replicas keep the objective, one fewer do not, and pooling saves some.
    #[test]
    fn replicas_keep_the_objective() {
        let count = needed(GOOD.map(Some)).unwrap();
        let latency = |count: f64| {
            let [rate, time, scv, servers, _, quantile, pooling, _] = GOOD.map(Some);
            predicted_latency(rate, time, scv, servers, Some(count), quantile, pooling)
        };
        assert!(latency(count).unwrap() <= 0.5 && latency(count - 1.0).is_none_or(|latency| latency > 0.5));
        assert_eq!((latency(5.0), latency(0.0)), (None, None));
        let mut pooled = GOOD.map(Some);
        pooled[6] = Some(0.0);
        assert!(needed(pooled).unwrap() < count);
        let held = |workers: f64, outside: f64| {
            let [rate, time, scv, servers, latency, quantile, pooling, utilization] = GOOD.map(Some);
            replicas_with_workers(rate, time, scv, servers, Some(workers), Some(outside), latency, quantile, pooling, utilization)
        };
        // 200 requests per second that hold a worker for 250 ms are 50 workers.
        assert!(held(2.0, 0.2).unwrap() > 25.0 && held(1_000.0, 0.2) == Some(count), "{:?}", held(2.0, 0.2));
        assert_eq!((held(1.5, 0.2), held(0.0, 0.2), held(2.0, -1.0), held(2.0, f64::NAN)), (None, None, None, None));
        let safe = safe_utilization(Some(0.05), Some(1.0), Some(2.0), Some(0.5), Some(0.99)).unwrap();
        assert!((safe - 0.636).abs() < 0.007 && (10.0 / (2.0 * safe)).ceil() <= count, "{safe} {count}");
    }

    /// Guarantees: an objective below the service time has no number of replicas, and it can be told why.
    #[test]
    fn infeasible_is_told() {
        let mut arguments = GOOD.map(Some);
        arguments[4] = Some(0.1);
        let feasible = |latency| latency_feasible(Some(0.05), Some(1.0), Some(2.0), Some(latency), Some(0.99));
        assert_eq!((needed(arguments), feasible(0.1), feasible(0.5)), (None, Some(false), Some(true)));
        assert_eq!(latency_feasible(Some(0.05), None, Some(2.0), Some(0.5), Some(0.99)), None);
        assert_eq!(safe_utilization(Some(0.05), Some(1.0), Some(2.0), Some(0.1), Some(0.99)), None);
    }

    /// Guarantees: reference values of waits (Whitt 1993), losses, fork and join, and the scalability law.
    #[test]
    fn reference_values() {
        let close = |value: Option<f64>, expected: f64| assert!((value.unwrap() / expected - 1.0).abs() < 1e-6, "{value:?} {expected}");
        // c = 4, ρ = .9, Ca² = 1, Cs² = 4: C = .7877532643, E[W] = 4.7351645.
        let at = |quantile| wait_quantile(Some(3.6), Some(1.0), Some(1.0), Some(4.0), Some(4.0), Some(quantile));
        close(at(0.99), (0.787_753_264_3_f64 / 0.01).ln() * 4.735_164_5 / 0.787_753_264_3);
        assert_eq!((at(0.1), wait_quantile(Some(4.0), Some(1.0), Some(1.0), Some(4.0), Some(4.0), Some(0.5))), (Some(0.0), None));
        close(loss_probability(Some(8.0), Some(0.1), Some(1.0), Some(10.0)), 0.023_492_857_58);
        close(loss_probability(Some(48.0), Some(0.1), Some(4.0), Some(20.0)), 0.171_910_280_9);
        assert_eq!(loss_probability(Some(0.0), Some(0.1), Some(1.0), Some(10.0)), Some(0.0));
        assert_eq!(
            (loss_probability(Some(8.0), Some(0.1), Some(4.0), Some(3.0)), loss_probability(Some(8.0), Some(0.1), Some(1.0), Some(1e9))),
            (None, None)
        );
        close(fork_join_mean(Some(8.0), Some(2.0), Some(0.5)), 4.784_821_4);
        close(fork_join_quantile(Some(8.0), Some(2.0), Some(1.0), Some(0.99)), 13.360_438);
        assert_eq!(
            (fork_join_mean(Some(33.0), Some(2.0), Some(0.5)), fork_join_quantile(Some(1.5), Some(2.0), Some(1.0), Some(0.99))),
            (None, None)
        );
        assert_eq!(
            (
                queue_after(Some(5.0), Some(30.0), Some(0.1), Some(2.0), Some(10.0)),
                drain_time(Some(20.0), Some(10.0), Some(0.1), Some(2.0))
            ),
            (Some(105.0), Some(2.0))
        );
        // √((1 − .05) / .001)
        close(usl_peak(Some(0.05), Some(0.001)), 950f64.sqrt());
        assert_eq!(usl_peak(Some(0.05), Some(0.0)), None);
    }

    /// Guarantees: each argument that is missing, negative, unbounded or no number leaves no answer.
    #[test]
    fn missing_stays_missing() {
        for place in 0..GOOD.len() {
            for bad in [None, Some(f64::NAN), Some(-1.0), Some(f64::INFINITY)] {
                let mut arguments = GOOD.map(Some);
                arguments[place] = bad;
                assert_eq!(needed(arguments), None, "{place} {bad:?}");
            }
        }
        for bad in [None, Some(f64::NAN), Some(-1.0)] {
            assert_eq!(replicas_for_wait(bad, Some(0.1), Some(0.02), Some(0.95)), None);
            assert_eq!(replicas_for_wait(Some(50.0), Some(0.1), bad, Some(0.95)), None);
            assert_eq!((erlang_b(bad, Some(1.0)), erlang_c(Some(2.0), bad)), (None, None));
            assert_eq!((relaxation_time(bad, Some(1.0), Some(0.5)), catch_up_servers(bad, Some(1.0), Some(1.0))), (None, None));
            assert_eq!(usl_throughput(bad, Some(100.0), Some(0.1), Some(0.0)), None);
        }
        assert_eq!((erlang_c(Some(2.0), Some(2.0)), erlang_b(Some(1.5), Some(1.0)), erlang_b(Some(0.0), Some(1.0))), (None, None, None));
    }

    /// Guarantees: the plain functions are those of the models.
    #[test]
    fn plain_functions() {
        assert_eq!(replicas_for_wait(Some(50.0), Some(0.1), Some(0.02), Some(0.95)), Some(9.0));
        assert_eq!(replicas_for_wait(Some(0.0), Some(0.1), Some(0.02), Some(0.95)), Some(0.0));
        assert!((erlang_b(Some(2.0), Some(1.0)).unwrap() - 0.2).abs() < 1e-12);
        assert!((erlang_c(Some(2.0), Some(1.0)).unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert!((relaxation_time(Some(0.05), Some(1.0), Some(0.9)).unwrap() - 19.0).abs() < 0.3);
        assert!((catch_up_servers(Some(1200.0), Some(0.1), Some(30.0)).unwrap() - 4.0).abs() < 1e-12);
        assert!((usl_throughput(Some(2.0), Some(100.0), Some(0.05), Some(0.0)).unwrap() - 190.476_19).abs() < 1e-5);
        assert_eq!(usl_throughput(Some(0.0), Some(100.0), Some(0.05), Some(0.0)), Some(0.0));
    }
}
