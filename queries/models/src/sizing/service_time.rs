//! The distribution of a service time as a few points: exact in its mean, fine in its tail, cheap to sum over.

use crate::special::{gamma_quantile, normal_quantile};

/// Strata of the body, up to the share [`BODY`] of the requests.
const BODY_STRATA: u8 = 22;
/// Share of the requests in the body.
const BODY: f64 = 0.9;
/// Strata of the tail; the objectives ask about it, and each takes an eighth of what is left.
const TAIL_STRATA: u8 = 58;
/// What each stratum of the tail leaves.
const LEFT: f64 = 0.88;
/// Points above which a distribution is reduced to the strata.
const POINTS: usize = 80;

/// A distribution of service times.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceTime {
    mean: f64,
    scv: f64,
    /// In units of the mean, ascending, of total weight 1.
    points: Vec<(f64, f64)>,
}

// === impl ServiceTime ===

impl ServiceTime {
    /// From measured `(seconds, weight)` points in any order, such as those of a histogram. More than 80 are merged without
    /// moving their mean. `None` when a number is negative or unbounded or when nothing has a duration.
    #[must_use]
    pub fn from_points(points: &[(f64, f64)]) -> Option<Self> {
        let valid = |value: f64| value >= 0.0 && value.is_finite();
        let total: f64 = points.iter().map(|(_, weight)| weight).sum();
        let mean = points.iter().map(|(value, weight)| value * weight).sum::<f64>() / total;
        if !(points.iter().all(|(value, weight)| valid(*value) && valid(*weight)) && mean > 0.0 && mean.is_finite()) {
            return None;
        }
        let mut sorted: Vec<(f64, f64)> =
            points.iter().filter(|(_, weight)| *weight > 0.0).map(|(value, weight)| (value / mean, weight / total)).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let scv = sorted.iter().map(|(value, weight)| (value - 1.0).powi(2) * weight).sum();
        let points = if sorted.len() > POINTS { merge(&sorted) } else { sorted };
        Some(Self { mean, scv, points })
    }

    /// From a mean in seconds and a squared coefficient of variation, when nothing else is known: a gamma law up to the
    /// variation of exponential times, a lognormal one above. `None` unless the mean is positive and both are bounded.
    #[must_use]
    pub fn from_moments(mean: f64, scv: f64) -> Option<Self> {
        if !(mean > 0.0 && mean.is_finite() && scv >= 0.0 && scv.is_finite()) {
            return None;
        }
        if scv < 1e-6 {
            return Some(Self { mean, scv, points: vec![(1.0, 1.0)] });
        }
        let variance = scv.ln_1p();
        let value = |share: f64| {
            if scv <= 1.0 {
                gamma_quantile(1.0 / scv, share).map(|value| value * scv)
            } else {
                Some((variance.sqrt() * normal_quantile(share) - 0.5 * variance).exp())
            }
        };
        let raw: Vec<(f64, f64)> =
            strata().map(|(from, to)| value(0.5 * (from + to)).map(|value| (value, to - from))).collect::<Option<_>>()?;
        let sum: f64 = raw.iter().map(|(value, weight)| value * weight).sum();
        let points = raw.into_iter().map(|(value, weight)| (value / sum, weight)).collect();
        Some(Self { mean, scv, points })
    }

    /// Mean in seconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Squared coefficient of variation.
    #[must_use]
    pub fn scv(&self) -> f64 {
        self.scv
    }

    /// `(seconds, weight)` points, ascending, of total weight 1.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().map(|(value, weight)| (value * self.mean, *weight))
    }

    /// The service time that the share `q` of the requests does not exceed. `None` outside [0, 1].
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if !(0.0..=1.0).contains(&q) {
            return None;
        }
        let mut left = q - 1e-12;
        let found = self.points.iter().find(|(_, weight)| {
            left -= weight;
            left <= 0.0
        });
        found.or(self.points.last()).map(|(value, _)| value * self.mean)
    }

    /// Share of the requests that take longer than `seconds` even alone.
    #[must_use]
    pub fn share_above(&self, seconds: f64) -> f64 {
        self.points.iter().rev().take_while(|(value, _)| value * self.mean > seconds).map(|(_, weight)| weight).sum()
    }

    /// The same shape on a machine that takes `factor` times as long. `None` unless the factor is positive and bounded.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Option<Self> {
        let mean = self.mean * factor;
        (mean > 0.0 && mean.is_finite()).then(|| Self { mean, ..self.clone() })
    }

    /// In units of the mean.
    pub(super) fn unit_points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

/// Shares between which each stratum lies.
fn strata() -> impl Iterator<Item = (f64, f64)> {
    let width = BODY / f64::from(BODY_STRATA);
    let body = (0..BODY_STRATA).map(move |place| (width * f64::from(place), width * f64::from(place + 1)));
    let left = |place: u8| (1.0 - BODY) * LEFT.powi(i32::from(place));
    let tail = (0..TAIL_STRATA).map(move |place| (1.0 - left(place), if place + 1 == TAIL_STRATA { 1.0 } else { 1.0 - left(place + 1) }));
    body.chain(tail)
}

/// Sorted points of total weight 1, joined within each stratum.
fn merge(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut merged = Vec::with_capacity(POINTS);
    let (mut rest, mut seen) = (points.iter().peekable(), 0.0);
    for (_, to) in strata() {
        let (mut sum, mut total) = (0.0, 0.0);
        // A point belongs where its middle lies; rounding must not lose the last.
        while let Some((value, weight)) = rest.next_if(|(_, weight)| seen + 0.5 * weight <= to || to >= 1.0) {
            seen += weight;
            sum += value * weight;
            total += weight;
        }
        if total > 0.0 {
            merged.push((sum / total, total));
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(service_time: &ServiceTime) -> (f64, f64) {
        let mean: f64 = service_time.points().map(|(value, weight)| value * weight).sum();
        (mean, service_time.points().map(|(value, weight)| (value / mean - 1.0).powi(2) * weight).sum())
    }

    /// Guarantees: points keep the mean exactly and the variation nearly, at most 80 of them, whatever the law.
    #[test]
    fn points_keep_their_moments() {
        for scv in [0.0, 0.05, 0.25, 1.0, 2.0, 4.0, 10.0] {
            let service_time = ServiceTime::from_moments(0.2, scv).unwrap();
            let (mean, spread) = moments(&service_time);
            assert!((mean - 0.2).abs() < 1e-9 && (spread - scv).abs() <= 0.12 * scv, "{scv}: {mean} {spread}");
            assert!((service_time.points().map(|(_, weight)| weight).sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(service_time.unit_points().len() <= POINTS && service_time.unit_points().is_sorted_by(|a, b| a.0 <= b.0));
        }
    }

    /// Guarantees: thousands of measured points merge into few of the same mean, whose tail is that of the original.
    #[test]
    fn merging_keeps_mean_and_tail() {
        let points: Vec<(f64, f64)> = (0..5000).rev().map(|place| (-((f64::from(place) + 0.5) / 5000.0).ln() * 0.1, 2.0)).collect();
        let service_time = ServiceTime::from_points(&points).unwrap();
        let raw: f64 = points.iter().map(|(value, _)| value).sum::<f64>() / 5000.0;
        assert!((moments(&service_time).0 / raw - 1.0).abs() < 1e-9);
        assert!((service_time.scv() - 1.0).abs() < 0.01 && service_time.unit_points().len() <= POINTS);
        assert!((service_time.quantile(0.99).unwrap() / 0.4605 - 1.0).abs() < 0.03);
        assert!((service_time.share_above(0.4605) - 0.01).abs() < 0.002);
        assert!((service_time.scaled(2.0).unwrap().share_above(0.921) - service_time.share_above(0.4605)).abs() < 1e-12);
    }

    /// Guarantees: a few points are kept as they are, and quantiles and shares are exact on them.
    #[test]
    fn few_points_are_exact() {
        let service_time = ServiceTime::from_points(&[(3.0, 1.0), (1.0, 9.0), (7.0, 0.0)]).unwrap();
        assert!((service_time.mean() - 1.2).abs() < 1e-12 && (service_time.scv() - 0.25).abs() < 1e-12);
        assert!((service_time.quantile(0.9).unwrap() - 1.0).abs() < 1e-12 && (service_time.quantile(0.91).unwrap() - 3.0).abs() < 1e-12);
        assert!((service_time.share_above(1.0) - 0.1).abs() < 1e-12 && service_time.share_above(3.0).abs() < 1e-12);
    }

    /// Guarantees: what is no distribution of durations is refused.
    #[test]
    fn senseless_input() {
        for points in [&[][..], &[(1.0, 0.0)], &[(0.0, 1.0)], &[(-1.0, 1.0), (3.0, 1.0)], &[(1.0, f64::NAN)], &[(f64::INFINITY, 1.0)]] {
            assert_eq!(ServiceTime::from_points(points), None);
        }
        for (mean, scv) in [(0.0, 1.0), (-1.0, 1.0), (1.0, -0.1), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            assert_eq!(ServiceTime::from_moments(mean, scv), None);
        }
        assert_eq!(ServiceTime::from_moments(1.0, 1.0).unwrap().scaled(0.0), None);
    }
}
