//! Services that call each other.

use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::world::{Arrivals, CallMode, Calls, Discipline, Edge, Load, ServiceSpec, World};

use crate::closed::{fork_join_bound, fork_join_mean};
use crate::measure::{agree, measure_all, queue};

/// A front that does nothing but call all branches at once.
fn fork(branches: u32, utilization: f64) -> World {
    let at_once = Discipline::ProcessorSharing { cores: 1_000_000 };
    let mut services = vec![ServiceSpec::new("front", at_once, Distribution::Deterministic { value: 0.0 })];
    let mut edges = Vec::new();
    for branch in 1..=branches {
        services.push(ServiceSpec::new("branch", queue(1), Distribution::Exponential { mean: 1.0 }));
        edges.push(Edge { from: 0, to: branch, calls: Calls::Fixed(1), mode: CallMode::Parallel });
    }
    let loads = vec![Load { service: 0, arrivals: Arrivals::poisson(utilization) }];
    World { seed: 4, services, edges, loads, ..World::default() }
}

/// Guarantees: a fork–join of two has its exact mean, one of eight that of long simulations; tails keep their bound closely.
#[test]
fn fork_and_join() {
    for (branches, utilization, mean, requests) in
        [(2, 0.5, fork_join_mean(2, 0.5), 2e5), (2, 0.8, fork_join_mean(2, 0.8), 5e5), (8, 0.5, 4.853, 1e5)]
    {
        let found = measure_all(&fork(branches, utilization), requests / utilization);
        found[0].response_mean(mean);
        found[0].response_quantile_at_most(0.99, fork_join_bound(branches, utilization, 0.99), 0.1);
    }
}

/// Guarantees: in an open network each service has its share of the load and the sojourn of an M/M/c system of its own.
#[test]
fn open_network() {
    let capacities = [(50.0, 5), (20.0, 8), (25.0, 5), (10.0, 5), (100.0, 4)];
    let services = ["gateway", "catalog", "cart", "payment", "db"];
    let spec =
        |(name, (rate, slots)): (&&str, &(f64, u32))| ServiceSpec::new(name, queue(*slots), Distribution::Exponential { mean: 1.0 / rate });
    let edge = |from, to, mean| Edge { from, to, calls: Calls::Mean(mean), mode: CallMode::Sequential };
    let world = World {
        seed: 8,
        services: services.iter().zip(&capacities).map(spec).collect(),
        edges: vec![edge(0, 1, 0.7), edge(0, 2, 0.4), edge(1, 4, 1.5), edge(2, 3, 0.25), edge(2, 4, 2.0), edge(3, 3, 0.1), edge(3, 4, 1.0)],
        loads: vec![Load { service: 0, arrivals: Arrivals::poisson(100.0) }],
        ..World::default()
    };
    let found = measure_all(&world, 1500.0);
    let expected = [(1.0, 0.020_398), (0.7, 0.050_332), (0.4, 0.040_305), (0.111_111, 0.100_154), (1.961_111, 0.010_807)];
    let front = found[0].sum(|report| report.arrivals);
    for (batches, (visits, sojourn)) in found.iter().zip(expected) {
        agree("visits", (batches.sum(|report| report.arrivals) / front, 0.0), visits);
        batches.sojourn_mean(sojourn);
    }
    let end_to_end: f64 = expected.iter().map(|(visits, sojourn)| visits * sojourn).sum();
    found[0].response_mean(end_to_end);
}
