//! All that is known about forecasts of one lead: what was issued, how it did, and what follows for the next.

use std::collections::VecDeque;

use super::calendar::Calendar;
use super::candidates::{CANDIDATES, Numbers, Origin, RIDGE, Smoothers};
use super::conformal::{Conformal, LEVELS};
use super::history::History;
use super::ridge::{INPUTS, Ridge};
use super::ring::narrow;
use super::scores::{Choice, Scores};

/// Forecasts that wait for what comes: those of long leads are issued more rarely, so that never more wait.
const WAITING: i64 = 24;
/// For how long a score, and a row of the ridge, counts: its weight falls to 1/e in so many days.
const SCORE_DAYS: f64 = 10.0;
const RIDGE_DAYS: f64 = 21.0;
/// For how many days ratios are kept.
const RATIO_DAYS: i64 = 14;
/// Rows of the ridge between two solutions.
const SOLVE_EVERY: u32 = 24;
/// Forecasts count as at least this share of the typical number when ratios are formed.
pub(super) const FLOOR: f64 = 0.02;
/// Bounds of ratios.
const RATIO_BOUNDS: (f64, f64) = (0.0, 20.0);

/// A lead and its record.
#[derive(Clone, Debug)]
pub(super) struct Lead {
    /// In steps.
    pub(super) steps: i64,
    /// Steps between two recorded forecasts.
    period: i64,
    waiting: VecDeque<Issued>,
    pub(super) scores: Scores,
    ridge: Ridge,
    rows_since: u32,
    pub(super) conformal: Conformal,
    score_memory: f64,
    ridge_memory: f64,
}

/// A forecast that waits for what comes.
#[derive(Clone, Debug)]
struct Issued {
    target: i64,
    numbers: Numbers,
    combined: [f32; 2],
    inputs: Option<(f64, [f32; INPUTS])>,
    point: f64,
    floor: f64,
    uppers: [f64; LEVELS.len()],
}

/// What all candidates say, and which is believed.
#[derive(Clone, Debug)]
pub(super) struct Opinion {
    pub(super) numbers: Numbers,
    pub(super) combined: [f32; 2],
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
}

// === impl Lead ===

impl Lead {
    /// For a lead in steps, on a history.
    pub(super) fn new(steps: i64, history: &History) -> Self {
        let per_day = history.per_day * history.per_bucket;
        let period = history.per_bucket.max(steps / WAITING).min(per_day);
        #[expect(clippy::cast_precision_loss, reason = "steps of a day")]
        let per_row = period as f64 / per_day as f64;
        Self {
            steps,
            period,
            waiting: VecDeque::new(),
            scores: Scores::new(),
            ridge: Ridge::new(),
            rows_since: 0,
            conformal: Conformal::new(usize::try_from(RATIO_DAYS * per_day / period).unwrap_or(1)),
            score_memory: (-per_row / SCORE_DAYS).exp(),
            ridge_memory: (-per_row / RIDGE_DAYS).exp(),
        }
    }

    /// Whether a forecast of this step is to be recorded.
    pub(super) fn is_due(&self, step: i64) -> bool {
        step.rem_euclid(self.period) == self.period - 1
    }

    /// Takes what came at a step to judge the forecasts that were issued for it. What did not come judges nothing.
    pub(super) fn resolve(&mut self, step: i64, came: Option<f64>) {
        while self.waiting.front().is_some_and(|issued| issued.target <= step) {
            let Some(issued) = self.waiting.pop_front() else { return };
            if let Some(came) = came.filter(|_| issued.target == step) {
                self.learn(&issued, came);
            }
        }
    }

    /// Records a forecast.
    pub(super) fn issue(&mut self, origin: &Origin, sight: Sight<'_>) {
        let target = origin.now + self.steps;
        let Some(opinion) = self.opinion(origin, sight, self.steps) else { return };
        let floor = FLOOR * origin.typical;
        let base = opinion.choice.point.max(floor);
        let uppers = self.conformal.ratios().map(|ratio| base * ratio);
        let Opinion { numbers, combined, choice, inputs } = opinion;
        while self.waiting.back().is_some_and(|issued| issued.target >= target) {
            self.waiting.pop_back();
        }
        self.waiting.push_back(Issued { target, numbers, combined, inputs, point: choice.point, floor, uppers });
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
        let combined = self.scores.combine(&numbers, sight.seasonal);
        let choice = self.scores.choose(&numbers, &combined, sight.seasonal)?;
        Some(Opinion { numbers, combined, choice, inputs })
    }

    fn learn(&mut self, issued: &Issued, came: f64) {
        self.scores.learn(&issued.numbers, &issued.combined, came, self.score_memory);
        if let Some((base, inputs)) = &issued.inputs {
            self.ridge.learn(inputs, came.clamp(0.0, f64::INFINITY).sqrt() - base, self.ridge_memory);
            self.rows_since += 1;
            if self.rows_since >= SOLVE_EVERY {
                self.rows_since = 0;
                self.ridge.solve();
            }
        }
        let base = issued.point.max(issued.floor);
        let ratio = if base > 0.0 {
            came / base
        } else if came > 0.0 {
            RATIO_BOUNDS.1
        } else {
            1.0
        };
        let above = issued.uppers.map(|upper| came > upper);
        self.conformal.learn(ratio.clamp(RATIO_BOUNDS.0, RATIO_BOUNDS.1), &above);
    }
}
