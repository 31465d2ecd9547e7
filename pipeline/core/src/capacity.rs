//! Capacity: what a target has and what it should have.
//!
//! Two dimensions, each of which may be left alone: how many replicas, and how much of a machine each of them asks for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How much capacity a target should have. Absolute, so that setting it twice is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Capacity {
    /// Number of replicas; `None` leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// What each replica asks for; what is `None` in it is left as it is.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
}

/// What one replica asks for of its machine. Whole numbers of small units, so that equal is equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// CPU request in thousandths of a core; `None` when it is not set, not known or not meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u64>,
    /// Memory request in bytes; `None` likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Memory limit in bytes; `None` likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
}

/// What a sink saw at a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Replicas that the target is asked to have (`spec.replicas`).
    pub desired: u32,
    /// Replicas that can serve; `None` when the target does not say.
    pub ready: Option<u32>,
    /// When it was read.
    pub observed_at: Timestamp,
    /// The target's own version of what was read (`resourceVersion`), to detect other writers; `None` when it has none.
    pub generation: Option<String>,
    /// What most of its replicas have; nothing when the target does not say.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Replicas that have other resources than most: those that started since, or that could not be changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub differing: u32,
    /// What replicas that start from now on will ask for; nothing when the target does not say.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub template: Resources,
}

/// Why a target's capacity is unknown. Unknown is never zero: the decider holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unobserved {
    /// The class of the failure.
    pub kind: UnobservedKind,
    /// What the sink said, for people.
    pub detail: String,
}

/// Classes of failed observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UnobservedKind {
    /// Nobody asked yet.
    NotYet,
    /// The target does not exist.
    NotFound,
    /// We may not read it.
    Denied,
    /// It did not answer.
    Unavailable,
}

// === impl Capacity ===

impl Capacity {
    /// A number of replicas.
    #[must_use]
    pub const fn replicas(replicas: u32) -> Self {
        Self { replicas: Some(replicas), resources: Resources::NONE }
    }

    /// What each replica asks for; their number is left as it is.
    #[must_use]
    pub const fn resources(resources: Resources) -> Self {
        Self { replicas: None, resources }
    }
}

// === impl Observed ===

impl Observed {
    /// Replicas alone, where nothing is known of a version or of resources.
    #[must_use]
    pub const fn replicas(desired: u32, ready: Option<u32>, observed_at: Timestamp) -> Self {
        let (resources, template) = (Resources::NONE, Resources::NONE);
        Self { desired, ready, observed_at, generation: None, resources, differing: 0, template }
    }
}

// === impl Resources ===

impl Resources {
    /// Nothing set, known or meant.
    pub const NONE: Self = Self { cpu: None, memory: None, memory_limit: None };

    /// True when it says nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.cpu.is_none() && self.memory.is_none() && self.memory_limit.is_none()
    }

    /// These, with what they leave open taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { cpu: self.cpu.or(other.cpu), memory: self.memory.or(other.memory), memory_limit: self.memory_limit.or(other.memory_limit) }
    }

    /// These, without what `other` leaves open.
    #[must_use]
    pub fn only(self, other: Self) -> Self {
        Self {
            cpu: other.cpu.and(self.cpu),
            memory: other.memory.and(self.memory),
            memory_limit: other.memory_limit.and(self.memory_limit),
        }
    }
}

impl fmt::Display for Resources {
    /// `cpu 250m, memory 134217728, memory limit 161061273`; `nothing` when it is empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = self.cpu.map(|cpu| format!("cpu {cpu}m"));
        let memory = self.memory.map(|memory| format!("memory {memory}"));
        let limit = self.memory_limit.map(|limit| format!("memory limit {limit}"));
        let parts: Vec<String> = [cpu, memory, limit].into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

// === impl Unobserved ===

impl Unobserved {
    /// A target that nobody has looked at yet.
    #[must_use]
    pub fn not_yet() -> Self {
        Self { kind: UnobservedKind::NotYet, detail: "not observed yet".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: records from before there were resources are read, and what says nothing of them is written as before.
    #[test]
    fn old_records_are_read() {
        let observed: Observed = serde_json::from_str(r#"{"desired":3,"ready":null,"observedAt":1,"generation":"7"}"#).unwrap();
        assert_eq!((observed.resources, observed.differing, observed.template), (Resources::NONE, 0, Resources::NONE));
        let text = serde_json::to_string(&observed).unwrap();
        assert_eq!(text, r#"{"desired":3,"ready":null,"observedAt":1,"generation":"7"}"#);
        let capacity: Capacity = serde_json::from_str(r#"{"replicas":3}"#).unwrap();
        assert_eq!(capacity, Capacity::replicas(3));
        assert_eq!(serde_json::to_string(&capacity).unwrap(), r#"{"replicas":3}"#);
    }

    /// Guarantees: resources are laid over one another part by part, and read well.
    #[test]
    fn resources_are_laid_over_one_another() {
        let cpu = Resources { cpu: Some(250), ..Resources::NONE };
        let both = Resources { cpu: Some(100), memory: Some(1 << 27), memory_limit: None };
        assert_eq!(cpu.or(both), Resources { cpu: Some(250), ..both });
        assert_eq!(both.only(cpu), Resources { cpu: Some(100), ..Resources::NONE });
        assert_eq!(both.to_string(), "cpu 100m, memory 134217728");
        assert_eq!(Resources::NONE.to_string(), "nothing");
    }
}
