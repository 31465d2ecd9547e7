//! Named invariants that every decision must keep: a test fails on a violation, production counts it.

use std::fmt;

use crate::decide::{Action, Decision, Guard, MissingReason, Reason};
use crate::policy::{Direction, Mode, OnMissing};

mod resize;

/// The invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// What is desired is within the bounds, unless a person ordered otherwise or nothing may be touched.
    WithinBounds,
    /// No change of a rule's making comes sooner after the last one than the cooldown of its direction.
    CooldownKept,
    /// No change of a rule's making is larger than the step limit of its direction.
    StepLimitKept,
    /// Without an answer of a rule nothing changes but by what `onMissing`, a bound or a person says.
    NoScaleWithoutData,
    /// A rule scales down on a final window only, where its policy asks for one.
    NoScaleDownOnProvisional,
    /// A paused target does not change.
    PausedHolds,
    /// Nothing changes while all rules are off.
    OffHolds,
    /// A target whose capacity is unknown does not change.
    UnobservedHolds,
    /// A person's order is carried out to the number.
    OverrideObeyed,
    /// Nothing new begins while an action is under way.
    OneActionAtATime,
    /// The steps lead without a gap from the proposal to what is desired.
    StepsExplain,
    /// The action says what the numbers say.
    ActionFits,
    /// No change of a rule's making grows a target beyond what its budget leaves.
    BudgetKept,
    /// No change of a rule's making overtakes the one that it must wait for.
    HoldKept,
    /// No change of a rule's making goes below the floor after a rollback.
    FloorKept,
    /// A rule does not scale down soon after a new version.
    DeploymentKept,
    /// Replicas and their resources are never ordered at once.
    OneDimensionAtATime,
    /// Resources that are ordered are within the policy's range, and a limit is not below its request.
    ResourcesWithinRange,
    /// Memory is not lowered for days after a kill for lack of it.
    MemoryKeptAfterKill,
    /// No ordinary change of resources comes sooner after the last one than the policy's pause.
    ResizeCooldownKept,
}

/// A decision that breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("decision {decision} breaks {invariant}: {detail}")]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// The decision's id.
    pub decision: String,
    /// How.
    pub detail: String,
}

// === impl Invariant ===

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::WithinBounds,
        Self::CooldownKept,
        Self::StepLimitKept,
        Self::NoScaleWithoutData,
        Self::NoScaleDownOnProvisional,
        Self::PausedHolds,
        Self::OffHolds,
        Self::UnobservedHolds,
        Self::OverrideObeyed,
        Self::OneActionAtATime,
        Self::StepsExplain,
        Self::ActionFits,
        Self::BudgetKept,
        Self::HoldKept,
        Self::FloorKept,
        Self::DeploymentKept,
        Self::OneDimensionAtATime,
        Self::ResourcesWithinRange,
        Self::MemoryKeptAfterKill,
        Self::ResizeCooldownKept,
    ];

    /// Stable label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WithinBounds => "within_bounds",
            Self::CooldownKept => "cooldown_kept",
            Self::StepLimitKept => "step_limit_kept",
            Self::NoScaleWithoutData => "no_scale_without_data",
            Self::NoScaleDownOnProvisional => "no_scale_down_on_provisional",
            Self::PausedHolds => "paused_holds",
            Self::OffHolds => "off_holds",
            Self::UnobservedHolds => "unobserved_holds",
            Self::OverrideObeyed => "override_obeyed",
            Self::OneActionAtATime => "one_action_at_a_time",
            Self::StepsExplain => "steps_explain",
            Self::ActionFits => "action_fits",
            Self::BudgetKept => "budget_kept",
            Self::HoldKept => "hold_kept",
            Self::FloorKept => "floor_kept",
            Self::DeploymentKept => "deployment_kept",
            Self::OneDimensionAtATime => "one_dimension_at_a_time",
            Self::ResourcesWithinRange => "resources_within_range",
            Self::MemoryKeptAfterKill => "memory_kept_after_kill",
            Self::ResizeCooldownKept => "resize_cooldown_kept",
        }
    }

    /// How a decision breaks it; `None` when it keeps it.
    fn broken_by(self, decision: &Decision) -> Option<String> {
        match self {
            Self::WithinBounds => within_bounds(decision),
            Self::CooldownKept => cooldown_kept(decision),
            Self::StepLimitKept => step_limit_kept(decision),
            Self::NoScaleWithoutData => no_scale_without_data(decision),
            Self::NoScaleDownOnProvisional => no_scale_down_on_provisional(decision),
            Self::PausedHolds => (decision.inputs.target.paused && decision.is_change()).then(|| "paused, yet it changes".to_owned()),
            Self::OffHolds => {
                let rules = &decision.inputs.rules;
                let off = !rules.is_empty() && rules.iter().all(|rule| rule.mode == Mode::Off);
                (off && decision.is_change()).then(|| "all rules are off, yet it changes".to_owned())
            }
            Self::UnobservedHolds => (decision.inputs.observed.is_err() && (decision.is_change() || decision.desired.is_some()))
                .then(|| "unknown, yet it changes".to_owned()),
            Self::OverrideObeyed => override_obeyed(decision),
            Self::OneActionAtATime => {
                (stopped_by(decision, Guard::InFlight) && decision.is_change()).then(|| "an action is under way, yet it changes".to_owned())
            }
            Self::StepsExplain => steps_explain(decision),
            Self::ActionFits => action_fits(decision),
            Self::BudgetKept => budget_kept(decision),
            Self::HoldKept => hold_kept(decision),
            Self::FloorKept => floor_kept(decision),
            Self::DeploymentKept => deployment_kept(decision),
            Self::OneDimensionAtATime => resize::one_dimension(decision),
            Self::ResourcesWithinRange => resize::within_range(decision),
            Self::MemoryKeptAfterKill => resize::memory_kept(decision),
            Self::ResizeCooldownKept => resize::cooldown_kept(decision),
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Checks a decision against all invariants.
///
/// # Errors
/// The first invariant that it breaks.
pub fn check(decision: &Decision) -> Result<(), Violation> {
    for invariant in Invariant::ALL {
        if let Some(detail) = invariant.broken_by(decision) {
            return Err(Violation { invariant, decision: decision.id.to_string(), detail });
        }
    }
    Ok(())
}

fn stopped_by(decision: &Decision, guard: Guard) -> bool {
    decision.steps.iter().any(|step| step.guard == guard && step.reason != Reason::ObservationBeforeAction)
}

/// True when a guard that comes before the rules settled the decision.
fn settled_early(decision: &Decision) -> bool {
    [Guard::Mode, Guard::Pause, Guard::Observation, Guard::InFlight, Guard::Override, Guard::Zero].iter().any(|g| stopped_by(decision, *g))
}

/// True when the last word was a bound's.
fn settled_by_bounds(decision: &Decision) -> bool {
    stopped_by(decision, Guard::Bounds) || stopped_by(decision, Guard::Schedule)
}

fn within_bounds(decision: &Decision) -> Option<String> {
    let desired = decision.desired?;
    (!settled_early(decision) && !decision.bounds.contains(desired)).then(|| format!("{desired} is outside {}", decision.bounds))
}

/// True when the capacity is raised to what it was before a scale-down that hurt.
fn is_restored(decision: &Decision) -> bool {
    let restores = |reason| matches!(reason, Reason::RolledBack | Reason::FloorAfterRollback);
    decision.action == Action::ScaleUp && decision.steps.iter().any(|step| restores(step.reason))
}

/// Direction and size of a change that a rule made, not a bound, not a rollback and not a person.
fn change_of_rule(decision: &Decision) -> Option<(Direction, u32)> {
    let (current, desired) = (decision.current?, decision.desired?);
    if settled_early(decision) || settled_by_bounds(decision) || current == desired || is_restored(decision) {
        return None;
    }
    Some((if desired > current { Direction::Up } else { Direction::Down }, desired.abs_diff(current)))
}

fn cooldown_kept(decision: &Decision) -> Option<String> {
    let (direction, _) = change_of_rule(decision)?;
    let rule = decision.inputs.rules.iter().find(|rule| Some(&rule.name) == decision.chosen_rule.as_ref())?;
    let state = &decision.inputs.state;
    // A jump of the clock moves the remembered times; then ages cannot be read off the recorded state.
    if stopped_by(decision, Guard::Clock) {
        return None;
    }
    let since = if direction == Direction::Up { state.last_up } else { state.last_change() }?;
    let (passed, cooldown) = (decision.at.since(since), rule.policy.direction(direction).cooldown);
    (passed < cooldown).then(|| format!("{passed:?} after the last change, the cooldown is {cooldown:?}"))
}

fn step_limit_kept(decision: &Decision) -> Option<String> {
    let (direction, size) = change_of_rule(decision)?;
    let rule = decision.inputs.rules.iter().find(|rule| Some(&rule.name) == decision.chosen_rule.as_ref())?;
    let limit = rule.policy.direction(direction).step_limit?;
    (size > limit).then(|| format!("a step of {size}, the limit is {limit}"))
}

fn no_scale_without_data(decision: &Decision) -> Option<String> {
    change_of_rule(decision)?;
    let Some(rule) = decision.inputs.rules.iter().find(|rule| Some(&rule.name) == decision.chosen_rule.as_ref()) else {
        return Some("no rule was chosen, yet it changes".to_owned());
    };
    let mut proposals = decision.inputs.proposals.iter().filter(|proposal| proposal.rule == rule.name);
    let has_data = proposals.any(|proposal| matches!(proposal.demand, crate::decide::Demand::Replicas(_)));
    let said = decision.considered.iter().find(|considered| considered.rule == rule.name);
    if said.is_some_and(|said| said.reason == Reason::DataMissing) {
        return Some("the rule's data are missing and the policy holds, yet it changes".to_owned());
    }
    let may = !matches!(rule.policy.spec().on_missing, OnMissing::Hold | OnMissing::Skip);
    (!has_data && !may).then(|| format!("{}, and the policy says hold", MissingReason::NoRow.as_str()))
}

fn no_scale_down_on_provisional(decision: &Decision) -> Option<String> {
    let (Direction::Down, _) = change_of_rule(decision)? else { return None };
    let rule = decision.inputs.rules.iter().find(|rule| Some(&rule.name) == decision.chosen_rule.as_ref())?;
    if !rule.policy.spec().gates.scale_down_needs_final.unwrap_or(true) || stopped_by(decision, Guard::Missing) {
        return None;
    }
    let mut proposals = decision.inputs.proposals.iter().filter(|proposal| proposal.rule == rule.name);
    (!proposals.any(|proposal| proposal.evidence.is_final == Some(true))).then(|| "no window behind it is final".to_owned())
}

fn override_obeyed(decision: &Decision) -> Option<String> {
    let order = decision.inputs.target.override_.as_ref().filter(|order| order.is_active(decision.at))?;
    let earlier = [Guard::Mode, Guard::Pause, Guard::Observation, Guard::InFlight];
    if earlier.iter().any(|guard| stopped_by(decision, *guard)) {
        return None;
    }
    (decision.desired != Some(order.replicas)).then(|| format!("{:?} instead of the ordered {}", decision.desired, order.replicas))
}

fn steps_explain(decision: &Decision) -> Option<String> {
    let mut value = None;
    let mut settled = false;
    for step in decision.steps.iter().filter(|step| !step.is_note()) {
        if let (Some(value), Some(before)) = (value, step.before)
            && value != before
        {
            return Some(format!("{} starts from {before}, the guard before it left {value}", step.guard));
        }
        value = step.after;
        settled = true;
    }
    if !settled {
        return Some("no step says why".to_owned());
    }
    (value != decision.desired).then(|| format!("the steps end at {value:?}, desired is {:?}", decision.desired))
}

fn action_fits(decision: &Decision) -> Option<String> {
    let fits = match (decision.current, decision.desired, decision.action) {
        (Some(current), Some(desired), Action::ScaleUp) => desired > current,
        (Some(current), Some(desired), Action::ScaleDown) => desired < current,
        (Some(current), Some(desired), Action::None | Action::Hold) => desired == current,
        (None, None, Action::Hold) => true,
        _ => false,
    };
    (!fits).then(|| format!("{} from {:?} to {:?}", decision.action.as_str(), decision.current, decision.desired))
}

fn budget_kept(decision: &Decision) -> Option<String> {
    let (Direction::Up, _) = change_of_rule(decision)? else { return None };
    let (share, desired) = (decision.inputs.context.budget.as_ref()?, decision.desired?);
    (desired > share.allowed).then(|| format!("{desired}, budget {} leaves {}", share.name, share.allowed))
}

fn hold_kept(decision: &Decision) -> Option<String> {
    let (direction, _) = change_of_rule(decision)?;
    let hold = decision.inputs.context.hold.as_ref().filter(|hold| decision.at < hold.until)?;
    (direction == hold.direction).then(|| format!("goes ahead of {}", hold.behind))
}

fn floor_kept(decision: &Decision) -> Option<String> {
    let (Direction::Down, _) = change_of_rule(decision)? else { return None };
    // A jump of the clock moves the remembered times, as above.
    if stopped_by(decision, Guard::Clock) {
        return None;
    }
    let floor = decision.inputs.state.lessons.floor.filter(|floor| decision.at < floor.until)?;
    let desired = decision.desired?;
    (desired < floor.replicas).then(|| format!("{desired} is below the floor of {} until {}", floor.replicas, floor.until))
}

fn deployment_kept(decision: &Decision) -> Option<String> {
    let (Direction::Down, _) = change_of_rule(decision)? else { return None };
    let rule = decision.inputs.rules.iter().find(|rule| Some(&rule.name) == decision.chosen_rule.as_ref())?;
    let passed = decision.at.since(decision.inputs.context.diagnosis.as_ref()?.deployed_at?);
    let pause = rule.policy.spec().control.after_deployment;
    (passed < pause).then(|| format!("scales down {passed:?} after a new version, the pause is {pause:?}"))
}
