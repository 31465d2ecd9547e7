//! Targets that share a budget, and targets whose services call each other.

use tracescale_core::decide::Reason;

use super::telemetry::call;
use super::*;

const WEB: &str = "
---
apiVersion: tracescale.io/v1alpha1
kind: ScalingTarget
metadata: {name: web}
spec: {memory: {replicas: 1}, service: {name: web}}
";

fn budget(replicas: u32) -> String {
    format!(
        "
---
apiVersion: tracescale.io/v1alpha1
kind: ScalingBudget
metadata: {{name: shop}}
spec: {{maxReplicas: {replicas}}}
"
    )
}

fn web() -> TargetName {
    TargetName::try_new("web").unwrap()
}

fn sees(controller: &mut Controller, target: &TargetName, seconds: i64, replicas: u32, ready: u32) {
    let observed = Observed::replicas(replicas, Some(ready), at(seconds));
    let _ = controller.handle(at(seconds), Event::Observed { target: target.clone(), result: Ok(observed) });
}

/// A controller of both targets, one replica each.
fn both(text: &str) -> Controller {
    let mut controller = Controller::new(described(text), Discovery::default());
    sees(&mut controller, &cart(), 0, 1, 1);
    sees(&mut controller, &web(), 0, 1, 1);
    controller
}

/// What the rule asks for both targets; gives the decisions in their order: target, replicas, reason.
fn ask(controller: &mut Controller, seconds: i64, replicas: f64) -> Vec<(String, Option<u32>, Reason)> {
    let mut answers = demand(&cart(), seconds, replicas);
    answers.proposals.extend(demand(&web(), seconds, replicas).proposals);
    let effects = evaluated(controller, seconds, Ok(answers));
    let decided = effects.iter().filter_map(|effect| if let Effect::Record(decision) = effect { Some(decision) } else { None });
    decided.map(|decision| (decision.target.to_string(), decision.desired, decision.reason)).collect()
}

/// Guarantees: two targets that grow at the same moment share what the budget leaves, whoever is decided about first; a budget
/// with room, or none, changes nothing; reloading it takes effect.
#[test]
fn a_budget_is_shared() {
    let shared = [("cart".to_owned(), Some(3), Reason::BudgetExhausted), ("web".to_owned(), Some(3), Reason::BudgetExhausted)];
    let free = [("cart".to_owned(), Some(5), Reason::DemandAbove), ("web".to_owned(), Some(5), Reason::DemandAbove)];
    assert_eq!(ask(&mut both(&(DOCUMENTS.to_owned() + WEB)), 5, 5.0), free);
    assert_eq!(ask(&mut both(&(DOCUMENTS.to_owned() + WEB + &budget(10))), 5, 5.0), free);
    let mut controller = both(&(DOCUMENTS.to_owned() + WEB + &budget(10)));
    let _ = controller.handle(at(1), Event::Reloaded(described(&(DOCUMENTS.to_owned() + WEB + &budget(6)))));
    assert_eq!(ask(&mut controller, 5, 5.0), shared);
}

/// Guarantees: what is only recommended takes nothing from those whose decisions are carried out.
#[test]
fn recommendations_use_no_budget() {
    let idle = "
---
apiVersion: tracescale.io/v1alpha1
kind: ScalingRule
metadata: {name: advice}
spec: {every: 5s, sql: SELECT 1, targets: [web], policy: {min: 1, max: 10}}
";
    let text = DOCUMENTS.replace("every: 5s,", "every: 5s, targets: [cart],") + WEB + &budget(4) + idle;
    let mut controller = both(&text);
    let advice = RuleName::try_new("advice").unwrap();
    let version = controller.ruleset.rules[&advice].newest.version;
    let mut answers = demand(&web(), 5, 9.0);
    answers.proposals.values_mut().flatten().for_each(|proposal| proposal.rule = advice.clone());
    let effects = controller.handle(at(5), Event::Evaluated { rule: advice, version, asked_at: at(5), answers: Ok(answers) });
    let advised = decision(&effects);
    assert_eq!((advised.desired, advised.reason, has_order(&effects)), (Some(3), Reason::BudgetExhausted, false));
    let effects = evaluated(&mut controller, 6, Ok(demand(&cart(), 6, 5.0)));
    assert_eq!((decision(&effects).desired, has_order(&effects)), (Some(3), true));
}

/// Guarantees: a caller grows when its callee's new replicas are ready, and not where nobody calls anybody.
#[tokio::test]
async fn callees_grow_first() {
    let snapshot = snapshot().await;
    let text = DOCUMENTS.to_owned() + WEB;
    let free = [("cart".to_owned(), Some(3), Reason::DemandAbove), ("web".to_owned(), Some(3), Reason::DemandAbove)];
    assert_eq!(ask(&mut both(&text), 5, 3.0), free);
    let mut controller = both(&text);
    let emissions = vec![call("cart", "web", at(60))];
    let _ = controller.handle(at(70), Event::Advanced { emissions, snapshot });
    let decided = ask(&mut controller, 75, 3.0);
    let waits = ("cart".to_owned(), Some(1), Reason::WaitsForDownstream);
    assert_eq!(decided, [("web".to_owned(), Some(3), Reason::DemandAbove), waits.clone()]);
    sees(&mut controller, &web(), 80, 3, 1);
    assert!(ask(&mut controller, 85, 3.0).contains(&waits), "its replicas start");
    sees(&mut controller, &web(), 90, 3, 3);
    assert!(ask(&mut controller, 95, 3.0).contains(&free[0]), "they are ready");
}
