//! Workers of which a request holds one until it is answered, also while it waits for others: a thread, or a process, per request.
//!
//! ```text
//!                 ┌───────────── a worker is held ──────────────┐
//! requests ─▶ wait ─▶ own work on the shared servers ─▶ others ─▶ answered
//! ```
//!
//! Such a replica is two stations. Its servers share the own work, and its workers serve in order of arrival, each for as long as it
//! is held. The scarcer of both counts: for each request the larger of both delays is taken (of a pool that is much larger than the
//! servers the servers bind, of one that waits for others most of the time the workers do).

use super::Station;
use crate::queue::erlang::Pool;
use crate::queue::general::{Variability, Wait};

/// Most workers that are counted one by one; of more, chance is averaged out.
const COUNTED: u32 = 4_096;
/// Weight above which sums are scaled down.
const LARGE: f64 = 1e200;

/// The workers of a replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workers {
    /// How many.
    pub count: u32,
    /// Seconds that a request spends in others while it holds one.
    pub outside: f64,
}

/// The wait for a worker. Times are in units of the mean time of the own work of a request that is alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Held {
    /// In units of the time that a worker is held.
    wait: Wait,
    hold: f64,
}

// === impl Workers ===

impl Workers {
    /// Requests per second that a replica does while all workers are held, with so many `servers` for work that takes a request
    /// `request_time` seconds when it is alone: the throughput of a closed network of a shared station and a delay (the machine
    /// repair model: Feller; exact for any distribution of both times).
    pub(super) fn throughput(&self, servers: f64, request_time: f64) -> f64 {
        let (workers, own) = (f64::from(self.count), servers.min(f64::from(self.count)) / request_time);
        if self.outside <= 0.0 {
            return own;
        }
        if self.count > COUNTED {
            return own.min(workers / (request_time + self.outside));
        }
        // The weight of so many requests at work, from that of one less.
        let (mut weight, mut sum, mut at_work) = (1.0, 1.0, 0.0);
        for working in 1..=self.count {
            let busy = f64::from(working).min(servers);
            weight *= f64::from(self.count - working + 1) * request_time / (self.outside * busy);
            sum += weight;
            at_work += weight * busy;
            if weight > LARGE {
                (weight, sum, at_work) = (weight / LARGE, sum / LARGE, at_work / LARGE);
            }
        }
        at_work / sum / request_time
    }

    pub(super) fn is_valid(&self) -> bool {
        self.count > 0 && self.outside >= 0.0 && self.outside.is_finite()
    }
}

// === impl Held ===

impl Held {
    /// The wait for the workers of a station's replicas whose servers are a pool at a load, when a request that is alone takes
    /// `request_time` seconds. `None` when they cannot carry it.
    pub(super) fn new(station: &Station, workers: &Workers, pool: &Pool, request_time: f64) -> Option<Self> {
        let lanes = station.lanes();
        // A worker is held longest while all are: that is when requests wait.
        let hold = f64::from(workers.count) / workers.throughput(lanes, request_time);
        let arrival_rate = pool.load() / request_time;
        let all = Pool::new(f64::from(workers.count) * pool.servers() / lanes, arrival_rate * hold)?;
        let (own, outside) = (request_time, workers.outside);
        // Calls of others are taken to vary as exponential times do.
        let service = (station.service_time.scv() * own * own + outside * outside) / (own + outside).powi(2);
        let wait = Wait::new(&all, Variability { arrival: station.arrival_scv, service });
        Some(Self { wait, hold: hold / request_time })
    }

    pub(super) fn mean(&self) -> f64 {
        self.wait.mean * self.hold
    }

    /// P(W > t).
    pub(super) fn tail(&self, t: f64) -> f64 {
        self.wait.tail(t / self.hold)
    }
}

#[cfg(test)]
mod tests;
