//! The decider: a pure function of time, target, observed capacity, policies and proposals, with a state per target.
//!
//! ```text
//! clock ▸ mode ▸ pause ▸ observation ▸ in flight ▸ override ▸ zero
//!       ▸ per rule: missing ▸ evidence ▸ condition
//!       ▸ priority ▸ tolerance ▸ startup ▸ reactive ▸ stabilization ▸ cause, verification, deployment (vetoes)
//!       ▸ behaviour ▸ step limit ▸ cooldown ▸ cascade ▸ budget ▸ verification (floor, rollback) ▸ schedule ▸ bounds
//! ```
//!
//! Each guard that changes or stops a proposal leaves a [`Step`] with a closed [`Reason`]. "Do nothing" is a decision too.
//! A [`Decision`] carries everything it was made from, so [`Decision::replay`] makes it again, bit for bit.
//!
//! Where several rules serve one target: the highest priority that has an answer is obeyed, among equals the largest capacity,
//! and every rule's answer is listed in [`Decision::considered`]. Rules in `recommend` mode never outweigh one in `enforce`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::capacity::{Capacity, Observed, Unobserved};
use crate::policy::RuleName;
pub use crate::policy::{Direction, Mode, RuleRef};
use crate::target::{TargetName, TargetSpec};
use crate::time::Timestamp;

mod bounds;
mod context;
mod evaluate;
mod evidence;
mod lessons;
mod limits;
mod reason;
mod resize;
mod starts;
mod state;
mod votes;

pub use bounds::{Bounds, EffectiveBounds, effective_bounds};
pub use context::{Cause, Context, DIAGNOSIS_LIMIT, Diagnosis, Silent};
pub(crate) use evidence::figure;
pub use evidence::{Demand, Evidence, MissingReason, Presence, Proposal, Scalar};
pub use lessons::{Barred, Floor, Lessons, Sample, Starting, Trial};
pub use limits::{rate_limit, stabilize};
pub use reason::{Guard, Reason, Verdict};
pub use resize::{OOM_PROTECTION, PendingResize, Resize, ResizeApplied, ResizeReason, ResizeState, ResizeStep, Resized, Resource, Wish};
pub use starts::{Order, STARTUP, Starts};
pub use state::{IN_FLIGHT_LIMIT, OBSERVATION_LIMIT, Pending, Recommendation, RuleState, ScaleEvent, TargetState};

/// Decides for many targets; keeps what must be remembered of each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decider {
    targets: BTreeMap<TargetName, TargetState>,
}

/// What became of a scale call, told to [`Decider::applied`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// The sink set the capacity and read this many replicas back.
    Done {
        /// Replicas that the target is now asked to have.
        replicas: u32,
    },
    /// The call certainly changed nothing.
    Failed,
    /// Nobody knows: the call may have got through. Counted as a change, and the next observation tells.
    Unknown,
}

/// A decision for one target at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Short and typeable; the same inputs give the same id.
    pub id: DecisionId,
    /// When it was made.
    pub at: Timestamp,
    /// For which target.
    pub target: TargetName,
    /// Replicas the target was asked to have before; `None` when nobody knows.
    pub current: Option<u32>,
    /// What every rule of the target said and what became of it.
    pub considered: Vec<Considered>,
    /// The rule that was obeyed.
    pub chosen_rule: Option<RuleName>,
    /// Replicas that rule asked for, before the guards.
    pub proposed: Option<u32>,
    /// The bounds that held.
    pub bounds: Bounds,
    /// What each guard did, in order.
    pub steps: Vec<Step>,
    /// Replicas the target should have; `None` when the current capacity is unknown.
    pub desired: Option<u32>,
    /// What follows.
    pub action: Action,
    /// The reason that settled it: that of the last guard which set the value.
    pub reason: Reason,
    /// Whether it is to be carried out.
    pub mode: Mode,
    /// Event time of the newest row behind the chosen proposal.
    pub evidence_time: Option<Timestamp>,
    /// What was decided about CPU and memory of each replica; `None` when no rule may touch them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Everything it was made from.
    pub inputs: Inputs,
}

/// Identifies a decision: `checkout-20261122T101500.000Z`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DecisionId(String);

/// What one rule said about the target and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Considered {
    /// The rule.
    pub rule: RuleName,
    /// Its priority.
    pub priority: i32,
    /// Its mode.
    pub mode: Mode,
    /// The demand it stated; `None` when it stated none.
    pub demand: Option<f64>,
    /// Replicas that its answer came to, after its own guards; `None` when it abstains.
    pub replicas: Option<u32>,
    /// What became of the answer.
    pub verdict: Verdict,
    /// Why the answer is what it is.
    pub reason: Reason,
    /// The figures behind the reason.
    pub detail: String,
}

/// What one guard did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The guard.
    pub guard: Guard,
    /// Replicas before; `None` when there was no value yet.
    pub before: Option<u32>,
    /// Replicas after; `None` when there still is none.
    pub after: Option<u32>,
    /// Why.
    pub reason: Reason,
    /// The figures behind the reason.
    pub detail: String,
}

/// What follows from a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Set a larger capacity.
    ScaleUp,
    /// Set a smaller capacity.
    ScaleDown,
    /// Nothing to do: the capacity is as it should be.
    None,
    /// Nothing may be done: something is missing, unknown, paused or under way.
    Hold,
}

/// Everything a decision was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// The time that was given.
    pub now: Timestamp,
    /// What was remembered of the target before.
    pub state: TargetState,
    /// The target.
    pub target: TargetSpec,
    /// What the sink saw, or why it saw nothing.
    pub observed: Result<Observed, Unobserved>,
    /// The rules that serve the target, with their policies.
    pub rules: Vec<RuleRef>,
    /// The newest proposals of these rules.
    pub proposals: Vec<Proposal>,
    /// What is known beside the rules.
    #[serde(default, skip_serializing_if = "Context::is_empty")]
    pub context: Context,
}

// === impl Decider ===

impl Decider {
    /// A decider that remembers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides for one target. A decision that is enforced and changes the capacity is remembered as under way until
    /// [`Decider::applied`] tells what became of it, or [`IN_FLIGHT_LIMIT`] has passed.
    ///
    /// `rules` are all rules that serve the target, also those that said nothing: silence is missing data. `proposals` are
    /// the newest ones of every rule (a provisional and a final one where there are both), however old.
    pub fn decide(
        &mut self,
        now: Timestamp,
        target: &TargetSpec,
        observed: &Result<Observed, Unobserved>,
        rules: &[RuleRef],
        proposals: &[Proposal],
    ) -> Decision {
        self.decide_in(now, target, observed, rules, proposals, Context::default())
    }

    /// As [`Decider::decide`], with what is known beside the rules.
    pub fn decide_in(
        &mut self,
        now: Timestamp,
        target: &TargetSpec,
        observed: &Result<Observed, Unobserved>,
        rules: &[RuleRef],
        proposals: &[Proposal],
        context: Context,
    ) -> Decision {
        let state = self.targets.entry(target.name.clone()).or_default();
        let inputs = Inputs::new(now, state.clone(), target, observed, rules, proposals, context);
        evaluate::evaluate(state, inputs)
    }

    /// What [`Decider::decide_in`] would decide, without remembering it: budgets are shared among wishes, so these must be known
    /// first.
    #[must_use]
    pub fn preview(
        &self,
        now: Timestamp,
        target: &TargetSpec,
        observed: &Result<Observed, Unobserved>,
        rules: &[RuleRef],
        proposals: &[Proposal],
        context: Context,
    ) -> Decision {
        let state = self.targets.get(&target.name).cloned().unwrap_or_default();
        let inputs = Inputs::new(now, state.clone(), target, observed, rules, proposals, context);
        evaluate::evaluate(&mut { state }, inputs)
    }

    /// Tells what became of the action that is under way for a target. Without one, nothing happens. What became of an order
    /// of resources that was carried out is told to [`Decider::resized`]; one that failed, or got no answer, may be told here.
    pub fn applied(&mut self, now: Timestamp, target: &TargetName, outcome: Applied) {
        let Some(state) = self.targets.get_mut(target) else { return };
        match (state.pending, outcome) {
            (Some(_), _) | (None, Applied::Done { .. }) => state.settle(now, outcome),
            (None, Applied::Failed) => state.resize.settle(now, Resized::Failed),
            (None, Applied::Unknown) => state.resize.settle(now, Resized::Unknown),
        }
    }

    /// Tells what became of the order of resources that is under way for a target. Without one, nothing happens.
    pub fn resized(&mut self, now: Timestamp, target: &TargetName, outcome: Resized) {
        if let Some(state) = self.targets.get_mut(target) {
            state.resize.settle(now, outcome);
        }
    }

    /// Forgets a target that no longer exists.
    pub fn forget(&mut self, target: &TargetName) {
        self.targets.remove(target);
    }

    /// Forgets all targets but some.
    pub fn retain(&mut self, mut keep: impl FnMut(&TargetName) -> bool) {
        self.targets.retain(|name, _| keep(name));
    }

    /// Goes on from the last decision that an earlier process wrote down for a target, and from when its order ended and how.
    pub fn resume(&mut self, last: &Decision, (at, outcome): (Timestamp, Applied)) {
        let mut state = last.inputs.state.clone();
        let _ = evaluate::evaluate(&mut state, last.inputs.clone());
        let _ = self.targets.insert(last.target.clone(), state);
        self.applied(at, &last.target, outcome);
    }

    /// What is remembered of a target.
    #[must_use]
    pub fn state(&self, target: &TargetName) -> Option<&TargetState> {
        self.targets.get(target)
    }
}

// === impl Decision ===

impl Decision {
    /// Makes the decision again from its recorded inputs. Equal to itself unless the decider's code has changed.
    #[must_use]
    pub fn replay(&self) -> Self {
        evaluate::evaluate(&mut self.inputs.state.clone(), self.inputs.clone())
    }

    /// The capacity to set, when there is something to carry out: enforced, and a change.
    #[must_use]
    pub fn order(&self) -> Option<u32> {
        (self.mode == Mode::Enforce && self.is_change()).then_some(self.desired).flatten()
    }

    /// The capacity that would be desired if no budget and no other target stood in the way: what budgets are shared by and
    /// what targets that depend on each other wait for.
    #[must_use]
    pub fn wish(&self) -> Option<u32> {
        let stopped = self.steps.iter().find(|step| matches!(step.guard, Guard::Cascade | Guard::Budget));
        stopped.and_then(|step| step.before).map_or(self.desired, |wish| Some(wish.clamp(self.bounds.min, self.bounds.max)))
    }

    /// All that is to be carried out: replicas or resources, whichever it is; `None` when there is nothing to do.
    #[must_use]
    pub fn capacity(&self) -> Option<Capacity> {
        let resources = self.resize.as_ref().and_then(Resize::order);
        match (self.order(), resources) {
            (Some(replicas), _) => Some(Capacity::replicas(replicas)),
            (None, resources) => resources.map(Capacity::resources),
        }
    }

    /// True when the desired capacity differs from the current one.
    #[must_use]
    pub fn is_change(&self) -> bool {
        matches!(self.action, Action::ScaleUp | Action::ScaleDown)
    }

    /// True when rules that had a say asked for different capacities.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        let mut answers = self.considered.iter().filter(|c| c.verdict.had_a_say()).filter_map(|c| c.replicas);
        answers.next().is_some_and(|first| answers.any(|other| other != first))
    }
}

// === impl Step ===

impl Step {
    /// True for a remark that neither sets nor keeps the value.
    pub(crate) fn is_note(&self) -> bool {
        let kept = self.before.is_some() && self.before == self.after;
        match self.guard {
            Guard::Clock => true,
            Guard::Observation => self.reason == Reason::ObservationBeforeAction,
            Guard::Cause => kept,
            _ => false,
        }
    }
}

// === impl Inputs ===

impl Inputs {
    /// Everything in the form in which it is recorded.
    fn new(
        now: Timestamp,
        state: TargetState,
        target: &TargetSpec,
        observed: &Result<Observed, Unobserved>,
        rules: &[RuleRef],
        proposals: &[Proposal],
        context: Context,
    ) -> Self {
        let proposals = proposals.iter().cloned().map(Proposal::normalized).collect();
        let (target, observed, rules, context) = (target.clone(), observed.clone(), rules.to_vec(), context.normalized());
        Self { now, state, target, observed, rules, proposals, context }
    }
}

// === impl DecisionId ===

impl DecisionId {
    /// The id of the `sequence`-th decision for a target in a millisecond.
    #[must_use]
    pub(crate) fn new(target: &TargetName, at: Timestamp, sequence: u32) -> Self {
        let time = at.to_utc().format("%Y%m%dT%H%M%S%.3fZ");
        Self(if sequence == 0 { format!("{target}-{time}") } else { format!("{target}-{time}-{sequence}") })
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for DecisionId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

// === impl Action ===

impl Action {
    /// Stable label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScaleUp => "scale_up",
            Self::ScaleDown => "scale_down",
            Self::None => "none",
            Self::Hold => "hold",
        }
    }
}

#[cfg(test)]
mod control_tests;
#[cfg(test)]
mod parity_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verification_tests;
