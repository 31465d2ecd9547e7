//! Feedback corrects the model, not the replicas: a factor on the load, moved a little by what latencies are observed.

/// Lowest factor.
pub const BIAS_LOWEST: f64 = 0.7;
/// Highest factor.
pub const BIAS_HIGHEST: f64 = 2.0;
/// Share of the error that one update corrects.
const GAIN: f64 = 0.2;
/// Largest error that one update believes, in the logarithm of the load.
const ERROR_MOST: f64 = 0.1;
/// Latencies whose excess is below this share of the work say nothing about waiting.
const EXCESS_LEAST: f64 = 0.05;
/// Fewest requests behind an observed quantile.
const REQUESTS_LEAST: f64 = 300.0;
/// Seconds in which half of what was learned is forgotten.
const HALF_LIFE: f64 = 86_400.0;

/// A latency quantile as observed and as the model has it for the same load and replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feedback {
    /// Observed, in seconds.
    pub observed: f64,
    /// Of the model, in seconds.
    pub modelled: f64,
    /// The same quantile of the work alone, in seconds.
    pub work: f64,
    /// Utilization that the model was asked for, 0..1.
    pub utilization: f64,
    /// Requests behind the observation.
    pub requests: f64,
}

/// The factor after one look. Excess latency grows as `1 / (1 - utilization)`, so an error of it is `1 - utilization` times as
/// large an error of the load. Unchanged when the observation says too little.
#[must_use]
pub fn corrected_bias(bias: f64, seen: &Feedback) -> f64 {
    let (observed, modelled) = (seen.observed - seen.work, seen.modelled - seen.work);
    let least = EXCESS_LEAST * seen.work;
    let usable = seen.requests >= REQUESTS_LEAST && (0.0..1.0).contains(&seen.utilization);
    if !(usable && observed >= least && modelled >= least && observed.is_finite() && modelled > 0.0 && modelled.is_finite()) {
        return bias;
    }
    let error = (observed / modelled).ln() * (1.0 - seen.utilization);
    (bias.ln() + GAIN * error.clamp(-ERROR_MOST, ERROR_MOST)).exp().clamp(BIAS_LOWEST, BIAS_HIGHEST)
}

/// The factor after `seconds` without a look: half of it, in logarithms, is forgotten in a day.
#[must_use]
pub fn decayed_bias(bias: f64, seconds: f64) -> f64 {
    (bias.ln() * 0.5_f64.powf(seconds.max(0.0) / HALF_LIFE)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Feedback = Feedback { observed: 0.3, modelled: 0.2, work: 0.1, utilization: 0.8, requests: 1000.0 };

    /// Guarantees: twice the excess at 80 % is ln 2 / 5 of load, cut to a tenth; a fifth of that is corrected.
    #[test]
    fn one_update() {
        assert!((corrected_bias(1.0, &SEEN) - 0.02_f64.exp()).abs() < 1e-12);
        let small = Feedback { observed: 0.21, ..SEEN };
        assert!((corrected_bias(1.0, &small) - (0.2 * 0.2 * 1.1_f64.ln()).exp()).abs() < 1e-12);
    }

    /// Guarantees: few requests, no excess and senseless figures change nothing; the factor stays within its bounds and decays.
    #[test]
    fn bounded() {
        for odd in [
            Feedback { requests: 299.0, ..SEEN },
            Feedback { observed: 0.1, ..SEEN },
            Feedback { observed: f64::NAN, ..SEEN },
            Feedback { utilization: 1.0, ..SEEN },
        ] {
            assert!((corrected_bias(1.3, &odd) - 1.3).abs() < 1e-12);
        }
        let mut bias = 1.0;
        (0..200).for_each(|_| bias = corrected_bias(bias, &Feedback { observed: 9.0, ..SEEN }));
        assert!((bias - BIAS_HIGHEST).abs() < 1e-12);
        (0..200).for_each(|_| bias = corrected_bias(bias, &Feedback { observed: 0.106, ..SEEN }));
        assert!((bias - BIAS_LOWEST).abs() < 1e-12);
        assert!((decayed_bias(1.44, 86_400.0) - 1.2).abs() < 1e-12);
    }
}
