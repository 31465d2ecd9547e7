//! Invariants of CPU and memory per replica.

use std::time::Duration;

use crate::decide::{Decision, Guard, OOM_PROTECTION, Resize, ResizeReason};
use crate::policy::VerticalSpec;

pub(super) fn one_dimension(decision: &Decision) -> Option<String> {
    let resize = decision.resize.as_ref()?;
    let (replicas, resources) = (decision.order()?, resize.order()?);
    Some(format!("both {replicas} replicas and {resources} are ordered"))
}

pub(super) fn within_range(decision: &Decision) -> Option<String> {
    let (resize, policy) = chosen(decision)?;
    // What was ordered before is ordered again as it was.
    if resize.reason == ResizeReason::Reapplied {
        return None;
    }
    let cpu = resize.desired.cpu.filter(|value| !policy.cpu.contains(*value));
    let memory = resize.desired.memory.filter(|value| !policy.memory.contains(*value));
    let limit = resize.desired.memory_limit.zip(resize.desired.memory).filter(|(limit, memory)| limit < memory);
    (cpu.is_some() || memory.is_some() || limit.is_some()).then(|| format!("{} is outside the policy's range", resize.desired))
}

pub(super) fn memory_kept(decision: &Decision) -> Option<String> {
    let resize = decision.resize.as_ref()?;
    let (before, after) = resize.current.memory.zip(resize.desired.memory)?;
    let told = decision.inputs.proposals.iter().filter_map(|proposal| {
        let age = Duration::from_secs(proposal.evidence.wish?.last_oom_age?);
        Some(proposal.evaluated_at - age)
    });
    let kill = told.chain(decision.inputs.state.resize.last_oom).max()?;
    let since = decision.at.since(kill);
    let again = resize.reason == ResizeReason::Reapplied;
    (after < before && since < OOM_PROTECTION && !again).then(|| format!("memory is lowered {since:?} after a kill"))
}

pub(super) fn cooldown_kept(decision: &Decision) -> Option<String> {
    let (resize, policy) = chosen(decision)?;
    let applied = decision.inputs.state.resize.applied?;
    let free = matches!(resize.reason, ResizeReason::OutOfMemory | ResizeReason::Reapplied);
    // A jump of the clock moves the remembered times; then ages cannot be read off the recorded state.
    if free || resize.desired.is_empty() || decision.steps.iter().any(|step| step.guard == Guard::Clock) {
        return None;
    }
    let passed = decision.at.since(applied.at);
    (passed < policy.every).then(|| format!("{passed:?} after the last change, the cooldown is {:?}", policy.every))
}

fn chosen(decision: &Decision) -> Option<(&Resize, &VerticalSpec)> {
    let resize = decision.resize.as_ref()?;
    let rule = decision.inputs.rules.iter().find(|rule| Some(&rule.name) == resize.rule.as_ref())?;
    Some((resize, &rule.policy.spec().vertical))
}
