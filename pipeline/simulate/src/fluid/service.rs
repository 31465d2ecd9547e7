//! A service of the fluid engine: replicas in cohorts, a backlog, and the latency law of the moment.

use tracescale_core::time::{Timestamp, nanos};

use super::cohort::Cohorts;
use crate::model::{LEVELS, LatencyTable, Law, Sharing, UTILIZATION_MAX};
use crate::number::{seconds, whole};
use crate::plant::{Latency, Observation, Phase};
use crate::random::{Purpose, Stream};
use crate::report::{Action, ServiceReport};
use crate::world::{Discipline, ServiceSpec};

/// Latencies up to this are told apart; a request that waits for a replica which nobody ordered waits this long, in seconds.
const FOREVER: f64 = 1e5;

/// A service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) spec: ServiceSpec,
    /// Position of its latency table.
    pub(super) table: usize,
    /// Latency of the work alone, in units of its mean.
    alone: Law,
    pub(super) cohorts: Cohorts,
    startup: Stream,
    /// Noise of what is observed.
    noise: Stream,
    pub(super) desired: u32,
    /// Requests beyond what the stationary model holds.
    backlog: f64,
    /// Utilization that the queue has had time to adapt to.
    settled: f64,
    pub(super) report: ServiceReport,
    interval: Interval,
    /// Mean time until the response in the last step, in seconds; for callers.
    pub(super) response_mean: f64,
    /// Requests per second that were served in the last step; what its calls follow.
    pub(super) throughput: f64,
}

/// One step of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) from: i64,
    pub(super) until: i64,
    /// Requests per second.
    pub(super) rate: f64,
    /// Mean time that calls add to a response, in seconds.
    pub(super) calls: f64,
}

/// What was counted since the last observation.
#[derive(Debug)]
struct Interval {
    from: i64,
    answered: f64,
    arrivals: f64,
    completions: f64,
    failed: f64,
    request_seconds: f64,
    cpu_seconds: f64,
    ready_seconds: f64,
    over: f64,
    /// Sum of the laws of the steps, weighted by requests.
    law: Law,
}

/// Nothing yet.
const NO_LAW: Law = Law { mean: 0.0, exceeded: [0.0; LEVELS.len()] };

// === impl Service ===

impl Service {
    pub(super) fn new(spec: &ServiceSpec, place: u64, seed: u64, start: Timestamp, table: usize, alone: Law) -> Self {
        let count = spec.initial_replicas;
        Self {
            spec: spec.clone(),
            table,
            alone,
            cohorts: Cohorts::new(start.as_nanos(), count),
            startup: Stream::new(seed, place, Purpose::Startup),
            noise: Stream::new(seed, place, Purpose::Arrivals),
            desired: count,
            backlog: 0.0,
            settled: 0.0,
            report: ServiceReport::starting(&spec.name, start, spec.objective.latency, count, count),
            interval: Interval::starting(start.as_nanos()),
            response_mean: 0.0,
            throughput: 0.0,
        }
    }

    /// How a discipline shares servers.
    pub(super) fn sharing(discipline: Discipline) -> Sharing {
        match discipline {
            Discipline::ProcessorSharing { .. } => Sharing::Processor,
            Discipline::FirstComeFirstServed { .. } => Sharing::Queue,
        }
    }

    /// Lets one step pass.
    pub(super) fn step(&mut self, step: Step, table: &mut LatencyTable) {
        let length = seconds(step.until - step.from);
        let middle = Timestamp::from_nanos(step.from + (step.until - step.from) / 2);
        let work = self.spec.service_time.mean() * self.spec.work_factor.as_ref().map_or(1.0, |series| series.at(middle));
        let ready_seconds = self.cohorts.ready_seconds(step.from, step.until);
        let ready = ready_seconds / length;
        let servers = ready * f64::from(self.spec.discipline.servers());
        let arrivals = step.rate * length;

        let served = if work > 0.0 { (servers * length / work).min(self.backlog + arrivals) } else { self.backlog + arrivals };
        let unlimited = (self.backlog + arrivals - served).max(0.0);
        let after = unlimited.min(self.room(ready, servers));
        let failed = unlimited - after;
        let waiting = 0.5 * (self.backlog + after);
        self.backlog = after;

        let utilization = if servers > 0.0 { step.rate * work / servers } else { 0.0 };
        self.settle(utilization, length, work, ready);
        let law = self.law(step, table, work, ready, servers, waiting);
        let over = law.tail(self.spec.objective.latency);
        self.throughput = served / length;
        self.response_mean = law.mean;
        let stationary = step.rate.min(self.throughput) * (law.mean - step.calls - self.delay(servers, waiting, work)).max(0.0);
        let counted = Counted { length, arrivals, served, failed, ready_seconds, work, requests: stationary + waiting };
        self.count(step, &counted, &law, over);
        if self.cohorts.pass(step.until) {
            self.note_supply(step.until);
        }
    }

    /// Moves the utilization that the queue is adapted to toward the present one, as fast as a queue relaxes.
    fn settle(&mut self, utilization: f64, length: f64, work: f64, ready: f64) {
        let target = utilization.min(UTILIZATION_MAX);
        let replicas = if self.spec.balancing.pooling() >= 0.5 { 1.0 } else { ready.max(1.0) };
        let rate = f64::from(self.spec.discipline.servers()) * replicas * (1.0 - target.sqrt()).powi(2) / work.max(1e-9);
        self.settled += (target - self.settled) * -(-length * rate).exp_m1();
    }

    /// Mean time that the backlog adds.
    fn delay(&self, servers: f64, waiting: f64, work: f64) -> f64 {
        if servers > 0.0 { waiting * work / servers } else { 0.0 }
    }

    /// The latency law of this step, in seconds: stationary at the settled utilization, and the backlog on top. Under processor
    /// sharing the backlog slows everybody down alike; in a queue everybody waits for it alike.
    fn law(&self, step: Step, table: &mut LatencyTable, work: f64, ready: f64, servers: f64, waiting: f64) -> Law {
        if servers <= 0.0 {
            let until = self.cohorts.next_ready(step.from).map_or(FOREVER, |at| seconds(at - step.from).max(0.0));
            let mut law = self.alone;
            for (value, own) in law.exceeded.iter_mut().zip(&self.alone.exceeded) {
                *value = until + own * work + step.calls;
            }
            law.mean = until + work + step.calls;
            return law;
        }
        let each = self.spec.discipline.servers();
        let separation = self.spec.balancing.pooling();
        let pool = whole((ready * f64::from(each)).round()).max(1);
        let law = if ready <= 1.0 || separation >= 1.0 {
            table.law(each, self.settled)
        } else if separation <= 0.0 {
            table.law(pool, self.settled)
        } else {
            table.law(pool, self.settled).mix(&table.law(each, self.settled), separation)
        };
        let delay = self.delay(servers, waiting, work);
        let shared = Self::sharing(self.spec.discipline) == Sharing::Processor;
        let mut result = law;
        result.mean = law.mean * work + delay + step.calls;
        for (value, own) in result.exceeded.iter_mut().zip(&self.alone.exceeded) {
            *value = *value * work + if shared { delay * own } else { delay } + step.calls;
        }
        result
    }

    /// How many requests may wait.
    fn room(&self, ready: f64, servers: f64) -> f64 {
        let outside = f64::from(self.spec.waiting_room);
        match self.spec.discipline {
            _ if ready <= 0.0 => outside,
            Discipline::FirstComeFirstServed { capacity: Some(capacity), .. } => (f64::from(capacity) * ready - servers).max(0.0),
            _ => f64::INFINITY,
        }
    }

    fn count(&mut self, step: Step, counted: &Counted, law: &Law, over: f64) {
        let Counted { length, arrivals, served, failed, ready_seconds, work, requests } = *counted;
        let busy_seconds = served * work;
        let cpu_seconds = busy_seconds * self.spec.cpu_share;
        let (came, done, used) = self.observed(counted);
        let report = &mut self.report;
        report.end = Timestamp::from_nanos(step.until);
        report.arrivals += arrivals;
        report.completions += served;
        report.failed += failed;
        report.in_system_seconds += requests * length;
        report.busy_seconds += busy_seconds;
        report.replica_seconds += self.cohorts.billed_seconds(step.from, step.until);
        report.cpu_seconds += cpu_seconds;
        report.backlog_max = report.backlog_max.max(self.backlog);
        let answered = (arrivals - failed).max(0.0);
        // Requests of earlier steps that fail now were counted when they came.
        report.count_minute(step.from, arrivals, answered * over + failed.min(arrivals));
        record(report, law, answered, step.calls);
        let interval = &mut self.interval;
        interval.answered += answered;
        interval.arrivals += came;
        interval.completions += done;
        interval.failed += failed;
        interval.request_seconds += requests * length * if busy_seconds > 0.0 { used / busy_seconds } else { 1.0 };
        interval.cpu_seconds += used * self.spec.cpu_share;
        interval.ready_seconds += ready_seconds;
        interval.over += answered * over;
        interval.law.mean += law.mean * answered;
        for (sum, value) in interval.law.exceeded.iter_mut().zip(&law.exceeded) {
            *sum += value * answered;
        }
    }

    /// Arrivals, completions and busy seconds as they would be counted: finitely many requests of random work. The dynamics do not
    /// see this noise, because the latency laws already contain it.
    fn observed(&mut self, counted: &Counted) -> (f64, f64, f64) {
        let Counted { arrivals, served, ready_seconds, work, .. } = *counted;
        if arrivals <= 0.0 {
            return (0.0, served, served * work);
        }
        let count = self.noise.normal() / arrivals.sqrt();
        let size = self.noise.normal() * (self.spec.service_time.scv() / arrivals).sqrt();
        let most = ready_seconds * f64::from(self.spec.discipline.servers());
        let came = (arrivals * (1.0 + count)).max(0.0);
        // What is limited by the servers does not vary with what comes.
        let share = if self.backlog > 0.0 { 0.0 } else { 1.0 };
        let done = (served * (1.0 + share * count)).max(0.0);
        let used = (served * work * (1.0 + share * (count + size))).clamp(0.0, most);
        (came, done, used)
    }

    pub(super) fn resize(&mut self, now: i64, desired: u32) {
        if desired == self.desired {
            return;
        }
        self.report.actions.push(Action { at: Timestamp::from_nanos(now), from: self.desired, to: desired });
        for _ in self.desired..desired {
            let mut stream = self.startup.of(self.cohorts.created());
            let delay = crate::number::duration(self.spec.startup.sample(&mut stream));
            self.cohorts.create(now, now.saturating_add(nanos(delay)));
        }
        let drain = nanos(self.spec.drain_grace).min(crate::number::nanos(self.response_mean));
        self.cohorts.remove(self.desired.saturating_sub(desired), now, now.saturating_add(drain));
        self.desired = desired;
        self.cohorts.pass(now);
        self.note_supply(now);
    }

    fn note_supply(&mut self, now: i64) {
        self.report.supply(Timestamp::from_nanos(now), self.desired, self.cohorts.count(Phase::Ready));
    }

    pub(super) fn observe(&mut self, now: i64, into: &mut Observation) {
        let interval = std::mem::replace(&mut self.interval, Interval::starting(now));
        let passed = seconds(now - interval.from).max(f64::MIN_POSITIVE);
        (into.from, into.until) = (Timestamp::from_nanos(interval.from), Timestamp::from_nanos(now));
        (into.arrivals, into.completions, into.failed) = (interval.arrivals, interval.completions, interval.failed);
        into.concurrency = interval.request_seconds / passed;
        into.backlog = self.backlog;
        into.latency = interval.latency();
        let ready_seconds = interval.ready_seconds.max(f64::MIN_POSITIVE);
        // What waits while no replica is ready is in none of them.
        let inside = if interval.ready_seconds > 0.0 { interval.request_seconds } else { 0.0 };
        self.cohorts.observe(interval.cpu_seconds / ready_seconds, inside / ready_seconds, &mut into.replicas);
    }
}

/// What a step came to.
struct Counted {
    length: f64,
    arrivals: f64,
    served: f64,
    failed: f64,
    ready_seconds: f64,
    work: f64,
    /// Mean requests in the service.
    requests: f64,
}

/// Adds a latency law to the histograms: each level stands for the requests nearest to it.
fn record(report: &mut ServiceReport, law: &Law, requests: f64, calls: f64) {
    if requests <= 0.0 {
        return;
    }
    let mut above = 1.0;
    for (place, value) in law.exceeded.iter().enumerate() {
        let below = LEVELS.get(place + 1).map_or(0.0, |next| 0.5 * (LEVELS[place] + next));
        let weight = (above - below) * requests;
        report.response.add(*value, weight);
        if calls > 0.0 {
            report.sojourn.add(value - calls, weight);
        }
        above = below;
    }
}

// === impl Interval ===

impl Interval {
    fn starting(now: i64) -> Self {
        Self {
            from: now,
            answered: 0.0,
            arrivals: 0.0,
            completions: 0.0,
            failed: 0.0,
            request_seconds: 0.0,
            cpu_seconds: 0.0,
            ready_seconds: 0.0,
            over: 0.0,
            law: NO_LAW,
        }
    }

    fn latency(&self) -> Option<Latency> {
        let answered = self.answered;
        let at = |level: f64| {
            let place = LEVELS.iter().position(|own| (own - level).abs() < 1e-12)?;
            Some(self.law.exceeded[place] / answered)
        };
        if answered <= 0.0 {
            return None;
        }
        Some(Latency { mean: self.law.mean / answered, p50: at(0.5)?, p95: at(0.05)?, p99: at(0.01)?, over: self.over / answered })
    }
}
