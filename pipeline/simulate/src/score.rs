//! What a run was worth: promises kept, capacity used, and how calmly.

mod demand;
mod elasticity;

use std::time::Duration;

use tracescale_core::time::Timestamp;

pub use demand::Demand;
pub use elasticity::Elasticity;

use crate::report::{Action, ServiceReport};

/// A minute with fewer requests says nothing about a promise.
pub const MINUTE_REQUESTS_MIN: f64 = 10.0;
/// A change in the other direction within this is an oscillation.
pub const REVERSAL: Duration = Duration::from_secs(600);

/// Score of a service over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Minutes in which too many requests were too slow or failed; only minutes with ten requests count.
    pub violation_minutes: u32,
    /// Minutes with ten requests.
    pub judged_minutes: u32,
    /// Share of all requests that were too slow or failed.
    pub violation_share: f64,
    /// Median latency, in seconds; `None` without responses.
    pub p50: Option<f64>,
    /// Latency that 95 % keep.
    pub p95: Option<f64>,
    /// Latency that 99 % keep.
    pub p99: Option<f64>,
    /// Replicas times hours, from creation to termination.
    pub replica_hours: f64,
    /// CPU times hours.
    pub cpu_hours: f64,
    /// Scale-ups.
    pub ups: u32,
    /// Scale-downs.
    pub downs: u32,
    /// Changes of direction within [`REVERSAL`].
    pub oscillations: u32,
    /// Largest change at once.
    pub step_max: u32,
    /// Most requests that waited outside of replicas, or beyond what is served.
    pub backlog_max: f64,
    /// Requests that failed.
    pub failed: f64,
}

/// What things cost, for one number per run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// Of a replica for an hour.
    pub replica_hour: f64,
    /// Of a minute of violation.
    pub violation_minute: f64,
    /// Of a scale action.
    pub action: f64,
}

// === impl Score ===

impl Score {
    /// The score of a report, for a promise about this share of the requests.
    #[must_use]
    pub fn of(report: &ServiceReport, quantile: f64) -> Self {
        let judged: Vec<_> = report.minutes.iter().filter(|minute| minute.requests >= MINUTE_REQUESTS_MIN - 1e-9).collect();
        let violated = judged.iter().filter(|minute| minute.over / minute.requests > 1.0 - quantile + 1e-12).count();
        let (requests, over) =
            report.minutes.iter().fold((0.0, 0.0), |(requests, over), minute| (requests + minute.requests, over + minute.over));
        let actions = &report.actions;
        let ups = actions.iter().filter(|action| action.to > action.from).count();
        Self {
            violation_minutes: crate::number::index(violated),
            judged_minutes: crate::number::index(judged.len()),
            violation_share: if requests > 0.0 { over / requests } else { 0.0 },
            p50: report.response.quantile(0.5),
            p95: report.response.quantile(0.95),
            p99: report.response.quantile(0.99),
            replica_hours: report.replica_seconds / 3600.0,
            cpu_hours: report.cpu_seconds / 3600.0,
            ups: crate::number::index(ups),
            downs: crate::number::index(actions.len() - ups),
            oscillations: oscillations(actions),
            step_max: actions.iter().map(|action| action.to.abs_diff(action.from)).max().unwrap_or(0),
            backlog_max: report.backlog_max,
            failed: report.failed,
        }
    }

    /// One number: what the run cost.
    #[must_use]
    pub fn cost(&self, prices: &Prices) -> f64 {
        prices.replica_hour * self.replica_hours
            + prices.violation_minute * f64::from(self.violation_minutes)
            + prices.action * f64::from(self.ups + self.downs)
    }
}

/// Elasticity of a run: demand by the true rate (requests per second) at each step against the replicas that could serve.
/// `None` without steps, or when no number of replicas keeps the promise.
#[must_use]
pub fn elasticity(report: &ServiceReport, demand: &mut Demand, step: Duration, rate: impl Fn(Timestamp) -> f64) -> Option<Elasticity> {
    let mut times = Vec::new();
    let mut at = report.start;
    while at < report.end && step > Duration::ZERO {
        times.push(at);
        at = at + step;
    }
    let wanted: Vec<u32> = times.iter().map(|time| demand.replicas(rate(*time))).collect::<Option<_>>()?;
    Elasticity::of(&wanted, &report.ready_at(&times))
}

/// Changes against the direction of the one before, soon after it.
fn oscillations(actions: &[Action]) -> u32 {
    let reverses = |pair: &&[Action]| {
        let against = (pair[0].to > pair[0].from) != (pair[1].to > pair[1].from);
        against && pair[1].at.since(pair[0].at) <= REVERSAL
    };
    crate::number::index(actions.windows(2).filter(reverses).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Minute;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// Guarantees: every number of a score, by hand.
    #[test]
    fn scores_by_hand() {
        let minute = |requests, over| Minute { requests, over };
        let action = |second, from, to| Action { at: at(second), from, to };
        let mut report = ServiceReport::starting("a", at(0), 0.5, 1, 1);
        // 1 of 100 is what 99 % allow; 9 requests are too few to judge.
        report.minutes = vec![minute(100.0, 1.0), minute(100.0, 2.0), minute(9.0, 9.0), minute(10.0, 1.0)];
        report.actions = vec![action(0, 1, 5), action(600, 5, 4), action(1201, 4, 5), action(1300, 5, 6), action(1900, 6, 3)];
        (report.replica_seconds, report.cpu_seconds, report.backlog_max) = (7200.0, 1800.0, 12.0);
        let score = Score::of(&report, 0.99);
        assert_eq!((score.violation_minutes, score.judged_minutes), (2, 3));
        assert!((score.violation_share - 13.0 / 219.0).abs() < 1e-12);
        assert_eq!((score.ups, score.downs, score.oscillations, score.step_max), (3, 2, 2, 4));
        assert!((score.replica_hours - 2.0).abs() < 1e-12 && (score.cpu_hours - 0.5).abs() < 1e-12);
        assert_eq!((score.p99, score.backlog_max), (None, 12.0));
        let prices = Prices { replica_hour: 1.0, violation_minute: 10.0, action: 0.1 };
        assert!((score.cost(&prices) - 22.5).abs() < 1e-9);
    }
}
