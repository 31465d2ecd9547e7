//! One decision, guard by guard.

use super::state::TargetState;
use super::votes::{Answer, Vote, vote};
use super::{
    Action, Considered, Decision, DecisionId, Direction, EffectiveBounds, Guard, Inputs, Mode, OBSERVATION_LIMIT, Pending, Reason,
    Recommendation, Step, Verdict, effective_bounds, limits, resize,
};
use crate::duration;
use crate::policy::{Policy, RuleName, SelectPolicy};
use crate::time::Timestamp;

mod guards;

/// The work on one decision.
struct Run<'a> {
    inputs: &'a Inputs,
    now: Timestamp,
    mode: Mode,
    bounds: EffectiveBounds,
    current: Option<u32>,
    considered: Vec<Considered>,
    chosen: Option<RuleName>,
    proposed: Option<u32>,
    evidence_time: Option<Timestamp>,
    steps: Vec<Step>,
    /// Replicas that were asked for and will not become ready.
    lost: u32,
}

/// How a run ends.
struct Ending {
    desired: Option<u32>,
    /// True when nothing may be done, as opposed to nothing being to do.
    held: bool,
}

/// Makes one decision and updates the state.
pub(super) fn evaluate(state: &mut TargetState, inputs: Inputs) -> Decision {
    let mut run = Run::new(&inputs);
    run.keep_time(state);
    let ending = run.judge(state);
    let action = match (run.current, ending.desired) {
        (Some(current), Some(desired)) if desired > current => Action::ScaleUp,
        (Some(current), Some(desired)) if desired < current => Action::ScaleDown,
        _ if ending.held => Action::Hold,
        _ => Action::None,
    };
    if let (Mode::Enforce, Action::ScaleUp | Action::ScaleDown, Some(from), Some(to)) = (run.mode, action, run.current, ending.desired) {
        state.pending = Some(Pending { at: run.now, from, to });
        run.remember(state);
    }
    let horizontal = resize::Horizontal { action, mode: run.mode, steps: &run.steps };
    let resize = resize::evaluate(state, &inputs, &horizontal);
    let Run { now, mode, bounds, current, considered, chosen, proposed, evidence_time, steps, .. } = run;
    // Every path leaves a step that sets or keeps the value; notes do not.
    let settled = steps.iter().rev().find(|step| !step.is_note());
    Decision {
        id: DecisionId::new(&inputs.target.name, now, state.sequence),
        at: now,
        target: inputs.target.name.clone(),
        current,
        considered,
        chosen_rule: chosen,
        proposed,
        bounds: bounds.bounds,
        reason: settled.map_or(Reason::DemandMet, |step| step.reason),
        steps,
        desired: ending.desired,
        action,
        mode,
        evidence_time,
        resize,
        inputs,
    }
}

// === impl Run ===

impl<'a> Run<'a> {
    fn new(inputs: &'a Inputs) -> Self {
        let mode = inputs.rules.iter().map(|rule| rule.mode).max();
        Self {
            inputs,
            now: inputs.now,
            mode: mode.unwrap_or(Mode::Recommend),
            bounds: effective_bounds(&inputs.rules, inputs.now),
            current: inputs.observed.as_ref().ok().map(|observed| observed.desired),
            considered: Vec::new(),
            chosen: None,
            proposed: None,
            evidence_time: None,
            steps: Vec::new(),
            lost: 0,
        }
    }

    fn step(&mut self, guard: Guard, before: Option<u32>, after: Option<u32>, reason: Reason, detail: impl Into<String>) {
        self.steps.push(Step { guard, before, after, reason, detail: detail.into() });
    }

    /// A guard that changed a value; nothing is written when it did not.
    fn pass(&mut self, guard: Guard, before: u32, after: u32, reason: Reason, detail: impl FnOnce() -> String) -> u32 {
        if before != after {
            self.step(guard, Some(before), Some(after), reason, detail());
        }
        after
    }

    fn keep_time(&mut self, state: &mut TargetState) {
        let millis = |time: Timestamp| time.as_nanos().div_euclid(1_000_000);
        let same = state.last_decision.is_some_and(|last| millis(last) == millis(self.now));
        state.sequence = if same { state.sequence.saturating_add(1) } else { 0 };
        let usual = self.inputs.rules.iter().filter(|rule| rule.mode != Mode::Off).map(|rule| rule.every).min().unwrap_or_default();
        if let Some((reason, by)) = state.keep_time(self.now, usual) {
            self.step(Guard::Clock, None, None, reason, format!("by {}; remembered times moved with it", duration::format(by)));
        }
    }

    fn judge(&mut self, state: &mut TargetState) -> Ending {
        state.expire_pending(self.now);
        if let Some(ending) = self.stop_early(state) {
            return ending;
        }
        let Some(current) = self.current else { return Ending { desired: None, held: true } };
        let memory = self.inputs.rules.iter().flat_map(|rule| [&rule.policy.spec().scale_up, &rule.policy.spec().scale_down]);
        let memory = memory.flat_map(|d| d.policies.iter().map(|p| p.period).chain([d.stabilization_window])).max().unwrap_or_default();
        state.prune_events(self.now, memory);
        state.rules.retain(|name, _| self.inputs.rules.iter().any(|rule| rule.name == *name));
        // As the HPA: the first recommendation is what is there, so that a restart cannot scale down at once.
        if state.recommendations.is_none() {
            state.recommend(self.now, current, memory);
        }
        if let Ok(observed) = &self.inputs.observed {
            state.starts.see(observed);
        }
        let rollback = self.verify(current, state);
        let votes: Vec<Vote<'a>> =
            self.inputs.rules.iter().filter(|rule| rule.mode != Mode::Off).map(|rule| vote(self.inputs, current, rule, state)).collect();
        let winner = self.elect(&votes, current);
        let (value, held) = match winner {
            Some(winner) => self.follow(winner, current, state, memory),
            None => {
                self.step(Guard::Missing, None, Some(current), Reason::DataMissing, "no rule has an answer");
                state.last_missing = Some(Recommendation { at: self.now, replicas: current });
                (current, true)
            }
        };
        let value = self.restore(value, held, rollback, state);
        let value = self.after_resize(value, current, state);
        Ending { desired: Some(self.clamp(value)), held }
    }

    /// The guards that need no rule.
    fn stop_early(&mut self, state: &TargetState) -> Option<Ending> {
        let target = &self.inputs.target;
        let current = self.current;
        let stop = |run: &mut Self, guard, reason, detail: String| {
            run.step(guard, None, run.current, reason, detail);
            Some(Ending { desired: run.current, held: true })
        };
        if self.mode == Mode::Off {
            return stop(self, Guard::Mode, Reason::ModeOff, "every rule of the target is off".to_owned());
        }
        if target.paused {
            return stop(self, Guard::Pause, Reason::Paused, "the target is paused".to_owned());
        }
        let observed = match &self.inputs.observed {
            Ok(observed) => observed,
            Err(unobserved) => return stop(self, Guard::Observation, Reason::NotObserved, unobserved.detail.clone()),
        };
        let age = self.now.since(observed.observed_at);
        if age > OBSERVATION_LIMIT {
            let detail = format!("observed {} ago", duration::format(age));
            return stop(self, Guard::Observation, Reason::ObservationTooOld, detail);
        }
        if let Some(applied) =
            state.last_applied.filter(|applied| applied.at > observed.observed_at && applied.replicas != observed.desired)
        {
            self.current = Some(applied.replicas);
            let detail = format!("observed before our action of {}", applied.at);
            self.step(Guard::Observation, current, self.current, Reason::ObservationBeforeAction, detail);
        }
        if let Some(pending) = state.pending {
            let detail = format!("{} to {} since {}", pending.from, pending.to, pending.at);
            return stop(self, Guard::InFlight, Reason::ActionInFlight, detail);
        }
        if let Some(pending) = state.resize.pending {
            let detail = format!("{} since {}", pending.to, pending.at);
            return stop(self, Guard::InFlight, Reason::ActionInFlight, detail);
        }
        if let Some(order) = target.override_.as_ref().filter(|order| order.is_active(self.now)) {
            self.mode = Mode::Enforce;
            let detail = format!("until {}: {}", order.until, order.reason);
            self.step(Guard::Override, self.current, Some(order.replicas), Reason::OverrideActive, detail);
            return Some(Ending { desired: Some(order.replicas), held: false });
        }
        if self.inputs.rules.is_empty() {
            return stop(self, Guard::Mode, Reason::NoRules, "no rule serves the target".to_owned());
        }
        let least = self.inputs.rules.iter().filter(|rule| rule.mode == self.mode).map(|rule| rule.policy.spec().min).max();
        if self.current == Some(0) && least.is_some_and(|min| min > 0) {
            let detail = "somebody scaled the target to zero; set replicas above zero to resume".to_owned();
            return stop(self, Guard::Zero, Reason::ScaledToZero, detail);
        }
        None
    }

    /// Chooses among the answers, and writes all of them down.
    fn elect<'v>(&mut self, votes: &'v [Vote<'a>], current: u32) -> Option<&'v Vote<'a>> {
        let voters = || votes.iter().filter(|vote| vote.rule.mode == self.mode && vote.answer != Answer::Abstain);
        let top = voters().map(|vote| vote.rule.policy.spec().priority).max();
        let winner = voters().filter(|vote| Some(vote.rule.policy.spec().priority) == top).max_by(|a, b| {
            let ((a_size, a_sure), (b_size, b_sure)) = (a.weight(current), b.weight(current));
            // Among equals the name decides, so that the order of the documents does not.
            a_size.total_cmp(&b_size).then(a_sure.cmp(&b_sure)).then(b.rule.name.cmp(&a.rule.name))
        });
        for vote in votes {
            let verdict = match winner {
                _ if vote.rule.mode != self.mode => Verdict::NotEnforced,
                Some(winner) if std::ptr::eq(vote, winner) => Verdict::Chosen,
                _ if vote.answer == Answer::Abstain => Verdict::Abstained,
                _ if Some(vote.rule.policy.spec().priority) < top => Verdict::Outranked,
                _ => Verdict::Outvoted,
            };
            self.considered.push(Considered {
                rule: vote.rule.name.clone(),
                priority: vote.rule.policy.spec().priority,
                mode: vote.rule.mode,
                demand: vote.demand,
                replicas: vote.replicas(current),
                verdict,
                reason: vote.reason,
                detail: vote.detail.clone(),
            });
        }
        for rule in self.inputs.rules.iter().filter(|rule| rule.mode == Mode::Off) {
            self.considered.push(Considered {
                rule: rule.name.clone(),
                priority: rule.policy.spec().priority,
                mode: rule.mode,
                demand: None,
                replicas: None,
                verdict: Verdict::Off,
                reason: Reason::ModeOff,
                detail: "the rule is off".to_owned(),
            });
        }
        winner
    }

    /// Takes the chosen answer through the guards of its policy.
    fn follow(&mut self, winner: &Vote<'_>, current: u32, state: &mut TargetState, memory: std::time::Duration) -> (u32, bool) {
        let policy = winner.rule.policy.as_ref();
        self.chosen = Some(winner.rule.name.clone());
        self.proposed = winner.demand.map(limits::round_up).or_else(|| winner.replicas(current));
        self.evidence_time = winner.proposal.and_then(|p| p.evidence.evidence_time.or(p.evidence.window_end));
        let name = &winner.rule.name;
        let raw = match winner.answer {
            Answer::Hold | Answer::Abstain => {
                let before = winner.demand.map(limits::round_up);
                self.step(winner.guard, before, Some(current), winner.reason, format!("rule {name}: {}", winner.detail));
                if winner.reason == Reason::DataMissing {
                    state.last_missing = Some(Recommendation { at: self.now, replicas: current });
                }
                return (current, true);
            }
            Answer::Fallback(replicas) => {
                self.step(winner.guard, None, Some(replicas), winner.reason, format!("rule {name}: {}", winner.detail));
                if matches!(winner.reason, Reason::FallbackLastDemand | Reason::FallbackUsual) {
                    state.last_missing = Some(Recommendation { at: self.now, replicas });
                }
                replicas
            }
            Answer::Demand(demand) => {
                let wanted = limits::round_up(demand);
                self.step(Guard::Priority, None, Some(wanted), winner.reason, format!("rule {name}: {}", winner.detail));
                let wanted = self.tolerate(demand, wanted, current, policy);
                self.raise(wanted, current, policy, state)
            }
        };
        let value = self.stabilize(raw, current, policy, state);
        state.recommend(self.now, raw, memory);
        let value = self.veto(value, current, policy, state);
        let value = self.limit(value, current, policy, state);
        (self.yield_to_others(value, current), false)
    }

    fn tolerate(&mut self, demand: f64, wanted: u32, current: u32, policy: &Policy) -> u32 {
        let (up, down) = (policy.tolerance(Direction::Up), policy.tolerance(Direction::Down));
        let value = if limits::is_tolerated(demand, current, up, down) { current } else { wanted };
        self.pass(Guard::Tolerance, wanted, value, Reason::WithinTolerance, || {
            let ratio = demand / f64::from(current);
            format!("demand is {ratio:.3} of {current}, tolerated {:.3}..{:.3}", 1.0 - down, 1.0 + up)
        })
    }

    fn stabilize(&mut self, raw: u32, current: u32, policy: &Policy, state: &TargetState) -> u32 {
        let (up, down) = (policy.direction(Direction::Up).stabilization_window, policy.direction(Direction::Down).stabilization_window);
        let history = state.recommendations.as_deref().unwrap_or_default();
        let mut value = limits::stabilize(self.now, current, raw, history, up, down);
        let mut reason = if value < raw { Reason::StabilizedUp } else { Reason::StabilizedDown };
        // While data were missing nobody recommended anything; what was kept then counts as recommended, on the way down.
        let recovery = policy.recovery();
        if let Some(kept) = state.last_missing.filter(|kept| kept.at > self.now - recovery && value < current) {
            let floor = kept.replicas.min(current);
            if floor > value {
                (value, reason) = (floor, if recovery == down { Reason::StabilizedDown } else { Reason::Recovering });
            }
        }
        self.pass(Guard::Stabilization, raw, value, reason, || match reason {
            Reason::Recovering => format!("data were missing in the last {}", duration::format(recovery)),
            Reason::StabilizedUp => format!("recommendations of the last {}", duration::format(up)),
            _ => format!("recommendations of the last {}", duration::format(down)),
        })
    }

    /// Rate limits, step limit and cooldown.
    fn limit(&mut self, wanted: u32, current: u32, policy: &Policy, state: &TargetState) -> u32 {
        let way = if wanted > current { Direction::Up } else { Direction::Down };
        let spec = policy.direction(way);
        let limited = limits::rate_limit(self.now, current, wanted, &state.events, policy);
        let disabled = spec.select_policy == SelectPolicy::Disabled;
        let reason = if disabled { Reason::DirectionDisabled } else { Reason::RateLimited };
        let limited = self.pass(Guard::Behaviour, wanted, limited, reason, || format!("from {current}, by the policies of the direction"));
        let most = spec.step_limit.unwrap_or(u32::MAX);
        let stepped = limited.clamp(current.saturating_sub(most), current.saturating_add(most));
        let stepped = self.pass(Guard::StepLimit, limited, stepped, Reason::StepLimited, || format!("at most {most} at once"));
        let since = match way {
            Direction::Up => state.last_up,
            Direction::Down => state.last_change(),
        };
        let cooled = since.is_none_or(|since| self.now.since(since) >= spec.cooldown);
        let value = if cooled { stepped } else { current };
        let now = self.now;
        self.pass(Guard::Cooldown, stepped, value, Reason::CoolingDown, || {
            let passed = since.map_or_else(String::new, |since| duration::format(now.since(since)));
            format!("{passed} of {} since the last change", duration::format(spec.cooldown))
        })
    }

    /// No capacity is taken away while a change of each replica's resources does not show yet in what is measured.
    fn after_resize(&mut self, value: u32, current: u32, state: &TargetState) -> u32 {
        let passed = state.resize.applied.map(|applied| self.now.since(applied.at)).filter(|passed| *passed < resize::SETTLE);
        let Some(passed) = passed.filter(|_| value < current) else { return value };
        self.pass(Guard::Cooldown, value, current, Reason::ResizeSettling, || {
            format!("{} of {} since resources changed", duration::format(passed), duration::format(resize::SETTLE))
        })
    }

    fn clamp(&mut self, value: u32) -> u32 {
        let (clamped, moved) = self.bounds.clamp(value);
        if let Some((guard, reason, detail)) = moved {
            if let Some((min, max)) = self.bounds.crossed {
                self.step(
                    Guard::Bounds,
                    Some(value),
                    Some(value),
                    Reason::BoundsCrossed,
                    format!("min {min} over max {max}; the min holds"),
                );
            }
            self.step(guard, Some(value), Some(clamped), reason, detail);
        }
        clamped
    }
}
