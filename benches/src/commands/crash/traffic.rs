//! The senders of the crash test: what they send, how they repeat it, and what they remember of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracescale_benches::body::Compression;
use tracescale_benches::generate::service_name;
use tracescale_benches::measure;
use tracescale_benches::repeat::{Attempt, Export, Exporter, Signal};
use tracescale_core::time::Timestamp;

/// A request, as its sender remembers it. The items in it have successive numbers, which are their ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) signal: Signal,
    pub(super) first: u64,
    pub(super) items: u64,
    pub(super) acknowledged: bool,
    /// How often it went out.
    pub(super) attempts: u32,
}

/// One sender: a connection and a thread of seeded chances.
pub(super) struct Sender {
    random: SmallRng,
    exporter: Exporter,
    /// The id of the next item; ids of different senders differ in their upper bits.
    next: u64,
    sent: Vec<Sent>,
}

/// Services in the traffic.
const SERVICES: usize = 3;
/// Longest wait for an answer. Exporters wait for ten seconds; a server that recovers takes its time.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a sender waits that gives up early, in milliseconds: about as long as an answer takes.
const HASTE: std::ops::Range<u64> = 1..30;
const PAUSE: std::ops::Range<u64> = 60..360;
const BACKOFF: std::ops::Range<u64> = 20..120;
/// Ages of spans when they are sent first, in milliseconds: more than the lateness that the server is given, now and then.
const AGES: std::ops::Range<u64> = 0..3_000;

// === impl Sender ===

impl Sender {
    pub(super) fn new(seed: u64, number: u64) -> Self {
        // Below one number there is room for four billion items.
        let next = (number + 1) << 32;
        Self { random: SmallRng::seed_from_u64(seed ^ next), exporter: Exporter::default(), next, sent: Vec::new() }
    }

    /// Sends one request after the other until `stop`, each until it is acknowledged (few are given up). Answers what was sent.
    pub(super) async fn run(mut self, mut address: watch::Receiver<Option<SocketAddr>>, stop: CancellationToken) -> Result<Vec<Sent>> {
        while !stop.is_cancelled() {
            let (mut sent, export) = self.request(measure::now())?;
            // A queue that overflows makes an exporter drop what it could not deliver.
            let is_given_up = self.random.random_bool(0.02);
            loop {
                let Some(server) = *address.borrow_and_update() else {
                    address.changed().await?;
                    continue;
                };
                let patience = if self.random.random_bool(0.08) { self.millis(HASTE) } else { PATIENCE };
                sent.attempts += 1;
                match self.exporter.send(server, &export, patience).await? {
                    Attempt::Acknowledged => {
                        sent.acknowledged = true;
                        break;
                    }
                    Attempt::Repeat if is_given_up => break,
                    Attempt::Repeat => tokio::time::sleep(self.millis(BACKOFF)).await,
                    Attempt::Refused(why) => ensure!(false, "a request was refused for good: {why}"),
                }
            }
            self.sent.push(sent);
            let pause = self.millis(PAUSE);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(self.sent)
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    fn request(&mut self, now: Timestamp) -> Result<(Sent, Export)> {
        let signal = if self.random.random_bool(0.2) { Signal::Metrics } else { Signal::Traces };
        let items = if self.random.random_bool(0.03) { self.random.random_range(100..300) } else { self.random.random_range(1..20) };
        let first = self.next;
        self.next += items;
        let ids = first..self.next;
        let message = match signal {
            Signal::Traces => self.traces(ids, now).encode_to_vec(),
            Signal::Metrics => self.metrics(ids, now).encode_to_vec(),
        };
        let compression = Compression::ALL[self.random.random_range(0..Compression::ALL.len())];
        let sent = Sent { signal, first, items, acknowledged: false, attempts: 0 };
        Ok((sent, Export::new(signal, compression, &message)?))
    }

    /// Spans of one service: entries, some with an inner span.
    fn traces(&mut self, ids: std::ops::Range<u64>, now: Timestamp) -> ExportTraceServiceRequest {
        let mut root: Option<u64> = None;
        let mut spans = Vec::new();
        for id in ids {
            let parent = root.filter(|_| self.random.random_bool(0.3));
            let end = now - self.millis(AGES);
            spans.push(span(id, parent, end, self.millis(1..400)));
            root = root.filter(|_| parent.is_some()).or(Some(id));
        }
        let resource = Some(resource(&mut self.random));
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }] }
    }

    /// Points of one series, each with its id as its value and a time of its own.
    fn metrics(&mut self, ids: std::ops::Range<u64>, now: Timestamp) -> ExportMetricsServiceRequest {
        let count = ids.end - ids.start;
        let point = |id: u64| NumberDataPoint {
            // Microseconds apart, because the archive keeps no finer times.
            time_unix_nano: nanos(now - Duration::from_micros(count - (id - ids.start))),
            value: Some(number_data_point::Value::AsInt(id.cast_signed())),
            attributes: vec![text("sender", (id >> 32).to_string())],
            ..NumberDataPoint::default()
        };
        let data_points = ids.clone().map(point).collect();
        let gauge = Metric { name: "crash.points".to_owned(), data: Some(metric::Data::Gauge(Gauge { data_points })), ..Metric::default() };
        let scope_metrics = vec![ScopeMetrics { metrics: vec![gauge], ..ScopeMetrics::default() }];
        let resource = Some(resource(&mut self.random));
        ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }] }
    }
}

fn span(id: u64, parent: Option<u64>, end: Timestamp, duration: Duration) -> Span {
    let trace = u128::from(parent.unwrap_or(id));
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
        name: "GET /work".to_owned(),
        kind: if parent.is_some() { SpanKind::Internal } else { SpanKind::Server }.into(),
        start_time_unix_nano: nanos(end - duration),
        end_time_unix_nano: nanos(end),
        ..Span::default()
    }
}

fn resource(random: &mut SmallRng) -> Resource {
    let service = service_name(random.random_range(0..SERVICES));
    Resource { attributes: vec![text("service.name", service)], ..Resource::default() }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(0)
}
