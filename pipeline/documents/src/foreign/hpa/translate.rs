//! From a `HorizontalPodAutoscaler` to a target and a rule for each of its metrics.
//!
//! One rule per metric, all of one priority: the largest capacity is obeyed, and a rule without an answer keeps the others from
//! scaling down. Both is what the autoscaler does with several metrics.

use std::time::Duration;

use tracescale_core::policy::{PolicySpec, SelectPolicy};

use crate::foreign::behavior;
use crate::foreign::hpa::{Hpa, Metric, MetricSource, MetricTarget};
use crate::foreign::signal::{Division, Signal, Source, is_metric_name, of_requests};
use crate::foreign::walk::Walk;
use crate::foreign::write::RuleText;
use crate::foreign::{Fate, rule_name};

/// How often the autoscaler looks (`--horizontal-pod-autoscaler-sync-period`).
const SYNC: Duration = Duration::from_secs(15);

/// Writes the documents.
pub(crate) fn translate(walk: &mut Walk, hpa: &Hpa) -> Vec<String> {
    let target = hpa.target.target(walk, "spec.scaleTargetRef.name", false);
    let mut policy = behavior::policy(walk, "spec.behavior", (hpa.min, hpa.max), hpa.behavior.as_ref());
    if hpa.metrics.len() > 1 && !policy.scale_up.stabilization_window.is_zero() {
        let message = "is applied to each metric by itself, so two metrics that are high in turn may scale up later than before";
        walk.assume(Fate::Approximate, "spec.behavior.scaleUp.stabilizationWindowSeconds", message, "");
    }
    let signals: Vec<_> =
        hpa.metrics.iter().enumerate().map(|(index, metric)| (metric, signal(walk, &format!("spec.metrics[{index}]"), metric))).collect();
    let lost: Vec<&str> = signals.iter().filter(|(_, signal)| signal.is_none()).map(|(metric, _)| metric.source.name()).collect();
    let warning = hold_down(walk, "spec.metrics", &lost, &mut policy);
    let mut documents = vec![target.write()];
    let mut names = Vec::new();
    for (metric, signal) in signals {
        let Some(signal) = signal else { continue };
        let part = (hpa.metrics.len() > 1).then(|| metric.source.name());
        let name = rule_name("hpa", &hpa.target.namespace, &hpa.name, part, &mut names);
        let wanted = metric.target.describe();
        let mut comments = vec![
            format!("Imported from HorizontalPodAutoscaler {}/{}: {} {wanted}.", hpa.target.namespace, hpa.name, metric.source.describe()),
            format!("Here: {}.", signal.source.describe()),
        ];
        comments.extend(assumption(&signal).into_iter().chain(warning.clone()));
        let sql = signal.sql(&target.name);
        documents.push(RuleText { name, comments, every: SYNC, target: target.name.clone(), sql, policy: policy.clone() }.write());
    }
    documents
}

/// Where a metric is lost, nobody knows whether it would keep the others from scaling down: the autoscaler does not scale down
/// while a metric has no value, and neither do the rules. Gives what to write above them.
pub(crate) fn hold_down(walk: &mut Walk, path: &str, lost: &[&str], policy: &mut PolicySpec) -> Option<String> {
    if lost.is_empty() {
        return None;
    }
    policy.scale_down.select_policy = SelectPolicy::Disabled;
    let names = lost.join(", ");
    let message = format!("without {names} nobody knows how low is safe: `scaleDown.selectPolicy: Disabled`");
    walk.assume(Fate::Approximate, path, message, "set it back to what it was once a rule stands for what is lost");
    Some(format!("Not carried over: {names}. So it never scales down: change `scaleDown.selectPolicy` once a rule stands for it."))
}

/// What a reader of the rule must know.
pub(crate) fn assumption(signal: &Signal) -> Option<String> {
    match &signal.source {
        Source::Load => {
            Some("Assumed: one request at a time keeps one requested core busy. Set `servers` to what a replica really has.".to_owned())
        }
        Source::Arrivals | Source::Concurrency | Source::Latency(_) => {
            Some("Assumed: the metric counts the requests that the spans of the service show.".to_owned())
        }
        Source::Gauge(name, _) | Source::Rate(name) | Source::Histogram(name, _) => {
            Some(format!("Needs the metric {name} by OTLP with the service.name of the target; while it is missing, nothing changes."))
        }
    }
}

fn signal(walk: &mut Walk, path: &str, metric: &Metric) -> Option<Signal> {
    let (name, division) = match (&metric.source, metric.target) {
        (MetricSource::Resource { name }, target) => return resource_signal(walk, path, name, target),
        (MetricSource::ContainerResource { name, container }, target) => {
            let message = format!("is about container {container} alone; here the whole pod is looked at");
            walk.assume(Fate::Approximate, &format!("{path}.containerResource.container"), message, "");
            return resource_signal(walk, path, name, target);
        }
        (source, MetricTarget::AverageValue(value)) => (source.name(), Division::PerReplica(value)),
        (source, MetricTarget::Value(value)) => (source.name(), Division::Ratio(value)),
        // Refused where it is read.
        (_, MetricTarget::Utilization(_)) => return None,
    };
    if let MetricSource::Object { object, .. } = &metric.source {
        let message = format!("is a metric of {object}; here it is looked for among those of the service");
        walk.assume(Fate::Approximate, &format!("{path}.object.describedObject"), message, "");
    }
    if !is_metric_name(name) {
        walk.assume(Fate::Lost, path, "has a name that no metric of OpenTelemetry has", "write a rule for it by hand");
        return None;
    }
    let source = of_requests(name).unwrap_or_else(|| Source::Gauge(name.to_owned(), level(&metric.source)));
    let message = format!("`{name}` is taken to be {}", source.describe());
    walk.assume(Fate::Approximate, path, message, "if it is something else, change the view and column in the rule");
    Some(Signal { source, division, activation: None })
}

/// Which column a level is: the autoscaler adds up pods and external series; an object has one figure, however many report it.
fn level(source: &MetricSource) -> &'static str {
    if matches!(source, MetricSource::Object { .. }) { "mean" } else { "total" }
}

/// The figure for a resource of the pods.
pub(crate) fn resource_signal(walk: &mut Walk, path: &str, name: &str, target: MetricTarget) -> Option<Signal> {
    let (source, division) = match (name, target) {
        ("cpu", MetricTarget::Utilization(percent)) => (Source::Load, Division::PerReplica(f64::from(percent) / 100.0)),
        ("cpu", MetricTarget::AverageValue(cores) | MetricTarget::Value(cores)) => (Source::Load, Division::PerReplica(cores)),
        ("memory", MetricTarget::Utilization(percent)) => {
            (Source::Gauge("k8s.pod.memory_request_utilization".to_owned(), "mean"), Division::Ratio(f64::from(percent) / 100.0))
        }
        ("memory", MetricTarget::AverageValue(bytes) | MetricTarget::Value(bytes)) => {
            (Source::Gauge("k8s.pod.memory.working_set".to_owned(), "total"), Division::PerReplica(bytes))
        }
        _ => {
            let hint = "send its use as a metric by OTLP and write a rule over metric_gauges";
            walk.assume(Fate::Lost, path, format!("the resource {name} has no counterpart in traces, nor a metric that we know"), hint);
            return None;
        }
    };
    let (message, hint) = if source == Source::Load {
        (
            "CPU use is not in traces: the time that requests keep the service busy stands for it, with one core per replica",
            "set `servers` in the rule to the cores that a replica requests",
        )
    } else {
        (
            "memory use is not in traces: the kubelet's own metric stands for it",
            "needs the kubeletstats receiver, with service.name on its metrics",
        )
    };
    walk.assume(Fate::Approximate, path, message, hint);
    Some(Signal { source, division, activation: None })
}

// === impl MetricSource ===

impl MetricSource {
    /// The name of the metric or resource.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Resource { name }
            | Self::ContainerResource { name, .. }
            | Self::Pods { name }
            | Self::Object { name, .. }
            | Self::External { name } => name,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Resource { name } => format!("resource {name}"),
            Self::ContainerResource { name, container } => format!("resource {name} of container {container}"),
            Self::Pods { name } => format!("pod metric {name}"),
            Self::Object { name, object } => format!("metric {name} of {object}"),
            Self::External { name } => format!("external metric {name}"),
        }
    }
}

// === impl MetricTarget ===

impl MetricTarget {
    /// What is wanted, for people.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Utilization(percent) => format!("at {percent} % of the request"),
            Self::AverageValue(value) => format!("at {value} per replica"),
            Self::Value(value) => format!("at {value} altogether"),
        }
    }
}
