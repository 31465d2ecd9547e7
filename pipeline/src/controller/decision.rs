//! From what is known of targets to decisions about them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracescale_core::decide::{Applied, Context, Decision, Mode, Proposal, Reason, STARTUP, effective_bounds};
use tracescale_core::policy::{OnMissing, RuleRef};
use tracescale_core::target::TargetName;
use tracescale_core::time::Timestamp;

use super::concert::{Standing, Together};
use super::ruleset::Rule;
use super::target::Backoff;
use super::{Controller, Effect, Target};
use crate::conclusion::{Conclusion, Ending};

impl Controller {
    /// Decides about some targets. Where they depend on others, what each wishes is found out first, so that what is there is
    /// shared among wishes of the same moment, and changes are carried out in an order that overloads nobody.
    pub(super) fn decide(&mut self, now: Timestamp, names: &[TargetName]) -> Vec<Effect> {
        let mut together = self.arrange(now, names);
        let order = std::mem::take(&mut together.order);
        order.iter().flat_map(|name| self.decide_one(now, name, &mut together)).collect()
    }

    fn arrange(&mut self, now: Timestamp, names: &[TargetName]) -> Together {
        let concerned: Vec<_> = names.iter().filter(|name| self.concert.concerns(name)).collect();
        if concerned.is_empty() {
            return Together { order: names.to_vec(), ..Together::default() };
        }
        let mut wishes = BTreeMap::new();
        for name in concerned {
            let Some(target) = self.targets.get_mut(name) else { continue };
            // A wish that is never carried out takes nothing from others, but it is told what they would leave to it.
            let (rules, proposals) = inputs(&self.ruleset, target, self.discovery.acts);
            let context = context(&self.diagnoses, &self.ruleset, target, &rules, now);
            let decision = self.decider.preview(now, &target.spec, &target.observed, &rules, &proposals, context);
            target.wish = decision.wish().filter(|_| decision.mode == Mode::Enforce);
            let _ = wishes.insert(name.clone(), decision.wish());
        }
        let standings: BTreeMap<TargetName, Standing> = self
            .targets
            .iter()
            .filter(|(name, _)| self.concert.concerns(name))
            .filter_map(|(name, target)| {
                let standing = self.standing(now, target)?;
                let wish = wishes.get(name).copied().flatten().unwrap_or(standing.wish);
                Some((name.clone(), Standing { wish, ..standing }))
            })
            .collect();
        self.concert.arrange(now, names, &standings)
    }

    /// Where a target stands; `None` while nobody knows its capacity.
    fn standing(&self, now: Timestamp, target: &Target) -> Option<Standing> {
        let observed = target.observed.as_ref().ok()?;
        let pending = self.decider.state(&target.spec.name).and_then(|state| state.pending).map_or(0, |pending| pending.to);
        let current = observed.desired.max(pending);
        let serving = self.ruleset.serving(&target.spec.name);
        let rules: Vec<RuleRef> = serving.map(|edition| edition.reference(target, self.discovery.acts)).collect();
        let state = self.decider.state(&target.spec.name);
        let startup = |rule: &RuleRef| {
            let control = &rule.policy.spec().control;
            state.map_or(control.startup.unwrap_or(STARTUP), |state| state.startup(control))
        };
        let startup = rules.iter().map(startup).max().unwrap_or(Duration::ZERO);
        let least = if rules.is_empty() { 0 } else { effective_bounds(&rules, now).bounds.min };
        Some(Standing { current, ready: observed.ready, least, wish: target.wish.unwrap_or(current), startup })
    }

    fn decide_one(&mut self, now: Timestamp, name: &TargetName, together: &mut Together) -> Vec<Effect> {
        let Some(target) = self.targets.get_mut(name) else { return Vec::new() };
        let (rules, proposals) = inputs(&self.ruleset, target, self.discovery.acts);
        let context = Context {
            budget: together.shares.remove(name),
            hold: together.holds.remove(name),
            ..context(&self.diagnoses, &self.ruleset, target, &rules, now)
        };
        let decision = self.decider.decide_in(now, &target.spec, &target.observed, &rules, &proposals, context);
        target.wish = decision.wish().filter(|_| decision.mode == Mode::Enforce);
        let is_rollback = decision.steps.iter().any(|step| step.reason == Reason::RolledBack);
        if let Some(lowered) = target.lowered.take_if(|_| is_rollback) {
            self.ruleset.rolled_back(name, &lowered);
        }
        self.carry_out(now, name, Arc::new(decision))
    }

    fn carry_out(&mut self, now: Timestamp, name: &TargetName, decision: Arc<Decision>) -> Vec<Effect> {
        let mut effects = vec![Effect::Record(Arc::clone(&decision))];
        let (Some(target), Some(desired)) = (self.targets.get(name), decision.capacity()) else { return effects };
        if let Some(Backoff { until, .. }) = target.backoff.filter(|backoff| now < backoff.until) {
            // The order stands in the record; the call waits until the sink has had its pause.
            self.decider.applied(now, name, Applied::Failed);
            let conclusion = Conclusion { concludes: decision.id.clone(), at: now, result: Ending::Withheld { until } };
            effects.push(Effect::Conclude(conclusion));
        } else {
            effects.push(Effect::Apply { target: Arc::clone(&target.spec), decision, desired });
        }
        effects
    }

    /// No rule will ever ask for a decision about this target; a person still may order one.
    pub(super) fn is_unserved(&self, target: &TargetName) -> bool {
        let is_for = |rule: &Rule| rule.members.contains(target) || (rule.mode() == Mode::Off && rule.newest.spec.serves(target));
        !self.ruleset.rules.values().any(is_for)
    }
}

/// The rules that decide for a target, and what these say of it.
fn inputs(ruleset: &super::Ruleset, target: &Target, acts: bool) -> (Vec<RuleRef>, Vec<Proposal>) {
    let editions: Vec<_> = ruleset.serving(&target.spec.name).collect();
    let rules = editions.iter().map(|edition| edition.reference(target, acts)).collect();
    let said = |edition: &&super::ruleset::Edition| target.proposals.get(&(edition.spec.name.clone(), edition.version));
    (rules, editions.iter().filter_map(said).flatten().cloned().collect())
}

/// What is known of a target beside its rules, apart from what others leave to it.
fn context(diagnoses: &super::Diagnoses, ruleset: &super::Ruleset, target: &Target, rules: &[RuleRef], now: Timestamp) -> Context {
    let holds_usual = rules.iter().any(|rule| matches!(rule.policy.spec().on_missing, OnMissing::Usual { .. }));
    let usual = target.usual.at(now).filter(|_| holds_usual);
    let mut diagnosis = diagnoses.of(&target.spec);
    // Rules that need no spans are not misled by sampled ones.
    let needs_spans = ruleset.serving(&target.spec.name).any(|edition| edition.needs_spans);
    diagnosis.iter_mut().filter(|_| !needs_spans).for_each(|diagnosis| diagnosis.traced = None);
    Context { diagnosis, usual, ..Context::default() }
}
