//! Starts receivers for tests and gathers what they hand over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracescale_core::time::Timestamp;
use tracescale_ingest::decode::{DecodeError, Decoded, Encoding, Signal};
use tracescale_ingest::{Admitted, Bound, Clock, Config, DecodeFn, Receiver, ServeError, Stats};

/// A running receiver on loopback ports of its own.
pub(crate) struct Running {
    pub(crate) grpc: String,
    pub(crate) http: SocketAddr,
    pub(crate) queue: mpsc::Receiver<Admitted>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), ServeError>>,
}

/// Loopback, any port.
pub(crate) fn config() -> Config {
    Config { grpc: ([127, 0, 0, 1], 0).into(), http: ([127, 0, 0, 1], 0).into(), ..Config::default() }
}

/// A clock that moves one millisecond at each look.
pub(crate) fn clock() -> Clock {
    let millis = AtomicI64::new(1_700_000_000_000);
    Arc::new(move || Timestamp::from_millis(millis.fetch_add(1, Ordering::Relaxed)))
}

pub(crate) async fn start(config: Config) -> Running {
    run(Receiver::bind(config, clock()).await.unwrap())
}

pub(crate) async fn start_with(config: Config, decode: DecodeFn) -> Running {
    run(Receiver::bind_with(config, clock(), decode).await.unwrap())
}

fn run((bound, queue): (Bound, mpsc::Receiver<Admitted>)) -> Running {
    let shutdown = CancellationToken::new();
    let (grpc, http, stats) = (bound.grpc_addr, bound.http_addr, bound.stats());
    let task = tokio::spawn(bound.serve(shutdown.clone()));
    Running { grpc: format!("http://{grpc}"), http, queue, stats, shutdown, task }
}

pub(crate) async fn channel(address: &str) -> Channel {
    Channel::from_shared(address.to_owned()).unwrap().connect().await.unwrap()
}

/// A request of `spans` valid spans of one service.
pub(crate) fn traces(spans: usize) -> ExportTraceServiceRequest {
    let span = |i: usize| Span {
        trace_id: vec![1; 16],
        span_id: (i as u64 + 1).to_be_bytes().to_vec(),
        name: format!("span {i}"),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_250_000_000,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (0..spans).map(span).collect(), ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

/// A decoder that knows just enough: spans without a trace id are rejected, everything else is counted.
/// What the real decoder refuses is its own tests' matter.
pub(crate) fn counting(signal: Signal, encoding: Encoding, body: &[u8], _: Timestamp) -> Result<Decoded, DecodeError> {
    let malformed = |reason: String| DecodeError { encoding, reason };
    if signal == Signal::Logs {
        let logs = ExportLogsServiceRequest::decode(body).map_err(|error| malformed(error.to_string()))?;
        let items = logs.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len() as u64).sum();
        return Ok(Decoded { items, ..Decoded::default() });
    }
    let request: ExportTraceServiceRequest = match encoding {
        Encoding::Protobuf => ExportTraceServiceRequest::decode(body).map_err(|error| malformed(error.to_string()))?,
        Encoding::Json => serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?,
    };
    let spans: Vec<_> = request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).collect();
    let rejected = spans.iter().filter(|span| span.trace_id.is_empty()).count() as u64;
    let rejected_reason = if rejected > 0 { "no trace id".to_owned() } else { String::new() };
    Ok(Decoded { items: spans.len() as u64, rejected, rejected_reason, ..Decoded::default() })
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(data, 1).unwrap()
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: bytes::Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The `google.rpc.Status` in the body, in the encoding that the answer names.
    pub(crate) fn rpc_status(&self) -> (i32, String) {
        match self.header("content-type") {
            Some("application/x-protobuf") => {
                let status = tonic_types::Status::decode(self.body.clone()).unwrap();
                (status.code, status.message)
            }
            Some("application/json") => {
                let status: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
                (i32::try_from(status["code"].as_i64().unwrap()).unwrap(), status["message"].as_str().unwrap().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }
}

/// One HTTP/1.1 request on a connection of its own.
pub(crate) async fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    send_over(stream, method, path, headers, Full::new(Bytes::from(body))).await
}

pub(crate) async fn send_over<B>(io: impl Io, method: &str, path: &str, headers: &[(&str, &str)], body: B) -> Answer
where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.send_request(request.body(body).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let answer = Answer { status: head.status.as_u16(), headers: head.headers, body: body.collect().await.unwrap().to_bytes() };
    connection.abort();
    answer
}

pub(crate) trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> Io for T {}

pub(crate) const PROTO: (&str, &str) = ("content-type", "application/x-protobuf");
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
