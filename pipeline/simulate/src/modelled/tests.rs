//! Tests of the simulated autoscaler: what it sees, and what its guards do.

use tracescale_core::policy::SelectPolicy;
use tracescale_models::control::{Settings, Startups};
use tracescale_models::sizing::{self, ServiceTime, Station};

use super::*;
use crate::distribution::Distribution;
use crate::fluid::Fluid;
use crate::plant::Plant;
use crate::policy::{Outage, Run, run};
use crate::report::ServiceReport;
use crate::scenario::Shape;
use crate::score::Score;
use crate::world::{Arrivals, Balancing, Discipline, Load, ServiceSpec, World};

const PROMISE: Objective = Objective { latency: 0.5, quantile: 0.99 };

fn planner(startup: f64) -> Planner {
    let station = Station { pooling: 0.15, ..Station::new(ServiceTime::from_moments(0.05, 1.0).unwrap(), 2.0) };
    let settings = Settings {
        objective: sizing::Objective { latency: PROMISE.latency, quantile: PROMISE.quantile },
        station,
        utilization_max: 0.95,
        replicas_min: 2,
        replicas_max: 40,
        violation_price: 100.0,
        violation_budget: None,
        pipeline_delay: 10.0,
        interval: 5.0,
        drain: 60.0,
    };
    let mut starts = Startups::default();
    (0..50).for_each(|_| starts.record(startup));
    Planner::new(settings, starts).unwrap()
}

fn simulated(shape: Shape, minutes: u32, policy: Modelled, outages: Vec<Outage>) -> ServiceReport {
    let discipline = Discipline::ProcessorSharing { cores: 2 };
    let mut service = ServiceSpec::new("a", discipline, Distribution::Exponential { mean: 0.05 });
    service.startup = Distribution::Deterministic { value: 30.0 };
    service.balancing = Balancing::PowerOfTwo;
    service.initial_replicas = 8;
    let loads = vec![Load { service: 0, arrivals: Arrivals::Varying(shape.series(Timestamp::EPOCH, minutes, 1)) }];
    let world = World { services: vec![service], loads, ..World::default() };
    let mut plant = Fluid::new(&world, Duration::from_secs(5)).unwrap();
    let until = Timestamp::from_secs(i64::from(minutes) * 60);
    run(&mut plant, &mut [Some(Box::new(policy))], &Run { outages, ..Run::new(until, Duration::from_secs(5)) });
    plant.report(0)
}

/// Guarantees: a rising load is followed with few violations and less than half of what its peak would need all the time; the
/// bounds of the document hold.
#[test]
fn follows_a_load() {
    let shape = Shape::Ramp { from: 60.0, to: 900.0 };
    let policy = Modelled::new(planner(30.0), Modelled::document(2, 40), PROMISE).unwrap();
    let report = simulated(shape, 480, policy, Vec::new());
    let score = Score::of(&report, 0.99);
    assert!(score.violation_minutes <= 3, "{score:?}");
    assert!(score.replica_hours < 0.65 * 28.0 * 8.0 && score.ups > 10, "{score:?}");
    assert!(report.supply.iter().all(|supply| (2..=40).contains(&supply.desired)));
}

/// Guarantees: the guards are in the way of every order: a document that forbids scaling down is obeyed, and so is its maximum.
#[test]
fn guards_are_obeyed() {
    let mut document = Modelled::document(2, 12);
    document.scale_down.select_policy = SelectPolicy::Disabled;
    let policy = Modelled::new(planner(30.0), document, PROMISE).unwrap();
    let report = simulated(Shape::Step { before: 800.0, after: 50.0, at: 30 }, 60, policy, Vec::new());
    let desired: Vec<u32> = report.supply.iter().map(|supply| supply.desired).collect();
    assert!(desired.is_sorted() && desired.last() == Some(&12), "{desired:?}");
}

/// Guarantees: without telemetry nothing changes, and afterwards it goes on.
#[test]
fn outages_change_nothing() {
    let at = Timestamp::from_secs;
    let outages = vec![Outage { from: at(1800), until: at(2700) }];
    let policy = Modelled::new(planner(30.0), Modelled::document(2, 40), PROMISE).unwrap();
    let report = simulated(Shape::Ramp { from: 100.0, to: 800.0 }, 90, policy, outages);
    let acted = |from, until| report.actions.iter().filter(|action| action.at > at(from) && action.at <= at(until)).count();
    // What was seen before is still acted on for the delay of the pipeline.
    assert!(acted(1830, 2700) == 0 && acted(0, 1800) > 3 && acted(2700, 5400) > 3, "{:?}", report.actions);
}

/// Guarantees: a minute is judged once it was seen whole, by its share of slow requests, and not at all with few requests.
#[test]
fn judges_minutes() {
    let latency = |over| Some(crate::plant::Latency { mean: 0.1, p50: 0.1, p95: 0.2, p99: 0.3, over });
    let mut telemetry = Telemetry::new(Duration::from_secs(600));
    let mut minute = Minute::default();
    let mut look = |second: i64, arrivals, over| {
        let observation = crate::plant::Observation {
            from: Timestamp::from_secs(second - 5),
            until: Timestamp::from_secs(second),
            arrivals,
            latency: latency(over),
            ..Default::default()
        };
        telemetry.see(1, observation, false);
        minute.count(Timestamp::from_secs(second), &telemetry);
        minute.take(0.99)
    };
    let found: Vec<Option<bool>> = (1..=36)
        .map(|place| match place {
            1..=12 => look(place * 5, 10.0, if place < 3 { 0.5 } else { 0.0 }),
            13..=24 => look(place * 5, 10.0, 0.005),
            _ => look(place * 5, 0.5, 1.0),
        })
        .collect();
    assert_eq!((found[10], found[11], found[23], found[35]), (None, Some(true), Some(false), None));
}
