//! From simulated services to the report.

use std::time::Duration;

use tracescale_simulate::comparison::{Comparison, PolicyResult, ServiceLoad, ServiceResult};
use tracescale_simulate::plant::Plant;
use tracescale_simulate::score::{Demand, elasticity};
use tracescale_simulate::world::World;

use super::demand::Workload;

/// What a policy made of the services of a plant.
pub(super) fn policy(
    name: String,
    note: String,
    plant: &dyn Plant,
    world: &World,
    workload: &Workload,
    step: Duration,
    failures: Vec<String>,
) -> PolicyResult {
    let result = |(place, spec): (usize, &tracescale_simulate::world::ServiceSpec)| {
        let report = plant.report(place);
        let rate = &workload.services[place].rate;
        let elasticity = elasticity(&report, &mut Demand::new(spec), step, |at| rate.at(at));
        ServiceResult::of(&report, spec.objective.quantile, elasticity)
    };
    PolicyResult { name, note, services: world.services.iter().enumerate().map(result).collect(), failures }
}

/// The whole report.
pub(super) fn of(workload: &Workload, world: &World, step: Duration, policies: Vec<PolicyResult>) -> Comparison {
    let load = |(spec, demand): (&tracescale_simulate::world::ServiceSpec, &super::demand::ServiceDemand)| {
        let period = (workload.from, workload.until);
        ServiceLoad::sampled(&spec.name, spec.objective, period, step, &mut Demand::new(spec), |at| demand.rate.at(at))
    };
    Comparison {
        title: "Backtest".to_owned(),
        from: workload.from,
        until: workload.until,
        step,
        assumptions: workload.assumptions.clone(),
        services: world.services.iter().zip(&workload.services).map(load).collect(),
        policies,
    }
}
