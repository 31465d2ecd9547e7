//! How far the model is off, learned from what it predicted before.
//!
//! ```text
//! all windows ───▶ servers ──────────────────────────┐
//! all, less wait ▶ service time, variation ──────────┤
//! busy windows ──▶ pooling ──────────────────────────┼─▶ Station ─▶ prediction ─▶ compared with what happened
//!        ▲                                           │                              │            │
//!        └───────────────────────────────────────────┴──────── load bias ◀──────────┘            ▼
//!                                                                                      trust: may it decide?
//! ```
//!
//! Feedback corrects the load that the model believes in, never the replicas themselves: the model stays in charge, and what it
//! learned holds at other loads as well. One correction per dead time, because a loop that does not wait for the effect of its
//! last step integrates its own delay.

mod posterior;
mod recent;
mod servers;
mod trust;
mod work;

pub use posterior::{PRIOR_SAMPLES, Posterior, SAMPLES_MAX};
pub use recent::Recent;
pub use servers::{Busy, Servers, Source};
pub use trust::Trust;
pub use work::{Behind, Work};

use crate::queue::pooling::observed_pooling;

/// Lowest factor on the load.
pub const BIAS_MIN: f64 = 0.7;
/// Highest factor on the load.
pub const BIAS_MAX: f64 = 2.0;
/// Seconds in which half of the (logarithmic) bias is forgotten.
const BIAS_HALF_LIFE: f64 = 86_400.0;
/// Part of an error that one step corrects.
const GAIN: f64 = 0.2;
/// Largest error of the load, as a logarithm, that one step believes.
const STEP_MAX: f64 = 0.1;
/// Requests that a window needs for a correction.
const SAMPLES_MIN: f64 = 300.0;
/// Excess over the service time, as a share of it, below which nothing can be read from it.
const EXCESS_MIN: f64 = 0.05;
/// Requests that are needed to tell a wrong model; a correction needs [`SAMPLES_MIN`].
const VERDICT_SAMPLES: f64 = 60.0;
/// How far a random split is above one pool, as a share of it, for a window to tell them apart fully; nearer, it counts for less.
const APART: f64 = 0.3;
/// Weight of a window below which it says nothing of pooling.
const WEIGHT_MIN: f64 = 0.01;
/// Seconds in which half of the evidence on pooling is forgotten.
const POOLING_HALF_LIFE: f64 = 3600.0;
/// What the first window on pooling counts as, in seconds, and what one after a long silence counts as at most.
const FIRST_WINDOW: f64 = 60.0;
const WINDOW_MOST: f64 = 600.0;

/// What is known of a service beyond its configuration. Plain data, to be stored as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The service time.
    pub work: Work,
    /// How far the replicas are from one pool.
    pub pooling: f64,
    /// When pooling was last observed, in seconds.
    pub pooling_at: Option<f64>,
    /// Logarithm of the factor on the load, as of `bias_at`.
    pub log_bias: f64,
    /// When the bias was last corrected, in seconds.
    pub bias_at: Option<f64>,
    /// Whether the model may decide.
    pub trust: Trust,
}

/// A window in which a prediction can be compared with what happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// End of the window in seconds.
    pub at: f64,
    /// Requests in it.
    pub samples: f64,
    /// A quantile of the latency in seconds, as observed.
    pub observed: f64,
    /// The same as the model had it for the load and the replicas that there were, bias included.
    pub predicted: f64,
    /// The same quantile of the service time alone.
    pub service: f64,
    /// Utilization in the model, bias included.
    pub utilization: f64,
}

/// What a comparison led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feedback {
    /// The bias was corrected.
    Corrected,
    /// The effect of the last correction cannot be seen yet.
    TooSoon,
    /// Too few requests.
    FewSamples,
    /// Nobody waited, or the model says so: nothing to learn on the load.
    NoExcess,
    /// The window ended before one that was seen already, or is no measurement.
    Refused,
}

// === impl Calibration ===

impl Calibration {
    /// What is believed at first: a mean service time in seconds until one is measured, a squared coefficient of variation, and the
    /// pooling of the balancer.
    #[must_use]
    pub fn new(service_time: f64, service_scv: f64, pooling: f64) -> Self {
        Self {
            work: Work::new(service_time, service_scv),
            pooling,
            pooling_at: None,
            log_bias: 0.0,
            bias_at: None,
            trust: Trust::default(),
        }
    }

    /// The factor on the load at a time.
    #[must_use]
    pub fn bias(&self, at: f64) -> f64 {
        (self.log_bias * self.bias_at.map_or(1.0, |last| decayed(at - last, BIAS_HALF_LIFE))).exp()
    }

    /// Whether the model is wrong too often to decide.
    #[must_use]
    pub fn demoted(&self) -> bool {
        self.trust.demoted
    }

    /// Learns how the balancer pools the replicas from a window that ended at `at`: an observed latency, and the same as predicted
    /// for one pool and for a random split; the more, the further these are apart. Says whether it did.
    pub fn observe_pooling(&mut self, at: f64, observed: f64, pooled: f64, split: f64) -> bool {
        let elapsed = self.pooling_at.map_or(FIRST_WINDOW, |last| (at - last).min(WINDOW_MOST));
        let weight = ((split - pooled) / pooled / APART).clamp(0.0, 1.0).powi(2);
        let valid = weight >= WEIGHT_MIN && elapsed > 0.0 && at.is_finite();
        let Some(factor) = valid.then(|| observed_pooling(observed, pooled, split)).flatten() else { return false };
        let kept = decayed(elapsed * weight, POOLING_HALF_LIFE);
        self.pooling = self.pooling * kept + factor * (1.0 - kept);
        self.pooling_at = Some(at);
        true
    }

    /// A window that ended at `at` with so many requests answered was impossible by the model: as wrong as a model can be.
    pub fn refute(&mut self, at: f64, samples: f64) {
        let is_next = at.is_finite() && self.trust.at.is_none_or(|last| at > last);
        if is_next && samples >= VERDICT_SAMPLES {
            self.trust.observe(at, f64::INFINITY);
        }
    }

    /// Compares a prediction with what happened: scores the model, and corrects the bias unless `dead_time` seconds (start-up of
    /// a replica and delay of the telemetry) have not passed since the last correction.
    pub fn compare(&mut self, window: &Comparison, dead_time: f64) -> Feedback {
        let times = [window.observed, window.predicted, window.service];
        let valid = times.iter().all(|time| *time > 0.0 && time.is_finite()) && (0.0..1.0).contains(&window.utilization);
        if !valid || !window.at.is_finite() || self.trust.at.is_some_and(|last| window.at <= last) {
            return Feedback::Refused;
        }
        if window.samples.is_nan() || window.samples < VERDICT_SAMPLES {
            return Feedback::FewSamples;
        }
        let least = EXCESS_MIN * window.service;
        let (seen, expected) = (window.observed - window.service, window.predicted - window.service);
        if seen < least && expected < least {
            return Feedback::NoExcess;
        }
        let error = (seen.max(least) / expected.max(least)).ln();
        self.trust.observe(window.at, error.abs());
        if seen < least || expected < least {
            return Feedback::NoExcess;
        }
        if window.samples < SAMPLES_MIN {
            return Feedback::FewSamples;
        }
        if self.bias_at.is_some_and(|last| window.at - last < dead_time) {
            return Feedback::TooSoon;
        }
        // An excess grows as 1 / (1 - utilization): this much of it is the load.
        let step = GAIN * (error * (1.0 - window.utilization)).clamp(-STEP_MAX, STEP_MAX);
        self.log_bias = (self.bias(window.at).ln() + step).clamp(BIAS_MIN.ln(), BIAS_MAX.ln());
        self.bias_at = Some(window.at);
        Feedback::Corrected
    }
}

/// What is left of something after `elapsed` seconds.
fn decayed(elapsed: f64, half_life: f64) -> f64 {
    (-elapsed.max(0.0) / half_life).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizing::{Prediction, ServiceTime, Station, predict};

    const MINUTE: f64 = 60.0;
    const REPLICAS: u32 = 10;

    /// P95 and utilization of replicas of two cores for so many requests per second of so long a service.
    fn latency(service_time: f64, rate: f64) -> (f64, f64) {
        let station = Station::new(ServiceTime::from_moments(service_time, 1.0).unwrap(), 2.0);
        let Some(Prediction::Stable(stable)) = predict(&station, rate, REPLICAS) else { panic!("{rate} is unstable") };
        (stable.quantile(0.95).unwrap(), stable.utilization())
    }

    fn quantile_alone(service_time: f64) -> f64 {
        ServiceTime::from_moments(service_time, 1.0).unwrap().quantile(0.95).unwrap()
    }

    /// A minute in which the truth was `observed`, and the model has a service time of `service_time`.
    fn window(calibration: &Calibration, minute: u32, rate: f64, service_time: f64, observed: f64) -> Comparison {
        let at = MINUTE * f64::from(minute);
        let (predicted, utilization) = latency(service_time, rate * calibration.bias(at));
        Comparison { at, samples: 5000.0, observed, predicted, service: quantile_alone(service_time), utilization }
    }

    /// Guarantees: a service that takes 30 % longer than the model has it is met by a bias that makes the model right, within two
    /// hours, at one step per dead time, and without overshooting or swinging.
    #[test]
    fn a_wrong_service_time_is_learned() {
        let mut calibration = Calibration::new(0.05, 1.0, 1.0);
        let (observed, _) = latency(0.065, 230.0);
        let mut biases = Vec::new();
        for minute in 1..=240 {
            let window = window(&calibration, minute, 230.0, 0.05, observed);
            let feedback = calibration.compare(&window, 2.5 * MINUTE);
            assert_eq!(feedback == Feedback::Corrected, (minute - 1) % 3 == 0, "{minute}: {feedback:?}");
            biases.push(calibration.bias(window.at));
        }
        let last = window(&calibration, 241, 230.0, 0.05, observed);
        assert!((last.predicted / observed - 1.0).abs() < 0.05, "{last:?}");
        assert!((1.2..1.45).contains(&biases[239]), "{}", biases[239]);
        // Turns of the way, apart from the slow decay between steps.
        let steps: Vec<f64> = biases.iter().step_by(3).copied().collect();
        let turns = steps.windows(3).filter(|three| (three[1] - three[0]) * (three[2] - three[1]) < -1e-6).count();
        assert!(turns <= 1 && biases.iter().all(|bias| *bias < biases[239] + 0.02), "{turns}");
        assert!(!calibration.demoted());
        assert!((calibration.bias(241.0 * MINUTE + 20.0 * 86_400.0) - 1.0).abs() < 1e-3);
    }

    /// Guarantees: the model of a service whose latency does not depend on its load is demoted within the hour, and the load is
    /// not blamed for it.
    #[test]
    fn what_is_no_queue_is_demoted() {
        let mut calibration = Calibration::new(0.05, 1.0, 1.0);
        for minute in 1..=60 {
            let rate = 300.0 + 40.0 * f64::from(minute % 3);
            let observed = quantile_alone(0.05) * 1.02;
            let window = window(&calibration, minute, rate, 0.05, observed);
            assert_eq!(calibration.compare(&window, 0.0), Feedback::NoExcess);
        }
        assert!(calibration.demoted() && calibration.trust.error.unwrap() > 1.0);
        assert!(calibration.log_bias.abs() < 1e-12);
        // Right again: admitted again.
        for minute in 61..=400 {
            let (observed, _) = latency(0.05, 330.0);
            let window = window(&calibration, minute, 330.0, 0.05, observed);
            calibration.compare(&window, 0.0);
        }
        assert!(!calibration.demoted());
    }

    /// Guarantees: a model that says again and again that what happens cannot be is demoted, unless few requests say so.
    #[test]
    fn what_is_impossible_is_demoted() {
        let mut calibration = Calibration::new(0.05, 1.0, 1.0);
        (1..=60).for_each(|minute| calibration.refute(MINUTE * f64::from(minute), 59.0));
        assert_eq!(calibration.trust, Trust::default());
        (61..=75).for_each(|minute| calibration.refute(MINUTE * f64::from(minute), 600.0));
        assert!(calibration.demoted() && (calibration.trust.error.unwrap() - 4f64.ln()).abs() < 1e-9);
        calibration.refute(MINUTE, 600.0);
        assert_eq!(calibration.trust.at, Some(75.0 * MINUTE));
    }

    /// Guarantees: noise of the observation moves the bias little, and no single window moves it far.
    #[test]
    fn noise_is_damped() {
        let mut calibration = Calibration::new(0.05, 1.0, 1.0);
        let (truth, _) = latency(0.05, 300.0);
        for minute in 1..=600 {
            let noise = if minute % 7 < 3 { 1.2 } else { 0.85 };
            let window = window(&calibration, minute, 300.0, 0.05, truth * noise);
            let before = calibration.bias(window.at);
            calibration.compare(&window, 0.0);
            assert!((calibration.bias(window.at) / before).ln().abs() <= GAIN * STEP_MAX + 1e-12);
        }
        assert!((calibration.bias(600.0 * MINUTE) - 1.0).abs() < 0.08, "{}", calibration.bias(600.0 * MINUTE));
        let endless = |observed: f64| {
            let mut calibration = Calibration::new(0.05, 1.0, 1.0);
            for minute in 1..=2000 {
                let at = MINUTE * f64::from(minute);
                let comparison = Comparison { at, samples: 1e4, observed, predicted: 1.0, service: 0.2, utilization: 0.5 };
                calibration.compare(&comparison, 0.0);
            }
            calibration.bias(2000.0 * MINUTE)
        };
        assert!((endless(100.0) - BIAS_MAX).abs() < 1e-9 && (endless(0.22) - BIAS_MIN).abs() < 1e-9);
    }

    /// Guarantees: pooling moves half the way within its half-life, the slower the less pool and split differ, and never back in
    /// time.
    #[test]
    fn pooling_is_learned() {
        let mut calibration = Calibration::new(0.05, 1.0, 1.0);
        assert!(!calibration.observe_pooling(0.0, 1.01, 1.0, 1.02));
        let mut slow = calibration.clone();
        for minute in 1..=60 {
            assert!(calibration.observe_pooling(MINUTE * f64::from(minute), 2.0, 1.0, 6.0));
            assert!(slow.observe_pooling(MINUTE * f64::from(minute), 1.03, 1.0, 1.15));
        }
        assert!((calibration.pooling - 0.6).abs() < 0.01, "{}", calibration.pooling);
        assert!((0.85..0.9).contains(&slow.pooling), "{}", slow.pooling);
        assert!(!calibration.observe_pooling(MINUTE, 2.0, 1.0, 6.0) && !calibration.observe_pooling(1e9, 2.0, 1.0, 1.0));
        // One window after a long silence is one window.
        assert!(calibration.observe_pooling(1e9, 1.0, 1.0, 6.0) && calibration.pooling > 0.5);
    }

    /// Guarantees: thin, old and senseless windows are told apart and change nothing.
    #[test]
    fn windows_that_say_nothing() {
        let mut calibration = Calibration::new(0.05, 1.0, 1.0);
        let good = Comparison { at: 60.0, samples: 1000.0, observed: 1.0, predicted: 0.8, service: 0.2, utilization: 0.7 };
        assert_eq!(calibration.compare(&good, 60.0), Feedback::Corrected);
        let before = calibration.clone();
        for (window, expected) in [
            (good, Feedback::Refused),
            (Comparison { at: 30.0, ..good }, Feedback::Refused),
            (Comparison { at: 120.0, observed: f64::NAN, ..good }, Feedback::Refused),
            (Comparison { at: 120.0, utilization: 1.0, ..good }, Feedback::Refused),
            (Comparison { at: 120.0, samples: 59.0, ..good }, Feedback::FewSamples),
            (Comparison { at: 120.0, observed: 0.2, predicted: 0.2, ..good }, Feedback::NoExcess),
        ] {
            assert_eq!(calibration.compare(&window, 60.0), expected, "{window:?}");
            assert_eq!(calibration, before);
        }
        assert_eq!(calibration.compare(&Comparison { at: 90.0, ..good }, 60.0), Feedback::TooSoon);
    }
}
