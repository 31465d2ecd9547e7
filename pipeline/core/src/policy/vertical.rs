//! What a rule may do to the CPU and memory of each replica.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Mode, PolicyProblem};
use crate::quantity;

/// Most CPU of one replica, thousandths of a core; more is a slip of the finger.
const MAX_CPU: u64 = 10_000_000;
/// Most memory of one replica, bytes; likewise.
const MAX_MEMORY: u64 = 1 << 50;
/// Bytes of one MiB.
const MIB: u64 = 1 << 20;

/// Guards of CPU and memory per replica; every field has its default in [`VerticalSpec::default`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VerticalSpec {
    /// What the rule may do; never more than the rule's own mode (default off).
    pub mode: Mode,
    /// Bounds of the CPU request in thousandths of a core (default from 25). To enforce, a max is needed.
    pub cpu: RangeSpec,
    /// Bounds of the memory request in bytes (default from 64 MiB). To enforce, a max is needed.
    pub memory: RangeSpec,
    /// Pause between changes (default 12h).
    #[serde(with = "crate::duration::text")]
    pub every: Duration,
    /// Relative change that is worth an action, 0..1 (default 0.1: more than a tenth).
    pub minimum_gain: f64,
}

/// A lower and an upper bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RangeSpec {
    /// Least.
    pub min: u64,
    /// Most; `None` is no bound.
    pub max: Option<u64>,
}

// === impl VerticalSpec ===

impl Default for VerticalSpec {
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            cpu: RangeSpec { min: 25, max: None },
            memory: RangeSpec { min: 64 * MIB, max: None },
            every: Duration::from_secs(12 * 3600),
            minimum_gain: 0.1,
        }
    }
}

impl VerticalSpec {
    /// True when nothing was written.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with the bounds.
    pub(super) fn problems(&self) -> Vec<PolicyProblem> {
        let mut problems = Vec::new();
        let resources = [
            ("cpu", self.cpu, MAX_CPU, quantity::of_millicores as fn(u64) -> String),
            ("memory", self.memory, MAX_MEMORY, |bytes| bytes.to_string()),
        ];
        for (name, range, most, written) in resources {
            let mut add = |field: &str, value: String, message: String, hint: String| {
                problems.push(PolicyProblem { path: format!("vertical.{name}.{field}"), value, message, hint: Some(hint) });
            };
            match range.max {
                Some(max) if max == 0 || max > most => {
                    add("max", written(max), "is out of range".to_owned(), format!("more than 0, at most {}", written(most)));
                }
                Some(max) if range.min > max => {
                    let hint = format!("an amount from 0 to {}", written(max));
                    add("min", written(range.min), format!("is larger than max ({})", written(max)), hint);
                }
                None if self.mode == Mode::Enforce => {
                    let hint = format!(
                        "vertical: {{mode: enforce, cpu: {{max: \"4\"}}, memory: {{max: 4GiB}}}}; {name} grows no further than that"
                    );
                    add("max", "none".to_owned(), "is needed to enforce".to_owned(), hint);
                }
                _ => {}
            }
        }
        problems
    }
}

// === impl RangeSpec ===

impl RangeSpec {
    /// The value within the bounds.
    #[must_use]
    pub fn clamp(&self, value: u64) -> u64 {
        value.min(self.max.unwrap_or(u64::MAX)).max(self.min)
    }

    /// True when the value is within.
    #[must_use]
    pub fn contains(&self, value: u64) -> bool {
        self.clamp(value) == value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Policy, PolicySpec};

    fn problems(vertical: VerticalSpec) -> Vec<String> {
        let error = Policy::try_new(PolicySpec { vertical, ..PolicySpec::default() }).err();
        error.map_or_else(Vec::new, |error| error.problems.into_iter().map(|problem| problem.path).collect())
    }

    /// Guarantees: bounds must not cross, enforcing needs a max, and shares and pauses are in range.
    #[test]
    fn bounds_are_checked() {
        let fine = VerticalSpec::default();
        assert!(problems(fine).is_empty());
        assert_eq!(problems(VerticalSpec { mode: Mode::Enforce, ..fine }), ["vertical.cpu.max", "vertical.memory.max"]);
        let bounded = VerticalSpec {
            mode: Mode::Enforce,
            cpu: RangeSpec { min: 100, max: Some(4000) },
            memory: RangeSpec { min: MIB, max: Some(MIB) },
            ..fine
        };
        assert!(problems(bounded).is_empty());
        assert_eq!(problems(VerticalSpec { cpu: RangeSpec { min: 2, max: Some(1) }, ..bounded }), ["vertical.cpu.min"]);
        assert_eq!(problems(VerticalSpec { memory: RangeSpec { min: 0, max: Some(0) }, ..bounded }), ["vertical.memory.max"]);
        assert_eq!(problems(VerticalSpec { minimum_gain: 1.5, ..bounded }), ["vertical.minimumGain"]);
        assert_eq!(problems(VerticalSpec { every: Duration::from_secs(8 * 86_400), ..bounded }), ["vertical.every"]);
    }

    /// Guarantees: a policy without these guards is written as before there were any, and read with the defaults.
    #[test]
    fn old_policies_are_read() {
        let text = serde_json::to_string(&PolicySpec::default()).unwrap();
        assert!(!text.contains("vertical"), "{text}");
        assert_eq!(serde_json::from_str::<PolicySpec>(&text).unwrap(), PolicySpec::default());
    }
}
