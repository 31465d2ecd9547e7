//! The guards that use a diagnosis, in a closed loop with a service whose requests grow slow with its load: what they stop,
//! what they mend, and that they do not fight each other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tracescale_core::capacity::Observed;
use tracescale_core::decide::{Applied, Cause, Context, Decider, Demand, Diagnosis, Evidence, Mode, Proposal, Reason, RuleRef};
use tracescale_core::invariant;
use tracescale_core::name::{RuleName, TargetName};
use tracescale_core::policy::{ControlSpec, DirectionSpec, Policy, PolicySpec, VerifySpec};
use tracescale_core::target::{ServiceSelector, TargetSpec};
use tracescale_core::time::Timestamp;

/// Seconds between decisions.
const SLIDE: u64 = 5;
/// Seconds that a diagnosis looks back.
const WINDOW: usize = 60;
/// Seconds until a replica serves.
const START_UP: u64 = 40;
/// Requests per second that a replica can serve.
const PER_REPLICA: f64 = 10.0;

/// What the rule demands, from what a rule can know.
type Rule = fn(&Service) -> f64;

/// A service, its telemetry of the last minute, and who scales it.
struct Service {
    second: u64,
    /// Requests per second.
    rate: f64,
    /// Share of its requests that are slow whatever its load, because of the service behind it.
    slow_behind: f64,
    /// Whether the diagnosis knows who is behind it.
    is_known: bool,
    desired: u32,
    ready: u32,
    starting: VecDeque<u64>,
    /// Requests, slow ones, and utilization of each of the last seconds.
    seen: VecDeque<(f64, f64, f64)>,
    decider: Decider,
    target: TargetSpec,
    rules: Vec<RuleRef>,
    reasons: Vec<Reason>,
    /// Seconds in which more than one in a hundred requests was slow.
    violated: u64,
}

impl Service {
    fn new(rate: f64, replicas: u32, control: ControlSpec) -> Self {
        let name = TargetName::try_new("front").unwrap();
        let down = DirectionSpec { stabilization_window: Duration::from_secs(60), ..DirectionSpec::down() };
        let policy = Arc::new(Policy::try_new(PolicySpec { scale_down: down, control, ..PolicySpec::default() }).unwrap());
        let rule = RuleName::try_new("rule").unwrap();
        Self {
            second: 0,
            rate,
            slow_behind: 0.0,
            is_known: false,
            desired: replicas,
            ready: replicas,
            starting: VecDeque::new(),
            seen: VecDeque::new(),
            decider: Decider::new(),
            target: TargetSpec::in_memory(
                name.clone(),
                ServiceSelector { service_name: name.to_string(), service_namespace: None },
                replicas,
            ),
            rules: vec![RuleRef { name: rule, mode: Mode::Enforce, every: Duration::from_secs(SLIDE), policy }],
            reasons: Vec::new(),
            violated: 0,
        }
    }

    fn utilization(&self) -> f64 {
        self.rate / (f64::from(self.ready) * PER_REPLICA)
    }

    /// Share of slow requests: nearly none up to 80 % utilization, all of them at twice the capacity.
    fn slow_share(&self) -> f64 {
        let own = if self.utilization() < 0.8 { 0.002 } else { (self.utilization() - 0.8) / 1.2 };
        (own + self.slow_behind).clamp(0.0, 1.0)
    }

    fn tick(&mut self) {
        self.second += 1;
        while self.starting.front().is_some_and(|at| self.second >= at + START_UP) {
            self.starting.pop_front();
            self.ready += 1;
        }
        let slow = self.slow_share();
        self.violated += u64::from(slow > 0.01);
        self.seen.push_back((self.rate, self.rate * slow, self.utilization()));
        if self.seen.len() > WINDOW {
            self.seen.pop_front();
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "requests of a minute")]
    fn diagnosis(&self, now: Timestamp) -> Option<Diagnosis> {
        (self.seen.len() == WINDOW).then_some(())?;
        let (requests, slow, busy) = self.seen.iter().fold((0.0, 0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2));
        let cause = self.is_known.then(|| Cause { service: "db".to_owned(), kind: "saturated".to_owned(), share: 0.9 });
        Some(Diagnosis {
            requests: Some(requests as u64),
            violations: Some(slow as u64),
            utilization: Some(busy / 60.0),
            cause,
            ..Diagnosis::new(now, Duration::from_secs(60))
        })
    }

    fn set(&mut self, replicas: u32) {
        for _ in self.desired..replicas {
            self.starting.push_back(self.second);
        }
        for _ in replicas..self.desired {
            if self.starting.pop_back().is_none() {
                self.ready -= 1;
            }
        }
        self.desired = replicas;
    }

    fn decide(&mut self, rule: Rule) {
        let now = Timestamp::from_secs(1_800_000_000) + Duration::from_secs(self.second);
        let evidence = Evidence { window_end: Some(now), is_final: Some(true), n_eff: Some(1e4), ..Evidence::default() };
        let proposal = Proposal::new(self.rules[0].name.clone(), now, Demand::from_column(Some(rule(self))), evidence);
        let observed = Ok(Observed::replicas(self.desired, Some(self.ready), now));
        let context = Context { diagnosis: self.diagnosis(now), ..Context::default() };
        let decision = self.decider.decide_in(now, &self.target, &observed, &self.rules, &[proposal], context);
        invariant::check(&decision).unwrap();
        assert_eq!(decision.replay(), decision);
        self.reasons.push(decision.reason);
        if let Some(replicas) = decision.order() {
            self.set(replicas);
            self.decider.applied(now, &self.target.name, Applied::Done { replicas });
        }
    }

    /// Lets it serve for a minute before anybody decides, so that there is something to diagnose.
    fn warmed_up(mut self) -> Self {
        (0..60).for_each(|_| self.tick());
        self
    }

    fn run(&mut self, minutes: u64, rule: Rule) {
        for _ in 0..minutes * 60 / SLIDE {
            (0..SLIDE).for_each(|_| self.tick());
            self.decide(rule);
        }
    }

    fn count(&self, reason: Reason) -> usize {
        self.reasons.iter().filter(|one| **one == reason).count()
    }
}

fn unverified() -> ControlSpec {
    ControlSpec { verify: VerifySpec { enabled: false, ..VerifySpec::default() }, reactive: false, ..ControlSpec::default() }
}

/// Guarantees: a rule that asks for too little is corrected within minutes, and is tried again more and more rarely.
#[test]
fn a_rule_that_asks_for_too_little_is_corrected() {
    let too_little: Rule = |service| service.rate / PER_REPLICA / 0.95;
    let only_verified = ControlSpec { reactive: false, ..ControlSpec::default() };
    let mut service = Service::new(100.0, 15, only_verified);
    service.run(12 * 60, too_little);
    let mut unguarded = Service::new(100.0, 15, unverified());
    unguarded.run(12 * 60, too_little);
    assert!(unguarded.violated > 11 * 3600, "{}", unguarded.violated);
    assert_eq!(service.count(Reason::RolledBack), 4, "floors of 1, 2, 4 and 8 hours");
    assert!(service.violated < 4 * 6 * 60, "{} s of violations in 12 h", service.violated);
}

/// Guarantees: the same with the reactive guard: it mends what the rule gets wrong without oscillating.
#[test]
fn violations_are_mended_without_oscillation() {
    let too_little: Rule = |service| service.rate / PER_REPLICA / 0.95;
    let mut service = Service::new(100.0, 11, ControlSpec { verify: unverified().verify, ..ControlSpec::default() });
    service.run(60, too_little);
    assert!(service.desired <= 17, "{}", service.desired);
    assert!(service.count(Reason::ViolationsHigh) > 0);
    let mut both = Service::new(100.0, 11, ControlSpec::default());
    both.run(12 * 60, too_little);
    assert!(both.violated < 3600, "{} s of violations in 12 h", both.violated);
    assert!(both.desired <= 17, "{}", both.desired);
}

/// Guarantees: a service that waits for another is not scaled for it, as long as the diagnosis says so, and grows at once when its
/// own load grows.
#[test]
fn a_service_is_not_scaled_for_another() {
    // A rule that takes slow requests for a lack of replicas.
    let by_latency: Rule = |service| f64::from(service.desired) * if service.slow_share() > 0.01 { 1.5 } else { 1.0 };
    let mut service = Service::new(50.0, 10, ControlSpec::default());
    (service.slow_behind, service.is_known) = (0.3, true);
    let mut service = service.warmed_up();
    service.run(60, by_latency);
    assert_eq!(service.desired, 10);
    assert!(service.count(Reason::DownstreamBound) > 600);
    service.rate = 90.0;
    service.run(10, by_latency);
    assert!(service.desired >= 13, "{}: its own load demands it", service.desired);
}

/// Guarantees: where nobody knows the cause, ups that do not help end after two, instead of at the max.
#[test]
fn ups_that_do_not_help_end() {
    // One step up each time the last one had time to show.
    let by_latency: Rule = |service| {
        let is_settled = service.starting.is_empty() && service.second % 300 < SLIDE;
        f64::from(service.desired) * if is_settled && service.slow_share() > 0.01 { 1.25 } else { 1.0 }
    };
    let mut service = Service::new(50.0, 10, ControlSpec::default());
    service.slow_behind = 0.3;
    service.run(30, by_latency);
    assert!(service.count(Reason::ScalingIneffective) > 0);
    assert!(service.desired <= 20, "{}", service.desired);
    let mut unguarded = Service::new(50.0, 10, unverified());
    unguarded.slow_behind = 0.3;
    unguarded.run(30, by_latency);
    assert!(unguarded.desired > 30, "{}", unguarded.desired);
}

/// Guarantees: a healthy service with a good rule is left alone by all of them, through a day of load that goes up and down.
#[test]
fn a_healthy_service_is_left_alone() {
    let good: Rule = |service| service.rate / PER_REPLICA / 0.6;
    let mut service = Service::new(60.0, 10, ControlSpec::default());
    for hour in [60.0, 70.0, 85.0, 100.0, 120.0, 100.0, 85.0, 70.0, 60.0, 50.0, 40.0] {
        service.rate = hour;
        service.run(60, good);
    }
    let guards = [Reason::RolledBack, Reason::FloorAfterRollback, Reason::ViolationsHigh, Reason::ScalingIneffective, Reason::StartLost];
    for reason in guards {
        assert_eq!(service.count(reason), 0, "{reason}");
    }
    assert!(f64::from(service.desired) <= 40.0 / PER_REPLICA / 0.6 * 1.2 + 1.0, "{}", service.desired);
}
