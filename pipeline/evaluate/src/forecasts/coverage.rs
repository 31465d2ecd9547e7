//! How often what came was not above the upper quantiles.

use std::collections::VecDeque;

use serde::Serialize;
use tracescale_models::forecast::Forecaster;

use super::number;
use super::recording::Recording;

/// The quantiles that are watched.
const LEVELS: [f64; 3] = [0.9, 0.95, 0.99];
/// Days of origins from which on a share says something: surprises of a day come together.
const DAYS_ENOUGH: usize = 14;

/// Upper quantiles of one series at one lead.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// Which series.
    pub series: String,
    /// Length of a step, in seconds.
    pub step: i64,
    /// Lead, in seconds.
    pub lead: i64,
    /// Number of origins that were judged, one each quarter of an hour or step.
    pub origins: usize,
    /// Whether they span two weeks or more.
    pub enough: bool,
    /// Share of what came that was not above the quantiles .9, .95 and .99.
    pub covered: [f64; 3],
    /// Mean of each quantile over the mean of what came.
    pub width: [f64; 3],
    /// Mean pinball loss of each quantile over the mean of what came.
    pub pinball: [f64; 3],
}

/// Quantiles that wait for what comes. The first third of a recording is for learning.
pub(super) struct Watch {
    lead: i64,
    steps: usize,
    first: usize,
    stride: usize,
    waiting: VecDeque<(usize, [f64; 3])>,
    judged: usize,
    came: f64,
    below: [usize; 3],
    sums: [f64; 3],
    losses: [f64; 3],
}

// === impl Coverage ===

impl Coverage {
    /// By how much each share deviates from the name of its quantile.
    pub fn deviations(&self) -> [f64; 3] {
        std::array::from_fn(|place| self.covered[place] - LEVELS[place])
    }
}

// === impl Watch ===

impl Watch {
    pub(super) fn new(recording: &Recording, lead: i64) -> Self {
        let steps = usize::try_from(lead / recording.series.step).unwrap_or(1);
        Self {
            lead,
            steps,
            first: recording.len() / 3,
            stride: (recording.hour / 4).max(1),
            waiting: VecDeque::new(),
            judged: 0,
            came: 0.0,
            below: [0; 3],
            sums: [0.0; 3],
            losses: [0.0; 3],
        }
    }

    /// Asks for the quantiles after a place was seen.
    pub(super) fn ask(&mut self, place: usize, forecaster: &Forecaster) {
        if place < self.first || !place.is_multiple_of(self.stride) {
            return;
        }
        if let Some(forecast) = forecaster.forecast(self.lead) {
            self.waiting.push_back((place + self.steps, LEVELS.map(|level| forecast.upper(level).unwrap_or(f64::NAN))));
        }
    }

    /// Judges the quantiles that were given for a place.
    pub(super) fn judge(&mut self, place: usize, came: Option<f64>) {
        while self.waiting.front().is_some_and(|(target, _)| *target <= place) {
            let Some((_, uppers)) = self.waiting.pop_front() else { return };
            let Some(came) = came else { continue };
            self.judged += 1;
            self.came += came;
            for (level, upper) in uppers.iter().enumerate() {
                self.below[level] += usize::from(came <= *upper);
                self.sums[level] += upper;
                let above = came - upper;
                self.losses[level] += f64::max(LEVELS[level] * above, (LEVELS[level] - 1.0) * above);
            }
        }
    }

    pub(super) fn finish(self, recording: &Recording) -> Coverage {
        Coverage {
            series: recording.series.name.clone(),
            step: recording.series.step,
            lead: self.lead,
            origins: self.judged,
            enough: self.judged * self.stride >= DAYS_ENOUGH * recording.day,
            covered: self.below.map(|below| number(below) / number(self.judged)),
            width: self.sums.map(|sum| sum / self.came),
            pinball: self.losses.map(|loss| loss / self.came),
        }
    }
}
