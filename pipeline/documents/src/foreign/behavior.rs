//! The `behavior` block of `autoscaling/v2`, which a KEDA object holds too.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::policy::{DirectionSpec, PolicySpec, RateKind, RatePolicy, SelectPolicy};

use crate::foreign::Fate;
use crate::foreign::walk::Walk;
use crate::reader::At;

/// Longest stabilization window that the API server takes.
const MAX_STABILIZATION: Duration = Duration::from_secs(3600);
/// Longest period that the API server takes.
const MAX_PERIOD: Duration = Duration::from_secs(1800);
/// Largest percentage that our policies take.
const MAX_PERCENT: u32 = 100_000;
/// Most policies per direction that ours take.
const MAX_POLICIES: usize = 16;

/// Limits in both directions, with the defaults that the API server fills in once a `behavior` block is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Behavior {
    /// On the way up. Cooldown and step limit are not part of this system: they are never set.
    pub scale_up: DirectionSpec,
    /// On the way down. Cooldown and step limit are never set.
    pub scale_down: DirectionSpec,
}

// === impl Behavior ===

impl Default for Behavior {
    fn default() -> Self {
        Self { scale_up: DirectionSpec::up(), scale_down: DirectionSpec::down() }
    }
}

/// Reads a `behavior` block.
pub(crate) fn read(walk: &mut Walk, at: &At<'_>) -> Option<Behavior> {
    let mut fields = walk.reader.fields(at)?;
    let mut behavior = Behavior::default();
    if let Some(at) = fields.take(&mut walk.reader, "scaleUp") {
        direction(walk, &at, &mut behavior.scale_up);
    }
    if let Some(at) = fields.take(&mut walk.reader, "scaleDown") {
        direction(walk, &at, &mut behavior.scale_down);
    }
    walk.rest(fields);
    Some(behavior)
}

fn direction(walk: &mut Walk, at: &At<'_>, spec: &mut DirectionSpec) {
    let Some(mut fields) = walk.reader.fields(at) else { return };
    if let Some(at) = fields.take(&mut walk.reader, "stabilizationWindowSeconds")
        && let Some(window) = at_most(walk, &at, Duration::ZERO, MAX_STABILIZATION)
    {
        walk.exact(&at, "is `stabilizationWindow`");
        spec.stabilization_window = window;
    }
    let words = [("Max", SelectPolicy::Max), ("Min", SelectPolicy::Min), ("Disabled", SelectPolicy::Disabled)];
    if let Some(at) = fields.take(&mut walk.reader, "selectPolicy")
        && let Some(select) = walk.reader.one_of(&at, &words)
    {
        walk.exact(&at, "is `selectPolicy`");
        spec.select_policy = select;
    }
    if let Some(at) = fields.take(&mut walk.reader, "policies") {
        let items = walk.reader.items(&at);
        if items.is_empty() && spec.select_policy != SelectPolicy::Disabled {
            walk.reader.wrong(&at, "must hold at least one policy", "leave the field out for the default".to_owned());
        } else if items.len() > MAX_POLICIES {
            walk.reader.wrong(&at, "holds too many policies", format!("at most {MAX_POLICIES}"));
        } else {
            spec.policies = items.iter().filter_map(|at| rate(walk, at)).collect();
            walk.exact(&at, "are `policies`");
        }
    }
    if let Some(at) = fields.take(&mut walk.reader, "tolerance")
        && let Some(tolerance) = walk.quantity(&at)
    {
        if tolerance < 0.0 {
            walk.reader.wrong(&at, "must not be negative", None);
        } else if tolerance > 1.0 {
            walk.note(Fate::Approximate, &at, "is a tolerance of more than the whole; 1 is the largest here", "");
        } else {
            walk.exact(&at, "is `tolerance` of this direction");
        }
        spec.tolerance = Some(tolerance.clamp(0.0, 1.0));
    }
    walk.rest(fields);
}

fn rate(walk: &mut Walk, at: &At<'_>) -> Option<RatePolicy> {
    let mut fields = walk.reader.fields(at)?;
    let kinds = [("Pods", RateKind::Pods), ("Percent", RateKind::Percent)];
    let kind = fields.require(&mut walk.reader, "type", "Pods or Percent").and_then(|at| walk.reader.one_of(&at, &kinds));
    let value = fields.require(&mut walk.reader, "value", "replicas, or percent").and_then(|at| {
        let value = walk.replicas(&at)?;
        if value == 0 || kind == Some(RateKind::Percent) && value > MAX_PERCENT {
            walk.reader.wrong(&at, "is out of range", format!("a whole number from 1, at most {MAX_PERCENT} percent"));
            return None;
        }
        Some(value)
    });
    let period = fields
        .require(&mut walk.reader, "periodSeconds", "such as 60")
        .and_then(|at| at_most(walk, &at, Duration::from_secs(1), MAX_PERIOD));
    walk.rest(fields);
    Some(RatePolicy { kind: kind?, value: value?, period: period? })
}

fn at_most(walk: &mut Walk, at: &At<'_>, least: Duration, most: Duration) -> Option<Duration> {
    let value = walk.seconds(at)?;
    if !(least..=most).contains(&value) {
        walk.reader.wrong(at, "is out of range", format!("from {} to {} seconds", least.as_secs(), most.as_secs()));
        return None;
    }
    Some(value)
}

/// The policy of an object with these limits, or with those of the older path where there is no `behavior`.
pub(crate) fn policy(walk: &mut Walk, path: &str, bounds: (u32, u32), behavior: Option<&Behavior>) -> PolicySpec {
    let defaults = Behavior::default();
    let limits = behavior.unwrap_or(&defaults);
    if behavior.is_none() {
        let message = "is not written: the largest of twice the replicas and 4 at each sync, here the default of a `behavior` block \
                       (4 more or twice as many within 15 s), which allows up to 4 more replicas below 4";
        walk.assume(Fate::Approximate, path, message, "");
    }
    PolicySpec {
        min: bounds.0,
        max: bounds.1,
        scale_up: limits.scale_up.clone(),
        scale_down: limits.scale_down.clone(),
        ..PolicySpec::default()
    }
}
