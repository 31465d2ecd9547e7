//! Ridge regression that is learned sample by sample and solved now and then, from weights that are usual elsewhere.

use super::{DAY, real};

/// Weight of the prior, per sample,
const RIDGE: f64 = 1e-4;
/// and in all: what a few minutes of samples weigh.
const RIDGE_LEAST: f64 = 10.0;
/// Samples between two solutions: ten minutes at first, six hours later on.
const SOLVE_FIRST: usize = 40;
const SOLVE_EVERY: usize = DAY / 4;
/// What each solution forgets, so that half is forgotten in nine days.
const KEPT: f64 = 0.98;

/// A linear model and the moments it is solved from.
#[derive(Clone, Debug)]
pub(super) struct Regression<const COUNT: usize> {
    squares: [[f64; COUNT]; COUNT],
    products: [f64; COUNT],
    weights: [f64; COUNT],
    /// Weights without any sample.
    prior: [f64; COUNT],
    last: usize,
}

// === impl Regression ===

impl<const COUNT: usize> Regression<COUNT> {
    /// Predicts by these weights until samples say otherwise.
    pub(super) fn new(prior: [f64; COUNT]) -> Self {
        Self { squares: [[0.0; COUNT]; COUNT], products: [0.0; COUNT], weights: prior, prior, last: 0 }
    }

    pub(super) fn learn(&mut self, features: &[f64; COUNT], target: f64) {
        for (row, one) in features.iter().enumerate() {
            self.products[row] += one * target;
            for (cell, other) in self.squares[row].iter_mut().zip(features) {
                *cell += one * other;
            }
        }
    }

    /// Whether it is time to solve, at so many samples.
    pub(super) fn is_due(&mut self, samples: usize) -> bool {
        let pause = (samples / 8).clamp(SOLVE_FIRST, SOLVE_EVERY);
        let due = samples - self.last >= pause && self.squares[0][0] >= real(SOLVE_FIRST);
        if due {
            self.last = samples;
        }
        due
    }

    /// Solves for the weights by elimination; the ridge keeps the matrix positive definite.
    pub(super) fn fit(&mut self) {
        let (mut matrix, mut right) = (self.squares, self.products);
        let ridge = RIDGE * self.squares[0][0] + RIDGE_LEAST;
        for (pivot, row) in matrix.iter_mut().enumerate() {
            row[pivot] += ridge;
            right[pivot] += ridge * self.prior[pivot];
        }
        for pivot in 0..COUNT {
            let row = matrix[pivot];
            for below in pivot + 1..COUNT {
                let factor = matrix[below][pivot] / row[pivot];
                for (cell, value) in matrix[below].iter_mut().zip(&row).skip(pivot) {
                    *cell -= factor * value;
                }
                right[below] -= factor * right[pivot];
            }
        }
        let mut weights = [0.0; COUNT];
        for pivot in (0..COUNT).rev() {
            let known: f64 = (pivot + 1..COUNT).map(|column| matrix[pivot][column] * weights[column]).sum();
            weights[pivot] = (right[pivot] - known) / matrix[pivot][pivot];
        }
        if weights.iter().all(|weight| weight.is_finite()) {
            self.weights = weights;
        }
        self.products.iter_mut().chain(self.squares.iter_mut().flatten()).for_each(|moment| *moment *= KEPT);
    }

    pub(super) fn predict(&self, features: &[f64; COUNT]) -> f64 {
        self.weights.iter().zip(features).map(|(weight, feature)| weight * feature).sum()
    }
}
