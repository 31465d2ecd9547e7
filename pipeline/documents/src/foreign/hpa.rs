//! `HorizontalPodAutoscaler`, versions `autoscaling/v1` and `autoscaling/v2`.

use serde::{Deserialize, Serialize};

use crate::foreign::behavior::{self, Behavior};
use crate::foreign::walk::Walk;
use crate::foreign::{Fate, ObjectRef, object};
use crate::reader::{At, Fields};

mod translate;

pub(crate) use translate::{assumption, hold_down, resource_signal, translate};

/// CPU utilization that the API server aims at where an object names no metric, in percent.
pub const DEFAULT_CPU_PERCENT: u32 = 80;

/// A `HorizontalPodAutoscaler`, checked, with the defaults that the API server fills in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hpa {
    /// Name of the autoscaler.
    pub name: String,
    /// What it scales.
    pub target: ObjectRef,
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas; not below `min`.
    pub max: u32,
    /// At least one; the largest proposal wins.
    pub metrics: Vec<Metric>,
    /// `None`: the older rules (at each sync at most twice the replicas or 4; down after 300 s).
    pub behavior: Option<Behavior>,
}

/// A metric and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metric {
    /// Where it comes from.
    pub source: MetricSource,
    /// What is wanted of it.
    pub target: MetricTarget,
}

/// Where a metric comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum MetricSource {
    /// A resource of all containers of a pod.
    Resource {
        /// `cpu` or `memory`, or a resource of the cluster's own.
        name: String,
    },
    /// A resource of one container.
    ContainerResource {
        /// `cpu` or `memory`.
        name: String,
        /// The container.
        container: String,
    },
    /// A metric of each pod.
    Pods {
        /// Its name.
        name: String,
    },
    /// A metric of one object of the cluster.
    Object {
        /// Its name.
        name: String,
        /// Kind and name of the object, `Ingress/shop`.
        object: String,
    },
    /// A metric from outside the cluster.
    External {
        /// Its name.
        name: String,
    },
}

/// What is wanted of a metric. Quantities are plain numbers: bytes, cores, requests per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MetricTarget {
    /// Percent of what the pods request, on average.
    Utilization(u32),
    /// So much per pod on average.
    AverageValue(f64),
    /// So much altogether.
    Value(f64),
}

/// Reads the whole object.
pub(crate) fn read(walk: &mut Walk, root: &mut Fields<'_>, version: &str) -> Option<Hpa> {
    let metadata = object::metadata(walk, root);
    object::no_annotations(walk, &metadata);
    let spec = root.require(&mut walk.reader, "spec", "spec: {scaleTargetRef: …, maxReplicas: …}");
    let at = spec?;
    let mut fields = walk.reader.fields(&at)?;
    let target = object::scale_target(walk, &mut fields, &metadata, None);
    let bounds = bounds(walk, &mut fields);
    let mut metrics: Vec<Option<Metric>> = Vec::new();
    if version == "autoscaling/v1" {
        metrics.extend(cpu_percent(walk, &mut fields));
    } else if let Some(at) = fields.take(&mut walk.reader, "metrics") {
        metrics.extend(walk.items(&at).iter().map(|at| metric(walk, at)));
    }
    if metrics.is_empty() {
        let message = format!("is not written, so CPU utilization of {DEFAULT_CPU_PERCENT} % is what the API server fills in");
        walk.assume(Fate::Exact, "spec.metrics", message, "");
        let source = MetricSource::Resource { name: "cpu".to_owned() };
        metrics.push(Some(Metric { source, target: MetricTarget::Utilization(DEFAULT_CPU_PERCENT) }));
    }
    let behavior = fields.take(&mut walk.reader, "behavior").map(|at| behavior::read(walk, &at));
    walk.rest(fields);
    let (min, max) = bounds?;
    Some(Hpa {
        name: metadata.name?,
        target: target?,
        min,
        max,
        metrics: metrics.into_iter().collect::<Option<_>>()?,
        behavior: behavior.unwrap_or_default(),
    })
}

fn bounds(walk: &mut Walk, fields: &mut Fields<'_>) -> Option<(u32, u32)> {
    let min = fields.take(&mut walk.reader, "minReplicas");
    let least = match &min {
        Some(at) => walk.replicas(at),
        None => {
            walk.assume(Fate::Exact, "spec.minReplicas", "is not written: 1", "");
            Some(1)
        }
    };
    let max = fields.require(&mut walk.reader, "maxReplicas", "the most replicas")?;
    let most = walk.replicas(&max)?;
    if most == 0 {
        walk.reader.wrong(&max, "must be at least 1", None);
        return None;
    }
    let least = least?;
    if let Some(at) = &min {
        if least > most {
            walk.reader.wrong(at, format!("is larger than maxReplicas ({most})"), format!("a number from 0 to {most}"));
            return None;
        }
        walk.exact(at, "is `policy.min`");
    }
    walk.exact(&max, "is `policy.max`");
    Some((least, most))
}

/// The only metric of version 1.
fn cpu_percent(walk: &mut Walk, fields: &mut Fields<'_>) -> Option<Option<Metric>> {
    let at = fields.take(&mut walk.reader, "targetCPUUtilizationPercentage")?;
    let percent = walk.replicas(&at);
    if percent == Some(0) {
        walk.reader.wrong(&at, "must be at least 1", None);
    }
    let source = MetricSource::Resource { name: "cpu".to_owned() };
    Some(percent.map(|percent| Metric { source, target: MetricTarget::Utilization(percent) }))
}

#[derive(Clone, Copy)]
enum Kind {
    Resource,
    ContainerResource,
    Pods,
    Object,
    External,
}

fn metric(walk: &mut Walk, at: &At<'_>) -> Option<Metric> {
    let mut fields = walk.reader.fields(at)?;
    let kinds = [
        ("Resource", Kind::Resource),
        ("ContainerResource", Kind::ContainerResource),
        ("Pods", Kind::Pods),
        ("Object", Kind::Object),
        ("External", Kind::External),
    ];
    let names = "Resource, ContainerResource, Pods, Object or External";
    let kind = fields.require(&mut walk.reader, "type", names).and_then(|at| walk.reader.one_of(&at, &kinds));
    let metric = kind.and_then(|kind| {
        let field = match kind {
            Kind::Resource => "resource",
            Kind::ContainerResource => "containerResource",
            Kind::Pods => "pods",
            Kind::Object => "object",
            Kind::External => "external",
        };
        let at = fields.require(&mut walk.reader, field, "the metric itself")?;
        let mut fields = walk.reader.fields(&at)?;
        let metric = source(walk, &mut fields, kind);
        let target = fields.require(&mut walk.reader, "target", "such as {type: Utilization, averageUtilization: 70}");
        let target = target.and_then(|at| self::target(walk, &at, kind));
        walk.rest(fields);
        Some(Metric { source: metric?, target: target? })
    });
    walk.rest(fields);
    metric
}

fn source(walk: &mut Walk, fields: &mut Fields<'_>, kind: Kind) -> Option<MetricSource> {
    match kind {
        Kind::Resource => walk.text_of(fields, "name", "cpu or memory").map(|name| MetricSource::Resource { name }),
        Kind::ContainerResource => {
            let name = walk.text_of(fields, "name", "cpu or memory");
            let container = walk.text_of(fields, "container", "the name of the container");
            Some(MetricSource::ContainerResource { name: name?, container: container? })
        }
        Kind::Pods => metric_name(walk, fields).map(|name| MetricSource::Pods { name }),
        Kind::External => metric_name(walk, fields).map(|name| MetricSource::External { name }),
        Kind::Object => {
            let name = metric_name(walk, fields);
            let at = fields.require(&mut walk.reader, "describedObject", "{apiVersion, kind, name}")?;
            let mut described = walk.reader.fields(&at)?;
            let kind = walk.text_of(&mut described, "kind", "such as Ingress");
            let object = walk.text_of(&mut described, "name", "the name of the object");
            let _ = described.take(&mut walk.reader, "apiVersion");
            walk.rest(described);
            Some(MetricSource::Object { name: name?, object: format!("{}/{}", kind?, object?) })
        }
    }
}

fn metric_name(walk: &mut Walk, fields: &mut Fields<'_>) -> Option<String> {
    let at = fields.require(&mut walk.reader, "metric", "metric: {name: …}")?;
    let mut metric = walk.reader.fields(&at)?;
    let name = walk.text_of(&mut metric, "name", "the name of the metric");
    if let Some(at) = metric.take(&mut walk.reader, "selector") {
        let hint = "views add up all series of a metric; write a view of your own over `metrics` with attribute(attributes, …)";
        walk.note(Fate::Lost, &at, "selects among series, which the views do not keep apart", hint);
    }
    walk.rest(metric);
    name
}

#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Utilization,
    AverageValue,
    Value,
}

fn target(walk: &mut Walk, at: &At<'_>, kind: Kind) -> Option<MetricTarget> {
    let mut fields = walk.reader.fields(at)?;
    let types = [("Utilization", Wanted::Utilization), ("AverageValue", Wanted::AverageValue), ("Value", Wanted::Value)];
    let wanted = fields.require(&mut walk.reader, "type", "Utilization, AverageValue or Value").and_then(|at| {
        let wanted = walk.reader.one_of(&at, &types)?;
        let fits = match kind {
            Kind::Resource | Kind::ContainerResource => wanted != Wanted::Value,
            Kind::Pods => wanted == Wanted::AverageValue,
            Kind::Object | Kind::External => wanted != Wanted::Utilization,
        };
        if !fits {
            walk.reader.wrong(&at, "is not a target that a metric of this type can have", "see the reference of autoscaling/v2".to_owned());
        }
        fits.then_some(wanted)
    });
    let target = wanted.and_then(|wanted| match wanted {
        Wanted::Utilization => {
            let at = fields.require(&mut walk.reader, "averageUtilization", "percent, such as 70")?;
            let percent = walk.replicas(&at)?;
            if percent == 0 {
                walk.reader.wrong(&at, "must be at least 1", None);
                return None;
            }
            Some(MetricTarget::Utilization(percent))
        }
        Wanted::AverageValue => {
            let at = fields.require(&mut walk.reader, "averageValue", "a quantity such as 500m or 100")?;
            walk.positive(&at).map(MetricTarget::AverageValue)
        }
        Wanted::Value => {
            let at = fields.require(&mut walk.reader, "value", "a quantity such as 500m or 100")?;
            walk.positive(&at).map(MetricTarget::Value)
        }
    });
    walk.rest(fields);
    target
}
