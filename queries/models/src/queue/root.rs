//! Where a falling tail reaches a level: the inverse of every distribution here that has no closed one.

/// Times a bracket is doubled, and steps inside it, before the answer is taken as good enough or given up.
const STEPS: u32 = 200;

/// The time at which a non-increasing `tail` falls to `level` or below, at or above `low`; `low` itself when it is below the level
/// there already. `None` when the tail never gets there.
///
/// Secant steps on the logarithm, which is nearly straight for waits, halved where a jump or a plateau defeats them.
pub(crate) fn falling(mut tail: impl FnMut(f64) -> f64, level: f64, low: f64, tolerance: f64) -> Option<f64> {
    let miss = |value: f64| value.max(f64::MIN_POSITIVE).ln() - level.ln();
    let mut low = low.max(0.0);
    let mut above = miss(tail(low));
    if above <= 0.0 {
        return Some(low);
    }
    let mut high = if low > 0.0 { 1.25 * low } else { 1.0 };
    let mut below = miss(tail(high));
    for _ in 0..STEPS {
        if below <= 0.0 {
            break;
        }
        (low, above) = (high, below);
        high *= 2.0;
        below = miss(tail(high));
    }
    if below > 0.0 || !high.is_finite() {
        return None;
    }
    for step in 0..STEPS {
        if high - low <= tolerance * high {
            break;
        }
        let width = high - low;
        let straight = low + width * above / (above - below);
        // Every third step is a halving, so that a jump is found as well.
        let guess = if step % 3 == 2 { low + 0.5 * width } else { straight };
        // A step beyond the root by a little closes the bracket from the other side.
        let nudge = 0.4 * tolerance * high;
        let guess = if above > -below { guess - nudge } else { guess + nudge }.clamp(low + 0.01 * nudge, high - 0.01 * nudge);
        let found = miss(tail(guess));
        if found > 0.0 {
            (low, above) = (guess, found);
        } else {
            (high, below) = (guess, found);
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: exponential tails, jumps and plateaus are inverted, and a tail that stays up has no answer.
    #[test]
    fn tails_are_inverted() {
        for level in [0.5, 0.01, 1e-9] {
            let found = falling(|t| (-t / 3.0).exp(), level, 0.0, 1e-10).unwrap();
            assert!((found / (-3.0 * f64::ln(level)) - 1.0).abs() < 1e-9, "{found}");
        }
        let jump = falling(|t| if t < 2.5 { 1.0 } else { 1e-6 }, 0.01, 0.0, 1e-9).unwrap();
        assert!((jump - 2.5).abs() < 1e-8, "{jump}");
        assert_eq!(falling(|_| 0.5, 0.6, 3.0, 1e-9), Some(3.0));
        assert_eq!(falling(|_| 0.5, 0.4, 0.0, 1e-9), None);
    }

    /// Guarantees: few evaluations suffice for a tail like that of a wait.
    #[test]
    fn few_evaluations() {
        let count = std::cell::Cell::new(0);
        let tail = |t: f64| {
            count.set(count.get() + 1);
            0.7 * (-t / 3.0).exp() + 0.3 * (-t).exp()
        };
        assert!(falling(tail, 0.01, 4.0, 1e-4).is_some());
        assert!(count.get() <= 9, "{}", count.get());
    }
}
