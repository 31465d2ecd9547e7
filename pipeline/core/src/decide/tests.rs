//! What the decider guarantees, guard by guard.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::capacity::{Observed, Unobserved};
use crate::invariant;
use crate::policy::{ConditionSpec, DirectionSpec, GatesSpec, OnMissing, Policy, PolicySpec, ScheduleSpec};
use crate::target::{Override, ServiceSelector};

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A target that obeys at once, and one rule.
pub(super) struct Fixture {
    pub(super) decider: Decider,
    pub(super) target: TargetSpec,
    pub(super) rules: Vec<RuleRef>,
    pub(super) now: Timestamp,
    pub(super) current: u32,
    pub(super) ready: Option<u32>,
}

impl Fixture {
    pub(super) fn new(spec: PolicySpec, current: u32) -> Self {
        let target = TargetSpec::in_memory(
            TargetName::try_new("checkout").unwrap(),
            ServiceSelector { service_name: "checkout".into(), service_namespace: None },
            current,
        );
        let now = Timestamp::from_secs(1_800_000_000);
        Self { decider: Decider::new(), target, rules: vec![rule("rule", Mode::Enforce, spec)], now, current, ready: None }
    }

    fn advance_by(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    pub(super) fn advance(&mut self, by: u64) {
        self.advance_by(secs(by));
    }

    pub(super) fn observed(&self) -> Result<Observed, Unobserved> {
        Ok(Observed::replicas(self.current, self.ready, self.now))
    }

    fn decide_with(&mut self, proposals: &[Proposal]) -> Decision {
        let decision = self.decider.decide(self.now, &self.target, &self.observed(), &self.rules, proposals);
        invariant::check(&decision).unwrap();
        assert_eq!(decision.replay(), decision);
        decision
    }

    fn decide(&mut self, demand: f64) -> Decision {
        let proposal = self.proposal("rule", Demand::Replicas(demand));
        self.decide_with(&[proposal])
    }

    pub(super) fn decide_and_apply(&mut self, demand: f64) -> Decision {
        let decision = self.decide(demand);
        self.carry_out(&decision);
        decision
    }

    pub(super) fn carry_out(&mut self, decision: &Decision) {
        if let Some(replicas) = decision.order() {
            self.current = replicas;
            self.decider.applied(self.now, &self.target.name, Applied::Done { replicas });
        }
    }

    pub(super) fn proposal(&self, rule: &str, demand: Demand) -> Proposal {
        let evidence = Evidence {
            window_end: Some(self.now),
            is_final: Some(true),
            n_eff: Some(1000.0),
            completeness: Some(1.0),
            age_seconds: Some(1.0),
            ..Evidence::default()
        };
        Proposal::new(RuleName::try_new(rule).unwrap(), self.now, demand, evidence)
    }

    fn missing(&self, rule: &str) -> Proposal {
        self.proposal(rule, Demand::Missing(MissingReason::Null))
    }
}

fn rule(name: &str, mode: Mode, spec: PolicySpec) -> RuleRef {
    RuleRef { name: RuleName::try_new(name).unwrap(), mode, every: secs(5), policy: Arc::new(Policy::try_new(spec).unwrap()) }
}

/// A policy that lets everything through at once.
pub(super) fn open() -> PolicySpec {
    let direction = DirectionSpec { stabilization_window: Duration::ZERO, policies: Vec::new(), ..DirectionSpec::up() };
    PolicySpec { min: 1, max: 100, scale_up: direction.clone(), scale_down: direction, ..PolicySpec::default() }
}

fn reasons(decision: &Decision) -> Vec<&'static str> {
    decision.steps.iter().map(|step| step.reason.as_str()).collect()
}

/// Guarantees: a demand is rounded up but not for floating-point noise, and scaling says why.
#[test]
fn demand_becomes_replicas() {
    let mut fixture = Fixture::new(open(), 4);
    let decision = fixture.decide_and_apply(6.2);
    assert_eq!((decision.desired, decision.action, decision.reason), (Some(7), Action::ScaleUp, Reason::DemandAbove));
    assert_eq!(decision.id.as_str(), "checkout-20270115T080000.000Z");
    let again = fixture.decide_and_apply(7.000_000_001);
    assert_eq!((again.action, again.reason), (Action::None, Reason::DemandMet));
    assert_eq!(again.id.as_str(), "checkout-20270115T080000.000Z-1");
    assert_eq!(fixture.decide(1e300).desired, Some(100));
    for broken in [f64::NAN, f64::INFINITY, -1.0] {
        fixture.decider = Decider::new();
        assert_eq!(fixture.decide(broken).reason, Reason::DataMissing);
    }
}

/// Guarantees: a small difference is ignored, with the tolerance of its direction.
#[test]
fn tolerance_ignores_noise() {
    let mut fixture = Fixture::new(open(), 10);
    assert_eq!(fixture.decide(10.9).reason, Reason::WithinTolerance);
    assert_eq!(fixture.decide(9.1).reason, Reason::DemandMet);
    assert_eq!(fixture.decide(8.95).desired, Some(9));
}

/// Guarantees: a rule that is off, paused, unobserved, overridden or under way is told apart, in that order.
#[test]
fn early_guards_stand_in_order() {
    let mut fixture = Fixture::new(open(), 4);
    let until = fixture.now + secs(60);
    fixture.target.override_ = Some(Override { replicas: 150, until, reason: "load test".into() });
    fixture.target.paused = true;
    fixture.rules[0].mode = Mode::Off;
    assert_eq!(fixture.decide(9.0).reason, Reason::ModeOff);
    fixture.rules[0].mode = Mode::Recommend;
    assert_eq!(fixture.decide(9.0).reason, Reason::Paused);
    fixture.target.paused = false;
    let unknown = Err(Unobserved::not_yet());
    let decision = fixture.decider.decide(fixture.now, &fixture.target, &unknown, &fixture.rules, &[]);
    assert_eq!((decision.reason, decision.desired, decision.action), (Reason::NotObserved, None, Action::Hold));
    let decision = fixture.decide(9.0);
    assert_eq!((decision.reason, decision.order()), (Reason::OverrideActive, Some(150)), "an order acts, also outside bounds");
    assert_eq!(fixture.decide(9.0).reason, Reason::ActionInFlight);
    fixture.carry_out(&decision);
    fixture.advance(60);
    assert_eq!(fixture.decide(9.0).desired, Some(9), "an expired order is no order");
}

/// Guarantees: what a sink saw before our own action does not undo it, and an old observation is none.
#[test]
fn observations_have_an_age() {
    let mut fixture = Fixture::new(open(), 4);
    let before = fixture.observed();
    fixture.advance(1);
    fixture.decide_and_apply(8.0);
    fixture.advance(1);
    let proposal = fixture.proposal("rule", Demand::Replicas(8.0));
    let decision = fixture.decider.decide(fixture.now, &fixture.target, &before, &fixture.rules, &[proposal]);
    assert_eq!((decision.current, decision.action), (Some(8), Action::None));
    assert_eq!(decision.steps[0].reason, Reason::ObservationBeforeAction);
    invariant::check(&decision).unwrap();
    fixture.now = fixture.now + OBSERVATION_LIMIT + secs(1);
    let decision = fixture.decider.decide(fixture.now, &fixture.target, &before, &fixture.rules, &[]);
    assert_eq!(decision.reason, Reason::ObservationTooOld);
}

/// Guarantees: an action whose outcome never comes holds the target for a while only, and then counts as done.
#[test]
fn a_lost_answer_is_survived() {
    let mut fixture = Fixture::new(PolicySpec::default(), 4);
    assert_eq!(fixture.decide(8.0).order(), Some(8));
    fixture.advance(30);
    assert_eq!(fixture.decide(8.0).reason, Reason::ActionInFlight);
    fixture.advance(31);
    assert_eq!(fixture.decide(8.0).order(), Some(8));
    let state = fixture.decider.state(&fixture.target.name).unwrap();
    assert_eq!(state.events.len(), 1);
    fixture.decider.applied(fixture.now, &fixture.target.name.clone(), Applied::Failed);
    assert_eq!(fixture.decider.state(&fixture.target.name).unwrap().events.len(), 1, "a failed call is no change");
}

/// Guarantees: a target that somebody scaled to zero stays there, unless its policy includes zero.
#[test]
fn zero_is_respected() {
    let mut fixture = Fixture::new(open(), 0);
    assert_eq!(fixture.decide(5.0).reason, Reason::ScaledToZero);
    let mut asleep = Fixture::new(PolicySpec { min: 0, ..PolicySpec::default() }, 0);
    assert_eq!(asleep.decide(5.0).desired, Some(4), "4 pods per 15 s");
}

/// Guarantees: each answer to missing data does what its name says, and a rule without a row is missing, not zero.
#[test]
fn missing_data_is_answered_by_policy() {
    let cases = [
        (OnMissing::Hold, Some(4), Reason::DataMissing),
        (OnMissing::Skip, Some(4), Reason::DataMissing),
        (OnMissing::Min, Some(2), Reason::FallbackMin),
        (OnMissing::Max, Some(20), Reason::FallbackMax),
        (OnMissing::Replicas(6), Some(6), Reason::FallbackReplicas),
        (OnMissing::After { after: secs(60), replicas: 6 }, Some(4), Reason::DataMissing),
    ];
    for (on_missing, desired, reason) in cases {
        let mut fixture = Fixture::new(PolicySpec { min: 2, max: 20, on_missing, ..open() }, 4);
        let decision = fixture.decide_with(&[]);
        assert_eq!((decision.desired, decision.reason), (desired, reason), "{on_missing:?}");
    }
    let mut fixture = Fixture::new(PolicySpec { on_missing: OnMissing::After { after: secs(60), replicas: 6 }, ..open() }, 4);
    for _ in 0..3 {
        assert_eq!(fixture.decide_with(&[]).reason, Reason::DataMissing);
        fixture.advance(20);
    }
    assert_eq!(fixture.decide_with(&[]).desired, Some(6));
}

/// Guarantees: after an outage of telemetry a scale-down waits for a whole stabilization window of data again.
#[test]
fn recovery_does_not_scale_down_at_once() {
    let spec = PolicySpec { scale_down: DirectionSpec { stabilization_window: secs(60), ..open().scale_down }, ..open() };
    let mut fixture = Fixture::new(spec, 10);
    for _ in 0..30 {
        let decision = fixture.decide_with(&[fixture.missing("rule")]);
        assert_eq!(decision.desired, Some(10));
        fixture.advance(10);
    }
    for _ in 0..5 {
        assert_eq!(fixture.decide_and_apply(3.0).reason, Reason::StabilizedDown);
        fixture.advance(10);
    }
    assert_eq!(fixture.decide_and_apply(3.0).desired, Some(3));
}

/// Guarantees: evidence that is old, small, unsure, incomplete or provisional stops what it must not carry, and nothing else.
#[test]
fn evidence_is_gated() {
    type Change = fn(&mut Evidence);
    let cases: [(Change, f64, Reason); 9] = [
        (|e| e.age_seconds = Some(200.0), 2.0, Reason::DataMissing),
        (|e| e.presence = Some(Presence::Missing), 2.0, Reason::DataMissing),
        (|e| e.n_eff = Some(25.0), 2.0, Reason::TooFewSamples),
        (|e| e.n_eff = Some(25.0), 8.0, Reason::DemandAbove),
        (|e| e.n_eff = Some(5.0), 8.0, Reason::TooFewSamples),
        (|e| e.completeness = Some(0.5), 2.0, Reason::Incomplete),
        (|e| e.completeness = Some(0.5), 8.0, Reason::DemandAbove),
        (|e| e.is_final = Some(false), 2.0, Reason::NotFinal),
        (|e| e.is_final = None, 2.0, Reason::FinalityUnknown),
    ];
    for (index, (change, demand, reason)) in cases.into_iter().enumerate() {
        let mut fixture = Fixture::new(open(), 4);
        let mut proposal = fixture.proposal("rule", Demand::Replicas(demand));
        change(&mut proposal.evidence);
        assert_eq!(fixture.decide_with(&[proposal]).reason, reason, "case {index}");
    }
    // An idle service has neither samples nor fresh rows, and that is a fact.
    let mut fixture = Fixture::new(open(), 4);
    let mut idle = fixture.proposal("rule", Demand::Replicas(0.0));
    idle.evidence = Evidence { presence: Some(Presence::Idle), n_eff: Some(0.0), age_seconds: Some(9999.0), ..idle.evidence };
    assert_eq!(fixture.decide_with(&[idle]).desired, Some(1));
    // A limit that is written down also stops rows that do not state the figure.
    let gates = GatesSpec { min_confidence_up: Some(0.5), ..GatesSpec::default() };
    assert_eq!(Fixture::new(PolicySpec { gates, ..open() }, 4).decide(8.0).reason, Reason::LowConfidence);
}

/// Guarantees: of a provisional and an older final row of one rule, up takes the newer only, down needs the final one and goes no
/// lower than both; what only the older one wants more of is kept from going down.
#[test]
fn provisional_and_final_rows_meet() {
    let cases =
        [(8.0, 2.0, Some(8)), (2.0, 8.0, Some(5)), (5.0, 8.0, Some(5)), (1.0, 2.0, Some(2)), (3.0, 2.0, Some(3)), (2.0, 5.0, Some(5))];
    for (provisional, last, desired) in cases {
        let mut fixture = Fixture::new(open(), 5);
        let mut early = fixture.proposal("rule", Demand::Replicas(provisional));
        early.evidence.is_final = Some(false);
        let mut complete = fixture.proposal("rule", Demand::Replicas(last));
        complete.evidence.window_end = Some(fixture.now - secs(50));
        let proposals = [early, complete];
        assert_eq!(fixture.decide_with(&proposals).desired, desired, "{provisional} after {last}");
    }
}

/// Guarantees: a change is believed when it was demanded often enough in the window, and one evaluation counts once.
#[test]
fn conditions_count_evaluations() {
    let spec = PolicySpec { condition: Some(ConditionSpec { times: 3, window: secs(30) }), ..open() };
    let mut fixture = Fixture::new(spec, 4);
    for _ in 0..3 {
        assert_eq!(fixture.decide(8.0).reason, Reason::ConditionPending, "the same evaluation counts once");
    }
    fixture.advance(10);
    assert_eq!(fixture.decide(8.0).reason, Reason::ConditionPending);
    fixture.advance(25);
    assert_eq!(fixture.decide(8.0).reason, Reason::ConditionPending, "the first one is too old");
    fixture.advance(1);
    assert_eq!(fixture.decide(8.0).desired, Some(8));
}

/// Guarantees: the highest priority with an answer is obeyed, among equals the largest, and everybody's answer is listed.
#[test]
fn rules_are_ranked() {
    let mut fixture = Fixture::new(open(), 5);
    let spec = |priority, on_missing| PolicySpec { priority, on_missing, ..open() };
    fixture.rules = vec![
        rule("low", Mode::Enforce, spec(0, OnMissing::Hold)),
        rule("high-a", Mode::Enforce, spec(9, OnMissing::Skip)),
        rule("high-b", Mode::Enforce, spec(9, OnMissing::Skip)),
        rule("trial", Mode::Recommend, spec(99, OnMissing::Hold)),
        rule("off", Mode::Off, spec(99, OnMissing::Hold)),
    ];
    let say = |fixture: &Fixture, rule: &str, demand: f64| fixture.proposal(rule, Demand::Replicas(demand));
    let all = [say(&fixture, "low", 50.0), say(&fixture, "high-a", 7.0), say(&fixture, "high-b", 9.0), say(&fixture, "trial", 90.0)];
    let decision = fixture.decide_with(&all);
    assert_eq!(decision.chosen_rule.as_ref().map(RuleName::as_str), Some("high-b"));
    assert_eq!(decision.desired, Some(9));
    let verdicts: Vec<_> = decision.considered.iter().map(|c| (c.rule.as_str(), c.verdict)).collect();
    assert_eq!(
        verdicts,
        [
            ("low", Verdict::Outranked),
            ("high-a", Verdict::Outvoted),
            ("high-b", Verdict::Chosen),
            ("trial", Verdict::NotEnforced),
            ("off", Verdict::Off)
        ]
    );
    assert!(decision.is_conflict());
    fixture.carry_out(&decision);
    fixture.advance(5);
    let only_low = [say(&fixture, "low", 3.0)];
    assert_eq!(fixture.decide_with(&only_low).desired, Some(3), "rules that skip let the lower priority decide");
}

/// Guarantees: as with the HPA's failed metrics, a rule without data vetoes scaling down but not scaling up.
#[test]
fn a_missing_rule_vetoes_scaling_down() {
    for (demand, desired, reason) in [(3.0, Some(5), Reason::DataMissing), (8.0, Some(8), Reason::DemandAbove)] {
        let mut fixture = Fixture::new(open(), 5);
        fixture.rules.push(rule("silent", Mode::Enforce, open()));
        let proposals = [fixture.proposal("rule", Demand::Replicas(demand)), fixture.missing("silent")];
        let decision = fixture.decide_with(&proposals);
        assert_eq!((decision.desired, decision.reason), (desired, reason));
    }
}

/// Guarantees: a step is cut, a cooldown holds its direction, and scaling down also waits after scaling up.
#[test]
fn steps_and_cooldowns_limit() {
    let up = DirectionSpec { step_limit: Some(3), cooldown: secs(30), ..open().scale_up };
    let down = DirectionSpec { step_limit: Some(1), cooldown: secs(60), ..open().scale_down };
    let mut fixture = Fixture::new(PolicySpec { scale_up: up, scale_down: down, ..open() }, 4);
    let decision = fixture.decide_and_apply(50.0);
    assert_eq!((decision.desired, decision.reason), (Some(7), Reason::StepLimited));
    fixture.advance(29);
    assert_eq!(fixture.decide_and_apply(50.0).reason, Reason::CoolingDown);
    assert_eq!(fixture.decide_and_apply(1.0).reason, Reason::CoolingDown);
    fixture.advance(1);
    assert_eq!(fixture.decide_and_apply(50.0).desired, Some(10));
    fixture.advance(60);
    assert_eq!(fixture.decide_and_apply(1.0).desired, Some(9));
}

/// Guarantees: bounds hold whatever else does, also without data, and say whose they are; crossing ones are reported.
#[test]
fn bounds_have_the_last_word() {
    let mut fixture = Fixture::new(PolicySpec { min: 3, max: 8, ..open() }, 1);
    assert_eq!(reasons(&fixture.decide_with(&[])), ["data_missing", "below_min"]);
    fixture.current = 20;
    fixture.decider = Decider::new();
    let decision = fixture.decide(50.0);
    assert_eq!((decision.desired, decision.action, decision.reason), (Some(8), Action::ScaleDown, Reason::AboveMax));
    fixture.rules.push(rule("other", Mode::Enforce, PolicySpec { min: 10, max: 12, ..open() }));
    fixture.decider = Decider::new();
    let decision = fixture.decide_with(&[fixture.proposal("rule", Demand::Replicas(50.0))]);
    assert_eq!(decision.bounds, Bounds { min: 10, max: 10 });
    assert_eq!((decision.desired, decision.reason), (Some(10), Reason::BoundsCrossed));
}

/// Guarantees: active schedules take the place of the policy's bounds; overlapping ones give the highest min and the lowest max.
#[test]
fn schedules_set_bounds() {
    let schedule = |name: &str, min, max| ScheduleSpec {
        name: name.into(),
        cron: "0 8 * * *".into(),
        timezone: "UTC".into(),
        duration: secs(3600),
        min,
        max,
    };
    let spec =
        PolicySpec { min: 5, max: 10, schedules: vec![schedule("a", Some(2), Some(30)), schedule("b", Some(3), Some(20))], ..open() };
    let mut fixture = Fixture::new(spec, 6);
    assert_eq!(fixture.decide(1.0).bounds, Bounds { min: 3, max: 20 }, "the fixture's clock stands at eight");
    fixture.decider = Decider::new();
    assert_eq!(fixture.decide(1.0).reason, Reason::ScheduledMin);
    fixture.decider = Decider::new();
    assert_eq!(fixture.decide(90.0).steps.last().map(|step| (step.guard, step.reason)), Some((Guard::Schedule, Reason::ScheduledMax)));
    fixture.decider = Decider::new();
    fixture.advance(3600);
    assert_eq!(fixture.decide(1.0).bounds, Bounds { min: 5, max: 10 });
}

/// Guarantees: a clock that jumps, either way, neither expires nor freezes what is remembered, and says so.
#[test]
fn clock_jumps_change_nothing() {
    let spec =
        PolicySpec { scale_down: DirectionSpec { stabilization_window: secs(60), cooldown: secs(90), ..open().scale_down }, ..open() };
    for jump in [-86_400_i64, -1, 3600, 86_400 * 365] {
        let mut fixture = Fixture::new(spec.clone(), 4);
        fixture.decide_and_apply(10.0);
        for _ in 0..4 {
            fixture.advance(5);
            fixture.decide_and_apply(10.0);
        }
        fixture.now = Timestamp::from_secs(fixture.now.as_nanos() / 1_000_000_000 + jump);
        let decision = fixture.decide_and_apply(2.0);
        let expected = if jump < 0 { Reason::ClockWentBack } else { Reason::ClockJumpedAhead };
        assert_eq!(decision.steps[0].reason, expected, "{jump}");
        assert_eq!((decision.desired, decision.reason), (Some(10), Reason::StabilizedDown), "{jump}");
        let mut waited = 0;
        while fixture.current == 10 {
            fixture.advance(5);
            waited += 5;
            fixture.decide_and_apply(2.0);
            assert!(waited <= 100, "frozen after {jump}");
        }
        assert!(waited >= 55, "{waited} s after {jump}");
    }
}

/// Guarantees: a rule that is asked rarely is not mistaken for a clock that jumps.
#[test]
fn a_slow_rule_is_no_jump() {
    for (every, jumps) in [(secs(600), false), (secs(5), true)] {
        let mut fixture = Fixture::new(open(), 4);
        fixture.rules[0].every = every;
        fixture.decide(4.0);
        fixture.advance(600);
        assert_eq!(fixture.decide(4.0).steps[0].reason == Reason::ClockJumpedAhead, jumps);
    }
}

/// Guarantees: a decision survives being written as JSON bit for bit, and is made again the same from it.
#[test]
fn records_replay() {
    let mut fixture = Fixture::new(PolicySpec { tolerance: 0.1 + 0.2, ..PolicySpec::default() }, 4);
    fixture.decide_and_apply(9.3);
    fixture.advance(7);
    let mut proposal = fixture.proposal("rule", Demand::Replicas(1.0 / 3.0 * 10.0));
    proposal.evidence.inputs = [("p99".to_owned(), Scalar::Float(0.1 + 0.7)), ("service".to_owned(), Scalar::Text("x".into()))].into();
    let decision = fixture.decide_with(&[proposal]);
    let text = serde_json::to_string(&decision).unwrap();
    let back: Decision = serde_json::from_str(&text).unwrap();
    assert_eq!(back, decision);
    assert_eq!(back.replay(), decision);
}

proptest! {
    /// Guarantees: the figures of a record come back from JSON to the last bit.
    #[test]
    fn figures_survive_json(bits in any::<u64>()) {
        let demand = Demand::from_column(Some(f64::from_bits(bits).abs()));
        let text = serde_json::to_string(&demand).unwrap();
        prop_assert_eq!(serde_json::from_str::<Demand>(&text).unwrap(), demand);
        let fraction = Demand::from_column(Some(f64::from(u32::try_from(bits % 1_000_003).unwrap()) / 1000.7));
        let text = serde_json::to_string(&fraction).unwrap();
        prop_assert_eq!(serde_json::from_str::<Demand>(&text).unwrap(), fraction);
    }
}

/// Guarantees: labels are unique and what serde writes.
#[test]
fn labels_are_stable() {
    let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{reason}\""));
    }
}
