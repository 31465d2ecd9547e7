//! OTLP/HTTP: encodings, compressions, and the answer to everything that is not right.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http_body::Frame;
use http_body_util::StreamBody;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Code;
use tracescale_core::schema::Stream;
use tracescale_ingest::decode::{Declared, Encoding, Signal};
use tracescale_ingest::{Config, Protocol, Refusal};

use crate::receiver::{JSON, PROTO, config, counting, gzip, send, send_over, start, start_with, traces, zstd};
use crate::rows::{batch, column};

/// Guarantees: protobuf and JSON, plain and compressed, are accepted, answered in their own encoding and handed over decompressed.
#[tokio::test]
async fn both_encodings_and_every_compression_are_accepted() {
    let mut receiver = start_with(config(), Arc::new(counting)).await;
    let request = traces(100);
    let forms = [
        (PROTO, Encoding::Protobuf, request.encode_to_vec(), ""),
        (("content-type", "application/json; charset=utf-8"), Encoding::Json, serde_json::to_vec(&request).unwrap(), "{}"),
    ];
    for (content_type, encoding, body, empty) in forms {
        for (compression, wire) in [("identity", body.clone()), ("gzip", gzip(&body)), ("zstd", zstd(&body))] {
            let answer = send(receiver.http, "POST", "/v1/traces", &[content_type, ("content-encoding", compression)], wire).await;
            assert_eq!((answer.status, &answer.body[..]), (200, empty.as_bytes()), "{encoding:?} {compression}");
            assert_eq!(answer.header("content-type"), content_type.1.split(';').next());
            let admitted = receiver.queue.recv().await.unwrap();
            assert_eq!((admitted.signal, admitted.encoding, admitted.decoded.items), (Signal::Traces, encoding, 100));
            assert!(admitted.body.open(64 << 20).unwrap() == body);
        }
        assert_eq!(receiver.stats.accepted(Signal::Traces, Protocol::Http, encoding), 3);
    }
    assert_eq!(receiver.stats.items(Signal::Traces), 600);
}

/// Guarantees: what is declared of sampling holds for what the receiver hands over.
#[tokio::test]
async fn declared_sampling_is_applied() {
    let sampling = Declared::new(0.25, []);
    let mut receiver = start(Config { sampling, ..config() }).await;
    let answer = send(receiver.http, "POST", "/v1/traces", &[PROTO], traces(3).encode_to_vec()).await;
    assert_eq!(answer.status, 200);
    let admitted = receiver.queue.recv().await.unwrap();
    assert_eq!(column(batch(&admitted.decoded, Stream::Spans), "adjusted_count"), ["4.0"; 3]);
}

/// Method, path, headers, body; status, code, reason.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Vec<u8>, u16, Code, Refusal);

/// Guarantees: each kind of wrong request has its own status, with a google.rpc.Status in the encoding of the request.
#[tokio::test]
async fn wrong_requests_are_told_apart() {
    let receiver = start_with(Config { max_request_bytes: 10_000, ..config() }, Arc::new(counting)).await;
    let good = traces(1).encode_to_vec();
    let cases: [Case<'_>; 10] = [
        ("POST", "/v1/trace", &[PROTO], good.clone(), 404, Code::Unimplemented, Refusal::UnknownPath),
        ("GET", "/v1/traces", &[], Vec::new(), 405, Code::Unimplemented, Refusal::WrongMethod),
        ("POST", "/v1/traces", &[("content-type", "text/plain")], good.clone(), 415, Code::InvalidArgument, Refusal::UnsupportedMediaType),
        (
            "POST",
            "/v1/traces",
            &[("content-type", "application/grpc")],
            good.clone(),
            415,
            Code::InvalidArgument,
            Refusal::UnsupportedMediaType,
        ),
        ("POST", "/v1/traces", &[], good.clone(), 415, Code::InvalidArgument, Refusal::UnsupportedMediaType),
        (
            "POST",
            "/v1/traces",
            &[PROTO, ("content-encoding", "br")],
            good.clone(),
            415,
            Code::Unimplemented,
            Refusal::UnsupportedCompression,
        ),
        ("POST", "/v1/traces", &[PROTO], vec![0xff; 40], 400, Code::InvalidArgument, Refusal::Malformed),
        ("POST", "/v1/traces", &[JSON], b"{\"resourceSpans\":".to_vec(), 400, Code::InvalidArgument, Refusal::Malformed),
        ("POST", "/v1/traces", &[PROTO, ("content-encoding", "gzip")], good.clone(), 400, Code::InvalidArgument, Refusal::Malformed),
        ("POST", "/v1/traces", &[JSON], vec![b' '; 10_001], 413, Code::ResourceExhausted, Refusal::TooLarge),
    ];
    for (method, path, headers, body, status, code, reason) in cases {
        let before = receiver.stats.refused(reason);
        let answer = send(receiver.http, method, path, headers, body).await;
        assert_eq!(answer.status, status, "{reason:?}");
        assert_eq!(answer.rpc_status().0, code as i32, "{reason:?}");
        let asked = headers.iter().find(|h| h.0 == "content-type" && [PROTO.1, JSON.1].contains(&h.1)).map_or(JSON.1, |h| h.1);
        assert_eq!(answer.header("content-type"), Some(asked));
        assert_eq!(answer.header("retry-after"), None, "{reason:?}");
        assert_eq!(receiver.stats.refused(reason), before + 1);
    }
    let answer = send(receiver.http, "PUT", "/v1/logs", &[PROTO], Vec::new()).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(receiver.stats.accepted_total(), 0);
    assert_eq!(receiver.stats.queue_bytes(), 0);
}

/// Guarantees: rejected items and logs are answered as partial success in either encoding; logs are never queued.
#[tokio::test]
async fn rejected_items_are_partial_success() {
    let mut receiver = start_with(config(), Arc::new(counting)).await;
    let mut request = traces(5);
    request.resource_spans[0].scope_spans[0].spans[3].trace_id.clear();
    let answer = send(receiver.http, "POST", "/v1/traces", &[PROTO], request.encode_to_vec()).await;
    let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!((answer.status, partial.rejected_spans, partial.error_message.as_str()), (200, 1, "no trace id"));
    let answer = send(receiver.http, "POST", "/v1/traces", &[JSON], serde_json::to_vec(&request).unwrap()).await;
    assert_eq!(answer.body, r#"{"partialSuccess":{"errorMessage":"no trace id","rejectedSpans":"1"}}"#);
    assert_eq!(receiver.stats.rejected_items(Signal::Traces), 2);

    let scope_logs = vec![ScopeLogs { log_records: vec![LogRecord::default(); 7], ..ScopeLogs::default() }];
    let logs = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] };
    let answer = send(receiver.http, "POST", "/v1/logs", &[PROTO], logs.encode_to_vec()).await;
    let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!((answer.status, partial.rejected_spans), (200, 7));
    assert!(partial.error_message.contains("no logs"));
    receiver.shutdown.cancel();
    receiver.task.await.unwrap().unwrap();
    let mut signals = Vec::new();
    while let Some(admitted) = receiver.queue.recv().await {
        signals.push(admitted.signal);
    }
    assert_eq!(signals, [Signal::Traces, Signal::Traces]);
}

/// Guarantees: bombs and bodies of unknown length stop at the limit with 413; an announced length beyond it is refused before a byte is sent.
#[tokio::test]
async fn oversized_bodies_are_refused() {
    let receiver = start(Config { max_request_bytes: 1 << 20, queue_bytes: 4 << 20, ..config() }).await;
    let zeros = vec![0; 4 << 20];
    for (compression, wire) in [("gzip", gzip(&zeros)), ("zstd", zstd(&zeros))] {
        assert!(wire.len() < 1 << 20);
        let answer = send(receiver.http, "POST", "/v1/traces", &[PROTO, ("content-encoding", compression)], wire).await;
        assert_eq!((answer.status, answer.rpc_status().0), (413, Code::ResourceExhausted as i32), "{compression}");
    }
    let pieces = futures::stream::repeat(Bytes::from(vec![0; 64 << 10])).take(20).map(|piece| Ok::<_, std::io::Error>(Frame::data(piece)));
    let stream = TcpStream::connect(receiver.http).await.unwrap();
    assert_eq!(send_over(stream, "POST", "/v1/traces", &[PROTO], StreamBody::new(pieces)).await.status, 413);

    let never = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
    let stream = TcpStream::connect(receiver.http).await.unwrap();
    let answer = send_over(stream, "POST", "/v1/traces", &[PROTO, ("content-length", "100000000000")], never).await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    // A client that asks before it sends is answered without being asked to send.
    let never = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
    let stream = TcpStream::connect(receiver.http).await.unwrap();
    let headers = [PROTO, ("content-length", "2000000"), ("expect", "100-continue")];
    assert_eq!(send_over(stream, "POST", "/v1/traces", &headers, never).await.status, 413);
    assert_eq!(receiver.stats.refused(Refusal::TooLarge), 5);
    assert_eq!(receiver.stats.queue_bytes(), 0);
}

/// Guarantees: a client that stands still in the middle of its body is told to send again, and holds nothing afterwards.
#[tokio::test(start_paused = true)]
async fn a_stalled_body_is_given_up() {
    let receiver = start(config()).await;
    let one = futures::stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"abc")))]);
    let body = StreamBody::new(one.chain(futures::stream::pending()));
    let stream = TcpStream::connect(receiver.http).await.unwrap();
    let answer = send_over(stream, "POST", "/v1/traces", &[PROTO, ("content-length", "1000")], body).await;
    assert_eq!((answer.status, answer.header("retry-after"), answer.header("connection")), (503, Some("1"), Some("close")));
    assert_eq!(answer.rpc_status().0, Code::DeadlineExceeded as i32);
    assert_eq!((receiver.stats.refused(Refusal::Stalled), receiver.stats.queue_bytes()), (1, 0));
}

/// Guarantees: a connection that never sends a request, or only half a header, is closed.
#[tokio::test(start_paused = true)]
async fn silent_connections_are_closed() {
    let receiver = start(config()).await;
    for bytes in [&b""[..], b"P", b"POST /v1/traces HT", b"PRI * HTTP/2.0\r\n"] {
        let mut stream = TcpStream::connect(receiver.http).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await.unwrap();
        let mut rest = Vec::new();
        // Either end is fine; what matters is that there is one.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
    }
    assert_eq!(receiver.stats.connections_total(), 4);
}

/// Guarantees: with tokens configured only their bearers are let in, the answer says how, and probes stay open.
#[tokio::test]
async fn bearer_tokens_are_asked_for() {
    let receiver = start(Config { bearer_tokens: vec!["old".into(), "new".into()], ..config() }).await;
    let body = traces(1).encode_to_vec();
    for token in ["Bearer old", "bearer new"] {
        assert_eq!(send(receiver.http, "POST", "/v1/traces", &[PROTO, ("authorization", token)], body.clone()).await.status, 200);
    }
    for headers in [&[PROTO][..], &[PROTO, ("authorization", "Bearer older")], &[PROTO, ("authorization", "Basic old")]] {
        let answer = send(receiver.http, "POST", "/v1/traces", headers, body.clone()).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer realm=\"tracescale\"")));
        assert_eq!(answer.rpc_status().0, Code::Unauthenticated as i32);
    }
    assert_eq!(send(receiver.http, "GET", "/healthz", &[], Vec::new()).await.status, 200);
    assert_eq!(send(receiver.http, "GET", "/readyz", &[], Vec::new()).await.status, 200);
}
