//! How much of a target there is, wanted and seen.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// An absolute capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capacity {
    /// Replicas (pods, instances).
    pub replicas: u32,
}

/// What a sink read of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Replicas the target's own world was last told to have.
    pub desired: u32,
    /// Replicas that serve; none when the sink cannot know.
    pub ready: Option<u32>,
    /// When it was read.
    pub observed_at: Timestamp,
    /// The target's own version of what was read (`resourceVersion`), to detect other writers; `None` when it has none.
    pub generation: Option<String>,
}

// === impl Capacity ===

impl Capacity {
    /// A number of replicas.
    #[must_use]
    pub const fn replicas(replicas: u32) -> Self {
        Self { replicas }
    }
}
