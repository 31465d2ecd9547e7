//! The bounds that hold for a target at a time, from the policies of its rules and their schedules.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Guard, Reason};
use crate::policy::{Mode, RuleRef};
use crate::time::Timestamp;

/// Fewest and most replicas; `min <= max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
}

/// The bounds, and where each of them comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveBounds {
    /// The bounds.
    pub bounds: Bounds,
    /// Where the lower one comes from.
    pub min_from: Origin,
    /// Where the upper one comes from.
    pub max_from: Origin,
    /// The bounds as they were when they crossed; the lower one won.
    pub crossed: Option<(u32, u32)>,
}

/// Where a bound comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// True when a schedule sets it.
    pub scheduled: bool,
    /// The rule, and the schedule if there is one, for people.
    pub text: String,
}

/// The bounds that hold for the rules of one target at a time.
///
/// While a schedule is active, its bounds take the place of the policy's. Where several schedules, or several rules, set a
/// bound, the highest min and the lowest max hold; where these cross, the min holds. Without rules there are no bounds.
/// Rules that are off set none, and beside a rule that enforces those that only recommend set none either.
#[must_use]
pub fn effective_bounds(rules: &[RuleRef], now: Timestamp) -> EffectiveBounds {
    let mode = rules.iter().map(|rule| rule.mode).max().unwrap_or(Mode::Off);
    let none = Origin { scheduled: false, text: "no rule".to_owned() };
    let mut min = (0, none.clone());
    let mut max = (u32::MAX, none);
    for rule in rules.iter().filter(|rule| rule.mode == mode && mode != Mode::Off) {
        let (own_min, own_max) = of_rule(rule, now);
        if own_min.0 > min.0 || min.1.text == "no rule" {
            min = own_min;
        }
        if own_max.0 < max.0 || max.1.text == "no rule" {
            max = own_max;
        }
    }
    let crossed = (min.0 > max.0).then_some((min.0, max.0));
    let bounds = Bounds { min: min.0, max: max.0.max(min.0) };
    EffectiveBounds { bounds, min_from: min.1, max_from: max.1, crossed }
}

type Bound = (u32, Origin);

fn of_rule(rule: &RuleRef, now: Timestamp) -> (Bound, Bound) {
    let spec = rule.policy.spec();
    let own = Origin { scheduled: false, text: format!("rule {}", rule.name) };
    let (mut min, mut max): (Option<Bound>, Option<Bound>) = (None, None);
    for schedule in rule.policy.schedules().iter().filter(|schedule| schedule.is_active(now)) {
        let schedule = schedule.spec();
        let origin = || Origin { scheduled: true, text: format!("schedule {} of rule {}", schedule.name, rule.name) };
        if let Some(value) = schedule.min.filter(|value| min.as_ref().is_none_or(|(best, _)| value > best)) {
            min = Some((value, origin()));
        }
        if let Some(value) = schedule.max.filter(|value| max.as_ref().is_none_or(|(best, _)| value < best)) {
            max = Some((value, origin()));
        }
    }
    (min.unwrap_or_else(|| (spec.min, own.clone())), max.unwrap_or((spec.max, own)))
}

// === impl EffectiveBounds ===

impl EffectiveBounds {
    /// The value within the bounds, and the guard that moved it there.
    pub(super) fn clamp(&self, value: u32) -> (u32, Option<(Guard, Reason, String)>) {
        let Bounds { min, max } = self.bounds;
        let guard = |origin: &Origin| if origin.scheduled { Guard::Schedule } else { Guard::Bounds };
        if value < min {
            let reason = if self.min_from.scheduled { Reason::ScheduledMin } else { Reason::BelowMin };
            (min, Some((guard(&self.min_from), reason, format!("min {min} of {}", self.min_from.text))))
        } else if value > max {
            // A crossed max is not what was written: the min that won is what cuts.
            let origin = if self.crossed.is_some() { &self.min_from } else { &self.max_from };
            let reason = match (self.crossed, origin.scheduled) {
                (Some(_), _) => Reason::BoundsCrossed,
                (None, true) => Reason::ScheduledMax,
                (None, false) => Reason::AboveMax,
            };
            (max, Some((guard(origin), reason, format!("max {max} of {}", origin.text))))
        } else {
            (value, None)
        }
    }
}

// === impl Bounds ===

impl Bounds {
    /// True when the value is within.
    #[must_use]
    pub const fn contains(self, value: u32) -> bool {
        self.min <= value && value <= self.max
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.min, self.max)
    }
}
