//! What a wish comes to, resource by resource.

use super::{OOM_PROTECTION, ResizeReason, ResizeState, ResizeStep, Resource, Wish};
use crate::capacity::Resources;
use crate::duration;
use crate::policy::{RangeSpec, VerticalSpec};
use crate::time::Timestamp;

/// What a wish comes to.
pub(super) struct Judged {
    /// Only what changes.
    pub(super) desired: Resources,
    pub(super) steps: Vec<ResizeStep>,
    pub(super) reason: ResizeReason,
    pub(super) detail: String,
}

/// One resource: what there is, what is wished, and the limits of it.
struct One {
    resource: Resource,
    current: Option<u64>,
    wish: u64,
    lower: Option<u64>,
    upper: Option<u64>,
    range: RangeSpec,
}

/// Takes each resource's wish through its guards.
pub(super) fn judge(now: Timestamp, current: Resources, wish: &Wish, policy: &VerticalSpec, state: &ResizeState) -> Judged {
    let cpu = wish.resources.cpu.map(|value| One {
        resource: Resource::Cpu,
        current: current.cpu,
        wish: value,
        lower: wish.lower.cpu,
        upper: wish.upper.cpu,
        range: policy.cpu,
    });
    let memory = wish.resources.memory.map(|value| One {
        resource: Resource::Memory,
        current: current.memory,
        wish: value,
        lower: wish.lower.memory,
        upper: wish.upper.memory,
        range: policy.memory,
    });
    let since_kill = state.last_oom.map(|kill| now.since(kill)).filter(|since| *since < OOM_PROTECTION);
    // One kill excuses one change; what comes after it is an ordinary one.
    let unanswered = state.last_oom.is_some_and(|kill| state.applied.is_none_or(|applied| applied.at < kill)) && since_kill.is_some();
    let mut steps: Vec<ResizeStep> = Vec::new();
    for one in [cpu, memory].into_iter().flatten() {
        let is_memory = one.resource == Resource::Memory;
        let protected = since_kill.filter(|_| is_memory).map(|since| format!("killed {} ago", duration::format(since)));
        steps.push(one.judge(protected, is_memory && unanswered, policy.minimum_gain));
    }
    // After a kill only memory moves: the rest has its own pace.
    let killed = steps.iter().any(|step| step.reason == ResizeReason::OutOfMemory);
    let moved = |resource: Resource| {
        let step = steps.iter().find(|step| step.resource == resource && step.before != step.after)?;
        step.after.filter(|_| !killed || step.reason == ResizeReason::OutOfMemory)
    };
    let mut desired = Resources { cpu: moved(Resource::Cpu), memory: moved(Resource::Memory), memory_limit: None };
    desired.memory_limit = desired.memory.and_then(|memory| limit(memory, current, wish));
    let telling = steps.iter().find(|step| step.reason == ResizeReason::OutOfMemory);
    let telling = telling.or_else(|| steps.iter().find(|step| step.before != step.after));
    let telling = telling.or_else(|| steps.iter().find(|step| step.reason != ResizeReason::WishMet)).or_else(|| steps.first());
    let (reason, detail) =
        telling.map_or((ResizeReason::WishMissing, String::new()), |step| (step.reason, format!("{}: {}", step.resource, step.detail)));
    Judged { desired, steps, reason, detail }
}

/// The limit that goes with a memory request. Where both were equal they stay equal, for that is a promise about the kind of
/// service (its quality-of-service class); otherwise what the rule wishes, or else the proportion that there was.
fn limit(memory: u64, current: Resources, wish: &Wish) -> Option<u64> {
    match (current.memory_limit, current.memory) {
        (Some(limit), Some(request)) if limit == request => Some(memory),
        (Some(limit), Some(request)) if request > 0 => {
            let proportional = (u128::from(memory) * u128::from(limit)).div_ceil(u128::from(request));
            let proportional = u64::try_from(proportional).unwrap_or(u64::MAX);
            Some(wish.resources.memory_limit.unwrap_or(proportional).max(memory))
        }
        _ => wish.resources.memory_limit.map(|limit| limit.max(memory)),
    }
}

// === impl One ===

impl One {
    fn judge(&self, protected: Option<String>, unanswered: bool, gain: f64) -> ResizeStep {
        let step = |after, reason, detail| ResizeStep { resource: self.resource, before: self.current, after, reason, detail };
        let Some(current) = self.current.filter(|current| *current > 0) else {
            return step(self.current, ResizeReason::NotSet, format!("wished {}", self.wish));
        };
        let value = self.range.clamp(self.wish);
        let keep = |reason, detail| step(Some(current), reason, detail);
        let reason = match value {
            _ if value == current => return keep(ResizeReason::WishMet, format!("wished {}", self.wish)),
            _ if value > self.wish => ResizeReason::BelowMin,
            _ if value < self.wish => ResizeReason::AboveMax,
            _ if value > current => ResizeReason::WishAbove,
            _ => ResizeReason::WishBelow,
        };
        if unanswered && value > current {
            return step(Some(value), ResizeReason::OutOfMemory, format!("{current} to {value}"));
        }
        if let Some(detail) = protected.filter(|_| value < current) {
            return keep(ResizeReason::AfterOutOfMemory, detail);
        }
        // What the policy does not allow is changed, however little it is.
        if self.range.contains(current) {
            let within = self.lower.is_none_or(|lower| current >= lower) && self.upper.is_none_or(|upper| current <= upper);
            if within && (self.lower.is_some() || self.upper.is_some()) {
                let bound = |bound: Option<u64>| bound.map_or_else(String::new, |bound| bound.to_string());
                return keep(ResizeReason::WithinBounds, format!("{current} is in {}..{}", bound(self.lower), bound(self.upper)));
            }
            if u128::from(value.abs_diff(current)) * 1_000_000 <= u128::from(current) * parts_per_million(gain) {
                return keep(ResizeReason::SmallGain, format!("{current} to {value} is no more than {gain} of it"));
            }
        }
        step(Some(value), reason, format!("{current} to {value}"))
    }
}

/// A share of 0..1 in whole millionths, so that the comparison is exact.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..10⁶")]
fn parts_per_million(share: f64) -> u128 {
    (share.clamp(0.0, 1.0) * 1e6).round() as u128
}
