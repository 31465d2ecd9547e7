//! How well each candidate did, what they say together, and which of them is believed.
//!
//! The combination is a weighted median of the best of each family and the naive forecasts. On recorded series it beat the plain median
//! of four families, the weighted mean, and the best single candidate: one family that a wild day misled does not move it.

use super::candidates::{CANDIDATES, DAY_AGO, FAMILIES, NAIVE, Numbers, WEEK_AGO};

/// Place of the combination, after those of the candidates.
pub(super) const COMBINED: usize = CANDIDATES;
/// Number of places.
const PLACES: usize = CANDIDATES + 1;
/// Forecasts that have nothing to prove.
const NAIVES: [usize; 3] = [NAIVE, DAY_AGO, WEEK_AGO];
/// Rows with the naive error that each candidate is given in advance, so that one lucky row proves nothing.
const ROWS_GIVEN: f64 = 12.0;
/// An error counts at most so many times the usual naive error: one wild value, which all missed, must not drown what tells them apart.
const ERROR_MAX: f64 = 30.0;
/// Rows before the usual naive error is known.
const ROWS_MIN: f64 = 5.0;
/// Least loss that a weight is formed of.
const LOSS_MIN: f64 = 1e-3;

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
    pub(super) fn learn(&mut self, numbers: &Numbers, combined: f32, came: f64, memory: f64) {
        let naive = (f64::from(numbers[NAIVE]) - came).abs();
        if naive.is_nan() {
            return;
        }
        let usual = self.naive[NAIVE] / self.rows.max(1.0);
        let most = if self.rows > ROWS_MIN && usual > 0.0 { ERROR_MAX * usual } else { f64::INFINITY };
        self.rows = memory * self.rows + 1.0;
        for (place, number) in numbers.iter().chain(std::iter::once(&combined)).enumerate() {
            let error = (f64::from(*number) - came).abs();
            if !error.is_nan() {
                self.errors[place] = memory * self.errors[place] + error.min(most);
                self.naive[place] = memory * self.naive[place] + naive.min(most);
            }
        }
    }

    /// Error of a place as a multiple of the naive error for the same targets; one when nothing is known.
    pub(super) fn loss(&self, place: usize) -> f64 {
        let usual = (self.naive[NAIVE] / self.rows.max(1.0)).max(f64::MIN_POSITIVE);
        let given = ROWS_GIVEN * usual;
        (self.errors[place] + given) / (self.naive[place] + given)
    }

    /// Weighted median of the best of each family and of the naive forecasts, by the inverse fourth power of their losses. Not a number
    /// without a candidate.
    pub(super) fn combine(&self, numbers: &Numbers, believed: u128) -> f32 {
        let weight = |place: usize| self.loss(place).max(LOSS_MIN).powi(-4);
        let places = self.representatives(numbers, believed).into_iter().flatten().chain(naives(numbers, believed));
        let mut pairs = [(f32::NAN, 0.0); FAMILIES.len() + NAIVES.len()];
        let mut known = 0;
        for (pair, place) in pairs.iter_mut().zip(places) {
            *pair = (numbers[place], weight(place));
            known += 1;
        }
        weighted_median(&mut pairs[..known])
    }

    /// What is believed: the combination while it beats the naive forecasts, else the best candidate that does, else the best naive one.
    pub(super) fn choose(&self, numbers: &Numbers, combined: f32, believed: u128) -> Option<Choice> {
        let naive = self.least(naives(numbers, believed));
        let bar = naive.map_or(f64::INFINITY, |place| self.loss(place));
        let proven = |place: &usize| self.loss(*place) < bar;
        let together = Some(COMBINED).filter(|_| !combined.is_nan()).filter(proven);
        let alone = || self.least(self.representatives(numbers, believed).into_iter().flatten()).filter(proven);
        let place = together.or_else(alone).or(naive)?;
        let number = numbers.get(place).copied().unwrap_or(combined);
        Some(Choice { place, point: f64::from(number).max(0.0) })
    }

    /// The believed member of the least loss of each family.
    fn representatives(&self, numbers: &Numbers, believed: u128) -> [Option<usize>; FAMILIES.len()] {
        std::array::from_fn(|family| self.least(FAMILIES[family].0.clone().filter(|place| is_voting(numbers, *place, believed))))
    }

    fn least(&self, places: impl Iterator<Item = usize>) -> Option<usize> {
        places.map(|place| (self.loss(place), place)).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, place)| place)
    }
}

/// The naive forecasts that are known and believed.
fn naives(numbers: &Numbers, believed: u128) -> impl Iterator<Item = usize> + '_ {
    NAIVES.into_iter().filter(move |place| is_voting(numbers, *place, believed))
}

fn is_voting(numbers: &Numbers, place: usize, believed: u128) -> bool {
    !numbers[place].is_nan() && believed >> place & 1 == 1
}

/// The median of weighted numbers, on straight lines between the middles of their weights. Not a number of none.
fn weighted_median(pairs: &mut [(f32, f64)]) -> f32 {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = 0.5 * pairs.iter().map(|(_, weight)| weight).sum::<f64>();
    let (mut passed, mut before): (f64, Option<(f64, f64)>) = (0.0, None);
    for (number, weight) in pairs.iter() {
        let (number, middle) = (f64::from(*number), passed + 0.5 * weight);
        if middle >= half {
            let Some((last, last_middle)) = before else { return super::ring::narrow(number) };
            let share = (half - last_middle) / (middle - last_middle).max(f64::MIN_POSITIVE);
            return super::ring::narrow(last + share * (number - last));
        }
        before = Some((number, middle));
        passed += weight;
    }
    before.map_or(f32::NAN, |(number, _)| super::ring::narrow(number))
}

/// What a place is called.
pub(super) fn name(place: usize) -> &'static str {
    match place {
        NAIVE => "last value",
        DAY_AGO => "day ago",
        WEEK_AGO => "week ago",
        COMBINED => "weighted median",
        _ => FAMILIES.iter().find(|(members, _)| members.contains(&place)).map_or("unknown", |(_, name)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::{RIDGE, seasonless};
    use super::*;

    /// Guarantees: equal weights give the textbook median, and a heavy number draws it to itself.
    #[test]
    fn medians() {
        let of = |pairs: &[(f32, f64)]| weighted_median(&mut pairs.to_vec());
        assert!((of(&[(3.0, 1.0), (1.0, 1.0), (50.0, 1.0)]) - 3.0).abs() < 1e-6);
        assert!((of(&[(3.0, 1.0), (1.0, 1.0)]) - 2.0).abs() < 1e-6);
        assert!((of(&[(3.0, 1.0), (1.0, 1.0), (2.0, 100.0)]) - 2.0).abs() < 0.02);
        assert!(of(&[]).is_nan());
    }

    /// Guarantees: a combination is believed only while it beats the naive forecasts; else the best of those stands.
    #[test]
    fn naive_stands_until_beaten() {
        let mut scores = Scores::new();
        let mut numbers = [f32::NAN; CANDIDATES];
        (numbers[NAIVE], numbers[DAY_AGO], numbers[RIDGE]) = (10.0, 20.0, 40.0);
        for _ in 0..50 {
            scores.learn(&numbers, 40.0, 21.0, 0.99);
        }
        let choice = scores.choose(&numbers, 40.0, u128::MAX).unwrap();
        assert_eq!((choice.place, name(choice.place)), (DAY_AGO, "day ago"));
        assert_eq!(scores.choose(&numbers, 40.0, seasonless()).map(|choice| choice.place), Some(NAIVE));
        for _ in 0..500 {
            scores.learn(&numbers, 30.0, 30.5, 0.99);
        }
        assert_eq!(scores.choose(&numbers, 30.0, u128::MAX).map(|choice| choice.place), Some(COMBINED));
        assert_eq!(scores.choose(&[f32::NAN; CANDIDATES], f32::NAN, u128::MAX), None);
    }

    /// Guarantees: one wild value that all candidates missed does not make them equal.
    #[test]
    fn one_wild_value_is_bounded() {
        let mut scores = Scores::new();
        let mut numbers = [f32::NAN; CANDIDATES];
        (numbers[NAIVE], numbers[RIDGE]) = (10.0, 11.9);
        for row in 0..200 {
            scores.learn(&numbers, 11.9, if row == 100 { 1e12 } else { 12.0 }, 1.0);
        }
        assert!(scores.loss(RIDGE) < 0.7, "{}", scores.loss(RIDGE));
    }
}
