//! Whether the series left its level: a cumulative sum of surprises in both directions (Page, 1954).

use super::smoothing::NORMAL;

/// Surprises count at most this many standard deviations, so that one wild number is no change.
const SURPRISE_MAX: f64 = 3.0;
/// What is taken off each surprise, in standard deviations: half the shift that is to be found fastest.
const SLACK: f64 = 0.5;
/// Sum at which a change is told, in standard deviations.
const ALARM: f64 = 8.0;
/// Weight of a new number in the estimate of the usual deviation.
const DEVIATION_WEIGHT: f64 = 0.01;
/// Numbers before the usual deviation is known.
const NUMBERS_MIN: u32 = 60;

/// Watches one series.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Change {
    deviation: f64,
    numbers: u32,
    up: f64,
    down: f64,
}

// === impl Change ===

impl Change {
    /// Takes the difference of what came and what was expected; whether that tells of a change.
    pub(super) fn observe(&mut self, error: f64) -> bool {
        if !error.is_finite() {
            return false;
        }
        let usual = NORMAL * self.deviation;
        self.numbers = self.numbers.saturating_add(1);
        let weight = DEVIATION_WEIGHT.max(1.0 / f64::from(self.numbers));
        let known = self.numbers > NUMBERS_MIN && usual > 0.0;
        // A change must not pass for usual before it is told.
        let counted = if known { error.abs().min(SURPRISE_MAX * usual) } else { error.abs() };
        self.deviation += weight * (counted - self.deviation);
        if !known {
            return false;
        }
        let surprise = (error / usual).clamp(-SURPRISE_MAX, SURPRISE_MAX);
        self.up = (self.up + surprise - SLACK).max(0.0);
        self.down = (self.down - surprise - SLACK).max(0.0);
        let alarm = self.up > ALARM || self.down > ALARM;
        if alarm {
            (self.up, self.down) = (0.0, 0.0);
        }
        alarm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm(change: &mut Change, numbers: u32) -> bool {
        (0..numbers).any(|number| change.observe(if number % 2 == 0 { 1.0 } else { -1.0 }))
    }

    /// Guarantees: a shift of some deviations is told within a few numbers, one wild number never.
    #[test]
    fn shifts_are_told() {
        let mut change = Change::default();
        assert!(!calm(&mut change, 500) && !change.observe(1e9) && !calm(&mut change, 50));
        let told = (0..20).position(|number| change.observe(if number % 2 == 0 { 5.0 } else { 3.0 }));
        assert!(told.is_some_and(|numbers| numbers <= 5), "{told:?}");
    }

    /// Guarantees: a series without deviation and one that is not a number are never told as changes.
    #[test]
    fn nothing_from_nothing() {
        let mut change = Change::default();
        assert!((0..200).all(|_| !change.observe(0.0)) && !change.observe(f64::NAN));
    }
}
