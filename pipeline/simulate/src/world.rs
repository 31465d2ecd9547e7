//! What is simulated: services, the calls between them, and the load from outside.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::time::Timestamp;

use crate::distribution::{Distribution, DistributionError};
use crate::number::at;
use crate::series::{Series, SeriesError};

/// Most replicas of a service.
pub const REPLICAS_MAX: u32 = 10_000;
/// Most servers of a replica.
pub const SERVERS_MAX: u32 = 1_000_000;
/// Most calls of one kind per request, on average.
pub const CALLS_MAX: f64 = 1000.0;
/// Highest rate of a load, in requests per second: gaps must be told apart on a clock of nanoseconds.
pub const RATE_MAX: f64 = 1e7;
/// Steps of the power iteration that finds whether calls multiply without end.
const POWER_STEPS: u32 = 400;

/// Everything that is simulated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct World {
    /// When the simulation begins.
    pub start: Timestamp,
    /// Where all randomness comes from.
    pub seed: u64,
    /// The services; others refer to them by position.
    pub services: Vec<ServiceSpec>,
    /// Calls between services.
    pub edges: Vec<Edge>,
    /// Load from outside.
    pub loads: Vec<Load>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// Name, for reports.
    pub name: String,
    /// How a replica serves.
    pub discipline: Discipline,
    /// Work of a request, in seconds of one server.
    pub service_time: Distribution,
    /// What the work is multiplied by over time (a leak, a bad deployment); 1 when absent.
    #[serde(default)]
    pub work_factor: Option<Series>,
    /// How requests find a replica.
    #[serde(default)]
    pub balancing: Balancing,
    /// From the creation of a replica until it is ready, in seconds.
    #[serde(default = "no_delay")]
    pub startup: Distribution,
    /// How long a replica that was removed may finish its requests; what is left then is lost.
    #[serde(default = "thirty_seconds", with = "tracescale_core::duration::text")]
    pub drain_grace: Duration,
    /// Replicas at the start, all ready.
    #[serde(default = "one_replica")]
    pub initial_replicas: u32,
    /// Most requests that wait outside of replicas: while none is ready, or in the one queue of [`Balancing::SingleQueue`].
    #[serde(default = "waiting_room")]
    pub waiting_room: u32,
    /// CPU seconds per second of a busy server.
    #[serde(default = "all")]
    pub cpu_share: f64,
    /// What its requests were promised.
    #[serde(default)]
    pub objective: Objective,
}

/// How a replica serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "kind")]
pub enum Discipline {
    /// All requests at once: `n` of them run at `min(1, cores / n)` of full speed each.
    ProcessorSharing {
        /// Number of cores.
        cores: u32,
    },
    /// In order of arrival, `slots` at a time.
    FirstComeFirstServed {
        /// Requests that are served at once.
        slots: u32,
        /// Most requests in a replica, those in service included; more are rejected. Unlimited when absent.
        #[serde(default)]
        capacity: Option<u32>,
    },
}

/// How requests find a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Balancing {
    /// Any replica.
    #[default]
    Random,
    /// One after the other.
    RoundRobin,
    /// The less loaded of two that are drawn.
    PowerOfTwo,
    /// The one with the fewest requests; one of them when there are several.
    LeastOutstanding,
    /// One queue outside: a replica takes a request when one of its servers is free (under processor sharing too).
    SingleQueue,
}

/// A latency promise: the share `quantile` of the requests takes at most `latency`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Objective {
    /// The latency, in seconds.
    pub latency: f64,
    /// The share.
    pub quantile: f64,
}

/// Calls from one service to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edge {
    /// Position of the caller.
    pub from: u32,
    /// Position of the callee.
    pub to: u32,
    /// How many calls per request of the caller.
    pub calls: Calls,
    /// When they are made: after the caller's own work, and after each other or all at once. Parallel calls come last.
    #[serde(default)]
    pub mode: CallMode,
}

/// A number of calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Calls {
    /// Always as many.
    Fixed(u32),
    /// One with this probability, else none.
    Bernoulli(f64),
    /// The whole part always, and one more with the probability of the rest.
    Mean(f64),
    /// A Poisson number of this mean.
    Poisson(f64),
}

/// Whether calls wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CallMode {
    /// One after the other.
    #[default]
    Sequential,
    /// All at once; the caller waits for the last.
    Parallel,
}

/// Load from outside on one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// Position of the service.
    pub service: u32,
    /// The requests.
    pub arrivals: Arrivals,
}

/// Requests over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Arrivals {
    /// Independent gaps of this distribution; exponential gaps are a Poisson process.
    Renewal(Distribution),
    /// A Poisson process whose rate, in requests per second, follows a series.
    Varying(Series),
}

/// Why a world cannot be simulated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WorldError {
    /// A distribution.
    #[error("{field} of service {service:?}: {source}")]
    Distribution {
        /// Which service.
        service: String,
        /// Which of its fields.
        field: &'static str,
        /// Why.
        source: DistributionError,
    },
    /// A series.
    #[error("{field}: {source}")]
    Series {
        /// Which.
        field: String,
        /// Why.
        source: SeriesError,
    },
    /// A number out of its range.
    #[error("{field} of service {service:?} is {value}, but must be {range}")]
    Range {
        /// Which service.
        service: String,
        /// Which of its fields.
        field: &'static str,
        /// What it is.
        value: f64,
        /// What it must be.
        range: &'static str,
    },
    /// A reference to a service that is not there.
    #[error("{field} refers to service {service}, but there are {count} (counted from 0)")]
    NoService {
        /// What refers to it.
        field: String,
        /// Its position.
        service: u32,
        /// Number of services.
        count: usize,
    },
    /// A load that the clock cannot resolve.
    #[error(
        "load {place} (counted from 0) has {rate:e} requests per second, but at most {RATE_MAX:e} can be simulated; hint: is its unit requests per second?"
    )]
    Rate {
        /// Position of the load.
        place: usize,
        /// Its highest rate.
        rate: f64,
    },
    /// A number of calls that makes no sense.
    #[error("edge {place} makes {calls} calls per request, but must make from 0 to {CALLS_MAX}, a Bernoulli edge at most 1")]
    Calls {
        /// Position of the edge.
        place: usize,
        /// Mean number of calls.
        calls: f64,
    },
    /// Calls that cause ever more calls.
    #[error("calls multiply without end: a request causes {growth:.3} as many in each round; lower the calls of a cycle")]
    Endless {
        /// Spectral radius of the calls.
        growth: f64,
    },
}

fn no_delay() -> Distribution {
    Distribution::Deterministic { value: 0.0 }
}

fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

fn one_replica() -> u32 {
    1
}

fn waiting_room() -> u32 {
    100_000
}

fn all() -> f64 {
    1.0
}

// === impl World ===

impl World {
    /// Checks everything.
    ///
    /// # Errors
    /// The first thing that cannot be simulated.
    pub fn validate(&self) -> Result<(), WorldError> {
        self.services.iter().try_for_each(ServiceSpec::validate)?;
        let known = |field: String, service: u32| {
            let count = self.services.len();
            if at(service) < count { Ok(()) } else { Err(WorldError::NoService { field, service, count }) }
        };
        for (place, load) in self.loads.iter().enumerate() {
            known(format!("load {place}"), load.service)?;
            match &load.arrivals {
                Arrivals::Renewal(gaps) => gaps.validate().map_err(|source| {
                    let service = self.services[at(load.service)].name.clone();
                    WorldError::Distribution { service, field: "arrivals", source }
                })?,
                Arrivals::Varying(series) => {
                    series.validate().map_err(|source| WorldError::Series { field: format!("load {place}"), source })?;
                }
            }
            let rate = load.arrivals.highest_rate();
            if rate.is_nan() || rate > RATE_MAX {
                return Err(WorldError::Rate { place, rate });
            }
        }
        for (place, edge) in self.edges.iter().enumerate() {
            known(format!("edge {place}"), edge.from)?;
            known(format!("edge {place}"), edge.to)?;
            if !edge.calls.is_valid() {
                return Err(WorldError::Calls { place, calls: edge.calls.mean() });
            }
        }
        let growth = self.growth();
        if growth < 0.999 { Ok(()) } else { Err(WorldError::Endless { growth }) }
    }

    /// How many calls one round of calls causes in the next, by power iteration: the spectral radius of the call matrix.
    fn growth(&self) -> f64 {
        let mut flow = vec![1.0; self.services.len()];
        let mut growth = 0.0;
        let mut logarithms = 0.0;
        for step in 0..POWER_STEPS {
            let mut next = vec![0.0; flow.len()];
            for edge in &self.edges {
                next[at(edge.to)] += flow[at(edge.from)] * edge.calls.mean();
            }
            let total: f64 = next.iter().sum();
            if total <= 0.0 {
                return 0.0;
            }
            let before: f64 = flow.iter().sum();
            // The second half of the steps averages over cycles of any period.
            if step >= POWER_STEPS / 2 {
                logarithms += (total / before).ln();
                growth = (logarithms / f64::from(step + 1 - POWER_STEPS / 2)).exp();
            }
            flow = next.iter().map(|value| value / total).collect();
        }
        growth
    }
}

// === impl ServiceSpec ===

impl ServiceSpec {
    /// A service with the defaults of a document: random balancing, no start-up delay, one replica.
    #[must_use]
    pub fn new(name: &str, discipline: Discipline, service_time: Distribution) -> Self {
        Self {
            name: name.to_owned(),
            discipline,
            service_time,
            work_factor: None,
            balancing: Balancing::default(),
            startup: no_delay(),
            drain_grace: thirty_seconds(),
            initial_replicas: one_replica(),
            waiting_room: waiting_room(),
            cpu_share: all(),
            objective: Objective::default(),
        }
    }

    fn validate(&self) -> Result<(), WorldError> {
        let service = || self.name.clone();
        let distribution = |field, source| WorldError::Distribution { service: service(), field, source };
        self.service_time.validate().map_err(|source| distribution("serviceTime", source))?;
        self.startup.validate().map_err(|source| distribution("startup", source))?;
        if let Some(series) = &self.work_factor {
            series.validate().map_err(|source| WorldError::Series { field: format!("workFactor of service {:?}", self.name), source })?;
        }
        let range = |field, value: f64, valid: bool, range| {
            let valid = valid && value.is_finite();
            if valid { Ok(()) } else { Err(WorldError::Range { service: service(), field, value, range }) }
        };
        let servers = self.discipline.servers();
        range("discipline", f64::from(servers), (1..=SERVERS_MAX).contains(&servers), "from 1 to 1000000 servers")?;
        range("initialReplicas", f64::from(self.initial_replicas), self.initial_replicas <= REPLICAS_MAX, "at most 10000")?;
        range("cpuShare", self.cpu_share, self.cpu_share >= 0.0, "zero or more")?;
        range("objective.latency", self.objective.latency, self.objective.latency > 0.0, "above zero")?;
        let quantile = self.objective.quantile;
        range("objective.quantile", quantile, quantile > 0.0 && quantile < 1.0, "between 0 and 1")
    }
}

// === impl Discipline ===

impl Discipline {
    /// Servers of a replica: cores or slots.
    #[must_use]
    pub const fn servers(self) -> u32 {
        match self {
            Self::ProcessorSharing { cores } => cores,
            Self::FirstComeFirstServed { slots, .. } => slots,
        }
    }
}

// === impl Balancing ===

impl Balancing {
    /// How much of the delay of separate replicas is left compared with one pool: 1 all of it, 0 nothing. Simulated values for
    /// Poisson arrivals and exponential work.
    #[must_use]
    pub const fn pooling(self) -> f64 {
        match self {
            Self::Random => 1.0,
            Self::RoundRobin => 0.46,
            Self::PowerOfTwo => 0.15,
            Self::LeastOutstanding => 0.04,
            Self::SingleQueue => 0.0,
        }
    }
}

impl Default for Objective {
    /// 99 % within half a second.
    fn default() -> Self {
        Self { latency: 0.5, quantile: 0.99 }
    }
}

// === impl Calls ===

impl Calls {
    /// Mean number.
    #[must_use]
    pub fn mean(self) -> f64 {
        match self {
            Self::Fixed(count) => f64::from(count),
            Self::Bernoulli(mean) | Self::Mean(mean) | Self::Poisson(mean) => mean,
        }
    }

    fn is_valid(self) -> bool {
        let most = if matches!(self, Self::Bernoulli(_)) { 1.0 } else { CALLS_MAX };
        (0.0..=most).contains(&self.mean())
    }
}

// === impl Arrivals ===

impl Arrivals {
    /// A Poisson process of constant rate, in requests per second.
    #[must_use]
    pub fn poisson(rate: f64) -> Self {
        Self::Renewal(Distribution::Exponential { mean: 1.0 / rate })
    }

    /// Highest rate there is, in requests per second.
    fn highest_rate(&self) -> f64 {
        match self {
            Self::Renewal(gaps) => 1.0 / gaps.mean(),
            Self::Varying(series) => series.values.iter().fold(0.0, |most: f64, value| most.max(*value)) * series.scale,
        }
    }

    /// Mean rate over a stretch of time, in requests per second.
    #[must_use]
    pub fn rate(&self, from: Timestamp, to: Timestamp) -> f64 {
        match self {
            Self::Renewal(gaps) => 1.0 / gaps.mean(),
            Self::Varying(series) => series.mean(from, to),
        }
    }
}

#[cfg(test)]
mod tests;
