//! A series with its seasons, and where forecasts of it begin.

use crate::load::Series;

/// Seconds of an hour and of a day.
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;
/// Days over which errors are scaled.
const SCALE_DAYS: usize = 28;

/// A series and its steps per hour and day.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    pub(super) series: Series,
    /// Steps of an hour, at least one.
    pub(super) hour: usize,
    /// Steps of a day.
    pub(super) day: usize,
}

// === impl Recording ===

impl Recording {
    /// `None` when the step does not divide a day.
    pub(super) fn new(series: Series) -> Option<Self> {
        if series.step <= 0 || DAY % series.step != 0 {
            return None;
        }
        let steps = |seconds: i64| usize::try_from(seconds / series.step).ok();
        Some(Self { hour: steps(HOUR)?.max(1), day: steps(DAY)?, series })
    }

    /// The recording as if it had ended before the first origin of [`Self::hourly_origins`] and [`Self::daily_origins`].
    pub(super) fn before_judged(self) -> Self {
        let firsts = [self.hourly_origins().first().copied(), self.daily_origins().first().copied()];
        let end = firsts.into_iter().flatten().min().unwrap_or(0);
        Self { series: self.series.first(end), ..self }
    }

    pub(super) fn len(&self) -> usize {
        self.series.values.len()
    }

    pub(super) fn value(&self, place: usize) -> Option<f64> {
        self.series.values.get(place).copied().flatten()
    }

    /// The last number before a place.
    pub(super) fn last_before(&self, place: usize) -> Option<f64> {
        self.series.values.get(..place)?.iter().rev().find_map(|value| *value)
    }

    /// The newest number before `origin` that lies a multiple of `season` before `place`.
    pub(super) fn season_before(&self, place: usize, origin: usize, season: usize) -> Option<f64> {
        let first = (place + 1).saturating_sub(origin).div_ceil(season).max(1);
        (first..first + 4).find_map(|seasons| self.value(place.checked_sub(seasons * season)?))
    }

    /// Mean absolute error of the number of a day before, over the four weeks before a place.
    pub(super) fn scale(&self, origin: usize) -> Option<f64> {
        let first = origin.saturating_sub(SCALE_DAYS * self.day) + self.day;
        let errors = (first..origin).filter_map(|place| Some((self.value(place)? - self.value(place - self.day)?).abs()));
        let errors: Vec<f64> = errors.collect();
        super::mean(&errors)
    }

    /// Where forecasts of an hour begin: every hour of the last seven days.
    pub(super) fn hourly_origins(&self) -> Vec<usize> {
        let end = self.len();
        (1..=7 * 24).rev().filter_map(|hours| end.checked_sub(hours * self.hour)).filter(|origin| *origin > 0).collect()
    }

    /// Where forecasts of a day begin: every day of the last fourteen, and of at most the last third; twice a day for series of less
    /// than three weeks.
    pub(super) fn daily_origins(&self) -> Vec<usize> {
        let (end, short) = (self.len(), self.len() < 21 * self.day);
        let stride = if short { self.day / 2 } else { self.day };
        let first = end.saturating_sub((14 * self.day).min(end / 3));
        let mut origins = Vec::new();
        let mut origin = end.saturating_sub(self.day);
        while origin >= first && origin > 0 {
            origins.push(origin);
            origin = origin.saturating_sub(stride.max(1));
        }
        origins.reverse();
        origins
    }
}
