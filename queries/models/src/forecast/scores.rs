//! How well each candidate did: what was forecast against what came, forgotten slowly.

use super::candidates::{CANDIDATES, DAY_AGO, FAMILIES, NAIVE, Numbers, RIDGE, WEEK_AGO};

/// Places of combinations after those of the candidates.
pub(super) const MEDIAN: usize = CANDIDATES;
pub(super) const WEIGHTED: usize = CANDIDATES + 1;
/// Number of places.
pub(super) const PLACES: usize = CANDIDATES + 2;
/// Forecasts that nothing has to prove.
pub(super) const NAIVES: [usize; 3] = [NAIVE, DAY_AGO, WEEK_AGO];
/// Rows with the naive error that each candidate is given in advance, so that one lucky row proves nothing.
const ROWS_GIVEN: f64 = 6.0;
/// Candidates count in a combination by their loss to this negative power.
const POWER: f64 = 6.0;
/// The families whose best members the median of four is taken of, by their place in [`FAMILIES`].
const MEDIAN_OF: [usize; 4] = [0, 3, 5, 6];

/// Absolute errors of all places, and of the naive forecast for the same targets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scores {
    errors: [f64; PLACES],
    naive: [f64; PLACES],
    rows: f64,
}

/// A forecast and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) place: usize,
    pub(super) point: f64,
}

// === impl Scores ===

impl Scores {
    pub(super) fn new() -> Self {
        Self { errors: [0.0; PLACES], naive: [0.0; PLACES], rows: 0.0 }
    }

    /// Learns what came; all that was learnt before counts `memory` times what it counted.
    pub(super) fn learn(&mut self, numbers: &Numbers, combined: &[f32; 2], came: f64, memory: f64) {
        let naive = (f64::from(numbers[NAIVE]) - came).abs();
        if naive.is_nan() {
            return;
        }
        self.rows = memory * self.rows + 1.0;
        for (place, number) in numbers.iter().chain(combined).enumerate() {
            let error = (f64::from(*number) - came).abs();
            if !error.is_nan() {
                self.errors[place] = memory * self.errors[place] + error;
                self.naive[place] = memory * self.naive[place] + naive;
            }
        }
    }

    /// Error of a place as a multiple of the naive error for the same targets; one when nothing is known.
    pub(super) fn loss(&self, place: usize) -> f64 {
        let given = ROWS_GIVEN * (self.naive[NAIVE] / self.rows.max(1.0)).max(f64::MIN_POSITIVE);
        (self.errors[place] + given) / (self.naive[place] + given)
    }

    /// Median and weighted mean of the best of each family; what cannot be formed is not a number.
    pub(super) fn combine(&self, numbers: &Numbers, seasonal: bool) -> [f32; 2] {
        let best = self.representatives(numbers, seasonal);
        let mut four: Vec<f32> = MEDIAN_OF.iter().filter_map(|family| best[*family]).map(|place| numbers[place]).collect();
        let naive = self.best_naive(numbers, seasonal);
        let (mut sum, mut weights) = (0.0, 0.0);
        for place in best.iter().copied().flatten().chain(naive) {
            let weight = self.loss(place).max(1e-3).powf(-POWER);
            sum += weight * f64::from(numbers[place]).clamp(0.0, f64::INFINITY).sqrt();
            weights += weight;
        }
        let weighted = if weights > 0.0 { (sum / weights).powi(2) } else { f64::NAN };
        [median(&mut four), super::ring::narrow(weighted)]
    }

    /// The best forecast: that of the least loss, and of the naive ones when none has less.
    pub(super) fn choose(&self, numbers: &Numbers, combined: &[f32; 2], seasonal: bool) -> Option<Choice> {
        let number =
            |place: usize| numbers.get(place).or_else(|| combined.get(place - CANDIDATES)).map_or(f64::NAN, |number| f64::from(*number));
        let best = self.representatives(numbers, seasonal);
        let places = [WEIGHTED, MEDIAN].into_iter().chain(best.into_iter().flatten());
        let admitted = places.filter(|place| !number(*place).is_nan());
        let naive = self.best_naive(numbers, seasonal);
        let bar = naive.map_or(1.0, |place| self.loss(place));
        let proven = self.least(admitted).filter(|place| self.loss(*place) < bar);
        proven.or(naive).map(|place| Choice { place, point: number(place).max(0.0) })
    }

    /// The naive forecast of the least loss.
    fn best_naive(&self, numbers: &Numbers, seasonal: bool) -> Option<usize> {
        self.least(NAIVES.into_iter().filter(|place| !numbers[*place].is_nan() && (seasonal || *place == NAIVE)))
    }

    /// The member of the least loss of each family.
    fn representatives(&self, numbers: &Numbers, seasonal: bool) -> [Option<usize>; FAMILIES.len()] {
        let mut found = [None; FAMILIES.len()];
        for (family, (members, _)) in FAMILIES.iter().enumerate() {
            if seasonal || family == 0 || members.contains(&RIDGE) {
                found[family] = self.least(members.clone().filter(|place| !numbers[*place].is_nan()));
            }
        }
        found
    }

    fn least(&self, places: impl Iterator<Item = usize>) -> Option<usize> {
        places.map(|place| (self.loss(place), place)).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, place)| place)
    }
}

/// The middle of some numbers, or the mean of the two in the middle.
fn median(numbers: &mut [f32]) -> f32 {
    numbers.sort_by(f32::total_cmp);
    match numbers.len() {
        0 => f32::NAN,
        length if length % 2 == 1 => numbers[length / 2],
        length => 0.5 * (numbers[length / 2 - 1] + numbers[length / 2]),
    }
}

/// What a place is called.
pub(super) fn name(place: usize) -> &'static str {
    match place {
        NAIVE => "last value",
        DAY_AGO => "day ago",
        WEEK_AGO => "week ago",
        MEDIAN => "median of four",
        WEIGHTED => "weighted mean",
        _ => FAMILIES.iter().find(|(members, _)| members.contains(&place)).map_or("unknown", |(_, name)| name),
    }
}
