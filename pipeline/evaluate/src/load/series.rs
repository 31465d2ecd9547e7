//! A number, or nothing, per step.

/// What the numbers of a series are, which says how steps are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// A count of what came in the step: steps add up.
    Count,
    /// A level or a rate that held during the step: steps are averaged.
    Level,
}

/// A number, or nothing, per step of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// When the first step begins, in seconds since the epoch of the clock on the wall there; recordings without a date begin at 0.
    pub start: i64,
    /// Length of a step, in seconds.
    pub step: i64,
    /// What the numbers are.
    pub quantity: Quantity,
    /// The number of each step; `None` where nothing was recorded.
    pub values: Vec<Option<f64>>,
}

// === impl Series ===

impl Series {
    /// When a step begins, in seconds since the epoch.
    #[must_use]
    pub fn time(&self, place: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i64::try_from(place).unwrap_or(i64::MAX)))
    }

    /// The series in longer steps: counts are added, levels averaged. `None` unless `step` is a whole multiple of the own.
    ///
    /// Longer steps begin where the series begins. A sum of which a part is missing is no sum, so that step is missing; a mean
    /// needs at least half of its parts. An incomplete last step is left out.
    #[must_use]
    pub fn resample(&self, step: i64) -> Option<Self> {
        if self.step <= 0 || step < self.step || step % self.step != 0 {
            return None;
        }
        let parts = usize::try_from(step / self.step).ok()?;
        let values = self.values.chunks_exact(parts).map(|chunk| join(chunk, self.quantity)).collect();
        Some(Self { name: self.name.clone(), start: self.start, step, quantity: self.quantity, values })
    }

    /// The same numbers per second: counts divided by the step, levels as they are.
    #[must_use]
    pub fn rates(&self) -> Vec<Option<f64>> {
        #[expect(clippy::cast_precision_loss, reason = "a step is far below 2^52 seconds")]
        let seconds = if self.quantity == Quantity::Count { self.step.max(1) as f64 } else { 1.0 };
        self.values.iter().map(|value| value.map(|value| value / seconds)).collect()
    }

    /// The first steps of the series.
    #[must_use]
    pub fn first(mut self, steps: usize) -> Self {
        self.values.truncate(steps);
        self
    }
}

/// The number of several steps together.
fn join(parts: &[Option<f64>], quantity: Quantity) -> Option<f64> {
    let known: Vec<f64> = parts.iter().copied().flatten().collect();
    let sum: f64 = known.iter().sum();
    match quantity {
        Quantity::Count => (known.len() == parts.len()).then_some(sum),
        #[expect(clippy::cast_precision_loss, reason = "a number of steps is far below 2^52")]
        Quantity::Level => (!known.is_empty() && known.len() * 2 >= parts.len()).then(|| sum / known.len() as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(quantity: Quantity) -> Series {
        let values = vec![Some(1.0), Some(2.0), Some(3.0), None, None, None, Some(9.0)];
        Series { name: "test".to_owned(), start: 120, step: 60, quantity, values }
    }

    /// Guarantees: a sum needs all its parts, a mean half of them; what is left over is left out.
    #[test]
    fn longer_steps() {
        assert_eq!(series(Quantity::Count).resample(120).unwrap().values, [Some(3.0), None, None]);
        assert_eq!(series(Quantity::Level).resample(120).unwrap().values, [Some(1.5), Some(3.0), None]);
        assert_eq!(series(Quantity::Count).resample(90), None);
        assert_eq!(series(Quantity::Count).resample(60).unwrap(), series(Quantity::Count));
    }

    /// Guarantees: rates are counts per second, levels stay, and times follow the steps.
    #[test]
    fn rates_and_times() {
        assert_eq!(series(Quantity::Count).rates()[2], Some(0.05));
        assert_eq!(series(Quantity::Level).rates()[2], Some(3.0));
        assert_eq!((series(Quantity::Count).time(2), series(Quantity::Count).first(2).values.len()), (240, 2));
    }
}
