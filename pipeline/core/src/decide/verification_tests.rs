//! What the verification of changes guarantees.

use super::control_tests::{WINDOW, context, controlled, diagnosis, patient};
use super::tests::{Fixture, open, secs};
use super::*;
use crate::policy::{ControlSpec, DirectionSpec, PolicySpec, VerifySpec};

/// A fixture of which a scale-down from 10 to 6 was carried out at a diagnosis with so many slow requests.
fn after_scale_down(slow: u64) -> Fixture {
    let spec = PolicySpec {
        scale_up: DirectionSpec { step_limit: Some(1), cooldown: secs(600), ..open().scale_up },
        control: ControlSpec { verify: VerifySpec { settle: Some(secs(180)), ..VerifySpec::default() }, ..ControlSpec::default() },
        ..open()
    };
    let mut fixture = patient(spec, 10);
    assert_eq!(fixture.act(6.0, slow, 0.5).desired, Some(6));
    fixture
}

/// Guarantees: a scale-down that made requests slow is taken back at once, beyond all limits, when it had time to settle.
#[test]
fn a_scale_down_that_hurt_is_taken_back() {
    let mut fixture = after_scale_down(5);
    fixture.advance(180 + WINDOW - 1);
    assert_eq!(fixture.act(6.0, 14, 0.6).desired, Some(6), "the window begins before it settled");
    fixture.advance(1);
    let decision = fixture.act(6.0, 14, 0.6);
    assert_eq!((decision.desired, decision.reason, decision.action), (Some(10), Reason::RolledBack, Action::ScaleUp));
    assert!(
        decision.steps.last().unwrap().detail.contains("14 of 1000 requests were over the objective, 5 of 1000 before"),
        "{:?}",
        decision.steps
    );
    // The floor holds for an hour, also without further diagnoses; then the rule has its way.
    fixture.advance(1800);
    let decision = fixture.decide_and_apply(6.0);
    assert_eq!((decision.desired, decision.reason), (Some(10), Reason::FloorAfterRollback));
    fixture.advance(1799);
    assert_eq!(fixture.decide_and_apply(6.0).desired, Some(10));
    fixture.advance(1);
    assert_eq!(fixture.decide_and_apply(6.0).desired, Some(6));
}

/// Guarantees: a rollback needs no answer of a rule, and does not stand in the way of one that wants more.
#[test]
fn a_rollback_does_not_depend_on_the_rule() {
    let mut fixture = after_scale_down(5);
    fixture.advance(300);
    let slow = context(diagnosis(fixture.now, 60, 0.6));
    assert_eq!(fixture.decide_all(&[], slow.clone()).desired, Some(10));
    let mut fixture = after_scale_down(5);
    fixture.rules = vec![RuleRef { policy: patient(open(), 1).rules[0].policy.clone(), ..fixture.rules[0].clone() }];
    fixture.advance(300);
    let decision = fixture.decide_in(20.0, slow);
    assert_eq!((decision.desired, decision.reason), (Some(20), Reason::DemandAbove));
}

/// Guarantees: harm beyond doubt is not waited for, but a window from before the step says nothing of it.
#[test]
fn sure_harm_is_not_waited_for() {
    let mut fixture = after_scale_down(5);
    assert_eq!(fixture.act(6.0, 60, 0.6).desired, Some(6), "measured before the step");
    fixture.advance(1);
    assert_eq!(fixture.act(6.0, 60, 0.6).reason, Reason::RolledBack);
}

/// Guarantees: what repeats lasts twice as long, up to a day.
#[test]
fn the_floor_doubles() {
    let mut fixture = after_scale_down(5);
    for hours in [1, 2, 4, 8, 16, 24, 24] {
        fixture.advance(180 + WINDOW);
        assert_eq!(fixture.act(6.0, 60, 0.6).reason, Reason::RolledBack);
        let floor = fixture.decider.state(&fixture.target.name).unwrap().lessons.floor.unwrap();
        assert_eq!(floor.until, fixture.now + secs(hours * 3600));
        while fixture.now < floor.until {
            fixture.advance(1800);
            fixture.act(6.0, 5, 0.5);
        }
        assert_eq!(fixture.current, 6, "after {hours} h");
    }
}

/// Guarantees: nothing is taken back by chance, while the objective is met, for a new version, for another's change, on thin
/// counts, between windows of different length, in a mode that does not act, or where the policy does not verify.
#[test]
fn a_rollback_needs_evidence() {
    type Change = fn(&mut Fixture, &mut Diagnosis);
    let cases: [(&str, u64, Change); 9] = [
        ("no worse", 55, |_, _| {}),
        ("objective met", 0, |_, d| d.violations = Some(9)),
        ("objective met, theirs", 5, |_, d| d.objective = Some(0.9)),
        ("new version", 5, |_, d| d.deployed_at = Some(d.at - secs(200))),
        ("somebody else", 5, |f, _| f.current = 7),
        ("thin", 5, |_, d| (d.requests, d.violations) = (Some(299), Some(100))),
        ("other window", 5, |_, d| d.window = secs(30)),
        ("recommend", 5, |f, _| f.rules[0].mode = Mode::Recommend),
        ("no diagnosis", 5, |_, d| d.at = d.at - secs(200)),
    ];
    for (name, slow, change) in cases {
        let mut fixture = after_scale_down(slow);
        fixture.advance(180 + WINDOW);
        let mut later = diagnosis(fixture.now, 60, 0.6);
        change(&mut fixture, &mut later);
        let demand = f64::from(fixture.current);
        let decision = fixture.decide_in(demand, context(later));
        assert_eq!(decision.desired, Some(fixture.current), "{name}");
    }
    let off = VerifySpec { enabled: false, ..VerifySpec::default() };
    let mut fixture = patient(controlled(ControlSpec { verify: off, ..ControlSpec::default() }), 10);
    fixture.act(6.0, 5, 0.5);
    fixture.advance(300);
    assert_eq!(fixture.act(6.0, 60, 0.6).desired, Some(6));
}

/// Guarantees: steps down that follow each other are one trial, and all of them are taken back.
#[test]
fn steps_are_judged_together() {
    let mut fixture = after_scale_down(5);
    fixture.advance(100);
    assert_eq!(fixture.act(5.0, 9, 0.5).desired, Some(5));
    fixture.advance(180 + WINDOW - 1);
    assert_eq!(fixture.act(5.0, 14, 0.6).reason, Reason::DemandMet);
    fixture.advance(1);
    assert_eq!(fixture.act(5.0, 14, 0.6).desired, Some(10));
}

/// Guarantees: a rollback whose call fails is made up for by the floor.
#[test]
fn a_failed_rollback_is_made_up_for() {
    let mut fixture = after_scale_down(5);
    fixture.advance(180 + WINDOW);
    let decision = fixture.decide_in(6.0, context(diagnosis(fixture.now, 60, 0.6)));
    assert_eq!(decision.order(), Some(10));
    fixture.decider.applied(fixture.now, &fixture.target.name.clone(), Applied::Failed);
    fixture.advance(5);
    let decision = fixture.decide_in(6.0, Context::default());
    assert_eq!((decision.desired, decision.reason), (Some(10), Reason::FloorAfterRollback));
}

/// Guarantees: two scale-ups that did not help stop further ones for a while, except where the service is loaded; one that
/// helped, or whose load grew, does not count.
#[test]
fn ups_without_effect_are_stopped() {
    // Slow requests and utilization before and after each of two ups, and whether a third is stopped.
    let cases = [
        ([(200, 0.6, 195, 0.5), (195, 0.5, 190, 0.4)], true),
        ([(200, 0.6, 100, 0.5), (195, 0.5, 190, 0.4)], false),
        ([(200, 0.6, 195, 0.6), (195, 0.5, 190, 0.4)], false),
        ([(5, 0.6, 5, 0.5), (195, 0.5, 190, 0.4)], false),
    ];
    for (index, (ups, stopped)) in cases.into_iter().enumerate() {
        let control = ControlSpec { reactive: false, ..ControlSpec::default() };
        let mut fixture = patient(controlled(control), 4);
        for (demand, (before, own, after, then)) in [8.0, 16.0].into_iter().zip(ups) {
            assert_eq!(fixture.act(demand, before, own).action, Action::ScaleUp, "case {index}");
            fixture.advance(180 + WINDOW);
            fixture.act(demand, after, then);
            fixture.advance(5);
        }
        let reason = fixture.decide_in(32.0, context(diagnosis(fixture.now, 190, 0.4))).reason;
        assert_eq!(reason == Reason::ScalingIneffective, stopped, "case {index}: {reason}");
        if stopped {
            assert_eq!(fixture.decide_in(32.0, context(diagnosis(fixture.now, 190, 0.8))).desired, Some(32), "its own load demands it");
        }
    }
}

/// Guarantees: errors that rise with the replicas stop further ups, and only for a quarter of an hour.
#[test]
fn errors_that_rise_with_replicas_stop_ups() {
    let mut fixture = patient(open(), 4);
    assert_eq!(fixture.act(8.0, 5, 0.6).desired, Some(8));
    fixture.advance(180 + WINDOW);
    let failing = Diagnosis { errors: Some(40), ..diagnosis(fixture.now, 5, 0.4) };
    let decision = fixture.decide_in(12.0, context(failing));
    assert_eq!((decision.desired, decision.reason), (Some(8), Reason::ErrorsRiseWithReplicas));
    fixture.advance(899);
    assert_eq!(fixture.decide_and_apply(12.0).desired, Some(8));
    fixture.advance(1);
    assert_eq!(fixture.decide_and_apply(12.0).desired, Some(12));
}
