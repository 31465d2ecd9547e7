//! One simulated run: a part of a load, a start-up delay and a policy.

use std::time::Duration;

use tracescale_models::control::Stabilizer;
use tracescale_simulate::des::Simulation;
use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::fluid::{Fluid, Tables};
use tracescale_simulate::plant::Plant;
use tracescale_simulate::policy::{Policy, Run, run};
use tracescale_simulate::report::ServiceReport;
use tracescale_simulate::score::{Demand, Score};
use tracescale_simulate::series::Series;
use tracescale_simulate::world::{Arrivals, Balancing, Discipline, Load, Objective, ServiceSpec, World, WorldError};

use super::learned::Shift;
use super::workload::{Part, Workload};

/// Longest step of the engine; shorter for policies that look more often, so that all look as often as they do.
pub(super) const STEP: Duration = Duration::from_secs(5);
/// Cores of a replica.
pub(super) const CORES: u32 = 2;
/// Mean work of a request, in seconds.
pub(super) const WORK: f64 = 0.05;
/// The promise: 99 % within ten times the mean work.
pub(super) const PROMISE: Objective = Objective { latency: 0.5, quantile: 0.99 };
/// Most replicas of any policy.
pub(super) const REPLICAS: u32 = 100;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) hours: f64,
    /// Share of the judged minutes that broke the promise.
    pub(super) violations: f64,
    pub(super) actions: u32,
    pub(super) oscillations: u32,
}

/// Runs trials; keeps what is common to all of them.
pub(super) struct Bench {
    tables: Tables,
    demand: Demand,
}

/// The service that is scaled.
pub(super) fn service(startup: f64) -> ServiceSpec {
    let discipline = Discipline::ProcessorSharing { cores: CORES };
    let mut spec = ServiceSpec::new("service", discipline, Distribution::Exponential { mean: WORK });
    spec.balancing = Balancing::PowerOfTwo;
    spec.objective = PROMISE;
    spec.startup = Distribution::Lognormal { mean: startup, scv: 0.05 };
    spec
}

// === impl Bench ===

impl Bench {
    pub(super) fn new() -> Self {
        Self { tables: Tables::default(), demand: Demand::new(&service(30.0)) }
    }

    /// Replicas that a rate needs.
    pub(super) fn needed(&mut self, rate: f64) -> u32 {
        self.demand.replicas(rate).unwrap_or(REPLICAS).max(1)
    }

    /// A part of a load under a policy, from the replicas that its first minutes need on.
    pub(super) fn run(
        &mut self,
        load: &Workload,
        part: Part,
        startup: f64,
        seed: u64,
        policy: Box<dyn Policy>,
    ) -> Result<Outcome, WorldError> {
        let world = self.world(load, part, startup, seed);
        let mut plant = Fluid::with_tables(&world, step(policy.as_ref()), std::mem::take(&mut self.tables))?;
        let outcome = outcome(&mut plant, part, policy);
        self.tables = plant.into_tables();
        Ok(outcome)
    }

    /// The same with every single request.
    pub(super) fn run_exactly(
        &mut self,
        load: &Workload,
        part: Part,
        startup: f64,
        seed: u64,
        policy: Box<dyn Policy>,
    ) -> Result<Outcome, WorldError> {
        let world = self.world(load, part, startup, seed);
        Ok(outcome(&mut Simulation::new(&world)?, part, policy))
    }

    /// Everything that was recorded of a run in a world that differs from what the policy knows.
    pub(super) fn report(
        &mut self,
        load: &Workload,
        part: Part,
        startup: f64,
        seed: u64,
        shift: &Shift,
        policy: Box<dyn Policy>,
    ) -> Result<ServiceReport, WorldError> {
        let mut world = self.world(load, part, startup * shift.startup, seed);
        for Load { arrivals, .. } in &mut world.loads {
            if let Arrivals::Varying(rates) = arrivals {
                rates.scale *= shift.load;
            }
        }
        for service in &mut world.services {
            service.work_factor = Some(Series::constant(shift.work));
        }
        let mut plant = Fluid::with_tables(&world, STEP, std::mem::take(&mut self.tables))?;
        run(&mut plant, &mut [Some(policy)], &Run::new(part.until, STEP));
        let report = plant.report(0);
        self.tables = plant.into_tables();
        Ok(report)
    }

    fn world(&mut self, load: &Workload, part: Part, startup: f64, seed: u64) -> World {
        let mut spec = service(startup);
        let first = load.rates.at(part.from).max(load.rates.at(part.from + Duration::from_secs(300)));
        spec.initial_replicas = self.needed(1.2 * first);
        let loads = vec![Load { service: 0, arrivals: Arrivals::Varying(load.rates.clone()) }];
        World { start: part.from, seed, services: vec![spec], loads, ..World::default() }
    }

    /// Replica-hours of one who knows the load: at every step the most that is needed from then until `ahead` later.
    pub(super) fn oracle(&mut self, load: &Workload, part: Part, ahead: f64) -> f64 {
        let step = Duration::from_secs(15);
        let mut needs = Vec::new();
        let mut at = part.from;
        while at < part.until {
            needs.push(self.needed(load.rates.at(at)));
            at = at + step;
        }
        let window = Duration::from_secs_f64(ahead).div_duration_f64(step).ceil();
        let mut total = 0;
        let mut largest = Stabilizer::new(window * 15.0 + 1.0);
        // Backwards in time, the most of the future is the most of the past.
        for (passed, need) in (0..).map(|count| f64::from(count) * 15.0).zip(needs.iter().rev()) {
            total += whole(largest.largest(passed, f64::from(*need)));
        }
        f64::from(total) * 15.0 / 3600.0
    }

    /// The same with the most of the whole part all the time.
    pub(super) fn constant(&mut self, load: &Workload, part: Part) -> f64 {
        let mut most = 0.0_f64;
        let mut at = part.from;
        while at < part.until {
            most = most.max(load.rates.at(at));
            at = at + Duration::from_secs(60);
        }
        f64::from(self.needed(most)) * part.until.since(part.from).as_secs_f64() / 3600.0
    }
}

fn step(policy: &dyn Policy) -> Duration {
    STEP.min(policy.interval())
}

fn outcome(plant: &mut dyn Plant, part: Part, policy: Box<dyn Policy>) -> Outcome {
    let step = step(policy.as_ref());
    run(plant, &mut [Some(policy)], &Run::new(part.until, step));
    let score = Score::of(&plant.report(0), PROMISE.quantile);
    Outcome {
        hours: score.replica_hours,
        violations: f64::from(score.violation_minutes) / f64::from(score.judged_minutes.max(1)),
        actions: score.ups + score.downs,
        oscillations: score.oscillations,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of replicas")]
fn whole(value: f64) -> u32 {
    value as u32
}
