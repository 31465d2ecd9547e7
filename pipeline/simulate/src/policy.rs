//! How an autoscaler is driven against a plant: what it may see, when it is asked, and what its answer does.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::time::{Timestamp, nanos};

use crate::plant::{Observation, Phase, Plant, ReplicaGroup, count};

/// Most observations that are kept for a policy, whatever the retention says.
const OBSERVATIONS_MAX: usize = 100_000;

/// An autoscaler of one service.
pub trait Policy {
    /// What it is called in reports.
    fn name(&self) -> String;
    /// How often it wants to be asked.
    fn interval(&self) -> Duration;
    /// The number of replicas it wants; `None` leaves things as they are. It sees the control plane as it is now, and
    /// measurements as old as its own way of measuring makes them.
    fn tick(&mut self, now: Timestamp, seen: &Telemetry) -> Option<u32>;
}

/// What can be known of a service: its replicas as they are, and what was observed of late.
#[derive(Clone, Debug)]
pub struct Telemetry {
    retention: Duration,
    history: VecDeque<Observation>,
    desired: u32,
    replicas: Vec<ReplicaGroup>,
}

/// Means over a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Means {
    /// How much of the stretch was observed, in seconds; never zero.
    pub covered: f64,
    /// Requests per second that came.
    pub arrival_rate: f64,
    /// Requests per second that were done.
    pub completion_rate: f64,
    /// Requests in the service.
    pub concurrency: f64,
    /// CPU of all replicas, in cores.
    pub cpu: f64,
    /// Requests that waited outside of replicas.
    pub backlog: f64,
}

/// A quantity that rules are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Measure {
    /// Requests per second that come.
    #[default]
    ArrivalRate,
    /// Requests per second that are done.
    CompletionRate,
    /// Requests in the service.
    Concurrency,
    /// CPU, in cores.
    Cpu,
    /// Requests that wait outside of replicas.
    Backlog,
}

/// How a measurement reaches a policy, and how old it is then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeasurementPath {
    /// Time between two readings.
    #[serde(with = "tracescale_core::duration::text")]
    pub period: Duration,
    /// When in each period it is read, counted from the epoch.
    #[serde(with = "tracescale_core::duration::text")]
    pub phase: Duration,
    /// How old the data are when they are read.
    #[serde(with = "tracescale_core::duration::text")]
    pub lag: Duration,
    /// How much time before that a reading averages over.
    #[serde(with = "tracescale_core::duration::text")]
    pub window: Duration,
}

/// How long a run takes and what is withheld from policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// When it ends.
    pub until: Timestamp,
    /// Time between observations; policies are asked at multiples of it.
    #[serde(with = "tracescale_core::duration::text")]
    pub step: Duration,
    /// For how long observations are kept for policies.
    #[serde(with = "tracescale_core::duration::text")]
    pub retention: Duration,
    /// Stretches without telemetry. The control plane still shows replicas.
    #[serde(default)]
    pub outages: Vec<Outage>,
}

/// A stretch without telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outage {
    /// Observations that end after this
    pub from: Timestamp,
    /// and not after this are lost.
    pub until: Timestamp,
}

// === impl Telemetry ===

impl Telemetry {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(retention: Duration) -> Self {
        Self { retention, history: VecDeque::new(), desired: 0, replicas: Vec::new() }
    }

    /// Looks at a service; what is `lost` shows replicas and nothing else.
    pub fn look(&mut self, plant: &mut dyn Plant, service: usize, lost: bool) {
        let old = plant.now() - self.retention;
        let expired = self.history.front().is_some_and(|first| first.until <= old);
        // The memory of what is forgotten holds what is new.
        let mut observation = if expired { self.history.pop_front().unwrap_or_default() } else { Observation::default() };
        plant.observe(service, &mut observation);
        self.see(plant.desired(service), observation, lost);
    }

    /// Takes note of an observation.
    pub fn see(&mut self, desired: u32, observation: Observation, lost: bool) {
        self.desired = desired;
        self.replicas.clone_from(&observation.replicas);
        let old = observation.until - self.retention;
        while self.history.front().is_some_and(|first| first.until <= old) || self.history.len() >= OBSERVATIONS_MAX {
            self.history.pop_front();
        }
        if !lost {
            self.history.push_back(observation);
        }
    }

    /// Replicas that are asked for.
    #[must_use]
    pub fn desired(&self) -> u32 {
        self.desired
    }

    /// All replicas as they are, oldest first.
    #[must_use]
    pub fn replicas(&self) -> &[ReplicaGroup] {
        &self.replicas
    }

    /// Number of replicas that serve.
    #[must_use]
    pub fn ready(&self) -> u32 {
        count(&self.replicas, Phase::Ready)
    }

    /// Number of replicas that serve or start.
    #[must_use]
    pub fn existing(&self) -> u32 {
        self.ready() + count(&self.replicas, Phase::Starting)
    }

    /// The newest observation that ended by then.
    #[must_use]
    pub fn latest(&self, by: Timestamp) -> Option<&Observation> {
        self.history.iter().rev().find(|observation| observation.until <= by)
    }

    /// Means over what was observed of a stretch. `None` when nothing was.
    #[must_use]
    pub fn over(&self, from: Timestamp, until: Timestamp) -> Option<Means> {
        let mut means = Means::default();
        for seen in self.history.iter().rev().skip_while(|seen| seen.from >= until).take_while(|seen| seen.until > from) {
            let weight = seen.until.min(until).since(seen.from.max(from)).as_secs_f64();
            let length = seen.seconds();
            if weight <= 0.0 || length <= 0.0 {
                continue;
            }
            means.covered += weight;
            means.arrival_rate += weight * seen.arrivals / length;
            means.completion_rate += weight * seen.completions / length;
            means.concurrency += weight * seen.concurrency;
            means.cpu += weight * seen.cpu();
            means.backlog += weight * seen.backlog;
        }
        (means.covered > 0.0).then(|| means.divided())
    }
}

// === impl Means ===

impl Means {
    fn divided(self) -> Self {
        let by = self.covered;
        Self {
            covered: by,
            arrival_rate: self.arrival_rate / by,
            completion_rate: self.completion_rate / by,
            concurrency: self.concurrency / by,
            cpu: self.cpu / by,
            backlog: self.backlog / by,
        }
    }

    /// One of the quantities.
    #[must_use]
    pub fn get(&self, measure: Measure) -> f64 {
        match measure {
            Measure::ArrivalRate => self.arrival_rate,
            Measure::CompletionRate => self.completion_rate,
            Measure::Concurrency => self.concurrency,
            Measure::Cpu => self.cpu,
            Measure::Backlog => self.backlog,
        }
    }
}

// === impl MeasurementPath ===

impl MeasurementPath {
    /// CPU through kubelet and metrics-server: every 30 s, data 5 s old on average because the kubelet looks every 10 s. Read at
    /// a phase that makes a sync at multiples of 15 s see data of average age; with the sync itself a change is 27.5 s old on
    /// average before it counts.
    pub const CPU: Self = Self::of(30_000, 7_500, 5_000, 30_000);
    /// A query of Prometheus: scrapes every 30 s, a rate over a minute.
    pub const PROMETHEUS: Self = Self::of(30_000, 7_500, 0, 60_000);
    /// Scrapes of the queue proxies: every second.
    pub const PROXY: Self = Self::of(1_000, 0, 0, 60_000);

    const fn of(period: u64, phase: u64, lag: u64, window: u64) -> Self {
        Self {
            period: Duration::from_millis(period),
            phase: Duration::from_millis(phase),
            lag: Duration::from_millis(lag),
            window: Duration::from_millis(window),
        }
    }

    /// The end of the newest data that can be known.
    #[must_use]
    pub fn visible(&self, now: Timestamp) -> Timestamp {
        (now - self.phase).floor(self.period) + self.phase - self.lag
    }

    /// What is known now.
    #[must_use]
    pub fn means(&self, now: Timestamp, seen: &Telemetry) -> Option<Means> {
        let end = self.visible(now);
        seen.over(end - self.window, end)
    }
}

// === impl Run ===

impl Run {
    /// A run with ten minutes of memory and no outage.
    #[must_use]
    pub fn new(until: Timestamp, step: Duration) -> Self {
        Self { until, step, retention: Duration::from_secs(600), outages: Vec::new() }
    }
}

/// Runs a plant under policies, one per service or none: each step time passes, services are looked at, and policies that are
/// due are asked and obeyed.
pub fn run(plant: &mut dyn Plant, policies: &mut [Option<Box<dyn Policy>>], run: &Run) {
    let mut telemetry = vec![Telemetry::new(run.retention); plant.services()];
    let mut due = vec![plant.now(); plant.services()];
    let step = if nanos(run.step) > 0 { run.step } else { Duration::from_secs(1) };
    while plant.now() < run.until {
        plant.advance((plant.now() + step).min(run.until));
        let now = plant.now();
        let lost = run.outages.iter().any(|outage| outage.from < now && now <= outage.until);
        for (service, policy) in policies.iter_mut().enumerate().take(telemetry.len()) {
            let Some(policy) = policy else { continue };
            telemetry[service].look(plant, service, lost);
            if now < due[service] {
                continue;
            }
            due[service] = now + policy.interval();
            if let Some(desired) = policy.tick(now, &telemetry[service]) {
                plant.set_replicas(service, desired);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn observation(from: i64, until: i64, concurrency: f64) -> Observation {
        Observation { from: at(from), until: at(until), arrivals: 30.0, concurrency, ..Observation::default() }
    }

    /// Guarantees: means weigh observations by what they share with the stretch; gaps do not count; nothing seen is no number.
    #[test]
    fn means_over_a_stretch() {
        let mut telemetry = Telemetry::new(Duration::from_secs(100));
        telemetry.see(1, observation(0, 10, 2.0), false);
        telemetry.see(1, observation(10, 20, 4.0), false);
        telemetry.see(2, observation(20, 30, 9.0), true);
        let means = telemetry.over(at(5), at(30)).unwrap();
        assert!((means.covered - 15.0).abs() < 1e-9 && (means.concurrency - (5.0 * 2.0 + 10.0 * 4.0) / 15.0).abs() < 1e-9);
        assert!((means.arrival_rate - 3.0).abs() < 1e-9);
        assert_eq!((telemetry.over(at(20), at(30)), telemetry.desired()), (None, 2));
        assert_eq!(telemetry.latest(at(19)).unwrap().until, at(10));
        telemetry.see(2, observation(100, 110, 1.0), false);
        assert_eq!(telemetry.latest(at(19)), None);
    }

    /// Guarantees: a change of CPU is 27.5 s old on average, and at most 47.5 s, before a sync every 15 s counts it.
    #[test]
    fn age_of_cpu_measurements() {
        let path = MeasurementPath::CPU;
        let age = |second: i64| {
            // The first sync whose data reach a change at this second.
            let sync = (0..).map(|sync| at(sync * 15)).find(|sync| path.visible(*sync) >= at(second)).unwrap();
            sync.since(at(second)).as_secs_f64()
        };
        let ages: Vec<f64> = (300..900).map(age).collect();
        let mean = ages.iter().sum::<f64>() / 600.0;
        assert!((mean - 27.5).abs() < 0.6, "{mean}");
        assert!(ages.iter().all(|age| *age <= 47.5));
    }

    /// A policy that writes down when it is asked and how old its newest observation is.
    struct Diary(std::rc::Rc<std::cell::RefCell<Vec<(i64, i64)>>>);

    impl Policy for Diary {
        fn name(&self) -> String {
            "diary".to_owned()
        }

        fn interval(&self) -> Duration {
            Duration::from_secs(20)
        }

        fn tick(&mut self, now: Timestamp, seen: &Telemetry) -> Option<u32> {
            let newest = seen.latest(now).map_or(-1, |observation| observation.until.as_nanos() / 1_000_000_000);
            self.0.borrow_mut().push((now.as_nanos() / 1_000_000_000, newest));
            Some(seen.desired() + 1)
        }
    }

    /// Guarantees: a policy is asked at its interval, obeyed, and blind during an outage.
    #[test]
    fn policies_are_asked_and_obeyed() {
        use crate::distribution::Distribution;
        use crate::world::{Discipline, ServiceSpec, World};
        let discipline = Discipline::ProcessorSharing { cores: 1 };
        let service = ServiceSpec::new("a", discipline, Distribution::Exponential { mean: 1.0 });
        let world = World { services: vec![service], ..World::default() };
        let mut plant = crate::des::Simulation::new(&world).unwrap();
        let diary = std::rc::Rc::default();
        let mut policies: Vec<Option<Box<dyn Policy>>> = vec![Some(Box::new(Diary(std::rc::Rc::clone(&diary))))];
        let outages = vec![Outage { from: at(30), until: at(70) }];
        run(&mut plant, &mut policies, &Run { outages, ..Run::new(at(90), Duration::from_secs(10)) });
        assert_eq!(*diary.borrow(), [(10, 10), (30, 30), (50, 30), (70, 30), (90, 90)]);
        assert_eq!((plant.desired(0), plant.report(0).actions.len()), (6, 5));
    }
}
