//! The guards that use what is known beside the rule: what the last change did, what is still starting, who is to blame, a
//! new version, what other targets need first, and what a budget leaves.

use std::cmp::Reverse;
use std::time::Duration;

use super::Run;
use crate::decide::lessons::{Rollback, Sample};
use crate::decide::{Diagnosis, Guard, Mode, Reason, TargetState};
use crate::duration;
use crate::policy::{CauseGuard, ControlSpec, Direction, Policy};
use crate::proportion::ONCE;

/// Share of the time of its requests spent waiting for a server of its own from which on a service counts as loaded.
const HIGH_QUEUE_SHARE: f64 = 0.3;
/// The reactive guard asks for this many tenths of what serves.
const REACTIVE_TENTHS: u32 = 13;
/// Replicas that take the place of lost ones are at most one for so many that are demanded: where nothing starts any more,
/// asking for ever more would not help.
const LOST_PART: u32 = 4;

impl<'a> Run<'a> {
    /// The diagnosis, while it is fresh.
    fn diagnosis(&self) -> Option<&'a Diagnosis> {
        self.inputs.context.diagnosis(self.now)
    }

    /// Capacity judged as a whole follows the policy of the highest priority, among equals that of the first name.
    fn control(&self) -> Option<&'a ControlSpec> {
        let rules = self.inputs.rules.iter().filter(|rule| rule.mode == self.mode);
        let first = rules.max_by_key(|rule| (rule.policy.spec().priority, Reverse(&rule.name)))?;
        Some(&first.policy.spec().control)
    }

    /// Takes note of what starts and of what the last change did; gives a scale-down that made requests slow.
    pub(super) fn verify(&mut self, current: u32, state: &mut TargetState) -> Option<Rollback> {
        let control = self.control()?;
        let startup = state.startup(control);
        let ready = self.inputs.observed.as_ref().ok().and_then(|observed| observed.ready);
        self.lost = state.lessons.lost(self.now, current, ready, startup);
        // What was enforced is on trial; while rules only recommend, nothing may be taken back either.
        if self.mode != Mode::Enforce {
            state.lessons.trial = None;
        }
        state.lessons.examine(self.now, current, (control, startup), self.diagnosis())
    }

    /// Takes a scale-down back, past all limits, unless the rules want more than that anyway; later keeps above the floor that is
    /// left of it, where a rule has an answer.
    pub(super) fn restore(&mut self, wanted: u32, held: bool, rollback: Option<Rollback>, state: &TargetState) -> u32 {
        if let Some(rollback) = rollback {
            return self.pass(Guard::Verification, wanted, wanted.max(rollback.to), Reason::RolledBack, || rollback.detail);
        }
        let Some(floor) = state.lessons.floor(self.now).filter(|_| !held) else { return wanted };
        self.pass(Guard::Verification, wanted, wanted.max(floor.replicas), Reason::FloorAfterRollback, || {
            format!("fewer than {} made requests slow; not before {}", floor.replicas, floor.until)
        })
    }

    /// Remembers what was measured before a change that is about to be carried out, when a rule made it: neither a rollback nor
    /// a person's order is on trial.
    pub(super) fn remember(&self, state: &mut TargetState) {
        let is_rules = self.chosen.is_some() && self.steps.iter().all(|step| step.reason != Reason::RolledBack);
        let verifies = is_rules && self.control().is_some_and(|control| control.verify.enabled);
        state.lessons.before = self.diagnosis().filter(|_| verifies).and_then(Sample::of);
    }

    /// Raises what a rule demands: for replicas that will never serve, and for requests that are slow now.
    pub(super) fn raise(&mut self, wanted: u32, current: u32, policy: &Policy, state: &TargetState) -> u32 {
        let ready = self.inputs.observed.as_ref().ok().and_then(|observed| observed.ready).unwrap_or(current).min(current);
        let replaced = self.lost.min(wanted.saturating_sub(ready)).min(wanted.div_ceil(LOST_PART));
        let (lost, startup) = (self.lost, state.startup(&policy.spec().control));
        let wanted = self.pass(Guard::Startup, wanted, wanted.saturating_add(replaced), Reason::StartLost, || {
            format!("{lost} of {current} replicas are not ready after three start-ups of {}", duration::format(startup))
        });
        let raised = ready.saturating_mul(REACTIVE_TENTHS).div_ceil(10).max(wanted);
        let Some(diagnosis) = self.diagnosis().filter(|_| policy.spec().control.reactive && raised > wanted) else { return wanted };
        // What was measured before the last scale-up served is no reason for the next one.
        let is_settled = state.last_up.is_none_or(|up| diagnosis.at - diagnosis.window >= up + startup);
        let is_violated = diagnosis.slow().and_then(|slow| slow.at_least(ONCE)).is_some_and(|share| share > diagnosis.allowance());
        if !(is_settled && is_violated && is_loaded(diagnosis) == Some(true)) {
            return wanted;
        }
        self.pass(Guard::Reactive, wanted, raised, Reason::ViolationsHigh, || {
            let slow = diagnosis.slow().unwrap_or_default();
            format!("{} of {} requests are over the objective; 1.3 times the {ready} that serve", slow.bad, slow.all)
        })
    }

    /// Stops a change that would not help, or that comes too soon to be judged.
    pub(super) fn veto(&mut self, wanted: u32, current: u32, policy: &Policy, state: &TargetState) -> u32 {
        let control = &policy.spec().control;
        match wanted.cmp(&current) {
            std::cmp::Ordering::Greater => {
                let value = self.blame(wanted, current, control);
                self.bar(value, current, state)
            }
            std::cmp::Ordering::Less => {
                let value = self.await_judgement(wanted, current, control.after_deployment);
                self.doubt(value, current)
            }
            std::cmp::Ordering::Equal => wanted,
        }
    }

    /// A scale-up while another service, or nothing that replicas can mend, makes the requests slow. What the service's own
    /// load demands is never stopped, nor what nobody knows the load of.
    fn blame(&mut self, wanted: u32, current: u32, control: &ControlSpec) -> u32 {
        let diagnosis = self.diagnosis().filter(|diagnosis| control.cause != CauseGuard::Off && is_loaded(diagnosis) == Some(false));
        let Some(diagnosis) = diagnosis else { return wanted };
        let (reason, detail) = if let Some(cause) = diagnosis.culprit(&self.inputs.target) {
            let share = cause.share * 100.0;
            (Reason::DownstreamBound, format!("{} ({}) is behind {share:.0} % of the slow requests: scale that", cause.service, cause.kind))
        } else if diagnosis.is_futile() {
            (Reason::ScalingFutile, "the diagnosis says that more replicas would not help".to_owned())
        } else {
            return wanted;
        };
        let value = if control.cause == CauseGuard::Block { current } else { wanted };
        self.step(Guard::Cause, Some(wanted), Some(value), reason, detail);
        value
    }

    /// A scale-up after earlier ones that did not help.
    fn bar(&mut self, wanted: u32, current: u32, state: &TargetState) -> u32 {
        let Some(barred) = state.lessons.barred(self.now) else { return wanted };
        // Errors that rise with the replicas rise with these too; what only did not help may help once the load is there.
        let is_sure = barred.reason == Reason::ErrorsRiseWithReplicas || self.diagnosis().and_then(is_loaded) == Some(false);
        let value = if is_sure { current } else { wanted };
        self.pass(Guard::Verification, wanted, value, barred.reason, || format!("no scale-up until {}", barred.until))
    }

    fn await_judgement(&mut self, wanted: u32, current: u32, pause: Duration) -> u32 {
        let deployed = self.inputs.context.diagnosis.as_ref().and_then(|diagnosis| diagnosis.deployed_at);
        let Some(since) = deployed.filter(|deployed| self.now.since(*deployed) < pause) else { return wanted };
        self.pass(Guard::Deployment, wanted, current, Reason::RecentlyDeployed, || {
            format!("a new version came at {since}; no scale-down for {}", duration::format(pause))
        })
    }

    /// A scale-down because of requests that only the telemetry has lost.
    fn doubt(&mut self, wanted: u32, current: u32) -> u32 {
        let Some(diagnosis) = self.diagnosis() else { return wanted };
        if diagnosis.is_unheard() {
            let heard = diagnosis.heard.unwrap_or_default() * 100.0;
            return self.pass(Guard::Telemetry, wanted, current, Reason::RequestsUnheard, || {
                format!("{heard:.0} % of the requests that callers account for are reported; no scale-down on lost telemetry")
            });
        }
        if let Some(silent) = diagnosis.silent {
            return self.pass(Guard::Telemetry, wanted, current, Reason::InstancesSilent, || {
                format!("{} of {} ready replicas are not heard of; no scale-down while they serve unseen", silent.instances, silent.ready)
            });
        }
        if !diagnosis.is_sampled() {
            return wanted;
        }
        let traced = diagnosis.traced.unwrap_or_default() * 100.0;
        self.pass(Guard::Telemetry, wanted, current, Reason::TracesSampled, || {
            format!("spans account for {traced:.0} % of the requests that metrics count; no scale-down on sampled traces")
        })
    }

    /// Lets others go first, and leaves them their part.
    pub(super) fn yield_to_others(&mut self, wanted: u32, current: u32) -> u32 {
        let mut value = wanted;
        if let Some(hold) = self.inputs.context.hold.as_ref().filter(|hold| self.now < hold.until) {
            let (stops, reason) = match hold.direction {
                Direction::Up => (value > current, Reason::WaitsForDownstream),
                Direction::Down => (value < current, Reason::WaitsForUpstream),
            };
            let kept = if stops { current } else { value };
            value = self.pass(Guard::Cascade, value, kept, reason, || format!("{} first, until {} at the latest", hold.behind, hold.until));
        }
        if let Some(share) = &self.inputs.context.budget {
            let most = share.allowed.max(current);
            value = self.pass(Guard::Budget, value, value.min(most), Reason::BudgetExhausted, || {
                format!("budget {} leaves {} to the target", share.name, share.allowed)
            });
        }
        value
    }
}

/// True when the service's own load, or the queue before its servers, calls for capacity; `None` when nobody knows.
fn is_loaded(diagnosis: &Diagnosis) -> Option<bool> {
    let queues = diagnosis.queue_share.map(|share| share >= HIGH_QUEUE_SHARE);
    match (diagnosis.is_loaded(), queues) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (loaded, _) => loaded,
    }
}
