//! What is normal: median and spread of every figure over trailing windows.

use std::collections::BTreeMap;

use super::figures::Window;
use super::graph::Graph;

/// Windows below which a spread is not believed.
const LEAST_WINDOWS: usize = 5;
/// Standard deviations above the median that count as more than chance: 0.1 % of the windows of a normal figure.
const SIGNIFICANCE: f64 = 3.0;
/// Rises below this share of the median are never news, however still the figure was.
const LEAST_RISE: f64 = 0.1;
/// Makes the median absolute deviation of a normal variable its standard deviation.
const DEVIATION: f64 = 1.4826;

/// One figure over trailing windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normal {
    /// Its median.
    pub median: f64,
    /// Its robust standard deviation (from the median absolute deviation).
    pub spread: f64,
    /// Windows in which it was known.
    pub windows: usize,
}

/// What is normal of each service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ServiceNormal {
    pub(super) self_time: Option<Normal>,
    pub(super) utilization: Option<Normal>,
    pub(super) peak_utilization: Option<Normal>,
    pub(super) throttled: Option<Normal>,
    pub(super) error_share: Option<Normal>,
}

/// What is normal of each pair of services.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct EdgeNormal {
    pub(super) client_duration: Option<Normal>,
    pub(super) wait: Option<Normal>,
    pub(super) wait_floor: Option<Normal>,
}

/// The normal state of a system, learned from windows before the one in question. Medians bear a minority of windows that
/// were not normal, so an hour that holds one incident may still serve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    services: BTreeMap<String, ServiceNormal>,
    /// By client, then by server.
    edges: BTreeMap<String, BTreeMap<String, EdgeNormal>>,
}

// === impl Normal ===

impl Normal {
    /// Median and spread of `values`; values that are no numbers do not count. `None` without values.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let median = median(&mut values)?;
        let mut deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        Some(Self { median, spread: DEVIATION * self::median(&mut deviations)?, windows: values.len() })
    }

    /// How far `value` lies above the median, when that is neither chance nor negligible; else zero. With too few windows to
    /// know the spread, the value must have doubled.
    #[must_use]
    pub fn excess(&self, value: f64) -> f64 {
        let rise = value - self.median;
        let chance =
            if self.windows < LEAST_WINDOWS { self.median.abs() } else { (self.deviations() * self.spread).max(LEAST_RISE * self.median) };
        if rise > 0.0 && rise > chance { rise } else { 0.0 }
    }

    /// How many of its spreads are more than chance. A spread of few windows is itself uncertain: the quantile is Student's,
    /// by the first two terms of its expansion about the normal one.
    #[expect(clippy::cast_precision_loss, reason = "far fewer windows than 2^52")]
    fn deviations(&self) -> f64 {
        let (z, freedom) = (SIGNIFICANCE, self.windows.saturating_sub(1).max(1) as f64);
        z + (z.powi(3) + z) / (4.0 * freedom) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * freedom.powi(2))
    }
}

// === impl Baseline ===

impl Baseline {
    /// Learns from trailing windows, in any order. The caller bounds how many: an hour of them is enough.
    #[must_use]
    pub fn learn<'w>(windows: impl IntoIterator<Item = &'w Window>) -> Self {
        let mut services: BTreeMap<&str, [Vec<f64>; 5]> = BTreeMap::new();
        let mut edges: BTreeMap<(&str, &str), [Vec<f64>; 3]> = BTreeMap::new();
        for window in windows {
            let graph = Graph::of(window);
            for service in &window.services {
                let own = graph.self_time(service);
                let figures = [own, service.utilization, service.peak(), service.throttled, service.error_share];
                collect(services.entry(&service.name).or_default(), figures);
            }
            for edge in &window.edges {
                let figures = [edge.client_duration, edge.mean_wait(), edge.wait_floor];
                collect(edges.entry((&edge.client, &edge.server)).or_default(), figures);
            }
        }
        let services = services.into_iter().map(|(name, figures)| {
            let [self_time, utilization, peak_utilization, throttled, error_share] = figures.map(Normal::of);
            (name.to_owned(), ServiceNormal { self_time, utilization, peak_utilization, throttled, error_share })
        });
        let mut baseline = Self { services: services.collect(), edges: BTreeMap::new() };
        for ((client, server), figures) in edges {
            let [client_duration, wait, wait_floor] = figures.map(Normal::of);
            let normal = EdgeNormal { client_duration, wait, wait_floor };
            let _ = baseline.edges.entry(client.to_owned()).or_default().insert(server.to_owned(), normal);
        }
        baseline
    }

    pub(super) fn service(&self, name: &str) -> ServiceNormal {
        self.services.get(name).copied().unwrap_or_default()
    }

    pub(super) fn edge(&self, client: &str, server: &str) -> EdgeNormal {
        self.edges.get(client).and_then(|servers| servers.get(server)).copied().unwrap_or_default()
    }
}

fn collect<const N: usize>(into: &mut [Vec<f64>; N], figures: [Option<f64>; N]) {
    for (values, figure) in into.iter_mut().zip(figures) {
        values.extend(figure);
    }
}

/// The median; sorts. `None` when empty.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let high = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { high } else { 0.5 * (high + values.get(middle.checked_sub(1)?)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: median and spread are those of the values, one outlier in nine moves neither far, and no values give none.
    #[test]
    fn an_outlier_does_not_move_what_is_normal() {
        let normal = Normal::of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 1000.0]).unwrap();
        assert!((normal.median - 5.0).abs() < 1e-12 && (normal.spread - 2.0 * DEVIATION).abs() < 1e-12, "{normal:?}");
        assert_eq!(Normal::of([f64::NAN]), None);
    }

    /// Guarantees: a rise counts beyond three spreads (more where the spread is of few windows) and a tenth of the median, and
    /// without a spread beyond the double.
    #[test]
    fn a_rise_must_be_more_than_chance() {
        let wide = Normal { median: 10.0, spread: 2.0, windows: 100_000 };
        assert!((wide.excess(15.9), wide.excess(16.5)) == (0.0, 6.5));
        let few = Normal { windows: 6, ..wide };
        assert!((few.excess(20.0), few.excess(21.5)) == (0.0, 11.5));
        let still = Normal { median: 10.0, spread: 0.0, windows: 9 };
        assert!((still.excess(10.9), still.excess(11.5)) == (0.0, 1.5));
        let short = Normal { median: 10.0, spread: 0.0, windows: 2 };
        assert!((short.excess(19.0), short.excess(21.0)) == (0.0, 11.0));
        assert!(still.excess(f64::NAN) == 0.0 && still.excess(5.0) == 0.0);
    }
}
