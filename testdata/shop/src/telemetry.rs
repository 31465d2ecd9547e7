//! One OpenTelemetry SDK per service instance, as if each ran in a pod of its own, and a tally of what was sent.
//!
//! The tally is the ground truth of the tests: what the receiver acknowledged must be what tracescale counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::metrics::{Counter, Histogram, MeterProvider as _, UpDownCounter};
use opentelemetry::trace::{SpanKind, TracerProvider as _};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, ShouldSample, Span, SpanData, SpanExporter,
    SpanProcessor,
};
use serde_json::{Value, json};

use crate::sampling::ConsistentHead;
use crate::services::Service;

/// Bounds that the semantic conventions advise for durations in seconds.
const DURATION_BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Spans an instance may hold back while the receiver is away; enough for minutes, so that the tally misses none.
const SPAN_QUEUE: usize = 1 << 16;

/// Where and how telemetry is exported.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) endpoint: String,
    /// Head-sampling probability that is written to `tracestate`; `None` exports every span and says nothing.
    pub(crate) sample: Option<f64>,
    /// How often metrics are exported.
    pub(crate) metric_interval: Duration,
    /// How long a span waits for its batch at most.
    pub(crate) span_delay: Duration,
}

/// Who an instance is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) service: Service,
    /// `service.instance.id`, a UUID.
    pub(crate) id: String,
    pub(crate) pod: String,
}

/// The SDK of one instance.
#[derive(Debug)]
pub(crate) struct Telemetry {
    pub(crate) tracer: SdkTracer,
    pub(crate) instruments: Instruments,
    pub(crate) usage: Arc<Usage>,
    /// While set nothing leaves the instance: the service works, its telemetry is missing.
    pub(crate) silent: Arc<AtomicBool>,
    /// Once set, batched spans are lost too, as when the process is gone.
    pub(crate) crashed: Arc<AtomicBool>,
    spans: SdkTracerProvider,
    metrics: SdkMeterProvider,
}

/// What request handling records into.
#[derive(Debug)]
pub(crate) struct Instruments {
    pub(crate) server_duration: Histogram<f64>,
    pub(crate) server_active: UpDownCounter<i64>,
    pub(crate) client_duration: Histogram<f64>,
    pub(crate) database_duration: Histogram<f64>,
    pub(crate) process_duration: Histogram<f64>,
    pub(crate) sent_messages: Counter<u64>,
}

/// What the observable instruments read.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Workers computing right now (not waiting for another service).
    pub(crate) computing: AtomicI64,
    /// Time spent computing, in nanoseconds.
    pub(crate) computed: AtomicU64,
    /// Requests inside the instance, waiting ones included.
    pub(crate) inside: AtomicI64,
    /// Requests that wait for a worker.
    pub(crate) waiting: AtomicI64,
}

/// What was produced and what the receiver acknowledged, by service.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<Service, Sent>>);

#[derive(Clone, Debug, Default)]
struct Sent {
    spans: BTreeMap<&'static str, Amount>,
    events: u64,
    links: u64,
    points: Amount,
}

#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    acknowledged: u64,
    failed: u64,
}

#[derive(Debug)]
struct CountedSpans {
    service: Service,
    inner: opentelemetry_otlp::SpanExporter,
    tally: Arc<Tally>,
    crashed: Arc<AtomicBool>,
}

struct CountedMetrics {
    service: Service,
    inner: opentelemetry_otlp::MetricExporter,
    tally: Arc<Tally>,
    silent: Arc<AtomicBool>,
}

/// Keeps spans away from the batch while the instance is silent.
#[derive(Debug)]
struct Gate {
    inner: BatchSpanProcessor,
    silent: Arc<AtomicBool>,
}

// === impl Telemetry ===

impl Telemetry {
    /// Builds the SDK; must be called on the runtime that carries the exporters' connections.
    pub(crate) fn start(export: &Export, identity: &Identity, workers: u32, tally: &Arc<Tally>) -> anyhow::Result<Self> {
        let resource = resource(identity);
        let silent = Arc::new(AtomicBool::new(false));
        let crashed = Arc::new(AtomicBool::new(false));
        let usage = Arc::new(Usage::default());
        let counted = CountedSpans {
            service: identity.service,
            inner: span_exporter(export)?,
            tally: Arc::clone(tally),
            crashed: Arc::clone(&crashed),
        };
        let spans = tracer_provider(export, counted, resource.clone(), &silent);
        let metrics = meter_provider(export, identity.service, resource, tally, &silent)?;
        let scope = InstrumentationScope::builder("tracescale-shop").with_version(env!("CARGO_PKG_VERSION")).build();
        let meter = metrics.meter_with_scope(scope.clone());
        let seconds = |name: &'static str| meter.f64_histogram(name).with_unit("s").with_boundaries(DURATION_BOUNDS.to_vec()).build();
        let instruments = Instruments {
            server_duration: seconds("http.server.request.duration"),
            server_active: meter.i64_up_down_counter("http.server.active_requests").with_unit("{request}").build(),
            client_duration: seconds("http.client.request.duration"),
            database_duration: seconds("db.client.operation.duration"),
            process_duration: seconds("messaging.process.duration"),
            sent_messages: meter.u64_counter("messaging.client.sent.messages").with_unit("{message}").build(),
        };
        observe_usage(&meter, &usage, workers);
        Ok(Self { tracer: spans.tracer_with_scope(scope), instruments, usage, silent, crashed, spans, metrics })
    }

    /// Registers the length of a queue that this instance consumes.
    pub(crate) fn observe_queue(&self, name: &'static str, length: impl Fn() -> u64 + Send + Sync + 'static) {
        let meter = self.metrics.meter("tracescale-shop");
        let _queue = meter
            .u64_observable_gauge("shop.queue.length")
            .with_unit("{message}")
            .with_description("Messages that no consumer has taken")
            .with_callback(move |observer| observer.observe(length(), &[KeyValue::new("messaging.destination.name", name)]))
            .build();
    }

    /// Sends what is still held and closes the exporters. Blocks; call it off the runtime's workers.
    pub(crate) fn shutdown(&self) {
        if let Err(error) = self.spans.shutdown() {
            tracing::warn!(%error, "spans were not flushed");
        }
        if let Err(error) = self.metrics.shutdown() {
            tracing::warn!(%error, "metrics were not flushed");
        }
    }
}

fn resource(identity: &Identity) -> Resource {
    let name = identity.service.name();
    Resource::builder()
        .with_service_name(name)
        .with_attributes([
            KeyValue::new("service.namespace", "shop"),
            KeyValue::new("service.version", identity.service.version()),
            KeyValue::new("service.instance.id", identity.id.clone()),
            KeyValue::new("deployment.environment.name", "demo"),
            KeyValue::new("k8s.namespace.name", "shop"),
            KeyValue::new("k8s.deployment.name", name),
            KeyValue::new("k8s.pod.name", identity.pod.clone()),
            KeyValue::new("k8s.pod.uid", identity.id.clone()),
            KeyValue::new("k8s.node.name", "node-1"),
            KeyValue::new("k8s.container.name", name),
            KeyValue::new("host.name", identity.pod.clone()),
        ])
        .build()
}

fn span_exporter(export: &Export) -> anyhow::Result<opentelemetry_otlp::SpanExporter> {
    let builder = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(export.endpoint.as_str());
    builder.build().with_context(|| format!("no span exporter for {}", export.endpoint))
}

fn tracer_provider(export: &Export, exporter: CountedSpans, resource: Resource, silent: &Arc<AtomicBool>) -> SdkTracerProvider {
    let batch = BatchConfigBuilder::default().with_max_queue_size(SPAN_QUEUE).with_scheduled_delay(export.span_delay).build();
    let gate = Gate { inner: BatchSpanProcessor::builder(exporter).with_batch_config(batch).build(), silent: Arc::clone(silent) };
    let root: Box<dyn ShouldSample> = match export.sample {
        Some(probability) => Box::new(ConsistentHead::new(probability)),
        None => Box::new(Sampler::AlwaysOn),
    };
    SdkTracerProvider::builder().with_resource(resource).with_span_processor(gate).with_sampler(Sampler::ParentBased(root)).build()
}

fn meter_provider(
    export: &Export,
    service: Service,
    resource: Resource,
    tally: &Arc<Tally>,
    silent: &Arc<AtomicBool>,
) -> anyhow::Result<SdkMeterProvider> {
    let exporter = opentelemetry_otlp::MetricExporter::builder()
        .with_tonic()
        .with_endpoint(export.endpoint.as_str())
        .with_temporality(service.temporality())
        .build()
        .with_context(|| format!("no metric exporter for {}", export.endpoint))?;
    let counted = CountedMetrics { service, inner: exporter, tally: Arc::clone(tally), silent: Arc::clone(silent) };
    let reader = PeriodicReader::builder(counted).with_interval(export.metric_interval).build();
    let builder = SdkMeterProvider::builder().with_resource(resource).with_reader(reader);
    Ok(if service.exponential_histograms() { builder.with_view(exponential) } else { builder }.build())
}

/// The view of services that report durations as exponential histograms.
fn exponential(instrument: &Instrument) -> Option<Stream> {
    (instrument.name() == "http.server.request.duration").then_some(())?;
    let aggregation = Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: true };
    Stream::builder().with_aggregation(aggregation).build().ok()
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a demo and worker counts stay far below 2^52")]
fn observe_usage(meter: &opentelemetry::metrics::Meter, usage: &Arc<Usage>, workers: u32) {
    let (time, share, waiting) = (Arc::clone(usage), Arc::clone(usage), Arc::clone(usage));
    let user = [KeyValue::new("cpu.mode", "user")];
    let _time = meter
        .f64_observable_counter("process.cpu.time")
        .with_unit("s")
        .with_description("Simulated: time that workers computed")
        .with_callback({
            let user = user.clone();
            move |observer| observer.observe(time.computed.load(Ordering::Relaxed) as f64 / 1e9, &user)
        })
        .build();
    let _share = meter
        .f64_observable_gauge("process.cpu.utilization")
        .with_unit("1")
        .with_description("Simulated: share of the workers that compute at this moment")
        .with_callback(move |observer| observer.observe(share.computing.load(Ordering::Relaxed) as f64 / f64::from(workers), &user))
        .build();
    let _waiting = meter
        .i64_observable_gauge("shop.requests.waiting")
        .with_unit("{request}")
        .with_description("Requests inside the instance that wait for a worker")
        .with_callback(move |observer| observer.observe(waiting.waiting.load(Ordering::Relaxed), &[]))
        .build();
}

// === impl Tally ===

impl Tally {
    fn update(&self, service: Service, change: impl FnOnce(&mut Sent)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(service).or_default());
    }

    /// Spans the receiver acknowledged so far.
    pub(crate) fn acknowledged_spans(&self) -> u64 {
        let services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        services.values().flat_map(|sent| sent.spans.values()).map(|amount| amount.acknowledged).sum()
    }

    /// The summary document: per service the spans by kind, events, links and metric points.
    pub(crate) fn to_json(&self) -> Value {
        let services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let amount = |amount: &Amount| json!({"acknowledged": amount.acknowledged, "failed": amount.failed});
        let of = |sent: &Sent| {
            let spans: serde_json::Map<String, Value> = sent.spans.iter().map(|(kind, n)| ((*kind).to_owned(), amount(n))).collect();
            json!({"spans": spans, "span_events": sent.events, "span_links": sent.links, "points": amount(&sent.points)})
        };
        Value::Object(services.iter().map(|(service, sent)| (service.name().to_owned(), of(sent))).collect())
    }
}

impl Amount {
    fn add(&mut self, count: u64, result: &OTelSdkResult) {
        if result.is_ok() {
            self.acknowledged += count;
        } else {
            self.failed += count;
        }
    }
}

/// Items in a metrics export as OTLP counts them: data points.
fn points(metrics: &ResourceMetrics) -> u64 {
    fn of<T>(data: &MetricData<T>) -> usize {
        match data {
            MetricData::Gauge(gauge) => gauge.data_points().count(),
            MetricData::Sum(sum) => sum.data_points().count(),
            MetricData::Histogram(histogram) => histogram.data_points().count(),
            MetricData::ExponentialHistogram(histogram) => histogram.data_points().count(),
        }
    }
    let metrics = metrics.scope_metrics().flat_map(|scope| scope.metrics());
    let counts = metrics.map(|metric| match metric.data() {
        AggregatedMetrics::F64(data) => of(data),
        AggregatedMetrics::U64(data) => of(data),
        AggregatedMetrics::I64(data) => of(data),
    });
    counts.map(|count| count as u64).sum()
}

fn kind_name(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Client => "CLIENT",
        SpanKind::Server => "SERVER",
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
        SpanKind::Internal => "INTERNAL",
    }
}

// === impl CountedSpans ===

impl SpanExporter for CountedSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.crashed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut kinds: BTreeMap<&'static str, u64> = BTreeMap::new();
        let (mut events, mut links) = (0, 0);
        for span in &batch {
            *kinds.entry(kind_name(&span.span_kind)).or_default() += 1;
            events += span.events.len() as u64;
            links += span.links.len() as u64;
        }
        let result = self.inner.export(batch).await;
        self.tally.update(self.service, |sent| {
            for (kind, count) in kinds {
                sent.spans.entry(kind).or_default().add(count, &result);
            }
            if result.is_ok() {
                sent.events += events;
                sent.links += links;
            }
        });
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

// === impl CountedMetrics ===

impl PushMetricExporter for CountedMetrics {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        if self.silent.load(Ordering::Relaxed) {
            return Ok(());
        }
        let count = points(metrics);
        let result = self.inner.export(metrics).await;
        self.tally.update(self.service, |sent| sent.points.add(count, &result));
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

// === impl Gate ===

impl SpanProcessor for Gate {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.inner.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        if !self.silent.load(Ordering::Relaxed) {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
