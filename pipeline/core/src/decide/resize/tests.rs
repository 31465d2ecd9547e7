//! What the decider guarantees about resources.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::capacity::{Capacity, Observed};
use crate::decide::tests::secs;
use crate::decide::{Applied, Decider, Decision, Demand, Evidence, Proposal};
use crate::invariant;
use crate::policy::{DirectionSpec, OnMissing, Policy, PolicySpec, RangeSpec, VerticalSpec};
use crate::target::{ServiceSelector, TargetName, TargetSpec};

const MIB: u64 = 1 << 20;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// A target that obeys at once, one rule, and what the rule says.
struct Fixture {
    decider: Decider,
    target: TargetSpec,
    rules: Vec<RuleRef>,
    now: Timestamp,
    replicas: u32,
    resources: Resources,
    differing: u32,
    template: Resources,
    demand: Option<f64>,
    wish: Wish,
}

fn resources(cpu: u64, mib: u64) -> Resources {
    Resources { cpu: Some(cpu), memory: Some(mib * MIB), memory_limit: None }
}

fn wish(cpu: u64, mib: u64) -> Wish {
    Wish { resources: resources(cpu, mib), ..Wish::default() }
}

fn vertical(mode: Mode) -> VerticalSpec {
    VerticalSpec {
        mode,
        cpu: RangeSpec { min: 50, max: Some(4000) },
        memory: RangeSpec { min: 64 * MIB, max: Some(4096 * MIB) },
        ..VerticalSpec::default()
    }
}

fn rule(name: &str, mode: Mode, vertical: VerticalSpec) -> RuleRef {
    let at_once = DirectionSpec { stabilization_window: Duration::ZERO, policies: Vec::new(), ..DirectionSpec::up() };
    let (scale_up, scale_down) = (at_once.clone(), at_once);
    let spec = PolicySpec { scale_up, scale_down, on_missing: OnMissing::Skip, vertical, ..PolicySpec::default() };
    RuleRef { name: RuleName::try_new(name).unwrap(), mode, every: secs(60), policy: Arc::new(Policy::try_new(spec).unwrap()) }
}

impl Fixture {
    fn new(current: Resources, wish: Wish) -> Self {
        let target = TargetSpec::in_memory(
            TargetName::try_new("checkout").unwrap(),
            ServiceSelector { service_name: "checkout".into(), service_namespace: None },
            4,
        );
        Self {
            decider: Decider::new(),
            target,
            rules: vec![rule("rule", Mode::Enforce, vertical(Mode::Enforce))],
            now: Timestamp::from_secs(1_800_000_000),
            replicas: 4,
            resources: current,
            differing: 0,
            template: current,
            demand: None,
            wish,
        }
    }

    fn decide(&mut self) -> Decision {
        let observed = Observed {
            resources: self.resources,
            differing: self.differing,
            template: self.template,
            ..Observed::replicas(self.replicas, None, self.now)
        };
        let proposals = self.rules.iter().map(|rule| {
            let evidence = Evidence {
                is_final: Some(true),
                age_seconds: Some(1.0),
                wish: Some(self.wish).filter(|wish| *wish != Wish::default()),
                ..Evidence::default()
            };
            Proposal::new(rule.name.clone(), self.now, Demand::from_column(self.demand), evidence)
        });
        let proposals: Vec<Proposal> = proposals.collect();
        let decision = self.decider.decide(self.now, &self.target, &Ok(observed), &self.rules, &proposals);
        invariant::check(&decision).unwrap();
        assert_eq!(decision.replay(), decision);
        let text = serde_json::to_string(&decision).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
        decision
    }

    fn reason(&mut self) -> ResizeReason {
        self.decide().resize.unwrap().reason
    }

    /// Carries out whatever is ordered.
    fn obey(&mut self, decision: &Decision) {
        let Some(Capacity { replicas, resources, .. }) = decision.capacity() else { return };
        if let Some(replicas) = replicas {
            self.replicas = replicas;
            self.decider.applied(self.now, &self.target.name, Applied::Done { replicas });
        }
        if !resources.is_empty() {
            self.resources = resources.or(self.resources);
            self.decider.resized(self.now, &self.target.name, Resized::Done { resources });
        }
    }

    fn run(&mut self) -> Decision {
        let decision = self.decide();
        self.obey(&decision);
        decision
    }

    /// Time passes with decisions as usual, so that it does not look like a clock that jumped.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + secs(seconds);
        while self.now + secs(60) < end {
            self.now = self.now + secs(60);
            self.decide();
            self.decider.resized(self.now, &self.target.name, Resized::Failed);
            self.decider.applied(self.now, &self.target.name, Applied::Failed);
        }
        self.now = end;
    }

    /// As [`Fixture::pass`], with everything carried out.
    fn live(&mut self, seconds: u64) -> Vec<Decision> {
        let end = self.now + secs(seconds);
        let mut decisions = Vec::new();
        while self.now < end {
            self.now = self.now + secs(300);
            decisions.push(self.run());
        }
        decisions
    }
}

/// Guarantees: a wish becomes an order of both resources at once, and then there is nothing to do.
#[test]
fn a_wish_becomes_an_order() {
    let mut fixture = Fixture::new(resources(500, 512), wish(250, 1024));
    let decision = fixture.run();
    let resize = decision.resize.as_ref().unwrap();
    assert_eq!((resize.order(), resize.reason), (Some(resources(250, 1024)), ResizeReason::WishBelow));
    assert_eq!(decision.capacity(), Some(Capacity::resources(resources(250, 1024))));
    assert_eq!(decision.order(), None);
    assert_eq!(fixture.reason(), ResizeReason::WishMet);
}

/// Guarantees: without leave of the policy nothing is said, with leave to recommend nothing is ordered, and a rule that only
/// recommends cannot enforce resources.
#[test]
fn modes_are_kept() {
    let mut fixture = Fixture::new(resources(500, 512), wish(250, 1024));
    fixture.rules = vec![rule("rule", Mode::Enforce, VerticalSpec::default())];
    assert_eq!(fixture.decide().resize, None);
    for (of_rule, of_policy) in [(Mode::Enforce, Mode::Recommend), (Mode::Recommend, Mode::Enforce)] {
        fixture.rules = vec![rule("rule", of_rule, vertical(of_policy))];
        let decision = fixture.decide();
        let resize = decision.resize.as_ref().unwrap();
        assert_eq!((resize.mode, resize.desired, resize.order()), (Mode::Recommend, resources(250, 1024), None));
        assert_eq!(decision.capacity(), None);
    }
}

/// Guarantees: the policy's range holds for requests, and what is outside of it is changed however little it is.
#[test]
fn the_range_holds() {
    let mut fixture = Fixture::new(resources(3900, 66), wish(9000, 10));
    let resize = fixture.decide().resize.unwrap();
    let reasons: Vec<_> = resize.steps.iter().map(|step| (step.after, step.reason)).collect();
    assert_eq!(reasons, [(Some(3900), ResizeReason::SmallGain), (Some(66 * MIB), ResizeReason::SmallGain)]);
    fixture = Fixture::new(resources(4010, 63), wish(9000, 10));
    let resize = fixture.decide().resize.unwrap();
    assert_eq!((resize.desired, resize.reason), (resources(4000, 64), ResizeReason::AboveMax));
    assert_eq!(resize.steps[1].reason, ResizeReason::BelowMin);
}

/// Guarantees: a change of a tenth is too small, one above it is not, and bounds that the rule gives keep what is inside.
#[test]
fn small_changes_are_not_made() {
    let mut fixture = Fixture::new(resources(1000, 1000), wish(1100, 900));
    assert_eq!(fixture.reason(), ResizeReason::SmallGain);
    fixture.wish = wish(1101, 1000);
    assert_eq!(fixture.decide().resize.unwrap().desired, Resources { cpu: Some(1101), ..Resources::NONE });
    fixture = Fixture::new(resources(1000, 1000), wish(2000, 500));
    fixture.wish.lower = resources(900, 400);
    fixture.wish.upper = Resources { cpu: Some(3000), ..Resources::NONE };
    let resize = fixture.decide().resize.unwrap();
    assert_eq!((resize.desired, resize.reason), (Resources::NONE, ResizeReason::WithinBounds));
    fixture.wish.upper = resources(3000, 800);
    assert_eq!(fixture.decide().resize.unwrap().desired.memory, Some(500 * MIB));
}

/// Guarantees: the limit goes with the request: equal stays equal, a wish is obeyed, a proportion is kept, and it is never
/// below the request.
#[test]
fn the_limit_goes_with_the_request() {
    let limit = |before: Option<u64>, wished: Option<u64>| {
        let mut fixture = Fixture::new(resources(500, 1000), wish(500, 2000));
        fixture.resources.memory_limit = before.map(|mib| mib * MIB);
        fixture.wish.resources.memory_limit = wished.map(|mib| mib * MIB);
        fixture.decide().resize.unwrap().desired.memory_limit.map(|bytes| bytes / MIB)
    };
    assert_eq!(limit(Some(1000), Some(2400)), Some(2000));
    assert_eq!(limit(Some(1500), Some(2400)), Some(2400));
    assert_eq!(limit(Some(1500), None), Some(3000));
    assert_eq!(limit(None, Some(1)), Some(2000));
    assert_eq!(limit(None, None), None);
}

/// Guarantees: a resource that is not set is not set by us, and a wish that is missing or too old changes nothing.
#[test]
fn what_is_not_known_is_not_changed() {
    let mut fixture = Fixture::new(Resources { memory: Some(512 * MIB), ..Resources::NONE }, wish(250, 1024));
    let resize = fixture.decide().resize.unwrap();
    assert_eq!(resize.desired, Resources { memory: Some(1024 * MIB), ..Resources::NONE });
    assert_eq!(resize.steps[0].reason, ResizeReason::NotSet);
    fixture = Fixture::new(resources(500, 512), Wish::default());
    assert_eq!(fixture.reason(), ResizeReason::WishMissing);
    fixture = Fixture::new(Resources::NONE, wish(250, 1024));
    assert_eq!(fixture.reason(), ResizeReason::NotSet);
}

/// Guarantees: at most one change in the policy's pause, and the next one right after it.
#[test]
fn changes_keep_their_distance() {
    let mut fixture = Fixture::new(resources(500, 512), wish(1000, 512));
    assert!(fixture.run().capacity().is_some());
    fixture.wish = wish(2000, 512);
    let orders = fixture.live(12 * HOUR - 300).iter().filter(|decision| decision.capacity().is_some()).count();
    assert_eq!((orders, fixture.reason()), (0, ResizeReason::CoolingDown));
    assert!(fixture.live(120).iter().any(|decision| decision.capacity().is_some()));
    assert_eq!(fixture.resources.cpu, Some(2000));
}

/// Guarantees: after a kill memory is raised at once, alone, once, whatever the pauses say; and then not lowered for a week.
#[test]
fn a_kill_raises_memory_at_once() {
    let mut fixture = Fixture::new(resources(500, 512), wish(1000, 512));
    fixture.run();
    fixture.pass(600);
    fixture.wish = Wish { last_oom_age: Some(30), ..wish(2000, 540) };
    let decision = fixture.run();
    let resize = decision.resize.as_ref().unwrap();
    let raised = Resources { memory: Some(540 * MIB), ..Resources::NONE };
    assert_eq!((resize.order(), resize.reason), (Some(raised), ResizeReason::OutOfMemory));
    fixture.wish = Wish { last_oom_age: Some(31), ..wish(1000, 4000) };
    assert_eq!(fixture.reason(), ResizeReason::CoolingDown);
    fixture.wish = wish(1000, 128);
    let lowered = |decisions: &[Decision]| decisions.iter().any(|one| one.capacity().is_some());
    assert!(!lowered(&fixture.live(7 * DAY - 300)));
    assert_eq!(fixture.reason(), ResizeReason::AfterOutOfMemory);
    assert!(lowered(&fixture.live(300)));
    assert_eq!(fixture.resources.memory, Some(128 * MIB));
}

/// Guarantees: while replicas change, and for minutes after, resources do not, but for a kill.
#[test]
fn resources_wait_for_replicas() {
    let mut fixture = Fixture::new(resources(500, 512), wish(1000, 512));
    fixture.demand = Some(6.0);
    let decision = fixture.decide();
    assert_eq!((decision.order(), decision.resize.as_ref().unwrap().reason), (Some(6), ResizeReason::ReplicasChanging));
    assert_eq!(fixture.reason(), ResizeReason::Stopped);
    fixture.obey(&decision);
    assert_eq!(fixture.reason(), ResizeReason::ReplicasChanged);
    fixture.pass(240);
    assert_eq!(fixture.reason(), ResizeReason::ReplicasChanged);
    let mut killed = Fixture { decider: fixture.decider.clone(), ..Fixture::new(fixture.resources, wish(1000, 1024)) };
    (killed.now, killed.replicas, killed.demand) = (fixture.now + secs(5), 6, Some(6.0));
    killed.wish.last_oom_age = Some(3);
    assert_eq!(killed.reason(), ResizeReason::OutOfMemory);
    fixture.now = fixture.now + secs(60);
    assert!(fixture.run().resize.unwrap().order().is_some());
}

/// Guarantees: while resources change nothing else does; for minutes after no replica is taken away, but more may come.
#[test]
fn replicas_wait_for_resources() {
    let mut fixture = Fixture::new(resources(500, 512), wish(1000, 512));
    fixture.demand = Some(4.0);
    let decision = fixture.decide();
    fixture.demand = Some(8.0);
    assert_eq!((fixture.decide().reason, fixture.replicas), (Reason::ActionInFlight, 4));
    fixture.obey(&decision);
    fixture.demand = Some(2.0);
    let held = fixture.run();
    assert_eq!((held.order(), held.reason), (None, Reason::ResizeSettling));
    fixture.demand = Some(8.0);
    assert_eq!(fixture.run().order(), Some(8));
    fixture.demand = Some(2.0);
    assert_eq!(fixture.live(600).iter().filter_map(Decision::order).collect::<Vec<_>>(), [2]);
}

/// Guarantees: an order that failed is tried again after minutes, not with every decision; one without news counts as done.
#[test]
fn failures_are_not_repeated_at_once() {
    let mut fixture = Fixture::new(resources(500, 512), wish(1000, 512));
    assert!(fixture.decide().capacity().is_some());
    fixture.decider.applied(fixture.now, &fixture.target.name.clone(), Applied::Failed);
    assert_eq!(fixture.reason(), ResizeReason::AttemptFailed);
    fixture.now = fixture.now + secs(60);
    assert_eq!(fixture.reason(), ResizeReason::AttemptFailed);
    fixture.pass(240);
    assert!(fixture.decide().capacity().is_some());
    fixture.now = fixture.now + secs(61);
    assert_eq!(fixture.reason(), ResizeReason::CoolingDown);
}

/// Guarantees: replicas that missed the last order get it again, without a new pause; another hand's values are left alone.
#[test]
fn stragglers_get_the_order_again() {
    let mut fixture = Fixture::new(resources(500, 512), wish(1000, 512));
    fixture.run();
    fixture.differing = 1;
    fixture.now = fixture.now + secs(60);
    assert_eq!(fixture.reason(), ResizeReason::WishMet);
    fixture.pass(240);
    let decision = fixture.run();
    let again = Resources { cpu: Some(1000), ..Resources::NONE };
    assert_eq!(
        (decision.resize.as_ref().unwrap().reason, decision.capacity()),
        (ResizeReason::Reapplied, Some(Capacity::resources(again)))
    );
    // Nobody shows it: no machine has room, perhaps.
    (fixture.differing, fixture.resources) = (0, resources(500, 512));
    fixture.pass(300);
    assert_eq!(fixture.reason(), ResizeReason::Reapplied);
    fixture.decider.resized(fixture.now, &fixture.target.name.clone(), Resized::Done { resources: again });
    fixture.resources = resources(700, 512);
    fixture.pass(360);
    assert_eq!(fixture.reason(), ResizeReason::CoolingDown);
}

/// Guarantees: replicas that start long after an order get it too, unless somebody has written another template since.
#[test]
fn late_stragglers_get_the_order_too() {
    let mut fixture = Fixture::new(resources(500, 512), wish(1000, 512));
    fixture.run();
    fixture.live(2 * DAY);
    fixture.differing = 1;
    assert_eq!(fixture.reason(), ResizeReason::Reapplied);
    let mut rewritten = Fixture::new(resources(500, 512), wish(1000, 512));
    rewritten.run();
    rewritten.live(2 * DAY);
    (rewritten.differing, rewritten.template) = (1, resources(700, 512));
    assert_eq!(rewritten.reason(), ResizeReason::WishMet);
}

/// Guarantees: what stops the decision stops resources too; an older observation does not undo what was ordered.
#[test]
fn stops_hold_for_resources() {
    let mut fixture = Fixture::new(resources(500, 512), wish(1000, 512));
    fixture.target.paused = true;
    let resize = fixture.decide().resize.unwrap();
    assert_eq!((resize.reason, resize.detail.as_str()), (ResizeReason::Stopped, "pause: paused"));
    fixture.target.paused = false;
    fixture.run();
    fixture.resources = resources(500, 512);
    let decision = {
        let before = fixture.now;
        fixture.decider.resized(before, &fixture.target.name.clone(), Resized::Unknown);
        let observed = Observed { resources: fixture.resources, ..Observed::replicas(4, None, before - secs(1)) };
        let evidence = Evidence { age_seconds: Some(1.0), wish: Some(fixture.wish), ..Evidence::default() };
        let proposal = Proposal::new(fixture.rules[0].name.clone(), before, Demand::from_column(None), evidence);
        fixture.decider.decide(before, &fixture.target, &Ok(observed), &fixture.rules, &[proposal])
    };
    assert_eq!(decision.resize.map(|resize| resize.reason), Some(ResizeReason::WishMet));
}

/// Guarantees: among rules the highest priority with a wish is obeyed, and of equal ones the first by name.
#[test]
fn priority_chooses_the_wish() {
    let mut fixture = Fixture::new(resources(500, 512), wish(1000, 512));
    fixture.rules = vec![rule("b", Mode::Enforce, vertical(Mode::Enforce)), rule("a", Mode::Enforce, vertical(Mode::Enforce))];
    assert_eq!(fixture.decide().resize.unwrap().rule.unwrap().as_str(), "a");
    let policy = PolicySpec { priority: 5, ..fixture.rules[0].policy.spec().clone() };
    fixture.rules[0].policy = Arc::new(Policy::try_new(policy).unwrap());
    fixture.decider = Decider::new();
    assert_eq!(fixture.decide().resize.unwrap().rule.unwrap().as_str(), "b");
}

/// Guarantees: records of decisions from before there were resources are read and replayed.
#[test]
fn old_records_are_replayed() {
    let mut fixture = Fixture::new(Resources::NONE, Wish::default());
    fixture.rules = vec![rule("rule", Mode::Enforce, VerticalSpec::default())];
    fixture.demand = Some(6.0);
    let decision = fixture.decide();
    let record = serde_json::to_value(&decision).unwrap();
    for part in ["resize", "vertical", "differing", "resources", "wish"] {
        assert!(!record.to_string().contains(&format!("\"{part}\"")), "{part}");
    }
    let read: Decision = serde_json::from_value(record).unwrap();
    assert_eq!(read.replay(), read);
    assert_eq!(read.desired, Some(6));
}

proptest! {
    /// Guarantees: whatever is wished, demanded and answered, every decision keeps the invariants and is replayed bit for bit.
    #[test]
    fn invariants_hold(
        steps in proptest::collection::vec((0_u64..5000, 0_u64..6000, proptest::option::of(0.0_f64..12.0), 0_u8..6, 0_u32..3, 1_u64..4000), 1..60),
        kill in 0_usize..60,
    ) {
        let mut fixture = Fixture::new(resources(500, 512), wish(500, 512));
        for (index, (cpu, mib, demand, answer, differing, pause)) in steps.into_iter().enumerate() {
            fixture.wish = wish(cpu, mib);
            fixture.wish.last_oom_age = (index == kill).then_some(10);
            (fixture.demand, fixture.differing) = (demand, differing);
            let decision = fixture.decide();
            let name = fixture.target.name.clone();
            match answer {
                0 => fixture.decider.resized(fixture.now, &name, Resized::Failed),
                1 => fixture.decider.resized(fixture.now, &name, Resized::Unknown),
                2 => {}
                _ => fixture.obey(&decision),
            }
            fixture.now = fixture.now + secs(pause);
        }
    }
}
