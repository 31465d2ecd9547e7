//! What a policy needs for a share of violations: its knob is searched on a grid from careful to thrifty.

use super::trial::Outcome;

/// What a search over a knob found.
#[derive(Clone, Debug, Default)]
pub(super) struct Frontier {
    /// Runs that were made: place on the grid, and outcome; in order of place.
    pub(super) runs: Vec<(usize, Outcome)>,
    /// Replica-hours at exactly the level, interpolated between the neighbours on the grid around it. `None` when even the most
    /// careful setting violates more.
    pub(super) hours: Option<f64>,
    /// The thriftiest setting of the grid that keeps the level; the most careful one when none does.
    pub(super) chosen: usize,
}

// === impl Frontier ===

impl Frontier {
    /// Halves a grid of `points` until neighbours are on both sides of `level`. Violations are taken to rise along the grid.
    pub(super) fn search<E>(points: usize, level: f64, mut run: impl FnMut(usize) -> Result<Outcome, E>) -> Result<Self, E> {
        Self::default().refine(points, level, &mut run)
    }

    /// The same for another level; runs that were made are not made again.
    pub(super) fn refine<E>(&self, points: usize, level: f64, run: &mut impl FnMut(usize) -> Result<Outcome, E>) -> Result<Self, E> {
        let mut found = Self { runs: self.runs.clone(), ..Self::default() };
        let mut at = |place: usize, found: &mut Self| {
            if let Some((_, known)) = found.runs.iter().find(|(other, _)| *other == place) {
                return Ok(*known);
            }
            let outcome = run(place)?;
            found.runs.push((place, outcome));
            Ok(outcome)
        };
        let (mut low, mut high) = (0, points.saturating_sub(1));
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if at(middle, &mut found)?.violations <= level { low = middle } else { high = middle }
        }
        let (careful, thrifty) = (at(low, &mut found)?, at(high, &mut found)?);
        found.chosen = if thrifty.violations <= level { high } else { low };
        found.hours = (careful.violations <= level).then(|| between(&careful, &thrifty, level));
        found.runs.sort_by_key(|(place, _)| *place);
        Ok(found)
    }
}

/// Hours at a level between two outcomes. A thriftier setting that needs more (because it oscillates) does not count.
fn between(careful: &Outcome, thrifty: &Outcome, level: f64) -> f64 {
    if thrifty.violations <= level {
        return thrifty.hours.min(careful.hours);
    }
    let share = (level - careful.violations) / (thrifty.violations - careful.violations);
    (careful.hours + (thrifty.hours - careful.hours) * share).min(careful.hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(hours: f64, violations: f64) -> Outcome {
        Outcome { hours, violations, ..Outcome::default() }
    }

    /// Guarantees: the level is found between neighbours with a logarithmic number of runs, and interpolated.
    #[test]
    fn finds_the_level() {
        let mut runs = 0;
        let run = |place: usize| {
            runs += 1;
            let place = f64::from(u32::try_from(place).unwrap());
            Ok::<_, ()>(outcome(100.0 - place, 0.001 * place))
        };
        let found = Frontier::search(16, 0.0095, run).unwrap();
        assert!((found.hours.unwrap() - 90.5).abs() < 1e-9 && found.chosen == 9);
        assert!(runs <= 6, "{runs}");
    }

    /// Guarantees: a level that nothing keeps has no hours, one that everything keeps those of the thriftiest, and oscillation
    /// beyond the level costs nothing.
    #[test]
    fn ends_of_the_grid() {
        let all = |violations: f64| Frontier::search(5, 0.01, |_| Ok::<_, ()>(outcome(10.0, violations))).unwrap();
        assert_eq!((all(0.5).hours, all(0.5).chosen), (None, 0));
        assert_eq!((all(0.0).hours, all(0.0).chosen), (Some(10.0), 4));
        assert!((between(&outcome(10.0, 0.0), &outcome(50.0, 0.02), 0.01) - 10.0).abs() < 1e-9);
    }
}
