//! What a simulated world looks like from outside: time passes, services are observed, replicas are set. Both engines are a
//! [`Plant`], so that a policy cannot know which of them it runs in.

use tracescale_core::time::Timestamp;

use crate::report::ServiceReport;

/// Services that can be observed and scaled. Services are named by their position.
pub trait Plant {
    /// Number of services.
    fn services(&self) -> usize;
    /// The simulated time.
    fn now(&self) -> Timestamp;
    /// Lets time pass. A time that is not later changes nothing.
    fn advance(&mut self, until: Timestamp);
    /// Overwrites `into` with what happened at a service since it was last observed, or since the start.
    fn observe(&mut self, service: usize, into: &mut Observation);
    /// Asks for a number of replicas, of which starting and ready ones count. Removes the youngest first.
    fn set_replicas(&mut self, service: usize, desired: u32);
    /// What is asked for.
    fn desired(&self, service: usize) -> u32;
    /// Everything that was recorded of a service so far.
    fn report(&self, service: usize) -> ServiceReport;
}

/// What happened at a service during a stretch of time, and which replicas it has at the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Beginning of the stretch.
    pub from: Timestamp,
    /// End of the stretch.
    pub until: Timestamp,
    /// Requests that came, rejected ones included.
    pub arrivals: f64,
    /// Requests whose own work was done.
    pub completions: f64,
    /// Requests that were rejected or lost.
    pub failed: f64,
    /// Mean number of requests in the service, waiting ones included.
    pub concurrency: f64,
    /// Requests that wait outside of replicas at the end (discrete engine), or beyond what is served (fluid engine).
    pub backlog: f64,
    /// Latency of the responses; `None` without any.
    pub latency: Option<Latency>,
    /// All replicas that exist at the end, oldest first.
    pub replicas: Vec<ReplicaGroup>,
}

/// Latency of responses, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 95 % are below.
    pub p95: f64,
    /// 99 % are below.
    pub p99: f64,
    /// Share of the responses above the service's objective.
    pub over: f64,
}

/// Replicas that are alike; a single one in the discrete engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplicaGroup {
    /// Number of the first; numbers are never used twice within a service.
    pub first: u64,
    /// How many; their numbers follow each other.
    pub count: u32,
    /// What they do.
    pub phase: Phase,
    /// When they were created.
    pub created_at: Timestamp,
    /// When they became ready; `None` before.
    pub ready_at: Option<Timestamp>,
    /// CPU that each used, in cores, on average over the observation.
    pub cpu: f64,
    /// Requests in each, on average over the observation.
    pub concurrency: f64,
}

/// Life of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Created, not ready.
    Starting,
    /// Serves.
    Ready,
    /// Removed, but still finishing requests.
    Draining,
}

// === impl Observation ===

impl Observation {
    /// Length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.until.since(self.from).as_secs_f64()
    }

    /// Requests per second, rejected ones included; 0 for a stretch of no length.
    #[must_use]
    pub fn arrival_rate(&self) -> f64 {
        let seconds = self.seconds();
        if seconds > 0.0 { self.arrivals / seconds } else { 0.0 }
    }

    /// CPU of all replicas, in cores.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        self.replicas.iter().map(|group| group.cpu * f64::from(group.count)).sum()
    }

    /// Number of replicas in a phase.
    #[must_use]
    pub fn count(&self, phase: Phase) -> u32 {
        count(&self.replicas, phase)
    }
}

/// Number of replicas in a phase.
pub(crate) fn count(groups: &[ReplicaGroup], phase: Phase) -> u32 {
    groups.iter().filter(|group| group.phase == phase).map(|group| group.count).sum()
}
