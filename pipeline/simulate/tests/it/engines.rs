//! The two engines against each other: a day under an autoscaler must cost and hurt the same in both.

use std::time::Duration;

use tracescale_core::time::Timestamp;
use tracescale_simulate::baseline::Baseline;
use tracescale_simulate::baseline::hpa::{HpaConfig, HpaMetric};
use tracescale_simulate::des::Simulation;
use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::fluid::Fluid;
use tracescale_simulate::plant::Plant;
use tracescale_simulate::policy::{Run, run};
use tracescale_simulate::scenario::Shape;
use tracescale_simulate::score::Score;
use tracescale_simulate::world::{Arrivals, Balancing, Discipline, Load, Objective, ServiceSpec, World};

/// A day with bursts on a service whose replicas take two minutes to start.
fn day(seed: u64) -> World {
    let sharing = Discipline::ProcessorSharing { cores: 2 };
    let mut service = ServiceSpec::new("a", sharing, Distribution::Lognormal { mean: 0.2, scv: 1.0 });
    service.balancing = Balancing::LeastOutstanding;
    service.startup = Distribution::Deterministic { value: 120.0 };
    service.initial_replicas = 3;
    service.objective = Objective { latency: 2.0, quantile: 0.99 };
    let shape = Shape::Days { base: 20.0, daily: 0.5, half_daily: 0.2, weekend: 1.0, noise: 0.15, bursts: 12.0 };
    let load = shape.series(Timestamp::EPOCH, 1440, seed);
    World { seed, services: vec![service], loads: vec![Load { service: 0, arrivals: Arrivals::Varying(load) }], ..World::default() }
}

fn score(plant: &mut dyn Plant) -> Score {
    let config = HpaConfig {
        metrics: vec![HpaMetric::Cpu { utilization: 70, request: 2.0 }],
        min_replicas: 2,
        max_replicas: 60,
        ..HpaConfig::default()
    };
    let until = Timestamp::from_secs(86_400);
    run(plant, &mut [Some(Baseline::Hpa(config).build())], &Run::new(until, Duration::from_secs(15)));
    Score::of(&plant.report(0), 0.99)
}

/// Guarantees: replica-hours and CPU-hours of every day agree within 1 %, and violation minutes of all days within 10 %.
#[test]
fn days_cost_the_same() {
    let (mut found, mut expected) = (0, 0);
    for seed in 1..=3 {
        let world = day(seed);
        let exact = score(&mut Simulation::new(&world).unwrap());
        let fluid = score(&mut Fluid::new(&world, Duration::from_secs(5)).unwrap());
        let (fluid_hours, exact_hours) = (fluid.replica_hours, exact.replica_hours);
        assert!((fluid_hours / exact_hours - 1.0).abs() < 0.01, "seed {seed}: {fluid_hours} replica-hours for {exact_hours}");
        assert!((fluid.cpu_hours / exact.cpu_hours - 1.0).abs() < 0.01, "{} {}", fluid.cpu_hours, exact.cpu_hours);
        found += fluid.violation_minutes;
        expected += exact.violation_minutes;
    }
    assert!(expected > 150 && found.abs_diff(expected) * 10 < expected, "{found} violation minutes for {expected}");
}

/// Guarantees: both engines repeat themselves exactly.
#[test]
fn runs_repeat() {
    let world = World { loads: day(2).loads, ..day(2) };
    let short = |plant: &mut dyn Plant| {
        let config = Baseline::Kpa(tracescale_simulate::baseline::kpa::KpaConfig { capacity: 4.0, ..Default::default() });
        run(plant, &mut [Some(config.build())], &Run::new(Timestamp::from_secs(1800), Duration::from_secs(1)));
        plant.report(0)
    };
    let exact = [(); 2].map(|()| short(&mut Simulation::new(&world).unwrap()));
    assert!(exact[0] == exact[1] && exact[0].arrivals > 1000.0);
    let fluid = [(); 2].map(|()| short(&mut Fluid::new(&world, Duration::from_secs(1)).unwrap()));
    assert!(fluid[0] == fluid[1] && !fluid[0].actions.is_empty());
}
