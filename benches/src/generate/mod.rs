//! Seeded, deterministic OTLP requests that look like those of a real system behind a Collector.

mod metrics;
mod traces;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tracescale_core::time::Timestamp;

pub use metrics::{EXPORT_INTERVAL, MetricGenerator, MetricShape};
pub use traces::{TraceGenerator, TraceShape};

/// When generated telemetry begins, unless it is re-dated: 2026-01-01T00:00:00Z.
pub const BASE: Timestamp = Timestamp::from_secs(1_767_225_600);

/// How many attributes every span carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Attributes {
    /// 6 attributes: the required ones of the HTTP conventions.
    #[value(name = "6")]
    Six,
    /// 14 attributes: with network, user agent, thread and code attributes, as automatic instrumentation sends them.
    #[value(name = "14")]
    Fourteen,
}

const NAMES: [&str; 12] = [
    "frontend",
    "checkout",
    "catalog",
    "cart",
    "payment",
    "shipping",
    "currency",
    "recommendation",
    "inventory",
    "email",
    "accounting",
    "fraud-detection",
];

const NAMESPACE: &str = "shop";

// === impl Attributes ===

impl Attributes {
    /// The number.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Six => 6,
            Self::Fourteen => 14,
        }
    }
}

/// The name of the service with this index.
#[must_use]
pub fn service_name(service: usize) -> String {
    let name = NAMES[service % NAMES.len()];
    if service < NAMES.len() { name.to_owned() } else { format!("{name}-{}", service / NAMES.len()) }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn integer(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The eleven attributes that a Kubernetes pod with an SDK and the Collector's `k8sattributes` processor has.
fn resource(service: usize, instance: usize) -> Resource {
    let name = service_name(service);
    let pod = format!("{name}-6c9f7b5d4-{:05x}", (service * 7919 + instance * 104_729) % 0x000f_ffff);
    let attributes = vec![
        text("service.name", name.as_str()),
        text("service.namespace", NAMESPACE),
        text("service.instance.id", pod.as_str()),
        text("service.version", "2.4.1"),
        text("deployment.environment.name", "production"),
        text("k8s.namespace.name", NAMESPACE),
        text("k8s.deployment.name", name.as_str()),
        text("k8s.pod.name", pod.as_str()),
        text("k8s.node.name", format!("node-{:02}", (service + instance * 3) % 12)),
        text("cloud.region", "eu-central-1"),
        text("telemetry.sdk.language", if service.is_multiple_of(2) { "java" } else { "go" }),
    ];
    Resource { attributes, ..Resource::default() }
}

fn scope(name: &str) -> InstrumentationScope {
    InstrumentationScope { name: name.to_owned(), version: "2.11.0".to_owned(), ..InstrumentationScope::default() }
}

fn unix_nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(0)
}
