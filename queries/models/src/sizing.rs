//! What replicas a latency objective needs, and whether any number can hold it.
//!
//! ```text
//! measured service time ─▶ ServiceTime ─┐
//! configuration ─▶ Discipline, servers ─┼─▶ Station ─▶ predict(rate, replicas) ─▶ Prediction
//! calibration ─▶ pooling ───────────────┘      ├─────▶ size(rate, objective)  ─▶ Sizing
//!                                              └─◀─── service_time_behind(latency, rate, replicas), servers_behind(…)
//! ```
//!
//! The number is the smallest that keeps the latency *and* stays below a utilization, because a stationary model that knows its
//! load exactly would run a large pool at 99 %. An objective that the service time alone misses is told apart: no replica helps.

mod behind;
pub mod function;
mod prediction;
mod search;
mod service_time;
mod utilization;
mod workers;

pub use behind::{servers_behind, service_time_behind};
pub use prediction::{Prediction, Stable, predict};
pub use search::{Sizing, keeps, size};
pub use service_time::ServiceTime;
pub use utilization::safe_utilization;
pub use workers::Workers;

use crate::queue::pooling::POOLING_MAX;

/// Fewest servers of a replica: a thousandth of a core.
const SERVERS_MIN: f64 = 0.001;
/// Most servers of all replicas together.
const SERVERS_MAX: f64 = 1e9;

/// How requests share the servers of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Discipline {
    /// All requests at once, as threads share cores.
    #[default]
    Sharing,
    /// In order of arrival, as jobs share workers.
    Fifo,
}

/// A service as a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Station {
    /// What a request takes without waiting.
    pub service_time: ServiceTime,
    /// How requests share the servers.
    pub discipline: Discipline,
    /// Servers of each replica: cores, or workers. May be fractional; less than one is one slower server.
    pub servers: f64,
    /// How far the replicas are from one pool: 0 is one queue for all, 1 is a random split (see [`crate::queue::pooling`]).
    pub pooling: f64,
    /// Squared coefficient of variation of the gaps between arrivals; 1 for Poisson arrivals. Matters to [`Discipline::Fifo`]
    /// only: sharing is modelled for Poisson arrivals.
    pub arrival_scv: f64,
    /// The workers of each replica, where a request holds one until it is answered.
    pub workers: Option<Workers>,
}

/// A latency that a share of the requests must keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Seconds.
    pub latency: f64,
    /// Share of the requests, in (0, 1).
    pub quantile: f64,
}

// === impl Station ===

impl Station {
    /// A service that shares `servers` servers per replica behind a random split of Poisson arrivals: the careful default.
    #[must_use]
    pub fn new(service_time: ServiceTime, servers: f64) -> Self {
        Self { service_time, discipline: Discipline::Sharing, servers, pooling: 1.0, arrival_scv: 1.0, workers: None }
    }

    /// Load in erlang, of whole servers.
    #[must_use]
    pub fn load(&self, arrival_rate: f64) -> f64 {
        arrival_rate * self.request_time()
    }

    /// Mean time of a request that is alone, in seconds: the service time, longer on less than one server.
    #[must_use]
    pub fn request_time(&self) -> f64 {
        self.service_time.mean() / self.servers.min(1.0)
    }

    /// Requests per second of a replica that is always busy.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        let (lanes, time) = (self.lanes(), self.request_time());
        self.workers.map_or(lanes / time, |workers| workers.throughput(lanes, time))
    }

    /// Servers of a replica that can each serve a request at [`Station::request_time`].
    fn lanes(&self) -> f64 {
        self.servers.max(1.0)
    }

    fn is_valid(&self) -> bool {
        (SERVERS_MIN..SERVERS_MAX).contains(&self.servers)
            && (0.0..=POOLING_MAX).contains(&self.pooling)
            && self.arrival_scv >= 0.0
            && self.arrival_scv.is_finite()
            && self.workers.is_none_or(|workers| workers.is_valid())
    }
}

// === impl Objective ===

impl Objective {
    fn is_valid(&self) -> bool {
        self.latency > 0.0 && self.latency.is_finite() && self.quantile > 0.0 && self.quantile < 1.0
    }
}
