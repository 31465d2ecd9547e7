//! `/metrics`: what tracescale says about itself to Prometheus. `deploy/metrics.md` lists every name; a test compares.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracescale_core::decide::Decision;
use tracescale_core::invariant;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_ingest::decode::Signal;
use tracescale_ingest::{Refusal, Stats};
use tracescale_queries::EngineStats;
use tracescale_queries::streams::Counters;

use crate::clock;
use crate::controller::{Event, RolloutRecord};
use crate::keep::Shared;

type Labels = Vec<(&'static str, &'static str)>;

/// The metrics of one process; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    own: Own,
    counted: Counted,
}

/// What the controller's thread counts.
#[derive(Clone, Debug, Default)]
struct Own {
    evaluations: Family<Labels, Counter>,
    decisions: Family<Labels, Counter>,
    calls: Family<Labels, Counter>,
    violations: Family<Labels, Counter>,
    journal_failures: Counter,
    archived_rows: Counter,
    archived_files: Counter,
    archived_bytes: Counter,
    archive_failures: Counter,
    unreadable_records: Counter,
    rollouts: Family<Labels, Gauge>,
    reaction: Reaction,
}

/// Seconds from the newest row behind a decision that changes something to the decision.
#[derive(Clone, Debug)]
struct Reaction(Histogram);

/// What the receiver and the engine count themselves; read at each scrape.
#[derive(Clone, Debug, Default)]
struct Counted {
    receiver: Arc<Mutex<Option<Arc<Stats>>>>,
    engine: Arc<Mutex<EngineStats>>,
    keeping: Arc<Mutex<Option<Arc<Shared>>>>,
    losses: Arc<Mutex<Option<Arc<Counters>>>>,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let (own, counted) = (Own::default(), Counted::default());
        let mut registry = Registry::with_prefix("tracescale");
        registry.register("rule_evaluations", "Evaluations of rules by outcome", own.evaluations.clone());
        registry.register("decisions", "Decisions by action and reason", own.decisions.clone());
        registry.register("sink_calls", "Calls to sinks by kind and result", own.calls.clone());
        registry.register("invariant_violations", "Decisions that broke a named invariant: defects", own.violations.clone());
        registry.register("journal_failures", "Decisions that could not be written down", own.journal_failures.clone());
        registry.register("archived_rows", "Rows written to the archive", own.archived_rows.clone());
        registry.register("archived_files", "Files written to the archive", own.archived_files.clone());
        registry.register("archived_bytes", "Bytes of these files", own.archived_bytes.clone());
        registry.register("archive_failures", "Failed attempts to write the archive", own.archive_failures.clone());
        registry.register(
            "unreadable_records",
            "Records of the write-ahead log that could not be archived",
            own.unreadable_records.clone(),
        );
        registry.register("rollouts", "Rules by how far their newest version has come", own.rollouts.clone());
        let help = "Seconds from the newest row behind a change to the decision";
        registry.register("reaction_seconds", help, own.reaction.0.clone());
        registry.register_collector(Box::new(counted.clone()));
        Self { registry: Arc::new(registry), own, counted }
    }

    /// Counts of this receiver are shown from now on.
    pub fn receiver(&self, stats: Arc<Stats>) {
        *self.counted.receiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats);
    }

    /// What the derived streams give up is shown from now on.
    pub fn losses(&self, counters: Arc<Counters>) {
        *self.counted.losses.lock().unwrap_or_else(PoisonError::into_inner) = Some(counters);
    }

    /// What the write-ahead log counts is shown from now on.
    pub fn keeping(&self, shared: Arc<Shared>) {
        *self.counted.keeping.lock().unwrap_or_else(PoisonError::into_inner) = Some(shared);
    }

    /// A cut was archived.
    pub fn archived(&self, rows: u64, files: u64, bytes: u64) {
        let _ = self.own.archived_rows.inc_by(rows);
        let _ = self.own.archived_files.inc_by(files);
        let _ = self.own.archived_bytes.inc_by(bytes);
    }

    /// The archive could not be written.
    pub fn archive_failed(&self) {
        let _ = self.own.archive_failures.inc();
    }

    /// A record of the write-ahead log could not be read.
    pub fn record_unreadable(&self) {
        let _ = self.own.unreadable_records.inc();
    }

    /// Takes over the engine's counts.
    pub fn windows(&self, stats: &EngineStats) {
        *self.counted.engine.lock().unwrap_or_else(PoisonError::into_inner) = stats.clone();
    }

    /// Counts an event of the controller.
    pub fn event(&self, event: &Event) {
        let count = |kind, result| {
            let _ = self.own.calls.get_or_create(&vec![("kind", kind), ("result", result)]).inc();
        };
        match event {
            Event::Evaluated { answers, .. } => {
                let outcome = if answers.is_ok() { "ok" } else { "failed" };
                let _ = self.own.evaluations.get_or_create(&vec![("outcome", outcome)]).inc();
            }
            Event::Observed { result, .. } => count("observe", result.as_ref().map_or_else(|error| error.kind.as_str(), |_| "ok")),
            Event::Applied { result, .. } => count("apply", result.as_ref().map_or_else(|error| error.kind.as_str(), |_| "ok")),
            Event::Advanced { .. } | Event::Reloaded(_) | Event::Drained => {}
        }
    }

    /// Counts a decision, and any invariant that it breaks.
    pub fn decision(&self, decision: &Decision) {
        let labels = vec![("action", decision.action.as_str()), ("reason", decision.reason.as_str())];
        let _ = self.own.decisions.get_or_create(&labels).inc();
        if let Err(violation) = invariant::check(decision) {
            tracing::error!(decision = %decision.id, %violation, "a decision broke an invariant");
            let _ = self.own.violations.get_or_create(&vec![("invariant", violation.invariant.as_str())]).inc();
        }
        if let (true, Some(evidence)) = (decision.is_change(), decision.evidence_time) {
            self.own.reaction.0.observe(decision.at.since(evidence).as_secs_f64());
        }
    }

    /// Shows how far rules have come.
    pub fn rollouts(&self, record: &RolloutRecord) {
        for (stage, count) in record.stages() {
            let _ = self.own.rollouts.get_or_create(&vec![("stage", stage)]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A decision could not be written down.
    pub fn journal_failed(&self) {
        let _ = self.own.journal_failures.inc();
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }
}

// === impl Reaction ===

impl Default for Reaction {
    fn default() -> Self {
        // 10 ms to 40 s.
        Self(Histogram::new(exponential_buckets(0.01, 2.0, 13)))
    }
}

// === impl Counted ===

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(stats) = &*self.receiver.lock().unwrap_or_else(PoisonError::into_inner) {
            receiver(&mut encoder, stats)?;
        }
        if let Some(counters) = &*self.losses.lock().unwrap_or_else(PoisonError::into_inner) {
            let losses = counters.snapshot().into_iter().map(|(what, count)| (vec![("what", what.to_owned())], count));
            Section { encoder: &mut encoder }.counters(
                "derived_losses",
                "What the derived streams could not use or had to give up",
                losses,
            )?;
        }
        if let Some(shared) = &*self.keeping.lock().unwrap_or_else(PoisonError::into_inner) {
            keeping(&mut encoder, shared)?;
        }
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        windows(&mut encoder, &engine)
    }
}

fn receiver(encoder: &mut DescriptorEncoder<'_>, stats: &Stats) -> Result<(), std::fmt::Error> {
    let signals = [(Signal::Traces, "traces"), (Signal::Metrics, "metrics"), (Signal::Logs, "logs")];
    let by_signal = |get: &dyn Fn(Signal) -> u64| signals.map(|(signal, name)| (vec![("signal", name.to_owned())], get(signal)));
    let mut counts = Section { encoder };
    counts.counters("received_items", "Spans, points and log records in accepted requests", by_signal(&|signal| stats.items(signal)))?;
    counts.counters("rejected_items", "Items refused one by one, as partial success", by_signal(&|signal| stats.rejected_items(signal)))?;
    counts.counters("accepted_requests", "Requests acknowledged", [(vec![], stats.accepted_total())])?;
    let refused = Refusal::ALL.map(|reason| (vec![("reason", reason.as_str().to_owned())], stats.refused(reason)));
    counts.counters("refused_requests", "Requests refused, by reason", refused)?;
    counts.counters("received_wire_bytes", "Bytes of request bodies as received", [(vec![], stats.wire_bytes())])?;
    counts.counters("received_body_bytes", "Bytes of request bodies after decompression", [(vec![], stats.body_bytes())])?;
    counts.gauge("queue_bytes", "Bytes held by requests that are read, decoded or wait", stats.queue_bytes())?;
    counts.gauge("requests_in_flight", "Requests being read or decoded", stats.requests_in_flight())?;
    counts.gauge("connections", "Open connections", stats.connections())
}

fn keeping(encoder: &mut DescriptorEncoder<'_>, shared: &Shared) -> Result<(), std::fmt::Error> {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    let mut counts = Section { encoder };
    counts.counters("log_groups", "Groups of requests written to the log, each synced once", [(vec![], read(&shared.groups))])?;
    counts.counters("log_appended_bytes", "Bytes written to the log", [(vec![], read(&shared.appended_bytes))])?;
    counts.counters(
        "duplicate_requests",
        "Requests that a sender repeated and that were there already",
        [(vec![], read(&shared.duplicates))],
    )?;
    counts.counters("unkept_records", "Windows, decisions and alerts that the log could not take", [(vec![], read(&shared.lost))])?;
    counts.gauge("log_bytes", "Bytes that the log takes on disk", read(&shared.log_bytes))
}

fn windows(encoder: &mut DescriptorEncoder<'_>, stats: &EngineStats) -> Result<(), std::fmt::Error> {
    let stream = |stream: &Stream| ("stream", stream.name().to_owned());
    let mut counts = Section { encoder };
    counts.counters("rows", "Rows by stream", stats.rows.iter().map(|(name, rows)| (vec![stream(name)], *rows)))?;
    let late = stats.late_rows.iter().map(|((name, service), rows)| (vec![stream(name), ("service", service.clone())], *rows));
    counts.counters("late_rows", "Rows too late for every window, by stream and service", late)?;
    let future = stats.future_rows.iter().map(|((name, source), rows)| (vec![stream(name), ("source", source.clone())], *rows));
    counts.counters("future_rows", "Rows from clocks that run ahead, by stream and source", future)?;
    let kinds = [("provisional", stats.provisional_emissions), ("final", stats.final_emissions), ("skipped", stats.skipped_provisional)];
    let emissions = kinds.map(|(kind, count)| (vec![("kind", kind.to_owned())], count));
    counts.counters("window_emissions", "Windows emitted, and provisional ones skipped because time jumped", emissions)?;
    counts.counters("window_revisions", "Final windows emitted again because late rows changed them", [(vec![], stats.revisions)])?;
    let overflow = stats.overflowed.iter().map(|(view, count)| (vec![("view", view.clone())], *count));
    counts.counters("overflowed_groups", "Group states summed up in the overflow group, by view", overflow)?;
    counts.counters("clock_steps", "Times the wall clock stepped back", [(vec![], stats.clock_steps)])?;
    let groups = stats.groups.iter().map(|(view, count)| (vec![("view", view.clone())], *count as u64));
    counts.gauges("view_groups", "Known groups, by view", groups)?;
    counts.gauge("pane_bytes", "Bytes of partial aggregates", stats.pane_bytes as u64)?;
    counts.gauge("history_bytes", "Bytes of view rows kept for look-back", stats.history_bytes as u64)?;
    let now = clock::now();
    let lag = |watermark: &Timestamp| now.since(*watermark).as_secs_f64();
    let lags = stats.watermarks.iter().map(|(name, watermark)| (vec![stream(name)], lag(watermark)));
    counts.seconds("watermark_lag_seconds", "How far the watermark trails the clock, by stream", lags)?;
    counts.seconds(
        "emission_lag_seconds",
        "How long after its slide the last window was emitted",
        [(vec![], stats.emission_lag.as_secs_f64())],
    )
}

type Labelled<T> = (Vec<(&'static str, String)>, T);

/// Writes families of constants.
struct Section<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

// === impl Section ===

impl Section<'_, '_> {
    fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = Labelled<u64>>) -> Result<(), std::fmt::Error> {
        self.family(name, help, values.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value))), &ConstCounter::new(0_u64))
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = Labelled<u64>>) -> Result<(), std::fmt::Error> {
        let signed = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        self.family(name, help, values.into_iter().map(|(labels, value)| (labels, signed(value))), &ConstGauge::new(0_i64))
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
        self.gauges(name, help, [(vec![], value)])
    }

    fn seconds(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = Labelled<f64>>) -> Result<(), std::fmt::Error> {
        self.family(name, help, values.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value))), &ConstGauge::new(0.0_f64))
    }

    fn family<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = Labelled<M>>,
        kind: &M,
    ) -> Result<(), std::fmt::Error> {
        let mut metric = self.encoder.encode_descriptor(name, help, None, kind.metric_type())?;
        for (labels, value) in values {
            value.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Takes the address of `/metrics`.
///
/// # Errors
/// When it is taken or not ours.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let hint = "hint: choose another with --metrics";
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} for /metrics; {hint}"))
}

/// Serves `/metrics` until told to stop.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, metrics: Metrics, stop: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new().route("/metrics", get(scrape)).with_state(metrics);
    Ok(axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await?)
}

async fn scrape(State(metrics): State<Metrics>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
