//! Reads scaling targets.

use std::num::NonZeroU32;
use std::time::Duration;

use tracescale_core::target::{KubernetesRef, MemoryRef, Objective, Override, ServiceSelector, TargetName, TargetRef, TargetSpec};
use tracescale_core::time::Timestamp;

use crate::Metadata;
use crate::reader::{At, Reader};

/// Shortest latency that is promised.
const LATENCY_MIN: Duration = Duration::from_millis(1);
/// Longest latency that is promised.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// Reads the `spec` of a target.
pub(crate) fn read(reader: &mut Reader, metadata: &Metadata, spec: &At<'_>) -> Option<TargetSpec> {
    let mut fields = reader.fields(spec)?;
    let kubernetes = fields.take(reader, "kubernetes");
    let memory = fields.take(reader, "memory");
    let reference = match (&kubernetes, &memory) {
        (Some(at), None) => self::kubernetes(reader, metadata, at).map(TargetRef::Kubernetes),
        (None, Some(at)) => self::memory(reader, metadata, at).map(TargetRef::Memory),
        (None, None) => {
            let hint = "kubernetes: {apiVersion: apps/v1, kind: Deployment, namespace: shop, name: checkout}".to_owned();
            reader.report(spec.line, &spec.path, None, "says nothing about what to scale: `kubernetes` or `memory` is missing", Some(hint));
            None
        }
        (Some(_), Some(second)) => {
            reader.wrong(second, "`kubernetes` and `memory` exclude each other", "make two targets".to_owned());
            None
        }
    };
    let service = fields.take(reader, "service").map(|at| self::service(reader, metadata, &at));
    let paused = fields.take(reader, "paused").map(|at| reader.truth(&at));
    let take_over = fields.take(reader, "takeOver").map(|at| reader.truth(&at));
    let order = fields.take(reader, "override").map(|at| self::order(reader, &at));
    let objective = fields.take(reader, "objective").map(|at| self::objective(reader, &at));
    let [servers, workers] = ["servers", "workers"].map(|name| {
        let count = fields.take(reader, name).and_then(|at| reader.whole(&at, 1, 100_000));
        count.and_then(|count| u32::try_from(count).ok()).and_then(NonZeroU32::new)
    });
    fields.finish(reader);
    Some(TargetSpec {
        name: TargetName::try_new(metadata.name.clone()?).ok()?,
        reference: reference?,
        service: service.unwrap_or_else(|| metadata.service())?,
        paused: paused.unwrap_or(Some(false))?,
        take_over: take_over.unwrap_or(Some(false))?,
        override_: match order {
            Some(order) => Some(order?),
            None => None,
        },
        discovered: false,
        objective: match objective {
            Some(objective) => Some(objective?),
            None => None,
        },
        servers,
        workers,
    })
}

fn kubernetes(reader: &mut Reader, metadata: &Metadata, at: &At<'_>) -> Option<KubernetesRef> {
    let mut fields = reader.fields(at)?;
    let api_version = fields.take(reader, "apiVersion").map(|at| reader.text(&at).map(str::to_owned));
    let kind = fields.require(reader, "kind", "such as Deployment or StatefulSet").and_then(|at| reader.text(&at).map(str::to_owned));
    let namespace = match (fields.take(reader, "namespace"), &metadata.namespace) {
        (Some(at), _) => label(reader, &at),
        (None, Some(namespace)) => Some(namespace.clone()),
        (None, None) => {
            let path = format!("{}.namespace", at.path);
            reader.report(at.line, &path, None, "is missing", Some("the namespace of the object; or set metadata.namespace".to_owned()));
            None
        }
    };
    let name = match fields.take(reader, "name") {
        Some(at) => label(reader, &at),
        None => metadata.name.clone(),
    };
    let context = fields.take(reader, "context").map(|at| reader.text(&at).map(str::to_owned));
    let container = fields.take(reader, "container").map(|at| label(reader, &at));
    fields.finish(reader);
    Some(KubernetesRef {
        api_version: api_version.unwrap_or_else(|| Some("apps/v1".to_owned()))?,
        kind: kind?,
        namespace: namespace?,
        name: name?,
        context: match context {
            Some(context) => Some(context?),
            None => None,
        },
        container: match container {
            Some(container) => Some(container?),
            None => None,
        },
    })
}

/// The name of a Kubernetes object.
fn label(reader: &mut Reader, at: &At<'_>) -> Option<String> {
    let text = reader.text(at)?;
    if let Err(error) = tracescale_core::name::check(text) {
        reader.wrong(at, format!("is not the name of an object: {error}"), None);
        return None;
    }
    Some(text.to_owned())
}

fn memory(reader: &mut Reader, metadata: &Metadata, at: &At<'_>) -> Option<MemoryRef> {
    let mut fields = reader.fields(at)?;
    let name = match fields.take(reader, "name") {
        Some(at) => label(reader, &at),
        None => metadata.name.clone(),
    };
    let replicas = fields.take(reader, "replicas").map(|at| reader.replicas(&at));
    fields.finish(reader);
    Some(MemoryRef { name: name?, replicas: replicas.unwrap_or(Some(1))? })
}

fn service(reader: &mut Reader, metadata: &Metadata, at: &At<'_>) -> Option<ServiceSelector> {
    let mut fields = reader.fields(at)?;
    let name = match fields.take(reader, "name") {
        Some(at) => reader.text(&at).map(str::to_owned),
        None => metadata.name.clone(),
    };
    let namespace = fields.take(reader, "namespace").map(|at| reader.text(&at).map(str::to_owned));
    fields.finish(reader);
    Some(ServiceSelector {
        service_name: name?,
        service_namespace: match namespace {
            Some(namespace) => Some(namespace?),
            None => None,
        },
    })
}

/// A point in time as RFC 3339 writes it, with a time zone.
fn timestamp(reader: &mut Reader, at: &At<'_>) -> Option<Timestamp> {
    let text = reader.text(at)?;
    let time = tracescale_core::schedule::parse_instant(text);
    if time.is_none() {
        reader.wrong(at, "must be a date with time and time zone", "such as 2026-11-30T18:00:00Z or 2026-11-30T18:00:00+01:00".to_owned());
    }
    time
}

fn share(reader: &mut Reader, at: &At<'_>) -> Option<f64> {
    let share = reader.number(at)?;
    if !(0.5..=0.99999).contains(&share) {
        reader.wrong(at, "must be from 0.5 to 0.99999", "0.99: one request in a hundred may take longer".to_owned());
        return None;
    }
    Some(share)
}

fn objective(reader: &mut Reader, at: &At<'_>) -> Option<Objective> {
    let mut fields = reader.fields(at)?;
    let latency = fields.require(reader, "latency", "such as 250ms").and_then(|at| reader.duration(&at, LATENCY_MIN, LATENCY_MAX));
    let share = match fields.take(reader, "quantile") {
        Some(at) => self::share(reader, &at),
        None => Some(0.99),
    };
    fields.finish(reader);
    Objective::new(latency?, share?)
}

fn order(reader: &mut Reader, at: &At<'_>) -> Option<Override> {
    let mut fields = reader.fields(at)?;
    let replicas = fields.require(reader, "replicas", "the replicas to hold").and_then(|at| reader.replicas(&at));
    let until = fields.require(reader, "until", "when it expires, such as 2026-11-30T18:00:00Z").and_then(|at| timestamp(reader, &at));
    let reason =
        fields.require(reader, "reason", "why, for those who read the decision").and_then(|at| reader.text(&at).map(str::to_owned));
    fields.finish(reader);
    Some(Override { replicas: replicas?, until: until?, reason: reason? })
}
