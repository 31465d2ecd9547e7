//! Recorded traces and CPU as OTLP requests, second by second.
//!
//! Calm traffic is drawn from the calm recording in blocks of ten seconds (a bootstrap by blocks): repeated minutes would not
//! vary, and single traces drawn by themselves would lose that slow ones come together.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span::SpanKind};
use prost::Message as _;
use tracescale_core::time::{Timestamp, nanos};
use tracescale_evaluate::causes::{Cpu, Minute, RecordedSpan, Recording, Side, Trace};
use tracescale_ingest::decode::Signal;
use tracescale_simulate::random::{Purpose, Stream};

/// Length of the blocks of calm traffic.
const BLOCK: Duration = Duration::from_secs(10);
const BLOCKS_PER_MINUTE: u32 = 6;
/// How often the gauges of pods are sent: what collectors are usually told.
const SCRAPE: Duration = Duration::from_secs(20);
const SCRAPES_PER_MINUTE: u32 = 3;
const SECOND: Duration = Duration::from_secs(1);
/// Any number: the same calm traffic each time.
const SEED: u64 = 1;

/// What is still to be sent before a fault and during it.
pub(super) struct Traffic<'r> {
    begin: Timestamp,
    fault: Timestamp,
    /// By their time, the newest first.
    spans: Vec<Placed<'r>>,
    gauges: Vec<(Timestamp, &'r [Cpu])>,
    now: Timestamp,
}

/// What is sent: to which service of OTLP, and the body.
pub(super) type Request = (Signal, Vec<u8>);

/// A span at another time.
struct Placed<'r> {
    end: Timestamp,
    shift: i64,
    trace: u128,
    span: &'r RecordedSpan,
}

/// The service that answers most of the requests from outside.
pub(super) fn front(recording: &Recording) -> &str {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let spans = recording.calm.iter().flat_map(|trace| &trace.spans);
    for root in spans.filter(|span| span.parent.is_none()) {
        *counts.entry(root.service()).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map_or("", |(service, _)| service)
}

// === impl Traffic ===

impl<'r> Traffic<'r> {
    /// So many calm minutes, then the recorded ones at their own time.
    pub(super) fn new(recording: &'r Recording, run: &'r [Minute], calm_minutes: u32, with_cpu: bool) -> Self {
        let starts = run.iter().flat_map(|minute| &minute.traces).map(|trace| trace.start);
        let fault = Timestamp::from_nanos(starts.min().unwrap_or_default());
        let begin = fault - BLOCK * (BLOCKS_PER_MINUTE * calm_minutes);
        let mut traffic = Self { begin, fault, spans: Vec::new(), gauges: Vec::new(), now: begin.floor(SECOND) };
        traffic.place_calm(&recording.calm, BLOCKS_PER_MINUTE * calm_minutes);
        for trace in run.iter().flat_map(|minute| &minute.traces) {
            traffic.place(trace, trace.id, 0);
        }
        if with_cpu {
            let calm = (1..=SCRAPES_PER_MINUTE * calm_minutes).map(|scrape| (begin + SCRAPE * scrape, recording.calm_cpu.as_slice()));
            traffic.gauges.extend(calm);
            for minute in run {
                let end = Timestamp::from_nanos(minute.end);
                traffic.gauges.extend((0..SCRAPES_PER_MINUTE).map(|before| (end - SCRAPE * before, minute.cpu.as_slice())));
            }
        }
        traffic.spans.sort_unstable_by_key(|placed| std::cmp::Reverse((placed.end, placed.trace, placed.span.id)));
        traffic.gauges.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        traffic
    }

    /// When the calm traffic begins.
    pub(super) fn begin(&self) -> Timestamp {
        self.begin
    }

    /// When the first faulty trace begins.
    pub(super) fn fault(&self) -> Timestamp {
        self.fault
    }

    fn place_calm(&mut self, calm: &'r [Trace], blocks: u32) {
        let (Some(first), Some(last)) = (calm.first(), calm.last()) else { return };
        let recorded = u32::try_from((last.start - first.start).div_euclid(nanos(BLOCK)) + 1).unwrap_or(1);
        let mut random = Stream::new(SEED, 0, Purpose::Load);
        for block in 0..blocks {
            let from = first.start + nanos(BLOCK) * i64::from(random.below(recorded));
            let shift = (self.begin + BLOCK * block).as_nanos() - from;
            for trace in calm.iter().filter(|trace| (from..from + nanos(BLOCK)).contains(&trace.start)) {
                // Copies of a trace are other traces.
                self.place(trace, trace.id ^ u128::from(block + 1), shift);
            }
        }
    }

    fn place(&mut self, trace: &'r Trace, id: u128, shift: i64) {
        let placed = |span: &'r RecordedSpan| Placed { end: Timestamp::from_nanos(span.end + shift), shift, trace: id, span };
        self.spans.extend(trace.spans.iter().map(placed));
    }

    /// The requests of the next second, and its end; `None` after the last. Spans leave when they end.
    pub(super) fn next_second(&mut self) -> Option<(Timestamp, Vec<Request>)> {
        if self.spans.is_empty() && self.gauges.is_empty() {
            return None;
        }
        self.now = self.now + SECOND;
        let mut requests = Vec::new();
        let due = self.spans.partition_point(|placed| placed.end > self.now);
        let spans = self.spans.split_off(due);
        if !spans.is_empty() {
            requests.push((Signal::Traces, trace_request(&spans).encode_to_vec()));
        }
        while let Some((at, cpu)) = self.gauges.pop_if(|(at, _)| *at <= self.now) {
            requests.push((Signal::Metrics, metric_request(cpu, at).encode_to_vec()));
        }
        Some((self.now, requests))
    }
}

// === impl Placed ===

impl Placed<'_> {
    fn span(&self) -> Span {
        let kind = match self.span.side {
            Side::Server => SpanKind::Server,
            Side::Client => SpanKind::Client,
            Side::Internal => SpanKind::Internal,
        };
        Span {
            trace_id: self.trace.to_be_bytes().to_vec(),
            span_id: self.span.id.to_be_bytes().to_vec(),
            parent_span_id: self.span.parent.map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
            name: self.span.operation.clone(),
            kind: kind.into(),
            start_time_unix_nano: unix(Timestamp::from_nanos(self.span.start + self.shift)),
            end_time_unix_nano: unix(self.end),
            ..Span::default()
        }
    }
}

fn trace_request(spans: &[Placed<'_>]) -> ExportTraceServiceRequest {
    let mut pods: BTreeMap<&str, (&str, Vec<Span>)> = BTreeMap::new();
    for placed in spans {
        pods.entry(&placed.span.pod).or_insert_with(|| (placed.span.service(), Vec::new())).1.push(placed.span());
    }
    let resource_spans = pods.into_iter().map(|(pod, (service, spans))| ResourceSpans {
        resource: Some(resource(service, pod)),
        scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

/// Gauges with the names and units of the collector's kubeletstats receiver, and the `service.name` that it must be told.
fn metric_request(pods: &[Cpu], at: Timestamp) -> ExportMetricsServiceRequest {
    let gauge = |name: &str, unit: &str, value: f64| {
        let point = NumberDataPoint { time_unix_nano: unix(at), value: Some(Value::AsDouble(value)), ..NumberDataPoint::default() };
        Metric { name: name.into(), unit: unit.into(), data: Some(Data::Gauge(Gauge { data_points: vec![point] })), ..Metric::default() }
    };
    let resource_metrics = pods.iter().map(|cpu| {
        let metrics = vec![gauge("k8s.pod.cpu.usage", "{cpu}", cpu.cores), gauge("k8s.pod.cpu_limit_utilization", "1", cpu.utilization)];
        ResourceMetrics {
            resource: Some(resource(cpu.service(), &cpu.pod)),
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }
    });
    ExportMetricsServiceRequest { resource_metrics: resource_metrics.collect() }
}

fn resource(service: &str, pod: &str) -> Resource {
    let text = |key: &str, value: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) }),
        ..KeyValue::default()
    };
    let attributes = vec![text("service.name", service), text("service.instance.id", pod), text("k8s.pod.name", pod)];
    Resource { attributes, ..Resource::default() }
}

fn unix(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or_default()
}
