//! The exact engine: every request of every service is an event of its own, on a clock of whole nanoseconds.
//!
//! Events are ordered by time and then by the order in which they were caused, and all randomness comes from streams that
//! belong to a service, a purpose and a request. The same world gives the same history, on every run and under every policy.

mod queue;
mod service;
mod source;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tracescale_core::time::{Timestamp, nanos};

use self::queue::{Admission, Waiting};
use self::service::{NEVER, Service};
use self::source::Source;
use crate::number::{at, duration, index, seconds};
use crate::plant::{Observation, Phase, Plant};
use crate::random::combine;
use crate::report::ServiceReport;
use crate::world::{Balancing, CallMode, Calls, Discipline, REPLICAS_MAX, World, WorldError};

/// Most requests under way at once, calls included; more are failed on arrival.
const VISITS_MAX: usize = 4_000_000;
/// No parent.
const NONE: u32 = u32::MAX;

/// A simulation by discrete events.
#[derive(Debug)]
pub struct Simulation {
    now: i64,
    /// Events so far.
    order: u64,
    events: BinaryHeap<Reverse<Event>>,
    services: Vec<Service>,
    sources: Vec<Source>,
    visits: Vec<Visit>,
    /// Places of `visits` that are not in use.
    free: Vec<u32>,
}

/// Something that will happen. The derived order is by time, then by order of cause.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: i64,
    order: u64,
    what: What,
}

/// What will happen. Replicas are named by slot and number, because a slot is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A request comes from outside.
    Arrive { source: u32 },
    /// A replica may have finished a request.
    Due { service: u32, slot: u32, id: u64 },
    /// A replica has started.
    Ready { service: u32, slot: u32, id: u64 },
    /// The grace of a replica that drains is over.
    Kill { service: u32, slot: u32, id: u64 },
}

/// A request at a service.
#[derive(Debug)]
struct Visit {
    service: u32,
    /// The visit that made this call.
    parent: u32,
    /// Names the visit in random streams.
    name: u64,
    arrived: i64,
    /// Work, in seconds of one server.
    work: f64,
    failed: bool,
    /// Calls that are under way.
    pending: u32,
    /// Calls to make, the next stage last.
    stages: Vec<Vec<u32>>,
}

// === impl Simulation ===

impl Simulation {
    /// A simulation that stands at the start of its world.
    ///
    /// # Errors
    /// When the world cannot be simulated.
    pub fn new(world: &World) -> Result<Self, WorldError> {
        world.validate()?;
        let services = (0..).zip(&world.services).map(|(place, spec)| Service::new(spec, place, &world.edges, world.seed, world.start));
        let sources = (0..).zip(&world.loads).map(|(place, load)| Source::new(load, place, world.seed, world.start));
        let mut simulation = Self {
            now: world.start.as_nanos(),
            order: 0,
            events: BinaryHeap::new(),
            services: services.collect(),
            sources: sources.collect(),
            visits: Vec::new(),
            free: Vec::new(),
        };
        for source in 0..index(simulation.sources.len()) {
            simulation.schedule_arrival(source);
        }
        Ok(simulation)
    }

    /// Number of events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.order
    }

    /// Forgets everything that was recorded, and nothing of what is: ends a warm-up, or starts the next batch.
    pub fn reset_reports(&mut self) {
        for service in &mut self.services {
            service.reset_report(self.now);
        }
    }

    fn schedule(&mut self, at: i64, what: What) {
        self.order += 1;
        self.events.push(Reverse(Event { at, order: self.order, what }));
    }

    fn schedule_arrival(&mut self, source: u32) {
        if let Some(time) = self.sources[at(source)].next() {
            self.schedule(time, What::Arrive { source });
        }
    }

    fn schedule_due(&mut self, service: u32, slot: u32) {
        if let Some((due, id)) = self.services[at(service)].reschedule(self.now, slot) {
            self.schedule(due, What::Due { service, slot, id });
        }
    }

    /// Whether a slot still holds the replica that an event is about.
    fn is_same(&self, service: u32, slot: u32, id: u64) -> bool {
        self.services[at(service)].replicas[at(slot)].as_ref().is_some_and(|replica| replica.id == id)
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrive { source } => {
                let service = self.sources[at(source)].service;
                let name = self.sources[at(source)].name_next();
                self.schedule_arrival(source);
                let visit = self.new_visit(service, NONE, name);
                self.enter(visit);
            }
            What::Due { service, slot, id } => self.finish_due(service, slot, id),
            What::Ready { service, slot, id } => {
                if self.is_same(service, slot, id) {
                    self.services[at(service)].make_ready(self.now, slot);
                    self.admit_from_outside(service);
                }
            }
            What::Kill { service, slot, id } => {
                if self.is_same(service, slot, id) {
                    for visit in self.services[at(service)].remove(self.now, slot) {
                        self.fail(visit);
                    }
                }
            }
        }
    }

    fn new_visit(&mut self, service: u32, parent: u32, name: u64) -> u32 {
        let owner = &self.services[at(service)];
        let factor = owner.spec.work_factor.as_ref().map_or(1.0, |series| series.at(Timestamp::from_nanos(self.now)));
        let work = owner.spec.service_time.sample(&mut owner.work.of(name)) * factor;
        let arrived = self.now;
        let visit = Visit { service, parent, name, arrived, work, failed: false, pending: 0, stages: Vec::new() };
        if let Some(place) = self.free.pop() {
            self.visits[at(place)] = visit;
            return place;
        }
        self.visits.push(visit);
        index(self.visits.len() - 1)
    }

    /// A request comes to its service.
    fn enter(&mut self, visit: u32) {
        let service = self.visits[at(visit)].service;
        self.services[at(service)].arrive(self.now);
        if self.visits.len() - self.free.len() > VISITS_MAX {
            self.fail(visit);
        } else {
            self.dispatch(visit);
        }
    }

    /// Gives a request to a replica, or lets it wait outside.
    fn dispatch(&mut self, visit: u32) {
        let place = at(self.visits[at(visit)].service);
        let service = &mut self.services[place];
        if let Some(slot) = service.choose() {
            self.admit(visit, slot);
            return;
        }
        let full = match service.spec.discipline {
            Discipline::FirstComeFirstServed { capacity: Some(capacity), .. } if service.spec.balancing == Balancing::SingleQueue => {
                service.in_system > capacity.saturating_mul(index(service.ready.len()).max(1))
            }
            _ => false,
        };
        if full || !service.keep_outside(visit) {
            self.fail(visit);
        }
    }

    fn admit(&mut self, visit: u32, slot: u32) {
        let Visit { service, work, arrived, .. } = self.visits[at(visit)];
        let now = self.now;
        let owner = &mut self.services[at(service)];
        match owner.with_replica(now, slot, |replica| replica.queue.admit(now, Waiting { visit, work })) {
            Some(Admission::Started) => {
                if matches!(owner.spec.discipline, Discipline::FirstComeFirstServed { .. }) {
                    owner.report.wait.record(seconds(now - arrived));
                }
                self.schedule_due(service, slot);
            }
            Some(Admission::Queued) => {}
            Some(Admission::Rejected) | None => self.fail(visit),
        }
    }

    /// Takes out of a replica what is done.
    fn finish_due(&mut self, service: u32, slot: u32, id: u64) {
        let now = self.now;
        let is_due = |replica: &mut service::Replica| {
            let due = replica.id == id && replica.due == now;
            if due {
                replica.due = NEVER;
            }
            due
        };
        if self.services[at(service)].replicas[at(slot)].as_mut().is_none_or(|replica| !is_due(replica)) {
            return;
        }
        while let Some((visit, next)) = self.services[at(service)].with_replica(now, slot, |replica| replica.queue.finish(now)).flatten() {
            if let Some(next) = next {
                let waited = seconds(now - self.visits[at(next)].arrived);
                self.services[at(service)].report.wait.record(waited);
            }
            self.complete(visit);
        }
        self.schedule_due(service, slot);
        let owner = &mut self.services[at(service)];
        let finished =
            owner.replicas[at(slot)].as_ref().is_some_and(|replica| replica.phase == Phase::Draining && replica.queue.len() == 0);
        if finished {
            owner.remove(now, slot);
        }
        self.admit_from_outside(service);
    }

    /// Lets in those who wait outside, as far as there is room.
    fn admit_from_outside(&mut self, service: u32) {
        while !self.services[at(service)].outside.is_empty() {
            let Some(slot) = self.services[at(service)].choose() else { return };
            if let Some(visit) = self.services[at(service)].outside.pop_front() {
                self.admit(visit, slot);
            }
        }
    }

    /// A request's own work is done: its calls follow.
    fn complete(&mut self, visit: u32) {
        let Visit { service, arrived, name, .. } = self.visits[at(visit)];
        self.services[at(service)].leave(self.now, arrived, true);
        if !self.services[at(service)].calls.is_empty() {
            self.visits[at(visit)].stages = self.plan_calls(service, name);
        }
        self.proceed(visit);
    }

    /// The calls of a request in stages, the first stage last: sequential calls one by one, then all parallel calls at once.
    fn plan_calls(&self, service: u32, name: u64) -> Vec<Vec<u32>> {
        let owner = &self.services[at(service)];
        let mut stream = owner.fan.of(name);
        let (mut stages, mut parallel) = (Vec::new(), Vec::new());
        for edge in &owner.calls {
            let count = match edge.calls {
                Calls::Fixed(count) => count,
                Calls::Bernoulli(p) => u32::from(stream.chance(p)),
                Calls::Mean(mean) => crate::number::whole(mean) + u32::from(stream.chance(mean.fract())),
                Calls::Poisson(mean) => stream.poisson(mean),
            };
            for _ in 0..count {
                match edge.mode {
                    CallMode::Sequential => stages.push(vec![edge.to]),
                    CallMode::Parallel => parallel.push(edge.to),
                }
            }
        }
        if !parallel.is_empty() {
            stages.push(parallel);
        }
        stages.reverse();
        stages
    }

    /// Makes the next calls of a request, or answers it.
    fn proceed(&mut self, visit: u32) {
        let Visit { failed, name, .. } = self.visits[at(visit)];
        let left = index(self.visits[at(visit)].stages.len());
        let stage = if failed { None } else { self.visits[at(visit)].stages.pop() };
        let Some(stage) = stage else { return self.respond(visit) };
        self.visits[at(visit)].pending = index(stage.len());
        for (branch, callee) in (0_u64..).zip(stage) {
            let call = self.new_visit(callee, visit, combine(combine(name, u64::from(left)), branch));
            self.enter(call);
        }
    }

    fn fail(&mut self, visit: u32) {
        let Visit { service, arrived, .. } = self.visits[at(visit)];
        self.services[at(service)].leave(self.now, arrived, false);
        self.visits[at(visit)].failed = true;
        self.respond(visit);
    }

    /// A request is over: its caller goes on.
    fn respond(&mut self, visit: u32) {
        let Visit { service, arrived, parent, failed, .. } = self.visits[at(visit)];
        self.services[at(service)].respond(self.now, arrived, failed);
        self.free.push(visit);
        if parent == NONE {
            return;
        }
        let caller = &mut self.visits[at(parent)];
        caller.failed |= failed;
        caller.pending -= 1;
        if caller.pending == 0 {
            self.proceed(parent);
        }
    }
}

impl Plant for Simulation {
    fn services(&self) -> usize {
        self.services.len()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now)
    }

    fn advance(&mut self, until: Timestamp) {
        let until = until.as_nanos();
        while self.events.peek().is_some_and(|Reverse(event)| event.at <= until) {
            let Some(Reverse(event)) = self.events.pop() else { break };
            self.now = event.at;
            self.happen(event.what);
        }
        self.now = self.now.max(until);
    }

    fn observe(&mut self, service: usize, into: &mut Observation) {
        self.services[service].observe(self.now, into);
    }

    fn set_replicas(&mut self, service: usize, desired: u32) {
        let (created, drained) = self.services[service].resize(self.now, desired.min(REPLICAS_MAX));
        let name = index(service);
        for (slot, id, delay) in created {
            let ready = self.now.saturating_add(nanos(duration(delay)));
            self.schedule(ready, What::Ready { service: name, slot, id });
        }
        let grace = nanos(self.services[service].spec.drain_grace);
        for slot in drained {
            let Some(replica) = self.services[service].replicas[at(slot)].as_ref() else { continue };
            let (id, is_idle) = (replica.id, replica.queue.len() == 0);
            if is_idle {
                self.services[service].remove(self.now, slot);
            } else {
                self.schedule(self.now.saturating_add(grace), What::Kill { service: name, slot, id });
            }
        }
    }

    fn desired(&self, service: usize) -> u32 {
        self.services[service].desired
    }

    fn report(&self, service: usize) -> ServiceReport {
        let mut report = self.services[service].report.clone();
        report.end = self.now().max(report.end);
        report
    }
}
