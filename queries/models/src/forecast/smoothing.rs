//! Exponential smoothing: a level alone, and a level with the season of a day.

use super::ring::narrow;

/// Weights of the newest number in a level.
pub(super) const LEVEL_WEIGHTS: [f64; 5] = [0.05, 0.1, 0.2, 0.4, 0.7];
/// Weights of the newest number in level and season.
pub(super) const SEASON_WEIGHTS: [(f64, f64); 6] = [(0.02, 0.1), (0.1, 0.1), (0.3, 0.1), (0.02, 0.3), (0.1, 0.3), (0.3, 0.3)];

/// Errors count at most this many standard deviations in level and season.
const ERROR_MAX: f64 = 4.0;
/// Mean absolute deviation to standard deviation, for a normal distribution.
pub(super) const NORMAL: f64 = 1.2533;
/// Numbers before the usual size of errors is known.
const NUMBERS_MIN: f64 = 50.0;
/// Weight of a new error in its usual size.
const DEVIATION_WEIGHT: f64 = 0.005;

/// A level that follows its numbers (simple exponential smoothing).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level {
    weight: f64,
    value: Option<f64>,
}

/// A level and a season of one day (additive Holt–Winters without trend), on square roots, so that busy hours do not rule the season.
///
/// The first whole day only measures the season; smoothing begins with the second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Season {
    level_weight: f64,
    season_weight: f64,
    level: f64,
    /// Deviation of each slot of the day from the level; until `first_day` ends, sums of its roots.
    slots: Vec<f32>,
    counts: Vec<f32>,
    first_day: Option<i64>,
    ready: bool,
    deviation: Deviation,
}

/// The usual size of surprises, against which wild ones are bounded (robust smoothing: Gelper, Fried and Croux, 2010).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Deviation {
    numbers: f64,
    mean_absolute: f64,
}

// === impl Level ===

impl Level {
    pub(super) fn new(weight: f64) -> Self {
        Self { weight, value: None }
    }

    pub(super) fn observe(&mut self, number: f64) {
        self.value = Some(self.value.map_or(number, |value| value + self.weight * (number - value)));
    }

    pub(super) fn value(&self) -> f64 {
        self.value.unwrap_or(f64::NAN)
    }
}

// === impl Deviation ===

impl Deviation {
    /// The error, bounded once the usual size is known.
    fn bound(&mut self, error: f64) -> f64 {
        let most = ERROR_MAX * NORMAL * self.mean_absolute;
        let bounded = if self.numbers > NUMBERS_MIN && most > 0.0 { error.clamp(-most, most) } else { error };
        self.numbers += 1.0;
        self.mean_absolute += (1.0 / self.numbers).max(DEVIATION_WEIGHT) * (bounded.abs() - self.mean_absolute);
        bounded
    }
}

// === impl Season ===

impl Season {
    /// A season of `slots` slots, each of which sees `repeats` numbers a day.
    pub(super) fn new((level_weight, season_weight): (f64, f64), slots: usize, repeats: f64) -> Self {
        let season_weight = season_weight / repeats.max(1.0);
        Self {
            level_weight,
            season_weight,
            level: f64::NAN,
            slots: vec![0.0; slots],
            counts: vec![0.0; slots],
            first_day: None,
            ready: false,
            deviation: Deviation::default(),
        }
    }

    /// Takes the root of a number in its slot of a day. On a `special` day only the level learns.
    pub(super) fn observe(&mut self, step: i64, slot: usize, root: f64, steps_per_day: i64, special: bool) {
        let first = *self.first_day.get_or_insert(step);
        if !self.ready {
            if step - first >= steps_per_day {
                self.begin();
            } else {
                if let (Some(sum), Some(count)) = (self.slots.get_mut(slot), self.counts.get_mut(slot)) {
                    (*sum, *count) = (*sum + narrow(root), *count + 1.0);
                }
                return;
            }
        }
        let Some(season) = self.slots.get_mut(slot) else { return };
        let error = self.deviation.bound(root - self.level - f64::from(*season));
        self.level += self.level_weight * error;
        if !special {
            *season += narrow(self.season_weight * (1.0 - self.level_weight) * error);
        }
    }

    /// The root expected in a slot, or not a number.
    pub(super) fn root(&self, slot: usize) -> f64 {
        let known = self.ready && self.counts.get(slot).is_some();
        if known { self.level + self.slots.get(slot).map_or(f64::NAN, |season| f64::from(*season)) } else { f64::NAN }
    }

    /// Ends the first day: means per slot, and deviations from their mean. Slots without a number deviate by nothing.
    fn begin(&mut self) {
        let known: f64 = self.counts.iter().map(|count| f64::from(*count)).sum();
        self.level = self.slots.iter().map(|sum| f64::from(*sum)).sum::<f64>() / known.max(1.0);
        let level = narrow(self.level);
        for (slot, count) in self.slots.iter_mut().zip(&self.counts) {
            *slot = if *count > 0.0 { *slot / *count - level } else { 0.0 };
        }
        self.ready = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the level of simple smoothing is the textbook recursion.
    #[test]
    fn level_follows() {
        let mut level = Level::new(0.5);
        assert!(level.value().is_nan());
        [4.0, 8.0, 2.0].iter().for_each(|number| level.observe(*number));
        assert!((level.value() - 4.0).abs() < 1e-12);
    }

    /// Guarantees: after two days of a repeated season the next day is known, also on another level.
    #[test]
    fn season_repeats() {
        let roots = [1.0, 2.0, 5.0, 2.0];
        let mut season = Season::new((0.3, 0.1), 4, 1.0);
        assert!(season.root(0).is_nan());
        for step in 0..12_usize {
            season.observe(i64::try_from(step).unwrap(), step % 4, roots[step % 4], 4, false);
        }
        assert!((season.root(2) - 5.0).abs() < 1e-6);
        for step in 12..200_usize {
            season.observe(i64::try_from(step).unwrap(), step % 4, roots[step % 4] + 3.0, 4, false);
        }
        assert!((season.root(2) - 8.0).abs() < 0.05);
    }
}
