//! The arithmetic of the HPA's guards, to its rounding: tolerance, stabilization and rate limits.

use std::time::Duration;

use super::{Recommendation, ScaleEvent};
use crate::policy::{DirectionSpec, Policy, RateKind, SelectPolicy};
use crate::time::Timestamp;

/// True when the demand is so close to the current capacity that nothing is to be done: `1 - down <= demand / current <= 1 + up`.
/// Without capacity there is nothing to compare with.
#[must_use]
pub(super) fn is_tolerated(demand: f64, current: u32, up: f64, down: f64) -> bool {
    let ratio = demand / f64::from(current);
    current > 0 && 1.0 - down <= ratio && ratio <= 1.0 + up
}

/// Replicas for a demand: rounded up, but not for the noise of floating-point arithmetic (one part in 10⁹).
#[must_use]
pub(super) fn round_up(demand: f64) -> u32 {
    saturated((demand - demand * 1e-9).ceil())
}

/// Stabilizes a recommendation as the HPA does: up to the smallest of the up window, down to the largest of the down window,
/// else the current capacity. `history` must not hold the recommendation itself.
#[must_use]
pub fn stabilize(now: Timestamp, current: u32, raw: u32, history: &[Recommendation], up: Duration, down: Duration) -> u32 {
    let within = |window: Duration| history.iter().filter(move |one| one.at > now - window).map(|one| one.replicas);
    let least = within(up).fold(raw, u32::min);
    let most = within(down).fold(raw, u32::max);
    current.max(least).min(most)
}

/// Limits the rate of change as the HPA does. `events` are the changes that were carried out. Percentages round in favour of
/// the change: up on the way up, and down on the way down. One difference: from zero replicas, a percentage allows one.
#[must_use]
pub fn rate_limit(now: Timestamp, current: u32, wanted: u32, events: &[ScaleEvent], policy: &Policy) -> u32 {
    let spec = policy.spec();
    if wanted > current {
        let limit = limit(now, current, events, &spec.scale_up, Way::Up);
        wanted.min(limit.max(current))
    } else if wanted < current {
        let limit = limit(now, current, events, &spec.scale_down, Way::Down);
        wanted.max(limit.min(current))
    } else {
        wanted
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// The farthest capacity that the policies of a direction allow.
fn limit(now: Timestamp, current: u32, events: &[ScaleEvent], direction: &DirectionSpec, way: Way) -> u32 {
    let free = if way == Way::Up { u32::MAX } else { 0 };
    let limits = direction.policies.iter().map(|policy| {
        // Where the period started: what was added since is taken off, what was removed is put back.
        let changed: i64 = events.iter().filter(|event| event.at > now - policy.period).map(|event| event.change).sum();
        let start = (i64::from(current) - changed).max(0);
        let value = i64::from(policy.value);
        match (policy.kind, way) {
            (RateKind::Pods, Way::Up) => clamped(start + value),
            (RateKind::Pods, Way::Down) => clamped(start - value),
            (RateKind::Percent, Way::Up) if start == 0 => 1,
            (RateKind::Percent, Way::Up) => saturated((exact(start) * (1.0 + exact(value) / 100.0)).ceil()),
            (RateKind::Percent, Way::Down) => saturated((exact(start) * (1.0 - exact(value) / 100.0)).trunc()),
        }
    });
    match (direction.select_policy, way) {
        (SelectPolicy::Disabled, _) => current,
        (SelectPolicy::Max, Way::Up) | (SelectPolicy::Min, Way::Down) => limits.max().unwrap_or(free),
        (SelectPolicy::Min, Way::Up) | (SelectPolicy::Max, Way::Down) => limits.min().unwrap_or(free),
    }
}

fn clamped(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

/// Replica counts and percentages are far below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "sums of 32-bit numbers are exact in a double")]
fn exact(value: i64) -> f64 {
    value as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is what is wanted")]
fn saturated(value: f64) -> u32 {
    value as u32
}
