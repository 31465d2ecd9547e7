//! More load than capacity for a while: both engines must pile up and drain as a fluid does.

use std::time::Duration;

use tracescale_core::time::Timestamp;
use tracescale_simulate::des::Simulation;
use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::fluid::Fluid;
use tracescale_simulate::plant::{Observation, Plant};
use tracescale_simulate::series::{Interpolation, Series};
use tracescale_simulate::world::{Arrivals, World};

use crate::measure::{queue, world};

/// Capacity of 1000/s; 500/s, from 30 s to 90 s 1500/s, and 500/s again.
fn overload() -> World {
    let mut values = vec![500.0; 3];
    values.extend([1500.0; 6]);
    values.push(500.0);
    let series = Series { interpolation: Interpolation::Step, ..Series::of(Duration::from_secs(10), values) };
    world(queue(50), 1, Distribution::Exponential { mean: 0.05 }, Arrivals::Varying(series))
}

/// Requests in the system around a second.
fn present(plant: &mut dyn Plant, second: f64) -> f64 {
    let mut seen = Observation::default();
    let at = Timestamp::EPOCH + Duration::from_secs_f64(second);
    plant.advance(at - Duration::from_millis(50));
    plant.observe(0, &mut seen);
    plant.advance(at + Duration::from_millis(50));
    plant.observe(0, &mut seen);
    seen.concurrency
}

/// Guarantees: after a minute at 1.5 times the capacity the backlog is 60 s of the difference, within three standard deviations
/// of arrivals and departures, and it takes 60 s to drain.
#[test]
fn backlog_and_drain() {
    let mut simulation = Simulation::new(&overload()).unwrap();
    let deviation = f64::sqrt(90_000.0 + 60_000.0);
    let backlog = present(&mut simulation, 90.0) - 50.0;
    assert!((backlog - 30_000.0).abs() < 3.0 * deviation, "{backlog}");
    let drained = (900..2000).map(|tenth| f64::from(tenth) / 10.0 + 0.1).find(|second| present(&mut simulation, *second) < 60.0).unwrap();
    // The backlog is off by its own deviation and by that of a minute of draining, at 500/s.
    assert!((drained - 150.0).abs() < 3.0 * (deviation + f64::sqrt(90_000.0)) / 500.0, "{drained}");
}

/// Guarantees: the fluid engine gives the same, without the noise.
#[test]
fn fluid_backlog_and_drain() {
    let mut fluid = Fluid::new(&overload(), Duration::from_secs(1)).unwrap();
    let mut seen = Observation::default();
    fluid.advance(Timestamp::from_secs(90));
    fluid.observe(0, &mut seen);
    assert!((seen.backlog - 30_000.0).abs() < 1.0, "{}", seen.backlog);
    fluid.advance(Timestamp::from_secs(149));
    fluid.observe(0, &mut seen);
    assert!((seen.backlog - 500.0).abs() < 1.0, "{}", seen.backlog);
    fluid.advance(Timestamp::from_secs(151));
    fluid.observe(0, &mut seen);
    assert!(seen.backlog.abs() < 1.0);
}
