//! From simulated services to the report.

use tracescale_simulate::comparison::{Comparison, PolicyResult, ServiceLoad, ServiceResult};
use tracescale_simulate::plant::Plant;
use tracescale_simulate::score::{Demand, elasticity};

use super::Setting;

/// What a policy made of the services of a plant.
pub(super) fn policy(
    name: String,
    note: String,
    plant: &dyn Plant,
    setting: &Setting,
    demands: &mut [Demand],
    failures: Vec<String>,
) -> PolicyResult {
    let result = |((place, spec), demand): ((usize, &tracescale_simulate::world::ServiceSpec), &mut Demand)| {
        let report = plant.report(place);
        let rate = &setting.workload.services[place].rate;
        let elasticity = elasticity(&report, demand, setting.step, |at| rate.at(at));
        ServiceResult::of(&report, spec.objective.quantile, elasticity)
    };
    PolicyResult { name, note, services: setting.world.services.iter().enumerate().zip(demands).map(result).collect(), failures }
}

/// The whole report.
pub(super) fn of(setting: &Setting, demands: &mut [Demand], policies: Vec<PolicyResult>) -> Comparison {
    let Setting { workload, world, step, .. } = setting;
    let step = *step;
    let load = |((spec, service), demand): ((&tracescale_simulate::world::ServiceSpec, &super::demand::ServiceDemand), &mut Demand)| {
        let period = (workload.from, workload.until);
        ServiceLoad::sampled(&spec.name, spec.objective, period, step, demand, |at| service.rate.at(at))
    };
    Comparison {
        title: "Backtest".to_owned(),
        from: workload.from,
        until: workload.until,
        step,
        assumptions: workload.assumptions.clone(),
        services: world.services.iter().zip(&workload.services).zip(demands).map(load).collect(),
        policies,
    }
}
