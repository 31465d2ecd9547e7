//! Least squares for the scalability law: a linear start, then Levenberg–Marquardt within the bounds of its parameters.

use super::Scalability;
use crate::estimate::gate;

/// How far beyond the largest observed number a peak is believed.
const REACH: f64 = 2.0;
/// Share of the throughput at the most workers that a parameter must cost not to be taken for rounding.
const NEGLIGIBLE: f64 = 1e-6;
/// Most points.
const POINTS_MAX: usize = 100_000;
/// Most steps.
const STEPS: u32 = 500;
/// Typical sizes of contention and coherence; that of the throughput is its first estimate.
const SCALES: [f64; 2] = [1e-2, 1e-4];

/// A law with how well it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The law.
    pub law: Scalability,
    /// Standard errors of throughput of one worker, contention and coherence.
    pub errors: [f64; 3],
    /// Largest number of workers seen.
    pub workers_max: f64,
}

type Matrix = [[f64; 3]; 3];

/// Fits the law to `(workers, throughput)` points. `None` with fewer than six distinct numbers of workers, with numbers that span
/// less than a factor of three, and for senseless points.
#[must_use]
pub fn fit(points: &[(f64, f64)]) -> Option<Fit> {
    let valid = |(workers, throughput): &(f64, f64)| *workers > 0.0 && *throughput > 0.0 && workers.is_finite() && throughput.is_finite();
    if points.len() > POINTS_MAX || !points.iter().all(valid) {
        return None;
    }
    let mut distinct: Vec<f64> = points.iter().map(|(workers, _)| *workers).collect();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup_by(|a, b| (*a - *b).abs() <= 1e-9 * *b);
    let (least, most) = (*distinct.first()?, *distinct.last()?);
    if !gate::use_fit(distinct.len(), Some(most / least)).is_open() {
        return None;
    }
    let start = linear(points)?;
    let scales = [start[0], SCALES[0], SCALES[1]];
    let mut parameters = climb(points, start, scales);
    // What is within rounding of none would make up a peak far away.
    let weights = [1.0, most, most * most];
    for place in [1, 2] {
        if parameters[place] * weights[place] < NEGLIGIBLE {
            parameters[place] = 0.0;
        }
    }
    let law = Scalability::new(parameters[0], parameters[1], parameters[2])?;
    let (hessian, _, squares) = normal_equations(points, parameters, scales);
    // A parameter at its bound has no error to speak of, but the others keep theirs.
    let inverse = inverted(&hessian)?;
    let freedom = f64::from(u32::try_from(points.len()).ok()?) - 3.0;
    let mut errors = [0.0; 3];
    for (place, error) in errors.iter_mut().enumerate() {
        *error = (inverse[place][place] * squares / freedom).max(0.0).sqrt() * scales[place];
    }
    Some(Fit { law, errors, workers_max: most })
}

// === impl Fit ===

impl Fit {
    /// The number of workers beyond which throughput falls, when it is near enough to what was seen to be believed.
    #[must_use]
    pub fn credible_peak(&self) -> Option<f64> {
        self.law.peak().filter(|peak| *peak <= REACH * self.workers_max)
    }
}

/// The parameters that fit N/X best, which is linear in them.
fn linear(points: &[(f64, f64)]) -> Option<[f64; 3]> {
    let (mut matrix, mut right) = (Matrix::default(), [0.0; 3]);
    for (workers, throughput) in points {
        let row = [1.0, workers - 1.0, workers * (workers - 1.0)];
        accumulate(&mut matrix, &mut right, row, workers / throughput);
    }
    let found = inverted(&matrix).map(|inverse| product(&inverse, right));
    // When the line leaves the range of the law, the slowest worker is the start of one without contention.
    let inverse = found.map(|found| found[0]).filter(|inverse| *inverse > 0.0);
    let single = match inverse {
        Some(inverse) => 1.0 / inverse,
        None => points.iter().map(|(workers, throughput)| throughput / workers).fold(0.0, f64::max),
    };
    let found = found.unwrap_or_default();
    let parameters = [single, (found[1] * single).clamp(0.0, 1.0), (found[2] * single).clamp(0.0, 1.0)];
    parameters.iter().all(|parameter| parameter.is_finite()).then_some(parameters)
}

/// Levenberg–Marquardt; every step stays within the bounds and none makes the fit worse.
fn climb(points: &[(f64, f64)], start: [f64; 3], scales: [f64; 3]) -> [f64; 3] {
    let (mut best, mut damping) = (start, 1e-3);
    let (mut hessian, mut gradient, mut squares) = normal_equations(points, best, scales);
    for _ in 0..STEPS {
        let mut damped = hessian;
        for (place, row) in damped.iter_mut().enumerate() {
            row[place] += damping * row[place].max(1e-12);
        }
        let Some(inverse) = inverted(&damped) else { return best };
        let step = product(&inverse, gradient);
        let mut next = best;
        for place in 0..3 {
            let most = if place == 0 { f64::MAX } else { 1.0 };
            let least = if place == 0 { best[0] * 0.01 } else { 0.0 };
            next[place] = (best[place] + step[place] * scales[place]).clamp(least, most);
        }
        let found = normal_equations(points, next, scales);
        if found.2 < squares {
            let gain = squares - found.2;
            (hessian, gradient, squares) = found;
            best = next;
            damping = (damping * 0.3).max(1e-12);
            if gain <= 1e-15 * squares {
                break;
            }
        } else {
            damping *= 4.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    best
}

/// JᵀJ, Jᵀr and the sum of squares of the residuals, in scaled parameters.
fn normal_equations(points: &[(f64, f64)], [single, contention, coherence]: [f64; 3], scales: [f64; 3]) -> (Matrix, [f64; 3], f64) {
    let (mut matrix, mut right, mut squares) = (Matrix::default(), [0.0; 3], 0.0);
    for (workers, throughput) in points {
        let slowdown = 1.0 + contention * (workers - 1.0) + coherence * workers * (workers - 1.0);
        let model = single * workers / slowdown;
        let row = [
            scales[0] * workers / slowdown,
            -scales[1] * model * (workers - 1.0) / slowdown,
            -scales[2] * model * workers * (workers - 1.0) / slowdown,
        ];
        accumulate(&mut matrix, &mut right, row, throughput - model);
        squares += (throughput - model).powi(2);
    }
    (matrix, right, squares)
}

fn accumulate(matrix: &mut Matrix, right: &mut [f64; 3], row: [f64; 3], value: f64) {
    for i in 0..3 {
        for j in 0..3 {
            matrix[i][j] += row[i] * row[j];
        }
        right[i] += row[i] * value;
    }
}

/// The inverse by cofactors. `None` when there is none.
fn inverted(matrix: &Matrix) -> Option<Matrix> {
    let cofactor = |i: usize, j: usize| {
        let (a, b, c, d) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
        matrix[a][c] * matrix[b][d] - matrix[a][d] * matrix[b][c]
    };
    let determinant: f64 = (0..3).map(|j| matrix[0][j] * cofactor(0, j)).sum();
    if determinant.abs() <= f64::MIN_POSITIVE || !determinant.is_finite() {
        return None;
    }
    let mut inverse = Matrix::default();
    for (i, row) in inverse.iter_mut().enumerate() {
        for (j, value) in row.iter_mut().enumerate() {
            *value = cofactor(j, i) / determinant;
        }
    }
    Some(inverse)
}

fn product(matrix: &Matrix, vector: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKERS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
    /// Throughput of one worker, contention, coherence; throughputs; peak and throughput there, -1 where there is none.
    const EXACT: [([f64; 3], [f64; 7], f64, f64); 5] = [
        ([100.0, 0.0, 0.0], [100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0], -1.0, -1.0),
        ([100.0, 0.05, 0.0], [100.0, 190.476_19, 347.826_087, 592.592_593, 914.285_714, 1_254.901_961, 1_542.168_675], -1.0, 2000.0),
        (
            [100.0, 0.02, 0.0005],
            [100.0, 195.886_386, 375.234_522, 684.931_507, 1_126.760_563, 1_512.287_335, 1_496.725_912],
            44.271_887,
            1_568.089_081,
        ),
        (
            [1000.0, 0.1, 0.001],
            [1000.0, 1_814.882_033, 3_048.780_488, 4_555.808_656, 5_839.416_058, 6_284.367_636, 5_647.723_262],
            30.0,
            6_289.308_176,
        ),
        (
            [50.0, 0.001, 0.000_01],
            [50.0, 99.898_104, 199.377_941, 396.998_69, 786.318_066, 1_537.101_795, 2_900.337_164],
            316.069_613,
            6_838.642_803,
        ),
    ];

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found - expected).abs() <= relative * expected.abs(), "{found} is not {expected}");
    }

    /// Guarantees: laws without noise are recovered, with their peak and its throughput.
    #[test]
    fn exact_laws_are_recovered() {
        for ([single, contention, coherence], throughputs, peak, limit) in EXACT {
            let points: Vec<(f64, f64)> = WORKERS.into_iter().zip(throughputs).collect();
            let law = Scalability::new(single, contention, coherence).unwrap();
            for (workers, throughput) in &points {
                close(law.throughput(*workers), *throughput, 1e-8);
            }
            let found = fit(&points).unwrap();
            close(found.law.single, single, 1e-6);
            assert!((found.law.contention - contention).abs() < 1e-6, "{found:?}");
            assert!((found.law.coherence - coherence).abs() < 1e-8, "{found:?}");
            if peak > 0.0 {
                close(found.law.peak().unwrap(), peak, 1e-3);
                close(found.law.limit().unwrap(), limit, 1e-4);
            } else if limit > 0.0 {
                close(law.limit().unwrap(), limit, 1e-9);
            }
            assert_eq!(found.credible_peak().is_some(), (0.0..128.0).contains(&peak));
        }
    }

    /// Guarantees: the published measurements of a machine with many processors give the published parameters and errors.
    #[test]
    fn published_measurements() {
        let workers = [1.0, 18.0, 36.0, 72.0, 108.0, 144.0, 216.0];
        let throughputs = [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2];
        let points: Vec<(f64, f64)> = workers.into_iter().zip(throughputs).collect();
        let start = linear(&points).unwrap();
        assert!((start[0] - 78.3).abs() < 0.05 && (start[1] - 0.0244).abs() < 5e-5 && (start[2] - 8.1e-5).abs() < 5e-7, "{start:?}");
        let Fit { law, errors, .. } = fit(&points).unwrap();
        for (found, expected) in [
            (law.single, 89.995_197),
            (law.contention, 0.027_728_42),
            (law.coherence, 1.043_657_6e-4),
            (errors[0], 14.213_5),
            (errors[1], 0.009_121_8),
            (errors[2], 1.987_67e-5),
            (law.peak().unwrap(), 96.519),
            (law.limit().unwrap(), 1_883.899),
            (law.contention_limit().unwrap(), 3_245.59),
        ] {
            close(found, expected, 1e-4);
        }
    }

    /// Guarantees: too few or too similar points give no law, and senseless ones neither.
    #[test]
    fn thin_data_is_refused() {
        let line = |workers: &[f64]| -> Vec<(f64, f64)> { workers.iter().map(|workers| (*workers, 10.0 * workers)).collect() };
        assert_eq!(fit(&line(&[1.0, 2.0, 4.0, 8.0, 16.0])), None);
        assert_eq!(fit(&line(&[1.0, 1.0, 2.0, 2.0, 4.0, 8.0, 16.0])), None);
        assert_eq!(fit(&line(&[10.0, 11.0, 12.0, 13.0, 14.0, 15.0])), None);
        assert_eq!(fit(&[(1.0, f64::NAN); 8]), None);
        assert_eq!(fit(&[]), None);
    }
}
