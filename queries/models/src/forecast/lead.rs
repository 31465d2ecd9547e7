//! All that is known about forecasts of one lead: what was issued, how it did, and what follows for the next.

use std::collections::VecDeque;

use super::calendar::Calendar;
#[cfg(feature = "heavy")]
use super::candidates::NETWORK;
use super::candidates::{CANDIDATES, DAY_AGO, Numbers, Origin, RIDGE, Smoothers, WEEK_AGO, beyond_shift, seasonless};
use super::conformal::Base;
use super::history::History;
#[cfg(feature = "heavy")]
use super::network::{Network, ROW, Row};
use super::ranges::Ranges;
use super::ridge::{INPUTS, Ridge};
use super::ring::narrow;
use super::scores::{Choice, Scores};
use super::shift;

/// Forecasts that wait for what comes: those of long leads are issued more rarely, so that never more wait.
const WAITING: i64 = 24;
/// For how long a score, and a row of the ridge, counts: its weight falls to 1/e in so many days. A week holds every weekday once.
const SCORE_DAYS: f64 = 7.0;
const RIDGE_DAYS: f64 = 21.0;
/// A series has a season when the number of a day or a week ago errs less than this share of what the last one does.
const SEASONAL: f64 = 0.75;
/// Rows of the ridge between two solutions.
const SOLVE_EVERY: u32 = 24;

/// A lead and its record.
#[derive(Clone, Debug)]
pub(super) struct Lead {
    /// In steps.
    pub(super) steps: i64,
    /// Steps between two recorded forecasts.
    period: i64,
    per_bucket: i64,
    waiting: VecDeque<Issued>,
    pub(super) scores: Scores,
    ridge: Ridge,
    rows_since: u32,
    #[cfg(feature = "heavy")]
    network: Network,
    pub(super) ranges: Ranges,
    score_memory: f64,
    ridge_memory: f64,
}

/// A forecast that waits for what comes.
#[derive(Clone, Debug)]
struct Issued {
    target: i64,
    numbers: Numbers,
    combined: f32,
    inputs: Option<(f64, [f32; INPUTS])>,
    #[cfg(feature = "heavy")]
    row: Row,
}

/// What all candidates say, and which is believed.
#[derive(Clone, Debug)]
pub(super) struct Opinion {
    pub(super) numbers: Numbers,
    pub(super) combined: f32,
    pub(super) choice: Choice,
    inputs: Option<(f64, [f32; INPUTS])>,
}

/// What is needed to form an opinion.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) history: &'a History,
    pub(super) calendar: &'a Calendar,
    pub(super) smoothers: &'a Smoothers,
    /// Whether models of the season may be believed.
    pub(super) seasonal: bool,
    /// Since when the series is on a level that the days before do not explain.
    pub(super) shifted: Option<i64>,
    /// Whether the newest number is a zero that is more likely lost data: quantiles learn nothing from it.
    pub(super) doubtful: bool,
}

// === impl Sight ===

impl Sight<'_> {
    /// The candidates that may be believed for a lead in steps, as bits by place.
    fn believed(&self, now: i64, lead: i64) -> u128 {
        let all = if self.seasonal { u128::MAX } else { seasonless() };
        let shifted = self.shifted.filter(|_| lead * self.history.step >= shift::SUSTAINED_SECONDS);
        all & shifted.map_or(u128::MAX, |since| beyond_shift(self.history, now, lead, since))
    }
}

// === impl Lead ===

impl Lead {
    /// For a lead in steps, on a history.
    pub(super) fn new(steps: i64, history: &History) -> Self {
        let per_day = history.per_day * history.per_bucket;
        let period = history.per_bucket * rotating(steps / (WAITING * history.per_bucket), history.per_day);
        #[expect(clippy::cast_precision_loss, reason = "steps of a day")]
        let per_row = period as f64 / per_day as f64;
        Self {
            steps,
            period,
            per_bucket: history.per_bucket,
            waiting: VecDeque::new(),
            scores: Scores::new(),
            ridge: Ridge::new(),
            rows_since: 0,
            #[cfg(feature = "heavy")]
            network: Network::new(u64::try_from(steps).unwrap_or(0)),
            ranges: Ranges::new(steps, history),
            score_memory: (-per_row / SCORE_DAYS).exp(),
            ridge_memory: (-per_row / RIDGE_DAYS).exp(),
        }
    }

    /// Whether a forecast of this step is to be recorded.
    pub(super) fn is_due(&self, step: i64) -> bool {
        self.is_row(step) || self.ranges.is_due(step)
    }

    fn is_row(&self, step: i64) -> bool {
        step.rem_euclid(self.period) == self.per_bucket - 1
    }

    /// Takes what came at a step to judge the forecasts that were issued for it. What did not come judges nothing.
    pub(super) fn resolve(&mut self, step: i64, came: Option<f64>, doubtful: bool, shifted: Option<i64>) {
        self.ranges.resolve(step, came.filter(|_| !doubtful));
        while self.waiting.front().is_some_and(|issued| issued.target <= step) {
            let Some(issued) = self.waiting.pop_front() else { return };
            if let Some(came) = came.filter(|_| issued.target == step) {
                let surprised = shifted.is_some_and(|since| (issued.target - self.steps < since) && since <= issued.target);
                self.learn(&issued, came, surprised);
            }
        }
    }

    /// Records a forecast.
    pub(super) fn issue(&mut self, origin: &Origin, sight: Sight<'_>) {
        let target = origin.now + self.steps;
        let Some(opinion) = self.opinion(origin, sight, self.steps) else { return };
        if self.ranges.is_due(origin.now) && !sight.doubtful {
            self.ranges.give(target, Base { point: opinion.choice.point, usual: origin.typical });
        }
        if !self.is_row(origin.now) {
            return;
        }
        let Opinion { numbers, combined, inputs, .. } = opinion;
        while self.waiting.back().is_some_and(|issued| issued.target >= target) {
            self.waiting.pop_back();
        }
        #[cfg(feature = "heavy")]
        let row = inputs.map_or([0.0; ROW], |(_, inputs)| row(&inputs, sight.history, target));
        self.waiting.push_back(Issued {
            target,
            numbers,
            combined,
            inputs,
            #[cfg(feature = "heavy")]
            row,
        });
    }

    /// What is forecast for a lead at or near the own, in steps. `None` when nothing was ever observed.
    pub(super) fn opinion(&self, origin: &Origin, sight: Sight<'_>, steps: i64) -> Option<Opinion> {
        let mut numbers = [f32::NAN; CANDIDATES];
        let inputs = origin.forecast(sight.history, sight.calendar, sight.smoothers, steps, &mut numbers);
        if let Some((base, inputs)) = &inputs
            && let Some(deviation) = self.ridge.predict(inputs)
        {
            let root = (base + deviation).clamp(0.0, f64::INFINITY);
            numbers[RIDGE] = narrow(root * root);
        }
        #[cfg(feature = "heavy")]
        self.ask_network(origin, sight.history, steps, inputs.as_ref(), &mut numbers);
        let believed = sight.believed(origin.now, steps);
        let combined = self.scores.combine(&numbers, believed);
        let choice = self.scores.choose(&numbers, combined, believed)?;
        Some(Opinion { numbers, combined, choice, inputs })
    }

    /// Whether the season tells much more of this lead than the last value does.
    pub(super) fn is_seasonal(&self) -> bool {
        [DAY_AGO, WEEK_AGO].into_iter().any(|place| self.scores.loss(place) < SEASONAL)
    }

    #[cfg(feature = "heavy")]
    fn ask_network(&self, origin: &Origin, history: &History, steps: i64, inputs: Option<&(f64, [f32; INPUTS])>, numbers: &mut Numbers) {
        let Some((base, inputs)) = inputs else { return };
        if let Some(deviation) = self.network.predict(&row(inputs, history, origin.now + steps)) {
            numbers[NETWORK] = narrow((base + deviation).clamp(0.0, f64::INFINITY).powi(2));
        }
    }

    /// Forecasts that were issued before a shift for a time after it tell nothing about those that know of it: only the quantiles learn.
    fn learn(&mut self, issued: &Issued, came: f64, surprised: bool) {
        if !surprised {
            self.scores.learn(&issued.numbers, issued.combined, came, self.score_memory);
        }
        if let Some((base, inputs)) = issued.inputs.as_ref().filter(|_| !surprised) {
            self.ridge.learn(inputs, came.clamp(0.0, f64::INFINITY).sqrt() - base, self.ridge_memory);
            #[cfg(feature = "heavy")]
            self.network.learn(issued.row, came.clamp(0.0, f64::INFINITY).sqrt() - base);
            self.rows_since += 1;
            if self.rows_since >= SOLVE_EVERY {
                self.rows_since = 0;
                self.ridge.solve();
            }
        }
    }
}

/// The least number of buckets from `least` on that has no divisor in common with those of a day, so that forecasts recorded at this
/// distance meet every time of the day: a saw-tooth of an hour would look flat to one a whole hour.
pub(super) fn rotating(least: i64, per_day: i64) -> i64 {
    (least.max(1)..per_day).find(|buckets| common_divisor(*buckets, per_day) == 1).unwrap_or(1)
}

fn common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Inputs of the network for a target.
#[cfg(feature = "heavy")]
#[expect(clippy::cast_precision_loss, reason = "slots of a week")]
fn row(inputs: &[f32; INPUTS], history: &History, target: i64) -> Row {
    let day = history.slot(target) as f64 / history.per_day as f64;
    Network::row(inputs, day, (history.day(target).rem_euclid(7) as f64 + day) / 7.0)
}
