//! OTLP/gRPC with the generated clients.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tonic::codec::CompressionEncoding;
use tracescale_ingest::Protocol;
use tracescale_ingest::decode::{Encoding, Signal};

use crate::receiver::{config, start, traces};

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
            assert!(admitted.body == request.encode_to_vec());
            assert!(admitted.permit.bytes() >= admitted.body.len() as u64);
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
