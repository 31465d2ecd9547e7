//! The controller: owns every target, rule schedule and the decider; turns events into effects.
//!
//! ```text
//! Event ─▶ Controller::handle(now) ─▶ [Effect]      live: effects run on other tasks and come back as events
//!                                                   replay: they run in line
//! ```
//!
//! It never waits: no plan, no cloud call, no lock, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use tracescale_core::capacity::{Capacity, Observed, Unobserved};
use tracescale_core::decide::{Applied, Decider, Decision, Demand, Evidence, MissingReason, Mode, Proposal, Resized};
use tracescale_core::policy::{RuleName, RuleRef};
use tracescale_core::target::{TargetName, TargetSpec};
use tracescale_core::time::Timestamp;
use tracescale_documents::RuleSpec;
use tracescale_queries::{Emission, Snapshot};
use tracescale_sinks::{Outcome, SinkError};

use crate::conclusion::{Conclusion, Ending};
use crate::discovery::{Discovery, Found};
use crate::rules::{Answers, RuleFailure};
use crate::warning::{Troubles, Warning, chain};

/// How often a sink is asked for a target's capacity when nothing else makes us ask.
const OBSERVE_EVERY: Duration = Duration::from_secs(15);
/// How far time may go back between two events, which are stamped on different threads, before it counts as a step.
const CLOCK_SLACK: Duration = Duration::from_secs(1);
/// First pause after a failed scale call; doubles with each further failure up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(5);
/// Longest pause between attempts at a target that keeps failing.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Everything that can happen to the controller.
#[derive(Debug)]
pub enum Event {
    /// Event time moved on: new windows, and the state of all views.
    Advanced {
        /// Windows emitted since the last such event.
        emissions: Vec<Emission>,
        /// The views as they now are.
        snapshot: Snapshot,
    },
    /// A rule was evaluated.
    Evaluated {
        /// Which one.
        rule: RuleName,
        /// When its evaluation was asked for.
        asked_at: Timestamp,
        /// What it said.
        answers: Result<Answers, RuleFailure>,
    },
    /// A sink was asked for a target's capacity.
    Observed {
        /// Which one.
        target: TargetName,
        /// What it saw.
        result: Result<Observed, SinkError>,
    },
    /// A scale call came back.
    Applied {
        /// Which target.
        target: TargetName,
        /// The decision behind it.
        decision: Arc<Decision>,
        /// What came of it.
        result: Result<Outcome, SinkError>,
    },
    /// The documents were read again.
    Reloaded {
        /// Targets that now are.
        targets: Vec<TargetSpec>,
        /// Rules that now are.
        rules: Vec<RuleSpec>,
    },
    /// No more windows will come: finish what is under way.
    Drained,
}

/// What the controller wants done.
#[derive(Debug)]
pub enum Effect {
    /// Evaluate a rule over the views.
    Evaluate {
        /// Which one.
        rule: Arc<RuleSpec>,
        /// The views.
        snapshot: Snapshot,
        /// The `targets` table.
        targets: RecordBatch,
    },
    /// Ask a sink for a target's capacity.
    Observe(Arc<TargetSpec>),
    /// Carry a decision out.
    Apply {
        /// The target.
        target: Arc<TargetSpec>,
        /// The decision.
        decision: Arc<Decision>,
        /// The capacity it orders.
        desired: Capacity,
    },
    /// Write a decision down and show it.
    Record(Arc<Decision>),
    /// Write down what became of a decision's order.
    Conclude(Conclusion),
    /// Tell people of something that a rule or sink did wrong.
    Warn(Warning),
}

/// All decision state.
#[derive(Debug)]
pub struct Controller {
    targets: BTreeMap<TargetName, Target>,
    rules: BTreeMap<RuleName, Rule>,
    decider: Decider,
    discovery: Discovery,
    /// Rules that fail.
    failing: Troubles<RuleName>,
    /// Rules that name targets that they do not serve.
    straying: Troubles<RuleName>,
    /// Targets that no rule answers for.
    unanswered: Troubles<()>,
    draining: bool,
    now: Timestamp,
}

#[derive(Debug)]
struct Target {
    spec: Arc<TargetSpec>,
    observed: Result<Observed, Unobserved>,
    observe_due: Timestamp,
    is_observing: bool,
    proposals: BTreeMap<RuleName, Vec<Proposal>>,
    backoff: Option<Backoff>,
}

#[derive(Debug)]
struct Rule {
    spec: Arc<RuleSpec>,
    due: Timestamp,
    is_evaluating: bool,
    /// Whether its query ever gave rows, or none, rather than a failure.
    has_answered: bool,
    /// Targets it is answerable for: those its document names, or every one it ever named itself.
    members: BTreeSet<TargetName>,
}

/// A target whose scale calls fail is left alone for a while.
#[derive(Clone, Copy, Debug)]
struct Backoff {
    until: Timestamp,
    pause: Duration,
}

// === impl Controller ===

impl Controller {
    /// A controller of these targets and rules.
    #[must_use]
    pub fn new(targets: Vec<TargetSpec>, rules: Vec<RuleSpec>, discovery: Discovery) -> Self {
        let mut controller = Self {
            targets: BTreeMap::new(),
            rules: BTreeMap::new(),
            decider: Decider::new(),
            discovery,
            failing: Troubles::default(),
            straying: Troubles::default(),
            unanswered: Troubles::default(),
            draining: false,
            now: Timestamp::MIN,
        };
        controller.reload(targets, rules);
        controller
    }

    /// Takes one event; answers with what is to be done about it, in order.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        if now + CLOCK_SLACK < self.now {
            self.step_back(now);
        }
        self.now = now;
        match event {
            Event::Advanced { emissions, snapshot } => self.advanced(now, &emissions, &snapshot),
            Event::Evaluated { rule, asked_at, answers } => self.evaluated(now, &rule, asked_at, answers),
            Event::Observed { target, result } => self.observed(now, &target, result),
            Event::Applied { target, decision, result } => self.applied(now, &target, &decision, result),
            Event::Reloaded { targets, rules } => {
                self.reload(targets, rules);
                Vec::new()
            }
            Event::Drained => {
                self.draining = true;
                Vec::new()
            }
        }
    }

    /// True while an answer that the controller asked for is outstanding.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.rules.values().any(|rule| rule.is_evaluating)
            || self.targets.iter().any(|(name, target)| target.is_observing || self.is_pending(name))
    }

    /// The clock stepped back: what was due by the old time is due now, or nothing would happen until it is reached again.
    fn step_back(&mut self, now: Timestamp) {
        self.rules.values_mut().for_each(|rule| rule.due = rule.due.min(now));
        for target in self.targets.values_mut() {
            target.observe_due = target.observe_due.min(now);
            target.backoff = target.backoff.map(|backoff| Backoff { until: backoff.until.min(now + backoff.pause), ..backoff });
        }
    }

    fn is_pending(&self, target: &TargetName) -> bool {
        self.decider.state(target).is_some_and(|state| state.pending.is_some())
    }

    fn reload(&mut self, targets: Vec<TargetSpec>, rules: Vec<RuleSpec>) {
        let mut old = std::mem::take(&mut self.targets);
        for spec in targets {
            let kept = old.remove(&spec.name).filter(|target| target.spec.reference == spec.reference);
            let target = kept.map_or_else(|| Target::new(spec.clone()), |target| Target { spec: Arc::new(spec.clone()), ..target });
            let _ = self.targets.insert(spec.name, target);
        }
        // Discovered targets stay unless a document now describes them.
        self.targets.extend(old.into_iter().filter(|(_, target)| target.spec.discovered));
        let mut old = std::mem::take(&mut self.rules);
        for spec in rules {
            let mut rule = Rule::new(spec);
            if let Some(old) = old.remove(&rule.spec.name) {
                rule.is_evaluating = old.is_evaluating;
                rule.members.extend(old.members.into_iter().filter(|target| rule.spec.serves(target)));
            }
            let _ = self.rules.insert(rule.spec.name.clone(), rule);
        }
        let (targets, rules) = (&mut self.targets, &self.rules);
        targets.values_mut().for_each(|target| target.proposals.retain(|rule, _| rules.contains_key(rule)));
        self.decider.retain(|name| targets.contains_key(name));
        self.failing.retain(|name| rules.contains_key(name));
        self.straying.retain(|name| rules.contains_key(name));
    }

    fn advanced(&mut self, now: Timestamp, emissions: &[Emission], snapshot: &Snapshot) -> Vec<Effect> {
        for found in self.discovery.learn(emissions) {
            self.discovered(now, found);
        }
        if self.draining {
            return Vec::new();
        }
        let mut effects = self.observe(now);
        effects.extend(self.evaluate(now, snapshot));
        effects
    }

    /// A service whose target no document describes gets one, and its instances are its capacity.
    fn discovered(&mut self, now: Timestamp, found: Found) {
        let service = &found.spec.service;
        let namespace = service.service_namespace.as_deref();
        let described = |target: &Target| !target.spec.discovered && target.spec.service.matches(&service.service_name, namespace);
        if self.targets.values().any(described) {
            // A document came for what had been discovered.
            if self.targets.get(&found.spec.name).is_some_and(|target| target.spec.discovered) {
                let _ = self.targets.remove(&found.spec.name);
                self.decider.forget(&found.spec.name);
            }
            return;
        }
        let known = self.targets.contains_key(&found.spec.name);
        if !known && self.targets.values().filter(|target| target.spec.discovered).count() >= self.discovery.targets_max {
            return;
        }
        let target = self.targets.entry(found.spec.name.clone()).or_insert_with(|| Target::new(found.spec));
        if let (true, Some(instances)) = (target.spec.discovered && !self.discovery.acts, found.instances) {
            target.observed = Ok(Observed::replicas(instances, Some(instances), now));
        }
    }

    fn observe(&mut self, now: Timestamp) -> Vec<Effect> {
        let acts = self.discovery.acts;
        let due = self.targets.values_mut().filter(|target| {
            let has_sink = !target.spec.discovered || acts;
            has_sink && !target.is_observing && target.observe_due <= now
        });
        let ask = |target: &mut Target| {
            (target.is_observing, target.observe_due) = (true, now + OBSERVE_EVERY);
            Effect::Observe(Arc::clone(&target.spec))
        };
        due.map(ask).collect()
    }

    fn evaluate(&mut self, now: Timestamp, snapshot: &Snapshot) -> Vec<Effect> {
        if self.rules.values().all(|rule| rule.due > now) {
            return Vec::new();
        }
        let targets = self.table();
        let mut effects: Vec<_> = self.unanswered(now).into_iter().collect();
        for rule in self.rules.values_mut().filter(|rule| rule.due <= now && rule.spec.mode != Mode::Off) {
            rule.due = now.floor(rule.spec.every) + rule.spec.every;
            if rule.is_evaluating {
                effects.push(Effect::Warn(Warning::RuleLate { rule: rule.spec.name.clone() }));
                continue;
            }
            rule.is_evaluating = true;
            effects.push(Effect::Evaluate { rule: Arc::clone(&rule.spec), snapshot: snapshot.clone(), targets: targets.clone() });
        }
        effects
    }

    /// Targets of documents that no rule ever had a row for. No rule can be told missing there, so nothing is decided but what a person orders.
    fn unanswered(&mut self, now: Timestamp) -> Option<Effect> {
        let mut rules = self.rules.values().filter(|rule| rule.spec.mode != Mode::Off).peekable();
        if rules.peek().is_none() || rules.any(|rule| !rule.has_answered) {
            return None;
        }
        let described = self.targets.iter().filter(|(_, target)| !target.spec.discovered);
        let is_answered = |name: &TargetName| self.rules.values().any(|rule| rule.members.contains(name));
        let names: Vec<_> = described.map(|(name, _)| name).filter(|name| !is_answered(name)).take(5).map(TargetName::to_string).collect();
        if names.is_empty() {
            let _ = self.unanswered.right(now, &());
            return None;
        }
        self.unanswered.wrong(now, (), &names.join(", "), 1).map(|_| Effect::Warn(Warning::Unanswered { names }))
    }

    /// No rule will ever ask for a decision about this target; a person still may order one.
    fn is_unserved(&self, target: &TargetName) -> bool {
        let is_for = |rule: &Rule| rule.members.contains(target) || (rule.spec.mode == Mode::Off && rule.spec.serves(target));
        !self.rules.values().any(is_for)
    }

    fn evaluated(&mut self, now: Timestamp, name: &RuleName, asked_at: Timestamp, answers: Result<Answers, RuleFailure>) -> Vec<Effect> {
        let Some(rule) = self.rules.get_mut(name) else { return Vec::new() };
        rule.is_evaluating = false;
        let mut effects = Vec::new();
        let mut proposals = BTreeMap::new();
        let (answers, failure) = Answers::with_failure(answers);
        if let Some(failure) = failure {
            if let Some(times) = self.failing.wrong(now, name.clone(), &chain(&failure), 1) {
                effects.push(Effect::Warn(Warning::RuleFailed { rule: name.clone(), failure, times }));
            }
        } else if self.failing.right(now, name) {
            effects.push(Effect::Warn(Warning::RuleRecovered { rule: name.clone() }));
        }
        let silence = if answers.is_some() { MissingReason::NoRow } else { MissingReason::RuleFailed };
        if let Some(answers) = answers {
            rule.has_answered = true;
            let serves = |target: &TargetName| rule.spec.serves(target) && self.targets.contains_key(target);
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
        let members: Vec<_> = rule.members.iter().cloned().collect();
        for target in members {
            let missing = || vec![Proposal::new(name.clone(), asked_at, Demand::Missing(silence), Evidence::default())];
            let said = proposals.remove(&target).unwrap_or_else(missing);
            effects.extend(self.decide(now, &target, name, said));
        }
        effects
    }

    fn decide(&mut self, now: Timestamp, name: &TargetName, rule: &RuleName, said: Vec<Proposal>) -> Vec<Effect> {
        if let Some(target) = self.targets.get_mut(name) {
            let _ = target.proposals.insert(rule.clone(), said);
        }
        self.decided(now, name)
    }

    fn decided(&mut self, now: Timestamp, name: &TargetName) -> Vec<Effect> {
        let acts = self.discovery.acts;
        let Some(target) = self.targets.get(name) else { return Vec::new() };
        let rules: Vec<RuleRef> =
            self.rules.values().filter(|rule| rule.members.contains(name)).map(|rule| rule.reference(target, acts)).collect();
        let proposals: Vec<Proposal> = target.proposals.values().flatten().cloned().collect();
        let decision = Arc::new(self.decider.decide(now, &target.spec, &target.observed, &rules, &proposals));
        let mut effects = vec![Effect::Record(Arc::clone(&decision))];
        let Some(desired) = decision.capacity() else { return effects };
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

    fn observed(&mut self, now: Timestamp, name: &TargetName, result: Result<Observed, SinkError>) -> Vec<Effect> {
        let Some(target) = self.targets.get_mut(name) else { return Vec::new() };
        target.is_observing = false;
        match result {
            Ok(observed) => {
                target.observed = Ok(observed);
                let ordered = target.spec.override_.as_ref().is_some_and(|order| order.is_active(now));
                if ordered && !self.draining && self.is_unserved(name) { self.decided(now, name) } else { Vec::new() }
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

    fn applied(&mut self, now: Timestamp, name: &TargetName, decision: &Decision, result: Result<Outcome, SinkError>) -> Vec<Effect> {
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
                target.observed = Ok(observed);
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

    fn table(&self) -> RecordBatch {
        crate::rules::targets_table(&self.targets.values().map(|target| {
            let rules = self.rules.values().filter(|rule| rule.members.contains(&target.spec.name));
            // What schedules add to the bounds is the decider's affair; a rule needs the static ones.
            let bounds = |(min, max): (u32, u32), rule: &Rule| (rule.spec.policy.spec().min.max(min), rule.spec.policy.spec().max.min(max));
            let (min, max) = rules.fold((0, u32::MAX), bounds);
            (&*target.spec, target.observed.as_ref().ok(), min, max)
        }))
    }
}

// === impl Target ===

impl Target {
    fn new(spec: TargetSpec) -> Self {
        Self {
            spec: Arc::new(spec),
            observed: Err(Unobserved::not_yet()),
            observe_due: Timestamp::MIN,
            is_observing: false,
            proposals: BTreeMap::new(),
            backoff: None,
        }
    }
}

// === impl Rule ===

impl Rule {
    fn new(spec: RuleSpec) -> Self {
        let members = spec.targets.iter().flat_map(|scope| scope.names.iter().cloned()).collect();
        Self { spec: Arc::new(spec), due: Timestamp::MIN, is_evaluating: false, has_answered: false, members }
    }

    /// The rule as the decider needs it for one target: what was only discovered is never acted on unless people said so.
    fn reference(&self, target: &Target, acts_on_discovered: bool) -> RuleRef {
        let may_act = !target.spec.discovered || acts_on_discovered;
        let mode = if may_act || self.spec.mode == Mode::Off { self.spec.mode } else { Mode::Recommend };
        RuleRef { mode, ..self.spec.reference() }
    }
}

// === impl Backoff ===

impl Backoff {
    fn after(last: Option<Self>, now: Timestamp, retry_after: Option<Duration>) -> Self {
        let pause = last.map_or(BACKOFF_MIN, |last| (last.pause * 2).min(BACKOFF_MAX));
        Self { until: now + retry_after.unwrap_or(pause).max(pause), pause }
    }
}

#[cfg(test)]
mod tests;
