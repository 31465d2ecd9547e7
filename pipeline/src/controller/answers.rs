//! What comes back: answers of rules, observations, and what became of orders.

use std::collections::BTreeMap;

use tracescale_core::capacity::Observed;
use tracescale_core::decide::{Action, Applied, Decision, Demand, Evidence, MissingReason, Proposal, Resized};
use tracescale_core::policy::RuleName;
use tracescale_core::rollout::Version;
use tracescale_core::target::TargetName;
use tracescale_core::time::Timestamp;
use tracescale_sinks::{Outcome, SinkError};

use super::target::Backoff;
use super::{Controller, Effect, OBSERVE_EVERY};
use crate::conclusion::{Conclusion, Ending};
use crate::rules::{Answers, RuleFailure};
use crate::warning::{Warning, chain};

impl Controller {
    /// A version of a rule was evaluated: decides for the targets for which it does.
    pub(super) fn evaluated(
        &mut self,
        now: Timestamp,
        name: &RuleName,
        version: Version,
        asked_at: Timestamp,
        answers: Result<Answers, RuleFailure>,
    ) -> Vec<Effect> {
        let Some(rule) = self.ruleset.rules.get_mut(name) else { return Vec::new() };
        // A version that is no more has nothing to say.
        let Some(edition) = rule.editions_mut().find(|edition| edition.version == version) else { return Vec::new() };
        edition.is_evaluating = false;
        let mut effects = Vec::new();
        let (answers, failure) = Answers::with_failure(answers);
        rule.evaluated(version, failure.as_ref().filter(|failure| failure.is_the_rules()).map(|failure| chain(failure)));
        if let Some(failure) = failure {
            if let Some(times) = self.failing.wrong(now, (name.clone(), version), &chain(&failure), 1) {
                effects.push(Effect::Warn(Warning::RuleFailed { rule: name.clone(), failure, times }));
            }
        } else if self.failing.right(now, &(name.clone(), version)) {
            effects.push(Effect::Warn(Warning::RuleRecovered { rule: name.clone() }));
        }
        let silence = if answers.is_some() { MissingReason::NoRow } else { MissingReason::RuleFailed };
        let mut proposals = BTreeMap::new();
        if let Some(answers) = answers {
            rule.has_answered = true;
            let serves = |target: &TargetName| rule.newest.spec.serves(target) && self.targets.contains_key(target);
            let (known, unknown): (BTreeMap<_, _>, BTreeMap<_, _>) = answers.proposals.into_iter().partition(|(target, _)| serves(target));
            proposals = known;
            let names: Vec<_> = unknown.into_keys().map(String::from).chain(answers.not_names).take(5).collect();
            if names.is_empty() {
                let _ = self.straying.right(now, name);
            } else if let Some(times) = self.straying.wrong(now, name.clone(), &names.join(", "), 1) {
                effects.push(Effect::Warn(Warning::UnknownTargets { rule: name.clone(), names, times }));
            }
        }
        rule.members.extend(proposals.keys().cloned());
        let missing = || vec![Proposal::new(name.clone(), asked_at, Demand::Missing(silence), Evidence::default())];
        let said = rule.members.iter().map(|target| (target.clone(), proposals.remove(target).unwrap_or_else(missing))).collect();
        effects.extend(self.said(now, name, version, said));
        effects
    }

    /// Takes note of what a version of a rule says, and decides where it has a say.
    fn said(&mut self, now: Timestamp, name: &RuleName, version: Version, said: BTreeMap<TargetName, Vec<Proposal>>) -> Vec<Effect> {
        let Some(rule) = self.ruleset.rules.get(name) else { return Vec::new() };
        let mut targets = Vec::new();
        for (target, proposals) in said {
            let Some(known) = self.targets.get_mut(&target) else { continue };
            let is_there = |known: Version| rule.editions().any(|edition| edition.version == known);
            known.proposals.retain(|(other, known), _| other != name || is_there(*known));
            let _ = known.proposals.insert((name.clone(), version), proposals);
            if self.ruleset.deciding(rule, &target).version == version {
                targets.push(target);
            }
        }
        self.decide(now, &targets)
    }

    /// A sink was asked for a target's capacity.
    pub(super) fn observed(&mut self, now: Timestamp, name: &TargetName, result: Result<Observed, SinkError>) -> Vec<Effect> {
        let Some(target) = self.targets.get_mut(name) else { return Vec::new() };
        target.is_observing = false;
        match result {
            Ok(observed) => {
                self.diagnoses.see(&target.spec, &observed);
                target.see(now, observed);
                let ordered = target.spec.override_.as_ref().is_some_and(|order| order.is_active(now));
                if ordered && !self.draining && self.is_unserved(name) { self.decide(now, std::slice::from_ref(name)) } else { Vec::new() }
            }
            Err(error) => {
                // A passing failure leaves the last observation standing; the decider sees its age.
                if !error.is_retryable() || target.observed.is_err() {
                    target.observed = Err(error.unobserved());
                }
                target.observe_due = now + error.retry_after().unwrap_or(OBSERVE_EVERY);
                vec![Effect::Warn(Warning::SinkFailed { target: name.clone(), error })]
            }
        }
    }

    /// A scale call came back.
    pub(super) fn applied(
        &mut self,
        now: Timestamp,
        name: &TargetName,
        decision: &Decision,
        result: Result<Outcome, SinkError>,
    ) -> Vec<Effect> {
        let conclusion = Conclusion { concludes: decision.id.clone(), at: now, result: Ending::from(&result) };
        let mut effects = vec![Effect::Conclude(conclusion)];
        let Some(target) = self.targets.get_mut(name) else { return effects };
        match result {
            Ok(outcome) => {
                target.backoff = None;
                target.observe_due = now;
                // What the call did not touch is as it was; the version that was read before it is not.
                let before = target.observed.as_ref().ok();
                let mut observed = before.cloned().unwrap_or_else(|| Observed::replicas(outcome.confirmed, None, now));
                (observed.desired, observed.observed_at, observed.generation) = (outcome.confirmed, now, None);
                match outcome.resized {
                    Some(resized) => {
                        observed.resources = resized.confirmed.or(observed.resources);
                        self.decider.resized(now, name, Resized::Done { resources: resized.confirmed });
                    }
                    None => self.decider.applied(now, name, Applied::Done { replicas: outcome.confirmed }),
                }
                target.see(now, observed);
                if let (Action::ScaleDown, Some(rule)) = (decision.action, &decision.chosen_rule) {
                    target.lowered = Some((now, rule.clone()));
                }
            }
            Err(error) => {
                target.backoff = Some(Backoff::after(target.backoff, now, error.retry_after()));
                target.observe_due = now;
                // Without an answer nobody knows whether the call got through.
                let became = if error.kind.is_uncertain() { Applied::Unknown } else { Applied::Failed };
                self.decider.applied(now, name, became);
                effects.push(Effect::Warn(Warning::SinkFailed { target: name.clone(), error }));
            }
        }
        effects
    }
}
