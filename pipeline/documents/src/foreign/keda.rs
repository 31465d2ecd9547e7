//! `ScaledObject` of `keda.sh/v1alpha1`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::foreign::behavior::{self, Behavior};
use crate::foreign::walk::Walk;
use crate::foreign::{Fate, ObjectRef, object};
use crate::reader::{At, Fields};

mod translate;
mod trigger;

pub(crate) use translate::translate;

/// A `ScaledObject`, checked, with KEDA's defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaledObject {
    /// Name of the object.
    pub name: String,
    /// What it scales.
    pub target: ObjectRef,
    /// How often the step between zero and one is looked at (30 s).
    #[serde(with = "tracescale_core::duration::text")]
    pub polling_interval: Duration,
    /// How long after the last activity the target goes to zero or idle (300 s).
    #[serde(with = "tracescale_core::duration::text")]
    pub cooldown_period: Duration,
    /// The same for an object that was never active (0 s).
    #[serde(with = "tracescale_core::duration::text")]
    pub initial_cooldown_period: Duration,
    /// Replicas while no trigger is active; `None`: zero if `min` is zero.
    pub idle: Option<u32>,
    /// Fewest replicas (0). The autoscaler that KEDA makes has at least 1.
    pub min: u32,
    /// Most replicas (100).
    pub max: u32,
    /// What to do when a trigger fails again and again.
    pub fallback: Option<Fallback>,
    /// The triggers, in order.
    pub triggers: Vec<Trigger>,
    /// `advanced.horizontalPodAutoscalerConfig.behavior`.
    pub behavior: Option<Behavior>,
    /// What annotations hold still.
    pub paused: Paused,
    /// The annotation `force-activation`: active whatever the triggers say.
    pub force_activation: bool,
}

/// What to do when a trigger fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fallback {
    /// After more than so many failures in a row.
    pub failure_threshold: u32,
    /// Go to so many replicas.
    pub replicas: u32,
    /// `static`, or how it is compared with the current replicas.
    pub behavior: String,
}

/// One trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trigger {
    /// KEDA's type: `cpu`, `prometheus`, …
    pub kind: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// All its metadata as written; values are texts.
    pub metadata: BTreeMap<String, String>,
    /// What it demands, where that is known.
    pub demand: Demand,
}

/// What a trigger demands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Demand {
    /// CPU or memory of the pods, as in a `HorizontalPodAutoscaler`.
    Resource {
        /// `cpu` or `memory`.
        resource: String,
        /// Percent of the request, or an amount per pod.
        target: super::hpa::MetricTarget,
    },
    /// The answer to a PromQL query.
    Prometheus {
        /// The query.
        query: String,
        /// Wanted per replica, or altogether.
        target: super::hpa::MetricTarget,
        /// Active above this.
        activation: f64,
        /// Count an empty answer as zero (KEDA's default).
        ignore_null_values: bool,
    },
    /// What waits in a queue.
    Backlog {
        /// The metric under which OpenTelemetry's collector reports it.
        metric: String,
        /// Wanted per replica, or altogether.
        target: super::hpa::MetricTarget,
        /// Active above this.
        activation: f64,
    },
    /// A span of time.
    Cron {
        /// IANA name.
        timezone: String,
        /// Cron expression of the begin.
        start: String,
        /// Cron expression of the end.
        end: String,
        /// Replicas in between.
        replicas: u32,
    },
    /// Nothing that telemetry shows.
    Unknown,
}

/// What annotations hold still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Paused {
    /// No change at all.
    pub all: bool,
    /// Go to so many replicas and stay.
    pub replicas: Option<u32>,
    /// No change downwards.
    pub scale_in: bool,
    /// No change upwards.
    pub scale_out: bool,
}

/// Reads the whole object.
pub(crate) fn read(walk: &mut Walk, root: &mut Fields<'_>) -> Option<ScaledObject> {
    let metadata = object::metadata(walk, root);
    let (paused, force_activation) = annotations(walk, &metadata);
    let at = root.require(&mut walk.reader, "spec", "spec: {scaleTargetRef: …, triggers: …}")?;
    let mut fields = walk.reader.fields(&at)?;
    let target = object::scale_target(walk, &mut fields, &metadata, Some("Deployment"));
    let polling_interval = seconds(walk, &mut fields, "pollingInterval", 30);
    let cooldown_period = seconds(walk, &mut fields, "cooldownPeriod", 300);
    let initial_cooldown_period = seconds(walk, &mut fields, "initialCooldownPeriod", 0);
    let bounds = bounds(walk, &mut fields);
    let idle = fields.take(&mut walk.reader, "idleReplicaCount").map(|at| (walk.replicas(&at), at));
    if let (Some((Some(idle), at)), Some((min, _))) = (&idle, bounds)
        && *idle >= min
    {
        walk.reader.wrong(at, format!("must be less than minReplicaCount ({min})"), "leave it out to scale to zero".to_owned());
    }
    let fallback = fields.take(&mut walk.reader, "fallback").map(|at| fallback(walk, &at));
    let behavior = fields.take(&mut walk.reader, "advanced").and_then(|at| advanced(walk, &at));
    let triggers = fields.require(&mut walk.reader, "triggers", "at least one trigger").map(|at| {
        let items = walk.items(&at);
        if items.is_empty() {
            walk.reader.wrong(&at, "must hold at least one trigger", None);
        }
        items.iter().map(|at| trigger::read(walk, at)).collect::<Option<Vec<_>>>()
    });
    walk.rest(fields);
    let (min, max) = bounds?;
    Some(ScaledObject {
        name: metadata.name?,
        target: target?,
        polling_interval: polling_interval?,
        cooldown_period: cooldown_period?,
        initial_cooldown_period: initial_cooldown_period?,
        idle: idle.and_then(|(idle, _)| idle),
        min,
        max,
        fallback: fallback.flatten(),
        triggers: triggers??,
        behavior,
        paused,
        force_activation,
    })
}

fn seconds(walk: &mut Walk, fields: &mut Fields<'_>, name: &'static str, default: u64) -> Option<Duration> {
    match fields.take(&mut walk.reader, name) {
        Some(at) => walk.seconds(&at),
        None => Some(Duration::from_secs(default)),
    }
}

fn bounds(walk: &mut Walk, fields: &mut Fields<'_>) -> Option<(u32, u32)> {
    let min = fields.take(&mut walk.reader, "minReplicaCount");
    let max = fields.take(&mut walk.reader, "maxReplicaCount");
    let least = min.as_ref().map_or(Some(0), |at| walk.replicas(at));
    let most = max.as_ref().map_or(Some(100), |at| walk.replicas(at));
    let (least, most) = (least?, most?);
    let at = min.as_ref().or(max.as_ref());
    if let Some(at) = at.filter(|_| least > most) {
        walk.reader.wrong(at, format!("minReplicaCount ({least}) is larger than maxReplicaCount ({most})"), None);
        return None;
    }
    if let Some(at) = max.as_ref().filter(|_| most == 0) {
        walk.reader.wrong(at, "must be at least 1", None);
        return None;
    }
    match &min {
        Some(at) => walk.exact(at, "is `policy.min`; beside `idleReplicaCount`, what the query returns at least while active"),
        None => walk.assume(Fate::Exact, "spec.minReplicaCount", "is not written: 0", ""),
    }
    match &max {
        Some(at) => walk.exact(at, "is `policy.max`"),
        None => walk.assume(Fate::Exact, "spec.maxReplicaCount", "is not written: 100", ""),
    }
    Some((least, most))
}

fn fallback(walk: &mut Walk, at: &At<'_>) -> Option<Fallback> {
    let mut fields = walk.reader.fields(at)?;
    let threshold = fields.require(&mut walk.reader, "failureThreshold", "such as 3").and_then(|at| walk.replicas(&at));
    let replicas = fields.require(&mut walk.reader, "replicas", "the replicas to go to").and_then(|at| walk.replicas(&at));
    let words = ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower", "scalingModifiers"];
    let behavior = match fields.take(&mut walk.reader, "behavior") {
        Some(at) => walk.reader.one_of(&at, &words.map(|word| (word, word))),
        None => Some("static"),
    };
    walk.rest(fields);
    Some(Fallback { failure_threshold: threshold?, replicas: replicas?, behavior: behavior?.to_owned() })
}

fn advanced(walk: &mut Walk, at: &At<'_>) -> Option<Behavior> {
    let mut fields = walk.reader.fields(at)?;
    if let Some(at) = fields.take(&mut walk.reader, "restoreToOriginalReplicaCount") {
        walk.note(Fate::Lost, &at, "sets the replicas back when the object is deleted; nothing here does", "");
    }
    if let Some(at) = fields.take(&mut walk.reader, "scalingModifiers") {
        let hint = "write the formula as SQL in one rule: join the views of its triggers";
        walk.note(Fate::Lost, &at, "is a formula over the triggers; here each trigger has a rule of its own and the largest wins", hint);
    }
    let config = fields.take(&mut walk.reader, "horizontalPodAutoscalerConfig");
    walk.rest(fields);
    let mut fields = walk.reader.fields(&config?)?;
    if let Some(at) = fields.take(&mut walk.reader, "name") {
        walk.note(Fate::Lost, &at, "names the autoscaler that KEDA makes; there is none here", "");
    }
    let behavior = fields.take(&mut walk.reader, "behavior").and_then(|at| behavior::read(walk, &at));
    walk.rest(fields);
    behavior
}

fn annotations(walk: &mut Walk, metadata: &object::Metadata<'_>) -> (Paused, bool) {
    let (mut paused, mut force) = (Paused::default(), false);
    let Some(mut fields) = metadata.annotations.as_ref().and_then(|at| walk.reader.fields(at)) else { return (paused, force) };
    if let Some(at) = fields.take(&mut walk.reader, "autoscaling.keda.sh/paused") {
        paused.all = walk.truth(&at).unwrap_or_default();
        walk.exact(&at, "is `paused` of the ScalingTarget");
    }
    if let Some(at) = fields.take(&mut walk.reader, "autoscaling.keda.sh/paused-replicas") {
        paused.replicas = walk.replicas(&at);
        let hint = "scale the object by hand, or write `override` with an end";
        walk.note(Fate::Approximate, &at, "pauses the ScalingTarget, at the replicas that it has", hint);
    }
    if let Some(at) = fields.take(&mut walk.reader, "autoscaling.keda.sh/paused-scale-in") {
        paused.scale_in = walk.truth(&at).unwrap_or_default();
        walk.exact(&at, "is `scaleDown.selectPolicy: Disabled`");
    }
    if let Some(at) = fields.take(&mut walk.reader, "autoscaling.keda.sh/paused-scale-out") {
        paused.scale_out = walk.truth(&at).unwrap_or_default();
        walk.exact(&at, "is `scaleUp.selectPolicy: Disabled`");
    }
    if let Some(at) = fields.take(&mut walk.reader, "autoscaling.keda.sh/force-activation") {
        force = walk.truth(&at).unwrap_or_default();
        walk.exact(&at, "is `policy.min` of at least 1");
    }
    for at in fields.rest() {
        walk.note(Fate::Lost, &at, "is not an annotation that is known here", "");
    }
    (paused, force)
}
