//! Whether the series has moved to a level that no day of the past explains, and since when.
//!
//! What is known of earlier days then misleads, the more the further ahead one looks: a forecast for tomorrow that was issued before the
//! shift is judged only tomorrow. Candidates that look back over it lose their vote until they have seen the new level.

use std::collections::VecDeque;

use super::calendar::DAY;

/// For how long all numbers must lie on one side of what was expected, in seconds, and how many at least. Also the least lead that
/// this matters for: shorter ones are judged on the new level by then.
pub(super) const SUSTAINED_SECONDS: i64 = 3600;
const SUSTAINED_MIN: usize = 3;
/// A gap of so many seconds ends a stay.
const GAP_SECONDS: i64 = 3 * SUSTAINED_SECONDS;
/// A shift is so many times as far from what was expected as the series ever stayed before,
const TIMES: f64 = 2.0;
/// and at least so far, as a difference of roots over the root of the usual number: half as much again, or half as much.
const LEAST: f64 = 0.25;
/// For how long the furthest stay counts: its weight falls to 1/e in so many days.
const RECORD_DAYS: f64 = 7.0;
/// Days before a stay tells anything: without a past nothing is unusual.
const DAYS_MIN: f64 = 3.0;
/// Part of the least distance below which the old days explain the series again.
const RETURNED: f64 = 0.5;

/// Watches one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shift {
    /// Length of a step, in seconds.
    step: i64,
    /// Steps and distances of the last hour.
    recent: VecDeque<(i64, f64)>,
    first: Option<i64>,
    /// How far the series stayed away in this stay, and the furthest before it.
    stay: f64,
    record: f64,
    since: Option<i64>,
}

// === impl Shift ===

impl Shift {
    /// For steps of a length in seconds.
    pub(super) fn new(step: i64) -> Self {
        Self { step, recent: VecDeque::new(), first: None, stay: 0.0, record: 0.0, since: None }
    }

    /// The first step of the new level, while the old days do not explain it.
    pub(super) fn since(&self) -> Option<i64> {
        self.since
    }

    /// Takes how far the newest numbers are from the nearest profile, and from the mean day, in roots over the root of the usual number.
    /// What is not a number tells nothing.
    pub(super) fn observe(&mut self, step: i64, unexplained: f64, from_usual: f64) {
        if !unexplained.is_finite() {
            return;
        }
        let first = *self.first.get_or_insert(step);
        let passed = self.recent.back().map_or(0, |(last, _)| step.saturating_sub(*last));
        self.record *= (-self.days(passed) / RECORD_DAYS).exp();
        if !(0..=GAP_SECONDS).contains(&passed.saturating_mul(self.step)) {
            self.recent.clear();
        }
        self.recent.push_back((step, unexplained));
        while self.recent.len() > SUSTAINED_MIN && self.recent.get(1).is_some_and(|(old, _)| self.is_sustained(*old, step)) {
            self.recent.pop_front();
        }
        let stayed = self.stayed(step);
        if stayed <= 0.0 {
            self.record = self.record.max(self.stay);
            self.stay = 0.0;
        }
        self.stay = self.stay.max(stayed);
        let is_known = self.days(step.saturating_sub(first)) >= DAYS_MIN;
        if self.since.is_none() && is_known && stayed > LEAST.max(TIMES * self.record) {
            self.since = self.recent.front().map(|(oldest, _)| *oldest);
        }
        if from_usual.abs() < RETURNED * LEAST {
            self.since = None;
        }
    }

    /// The least distance of the last hour, if all lie on one side; else nothing.
    fn stayed(&self, step: i64) -> f64 {
        let is_whole = self.recent.front().is_some_and(|(oldest, _)| self.is_sustained(*oldest, step));
        let distances = || self.recent.iter().map(|(_, distance)| *distance);
        let (least, greatest) = (distances().fold(f64::INFINITY, f64::min), distances().fold(f64::NEG_INFINITY, f64::max));
        if is_whole && self.recent.len() >= SUSTAINED_MIN { least.max(-greatest).max(0.0) } else { 0.0 }
    }

    fn is_sustained(&self, from: i64, to: i64) -> bool {
        (to - from + 1).saturating_mul(self.step) >= SUSTAINED_SECONDS
    }

    #[expect(clippy::cast_precision_loss, reason = "a difference of times")]
    fn days(&self, steps: i64) -> f64 {
        steps.max(0) as f64 * self.step as f64 / DAY as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of five minutes of a day.
    const PER_DAY: i64 = 288;

    fn observe(shift: &mut Shift, steps: std::ops::Range<i64>, distance: impl Fn(i64) -> f64) {
        steps.for_each(|step| shift.observe(step, distance(step), distance(step)));
    }

    fn wiggle(step: i64) -> f64 {
        if step % 9 < 4 { 0.05 } else { -0.05 }
    }

    /// Guarantees: a new level is told after an hour and as of its first step, and is over when the old days explain the series again.
    #[test]
    fn a_level_is_told() {
        let (mut shift, begin) = (Shift::new(300), 5 * PER_DAY);
        observe(&mut shift, 0..begin, wiggle);
        observe(&mut shift, begin..begin + 11, |_| 0.6);
        assert_eq!(shift.since(), None);
        observe(&mut shift, begin + 11..begin + 30, |_| 0.6);
        assert_eq!(shift.since(), Some(begin));
        observe(&mut shift, begin + 30..begin + 31, |_| 0.1);
        assert_eq!(shift.since(), None);
    }

    /// Guarantees: neither a spike of some steps, nor a stay that the series is used to, nor one across a gap is a new level.
    #[test]
    fn no_level() {
        let mut shift = Shift::new(300);
        let outing = |step: i64| if step % PER_DAY < 30 { -0.4 } else { wiggle(step) };
        observe(&mut shift, 0..5 * PER_DAY, outing);
        observe(&mut shift, 5 * PER_DAY..5 * PER_DAY + 40, |_| 0.6);
        assert_eq!(shift.since(), None);
        let mut shift = Shift::new(300);
        observe(&mut shift, 0..1500, wiggle);
        observe(&mut shift, 1500..1505, |_| 50.0);
        observe(&mut shift, 1505..1600, wiggle);
        observe(&mut shift, 1600..1606, |_| 0.6);
        observe(&mut shift, 1900..1906, |_| 0.6);
        shift.observe(1907, f64::NAN, f64::NAN);
        assert_eq!(shift.since(), None);
    }

    /// Guarantees: hourly steps are judged by three of them.
    #[test]
    fn long_steps() {
        let mut shift = Shift::new(3600);
        observe(&mut shift, 0..100, wiggle);
        observe(&mut shift, 100..102, |_| -0.6);
        assert_eq!(shift.since(), None);
        observe(&mut shift, 102..103, |_| -0.6);
        assert_eq!(shift.since(), Some(100));
    }
}
