//! Capacity from load with nothing but Little's law: the offered load, spread over servers that may be busy for a stated share
//! of the time. Missing input gives no answer. Queueing models that hold a latency objective build on top of this.

/// Replicas that serve `arrival_rate` (requests per second) of mean `service_time` (seconds) with `servers` parallel servers
/// each, busy for at most the share `utilization` of the time. At least 1 when there is any load, 0 when there is none.
/// `None` when an input is missing or makes no sense (no servers, utilization outside (0, 1]).
#[must_use]
pub fn replicas_for_load(
    arrival_rate: Option<f64>,
    service_time: Option<f64>,
    servers: Option<f64>,
    utilization: Option<f64>,
) -> Option<f64> {
    let load = not_negative(arrival_rate)? * not_negative(service_time)?;
    ceil_replicas(load, positive(servers)? * share(utilization)?, arrival_rate)
}

/// Replicas that hold `concurrency` requests in flight at `per_replica` each. At least 1 when there is any.
#[must_use]
pub fn replicas_for_concurrency(concurrency: Option<f64>, per_replica: Option<f64>) -> Option<f64> {
    ceil_replicas(not_negative(concurrency)?, positive(per_replica)?, concurrency)
}

/// Consumers that keep up with `arrival_rate` and drain `backlog` messages within `drain_seconds`:
/// (λ + backlog / drain) · service time / utilization, rounded up.
#[must_use]
pub fn replicas_for_backlog(
    arrival_rate: Option<f64>,
    backlog: Option<f64>,
    drain_seconds: Option<f64>,
    service_time: Option<f64>,
    utilization: Option<f64>,
) -> Option<f64> {
    let rate = not_negative(arrival_rate)? + not_negative(backlog)? / positive(drain_seconds)?;
    ceil_replicas(rate * not_negative(service_time)?, share(utilization)?, Some(rate))
}

/// `demand / supply` rounded up; at least one when `traffic` flows even if its demand is not measurable.
fn ceil_replicas(demand: f64, supply: f64, traffic: Option<f64>) -> Option<f64> {
    // A relative margin absorbs rounding: 7 × 0.1 / 0.7 is one replica, not two.
    let replicas = (demand / supply * (1.0 - 1e-12)).ceil();
    let least = if traffic.is_some_and(|rate| rate > 0.0) { 1.0 } else { 0.0 };
    replicas.is_finite().then(|| replicas.max(least))
}

fn not_negative(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value >= 0.0 && value.is_finite())
}

fn positive(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value > 0.0 && value.is_finite())
}

fn share(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value > 0.0 && *value <= 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: 100 requests per second of 50 ms at 70 % of one server need eight replicas; four servers each, two.
    #[test]
    fn replicas_by_offered_load() {
        assert_eq!(replicas_for_load(Some(100.0), Some(0.05), Some(1.0), Some(0.7)), Some(8.0));
        assert_eq!(replicas_for_load(Some(100.0), Some(0.05), Some(4.0), Some(0.7)), Some(2.0));
    }

    /// Guarantees: a quotient that is whole up to rounding is not rounded up.
    #[test]
    fn rounding_noise_adds_no_replica() {
        assert_eq!(replicas_for_load(Some(7.0), Some(0.1), Some(1.0), Some(0.7)), Some(1.0));
        assert_eq!(replicas_for_load(Some(21.0), Some(0.1), Some(1.0), Some(0.7)), Some(3.0));
    }

    /// Guarantees: any load needs one replica, no load needs none.
    #[test]
    fn little_load_and_no_load() {
        assert_eq!(replicas_for_load(Some(0.001), Some(0.001), Some(1.0), Some(0.7)), Some(1.0));
        assert_eq!(replicas_for_load(Some(5.0), Some(0.0), Some(1.0), Some(0.7)), Some(1.0));
        assert_eq!(replicas_for_load(Some(0.0), Some(0.05), Some(1.0), Some(0.7)), Some(0.0));
        assert_eq!(replicas_for_concurrency(Some(0.0), Some(10.0)), Some(0.0));
    }

    /// Guarantees: a missing or senseless input gives no answer, never zero.
    #[test]
    fn missing_stays_missing() {
        assert_eq!(replicas_for_load(None, Some(0.05), Some(1.0), Some(0.7)), None);
        assert_eq!(replicas_for_load(Some(1.0), None, Some(1.0), Some(0.7)), None);
        assert_eq!(replicas_for_load(Some(1.0), Some(f64::NAN), Some(1.0), Some(0.7)), None);
        assert_eq!(replicas_for_load(Some(1.0), Some(0.05), Some(0.0), Some(0.7)), None);
        assert_eq!(replicas_for_load(Some(1.0), Some(0.05), Some(1.0), Some(1.5)), None);
        assert_eq!(replicas_for_concurrency(None, Some(10.0)), None);
        assert_eq!(replicas_for_backlog(Some(1.0), None, Some(60.0), Some(0.1), Some(0.8)), None);
    }

    /// Guarantees: a backlog is drained beside the arrivals: (50 + 6000/60) · 0.1 / 0.8 = 18.75.
    #[test]
    fn backlog_is_drained_in_time() {
        assert_eq!(replicas_for_backlog(Some(50.0), Some(6000.0), Some(60.0), Some(0.1), Some(0.8)), Some(19.0));
        assert_eq!(replicas_for_backlog(Some(0.0), Some(0.0), Some(60.0), Some(0.1), Some(0.8)), Some(0.0));
        assert_eq!(replicas_for_concurrency(Some(25.0), Some(10.0)), Some(3.0));
    }
}
