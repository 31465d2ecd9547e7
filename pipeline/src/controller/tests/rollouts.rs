//! A changed rule comes into force in steps.

use tracescale_core::rollout::{Stage, Why};

use super::telemetry::sojourn;
use super::*;

/// Two targets with objectives, and a rule whose changes are rolled out.
fn rolled_out(sql: &str) -> Described {
    let cart = DOCUMENTS.replace("service: {name: cart}", "service: {name: cart}, objective: {latency: 100ms}");
    let rollout = "rollout: {shadow: 1m, canary: {share: 0.5, for: 5m}}, ";
    let text = cart.replace("every: 5s,", &format!("every: 5s, targets: [cart, web], {rollout}")).replace("SELECT 1", sql);
    let (first, _) = cart.split_once("---").unwrap();
    described(&(text + "---\n" + &first.replace("cart", "web")))
}

fn controller() -> Controller {
    let mut controller = Controller::new(rolled_out("SELECT 1"), Discovery::default());
    for target in ["cart", "web"] {
        let target = TargetName::try_new(target).unwrap();
        let _ = controller.handle(at(0), Event::Observed { target, result: Ok(Observed::replicas(1, None, at(0))) });
    }
    controller
}

fn reload(controller: &mut Controller, seconds: i64, sql: &str) -> Vec<Effect> {
    controller.handle(at(seconds), Event::Reloaded(rolled_out(sql)))
}

/// The stages that were told, and the last record that was to be kept.
fn told(effects: &[Effect]) -> (Vec<Stage>, Option<RolloutRecord>) {
    let stage = |effect: &Effect| if let Effect::Warn(Warning::Rollout { stage, .. }) = effect { Some(stage.clone()) } else { None };
    let record = |effect: &Effect| if let Effect::Keep(record) = effect { Some((**record).clone()) } else { None };
    (effects.iter().filter_map(stage).collect(), effects.iter().rev().find_map(record))
}

fn stage(controller: &Controller) -> Stage {
    controller.ruleset.rollout(&load()).unwrap().stage().clone()
}

fn advance(controller: &mut Controller, snapshot: &Snapshot, seconds: i64, emissions: Vec<Emission>) -> Vec<Effect> {
    controller.handle(at(seconds), Event::Advanced { emissions, snapshot: snapshot.clone() })
}

/// Both versions in the order newest, previous.
fn versions(controller: &Controller) -> (Version, Option<Version>) {
    let rule = &controller.ruleset.rules[&load()];
    (rule.newest.version, rule.previous.as_ref().map(|edition| edition.version))
}

/// What a version asks for both targets; gives the targets that were decided about.
fn ask(controller: &mut Controller, seconds: i64, version: Version, answers: Result<f64, RuleFailure>) -> Vec<String> {
    let answers = answers.map(|replicas| {
        let mut answers = demand(&cart(), seconds, replicas);
        answers.proposals.extend(demand(&TargetName::try_new("web").unwrap(), seconds, replicas).proposals);
        answers
    });
    let effects = controller.handle(at(seconds), Event::Evaluated { rule: load(), version, asked_at: at(seconds), answers });
    let decided = effects.iter().filter_map(|effect| if let Effect::Record(decision) = effect { Some(decision) } else { None });
    decided.map(|decision| decision.target.to_string()).collect()
}

/// Guarantees: a changed rule is evaluated beside the one before, decides for nobody, then for its canary, then for all.
#[tokio::test]
async fn a_change_comes_in_steps() {
    let snapshot = snapshot().await;
    let mut controller = controller();
    let (first, _) = versions(&controller);
    let (stages, record) = told(&reload(&mut controller, 10, "SELECT 2"));
    assert_eq!((stages, record.is_some()), (vec![Stage::Shadow { since: at(10) }], true));
    let (newest, previous) = versions(&controller);
    assert_eq!(previous, Some(first));
    let effects = advance(&mut controller, &snapshot, 11, Vec::new());
    let asked = effects.iter().filter_map(|effect| if let Effect::Evaluate { rule, .. } = effect { Some(rule.sql.as_str()) } else { None });
    assert_eq!(asked.collect::<Vec<_>>(), ["SELECT 2", "SELECT 1"]);
    assert_eq!(ask(&mut controller, 12, newest, Ok(9.0)), [""; 0]);
    assert_eq!(ask(&mut controller, 12, first, Ok(1.0)), ["cart", "web"]);
    let (stages, _) = told(&advance(&mut controller, &snapshot, 71, Vec::new()));
    let [Stage::Canary { targets, .. }] = &stages[..] else { panic!("{stages:?}") };
    let canary = targets[0].to_string();
    let other = if canary == "cart" { "web" } else { "cart" };
    assert_eq!(
        (ask(&mut controller, 72, newest, Ok(1.0)), ask(&mut controller, 72, first, Ok(1.0))),
        (vec![canary], vec![other.to_owned()])
    );
    let (stages, _) = told(&advance(&mut controller, &snapshot, 372, Vec::new()));
    assert_eq!((stages, versions(&controller)), (vec![Stage::Full], (newest, None)));
    assert_eq!(ask(&mut controller, 373, newest, Ok(1.0)), ["cart", "web"]);
    assert_eq!(ask(&mut controller, 373, first, Ok(1.0)), [""; 0], "it is no more");
}

/// Guarantees: without `rollout` a change applies at once, and nothing is written down.
#[test]
fn without_a_rollout_a_change_applies() {
    let mut controller = super::controller();
    let effects = controller.handle(at(10), Event::Reloaded(described(&DOCUMENTS.replace("SELECT 1", "SELECT 2"))));
    assert_eq!(told(&effects), (Vec::new(), None));
    assert_eq!(versions(&controller).1, None);
    assert_eq!(controller.ruleset.rules[&load()].newest.spec.sql, "SELECT 2");
}

/// Guarantees: a version whose query fails again and again is taken back; one that failed for a moment is not.
#[tokio::test]
async fn a_version_that_fails_is_taken_back() {
    let snapshot = snapshot().await;
    let failure = || RuleFailure::NoColumn("replicas", Vec::new());
    for (failures, reverted) in [(3, true), (2, false)] {
        let mut controller = controller();
        let _ = reload(&mut controller, 10, "SELECT 2");
        let (newest, _) = versions(&controller);
        (0..failures).for_each(|second| drop(ask(&mut controller, 11 + second, newest, Err(failure()))));
        let effects = advance(&mut controller, &snapshot, 20, Vec::new());
        assert_eq!(matches!(stage(&controller), Stage::Reverted { why: Why::Failed { .. }, .. }), reverted);
        let alert = |effect: &Effect| if let Effect::Warn(warning) = effect { Some(warning.alert(at(20)).kind) } else { None };
        assert_eq!(effects.iter().filter_map(alert).any(|kind| kind == "rule_reverted"), reverted);
    }
}

/// Guarantees: a version whose canary violates its objective more than before and than the others is taken back; one that is
/// as good is not.
#[tokio::test]
async fn a_version_that_makes_requests_slow_is_taken_back() {
    let snapshot = snapshot().await;
    for (slow, reverted) in [(400.0, true), (5.0, false)] {
        let mut controller = controller();
        let both = |minute: i64, canary: Option<&str>, slow: f64| {
            let figures = ["cart", "web"].map(|name| (name, if Some(name) == canary { slow } else { 5.0 }));
            figures.map(|(name, slow)| sojourn(name, at(60 * minute), 1000.0, slow)).to_vec()
        };
        let _ = reload(&mut controller, 10, "SELECT 2");
        let _ = advance(&mut controller, &snapshot, 65, both(1, None, 0.0));
        let _ = advance(&mut controller, &snapshot, 80, Vec::new());
        let Stage::Canary { targets, .. } = stage(&controller) else { panic!("no canary") };
        for minute in 2..5 {
            let _ = advance(&mut controller, &snapshot, 60 * minute + 10, both(minute, Some(targets[0].as_str()), slow));
        }
        assert_eq!(matches!(stage(&controller), Stage::Reverted { why: Why::Violations { .. }, .. }), reverted, "{:?}", stage(&controller));
    }
}

/// Guarantees: a restart goes on where the rollout was, also when the change came while the process was down; a record that
/// does not fit applies what the documents have.
#[tokio::test]
async fn a_restart_goes_on() {
    let snapshot = snapshot().await;
    let mut before = controller();
    let (_, first) = told(&advance(&mut before, &snapshot, 1, Vec::new()));
    let (_, record) = told(&reload(&mut before, 10, "SELECT 2"));
    let written = serde_json::to_string(&record.unwrap()).unwrap();
    let read: RolloutRecord = serde_json::from_str(&written).unwrap();
    let mut after = Controller::resumed(at(30), rolled_out("SELECT 2"), Discovery::default(), read.clone());
    assert_eq!((stage(&after), versions(&after)), (Stage::Shadow { since: at(10) }, versions(&before)));
    let previous = after.ruleset.rules[&load()].previous.as_ref().unwrap();
    assert_eq!(previous.spec.sql, "SELECT 1");
    assert!(told(&advance(&mut after, &snapshot, 31, Vec::new())).0.is_empty(), "nobody is told twice");
    // The first controller's own record was kept at its first event: the change comes while nobody runs.
    let record = first.unwrap_or(read);
    let after = Controller::resumed(at(30), rolled_out("SELECT 3"), Discovery::default(), record);
    assert!(matches!(stage(&after), Stage::Shadow { since } if since == at(30)));
    let odd = written.replace("SELECT 1", "SELECT 7");
    let after = Controller::resumed(at(30), rolled_out("SELECT 2"), Discovery::default(), serde_json::from_str(&odd).unwrap());
    assert_eq!((stage(&after), versions(&after).1), (Stage::Full, None));
}
