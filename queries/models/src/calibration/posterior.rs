//! A number that configuration guesses and measurements replace, the more of them the more.

/// Samples that a guess is worth.
pub const PRIOR_SAMPLES: f64 = 200.0;
/// Samples above which old ones make room, so that a change is seen: the last tenth of them has a tenth of the say.
pub const SAMPLES_MAX: f64 = 4000.0;

/// A mean with a guess behind it. Plain data, to be stored as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// The guess.
    pub prior: f64,
    /// Samples that it is worth.
    pub prior_samples: f64,
    /// Mean of the measurements; meaningless without samples.
    pub measured: f64,
    /// Effective number of samples behind it.
    pub samples: f64,
}

// === impl Posterior ===

impl Posterior {
    /// A guess without measurements.
    #[must_use]
    pub fn new(prior: f64) -> Self {
        Self { prior, prior_samples: PRIOR_SAMPLES, measured: prior, samples: 0.0 }
    }

    /// A number that stands until the first measurement, and is worth nothing beside it.
    #[must_use]
    pub fn placeholder(number: f64) -> Self {
        Self { prior_samples: 0.0, ..Self::new(number) }
    }

    /// Adds a mean of `samples` (effective, see [`crate::confidence::effective_samples`]). Ignores what is no measurement; says
    /// whether it was one.
    pub fn observe(&mut self, mean: f64, samples: f64) -> bool {
        let valid = mean >= 0.0 && mean.is_finite() && samples > 0.0 && samples.is_finite();
        if valid {
            let samples = samples.min(SAMPLES_MAX);
            let kept = self.samples.min(SAMPLES_MAX - samples);
            self.measured = (self.measured * kept + mean * samples) / (kept + samples);
            self.samples = kept + samples;
        }
        valid
    }

    /// Guess and measurements, weighed by their samples.
    #[must_use]
    pub fn value(&self) -> f64 {
        let total = self.prior_samples + self.samples;
        if total > 0.0 { (self.prior_samples * self.prior + self.samples * self.measured) / total } else { self.prior }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: as many samples as the guess is worth move the value half the way, many almost all of it.
    #[test]
    fn samples_outweigh_the_guess() {
        let mut mean = Posterior::new(1.0);
        assert!((mean.value() - 1.0).abs() < 1e-12);
        assert!(mean.observe(2.0, 200.0) && (mean.value() - 1.5).abs() < 1e-12);
        for _ in 0..100 {
            mean.observe(2.0, 200.0);
        }
        assert!((mean.value() - 2.0).abs() < 0.06 && mean.samples <= SAMPLES_MAX);
        let mut mean = Posterior::placeholder(1.0);
        assert!((mean.value() - 1.0).abs() < 1e-12);
        assert!(mean.observe(2.0, 1.0) && (mean.value() - 2.0).abs() < 1e-12);
    }

    /// Guarantees: a change is followed however long the time before, and nonsense changes nothing.
    #[test]
    fn changes_are_followed() {
        let mut mean = Posterior::new(1.0);
        (0..1000).for_each(|_| assert!(mean.observe(1.0, 500.0)));
        (0..40).for_each(|_| assert!(mean.observe(1.3, 500.0)));
        assert!((mean.value() - 1.3).abs() < 0.03, "{mean:?}");
        let before = mean;
        assert!(!mean.observe(f64::NAN, 10.0) && !mean.observe(1.0, 0.0) && !mean.observe(-1.0, 5.0) && !mean.observe(1.0, f64::INFINITY));
        assert_eq!(mean, before);
    }
}
