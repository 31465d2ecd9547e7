//! Requests from figures that a query has at hand, such as a percentile of archived metrics. Missing input gives no answer.

/// What usage at a kill is multiplied with, at least.
const OOM_RATIO: f64 = 1.2;
/// What is added to usage at a kill, at least, in bytes.
const OOM_BUMP: f64 = 1e8;

/// Cores to request for a usage of `percentile` cores with a share `margin` (0.1 is ten percent) on top.
#[must_use]
pub fn cpu_request_for(percentile: Option<f64>, margin: Option<f64>) -> Option<f64> {
    with_margin(percentile, margin)
}

/// Bytes to request for a peak of `peak` bytes with a share `margin` (0.15 is fifteen percent) on top.
#[must_use]
pub fn memory_request_for(peak: Option<f64>, margin: Option<f64>) -> Option<f64> {
    with_margin(peak, margin)
}

/// Bytes to limit to for a request of `request` bytes, `ratio` (at least 1) times as many.
#[must_use]
pub fn memory_limit_for(request: Option<f64>, ratio: Option<f64>) -> Option<f64> {
    sensible(not_negative(request)? * ratio.filter(|ratio| *ratio >= 1.0)?)
}

/// Bytes to request after a kill for lack of memory at `usage` bytes: a fifth more, and 100 MB more at least.
#[must_use]
pub fn memory_request_after_oom(usage: Option<f64>) -> Option<f64> {
    bumped(not_negative(usage)?, OOM_RATIO, OOM_BUMP)
}

/// `usage · ratio`, and `usage + bump` at least.
pub(super) fn bumped(usage: f64, ratio: f64, bump: f64) -> Option<f64> {
    sensible((usage * ratio).max(usage + bump))
}

fn with_margin(value: Option<f64>, margin: Option<f64>) -> Option<f64> {
    sensible(not_negative(value)? * (1.0 + not_negative(margin)?))
}

fn not_negative(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value >= 0.0 && value.is_finite())
}

fn sensible(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: Option<f64>, expected: f64) -> bool {
        got.is_some_and(|got| (got - expected).abs() <= 1e-9 * expected)
    }

    /// Guarantees: margins, limits and what a kill asks for are as stated.
    #[test]
    fn requests_have_their_margins() {
        assert!(near(cpu_request_for(Some(0.5), Some(0.1)), 0.55));
        assert!(near(memory_request_for(Some(1e9), Some(0.15)), 1.15e9));
        assert!(near(memory_limit_for(Some(1.15e9), Some(1.2)), 1.38e9));
        assert!(near(memory_request_after_oom(Some(1e9)), 1.2e9));
        assert!(near(memory_request_after_oom(Some(2e8)), 3e8));
    }

    /// Guarantees: a missing or senseless input gives no answer, never zero.
    #[test]
    fn missing_stays_missing() {
        for bad in [None, Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(cpu_request_for(bad, Some(0.1)), None);
            assert_eq!(cpu_request_for(Some(1.0), bad), None);
            assert_eq!(memory_request_for(bad, Some(0.1)), None);
            assert_eq!(memory_limit_for(bad, Some(1.2)), None);
            assert_eq!(memory_request_after_oom(bad), None);
        }
        assert_eq!(memory_limit_for(Some(1.0), Some(0.9)), None);
        assert_eq!(memory_request_for(Some(f64::MAX), Some(1.0)), None);
    }
}
