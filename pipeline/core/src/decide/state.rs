//! What must be remembered of a target between decisions. All of it is bounded, and all of it is in every record.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Applied, Lessons, Reason, ResizeState, STARTUP, Starts};
use crate::policy::{ControlSpec, Direction, RuleName};
use crate::time::{Timestamp, nanos};

/// After so long without news a scale call counts as [`Applied::Unknown`], so that a lost answer cannot hold a target forever.
pub const IN_FLIGHT_LIMIT: Duration = Duration::from_secs(60);
/// An observation older than this is no observation.
pub const OBSERVATION_LIMIT: Duration = Duration::from_secs(300);
/// A pause between two decisions longer than this plus [`JUMP_FACTOR`] usual ones is a jump of the clock (or a process
/// that stood still, which must be treated alike: what was remembered did not age by observation).
const JUMP_FLOOR: Duration = Duration::from_secs(60);
/// See [`JUMP_FLOOR`].
const JUMP_FACTOR: u32 = 4;
/// Most scale events kept; older ones are merged into the next, which makes rate limits stricter, never looser.
const MAX_EVENTS: usize = 512;

/// What is remembered of a target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetState {
    /// Time of the last decision.
    pub last_decision: Option<Timestamp>,
    /// Decisions in the millisecond of the last one.
    pub sequence: u32,
    /// Recommendations before stabilization, oldest first; `None` before the first. Those that cannot matter are dropped.
    pub recommendations: Option<Vec<Recommendation>>,
    /// Changes that were carried out, oldest first.
    pub events: Vec<ScaleEvent>,
    /// Time of the last scale-up.
    pub last_up: Option<Timestamp>,
    /// Time of the last scale-down.
    pub last_down: Option<Timestamp>,
    /// What we set last, and when it was confirmed.
    pub last_applied: Option<Recommendation>,
    /// When data were last missing and the capacity was kept, and what it was.
    pub last_missing: Option<Recommendation>,
    /// An action under way.
    pub pending: Option<Pending>,
    /// What is remembered per rule.
    pub rules: BTreeMap<RuleName, RuleState>,
    /// What earlier changes taught.
    #[serde(skip_serializing_if = "Lessons::is_empty")]
    pub lessons: Lessons,
    /// How long its replicas took to start.
    #[serde(skip_serializing_if = "Starts::is_empty")]
    pub starts: Starts,
    /// What is remembered of the resources of each replica.
    #[serde(skip_serializing_if = "ResizeState::is_default")]
    pub resize: ResizeState,
}

/// A number of replicas at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recommendation {
    /// When.
    pub at: Timestamp,
    /// How many.
    pub replicas: u32,
}

/// A change that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleEvent {
    /// When it was decided.
    pub at: Timestamp,
    /// Replicas added, negative when removed.
    pub change: i64,
}

/// An action under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// When it was decided.
    pub at: Timestamp,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
}

/// What is remembered of one rule at one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleState {
    /// Since when it has no answer.
    pub missing_since: Option<Timestamp>,
    /// When it demanded a change, oldest first; at most as many as the condition counts.
    pub demanded: Vec<Demanded>,
}

/// A demanded change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demanded {
    /// When.
    pub at: Timestamp,
    /// Evaluation time of the proposal: the same evaluation counts once, however often it is looked at.
    pub evaluated_at: Timestamp,
    /// Which way.
    pub direction: Direction,
}

// === impl TargetState ===

impl TargetState {
    /// Takes note of the time. When it jumped, moves everything remembered so that its age is what it was: a jump must
    /// neither expire a cooldown or a stabilization window nor freeze them. `usual` is the expected pause between decisions.
    pub(super) fn keep_time(&mut self, now: Timestamp, usual: Duration) -> Option<(Reason, Duration)> {
        let last = self.last_decision.replace(now)?;
        if now < last {
            let back = last.since(now);
            self.shift(-nanos(back));
            return Some((Reason::ClockWentBack, back));
        }
        let gap = now.since(last);
        if gap <= JUMP_FLOOR.saturating_add(usual.saturating_mul(JUMP_FACTOR)) {
            return None;
        }
        let jump = gap.saturating_sub(usual);
        self.shift(nanos(jump));
        Some((Reason::ClockJumpedAhead, jump))
    }

    fn shift(&mut self, by: i64) {
        let moved = |time: Timestamp| Timestamp::from_nanos(time.as_nanos().saturating_add(by));
        self.resize.shift(moved);
        let move_one = |time: &mut Option<Timestamp>| *time = time.map(moved);
        move_one(&mut self.last_up);
        move_one(&mut self.last_down);
        for one in self.recommendations.iter_mut().flatten().chain(&mut self.last_missing).chain(&mut self.last_applied) {
            one.at = moved(one.at);
        }
        for event in &mut self.events {
            event.at = moved(event.at);
        }
        if let Some(pending) = &mut self.pending {
            pending.at = moved(pending.at);
        }
        self.lessons.shift(moved);
        self.starts.interrupt();
        for rule in self.rules.values_mut() {
            move_one(&mut rule.missing_since);
            for demanded in &mut rule.demanded {
                demanded.at = moved(demanded.at);
            }
        }
    }

    /// Remembers a recommendation, and forgets what can no longer matter: what is older than `memory`, and what a newer
    /// one makes irrelevant (a window's maximum or minimum never needs a value that a newer one reaches).
    pub(super) fn recommend(&mut self, now: Timestamp, replicas: u32, memory: Duration) {
        let old = self.recommendations.take().unwrap_or_default();
        let (mut least, mut most) = (replicas, replicas);
        let mut kept = vec![Recommendation { at: now, replicas }];
        for one in old.into_iter().rev().filter(|one| one.at > now - memory) {
            if one.replicas < least || one.replicas > most {
                least = least.min(one.replicas);
                most = most.max(one.replicas);
                kept.push(one);
            }
        }
        kept.reverse();
        self.recommendations = Some(kept);
    }

    /// Forgets scale events that no period reaches any more.
    pub(super) fn prune_events(&mut self, now: Timestamp, memory: Duration) {
        self.events.retain(|event| event.at > now - memory);
    }

    /// Ends the action under way.
    pub(super) fn settle(&mut self, now: Timestamp, outcome: Applied) {
        let Some(pending) = self.pending.take() else { return };
        let before = self.lessons.before.take();
        let to = match outcome {
            Applied::Failed => return,
            Applied::Unknown => pending.to,
            Applied::Done { replicas } => {
                self.last_applied = Some(Recommendation { at: now, replicas });
                replicas
            }
        };
        self.lessons.begin(now, &pending, to, before);
        self.starts.ordered(pending.at, pending.from, to);
        let change = i64::from(to) - i64::from(pending.from);
        match change.signum() {
            1 => self.last_up = Some(pending.at),
            -1 => self.last_down = Some(pending.at),
            _ => return,
        }
        self.events.push(ScaleEvent { at: pending.at, change });
        if self.events.len() > MAX_EVENTS {
            let oldest = self.events.remove(0);
            // Only like with like: added and removed replicas count on different sides of a rate limit.
            if let Some(next) = self.events.iter_mut().find(|event| event.change.signum() == oldest.change.signum()) {
                next.change = next.change.saturating_add(oldest.change);
            }
        }
    }

    /// Ends an action whose news is overdue.
    pub(super) fn expire_pending(&mut self, now: Timestamp) {
        if self.pending.is_some_and(|pending| now.since(pending.at) >= IN_FLIGHT_LIMIT) {
            self.settle(now, Applied::Unknown);
        }
        self.resize.expire(now);
    }

    /// How long a replica takes to start: as the policy says, or else as the last ones did.
    #[must_use]
    pub fn startup(&self, control: &ControlSpec) -> Duration {
        control.startup.or_else(|| self.starts.p90()).unwrap_or(STARTUP)
    }

    /// The later one of the last changes in either direction.
    #[must_use]
    pub fn last_change(&self) -> Option<Timestamp> {
        self.last_up.max(self.last_down)
    }
}
