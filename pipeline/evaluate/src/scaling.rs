//! Scaling on recorded series: the model against calibrated HPA, KPA and KEDA.
//!
//! ```text
//! load series ─▶ workload ─┬ history ─▶ planner                     ┌▶ hours at equal violations ┐
//!                          ├ training ─▶ settings and knob of each ─┤                            ├─▶ report
//!                          └ test ──────────────────────────────────┴▶ plain figures             ┘
//! ```
//!
//! Every policy gets the same: a grid of settings and a knob, chosen on the training part as the cheapest that breaks the promise in
//! at most the allowed share of the minutes. On the test part two things are compared: what each needs, in replica-hours, at exactly
//! the allowed share (its knob moved until it breaks the promise as often, its other settings as chosen), and what the chosen
//! setting itself came to. Beside that the bar is read literally: every baseline as calibrated, without hindsight, against what the
//! model needs for exactly as many violations ([`Same`]). Both engines of the simulator use the same queueing model that the planner sizes with, so this
//! measures forecasts, prices and reaction, not whether that model is right.

mod candidates;
mod engines;
mod frontier;
mod learned;
mod report;
mod same;
mod trial;
mod workload;

use std::path::Path;
use std::time::Duration;

use tracescale_core::time::Timestamp;
use tracescale_models::control::Planner;
use tracescale_simulate::modelled::{Modelled, ModelledError};
use tracescale_simulate::policy::Policy;
use tracescale_simulate::world::WorldError;

use crate::load::{LoadError, load};
use candidates::{Family, baseline, modelled, planner};
pub use engines::EngineCheck;
use frontier::Frontier;
pub use learned::{Cost, LearnedCase};
pub use report::{Case, PolicyCase, Report, Summary};
pub use same::{Same, SameSummary};
use trial::{Bench, Outcome, REPLICAS, service};
use workload::{Part, Workload};

/// Series, the step in seconds that they are read in, and how much slower they are played.
const SERIES: [(&str, i64, u32); 15] = [
    ("nasa", 60, 1),
    ("elb", 300, 1),
    ("twitter-amzn", 300, 1),
    ("twitter-goog", 300, 1),
    ("twitter-fb", 300, 1),
    ("twitter-ups", 300, 1),
    ("nyc-taxi", 1800, 1),
    ("wikipedia", 3600, 1),
    ("taylor", 1800, 1),
    ("bike", 3600, 1),
    ("genai", 3600, 1),
    // A day that was compressed into an hour, and back.
    ("autothrottle-diurnal", 1, 24),
    ("autothrottle-bursty", 1, 24),
    ("azure-llm", 60, 1),
    ("mooncake", 60, 1),
];
/// Series of the quick evaluation.
const QUICK: [&str; 3] = ["nasa", "twitter-goog", "autothrottle-bursty"];
/// The series on which the engines are compared.
const ENGINES: &str = "nasa";
/// Series on which knobs are learned.
const LEARNED: [&str; 3] = ["nasa", "elb", "twitter-goog"];
/// Mean seconds until an ordered replica serves.
const STARTUPS: [f64; 3] = [30.0, 120.0, 600.0];
/// A test part shorter than this many start-ups shows how a policy was started, and little else.
const STARTUPS_LEAST: f64 = 20.0;
/// Share of the minutes that may break the promise,
const ALLOWED: f64 = 0.01;
/// and of short records, where a hundredth is less than a handful of minutes.
const ALLOWED_SHORT: f64 = 0.05;
/// Minutes of a test part below which a record is short.
const SHORT_MINUTES: f64 = 300.0;
/// Seeds that the chosen settings are run with on the test part.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Seconds beyond the start-up that the oracle looks ahead.
const ORACLE_AHEAD: f64 = 60.0;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ScalingError {
    /// A recording cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The simulated world is not valid.
    #[error("the service of the evaluation cannot be simulated: {0}")]
    World(#[from] WorldError),
    /// The simulated autoscaler is not valid.
    #[error("the autoscaler of the evaluation is not valid: {0}")]
    Modelled(#[from] ModelledError),
    /// The promise of the evaluation cannot be kept by any number of replicas.
    #[error("no number of replicas keeps the promise of the evaluated service")]
    Infeasible,
    /// A series that has no load, or cannot be read in the step.
    #[error("series {name:?} has no load in steps of {step} s; hint: the data folder may hold another version of the recording")]
    NoLoad {
        /// Which.
        name: &'static str,
        /// The step.
        step: i64,
    },
}

/// Compares the model with the baselines on recorded series; `quick` on three of them.
///
/// # Errors
/// When a recording cannot be read.
pub fn evaluate(data_root: &Path, quick: bool) -> Result<Report, ScalingError> {
    evaluate_some(data_root, Duration::ZERO, |name| !quick || QUICK.contains(&name))
}

/// The same on the series whose names are chosen, as if the records had ended so much earlier: other training and test parts,
/// for those who want to know whether a policy was made for the usual ones.
///
/// # Errors
/// When a recording cannot be read.
pub fn evaluate_some(data_root: &Path, earlier: Duration, chosen: impl Fn(&str) -> bool) -> Result<Report, ScalingError> {
    let mut bench = Bench::new();
    let (mut cases, mut engines, mut learned) = (Vec::new(), Vec::new(), Vec::new());
    for (name, step, stretch) in SERIES.into_iter().filter(|(name, ..)| chosen(name)) {
        let workload = read(data_root, name, step, stretch, earlier)?;
        if name == ENGINES {
            engines = engines::check(&mut bench, &workload)?;
        }
        if LEARNED.contains(&name) {
            learned.extend(learned::learned(&mut bench, &workload)?);
        }
        for startup in STARTUPS.into_iter().filter(|startup| workload.test.seconds() >= STARTUPS_LEAST * startup) {
            cases.push(Contest { bench: &mut bench, load: &workload, startup }.case()?);
        }
    }
    Ok(Report::new(cases, engines, learned))
}

/// A series as a load, without its end.
fn read(data_root: &Path, name: &'static str, step: i64, stretch: u32, earlier: Duration) -> Result<Workload, ScalingError> {
    let none = || ScalingError::NoLoad { name, step };
    let series = load(data_root, name)?.resample(step).ok_or_else(none)?;
    // What was not recorded was probably like what came before.
    let mut last = 0.0;
    let mut values = Vec::with_capacity(series.values.len());
    for value in &series.values {
        last = value.unwrap_or(last);
        values.push(last);
    }
    let interval = Duration::from_secs(u64::try_from(step).unwrap_or(1)) * stretch;
    let left_out = earlier.as_nanos() / interval.as_nanos().max(1);
    values.truncate(values.len().saturating_sub(usize::try_from(left_out).unwrap_or(usize::MAX)));
    Workload::new(name, Timestamp::from_secs(series.start), interval, &values).ok_or_else(none)
}

/// All policies on one load with one start-up.
struct Contest<'a> {
    bench: &'a mut Bench,
    load: &'a Workload,
    startup: f64,
}

// === impl Contest ===

impl Contest<'_> {
    fn case(&mut self) -> Result<Case, ScalingError> {
        let (load, startup) = (self.load, self.startup);
        let minutes = load.test.seconds() / 60.0;
        let allowed = if minutes < SHORT_MINUTES { ALLOWED_SHORT } else { ALLOWED };
        let (own, mut frontier) = self.policy(Family::Tracescale, allowed)?;
        let mut policies = vec![own];
        let (knobs, planner) = (Family::Tracescale.knobs(), self.planner(Family::Tracescale, load.test)?);
        for family in Family::BASELINES {
            let (mut baseline, _) = self.policy(family, allowed)?;
            let mut run = |place: usize| self.run(Family::Tracescale, planner.as_ref(), load.test, knobs[place], 0, SEEDS[0]);
            if let Some(same) = &mut baseline.same {
                frontier = frontier.refine(knobs.len(), same.violations, &mut run)?;
                same.model_hours = frontier.hours;
            }
            policies.push(baseline);
        }
        Ok(Case {
            series: load.name.clone(),
            startup,
            test_minutes: minutes,
            allowed,
            oracle_hours: self.bench.oracle(load, load.test, startup + ORACLE_AHEAD),
            static_hours: self.bench.constant(load, load.test),
            policies,
        })
    }

    /// A policy, calibrated and judged, and its runs on the test part.
    fn policy(&mut self, family: Family, allowed: f64) -> Result<(PolicyCase, Frontier), ScalingError> {
        let knobs = family.knobs();
        let train = self.planner(family, self.load.train)?;
        let mut best: Option<(f64, usize, usize)> = None;
        for other in 0..family.others() {
            let run = |place: usize| self.run(family, train.as_ref(), self.load.train, knobs[place], other, SEEDS[0]);
            let found = Frontier::search(knobs.len(), allowed, run)?;
            let hours = found.hours.unwrap_or(f64::INFINITY);
            if best.is_none_or(|(least, ..)| hours < least) {
                best = Some((hours, other, found.chosen));
            }
        }
        let (_, other, place) = best.unwrap_or((f64::INFINITY, 0, 0));
        let test = self.planner(family, self.load.test)?;
        let run = |place: usize| self.run(family, test.as_ref(), self.load.test, knobs[place], other, SEEDS[0]);
        let found = Frontier::search(knobs.len(), allowed, run)?;
        let (mut plain, mut paced) = (Vec::new(), Vec::new());
        for seed in SEEDS {
            plain.push(self.run(family, test.as_ref(), self.load.test, knobs[place], other, seed)?);
            if let Some(planner) = &test {
                let model = modelled(planner, knobs[place], Some(allowed), Modelled::document(1, REPLICAS))?;
                paced.push(self.bench.run(self.load, self.load.test, self.startup, seed, Box::new(model))?);
            }
        }
        let careful = found.runs.first().map_or_else(Outcome::default, |(_, outcome)| *outcome);
        let same = plain.first().filter(|_| family != Family::Tracescale).map(Same::of);
        let case = PolicyCase {
            policy: family.name(),
            setting: family.describe(knobs[place], other),
            hours_at_level: found.hours,
            careful_hours: careful.hours,
            careful_violations: careful.violations,
            paced: (!paced.is_empty()).then(|| (mean(&paced, |outcome| outcome.hours), mean(&paced, |outcome| outcome.violations))),
            hours: mean(&plain, |outcome| outcome.hours),
            violations: mean(&plain, |outcome| outcome.violations),
            actions: mean(&plain, |outcome| f64::from(outcome.actions)),
            oscillations: mean(&plain, |outcome| f64::from(outcome.oscillations)),
            same,
        };
        Ok((case, found))
    }

    /// A planner with the history of a part; none for baselines, which need no history.
    fn planner(&self, family: Family, part: Part) -> Result<Option<Planner>, ScalingError> {
        if family != Family::Tracescale {
            return Ok(None);
        }
        planner(self.load, &service(self.startup), part.from, SEEDS[0]).map(Some).ok_or(ScalingError::Infeasible)
    }

    fn run(
        &mut self,
        family: Family,
        own: Option<&Planner>,
        part: Part,
        knob: f64,
        other: usize,
        seed: u64,
    ) -> Result<Outcome, ScalingError> {
        let policy: Box<dyn Policy> = match (own, baseline(family, knob, other)) {
            (_, Some(policy)) => policy,
            (Some(planner), None) => Box::new(modelled(planner, knob, None, Modelled::document(1, REPLICAS))?),
            (None, None) => return Err(ScalingError::Infeasible),
        };
        Ok(self.bench.run(self.load, part, self.startup, seed, policy)?)
    }
}

fn mean(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> f64 {
    let (sum, count) = outcomes.iter().fold((0.0, 0.0), |(sum, count), outcome| (sum + of(outcome), count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

#[cfg(test)]
mod tests;
