//! More than the receiver can take: refused in the protocol's terms, bounded, and back to normal afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt;
use tracescale_ingest::{Config, Refusal};

use crate::receiver::{PROTO, config, counting, send, start, start_with, traces};

/// Guarantees: a full queue is answered as retryable with a delay in both protocols and makes the receiver unready; once it is drained everything is accepted again.
#[tokio::test]
async fn a_full_queue_is_retryable_and_passes() {
    let mut receiver = start(Config { queue_requests: 2, ..config() }).await;
    let mut client = TraceServiceClient::connect(receiver.grpc.clone()).await.unwrap();
    for _ in 0..2 {
        client.export(traces(1)).await.unwrap();
    }
    let status = client.export(traces(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    let answer = send(receiver.http, "POST", "/v1/traces", &[PROTO], traces(1).encode_to_vec()).await;
    assert_eq!((answer.status, answer.header("retry-after"), answer.rpc_status().0), (503, Some("1"), Code::Unavailable as i32));
    assert_eq!(send(receiver.http, "GET", "/readyz", &[], Vec::new()).await.status, 503);
    assert_eq!(send(receiver.http, "GET", "/healthz", &[], Vec::new()).await.status, 200);

    receiver.queue.recv().await.unwrap();
    assert_eq!(send(receiver.http, "GET", "/readyz", &[], Vec::new()).await.status, 200);
    client.export(traces(1)).await.unwrap();
    assert_eq!(receiver.stats.refused(Refusal::QueueFull), 2);
}

/// Guarantees: the byte budget refuses too, for as long as what came out of the queue is held.
#[tokio::test]
async fn held_requests_count_until_they_are_dropped() {
    let config = Config { max_request_bytes: 100_000, queue_bytes: 200_000, ..config() };
    let mut receiver = start_with(config, Arc::new(counting)).await;
    let mut client = TraceServiceClient::connect(receiver.grpc.clone()).await.unwrap();
    let mut held = Vec::new();
    let refused = loop {
        match client.export(traces(1_000)).await {
            Ok(_) => held.push(receiver.queue.recv().await.unwrap()),
            Err(status) => break status,
        }
    };
    assert!(!held.is_empty() && receiver.stats.queue_bytes() <= 200_000 + 100_000);
    assert!(refused.get_details_retry_info().is_some());
    held.clear();
    assert_eq!(receiver.stats.queue_bytes(), 0);
    client.export(traces(1_000)).await.unwrap();
}

/// Guarantees: one request too many at a time is answered with 429 over HTTP and UNAVAILABLE with a delay over gRPC, without waiting for the others.
#[tokio::test]
async fn too_many_requests_at_a_time_are_refused() {
    let (entered, mut inside) = tokio::sync::mpsc::channel(1);
    let (release, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let gate = std::sync::Mutex::new(gate);
    let decode = move |signal, encoding, body: &[u8], at| {
        entered.blocking_send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        counting(signal, encoding, body, at)
    };
    let receiver = start_with(Config { max_concurrent_requests: 1, ..config() }, Arc::new(decode)).await;
    let mut client = TraceServiceClient::connect(receiver.grpc.clone()).await.unwrap();
    let mut first = client.clone();
    let first = tokio::spawn(async move { first.export(traces(2_000)).await });
    inside.recv().await.unwrap();
    assert_eq!(receiver.stats.requests_in_flight(), 1);
    let answer = send(receiver.http, "POST", "/v1/traces", &[PROTO], traces(1).encode_to_vec()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    let status = client.export(traces(1)).await.unwrap_err();
    assert_eq!((status.code(), status.get_details_retry_info().is_some()), (Code::Unavailable, true));
    release.send(()).unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(receiver.stats.refused(Refusal::Concurrency), 2);
}

/// Guarantees: under many times the load that fits, with clients that retry, what comes out is exactly what was acknowledged, and the bytes held stay within the budget and one request per worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_loses_nothing_and_stays_bounded() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 10;
    let (limit, budget, workers) = (100_000, 250_000, 2);
    let config = Config { max_request_bytes: limit, queue_bytes: budget, decode_workers: workers, ..config() };
    let mut receiver = start_with(config, Arc::new(counting)).await;
    let refused = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for id in 0..CLIENTS {
        let (address, refused) = (receiver.grpc.clone(), Arc::clone(&refused));
        clients.spawn(async move {
            let mut client = TraceServiceClient::connect(address).await.unwrap();
            for request in 0..REQUESTS {
                let mut body = traces(1_000);
                body.resource_spans[0].schema_url = format!("{id}-{request}");
                while let Err(status) = client.export(body.clone()).await {
                    assert!(status.get_details_retry_info().is_some(), "{status:?}");
                    refused.fetch_add(1, Ordering::Relaxed);
                    // A thousandth of what the receiver asks for keeps the test short.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
    }
    // Nothing is taken out until the queue has refused everybody many times over.
    while refused.load(Ordering::Relaxed) < 50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut seen = BTreeSet::new();
    let mut peak = 0;
    while seen.len() < CLIENTS * REQUESTS {
        peak = peak.max(receiver.stats.queue_bytes());
        let admitted = receiver.queue.recv().await.unwrap();
        let request = ExportTraceServiceRequest::decode(admitted.body.open(64 << 20).unwrap()).unwrap();
        assert!(seen.insert(request.resource_spans[0].schema_url.clone()), "handed over twice");
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(receiver.queue.try_recv().is_err());
    assert_eq!(receiver.stats.accepted_total(), (CLIENTS * REQUESTS) as u64);
    assert!(peak <= (budget + workers * limit) as u64, "{peak}");
    assert_eq!(receiver.stats.queue_bytes(), 0);
}
