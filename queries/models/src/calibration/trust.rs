//! Whether a model may still decide: how far its predictions were off lately.

use super::decayed;

/// Seconds in which half of an error is forgotten.
const HALF_LIFE: f64 = 1800.0;
/// Mean error, as a logarithm, above which a model is demoted: wrong by a factor of 2.
const DEMOTED_ABOVE: f64 = std::f64::consts::LN_2;
/// Mean error below which it is admitted again: a factor of about 1.4.
const ADMITTED_BELOW: f64 = 0.5 * std::f64::consts::LN_2;
/// Windows that a verdict needs.
const WINDOWS: u32 = 10;
/// Largest error that a window counts with, a factor of 4: one burst is no reason to distrust a model for hours.
const ERROR_MOST: f64 = 2.0 * std::f64::consts::LN_2;

/// The rolling error of a model's predictions. Plain data, to be stored as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trust {
    /// Mean of |ln(observed / predicted)|, recent windows first; `None` before the first.
    pub error: Option<f64>,
    /// Windows behind it; the first ones count alike.
    pub seen: u32,
    /// Windows that had something to say since the last change of the verdict, up to what a verdict needs.
    pub windows: u32,
    /// When the last of them ended, in seconds.
    pub at: Option<f64>,
    /// Whether the model must not decide.
    pub demoted: bool,
}

// === impl Trust ===

impl Trust {
    /// Whether the error is known and does not demote: a larger one will, once there are enough windows for a verdict.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.error.is_some_and(|error| error <= DEMOTED_ABOVE)
    }

    /// Takes the error of one window that ended at `at`.
    pub(super) fn observe(&mut self, at: f64, error: f64) {
        let error = error.min(ERROR_MOST);
        self.seen = self.seen.saturating_add(1);
        let forgotten = self.at.map_or(1.0, |last| 1.0 - decayed(at - last, HALF_LIFE));
        let weight = forgotten.max(1.0 / f64::from(self.seen));
        self.error = Some(self.error.map_or(error, |mean| mean + weight * (error - mean)));
        self.at = Some(at);
        self.windows = (self.windows + 1).min(WINDOWS);
        let mean = self.error.unwrap_or_default();
        let turned = if self.demoted { mean < ADMITTED_BELOW } else { mean > DEMOTED_ABOVE };
        if turned && self.windows >= WINDOWS {
            self.demoted = !self.demoted;
            self.windows = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(trust: &mut Trust, minutes: std::ops::Range<u32>, error: impl Fn(u32) -> f64) -> Vec<bool> {
        minutes
            .map(|minute| {
                trust.observe(60.0 * f64::from(minute), error(minute));
                trust.demoted
            })
            .collect()
    }

    /// Guarantees: a wrong model is demoted after enough windows, not after one, and admitted again when it was right for long.
    #[test]
    fn demoted_and_admitted() {
        let mut trust = Trust::default();
        assert!(feed(&mut trust, 0..9, |_| 2.0).iter().all(|demoted| !demoted));
        assert!(feed(&mut trust, 9..20, |_| 2.0)[0]);
        let later = feed(&mut trust, 20..200, |_| 0.1);
        assert!(later[0] && !later[179]);
    }

    /// Guarantees: a burst in ten windows, be it the first, is no verdict.
    #[test]
    fn a_burst_is_no_verdict() {
        for burst in [0, 5, 9] {
            let mut trust = Trust::default();
            assert!(feed(&mut trust, 0..60, |minute| if minute == burst { 8.0 } else { 0.2 }).iter().all(|demoted| !demoted), "{burst}");
        }
    }

    /// Guarantees: an error that swings between both limits does not turn the verdict with every swing.
    #[test]
    fn verdicts_do_not_flap() {
        let mut trust = Trust::default();
        let verdicts = feed(&mut trust, 0..600, |minute| if minute % 4 < 2 { 0.9 } else { 0.3 });
        assert!(verdicts.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 1);
    }
}
