//! One row of figures over any number of services.

use super::ServiceResult;
use crate::score::Elasticity;

/// Figures of a policy over several services.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Number of services.
    pub services: usize,
    /// Sum of violation minutes.
    pub violation_minutes: u64,
    /// Sum of minutes with enough requests to judge.
    pub judged_minutes: u64,
    /// All requests.
    pub requests: f64,
    /// Share of all requests that were too slow or failed; `None` without requests.
    pub violation_share: Option<f64>,
    /// Median latency of the service where it is highest, in seconds.
    pub p50: Option<f64>,
    /// 95th percentile of the service where it is highest.
    pub p95: Option<f64>,
    /// 99th percentile of the service where it is highest.
    pub p99: Option<f64>,
    /// Sum of replicas times hours.
    pub replica_hours: f64,
    /// Sum of CPU times hours.
    pub cpu_hours: f64,
    /// Scale-ups.
    pub ups: u64,
    /// Scale-downs.
    pub downs: u64,
    /// Quick changes of direction.
    pub oscillations: u64,
    /// Requests that failed.
    pub failed: f64,
    /// Mean elasticity of the services of which it is known.
    pub elasticity: Option<Elasticity>,
}

// === impl Totals ===

impl Totals {
    /// Sums, weighted means and worst values of these results.
    #[must_use]
    pub fn of<'a>(results: impl IntoIterator<Item = &'a ServiceResult>) -> Self {
        let mut totals = Self::default();
        let mut over = 0.0;
        let mut elasticities = Vec::new();
        for result in results {
            let score = &result.score;
            totals.services += 1;
            totals.violation_minutes += u64::from(score.violation_minutes);
            totals.judged_minutes += u64::from(score.judged_minutes);
            for (_, requests, slow) in &result.minutes {
                totals.requests += requests;
                over += slow;
            }
            totals.p50 = higher(totals.p50, score.p50);
            totals.p95 = higher(totals.p95, score.p95);
            totals.p99 = higher(totals.p99, score.p99);
            totals.replica_hours += score.replica_hours;
            totals.cpu_hours += score.cpu_hours;
            totals.ups += u64::from(score.ups);
            totals.downs += u64::from(score.downs);
            totals.oscillations += u64::from(score.oscillations);
            totals.failed += score.failed;
            elasticities.extend(result.elasticity);
        }
        totals.violation_share = (totals.requests > 0.0).then(|| over / totals.requests);
        totals.elasticity = mean(&elasticities);
        totals
    }
}

/// The higher of two latencies that may be missing.
fn higher(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    left.into_iter().chain(right).reduce(f64::max)
}

/// Every measure's mean.
fn mean(values: &[Elasticity]) -> Option<Elasticity> {
    let count = crate::number::real_length(values.len());
    let mean = |measure: fn(&Elasticity) -> f64| values.iter().map(measure).sum::<f64>() / count;
    (!values.is_empty()).then(|| Elasticity {
        theta_under: mean(|value| value.theta_under),
        theta_over: mean(|value| value.theta_over),
        tau_under: mean(|value| value.tau_under),
        tau_over: mean(|value| value.tau_over),
        instability: mean(|value| value.instability),
        shortage: mean(|value| value.shortage),
        excess: mean(|value| value.excess),
    })
}
