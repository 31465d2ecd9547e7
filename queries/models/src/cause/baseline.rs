//! What is normal: median and spread of every figure over trailing windows.

use std::collections::{BTreeMap, VecDeque};

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

/// What is normal of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ServiceNormal {
    pub(super) self_time: Option<Normal>,
    pub(super) utilization: Option<Normal>,
    pub(super) peak_utilization: Option<Normal>,
    pub(super) throttled: Option<Normal>,
    pub(super) error_share: Option<Normal>,
}

/// What is normal of a pair of services.
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
    services: BTreeMap<String, Series<5>>,
    /// By client, then by server.
    edges: BTreeMap<String, BTreeMap<String, Series<3>>>,
}

/// Figures of one service or pair, window by window, and what is normal of each.
#[derive(Clone, Debug, PartialEq)]
struct Series<const N: usize> {
    /// When, and what; NaN where it is not known.
    windows: VecDeque<(i64, [f64; N])>,
    normals: [Option<Normal>; N],
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
        let mut baseline = Self::default();
        windows.into_iter().for_each(|window| baseline.add(0, window));
        baseline.conclude();
        baseline
    }

    /// Learns one window more, of the time `at` on any clock, and forgets those whose times are not to be kept. Takes as long for the
    /// last of many windows as for the first.
    pub fn follow(&mut self, at: i64, window: &Window, keep: impl Fn(i64) -> bool) {
        self.services.retain(|_, series| series.keep(&keep));
        self.edges.retain(|_, servers| {
            servers.retain(|_, series| series.keep(&keep));
            !servers.is_empty()
        });
        self.add(at, window);
        self.conclude();
    }

    fn add(&mut self, at: i64, window: &Window) {
        let graph = Graph::of(window);
        for service in &window.services {
            let own = graph.self_time(service);
            let figures = [own, service.utilization, service.peak(), service.throttled, service.error_share];
            self.services.entry(service.name.clone()).or_default().add(at, figures);
        }
        for edge in &window.edges {
            let figures = [edge.client_duration, edge.mean_wait(), edge.wait_floor];
            let servers = self.edges.entry(edge.client.clone()).or_default();
            servers.entry(edge.server.clone()).or_default().add(at, figures);
        }
    }

    fn conclude(&mut self) {
        self.services.values_mut().for_each(Series::conclude);
        self.edges.values_mut().flat_map(BTreeMap::values_mut).for_each(Series::conclude);
    }

    pub(super) fn service(&self, name: &str) -> ServiceNormal {
        let [self_time, utilization, peak_utilization, throttled, error_share] =
            self.services.get(name).map(|series| series.normals).unwrap_or_default();
        ServiceNormal { self_time, utilization, peak_utilization, throttled, error_share }
    }

    pub(super) fn edge(&self, client: &str, server: &str) -> EdgeNormal {
        let series = self.edges.get(client).and_then(|servers| servers.get(server));
        let [client_duration, wait, wait_floor] = series.map(|series| series.normals).unwrap_or_default();
        EdgeNormal { client_duration, wait, wait_floor }
    }
}

// === impl Series ===

impl<const N: usize> Series<N> {
    fn add(&mut self, at: i64, figures: [Option<f64>; N]) {
        self.windows.push_back((at, figures.map(|figure| figure.unwrap_or(f64::NAN))));
    }

    /// Forgets windows that are not to be kept; false when none is left.
    fn keep(&mut self, keep: impl Fn(i64) -> bool) -> bool {
        self.windows.retain(|(at, _)| keep(*at));
        !self.windows.is_empty()
    }

    fn conclude(&mut self) {
        self.normals = std::array::from_fn(|place| Normal::of(self.windows.iter().map(|(_, figures)| figures[place])));
    }
}

impl<const N: usize> Default for Series<N> {
    fn default() -> Self {
        Self { windows: VecDeque::new(), normals: [None; N] }
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
    use super::super::figures::{Edge, Service};
    use super::*;

    /// Guarantees: median and spread are those of the values, one outlier in nine moves neither far, and no values give none.
    #[test]
    fn an_outlier_does_not_move_what_is_normal() {
        let normal = Normal::of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 1000.0]).unwrap();
        assert!((normal.median - 5.0).abs() < 1e-12 && (normal.spread - 2.0 * DEVIATION).abs() < 1e-12, "{normal:?}");
        assert_eq!(Normal::of([f64::NAN]), None);
    }

    /// Guarantees: followed window by window, what is normal is what the kept windows alone teach, and who is in none of them is forgotten.
    #[test]
    fn what_is_followed_is_what_was_kept() {
        let window = |at: i64| {
            let time = f64::from(u8::try_from(at * at % 11).unwrap());
            let name = if at < 3 { "gone" } else { "here" };
            Window {
                services: vec![Service { name: name.to_owned(), requests: 1.0, self_time: Some(time), ..Service::default() }],
                edges: vec![Edge { client: "front".to_owned(), server: name.to_owned(), wait: Some(time), ..Edge::default() }],
            }
        };
        let mut followed = Baseline::default();
        (0..10).for_each(|at| followed.follow(at, &window(at), |known| known > at - 5));
        let learned = Baseline::learn(&(5..10).map(window).collect::<Vec<_>>());
        assert_eq!((followed.service("here"), followed.edge("front", "here")), (learned.service("here"), learned.edge("front", "here")));
        assert_eq!(followed.service("here").self_time.unwrap().windows, 5);
        assert_eq!((followed.services.len(), followed.edges["front"].len()), (1, 1));
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
