//! Shutdown in order: nothing that was acknowledged is lost, and clients learn where they stand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;
use tracescale_ingest::{Config, Refusal};

use crate::receiver::{channel, config, counting, start, start_with, traces};

/// Guarantees: at shutdown watchers hear NOT_SERVING, new requests are refused as retryable, the one in flight is finished and acknowledged, and the queue ends after it.
#[tokio::test]
async fn requests_in_flight_finish() {
    let (entered, mut inside) = tokio::sync::mpsc::channel(1);
    let (release, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let gate = std::sync::Mutex::new(gate);
    let decode = move |signal, encoding, body: &[u8], at| {
        entered.blocking_send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        counting(signal, encoding, body, at)
    };
    let mut receiver = start_with(config(), Arc::new(decode)).await;
    let mut health = HealthClient::new(channel(&receiver.grpc).await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut client = TraceServiceClient::connect(receiver.grpc.clone()).await.unwrap();
    let mut first = client.clone();
    let first = tokio::spawn(async move { first.export(traces(2_000)).await });
    inside.recv().await.unwrap();

    receiver.shutdown.cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // The old connection has been told to go away, a new one finds nobody: OTLP clients send again after either code.
    let refused = client.export(traces(1)).await.unwrap_err();
    assert!(matches!(refused.code(), Code::Unavailable | Code::Cancelled), "{refused:?}");
    TraceServiceClient::connect(receiver.grpc.clone()).await.unwrap_err();
    assert!(!receiver.task.is_finished());
    release.send(()).unwrap();
    first.await.unwrap().unwrap();
    receiver.task.await.unwrap().unwrap();
    assert_eq!(receiver.queue.recv().await.unwrap().decoded.items, 2_000);
    assert!(receiver.queue.recv().await.is_none());
    assert_eq!(receiver.stats.queue_bytes(), 0);
}

/// Guarantees: with clients sending all the time, every request acknowledged before, during or after the shutdown's start comes out of the queue, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_under_load_loses_nothing_acknowledged() {
    let mut receiver = start_with(config(), Arc::new(counting)).await;
    let mut clients = JoinSet::new();
    for id in 0..8 {
        let address = receiver.grpc.clone();
        clients.spawn(async move {
            let mut client = TraceServiceClient::connect(address).await.unwrap();
            let mut acknowledged = BTreeSet::new();
            for request in 0.. {
                let mut body = traces(100);
                let name = format!("{id}-{request}");
                body.resource_spans[0].schema_url.clone_from(&name);
                match client.export(body).await {
                    Ok(_) => drop(acknowledged.insert(name)),
                    Err(_) => break,
                }
            }
            acknowledged
        });
    }
    let mut seen = BTreeSet::new();
    while let Some(admitted) = receiver.queue.recv().await {
        let request = ExportTraceServiceRequest::decode(admitted.body.open(64 << 20).unwrap()).unwrap();
        assert!(seen.insert(request.resource_spans[0].schema_url.clone()), "handed over twice");
        if seen.len() == 100 {
            receiver.shutdown.cancel();
        }
    }
    receiver.task.await.unwrap().unwrap();
    let acknowledged: BTreeSet<_> = clients.join_all().await.into_iter().flatten().collect();
    assert!(acknowledged.len() >= 90 && acknowledged.is_subset(&seen), "{} acknowledged, {} handed over", acknowledged.len(), seen.len());
}

/// Guarantees: when whoever reads the queue is gone, clients are told to send again, and nothing is acknowledged into the void.
#[tokio::test]
async fn a_closed_queue_acknowledges_nothing() {
    let mut receiver = start(config()).await;
    receiver.queue.close();
    let mut client = TraceServiceClient::connect(receiver.grpc.clone()).await.unwrap();
    let refused = client.export(traces(1)).await.unwrap_err();
    assert!(refused.get_details_retry_info().is_some());
    assert_eq!(receiver.stats.refused(Refusal::Draining), 1);
}

/// Guarantees: a connection that has reached its age is asked to close, and not before.
#[tokio::test(start_paused = true)]
async fn old_connections_are_asked_to_close() {
    let age = Duration::from_secs(60);
    let receiver = start(Config { max_connection_age: Some(age), ..config() }).await;
    let stream = TcpStream::connect(receiver.http).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get(format!("http://{}/healthz", receiver.http)).body(Full::<Bytes>::default()).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 200);
    tokio::time::sleep(age / 2).await;
    assert!(!connection.is_finished());
    connection.await.unwrap().unwrap();
    assert!(client.is_closed());
}
