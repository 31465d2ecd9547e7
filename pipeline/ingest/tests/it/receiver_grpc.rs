//! OTLP/gRPC with the generated clients.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tokio::net::TcpStream;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;
use tracescale_ingest::decode::{Decoded, Encoding, Signal};
use tracescale_ingest::{Config, Protocol, Refusal};

use crate::receiver::{channel, config, counting, gzip, start, start_with, traces, zstd};

/// Guarantees: every signal and every compression is accepted from the generated clients on either port, and the body is handed over byte for byte.
#[tokio::test]
async fn every_compression_is_accepted_on_either_port() {
    let mut receiver = start(config()).await;
    let request = traces(512);
    for address in [receiver.grpc.clone(), format!("http://{}", receiver.http)] {
        for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
            let mut client = TraceServiceClient::connect(address.clone()).await.unwrap();
            if let Some(compression) = compression {
                client = client.send_compressed(compression);
            }
            let response = client.export(request.clone()).await.unwrap().into_inner();
            assert_eq!(response.partial_success, None);
            let admitted = receiver.queue.recv().await.unwrap();
            assert_eq!((admitted.signal, admitted.encoding), (Signal::Traces, Encoding::Protobuf));
            assert_eq!(admitted.source.to_string(), "127.0.0.1");
            assert!(admitted.body.open(64 << 20).unwrap() == request.encode_to_vec());
            assert!(admitted.permit.bytes() >= admitted.body.bytes.len() as u64);
        }
    }
    let mut metrics = MetricsServiceClient::connect(receiver.grpc.clone()).await.unwrap();
    metrics.export(ExportMetricsServiceRequest::default()).await.unwrap();
    assert_eq!(receiver.queue.recv().await.unwrap().signal, Signal::Metrics);
    let mut logs = LogsServiceClient::connect(receiver.grpc.clone()).await.unwrap();
    logs.export(ExportLogsServiceRequest::default()).await.unwrap();
    assert_eq!(receiver.stats.accepted(Signal::Traces, Protocol::Grpc, Encoding::Protobuf), 6);
    assert_eq!(receiver.stats.accepted_total(), 8);
    assert_eq!(receiver.stats.queue_bytes(), 0);
}

/// Guarantees: each kind of wrong call has its own code, and none of these carries `RetryInfo`, without which nobody sends it again.
#[tokio::test]
async fn wrong_calls_are_told_apart() {
    let config = Config { max_request_bytes: 100_000, queue_bytes: 1 << 20, bearer_tokens: vec!["secret".into()], ..config() };
    let receiver = start_with(config, Arc::new(counting)).await;
    let (small, large) = (traces(1).encode_to_vec(), traces(10_000).encode_to_vec());
    let cases = [
        (TRACES, "", frame(0, &small), Code::Ok),
        (TRACES, "gzip", frame(1, &gzip(&small)), Code::Ok),
        (TRACES, "gzip", frame(0, &small), Code::Ok),
        (TRACES, "zstd", frame(1, &zstd(&small)), Code::Ok),
        (TRACES, "", frame(0, &large), Code::ResourceExhausted),
        (TRACES, "gzip", frame(1, &gzip(&large)), Code::ResourceExhausted),
        (TRACES, "zstd", frame(1, &zstd(&large)), Code::ResourceExhausted),
        (TRACES, "", frame(0, &[0xff; 40]), Code::InvalidArgument),
        (TRACES, "", frame(0, &small)[..20].to_vec(), Code::InvalidArgument),
        (TRACES, "", frame(1, &small), Code::InvalidArgument),
        (TRACES, "gzip", frame(1, &small), Code::InvalidArgument),
        (TRACES, "snappy", frame(1, &small), Code::Unimplemented),
        ("/opentelemetry.proto.collector.profiles.v1.ProfilesService/Export", "", frame(0, &small), Code::Unimplemented),
    ];
    for (path, encoding, body, code) in cases {
        let status = call(&receiver.grpc, path, encoding, Some("Bearer secret"), body).await;
        assert_eq!(status.code(), code, "{path} {encoding}: {status:?}");
        assert!(status.get_details_retry_info().is_none());
    }
    let status = call(&receiver.grpc, TRACES, "", None, frame(0, &small)).await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(receiver.stats.accepted_total(), 4);
}

/// Guarantees: rejected spans come back as partial success with their count and reason.
#[tokio::test]
async fn rejected_spans_are_partial_success() {
    let mut receiver = start_with(config(), Arc::new(counting)).await;
    let mut request = traces(9);
    request.resource_spans[0].scope_spans[0].spans[0].trace_id.clear();
    let mut client = TraceServiceClient::connect(receiver.grpc.clone()).await.unwrap();
    let partial = client.export(request).await.unwrap().into_inner().partial_success.unwrap();
    assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (1, "no trace id"));
    assert_eq!(receiver.queue.recv().await.unwrap().decoded.items, 9);
}

/// Guarantees: a decoder that panics costs one request, on either thread, and nothing stays held.
#[tokio::test]
async fn a_panicking_decoder_costs_one_request() {
    let receiver = start_with(
        config(),
        Arc::new(|_, _, body: &[u8], _| {
            assert!(body.is_empty(), "a defect");
            Ok(Decoded::default())
        }),
    )
    .await;
    let mut client = TraceServiceClient::connect(receiver.grpc.clone()).await.unwrap();
    for spans in [1, 5_000] {
        assert_eq!(client.export(traces(spans)).await.unwrap_err().code(), Code::Internal);
    }
    client.export(ExportTraceServiceRequest::default()).await.unwrap();
    assert_eq!(receiver.stats.refused(Refusal::Internal), 2);
    assert_eq!(receiver.stats.requests_in_flight(), 0);
}

/// Guarantees: the health service knows the process and each OTLP service.
#[tokio::test]
async fn health_names_the_services() {
    let receiver = start(config()).await;
    let mut health = HealthClient::new(channel(&receiver.grpc).await);
    for service in ["", "opentelemetry.proto.collector.trace.v1.TraceService"] {
        let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let unknown = health.check(HealthCheckRequest { service: "other".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// One call, byte by byte as given, over HTTP/2.
async fn call(address: &str, path: &str, encoding: &str, token: Option<&str>, body: Vec<u8>) -> Status {
    let stream = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::post(format!("{address}{path}")).header("content-type", "application/grpc").header("te", "trailers");
    if !encoding.is_empty() {
        request = request.header("grpc-encoding", encoding);
    }
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let response = client.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    assert_eq!((response.status(), response.headers()["content-type"].to_str().unwrap()), (http::StatusCode::OK, "application/grpc"));
    assert_eq!(response.headers()["grpc-accept-encoding"], "gzip,zstd,identity");
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let body = response.into_body().collect().await.unwrap();
    Status::from_header_map(body.trailers().unwrap()).unwrap()
}
