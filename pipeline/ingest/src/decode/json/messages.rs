//! The fields of each OTLP message by their JSON names.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde::de::MapAccess;

use super::scalars::{
    bool, double, doubles, enumeration, hex, integer, integers, optional_base64, optional_bool, optional_double, optional_integer,
    optional_text, text,
};
use super::{Message, list, message};

/// Implements [`Message`]: each JSON name, in camel and snake case, with the expression that reads its field. `self`
/// and the map are named by the caller, because a macro's own names would be out of reach of its arguments.
macro_rules! fields {
    ($message:ty, |$this:ident, $map:ident| { $($($name:literal)|+ => $read:expr;)* }) => {
        impl Message for $message {
            fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, $map: &mut A) -> Result<bool, A::Error> {
                let $this = self;
                match name {
                    $($($name)|+ => $read,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

// --- traces

fields!(ExportTraceServiceRequest, |it, map| {
    "resourceSpans" | "resource_spans" => it.resource_spans = list(map)?;
});
fields!(ResourceSpans, |it, map| {
    "resource" => it.resource = message(map)?;
    "scopeSpans" | "scope_spans" => it.scope_spans = list(map)?;
    "schemaUrl" | "schema_url" => it.schema_url = text(map)?;
});
fields!(ScopeSpans, |it, map| {
    "scope" => it.scope = message(map)?;
    "spans" => it.spans = list(map)?;
    "schemaUrl" | "schema_url" => it.schema_url = text(map)?;
});
fields!(Span, |it, map| {
    "traceId" | "trace_id" => it.trace_id = hex(map)?;
    "spanId" | "span_id" => it.span_id = hex(map)?;
    "traceState" | "trace_state" => it.trace_state = text(map)?;
    "parentSpanId" | "parent_span_id" => it.parent_span_id = hex(map)?;
    "flags" => it.flags = integer(map)?;
    "name" => it.name = text(map)?;
    "kind" => it.kind = enumeration(map, |name| SpanKind::from_str_name(name).map(i32::from))?;
    "startTimeUnixNano" | "start_time_unix_nano" => it.start_time_unix_nano = integer(map)?;
    "endTimeUnixNano" | "end_time_unix_nano" => it.end_time_unix_nano = integer(map)?;
    "attributes" => it.attributes = list(map)?;
    "droppedAttributesCount" | "dropped_attributes_count" => it.dropped_attributes_count = integer(map)?;
    "events" => it.events = list(map)?;
    "droppedEventsCount" | "dropped_events_count" => it.dropped_events_count = integer(map)?;
    "links" => it.links = list(map)?;
    "droppedLinksCount" | "dropped_links_count" => it.dropped_links_count = integer(map)?;
    "status" => it.status = message(map)?;
});
fields!(Event, |it, map| {
    "timeUnixNano" | "time_unix_nano" => it.time_unix_nano = integer(map)?;
    "name" => it.name = text(map)?;
    "attributes" => it.attributes = list(map)?;
    "droppedAttributesCount" | "dropped_attributes_count" => it.dropped_attributes_count = integer(map)?;
});
fields!(Link, |it, map| {
    "traceId" | "trace_id" => it.trace_id = hex(map)?;
    "spanId" | "span_id" => it.span_id = hex(map)?;
    "traceState" | "trace_state" => it.trace_state = text(map)?;
    "attributes" => it.attributes = list(map)?;
    "droppedAttributesCount" | "dropped_attributes_count" => it.dropped_attributes_count = integer(map)?;
    "flags" => it.flags = integer(map)?;
});
fields!(Status, |it, map| {
    "message" => it.message = text(map)?;
    "code" => it.code = enumeration(map, |name| StatusCode::from_str_name(name).map(i32::from))?;
});

// --- what all signals share

fields!(Resource, |it, map| {
    "attributes" => it.attributes = list(map)?;
    "droppedAttributesCount" | "dropped_attributes_count" => it.dropped_attributes_count = integer(map)?;
});
fields!(InstrumentationScope, |it, map| {
    "name" => it.name = text(map)?;
    "version" => it.version = text(map)?;
    "attributes" => it.attributes = list(map)?;
    "droppedAttributesCount" | "dropped_attributes_count" => it.dropped_attributes_count = integer(map)?;
});
fields!(KeyValue, |it, map| {
    "key" => it.key = text(map)?;
    "value" => it.value = message(map)?;
});
// A `null` member of a oneof is an unset one and leaves the others alone.
fields!(AnyValue, |it, map| {
    "stringValue" | "string_value" => it.value = optional_text(map)?.map(Value::StringValue).or(it.value.take());
    "boolValue" | "bool_value" => it.value = optional_bool(map)?.map(Value::BoolValue).or(it.value.take());
    "intValue" | "int_value" => it.value = optional_integer(map)?.map(Value::IntValue).or(it.value.take());
    "doubleValue" | "double_value" => it.value = optional_double(map)?.map(Value::DoubleValue).or(it.value.take());
    "arrayValue" | "array_value" => it.value = message(map)?.map(Value::ArrayValue).or(it.value.take());
    "kvlistValue" | "kvlist_value" => it.value = message(map)?.map(Value::KvlistValue).or(it.value.take());
    "bytesValue" | "bytes_value" => it.value = optional_base64(map)?.map(Value::BytesValue).or(it.value.take());
});
fields!(ArrayValue, |it, map| {
    "values" => it.values = list(map)?;
});
fields!(KeyValueList, |it, map| {
    "values" => it.values = list(map)?;
});

// --- metrics

fn temporality(name: &str) -> Option<i32> {
    AggregationTemporality::from_str_name(name).map(i32::from)
}

fields!(ExportMetricsServiceRequest, |it, map| {
    "resourceMetrics" | "resource_metrics" => it.resource_metrics = list(map)?;
});
fields!(ResourceMetrics, |it, map| {
    "resource" => it.resource = message(map)?;
    "scopeMetrics" | "scope_metrics" => it.scope_metrics = list(map)?;
    "schemaUrl" | "schema_url" => it.schema_url = text(map)?;
});
fields!(ScopeMetrics, |it, map| {
    "scope" => it.scope = message(map)?;
    "metrics" => it.metrics = list(map)?;
    "schemaUrl" | "schema_url" => it.schema_url = text(map)?;
});
fields!(Metric, |it, map| {
    "name" => it.name = text(map)?;
    "description" => it.description = text(map)?;
    "unit" => it.unit = text(map)?;
    "gauge" => it.data = message(map)?.map(Data::Gauge).or(it.data.take());
    "sum" => it.data = message(map)?.map(Data::Sum).or(it.data.take());
    "histogram" => it.data = message(map)?.map(Data::Histogram).or(it.data.take());
    "exponentialHistogram" | "exponential_histogram" => it.data = message(map)?.map(Data::ExponentialHistogram).or(it.data.take());
    "summary" => it.data = message(map)?.map(Data::Summary).or(it.data.take());
    "metadata" => it.metadata = list(map)?;
});
fields!(Gauge, |it, map| {
    "dataPoints" | "data_points" => it.data_points = list(map)?;
});
fields!(Sum, |it, map| {
    "dataPoints" | "data_points" => it.data_points = list(map)?;
    "aggregationTemporality" | "aggregation_temporality" => it.aggregation_temporality = enumeration(map, temporality)?;
    "isMonotonic" | "is_monotonic" => it.is_monotonic = bool(map)?;
});
fields!(Histogram, |it, map| {
    "dataPoints" | "data_points" => it.data_points = list(map)?;
    "aggregationTemporality" | "aggregation_temporality" => it.aggregation_temporality = enumeration(map, temporality)?;
});
fields!(ExponentialHistogram, |it, map| {
    "dataPoints" | "data_points" => it.data_points = list(map)?;
    "aggregationTemporality" | "aggregation_temporality" => it.aggregation_temporality = enumeration(map, temporality)?;
});
fields!(Summary, |it, map| {
    "dataPoints" | "data_points" => it.data_points = list(map)?;
});
fields!(NumberDataPoint, |it, map| {
    "attributes" => it.attributes = list(map)?;
    "startTimeUnixNano" | "start_time_unix_nano" => it.start_time_unix_nano = integer(map)?;
    "timeUnixNano" | "time_unix_nano" => it.time_unix_nano = integer(map)?;
    "asDouble" | "as_double" => it.value = optional_double(map)?.map(number_data_point::Value::AsDouble).or(it.value.take());
    "asInt" | "as_int" => it.value = optional_integer(map)?.map(number_data_point::Value::AsInt).or(it.value.take());
    "exemplars" => it.exemplars = list(map)?;
    "flags" => it.flags = integer(map)?;
});
fields!(HistogramDataPoint, |it, map| {
    "attributes" => it.attributes = list(map)?;
    "startTimeUnixNano" | "start_time_unix_nano" => it.start_time_unix_nano = integer(map)?;
    "timeUnixNano" | "time_unix_nano" => it.time_unix_nano = integer(map)?;
    "count" => it.count = integer(map)?;
    "sum" => it.sum = optional_double(map)?;
    "bucketCounts" | "bucket_counts" => it.bucket_counts = integers(map)?;
    "explicitBounds" | "explicit_bounds" => it.explicit_bounds = doubles(map)?;
    "exemplars" => it.exemplars = list(map)?;
    "flags" => it.flags = integer(map)?;
    "min" => it.min = optional_double(map)?;
    "max" => it.max = optional_double(map)?;
});
fields!(ExponentialHistogramDataPoint, |it, map| {
    "attributes" => it.attributes = list(map)?;
    "startTimeUnixNano" | "start_time_unix_nano" => it.start_time_unix_nano = integer(map)?;
    "timeUnixNano" | "time_unix_nano" => it.time_unix_nano = integer(map)?;
    "count" => it.count = integer(map)?;
    "sum" => it.sum = optional_double(map)?;
    "scale" => it.scale = integer(map)?;
    "zeroCount" | "zero_count" => it.zero_count = integer(map)?;
    "positive" => it.positive = message(map)?;
    "negative" => it.negative = message(map)?;
    "flags" => it.flags = integer(map)?;
    "exemplars" => it.exemplars = list(map)?;
    "min" => it.min = optional_double(map)?;
    "max" => it.max = optional_double(map)?;
    "zeroThreshold" | "zero_threshold" => it.zero_threshold = double(map)?;
});
fields!(Buckets, |it, map| {
    "offset" => it.offset = integer(map)?;
    "bucketCounts" | "bucket_counts" => it.bucket_counts = integers(map)?;
});
fields!(SummaryDataPoint, |it, map| {
    "attributes" => it.attributes = list(map)?;
    "startTimeUnixNano" | "start_time_unix_nano" => it.start_time_unix_nano = integer(map)?;
    "timeUnixNano" | "time_unix_nano" => it.time_unix_nano = integer(map)?;
    "count" => it.count = integer(map)?;
    "sum" => it.sum = double(map)?;
    "quantileValues" | "quantile_values" => it.quantile_values = list(map)?;
    "flags" => it.flags = integer(map)?;
});
fields!(ValueAtQuantile, |it, map| {
    "quantile" => it.quantile = double(map)?;
    "value" => it.value = double(map)?;
});
fields!(Exemplar, |it, map| {
    "filteredAttributes" | "filtered_attributes" => it.filtered_attributes = list(map)?;
    "timeUnixNano" | "time_unix_nano" => it.time_unix_nano = integer(map)?;
    "asDouble" | "as_double" => it.value = optional_double(map)?.map(exemplar::Value::AsDouble).or(it.value.take());
    "asInt" | "as_int" => it.value = optional_integer(map)?.map(exemplar::Value::AsInt).or(it.value.take());
    "spanId" | "span_id" => it.span_id = hex(map)?;
    "traceId" | "trace_id" => it.trace_id = hex(map)?;
});

// --- logs

fn severity(name: &str) -> Option<i32> {
    SeverityNumber::from_str_name(name).map(i32::from)
}

fields!(ExportLogsServiceRequest, |it, map| {
    "resourceLogs" | "resource_logs" => it.resource_logs = list(map)?;
});
fields!(ResourceLogs, |it, map| {
    "resource" => it.resource = message(map)?;
    "scopeLogs" | "scope_logs" => it.scope_logs = list(map)?;
    "schemaUrl" | "schema_url" => it.schema_url = text(map)?;
});
fields!(ScopeLogs, |it, map| {
    "scope" => it.scope = message(map)?;
    "logRecords" | "log_records" => it.log_records = list(map)?;
    "schemaUrl" | "schema_url" => it.schema_url = text(map)?;
});
fields!(LogRecord, |it, map| {
    "timeUnixNano" | "time_unix_nano" => it.time_unix_nano = integer(map)?;
    "observedTimeUnixNano" | "observed_time_unix_nano" => it.observed_time_unix_nano = integer(map)?;
    "severityNumber" | "severity_number" => it.severity_number = enumeration(map, severity)?;
    "severityText" | "severity_text" => it.severity_text = text(map)?;
    "body" => it.body = message(map)?;
    "attributes" => it.attributes = list(map)?;
    "droppedAttributesCount" | "dropped_attributes_count" => it.dropped_attributes_count = integer(map)?;
    "flags" => it.flags = integer(map)?;
    "traceId" | "trace_id" => it.trace_id = hex(map)?;
    "spanId" | "span_id" => it.span_id = hex(map)?;
    "eventName" | "event_name" => it.event_name = text(map)?;
});
