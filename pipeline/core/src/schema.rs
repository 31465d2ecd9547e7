//! The Arrow schema of every stream, and which semantic-convention attribute fills which column.
//!
//! ```text
//! OTLP ─▶ spans · span_events · span_links · metrics ─▶ activity · call_spans · increments ─▶ views
//!         (one row per item, decoded by ingest)         (derived from them by queries)
//! ```
//!
//! Strings that repeat are `Dictionary(Int32, Utf8)`. What no column holds stays in `attributes`: the concatenated
//! protobuf `KeyValue` fields of the item as received, which SQL reaches with `attribute(attributes, 'key')`.
//! Times are `Timestamp(Nanosecond)` in UTC without a zone; durations are `Float64` seconds.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A stream of rows with a fixed schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// One row per span.
    Spans,
    /// One row per span event.
    SpanEvents,
    /// One row per span link.
    SpanLinks,
    /// One row per metric point of any kind.
    Metrics,
    /// Busy time, arrivals and completions per service instance and second, derived from entry spans.
    Activity,
    /// One row per call between two services and one per entry span with its self time, derived from traces.
    CallSpans,
    /// What a metric series grew by, per second of event time, derived from `metrics`.
    Increments,
}

/// How a promoted attribute is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// `Dictionary(Int32, Utf8)`.
    Text,
    /// `Int64`.
    Integer,
}

/// An attribute that has a column of its own.
#[derive(Clone, Copy, Debug)]
pub struct PromotedAttribute {
    /// Column name.
    pub column: &'static str,
    /// Storage.
    pub kind: Promoted,
    /// Attribute keys that fill it, newest convention first; the first key present wins.
    pub keys: &'static [&'static str],
}

const fn text(column: &'static str, keys: &'static [&'static str]) -> PromotedAttribute {
    PromotedAttribute { column, kind: Promoted::Text, keys }
}

const fn integer(column: &'static str, keys: &'static [&'static str]) -> PromotedAttribute {
    PromotedAttribute { column, kind: Promoted::Integer, keys }
}

/// Resource attributes with a column in every stream that ingest decodes, in column order.
pub const RESOURCE_ATTRIBUTES: &[PromotedAttribute] = &[
    text("service_name", &["service.name"]),
    text("service_namespace", &["service.namespace"]),
    text("service_instance_id", &["service.instance.id", "k8s.pod.uid", "k8s.pod.name"]),
    text("service_version", &["service.version"]),
    text("deployment_environment_name", &["deployment.environment.name", "deployment.environment"]),
    text("k8s_namespace_name", &["k8s.namespace.name"]),
    text("k8s_deployment_name", &["k8s.deployment.name"]),
    text("k8s_statefulset_name", &["k8s.statefulset.name"]),
    text("k8s_pod_name", &["k8s.pod.name"]),
    text("k8s_node_name", &["k8s.node.name"]),
    text("host_name", &["host.name"]),
    text("cloud_region", &["cloud.region"]),
    text("faas_name", &["faas.name"]),
    text("aws_ecs_service_arn", &["aws.ecs.service.arn"]),
];

/// Span attributes with a column in `spans`, in column order.
pub const SPAN_ATTRIBUTES: &[PromotedAttribute] = &[
    text("http_request_method", &["http.request.method", "http.method"]),
    text("http_route", &["http.route"]),
    integer("http_response_status_code", &["http.response.status_code", "http.status_code"]),
    text("rpc_system", &["rpc.system.name", "rpc.system"]),
    text("rpc_method", &["rpc.method"]),
    text("messaging_system", &["messaging.system"]),
    text("messaging_destination_name", &["messaging.destination.name", "messaging.destination"]),
    text("messaging_operation_type", &["messaging.operation.type", "messaging.operation"]),
    text("db_system", &["db.system.name", "db.system"]),
    text("db_namespace", &["db.namespace", "db.name"]),
    text("server_address", &["server.address", "net.peer.name", "http.host"]),
    integer("server_port", &["server.port", "net.peer.port"]),
    text("peer_service", &["service.peer.name", "peer.service"]),
    text("error_type", &["error.type", "exception.type"]),
];

// === impl Stream ===

impl Stream {
    /// Every stream, decoded ones first.
    pub const ALL: [Self; 7] =
        [Self::Spans, Self::SpanEvents, Self::SpanLinks, Self::Metrics, Self::Activity, Self::CallSpans, Self::Increments];

    /// The table name in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::SpanEvents => "span_events",
            Self::SpanLinks => "span_links",
            Self::Metrics => "metrics",
            Self::Activity => "activity",
            Self::CallSpans => "call_spans",
            Self::Increments => "increments",
        }
    }

    /// The stream of that table name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.name() == name)
    }

    /// The event-time column that windows over this stream use.
    #[must_use]
    pub const fn time_column(self) -> &'static str {
        match self {
            Self::Spans | Self::CallSpans | Self::SpanLinks => "end_time",
            Self::SpanEvents | Self::Metrics | Self::Activity | Self::Increments => "time",
        }
    }

    /// The Arrow schema.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        Arc::clone(match self {
            Self::Spans => &SPANS,
            Self::SpanEvents => &SPAN_EVENTS,
            Self::SpanLinks => &SPAN_LINKS,
            Self::Metrics => &METRICS,
            Self::Activity => &ACTIVITY,
            Self::CallSpans => &CALL_SPANS,
            Self::Increments => &INCREMENTS,
        })
    }
}

/// `Dictionary(Int32, Utf8)`, the type of every repeating string.
#[must_use]
pub fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// `Timestamp(Nanosecond)`, the type of every time.
#[must_use]
pub const fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, None)
}

static SPANS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        required("end_time", timestamp()),
        required("start_time", timestamp()),
        required("duration", DataType::Float64),
        required("received_at", timestamp()),
        required("trace_id", DataType::FixedSizeBinary(16)),
        required("span_id", DataType::FixedSizeBinary(8)),
        optional("parent_span_id", DataType::FixedSizeBinary(8)),
        required("name", dictionary()),
        required("kind", dictionary()),
        required("is_entry", DataType::Boolean),
        required("status", dictionary()),
        optional("status_message", DataType::Utf8),
        required("is_error", DataType::Boolean),
        required("adjusted_count", DataType::Float64),
        required("sampling_known", DataType::Boolean),
        optional("trace_state", DataType::Utf8),
    ];
    fields.extend(RESOURCE_ATTRIBUTES.iter().chain(SPAN_ATTRIBUTES).map(column));
    fields.extend([
        optional("scope_name", dictionary()),
        required("dropped_attributes_count", DataType::UInt32),
        required("dropped_events_count", DataType::UInt32),
        required("dropped_links_count", DataType::UInt32),
        required("attributes", DataType::Binary),
        required("resource_attributes", binary_dictionary()),
    ]);
    schema(fields)
});

static SPAN_EVENTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        required("time", timestamp()),
        required("received_at", timestamp()),
        required("trace_id", DataType::FixedSizeBinary(16)),
        required("span_id", DataType::FixedSizeBinary(8)),
        optional("service_name", dictionary()),
        required("name", dictionary()),
        optional("exception_type", dictionary()),
        optional("exception_message", DataType::Utf8),
        required("attributes", DataType::Binary),
    ])
});

static SPAN_LINKS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        required("end_time", timestamp()),
        required("received_at", timestamp()),
        required("trace_id", DataType::FixedSizeBinary(16)),
        required("span_id", DataType::FixedSizeBinary(8)),
        required("linked_trace_id", DataType::FixedSizeBinary(16)),
        required("linked_span_id", DataType::FixedSizeBinary(8)),
        optional("service_name", dictionary()),
        required("attributes", DataType::Binary),
    ])
});

static METRICS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        required("time", timestamp()),
        optional("start_time", timestamp()),
        required("received_at", timestamp()),
        required("metric_name", dictionary()),
        required("metric_kind", dictionary()),
        required("temporality", dictionary()),
        required("is_monotonic", DataType::Boolean),
        required("unit", dictionary()),
        required("series_id", DataType::UInt64),
        required("no_recorded_value", DataType::Boolean),
        optional("value", DataType::Float64),
        optional("value_int", DataType::Int64),
        optional("count", DataType::UInt64),
        optional("sum", DataType::Float64),
        optional("min", DataType::Float64),
        optional("max", DataType::Float64),
        optional("bounds", list(DataType::Float64)),
        optional("bucket_counts", list(DataType::UInt64)),
        optional("scale", DataType::Int32),
        optional("zero_count", DataType::UInt64),
        optional("zero_threshold", DataType::Float64),
        optional("positive_offset", DataType::Int32),
        optional("positive_counts", list(DataType::UInt64)),
        optional("negative_offset", DataType::Int32),
        optional("negative_counts", list(DataType::UInt64)),
        optional("quantiles", list(DataType::Float64)),
        optional("quantile_values", list(DataType::Float64)),
        required("exemplar_count", DataType::UInt32),
    ];
    fields.extend(RESOURCE_ATTRIBUTES.iter().map(column));
    fields.extend([
        optional("scope_name", dictionary()),
        required("attributes", DataType::Binary),
        required("resource_attributes", binary_dictionary()),
    ]);
    schema(fields)
});

static ACTIVITY: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        required("time", timestamp()),
        optional("service_name", dictionary()),
        optional("service_namespace", dictionary()),
        optional("service_instance_id", dictionary()),
        required("arrivals", DataType::Float64),
        required("completions", DataType::Float64),
        required("busy_seconds", DataType::Float64),
        required("completed_seconds", DataType::Float64),
        required("spans", DataType::Int64),
        required("adjusted_count_squares", DataType::Float64),
    ])
});

static CALL_SPANS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        required("end_time", timestamp()),
        optional("client_service", dictionary()),
        optional("client_namespace", dictionary()),
        optional("server_service", dictionary()),
        optional("server_namespace", dictionary()),
        optional("operation", dictionary()),
        required("call_kind", dictionary()),
        required("matched", DataType::Boolean),
        required("is_error", DataType::Boolean),
        required("adjusted_count", DataType::Float64),
        optional("client_duration", DataType::Float64),
        optional("server_duration", DataType::Float64),
        optional("wait", DataType::Float64),
        optional("self_time", DataType::Float64),
        optional("path_time", DataType::Float64),
        optional("root_duration", DataType::Float64),
    ])
});

static INCREMENTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        required("time", timestamp()),
        optional("service_name", dictionary()),
        optional("service_namespace", dictionary()),
        optional("service_instance_id", dictionary()),
        required("metric_name", dictionary()),
        required("unit", dictionary()),
        required("series_id", DataType::UInt64),
        required("increment", DataType::Float64),
        required("covered_seconds", DataType::Float64),
        required("is_reset", DataType::Boolean),
        optional("count", DataType::Float64),
        optional("histogram", DataType::Binary),
        required("attributes", DataType::Binary),
    ])
});

fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn column(attribute: &PromotedAttribute) -> Field {
    optional(
        attribute.column,
        match attribute.kind {
            Promoted::Text => dictionary(),
            Promoted::Integer => DataType::Int64,
        },
    )
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

fn binary_dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Binary))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Guarantees: every stream has its event-time column, and no column name twice.
    #[test]
    fn every_stream_is_well_formed() {
        for stream in Stream::ALL {
            let schema = stream.schema();
            let names: HashSet<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
            assert_eq!(names.len(), schema.fields().len(), "{}", stream.name());
            assert_eq!(*schema.field_with_name(stream.time_column()).unwrap().data_type(), timestamp());
            assert_eq!(Stream::from_name(stream.name()), Some(stream));
        }
    }
}
