//! The HPA's documented algorithm, written down a second time and independently, and compared with the decider.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::{Fixture, secs};
use super::*;
use crate::policy::{DirectionSpec, PolicySpec, RateKind, RatePolicy, SelectPolicy};

/// The HPA with `behavior`, as its controller computes: lists of all recommendations and events, nothing pruned.
#[derive(Default)]
struct Hpa {
    recommendations: Vec<(i64, i64)>,
    ups: Vec<(i64, i64)>,
    downs: Vec<(i64, i64)>,
}

impl Hpa {
    /// One sync: `now` in seconds, the current replicas, the metric's proposal. Gives the new replicas.
    fn sync(&mut self, now: i64, current: i64, raw: i64, spec: &PolicySpec) -> i64 {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap();
        let (mut up, mut down) = (raw, raw);
        let up_cutoff = now - seconds(spec.scale_up.stabilization_window);
        let down_cutoff = now - seconds(spec.scale_down.stabilization_window);
        for (at, value) in &self.recommendations {
            if *at > up_cutoff {
                up = up.min(*value);
            }
            if *at > down_cutoff {
                down = down.max(*value);
            }
        }
        let mut stable = current;
        if stable < up {
            stable = up;
        }
        if stable > down {
            stable = down;
        }
        self.recommendations.push((now, raw));
        let desired = self.limited(now, current, stable, spec);
        if desired > current {
            self.ups.push((now, desired - current));
        } else if desired < current {
            self.downs.push((now, current - desired));
        }
        desired
    }

    fn start(&self, now: i64, current: i64, policy: &RatePolicy) -> i64 {
        let cutoff = now - i64::try_from(policy.period.as_secs()).unwrap();
        let sum = |events: &[(i64, i64)]| events.iter().filter(|(at, _)| *at > cutoff).map(|(_, change)| change).sum::<i64>();
        current - sum(&self.ups) + sum(&self.downs)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the controller computes in float64 and truncates")]
    fn limited(&self, now: i64, current: i64, wanted: i64, spec: &PolicySpec) -> i64 {
        let (min, max) = (i64::from(spec.min), i64::from(spec.max));
        let bound = |direction: &DirectionSpec, value: &dyn Fn(&RatePolicy, i64) -> i64, largest: bool| {
            let values = direction.policies.iter().map(|policy| value(policy, self.start(now, current, policy)));
            if largest { values.max() } else { values.min() }
        };
        if wanted > current {
            let select = spec.scale_up.select_policy;
            let value = |policy: &RatePolicy, start: i64| match policy.kind {
                RateKind::Pods => start + i64::from(policy.value),
                RateKind::Percent => (start as f64 * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i64,
            };
            let limit = if select == SelectPolicy::Disabled {
                current
            } else {
                bound(&spec.scale_up, &value, select == SelectPolicy::Max).unwrap()
            };
            wanted.min(max.min(limit.max(current)))
        } else if wanted < current {
            let select = spec.scale_down.select_policy;
            let value = |policy: &RatePolicy, start: i64| match policy.kind {
                RateKind::Pods => start - i64::from(policy.value),
                RateKind::Percent => (start as f64 * (1.0 - f64::from(policy.value) / 100.0)) as i64,
            };
            let limit = if select == SelectPolicy::Disabled {
                current
            } else {
                bound(&spec.scale_down, &value, select == SelectPolicy::Min).unwrap()
            };
            wanted.max(min.max(limit.min(current)))
        } else {
            wanted
        }
    }
}

fn direction() -> impl Strategy<Value = DirectionSpec> {
    let policy = (prop::bool::ANY, 1_u32..150, prop::sample::select(vec![15_u64, 30, 60, 120])).prop_map(|(pods, value, period)| {
        RatePolicy { kind: if pods { RateKind::Pods } else { RateKind::Percent }, value, period: secs(period) }
    });
    let select = prop::sample::select(vec![SelectPolicy::Max, SelectPolicy::Max, SelectPolicy::Min, SelectPolicy::Disabled]);
    (prop::sample::select(vec![0_u64, 30, 60, 300]), select, prop::collection::vec(policy, 1..4)).prop_map(
        |(window, select_policy, policies)| DirectionSpec {
            stabilization_window: secs(window),
            select_policy,
            policies,
            ..DirectionSpec::up()
        },
    )
}

proptest! {
    /// Guarantees: over any sequence of proposals, the stabilization windows and behaviour policies give what the HPA gives.
    #[test]
    fn the_decider_is_the_hpa(up in direction(), down in direction(), initial in 1_u32..60, raws in prop::collection::vec((1_u32..60, 1_u64..50), 1..60)) {
        let spec = PolicySpec { min: 1, max: 50, tolerance: 0.0, scale_up: up, scale_down: down, ..PolicySpec::default() };
        let mut hpa = Hpa::default();
        let mut fixture = Fixture::new(spec.clone(), initial.min(50));
        for (raw, wait) in raws {
            let current = fixture.current;
            let expected = hpa.sync(fixture.now.as_nanos() / 1_000_000_000, i64::from(current), i64::from(raw), &spec);
            let decision = fixture.decide_and_apply(f64::from(raw));
            prop_assert_eq!(decision.desired.map(i64::from), Some(expected), "{:#?}", decision.steps);
            fixture.advance(wait);
        }
    }
}

/// One row of the table: events so far (seconds ago, change), current, wanted, and what the HPA makes of it.
struct Case {
    name: &'static str,
    spec: PolicySpec,
    events: &'static [(u64, i64)],
    current: u32,
    wanted: u32,
    expected: u32,
}

fn pods(value: u32, period: u64) -> RatePolicy {
    RatePolicy { kind: RateKind::Pods, value, period: secs(period) }
}

fn percent(value: u32, period: u64) -> RatePolicy {
    RatePolicy { kind: RateKind::Percent, value, period: secs(period) }
}

fn up(policies: Vec<RatePolicy>, select_policy: SelectPolicy) -> PolicySpec {
    PolicySpec { max: 1000, scale_up: DirectionSpec { policies, select_policy, ..DirectionSpec::up() }, ..PolicySpec::default() }
}

fn down(policies: Vec<RatePolicy>, select_policy: SelectPolicy) -> PolicySpec {
    PolicySpec { max: 1000, scale_down: DirectionSpec { policies, select_policy, ..DirectionSpec::down() }, ..PolicySpec::default() }
}

fn cases() -> Vec<Case> {
    use SelectPolicy::{Disabled, Max, Min};
    let case = |name, spec, events, current, wanted, expected| Case { name, spec, events, current, wanted, expected };
    vec![
        case("defaults up: the larger of 4 pods and 100 percent", PolicySpec { max: 1000, ..PolicySpec::default() }, &[], 3, 100, 7),
        case("defaults up, 100 percent is larger", PolicySpec { max: 1000, ..PolicySpec::default() }, &[], 10, 100, 20),
        case(
            "defaults up, an increase in the period is taken off",
            PolicySpec { max: 1000, ..PolicySpec::default() },
            &[(10, 5)],
            15,
            100,
            20,
        ),
        case("an event as old as the period no longer counts", PolicySpec { max: 1000, ..PolicySpec::default() }, &[(15, 5)], 15, 100, 30),
        case("a decrease in the period is put back", up(vec![pods(2, 60)], Max), &[(30, -3)], 7, 20, 12),
        case("percent rounds up on the way up", up(vec![percent(10, 60)], Max), &[], 5, 50, 6),
        case("percent on the way up keeps the noise of float64", up(vec![percent(10, 60)], Max), &[], 100, 500, 111),
        case("percent truncates on the way down", down(vec![percent(10, 60)], Max), &[], 5, 1, 4),
        case("ten percent of 99 down", down(vec![percent(10, 60)], Max), &[], 99, 1, 89),
        case("Max on the way down is the biggest change", down(vec![percent(10, 60), pods(5, 60)], Max), &[], 20, 1, 15),
        case("Min on the way down is the smallest change", down(vec![percent(10, 60), pods(5, 60)], Min), &[], 20, 1, 18),
        case("Min on the way up is the smallest change", up(vec![percent(100, 60), pods(2, 60)], Min), &[], 20, 90, 22),
        case("Disabled holds upward", up(vec![pods(4, 60)], Disabled), &[], 5, 9, 5),
        case("Disabled holds downward", down(vec![pods(4, 60)], Disabled), &[], 5, 1, 5),
        case("a spent period allows nothing more", up(vec![pods(4, 60)], Max), &[(20, 4)], 9, 20, 9),
        case("an overspent period does not take back", up(vec![pods(4, 60)], Max), &[(20, 9)], 14, 20, 14),
        case("a spent period allows nothing less", down(vec![pods(1, 60)], Max), &[(20, -1)], 4, 1, 4),
        case("down below zero ends at zero", down(vec![pods(50, 60)], Max), &[], 5, 0, 0),
        case("what is allowed passes", up(vec![pods(4, 60)], Max), &[], 5, 7, 7),
    ]
}

/// Guarantees: the rate limits of the HPA to its rounding, case by case.
#[test]
fn rate_limits_are_the_hpas() {
    let now = Timestamp::from_secs(1_000_000);
    for case in cases() {
        let policy = crate::policy::Policy::try_new(case.spec).unwrap();
        let events: Vec<_> = case.events.iter().map(|(ago, change)| ScaleEvent { at: now - secs(*ago), change: *change }).collect();
        assert_eq!(rate_limit(now, case.current, case.wanted, &events, &policy), case.expected, "{}", case.name);
    }
}

/// Guarantees: the stabilization windows of the HPA, case by case.
#[test]
fn stabilization_is_the_hpas() {
    let now = Timestamp::from_secs(1_000_000);
    let none = Duration::ZERO;
    let history = |entries: &[(u64, u32)]| {
        entries.iter().map(|(ago, replicas)| Recommendation { at: now - secs(*ago), replicas: *replicas }).collect::<Vec<_>>()
    };
    type Row = (&'static str, u32, u32, &'static [(u64, u32)], Duration, Duration, u32);
    let table: [Row; 8] = [
        ("without windows the proposal passes upward", 5, 9, &[(10, 3)], none, none, 9),
        ("without windows the proposal passes downward", 5, 2, &[(10, 9)], none, none, 2),
        ("down: the largest of the window", 10, 2, &[(10, 7), (200, 4)], none, secs(300), 7),
        ("down: no higher than current", 10, 2, &[(10, 30)], none, secs(300), 10),
        ("down: older than the window does not count", 10, 2, &[(300, 9)], none, secs(300), 2),
        ("up: the smallest of the window", 5, 20, &[(10, 8), (20, 12)], secs(60), secs(300), 8),
        ("up: no lower than current", 5, 20, &[(10, 2)], secs(60), secs(300), 5),
        ("a proposal equal to current stays", 5, 5, &[(10, 2), (20, 9)], secs(60), secs(300), 5),
    ];
    for (name, current, raw, entries, up, down, expected) in table {
        assert_eq!(stabilize(now, current, raw, &history(entries), up, down), expected, "{name}");
    }
}

/// Guarantees: the tolerance compares as the HPA does, including both ends.
#[test]
fn tolerance_is_the_hpas() {
    for (demand, current, expected) in
        [(11.0, 10, true), (9.0, 10, true), (11.01, 10, false), (8.99, 10, false), (1.0, 0, false), (0.0, 0, false)]
    {
        assert_eq!(limits::is_tolerated(demand, current, 0.1, 0.1), expected, "{demand} of {current}");
    }
    assert!(!limits::is_tolerated(10.5, 10, 0.01, 0.1) && limits::is_tolerated(9.5, 10, 0.01, 0.1));
}
