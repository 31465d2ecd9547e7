//! Ridge regression that forgets: normal equations which old rows leave slowly.

use super::ring::narrow;

/// Number of inputs, the constant not counted.
pub(super) const INPUTS: usize = 22;
/// Number of coefficients.
const WIDTH: usize = INPUTS + 1;
/// Share of each input's own sum of squares that is added to it: coefficients that the rows do not speak for stay at zero.
const RIDGE: f64 = 0.01;
/// Rows (after forgetting) below which nothing is solved: three for each coefficient.
const ROWS_MIN: f64 = 66.0;
/// Residuals beyond this many standard deviations weigh less (Huber, 1964).
const HUBER: f64 = 2.0;

/// Inputs count at most so many times their root mean square,
const INPUT_MAX: f64 = 5.0;
/// once so many rows tell it.
const ROWS_KNOWN: f64 = 20.0;

/// A linear model of a target by inputs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ridge {
    /// Sums of products of inputs, lower triangle by rows, the constant last.
    products: Vec<f64>,
    targets: [f64; WIDTH],
    rows: f64,
    variance: f64,
    coefficients: Option<[f64; WIDTH]>,
}

// === impl Ridge ===

impl Ridge {
    pub(super) fn new() -> Self {
        Self { products: vec![0.0; WIDTH * (WIDTH + 1) / 2], targets: [0.0; WIDTH], rows: 0.0, variance: 0.0, coefficients: None }
    }

    /// Learns one row; all rows before count `memory` times what they counted.
    pub(super) fn learn(&mut self, inputs: &[f32; INPUTS], target: f64, memory: f64) {
        let inputs = &self.bounded(inputs);
        let error = target - self.predict(inputs).unwrap_or(0.0);
        let allowed = HUBER * self.variance.sqrt();
        let weight = if allowed > 0.0 && error.abs() > allowed { allowed / error.abs() } else { 1.0 };
        let share = (1.0 - memory).max(1.0 / (self.rows + 1.0));
        self.variance += share * (weight * error * error - self.variance);
        let mut at = 0;
        for row in 0..WIDTH {
            let scaled = weight * widened(inputs, row);
            self.targets[row] = memory * self.targets[row] + scaled * target;
            for column in 0..=row {
                self.products[at] = memory * self.products[at] + scaled * widened(inputs, column);
                at += 1;
            }
        }
        self.rows = memory * self.rows + 1.0;
    }

    /// Solves for the coefficients; keeps the old ones when that fails.
    pub(super) fn solve(&mut self) {
        if self.rows < ROWS_MIN {
            return;
        }
        if let Some(coefficients) = solve_ridge(&self.products, &self.targets) {
            self.coefficients = Some(coefficients);
        }
    }

    /// The target expected for inputs. `None` before anything was solved.
    pub(super) fn predict(&self, inputs: &[f32; INPUTS]) -> Option<f64> {
        let coefficients = self.coefficients.as_ref()?;
        let inputs = &self.bounded(inputs);
        Some(coefficients.iter().enumerate().map(|(place, coefficient)| coefficient * widened(inputs, place)).sum())
    }

    /// Inputs within some times their usual size: one wild day must not be multiplied by a coefficient that ordinary days gave.
    fn bounded(&self, inputs: &[f32; INPUTS]) -> [f32; INPUTS] {
        if self.rows < ROWS_KNOWN {
            return *inputs;
        }
        std::array::from_fn(|place| {
            let most = narrow(INPUT_MAX * (self.products[place * (place + 3) / 2] / self.rows).sqrt());
            if most > 0.0 { inputs[place].clamp(-most, most) } else { inputs[place] }
        })
    }
}

/// An input; after the last comes the constant.
fn widened(inputs: &[f32; INPUTS], place: usize) -> f64 {
    inputs.get(place).map_or(1.0, |input| f64::from(*input))
}

/// Solves the ridge equations. `None` when they are not positive definite.
fn solve_ridge(products: &[f64], targets: &[f64; WIDTH]) -> Option<[f64; WIDTH]> {
    let mut penalised = products.to_vec();
    let diagonal = |place: usize| place * (place + 3) / 2;
    let scale: f64 = (0..INPUTS).map(|place| products[diagonal(place)]).fold(0.0, f64::max);
    for place in 0..WIDTH {
        let own = products[diagonal(place)];
        penalised[diagonal(place)] += if place < INPUTS { RIDGE * own + 1e-9 * scale + 1e-12 } else { 1e-9 };
    }
    cholesky(penalised, *targets)
}

/// Solves symmetric equations, given as lower triangle by rows, by Cholesky's decomposition. `None` when they are not positive definite.
pub(super) fn cholesky<const N: usize>(mut factor: Vec<f64>, mut solution: [f64; N]) -> Option<[f64; N]> {
    let at = |row: usize, column: usize| row * (row + 1) / 2 + column;
    for row in 0..N {
        for column in 0..=row {
            let known: f64 = (0..column).map(|inner| factor[at(row, inner)] * factor[at(column, inner)]).sum();
            let rest = factor[at(row, column)] - known;
            if row == column {
                if rest.is_nan() || rest <= 0.0 {
                    return None;
                }
                factor[at(row, row)] = rest.sqrt();
            } else {
                factor[at(row, column)] = rest / factor[at(column, column)];
            }
        }
    }
    for row in 0..N {
        let known: f64 = (0..row).map(|inner| factor[at(row, inner)] * solution[inner]).sum();
        solution[row] = (solution[row] - known) / factor[at(row, row)];
    }
    for row in (0..N).rev() {
        let known: f64 = (row + 1..N).map(|inner| factor[at(inner, row)] * solution[inner]).sum();
        solution[row] = (solution[row] - known) / factor[at(row, row)];
    }
    solution.iter().all(|coefficient| coefficient.is_finite()).then_some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs from a small generator, the same in every run.
    fn inputs(seed: &mut u64) -> [f32; INPUTS] {
        std::array::from_fn(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f32::from(u16::try_from(*seed >> 48).unwrap()) / 32_768.0 - 1.0
        })
    }

    /// Guarantees: a linear target is found, up to the shrinkage of the ridge, whatever single wild rows say.
    #[test]
    fn finds_a_linear_target() {
        let (mut ridge, mut seed) = (Ridge::new(), 7);
        for row in 0..2000 {
            let x = inputs(&mut seed);
            let wild = if row % 400 == 399 { 500.0 } else { 0.0 };
            ridge.learn(&x, 3.0 + 2.0 * f64::from(x[0]) - f64::from(x[5]) + wild, 0.999);
            if row % 50 == 49 {
                ridge.solve();
            }
        }
        let mut probe = [0.0; INPUTS];
        (probe[0], probe[5]) = (0.5, -0.5);
        assert!((ridge.predict(&probe).unwrap() - 4.5).abs() < 0.1, "{:?}", ridge.predict(&probe));
    }

    /// Guarantees: too few rows and rows without information give no coefficients or harmless ones, never a failure.
    #[test]
    fn nothing_from_nothing() {
        let mut ridge = Ridge::new();
        ridge.solve();
        assert_eq!(ridge.predict(&[0.0; INPUTS]), None);
        for _ in 0..100 {
            ridge.learn(&[0.0; INPUTS], 0.0, 1.0);
        }
        ridge.solve();
        assert!(ridge.predict(&[1.0; INPUTS]).unwrap().abs() < 1e-9);
    }
}
