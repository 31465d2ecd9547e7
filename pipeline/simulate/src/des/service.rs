//! A service of the discrete engine: its replicas, who gets the next request, and what is counted.

use std::collections::VecDeque;

use tracescale_core::time::Timestamp;

use super::queue::Queue;
use crate::histogram::LogHistogram;
use crate::number::{at, index, real, seconds};
use crate::plant::{Latency, Observation, Phase, ReplicaGroup};
use crate::random::{Purpose, Stream};
use crate::report::{Action, ServiceReport};
use crate::world::{Balancing, Edge, ServiceSpec};

/// No event is due.
pub(super) const NEVER: i64 = i64::MAX;

/// A service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) spec: ServiceSpec,
    pub(super) calls: Vec<Edge>,
    /// Work of requests, by request.
    pub(super) work: Stream,
    /// Calls of requests, by request.
    pub(super) fan: Stream,
    startup: Stream,
    balancing: Stream,
    /// Whose turn it is with [`Balancing::RoundRobin`].
    turn: usize,
    /// By slot; a slot is used again after its replica is gone.
    pub(super) replicas: Vec<Option<Replica>>,
    free: Vec<u32>,
    /// Slots of all replicas, oldest first.
    alive: Vec<u32>,
    /// Slots of ready replicas, oldest first.
    pub(super) ready: Vec<u32>,
    created: u64,
    pub(super) desired: u32,
    /// Requests that wait outside of replicas.
    pub(super) outside: VecDeque<u32>,
    pub(super) in_system: u32,
    busy: u32,
    /// Until when the integrals of the report reach.
    counted: i64,
    pub(super) report: ServiceReport,
    interval: Interval,
}

/// A replica.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) id: u64,
    pub(super) phase: Phase,
    created_at: i64,
    ready_at: Option<i64>,
    pub(super) queue: Queue,
    /// When its next event is due: events of other times are out of date.
    pub(super) due: i64,
    /// Integrals since the last observation, and until when they reach.
    busy_seconds: f64,
    request_seconds: f64,
    counted: i64,
    /// When it was last observed, or created.
    observed_at: i64,
}

/// What was counted since the last observation.
#[derive(Debug, Default)]
struct Interval {
    from: i64,
    arrivals: f64,
    completions: f64,
    failed: f64,
    in_system_seconds: f64,
    responses: LogHistogram,
    over: f64,
}

// === impl Service ===

impl Service {
    pub(super) fn new(spec: &ServiceSpec, place: u64, edges: &[Edge], seed: u64, start: Timestamp) -> Self {
        let stream = |purpose| Stream::new(seed, place, purpose);
        let calls = edges.iter().filter(|edge| u64::from(edge.from) == place).copied().collect();
        let report = ServiceReport::starting(&spec.name, start, spec.objective.latency, 0, 0);
        let mut service = Self {
            spec: spec.clone(),
            calls,
            work: stream(Purpose::ServiceTime),
            fan: stream(Purpose::Calls),
            startup: stream(Purpose::Startup),
            balancing: stream(Purpose::Balancing),
            turn: 0,
            replicas: Vec::new(),
            free: Vec::new(),
            alive: Vec::new(),
            ready: Vec::new(),
            created: 0,
            desired: spec.initial_replicas,
            outside: VecDeque::new(),
            in_system: 0,
            busy: 0,
            counted: start.as_nanos(),
            report,
            interval: Interval { from: start.as_nanos(), ..Interval::default() },
        };
        for _ in 0..spec.initial_replicas {
            let slot = service.create(start.as_nanos()).0;
            service.make_ready(start.as_nanos(), slot);
        }
        service
    }

    /// Forgets what was recorded, not what is.
    pub(super) fn reset_report(&mut self, now: i64) {
        self.touch(now);
        let start = Timestamp::from_nanos(now);
        self.report = ServiceReport::starting(&self.spec.name, start, self.spec.objective.latency, self.desired, index(self.ready.len()));
    }

    /// Brings the integrals up to date; must come before any change of what they integrate.
    pub(super) fn touch(&mut self, now: i64) {
        let passed = seconds(now - self.counted);
        let report = &mut self.report;
        report.in_system_seconds += passed * f64::from(self.in_system);
        report.busy_seconds += passed * f64::from(self.busy);
        report.cpu_seconds += passed * f64::from(self.busy) * self.spec.cpu_share;
        report.replica_seconds += passed * f64::from(index(self.alive.len()));
        report.end = Timestamp::from_nanos(now);
        self.interval.in_system_seconds += passed * f64::from(self.in_system);
        self.counted = now;
    }

    /// A request came.
    pub(super) fn arrive(&mut self, now: i64) {
        self.touch(now);
        self.in_system += 1;
        self.report.arrivals += 1.0;
        self.interval.arrivals += 1.0;
    }

    /// A request left, done or failed.
    pub(super) fn leave(&mut self, now: i64, arrived: i64, done: bool) {
        self.touch(now);
        self.in_system -= 1;
        if done {
            self.report.completions += 1.0;
            self.interval.completions += 1.0;
            self.report.sojourn.record(seconds(now - arrived));
        } else {
            self.interval.failed += 1.0;
        }
    }

    /// A request was answered.
    pub(super) fn respond(&mut self, now: i64, arrived: i64, failed: bool) {
        if failed {
            self.report.failed += 1.0;
            self.report.count_minute(arrived, 1.0, 1.0);
            return;
        }
        self.report.respond(arrived, now);
        let latency = seconds(now - arrived);
        self.interval.responses.record(latency);
        if latency > self.spec.objective.latency {
            self.interval.over += 1.0;
        }
    }

    /// A waiting request that has no replica. Tells whether there was room.
    pub(super) fn keep_outside(&mut self, visit: u32) -> bool {
        let length = index(self.outside.len());
        if length >= self.spec.waiting_room {
            return false;
        }
        self.outside.push_back(visit);
        self.report.backlog_max = self.report.backlog_max.max(f64::from(length + 1));
        true
    }

    /// The slot of the replica that gets the next request; `None` when it must wait outside.
    pub(super) fn choose(&mut self) -> Option<u32> {
        let count = index(self.ready.len());
        if count == 0 {
            return None;
        }
        match self.spec.balancing {
            Balancing::Random => {
                let place = self.balancing.below(count);
                Some(self.ready[at(place)])
            }
            Balancing::RoundRobin => {
                self.turn = (self.turn + 1) % self.ready.len();
                Some(self.ready[self.turn])
            }
            Balancing::PowerOfTwo => {
                let first = self.balancing.below(count);
                let second = if count > 1 { (first + 1 + self.balancing.below(count - 1)) % count } else { first };
                let (first, second) = (self.ready[at(first)], self.ready[at(second)]);
                Some(if self.load(second) < self.load(first) { second } else { first })
            }
            Balancing::LeastOutstanding => self.least_loaded(),
            Balancing::SingleQueue => self.least_loaded().filter(|slot| self.load(*slot) < self.spec.discipline.servers()),
        }
    }

    /// The ready replica with the fewest requests; any of them when there are several.
    fn least_loaded(&mut self) -> Option<u32> {
        let (mut best, mut least, mut ties) = (None, u32::MAX, 0);
        for place in 0..self.ready.len() {
            let slot = self.ready[place];
            let load = self.load(slot);
            if load > least {
                continue;
            }
            ties = if load == least { ties + 1 } else { 1 };
            if load < least || self.balancing.below(ties) == 0 {
                (best, least) = (Some(slot), load);
            }
        }
        best
    }

    fn load(&self, slot: u32) -> u32 {
        self.replicas[at(slot)].as_ref().map_or(u32::MAX, |replica| replica.queue.len())
    }

    /// Lets a replica's queue change and keeps the counts of busy servers right. `None` when the replica is gone.
    pub(super) fn with_replica<T>(&mut self, now: i64, slot: u32, change: impl FnOnce(&mut Replica) -> T) -> Option<T> {
        self.touch(now);
        let replica = self.replicas.get_mut(at(slot))?.as_mut()?;
        replica.touch(now);
        let before = replica.queue.busy();
        let result = change(replica);
        self.busy = self.busy - before + replica.queue.busy();
        Some(result)
    }

    /// The next event of a replica, if it is earlier than what is scheduled.
    pub(super) fn reschedule(&mut self, now: i64, slot: u32) -> Option<(i64, u64)> {
        let replica = self.replicas.get_mut(at(slot))?.as_mut()?;
        let next = replica.queue.next_due(now)?;
        (next < replica.due).then(|| {
            replica.due = next;
            (next, replica.id)
        })
    }

    /// Creates a replica and draws how long it takes to start, in seconds.
    fn create(&mut self, now: i64) -> (u32, u64, f64) {
        self.touch(now);
        let id = self.created;
        self.created += 1;
        let replica = Replica {
            id,
            phase: Phase::Starting,
            created_at: now,
            ready_at: None,
            queue: Queue::new(self.spec.discipline, now),
            due: NEVER,
            busy_seconds: 0.0,
            request_seconds: 0.0,
            counted: now,
            observed_at: now,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.replicas.push(None);
            index(self.replicas.len() - 1)
        });
        self.replicas[at(slot)] = Some(replica);
        self.alive.push(slot);
        (slot, id, self.spec.startup.sample(&mut self.startup.of(id)))
    }

    /// A replica is ready.
    pub(super) fn make_ready(&mut self, now: i64, slot: u32) {
        if let Some(replica) = self.replicas[at(slot)].as_mut() {
            replica.phase = Phase::Ready;
            replica.ready_at = Some(now);
            let id = replica.id;
            let replicas = &self.replicas;
            let younger = |other: &u32| replicas[at(*other)].as_ref().is_none_or(|other| other.id < id);
            let place = self.ready.partition_point(younger);
            self.ready.insert(place, slot);
        }
        self.note_supply(now);
    }

    /// Changes the desired number. Gives the replicas that were created, with their start-up delays, and the slots of those that
    /// must drain.
    pub(super) fn resize(&mut self, now: i64, desired: u32) -> (Vec<(u32, u64, f64)>, Vec<u32>) {
        let (mut created, mut drained) = (Vec::new(), Vec::new());
        if desired == self.desired {
            return (created, drained);
        }
        self.touch(now);
        self.report.actions.push(Action { at: Timestamp::from_nanos(now), from: self.desired, to: desired });
        for _ in self.desired..desired {
            created.push(self.create(now));
        }
        for _ in desired..self.desired {
            let phase = |slot: &u32| self.replicas[at(*slot)].as_ref().map(|replica| replica.phase);
            let youngest = |wanted| self.alive.iter().rev().copied().find(|slot| phase(slot) == Some(wanted));
            // A replica that has not started is no loss.
            if let Some(slot) = youngest(Phase::Starting) {
                self.remove(now, slot);
            } else if let Some(slot) = youngest(Phase::Ready) {
                self.ready.retain(|other| *other != slot);
                if let Some(replica) = self.replicas[at(slot)].as_mut() {
                    replica.phase = Phase::Draining;
                }
                drained.push(slot);
            }
        }
        self.desired = desired;
        self.note_supply(now);
        (created, drained)
    }

    /// A replica is gone. Gives the requests that it still had.
    pub(super) fn remove(&mut self, now: i64, slot: u32) -> Vec<u32> {
        let lost = self.with_replica(now, slot, |replica| replica.queue.clear()).unwrap_or_default();
        self.replicas[at(slot)] = None;
        self.alive.retain(|other| *other != slot);
        self.free.push(slot);
        lost
    }

    fn note_supply(&mut self, now: i64) {
        self.report.supply(Timestamp::from_nanos(now), self.desired, index(self.ready.len()));
    }

    /// What happened since the last observation.
    pub(super) fn observe(&mut self, now: i64, into: &mut Observation) {
        self.touch(now);
        let interval = &mut self.interval;
        let passed = seconds(now - interval.from).max(f64::MIN_POSITIVE);
        (into.from, into.until) = (Timestamp::from_nanos(interval.from), Timestamp::from_nanos(now));
        (into.arrivals, into.completions, into.failed) = (interval.arrivals, interval.completions, interval.failed);
        into.concurrency = interval.in_system_seconds / passed;
        into.backlog = real(u64::from(index(self.outside.len())));
        into.latency = interval.latency();
        into.replicas.clear();
        for slot in &self.alive {
            if let Some(replica) = self.replicas[at(*slot)].as_mut() {
                into.replicas.push(replica.observe(now, self.spec.cpu_share));
            }
        }
        (interval.from, interval.arrivals, interval.completions, interval.failed) = (now, 0.0, 0.0, 0.0);
        (interval.in_system_seconds, interval.over) = (0.0, 0.0);
        interval.responses.clear();
    }
}

// === impl Replica ===

impl Replica {
    fn touch(&mut self, now: i64) {
        let passed = seconds(now - self.counted);
        self.busy_seconds += passed * f64::from(self.queue.busy());
        self.request_seconds += passed * f64::from(self.queue.len());
        self.counted = now;
    }

    fn observe(&mut self, now: i64, cpu_share: f64) -> ReplicaGroup {
        self.touch(now);
        let observed = seconds(now - self.observed_at).max(f64::MIN_POSITIVE);
        let group = ReplicaGroup {
            first: self.id,
            count: 1,
            phase: self.phase,
            created_at: Timestamp::from_nanos(self.created_at),
            ready_at: self.ready_at.map(Timestamp::from_nanos),
            cpu: self.busy_seconds * cpu_share / observed,
            concurrency: self.request_seconds / observed,
        };
        (self.busy_seconds, self.request_seconds) = (0.0, 0.0);
        self.observed_at = now;
        group
    }
}

// === impl Interval ===

impl Interval {
    fn latency(&self) -> Option<Latency> {
        let quantile = |q| self.responses.quantile(q);
        Some(Latency {
            mean: self.responses.mean()?,
            p50: quantile(0.5)?,
            p95: quantile(0.95)?,
            p99: quantile(0.99)?,
            over: self.over / self.responses.count(),
        })
    }
}
