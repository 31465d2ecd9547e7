//! The engine itself: what happens to requests and replicas, step by step.

use std::time::Duration;

use super::*;
use crate::distribution::Distribution;
use crate::world::{Arrivals, Edge, Load, ServiceSpec};

/// A service that takes exactly `work` seconds per request, one at a time, and a request every `gap` seconds.
fn clockwork(work: f64, gap: f64) -> World {
    let discipline = Discipline::FirstComeFirstServed { slots: 1, capacity: None };
    World {
        services: vec![ServiceSpec::new("a", discipline, Distribution::Deterministic { value: work })],
        loads: vec![Load { service: 0, arrivals: Arrivals::Renewal(Distribution::Deterministic { value: gap }) }],
        ..World::default()
    }
}

fn run(world: &World, seconds: i64) -> Simulation {
    let mut simulation = Simulation::new(world).unwrap();
    simulation.advance(Timestamp::from_secs(seconds));
    simulation
}

/// Guarantees: counts, integrals and latencies of a clockwork are what a pencil finds.
#[test]
fn clockwork_by_hand() {
    // Requests at 2, 4, … 20 s, each 1.5 s; the last one is under way at the end.
    let mut simulation = run(&clockwork(1.5, 2.0), 20);
    let mut seen = Observation::default();
    simulation.observe(0, &mut seen);
    let report = simulation.report(0);
    assert_eq!((report.arrivals, report.completions, report.failed), (10.0, 9.0, 0.0));
    assert!((report.busy_seconds - 13.5).abs() < 1e-9 && (report.replica_seconds - 20.0).abs() < 1e-9);
    assert!((report.response.mean().unwrap() - 1.5).abs() < 1e-9);
    assert!((seen.concurrency - 13.5 / 20.0).abs() < 1e-9 && (seen.cpu() - 13.5 / 20.0).abs() < 1e-9);
    assert!((seen.latency.unwrap().over - 1.0).abs() < 1e-12);
}

/// Guarantees: a new replica serves after its start-up delay and not before; requests wait outside when none is ready.
#[test]
fn replicas_start_late() {
    let mut world = clockwork(0.5, 1.0);
    world.services[0].startup = Distribution::Deterministic { value: 10.0 };
    world.services[0].initial_replicas = 0;
    let mut simulation = Simulation::new(&world).unwrap();
    simulation.advance(Timestamp::from_secs(5));
    simulation.set_replicas(0, 1);
    simulation.advance(Timestamp::from_millis(14_900));
    let mut seen = Observation::default();
    simulation.observe(0, &mut seen);
    assert_eq!((seen.count(Phase::Starting), seen.count(Phase::Ready)), (1, 0));
    assert!((seen.backlog - 14.0).abs() < 1e-9 && seen.completions.abs() < 1e-9);
    simulation.advance(Timestamp::from_secs(60));
    let report = simulation.report(0);
    assert!((report.backlog_max - 14.0).abs() < 1e-9 && report.completions > 55.0, "{}", report.backlog_max);
    assert_eq!(report.ready_at(&[Timestamp::from_millis(14_999), Timestamp::from_secs(15)]), [0, 1]);
    assert!((report.replica_seconds - 55.0).abs() < 1e-9);
}

/// Guarantees: a removed replica finishes its requests within its grace, what is left then is lost, and it is billed until it
/// is gone.
#[test]
fn replicas_drain() {
    let mut world = clockwork(8.0, 5.0);
    world.services[0].initial_replicas = 1;
    world.services[0].drain_grace = Duration::from_secs(4);
    let mut simulation = Simulation::new(&world).unwrap();
    // One request in service until 13 s, one in the queue.
    simulation.advance(Timestamp::from_secs(11));
    simulation.set_replicas(0, 0);
    simulation.advance(Timestamp::from_secs(14));
    assert_eq!((simulation.report(0).completions, simulation.report(0).failed), (1.0, 0.0));
    simulation.advance(Timestamp::from_secs(30));
    let report = simulation.report(0);
    assert_eq!((report.completions, report.failed), (1.0, 1.0));
    assert!((report.replica_seconds - 15.0).abs() < 1e-9);
}

/// Guarantees: what starts goes first when replicas are removed, then the youngest.
#[test]
fn the_youngest_go_first() {
    let mut world = clockwork(0.1, 1.0);
    world.services[0].initial_replicas = 2;
    world.services[0].startup = Distribution::Deterministic { value: 30.0 };
    let mut simulation = Simulation::new(&world).unwrap();
    simulation.set_replicas(0, 4);
    simulation.set_replicas(0, 1);
    simulation.advance(Timestamp::from_secs(40));
    let mut seen = Observation::default();
    simulation.observe(0, &mut seen);
    assert_eq!(seen.replicas.iter().map(|group| group.first).collect::<Vec<_>>(), [0]);
}

/// Guarantees: calls in sequence add up, calls in parallel take as long as the slowest, and a failed call fails its caller.
#[test]
fn calls_by_hand() {
    let mut world = clockwork(0.5, 10.0);
    let plenty = Discipline::FirstComeFirstServed { slots: 9, capacity: None };
    let callee = |name, work| ServiceSpec::new(name, plenty, Distribution::Deterministic { value: work });
    world.services.extend([callee("b", 1.0), callee("c", 2.0)]);
    let edge = |to, calls, mode| Edge { from: 0, to, calls: Calls::Fixed(calls), mode };
    world.edges = vec![edge(1, 2, CallMode::Sequential)];
    assert!((run(&world, 15).report(0).response.mean().unwrap() - 2.5).abs() < 1e-9);
    world.edges = vec![edge(1, 1, CallMode::Parallel), edge(2, 1, CallMode::Parallel)];
    assert!((run(&world, 15).report(0).response.mean().unwrap() - 2.5).abs() < 1e-9);
    assert!((run(&world, 15).report(0).sojourn.mean().unwrap() - 0.5).abs() < 1e-9);
    world.services[2].discipline = Discipline::FirstComeFirstServed { slots: 1, capacity: Some(1) };
    world.edges = vec![edge(2, 2, CallMode::Parallel)];
    let report = run(&world, 15).report(0);
    assert_eq!((report.completions, report.failed, report.response.count()), (1.0, 1.0, 0.0));
}

/// Guarantees: the same world gives the same history; arrivals and work do not depend on the replicas (common random numbers).
#[test]
fn histories_repeat_and_share_randomness() {
    let mut world = clockwork(0.1, 1.0);
    world.seed = 5;
    world.services[0].service_time = Distribution::Lognormal { mean: 0.08, scv: 2.0 };
    world.loads[0].arrivals = Arrivals::poisson(30.0);
    world.services[0].initial_replicas = 4;
    let (one, two) = (run(&world, 300), run(&world, 300));
    assert_eq!((one.report(0), one.events()), (two.report(0), two.events()));
    world.services[0].initial_replicas = 40;
    let more = run(&world, 300).report(0);
    assert!((more.arrivals - one.report(0).arrivals).abs() < 1e-9);
    // Nearly everything is served in both runs, so the work done is nearly the same sum of the same numbers.
    assert!((more.busy_seconds - one.report(0).busy_seconds).abs() < 4.0, "{} {}", more.busy_seconds, one.report(0).busy_seconds);
}

/// Guarantees: the one queue gives work to whoever is free, in order, within its bound.
#[test]
fn single_queue_is_bounded() {
    let mut world = clockwork(100.0, 1.0);
    world.services[0].balancing = Balancing::SingleQueue;
    world.services[0].initial_replicas = 2;
    world.services[0].waiting_room = 5;
    let report = run(&world, 50).report(0);
    assert_eq!((report.failed, report.backlog_max), (43.0, 5.0));
}
