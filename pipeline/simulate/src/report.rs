//! What an engine records of a service, enough for every score, in memory that grows with simulated minutes and scale actions
//! only.

use tracescale_core::time::Timestamp;

use crate::histogram::LogHistogram;
use crate::number;

/// Nanoseconds of a minute.
const MINUTE: i64 = 60_000_000_000;

/// What happened at a service from `start` to `end`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceReport {
    /// Name of the service.
    pub name: String,
    /// Beginning.
    pub start: Timestamp,
    /// End.
    pub end: Timestamp,
    /// The latency that was promised, in seconds.
    pub objective: f64,
    /// Requests that came, rejected ones included.
    pub arrivals: f64,
    /// Requests whose own work was done.
    pub completions: f64,
    /// Requests that failed: rejected, lost with a replica, or because of a call that failed.
    pub failed: f64,
    /// Time until the response, calls included.
    pub response: LogHistogram,
    /// Time in the service alone: waiting and own work.
    pub sojourn: LogHistogram,
    /// Time until service began. Recorded by the discrete engine for first-come-first-served replicas only.
    pub wait: LogHistogram,
    /// Integral of the number of requests in the service, in request seconds.
    pub in_system_seconds: f64,
    /// Integral of the number of busy servers, in server seconds.
    pub busy_seconds: f64,
    /// Time of replicas from creation to termination.
    pub replica_seconds: f64,
    /// CPU time.
    pub cpu_seconds: f64,
    /// Most requests that waited outside of replicas, or beyond what is served, at once.
    pub backlog_max: f64,
    /// What was asked for, in order.
    pub actions: Vec<Action>,
    /// Requests by the minute in which they came, from `start`.
    pub minutes: Vec<Minute>,
    /// Replicas whenever they changed, in order; the first entry is at `start`.
    pub supply: Vec<Supply>,
}

/// A change of the desired replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// When.
    pub at: Timestamp,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
}

/// Requests that came within a minute and were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Minute {
    /// How many, failed ones included.
    pub requests: f64,
    /// How many of them took longer than promised, or failed.
    pub over: f64,
}

/// Replicas from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supply {
    /// Since when.
    pub at: Timestamp,
    /// Replicas that were asked for.
    pub desired: u32,
    /// Replicas that could serve.
    pub ready: u32,
}

// === impl ServiceReport ===

impl ServiceReport {
    /// A report that begins now.
    pub(crate) fn starting(name: &str, start: Timestamp, objective: f64, desired: u32, ready: u32) -> Self {
        let supply = vec![Supply { at: start, desired, ready }];
        Self { name: name.to_owned(), start, end: start, objective, supply, ..Self::default() }
    }

    /// Length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.end.since(self.start).as_secs_f64()
    }

    /// Mean number of requests in the service.
    #[must_use]
    pub fn mean_in_system(&self) -> f64 {
        self.in_system_seconds / self.seconds().max(f64::MIN_POSITIVE)
    }

    /// Replicas that could serve at each of these times, which must be in order.
    #[must_use]
    pub fn ready_at(&self, times: &[Timestamp]) -> Vec<u32> {
        let mut place = 0;
        let ready = |time: &Timestamp| {
            while self.supply.get(place + 1).is_some_and(|next| next.at <= *time) {
                place += 1;
            }
            self.supply.get(place).map_or(0, |supply| supply.ready)
        };
        times.iter().map(ready).collect()
    }

    /// Counts requests that came at a time, of which `over` were too slow or failed.
    pub(crate) fn count_minute(&mut self, arrived: i64, requests: f64, over: f64) {
        // Requests from before the report began (a warm-up) count in its first minute.
        let place = usize::try_from((arrived - self.start.as_nanos()).max(0) / MINUTE).unwrap_or(0);
        if self.minutes.len() <= place {
            self.minutes.resize(place + 1, Minute::default());
        }
        self.minutes[place].requests += requests;
        self.minutes[place].over += over;
    }

    /// Records a response.
    pub(crate) fn respond(&mut self, arrived: i64, now: i64) {
        let latency = number::seconds(now - arrived);
        self.response.record(latency);
        let over = if latency > self.objective { 1.0 } else { 0.0 };
        self.count_minute(arrived, 1.0, over);
    }

    /// Notes how many replicas there are, if that is news.
    pub(crate) fn supply(&mut self, at: Timestamp, desired: u32, ready: u32) {
        match self.supply.last_mut() {
            Some(last) if last.desired == desired && last.ready == ready => {}
            Some(last) if last.at == at => (last.desired, last.ready) = (desired, ready),
            _ => self.supply.push(Supply { at, desired, ready }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the supply is a step function: the last change at or before a time holds.
    #[test]
    fn supply_is_a_step_function() {
        let at = Timestamp::from_secs;
        let mut report = ServiceReport::starting("a", at(0), 0.5, 1, 1);
        report.supply(at(10), 3, 1);
        report.supply(at(10), 3, 2);
        report.supply(at(20), 3, 3);
        report.supply(at(30), 3, 3);
        assert_eq!(report.supply.len(), 3);
        assert_eq!(report.ready_at(&[at(0), at(9), at(10), at(19), at(25)]), [1, 1, 2, 2, 3]);
    }

    /// Guarantees: a request counts in the minute in which it came, however late the response.
    #[test]
    fn minutes_are_those_of_arrival() {
        let mut report = ServiceReport::starting("a", Timestamp::from_secs(60), 0.5, 1, 1);
        report.respond(61_000_000_000, 61_400_000_000);
        report.respond(119_000_000_000, 190_000_000_000);
        report.respond(125_000_000_000, 125_600_000_000);
        assert_eq!(report.minutes, [Minute { requests: 2.0, over: 1.0 }, Minute { requests: 1.0, over: 1.0 }]);
    }
}
