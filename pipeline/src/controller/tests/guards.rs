//! What is known beside the rules changes decisions, and only where it should.

use tracescale_core::decide::{Action, Guard, Reason};
use tracescale_sinks::Outcome;

use super::telemetry::{cause, sampling, senders, sojourn, versions};
use super::*;

/// `cart` promises 99 of 100 requests within 100 ms; its rule scales down without delay.
fn promised() -> Described {
    let text = DOCUMENTS
        .replace("service: {name: cart}", "service: {name: cart}, objective: {latency: 100ms}")
        .replace("max: 10}", "max: 10, scaleDown: {stabilizationWindow: 0s}, onMissing: {after: 1m, replicas: usual}}");
    described(&text)
}

/// A controller that has seen some replicas of `cart`, and what goes with it.
async fn started(replicas: u32) -> (Controller, Snapshot) {
    let mut controller = Controller::new(promised(), Discovery::default());
    let _ = observe(&mut controller, 0, replicas);
    (controller, snapshot().await)
}

fn advance(controller: &mut Controller, snapshot: &Snapshot, seconds: i64, emissions: Vec<Emission>) {
    let _ = controller.handle(at(seconds), Event::Advanced { emissions, snapshot: snapshot.clone() });
}

/// Minutes of `cart`, each with 1000 requests.
fn minutes(minutes: std::ops::Range<i64>, slow: f64) -> Vec<Emission> {
    minutes.map(|minute| sojourn("cart", at(60 * minute), 1000.0, slow)).collect()
}

/// A rule's answer from a final window.
fn asks(controller: &mut Controller, seconds: i64, replicas: f64) -> Vec<Effect> {
    let mut answers = demand(&cart(), seconds, replicas);
    answers.proposals.values_mut().flatten().for_each(|proposal| proposal.evidence.is_final = Some(true));
    evaluated(controller, seconds, Ok(answers))
}

/// Carries an order out.
fn carry_out(controller: &mut Controller, seconds: i64, effects: &[Effect]) {
    let decision = decision(effects);
    let (before, confirmed) = (decision.current.unwrap(), decision.order().unwrap());
    let at = at(seconds);
    let outcome = Outcome { before, requested: confirmed, confirmed, changed: true, conflicts: 0, warnings: Vec::new(), at, resized: None };
    let _ = controller.handle(at, Event::Applied { target: cart(), decision, result: Ok(outcome) });
    let _ = observe(controller, seconds, confirmed);
}

/// Guarantees: a scale-up is stopped while another service makes the requests slow, and not where the service itself is busy,
/// or where the objective is met.
#[tokio::test]
async fn a_scale_up_that_would_not_help_is_stopped() {
    for (slow, utilization, expected) in [(100.0, 0.2, Some(Reason::DownstreamBound)), (100.0, 0.9, None), (1.0, 0.2, None)] {
        let (mut controller, snapshot) = started(2).await;
        let mut windows = minutes(1..4, slow);
        windows.extend((1..4).map(|minute| cause("cart", at(60 * minute), "no", Some("pay"), utilization)));
        advance(&mut controller, &snapshot, 190, windows);
        let decision = decision(&asks(&mut controller, 195, 4.0));
        let stopped = decision.steps.iter().find(|step| step.guard == Guard::Cause).map(|step| step.reason);
        assert_eq!(stopped, expected, "{slow} {utilization}");
        let action = if expected.is_some() { Action::None } else { Action::ScaleUp };
        assert_eq!(decision.action, action, "{slow} {utilization}");
        assert_eq!(decision.replay(), *decision);
        let story = crate::explain::explain(&decision, None);
        assert_eq!(story.contains("pay (capacity) is behind 80.0 % of the delay"), slow > 1.0, "{story}");
    }
}

/// Guarantees: a scale-down that made requests slow is taken back, and one that did not is left alone.
#[tokio::test]
async fn a_scale_down_that_hurt_is_taken_back() {
    for (slow, rolled_back) in [(200.0, true), (2.0, false)] {
        let (mut controller, snapshot) = started(6).await;
        advance(&mut controller, &snapshot, 190, minutes(1..4, 2.0));
        let effects = asks(&mut controller, 195, 3.0);
        assert_eq!(decision(&effects).action, Action::ScaleDown);
        carry_out(&mut controller, 196, &effects);
        let mut reasons = Vec::new();
        for second in (200..780).step_by(5) {
            let over = if second % 60 == 10 { minutes(second / 60..second / 60 + 1, slow) } else { Vec::new() };
            advance(&mut controller, &snapshot, second, over);
            let _ = observe(&mut controller, second, 3);
            let effects = asks(&mut controller, second, 3.0);
            reasons.push(decision(&effects).reason);
            if has_order(&effects) {
                assert_eq!(decision(&effects).desired, Some(6));
                break;
            }
        }
        assert_eq!(reasons.contains(&Reason::RolledBack), rolled_back, "{reasons:?}");
    }
}

/// Guarantees: no scale-down follows a new version at once.
#[tokio::test]
async fn a_scale_down_waits_after_a_deployment() {
    for (newest, expected) in [("v2", Reason::RecentlyDeployed), ("v1", Reason::DemandBelow)] {
        let (mut controller, snapshot) = started(6).await;
        advance(&mut controller, &snapshot, 70, vec![versions("cart", at(60), "v1", "v1")]);
        advance(&mut controller, &snapshot, 130, vec![versions("cart", at(120), "v1", newest)]);
        assert_eq!(decision(&asks(&mut controller, 135, 3.0)).reason, expected);
    }
}

/// Guarantees: from the sink's replicas and the senders in the spans to the decision: while two of six are silent nothing is taken
/// away, with the number in the record, also of a target without an objective; once all are heard of again it is.
#[tokio::test]
async fn silent_replicas_are_not_taken_for_idle_ones() {
    let text = DOCUMENTS
        .replace("memory: {replicas: 1}", "kubernetes: {apiVersion: apps/v1, kind: Deployment, namespace: shop, name: cart}")
        .replace("max: 10}", "max: 10, scaleDown: {stabilizationWindow: 0s}}");
    let mut controller = Controller::new(described(&text), Discovery::default());
    let snapshot = snapshot().await;
    let mut reasons = Vec::new();
    for (minute, heard) in (0..).zip([6.0, 6.0, 4.0, 4.0, 4.0, 6.0]) {
        for second in (60 * minute..60 * minute + 60).step_by(15) {
            let observed = Observed::replicas(6, Some(6), at(second));
            let _ = controller.handle(at(second), Event::Observed { target: cart(), result: Ok(observed) });
        }
        let end = 60 * minute + 60;
        advance(&mut controller, &snapshot, end, vec![senders("cart", at(end), &[(Some(heard), 1000.0)])]);
        let said = controller.decider.clone();
        let decision = decision(&asks(&mut controller, end, 4.0));
        assert_eq!(decision.replay(), *decision);
        // Nothing is carried out, so that the next minute begins as this one.
        controller.decider = said;
        reasons.push((decision.action, decision.reason));
        let story = crate::explain::explain(&decision, None);
        let is_told = story.contains("2 of 6 ready replicas are silent") && story.contains("2 of 6 ready replicas are not heard of");
        assert_eq!(is_told, decision.reason == Reason::InstancesSilent, "{story}");
    }
    let (down, held) = ((Action::ScaleDown, Reason::DemandBelow), (Action::None, Reason::InstancesSilent));
    assert_eq!(reasons, [down, down, down, down, held, down]);
}

/// Guarantees: what a rule would do that only recommends is explained beside what the enforced one did, and told apart from it.
#[test]
fn a_recommendation_is_explained_beside_what_is_enforced() {
    let (target, rule) = DOCUMENTS.split_once("---").unwrap();
    let watched = rule.replace("name: load", "name: trial").replace("enforce", "recommend");
    let mut controller = Controller::new(described(&format!("{target}---{rule}---{watched}")), Discovery::default());
    let _ = observe(&mut controller, 0, 2);
    let trial = RuleName::try_new("trial").unwrap();
    let mut answers = demand(&cart(), 5, 5.0);
    answers.proposals.values_mut().flatten().for_each(|proposal| proposal.rule = trial.clone());
    let version = controller.ruleset.rules[&trial].newest.version;
    let _ = controller.handle(at(5), Event::Evaluated { rule: trial, version, asked_at: at(5), answers: Ok(answers) });
    let decision = decision(&evaluated(&mut controller, 5, Ok(demand(&cart(), 5, 3.0))));
    let story = crate::explain::explain(&decision, None);
    assert_eq!(decision.desired, Some(3));
    for line in ["load (priority 0, enforce, chosen): asked for 3.000", "trial (priority 0, recommend, not enforced): asked for 5.000"] {
        assert!(story.contains(line), "{line}: {story}");
    }
}

/// What became of demands for four of six replicas, minute by minute, while metrics count 98 requests a second and spans account
/// for some; and what people were told.
async fn with_spans(sql: &str, trusted: Option<&str>, spans: &[f64]) -> (Vec<Reason>, Vec<String>) {
    let text = DOCUMENTS.replace("SELECT 1", sql).replace("max: 10}", "max: 10, scaleDown: {stabilizationWindow: 0s}}");
    let declared = trusted.map(|service| (service.to_owned(), 1.0)).into_iter().collect();
    let mut controller = Controller::new(described(&text), Discovery::default()).declaring(&declared);
    let snapshot = snapshot().await;
    let (mut reasons, mut told) = (Vec::new(), Vec::new());
    for (minute, spans) in (0..).zip(spans) {
        let end = 60 * minute + 60;
        let _ = observe(&mut controller, end - 5, 6);
        let early = sampling("cart", at(end - 5), Some(98.0), 98.0);
        let emissions = vec![early, sampling("cart", at(end), Some(98.0), *spans)];
        let effects = controller.handle(at(end), Event::Advanced { emissions, snapshot: snapshot.clone() });
        told.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Warn(warning @ Warning::Sampling { .. }) => Some(warning.alert(at(end))),
            _ => None,
        }));
        let said = controller.decider.clone();
        let decision = decision(&asks(&mut controller, end, 4.0));
        assert_eq!(decision.replay(), *decision);
        let read: Decision = serde_json::from_str(&serde_json::to_string(&*decision).unwrap()).unwrap();
        assert_eq!(read.replay(), *decision, "as it is written down");
        let story = crate::explain::explain(&decision, None);
        let is_told = story.contains("spans account for 10") && story.contains("no scale-down on sampled traces");
        assert_eq!(is_told, decision.reason == Reason::TracesSampled, "{story}");
        reasons.push(decision.reason);
        // Nothing is carried out, so that the next minute begins as this one.
        controller.decider = said.clone();
        assert_eq!(super::decision(&asks(&mut controller, end, 9.0)).action, Action::ScaleUp, "the way up is free");
        controller.decider = said;
    }
    (reasons, told.iter().map(|alert| format!("{} {}: {}", alert.kind, alert.subject, alert.message)).collect())
}

/// Guarantees: from the view to the decision: after three minutes in which spans account for a tenth of what metrics count nothing is
/// taken away, with the share in the record, and people are told once what to declare; once the two agree it is. Rules that need no
/// spans, whatever views lie between them and metrics, and services of which people say that all traces are there, are left alone.
#[tokio::test]
async fn sampled_traces_are_not_taken_for_idleness() {
    const LOAD: &str = "SELECT completion_rate FROM service_load";
    let days = [98.0, 9.8, 9.8, 9.8, 9.8, 98.0];
    let (reasons, told) = with_spans(LOAD, None, &days).await;
    let (down, held) = (Reason::DemandBelow, Reason::TracesSampled);
    assert_eq!(reasons, [down, down, down, held, held, down]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("traces_sampled cart: cart answers 98 requests/s by http.server.request.duration, spans account for 9.8:"));
    assert!(told[0].contains("`spec.sampling.services.cart: 0.1`"), "{told:?}");
    assert_eq!(with_spans(LOAD, Some("cart"), &days).await, (vec![down; 6], Vec::new()));
    for view in ["metric_gauges", "service_usage", "busiest"] {
        let (reasons, told) = with_spans(&format!("SELECT * FROM {view} JOIN targets USING (service_name)"), None, &days).await;
        assert_eq!((reasons, told.len()), (vec![down; 6], 1), "{view}");
    }
    let (reasons, told) = with_spans(LOAD, Some("pay"), &[196.0; 5]).await;
    assert_eq!((reasons, told.len()), (vec![down; 5], 1));
    assert!(told[0].starts_with("traces_overcounted cart: "), "{told:?}");
}

/// Guarantees: when nothing is known for long, a target goes up to what is usual at that hour of the week, once a week is known.
#[tokio::test]
async fn what_is_usual_is_held() {
    const WEEK: i64 = 168 * 3600;
    for (past, expected) in [(Some(8), true), (None, false)] {
        let (mut controller, _) = started(2).await;
        if let Some(past) = past {
            (0..3600).step_by(60).for_each(|second| drop(observe(&mut controller, second, past)));
        }
        let mut is_held = false;
        for second in (WEEK..WEEK + 200).step_by(5) {
            let _ = observe(&mut controller, second, 2);
            // It answers once, so that its silence is missing data.
            let answers = if second == WEEK { demand(&cart(), second, 2.0) } else { Answers::default() };
            let decision = decision(&evaluated(&mut controller, second, Ok(answers)));
            is_held |= decision.reason == Reason::RateLimited && decision.steps.iter().any(|step| step.reason == Reason::FallbackUsual);
        }
        assert_eq!(is_held, expected);
    }
}
