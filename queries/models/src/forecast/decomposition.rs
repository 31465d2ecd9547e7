//! A series as a bent line and waves of a day and a week, fitted to all that is kept (after Taylor and Letham, 2018, without a sampler).
//!
//! On square roots: a straight trend with hinges whose bends are held small by a ridge, harmonics of day and week, and a step for
//! holidays. The newest hinge lies a week back, so the last trend is that of a week; forecasts damp it.

use super::calendar::Calendar;
use super::history::{DAYS_KEPT, History};

/// Harmonics of the day and of the week.
const DAILY: usize = 8;
const WEEKLY: usize = 5;
/// Hinges of the trend, a week apart.
const HINGES: usize = 3;
/// Columns: constant, trend, hinges, sines and cosines, holidays.
const WIDTH: usize = 2 + HINGES + 2 * (DAILY + WEEKLY) + 1;
/// Penalties per row: of trend and hinges, and of waves and holidays.
const TREND_PENALTY: f64 = 0.05;
const WAVE_PENALTY: f64 = 1e-3;
/// How often a day it is fitted anew.
const FITS_A_DAY: i64 = 4;
/// The most rows of a fit; longer histories are thinned out.
const ROWS_MAX: i64 = 1344;

/// A fitted decomposition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decomposition {
    coefficients: Option<[f64; WIDTH]>,
    /// The bucket that the trend is counted from.
    origin: i64,
}

// === impl Decomposition ===

impl Decomposition {
    /// Fits anew when a quarter of a day has passed.
    pub(super) fn observe(&mut self, history: &History, calendar: &Calendar, bucket: i64) {
        if bucket.rem_euclid((history.per_day / FITS_A_DAY).max(1)) == 0 && bucket != self.origin {
            self.fit(history, calendar, bucket);
        }
    }

    /// The number expected in a bucket, or not a number.
    pub(super) fn number(&self, history: &History, calendar: &Calendar, bucket: i64) -> f64 {
        let Some(coefficients) = &self.coefficients else { return f64::NAN };
        let row = columns(history, calendar, bucket, self.origin);
        let root: f64 = row.iter().zip(coefficients).map(|(column, coefficient)| column * coefficient).sum();
        root.clamp(0.0, f64::INFINITY).powi(2)
    }

    fn fit(&mut self, history: &History, calendar: &Calendar, bucket: i64) {
        let all = DAYS_KEPT * history.per_day;
        // A stride that has no divisor in common with the day meets every slot of it in turn.
        let stride = super::lead::rotating(all / ROWS_MAX, history.per_day);
        let mut products = vec![0.0; WIDTH * (WIDTH + 1) / 2];
        let (mut targets, mut rows) = ([0.0; WIDTH], 0.0);
        for back in (0..all).step_by(usize::try_from(stride).unwrap_or(1)) {
            let number = history.buckets.at(bucket - back);
            if number.is_nan() {
                continue;
            }
            let row = columns(history, calendar, bucket - back, bucket);
            let (root, mut at) = (number.sqrt(), 0);
            for first in 0..WIDTH {
                targets[first] += row[first] * root;
                for second in 0..=first {
                    products[at] += row[first] * row[second];
                    at += 1;
                }
            }
            rows += 1.0;
        }
        if rows < 4.0 * f64::from(u8::try_from(WIDTH).unwrap_or(u8::MAX)) {
            return;
        }
        for place in 1..WIDTH {
            let penalty = if place < 2 + HINGES { TREND_PENALTY } else { WAVE_PENALTY };
            products[place * (place + 3) / 2] += penalty * rows + 1e-9;
        }
        if let Some(coefficients) = super::ridge::cholesky(products, targets) {
            (self.coefficients, self.origin) = (Some(coefficients), bucket);
        }
    }
}

/// The columns of a bucket; the trend is counted in weeks from `origin` and ends half a day after it.
#[expect(clippy::cast_precision_loss, reason = "buckets of some weeks")]
fn columns(history: &History, calendar: &Calendar, bucket: i64, origin: i64) -> [f64; WIDTH] {
    let per_week = (7 * history.per_day) as f64;
    let ahead = ((bucket - origin) as f64 / per_week).min(0.5 / 7.0);
    let mut row = [0.0; WIDTH];
    (row[0], row[1]) = (1.0, ahead);
    for (hinge, column) in row[2..2 + HINGES].iter_mut().enumerate() {
        *column = (ahead + (hinge + 1) as f64).max(0.0);
    }
    let mut at = 2 + HINGES;
    for (harmonics, period) in [(DAILY, history.per_day), (WEEKLY, 7 * history.per_day)] {
        let turn = std::f64::consts::TAU * bucket.rem_euclid(period) as f64 / period as f64;
        for harmonic in 1..=harmonics {
            (row[at], row[at + 1]) = (harmonic as f64 * turn).sin_cos();
            at += 2;
        }
    }
    row[WIDTH - 1] = if calendar.is_holiday(bucket.div_euclid(history.per_day)) { 1.0 } else { 0.0 };
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: trend, day and week of a made series are found, and extended by a day.
    #[test]
    fn finds_trend_and_waves() {
        let (mut history, calendar, mut found) = (History::new(3600), Calendar::default(), Decomposition::default());
        let value = |hour: i32| {
            let turn = std::f64::consts::TAU * f64::from(hour) / 24.0;
            (20.0 + 0.005 * f64::from(hour) + 4.0 * turn.sin() + 2.0 * (turn / 7.0).cos()).powi(2)
        };
        assert!(found.number(&history, &calendar, 0).is_nan());
        for hour in 0..28 * 24 {
            history.observe(hour.into(), Some(value(hour)));
            found.observe(&history, &calendar, hour.into());
        }
        let last = 28 * 24 - 1;
        for ahead in [1, 6, 24] {
            let number = found.number(&history, &calendar, (last + ahead).into());
            assert!((number / value(last + ahead) - 1.0).abs() < 0.05, "{ahead}: {number} {}", value(last + ahead));
        }
    }
}
