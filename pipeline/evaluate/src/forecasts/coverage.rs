//! How often what came was not above the upper quantiles.

use std::collections::VecDeque;

use serde::Serialize;
use tracescale_models::forecast::Forecaster;
use tracescale_simulate::random::{Purpose, Stream};

use super::number;
use super::recording::Recording;

/// The quantiles that are watched.
const LEVELS: [f64; 3] = [0.9, 0.95, 0.99];
/// Days of origins from which on a share says something: surprises of a day come together.
const DAYS_ENOUGH: usize = 14;

/// How often days are drawn anew to see what chance does.
const DRAWS: u32 = 2_000;
/// How far a share may be from the name of its quantile.
pub(super) const TOLERANCE: f64 = 0.015;

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
    /// Probability that a share is within 1.5 points of its own mean when days are drawn from those that were judged: that quantiles
    /// which are right on average pass, with surprises that come together on a day as these do.
    pub by_chance: [f64; 3],
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
    /// Steps of a day, and of each day that was judged how many origins, and how many of them were below.
    day: usize,
    days: Vec<(usize, [usize; 3])>,
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
            day: recording.day,
            days: vec![(0, [0; 3]); recording.len() / recording.day + 1],
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
            let day = self.days.get_mut(place / self.day);
            let below = uppers.map(|upper| usize::from(came <= upper));
            if let Some((judged, sums)) = day {
                *judged += 1;
                sums.iter_mut().zip(below).for_each(|(sum, below)| *sum += below);
            }
            for (level, upper) in uppers.iter().enumerate() {
                self.below[level] += below[level];
                self.sums[level] += upper;
                let above = came - upper;
                self.losses[level] += f64::max(LEVELS[level] * above, (LEVELS[level] - 1.0) * above);
            }
        }
    }

    /// Origins of each judged day, and how many were not above a quantile.
    fn days_of(&self, level: usize) -> Vec<(usize, usize)> {
        self.days.iter().filter(|(judged, _)| *judged > 0).map(|(judged, below)| (*judged, below[level])).collect()
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
            by_chance: std::array::from_fn(|level| by_chance(&self.days_of(level))),
        }
    }
}

/// Probability that a share is within the tolerance of its own mean, from so many origins and of these so many below on each day,
/// when days are drawn from these (the bootstrap, Efron 1979, in blocks of a day).
pub(super) fn by_chance(days: &[(usize, usize)]) -> f64 {
    let share = |days: &mut dyn Iterator<Item = &(usize, usize)>| {
        let (judged, below) = days.fold((0, 0), |sums, day| (sums.0 + day.0, sums.1 + day.1));
        number(below) / number(judged)
    };
    let mean = share(&mut days.iter());
    let mut random = Stream::new(0, 0, Purpose::Load);
    let most = u32::try_from(days.len()).unwrap_or(u32::MAX);
    let mut draw = || days.get(usize::try_from(random.below(most)).unwrap_or_default());
    let mut is_within = || (share(&mut (0..days.len()).filter_map(|_| draw())) - mean).abs() <= TOLERANCE;
    f64::from((0..DRAWS).map(|_| u32::from(is_within())).sum::<u32>()) / f64::from(DRAWS)
}
