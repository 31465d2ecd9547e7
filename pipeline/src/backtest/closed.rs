//! The loop of production over a simulated plant: the same windows, rules and controller, on virtual time.
//!
//! ```text
//! plant ─spans▶ engine ─windows▶ controller ◀─answers─ rules
//!   ▲                               │ orders
//!   └───────────────────────────────┘
//! ```

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tracescale_core::capacity::Observed;
use tracescale_core::decide::Mode;
use tracescale_core::schema::Stream;
use tracescale_core::target::{Objective, ServiceSelector, TargetName, TargetSpec};
use tracescale_core::time::Timestamp;
use tracescale_documents::RuleSpec;
use tracescale_queries::{Engine, needed};
use tracescale_simulate::plant::{Observation, Phase, Plant};
use tracescale_sinks::Outcome;

use super::telemetry::{Sender, Spans};
use crate::config::Config;
use crate::controller::{self, Controller, Described, Effect, Event};
use crate::discovery::Discovery;
use crate::rules::Evaluator;

/// The source that all simulated spans count as.
const SOURCE: &str = "simulated";
/// Different warnings that are told of one run.
const WARNINGS_MAX: usize = 20;

/// What the loop did besides scaling.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Decisions made.
    pub decisions: u64,
    /// What went wrong, each once.
    pub warnings: Vec<String>,
}

/// What was said of all simulated services.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Promised {
    /// The objective on the command line; documents have theirs where there is none.
    pub objective: Option<Objective>,
    /// Servers of each replica.
    pub servers: Option<NonZeroU32>,
}

/// The loop's parts.
struct Loop<'a> {
    plant: &'a mut dyn Plant,
    controller: Controller,
    evaluator: Evaluator,
    /// The plant's position of each target.
    places: HashMap<TargetName, usize>,
    seen: Vec<Observation>,
    run: Run,
    told: BTreeSet<String>,
}

/// Drives a plant with the rules of a configuration until `until`. Rules enforce, whatever their documents say: nothing here
/// is real.
///
/// # Errors
/// When a view or the engine fails. A rule that fails is told in the result, and its targets are held as in production.
pub(crate) async fn run(
    config: &Config,
    plant: &mut dyn Plant,
    senders: &[Sender],
    promised: &Promised,
    step: Duration,
    until: Timestamp,
) -> anyhow::Result<Run> {
    let Described { targets, rules, budgets, of_metrics } = config.described();
    let rules: Vec<RuleSpec> = rules.into_iter().map(enforced).collect();
    let specs: Vec<TargetSpec> = senders.iter().map(|sender| promised.to(target(sender, &targets))).collect();
    // What verifies changes has to be computed only where something was promised.
    let own = if specs.iter().any(|spec| spec.objective.is_some()) { controller::own_queries() } else { Vec::new() };
    let queries: Vec<&str> = rules.iter().map(|rule| &rule.sql).chain(&own).map(String::as_str).collect();
    let engine = config.engine_with(step, &specs, |parts| needed(parts, &queries)).await;
    let (mut engine, _) = engine.map_err(|problems| anyhow!("{} views do not work", problems.len()))?;
    let mut production = Loop {
        places: specs.iter().enumerate().map(|(place, spec)| (spec.name.clone(), place)).collect(),
        seen: vec![Observation::default(); senders.len()],
        controller: Controller::new(Described { targets: specs, rules, budgets, of_metrics }, Discovery::default()).counting_all(),
        evaluator: Evaluator::default(),
        plant,
        run: Run::default(),
        told: BTreeSet::new(),
    };
    let mut spans = Spans::of(senders.len());
    let mut steps = 0;
    while production.plant.now() < until {
        let now = (production.plant.now() + step).min(until);
        production.plant.advance(now);
        for service in 0..senders.len() {
            production.plant.observe(service, &mut production.seen[service]);
            spans.add(service, steps, &production.seen[service]);
        }
        steps += 1;
        engine.push(SOURCE, vec![(Stream::Spans, spans.take(senders, now)?)], now).await?;
        production.decide(&mut engine, now).await?;
    }
    Ok(production.run)
}

/// A document's target for the service, or one of its own.
fn target(sender: &Sender, described: &[TargetSpec]) -> TargetSpec {
    let namespace = sender.namespace.as_deref();
    if let Some(spec) = described.iter().find(|spec| spec.service.matches(&sender.service, namespace)) {
        // A pause or an order of today says nothing about the past.
        return TargetSpec { paused: false, override_: None, ..spec.clone() };
    }
    let name = TargetName::of_service(namespace, &sender.service);
    TargetSpec::in_memory(name, ServiceSelector { service_name: sender.service.clone(), service_namespace: sender.namespace.clone() }, 1)
}

fn enforced(rule: RuleSpec) -> RuleSpec {
    if rule.mode == Mode::Off { rule } else { RuleSpec { mode: Mode::Enforce, ..rule } }
}

// === impl Promised ===

impl Promised {
    /// Simulated replicas have the servers that the command line says, and hold no workers.
    fn to(&self, spec: TargetSpec) -> TargetSpec {
        TargetSpec { objective: self.objective.or(spec.objective), servers: self.servers.or(spec.servers), workers: None, ..spec }
    }
}

// === impl Loop ===

impl Loop<'_> {
    async fn decide(&mut self, engine: &mut Engine, now: Timestamp) -> anyhow::Result<()> {
        let emissions = engine.advance(now).await?;
        for (view, (times, error)) in &engine.stats().failures {
            self.tell(format!("view {view} failed on its rows ({times} times): {error}"));
        }
        let mut events = VecDeque::from([Event::Advanced { emissions, snapshot: engine.tables() }]);
        while let Some(event) = events.pop_front() {
            for effect in self.controller.handle(now, event) {
                if let Effect::Advise(advice) = effect {
                    engine.advise(&advice);
                } else {
                    events.extend(self.carry_out(now, effect).await);
                }
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, now: Timestamp, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Evaluate { rule, version, snapshot, targets } => {
                let answers = self.evaluator.evaluate(&rule, &snapshot, targets, now).await;
                Some(Event::Evaluated { rule: rule.name.clone(), version, asked_at: now, answers })
            }
            Effect::Observe(target) => {
                let place = self.place(&target.name)?;
                let observed = self.observed(place, now);
                Some(Event::Observed { target: target.name.clone(), result: Ok(observed) })
            }
            Effect::Apply { target, decision, desired } => {
                let place = self.place(&target.name)?;
                let before = self.plant.desired(place);
                // Simulated replicas have the servers that the command line says: there is nothing to resize.
                let requested = desired.replicas.unwrap_or(before);
                self.plant.set_replicas(place, requested);
                let confirmed = self.plant.desired(place);
                let changed = confirmed != before;
                let outcome = Outcome { before, requested, confirmed, changed, conflicts: 0, warnings: Vec::new(), at: now, resized: None };
                Some(Event::Applied { target: target.name.clone(), decision: Arc::clone(&decision), result: Ok(outcome) })
            }
            Effect::Record(_) => {
                self.run.decisions += 1;
                None
            }
            Effect::Warn(warning) => {
                let alert = warning.alert(now);
                self.tell(format!("{} {}: {}", alert.kind.replace('_', " "), alert.subject, alert.message));
                None
            }
            Effect::Conclude(_) | Effect::Keep(_) | Effect::Advise(_) => None,
        }
    }

    fn observed(&self, place: usize, now: Timestamp) -> Observed {
        let ready = self.seen[place].count(Phase::Ready);
        Observed::replicas(self.plant.desired(place), Some(ready), now)
    }

    fn place(&self, name: &TargetName) -> Option<usize> {
        self.places.get(name).copied()
    }

    fn tell(&mut self, warning: String) {
        // The same trouble with another count is the same trouble.
        let kind: String = warning.chars().filter(|c| !c.is_ascii_digit()).collect();
        if self.told.len() < WARNINGS_MAX && self.told.insert(kind) {
            self.run.warnings.push(warning);
        }
    }
}
