//! What the guards guarantee that use what is known beside the rule.

use proptest::prelude::*;

use super::tests::{Fixture, open, secs};
use super::*;
use crate::budget::BudgetShare;
use crate::cascade::Hold;
use crate::invariant;
use crate::policy::{CauseGuard, ControlSpec, DirectionSpec, GatesSpec, OnMissing, PolicySpec};

/// Window of all diagnoses here.
pub(super) const WINDOW: u64 = 60;

/// A diagnosis of the last minute: so many of a thousand requests were slow, and the utilization.
pub(super) fn diagnosis(now: Timestamp, slow: u64, utilization: f64) -> Diagnosis {
    let counts = Diagnosis::new(now, secs(WINDOW));
    Diagnosis { requests: Some(1000), violations: Some(slow), errors: Some(0), utilization: Some(utilization), ..counts }
}

pub(super) fn context(diagnosis: Diagnosis) -> Context {
    Context { diagnosis: Some(diagnosis), ..Context::default() }
}

pub(super) fn controlled(control: ControlSpec) -> PolicySpec {
    PolicySpec { control, ..open() }
}

/// A target whose rule is asked once an hour at least, so that a long pause is no jump of the clock.
pub(super) fn patient(spec: PolicySpec, current: u32) -> Fixture {
    let mut fixture = Fixture::new(spec, current);
    fixture.rules[0].every = secs(3600);
    fixture
}

fn blamed(now: Timestamp, service: &str) -> Diagnosis {
    let cause = Cause { service: service.to_owned(), kind: "saturated".to_owned(), share: 0.8 };
    Diagnosis { cause: Some(cause), ..diagnosis(now, 200, 0.4) }
}

impl Fixture {
    pub(super) fn decide_in(&mut self, demand: f64, context: Context) -> Decision {
        let proposal = self.proposal("rule", Demand::Replicas(demand));
        self.decide_all(&[proposal], context)
    }

    pub(super) fn decide_all(&mut self, proposals: &[Proposal], context: Context) -> Decision {
        let observed = self.observed();
        let preview = self.decider.preview(self.now, &self.target, &observed, &self.rules, proposals, context.clone());
        let decision = self.decider.decide_in(self.now, &self.target, &observed, &self.rules, proposals, context);
        invariant::check(&decision).unwrap();
        assert_eq!(preview, decision, "a preview is the decision");
        assert_eq!(decision.replay(), decision);
        let back: Decision = serde_json::from_str(&serde_json::to_string(&decision).unwrap()).unwrap();
        assert_eq!(back, decision);
        decision
    }

    /// Decides on a diagnosis and carries the order out.
    pub(super) fn act(&mut self, demand: f64, slow: u64, utilization: f64) -> Decision {
        let decision = self.decide_in(demand, context(diagnosis(self.now, slow, utilization)));
        self.carry_out(&decision);
        decision
    }

    fn ready(&mut self, ready: u32) {
        self.ready = Some(ready);
    }
}

/// Guarantees: a scale-up that another service should have is blocked, and the decision names that service.
#[test]
fn the_cause_is_scaled_instead() {
    let mut fixture = patient(open(), 4);
    let decision = fixture.decide_in(8.0, context(blamed(fixture.now, "db")));
    assert_eq!((decision.desired, decision.reason, decision.action), (Some(4), Reason::DownstreamBound, Action::None));
    assert!(decision.steps.last().unwrap().detail.contains("db (saturated) is behind 80 %"), "{:?}", decision.steps);
    let mut noted = patient(controlled(ControlSpec { cause: CauseGuard::Note, ..ControlSpec::default() }), 4);
    let decision = noted.decide_in(8.0, context(blamed(noted.now, "db")));
    assert_eq!((decision.desired, decision.reason), (Some(8), Reason::DemandAbove), "a note sets nothing");
    assert!(decision.steps.iter().any(|step| step.reason == Reason::DownstreamBound));
    let futile = Diagnosis { cause: None, futile: Some(true), ..blamed(fixture.now, "db") };
    assert_eq!(fixture.decide_in(8.0, context(futile)).reason, Reason::ScalingFutile);
}

/// Guarantees: nothing is blocked on thin or old evidence, for the service's own fault, for its own load, or on the way down.
#[test]
fn a_cause_needs_evidence() {
    type Change = fn(&mut Diagnosis);
    let cases: [(&str, Change); 11] = [
        ("no cause", |d| d.cause = None),
        ("its own fault", |d| d.cause.as_mut().unwrap().service = "checkout".to_owned()),
        ("a small part", |d| d.cause.as_mut().unwrap().share = 0.4),
        ("no number", |d| d.cause.as_mut().unwrap().share = f64::NAN),
        ("loaded", |d| d.utilization = Some(0.7)),
        ("loaded for its kind", |d| (d.utilization, d.safe_utilization) = (Some(0.45), Some(0.4))),
        ("load unknown", |d| d.utilization = None),
        ("a queue of its own", |d| d.queue_share = Some(0.4)),
        ("few requests", |d| d.requests = Some(99)),
        ("few slow ones", |d| d.violations = Some(9)),
        ("old", |d| d.at = d.at - secs(181)),
    ];
    for (name, change) in cases {
        let mut fixture = patient(controlled(ControlSpec { reactive: false, ..ControlSpec::default() }), 4);
        let mut diagnosis = blamed(fixture.now, "db");
        change(&mut diagnosis);
        assert_eq!(fixture.decide_in(8.0, context(diagnosis)).desired, Some(8), "{name}");
    }
    let mut off = patient(controlled(ControlSpec { cause: CauseGuard::Off, ..ControlSpec::default() }), 4);
    assert_eq!(off.decide_in(8.0, context(blamed(off.now, "db"))).steps.len(), 1);
    let mut down = patient(open(), 4);
    assert_eq!(down.decide_in(2.0, context(blamed(down.now, "db"))).desired, Some(2));
}

/// Guarantees: violations on a loaded service raise the capacity by three tenths, once, and only with evidence for both.
#[test]
fn violations_raise_beyond_the_rule() {
    let mut fixture = patient(open(), 10);
    let decision = fixture.decide_in(9.5, context(diagnosis(fixture.now, 30, 0.9)));
    assert_eq!((decision.desired, decision.reason), (Some(13), Reason::ViolationsHigh));
    for (slow, utilization) in [(30, 0.6), (14, 0.9), (0, 0.99)] {
        let mut fixture = patient(open(), 10);
        assert_eq!(fixture.decide_in(10.0, context(diagnosis(fixture.now, slow, utilization))).desired, Some(10), "{slow} {utilization}");
    }
    let mut off = patient(controlled(ControlSpec { reactive: false, ..ControlSpec::default() }), 10);
    assert_eq!(off.decide_in(10.0, context(diagnosis(off.now, 300, 0.99))).desired, Some(10));
    // Until the new replicas serve, and a window has seen that, nothing is added to them.
    let mut fixture = patient(open(), 10);
    assert_eq!(fixture.act(10.0, 300, 0.9).desired, Some(13));
    for (after, desired) in [(30, 13), (60 + WINDOW - 1, 13), (60 + WINDOW, 17)] {
        let mut later = Fixture { now: fixture.now + secs(after), decider: fixture.decider.clone(), ..patient(open(), 13) };
        assert_eq!(later.decide_in(13.0, context(diagnosis(later.now, 300, 0.9))).desired, Some(desired), "{after} s later");
    }
}

/// Guarantees: the way down waits after a new version, and no longer than the policy says.
#[test]
fn a_new_version_delays_the_way_down() {
    for (ago, desired) in [(899, 8), (900, 4)] {
        let mut fixture = patient(open(), 8);
        let deployed = Diagnosis { deployed_at: Some(fixture.now - secs(ago)), ..Diagnosis::new(fixture.now, secs(WINDOW)) };
        let decision = fixture.decide_in(4.0, context(deployed.clone()));
        assert_eq!(decision.desired, Some(desired), "{ago} s ago");
        assert_eq!(decision.reason == Reason::RecentlyDeployed, desired == 8);
        assert_eq!(patient(open(), 8).decide_in(9.0, context(deployed)).desired, Some(9), "the way up is free");
    }
}

/// Guarantees: a service that reports far less than its callers sent does not go down, and may go up.
#[test]
fn lost_telemetry_is_no_lost_load() {
    for (heard, desired) in [(Some(0.39), 8), (Some(0.41), 4), (None, 4)] {
        let mut fixture = patient(open(), 8);
        let reported = Diagnosis { heard, ..Diagnosis::new(fixture.now, secs(WINDOW)) };
        let decision = fixture.decide_in(4.0, context(reported.clone()));
        assert_eq!((decision.desired, decision.reason == Reason::RequestsUnheard), (Some(desired), desired == 8), "{heard:?}");
        assert_eq!(patient(open(), 8).decide_in(9.0, context(reported)).desired, Some(9));
    }
}

/// Guarantees: while replicas are silent there is no way down, the decision says how many they are, and the way up is free; what
/// is old says nothing.
#[test]
fn silent_replicas_delay_the_way_down() {
    let two = Some(Silent { instances: 2, ready: 8 });
    for (silent, ago, desired) in [(two, 0, 8), (None, 0, 4), (Some(Silent { instances: 0, ready: 8 }), 0, 4), (two, 181, 4)] {
        let mut fixture = patient(open(), 8);
        let known = Diagnosis { silent, ..Diagnosis::new(fixture.now - secs(ago), secs(WINDOW)) };
        let decision = fixture.decide_in(4.0, context(known.clone()));
        assert_eq!((decision.desired, decision.reason == Reason::InstancesSilent), (Some(desired), desired == 8), "{silent:?} {ago}");
        if desired == 8 {
            assert!(decision.steps.iter().any(|step| step.detail.starts_with("2 of 8 ready replicas")), "{:?}", decision.steps);
        }
        assert_eq!(patient(open(), 8).decide_in(9.0, context(known)).desired, Some(9));
    }
}

/// Guarantees: while spans account for less than seven tenths of the requests that metrics count there is no way down, the decision
/// says so, and the way up is free; what is old, more than is measured, or no number says nothing.
#[test]
fn sampled_traces_are_no_lost_load() {
    for (traced, ago, desired) in [
        (Some(0.1), 0, 8),
        (Some(0.69), 0, 8),
        (Some(0.7), 0, 4),
        (Some(1.4), 0, 4),
        (None, 0, 4),
        (Some(f64::NAN), 0, 4),
        (Some(0.1), 181, 4),
    ] {
        let mut fixture = patient(open(), 8);
        let known = Diagnosis { traced, ..Diagnosis::new(fixture.now - secs(ago), secs(WINDOW)) };
        let decision = fixture.decide_in(4.0, context(known.clone()));
        assert_eq!((decision.desired, decision.reason == Reason::TracesSampled), (Some(desired), desired == 8), "{traced:?} {ago}");
        if traced == Some(0.1) && ago == 0 {
            assert!(decision.steps.iter().any(|step| step.detail.starts_with("spans account for 10 %")), "{:?}", decision.steps);
        }
        assert_eq!(patient(open(), 8).decide_in(9.0, context(known)).desired, Some(9));
    }
}

/// Guarantees: replicas that do not start within three start-ups are replaced, within bounds; those that start are not.
#[test]
fn lost_starts_are_replaced() {
    let mut fixture = patient(open(), 10);
    fixture.ready(8);
    for _ in 0..18 {
        assert_eq!(fixture.decide_and_apply(10.0).desired, Some(10));
        fixture.advance(10);
    }
    assert_eq!(fixture.decide_and_apply(10.0).desired, Some(10), "three start-ups to the second");
    fixture.advance(10);
    let decision = fixture.decide_and_apply(10.0);
    assert_eq!((decision.desired, decision.reason), (Some(12), Reason::StartLost));
    // Where nothing starts any more it does not grow without end.
    for _ in 0..200 {
        fixture.advance(10);
        fixture.decide_and_apply(10.0);
        assert!(fixture.current <= 13, "{}", fixture.current);
    }
    // Once enough serve, the lost ones are let go.
    fixture.ready(10);
    fixture.advance(10);
    assert_eq!(fixture.decide_and_apply(10.0).desired, Some(10));
    let mut starting = patient(open(), 10);
    for ready in 2..10 {
        starting.ready(ready);
        starting.advance(100);
        assert_eq!(starting.decide_and_apply(10.0).desired, Some(10), "one after the other");
    }
}

/// Guarantees: with `usual`, missing data never scale down: first what was demanded last, later what is usual at the hour; and
/// after the outage the way down waits for a quarter of an hour of data.
#[test]
fn missing_data_fall_back_on_what_is_usual() {
    let on_missing = OnMissing::Usual { after: OnMissing::USUAL_AFTER };
    let spec = PolicySpec { on_missing, scale_up: DirectionSpec { step_limit: Some(4), ..open().scale_up }, ..open() };
    let usual = |replicas| Context { usual: replicas, ..Context::default() };
    let mut fixture = patient(spec, 10);
    assert_eq!(fixture.decide_and_apply(16.0).desired, Some(14), "limited: 16 were demanded");
    fixture.advance(10);
    let decision = fixture.decide_all(&[], usual(Some(20)));
    assert_eq!((decision.desired, decision.reason), (Some(16), Reason::FallbackLastDemand));
    fixture.carry_out(&decision);
    let decision = fixture.decide_all(&[], usual(Some(20)));
    assert_eq!((decision.desired, decision.reason, decision.action), (Some(16), Reason::DataMissing, Action::Hold));
    for _ in 0..41 {
        fixture.advance(10);
        let decision = fixture.decide_all(&[], usual(Some(20)));
        assert_eq!(decision.desired, Some(16));
    }
    fixture.advance(10);
    assert_eq!(fixture.decide_all(&[], usual(None)).desired, Some(16), "nobody knows what is usual");
    assert_eq!(fixture.decide_all(&[], usual(Some(12))).desired, Some(16), "less than there is");
    let decision = fixture.decide_all(&[], usual(Some(19)));
    assert_eq!((decision.desired, decision.reason), (Some(19), Reason::FallbackUsual));
    fixture.carry_out(&decision);
    for _ in 0..89 {
        fixture.advance(10);
        assert_eq!(fixture.decide_and_apply(5.0).reason, Reason::Recovering);
    }
    fixture.advance(10);
    assert_eq!(fixture.decide_and_apply(5.0).desired, Some(5));
}

/// Guarantees: evidence may be too old to scale down on and still good enough to scale up.
#[test]
fn the_way_down_can_ask_for_newer_evidence() {
    let gates = GatesSpec { max_age_down: Some(secs(30)), ..GatesSpec::default() };
    for (age, demand, desired) in [(Some(31.0), 2.0, 4), (None, 2.0, 4), (Some(30.0), 2.0, 2), (Some(31.0), 8.0, 8)] {
        let mut fixture = patient(PolicySpec { gates: gates.clone(), ..open() }, 4);
        let mut proposal = fixture.proposal("rule", Demand::Replicas(demand));
        proposal.evidence.age_seconds = age;
        let decision = fixture.decide_all(&[proposal], Context::default());
        assert_eq!(decision.desired, Some(desired), "{age:?}");
        assert_eq!(decision.reason == Reason::TooOldToScaleDown, demand < 4.0 && desired == 4);
    }
}

/// Guarantees: a budget stops growth at what it leaves and nothing else, and the wish stays known.
#[test]
fn budgets_limit_growth() {
    for (allowed, demand, desired) in [(6, 9.0, 6), (3, 9.0, 4), (3, 2.0, 2), (9, 9.0, 9)] {
        let mut fixture = patient(open(), 4);
        let context = Context { budget: Some(BudgetShare { name: "shop".to_owned(), allowed }), ..Context::default() };
        let decision = fixture.decide_in(demand, context);
        assert_eq!(decision.desired, Some(desired), "{allowed}");
        assert_eq!(decision.reason == Reason::BudgetExhausted, f64::from(desired) < demand);
        assert_eq!(decision.wish().map(f64::from), Some(demand));
    }
    let least = PolicySpec { min: 7, ..open() };
    let context = Context { budget: Some(BudgetShare { name: "shop".to_owned(), allowed: 1 }), ..Context::default() };
    assert_eq!(patient(least, 4).decide_in(9.0, context).desired, Some(7), "the min is not for sale");
}

/// Guarantees: a change waits for the one that must come first, in its direction and until its time.
#[test]
fn changes_wait_for_their_turn() {
    use crate::policy::Direction::{Down, Up};
    for (direction, left, demand, reason) in [
        (Up, 60, 8.0, Reason::WaitsForDownstream),
        (Up, 0, 8.0, Reason::DemandAbove),
        (Up, 60, 2.0, Reason::DemandBelow),
        (Down, 60, 2.0, Reason::WaitsForUpstream),
        (Down, 60, 8.0, Reason::DemandAbove),
    ] {
        let mut fixture = patient(open(), 4);
        let hold = Hold { behind: TargetName::try_new("db").unwrap(), direction, until: fixture.now + secs(left) };
        let decision = fixture.decide_in(demand, Context { hold: Some(hold), ..Context::default() });
        assert_eq!(decision.reason, reason);
        assert_eq!(decision.wish().map(f64::from), Some(demand), "what it waits with stays known");
    }
}

/// Guarantees: records of the time before there were contexts, lessons and their policies are still read, and mean the same.
#[test]
fn old_records_are_read() {
    let mut fixture = patient(open(), 4);
    let decision = fixture.decide_and_apply(9.0);
    let text = serde_json::to_string(&decision).unwrap();
    for field in ["context", "lessons", "control", "maxAgeDown"] {
        assert!(!text.contains(&format!("\"{field}\"")), "{field} is not written where it says nothing");
    }
    let back: Decision = serde_json::from_str(&text).unwrap();
    assert_eq!((back.replay(), back.inputs.context.clone()), (decision, Context::default()));
}

/// Any context, also nonsense.
fn contexts(now: Timestamp) -> impl Strategy<Value = Context> {
    let counts = (0_u64..3000, 0_u64..600, 0_u64..200, prop::option::of(-0.1_f64..1.5), prop::option::of(-0.1_f64..1.2));
    let cause = prop::option::of((prop::sample::select(vec!["db", "checkout"]), 0.0_f64..1.2));
    let rest = (
        0_i64..400,
        prop::option::of(0_i64..2000),
        prop::option::of(any::<bool>()),
        prop::option::of(0_u32..4),
        prop::option::of(0.0_f64..1.5),
    );
    let diagnosis = (counts, cause, rest).prop_map(
        move |((requests, slow, errors, own, objective), cause, (age, deployed, futile, silent, traced))| {
            let before = |seconds: i64| Timestamp::from_secs(now.as_nanos() / 1_000_000_000 - seconds);
            Diagnosis {
                requests: Some(requests),
                violations: Some(slow),
                errors: Some(errors),
                utilization: own,
                objective,
                cause: cause.map(|(service, share)| Cause { service: service.to_owned(), kind: "slow".to_owned(), share }),
                futile,
                silent: silent.map(|instances| Silent { instances, ready: 8 }),
                traced,
                deployed_at: deployed.map(before),
                ..Diagnosis::new(before(age), secs(WINDOW))
            }
        },
    );
    let budget = prop::option::of((0_u32..30).prop_map(|allowed| BudgetShare { name: "shop".to_owned(), allowed }));
    let hold = prop::option::of((any::<bool>(), 0_u64..100).prop_map(move |(up, left)| {
        let direction = if up { crate::policy::Direction::Up } else { crate::policy::Direction::Down };
        Hold { behind: TargetName::try_new("db").unwrap(), direction, until: now + secs(left) }
    }));
    (prop::option::of(diagnosis), prop::option::of(0_u32..40), budget, hold).prop_map(|(diagnosis, usual, budget, hold)| Context {
        diagnosis,
        usual,
        budget,
        hold,
    })
}

proptest! {
    /// Guarantees: whatever is said beside the rules, every invariant holds, what is recorded survives JSON, and a replay is
    /// the same decision to the bit.
    #[test]
    fn any_context_keeps_the_invariants(
        steps in prop::collection::vec((prop::option::of(0.0_f64..40.0), 1_u64..130, prop::option::of(0_u32..40), any::<prop::sample::Index>()), 1..30),
        pool in prop::collection::vec(contexts(Timestamp::from_secs(1_800_000_000)), 4),
        usual in any::<bool>(),
    ) {
        let on_missing = if usual { OnMissing::Usual { after: secs(120) } } else { OnMissing::Hold };
        let spec = PolicySpec { on_missing, min: 2, max: 30, ..PolicySpec::default() };
        let start = Timestamp::from_secs(1_800_000_000);
        let mut fixture = patient(spec, 8);
        for (demand, wait, ready, index) in steps {
            fixture.advance(wait);
            fixture.ready = ready;
            let mut context = pool[index.index(pool.len())].clone();
            if let Some(diagnosis) = &mut context.diagnosis {
                diagnosis.at = diagnosis.at + fixture.now.since(start);
            }
            let proposals: Vec<_> = demand.map(|demand| fixture.proposal("rule", Demand::Replicas(demand))).into_iter().collect();
            let decision = fixture.decide_all(&proposals, context);
            fixture.carry_out(&decision);
        }
    }
}
