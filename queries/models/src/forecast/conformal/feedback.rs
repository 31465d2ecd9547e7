//! Levels that are moved by how often what came was above the quantiles.
//!
//! What came too often above quantiles that were given is made up for by higher ones, and what came too rarely by lower ones (Gibbs and
//! Candès, 2021). It is told only a lead later: a level that has been raised is not raised further while quantiles of the raised level are
//! still under way, for what they make up for is known when they are given (a predictor as in Smith, 1957). Without this a day ahead
//! answers each bad day for a whole day too long, and then pays that back.

use super::{LEVELS, Levels};

/// By how much a level is moved for an excess of a day's rows, in standard deviations of whether one row is above: .9 by .48, .99 by .16.
const GAIN: f64 = 1.6;
/// The greatest excess that is made up for, in rows of a day: one bad day must not be paid for through weeks.
const EXCESS_MAX: f64 = 0.45;
/// How far below its name a level may be, and the highest that it may become. Forecasts get better as they learn: where older rows are much
/// too wide, what is to hold in .9 may have to be read off at .6.
const LOWERED_MAX: f64 = 0.4;
const HIGHEST: f64 = 1.1;

/// The levels of one lead, and what they have to make up for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Feedback {
    /// One row, in days.
    row: f64,
    /// Rows that were above beyond those that should have been, in days.
    excess: Levels,
    /// How far the levels of quantiles that wait for what comes are from their names: sums over their rows, in days.
    under_way: Levels,
    levels: Levels,
}

// === impl Feedback ===

impl Feedback {
    /// For so many rows a day.
    pub(super) fn new(per_day: f64) -> Self {
        Self { row: per_day.recip(), excess: [0.0; LEVELS.len()], under_way: [0.0; LEVELS.len()], levels: LEVELS }
    }

    /// The levels at which quantiles are to be read off.
    pub(super) fn levels(&self) -> Levels {
        self.levels
    }

    /// Notes that quantiles were given of these levels, which [`Self::told`] or [`Self::lost`] is to be called with once.
    pub(super) fn given(&mut self, levels: &Levels) {
        self.pass(levels, self.row);
    }

    /// Notes that what was to tell about quantiles did not come.
    pub(super) fn lost(&mut self, levels: &Levels) {
        self.pass(levels, -self.row);
    }

    /// Learns whether what came was above the quantiles that were given of these levels.
    pub(super) fn told(&mut self, levels: &Levels, exceeded: &[bool; LEVELS.len()]) {
        self.lost(levels);
        for (place, name) in LEVELS.into_iter().enumerate() {
            let surprise = if exceeded[place] { name } else { name - 1.0 };
            let excess = (self.excess[place] + self.row * surprise).clamp(-EXCESS_MAX, EXCESS_MAX);
            let moved = GAIN * (name * (1.0 - name)).sqrt() * (excess - self.under_way[place]);
            self.excess[place] = excess;
            self.levels[place] = (name + moved).clamp(name - LOWERED_MAX, HIGHEST);
        }
    }

    fn pass(&mut self, levels: &Levels, row: f64) {
        for (place, name) in LEVELS.into_iter().enumerate() {
            self.under_way[place] += row * (levels[place] - name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const PER_DAY: u32 = 24;

    /// Feeds rows of which a share is above their own level, told `delay` rows later, and gives the share above the .9 and the
    /// farthest that the level was from its last.
    fn run(rows: u32, delay: usize, above: impl Fn(u32, f64) -> bool) -> (f64, f64) {
        let mut feedback = Feedback::new(f64::from(PER_DAY));
        let (mut waiting, mut count, mut levels) = (VecDeque::new(), 0.0, Vec::new());
        for row in 0..rows {
            let given = feedback.levels();
            levels.push(given[2]);
            feedback.given(&given);
            waiting.push_back((given, above(row, given[2])));
            if waiting.len() > delay {
                let (given, is_above) = waiting.pop_front().unwrap();
                count += if is_above { 1.0 } else { 0.0 };
                feedback.told(&given, &[is_above; LEVELS.len()]);
            }
        }
        let last = levels.last().copied().unwrap();
        let half = &levels[levels.len() / 2..];
        (count / f64::from(rows), half.iter().map(|level| (level - last).abs()).fold(0.0, f64::max))
    }

    /// Evenly spread between 0 and 1, each row far from the one before.
    fn spread(row: u32) -> f64 {
        f64::from(row * 619 % 1000) / 1000.0
    }

    /// Guarantees: when all kept rows are too narrow or too wide, the level goes to where the share is right and stays there, although
    /// that is told a day, or a whole week, later.
    #[test]
    fn settles_whatever_the_delay() {
        for (delay, bias) in [(0, 0.05), (24, 0.05), (24, -0.08), (168, 0.05)] {
            let (share, swing) = run(60 * PER_DAY, delay, |row, level| spread(row) > level - bias);
            assert!((share - 0.1).abs() < 0.015 && swing < 0.06, "{delay} rows, {bias}: {share}, {swing}");
        }
    }

    /// Guarantees: one day that was wholly above is made up for in part, and forgotten.
    #[test]
    fn a_bad_day_is_made_up_for() {
        let bad = 20 * PER_DAY..21 * PER_DAY;
        let (share, _) = run(40 * PER_DAY, 24, |row, level| bad.contains(&row) || spread(row) > level);
        assert!(share < 0.1 + 0.9 / 40.0 && share > 0.1, "{share}");
        let (_, swing) = run(60 * PER_DAY, 24, |row, level| bad.contains(&row) || spread(row) > level);
        assert!(swing < 0.06, "{swing}");
    }

    /// Guarantees: what never came leaves nothing behind.
    #[test]
    fn lost_is_as_never_given() {
        let (mut feedback, mut other) = (Feedback::new(24.0), Feedback::new(24.0));
        let raised = [0.8; LEVELS.len()];
        feedback.given(&raised);
        feedback.lost(&raised);
        let given = LEVELS;
        feedback.told(&given, &[true; LEVELS.len()]);
        other.told(&given, &[true; LEVELS.len()]);
        assert_eq!(feedback, other);
    }
}
