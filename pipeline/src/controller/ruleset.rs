//! The rules as they are in force: a changed one beside the one that it replaces, until its rollout is over.
//!
//! Both versions are evaluated; each target obeys the one that decides for it. What must outlive the process, how far each
//! rollout has come and the text of what was in force before, is a [`RolloutRecord`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::decide::Mode;
use tracescale_core::policy::{Policy, RuleName, RuleRef};
use tracescale_core::rollout::{Decides, Rollout, Rollouts, Stage, Version};
use tracescale_core::target::TargetName;
use tracescale_core::time::Timestamp;
use tracescale_documents::RuleSpec;
use tracescale_queries::Past;

use super::Target;
use super::diagnosis::{Diagnoses, Over};
use super::watch::Watch;
use crate::warning::Warning;

/// What is written down of rollouts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRecord {
    /// How far each has come.
    rollouts: Rollouts,
    /// What is in force of each rule.
    in_force: BTreeMap<RuleName, RuleText>,
}

impl RolloutRecord {
    /// How many rules are at each stage.
    #[must_use]
    pub fn stages(&self) -> BTreeMap<&'static str, usize> {
        self.rollouts.stages()
    }
}

/// What a version of a rule consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleText {
    sql: String,
    #[serde(with = "tracescale_core::duration::text")]
    every: Duration,
    policy: Arc<Policy>,
}

/// All rules and their rollouts.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) rules: BTreeMap<RuleName, Rule>,
    record: RolloutRecord,
    /// Changes of stages that nobody was told of yet.
    news: Vec<Warning>,
    /// The record differs from what was written down last.
    is_changed: bool,
}

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// As the documents have it.
    pub(super) newest: Edition,
    /// What it replaces, while that decides for some target.
    pub(super) previous: Option<Edition>,
    /// Whether its query ever gave rows, or none, rather than a failure.
    pub(super) has_answered: bool,
    /// Targets it is answerable for: those its document names, or every one it ever named itself.
    pub(super) members: BTreeSet<TargetName>,
    watch: Watch,
}

/// A version of a rule, with its schedule.
#[derive(Debug)]
pub(super) struct Edition {
    pub(super) spec: Arc<RuleSpec>,
    pub(super) version: Version,
    pub(super) due: Timestamp,
    pub(super) is_evaluating: bool,
    /// Whether what it reads may come from spans.
    pub(super) needs_spans: bool,
}

// === impl RolloutRecord ===

impl RolloutRecord {
    /// Without the rules whose text is not, or no longer, the version that was in force: nothing could decide in their place.
    fn consistent(mut self, rules: &[RuleSpec]) -> Self {
        let text = |rule: &RuleSpec| self.in_force.get(&rule.name).map(|text| text.of(rule).version());
        let expected = |rollout: &Rollout| rollout.previous().unwrap_or(rollout.version());
        let sound = |rule: &&RuleSpec| self.rollouts.get(&rule.name).is_some_and(|rollout| text(rule) == Some(expected(rollout)));
        let sound: BTreeSet<RuleName> = rules.iter().filter(sound).map(|rule| rule.name.clone()).collect();
        self.rollouts.retain(|name| sound.contains(name));
        self.in_force.retain(|name, _| sound.contains(name));
        self
    }
}

// === impl RuleText ===

impl RuleText {
    fn new(spec: &RuleSpec) -> Self {
        Self { sql: spec.sql.clone(), every: spec.every, policy: Arc::clone(&spec.policy) }
    }

    /// The rule with this content. Mode and targets are people's own steps, and as the documents have them.
    fn of(&self, spec: &RuleSpec) -> RuleSpec {
        RuleSpec { sql: self.sql.clone(), every: self.every, policy: Arc::clone(&self.policy), ..spec.clone() }
    }
}

// === impl Ruleset ===

impl Ruleset {
    /// No rules yet; rollouts go on from what was written down.
    pub(super) fn resumed(record: RolloutRecord, rules: &[RuleSpec]) -> Self {
        Self { record: record.consistent(rules), ..Self::default() }
    }

    /// Takes the rules as they now are in the documents, and the views that are made of no spans.
    pub(super) fn load(&mut self, now: Timestamp, specs: Vec<RuleSpec>, of_metrics: &BTreeSet<String>) {
        let mut old = std::mem::take(&mut self.rules);
        for spec in specs {
            let before = old.remove(&spec.name);
            let name = spec.name.clone();
            self.note(now, &spec);
            let previous = self.rollout(&name).and_then(Rollout::previous).and_then(|version| {
                let text = self.record.in_force.get(&name)?;
                Some(Edition::new(text.of(&spec), version, before.as_ref(), of_metrics))
            });
            let mut rule = Rule {
                members: spec.targets.iter().flat_map(|scope| scope.names.iter().cloned()).collect(),
                newest: Edition::new(spec.clone(), spec.version(), before.as_ref(), of_metrics),
                previous,
                has_answered: false,
                watch: Watch::default(),
            };
            if let Some(before) = before {
                rule.members.extend(before.members.into_iter().filter(|target| spec.serves(target)));
                if before.newest.version == rule.newest.version {
                    rule.watch = before.watch;
                }
            }
            let _ = self.rules.insert(name, rule);
        }
        self.record.rollouts.retain(|name| self.rules.contains_key(name));
        self.record.in_force.retain(|name, _| self.rules.contains_key(name));
    }

    /// Moves the rollout of one rule on to what the documents have.
    fn note(&mut self, now: Timestamp, spec: &RuleSpec) {
        let (name, version) = (&spec.name, spec.version());
        let before = self.rollout(name).cloned();
        self.record.rollouts.load(now, name, version, spec.rollout.as_ref());
        let is_lost = self.rollout(name).is_some_and(|rollout| rollout.previous().is_some()) && !self.record.in_force.contains_key(name);
        if is_lost {
            // Nobody knows what to obey instead.
            self.record.rollouts.retain(|other| other != name);
            self.record.rollouts.load(now, name, version, spec.rollout.as_ref());
        }
        let after = self.rollout(name).cloned();
        if after.as_ref().is_some_and(|rollout| *rollout.stage() == Stage::Full) {
            let _ = self.record.in_force.insert(name.clone(), RuleText::new(spec));
        }
        if before != after {
            self.is_changed = true;
            let stage = after.map(|rollout| rollout.stage().clone()).filter(|stage| before.is_some() && *stage != Stage::Full);
            self.news.extend(stage.map(|stage| Warning::Rollout { rule: name.clone(), stage }));
        }
    }

    /// The rollout of a rule.
    pub(super) fn rollout(&self, name: &RuleName) -> Option<&Rollout> {
        self.record.rollouts.get(name)
    }

    /// The version of a rule that decides for a target.
    pub(super) fn deciding<'a>(&'a self, rule: &'a Rule, target: &TargetName) -> &'a Edition {
        let decides = self.rollout(&rule.newest.spec.name).map_or(Decides::New, |rollout| rollout.decides(target));
        match decides {
            Decides::Previous => rule.previous.as_ref().unwrap_or(&rule.newest),
            Decides::New => &rule.newest,
        }
    }

    /// The versions that decide for a target, of every rule that serves it.
    pub(super) fn serving<'a>(&'a self, target: &'a TargetName) -> impl Iterator<Item = &'a Edition> {
        let rules = self.rules.values().filter(move |rule| rule.members.contains(target));
        rules.map(move |rule| self.deciding(rule, target))
    }

    /// Counts minutes of targets for the rollouts that are tried on canaries.
    pub(super) fn count(&mut self, minutes: &[Over]) {
        for (name, rule) in &mut self.rules {
            let Some(Stage::Canary { since, targets }) = self.record.rollouts.get(name).map(Rollout::stage) else { continue };
            for minute in minutes.iter().filter(|minute| rule.members.contains(&minute.target)) {
                rule.watch.count(*since, minute, targets.contains(&minute.target));
            }
        }
    }

    /// A scale-down of a rule's making was taken back.
    pub(super) fn rolled_back(&mut self, target: &TargetName, lowered: &(Timestamp, RuleName)) {
        let (at, name) = lowered;
        let Some(Stage::Canary { since, targets }) = self.record.rollouts.get(name).map(Rollout::stage) else { return };
        if since <= at
            && targets.contains(target)
            && let Some(rule) = self.rules.get_mut(name)
        {
            rule.watch.rolled_back(target);
        }
    }

    /// Moves rollouts on when it is time, or takes them back.
    pub(super) fn advance(&mut self, now: Timestamp, targets: &BTreeMap<TargetName, Target>, diagnoses: &Diagnoses) {
        for (name, rule) in &mut self.rules {
            let Some(spec) = rule.newest.spec.rollout.clone().filter(|_| rule.previous.is_some() && rule.mode() != Mode::Off) else {
                continue;
            };
            let members = rule.members.iter().filter(|target| targets.contains_key(*target));
            let since = match self.record.rollouts.get(name).map(Rollout::stage) {
                Some(Stage::Canary { since, .. }) => Some(*since),
                _ => None,
            };
            let seen = rule.watch.seen(now, since);
            let Some(stage) = self.record.rollouts.advance(now, name, &spec, members, &seen).cloned() else { continue };
            rule.watch = match &stage {
                Stage::Canary { since, targets } => Watch::of(*since, targets, diagnoses),
                _ => Watch::default(),
            };
            if stage == Stage::Full {
                rule.previous = None;
                let _ = self.record.in_force.insert(name.clone(), RuleText::new(&rule.newest.spec));
            }
            self.is_changed = true;
            self.news.push(Warning::Rollout { rule: name.clone(), stage });
        }
    }

    /// What people are to be told, and the record when it is to be written down anew.
    pub(super) fn take_news(&mut self) -> (Vec<Warning>, Option<RolloutRecord>) {
        let is_rolled_out = self.rules.values().any(|rule| rule.newest.spec.rollout.is_some());
        let record = std::mem::take(&mut self.is_changed).then(|| self.record.clone()).filter(|_| is_rolled_out);
        (std::mem::take(&mut self.news), record)
    }
}

// === impl Rule ===

impl Rule {
    /// The versions that are evaluated.
    pub(super) fn editions(&self) -> impl Iterator<Item = &Edition> {
        std::iter::once(&self.newest).chain(&self.previous)
    }

    /// See [`Rule::editions`].
    pub(super) fn editions_mut(&mut self) -> impl Iterator<Item = &mut Edition> {
        std::iter::once(&mut self.newest).chain(&mut self.previous)
    }

    /// What people say of the rule, whichever version decides.
    pub(super) fn mode(&self) -> Mode {
        self.newest.spec.mode
    }

    /// An evaluation came back. That of a version that replaces another is watched for failures.
    pub(super) fn evaluated(&mut self, version: Version, failure: Option<String>) {
        if self.previous.is_some() && self.newest.version == version {
            self.watch.evaluated(failure);
        }
    }
}

// === impl Edition ===

impl Edition {
    fn new(spec: RuleSpec, version: Version, before: Option<&Rule>, of_metrics: &BTreeSet<String>) -> Self {
        let is_evaluating = before.is_some_and(|rule| rule.editions().any(|old| old.version == version && old.is_evaluating));
        let needs_spans = reads_spans(&spec.sql, of_metrics);
        Self { spec: Arc::new(spec), version, due: Timestamp::MIN, is_evaluating, needs_spans }
    }

    /// The rule as the decider needs it for one target: what was only discovered is never acted on unless people said so.
    pub(super) fn reference(&self, target: &Target, acts_on_discovered: bool) -> RuleRef {
        let may_act = !target.spec.discovered || acts_on_discovered;
        let mode = if may_act || self.spec.mode == Mode::Off { self.spec.mode } else { Mode::Recommend };
        RuleRef { mode, ..self.spec.reference() }
    }
}

/// Whether a query reads anything that may come from spans.
fn reads_spans(sql: &str, of_metrics: &BTreeSet<String>) -> bool {
    Past::reads(sql).map_or(true, |names| names.iter().any(|name| name != "targets" && !of_metrics.contains(name)))
}
