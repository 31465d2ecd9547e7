//! Any request that a sender could write, and any that a network could spoil.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Wrapped, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use tracescale_core::attributes::{Value, find, iter};
use tracescale_core::schema::{SPAN_ATTRIBUTES, Stream};
use tracescale_ingest::capture::sniff;
use tracescale_ingest::decode::{Declared, Encoding, Signal, decode};

use crate::rows::{RECEIVED_AT, batch, bytes, column, decoded};

fn value() -> impl Strategy<Value = Wrapped> {
    let leaf = prop_oneof![
        ".{0,12}".prop_map(AnyValue::StringValue),
        any::<bool>().prop_map(AnyValue::BoolValue),
        any::<i64>().prop_map(AnyValue::IntValue),
        (-1e9..1e9_f64).prop_map(AnyValue::DoubleValue),
        vec(any::<u8>(), 0..9).prop_map(AnyValue::BytesValue),
    ];
    let wrap = |value| Wrapped { value: Some(value) };
    let tree = leaf.prop_recursive(3, 12, 4, move |inner| {
        let entry =
            ("[a-z]{1,4}", inner.clone()).prop_map(move |(key, value)| KeyValue { key, value: Some(wrap(value)), ..KeyValue::default() });
        prop_oneof![
            vec(inner.prop_map(wrap), 0..4).prop_map(|values| AnyValue::ArrayValue(ArrayValue { values })),
            vec(entry, 0..4).prop_map(|values| AnyValue::KvlistValue(KeyValueList { values })),
        ]
    });
    option::of(tree).prop_map(|value| Wrapped { value })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let promoted: Vec<_> = SPAN_ATTRIBUTES.iter().flat_map(|attribute| attribute.keys).map(|key| (*key).to_owned()).collect();
    let key = prop_oneof![proptest::sample::select(promoted), "[a-z.]{1,10}"];
    let unique = proptest::collection::btree_map(key, option::of(value()), 0..8);
    unique.prop_map(|map| map.into_iter().map(|(key, value)| KeyValue { key, value, ..KeyValue::default() }).collect())
}

fn span() -> impl Strategy<Value = Span> {
    let id = |length: usize| prop_oneof![8 => vec(1..=u8::MAX, length), 1 => vec(any::<u8>(), 0..20)];
    let time = prop_oneof![8 => 1_000_000_000..9_000_000_000_u64, 1 => Just(0), 1 => any::<u64>()];
    let ids = (id(16), id(8), prop_oneof![Just(Vec::new()), id(8)]);
    let rest = (attributes(), -1..8_i32, any::<u32>(), "(ot=th:[0-9a-f]{0,15})?", -1..4_i32, ".{0,8}", option::of(attributes()));
    (ids, time.clone(), time, ".{0,10}", rest).prop_map(|((trace_id, span_id, parent_span_id), start, end, name, rest)| {
        let (attributes, kind, flags, trace_state, code, message, detail) = rest;
        let events =
            detail.iter().map(|attributes| Event { time_unix_nano: end, attributes: attributes.clone(), ..Event::default() }).collect();
        let links = detail
            .iter()
            .map(|attributes| Link {
                trace_id: trace_id.clone(),
                span_id: span_id.clone(),
                attributes: attributes.clone(),
                ..Link::default()
            })
            .collect();
        Span {
            trace_id,
            span_id,
            parent_span_id,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            name,
            kind,
            flags,
            trace_state,
            attributes,
            events,
            links,
            status: Some(Status { message, code }),
            ..Span::default()
        }
    })
}

fn traces() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope = vec(span(), 0..6).prop_map(|spans| ScopeSpans {
        scope: Some(InstrumentationScope { name: "scope".to_owned(), ..InstrumentationScope::default() }),
        spans,
        ..ScopeSpans::default()
    });
    let resource = (attributes(), vec(scope, 0..3)).prop_map(|(attributes, scope_spans)| ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans,
        ..ResourceSpans::default()
    });
    vec(resource, 0..4).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

fn metrics() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let number =
        prop_oneof![any::<i64>().prop_map(number_data_point::Value::AsInt), any::<f64>().prop_map(number_data_point::Value::AsDouble)];
    let point = (attributes(), 0..5_u64, option::of(number)).prop_map(|(attributes, time_unix_nano, value)| NumberDataPoint {
        attributes,
        time_unix_nano,
        value,
        ..NumberDataPoint::default()
    });
    vec(point, 0..20).prop_map(|data_points| {
        let sum = Data::Sum(Sum { data_points, aggregation_temporality: 1, is_monotonic: true });
        let metrics = vec![Metric { name: "m".to_owned(), data: Some(sum), ..Metric::default() }];
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }] }
    })
}

fn valid(span: &Span) -> bool {
    let id = |bytes: &[u8], length: usize| bytes.len() == length && bytes.iter().any(|byte| *byte != 0);
    let time = |nanos: u64| nanos > 0 && i64::try_from(nanos).is_ok();
    let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    id(&span.trace_id, 16)
        && id(&span.span_id, 8)
        && [0, 8].contains(&span.parent_span_id.len())
        && time(start)
        && time(end)
        && start.saturating_sub(end) <= 1_000_000_000
}

/// Checks that a scalar is found as it was sent.
fn same(sent: Option<&Wrapped>, found: Value<'_>) -> bool {
    match (sent.and_then(|value| value.value.as_ref()), found) {
        (Some(AnyValue::StringValue(sent)), Value::Text(found)) => sent == found,
        (Some(AnyValue::BoolValue(sent)), Value::Bool(found)) => *sent == found,
        (Some(AnyValue::IntValue(sent)), Value::Integer(found)) => *sent == found,
        (Some(AnyValue::DoubleValue(sent)), Value::Double(found)) => sent.to_bits() == found.to_bits(),
        (Some(AnyValue::BytesValue(sent)), Value::Bytes(found)) => sent == found,
        (Some(AnyValue::ArrayValue(sent)), Value::List(found)) => sent.values.len() == found.iter().count(),
        (Some(AnyValue::KvlistValue(sent)), Value::Map(found)) => sent.values.len() == found.iter().count(),
        (None, Value::Empty) => true,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Guarantees: every valid span becomes one row with its own values, every other is counted, no attribute is lost.
    #[test]
    fn traces_round_trip(request in traces()) {
        let decoded = decoded(Signal::Traces, Encoding::Protobuf, &request.encode_to_vec());
        let all: Vec<_> = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).collect();
        let kept: Vec<_> = all.iter().filter(|span| valid(span)).collect();
        prop_assert_eq!(decoded.items, all.len() as u64);
        prop_assert_eq!(decoded.rejected, (all.len() - kept.len()) as u64);
        prop_assert_eq!(decoded.rejected == 0, decoded.rejected_reason.is_empty());
        if kept.is_empty() {
            prop_assert!(decoded.batches.is_empty());
            return Ok(());
        }
        prop_assert_eq!(sniff(&request.encode_to_vec()), Signal::Traces);
        let spans = batch(&decoded, Stream::Spans);
        prop_assert_eq!(spans.num_rows(), kept.len());
        let (names, raw) = (column(spans, "name"), bytes(spans, "attributes"));
        for (row, span) in kept.iter().enumerate() {
            prop_assert_eq!(&names[row], &span.name);
            prop_assert_eq!(iter(&raw[row]).count(), span.attributes.len());
            for attribute in &span.attributes {
                let found = find(&raw[row], &attribute.key).unwrap();
                prop_assert!(same(attribute.value.as_ref(), found), "{:?} was found as {:?}", attribute, found);
            }
        }
    }

    /// Guarantees: every point with a time and a value becomes a row; equal attributes have equal series.
    #[test]
    fn metrics_round_trip(request in metrics()) {
        let decoded = decoded(Signal::Metrics, Encoding::Protobuf, &request.encode_to_vec());
        let Some(Data::Sum(sum)) = &request.resource_metrics[0].scope_metrics[0].metrics[0].data else { unreachable!() };
        let kept: Vec<_> = sum.data_points.iter().filter(|point| point.time_unix_nano > 0 && point.value.is_some()).collect();
        prop_assert_eq!(decoded.items - decoded.rejected, kept.len() as u64);
        if kept.is_empty() {
            return Ok(());
        }
        let points = batch(&decoded, Stream::Metrics);
        let (series, integers) = (column(points, "series_id"), column(points, "value_int"));
        for (row, point) in kept.iter().enumerate() {
            if let Some(number_data_point::Value::AsInt(value)) = point.value {
                prop_assert_eq!(&integers[row], &value.to_string());
            }
            prop_assert_eq!(series[row] == series[0], point.attributes == kept[0].attributes);
        }
    }

    /// Guarantees: a body cut anywhere, or with any byte changed, is rows or an error, never a panic.
    #[test]
    fn spoilt_bodies_do_not_panic(request in traces(), cut in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = request.encode_to_vec();
        body.truncate(cut.index(body.len() + 1));
        for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
            let _ = decode(signal, Encoding::Protobuf, &body, RECEIVED_AT, &Declared::default());
        }
        if !body.is_empty() {
            let at = flip.index(body.len());
            body[at] = byte;
            let _ = decode(Signal::Traces, Encoding::Protobuf, &body, RECEIVED_AT, &Declared::default());
            let _ = sniff(&body);
        }
    }
}
