//! The checks that a policy passes before it can exist: all problems at once, each with path, value and hint.

use std::fmt;
use std::time::Duration;

use super::{ConditionSpec, ControlSpec, DirectionSpec, GatesSpec, OnMissing, PolicySpec, RateKind, VerticalSpec};
use crate::duration;
use crate::schedule::{self, Schedule, ScheduleSpec};

/// More replicas than any cluster runs; a larger number is a slip of the finger.
const MAX_REPLICAS: u32 = 1_000_000;
/// Longest memory of recommendations, periods and cooldowns: Autopilot's longest stabilization is three days.
const MAX_MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Rate policies per direction.
const MAX_POLICIES: usize = 16;
/// Schedules per policy.
const MAX_SCHEDULES: usize = 64;
/// Evaluations that a condition can ask for; bounds what is remembered per rule and target.
const MAX_TIMES: u32 = 100;

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    /// Where, from the policy: `scaleDown.policies[0].period`.
    pub path: String,
    /// What is written there.
    pub value: String,
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// All that is wrong with a policy; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid policy: {}", self.summary())]
pub struct PolicyError {
    /// The problems, in the order of the fields.
    pub problems: Vec<PolicyProblem>,
}

struct Checker {
    problems: Vec<PolicyProblem>,
}

// === impl PolicyError ===

impl PolicyError {
    fn summary(&self) -> String {
        self.problems.iter().map(|p| format!("{} = {}: {}", p.path, p.value, p.message)).collect::<Vec<_>>().join("; ")
    }
}

/// Checks everything; gives the compiled schedules.
pub(super) fn validate(spec: &PolicySpec) -> Result<Vec<Schedule>, PolicyError> {
    let mut checker = Checker { problems: Vec::new() };
    checker.bounds(spec);
    checker.share("tolerance", spec.tolerance);
    checker.direction("scaleUp", &spec.scale_up);
    checker.direction("scaleDown", &spec.scale_down);
    checker.on_missing(spec);
    checker.gates(&spec.gates);
    checker.control(&spec.control);
    if let Some(condition) = &spec.condition {
        checker.condition(condition);
    }
    checker.vertical(&spec.vertical);
    if spec.schedules.len() > MAX_SCHEDULES {
        checker.add("schedules", spec.schedules.len(), "too many schedules", Some(format!("at most {MAX_SCHEDULES}")));
    }
    let mut schedules = Vec::new();
    for (index, schedule) in spec.schedules.iter().enumerate().take(MAX_SCHEDULES) {
        schedules.extend(checker.schedule(index, schedule, spec));
    }
    if checker.problems.is_empty() { Ok(schedules) } else { Err(PolicyError { problems: checker.problems }) }
}

// === impl Checker ===

impl Checker {
    fn add(&mut self, path: impl Into<String>, value: impl fmt::Display, message: impl Into<String>, hint: Option<String>) {
        self.problems.push(PolicyProblem { path: path.into(), value: value.to_string(), message: message.into(), hint });
    }

    fn bounds(&mut self, spec: &PolicySpec) {
        if spec.max == 0 {
            self.add("max", spec.max, "must be at least 1", Some("to stop a target, set `paused: true` on it".to_owned()));
        } else if spec.max > MAX_REPLICAS {
            self.add("max", spec.max, format!("is larger than {MAX_REPLICAS}"), None);
        }
        if spec.min > spec.max {
            self.add("min", spec.min, format!("is larger than max ({})", spec.max), Some(format!("a number from 0 to {}", spec.max)));
        }
    }

    fn share(&mut self, path: &str, value: f64) {
        if !(value.is_finite() && (0.0..=1.0).contains(&value)) {
            self.add(path, value, "must be a number from 0 to 1", Some("0.1 is ten percent".to_owned()));
        }
    }

    fn vertical(&mut self, vertical: &VerticalSpec) {
        for problem in vertical.problems() {
            self.problems.push(problem);
        }
        self.share("vertical.minimumGain", vertical.minimum_gain);
        self.memory("vertical.every".to_owned(), vertical.every);
    }

    fn memory(&mut self, path: String, value: Duration) {
        if value > MAX_MEMORY {
            self.add(path, duration::format(value), "is too long", Some(format!("at most {}", duration::format(MAX_MEMORY))));
        }
    }

    fn positive(&mut self, path: &str, value: Duration) {
        if value.is_zero() {
            self.add(path, duration::format(value), "must be longer than zero", Some("such as 60s".to_owned()));
        }
    }

    fn direction(&mut self, path: &str, direction: &DirectionSpec) {
        self.memory(format!("{path}.stabilizationWindow"), direction.stabilization_window);
        self.memory(format!("{path}.cooldown"), direction.cooldown);
        if let Some(tolerance) = direction.tolerance {
            self.share(&format!("{path}.tolerance"), tolerance);
        }
        if direction.step_limit == Some(0) {
            let hint = "to forbid the direction, use `selectPolicy: Disabled`".to_owned();
            self.add(format!("{path}.stepLimit"), 0, "must be at least 1", Some(hint));
        }
        if direction.policies.len() > MAX_POLICIES {
            self.add(format!("{path}.policies"), direction.policies.len(), "too many policies", Some(format!("at most {MAX_POLICIES}")));
        }
        for (index, policy) in direction.policies.iter().enumerate() {
            let path = format!("{path}.policies[{index}]");
            if policy.value == 0 {
                let hint = "to forbid the direction, use `selectPolicy: Disabled`".to_owned();
                self.add(format!("{path}.value"), 0, "must be at least 1", Some(hint));
            } else if policy.kind == RateKind::Percent && policy.value > 100_000 {
                self.add(format!("{path}.value"), policy.value, "is larger than 100000 percent", None);
            }
            self.positive(&format!("{path}.period"), policy.period);
            self.memory(format!("{path}.period"), policy.period);
        }
    }

    fn on_missing(&mut self, spec: &PolicySpec) {
        let replicas = match spec.on_missing {
            OnMissing::Replicas(replicas) | OnMissing::After { replicas, .. } => replicas,
            OnMissing::Usual { after } => return self.memory("onMissing.after".to_owned(), after),
            OnMissing::Hold | OnMissing::Skip | OnMissing::Min | OnMissing::Max => return,
        };
        if spec.min <= spec.max && !(spec.min..=spec.max).contains(&replicas) {
            let message = format!("is outside min..max ({}..{})", spec.min, spec.max);
            self.add("onMissing.replicas", replicas, message, Some(format!("a number from {} to {}", spec.min, spec.max)));
        }
    }

    fn gates(&mut self, gates: &GatesSpec) {
        for (path, value) in [("gates.minSamples.scaleUp", gates.min_samples_up), ("gates.minSamples.scaleDown", gates.min_samples_down)] {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v >= 0.0)) {
                self.add(path, value, "must be a number that is not negative", None);
            }
        }
        for (path, value) in [
            ("gates.minConfidence.scaleUp", gates.min_confidence_up),
            ("gates.minConfidence.scaleDown", gates.min_confidence_down),
            ("gates.minCompleteness.scaleUp", gates.min_completeness_up),
            ("gates.minCompleteness.scaleDown", gates.min_completeness_down),
        ] {
            if let Some(value) = value {
                self.share(path, value);
            }
        }
        if let Some(age) = gates.max_age {
            self.positive("gates.maxAge", age);
            self.memory("gates.maxAge".to_owned(), age);
        }
        if let Some(age) = gates.max_age_down {
            self.positive("gates.maxAge.scaleDown", age);
            let most = gates.max_age.unwrap_or(GatesSpec::MAX_AGE);
            if age > most {
                let message = format!("is longer than what is missing data ({})", duration::format(most));
                self.add("gates.maxAge.scaleDown", duration::format(age), message, Some("raise `scaleUp` too".to_owned()));
            }
        }
    }

    fn control(&mut self, control: &ControlSpec) {
        control.startup.into_iter().for_each(|startup| self.positive("startup", startup));
        for (path, value) in [
            ("startup", control.startup),
            ("afterDeployment", Some(control.after_deployment)),
            ("afterOutage", control.after_outage),
            ("verify.settle", control.verify.settle),
            ("verify.floor", Some(control.verify.floor)),
        ] {
            if let Some(value) = value {
                self.memory(path.to_owned(), value);
            }
        }
    }

    fn condition(&mut self, condition: &ConditionSpec) {
        if !(1..=MAX_TIMES).contains(&condition.times) {
            let hint = format!("a number from 1 to {MAX_TIMES}");
            self.add("condition.times", condition.times, "is out of range", Some(hint));
        }
        self.positive("condition.window", condition.window);
        self.memory("condition.window".to_owned(), condition.window);
    }

    fn schedule(&mut self, index: usize, schedule: &ScheduleSpec, spec: &PolicySpec) -> Option<Schedule> {
        let path = format!("schedules[{index}]");
        let before = self.problems.len();
        if spec.schedules.iter().take(index).any(|other| other.name == schedule.name) {
            self.add(format!("{path}.name"), &schedule.name, "is used by another schedule of this policy", None);
        }
        let cron = match schedule::parse_cron(&schedule.cron) {
            Ok(cron) => Some(cron),
            Err(error) => {
                let hint = "minute hour day-of-month month day-of-week, such as `0 8 * * MON-FRI`".to_owned();
                self.add(format!("{path}.cron"), &schedule.cron, error.to_string(), Some(hint));
                None
            }
        };
        let timezone = schedule::parse_timezone(&schedule.timezone);
        if timezone.is_none() {
            let hint = "an IANA name such as `Europe/Berlin` or `UTC`".to_owned();
            self.add(format!("{path}.timezone"), &schedule.timezone, "is not a time zone", Some(hint));
        }
        if schedule.duration.is_zero() || schedule.duration > schedule::MAX_DURATION {
            let hint = format!("longer than zero, at most {}", duration::format(schedule::MAX_DURATION));
            self.add(format!("{path}.duration"), duration::format(schedule.duration), "is out of range", Some(hint));
        }
        if schedule.min.is_none() && schedule.max.is_none() {
            self.add(path.clone(), &schedule.name, "sets neither min nor max", Some("add `min`, `max` or both".to_owned()));
        }
        if let Some(max) = schedule.max.filter(|max| *max == 0 || *max > MAX_REPLICAS) {
            self.add(format!("{path}.max"), max, "is out of range", Some(format!("a number from 1 to {MAX_REPLICAS}")));
        }
        let (min, max) = (schedule.min.unwrap_or(spec.min), schedule.max.unwrap_or(spec.max));
        if min > max && spec.min <= spec.max {
            let field = if schedule.min.is_some() { "min" } else { "max" };
            self.add(format!("{path}.{field}"), schedule.min.unwrap_or(max), format!("min {min} would exceed max {max}"), None);
        }
        (self.problems.len() == before).then_some(())?;
        Some(Schedule::new(schedule.clone(), cron?, timezone?))
    }
}
