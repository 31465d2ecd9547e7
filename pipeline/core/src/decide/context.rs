//! What is known beside target, capacity and rules. All of it is optional: a guard that lacks what it needs does nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::figure;
use crate::budget::BudgetShare;
use crate::cascade::Hold;
use crate::proportion::Count;
use crate::target::TargetSpec;
use crate::time::Timestamp;

/// A diagnosis older than this is none.
pub const DIAGNOSIS_LIMIT: Duration = Duration::from_secs(180);
/// Share of requests within the objective where the diagnosis does not state it.
const OBJECTIVE: f64 = 0.99;
/// Utilization up to which a service is not short of capacity, where the diagnosis does not state it.
const SAFE_UTILIZATION: f64 = 0.7;
/// Fewest requests behind a verdict about causes.
const MIN_REQUESTS: u64 = 100;
/// Fewest slow requests behind a verdict about causes.
const MIN_SLOW: u64 = 10;
/// Part of the requests that callers account for below which telemetry is lost until proven otherwise.
const HEARD: f64 = 0.4;
/// Part of the requests that metrics count, accounted for by spans, below which traces are sampled until somebody says how.
const TRACED: f64 = 0.7;
/// A service that is responsible for less than this share of the slow requests is not the cause.
const MIN_SHARE: f64 = 0.5;

/// What a decision may use beside the rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Context {
    /// What is known of the target's service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// Replicas that the target usually has at this hour of the week (its 95th percentile).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual: Option<u32>,
    /// What the budgets leave to the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetShare>,
    /// The target whose change must take effect before this one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// What is known of the target's service, besides what rules say, from one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// End of the window.
    pub at: Timestamp,
    /// Length of the window. Changes are verified between windows of one length, with 300 requests each.
    #[serde(with = "crate::duration::text")]
    pub window: Duration,
    /// Requests served in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Requests among them that took longer than the target's latency objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violations: Option<u64>,
    /// Requests among them that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<u64>,
    /// Share of requests that must be within the objective, 0..1 (0.99 where it is not stated).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<f64>,
    /// Utilization of the service's own servers, 0..1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<f64>,
    /// Utilization up to which it is not short of capacity, 0..1 (0.7 where it is not stated).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe_utilization: Option<f64>,
    /// Share of the time of its requests that they waited for a server of its own, 0..1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_share: Option<f64>,
    /// Who is responsible for slow requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// True when more replicas would not help, whoever is responsible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub futile: Option<bool>,
    /// Requests that the service reports, as a part of those that its callers account for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<f64>,
    /// Replicas that are ready and, unlike before, send nothing, though so many requests come that each must have some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Silent>,
    /// Requests that its spans account for, as a part of those that its metrics count; stated where the two differ for minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traced: Option<f64>,
    /// When a new version of the service was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed_at: Option<Timestamp>,
}

/// Replicas that serve unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Silent {
    /// How many are not heard of.
    pub instances: u32,
    /// Of how many that are ready.
    pub ready: u32,
}

/// Who is responsible for slow requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// Its `service.name`.
    pub service: String,
    /// What is wrong there, a label for people such as `saturated` or `slow_dependency`.
    pub kind: String,
    /// Share of the slow requests that it is responsible for, 0..1.
    pub share: f64,
}

// === impl Context ===

impl Context {
    /// True when nothing is known; then records leave it out.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every figure of twelve digits or absent, as in proposals.
    #[must_use]
    pub(crate) fn normalized(mut self) -> Self {
        self.diagnosis = self.diagnosis.map(Diagnosis::normalized);
        self
    }

    /// The diagnosis, unless it is too old to be one.
    pub(super) fn diagnosis(&self, now: Timestamp) -> Option<&Diagnosis> {
        self.diagnosis.as_ref().filter(|diagnosis| now.since(diagnosis.at) <= DIAGNOSIS_LIMIT)
    }
}

// === impl Diagnosis ===

impl Diagnosis {
    /// A diagnosis that says nothing yet of a window.
    #[must_use]
    pub fn new(at: Timestamp, window: Duration) -> Self {
        Self {
            at,
            window,
            requests: None,
            violations: None,
            errors: None,
            objective: None,
            utilization: None,
            safe_utilization: None,
            queue_share: None,
            cause: None,
            futile: None,
            heard: None,
            silent: None,
            traced: None,
            deployed_at: None,
        }
    }

    /// True when far fewer requests are reported than callers sent.
    pub(super) fn is_unheard(&self) -> bool {
        self.heard.is_some_and(|heard| heard < HEARD)
    }

    /// True when spans account for far fewer requests than metrics count.
    pub(super) fn is_sampled(&self) -> bool {
        self.traced.is_some_and(|traced| traced < TRACED)
    }

    fn normalized(mut self) -> Self {
        let share = |value: Option<f64>| value.filter(|value| *value >= 0.0).and_then(figure);
        self.objective = share(self.objective).filter(|share| *share <= 1.0);
        self.utilization = share(self.utilization);
        self.safe_utilization = share(self.safe_utilization);
        self.queue_share = share(self.queue_share);
        self.heard = share(self.heard);
        self.traced = share(self.traced);
        self.silent = self.silent.filter(|silent| silent.instances > 0);
        self.cause = self.cause.and_then(|cause| share(Some(cause.share)).map(|share| Cause { share, ..cause }));
        self
    }

    /// Requests over the objective among all.
    #[must_use]
    pub fn slow(&self) -> Option<Count> {
        Some(Count { bad: self.violations?, all: self.requests? })
    }

    /// Failed requests among all.
    #[must_use]
    pub fn failed(&self) -> Option<Count> {
        Some(Count { bad: self.errors?, all: self.requests? })
    }

    /// Share of requests that may be over the objective.
    pub(super) fn allowance(&self) -> f64 {
        1.0 - self.objective.unwrap_or(OBJECTIVE)
    }

    /// True when the service's own load calls for capacity; `None` when nobody knows its load.
    pub(super) fn is_loaded(&self) -> Option<bool> {
        self.utilization.map(|own| own >= self.safe_utilization.unwrap_or(SAFE_UTILIZATION))
    }

    /// True when enough requests, and enough slow ones, stand behind what it says of causes.
    fn is_solid(&self) -> bool {
        self.slow().is_some_and(|slow| slow.all >= MIN_REQUESTS && slow.bad >= MIN_SLOW)
    }

    /// Another service that is responsible for most of the slow requests of the target's, on solid evidence.
    pub(super) fn culprit(&self, target: &TargetSpec) -> Option<&Cause> {
        let is_other = |cause: &&Cause| cause.share >= MIN_SHARE && cause.service != target.service.service_name;
        self.cause.as_ref().filter(|_| self.is_solid()).filter(is_other)
    }

    /// True when it says, on solid evidence, that more replicas would not help.
    pub(super) fn is_futile(&self) -> bool {
        self.futile == Some(true) && self.is_solid()
    }
}
