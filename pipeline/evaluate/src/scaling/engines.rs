//! The same hours in both engines: where the fluid one might flatter or slander a policy, every single request is simulated.

use std::time::Duration;

use serde::Serialize;

use super::candidates::{Family, baseline, modelled, planner};
use super::trial::{Bench, Outcome, REPLICAS, service};
use super::workload::{Part, Workload};
use super::{Modelled, ScalingError};
use tracescale_simulate::policy::Policy;

/// Settings that are tried in both engines: policy, knob, place of its other settings. KPA from careful to where it oscillates.
const TRIED: [(Family, f64, usize); 7] = [
    (Family::Tracescale, 30.0, 0),
    (Family::Hpa, 0.75, 0),
    (Family::Keda, 0.75, 0),
    (Family::Kpa, 1.14, 1),
    (Family::Kpa, 1.7, 0),
    (Family::Kpa, 1.98, 0),
    (Family::Kpa, 2.4, 0),
];
/// How much of the test part is simulated request by request.
const HOURS: Duration = Duration::from_secs(3 * 3600);
/// Mean start-up, in seconds.
const STARTUP: f64 = 30.0;

/// One policy in both engines.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineCheck {
    /// Which policy.
    pub policy: &'static str,
    /// At which setting.
    pub setting: String,
    /// Replica-hours: fluid, every request.
    pub hours: (f64, f64),
    /// Share of violated minutes: fluid, every request.
    pub violations: (f64, f64),
    /// Scale actions: fluid, every request.
    pub actions: (u32, u32),
}

/// Runs the busiest hours of the test part of a load in both engines.
pub(super) fn check(bench: &mut Bench, load: &Workload) -> Result<Vec<EngineCheck>, ScalingError> {
    let part = busiest(load);
    let planner = planner(load, &service(STARTUP), part.from, 1).ok_or(ScalingError::Infeasible)?;
    let policy = |family, knob, other| -> Result<Box<dyn Policy>, ScalingError> {
        Ok(match baseline(family, knob, other) {
            Some(policy) => policy,
            None => Box::new(modelled(&planner, knob, None, Modelled::document(1, REPLICAS))?),
        })
    };
    let mut checks = Vec::new();
    for (family, knob, other) in TRIED {
        let fluid = bench.run(load, part, STARTUP, 1, policy(family, knob, other)?)?;
        let exact: Outcome = bench.run_exactly(load, part, STARTUP, 1, policy(family, knob, other)?)?;
        checks.push(EngineCheck {
            policy: family.name(),
            setting: family.describe(knob, other),
            hours: (fluid.hours, exact.hours),
            violations: (fluid.violations, exact.violations),
            actions: (fluid.actions, exact.actions),
        });
    }
    Ok(checks)
}

/// The hours of the test part with the most load.
fn busiest(load: &Workload) -> Part {
    let hour = Duration::from_secs(3600);
    let sum = |from| (0..36).map(|step| load.rates.at(from + Duration::from_secs(300) * step)).sum::<f64>();
    let (mut from, mut best) = (load.test.from, f64::NEG_INFINITY);
    let mut at = load.test.from;
    while at + HOURS <= load.test.until {
        if sum(at) > best {
            (from, best) = (at, sum(at));
        }
        at = at + hour;
    }
    Part { from, until: (from + HOURS).min(load.test.until) }
}
