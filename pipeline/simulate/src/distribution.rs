//! Distributions of durations in seconds: what a service takes per request, what a replica takes to start, gaps of arrivals.

use serde::{Deserialize, Serialize};
use tracescale_models::special::{gamma_p, gamma_quantile, normal_quantile};

use crate::number::real;
use crate::random::Stream;

/// Strata of the body of a distribution when it is replaced by points, up to [`BODY`].
const BODY_STRATA: u32 = 24;
/// Share of the values in the body.
const BODY: f64 = 0.9;
/// Strata of the tail; each holds two thirds of what is left.
const TAIL_STRATA: u32 = 20;
/// Halvings that find a quantile of a distribution without a closed form.
const HALVINGS: u32 = 80;

/// A distribution of non-negative durations, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "kind")]
pub enum Distribution {
    /// Always the same.
    Deterministic {
        /// The value.
        value: f64,
    },
    /// Without memory; squared coefficient of variation 1.
    Exponential {
        /// The mean.
        mean: f64,
    },
    /// Sum of `shape` exponential phases; squared coefficient of variation 1 / shape.
    Erlang {
        /// Number of phases.
        shape: u32,
        /// The mean of the sum.
        mean: f64,
    },
    /// One of two exponential phases with balanced means.
    Hyperexponential {
        /// The mean.
        mean: f64,
        /// Squared coefficient of variation, at least 1.
        scv: f64,
    },
    /// Logarithm of a normal variable.
    Lognormal {
        /// The mean.
        mean: f64,
        /// Squared coefficient of variation.
        scv: f64,
    },
    /// A measured histogram; uniform within a bucket.
    Empirical {
        /// Edges of the buckets, increasing; one more than there are counts.
        edges: Vec<f64>,
        /// Weight of each bucket.
        counts: Vec<f64>,
    },
}

/// Why a distribution cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DistributionError {
    /// A parameter out of its range.
    #[error("{parameter} of the distribution is {value}, but must be {range}")]
    Parameter {
        /// Its name.
        parameter: &'static str,
        /// What it is.
        value: f64,
        /// What it must be.
        range: &'static str,
    },
    /// Edges and counts that make no histogram.
    #[error("the histogram has {edges} edges and {counts} counts; it needs increasing edges, one more than counts, and a positive count")]
    Histogram {
        /// Number of edges.
        edges: usize,
        /// Number of counts.
        counts: usize,
    },
}

// === impl Distribution ===

impl Distribution {
    /// Checks all parameters.
    ///
    /// # Errors
    /// When one is out of its range.
    pub fn validate(&self) -> Result<(), DistributionError> {
        let check = |parameter, value: f64, valid: bool, range| {
            let valid = valid && value.is_finite();
            if valid { Ok(()) } else { Err(DistributionError::Parameter { parameter, value, range }) }
        };
        match self {
            Self::Deterministic { value } => check("value", *value, *value >= 0.0, "zero or more"),
            Self::Exponential { mean } => check("mean", *mean, *mean > 0.0, "above zero"),
            Self::Erlang { shape, mean } => {
                check("shape", f64::from(*shape), (1..=1000).contains(shape), "from 1 to 1000")?;
                check("mean", *mean, *mean > 0.0, "above zero")
            }
            Self::Hyperexponential { mean, scv } => {
                check("mean", *mean, *mean > 0.0, "above zero")?;
                check("scv", *scv, *scv >= 1.0, "at least 1")
            }
            Self::Lognormal { mean, scv } => {
                check("mean", *mean, *mean > 0.0, "above zero")?;
                check("scv", *scv, *scv > 0.0, "above zero")
            }
            Self::Empirical { edges, counts } => {
                let shape = edges.len() == counts.len() + 1 && edges.is_sorted_by(|low, high| low < high);
                let finite = edges.iter().all(|edge| *edge >= 0.0 && edge.is_finite());
                let weighed = counts.iter().all(|count| *count >= 0.0 && count.is_finite()) && counts.iter().sum::<f64>() > 0.0;
                let valid = shape && finite && weighed;
                if valid { Ok(()) } else { Err(DistributionError::Histogram { edges: edges.len(), counts: counts.len() }) }
            }
        }
    }

    /// Draws a value.
    pub fn sample(&self, stream: &mut Stream) -> f64 {
        match self {
            Self::Deterministic { value } => *value,
            Self::Exponential { mean } => mean * stream.exponential(),
            Self::Erlang { shape, mean } => {
                let sum: f64 = (0..*shape).map(|_| stream.exponential()).sum();
                mean * sum / f64::from(*shape)
            }
            Self::Hyperexponential { mean, scv } => {
                let p = first_phase(*scv);
                let share = if stream.chance(p) { p } else { 1.0 - p };
                mean * stream.exponential() / (2.0 * share)
            }
            Self::Lognormal { mean, scv } => {
                let variance = scv.ln_1p();
                mean * (variance.sqrt() * stream.normal() - 0.5 * variance).exp()
            }
            Self::Empirical { .. } => self.quantile(stream.share()),
        }
    }

    /// Mean in seconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self {
            Self::Deterministic { value } => *value,
            Self::Exponential { mean } | Self::Erlang { mean, .. } | Self::Hyperexponential { mean, .. } | Self::Lognormal { mean, .. } => {
                *mean
            }
            Self::Empirical { edges, counts } => average(edges, counts, |low, high| 0.5 * (low + high)),
        }
    }

    /// Squared coefficient of variation; zero when the mean is.
    #[must_use]
    pub fn scv(&self) -> f64 {
        match self {
            Self::Deterministic { .. } => 0.0,
            Self::Exponential { .. } => 1.0,
            Self::Erlang { shape, .. } => 1.0 / f64::from(*shape),
            Self::Hyperexponential { scv, .. } | Self::Lognormal { scv, .. } => *scv,
            Self::Empirical { edges, counts } => {
                let mean = self.mean();
                let square = average(edges, counts, |low, high| (low * low + low * high + high * high) / 3.0);
                if mean > 0.0 { (square / (mean * mean) - 1.0).max(0.0) } else { 0.0 }
            }
        }
    }

    /// The value below which the share `q` of the values lies, for `q` in (0, 1).
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        match self {
            Self::Deterministic { value } => *value,
            Self::Exponential { mean } => -mean * (-q).ln_1p(),
            Self::Erlang { shape, mean } => gamma_quantile(f64::from(*shape), q).unwrap_or(f64::NAN) * mean / f64::from(*shape),
            Self::Hyperexponential { mean, scv } => mean * hyperexponential_quantile(first_phase(*scv), q),
            Self::Lognormal { mean, scv } => {
                let variance = scv.ln_1p();
                mean * (variance.sqrt() * normal_quantile(q) - 0.5 * variance).exp()
            }
            Self::Empirical { edges, counts } => {
                let mut left = q * counts.iter().sum::<f64>();
                for (pair, count) in edges.windows(2).zip(counts) {
                    if left <= *count && *count > 0.0 {
                        return pair[0] + (pair[1] - pair[0]) * left / count;
                    }
                    left -= count;
                }
                edges.last().copied().unwrap_or_default()
            }
        }
    }

    /// The distribution as `(value, weight)` points of total weight 1 and of the same mean, fine in the tail.
    #[must_use]
    pub fn points(&self) -> Vec<(f64, f64)> {
        if let Self::Deterministic { value } = self {
            return vec![(*value, 1.0)];
        }
        let width = BODY / f64::from(BODY_STRATA);
        let mut points: Vec<(f64, f64)> =
            (0..BODY_STRATA).map(|stratum| (self.quantile((f64::from(stratum) + 0.5) * width), width)).collect();
        let mut left = 1.0 - BODY;
        for stratum in 0..TAIL_STRATA {
            let weight = if stratum + 1 == TAIL_STRATA { left } else { left / 3.0 };
            points.push((self.quantile(1.0 - (left - 0.5 * weight)), weight));
            left -= weight;
        }
        let mean: f64 = points.iter().map(|(value, weight)| value * weight).sum();
        let scale = if mean > 0.0 { self.mean() / mean } else { 1.0 };
        for (value, _) in &mut points {
            *value *= scale;
        }
        points
    }

    /// Share of the values at most `x`; used to check a sampler against its law.
    #[must_use]
    pub fn cdf(&self, x: f64) -> f64 {
        match self {
            Self::Deterministic { value } => real(u64::from(x >= *value)),
            Self::Exponential { mean } => -(-x.max(0.0) / mean).exp_m1(),
            Self::Erlang { shape, mean } => gamma_p(f64::from(*shape), x * f64::from(*shape) / mean),
            Self::Hyperexponential { mean, scv } => 1.0 - hyperexponential_tail(first_phase(*scv), x.max(0.0) / mean),
            Self::Lognormal { .. } | Self::Empirical { .. } => self.cdf_by_halving(x),
        }
    }

    fn cdf_by_halving(&self, x: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if self.quantile(middle) <= x { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    }
}

/// Probability of the first phase of a hyperexponential variable with balanced means.
fn first_phase(scv: f64) -> f64 {
    0.5 * (1.0 + ((scv - 1.0) / (scv + 1.0)).max(0.0).sqrt())
}

/// P(S > x) of a hyperexponential variable of mean 1.
fn hyperexponential_tail(p: f64, x: f64) -> f64 {
    p * (-2.0 * p * x).exp() + (1.0 - p) * (-2.0 * (1.0 - p) * x).exp()
}

fn hyperexponential_quantile(p: f64, q: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while hyperexponential_tail(p, high) > 1.0 - q && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if hyperexponential_tail(p, middle) > 1.0 - q { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Mean over the buckets of what `of` says of a bucket.
fn average(edges: &[f64], counts: &[f64], of: impl Fn(f64, f64) -> f64) -> f64 {
    let total: f64 = counts.iter().sum();
    edges.windows(2).zip(counts).map(|(pair, count)| of(pair[0], pair[1]) * count).sum::<f64>() / total.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::real_length;
    use crate::random::Purpose;

    fn mean_of(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / real_length(values.len())
    }

    fn all() -> [Distribution; 6] {
        [
            Distribution::Deterministic { value: 2.0 },
            Distribution::Exponential { mean: 2.0 },
            Distribution::Erlang { shape: 4, mean: 2.0 },
            Distribution::Hyperexponential { mean: 2.0, scv: 4.0 },
            Distribution::Lognormal { mean: 2.0, scv: 1.0 },
            Distribution::Empirical { edges: vec![1.0, 2.0, 4.0], counts: vec![1.0, 3.0] },
        ]
    }

    /// Guarantees: samples have the mean, the variation and the quantiles that the distribution states.
    #[test]
    fn samples_follow_their_law() {
        for distribution in all() {
            distribution.validate().unwrap();
            let mut stream = Stream::new(3, 0, Purpose::ServiceTime);
            let values: Vec<f64> = (0..60_000).map(|_| distribution.sample(&mut stream)).collect();
            let mean = mean_of(&values);
            let scv = mean_of(&values.iter().map(|value| (value / mean - 1.0).powi(2)).collect::<Vec<_>>());
            assert!((mean / distribution.mean() - 1.0).abs() < 0.03, "{distribution:?}: mean {mean}");
            assert!((scv - distribution.scv()).abs() < 0.12 * distribution.scv() + 1e-9, "{distribution:?}: scv {scv}");
            for q in [0.1, 0.5, 0.95] {
                let below = values.iter().filter(|value| **value <= distribution.quantile(q)).count();
                let share = real_length(below) / 60_000.0;
                let exact = matches!(distribution, Distribution::Deterministic { .. });
                assert!(exact || (share - q).abs() < 0.01, "{distribution:?}: {share} at {q}");
            }
        }
    }

    /// Guarantees: points keep the mean exactly and the variation nearly, and cdf inverts quantile.
    #[test]
    fn points_and_cdf_agree() {
        for distribution in all() {
            let points = distribution.points();
            let mean: f64 = points.iter().map(|(value, weight)| value * weight).sum();
            let square: f64 = points.iter().map(|(value, weight)| value * value * weight).sum();
            assert!((points.iter().map(|(_, weight)| weight).sum::<f64>() - 1.0).abs() < 1e-9);
            assert!((mean / distribution.mean() - 1.0).abs() < 1e-9);
            assert!((square / (mean * mean) - 1.0 - distribution.scv()).abs() < 0.03 * distribution.scv() + 1e-9, "{distribution:?}");
            let exact = matches!(distribution, Distribution::Deterministic { .. });
            assert!(exact || (distribution.cdf(distribution.quantile(0.7)) - 0.7).abs() < 1e-6, "{distribution:?}");
        }
    }

    /// Guarantees: parameters out of range are refused by name.
    #[test]
    fn parameters_are_checked() {
        let wrong = [
            Distribution::Exponential { mean: 0.0 },
            Distribution::Erlang { shape: 0, mean: 1.0 },
            Distribution::Hyperexponential { mean: 1.0, scv: 0.5 },
            Distribution::Lognormal { mean: f64::NAN, scv: 1.0 },
            Distribution::Empirical { edges: vec![1.0, 1.0], counts: vec![1.0] },
        ];
        for distribution in wrong {
            assert!(distribution.validate().is_err(), "{distribution:?}");
        }
        let text = Distribution::Exponential { mean: -1.0 }.validate().unwrap_err().to_string();
        assert_eq!(text, "mean of the distribution is -1, but must be above zero");
    }
}
