//! The hourly series of the M4 contest: 48 hours ahead, once per series.

use std::path::Path;

use serde::Serialize;
use tracescale_models::forecast::{Forecaster, Settings};

use super::{ForecastsError, mean, number};
use crate::load::{Contest, m4_hourly};

/// Seconds of an hour.
const HOUR: i64 = 3600;
/// Hours of a season.
const SEASON: usize = 24;
/// Hours ahead.
const AHEAD: i64 = 48;

/// Scores by the contest's measures, averaged over all series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContestScore {
    /// Number of series.
    pub series: usize,
    /// Ours: symmetric mean absolute percentage error, and mean absolute scaled error.
    pub ours: (f64, f64),
    /// The value of the season before.
    pub seasonal: (f64, f64),
    /// Share of the series where our scaled error is the smaller one.
    pub better: f64,
}

/// Scores all series.
pub(super) fn score(root: &Path) -> Result<ContestScore, ForecastsError> {
    let (mut ours, mut seasonal, mut better) = (Vec::new(), Vec::new(), 0);
    for contest in m4_hourly(root)? {
        let own = measure(&contest, &forecast(&contest)?);
        let naive = measure(&contest, &season(&contest));
        better += usize::from(own.1 < naive.1);
        ours.push(own);
        seasonal.push(naive);
    }
    Ok(ContestScore { series: ours.len(), ours: average(&ours), seasonal: average(&seasonal), better: number(better) / number(ours.len()) })
}

/// Our forecasts, from the given hours alone.
fn forecast(contest: &Contest) -> Result<Vec<f64>, ForecastsError> {
    let failed = |source| ForecastsError::Settings { step: HOUR, source };
    let mut forecaster = Forecaster::new(Settings::up_to(HOUR, AHEAD * HOUR)).map_err(failed)?;
    for (hour, value) in (0..).zip(&contest.given) {
        forecaster.observe(hour * HOUR, Some(*value));
    }
    Ok((1..=AHEAD).map(|hour| forecaster.forecast(hour * HOUR).map_or(f64::NAN, |forecast| forecast.point)).collect())
}

/// The last season, again and again.
fn season(contest: &Contest) -> Vec<f64> {
    let last = &contest.given[contest.given.len().saturating_sub(SEASON)..];
    last.iter().copied().cycle().take(contest.came.len()).collect()
}

/// The contest's measures: symmetric percentage error, and error over that of the season before within the given hours.
fn measure(contest: &Contest, forecasts: &[f64]) -> (f64, f64) {
    let pairs: Vec<(f64, f64)> = forecasts.iter().copied().zip(contest.came.iter().copied()).collect();
    let symmetric = |(forecast, came): &(f64, f64)| {
        let sum = forecast.abs() + came.abs();
        if sum > 0.0 { 200.0 * (forecast - came).abs() / sum } else { 0.0 }
    };
    let errors: Vec<f64> = pairs.iter().map(|(forecast, came)| (forecast - came).abs()).collect();
    let within: Vec<f64> = contest.given.windows(SEASON + 1).map(|hours| (hours[SEASON] - hours[0]).abs()).collect();
    let percentages: Vec<f64> = pairs.iter().map(symmetric).collect();
    (mean(&percentages).unwrap_or(f64::NAN), mean(&errors).unwrap_or(f64::NAN) / mean(&within).unwrap_or(f64::NAN))
}

fn average(scores: &[(f64, f64)]) -> (f64, f64) {
    let sum = scores.iter().fold((0.0, 0.0), |sum, score| (sum.0 + score.0, sum.1 + score.1));
    (sum.0 / number(scores.len()), sum.1 / number(scores.len()))
}
