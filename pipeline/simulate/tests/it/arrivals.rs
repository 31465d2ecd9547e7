//! Requests whose rate varies.

use std::time::Duration;

use tracescale_core::time::Timestamp;
use tracescale_simulate::des::Simulation;
use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::plant::{Observation, Plant};
use tracescale_simulate::series::Series;
use tracescale_simulate::world::{Arrivals, Discipline};

use crate::measure::world;

/// Seconds of a period.
const PERIOD: u32 = 200;
/// Seconds of a bin.
const BIN: u32 = 10;
/// Periods.
const PERIODS: u32 = 40;

/// Guarantees: a sine of a rate gives counts that fit it in every phase (χ² with 20 degrees of freedom at 1 %), and that are
/// dispersed as those of a Poisson process are.
#[test]
fn varying_rates_are_poisson() {
    let rate = |second: f64| 100.0 * (1.0 + 0.5 * (std::f64::consts::TAU * second / f64::from(PERIOD)).sin());
    let values = (0..=PERIOD * PERIODS).map(|second| rate(f64::from(second))).collect();
    let series = Series::of(Duration::from_secs(1), values);
    let sharing = Discipline::ProcessorSharing { cores: 1000 };
    let world = world(sharing, 1, Distribution::Deterministic { value: 0.0 }, Arrivals::Varying(series));
    let mut simulation = Simulation::new(&world).unwrap();
    let mut seen = Observation::default();
    let bins = PERIOD / BIN;
    let (mut found, mut expected) = (vec![0.0; 20], vec![0.0; 20]);
    let mut dispersion = 0.0;
    for bin in 0..bins * PERIODS {
        simulation.advance(Timestamp::from_secs(i64::from((bin + 1) * BIN)));
        simulation.observe(0, &mut seen);
        let mean: f64 = (0..BIN * 10).map(|part| rate(f64::from(bin * BIN) + (f64::from(part) + 0.5) / 10.0) / 10.0).sum();
        let phase = usize::try_from(bin % bins).unwrap();
        found[phase] += seen.arrivals;
        expected[phase] += mean;
        dispersion += (seen.arrivals - mean).powi(2) / mean;
    }
    let chi_squared: f64 = found.iter().zip(&expected).map(|(found, expected)| (found - expected).powi(2) / expected).sum();
    assert!(chi_squared < 37.57, "χ² = {chi_squared}");
    let count = f64::from(bins * PERIODS);
    assert!((dispersion / count - 1.0).abs() < 3.0 * (2.0 / count).sqrt(), "index of dispersion {}", dispersion / count);
}
