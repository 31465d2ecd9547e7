//! What a controller tells models, and what it remembers of one before it.

use super::*;

fn with_objective(startup: &str) -> Described {
    let objective = "service: {name: cart}, servers: 4, objective: {latency: 500ms}";
    described(&DOCUMENTS.replace("service: {name: cart}", objective).replace("policy: {", &format!("policy: {{{startup}")))
}

fn advice(effects: &[Effect]) -> Option<Advice> {
    effects.iter().find_map(|effect| if let Effect::Advise(advice) = effect { Some((**advice).clone()) } else { None })
}

fn see(controller: &mut Controller, seconds: i64, desired: u32, ready: u32) -> Vec<Effect> {
    let observed = Observed::replicas(desired, Some(ready), at(seconds));
    controller.handle(at(seconds), Event::Observed { target: cart(), result: Ok(observed) })
}

/// Scales up at `seconds` from `from` replicas by one; the new one serves `startup` seconds later.
fn scale_up(controller: &mut Controller, seconds: i64, from: u32, startup: i64) -> (Arc<Decision>, Vec<Effect>) {
    let _ = see(controller, seconds, from, from);
    let effects = evaluated(controller, seconds, Ok(demand(&cart(), seconds, f64::from(from + 1))));
    let decision = decision(&effects);
    assert!(has_order(&effects), "{decision:?}");
    let outcome = Outcome {
        before: from,
        requested: from + 1,
        confirmed: from + 1,
        changed: true,
        conflicts: 0,
        warnings: Vec::new(),
        at: at(seconds + 1),
        resized: None,
    };
    let done = Event::Applied { target: cart(), decision: Arc::clone(&decision), result: Ok(outcome) };
    let _ = controller.handle(at(seconds + 1), done);
    let _ = see(controller, seconds + startup, from + 1, from + 1);
    let later = seconds + startup + 1;
    (decision, evaluated(controller, later, Ok(demand(&cart(), later, f64::from(from + 1)))))
}

/// Guarantees: models hear of new objectives when documents are read again, and of nothing when nothing changed.
#[test]
fn models_hear_of_objectives() {
    let mut controller = controller();
    assert_eq!(advice(&controller.handle(at(1), Event::Reloaded(described(DOCUMENTS)))), None);
    let told = advice(&controller.handle(at(2), Event::Reloaded(with_objective("")))).unwrap();
    let promise = told.promises[&("cart".to_owned(), None)];
    assert_eq!((promise.latency, promise.quantile), (0.5, 0.99));
    assert_eq!(told.servers, [(("cart".to_owned(), None), 4.0)].into());
    assert_eq!(advice(&controller.handle(at(3), Event::Reloaded(with_objective("")))), None);
}

/// Guarantees: models hear how long replicas took to start; a policy's own word counts instead.
#[test]
fn models_hear_of_starts() {
    let mut controller = controller();
    let _ = scale_up(&mut controller, 100, 1, 45);
    let told = advice(&controller.handle(at(200), Event::Reloaded(with_objective("")))).unwrap();
    assert_eq!(told.startups[&("cart".to_owned(), None)].count(), 1);
    let told = advice(&controller.handle(at(210), Event::Reloaded(with_objective("startup: 20s, ")))).unwrap();
    let said = &told.startups[&("cart".to_owned(), None)];
    assert!((said.p90() - 20.0).abs() < 1e-9, "{said:?}");
}

/// Guarantees: models hear which replicas were ordered and do not serve yet, with the next windows.
#[tokio::test]
async fn models_hear_what_was_ordered() {
    let mut controller = Controller::new(with_objective(""), Discovery::default());
    let _ = scale_up(&mut controller, 100, 1, 45);
    let _ = see(&mut controller, 160, 4, 2);
    let windows = Event::Advanced { emissions: Vec::new(), snapshot: snapshot().await };
    let told = advice(&controller.handle(at(161), windows)).unwrap();
    let capacity = told.capacities[&("cart".to_owned(), None)];
    assert_eq!((capacity.desired, capacity.ready, capacity.ordered_at), (4, Some(2), None), "somebody else ordered two more");
}

/// Guarantees: a controller that goes on from the last decision remembers what the one before it did: here that it scaled, and
/// how long replicas take; without the end of the order it takes it as possible.
#[test]
fn a_restart_does_not_begin_anew() {
    let mut first = controller();
    let (_, _) = scale_up(&mut first, 100, 1, 45);
    let (last, _) = scale_up(&mut first, 300, 2, 50);
    let kept = serde_json::from_str::<Decision>(&serde_json::to_string(&*last).unwrap()).unwrap();
    let ended = Conclusion {
        concludes: kept.id.clone(),
        at: at(301),
        result: crate::conclusion::Ending::Applied { before: 2, confirmed: 3, conflicts: 0, warnings: Vec::new() },
    };
    let mut second = controller();
    second.remember(&kept, Some(&ended));
    let state = second.decider.state(&cart()).unwrap();
    assert_eq!((state.last_up, state.events.len(), state.pending, state.starts.seconds.len()), (Some(at(300)), 2, None, 1));
    let mut third = controller();
    third.remember(&kept, None);
    assert!(!third.is_pending(&cart()), "nobody waits for the answer to a process that is gone");
    assert_eq!(third.decider.state(&cart()).map(|state| state.events.len()), Some(2), "but the order counts");
    let moved = described(&DOCUMENTS.replace("memory: {replicas: 1}", "kubernetes: {namespace: shop, kind: Deployment, name: cart}"));
    let mut other = Controller::new(moved, Discovery::default());
    other.remember(&kept, Some(&ended));
    assert_eq!(other.decider.state(&cart()), None, "another target of the same name");
}

/// Guarantees: hours of past weeks are usual again.
#[test]
fn past_hours_are_usual() {
    let mut controller = controller();
    let hour = Duration::from_secs(3600);
    for number in 0..170_u32 {
        controller.remember_hour(&cart(), at(0).floor(hour) + hour * number, if number == 0 { 7 } else { 3 });
    }
    let target = &controller.targets[&cart()];
    assert_eq!((target.usual.at(at(7 * 24 * 3600)), target.usual.at(at(7 * 24 * 3600 + 3600))), (Some(7), Some(3)));
}
