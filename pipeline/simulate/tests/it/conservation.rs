//! Whatever is done to whatever service: no request appears or vanishes, and no replica is billed that was not there.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tracescale_core::time::Timestamp;
use tracescale_simulate::des::Simulation;
use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::fluid::Fluid;
use tracescale_simulate::plant::{Observation, Plant};
use tracescale_simulate::world::{Arrivals, Balancing, CallMode, Calls, Discipline, Edge, Load, ServiceSpec, World};

/// Seconds of a run.
const SECONDS: i64 = 120;

fn discipline() -> impl Strategy<Value = Discipline> {
    let sharing = (1..4_u32).prop_map(|cores| Discipline::ProcessorSharing { cores });
    let slots = (1..4_u32, proptest::option::of(0..6_u32)).prop_map(|(slots, more)| {
        let capacity = more.map(|more| slots + more);
        Discipline::FirstComeFirstServed { slots, capacity }
    });
    prop_oneof![sharing, slots]
}

fn service() -> impl Strategy<Value = ServiceSpec> {
    let balancing = prop_oneof![
        Just(Balancing::Random),
        Just(Balancing::RoundRobin),
        Just(Balancing::PowerOfTwo),
        Just(Balancing::LeastOutstanding),
        Just(Balancing::SingleQueue),
    ];
    (discipline(), balancing, 0.01..0.5_f64, 0..30_u32, 0..4_u32, 0..50_u32).prop_map(
        |(discipline, balancing, mean, startup, replicas, room)| {
            let mut service = ServiceSpec::new("a", discipline, Distribution::Lognormal { mean, scv: 2.0 });
            service.balancing = balancing;
            service.startup = Distribution::Deterministic { value: f64::from(startup) };
            service.drain_grace = Duration::from_secs(2);
            service.initial_replicas = replicas;
            service.waiting_room = room;
            service
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    (service(), service(), any::<u64>(), 1.0..30.0_f64, 0.0..2.0_f64, any::<bool>()).prop_map(
        |(front, back, seed, rate, calls, parallel)| {
            let mode = if parallel { CallMode::Parallel } else { CallMode::Sequential };
            let loads = vec![Load { service: 0, arrivals: Arrivals::poisson(rate) }];
            let edges = vec![Edge { from: 0, to: 1, calls: Calls::Mean(calls), mode }];
            World { seed, services: vec![front, back], edges, loads, ..World::default() }
        },
    )
}

/// Runs a plant, setting replicas as told, and checks both services.
fn check(plant: &mut dyn Plant, orders: &[(i64, usize, u32)]) -> Result<(), TestCaseError> {
    let mut seen = Observation::default();
    let mut observed = [0.0; 2];
    let look = |plant: &mut dyn Plant, seen: &mut Observation, observed: &mut [f64; 2]| {
        for (service, sum) in observed.iter_mut().enumerate() {
            plant.observe(service, seen);
            *sum += seen.replicas.iter().map(|group| f64::from(group.count)).sum::<f64>();
        }
    };
    for second in 1..=SECONDS {
        plant.advance(Timestamp::from_secs(second));
        look(plant, &mut seen, &mut observed);
        for (_, service, replicas) in orders.iter().filter(|(at, ..)| *at == second) {
            plant.set_replicas(*service, *replicas);
            prop_assert_eq!(plant.desired(*service), *replicas);
        }
    }
    for (service, observed) in observed.iter().enumerate() {
        let report = plant.report(service);
        let changes: f64 = report.actions.iter().map(|action| f64::from(action.to.abs_diff(action.from))).sum();
        // Observed once a second: each replica that comes or goes may be off by a second, and by its grace.
        prop_assert!((report.replica_seconds - observed).abs() <= 4.0 * changes + 1e-6, "{} {}", report.replica_seconds, observed);
        prop_assert!(report.busy_seconds <= report.in_system_seconds + 1e-6, "{} {}", report.busy_seconds, report.in_system_seconds);
        let minutes: f64 = report.minutes.iter().map(|minute| minute.requests).sum();
        prop_assert!(report.minutes.iter().all(|minute| minute.over <= minute.requests + 1e-6));
        prop_assert!(minutes <= report.arrivals + 1e-6, "{} {}", minutes, report.arrivals);
    }
    Ok(())
}

/// Guarantees: in both engines, under any orders, requests are conserved and integrals consistent; in the exact engine all
/// requests are over once the load has had replicas for long enough.
#[test]
fn nothing_appears_or_vanishes() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    let orders = proptest::collection::vec((1..SECONDS, 0..2_usize, 0..6_u32), 0..8);
    TestRunner::new_with_rng(config, rng)
        .run(&(world(), orders), |(world, orders)| {
            let mut exact = Simulation::new(&world).unwrap();
            check(&mut exact, &orders)?;
            let report = exact.report(1);
            let inside = report.arrivals - report.completions - report.failed;
            prop_assert!(inside >= 0.0, "{inside} requests too many are over");
            check(&mut Fluid::new(&world, Duration::from_secs(1)).unwrap(), &orders)
        })
        .unwrap();
}
