//! Learned knobs against calibrated ones, at stated prices: trained on the training part, judged on the test part and on test
//! parts that are not like it.

use serde::Serialize;
use tracescale_models::control::Planner;
use tracescale_simulate::bandit::{ARMS, Arm, Choice, Hedge, Learned, hourly_costs};
use tracescale_simulate::modelled::Modelled;
use tracescale_simulate::policy::Policy;
use tracescale_simulate::random::{Purpose, Stream};
use tracescale_simulate::score::{Prices, Score};

use super::ScalingError;
use super::candidates::{modelled, planner};
use super::trial::{Bench, PROMISE, REPLICAS, service};
use super::workload::{Part, Workload};

/// Start-up of these cases, in seconds.
const STARTUP: f64 = 120.0;
/// What things cost here: a violation minute as much as fifty replicas for a minute, a change as much as one.
const PRICES: Prices = Prices { replica_hour: 60.0, violation_minute: 50.0, action: 1.0 };
/// Seeds of the drawn choice.
const SEED: u64 = 1;

/// How the test differs from what was trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shift {
    name: &'static str,
    /// Factors on load, start-up and work.
    pub(super) load: f64,
    pub(super) startup: f64,
    pub(super) work: f64,
}

/// No difference, and three that happen.
const SHIFTS: [Shift; 4] = [
    Shift { name: "as trained", load: 1.0, startup: 1.0, work: 1.0 },
    Shift { name: "load doubled", load: 2.0, startup: 1.0, work: 1.0 },
    Shift { name: "start-up tripled", load: 1.0, startup: 3.0, work: 1.0 },
    Shift { name: "work +30 %", load: 1.0, startup: 1.0, work: 1.3 },
];

/// One series under one shift: what each way of choosing knobs cost, in replica-minutes per hour.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LearnedCase {
    /// Which series.
    pub series: String,
    /// How the test differs.
    pub shift: &'static str,
    /// The one setting of the 27 that cost least in training, as a rule is calibrated.
    pub calibrated: Cost,
    /// The setting with the largest learned weight, by quarter of the day.
    pub learned: Cost,
    /// Settings drawn by the learned weights.
    pub drawn: Cost,
    /// No knobs: the planner with these prices.
    pub priced: Cost,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Replica-minutes per hour, violations and changes included.
    pub cost: f64,
    /// Replica-hours.
    pub hours: f64,
    /// Violated minutes.
    pub violation_minutes: u32,
}

/// Trains on a load and judges under every shift.
pub(super) fn learned(bench: &mut Bench, load: &Workload) -> Result<Vec<LearnedCase>, ScalingError> {
    let train = planner(load, &service(STARTUP), load.train.from, SEED).ok_or(ScalingError::Infeasible)?;
    let (hedge, calibrated) = trained(bench, load, &train)?;
    let test = planner(load, &service(STARTUP), load.test.from, SEED).ok_or(ScalingError::Infeasible)?;
    let mut cases = Vec::new();
    for shift in SHIFTS {
        let mut cost = |choice: Option<Choice>| judged(bench, load, &test, &shift, choice);
        let draw = Stream::new(SEED, 2, Purpose::Balancing);
        cases.push(LearnedCase {
            series: load.name.clone(),
            shift: shift.name,
            calibrated: cost(Some(Choice::Fixed(calibrated)))?,
            learned: cost(Some(Choice::Best(hedge.clone())))?,
            drawn: cost(Some(Choice::Drawn(hedge.clone(), draw)))?,
            priced: cost(None)?,
        });
    }
    Ok(cases)
}

/// Weights from replaying every setting over the training part, and the setting that cost least there.
fn trained(bench: &mut Bench, load: &Workload, own: &Planner) -> Result<(Hedge, Arm), ScalingError> {
    let mut costs: Vec<Vec<f64>> = Vec::with_capacity(ARMS);
    for arm in (0..ARMS).map(Arm::at) {
        let policy = policy(own, Some(Choice::Fixed(arm)))?;
        let report = bench.report(load, load.train, STARTUP, SEED, &SHIFTS[0], policy)?;
        costs.push(hourly_costs(&report, PROMISE.quantile, &PRICES));
    }
    let hours = costs.iter().map(Vec::len).min().unwrap_or(0);
    let mut hedge = Hedge::new(u32::try_from(hours / 4).unwrap_or(1));
    let mut at = load.train.from;
    for hour in 0..hours {
        let mut all = [0.0; ARMS];
        all.iter_mut().zip(&costs).for_each(|(cost, arm)| *cost = arm.get(hour).copied().unwrap_or(0.0));
        hedge.learn(Hedge::context(at), &all);
        at = at + std::time::Duration::from_secs(3600);
    }
    let total = |place: &usize| costs.get(*place).map_or(f64::INFINITY, |costs| costs.iter().sum::<f64>());
    let best = (0..ARMS).min_by(|left, right| total(left).total_cmp(&total(right))).unwrap_or(0);
    Ok((hedge, Arm::at(best)))
}

/// The planner with knobs that are chosen, or with prices.
fn policy(own: &Planner, choice: Option<Choice>) -> Result<Box<dyn Policy>, ScalingError> {
    let guarded = modelled(own, PRICES.violation_minute, None, Modelled::document(1, REPLICAS))?;
    Ok(match choice {
        Some(choice) => Box::new(Learned::new(guarded, choice, (1, REPLICAS))),
        None => Box::new(guarded),
    })
}

fn judged(bench: &mut Bench, load: &Workload, own: &Planner, shift: &Shift, choice: Option<Choice>) -> Result<Cost, ScalingError> {
    let part: Part = load.test;
    let report = bench.report(load, part, STARTUP, SEED, shift, policy(own, choice)?)?;
    let score = Score::of(&report, PROMISE.quantile);
    let cost = score.cost(&PRICES) * 3600.0 / part.seconds();
    Ok(Cost { cost, hours: score.replica_hours, violation_minutes: score.violation_minutes })
}
