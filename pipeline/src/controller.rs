//! The controller: owns every target, rule schedule and the decider; turns events into effects.
//!
//! ```text
//! Event ─▶ Controller::handle(now) ─▶ [Effect]      live: effects run on other tasks and come back as events
//!                                                   replay: they run in line
//!
//! windows ─▶ diagnosis, usual ─┐
//! answers of rules ────────────┼▶ ruleset: which version decides ▶ concert: who goes first ▶ decision ▶ Apply
//! observations ────────────────┘
//! ```
//!
//! It never waits: no plan, no cloud call, no lock, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use tracescale_core::budget::Budget;
use tracescale_core::capacity::{Capacity, Observed};
use tracescale_core::decide::{Applied, Decider, Decision, Mode};
use tracescale_core::policy::RuleName;
use tracescale_core::rollout::Version;
use tracescale_core::target::{TargetName, TargetSpec};
use tracescale_core::time::Timestamp;
use tracescale_documents::RuleSpec;
use tracescale_queries::judgement::Advice;
use tracescale_queries::{Emission, Snapshot};
use tracescale_sinks::{Outcome, SinkError};

use crate::conclusion::Conclusion;
use crate::discovery::{Discovery, Found};
use crate::rules::{Answers, RuleFailure};
use crate::warning::{Troubles, Warning};

mod advice;
mod answers;
mod concert;
mod decision;
mod diagnosis;
mod ruleset;
mod services;
mod target;
mod usual;
mod watch;

pub use advice::of_targets as advice_of_targets;
use concert::Concert;
use diagnosis::Diagnoses;
pub use diagnosis::{Disagreement, Unheard};
pub use ruleset::RolloutRecord;
use ruleset::Ruleset;
use services::Services;
use target::Target;

/// How often a sink is asked for a target's capacity when nothing else makes us ask.
const OBSERVE_EVERY: Duration = Duration::from_secs(15);
/// How far time may go back between two events, which are stamped on different threads, before it counts as a step.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// The shipped views that the controller itself reads; a query for each keeps them where views are chosen by queries.
#[must_use]
pub fn own_queries() -> Vec<String> {
    diagnosis::VIEWS.into_iter().chain([concert::VIEW]).map(|view| format!("SELECT 1 FROM {view}")).collect()
}

/// What people described.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// The targets.
    pub targets: Vec<TargetSpec>,
    /// The rules.
    pub rules: Vec<RuleSpec>,
    /// The budgets.
    pub budgets: Vec<Budget>,
    /// The views that are made of metrics alone: what reads nothing else needs no spans.
    pub of_metrics: BTreeSet<String>,
}

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
        /// Which version of it.
        version: Version,
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
    Reloaded(Described),
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
        /// Which version of it.
        version: Version,
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
    /// Write down how far rollouts have come.
    Keep(Box<RolloutRecord>),
    /// Tell the models.
    Advise(Box<Advice>),
}

/// All decision state.
#[derive(Debug)]
pub struct Controller {
    targets: BTreeMap<TargetName, Target>,
    ruleset: Ruleset,
    decider: Decider,
    diagnoses: Diagnoses,
    concert: Concert,
    discovery: Discovery,
    /// Versions of rules that fail.
    failing: Troubles<(RuleName, Version)>,
    /// Rules that name targets that they do not serve.
    straying: Troubles<RuleName>,
    /// Targets that no rule answers for.
    unanswered: Troubles<()>,
    /// What the models know.
    advised: Advice,
    draining: bool,
    now: Timestamp,
}

// === impl Controller ===

impl Controller {
    /// A controller of what is described.
    #[must_use]
    pub fn new(described: Described, discovery: Discovery) -> Self {
        Self::resumed(Timestamp::MIN, described, discovery, RolloutRecord::default())
    }

    /// As [`Controller::new`], at `now`, with rollouts that go on from where a controller before it came.
    #[must_use]
    pub fn resumed(now: Timestamp, described: Described, discovery: Discovery, record: RolloutRecord) -> Self {
        let mut controller = Self {
            targets: BTreeMap::new(),
            ruleset: Ruleset::resumed(record, &described.rules),
            decider: Decider::new(),
            diagnoses: Diagnoses::default(),
            concert: Concert::default(),
            discovery,
            failing: Troubles::default(),
            straying: Troubles::default(),
            unanswered: Troubles::default(),
            advised: advice_of_targets(described.targets.iter()),
            draining: false,
            now,
        };
        controller.reload(now, described);
        controller
    }

    /// Counts every request as one that is independent of the others: where nothing was sampled, few rows may stand for many.
    #[must_use]
    pub fn counting_all(mut self) -> Self {
        self.diagnoses.count_all();
        self
    }

    /// Takes the probabilities that people declared of services at their word: of 1 all traces that there should be are there, whatever
    /// metrics count.
    #[must_use]
    pub fn declaring(mut self, probabilities: &BTreeMap<String, f64>) -> Self {
        self.diagnoses.declare(probabilities);
        self
    }

    /// Goes on from the last decision about a target that an earlier process wrote down, and what became of its order.
    pub fn remember(&mut self, last: &Decision, ended: Option<&Conclusion>) {
        let is_same = |target: &Target| target.spec.reference == last.inputs.target.reference;
        // What was discovered will be discovered again.
        let is_to_come = self.discovery.enabled && last.inputs.target.discovered && !self.targets.contains_key(&last.target);
        if is_to_come || self.targets.get(&last.target).is_some_and(is_same) {
            // An answer to the process before will not come: its order may have been carried out or not.
            let ended = ended.map_or((last.at, Applied::Unknown), |ended| (ended.at, ended.result.applied()));
            self.decider.resume(last, ended);
        }
    }

    /// Takes note of the replicas that a target had in an hour of the past; hours in their order.
    pub fn remember_hour(&mut self, target: &TargetName, hour: Timestamp, replicas: u32) {
        if let Some(target) = self.targets.get_mut(target) {
            target.usual.observe(hour, replicas);
        }
    }

    /// Takes one event; answers with what is to be done about it, in order.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        if now + CLOCK_SLACK < self.now {
            self.step_back(now);
        }
        self.now = now;
        // Many things happen between two windows, and models are asked only then.
        let tells = matches!(event, Event::Advanced { .. } | Event::Reloaded(_));
        let mut effects = match event {
            Event::Advanced { emissions, snapshot } => self.advanced(now, &emissions, &snapshot),
            Event::Evaluated { rule, version, asked_at, answers } => self.evaluated(now, &rule, version, asked_at, answers),
            Event::Observed { target, result } => self.observed(now, &target, result),
            Event::Applied { target, decision, result } => self.applied(now, &target, &decision, result),
            Event::Reloaded(described) => {
                self.reload(now, described);
                Vec::new()
            }
            Event::Drained => {
                self.draining = true;
                Vec::new()
            }
        };
        let (mut warnings, record) = self.ruleset.take_news();
        warnings.extend(self.diagnoses.take_news());
        effects.extend(warnings.into_iter().map(Effect::Warn));
        effects.extend(record.map(|record| Effect::Keep(Box::new(record))));
        if tells {
            effects.extend(self.advise());
        }
        effects
    }

    /// True while an answer that the controller asked for is outstanding.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.ruleset.rules.values().any(|rule| rule.editions().any(|edition| edition.is_evaluating))
            || self.targets.iter().any(|(name, target)| target.is_observing || self.is_pending(name))
    }

    /// The clock stepped back: what was due by the old time is due now, or nothing would happen until it is reached again.
    fn step_back(&mut self, now: Timestamp) {
        let editions = self.ruleset.rules.values_mut().flat_map(ruleset::Rule::editions_mut);
        editions.for_each(|edition| edition.due = edition.due.min(now));
        self.targets.values_mut().for_each(|target| target.step_back(now));
    }

    fn is_pending(&self, target: &TargetName) -> bool {
        self.decider.state(target).is_some_and(|state| state.pending.is_some())
    }

    fn reload(&mut self, now: Timestamp, described: Described) {
        let mut old = std::mem::take(&mut self.targets);
        for spec in described.targets {
            let kept = old.remove(&spec.name).filter(|target| target.spec.reference == spec.reference);
            let target = kept.map_or_else(|| Target::new(spec.clone()), |target| Target { spec: Arc::new(spec.clone()), ..target });
            let _ = self.targets.insert(spec.name, target);
        }
        // Discovered targets stay unless a document now describes them.
        self.targets.extend(old.into_iter().filter(|(_, target)| target.spec.discovered));
        self.ruleset.load(now, described.rules, &described.of_metrics);
        self.concert.load(described.budgets);
        let (targets, rules) = (&mut self.targets, &self.ruleset.rules);
        targets.values_mut().for_each(|target| target.proposals.retain(|(rule, _), _| rules.contains_key(rule)));
        self.decider.retain(|name| targets.contains_key(name));
        self.diagnoses.retain(|name| targets.contains_key(name));
        self.failing.retain(|(name, _)| rules.contains_key(name));
        self.straying.retain(|name| rules.contains_key(name));
    }

    fn advanced(&mut self, now: Timestamp, emissions: &[Emission], snapshot: &Snapshot) -> Vec<Effect> {
        for found in self.discovery.learn(emissions) {
            self.discovered(now, found);
        }
        self.learn(now, emissions);
        if self.draining {
            return Vec::new();
        }
        let mut effects = self.observe(now);
        effects.extend(self.evaluate(now, snapshot));
        effects
    }

    /// Reads what shipped views say beside the rules.
    fn learn(&mut self, now: Timestamp, emissions: &[Emission]) {
        if emissions.iter().any(|emission| emission.is_final) {
            let services = Services::new(self.targets.values().map(|target| &*target.spec));
            self.concert.learn(emissions, &services);
            let minutes = self.diagnoses.learn(now, emissions, &services);
            self.ruleset.count(&minutes);
        }
        self.ruleset.advance(now, &self.targets, &self.diagnoses);
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
            target.see(now, Observed::replicas(instances, Some(instances), now));
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
        let rules = &self.ruleset.rules;
        if rules.values().flat_map(ruleset::Rule::editions).all(|edition| edition.due > now) {
            return Vec::new();
        }
        let targets = self.table();
        let mut effects: Vec<_> = self.unanswered(now).into_iter().collect();
        let rules = self.ruleset.rules.values_mut().filter(|rule| rule.mode() != Mode::Off);
        for edition in rules.flat_map(ruleset::Rule::editions_mut).filter(|edition| edition.due <= now) {
            edition.due = now.floor(edition.spec.every) + edition.spec.every;
            if edition.is_evaluating {
                effects.push(Effect::Warn(Warning::RuleLate { rule: edition.spec.name.clone() }));
                continue;
            }
            edition.is_evaluating = true;
            effects.push(Effect::Evaluate {
                rule: Arc::clone(&edition.spec),
                version: edition.version,
                snapshot: snapshot.clone(),
                targets: targets.clone(),
            });
        }
        effects
    }

    /// Targets of documents that no rule ever had a row for. No rule can be told missing there, so nothing is decided but what a person orders.
    fn unanswered(&mut self, now: Timestamp) -> Option<Effect> {
        let rules = &self.ruleset.rules;
        let mut active = rules.values().filter(|rule| rule.mode() != Mode::Off).peekable();
        if active.peek().is_none() || active.any(|rule| !rule.has_answered) {
            return None;
        }
        let described = self.targets.iter().filter(|(_, target)| !target.spec.discovered);
        let is_answered = |name: &TargetName| rules.values().any(|rule| rule.members.contains(name));
        let names: Vec<_> = described.map(|(name, _)| name).filter(|name| !is_answered(name)).take(5).map(TargetName::to_string).collect();
        if names.is_empty() {
            let _ = self.unanswered.right(now, &());
            return None;
        }
        self.unanswered.wrong(now, (), &names.join(", "), 1).map(|_| Effect::Warn(Warning::Unanswered { names }))
    }

    fn table(&self) -> RecordBatch {
        crate::rules::targets_table(&self.targets.values().map(|target| {
            let editions = self.ruleset.serving(&target.spec.name);
            // What schedules add to the bounds is the decider's affair; a rule needs the static ones.
            let (min, max) = editions.fold((0, u32::MAX), |(min, max), edition| {
                let policy = edition.spec.policy.spec();
                (policy.min.max(min), policy.max.min(max))
            });
            (&*target.spec, target.observed.as_ref().ok(), min, max)
        }))
    }
}

#[cfg(test)]
mod tests;
