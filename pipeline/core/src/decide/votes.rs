//! What each rule's proposals amount to, after the guards that concern the rule alone: missing data, evidence, condition.
//!
//! A rule may propose twice: from a provisional window, which is newer, and from a final one, which is complete. The way up is
//! taken on the newest only, for what an older window wanted may long be served; the way down needs one that passes the
//! gates, and then goes no lower than the larger of the two.

use std::time::Duration;

use super::state::{Demanded, RuleState, TargetState};
use super::{Demand, Guard, Inputs, MissingReason, Presence, Proposal, Reason, RuleRef, limits};
use crate::duration;
use crate::policy::{Direction, GatesSpec, OnMissing, Policy};
use crate::time::Timestamp;

/// A rule's answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vote<'a> {
    pub(super) rule: &'a RuleRef,
    pub(super) answer: Answer,
    /// The demand that the rule stated, also when it does not count.
    pub(super) demand: Option<f64>,
    pub(super) guard: Guard,
    pub(super) reason: Reason,
    pub(super) detail: String,
    /// The proposal that the answer rests on.
    pub(super) proposal: Option<&'a Proposal>,
}

/// What an answer amounts to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// A demand on good evidence.
    Demand(f64),
    /// What the policy says for missing data; not subject to the tolerance.
    Fallback(u32),
    /// Keep what is there.
    Hold,
    /// Let others decide.
    Abstain,
}

/// What there is to fall back on that is not less than what there is.
#[derive(Clone, Copy)]
struct Usual {
    current: u32,
    /// What is there, or what was last demanded if that is more.
    kept: u32,
    at_this_hour: Option<u32>,
}

/// Why a proposal does not pass.
type Refusal = (Reason, String);

// === impl Vote ===

impl Vote<'_> {
    /// Replicas, with the current ones for a hold. `None` for an abstention.
    pub(super) fn replicas(&self, current: u32) -> Option<u32> {
        match self.answer {
            Answer::Demand(demand) => Some(limits::round_up(demand)),
            Answer::Fallback(replicas) => Some(replicas),
            Answer::Hold => Some(current),
            Answer::Abstain => None,
        }
    }

    /// The order among rules of one priority: the largest capacity wins, and among equals a demand before a hold.
    pub(super) fn weight(&self, current: u32) -> (f64, bool) {
        match self.answer {
            Answer::Demand(demand) => (demand, true),
            Answer::Fallback(replicas) => (f64::from(replicas), true),
            Answer::Hold => (f64::from(current), false),
            Answer::Abstain => (f64::NEG_INFINITY, false),
        }
    }
}

/// The answer of one rule.
pub(super) fn vote<'a>(inputs: &'a Inputs, current: u32, rule: &'a RuleRef, state: &mut TargetState) -> Vote<'a> {
    let now = inputs.now;
    let last = state.recommendations.iter().flatten().last().map_or(0, |last| last.replicas);
    let memory = state.rules.entry(rule.name.clone()).or_default();
    let policy = rule.policy.as_ref();
    let mut missing = MissingReason::NoRow;
    let mut stated = Vec::new();
    for proposal in inputs.proposals.iter().filter(|proposal| proposal.rule == rule.name) {
        match proposal.demand {
            Demand::Missing(why) => missing = why,
            Demand::Replicas(_) if too_old(now, proposal, policy) => missing = MissingReason::TooOld,
            Demand::Replicas(demand) => stated.push((demand, proposal)),
        }
    }
    if stated.is_empty() {
        let usual = Usual { current, kept: current.max(last), at_this_hour: inputs.context.usual };
        return missing_vote(now, rule, missing, memory, usual);
    }
    memory.missing_since = None;
    let newest = stated.iter().filter_map(|(_, proposal)| proposal.evidence.window_end).max();
    for (demand, proposal) in &mut stated {
        if proposal.evidence.window_end.is_some_and(|end| Some(end) < newest) {
            *demand = demand.min(f64::from(current));
        }
    }
    let vote = gated_vote(now, current, rule, &stated);
    condition(now, current, vote, memory)
}

pub(super) fn too_old(now: Timestamp, proposal: &Proposal, policy: &Policy) -> bool {
    let gates = &policy.spec().gates;
    let limit = gates.max_age.unwrap_or(GatesSpec::MAX_AGE);
    match age(now, proposal) {
        Some(age) => age > limit,
        None => gates.max_age.is_some() || now.since(proposal.evaluated_at) > limit,
    }
}

/// How old the evidence of a proposal is; `None` when it does not say.
fn age(now: Timestamp, proposal: &Proposal) -> Option<Duration> {
    let waited = now.since(proposal.evaluated_at);
    // The newest telemetry of an idle service is old by nature; its row is as old as its evaluation.
    let age = if proposal.evidence.presence == Some(Presence::Idle) { Some(0.0) } else { proposal.evidence.age_seconds };
    age.map(|age| Duration::try_from_secs_f64(age.max(0.0)).unwrap_or(Duration::MAX).saturating_add(waited))
}

fn missing_vote<'a>(now: Timestamp, rule: &'a RuleRef, why: MissingReason, memory: &mut RuleState, usual: Usual) -> Vote<'a> {
    let current = usual.current;
    let since = *memory.missing_since.get_or_insert(now);
    let silence = now.since(since);
    let spec = rule.policy.spec();
    let (answer, reason) = match spec.on_missing {
        OnMissing::Hold => (Answer::Hold, Reason::DataMissing),
        OnMissing::Skip => (Answer::Abstain, Reason::DataMissingSkipped),
        OnMissing::Min => (Answer::Fallback(spec.min), Reason::FallbackMin),
        OnMissing::Max => (Answer::Fallback(spec.max), Reason::FallbackMax),
        OnMissing::Replicas(replicas) => (Answer::Fallback(replicas), Reason::FallbackReplicas),
        OnMissing::After { after, replicas } if silence >= after => (Answer::Fallback(replicas), Reason::FallbackReplicas),
        OnMissing::After { .. } => (Answer::Hold, Reason::DataMissing),
        OnMissing::Usual { after } => match usual.at_this_hour.filter(|most| silence >= after && *most > usual.kept) {
            Some(most) => (Answer::Fallback(most), Reason::FallbackUsual),
            None if usual.kept > current => (Answer::Fallback(usual.kept), Reason::FallbackLastDemand),
            None => (Answer::Hold, Reason::DataMissing),
        },
    };
    let detail = format!("{} for {}", why.as_str(), duration::format(silence));
    Vote { rule, answer, demand: None, guard: Guard::Missing, reason, detail, proposal: None }
}

/// The answer that the evidence allows.
fn gated_vote<'a>(now: Timestamp, current: u32, rule: &'a RuleRef, stated: &[(f64, &'a Proposal)]) -> Vote<'a> {
    let largest = stated.iter().fold(0.0_f64, |most, (demand, _)| most.max(*demand));
    let direction = direction(largest, current);
    let mut refusal: Option<(Refusal, &Proposal)> = None;
    let mut best: Option<(f64, &Proposal)> = None;
    for (demand, proposal) in stated {
        // Proposals on the other side of the current capacity have no part in a change.
        if direction.is_some_and(|way| self::direction(*demand, current) != Some(way)) {
            continue;
        }
        match direction.and_then(|way| gate(now, proposal, rule.policy.as_ref(), way)) {
            Some(refused) => refusal = Some((refused, proposal)),
            None if best.is_none_or(|(most, _)| *demand > most) => best = Some((*demand, proposal)),
            None => {}
        }
    }
    let base = Vote {
        rule,
        answer: Answer::Hold,
        demand: Some(largest),
        guard: Guard::Priority,
        reason: Reason::DemandMet,
        detail: String::new(),
        proposal: None,
    };
    match (best, refusal) {
        (Some((demand, proposal)), _) => {
            // Down: a final window allows it, but a provisional one may already know of more.
            let demand = if direction == Some(Direction::Down) { largest } else { demand };
            let reason = match direction {
                Some(Direction::Up) => Reason::DemandAbove,
                Some(Direction::Down) => Reason::DemandBelow,
                None => Reason::DemandMet,
            };
            let detail = format!("demand {demand:.2}");
            Vote { answer: Answer::Demand(demand), demand: Some(demand), reason, detail, proposal: Some(proposal), ..base }
        }
        (None, Some(((reason, detail), proposal))) => Vote { guard: Guard::Evidence, reason, detail, proposal: Some(proposal), ..base },
        (None, None) => base,
    }
}

fn direction(demand: f64, current: u32) -> Option<Direction> {
    match limits::round_up(demand).cmp(&current) {
        std::cmp::Ordering::Greater => Some(Direction::Up),
        std::cmp::Ordering::Less => Some(Direction::Down),
        std::cmp::Ordering::Equal => None,
    }
}

/// The first gate that a proposal does not pass.
fn gate(now: Timestamp, proposal: &Proposal, policy: &Policy, way: Direction) -> Option<Refusal> {
    let evidence = &proposal.evidence;
    let gates = &policy.spec().gates;
    let up = way == Direction::Up;
    let idle = evidence.presence == Some(Presence::Idle);
    let samples =
        if up { (gates.min_samples_up, GatesSpec::MIN_SAMPLES_UP) } else { (gates.min_samples_down, GatesSpec::MIN_SAMPLES_DOWN) };
    let confidence = if up { (gates.min_confidence_up, 0.0) } else { (gates.min_confidence_down, 0.0) };
    let completeness = if up { (gates.min_completeness_up, 0.0) } else { (gates.min_completeness_down, GatesSpec::MIN_COMPLETENESS_DOWN) };
    if !up && gates.scale_down_needs_final.unwrap_or(true) {
        match evidence.is_final {
            Some(true) => {}
            Some(false) => return Some((Reason::NotFinal, "the window is provisional".to_owned())),
            None => return Some((Reason::FinalityUnknown, "the rule does not return is_final".to_owned())),
        }
    }
    if let Some(limit) = gates.max_age_down.filter(|_| !up) {
        match age(now, proposal) {
            Some(age) if age <= limit => {}
            Some(age) => {
                let detail = format!("{} old, at most {}", duration::format(age), duration::format(limit));
                return Some((Reason::TooOldToScaleDown, detail));
            }
            None => return Some((Reason::TooOldToScaleDown, "the rule does not return age".to_owned())),
        }
    }
    if !idle && let Some(detail) = below("n_eff", evidence.n_eff, samples) {
        return Some((Reason::TooFewSamples, detail));
    }
    if let Some(detail) = below("confidence", evidence.confidence, confidence) {
        return Some((Reason::LowConfidence, detail));
    }
    below("completeness", evidence.completeness, completeness).map(|detail| (Reason::Incomplete, detail))
}

/// Why a figure does not reach a limit: one that somebody wrote down also stops rows that do not state the figure.
fn below(name: &str, value: Option<f64>, (written, default): (Option<f64>, f64)) -> Option<String> {
    let limit = written.unwrap_or(default);
    match value {
        Some(value) => (value < limit).then(|| format!("{name} {value:.2} < {limit}")),
        None => (written.is_some() && limit > 0.0).then(|| format!("the rule does not return {name}, which must be at least {limit}")),
    }
}

/// Counts demanded changes, and holds until there are enough of them.
fn condition<'a>(now: Timestamp, current: u32, mut vote: Vote<'a>, memory: &mut RuleState) -> Vote<'a> {
    let Some(condition) = vote.rule.policy.spec().condition else {
        memory.demanded.clear();
        return vote;
    };
    memory.demanded.retain(|one| one.at > now - condition.window);
    let (Answer::Demand(demand), Some(proposal)) = (vote.answer, vote.proposal) else { return vote };
    let Some(way) = direction(demand, current) else { return vote };
    memory.demanded.retain(|one| one.evaluated_at != proposal.evaluated_at);
    memory.demanded.push(Demanded { at: now, evaluated_at: proposal.evaluated_at, direction: way });
    let needed = usize::try_from(condition.times).unwrap_or(usize::MAX);
    let count = memory.demanded.iter().filter(|one| one.direction == way).count();
    // Both directions are remembered, each as far as it can count.
    if memory.demanded.len() > needed.saturating_mul(2) {
        memory.demanded.remove(0);
    }
    if count < needed {
        vote.answer = Answer::Hold;
        vote.guard = Guard::Condition;
        vote.reason = Reason::ConditionPending;
        vote.detail = format!("demanded {count} of {needed} times in {}", duration::format(condition.window));
    }
    vote
}
