//! Answers that wait until a request is kept.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::Code;
use tracescale_ingest::{Acknowledge, Config, Refusal};

use crate::receiver::{channel, config, start, traces};

/// Guarantees: a client hears nothing until the receipt is signed; refused or dropped it hears that it should send again, and
/// only signed requests count as accepted.
#[tokio::test]
async fn the_answer_waits_for_the_receipt() {
    let mut receiver = start(Config { acknowledge: Acknowledge::Kept, ..config() }).await;
    let mut client = TraceServiceClient::new(channel(&receiver.grpc).await);
    let send = |client: &mut TraceServiceClient<_>| {
        let mut client = client.clone();
        tokio::spawn(async move { client.export(traces(3)).await })
    };

    let answer = send(&mut client);
    let first = receiver.queue.recv().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!answer.is_finished());
    assert_eq!(receiver.stats.accepted_total(), 0);
    first.receipt.unwrap().sign();
    answer.await.unwrap().unwrap();
    assert_eq!(receiver.stats.accepted_total(), 1);

    let answer = send(&mut client);
    receiver.queue.recv().await.unwrap().receipt.unwrap().refuse("the disk is full".to_owned());
    let status = answer.await.unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the disk is full"));

    let answer = send(&mut client);
    drop(receiver.queue.recv().await.unwrap());
    assert_eq!(answer.await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(receiver.stats.accepted_total(), 1);
    assert_eq!((receiver.stats.refused(Refusal::NotKept), receiver.stats.refused(Refusal::Draining)), (1, 1));
}
