//! How long the models take for a thousand services: everything that one window of all services makes them do.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use serde::Serialize;
use tracescale_core::time::Timestamp;
use tracescale_queries::histogram::Histogram;
use tracescale_queries::model::Model;
use tracescale_queries::testbed::{DEFAULT_END, Testbed};
use tracescale_queries::{Engine, EngineConfig, Snapshot, judgement, shipped, streams};

use crate::clock;

/// Services, and calls between them.
const SERVICES: usize = 1000;
const CALLS: usize = 3;
/// Operations of each service.
const OPERATIONS: usize = 10;
/// Minutes that forecasts know before the clock is looked at: a day and a half, so that models of the season take part.
const MINUTES: u32 = 36 * 60;
/// Samples that plans know before: a day and two hours of 15 s, so that what came a day ago takes part.
const SAMPLES: u32 = 26 * 240;
const SAMPLE: Duration = Duration::from_secs(15);
/// Windows that are measured.
const ROUNDS: u32 = 9;
const MINUTE: Duration = Duration::from_secs(60);
/// The model that follows samples of 15 s instead of minutes.
const PLANS: &str = "service_plan";
/// The model that keeps windows of several minutes, and so many of them.
const DEMANDS: &str = "operation_demand";
const DEMAND_MINUTES: u32 = 12 * 60;
/// The model that knows what was normal for an hour.
const CAUSES: &str = "service_cause";
const CAUSE_MINUTES: u32 = 60;
/// How much slower than usual everything is in the last window.
const INCIDENT: f64 = 3.0;

/// Milliseconds of one thread, medians.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    services: usize,
    /// Of each model, for a final window that it learns from.
    learning: Vec<(&'static str, f64)>,
    /// The longest of these: some models conclude from what they learned only now and then.
    learning_most: Vec<(&'static str, f64)>,
    /// Of each model, for a window that it only judges.
    judging: Vec<(&'static str, f64)>,
    /// Of the replicas that a latency objective needs.
    sizing: f64,
}

/// Measures; takes some minutes.
pub(super) fn measure() -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> anyhow::Result<Report> {
    // One that the slowest service keeps as well, so that all have a plan.
    let promise = judgement::Promise { latency: 1.0, quantile: 0.99 };
    let promises = (0..SERVICES).map(|service| ((format!("s{service}"), None), promise)).collect();
    let advice = judgement::Advice { promises, ..judgement::Advice::default() };
    let settings = judgement::Settings { advice, ..judgement::Settings::default() };
    let (parts, _) = shipped::parts(&streams::Config::default(), &settings, Vec::new());
    let engine = Engine::with_parts(EngineConfig::default(), parts).await;
    let tables = engine.map_err(|problems| anyhow::anyhow!("{} views do not work", problems.len()))?.tables();
    let mut models = judgement::all(&settings);
    let starting = remember(&mut models, &tables).await?;
    let plans = place(&models, PLANS)?;
    let (mut learning, mut judging, mut sizing) = (vec![Vec::new(); models.len()], vec![Vec::new(); models.len()], Vec::new());
    for round in 0..ROUNDS {
        let end = DEFAULT_END + MINUTE * round;
        // The last is the worst: when everything is slow, everything may be a cause, and everything waits for it.
        let snapshot = window(&tables, end, if round + 1 == ROUNDS { INCIDENT } else { 1.0 }).await?;
        // Plans would take three samples without rows for a gap, and learn nothing.
        for back in (1..4).rev().filter(|_| round > 0) {
            models[plans].remember("service_pulse", &pulses(end - SAMPLE * back)?);
        }
        for (is_final, times) in [(true, &mut learning), (false, &mut judging)] {
            for (model, times) in models.iter_mut().zip(times) {
                let before = clock::now();
                let rows = judgement::rehearse(&mut **model, &snapshot, end, is_final)?.map_or(0, |rows| rows.num_rows());
                times.push(since(before));
                anyhow::ensure!(model.name() != PLANS || rows == SERVICES, "{rows} of {SERVICES} services have a plan");
            }
        }
        sizing.push(size(&snapshot).await?);
    }
    let names: Vec<&'static str> = models.iter().map(|model| model.name()).collect();
    let named = |times: Vec<f64>| names.iter().copied().zip(times).collect();
    let most = |times: &Vec<f64>| times.iter().copied().fold(0.0, f64::max);
    let mut learning_most: Vec<f64> = learning.iter().map(most).collect();
    learning_most[plans] = learning_most[plans].max(starting);
    Ok(Report {
        services: SERVICES,
        learning_most: named(learning_most),
        learning: named(learning.into_iter().map(median).collect()),
        judging: named(judging.into_iter().map(median).collect()),
        sizing: median(sizing),
    })
}

/// Lets the models know what they would know of services that run for long; gives the longest window after such a start.
async fn remember(models: &mut [Box<dyn Model>], tables: &Snapshot) -> anyhow::Result<f64> {
    let begin = DEFAULT_END - MINUTE * MINUTES;
    for minute in 0..MINUTES {
        let rows = past(begin + MINUTE * minute)?;
        models.iter_mut().for_each(|model| model.remember("service_sojourn", &rows));
    }
    let [plans, demands, causes] = [place(models, PLANS)?, place(models, DEMANDS)?, place(models, CAUSES)?];
    models[plans].remember("service_queue", &queues(DEFAULT_END - SAMPLE * SAMPLES)?);
    for back in (1..=SAMPLES).rev() {
        models[plans].remember("service_pulse", &pulses(DEFAULT_END - SAMPLE * back)?);
    }
    for minute in MINUTES - DEMAND_MINUTES..MINUTES {
        models[demands].remember(DEMANDS, &asked(begin + MINUTE * minute)?);
    }
    let starting = start(&mut *models[plans], &window(tables, DEFAULT_END, 1.0).await?)?;
    for back in (1..=CAUSE_MINUTES).rev() {
        let (bed, end) = (Testbed::new(tables.clone(), &[])?, DEFAULT_END - MINUTE * back);
        traffic(&bed, end, 1.0).await?;
        let _ = judgement::rehearse(&mut *models[causes], &bed.snapshot().await?, end, true)?;
    }
    Ok(starting)
}

fn place(models: &[Box<dyn Model>], name: &str) -> anyhow::Result<usize> {
    models.iter().position(|model| model.name() == name).with_context(|| format!("there is no model {name}"))
}

/// The longest of the windows after a start, until all services have a plan: they get their first one a hundred at a time.
fn start(plans: &mut dyn Model, snapshot: &Snapshot) -> anyhow::Result<f64> {
    let (mut longest, mut known) = (0.0_f64, 0);
    for _ in 0..SERVICES {
        let before = clock::now();
        let rows = judgement::rehearse(plans, snapshot, DEFAULT_END, true)?.map_or(0, |rows| rows.num_rows());
        longest = longest.max(since(before));
        if rows == SERVICES {
            return Ok(longest);
        }
        anyhow::ensure!(rows > known, "{rows} of {SERVICES} services have a plan, and no more get one");
        known = rows;
    }
    Ok(longest)
}

/// A minute of every service, as the archive remembers it.
fn past(end: Timestamp) -> anyhow::Result<RecordBatch> {
    remembered(end, &[("requests", &|service| rate(service, end) * 60.0)])
}

/// What every service answered in 15 s, as the archive remembers it.
fn pulses(end: Timestamp) -> anyhow::Result<RecordBatch> {
    remembered(end, &[("completion_rate", &|service| rate(service, end))])
}

/// What every service is as a queue, as the archive remembers it.
fn queues(end: Timestamp) -> anyhow::Result<RecordBatch> {
    remembered(
        end,
        &[
            ("service_time", &service_time),
            ("service_scv", &|_| 1.2),
            ("servers", &|_| 2.0),
            ("pooling", &|_| 0.4),
            ("load_bias", &|_| 1.1),
        ],
    )
}

/// What every operation was asked for, and the CPU that each service used, as the archive remembers it.
fn asked(end: Timestamp) -> anyhow::Result<RecordBatch> {
    let rows = || (0..SERVICES).flat_map(|service| (0..OPERATIONS).map(move |operation| (service, operation)));
    let text = |text: &dyn Fn(usize, usize) -> String| -> ArrayRef {
        Arc::new(rows().map(|(service, operation)| Some(text(service, operation))).collect::<StringArray>())
    };
    let column = |number: &dyn Fn(usize, usize) -> f64| -> ArrayRef {
        Arc::new(rows().map(|(service, operation)| Some(number(service, operation))).collect::<Float64Array>())
    };
    let ends: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![end.as_nanos(); SERVICES * OPERATIONS]));
    let columns: [(&str, ArrayRef); 7] = [
        ("window_end", ends),
        ("service_name", text(&|service, _| format!("s{service}"))),
        ("operation", text(&|_, operation| format!("/{operation}"))),
        ("http_request_method", text(&|_, _| "GET".to_owned())),
        ("completion_rate", column(&|service, operation| operation_rate(service, operation, end))),
        ("cpu_rate", column(&|service, _| cpu_rate(service, end))),
        ("cpu_from", text(&|_, _| "container.cpu.time".to_owned())),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// A row of numbers for every service.
fn remembered(end: Timestamp, numbers: &[(&str, &dyn Fn(usize) -> f64)]) -> anyhow::Result<RecordBatch> {
    let names = (0..SERVICES).map(|service| Some(format!("s{service}"))).collect::<StringArray>();
    let ends: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![end.as_nanos(); SERVICES]));
    let mut columns: Vec<(&str, ArrayRef)> = vec![("window_end", ends), ("service_name", Arc::new(names))];
    for (name, number) in numbers {
        columns.push((name, Arc::new((0..SERVICES).map(|service| Some(number(service))).collect::<Float64Array>())));
    }
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// One window of every view that models read, in which all is so many times slower than usual.
async fn window(tables: &Snapshot, end: Timestamp, slow: f64) -> anyhow::Result<Snapshot> {
    let bed = Testbed::new(tables.clone(), &[])?;
    insert(&bed, "service_sojourn", end, sojourn).await?;
    let pulse = |service, end| ("service_name, completion_rate", format!("'s{service}', {}", rate(service, end)));
    insert(&bed, "service_pulse", end, pulse).await?;
    let load = |service| ("service_name, arrival_rate, completion_rate", format!("'s{service}', {0}, {0}", rate(service, end)));
    insert(&bed, "service_load", end, |service, _| load(service)).await?;
    traffic(&bed, end, slow).await?;
    let own = |service, end| {
        let bytes: String = own_times(service, end).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        ("service_name, p95, distribution", format!("'s{service}', {}, X'{bytes}'", 0.2 + wobble(service, end)))
    };
    insert(&bed, "service_self_time", end, own).await?;
    for call in 1..=CALLS {
        let columns = "service_name, callee, calls_per_request, calls_per_request_error, learned_samples";
        let values = |service| format!("'s{service}', 's{}', 0.2, 0.05, 3000", callee(service, call));
        insert(&bed, "service_callees", end, |service, _| (columns, values(service))).await?;
    }
    for (name, value) in [("container.cpu.usage", 0.4), ("container.memory.working_set", 2e8), ("process.cpu.utilization", 0.5)] {
        let values = |service: usize| format!("'s{service}', '{name}', {0}, {0}", value * (1.0 + wobble(service, end)));
        insert(&bed, "metric_gauges", end, |service, _| ("service_name, metric_name, mean, max", values(service))).await?;
    }
    let cpu = |service: usize| format!("'s{service}', 'container.cpu.time', 's', {}", cpu_rate(service, end));
    insert(&bed, "metric_rates", end, |service, _| ("service_name, metric_name, unit, rate", cpu(service))).await?;
    for operation in 0..OPERATIONS {
        let values = |service: usize| format!("'s{service}', '/{operation}', 'GET', {}", operation_rate(service, operation, end));
        let columns = "service_name, operation, http_request_method, completion_rate";
        insert(&bed, "operation_latency", end, |service, _| (columns, values(service))).await?;
    }
    let queue = |service: usize, end| {
        let columns = "service_name, arrival_rate, load_bias, service_time, service_scv, servers, pooling";
        (columns, format!("'s{service}', {}, 1.1, {}, 1.2, 2, 0.4", rate(service, end) * 20.0, service_time(service)))
    };
    insert(&bed, "service_queue", end, queue).await?;
    Ok(bed.snapshot().await?)
}

/// Requests of every service and its calls, all so many times slower than usual.
async fn traffic(bed: &Testbed, end: Timestamp, slow: f64) -> anyhow::Result<()> {
    let summary = |service: usize, end| {
        let columns = "service_name, arrival_rate, completion_rate, mean_sojourn, self_time, service_scv, instances, n_eff, error_ratio";
        let (rate, own, instances) = (rate(service, end), slow * (0.05 + wobble(service, end)), 4 + service % 20);
        (columns, format!("'s{service}', {rate}, {rate}, {}, {own}, 1.1, {instances}, 5000, 0", 0.2 * slow))
    };
    insert(bed, "service_summary", end, summary).await?;
    for call in 1..=CALLS {
        let columns = "client_service, server_service, call_rate, client_mean, server_mean, wait_mean, wait_p05, n_eff, error_ratio";
        let times = [0.06, 0.05, 0.01, 0.002].map(|time| (time * slow).to_string()).join(", ");
        let values = |service| format!("'s{service}', 's{}', 50, {times}, 3000, 0", callee(service, call));
        insert(bed, "calls", end, |service, _| (columns, values(service))).await?;
    }
    Ok(())
}

/// Whom a service calls: those behind it, so that only the last ones call each other in circles.
fn callee(service: usize, call: usize) -> usize {
    (service + 1 + (service * 7 + call * 131) % 97).min(SERVICES - call)
}

/// A row for every service: its columns, and its values in SQL.
async fn insert(bed: &Testbed, view: &str, end: Timestamp, row: impl Fn(usize, Timestamp) -> (&'static str, String)) -> anyhow::Result<()> {
    let mut values = Vec::with_capacity(SERVICES);
    let mut columns = "";
    for service in 0..SERVICES {
        let (of, text) = row(service, end);
        columns = of;
        values.push(format!("(TIMESTAMP '{end}', {text})"));
    }
    let _ = bed.run(&format!("INSERT INTO {view} (window_end, {columns}) VALUES {}", values.join(", "))).await?;
    Ok(())
}

/// Exponential own times.
fn own_times(service: usize, end: Timestamp) -> Histogram {
    let mut own = Histogram::new();
    for rank in 0..200_u32 {
        own.record(-(0.05 + wobble(service, end)) * ((f64::from(rank) + 0.5) / 200.0).ln(), 25.0);
    }
    own
}

fn sojourn(service: usize, end: Timestamp) -> (&'static str, String) {
    ("service_name, requests", format!("'s{service}', {}", rate(service, end) * 60.0))
}

/// Milliseconds to size every service for an objective.
async fn size(snapshot: &Snapshot) -> anyhow::Result<f64> {
    let sql = "SELECT replicas_for_latency(arrival_rate * load_bias, service_time, service_scv, 2, slo => 0.6, quantile => 0.99,
                                           pooling => pooling, utilization => 0.85) AS replicas FROM service_queue";
    let mut query = snapshot.prepare(sql, &[]).await?;
    let before = clock::now();
    let rows: usize = query.run(snapshot, &[]).await?.iter().map(RecordBatch::num_rows).sum();
    anyhow::ensure!(rows == SERVICES, "{rows} of {SERVICES} services were sized");
    Ok(since(before))
}

/// Requests per second of a service at a time: a day's wave, and noise of its own.
fn rate(service: usize, at: Timestamp) -> f64 {
    let day = (seconds(at) / 86_400.0 * std::f64::consts::TAU).sin();
    (20.0 + number(service % 50)) * (1.5 + day) * (1.0 + wobble(service, at))
}

/// The part of it that an operation has: more than noise apart from that of others.
fn operation_rate(service: usize, operation: usize, at: Timestamp) -> f64 {
    rate(service + operation, at) * (1.0 + (seconds(at) / 1000.0 / number(operation + 1)).sin()) / number(OPERATIONS)
}

/// Cores that a service uses: some without requests, and the more the higher the number of an operation.
fn cpu_rate(service: usize, at: Timestamp) -> f64 {
    let used = |operation: usize| 0.001 * number(operation + 1) * operation_rate(service, operation, at);
    0.1 + (0..OPERATIONS).map(used).sum::<f64>()
}

/// What a request takes, which is known: a service that changes costs `service_plan` some more, and few do in a window.
fn service_time(service: usize) -> f64 {
    0.05 + wobble(service, DEFAULT_END)
}

/// Up to a tenth, the same for the same service and minute.
fn wobble(service: usize, at: Timestamp) -> f64 {
    let minute = at.as_nanos().div_euclid(60_000_000_000).unsigned_abs();
    let mixed = (minute ^ (service as u64).wrapping_mul(0x9e37_79b9)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
    number(usize::try_from(mixed % 1000).unwrap_or(0)) / 10_000.0
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn number(value: usize) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "microseconds do not matter")]
fn seconds(at: Timestamp) -> f64 {
    at.as_nanos() as f64 / 1e9
}

fn since(before: Timestamp) -> f64 {
    clock::now().since(before).as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

// === impl Report ===

impl Report {
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} services, milliseconds of one thread, medians of {ROUNDS}\n\n", self.services);
        let _ = writeln!(text, "{:<22}{:>12}{:>12}{:>12}", "model", "learns", "at most", "judges");
        let mut row = |name: &str, [learns, most, judges]: [f64; 3]| {
            let _ = writeln!(text, "{name:<22}{learns:>12.1}{most:>12.1}{judges:>12.1}");
        };
        for (((name, learns), (_, most)), (_, judges)) in self.learning.iter().zip(&self.learning_most).zip(&self.judging) {
            row(name, [*learns, *most, *judges]);
        }
        let sum = |times: &[(&str, f64)]| times.iter().map(|(_, time)| time).sum::<f64>();
        row("replicas_for_latency", [self.sizing; 3]);
        row("all", [&self.learning, &self.learning_most, &self.judging].map(|times| sum(times) + self.sizing));
        text
    }
}
