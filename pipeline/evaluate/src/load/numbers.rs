//! Numbers at times, laid on a grid of steps.

use std::path::Path;

use super::LoadError;
use super::series::{Quantity, Series};

/// The most steps of a series: a year and a half of seconds would be more, three years of minutes fit.
const STEPS_MAX: i64 = 2_000_000;

/// What a step without a row means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// Nothing was recorded.
    Missing,
    /// Nothing happened, unless no row came for so many seconds: then nothing was recorded.
    IdleUpTo(i64),
}

/// Numbers at times, before they lie on a grid.
pub(super) struct Points<'a> {
    /// Which file they are from.
    pub(super) path: &'a Path,
    /// What the series is called.
    pub(super) name: &'a str,
    /// Length of a step, in seconds.
    pub(super) step: i64,
    /// What the numbers are.
    pub(super) quantity: Quantity,
    /// What a step without a number means.
    pub(super) absence: Absence,
    /// Seconds since the epoch, and the number.
    pub(super) points: Vec<(i64, f64)>,
}

// === impl Points ===

impl Points<'_> {
    /// Lays the numbers on a grid that begins with the first. Several counts in a step add up, several levels are averaged.
    pub(super) fn grid(mut self) -> Result<Series, LoadError> {
        self.points.sort_by_key(|(time, _)| *time);
        let empty = || LoadError::Empty { path: self.path.to_owned() };
        let (start, _) = *self.points.first().ok_or_else(empty)?;
        let (last, _) = *self.points.last().ok_or_else(empty)?;
        let steps = last.saturating_sub(start) / self.step.max(1) + 1;
        if steps > STEPS_MAX {
            return Err(LoadError::Span { path: self.path.to_owned(), steps, step: self.step, most: STEPS_MAX });
        }
        let mut grid: Vec<(f64, f64)> = vec![(0.0, 0.0); usize::try_from(steps).unwrap_or_default()];
        for (time, value) in &self.points {
            if let Some((sum, number)) = grid.get_mut(self.place(start, *time)) {
                (*sum, *number) = (*sum + value, *number + 1.0);
            }
        }
        let level = self.quantity == Quantity::Level;
        let value = |(sum, number): &(f64, f64)| (*number > 0.0).then(|| if level { sum / number } else { *sum });
        let mut values: Vec<Option<f64>> = grid.iter().map(value).collect();
        if let Absence::IdleUpTo(longest) = self.absence {
            self.fill_idle(start, longest, &mut values);
        }
        Ok(Series { name: self.name.to_owned(), start, step: self.step, quantity: self.quantity, values })
    }

    /// Writes zeros between rows that are not further apart than `longest` seconds.
    fn fill_idle(&self, start: i64, longest: i64, values: &mut [Option<f64>]) {
        for pair in self.points.windows(2) {
            let (from, to) = (self.place(start, pair[0].0), self.place(start, pair[1].0));
            if pair[1].0 - pair[0].0 <= longest && from < to {
                values.get_mut(from + 1..to).unwrap_or_default().fill(Some(0.0));
            }
        }
    }

    fn place(&self, start: i64, time: i64) -> usize {
        usize::try_from((time - start) / self.step.max(1)).unwrap_or(usize::MAX)
    }
}

/// A series without times, from `start` on.
pub(super) fn consecutive(
    path: &Path,
    name: &str,
    start: i64,
    step: i64,
    quantity: Quantity,
    numbers: Vec<f64>,
) -> Result<Series, LoadError> {
    if numbers.is_empty() {
        return Err(LoadError::Empty { path: path.to_owned() });
    }
    Ok(Series { name: name.to_owned(), start, step, quantity, values: numbers.into_iter().map(Some).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(absence: Absence, quantity: Quantity, points: Vec<(i64, f64)>) -> Result<Series, LoadError> {
        Points { path: Path::new("file"), name: "test", step: 60, quantity, absence, points }.grid()
    }

    /// Guarantees: a short silence is idle only where the recording leaves idle minutes out; a long one is missing always.
    #[test]
    fn silence_is_not_always_zero() {
        let rows = vec![(0, 5.0), (180, 6.0), (600, 7.0)];
        let missing = points(Absence::Missing, Quantity::Count, rows.clone()).unwrap();
        assert_eq!(missing.values[..4], [Some(5.0), None, None, Some(6.0)]);
        let idle = points(Absence::IdleUpTo(300), Quantity::Count, rows).unwrap();
        assert_eq!(idle.values[..5], [Some(5.0), Some(0.0), Some(0.0), Some(6.0), None]);
        assert_eq!(idle.values.last(), Some(&Some(7.0)));
    }

    /// Guarantees: several counts of a step add up, several levels are averaged, in whatever order they come.
    #[test]
    fn several_numbers_of_a_step() {
        let rows = vec![(61, 8.0), (60, 4.0), (0, 1.0)];
        assert_eq!(points(Absence::Missing, Quantity::Count, rows.clone()).unwrap().values, [Some(1.0), Some(12.0)]);
        assert_eq!(points(Absence::Missing, Quantity::Level, rows).unwrap().values, [Some(1.0), Some(6.0)]);
    }

    /// Guarantees: no rows and absurd times are told, not kept.
    #[test]
    fn refuses_what_is_no_series() {
        assert!(matches!(points(Absence::Missing, Quantity::Count, Vec::new()), Err(LoadError::Empty { .. })));
        let far = vec![(0, 1.0), (i64::MAX / 2, 1.0)];
        assert!(matches!(points(Absence::Missing, Quantity::Count, far), Err(LoadError::Span { .. })));
    }
}
