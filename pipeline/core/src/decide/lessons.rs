//! What the changes of a target did to its requests, and what follows from that: a scale-down that hurt is taken back, ups
//! that did not help are stopped for a while.
//!
//! ```text
//! decided (sample before) ─▶ applied (trial) ─▶ settled ─▶ sample after ─▶ z of two shares ─▶ roll back | bar ups | nothing
//! ```
//!
//! Capacity that is taken away is missed at once, so harm beyond doubt is not waited for: otherwise the reactive guard would
//! mend it first, the rule would go down again, and neither would ever learn.
//!
//! Nothing of this happens without a diagnosis: no sample, no trial.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Diagnosis, Pending, Reason};
use crate::duration;
use crate::policy::ControlSpec;
use crate::proportion::{Count, MIN_REQUESTS, ONCE};
use crate::time::Timestamp;

/// Steps in one direction that follow each other are one trial, but not for longer than this: the load changes meanwhile.
const MERGE_LIMIT: Duration = Duration::from_secs(30 * 60);
/// A trial that could not be judged so long after it settled is given up.
const GIVE_UP: Duration = Duration::from_secs(3600);
/// Ups in a row without effect after which scaling counts as ineffective.
const FRUITLESS_LIMIT: u32 = 2;
/// How long ups are then stopped.
const INEFFECTIVE_FOR: Duration = Duration::from_secs(30 * 60);
/// How long ups are stopped after errors rose with the replicas.
const ERRORS_FOR: Duration = Duration::from_secs(15 * 60);
/// The longest floor, and how long a floor that ended is remembered: another one within that time lasts twice as long.
const LONGEST_FLOOR: Duration = Duration::from_secs(24 * 3600);

/// What is remembered of earlier changes of a target. Empty, and absent from records, where no diagnosis ever came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lessons {
    /// What was measured when the action under way was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Sample>,
    /// The last change, while it waits for its verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// The floor after a scale-down that was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// Ups in a row that did not help.
    #[serde(skip_serializing_if = "is_zero")]
    pub fruitless: u32,
    /// Ups are stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barred: Option<Barred>,
    /// Replicas that are still starting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting: Option<Starting>,
}

/// Requests of a window, as far as verdicts need them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// End of the window.
    pub at: Timestamp,
    /// Its length.
    #[serde(with = "crate::duration::text")]
    pub window: Duration,
    /// Requests over the latency objective among all.
    pub slow: Count,
    /// Failed requests, when they are known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub errors: Option<u64>,
    /// Utilization, when it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub utilization: Option<f64>,
}

/// A change that was carried out and is not judged yet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// When the first step of it was confirmed.
    pub began: Timestamp,
    /// When the last step was confirmed.
    pub at: Timestamp,
    /// Replicas before the first step.
    pub from: u32,
    /// Replicas after the last one.
    pub to: u32,
    /// What was measured before the first step.
    pub before: Sample,
}

/// No lower than this for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Floor {
    /// Replicas.
    pub replicas: u32,
    /// The first instant at which it no longer holds.
    pub until: Timestamp,
    /// How many times in short succession it was needed, from 1.
    pub times: u32,
}

/// No ups for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Barred {
    /// The first instant at which it no longer holds.
    pub until: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// Replicas that were asked for and cannot serve yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Starting {
    /// Since when nothing moved.
    pub since: Timestamp,
    /// Replicas asked for.
    pub desired: u32,
    /// Replicas that serve.
    pub ready: u32,
}

/// A scale-down that is to be taken back; its floor is set.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rollback {
    /// The replicas to restore.
    pub(super) to: u32,
    /// The figures behind it.
    pub(super) detail: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

// === impl Sample ===

impl Sample {
    /// The part of a diagnosis that verdicts need; `None` when it has too few requests for one.
    pub(super) fn of(diagnosis: &Diagnosis) -> Option<Self> {
        let slow = diagnosis.slow().filter(|slow| slow.all >= MIN_REQUESTS)?;
        let Diagnosis { at, window, errors, utilization, .. } = *diagnosis;
        Some(Self { at, window, slow, errors, utilization })
    }

    fn failed(&self) -> Option<Count> {
        Some(Count { bad: self.errors?, all: self.slow.all })
    }
}

// === impl Lessons ===

impl Lessons {
    /// True when there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Moves all times, after the clock jumped. What telemetry measured before the jump cannot be compared with what follows.
    pub(super) fn shift(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        (self.before, self.trial) = (None, None);
        let floor = self.floor.iter_mut().map(|floor| &mut floor.until);
        let barred = self.barred.iter_mut().map(|barred| &mut barred.until);
        let starting = self.starting.iter_mut().map(|starting| &mut starting.since);
        for time in floor.chain(barred).chain(starting) {
            *time = moved(*time);
        }
    }

    /// A change was confirmed: it is on trial if it is known what was before it.
    pub(super) fn begin(&mut self, now: Timestamp, pending: &Pending, to: u32, before: Option<Sample>) {
        let earlier = self.trial.take();
        let Some(before) = before.filter(|_| pending.from != to) else { return };
        let continued = earlier.filter(|trial| {
            let same_way = (trial.to > trial.from) == (to > pending.from);
            same_way && trial.to == pending.from && now.since(trial.began) < MERGE_LIMIT
        });
        self.trial = Some(match continued {
            Some(trial) => Trial { at: now, to, ..trial },
            None => Trial { began: now, at: now, from: pending.from, to, before },
        });
    }

    /// Judges the change on trial when it is time. Gives the scale-down to take back; remembers everything else.
    pub(super) fn examine(
        &mut self,
        now: Timestamp,
        current: u32,
        (spec, startup): (&ControlSpec, Duration),
        diagnosis: Option<&Diagnosis>,
    ) -> Option<Rollback> {
        self.forget(now);
        let settled = self.trial?.at + spec.settle(startup);
        // Somebody else changed the capacity: what follows is not ours to judge.
        if !spec.verify.enabled || self.trial?.to != current || now > settled + GIVE_UP {
            self.trial = None;
            return None;
        }
        let diagnosis = diagnosis?;
        let after = Sample::of(diagnosis)?;
        let trial = self.trial?;
        let is_down = trial.to < trial.from;
        let is_settled = after.at - after.window >= settled;
        let is_sure = is_down && after.at > trial.at && after.slow.at_least(ONCE).is_some_and(|share| share > diagnosis.allowance());
        if after.window != trial.before.window || !(is_settled || is_sure && after.slow.is_above(trial.before.slow, ONCE)) {
            return None;
        }
        self.trial = None;
        // A new version explains any difference.
        if diagnosis.deployed_at.is_some_and(|deployed| deployed > trial.before.at - trial.before.window) {
            return None;
        }
        if is_down {
            return self.judge_down(now, &trial, &after, diagnosis.allowance(), spec);
        }
        self.judge_up(now, &trial, &after, diagnosis.allowance());
        None
    }

    fn judge_down(&mut self, now: Timestamp, trial: &Trial, after: &Sample, allowance: f64, spec: &ControlSpec) -> Option<Rollback> {
        let before = trial.before.slow;
        if !after.slow.is_above(before, ONCE) || after.slow.share()? <= allowance {
            return None;
        }
        let times = self.floor.map_or(1, |floor| floor.times.saturating_add(1));
        let doubled = spec.verify.floor.saturating_mul(1_u32.checked_shl(times - 1).unwrap_or(u32::MAX));
        let length = doubled.min(LONGEST_FLOOR.max(spec.verify.floor));
        self.floor = Some(Floor { replicas: trial.from, until: now + length, times });
        let detail = format!(
            "{} to {} replicas: {} of {} requests were over the objective, {} of {} before; no lower than {} for {}",
            trial.from,
            trial.to,
            after.slow.bad,
            after.slow.all,
            before.bad,
            before.all,
            trial.from,
            duration::format(length),
        );
        Some(Rollback { to: trial.from, detail })
    }

    fn judge_up(&mut self, now: Timestamp, trial: &Trial, after: &Sample, allowance: f64) {
        if let (Some(then), Some(failed)) = (trial.before.failed(), after.failed())
            && failed.is_above(then, ONCE)
        {
            self.barred = Some(Barred { until: now + ERRORS_FOR, reason: Reason::ErrorsRiseWithReplicas });
            return;
        }
        let was_violated = trial.before.slow.share().is_some_and(|share| share > allowance);
        // Where utilization did not fall, the load grew with the replicas, and nothing can be said of them.
        let took_load = matches!((trial.before.utilization, after.utilization), (Some(then), Some(own)) if own < then);
        if trial.before.slow.is_above(after.slow, ONCE) {
            self.fruitless = 0;
        } else if was_violated && took_load {
            self.fruitless += 1;
            if self.fruitless >= FRUITLESS_LIMIT {
                self.fruitless = 0;
                self.barred = Some(Barred { until: now + INEFFECTIVE_FOR, reason: Reason::ScalingIneffective });
            }
        }
    }

    /// The floor that holds.
    pub(super) fn floor(&self, now: Timestamp) -> Option<Floor> {
        self.floor.filter(|floor| now < floor.until)
    }

    /// Why ups are stopped.
    pub(super) fn barred(&self, now: Timestamp) -> Option<Barred> {
        self.barred.filter(|barred| now < barred.until)
    }

    /// Takes note of replicas that are starting; gives those of which nothing moved for three start-ups.
    pub(super) fn lost(&mut self, now: Timestamp, desired: u32, ready: Option<u32>, startup: Duration) -> u32 {
        let Some(ready) = ready.filter(|ready| *ready < desired) else {
            self.starting = None;
            return 0;
        };
        let moved = |before: &Starting| desired > before.desired || ready > before.ready;
        let since = self.starting.filter(|before| !moved(before)).map_or(now, |before| before.since);
        self.starting = Some(Starting { since, desired, ready });
        if now.since(since) > startup.saturating_mul(3) { desired - ready } else { 0 }
    }

    fn forget(&mut self, now: Timestamp) {
        self.barred = self.barred(now);
        self.floor = self.floor.filter(|floor| now < floor.until + LONGEST_FLOOR);
    }
}
