//! How busy servers may be: what an autoscaler on utilization should have as its target.

use super::prediction::Law;
use super::{Objective, Station};
use crate::queue::erlang::Pool;

/// Highest answer.
const HIGHEST: f64 = 0.9999;
/// Halvings of the range.
const HALVINGS: u32 = 14;

/// The highest utilization of the servers of one replica at which its requests keep the objective, behind a random split; give a
/// station the servers of all replicas where they share one queue. Where workers are scarcer than servers these are never busier than
/// that. `None` for senseless input, and when even idle servers break the objective.
#[must_use]
pub fn safe_utilization(station: &Station, objective: &Objective) -> Option<f64> {
    if !(station.is_valid() && objective.is_valid()) {
        return None;
    }
    let (lanes, latency, level) = (station.lanes(), objective.latency / station.request_time(), 1.0 - objective.quantile);
    let points = station.service_time.unit_points();
    let holds = |utilization: f64| {
        let pool = Pool::new(lanes, lanes * utilization);
        pool.and_then(|pool| Law::new(station, &pool)).is_some_and(|law| !law.exceeds(points, latency, level))
    };
    if !holds(0.0) {
        return None;
    }
    let (mut low, mut high) = (0.0, HIGHEST);
    if holds(high) {
        return Some(high);
    }
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if holds(middle) { low = middle } else { high = middle }
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizing::ServiceTime;

    #[derive(Clone, Copy, Debug)]
    enum Kind {
        /// From a squared coefficient of variation.
        Moments(f64),
        /// Balanced, of squared coefficient of variation 4.
        Hyperexponential,
    }

    fn service_time(kind: Kind) -> ServiceTime {
        match kind {
            Kind::Moments(scv) => ServiceTime::from_moments(0.05, scv).unwrap(),
            Kind::Hyperexponential => {
                let first = 0.5 * (1.0 + 0.6f64.sqrt());
                let points: Vec<(f64, f64)> = [first, 1.0 - first]
                    .into_iter()
                    .flat_map(|share| (0..4000).map(move |place| (-0.05 * ((f64::from(place) + 0.5) / 4000.0).ln() / (2.0 * share), share)))
                    .collect();
                ServiceTime::from_points(&points).unwrap()
            }
        }
    }

    /// Guarantees: the highest utilizations of the reference, from one server to 64, for regular and very irregular service.
    #[test]
    fn matches_the_reference() {
        for (kind, quantile, latency, expected) in [
            (Kind::Moments(0.25), 0.99, 5.0, Some([0.287, 0.541, 0.722, 0.839, 0.910, 0.974])),
            (Kind::Moments(0.25), 0.99, 7.0, Some([0.429, 0.651, 0.798, 0.887, 0.939, 0.984])),
            (Kind::Moments(0.25), 0.99, 10.0, Some([0.561, 0.743, 0.856, 0.923, 0.959, 0.989])),
            (Kind::Moments(0.25), 0.99, 20.0, Some([0.751, 0.863, 0.927, 0.962, 0.981, 0.995])),
            (Kind::Moments(1.0), 0.99, 5.0, Some([0.050, 0.239, 0.462, 0.643, 0.772, 0.915])),
            (Kind::Moments(1.0), 0.99, 7.0, Some([0.236, 0.492, 0.686, 0.814, 0.894, 0.968])),
            (Kind::Moments(1.0), 0.99, 10.0, Some([0.406, 0.636, 0.788, 0.881, 0.935, 0.982])),
            (Kind::Moments(1.0), 0.99, 15.0, Some([0.566, 0.748, 0.860, 0.925, 0.960, 0.989])),
            (Kind::Moments(1.0), 0.99, 20.0, Some([0.657, 0.807, 0.895, 0.945, 0.971, 0.993])),
            (Kind::Moments(1.0), 0.99, 30.0, Some([0.758, 0.868, 0.930, 0.964, 0.981, 0.995])),
            (Kind::Moments(2.0), 0.99, 5.0, None),
            (Kind::Moments(2.0), 0.99, 7.0, Some([0.039, 0.209, 0.427, 0.613, 0.749, 0.902])),
            (Kind::Moments(2.0), 0.99, 10.0, Some([0.268, 0.522, 0.709, 0.830, 0.904, 0.972])),
            (Kind::Moments(2.0), 0.99, 20.0, Some([0.588, 0.766, 0.872, 0.932, 0.964, 0.991])),
            (Kind::Hyperexponential, 0.99, 10.0, None),
            (Kind::Hyperexponential, 0.99, 15.0, Some([0.261, 0.512, 0.701, 0.825, 0.900, 0.970])),
            (Kind::Hyperexponential, 0.99, 30.0, Some([0.609, 0.782, 0.882, 0.937, 0.967, 0.991])),
            (Kind::Moments(1.0), 0.95, 5.0, Some([0.349, 0.593, 0.760, 0.864, 0.925, 0.978])),
            (Kind::Moments(1.0), 0.95, 10.0, Some([0.644, 0.802, 0.894, 0.944, 0.971, 0.992])),
            (Kind::Moments(1.0), 0.95, 20.0, Some([0.812, 0.901, 0.949, 0.974, 0.987, 0.997])),
        ] {
            let objective = Objective { latency: 0.05 * latency, quantile };
            for (place, servers) in [1.0, 2.0, 4.0, 8.0, 16.0, 64.0].into_iter().enumerate() {
                let found = safe_utilization(&Station::new(service_time(kind), servers), &objective);
                match expected {
                    None => assert_eq!(found, None, "{kind:?} {latency}"),
                    Some(expected) => {
                        let (found, expected): (f64, f64) = (found.unwrap(), expected[place]);
                        assert!((found - expected).abs() < 0.01 * expected + 0.003, "{kind:?} {latency} {servers}: {found} {expected}");
                    }
                }
            }
        }
    }
}
