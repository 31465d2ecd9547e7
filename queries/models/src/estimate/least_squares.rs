//! Least squares with coefficients that are not negative, and how well the data tell the coefficients apart.

/// Most columns; the work grows with their cube.
const MAX_COLUMNS: usize = 64;
/// Relative size below which a gradient or a pivot is zero.
const EPSILON: f64 = 1e-10;
/// Sweeps of Jacobi's method; it converges quadratically and needs fewer than ten.
const SWEEPS: usize = 60;

/// Coefficients and the condition of their columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// One per column, none negative.
    pub coefficients: Vec<f64>,
    /// Ratio of the largest to the smallest singular value of the columns, each scaled to length one so that units do not
    /// matter: 1 when they are independent, infinite when one follows from others.
    pub condition: f64,
    /// One per column: its standard error as a multiple of that of a value, if the coefficients were free; infinite when the column
    /// follows from others.
    pub spreads: Vec<f64>,
}

/// The coefficients ≥ 0 that bring `rows · coefficients` closest to `values`, by the active-set method of Lawson and Hanson
/// (1974) on the normal equations. `None` when shapes differ, a figure is no number, a column is zero, or columns are too many.
#[must_use]
pub fn non_negative(rows: &[Vec<f64>], values: &[f64]) -> Option<Solution> {
    let columns = rows.first()?.len();
    let is_even = rows.iter().all(|row| row.len() == columns && row.iter().all(|cell| cell.is_finite()));
    let fits = (1..=MAX_COLUMNS).contains(&columns) && rows.len() == values.len() && values.iter().all(|value| value.is_finite());
    if !(is_even && fits) {
        return None;
    }
    let length = |column: usize| rows.iter().map(|row| row[column] * row[column]).sum::<f64>().sqrt();
    let lengths: Vec<f64> = (0..columns).map(length).collect();
    if lengths.iter().any(|length| *length <= 0.0) {
        return None;
    }
    let product = |a: usize, b: usize| rows.iter().map(|row| row[a] * row[b]).sum::<f64>() / (lengths[a] * lengths[b]);
    let gram: Vec<Vec<f64>> = (0..columns).map(|a| (0..columns).map(|b| product(a, b)).collect()).collect();
    let towards = |column: usize| rows.iter().zip(values).map(|(row, value)| row[column] * value).sum::<f64>() / lengths[column];
    let target: Vec<f64> = (0..columns).map(towards).collect();
    let scaled = active_set(&gram, &target);
    let coefficients = scaled.iter().zip(&lengths).map(|(coefficient, length)| coefficient / length).collect();
    let spreads = inverse_diagonal(&gram).iter().zip(&lengths).map(|(variance, length)| variance.sqrt() / length).collect();
    Some(Solution { coefficients, condition: condition(gram), spreads })
}

/// The diagonal of the inverse; infinite when there is none.
fn inverse_diagonal(gram: &[Vec<f64>]) -> Vec<f64> {
    let all: Vec<usize> = (0..gram.len()).collect();
    let unit = |place: usize| all.iter().map(|column| if *column == place { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
    all.iter().map(|place| solve(gram, &unit(*place), &all).map_or(f64::INFINITY, |column| column[*place])).collect()
}

fn active_set(gram: &[Vec<f64>], target: &[f64]) -> Vec<f64> {
    let columns = target.len();
    let scale = target.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let (mut solution, mut is_free) = (vec![0.0; columns], vec![false; columns]);
    // Each step adds a column that lowers the error, so it ends; the bound is for rounding.
    for _ in 0..3 * columns {
        let gradient = |column: usize| target[column] - gram[column].iter().zip(&solution).map(|(a, b)| a * b).sum::<f64>();
        let bound = (0..columns).filter(|column| !is_free[*column]);
        let Some(next) = bound.max_by(|a, b| gradient(*a).total_cmp(&gradient(*b))) else { break };
        if gradient(next) <= EPSILON * scale {
            break;
        }
        is_free[next] = true;
        loop {
            let free: Vec<usize> = (0..columns).filter(|column| is_free[*column]).collect();
            let Some(trial) = solve(gram, target, &free) else {
                is_free[next] = false;
                return solution;
            };
            if trial.iter().all(|value| *value > 0.0) {
                solution.fill(0.0);
                free.iter().zip(&trial).for_each(|(column, value)| solution[*column] = *value);
                break;
            }
            // As far towards the trial as no coefficient turns negative; those that reach zero are bound again.
            let steps = free.iter().zip(&trial).filter(|(_, value)| **value <= 0.0);
            let step = steps.map(|(column, value)| solution[*column] / (solution[*column] - value)).fold(1.0, f64::min);
            let step = if step.is_finite() { step } else { 0.0 };
            for (column, value) in free.iter().zip(&trial) {
                solution[*column] += step * (value - solution[*column]);
                if solution[*column] <= EPSILON * scale && *value <= 0.0 {
                    (solution[*column], is_free[*column]) = (0.0, false);
                }
            }
        }
    }
    solution
}

/// Solves the equations of the `free` columns by Cholesky's method. `None` when they are dependent.
fn solve(gram: &[Vec<f64>], target: &[f64], free: &[usize]) -> Option<Vec<f64>> {
    let n = free.len();
    let mut lower = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let rest: f64 = gram[free[i]][free[j]] - (0..j).map(|k| lower[i][k] * lower[j][k]).sum::<f64>();
            lower[i][j] = if i == j {
                if rest <= EPSILON {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / lower[j][j]
            };
        }
    }
    let mut solution = vec![0.0; n];
    for i in 0..n {
        solution[i] = (target[free[i]] - (0..i).map(|k| lower[i][k] * solution[k]).sum::<f64>()) / lower[i][i];
    }
    for i in (0..n).rev() {
        solution[i] = (solution[i] - (i + 1..n).map(|k| lower[k][i] * solution[k]).sum::<f64>()) / lower[i][i];
    }
    Some(solution)
}

/// Square root of the ratio of the extreme eigenvalues, by Jacobi's rotations.
fn condition(mut matrix: Vec<Vec<f64>>) -> f64 {
    let n = matrix.len();
    for _ in 0..SWEEPS {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| matrix[i][j].powi(2)).sum();
        if off < 1e-26 {
            break;
        }
        for i in 0..n {
            for j in 0..i {
                rotate(&mut matrix, j, i);
            }
        }
    }
    let (mut least, mut most) = (f64::INFINITY, 0.0f64);
    for (i, row) in matrix.iter().enumerate() {
        (least, most) = (least.min(row[i]), most.max(row[i]));
    }
    if least <= most * 1e-14 { f64::INFINITY } else { (most / least).sqrt() }
}

/// Makes one element above the diagonal (`p < q`) zero.
fn rotate(matrix: &mut [Vec<f64>], p: usize, q: usize) {
    let off = matrix[p][q];
    if off.abs() < 1e-300 {
        return;
    }
    let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * off);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let tangent = if tangent.abs() > 0.0 { tangent } else { 1.0 };
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    for row in matrix.iter_mut() {
        let (a, b) = (row[p], row[q]);
        (row[p], row[q]) = (cosine * a - sine * b, sine * a + cosine * b);
    }
    let (above, below) = matrix.split_at_mut(q);
    if let (Some(first), Some(second)) = (above.get_mut(p), below.first_mut()) {
        for (a, b) in first.iter_mut().zip(second) {
            (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(rows: &[Vec<f64>], values: &[f64], coefficients: &[f64]) -> f64 {
        let fitted = |row: &Vec<f64>| row.iter().zip(coefficients).map(|(a, b)| a * b).sum::<f64>();
        rows.iter().zip(values).map(|(row, value)| (fitted(row) - value).powi(2)).sum()
    }

    /// Guarantees: exact data are solved exactly, and a coefficient that would be negative is zero.
    #[test]
    fn small_systems() {
        let rows = vec![vec![1.0, 0.0], vec![1.0, 1.0], vec![1.0, 2.0]];
        let solution = non_negative(&rows, &[1.0, 3.0, 5.0]).unwrap();
        assert!((solution.coefficients[0] - 1.0).abs() < 1e-9 && (solution.coefficients[1] - 2.0).abs() < 1e-9);
        let falling = non_negative(&rows, &[5.0, 3.0, 1.0]).unwrap();
        assert!((falling.coefficients[0] - 3.0).abs() < 1e-9 && falling.coefficients[1] == 0.0, "{falling:?}");
    }

    /// Guarantees: the condition is 1 for orthogonal columns whatever their units, √3 for an angle of 60°, infinite for
    /// dependent ones.
    #[test]
    fn conditions_of_columns() {
        let condition = |rows: Vec<Vec<f64>>| non_negative(&rows, &[1.0, 1.0]).unwrap().condition;
        assert!((condition(vec![vec![1000.0, 0.0], vec![0.0, 0.001]]) - 1.0).abs() < 1e-9);
        assert!((condition(vec![vec![1.0, 0.5], vec![0.0, 0.75f64.sqrt()]]) - 3f64.sqrt()).abs() < 1e-9);
        assert!(condition(vec![vec![1.0, 2.0], vec![2.0, 4.0]]).is_infinite());
    }

    /// Guarantees: the slope of a line through 0, 1 and 2 is known to 1/√2 of the error of a value, its height at 0 to √(5/6), and
    /// columns that follow from each other not at all.
    #[test]
    fn spreads_of_coefficients() {
        let line = non_negative(&[vec![1.0, 0.0], vec![1.0, 1.0], vec![1.0, 2.0]], &[1.0, 3.0, 5.0]).unwrap();
        assert!((line.spreads[0] - (5.0 / 6.0f64).sqrt()).abs() < 1e-9 && (line.spreads[1] - 0.5f64.sqrt()).abs() < 1e-9, "{line:?}");
        assert!(non_negative(&[vec![1.0, 2.0], vec![2.0, 4.0]], &[1.0, 1.0]).unwrap().spreads[0].is_infinite());
    }

    /// Guarantees: what is no system has no solution.
    #[test]
    fn broken_systems_have_none() {
        assert_eq!(non_negative(&[], &[]), None);
        assert_eq!(non_negative(&[vec![1.0]], &[1.0, 2.0]), None);
        assert_eq!(non_negative(&[vec![0.0], vec![0.0]], &[1.0, 2.0]), None);
        assert_eq!(non_negative(&[vec![f64::NAN]], &[1.0]), None);
    }

    proptest! {
        /// Guarantees: no coefficient is negative, and moving any of them (within what is allowed) makes nothing better.
        #[test]
        fn the_solution_is_best(
            rows in proptest::collection::vec(proptest::collection::vec(0.1f64..10.0, 3), 6..20),
            noise in proptest::collection::vec(-5.0f64..5.0, 20),
        ) {
            let values: Vec<f64> = rows.iter().zip(&noise).map(|(row, noise)| row[0] + 0.2 * row[1] + noise).collect();
            let solution = non_negative(&rows, &values).unwrap();
            prop_assert!(solution.coefficients.iter().all(|coefficient| *coefficient >= 0.0));
            let best = error(&rows, &values, &solution.coefficients);
            for column in 0..3 {
                for step in [-0.01, 0.01] {
                    let mut moved = solution.coefficients.clone();
                    moved[column] = (moved[column] + step).max(0.0);
                    prop_assert!(error(&rows, &values, &moved) >= best - 1e-6 * best.max(1.0));
                }
            }
        }
    }
}
