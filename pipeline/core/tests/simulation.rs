//! The real decider against a seeded plant: replicas that start slowly, scale calls that fail or vanish, telemetry that comes
//! late or not at all, clocks that jump, people who interfere. Named invariants are checked at every step.
//!
//! `SIM_RUNS=10000` makes more runs, `SIM_SEED=42` repeats one; a failure prints its seed. Add it to `REGRESSIONS`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tracescale_core::capacity::{Observed, Unobserved, UnobservedKind};
use tracescale_core::decide::{Applied, Decider, Decision, Demand, Evidence, Mode, Presence, Proposal, Reason, RuleRef};
use tracescale_core::invariant;
use tracescale_core::name::{RuleName, TargetName};
use tracescale_core::policy::{ConditionSpec, DirectionSpec, OnMissing, Policy, PolicySpec, RateKind, RatePolicy, ScheduleSpec};
use tracescale_core::target::{Override, ServiceSelector, TargetSpec};
use tracescale_core::time::Timestamp;

/// Seeds that once failed; they run first, always.
const REGRESSIONS: [u64; 4] = [0, 1, 0x5eed, u64::MAX];
/// Runs per test unless `SIM_RUNS` says otherwise.
const RUNS: u64 = 24;
/// Seconds between decisions: the slide of the views.
const SLIDE: u64 = 5;
/// Seconds from the end of a window until it is final.
const LATENESS: u64 = 10;
/// Seconds until a new replica is ready.
const START_UP: u64 = 40;

/// A generator of numbers that depends on its seed alone (`SplitMix64`).
struct Random(u64);

/// How the load develops, in replicas that it needs.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Constant(f64),
    Day { low: f64, high: f64, period: f64 },
    Bursts { base: f64, peak: f64 },
    Step { before: f64, after: f64, at: u64 },
}

/// What goes wrong; each is "once in so many steps", 0 for never.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    call_fails: u64,
    call_vanishes: u64,
    answer_is_slow: u64,
    telemetry_stops: u64,
    rows_are_late: u64,
    clock_jumps: u64,
    /// Jumps are this power of ten of seconds at least.
    smallest_jump: u32,
    target_vanishes: u64,
    people_interfere: u64,
    noise: f64,
}

/// The world: what is true, as opposed to what the decider is told.
struct Plant {
    random: Random,
    shape: Shape,
    faults: Faults,
    /// True seconds since the beginning.
    second: u64,
    /// What the process's clock shows beyond the truth, in seconds.
    skew: i64,
    desired: u32,
    /// Start times of replicas that are not ready yet.
    starting: VecDeque<u64>,
    ready: u32,
    /// The answer to a scale call, and when it comes.
    answer: Option<(u64, Applied)>,
    silent_until: u64,
    unobservable_until: u64,
    /// Changes that really happened: true second, and by how much.
    changes: Vec<(u64, i64)>,
}

/// A decider, its target and rules, and the plant.
struct Simulation {
    seed: u64,
    plant: Plant,
    decider: Decider,
    target: TargetSpec,
    rules: Vec<RuleRef>,
}

// === impl Random ===

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap()
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: u64) -> bool {
        n > 0 && self.next().is_multiple_of(n)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        f64::from(self.below(u32::MAX)) / f64::from(u32::MAX)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.next() % from.len() as u64).unwrap()].clone()
    }
}

// === impl Shape ===

impl Shape {
    fn at(self, second: u64) -> f64 {
        let time = f64::from(u32::try_from(second).unwrap());
        match self {
            Self::Constant(load) => load,
            Self::Day { low, high, period } => low + (high - low) * 0.5 * (1.0 - (time / period * std::f64::consts::TAU).cos()),
            Self::Bursts { base, peak } => {
                if second % 1800 < 240 {
                    peak
                } else {
                    base
                }
            }
            Self::Step { before, after, at } => {
                if second < at {
                    before
                } else {
                    after
                }
            }
        }
    }
}

// === impl Plant ===

impl Plant {
    fn clock(&self) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + i64::try_from(self.second).unwrap() + self.skew)
    }

    fn step(&mut self) {
        self.second += SLIDE;
        while self.starting.front().is_some_and(|at| self.second >= at + START_UP) {
            self.starting.pop_front();
            self.ready += 1;
        }
        if self.random.once_in(self.faults.telemetry_stops) {
            self.silent_until = self.second + 30 + u64::from(self.random.below(1200));
        }
        if self.random.once_in(self.faults.target_vanishes) {
            self.unobservable_until = self.second + u64::from(self.random.below(120));
        }
        if self.random.once_in(self.faults.clock_jumps) {
            let size = 10_i64.pow(self.faults.smallest_jump + self.random.below(6 - self.faults.smallest_jump));
            self.skew += if self.random.once_in(2) { size } else { -size };
        }
    }

    fn set(&mut self, replicas: u32) {
        let change = i64::from(replicas) - i64::from(self.desired);
        if change == 0 {
            return;
        }
        self.changes.push((self.second, change));
        for _ in 0..change {
            self.starting.push_back(self.second);
        }
        for _ in change..0 {
            // Those that have not started yet go first.
            if self.starting.pop_back().is_none() {
                self.ready = self.ready.saturating_sub(1);
            }
        }
        self.desired = replicas;
    }

    /// A scale call: it may fail, vanish on the way there or back, or be answered late.
    fn call(&mut self, replicas: u32) {
        let mut outcome = Applied::Done { replicas };
        if self.random.once_in(self.faults.call_fails) {
            outcome = Applied::Failed;
        } else if self.random.once_in(self.faults.call_vanishes) {
            outcome = Applied::Unknown;
            if self.random.once_in(2) {
                self.set(replicas);
            }
        } else {
            self.set(replicas);
        }
        let slow = self.random.once_in(self.faults.answer_is_slow);
        let due = self.second + if slow { 10 + u64::from(self.random.below(200)) } else { 0 };
        self.answer = Some((due, outcome));
    }

    fn observe(&self) -> Result<Observed, Unobserved> {
        if self.second < self.unobservable_until {
            return Err(Unobserved { kind: UnobservedKind::Unavailable, detail: "no answer".to_owned() });
        }
        Ok(Observed::replicas(self.desired, Some(self.ready), self.clock()))
    }

    /// The rows of a rule: a provisional one of the newest window and the final one of an older window.
    fn rows(&mut self, rule: &RuleName) -> Vec<Proposal> {
        if self.second < self.silent_until {
            return Vec::new();
        }
        let late = if self.random.once_in(self.faults.rows_are_late) { 60 } else { 0 };
        let newest = self.second.saturating_sub(late);
        vec![self.row(rule, newest, false), self.row(rule, newest.saturating_sub(LATENESS), true)]
    }

    fn row(&mut self, rule: &RuleName, second: u64, is_final: bool) -> Proposal {
        let now = self.clock();
        let load = self.shape.at(second) * (1.0 + self.faults.noise * (2.0 * self.random.share() - 1.0));
        let age = Duration::from_secs(self.second - second);
        let evidence = Evidence {
            window_end: Some(now - age),
            is_final: Some(is_final),
            n_eff: Some(load * 600.0),
            completeness: Some(if is_final { 1.0 } else { 0.8 }),
            age_seconds: Some(age.as_secs_f64()),
            presence: Some(if load > 0.0 { Presence::Active } else { Presence::Idle }),
            ..Evidence::default()
        };
        Proposal::new(rule.clone(), now, Demand::from_column(Some(load)), evidence)
    }
}

// === impl Simulation ===

impl Simulation {
    fn new(seed: u64, shape: Shape, faults: Faults, spec: PolicySpec, replicas: u32) -> Self {
        let name = TargetName::try_new("plant").unwrap();
        Self {
            seed,
            plant: Plant {
                random: Random(seed),
                shape,
                faults,
                second: 0,
                skew: 0,
                desired: replicas,
                starting: VecDeque::new(),
                ready: replicas,
                answer: None,
                silent_until: 0,
                unobservable_until: 0,
                changes: Vec::new(),
            },
            decider: Decider::new(),
            target: TargetSpec::in_memory(
                name.clone(),
                ServiceSelector { service_name: name.to_string(), service_namespace: None },
                replicas,
            ),
            rules: vec![rule("load", spec)],
        }
    }

    /// One slide: the world moves, answers come in, the decider decides, the sink is called.
    fn step(&mut self) -> Decision {
        self.plant.step();
        self.interfere();
        let now = self.plant.clock();
        self.answer(now);
        let mut proposals = Vec::new();
        for rule in &self.rules {
            proposals.extend(self.plant.rows(&rule.name));
        }
        let decision = self.decider.decide(now, &self.target, &self.plant.observe(), &self.rules, &proposals);
        if let Err(violation) = invariant::check(&decision) {
            panic!("SIM_SEED={}: second {}: {violation}\n{decision:#?}", self.seed, self.plant.second);
        }
        assert_eq!(decision.replay(), decision, "SIM_SEED={}: not the same again", self.seed);
        if let Some(replicas) = decision.order() {
            self.plant.call(replicas);
            self.answer(now);
        }
        decision
    }

    /// Tells the decider what became of a call, when its answer is there.
    fn answer(&mut self, now: Timestamp) {
        if let Some((_, outcome)) = self.plant.answer.take_if(|(due, _)| *due <= self.plant.second) {
            self.decider.applied(now, &self.target.name, outcome);
        }
    }

    fn interfere(&mut self) {
        if !self.plant.random.once_in(self.plant.faults.people_interfere) {
            return;
        }
        let now = self.plant.clock();
        let random = &mut self.plant.random;
        match random.below(5) {
            0 => self.target.paused = !self.target.paused,
            1 => {
                let until = now + Duration::from_secs(u64::from(random.below(600)));
                self.target.override_ = Some(Override { replicas: random.below(30), until, reason: "person".into() });
            }
            2 => self.rules[0].mode = random.pick(&[Mode::Off, Mode::Recommend, Mode::Enforce]),
            3 => {
                let replicas = random.below(40);
                self.plant.set(replicas);
            }
            _ => {
                self.target.paused = false;
                self.target.override_ = None;
                self.rules[0].mode = Mode::Enforce;
            }
        }
    }

    fn run(&mut self, seconds: u64) -> Vec<Decision> {
        (0..seconds / SLIDE).map(|_| self.step()).collect()
    }
}

fn rule(name: &str, spec: PolicySpec) -> RuleRef {
    RuleRef {
        name: RuleName::try_new(name).unwrap(),
        mode: Mode::Enforce,
        every: secs(SLIDE),
        policy: Arc::new(Policy::try_new(spec).unwrap()),
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SIM_SEED") {
        return vec![seed];
    }
    let runs = number("SIM_RUNS").unwrap_or(RUNS);
    REGRESSIONS.into_iter().chain((0..runs).map(|run| run.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(7))).collect()
}

fn any_direction(random: &mut Random, base: &DirectionSpec) -> DirectionSpec {
    let percent = RatePolicy { kind: RateKind::Percent, value: 10 + random.below(90), period: secs(60) };
    DirectionSpec {
        cooldown: secs(random.pick(&[0, 30, 120])),
        step_limit: random.pick(&[None, Some(1), Some(5)]),
        stabilization_window: secs(random.pick(&[0, 60, 300])),
        policies: random.pick(&[base.policies.clone(), vec![percent], Vec::new()]),
        ..base.clone()
    }
}

/// A policy out of many, with guards of every kind.
fn any_policy(random: &mut Random) -> PolicySpec {
    let schedule = ScheduleSpec {
        name: "floor".into(),
        cron: "*/20 * * * *".into(),
        timezone: "Europe/Berlin".into(),
        duration: secs(300),
        min: Some(6),
        max: Some(12),
    };
    let (fallback, usual) = (OnMissing::After { after: secs(120), replicas: 7 }, OnMissing::Usual { after: secs(60) });
    PolicySpec {
        min: random.below(4),
        max: 30,
        priority: i32::from(random.once_in(2)),
        scale_up: any_direction(random, &DirectionSpec::up()),
        scale_down: any_direction(random, &DirectionSpec::down()),
        on_missing: random.pick(&[OnMissing::Hold, OnMissing::Skip, OnMissing::Min, OnMissing::Max, fallback, usual]),
        condition: random.once_in(3).then_some(ConditionSpec { times: 3, window: secs(60) }),
        schedules: if random.once_in(3) { vec![schedule] } else { Vec::new() },
        ..PolicySpec::default()
    }
}

/// Guarantees: whatever goes wrong together, every invariant holds at every step and every record replays.
#[test]
fn invariants_hold_under_every_fault() {
    let faults = Faults {
        call_fails: 4,
        call_vanishes: 6,
        answer_is_slow: 5,
        telemetry_stops: 200,
        rows_are_late: 20,
        clock_jumps: 60,
        smallest_jump: 0,
        target_vanishes: 100,
        people_interfere: 100,
        noise: 0.2,
    };
    let shapes = [
        Shape::Constant(8.0),
        Shape::Day { low: 0.0, high: 25.0, period: 3600.0 },
        Shape::Bursts { base: 2.0, peak: 28.0 },
        Shape::Step { before: 20.0, after: 3.0, at: 1800 },
    ];
    for seed in seeds() {
        let mut random = Random(seed ^ 0xfa17);
        let mut simulation = Simulation::new(seed, random.pick(&shapes), faults, any_policy(&mut random), 5);
        if random.once_in(2) {
            simulation.rules.push(rule("second", any_policy(&mut random)));
        }
        simulation.run(7200);
    }
}

/// Guarantees: under constant load with noise inside the tolerance, the target settles and then is left alone.
#[test]
fn constant_load_does_not_flap() {
    for seed in seeds() {
        let mut random = Random(seed ^ 0xf1a9);
        let load = 0.5 + 40.0 * random.share();
        let faults = Faults { noise: 0.04, ..Faults::default() };
        let spec = PolicySpec { min: 1, max: 100, ..PolicySpec::default() };
        let mut simulation = Simulation::new(seed, Shape::Constant(load), faults, spec, 1 + random.below(60));
        simulation.run(1800);
        let settled = simulation.plant.changes.len();
        simulation.run(3600);
        assert_eq!(simulation.plant.changes.len(), settled, "SIM_SEED={seed}: load {load}: {:?}", &simulation.plant.changes[settled..]);
        assert!(f64::from(simulation.plant.desired) * 1.1 >= load, "SIM_SEED={seed}: {} for {load}", simulation.plant.desired);
    }
}

/// Guarantees: while telemetry is silent nothing moves; when it returns, growth is followed within seconds, and a decline
/// only after a whole stabilization window.
#[test]
fn recovery_after_data_returns() {
    for seed in seeds() {
        for (after, rises) in [(18.0, true), (3.0, false)] {
            let shape = Shape::Step { before: 8.0, after, at: 2000 };
            let spec = PolicySpec { min: 1, max: 50, ..PolicySpec::default() };
            let mut simulation = Simulation::new(seed, shape, Faults { noise: 0.03, ..Faults::default() }, spec, 8);
            simulation.run(1500);
            let before = simulation.plant.desired;
            simulation.plant.silent_until = 3000;
            for decision in simulation.run(1495) {
                assert_eq!((decision.desired, decision.reason), (Some(before), Reason::DataMissing), "SIM_SEED={seed}");
            }
            if rises {
                simulation.run(60);
                assert!(simulation.plant.desired >= 17, "SIM_SEED={seed}: {}", simulation.plant.desired);
            } else {
                simulation.run(290);
                assert_eq!(simulation.plant.desired, before, "SIM_SEED={seed}: scaled down on data of less than a window");
                simulation.run(120);
                assert!(simulation.plant.desired <= 4, "SIM_SEED={seed}: {}", simulation.plant.desired);
            }
        }
    }
}

/// Guarantees: no jump of the clock that is longer than a pause can be lets more replicas go in any stretch of true time than
/// the rate policy allows.
#[test]
fn clock_jumps_cause_no_burst_of_scale_downs() {
    for seed in seeds() {
        let policies = vec![RatePolicy { kind: RateKind::Pods, value: 2, period: secs(60) }];
        let down = DirectionSpec { policies, stabilization_window: secs(60), ..DirectionSpec::down() };
        let spec = PolicySpec { min: 1, max: 60, scale_down: down, ..PolicySpec::default() };
        let faults = Faults { clock_jumps: 3, smallest_jump: 2, call_fails: 5, ..Faults::default() };
        let mut simulation = Simulation::new(seed, Shape::Constant(4.0), faults, spec, 50);
        simulation.run(3600);
        let changes = &simulation.plant.changes;
        for (index, (from, _)) in changes.iter().enumerate() {
            let removed: i64 = changes[index..].iter().take_while(|(at, _)| at - from < 60).map(|(_, change)| -change.min(&0)).sum();
            assert!(removed <= 2, "SIM_SEED={seed}: {removed} replicas removed in a minute from second {from}: {changes:?}");
        }
    }
}

/// Guarantees: with calls that fail, vanish or are answered late, the target still gets where the load wants it.
#[test]
fn lost_calls_do_not_lose_the_target() {
    for seed in seeds() {
        let shape = Shape::Step { before: 5.0, after: 24.0, at: 600 };
        let faults = Faults { call_fails: 3, call_vanishes: 3, answer_is_slow: 3, ..Faults::default() };
        let spec = PolicySpec { min: 1, max: 50, ..PolicySpec::default() };
        let mut simulation = Simulation::new(seed, shape, faults, spec, 5);
        simulation.run(600 + 1800);
        assert!((22..=30).contains(&simulation.plant.desired), "SIM_SEED={seed}: {} for a load of 24", simulation.plant.desired);
        assert_eq!(simulation.plant.ready, simulation.plant.desired, "SIM_SEED={seed}: replicas that never became ready");
    }
}
