//! What happens while a load is more than the servers can do, and how long equilibrium takes: the fluid limit.
//!
//! A formula for equilibrium says nothing of a window that is shorter than the relaxation time. Rates are per second, times in
//! seconds.

/// Seconds after which a queue has forgotten how it began (Whitt 1989 and others): `S / (c (1 - √ρ)²)`. `None` from a utilization
/// of 1 on, and for senseless input.
#[must_use]
pub fn relaxation_time(service_time: f64, servers: f64, utilization: f64) -> Option<f64> {
    let valid = positive(service_time) && positive(servers) && (0.0..1.0).contains(&utilization);
    valid.then(|| service_time / (servers * (1.0 - utilization.sqrt()).powi(2)))
}

/// Requests queued after `seconds` of a constant load, never fewer than none.
#[must_use]
pub fn queue_after(queued: f64, arrival_rate: f64, service_time: f64, servers: f64, seconds: f64) -> Option<f64> {
    let valid = natural(queued) && natural(arrival_rate) && positive(service_time) && natural(servers) && natural(seconds);
    valid.then(|| (queued + (arrival_rate - servers / service_time) * seconds).max(0.0))
}

/// How long a request waits that arrives behind `queued` others.
#[must_use]
pub fn wait_behind(queued: f64, service_time: f64, servers: f64) -> Option<f64> {
    (natural(queued) && positive(service_time) && positive(servers)).then(|| queued * service_time / servers)
}

/// How long a backlog takes to drain beside the arrivals. `None` when it never does.
#[must_use]
pub fn drain_time(queued: f64, arrival_rate: f64, service_time: f64, servers: f64) -> Option<f64> {
    let valid = natural(queued) && natural(arrival_rate) && positive(service_time) && natural(servers);
    let spare = servers / service_time - arrival_rate;
    (valid && spare > 0.0).then(|| queued / spare)
}

/// Servers that drain a backlog within `drain_seconds`, on top of those that the arrivals need.
#[must_use]
pub fn catch_up_servers(queued: f64, service_time: f64, drain_seconds: f64) -> Option<f64> {
    (natural(queued) && positive(service_time) && positive(drain_seconds)).then(|| queued * service_time / drain_seconds)
}

fn natural(value: f64) -> bool {
    value >= 0.0 && value.is_finite()
}

fn positive(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64, relative: f64) {
        assert!((found.unwrap() / expected - 1.0).abs() < relative, "{found:?} is not {expected}");
    }

    /// Guarantees: known relaxation times, from seconds to half an hour.
    #[test]
    fn relaxation_times() {
        close(relaxation_time(0.05, 1.0, 0.9), 19.0, 0.02);
        close(relaxation_time(0.05, 1.0, 0.95), 78.0, 0.02);
        close(relaxation_time(0.05, 1.0, 0.99), 33.0 * 60.0, 0.02);
        close(relaxation_time(0.05, 10.0, 0.9), 1.9, 0.02);
        close(relaxation_time(1.0, 4.0, 0.9), 95.0, 0.02);
        assert_eq!(relaxation_time(1.0, 4.0, 1.0), None);
    }

    /// Guarantees: a minute of overload queues the excess, which drains at what is spare, sooner with servers for the backlog.
    #[test]
    fn overload_and_recovery() {
        // 120 per second on 100 that are possible.
        let queued = queue_after(0.0, 120.0, 0.1, 10.0, 60.0).unwrap();
        assert!((queued - 1200.0).abs() < 1e-9);
        close(wait_behind(queued, 0.1, 10.0), 12.0, 1e-12);
        close(drain_time(queued, 80.0, 0.1, 10.0), 60.0, 1e-12);
        assert_eq!(drain_time(queued, 100.0, 0.1, 10.0), None);
        let extra = catch_up_servers(queued, 0.1, 30.0).unwrap();
        assert!((extra - 4.0).abs() < 1e-12);
        close(drain_time(queued, 80.0, 0.1, 8.0 + extra), 30.0, 1e-9);
        assert_eq!(queue_after(5.0, 1.0, 0.1, 10.0, 60.0), Some(0.0));
        assert_eq!(
            (queue_after(-1.0, 1.0, 1.0, 1.0, 1.0), wait_behind(1.0, 1.0, 0.0), catch_up_servers(1.0, 1.0, 0.0)),
            (None, None, None)
        );
    }
}
