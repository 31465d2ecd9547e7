//! CPU and memory per replica: the slow dimension, decided beside the number of replicas and never at the same time.
//!
//! ```text
//! wish ▸ per resource: set? ▸ range ▸ kill ▸ bounds ▸ gain
//!      ▸ replicas changing ▸ replicas changed ▸ last attempt failed ▸ cooldown
//! ```
//!
//! Replicas react in minutes, resources in hours. A kill for lack of memory is the exception: memory is then raised at once.
//! What was ordered is ordered again while it has not reached every replica: replicas that started since come with what their
//! template says, and a machine may have had no room at first.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reason::labels;
use super::votes::too_old;
use super::{Action, Guard, Inputs, Mode, Reason, RuleRef, Step, TargetState};
use crate::capacity::Resources;
use crate::policy::RuleName;
use crate::time::Timestamp;

mod judge;
mod state;
mod wish;

use judge::{Judged, judge};
pub(super) use state::SETTLE;
pub use state::{PendingResize, ResizeApplied, ResizeState, Resized};
pub use wish::Wish;

/// After a kill for lack of memory, memory is not lowered for so long.
pub const OOM_PROTECTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// What was decided about the resources of each replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resize {
    /// The rule whose wish it is; `None` when none has one.
    pub rule: Option<RuleName>,
    /// Whether it is to be carried out.
    pub mode: Mode,
    /// What each replica asks for now, as far as it is known.
    pub current: Resources,
    /// What the rule wishes, before the guards.
    pub wished: Resources,
    /// What each replica should ask for; only what is to change, so nothing when nothing is.
    pub desired: Resources,
    /// What became of each resource's wish.
    pub steps: Vec<ResizeStep>,
    /// What settled it.
    pub reason: ResizeReason,
    /// The figures behind the reason.
    pub detail: String,
}

/// What became of one resource's wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResizeStep {
    /// Which resource.
    pub resource: Resource,
    /// What is asked for now, in thousandths of a core or bytes.
    pub before: Option<u64>,
    /// What should be asked for; the same as before when it stays.
    pub after: Option<u64>,
    /// Why.
    pub reason: ResizeReason,
    /// The figures behind the reason.
    pub detail: String,
}

labels! {
    /// What a replica asks for.
    Resource {
        /// CPU, in thousandths of a core.
        Cpu = "cpu",
        /// Memory, in bytes.
        Memory = "memory",
    }
}

labels! {
    /// Why resources change, or do not.
    ResizeReason {
        /// The rule wishes more than there is.
        WishAbove = "wish_above",
        /// The rule wishes less than there is.
        WishBelow = "wish_below",
        /// The rule wishes what there is.
        WishMet = "wish_met",
        /// Raised to the policy's min.
        BelowMin = "below_min",
        /// Cut to the policy's max.
        AboveMax = "above_max",
        /// What there is lies within the bounds that the rule gives.
        WithinBounds = "within_bounds",
        /// The change is too small to be worth it.
        SmallGain = "small_gain",
        /// A process was killed for lack of memory since the last change: memory is raised at once.
        OutOfMemory = "out_of_memory",
        /// A process was killed for lack of memory in the last days: memory is not lowered.
        AfterOutOfMemory = "after_out_of_memory",
        /// The resource is not set, or the target does not say: what is not there is not changed.
        NotSet = "not_set",
        /// No rule has a wish.
        WishMissing = "wish_missing",
        /// The wish is too old to act on.
        WishTooOld = "wish_too_old",
        /// A guard stopped the whole decision.
        Stopped = "stopped",
        /// The number of replicas changes with this decision.
        ReplicasChanging = "replicas_changing",
        /// The number of replicas changed a moment ago.
        ReplicasChanged = "replicas_changed",
        /// The last attempt failed a moment ago.
        AttemptFailed = "attempt_failed",
        /// Too soon after the last change.
        CoolingDown = "cooling_down",
        /// The last order has not reached every replica yet; it is given again.
        Reapplied = "reapplied",
    }
}

/// What was decided about the number of replicas.
pub(super) struct Horizontal<'a> {
    pub(super) action: Action,
    pub(super) mode: Mode,
    pub(super) steps: &'a [Step],
}

/// A rule that may have a say about resources, with what its policy lets it do.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    rule: &'a RuleRef,
    mode: Mode,
}

/// Decides about the resources and remembers an order as under way. `None` when no rule of the target may touch them.
pub(super) fn evaluate(state: &mut TargetState, inputs: &Inputs, horizontal: &Horizontal<'_>) -> Option<Resize> {
    let candidates: Vec<Candidate<'_>> = inputs.rules.iter().map(Candidate::of).filter(|one| one.mode != Mode::Off).collect();
    let mode = candidates.iter().map(|one| one.mode).max()?;
    remember_kills(&mut state.resize, inputs, &candidates);
    let current = known(&state.resize, inputs);
    let nothing = Resize {
        rule: None,
        mode,
        current,
        wished: Resources::NONE,
        desired: Resources::NONE,
        steps: Vec::new(),
        reason: ResizeReason::Stopped,
        detail: String::new(),
    };
    if let Some(stop) = horizontal.steps.iter().find(|step| stops(step)) {
        return Some(Resize { detail: format!("{}: {}", stop.guard, stop.reason), ..nothing });
    }
    let Some((rule, wish)) = choose(inputs, &candidates, mode) else {
        let any = inputs.proposals.iter().any(|proposal| proposal.evidence.wish.is_some_and(|wish| wish.is_stated()));
        let reason = if any { ResizeReason::WishTooOld } else { ResizeReason::WishMissing };
        return Some(Resize { reason, detail: "no rule has a wish that counts".to_owned(), ..nothing });
    };
    let policy = &rule.policy.spec().vertical;
    let judged = judge(inputs.now, current, &wish, policy, &state.resize);
    let mut resize = Resize { rule: Some(rule.name.clone()), wished: wish.resources, ..nothing };
    settle(&mut resize, judged, state, inputs, horizontal, policy.every);
    if let Some(to) = resize.order() {
        let again = resize.reason == ResizeReason::Reapplied;
        let template = inputs.observed.as_ref().map_or(Resources::NONE, |observed| observed.template);
        state.resize.pending = Some(PendingResize { at: inputs.now, from: current, to, template, again });
    }
    Some(resize)
}

/// What the replicas ask for now. An observation from before our last order does not know of it.
fn known(state: &ResizeState, inputs: &Inputs) -> Resources {
    let Ok(observed) = &inputs.observed else { return Resources::NONE };
    match state.applied {
        Some(applied) if applied.tried > observed.observed_at => applied.to.or(observed.resources),
        _ => observed.resources,
    }
}

/// True when a step of the other dimension stopped everything.
fn stops(step: &Step) -> bool {
    let all = [Guard::Mode, Guard::Pause, Guard::Observation, Guard::InFlight, Guard::Override, Guard::Zero];
    all.contains(&step.guard) && step.reason != Reason::ObservationBeforeAction
}

fn remember_kills(state: &mut ResizeState, inputs: &Inputs, candidates: &[Candidate<'_>]) {
    for proposal in inputs.proposals.iter().filter(|proposal| candidates.iter().any(|one| one.rule.name == proposal.rule)) {
        let age = proposal.evidence.wish.and_then(|wish| wish.last_oom_age);
        if let Some(age) = age {
            state.last_oom = state.last_oom.max(Some(proposal.evaluated_at - Duration::from_secs(age)));
        }
    }
}

/// The rule of the highest priority that has a fresh wish, among equals the first by name, and the wish.
fn choose<'a>(inputs: &'a Inputs, candidates: &[Candidate<'a>], mode: Mode) -> Option<(&'a RuleRef, Wish)> {
    let mut best: Option<(&RuleRef, Wish)> = None;
    for rule in candidates.iter().filter(|one| one.mode == mode).map(|one| one.rule) {
        let own = inputs.proposals.iter().filter(|proposal| proposal.rule == rule.name);
        let fresh = own.filter(|proposal| !too_old(inputs.now, proposal, &rule.policy));
        let newest = fresh.filter_map(|one| Some((one.evaluated_at, one.evidence.wish.filter(Wish::is_stated)?))).max_by_key(|one| one.0);
        let rank = |rule: &RuleRef| (-i64::from(rule.policy.spec().priority), rule.name.clone());
        if let Some((_, wish)) = newest.filter(|_| best.as_ref().is_none_or(|(other, _)| rank(rule) < rank(other))) {
            best = Some((rule, wish));
        }
    }
    best
}

/// Puts the guards over the whole change.
fn settle(resize: &mut Resize, judged: Judged, state: &TargetState, inputs: &Inputs, horizontal: &Horizontal<'_>, every: Duration) {
    let now = inputs.now;
    (resize.steps, resize.reason, resize.detail) = (judged.steps, judged.reason, judged.detail);
    let observed = inputs.observed.as_ref().ok().filter(|_| resize.mode == Mode::Enforce);
    let differing = observed.map_or(0, |observed| observed.differing);
    let again = observed.and_then(|observed| state.resize.outstanding(now, resize.current, observed, every));
    let kill = judged.reason == ResizeReason::OutOfMemory;
    let desired = match again {
        Some(applied) if !kill => {
            let missed = if differing > 0 { format!("{differing} replicas differ") } else { "no replica shows it".to_owned() };
            (resize.reason, resize.detail) = (ResizeReason::Reapplied, format!("ordered {}: {missed}", applied.at));
            applied.to
        }
        _ => judged.desired,
    };
    if desired.is_empty() {
        return;
    }
    let since = |at: Option<Timestamp>, pause: Duration| {
        let passed = now.since(at?);
        (passed < pause).then(|| format!("{} of {}", crate::duration::format(passed), crate::duration::format(pause)))
    };
    let free = kill || resize.reason == ResizeReason::Reapplied;
    let stop = if horizontal.mode == Mode::Enforce && matches!(horizontal.action, Action::ScaleUp | Action::ScaleDown) {
        Some((ResizeReason::ReplicasChanging, horizontal.action.as_str().to_owned()))
    } else if let Some(detail) = since(state.last_change(), SETTLE).filter(|_| !kill) {
        Some((ResizeReason::ReplicasChanged, detail))
    } else if let Some(detail) = since(state.resize.failed, SETTLE) {
        Some((ResizeReason::AttemptFailed, detail))
    } else {
        let cooling = since(state.resize.applied.map(|applied| applied.at), every).filter(|_| !free);
        cooling.map(|detail| (ResizeReason::CoolingDown, detail))
    };
    match stop {
        Some((reason, detail)) => (resize.reason, resize.detail) = (reason, detail),
        None => resize.desired = desired,
    }
}

// === impl Resize ===

impl Resize {
    /// The resources to set, when there is something to carry out: enforced, and a change.
    #[must_use]
    pub fn order(&self) -> Option<Resources> {
        (self.mode == Mode::Enforce && !self.desired.is_empty()).then_some(self.desired)
    }
}

// === impl Candidate ===

impl<'a> Candidate<'a> {
    fn of(rule: &'a RuleRef) -> Self {
        Self { rule, mode: rule.mode.min(rule.policy.spec().vertical.mode) }
    }
}

#[cfg(test)]
mod tests;
