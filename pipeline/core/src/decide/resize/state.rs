//! What must be remembered of a target's resources between decisions. It is in every record, as the rest of the state.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capacity::{Observed, Resources};
use crate::decide::IN_FLIGHT_LIMIT;
use crate::time::Timestamp;

/// After a change in one dimension the other one waits so long, until the change shows in what is measured.
pub(in crate::decide) const SETTLE: Duration = Duration::from_secs(300);

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResizeState {
    /// An order under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingResize>,
    /// The last order that was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<ResizeApplied>,
    /// When an order last failed, since the last one that did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Timestamp>,
    /// The last kill for lack of memory that a rule told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_oom: Option<Timestamp>,
}

/// An order under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingResize {
    /// When it was decided.
    pub at: Timestamp,
    /// What each replica asked for before.
    pub from: Resources,
    /// What each should ask for.
    pub to: Resources,
    /// What new replicas asked for then.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub template: Resources,
    /// True when it repeats the last one.
    pub again: bool,
}

/// An order that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResizeApplied {
    /// When it was first decided.
    pub at: Timestamp,
    /// When it was last given.
    pub tried: Timestamp,
    /// What each replica asked for before.
    pub from: Resources,
    /// What was accepted.
    pub to: Resources,
    /// What new replicas asked for when it was decided.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub template: Resources,
}

/// What became of an order, told to [`crate::decide::Decider::resized`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resized {
    /// The sink gave the order and read back that it was accepted.
    Done {
        /// What each replica is now to ask for; what the order left open may be open here.
        resources: Resources,
    },
    /// The call certainly changed nothing.
    Failed,
    /// Nobody knows. Counted as a change, and the next observation tells.
    Unknown,
}

// === impl ResizeState ===

impl ResizeState {
    /// True when there is nothing to remember.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Moves everything remembered with a clock that jumped.
    pub(in crate::decide) fn shift(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for time in [&mut self.failed, &mut self.last_oom].into_iter().flatten() {
            *time = moved(*time);
        }
        if let Some(pending) = &mut self.pending {
            pending.at = moved(pending.at);
        }
        if let Some(applied) = &mut self.applied {
            (applied.at, applied.tried) = (moved(applied.at), moved(applied.tried));
        }
    }

    /// Ends the order under way.
    pub(in crate::decide) fn settle(&mut self, now: Timestamp, outcome: Resized) {
        let Some(pending) = self.pending.take() else { return };
        let to = match outcome {
            Resized::Failed => {
                self.failed = Some(now);
                return;
            }
            Resized::Unknown => pending.to,
            Resized::Done { resources } => resources.only(pending.to).or(pending.to),
        };
        self.failed = None;
        let first = ResizeApplied { at: pending.at, tried: now, from: pending.from, to, template: pending.template };
        self.applied = Some(match self.applied.filter(|_| pending.again) {
            Some(before) => ResizeApplied { tried: now, ..before },
            None => first,
        });
    }

    /// Ends an order whose news is overdue.
    pub(in crate::decide) fn expire(&mut self, now: Timestamp) {
        if self.pending.is_some_and(|pending| now.since(pending.at) >= IN_FLIGHT_LIMIT) {
            self.settle(now, Resized::Unknown);
        }
    }

    /// The last order, when it has not reached every replica and it is time to repeat it: most have it and some have not, or,
    /// until the next order could come, all have what they had before. Other resources than these two are another hand's, and
    /// so is a template that has changed since: they are not fought.
    pub(in crate::decide) fn outstanding(
        &self,
        now: Timestamp,
        current: Resources,
        observed: &Observed,
        every: Duration,
    ) -> Option<ResizeApplied> {
        let applied = self.applied?;
        let same = |other: Resources| current.only(applied.to) == other.only(applied.to);
        let missed = if same(applied.to) { observed.differing > 0 } else { same(applied.from) && now.since(applied.at) < every };
        let unchanged = observed.template == applied.template;
        (missed && unchanged && now.since(applied.tried) >= SETTLE).then_some(applied)
    }
}
