//! Capacity: what a target has and what it should have.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How much capacity a target should have. Absolute, so that setting it twice is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Capacity {
    /// Number of replicas.
    pub replicas: u32,
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
        Self { replicas }
    }
}

// === impl Unobserved ===

impl Unobserved {
    /// A target that nobody has looked at yet.
    #[must_use]
    pub fn not_yet() -> Self {
        Self { kind: UnobservedKind::NotYet, detail: "not observed yet".to_owned() }
    }
}
