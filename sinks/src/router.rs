//! One sink for all kinds of targets: hands each call to the sink of the target's world.

use async_trait::async_trait;
use tracescale_core::capacity::{Capacity, Observed};
use tracescale_core::target::TargetRef;

use crate::{ActionEvent, ApplyContext, Kubernetes, Memory, Outcome, ScaleTarget, SinkError, SinkErrorKind};

/// Every sink of this process.
#[derive(Debug)]
pub struct Sinks {
    memory: Memory,
    kubernetes: Kubernetes,
}

// === impl Sinks ===

impl Sinks {
    /// All of them.
    #[must_use]
    pub const fn new(memory: Memory, kubernetes: Kubernetes) -> Self {
        Self { memory, kubernetes }
    }

    /// The sink that owns targets of this kind, by the name it has in metrics.
    ///
    /// # Errors
    /// When this build has no sink for it.
    pub fn of(&self, target: &TargetRef) -> Result<&dyn ScaleTarget, SinkError> {
        match target {
            TargetRef::Memory(_) => Ok(&self.memory),
            TargetRef::Kubernetes(_) => Ok(&self.kubernetes),
            other => Err(SinkError::new(SinkErrorKind::Invalid, other, "this build has no sink for such a target")),
        }
    }
}

#[async_trait]
impl ScaleTarget for Sinks {
    async fn observe(&self, target: &TargetRef) -> Result<Observed, SinkError> {
        self.of(target)?.observe(target).await
    }

    async fn apply(&self, target: &TargetRef, desired: Capacity, context: &ApplyContext) -> Result<Outcome, SinkError> {
        self.of(target)?.apply(target, desired, context).await
    }

    async fn report(&self, target: &TargetRef, event: &ActionEvent) -> Result<(), SinkError> {
        self.of(target)?.report(target, event).await
    }

    fn name(&self) -> &'static str {
        "sinks"
    }
}
