//! Knobs of the model, learned: every hour one of 27 settings, weighed by what each would have cost before.
//!
//! Demand does not depend on what is scaled, so the cost of every setting is known by replay, and nothing has to be explored on
//! anybody's service: exponential weights over full information (Freund and Schapire, 1997), one set per quarter of the day. The
//! learner only turns knobs of the planner and of one guard; its orders pass the same decider as everybody's. It is off unless
//! somebody builds it, and it is judged in the simulator only.

mod cost;

use std::time::Duration;

use tracescale_core::time::Timestamp;

use crate::modelled::{Modelled, ModelledError};
use crate::policy::{Policy, Telemetry};
use crate::random::Stream;

pub use cost::hourly_costs;

/// Number of settings.
pub const ARMS: usize = 27;
/// Situations that are told apart: quarters of the day.
pub const CONTEXTS: usize = 4;
/// Quantiles of the peak to cover.
const QUANTILES: [f64; 3] = [0.9, 0.95, 0.99];
/// Minutes for which a lower number must be wanted.
const STABILIZATIONS: [u64; 3] = [3, 10, 30];
/// Highest utilizations.
const UTILIZATIONS: [f64; 3] = [0.7, 0.8, 0.85];
/// How long a setting holds.
const HOUR: Duration = Duration::from_secs(3600);
/// Seconds of a quarter of the day.
const QUARTER: i64 = 21_600;

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arm {
    /// Quantile of the peak to cover.
    pub quantile: f64,
    /// How long a lower number must be wanted.
    pub stabilization: Duration,
    /// Highest utilization.
    pub utilization_max: f64,
}

/// Exponential weights over the settings, by situation.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedge {
    rate: f64,
    /// Logarithms of the weights.
    weights: [[f64; ARMS]; CONTEXTS],
}

/// How a setting is taken from the weights.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Always this one; for replay, and as the calibrated rule.
    Fixed(Arm),
    /// The one with the largest weight.
    Best(Hedge),
    /// One at random by the weights.
    Drawn(Hedge, Stream),
}

/// A model-based autoscaler whose knobs are turned every hour.
#[derive(Clone, Debug)]
pub struct Learned {
    inner: Modelled,
    choice: Choice,
    bounds: (u32, u32),
    until: Option<Timestamp>,
}

// === impl Arm ===

impl Arm {
    /// The setting at a place from 0 to 26; the last one beyond.
    #[must_use]
    pub fn at(place: usize) -> Self {
        let place = place.min(ARMS - 1);
        Self {
            quantile: QUANTILES[place / 9],
            stabilization: Duration::from_secs(60 * STABILIZATIONS[place / 3 % 3]),
            utilization_max: UTILIZATIONS[place % 3],
        }
    }
}

// === impl Hedge ===

impl Hedge {
    /// Equal weights, to be learned from about so many hours per situation: the rate that bounds regret best.
    #[must_use]
    pub fn new(hours: u32) -> Self {
        let arms = f64::from(crate::number::index(ARMS));
        Self { rate: (8.0 * arms.ln() / f64::from(hours.max(1))).sqrt(), weights: [[0.0; ARMS]; CONTEXTS] }
    }

    /// The situation at a time.
    #[must_use]
    pub fn context(at: Timestamp) -> usize {
        let quarter = at.as_nanos().div_euclid(1_000_000_000 * QUARTER).rem_euclid(4);
        usize::try_from(quarter).unwrap_or(0)
    }

    /// Learns what every setting cost in an hour. Costs count relative to the spread between the best and the worst.
    pub fn learn(&mut self, context: usize, costs: &[f64; ARMS]) {
        let (least, most) = costs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), cost| (low.min(*cost), high.max(*cost)));
        let Some(weights) = self.weights.get_mut(context).filter(|_| most > least && (most - least).is_finite()) else { return };
        for (weight, cost) in weights.iter_mut().zip(costs) {
            *weight -= self.rate * (cost - least) / (most - least);
        }
    }

    /// Probability of every setting in a situation.
    #[must_use]
    pub fn probabilities(&self, context: usize) -> [f64; ARMS] {
        let weights = self.weights.get(context).unwrap_or(&[0.0; ARMS]);
        let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = weights.iter().map(|weight| (weight - most).exp()).sum();
        weights.map(|weight| (weight - most).exp() / total)
    }

    /// Place of the setting with the largest weight; the most careful of equal ones.
    #[must_use]
    pub fn best(&self, context: usize) -> usize {
        let probabilities = self.probabilities(context);
        (0..ARMS).max_by(|left, right| probabilities[*left].total_cmp(&probabilities[*right])).unwrap_or(0)
    }

    /// Place of a setting drawn by the weights.
    pub fn draw(&self, context: usize, stream: &mut Stream) -> usize {
        let mut left = stream.share();
        let probabilities = self.probabilities(context);
        let found = probabilities.iter().position(|probability| {
            left -= probability;
            left <= 0.0
        });
        found.unwrap_or(ARMS - 1)
    }
}

// === impl Learned ===

impl Learned {
    /// Turns the knobs of `inner`, whose bounds stay `min` and `max`.
    #[must_use]
    pub fn new(inner: Modelled, choice: Choice, (min, max): (u32, u32)) -> Self {
        Self { inner, choice, bounds: (min, max), until: None }
    }

    fn turn(&mut self, now: Timestamp) -> Result<(), ModelledError> {
        let context = Hedge::context(now);
        let arm = match &mut self.choice {
            Choice::Fixed(arm) => *arm,
            Choice::Best(hedge) => Arm::at(hedge.best(context)),
            Choice::Drawn(hedge, stream) => Arm::at(hedge.draw(context, stream)),
        };
        let mut document = Modelled::document(self.bounds.0, self.bounds.1);
        document.scale_down.stabilization_window = arm.stabilization;
        self.inner.set_document(document)?;
        let planner = self.inner.planner_mut();
        planner.set_quantile(Some(arm.quantile));
        planner.set_utilization_max(arm.utilization_max);
        Ok(())
    }
}

impl Policy for Learned {
    fn name(&self) -> String {
        "learned".to_owned()
    }

    fn interval(&self) -> Duration {
        self.inner.interval()
    }

    fn tick(&mut self, now: Timestamp, seen: &Telemetry) -> Option<u32> {
        if self.until.is_none_or(|until| now >= until) {
            self.until = Some(now.floor(HOUR) + HOUR);
            // Guards that cannot be set leave those of the last hour, and nothing is ordered now.
            self.turn(now).ok()?;
        }
        self.inner.tick(now, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    /// Guarantees: 27 different settings, and situations that change every six hours.
    #[test]
    fn settings_and_situations() {
        let arms: Vec<Arm> = (0..ARMS).map(Arm::at).collect();
        assert!((0..ARMS).all(|place| !arms[..place].contains(&arms[place])));
        assert_eq!(arms[26], Arm { quantile: 0.99, stabilization: Duration::from_secs(1800), utilization_max: 0.85 });
        let contexts = [0, 21_599, 21_600, 86_399, 86_400].map(|second| Hedge::context(Timestamp::from_secs(second)));
        assert_eq!(contexts, [0, 0, 1, 3, 0]);
    }

    /// Guarantees: the regret against the best setting in hindsight stays within the known bound of exponential weights, also
    /// when the best one changes in the middle; other situations learn nothing from it.
    #[test]
    fn regret_is_bounded() {
        let hours = 400;
        let mut hedge = Hedge::new(hours);
        let (mut own, mut totals) = (0.0, [0.0; ARMS]);
        let mut stream = Stream::new(1, 0, Purpose::Load);
        for hour in 0..hours {
            let good = if hour < 200 { 3 } else { 20 };
            let mut costs = [0.0; ARMS].map(|_: f64| 0.5 + 0.5 * stream.share());
            (costs[good], costs[0], costs[1]) = (0.2, 0.0, 1.0);
            if hour % 2 == 0 {
                (costs[0], costs[1]) = (1.0, 0.0);
            }
            own += hedge.probabilities(1).iter().zip(&costs).map(|(probability, cost)| probability * cost).sum::<f64>();
            totals.iter_mut().zip(&costs).for_each(|(total, cost)| *total += cost);
            hedge.learn(1, &costs);
        }
        let best = totals.iter().copied().fold(f64::INFINITY, f64::min);
        let bound = (f64::from(hours) * 27.0_f64.ln() / 2.0).sqrt();
        assert!(own - best <= bound, "{own} {best} {bound}");
        assert!(hedge.probabilities(0).iter().all(|probability| (probability - 1.0 / 27.0).abs() < 1e-12));
    }

    /// Guarantees: the best setting is the one that cost least; draws follow the weights; equal and senseless costs teach nothing.
    #[test]
    fn learns_and_draws() {
        let mut hedge = Hedge::new(8);
        hedge.learn(0, &[1.0; ARMS]);
        hedge.learn(0, &[f64::NAN; ARMS]);
        assert_eq!(hedge, Hedge::new(8));
        let mut costs = [1.0; ARMS];
        costs[5] = 0.0;
        (0..8).for_each(|_| hedge.learn(0, &costs));
        let mut stream = Stream::new(2, 0, Purpose::Load);
        let drawn = (0..1000).filter(|_| hedge.draw(0, &mut stream) == 5).count();
        assert!(hedge.best(0) == 5 && drawn > 990, "{drawn}");
    }
}
