//! The side of tracescale that acts: it sets an absolute capacity, reads it back and reports what came of it.
//!
//! ```text
//! Decision ─▶ ScaleTarget::apply(target, capacity) ─▶ memory │ kubernetes ─▶ Outcome { before, requested, confirmed } or SinkError { kind }
//! ```
//!
//! Architecture invariants: capacities are absolute, so that a repeated call is harmless; a call that would change nothing
//! writes nothing; no sink ever fights another writer; the answer to a write is never believed without reading it back; no sink
//! reads a clock (one is handed in) and none starts a task. Every sink passes the suite in [`conformance`].

use std::sync::Arc;

use async_trait::async_trait;
use tracescale_core::capacity::{Capacity, Observed, Resources};
use tracescale_core::target::TargetRef;
use tracescale_core::time::Timestamp;

pub mod conformance;
pub mod discover;
mod error;
mod event;
pub mod kubernetes;
pub mod memory;
mod router;

pub use error::{SinkError, SinkErrorKind};
pub use event::{ActionEvent, ActionKind, NOTE_BYTES};
pub use kubernetes::Kubernetes;
pub use memory::Memory;
pub use router::Sinks;

/// The wall clock, handed in so that a simulation can turn it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// One kind of thing that can be scaled.
#[async_trait]
pub trait ScaleTarget: Send + Sync {
    /// The capacity the target has now. Reads only.
    ///
    /// # Errors
    /// When the target cannot be read; the capacity is then unknown, which is not zero.
    async fn observe(&self, target: &TargetRef) -> Result<Observed, SinkError>;

    /// Brings the target to `desired`, or finds it there already, and reads back what it then has. What `desired` leaves open
    /// is left as it is. Where it names both, replicas are set first; when resources then fail, replicas stay set.
    ///
    /// # Errors
    /// When it is not known to have happened. Repeating the call is always safe.
    async fn apply(&self, target: &TargetRef, desired: Capacity, context: &ApplyContext) -> Result<Outcome, SinkError>;

    /// Tells the target's own world about an action, where it has a place for that (Kubernetes Events).
    ///
    /// # Errors
    /// When it could not be written. An action stays done when its report fails.
    async fn report(&self, target: &TargetRef, event: &ActionEvent) -> Result<(), SinkError>;

    /// The sink's name in metrics and logs.
    fn name(&self) -> &'static str;
}

/// How a capacity is to be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyContext {
    /// The decision that asks for it, for logs.
    pub decision: String,
    /// Ask the target's world whether it would accept, and change nothing.
    pub dry_run: bool,
    /// Write although another writer holds the capacity. Off unless the user opted in for this target.
    pub take_over: bool,
}

/// What came of an [`ScaleTarget::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Replicas found before.
    pub before: u32,
    /// Replicas asked for.
    pub requested: u32,
    /// Replicas read back. Differs from `requested` when something between us and the target changed the call (an admission
    /// webhook, a lost update, another writer). In a dry run, what would have been stored.
    pub confirmed: u32,
    /// Whether a write was sent and accepted; false for a dry run and when there was nothing to do.
    pub changed: bool,
    /// Writes refused because the target had moved on, before the one that counted.
    pub conflicts: u32,
    /// What the target's world warned of, and what we noticed without refusing.
    pub warnings: Vec<String>,
    /// When it was confirmed.
    pub at: Timestamp,
    /// What came of the resources of each replica; `None` when none were asked for.
    pub resized: Option<ResizeOutcome>,
}

/// What came of asking for resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResizeOutcome {
    /// What most replicas asked for before.
    pub before: Resources,
    /// What was asked for.
    pub requested: Resources,
    /// What most replicas are now to have, read back; as far as it was asked for. In a dry run, what would have been stored.
    pub confirmed: Resources,
    /// How it was done.
    pub way: ResizeWay,
    /// Replicas that have it already; the rest follows when their machines have room, or is replaced one by one.
    pub in_effect: u32,
    /// Replicas that there are.
    pub replicas: u32,
}

/// How resources are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResizeWay {
    /// In each running replica.
    InPlace,
    /// In the template that replicas are made from, which replaces them all.
    Template,
}

// === impl Outcome ===

impl Outcome {
    /// Whether the target has what was asked for.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed == self.requested && self.resized.as_ref().is_none_or(ResizeOutcome::is_confirmed)
    }
}

// === impl ResizeOutcome ===

impl ResizeOutcome {
    /// Whether the target is to have what was asked for.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed == self.requested
    }
}

// === impl ResizeWay ===

impl ResizeWay {
    /// Stable label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InPlace => "in_place",
            Self::Template => "template",
        }
    }
}
