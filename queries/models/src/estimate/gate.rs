//! May this be decided on these data? One function per decision; each names the figure that fails.

use crate::confidence::samples_for_quantile;
use crate::special::binomial_cdf;

/// Effective samples that a rate needs before it may scale up.
pub const UP_SAMPLES: f64 = 100.0;
/// Relative half-width of the rate up to which it may scale up.
pub const UP_RATE_ERROR: f64 = 0.25;
/// Effective samples that scaling down needs.
pub const DOWN_SAMPLES: f64 = 400.0;
/// Amplified relative error of the wait up to which scaling down is allowed.
pub const DOWN_AMPLIFICATION: f64 = 0.5;
/// Samples that a fitted scv of the service time needs.
pub const SERVICE_SCV_SAMPLES: f64 = 3000.0;
/// Traces that a fan-out needs.
pub const FAN_OUT_TRACES: f64 = 200.0;
/// Relative half-width of a fan-out up to which it is used.
pub const FAN_OUT_ERROR: f64 = 0.2;
/// Distinct levels of load that a fitted curve needs.
pub const FIT_LEVELS: f64 = 6.0;
/// Ratio of the largest to the smallest load that a fitted curve needs.
pub const FIT_RANGE: f64 = 3.0;
/// Requests per minute below which a service is never modelled.
pub const MODEL_REQUESTS: f64 = 30.0;

/// A figure that a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Figure {
    /// Effective number of samples.
    Samples,
    /// Relative half-width of the arrival rate.
    RateError,
    /// Relative error of the wait that follows from that of the utilization.
    Amplification,
    /// Relative half-width of the fan-out.
    FanOutError,
    /// Distinct levels of load.
    LoadLevels,
    /// Largest over smallest load.
    LoadRange,
    /// Requests per minute.
    Requests,
}

/// Why a gate is closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lack {
    /// The first figure that fails.
    pub figure: Figure,
    /// What it is; `None` when it is not known.
    pub has: Option<f64>,
    /// What it would have to be: at least so much of what is good, at most so much of what is bad.
    pub needs: f64,
}

/// Whether a decision may rest on the data.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub enum Gate {
    /// It may.
    Open,
    /// It may not.
    Closed(Lack),
}

/// Whether the rate and the queue model behind it may scale up. `samples`: effective samples of the last 5 min; `error`: relative
/// half-width of the rate. When closed: use the utilization from metrics; without one, hold or go to the fallback.
pub fn scale_up_on_rate(samples: Option<f64>, error: Option<f64>) -> Gate {
    at_least(Figure::Samples, samples, UP_SAMPLES).and(at_most(Figure::RateError, error, UP_RATE_ERROR))
}

/// Whether a latency objective "the share `quantile` within the limit" may scale up: enough effective samples (of at most 5 min) for
/// that quantile to exist, or already so many violations among them that the lower end of the 95 % interval of their share is above
/// 1 − q. When closed: ignore latency.
pub fn scale_up_on_latency(samples: Option<f64>, violations: Option<f64>, quantile: f64) -> Gate {
    let low = samples.zip(violations).and_then(|(samples, violations)| violation_share_low(violations, samples));
    if low.is_some_and(|low| low > 1.0 - quantile) {
        return Gate::Open;
    }
    let needs = samples_for_quantile(quantile).map_or(f64::INFINITY, |samples| samples + 1.0);
    at_least(Figure::Samples, samples, needs)
}

/// Whether anything may scale down. `samples`: effective samples of the last 15 min; `amplification`: see
/// [`crate::confidence::wait_amplification`]. When closed: hold. Old data and silent instances are the decider's to stop.
pub fn scale_down(samples: Option<f64>, amplification: Option<f64>) -> Gate {
    at_least(Figure::Samples, samples, DOWN_SAMPLES).and(at_most(Figure::Amplification, amplification, DOWN_AMPLIFICATION))
}

/// Whether a fitted scv of the service time may be used. When closed: the larger of 1 and the prior.
pub fn use_service_scv(samples: Option<f64>) -> Gate {
    at_least(Figure::Samples, samples, SERVICE_SCV_SAMPLES)
}

/// Whether a fan-out may carry a forecast downstream: effective samples behind it, and its relative half-width. When closed: the
/// service's own forecast only.
pub fn use_fan_out(samples: Option<f64>, error: Option<f64>) -> Gate {
    at_least(Figure::Samples, samples, FAN_OUT_TRACES).and(at_most(Figure::FanOutError, error, FAN_OUT_ERROR))
}

/// Whether a fitted scalability curve or number of servers may be used: distinct levels of load, and the largest over the
/// smallest. When closed: the configured number of servers.
pub fn use_fit(levels: usize, range: Option<f64>) -> Gate {
    #[expect(clippy::cast_precision_loss, reason = "levels are few")]
    let count = levels as f64;
    at_least(Figure::LoadLevels, Some(count), FIT_LEVELS).and(at_least(Figure::LoadRange, range, FIT_RANGE))
}

/// Whether a service is large enough for any model (`rate` in requests per second). When closed: its bounds and reactive rules
/// only.
pub fn model(rate: Option<f64>) -> Gate {
    at_least(Figure::Requests, rate.map(|rate| rate * 60.0), MODEL_REQUESTS)
}

/// Lower end of the exact 95 % interval of a share, `events` of `samples`, of which whole ones count. `None` without samples, or with
/// more events than those.
#[must_use]
pub fn violation_share_low(events: f64, samples: f64) -> Option<f64> {
    let (events, samples) = (events.floor(), samples.floor());
    if !(samples >= 1.0 && events >= 0.0 && events <= samples && samples.is_finite()) {
        return None;
    }
    if events < 1.0 {
        return Some(0.0);
    }
    // The share at which so many events or more are as rare as the lower tail.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        let tail = 1.0 - binomial_cdf(events - 1.0, samples, middle);
        if tail < 0.025 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low)
}

// === impl Gate ===

impl Gate {
    /// Whether it is open.
    #[must_use]
    pub fn is_open(self) -> bool {
        self == Self::Open
    }

    fn and(self, other: Self) -> Self {
        if self.is_open() { other } else { self }
    }
}

fn at_least(figure: Figure, has: Option<f64>, needs: f64) -> Gate {
    if has.is_some_and(|has| has >= needs) { Gate::Open } else { Gate::Closed(Lack { figure, has, needs }) }
}

fn at_most(figure: Figure, has: Option<f64>, needs: f64) -> Gate {
    if has.is_some_and(|has| has <= needs) { Gate::Open } else { Gate::Closed(Lack { figure, has, needs }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(gate: Gate) -> Option<Figure> {
        match gate {
            Gate::Open => None,
            Gate::Closed(lack) => Some(lack.figure),
        }
    }

    /// Guarantees: scaling up on the rate needs 100 effective samples and a rate known to ± 25 %, and what is unknown fails.
    #[test]
    fn up_on_rate() {
        assert!(scale_up_on_rate(Some(100.0), Some(0.25)).is_open());
        assert_eq!(failing(scale_up_on_rate(Some(99.0), Some(0.1))), Some(Figure::Samples));
        assert_eq!(failing(scale_up_on_rate(Some(100.0), Some(0.26))), Some(Figure::RateError));
        let lack = Lack { figure: Figure::RateError, has: None, needs: 0.25 };
        assert_eq!(scale_up_on_rate(Some(500.0), None), Gate::Closed(lack));
        assert_eq!(failing(scale_up_on_rate(Some(f64::NAN), Some(0.1))), Some(Figure::Samples));
    }

    /// Guarantees: 60 samples for a P95 and 300 for a P99 open the gate; fewer do only when violations are beyond doubt.
    #[test]
    fn up_on_latency() {
        assert!(scale_up_on_latency(Some(60.0), Some(0.0), 0.95).is_open() && scale_up_on_latency(Some(300.0), Some(0.0), 0.99).is_open());
        assert_eq!(failing(scale_up_on_latency(Some(59.0), Some(0.0), 0.95)), Some(Figure::Samples));
        assert_eq!(failing(scale_up_on_latency(Some(299.0), Some(5.0), 0.99)), Some(Figure::Samples));
        assert!(scale_up_on_latency(Some(20.0), Some(10.0), 0.95).is_open());
        assert_eq!(failing(scale_up_on_latency(Some(20.0), Some(1.0), 0.95)), Some(Figure::Samples));
        assert_eq!(failing(scale_up_on_latency(Some(0.0), Some(0.0), 0.95)), Some(Figure::Samples));
        assert_eq!(failing(scale_up_on_latency(Some(1_000_000.0), Some(0.0), 1.0)), Some(Figure::Samples));
    }

    /// Guarantees: the exact lower limits of a share: 5 of 10 gives 0.187, 10 of 10 gives 0.692, none gives 0.
    #[test]
    fn exact_lower_limits() {
        for (events, samples, low) in [(5.0, 10.0, 0.187_086), (10.9, 10.95, 0.691_503), (1.0, 10.0, 0.002_529), (0.3, 10.0, 0.0)] {
            assert!((violation_share_low(events, samples).unwrap() - low).abs() < 1e-6, "{events} of {samples}");
        }
        assert_eq!((violation_share_low(0.0, 0.0), violation_share_low(2.0, 1.0), violation_share_low(f64::NAN, 1.0)), (None, None, None));
    }

    /// Guarantees: scaling down names the first of its figures that fails.
    #[test]
    fn down() {
        let gate = |samples, amplification| failing(scale_down(Some(samples), Some(amplification)));
        assert_eq!(gate(400.0, 0.5), None);
        assert_eq!(gate(399.0, 0.6), Some(Figure::Samples));
        assert_eq!(gate(400.0, 0.51), Some(Figure::Amplification));
    }

    /// Guarantees: the gates of fitted figures and of small services, at both sides of each limit.
    #[test]
    fn fitted_figures() {
        assert!(use_service_scv(Some(3000.0)).is_open());
        assert_eq!(failing(use_service_scv(Some(2999.0))), Some(Figure::Samples));
        assert!(use_fan_out(Some(200.0), Some(0.2)).is_open());
        assert_eq!(failing(use_fan_out(Some(199.0), Some(0.2))), Some(Figure::Samples));
        assert_eq!(failing(use_fan_out(Some(200.0), Some(0.21))), Some(Figure::FanOutError));
        assert!(use_fit(6, Some(3.0)).is_open());
        assert_eq!((failing(use_fit(5, Some(3.0))), failing(use_fit(6, Some(2.9)))), (Some(Figure::LoadLevels), Some(Figure::LoadRange)));
        assert!(model(Some(0.5)).is_open());
        assert_eq!((failing(model(Some(0.49))), failing(model(None))), (Some(Figure::Requests), Some(Figure::Requests)));
    }
}
