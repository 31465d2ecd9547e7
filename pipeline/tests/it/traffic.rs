//! Small OTLP requests with known contents, and captures of them.

use std::path::Path;
use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span::SpanKind};
use prost::Message;
use tracescale_ingest::capture::{Format, Writer};
use tracescale_ingest::decode::{Encoding, Signal};

/// An arbitrary second to begin captures at: 2026-01-05T08:00:00Z, a Monday.
pub(crate) const BASE: u64 = 1_767_600_000;

/// A request of `count` server spans of a service that end evenly over one second and last `duration` each.
pub(crate) fn request(service: &str, second: u64, count: u64, duration: Duration) -> ExportTraceServiceRequest {
    let spans = (0..count).map(|index| {
        let end = second * 1_000_000_000 + index * 1_000_000_000 / count.max(1);
        let id = u128::from(second) << 64 | u128::from(index) << 8 | service.len() as u128;
        Span {
            trace_id: (id + 1).to_be_bytes().to_vec(),
            span_id: (second << 24 | index << 1 | 1).to_be_bytes().to_vec(),
            name: "GET /".into(),
            kind: SpanKind::Server as i32,
            start_time_unix_nano: end - u64::try_from(duration.as_nanos()).unwrap(),
            end_time_unix_nano: end,
            ..Span::default()
        }
    });
    let text = |key: &str, value: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) }),
        ..KeyValue::default()
    };
    let resource = Resource {
        attributes: vec![text("service.name", service), text("service.namespace", "shop"), text("service.instance.id", "one")],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }] }
}

/// Writes a capture: per second, the number of spans of service `checkout`, each 100 ms long.
pub(crate) fn capture(path: &Path, spans_per_second: impl IntoIterator<Item = u64>) -> u64 {
    capture_of(path, spans_per_second.into_iter().map(|count| (count, Duration::from_millis(100))))
}

/// Writes a capture: per second, the number of spans of service `checkout` and how long each is.
pub(crate) fn capture_of(path: &Path, seconds: impl IntoIterator<Item = (u64, Duration)>) -> u64 {
    let seconds: Vec<_> = (BASE..).zip(seconds).filter(|(_, (count, _))| *count > 0).collect();
    capture_requests(path, seconds.iter().map(|(second, (count, duration))| request("checkout", *second, *count, *duration)));
    seconds.iter().map(|(_, (count, _))| count).sum()
}

/// Writes a capture of these requests.
pub(crate) fn capture_requests(path: &Path, requests: impl IntoIterator<Item = ExportTraceServiceRequest>) {
    let mut writer = Writer::new(Vec::new(), Format::ProtoZstd);
    for request in requests {
        writer.write(Signal::Traces, Encoding::Protobuf, &request.encode_to_vec()).unwrap();
    }
    std::fs::write(path, writer.into_inner()).unwrap();
}

/// Sends requests as an SDK would.
pub(crate) async fn send(grpc: std::net::SocketAddr, requests: impl IntoIterator<Item = ExportTraceServiceRequest>) {
    let mut client = TraceServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    for request in requests {
        client.export(request).await.unwrap();
    }
}

/// The wall clock in whole seconds.
pub(crate) fn this_second() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a sender of live traffic has the time of day")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
