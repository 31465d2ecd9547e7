//! Workers that are held, against closed forms and a simulation of every request.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and random bits of a simulation"
)]

use std::collections::VecDeque;

use super::*;
use crate::sizing::{Objective, Prediction, ServiceTime, Sizing, Stable, predict, service_time_behind, size};

const OWN: f64 = 0.05;

/// Replicas of `servers` servers and `count` workers, of which a request holds one for its own work and `outside` seconds.
fn station(servers: f64, count: u32, outside: f64) -> Station {
    let workers = Some(Workers { count, outside });
    Station { workers, ..Station::new(ServiceTime::from_moments(OWN, 1.0).unwrap(), servers) }
}

fn stable(station: &Station, rate: f64) -> Stable<'_> {
    match predict(station, rate, 1) {
        Some(Prediction::Stable(stable)) => stable,
        other => panic!("{rate}: {other:?}"),
    }
}

/// A replica, request by request: exponential gaps, own work and time in others.
struct Simulation {
    random: u64,
    servers: f64,
    workers: usize,
    now: f64,
    /// When they came.
    waiting: VecDeque<f64>,
    /// Work that is left, and when they came.
    working: Vec<(f64, f64)>,
    /// When others are done.
    outside: Vec<f64>,
    /// Wait and own work, of those who are with others or answered.
    sojourns: Vec<f64>,
}

impl Simulation {
    /// P95, P99 and mean of the time that requests wait and are worked on, in seconds.
    fn run(station: &Station, rate: f64) -> [f64; 3] {
        let workers = station.workers.unwrap();
        let mut replica = Self {
            random: 0x9E37_79B9_7F4A_7C15,
            servers: station.servers,
            workers: workers.count as usize,
            now: 0.0,
            waiting: VecDeque::new(),
            working: Vec::new(),
            outside: Vec::new(),
            sojourns: Vec::new(),
        };
        let mut arrival: f64 = 0.0;
        while replica.sojourns.len() < 300_000 {
            let speed = (replica.servers / replica.working.len() as f64).min(1.0);
            let least = replica.working.iter().map(|(left, _)| *left).fold(f64::INFINITY, f64::min);
            let back = replica.outside.iter().copied().fold(f64::INFINITY, f64::min);
            let (done, before) = (replica.now + least / speed, replica.now);
            replica.now = arrival.min(done).min(back);
            let passed = (replica.now - before) * speed;
            replica.working.iter_mut().for_each(|(left, _)| *left -= passed);
            if arrival <= replica.now {
                replica.waiting.push_back(arrival);
                arrival += replica.exponential(1.0 / rate);
            } else if back <= replica.now {
                replica.outside.retain(|at| *at > back);
            } else {
                let place = replica.working.iter().position(|(left, _)| *left <= least - passed + 1e-12).unwrap();
                let (_, came) = replica.working.swap_remove(place);
                replica.sojourns.push(replica.now - came);
                let until = replica.now + replica.exponential(workers.outside);
                replica.outside.push(until);
            }
            while replica.working.len() + replica.outside.len() < replica.workers {
                let Some(came) = replica.waiting.pop_front() else { break };
                let work = replica.exponential(OWN);
                replica.working.push((work, came));
            }
        }
        let mut seen = replica.sojourns.split_off(30_000);
        let mean = seen.iter().sum::<f64>() / seen.len() as f64;
        seen.sort_by(f64::total_cmp);
        let at = |share: f64| seen[(share * seen.len() as f64) as usize];
        [at(0.95), at(0.99), mean]
    }

    /// An exponential time (xorshift, Marsaglia).
    fn exponential(&mut self, mean: f64) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        -mean * (((self.random >> 11) as f64 + 0.5) / (1u64 << 53) as f64).ln()
    }
}

/// Guarantees: the throughput of full workers is that of the servers when nobody waits for others, of the workers when servers
/// abound, between them what the closed network has (three requests, one server, twice the work outside: 15/19), and near the lesser
/// of both for many.
#[test]
fn throughput_of_full_workers() {
    let of = |servers: f64, count: u32, outside: f64| Workers { count, outside }.throughput(servers, 1.0);
    for (found, expected) in [
        (of(2.0, 8, 0.0), 2.0),
        (of(8.0, 4, 0.0), 4.0),
        (of(8.0, 8, 3.0), 2.0),
        (of(1.0, 3, 2.0), 15.0 / 19.0),
        (of(2.0, 4_000, 100.0), 2.0),
        (of(100.0, 4_000, 99.0), 40.0),
        (of(100.0, 5_000, 99.0), 50.0),
    ] {
        assert!((found / expected - 1.0).abs() < 2e-3, "{found} is not {expected}");
    }
    let means: Vec<f64> = (1..60).map(|count| of(2.5, count, 7.0)).collect();
    assert!(means.is_sorted_by(|a, b| a < b) && means[58] < 2.5);
}

/// Guarantees: mean and upper quantiles of the own latency, the wait for a worker included, are those of a simulation wherever
/// workers, servers or both are scarce.
#[test]
fn agrees_with_a_simulation() {
    for (servers, count, outside, load) in [
        (8.0, 2, 0.1, 0.7),
        (2.0, 2, 0.1, 0.8),
        (2.0, 4, 0.05, 0.7),
        (2.0, 8, 0.3, 0.8),
        (4.0, 16, 0.2, 0.6),
        (1.0, 16, 0.1, 0.7),
        (4.0, 32, 1.0, 0.9),
    ] {
        let station = station(servers, count, outside);
        let rate = load * station.capacity();
        let predicted = stable(&station, rate);
        assert!((predicted.utilization() - load).abs() < 1e-9);
        let [p95, p99, mean] = Simulation::run(&station, rate);
        let ratios = [predicted.quantile(0.95).unwrap() / p95, predicted.quantile(0.99).unwrap() / p99, predicted.mean() / mean];
        assert!(ratios.iter().all(|ratio| (0.88..1.15).contains(ratio)), "{servers} {count} {outside} {load}: {ratios:.3?}");
    }
}

/// Guarantees: more workers than can be in use change nothing, fewer or longer held ones need more replicas, and the number is the
/// least that keeps objective and utilization.
#[test]
fn workers_need_replicas() {
    let objective = Objective { latency: 0.5, quantile: 0.99 };
    let needs = |station: &Station| match size(station, 400.0, &objective, 0.85) {
        Some(Sizing::Replicas(replicas)) => replicas,
        other => panic!("{other:?}"),
    };
    let shared = needs(&Station { workers: None, ..station(4.0, 1, 0.0) });
    assert_eq!(needs(&station(4.0, 1_000, 0.1)), shared);
    let numbers = [(64, 0.05), (16, 0.2), (8, 0.2), (8, 0.4), (4, 0.4)].map(|(count, outside)| needs(&station(4.0, count, outside)));
    assert!(numbers.is_sorted() && numbers[0] == shared && numbers[4] > 3 * shared, "{shared} {numbers:?}");
    let scarce = station(4.0, 8, 0.4);
    let rate_of = |replicas: u32| 400.0 / (scarce.capacity() * f64::from(replicas));
    assert!(rate_of(numbers[3]) <= 0.85 && numbers[3] >= (400.0_f64 * 0.45 / 8.0 / 0.85).ceil() as u32);
    for senseless in [Workers { count: 0, outside: 0.1 }, Workers { count: 1, outside: -1.0 }, Workers { count: 1, outside: f64::NAN }] {
        assert_eq!(size(&Station { workers: Some(senseless), ..scarce.clone() }, 400.0, &objective, 0.85), None);
    }
    assert!(
        matches!(predict(&scarce, 10.0 * scarce.capacity(), 10), Some(Prediction::Unstable { utilization }) if utilization >= 1.0 - 1e-9)
    );
}

/// Guarantees: the service time behind a latency that contains the wait for workers is the one that it was made of.
#[test]
fn the_wait_for_workers_is_no_work() {
    for (servers, count, outside, load) in [(2.0, 2, 0.1, 0.3), (2.0, 2, 0.1, 0.8), (4.0, 16, 0.3, 0.7)] {
        let station = station(servers, count, outside);
        let rate = load * station.capacity();
        let found = service_time_behind(&station, stable(&station, rate).mean(), rate, 1).unwrap();
        assert!((found / OWN - 1.0).abs() < 0.01, "{servers} {count} {outside} {load}: {found}");
    }
}
