//! Carries out what the controller orders: asks sinks and sets capacities, a bounded number at a time, each with a limit.

use std::sync::Arc;
use std::time::Duration;

use tracescale_core::capacity::Capacity;
use tracescale_core::decide::{Action, Decision};
use tracescale_core::target::TargetSpec;
use tracescale_core::time::Timestamp;
use tracescale_sinks::{ActionEvent, ActionKind, ApplyContext, Outcome, ScaleTarget, SinkError, SinkErrorKind};
use tracing::Instrument;

use crate::controller::Event;

/// Longest a sink may take for one call before it counts as unavailable.
const CALL_MAX: Duration = Duration::from_secs(30);

/// One call to a sink.
#[derive(Debug)]
pub enum Job {
    /// Ask for a capacity.
    Observe(Arc<TargetSpec>),
    /// Set one.
    Apply {
        /// The target.
        target: Arc<TargetSpec>,
        /// The decision behind it.
        decision: Arc<Decision>,
        /// The capacity.
        desired: Capacity,
    },
}

/// Does one job; the answer is an event for the controller. Never fails: a failure is an answer.
pub async fn perform(sinks: &dyn ScaleTarget, job: Job, now: Timestamp) -> Event {
    match job {
        Job::Observe(target) => {
            let span = tracing::info_span!("observe", target = %target.name);
            let result = limited(&target, sinks.observe(&target.reference)).instrument(span).await;
            Event::Observed { target: target.name.clone(), result }
        }
        Job::Apply { target, decision, desired } => {
            let context = ApplyContext { decision: decision.id.to_string(), dry_run: false, take_over: target.take_over };
            let span = tracing::info_span!("apply", target = %target.name, decision = %decision.id, ?desired);
            let result = limited(&target, sinks.apply(&target.reference, desired, &context)).instrument(span).await;
            report(sinks, &target, &decision, &result, now).await;
            Event::Applied { target: target.name.clone(), decision, result }
        }
    }
}

async fn limited<T>(target: &TargetSpec, call: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
    let late = |_| SinkError::new(SinkErrorKind::Unavailable, &target.reference, format!("no answer within {} s", CALL_MAX.as_secs()));
    tokio::time::timeout(CALL_MAX, call).await.map_err(late)?
}

/// Tells the target's own world; an action stays done when that fails.
async fn report(sinks: &dyn ScaleTarget, target: &TargetSpec, decision: &Decision, result: &Result<Outcome, SinkError>, now: Timestamp) {
    let (kind, note) = match result {
        Ok(outcome) if !outcome.changed => return,
        Ok(outcome) => {
            if let Some(resized) = &outcome.resized {
                let note = format!("{} to {} for each replica (decision {})", resized.before, resized.confirmed, decision.id);
                (ActionKind::Resized, note)
            } else {
                let kind = if decision.action == Action::ScaleUp { ActionKind::ScaledUp } else { ActionKind::ScaledDown };
                (kind, format!("{} to {} replicas: {} (decision {})", outcome.before, outcome.confirmed, decision.reason, decision.id))
            }
        }
        Err(error) => {
            let kind =
                if matches!(error.kind, SinkErrorKind::Contested { .. }) { ActionKind::Contested } else { ActionKind::ScalingFailed };
            (kind, format!("{error}: {} (decision {})", error.source, decision.id))
        }
    };
    if let Err(error) = limited(target, sinks.report(&target.reference, &ActionEvent::new(kind, note, now))).await {
        tracing::warn!(target = %target.name, %error, cause = %error.source, "could not report an action");
    }
}
