//! Upper quantiles of one lead: given with forecasts, and judged when what was forecast has come.
//!
//! More often than models are judged, because every row counts for the high quantiles, and little is kept of each.

use std::collections::VecDeque;

use super::conformal::{Base, Conformal, LEVELS, Levels};
use super::history::History;
use super::lead::rotating;
use super::ring::narrow;

/// Seconds between two forecasts whose quantiles are judged, or a little more.
const SECONDS: i64 = 900;
/// Quantiles that wait for what comes: those of long leads are given more rarely, so that never more wait.
const WAITING: i64 = 144;
/// For how many days rows are kept, at most.
const DAYS: f64 = 28.0;

/// Quantiles and their record.
#[derive(Clone, Debug)]
pub(super) struct Ranges {
    /// Steps between two rows.
    period: i64,
    per_bucket: i64,
    waiting: VecDeque<Given>,
    conformal: Conformal,
}

/// Quantiles that wait for what comes.
#[derive(Clone, Debug)]
struct Given {
    target: i64,
    base: [f32; 2],
    uppers: [f32; LEVELS.len()],
    levels: Levels,
}

// === impl Ranges ===

impl Ranges {
    /// For a lead in steps, on a history.
    pub(super) fn new(steps: i64, history: &History) -> Self {
        let buckets = (SECONDS / history.bucket_seconds()).max(steps / (WAITING * history.per_bucket));
        let rotating = rotating(buckets, history.per_day);
        #[expect(clippy::cast_precision_loss, reason = "buckets of a day")]
        let per_day = history.per_day as f64 / rotating as f64;
        Self {
            period: history.per_bucket * rotating,
            per_bucket: history.per_bucket,
            waiting: VecDeque::new(),
            conformal: Conformal::new(DAYS, per_day),
        }
    }

    /// Whether quantiles given at this step are to be judged.
    pub(super) fn is_due(&self, step: i64) -> bool {
        step.rem_euclid(self.period) == self.per_bucket - 1
    }

    /// Takes what came at a step to judge the quantiles for it. What did not come, or is doubtful, judges nothing.
    pub(super) fn resolve(&mut self, step: i64, came: Option<f64>) {
        while self.waiting.front().is_some_and(|given| given.target <= step) {
            let Some(given) = self.waiting.pop_front() else { return };
            let Some(came) = came.filter(|_| given.target == step) else {
                self.conformal.forget(&given.levels);
                continue;
            };
            let [point, usual] = given.base.map(f64::from);
            let above = given.uppers.map(|upper| narrow(came) > upper);
            self.conformal.learn(Base { point, usual }, came, &given.levels, &above);
        }
    }

    /// Records the quantiles of a forecast for a step.
    pub(super) fn give(&mut self, target: i64, base: Base) {
        while self.waiting.back().is_some_and(|given| given.target >= target) {
            if let Some(given) = self.waiting.pop_back() {
                self.conformal.forget(&given.levels);
            }
        }
        let (uppers, levels) = self.conformal.give(base);
        self.waiting.push_back(Given { target, base: [narrow(base.point), narrow(base.usual)], uppers: uppers.map(narrow), levels });
    }

    /// The quantiles of a forecast.
    pub(super) fn uppers(&self, base: Base) -> [f64; LEVELS.len()] {
        self.conformal.uppers(base)
    }
}
