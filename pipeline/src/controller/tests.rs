//! The controller as a function: events in, effects out, no time but what is given.

use std::collections::{BTreeMap, BTreeSet};

use tracescale_core::decide::{Action, Demand, Evidence, Proposal, Reason};
use tracescale_queries::{Engine, EngineConfig, ViewSource, judgement, of_metrics, shipped, streams};
use tracescale_sinks::SinkErrorKind;

use super::*;
use crate::rules::Answers;

mod concert;
mod guards;
mod memory;
mod rollouts;
pub(in crate::controller) mod telemetry;

const DOCUMENTS: &str = "
apiVersion: tracescale.io/v1alpha1
kind: ScalingTarget
metadata: {name: cart}
spec: {memory: {replicas: 1}, service: {name: cart}}
---
apiVersion: tracescale.io/v1alpha1
kind: ScalingRule
metadata: {name: load}
spec: {every: 5s, mode: enforce, sql: SELECT 1, policy: {min: 1, max: 10}}
";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_767_600_000 + seconds)
}

fn described(text: &str) -> Described {
    let documents = tracescale_documents::parse("test", text).unwrap();
    let views =
        ["busy AS SELECT window_end, service_name, max(total) AS cores FROM metric_gauges GROUP BY 1, 2", "busiest AS SELECT * FROM busy"];
    let views = views.map(|view| ViewSource { name: "own".into(), sql: format!("CREATE VIEW {view}"), origin: "own.sql".into() });
    let parts = shipped::parts(&streams::Config::default(), &judgement::Settings::default(), views.into());
    Described {
        of_metrics: of_metrics(&parts.0),
        targets: documents.targets.into_iter().map(|(_, target)| target).collect(),
        rules: documents.rules.into_iter().map(|(_, rule)| rule).collect(),
        budgets: documents.budgets.into_iter().map(|(_, budget)| budget).collect(),
    }
}

/// A controller of `DOCUMENTS` that has seen one replica of `cart`.
fn controller() -> Controller {
    let mut controller = Controller::new(described(DOCUMENTS), Discovery { enabled: true, targets_max: 10, ..Discovery::default() });
    assert!(observe(&mut controller, 0, 1).is_empty());
    controller
}

fn cart() -> TargetName {
    TargetName::try_new("cart").unwrap()
}

fn load() -> RuleName {
    RuleName::try_new("load").unwrap()
}

fn observe(controller: &mut Controller, seconds: i64, replicas: u32) -> Vec<Effect> {
    let observed = Observed::replicas(replicas, None, at(seconds));
    controller.handle(at(seconds), Event::Observed { target: cart(), result: Ok(observed) })
}

fn demand(target: &TargetName, seconds: i64, replicas: f64) -> Answers {
    let evidence = Evidence { n_eff: Some(1000.0), completeness: Some(1.0), age_seconds: Some(0.0), ..Evidence::default() };
    let proposal = Proposal::new(load(), at(seconds), Demand::Replicas(replicas), evidence);
    Answers { proposals: BTreeMap::from([(target.clone(), vec![proposal])]), ..Answers::default() }
}

fn evaluated(controller: &mut Controller, seconds: i64, answers: Result<Answers, RuleFailure>) -> Vec<Effect> {
    let version = controller.ruleset.rules[&load()].newest.version;
    controller.handle(at(seconds), Event::Evaluated { rule: load(), version, asked_at: at(seconds), answers })
}

fn decision(effects: &[Effect]) -> Arc<Decision> {
    let recorded = effects.iter().find_map(|effect| if let Effect::Record(decision) = effect { Some(decision) } else { None });
    Arc::clone(recorded.expect("a decision is recorded"))
}

fn has_order(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Apply { .. }))
}

async fn snapshot() -> Snapshot {
    Engine::new(EngineConfig::default(), Vec::new()).await.unwrap().tables()
}

/// Guarantees: demand becomes a recorded decision and one call; while it is under way there is no second one.
#[test]
fn one_call_at_a_time() {
    let mut controller = controller();
    let effects = evaluated(&mut controller, 5, Ok(demand(&cart(), 5, 3.0)));
    assert_eq!((decision(&effects).action, has_order(&effects)), (Action::ScaleUp, true));
    assert!(controller.is_waiting());
    let effects = evaluated(&mut controller, 10, Ok(demand(&cart(), 10, 6.0)));
    assert_eq!((decision(&effects).reason, has_order(&effects)), (Reason::ActionInFlight, false));
}

/// Guarantees: a rule that says several things of one target still speaks for the others, and is told of.
#[test]
fn one_ambiguous_target_does_not_silence_a_rule() {
    let mut controller = controller();
    let other = TargetName::try_new("other").unwrap();
    let answers = Answers { ambiguous: BTreeSet::from([other]), ..demand(&cart(), 5, 3.0) };
    let effects = evaluated(&mut controller, 5, Ok(answers));
    assert_eq!((decision(&effects).action, has_order(&effects)), (Action::ScaleUp, true));
    let told = |effect: &Effect| matches!(effect, Effect::Warn(Warning::RuleFailed { failure: RuleFailure::SeveralRows(_), .. }));
    assert!(effects.iter().any(told));
}

/// Guarantees: what a person orders is carried out although no rule has an answer for the target, but not where all rules are off.
#[test]
fn an_override_needs_no_rule() {
    let documents = |mode: &str| {
        let text = DOCUMENTS
            .replace("service: {name: cart}", "service: {name: cart}, override: {replicas: 7, until: 2030-01-01T00:00:00Z, reason: sale}");
        described(&text.replace("enforce", mode))
    };
    for (mode, ordered) in [("enforce", true), ("recommend", true), ("off", false)] {
        let mut controller = Controller::new(documents(mode), Discovery::default());
        let effects = observe(&mut controller, 0, 1);
        assert_eq!(has_order(&effects), ordered, "{mode}");
        if ordered {
            assert_eq!((decision(&effects).desired, decision(&effects).reason), (Some(7), Reason::OverrideActive));
        }
    }
}

/// Guarantees: a target whose calls fail is left alone for a while that doubles, and its decisions are recorded all the same.
#[test]
fn failing_calls_back_off() {
    let mut controller = controller();
    let mut calls = Vec::new();
    for second in (5..100).step_by(5) {
        let effects = evaluated(&mut controller, second, Ok(demand(&cart(), second, 3.0)));
        assert_eq!(decision(&effects).action, Action::ScaleUp);
        if has_order(&effects) {
            calls.push(second);
            let target = &decision(&effects).inputs.target.reference;
            let error = SinkError::new(SinkErrorKind::Denied, target, "no right to patch");
            let applied = Event::Applied { target: cart(), decision: decision(&effects), result: Err(error) };
            let told = controller.handle(at(second), applied);
            assert!(matches!(told[..], [Effect::Conclude(_), Effect::Warn(Warning::SinkFailed { .. })]));
        }
    }
    assert_eq!(calls, [5, 10, 20, 40, 80]);
}

/// Guarantees: a rule that cannot be evaluated, or no longer names its target, is missing data for it: the capacity is kept.
#[test]
fn a_silent_rule_is_missing_data() {
    let mut controller = controller();
    let _ = evaluated(&mut controller, 5, Ok(demand(&cart(), 5, 1.0)));
    for answers in [Err(RuleFailure::QueueFull), Ok(Answers::default())] {
        let effects = evaluated(&mut controller, 10, answers);
        assert_eq!((decision(&effects).reason, decision(&effects).desired), (Reason::DataMissing, Some(1)));
    }
}

/// Guarantees: a rule that names what nobody described is told so, and nothing is decided.
#[test]
fn unknown_targets_are_told() {
    let mut controller = controller();
    let ghost = TargetName::try_new("ghost").unwrap();
    let effects = evaluated(&mut controller, 5, Ok(demand(&ghost, 5, 3.0)));
    assert!(matches!(&effects[..], [Effect::Warn(Warning::UnknownTargets { names, .. })] if names == &["ghost"]));
}

/// Guarantees: what was only discovered is never acted on unless people said so, whatever mode the rule has.
#[test]
fn discovered_targets_are_only_advised() {
    let mut controller = controller();
    let name = TargetName::try_new("stock").unwrap();
    let spec = TargetSpec { name: name.clone(), discovered: true, ..(*controller.targets[&cart()].spec).clone() };
    let spec =
        TargetSpec { service: tracescale_core::target::ServiceSelector { service_name: "stock".into(), service_namespace: None }, ..spec };
    controller.discovered(at(0), crate::discovery::Found { spec, instances: Some(2) });
    let effects = evaluated(&mut controller, 5, Ok(demand(&name, 5, 5.0)));
    assert_eq!((decision(&effects).current, decision(&effects).desired, decision(&effects).mode), (Some(2), Some(5), Mode::Recommend));
    assert!(!has_order(&effects));
}

/// Guarantees: a rule falls due once per interval however often time moves on, a late one is told, and after the drain none is.
#[tokio::test]
async fn rules_fall_due_once_per_interval() {
    let mut controller = controller();
    let snapshot = snapshot().await;
    let advance = |controller: &mut Controller, seconds| {
        let effects = controller.handle(at(seconds), Event::Advanced { emissions: Vec::new(), snapshot: snapshot.clone() });
        let kind = |effect: &Effect| match effect {
            Effect::Evaluate { .. } => Some("evaluate"),
            Effect::Warn(Warning::RuleLate { .. }) => Some("late"),
            _ => None,
        };
        effects.iter().filter_map(kind).collect::<Vec<_>>()
    };
    assert_eq!(advance(&mut controller, 5), ["evaluate"]);
    assert!(advance(&mut controller, 6).is_empty());
    assert_eq!(advance(&mut controller, 10), ["late"]);
    let _ = evaluated(&mut controller, 11, Ok(Answers::default()));
    assert_eq!(advance(&mut controller, 15), ["evaluate"]);
    let _ = controller.handle(at(16), Event::Drained);
    let _ = evaluated(&mut controller, 16, Ok(Answers::default()));
    assert!(advance(&mut controller, 20).is_empty());
}

/// Guarantees: telemetry never takes the place of a document: the target stays what it was, also when discovery would give it
/// the same name, and a service with a namespace belongs to a document that names none.
#[test]
fn documents_outlive_discovery() {
    let mut controller = controller();
    for (name, namespace) in [("cart", None), ("shop.cart", Some("shop"))] {
        let service =
            tracescale_core::target::ServiceSelector { service_name: "cart".into(), service_namespace: namespace.map(str::to_owned) };
        let name = TargetName::try_new(name).unwrap();
        let spec = TargetSpec { name, service, discovered: true, ..(*controller.targets[&cart()].spec).clone() };
        controller.discovered(at(0), crate::discovery::Found { spec, instances: Some(7) });
    }
    assert_eq!(controller.targets.len(), 1);
    let effects = evaluated(&mut controller, 5, Ok(demand(&cart(), 5, 3.0)));
    assert_eq!((decision(&effects).mode, decision(&effects).current, has_order(&effects)), (Mode::Enforce, Some(1), true));
}

/// Guarantees: a rule that names its targets serves no others.
#[test]
fn a_rule_keeps_to_its_targets() {
    let scoped = DOCUMENTS.replace("every: 5s,", "every: 5s, targets: [cart],")
        + "---\n"
        + &DOCUMENTS.split("---").next().unwrap().replace("cart", "stock");
    let mut controller = Controller::new(described(&scoped), Discovery::default());
    let stock = TargetName::try_new("stock").unwrap();
    let mut answers = demand(&cart(), 5, 3.0);
    answers.proposals.extend(demand(&stock, 5, 3.0).proposals);
    let effects = evaluated(&mut controller, 5, Ok(answers));
    let told = |effect: &Effect| matches!(effect, Effect::Warn(Warning::UnknownTargets { names, .. }) if names == &["stock"]);
    assert!(effects.iter().any(told));
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Record(_))).count(), 1);
}

/// Guarantees: a rule that fails, or names targets that nobody knows, is told once a minute and not at each evaluation, and
/// that it works again is told once.
#[test]
fn a_failing_rule_does_not_fill_the_log() {
    let mut controller = controller();
    let ghost = TargetName::try_new("ghost").unwrap();
    let mut told = Vec::new();
    for seconds in (5..200).step_by(5) {
        let answers = match seconds {
            ..100 => Err(RuleFailure::QueueFull),
            100..150 => Ok(demand(&ghost, seconds, 3.0)),
            _ => Ok(demand(&cart(), seconds, 1.0)),
        };
        told.extend(evaluated(&mut controller, seconds, answers).into_iter().filter_map(|effect| match effect {
            Effect::Warn(Warning::RuleFailed { times, .. }) => Some((seconds, "failed", times)),
            Effect::Warn(Warning::RuleRecovered { .. }) => Some((seconds, "works", 1)),
            Effect::Warn(Warning::UnknownTargets { times, .. }) => Some((seconds, "strays", times)),
            _ => None,
        }));
    }
    assert_eq!(told, [(5, "failed", 1), (65, "failed", 12), (100, "works", 1), (100, "strays", 1)]);
}

/// Guarantees: a target of a document that no rule ever had a row for is told once every rule was evaluated, once a minute, and
/// no more when a rule answers for it.
#[tokio::test]
async fn targets_without_an_answer_are_told() {
    let mut controller = controller();
    let snapshot = snapshot().await;
    let mut told = Vec::new();
    for seconds in (5..200).step_by(5) {
        let effects = controller.handle(at(seconds), Event::Advanced { emissions: Vec::new(), snapshot: snapshot.clone() });
        let names =
            effects.iter().find_map(|effect| if let Effect::Warn(Warning::Unanswered { names }) = effect { Some(names) } else { None });
        told.extend(names.map(|names| (seconds, names.join(","))));
        let _ = evaluated(
            &mut controller,
            seconds,
            match seconds {
                ..20 => Err(RuleFailure::QueueFull),
                20..100 => Ok(Answers::default()),
                _ => Ok(demand(&cart(), seconds, 1.0)),
            },
        );
    }
    assert_eq!(told, [(25, "cart".to_owned()), (85, "cart".to_owned())]);
}

/// Guarantees: after the clock stepped back an hour, rules fall due as before and not an hour later.
#[tokio::test]
async fn a_clock_that_steps_back_stops_nothing() {
    let mut controller = controller();
    let snapshot = snapshot().await;
    let mut due = |seconds| {
        let effects = controller.handle(at(seconds), Event::Advanced { emissions: Vec::new(), snapshot: snapshot.clone() });
        let asked = effects.iter().any(|effect| matches!(effect, Effect::Evaluate { .. }));
        let _ = evaluated(&mut controller, seconds, Ok(Answers::default()));
        asked
    };
    assert!(due(3600));
    assert!(!due(3601));
    assert!(due(10));
    assert!(!due(11));
    assert!(due(15));
}
