//! Policies: the guards between what a rule wants and what is done, with the defaults of the Kubernetes HPA where it has one.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::name::RuleName;
pub use crate::schedule::{Schedule, ScheduleSpec};

mod control;
mod validate;
mod vertical;

pub use control::{CauseGuard, ControlSpec, VerifySpec};
pub use validate::{PolicyError, PolicyProblem};
pub use vertical::{RangeSpec, VerticalSpec};

/// What a rule may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing; it is not even asked.
    Off,
    /// Decide and write down, change nothing.
    #[default]
    Recommend,
    /// Decide and act.
    Enforce,
}

/// One rule as the decider needs it. Cheap to clone: thousands of targets share one policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleRef {
    /// The rule's name.
    pub name: RuleName,
    /// What it may do.
    pub mode: Mode,
    /// How often it is evaluated: a much longer pause between decisions is a clock that jumped.
    #[serde(with = "crate::duration::text")]
    pub every: Duration,
    /// Its guards, including its priority.
    pub policy: Arc<Policy>,
}

/// A policy as it is written; every field has its default in [`PolicySpec::default`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicySpec {
    /// Fewest replicas (default 1).
    pub min: u32,
    /// Most replicas (documents must name it; 100 for targets that were only discovered).
    pub max: u32,
    /// Among rules on one target, the highest priority is obeyed (default 0).
    pub priority: i32,
    /// Relative change of demand that is ignored, both directions (default 0.1).
    pub tolerance: f64,
    /// Limits on the way up.
    pub scale_up: DirectionSpec,
    /// Limits on the way down.
    pub scale_down: DirectionSpec,
    /// What to do when the rule has no answer for the target (default hold).
    pub on_missing: OnMissing,
    /// How good the evidence must be.
    pub gates: GatesSpec,
    /// How often a change must be demanded before it is believed; `None` believes the first.
    pub condition: Option<ConditionSpec>,
    /// Recurring spans of time with other bounds.
    pub schedules: Vec<ScheduleSpec>,
    /// Guards that use what is known beside the rule.
    #[serde(skip_serializing_if = "ControlSpec::is_default")]
    pub control: ControlSpec,
    /// Guards of CPU and memory per replica (default off).
    #[serde(skip_serializing_if = "VerticalSpec::is_default")]
    pub vertical: VerticalSpec,
}

/// Limits in one direction: the HPA's `behavior.scaleUp` or `behavior.scaleDown`, and ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DirectionSpec {
    /// How long a recommendation is remembered (default up 0s, down 5m). Up takes the smallest remembered one, down the largest.
    #[serde(with = "crate::duration::text")]
    pub stabilization_window: Duration,
    /// Which of the policies limits (default Max: the one that allows the largest change).
    pub select_policy: SelectPolicy,
    /// Rate limits (default up: 4 pods or 100 percent per 15 s; down: 100 percent per 15 s). An empty list is no limit.
    pub policies: Vec<RatePolicy>,
    /// Instead of the policy's tolerance in this direction.
    pub tolerance: Option<f64>,
    /// Up: pause after a scale-up before the next one. Down: pause after any change before a scale-down. (default 0s)
    #[serde(with = "crate::duration::text")]
    pub cooldown: Duration,
    /// Most replicas that one decision adds or removes (default no limit).
    pub step_limit: Option<u32>,
}

/// Which rate policy limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SelectPolicy {
    /// The one that allows the largest change.
    #[default]
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// At most so much change in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RatePolicy {
    /// Unit of `value`.
    #[serde(rename = "type")]
    pub kind: RateKind,
    /// Replicas, or percent of the replicas at the start of the period.
    pub value: u32,
    /// The period.
    #[serde(with = "crate::duration::text")]
    pub period: Duration,
}

/// Unit of a rate policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RateKind {
    /// Replicas.
    Pods,
    /// Percent of the replicas at the start of the period.
    Percent,
}

/// What to do when the rule has no answer for the target: no row, NULL, or telemetry that is too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum OnMissing {
    /// Keep what is there. Among rules of equal priority this also vetoes scaling down, as a failed metric does in the HPA.
    #[default]
    Hold,
    /// Let the other rules of the target decide, also those of lower priority; hold when there is none.
    Skip,
    /// Go to the policy's min.
    Min,
    /// Go to the policy's max.
    Max,
    /// Go to a number of replicas.
    Replicas(u32),
    /// Hold at first; after so long without an answer go to a number of replicas.
    After {
        /// How long to hold.
        #[serde(with = "crate::duration::text")]
        after: Duration,
        /// Then go here.
        replicas: u32,
    },
    /// Never go down: keep what is there or was last demanded, whichever is more; after so long without an answer, also what
    /// is usual at this hour of the week.
    Usual {
        /// From when on what is usual counts.
        #[serde(with = "crate::duration::text")]
        after: Duration,
    },
}

/// How good the evidence of a proposal must be. `None` is the default: it applies when the row states the figure and lets
/// rows pass that do not. A limit that somebody wrote down also stops rows that do not state the figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatesSpec {
    /// Effective samples (`n_eff`) to scale up (default 20, which is 100 in 5 minutes for a window of one minute).
    pub min_samples_up: Option<f64>,
    /// Effective samples to scale down (default 30). An idle service needs none.
    pub min_samples_down: Option<f64>,
    /// Confidence to scale up, 0..1 (default 0).
    pub min_confidence_up: Option<f64>,
    /// Confidence to scale down, 0..1 (default 0).
    pub min_confidence_down: Option<f64>,
    /// Completeness of the window to scale up, 0..1 (default 0).
    pub min_completeness_up: Option<f64>,
    /// Completeness of the window to scale down, 0..1 (default 0.9).
    pub min_completeness_down: Option<f64>,
    /// Older evidence counts as missing (default 3m).
    #[serde(with = "crate::duration::option")]
    pub max_age: Option<Duration>,
    /// Evidence older than this does not scale down (default: as old as `max_age` allows).
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub max_age_down: Option<Duration>,
    /// Scaling down needs a final window (default true; a row that does not say `is_final` is not final).
    pub scale_down_needs_final: Option<bool>,
}

/// A change must be demanded `times` times within `window` before it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConditionSpec {
    /// How many evaluations must have demanded a change in the same direction.
    pub times: u32,
    /// Within how long, counted back from now.
    #[serde(with = "crate::duration::text")]
    pub window: Duration,
}

/// A policy that was checked: a running system holds no other.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "PolicySpec", into = "PolicySpec")]
pub struct Policy {
    spec: PolicySpec,
    schedules: Vec<Schedule>,
}

/// Direction of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More capacity.
    Up,
    /// Less capacity.
    Down,
}

// === impl Mode ===

impl Mode {
    /// Stable label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Recommend => "recommend",
            Self::Enforce => "enforce",
        }
    }
}

// === impl PolicySpec ===

impl Default for PolicySpec {
    fn default() -> Self {
        Self {
            min: 1,
            max: 100,
            priority: 0,
            tolerance: 0.1,
            scale_up: DirectionSpec::up(),
            scale_down: DirectionSpec::down(),
            on_missing: OnMissing::Hold,
            gates: GatesSpec::default(),
            condition: None,
            schedules: Vec::new(),
            control: ControlSpec::default(),
            vertical: VerticalSpec::default(),
        }
    }
}

impl PolicySpec {
    /// Gives every fraction twelve digits, as the figures that it is compared with, so that records of it are exact.
    fn round(&mut self) {
        let gates = &mut self.gates;
        let fractions = [
            self.scale_up.tolerance.as_mut(),
            self.scale_down.tolerance.as_mut(),
            gates.min_samples_up.as_mut(),
            gates.min_samples_down.as_mut(),
            gates.min_confidence_up.as_mut(),
            gates.min_confidence_down.as_mut(),
            gates.min_completeness_up.as_mut(),
            gates.min_completeness_down.as_mut(),
            Some(&mut self.vertical.minimum_gain),
            Some(&mut self.tolerance),
        ];
        for value in fractions.into_iter().flatten() {
            *value = crate::decide::figure(*value).unwrap_or(*value);
        }
    }
}

// === impl DirectionSpec ===

impl DirectionSpec {
    /// The HPA's defaults for scaling up.
    #[must_use]
    pub fn up() -> Self {
        let period = Duration::from_secs(15);
        Self {
            stabilization_window: Duration::ZERO,
            select_policy: SelectPolicy::Max,
            policies: vec![
                RatePolicy { kind: RateKind::Pods, value: 4, period },
                RatePolicy { kind: RateKind::Percent, value: 100, period },
            ],
            tolerance: None,
            cooldown: Duration::ZERO,
            step_limit: None,
        }
    }

    /// The HPA's defaults for scaling down.
    #[must_use]
    pub fn down() -> Self {
        Self {
            stabilization_window: Duration::from_secs(300),
            policies: vec![RatePolicy { kind: RateKind::Percent, value: 100, period: Duration::from_secs(15) }],
            ..Self::up()
        }
    }
}

// === impl OnMissing ===

impl OnMissing {
    /// Default of [`OnMissing::Usual`]: with the default `maxAge`, when the newest evidence is ten minutes old.
    pub const USUAL_AFTER: Duration = Duration::from_secs(7 * 60);
    /// No scale-down so long after data were missing, where [`OnMissing::Usual`] is written.
    pub const USUAL_RECOVERY: Duration = Duration::from_secs(15 * 60);
}

// === impl GatesSpec ===

impl GatesSpec {
    /// Default of `min_samples_up`.
    pub const MIN_SAMPLES_UP: f64 = 20.0;
    /// Default of `min_samples_down`.
    pub const MIN_SAMPLES_DOWN: f64 = 30.0;
    /// Default of `min_completeness_down`.
    pub const MIN_COMPLETENESS_DOWN: f64 = 0.9;
    /// Default of `max_age`.
    pub const MAX_AGE: Duration = Duration::from_secs(180);
}

// === impl Policy ===

impl Policy {
    /// Checks a policy.
    ///
    /// # Errors
    /// Every problem of it, each with its path.
    pub fn try_new(mut spec: PolicySpec) -> Result<Self, PolicyError> {
        let schedules = validate::validate(&spec)?;
        spec.round();
        Ok(Self { spec, schedules })
    }

    /// As it was written.
    #[must_use]
    pub fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    /// The schedules, checked.
    #[must_use]
    pub fn schedules(&self) -> &[Schedule] {
        &self.schedules
    }

    /// The limits in a direction.
    #[must_use]
    pub fn direction(&self, direction: Direction) -> &DirectionSpec {
        match direction {
            Direction::Up => &self.spec.scale_up,
            Direction::Down => &self.spec.scale_down,
        }
    }

    /// No scale-down so long after data were missing.
    #[must_use]
    pub fn recovery(&self) -> Duration {
        let usual = matches!(self.spec.on_missing, OnMissing::Usual { .. }).then_some(OnMissing::USUAL_RECOVERY);
        self.spec.control.after_outage.or(usual).unwrap_or(self.spec.scale_down.stabilization_window)
    }

    /// Relative change of demand that is ignored in a direction.
    #[must_use]
    pub fn tolerance(&self, direction: Direction) -> f64 {
        self.direction(direction).tolerance.unwrap_or(self.spec.tolerance)
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl TryFrom<PolicySpec> for Policy {
    type Error = PolicyError;
    fn try_from(spec: PolicySpec) -> Result<Self, PolicyError> {
        Self::try_new(spec)
    }
}

impl From<Policy> for PolicySpec {
    fn from(policy: Policy) -> Self {
        policy.spec
    }
}
