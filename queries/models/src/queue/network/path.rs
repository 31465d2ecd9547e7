//! What a whole request takes, and which replicas shorten it for the least money.

use crate::special::gamma_quantile;

/// Most replicas that a plan adds.
const ADDED_MAX: u32 = 10_000;

/// One service on the way of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Visits per request.
    pub visits: f64,
    /// Mean sojourn per visit, own work only, in seconds.
    pub mean: f64,
    /// Variance of it.
    pub variance: f64,
}

/// A request through all its stages, one after the other. Branches that run at the same time are one stage (see
/// [`crate::queue::join`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Path {
    /// Mean in seconds.
    pub mean: f64,
    /// Variance, taking visits as independent.
    pub variance: f64,
}

/// The service whose servers are the busiest, from visits, mean service times and servers. `None` without services.
#[must_use]
pub fn bottleneck(visits: &[f64], service_times: &[f64], servers: &[f64]) -> Option<usize> {
    demands(visits, service_times, servers).enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| place)
}

/// The load from outside (requests per second) at which the first service reaches a utilization. `None` when nothing limits it.
#[must_use]
pub fn throughput_max(visits: &[f64], service_times: &[f64], servers: &[f64], utilization_max: f64) -> Option<f64> {
    let demand = demands(visits, service_times, servers).fold(0.0, f64::max);
    (demand > 0.0 && utilization_max > 0.0 && utilization_max <= 1.0).then(|| utilization_max / demand)
}

/// Seconds of each server that a request from outside takes.
fn demands(visits: &[f64], service_times: &[f64], servers: &[f64]) -> impl Iterator<Item = f64> {
    visits.iter().zip(service_times).zip(servers).map(|((visits, time), servers)| visits * time / servers)
}

/// The cheapest replicas found that keep the share `quantile` of all requests below `latency` seconds: the replica that saves most
/// latency for its cost is added until they do. `stage` says what a service is with so many replicas, `None` when they are too
/// few. Begins at `replicas`, which must suffice for the load. `None` when ten thousand more do not keep it.
#[must_use]
pub fn cheapest(
    replicas: &[u32],
    costs: &[f64],
    stage: impl Fn(usize, u32) -> Option<Stage>,
    latency: f64,
    quantile: f64,
) -> Option<Vec<u32>> {
    if replicas.len() != costs.len() || !costs.iter().all(|cost| *cost > 0.0 && cost.is_finite()) {
        return None;
    }
    let mut plan = replicas.to_vec();
    let mut stages: Vec<Stage> = plan.iter().enumerate().map(|(place, count)| stage(place, *count)).collect::<Option<_>>()?;
    let mut reached = Path::through(&stages).quantile(quantile)?;
    for _ in 0..ADDED_MAX {
        if reached <= latency {
            return Some(plan);
        }
        let mut best: Option<(f64, usize, Stage, f64)> = None;
        for (place, cost) in costs.iter().enumerate() {
            let Some(more) = plan[place].checked_add(1).and_then(|count| stage(place, count)) else { continue };
            let before = std::mem::replace(&mut stages[place], more);
            let after = Path::through(&stages).quantile(quantile);
            stages[place] = before;
            let Some(after) = after else { continue };
            let worth = (reached - after) / cost;
            if worth > best.map_or(0.0, |(worth, ..)| worth) {
                best = Some((worth, place, more, after));
            }
        }
        // When no replica helps, the rest is service time.
        let (_, place, more, after) = best?;
        (stages[place], reached) = (more, after);
        plan[place] += 1;
    }
    None
}

// === impl Path ===

impl Path {
    /// A request that makes all its visits one after the other.
    #[must_use]
    pub fn through(stages: &[Stage]) -> Self {
        stages.iter().fold(Self::default(), |path, stage| Self {
            mean: path.mean + stage.visits * stage.mean,
            variance: path.variance + stage.visits * stage.variance,
        })
    }

    /// The time that the share `1 - quantile` of the requests exceeds, of the gamma law of these moments. `None` outside (0, 1) and
    /// for a path that takes no time.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        if !(self.mean > 0.0 && self.mean.is_finite() && self.variance >= 0.0 && quantile > 0.0 && quantile < 1.0) {
            return None;
        }
        if self.variance <= 1e-12 * self.mean * self.mean {
            return Some(self.mean);
        }
        let shape = self.mean * self.mean / self.variance;
        gamma_quantile(shape, quantile).map(|value| value * self.variance / self.mean)
    }

    /// An end-to-end objective split between the services by their shares of the critical path. `None` when the shares are no shares.
    #[must_use]
    pub fn split(latency: f64, shares: &[f64]) -> Option<Vec<f64>> {
        let total: f64 = shares.iter().sum();
        let valid = latency > 0.0 && latency.is_finite() && total > 0.0 && total.is_finite() && shares.iter().all(|share| *share >= 0.0);
        valid.then(|| shares.iter().map(|share| latency * share / total).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::many::ManyServers;

    const VISITS: [f64; 3] = [1.0, 2.0, 0.5];
    const TIMES: [f64; 3] = [0.02, 0.05, 0.1];

    /// Services with one server per replica at 100 requests per second from outside.
    fn stage(place: usize, replicas: u32) -> Option<Stage> {
        let many = ManyServers::new(100.0 * VISITS[place], TIMES[place], f64::from(replicas))?;
        // The variance of wait and service: the wait is zero or exponential.
        let (probability, mean) = (many.pool().wait_probability(), many.mean_wait());
        let wait = if mean > 0.0 { 2.0 * mean * mean / probability - mean * mean } else { 0.0 };
        Some(Stage { visits: VISITS[place], mean: many.mean_sojourn(), variance: wait + TIMES[place] * TIMES[place] })
    }

    /// Guarantees: the bottleneck is where a request takes most of a server, and bounds the load.
    #[test]
    fn bottlenecks() {
        let servers = [4.0, 12.0, 9.0];
        assert_eq!(bottleneck(&VISITS, &TIMES, &servers), Some(1));
        assert!((throughput_max(&VISITS, &TIMES, &servers, 0.85).unwrap() - 102.0).abs() < 1e-9);
        assert_eq!(
            (bottleneck(&[], &[], &[]), throughput_max(&[], &[], &[], 0.85), throughput_max(&[0.0], &[1.0], &[1.0], 0.85)),
            (None, None, None)
        );
    }

    /// Guarantees: one exponential stage has exponential quantiles, several add up, and one that never varies is its mean.
    #[test]
    fn paths_compose() {
        let exponential = Stage { visits: 1.0, mean: 2.0, variance: 4.0 };
        let path = Path::through(&[exponential]);
        assert!((path.quantile(0.99).unwrap() - 2.0 * 100f64.ln()).abs() < 1e-6);
        let three = Path::through(&[exponential, Stage { visits: 2.0, ..exponential }]);
        // Erlang of three phases of mean 2.
        assert!((three.quantile(0.95).unwrap() - 2.0 * 6.295_794).abs() < 1e-4 && (three.mean - 6.0).abs() < 1e-12);
        assert_eq!(Path { mean: 3.0, variance: 0.0 }.quantile(0.99), Some(3.0));
        assert_eq!((Path::default().quantile(0.99), path.quantile(1.0)), (None, None));
        let split = Path::split(1.0, &[1.0, 3.0]).unwrap();
        assert!((split[0] - 0.25).abs() < 1e-12 && (split[1] - 0.75).abs() < 1e-12);
        assert_eq!((Path::split(1.0, &[]), Path::split(0.0, &[1.0])), (None, None));
    }

    /// Guarantees: the plan keeps the objective, no replica of it can be spared, and dear services get fewer.
    #[test]
    fn greedy_plans() {
        let start = [3, 11, 6];
        let quantile = |plan: &[u32]| {
            let stages: Option<Vec<Stage>> = plan.iter().enumerate().map(|(place, count)| stage(place, *count)).collect();
            Path::through(&stages?).quantile(0.95)
        };
        let plan = cheapest(&start, &[1.0; 3], stage, 0.46, 0.95).unwrap();
        assert!(quantile(&plan).unwrap() <= 0.46 && quantile(&start).unwrap() > 0.46);
        for place in 0..3 {
            let mut fewer = plan.clone();
            fewer[place] -= 1;
            assert!(quantile(&fewer).is_none_or(|latency| latency > 0.46), "{plan:?} {place}");
        }
        let dear = cheapest(&start, &[1.0, 20.0, 1.0], stage, 0.46, 0.95).unwrap();
        assert!(dear[1] <= plan[1] && quantile(&dear).unwrap() <= 0.46);
        assert_eq!(cheapest(&start, &[1.0; 3], stage, 0.1, 0.95), None);
        assert_eq!(cheapest(&start, &[1.0, 0.0, 1.0], stage, 0.46, 0.95), None);
        assert_eq!(cheapest(&[1, 1, 1], &[1.0; 3], stage, 0.46, 0.95), None);
    }
}
