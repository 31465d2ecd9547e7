//! Batch means of a simulation, and what agrees with them.

use std::time::Duration;

use tracescale_core::time::Timestamp;
use tracescale_simulate::des::Simulation;
use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::plant::Plant;
use tracescale_simulate::report::ServiceReport;
use tracescale_simulate::world::{Arrivals, Balancing, Discipline, Load, ServiceSpec, World};

/// Batches of a run.
const BATCHES: u32 = 20;
/// Standard error above which a check would accept nearly anything.
const ERROR_MAX: f64 = 0.08;

/// Reports of the batches of one service, after a warm-up of a tenth of the run.
pub(crate) struct Batches(Vec<ServiceReport>);

/// First come, first served by so many servers in one replica.
pub(crate) fn queue(slots: u32) -> Discipline {
    Discipline::FirstComeFirstServed { slots, capacity: None }
}

/// A world of one service in which `replicas` replicas serve work of mean 1 s.
pub(crate) fn world(discipline: Discipline, replicas: u32, work: Distribution, arrivals: Arrivals) -> World {
    let mut service = ServiceSpec::new("a", discipline, work);
    service.initial_replicas = replicas;
    service.balancing = Balancing::Random;
    World { seed: 20, services: vec![service], loads: vec![Load { service: 0, arrivals }], ..World::default() }
}

/// Runs a world for so many requests per second of its load and observes the services.
pub(crate) fn measure_all(world: &World, seconds: f64) -> Vec<Batches> {
    let mut simulation = Simulation::new(world).unwrap();
    let mut at = Timestamp::EPOCH + Duration::from_secs_f64(seconds / 10.0);
    simulation.advance(at);
    let mut batches: Vec<Batches> = world.services.iter().map(|_| Batches(Vec::new())).collect();
    for _ in 0..BATCHES {
        simulation.reset_reports();
        at = at + Duration::from_secs_f64(seconds / f64::from(BATCHES));
        simulation.advance(at);
        for (service, batches) in batches.iter_mut().enumerate() {
            batches.0.push(simulation.report(service));
        }
    }
    for batches in &batches {
        batches.obey_little();
    }
    batches
}

/// Runs a world of one service until about so many requests came.
pub(crate) fn measure(world: &World, requests: f64) -> Batches {
    let end = Timestamp::from_secs(1);
    let rate = world.loads[0].arrivals.rate(Timestamp::EPOCH, end);
    measure_all(world, requests / rate).remove(0)
}

impl Batches {
    /// Sum over the batches.
    pub(crate) fn sum(&self, of: impl Fn(&ServiceReport) -> f64) -> f64 {
        self.0.iter().map(of).sum()
    }

    /// Mean over the batches, and its standard error.
    pub(crate) fn mean(&self, of: impl Fn(&ServiceReport) -> f64) -> (f64, f64) {
        let values: Vec<f64> = self.0.iter().map(of).collect();
        let mean = values.iter().sum::<f64>() / f64::from(BATCHES);
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / f64::from(BATCHES - 1);
        (mean, (variance / f64::from(BATCHES)).sqrt())
    }

    /// A quantile of all batches together, with the standard error of the batches.
    fn quantile(&self, q: f64, of: impl Fn(&ServiceReport) -> &tracescale_simulate::histogram::LogHistogram) -> (f64, f64) {
        let mut all = tracescale_simulate::histogram::LogHistogram::new();
        for report in &self.0 {
            all.merge(of(report));
        }
        let (_, error) = self.mean(|report| of(report).quantile(q).unwrap());
        (all.quantile(q).unwrap(), error)
    }

    pub(crate) fn wait_mean(&self, expected: f64) {
        agree("mean wait", self.mean(|report| report.wait.mean().unwrap()), expected);
    }

    pub(crate) fn wait_quantile(&self, q: f64, expected: f64) {
        agree("wait quantile", self.quantile(q, |report| &report.wait), expected);
    }

    pub(crate) fn sojourn_mean(&self, expected: f64) {
        agree("mean sojourn", self.mean(|report| report.sojourn.mean().unwrap()), expected);
    }

    pub(crate) fn response_mean(&self, expected: f64) {
        agree("mean response", self.mean(|report| report.response.mean().unwrap()), expected);
    }

    pub(crate) fn response_quantile(&self, q: f64, expected: f64) {
        agree("response quantile", self.quantile(q, |report| &report.response), expected);
    }

    /// A quantile that must not exceed a bound, give or take the noise.
    pub(crate) fn response_quantile_at_most(&self, q: f64, bound: f64, slack: f64) {
        let (found, error) = self.quantile(q, |report| &report.response);
        assert!(found <= bound + 3.0 * error && found >= bound * (1.0 - slack), "quantile {q}: {found}±{error}, bound {bound}");
    }

    /// Little's law: requests in the system are throughput times sojourn.
    fn obey_little(&self) {
        let present = self.sum(|report| report.in_system_seconds);
        let passed = self.sum(|report| report.sojourn.count() * report.sojourn.mean().unwrap_or(0.0));
        assert!((present - passed).abs() <= 0.01 * present + 1e-9, "L = {present}, λT = {passed}");
    }
}

/// Whether a result with its standard error agrees with what is expected.
pub(crate) fn agree(what: &str, (found, error): (f64, f64), expected: f64) {
    assert!(error <= ERROR_MAX * expected.abs(), "{what}: {found} ± {error} says nothing about {expected}");
    let allowed = (0.05 * expected.abs()).max(3.0 * error);
    assert!((found - expected).abs() <= allowed, "{what}: {found} ± {error} is not {expected}");
}
