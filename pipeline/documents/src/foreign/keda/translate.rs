//! From a `ScaledObject` to a target and a rule for each trigger whose figure telemetry shows.

use std::time::Duration;

use tracescale_core::duration;
use tracescale_core::policy::{OnMissing, PolicySpec, ScheduleSpec, SelectPolicy};

use crate::foreign::behavior;
use crate::foreign::hpa::{self, MetricTarget};
use crate::foreign::keda::{Demand, ScaledObject, trigger};
use crate::foreign::signal::{Activation, Division, Signal, Source};
use crate::foreign::walk::Walk;
use crate::foreign::write::{RuleText, literal, number};
use crate::foreign::{Fate, promql, rule_name};

/// How often the autoscaler that KEDA makes looks.
const SYNC: Duration = Duration::from_secs(15);

/// Writes the documents.
pub(crate) fn translate(walk: &mut Walk, object: &ScaledObject) -> Vec<String> {
    let target = object.target.target(walk, "spec.scaleTargetRef.name", object.paused.all || object.paused.replicas.is_some());
    let mut policy = policy(walk, object);
    let every = SYNC.min(object.polling_interval).max(Duration::from_secs(1));
    let interval = duration::format(every);
    let message = format!("steps between zero and one are looked at together with all others: `every: {interval}`");
    walk.assume(Fate::Approximate, "spec.pollingInterval", message, "");
    let signals: Vec<_> = object
        .triggers
        .iter()
        .enumerate()
        .map(|(index, trigger)| (trigger, signal(walk, &format!("spec.triggers[{index}]"), object, &trigger.demand)))
        .collect();
    // A span of time is in the schedules, unless its length could not be told.
    let is_lost = |demand: &Demand| match demand {
        Demand::Cron { start, end, .. } => trigger::minutes_between(start, end).is_none(),
        _ => true,
    };
    let lost = signals.iter().filter(|(trigger, signal)| signal.is_none() && is_lost(&trigger.demand));
    let lost: Vec<&str> = lost.map(|(trigger, _)| trigger.name.as_deref().unwrap_or(&trigger.kind)).collect();
    let warning = hpa::hold_down(walk, "spec.triggers", &lost, &mut policy);
    let mut documents = vec![target.write()];
    let mut names = Vec::new();
    for (trigger, signal) in signals {
        let Some(signal) = signal else { continue };
        let part = (object.triggers.len() > 1).then(|| trigger.name.as_deref().unwrap_or(&trigger.kind));
        let comments = [
            format!("Imported from ScaledObject {}/{}: trigger {}.", object.target.namespace, object.name, trigger.kind),
            format!("Here: {}.", signal.source.describe()),
        ];
        documents.push(
            RuleText {
                name: rule_name("keda", &object.target.namespace, &object.name, part, &mut names),
                comments: comments.into_iter().chain(hpa::assumption(&signal)).chain(warning.clone()).collect(),
                every,
                target: target.name.clone(),
                sql: signal.sql(&target.name),
                policy: policy.clone(),
            }
            .write(),
        );
    }
    if names.is_empty() && !policy.schedules.is_empty() {
        documents.push(clock(object, every, &target.name, &policy));
    } else if names.is_empty() {
        let hint = "write a rule for the target by hand; bounds and behavior of this object are in no rule";
        walk.assume(Fate::Lost, "spec.triggers", "no trigger could be carried over: there is a target, but no rule", hint);
    }
    documents
}

/// The rule of an object that only follows the clock: the fewest replicas always, and what its schedules say.
fn clock(object: &ScaledObject, every: Duration, target: &str, policy: &PolicySpec) -> String {
    let mut policy = policy.clone();
    // The clock is certain at once: there are no windows to wait for.
    policy.gates.scale_down_needs_final = Some(false);
    let least = number(f64::from(policy.min));
    RuleText {
        name: rule_name("keda", &object.target.namespace, &object.name, None, &mut Vec::new()),
        comments: vec![format!("Imported from ScaledObject {}/{}: the clock alone.", object.target.namespace, object.name)],
        every,
        target: target.to_owned(),
        sql: format!("SELECT t.target, {least} AS replicas\nFROM targets t\nWHERE t.target = {}", literal(target)),
        policy,
    }
    .write()
}

fn policy(walk: &mut Walk, object: &ScaledObject) -> PolicySpec {
    let path = "spec.advanced.horizontalPodAutoscalerConfig.behavior";
    let floor = object.idle.map_or(object.min, |idle| idle.min(object.min));
    let mut policy = behavior::policy(walk, path, (floor, object.max), object.behavior.as_ref());
    if object.force_activation {
        policy.min = policy.min.max(1);
    }
    if object.paused.scale_in {
        policy.scale_down.select_policy = SelectPolicy::Disabled;
    }
    if object.paused.scale_out {
        policy.scale_up.select_policy = SelectPolicy::Disabled;
    }
    if let Some(idle) = object.idle {
        let message =
            format!("is `policy.min` ({idle}); the query returns it while nothing is active, and at least minReplicaCount otherwise");
        walk.assume(Fate::Exact, "spec.idleReplicaCount", message, "");
    }
    cooldown(walk, object, &mut policy);
    fallback(walk, object, &mut policy);
    schedules(walk, object, &mut policy);
    policy
}

/// KEDA waits before it goes to zero; here every way down is stabilized for as long.
fn cooldown(walk: &mut Walk, object: &ScaledObject, policy: &mut PolicySpec) {
    if !object.initial_cooldown_period.is_zero() {
        let message = "waits before the first step to zero of a new object; here there is no such wait";
        walk.assume(Fate::Lost, "spec.initialCooldownPeriod", message, "");
    }
    let window = policy.scale_down.stabilization_window;
    if policy.min > 0 {
        walk.assume(Fate::Exact, "spec.cooldownPeriod", "means nothing to an object that never goes to zero or idle", "");
    } else if object.cooldown_period == window {
        let message = "is as long as the stabilization on the way down, which does the same";
        walk.assume(Fate::Exact, "spec.cooldownPeriod", message, "");
    } else if object.cooldown_period > window {
        let message = "is `scaleDown.stabilizationWindow`, so it holds back every way down, not only the one to zero";
        walk.assume(Fate::Approximate, "spec.cooldownPeriod", message, "");
        policy.scale_down.stabilization_window = object.cooldown_period;
    } else {
        let message = "is shorter than the stabilization on the way down, which holds for the way to zero too";
        walk.assume(Fate::Approximate, "spec.cooldownPeriod", message, "shorten `scaleDown.stabilizationWindow`");
    }
}

fn fallback(walk: &mut Walk, object: &ScaledObject, policy: &mut PolicySpec) {
    let Some(fallback) = &object.fallback else {
        walk.assume(Fate::Approximate, "spec.fallback", "is not written: missing data holds the replicas", "");
        return;
    };
    let replicas = fallback.replicas.clamp(policy.min, policy.max);
    let after = object.polling_interval.saturating_mul(fallback.failure_threshold).min(Duration::from_secs(7 * 24 * 3600));
    if matches!(fallback.behavior.as_str(), "static" | "currentReplicasIfHigher" | "currentReplicasIfLower") {
        if replicas != fallback.replicas {
            let message = format!("is outside the bounds; {replicas} is the nearest inside");
            walk.assume(Fate::Approximate, "spec.fallback.replicas", message, "");
        }
        policy.on_missing = OnMissing::After { after, replicas };
        let message = format!("is `onMissing` after {} without data: the threshold times the polling interval", duration::format(after));
        walk.assume(Fate::Approximate, "spec.fallback", message, "");
    }
    match fallback.behavior.as_str() {
        "static" => {}
        "scalingModifiers" => walk.assume(Fate::Lost, "spec.fallback", "is a formula; missing data holds the replicas", ""),
        "currentReplicas" => walk.assume(Fate::Exact, "spec.fallback.behavior", "is `onMissing: hold`", ""),
        _ => {
            let message = format!("is `{}`; here the number holds whatever the current replicas are", fallback.behavior);
            walk.assume(Fate::Approximate, "spec.fallback.behavior", message, "");
        }
    }
}

/// Cron triggers are floors for a time. The policy of every rule has them, since the bounds of all rules hold.
fn schedules(walk: &mut Walk, object: &ScaledObject, policy: &mut PolicySpec) {
    for (index, trigger) in object.triggers.iter().enumerate() {
        let Demand::Cron { timezone, start, end, replicas } = &trigger.demand else { continue };
        let path = format!("spec.triggers[{index}]");
        let Some(minutes) = trigger::minutes_between(start, end) else {
            let hint = "write an entry of `schedules` by hand: it begins at a cron expression and lasts for a duration";
            walk.assume(Fate::Lost, &path, format!("how long it is from `{start}` to `{end}` cannot be told"), hint);
            continue;
        };
        let floor = (*replicas).clamp(policy.min, policy.max);
        let fate = if floor == *replicas { Fate::Exact } else { Fate::Approximate };
        walk.assume(fate, &path, format!("is an entry of `schedules` with `min: {floor}`"), "");
        policy.schedules.push(ScheduleSpec {
            name: format!("cron-{index}"),
            cron: start.clone(),
            timezone: timezone.clone(),
            duration: Duration::from_secs(u64::from(minutes) * 60),
            min: Some(floor),
            max: None,
        });
    }
}

fn signal(walk: &mut Walk, path: &str, object: &ScaledObject, demand: &Demand) -> Option<Signal> {
    let (source, target, above) = match demand {
        Demand::Resource { resource, target } => {
            let signal = hpa::resource_signal(walk, path, resource, *target)?;
            let activation = activation(object, 0.0);
            if activation.is_some() && signal.source != Source::Load {
                let message = "never falls to zero while there is a replica, so this rule keeps the object from going to zero or idle";
                walk.assume(Fate::Approximate, path, message, "remove the rule to let the others do so");
            }
            return Some(Signal { activation, ..signal });
        }
        Demand::Prometheus { query, target, activation, .. } => (prometheus(walk, path, query)?, *target, *activation),
        Demand::Backlog { metric, target, activation } => (Source::Gauge(metric.clone(), "total"), *target, *activation),
        // Spans of time are in the policy; the rest was noted where it was read.
        Demand::Cron { .. } | Demand::Unknown => return None,
    };
    let division = match target {
        MetricTarget::Value(value) => Division::Ratio(value),
        MetricTarget::AverageValue(value) => Division::PerReplica(value),
        MetricTarget::Utilization(_) => return None,
    };
    let activation = activation(object, above);
    if activation.is_none() && above > 0.0 {
        walk.assume(Fate::Lost, path, "the activation means nothing where the target never goes to zero", "");
    }
    Some(Signal { source, division, activation })
}

/// What the object does while a figure shows nothing to do; `None` where it never goes to zero or idle.
fn activation(object: &ScaledObject, above: f64) -> Option<Activation> {
    let can_idle = !object.force_activation && (object.min == 0 || object.idle.is_some());
    can_idle.then_some(Activation { above, idle: object.idle.unwrap_or(0), least: object.min.max(1) })
}

fn prometheus(walk: &mut Walk, path: &str, query: &str) -> Option<Source> {
    let path = format!("{path}.metadata.query");
    let Some(reading) = promql::read(query) else {
        let hint = "write the query as SQL over the views: one level or rate of one metric is what is understood here";
        walk.assume(Fate::Lost, &path, "is not understood, so its trigger has no rule", hint);
        return None;
    };
    walk.assume(Fate::Approximate, &path, format!("is taken to be {}, over one minute", reading.source.describe()), "");
    for ignored in reading.ignored {
        let hint = "the views add up all series of the service's own telemetry";
        walk.assume(Fate::Lost, &path, format!("`{ignored}` is left out"), hint);
    }
    Some(reading.source)
}
