//! Trace requests: checks each span and fills the columns from the decoded structs.

use arrow::error::ArrowError;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use tracescale_core::attributes::Value;
use tracescale_core::time::Timestamp;

use super::Decoded;
use super::promoted::{Found, ResourceKeys};
use super::prost::{encode_attributes, scalar};
use super::refusal::{self, Refusal, Tally};
use super::sampling::Declared;
use super::span_columns::{SPAN_PROMOTION, SpanColumns, SpanRow};

/// The rows of a trace request.
pub(super) fn rows(request: &ExportTraceServiceRequest, received_at: Timestamp, declared: &Declared) -> Result<Decoded, ArrowError> {
    let mut columns = SpanColumns::new(received_at.as_nanos());
    let mut tally = Tally::default();
    let mut found = SPAN_PROMOTION.found();
    let mut raw = Vec::new();
    for resource_spans in &request.resource_spans {
        raw.clear();
        encode_attributes(&mut raw, resource_spans.resource.as_ref().map_or(&[], |resource| &resource.attributes));
        let resource = columns.open_resource(&raw, declared);
        for scope_spans in &resource_spans.scope_spans {
            let scope = scope_spans.scope.as_ref().map_or("", |scope| &scope.name);
            for span in &scope_spans.spans {
                tally.items += 1;
                match checked(span, scope) {
                    Ok(row) => append(&mut columns, &mut tally, &mut found, &resource, span, &row),
                    Err(refusal) => tally.refuse(format_args!("span '{}'", span.name), refusal),
                }
            }
        }
        columns.close_resource(&resource);
    }
    Ok(tally.into_decoded(columns.finish()?))
}

fn checked<'a>(span: &'a Span, scope_name: &'a str) -> Result<SpanRow<'a>, Refusal> {
    let (start, end) = refusal::interval(span.start_time_unix_nano, span.end_time_unix_nano)?;
    Ok(SpanRow {
        trace_id: refusal::trace_id(&span.trace_id)?,
        span_id: refusal::span_id(&span.span_id)?,
        parent_span_id: refusal::parent_span_id(&span.parent_span_id)?,
        start,
        end,
        name: &span.name,
        kind: span.kind,
        flags: span.flags,
        status: span.status.as_ref().map_or(0, |status| status.code),
        status_message: span.status.as_ref().map_or("", |status| &status.message),
        trace_state: &span.trace_state,
        scope_name,
        dropped: [span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count],
    })
}

fn append<'a>(
    columns: &mut SpanColumns,
    tally: &mut Tally,
    found: &mut Found<'a>,
    resource: &ResourceKeys,
    span: &'a Span,
    row: &SpanRow<'_>,
) {
    found.clear();
    for attribute in &span.attributes {
        SPAN_PROMOTION.offer(found, &attribute.key, scalar(attribute));
    }
    encode_attributes(&mut columns.attributes.data, &span.attributes);
    tally.clipped_counts += u64::from(columns.push(row, found));
    append_events(columns, tally, resource, span, row);
    append_links(columns, tally, resource, span, row);
}

fn append_events(columns: &mut SpanColumns, tally: &mut Tally, resource: &ResourceKeys, span: &Span, row: &SpanRow<'_>) {
    for event in &span.events {
        let Ok(time) = refusal::time(event.time_unix_nano, Refusal::NoTime) else {
            tally.skipped_details += 1;
            continue;
        };
        encode_attributes(&mut columns.events.attributes.data, &event.attributes);
        let exception = ["exception.type", "exception.message"].map(|key| text_of(&event.attributes, key));
        columns.events.push(row, columns.resources.service_name(resource), &event.name, time, exception);
    }
}

fn append_links(columns: &mut SpanColumns, tally: &mut Tally, resource: &ResourceKeys, span: &Span, row: &SpanRow<'_>) {
    for link in &span.links {
        let (Ok(trace_id), Ok(span_id)) = (refusal::trace_id(&link.trace_id), refusal::span_id(&link.span_id)) else {
            tally.skipped_details += 1;
            continue;
        };
        encode_attributes(&mut columns.links.attributes.data, &link.attributes);
        columns.links.push(row, columns.resources.service_name(resource), &trace_id, &span_id);
    }
}

fn text_of<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match attributes.iter().find(|attribute| attribute.key == key).map(scalar) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}
