//! The fast engine: requests are a fluid that flows step by step; latency comes from stationary models and the backlog.
//!
//! Approximations, besides those of the models: noise exists in what is observed and in the latency laws, but does not pile
//! up; within a step load and capacity are constant; a queue needs its relaxation time to adapt to a new utilization; calls add the mean of the callee's
//! response to the caller's.

mod cohort;
mod service;

use std::time::Duration;

use tracescale_core::time::{Timestamp, nanos};

use self::service::{Service, Step};
use crate::distribution::Distribution;
use crate::model::{LatencyTable, Sharing};
use crate::number::{at, seconds};
use crate::plant::{Observation, Plant};
use crate::report::ServiceReport;
use crate::world::{CallMode, Edge, Load, REPLICAS_MAX, World, WorldError};

/// Latency tables by kind of service, to be used by one simulation after the other: most of the cost of a simulation of a few days
/// is in its tables.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    kinds: Vec<(Sharing, Distribution)>,
    tables: Vec<LatencyTable>,
}

/// A simulation by fluids.
#[derive(Debug)]
pub struct Fluid {
    now: i64,
    /// Longest step.
    step: i64,
    services: Vec<Service>,
    edges: Vec<Edge>,
    loads: Vec<Load>,
    tables: Tables,
    steps: u64,
}

// === impl Tables ===

impl Tables {
    /// Position of the table of a kind of service; services of the same kind share one.
    fn place(&mut self, sharing: Sharing, work: &Distribution) -> usize {
        let known = self.kinds.iter().position(|(other, same)| *other == sharing && same == work);
        known.unwrap_or_else(|| {
            self.tables.push(LatencyTable::new(sharing, work));
            self.kinds.push((sharing, work.clone()));
            self.kinds.len() - 1
        })
    }
}

// === impl Fluid ===

impl Fluid {
    /// A simulation that stands at the start of its world and moves in steps no longer than `step` (at least a millisecond).
    ///
    /// # Errors
    /// When the world cannot be simulated.
    pub fn new(world: &World, step: Duration) -> Result<Self, WorldError> {
        Self::with_tables(world, step, Tables::default())
    }

    /// The same with what an earlier simulation computed ([`Self::into_tables`]). Makes it faster and changes nothing else.
    ///
    /// # Errors
    /// When the world cannot be simulated.
    pub fn with_tables(world: &World, step: Duration, mut tables: Tables) -> Result<Self, WorldError> {
        world.validate()?;
        let mut services = Vec::with_capacity(world.services.len());
        for (place, spec) in (0..).zip(&world.services) {
            let table = tables.place(Service::sharing(spec.discipline), &spec.service_time);
            let alone = tables.tables[table].alone();
            services.push(Service::new(spec, place, world.seed, world.start, table, alone));
        }
        let step = nanos(step).max(1_000_000);
        let (edges, loads) = (world.edges.clone(), world.loads.clone());
        Ok(Self { now: world.start.as_nanos(), step, services, edges, loads, tables, steps: 0 })
    }

    /// The latency tables, for the next simulation.
    #[must_use]
    pub fn into_tables(self) -> Tables {
        self.tables
    }

    /// Number of service steps so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step of all services, callers before callees where they are listed so; others follow their caller's last step.
    fn step_all(&mut self, until: i64) {
        let (from, length) = (self.now, seconds(until - self.now));
        let mut rates = vec![0.0; self.services.len()];
        for load in &self.loads {
            rates[at(load.service)] += load.arrivals.rate(Timestamp::from_nanos(from), Timestamp::from_nanos(until));
        }
        for (place, own) in rates.iter().enumerate() {
            let (mut calls, mut flow) = (0.0, 0.0);
            let mut slowest: f64 = 0.0;
            for edge in &self.edges {
                if at(edge.to) == place {
                    flow += self.services[at(edge.from)].throughput * edge.calls.mean();
                }
                if at(edge.from) == place {
                    let response = self.services[at(edge.to)].response_mean;
                    match edge.mode {
                        CallMode::Sequential => calls += edge.calls.mean() * response,
                        CallMode::Parallel => slowest = slowest.max(edge.calls.mean().min(1.0) * response),
                    }
                }
            }
            let service = &mut self.services[place];
            let step = Step { from, until, rate: own + flow, calls: calls + slowest };
            if length > 0.0 {
                service.step(step, &mut self.tables.tables[service.table]);
                self.steps += 1;
            }
        }
        self.now = until;
    }
}

impl Plant for Fluid {
    fn services(&self) -> usize {
        self.services.len()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now)
    }

    fn advance(&mut self, until: Timestamp) {
        while self.now < until.as_nanos() {
            self.step_all(self.now.saturating_add(self.step).min(until.as_nanos()));
        }
    }

    fn observe(&mut self, service: usize, into: &mut Observation) {
        self.services[service].observe(self.now, into);
    }

    fn set_replicas(&mut self, service: usize, desired: u32) {
        self.services[service].resize(self.now, desired.min(REPLICAS_MAX));
    }

    fn desired(&self, service: usize) -> u32 {
        self.services[service].desired
    }

    fn report(&self, service: usize) -> ServiceReport {
        let mut report = self.services[service].report.clone();
        if report.sojourn.count() <= 0.0 {
            // Without calls the two are the same, and are recorded once.
            report.sojourn = report.response.clone();
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Series;
    use crate::world::{Arrivals, Balancing, Calls, Discipline, ServiceSpec};

    fn world(rates: Vec<f64>, replicas: u32) -> World {
        let discipline = Discipline::ProcessorSharing { cores: 2 };
        let mut service = ServiceSpec::new("a", discipline, Distribution::Exponential { mean: 0.1 });
        service.initial_replicas = replicas;
        service.balancing = Balancing::SingleQueue;
        let series = Series::of(Duration::from_secs(60), rates);
        let loads = vec![Load { service: 0, arrivals: Arrivals::Varying(series) }];
        World { services: vec![service], loads, ..World::default() }
    }

    fn run(world: &World, seconds: i64) -> Fluid {
        let mut fluid = Fluid::new(world, Duration::from_secs(15)).unwrap();
        fluid.advance(Timestamp::from_secs(seconds));
        fluid
    }

    /// Guarantees: a stable service has the utilization, the concurrency and the latency of its stationary model.
    #[test]
    fn stable_load_is_stationary() {
        let report = run(&world(vec![72.0], 4), 3600).report(0);
        // 7.2 erlang on 8 servers.
        assert!((report.busy_seconds / 3600.0 - 7.2).abs() < 1e-6 && report.backlog_max.abs() < 1e-9);
        let slowdown = crate::model::slowdown(8, 0.9, 1.0).mean;
        assert!((report.mean_in_system() / (7.2 * slowdown) - 1.0).abs() < 0.03, "{}", report.mean_in_system());
        assert!((report.response.mean().unwrap() / (0.1 * slowdown) - 1.0).abs() < 0.06);
    }

    /// Guarantees: load beyond capacity piles up at the difference, and drains at the difference.
    #[test]
    fn overload_piles_up_and_drains() {
        // Capacity 80/s; 100/s for ten minutes and then 70/s.
        let mut world = world(vec![100.0; 11], 4);
        let Arrivals::Varying(series) = &mut world.loads[0].arrivals else { unreachable!() };
        series.values.extend([70.0; 30]);
        series.interpolation = crate::series::Interpolation::Step;
        let mut fluid = run(&world, 660);
        let mut seen = Observation::default();
        fluid.observe(0, &mut seen);
        assert!((seen.backlog - 20.0 * 660.0).abs() < 1e-6);
        assert!((seen.latency.unwrap().over - 1.0).abs() < 0.2);
        fluid.advance(Timestamp::from_secs(660 + 1320));
        fluid.observe(0, &mut seen);
        assert!(seen.backlog.abs() < 1e-6 && (seen.completions - 1320.0 * 80.0).abs() < 100.0);
    }

    /// Guarantees: replicas serve after their start-up delay, also within a step; scaling is billed from the order on.
    #[test]
    fn replicas_start_late() {
        let mut world = world(vec![0.0], 1);
        world.services[0].startup = Distribution::Deterministic { value: 40.0 };
        let mut fluid = Fluid::new(&world, Duration::from_secs(15)).unwrap();
        fluid.set_replicas(0, 3);
        fluid.advance(Timestamp::from_secs(60));
        let report = fluid.report(0);
        assert!((report.replica_seconds - 180.0).abs() < 1e-9);
        assert_eq!(report.ready_at(&[Timestamp::from_secs(30), Timestamp::from_secs(45)]), [1, 3]);
        fluid.set_replicas(0, 2);
        fluid.advance(Timestamp::from_secs(120));
        assert!((fluid.report(0).replica_seconds - 300.0).abs() < 1.0);
        assert_eq!(fluid.report(0).actions.len(), 2);
    }

    /// Guarantees: calls carry load to the callee in the same step and latency back to the caller.
    #[test]
    fn calls_carry_load() {
        let mut world = world(vec![30.0], 4);
        world.services.push(ServiceSpec { initial_replicas: 4, ..world.services[0].clone() });
        world.edges.push(Edge { from: 0, to: 1, calls: Calls::Mean(1.5), mode: CallMode::Sequential });
        let fluid = run(&world, 600);
        assert!((fluid.report(1).completions / (1.5 * fluid.report(0).completions) - 1.0).abs() < 1e-9);
        let (own, all) = (fluid.report(0).sojourn.mean().unwrap(), fluid.report(0).response.mean().unwrap());
        assert!((all - own - 0.15).abs() < 0.01, "{own} {all}");
    }
}
