//! An open-loop sender of OTLP traces: requests leave when they are due, whether or not earlier ones were answered, and
//! every one of them is accounted for.
//!
//! Architecture invariants: offered = acknowledged + rejected + refused + failed, in requests and in spans; what the
//! sender itself could not send in time is `unsent` and was never offered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic_types::StatusExt;
use tracescale_core::time::Timestamp;

use crate::body::{Compression, Template, grpc_frame};
use crate::measure::{self, float};

/// What the sender speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// OTLP/gRPC over HTTP/2 with prior knowledge.
    Grpc,
    /// OTLP/HTTP with protobuf bodies over HTTP/1.1.
    Http,
}

/// What is to be offered.
#[derive(Clone, Debug)]
pub struct Load {
    /// The receiver.
    pub address: SocketAddr,
    /// How to speak to it.
    pub protocol: Protocol,
    /// How bodies are compressed.
    pub compression: Compression,
    /// Spans per second.
    pub rate: f64,
    /// For how long.
    pub duration: Duration,
    /// Connections (gRPC) or connection pools (HTTP) that take turns; at least one.
    pub connections: usize,
    /// Requests that may be unanswered at a time. What is due beyond that is `unsent`.
    pub in_flight: usize,
    /// How long a body may be repeated before it is re-dated; zero makes every request a new one. Repeated bodies are marked,
    /// so that the receiver does not take them for one request that is sent again.
    pub renew: Duration,
}

/// Requests and the spans in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests.
    pub requests: u64,
    /// Spans.
    pub spans: u64,
}

/// Requests that were answered with an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub tally: Tally,
    /// Of these requests, how many a conforming exporter will send again.
    pub retryable: u64,
    /// Of these requests, how many carried a delay (`RetryInfo`, `Retry-After`).
    pub with_delay: u64,
}

/// What became of what was due.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Sent.
    pub offered: Tally,
    /// Answered with success; `spans` without those in `rejected`.
    pub acknowledged: Tally,
    /// Spans that a partial success refused one by one.
    pub rejected: u64,
    /// Answered with an error, by status.
    pub refused: BTreeMap<String, Refused>,
    /// Not answered: the connection failed or ended first.
    pub failed: Tally,
    /// Due, but not sent because too many requests were unanswered.
    pub unsent: Tally,
    /// Seconds from sending to acknowledgement, ascending.
    pub latencies: Vec<f64>,
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
}

enum Answer {
    Acknowledged { rejected: u64 },
    Refused { status: String, retryable: bool, with_delay: bool },
    Failed,
}

struct Answered {
    answer: Answer,
    spans: u64,
    seconds: f64,
}

/// Bodies that are used in turn and re-dated when they are too old.
struct Pool<'a> {
    load: &'a Load,
    templates: &'a [Template],
    /// When a body was made, and its compressed bytes.
    slots: Vec<Option<(Timestamp, Vec<u8>)>>,
    used: u64,
}

type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// Bodies in a pool: enough that repeats are far apart.
const POOL: usize = 64;
const TICK: Duration = Duration::from_millis(1);
/// Longer than any server should take, shorter than a stuck benchmark.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

// === impl Protocol ===

impl Protocol {
    const fn path(self) -> &'static str {
        match self {
            Self::Grpc => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Http => "/v1/traces",
        }
    }
}

// === impl Tally ===

impl Tally {
    const fn add(&mut self, spans: u64) {
        self.requests += 1;
        self.spans += spans;
    }
}

// === impl Outcome ===

impl Outcome {
    /// All refusals together.
    #[must_use]
    pub fn refused_total(&self) -> Refused {
        self.refused.values().fold(Refused::default(), |mut sum, refused| {
            sum.tally.requests += refused.tally.requests;
            sum.tally.spans += refused.tally.spans;
            sum.retryable += refused.retryable;
            sum.with_delay += refused.with_delay;
            sum
        })
    }

    /// The latency below which this share of the acknowledged requests was answered, seconds.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
    pub fn latency(&self, quantile: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let index = (quantile * float(last as u64)).round() as usize;
        self.latencies.get(index.min(last)).copied().unwrap_or(f64::NAN)
    }

    fn record(&mut self, answered: Answered) {
        let Answered { answer, spans, seconds } = answered;
        match answer {
            Answer::Acknowledged { rejected } => {
                self.acknowledged.add(spans.saturating_sub(rejected));
                self.rejected += rejected;
                self.latencies.push(seconds);
            }
            Answer::Refused { status, retryable, with_delay } => {
                let refused = self.refused.entry(status).or_default();
                refused.tally.add(spans);
                refused.retryable += u64::from(retryable);
                refused.with_delay += u64::from(with_delay);
            }
            Answer::Failed => self.failed.add(spans),
        }
    }
}

// === impl Pool ===

impl Pool<'_> {
    /// The next body, framed for its protocol, and the spans in it.
    fn take(&mut self, now: Timestamp) -> Result<(Bytes, u64)> {
        let index = usize::try_from(self.used)? % self.slots.len();
        let template = &self.templates[index % self.templates.len()];
        self.used += 1;
        let Load { compression, protocol, renew, .. } = *self.load;
        let is_fresh = self.slots[index].as_ref().is_some_and(|(made, _)| now.since(*made) < renew);
        if !is_fresh {
            self.slots[index] = Some((now, compression.compress(&template.render(now, self.used))?));
        }
        let mut body = self.slots[index].as_ref().map(|(_, body)| body.clone()).unwrap_or_default();
        if is_fresh {
            compression.mark(&mut body, self.used);
        }
        let body = if protocol == Protocol::Grpc { grpc_frame(compression, &body) } else { Bytes::from(body) };
        Ok((body, template.spans()))
    }
}

/// Offers the load until its time is over or `stop` is cancelled, then waits for the answers that are missing.
///
/// # Errors
/// When no body can be made; never because of what the server does.
pub async fn offer(load: &Load, templates: &[Template], stop: CancellationToken) -> Result<Outcome> {
    ensure!(!templates.is_empty(), "a load needs at least one template");
    let clients: Vec<HttpClient> = (0..load.connections.max(1)).map(|_| client(load.protocol)).collect();
    let permits = Arc::new(Semaphore::new(load.in_flight));
    let mut pool = Pool { load, templates, slots: vec![None; POOL.max(templates.len())], used: 0 };
    let mut outcome = Outcome::default();
    let mut requests = JoinSet::new();
    let begun = measure::instant();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while begun.elapsed() < load.duration && !stop.is_cancelled() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
        }
        let mut due = load.rate.mul_add(begun.elapsed().as_secs_f64(), -float(outcome.offered.spans + outcome.unsent.spans)).max(0.0);
        while due >= 1.0 {
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                let spans = templates[0].spans();
                outcome.unsent.add(spans);
                due -= float(spans);
                continue;
            };
            let (body, spans) = pool.take(measure::now())?;
            due -= float(spans);
            outcome.offered.add(spans);
            let request = request(load, body)?;
            let client = clients[usize::try_from(outcome.offered.requests)? % clients.len()].clone();
            let protocol = load.protocol;
            requests.spawn(async move {
                let sent = measure::instant();
                let answer = tokio::time::timeout(ANSWER_TIMEOUT, exchange(protocol, client, request)).await;
                drop(permit);
                Answered { answer: answer.unwrap_or(Answer::Failed), spans, seconds: sent.elapsed().as_secs_f64() }
            });
        }
        while let Some(answered) = requests.try_join_next() {
            outcome.record(answered.context("a request ended early")?);
        }
    }
    while let Some(answered) = requests.join_next().await {
        outcome.record(answered.context("a request ended early")?);
    }
    outcome.seconds = begun.elapsed().as_secs_f64();
    outcome.latencies.sort_by(f64::total_cmp);
    Ok(outcome)
}

fn client(protocol: Protocol) -> HttpClient {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.http2_only(protocol == Protocol::Grpc).retry_canceled_requests(false);
    builder.http2_initial_stream_window_size(8 << 20).http2_initial_connection_window_size(24 << 20);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    builder.build(connector)
}

fn request(load: &Load, body: Bytes) -> Result<Request<Full<Bytes>>> {
    let mut request = Request::post(format!("http://{}{}", load.address, load.protocol.path()));
    request = match load.protocol {
        Protocol::Grpc => request.header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers"),
        Protocol::Http => request.header(header::CONTENT_TYPE, "application/x-protobuf"),
    };
    if let Some(encoding) = load.compression.header() {
        let name = if load.protocol == Protocol::Grpc { "grpc-encoding" } else { "content-encoding" };
        request = request.header(name, encoding);
    }
    request.body(Full::new(body)).context("a request cannot be built")
}

async fn exchange(protocol: Protocol, client: HttpClient, request: Request<Full<Bytes>>) -> Answer {
    let Ok(response) = client.request(request).await else { return Answer::Failed };
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return Answer::Failed };
    let trailers = body.trailers().cloned();
    let body = body.to_bytes();
    match protocol {
        Protocol::Grpc => grpc_answer(&head.headers, trailers.as_ref(), &body),
        Protocol::Http => http_answer(head.status, &head.headers, &body),
    }
}

fn grpc_answer(headers: &HeaderMap, trailers: Option<&HeaderMap>, body: &Bytes) -> Answer {
    // An error without a body has its status in the headers.
    let status = trailers.and_then(tonic::Status::from_header_map).or_else(|| tonic::Status::from_header_map(headers));
    let Some(status) = status else { return Answer::Failed };
    if status.code() == tonic::Code::Ok {
        return Answer::Acknowledged { rejected: rejected(body.get(5..).unwrap_or_default()) };
    }
    let with_delay = status.get_details_retry_info().is_some();
    // The OTLP specification's list; RESOURCE_EXHAUSTED only when the server says that it will recover.
    let retryable = match status.code() {
        tonic::Code::ResourceExhausted => with_delay,
        code => matches!(
            code,
            tonic::Code::Cancelled
                | tonic::Code::DeadlineExceeded
                | tonic::Code::Aborted
                | tonic::Code::OutOfRange
                | tonic::Code::Unavailable
                | tonic::Code::DataLoss
        ),
    };
    Answer::Refused { status: format!("grpc {:?}", status.code()), retryable, with_delay }
}

fn http_answer(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Answer {
    if status.is_success() {
        return Answer::Acknowledged { rejected: rejected(body) };
    }
    let retryable = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    Answer::Refused { status: format!("http {}", status.as_u16()), retryable, with_delay: headers.contains_key(header::RETRY_AFTER) }
}

fn rejected(message: &[u8]) -> u64 {
    let partial = ExportTraceServiceResponse::decode(message).ok().and_then(|response| response.partial_success);
    partial.and_then(|partial| u64::try_from(partial.rejected_spans).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn refusal(answer: Answer) -> (String, bool, bool) {
        match answer {
            Answer::Refused { status, retryable, with_delay } => (status, retryable, with_delay),
            Answer::Acknowledged { .. } | Answer::Failed => panic!("expected a refusal"),
        }
    }

    /// Guarantees: answers are sorted as the OTLP specification tells exporters to.
    #[test]
    fn refusals_are_sorted_as_exporters_do() {
        let grpc = |code: &str| refusal(grpc_answer(&headers(&[("grpc-status", code)]), None, &Bytes::new()));
        assert_eq!(grpc("14"), ("grpc Unavailable".to_owned(), true, false));
        assert_eq!(grpc("8"), ("grpc ResourceExhausted".to_owned(), false, false));
        assert_eq!(grpc("3"), ("grpc InvalidArgument".to_owned(), false, false));
        let retry = headers(&[("retry-after", "1")]);
        let http = |code| refusal(http_answer(StatusCode::from_u16(code).unwrap(), &retry, &Bytes::new()));
        assert_eq!(http(503), ("http 503".to_owned(), true, true));
        assert_eq!(http(400), ("http 400".to_owned(), false, true));
    }

    /// Guarantees: partially refused spans are not counted as acknowledged.
    #[test]
    fn rejected_spans_are_not_acknowledged() {
        let mut outcome = Outcome::default();
        outcome.record(Answered { answer: Answer::Acknowledged { rejected: 2 }, spans: 10, seconds: 0.1 });
        outcome.record(Answered { answer: Answer::Failed, spans: 5, seconds: 0.1 });
        assert_eq!((outcome.acknowledged.spans, outcome.rejected, outcome.failed.spans), (8, 2, 5));
    }
}
