//! `operation_demand`: the CPU that one request of each operation needs, and how much a service uses without any.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::estimate::demand::DemandError;
use tracescale_models::estimate::operations::{Operations, Usage, take_small};

use super::Advice;
use super::memory::{APART, Memory, SERVICES_MAX};
use super::rows::{Layout, Rows, ServiceKey, seconds, services};
use super::utilization::{ByService, keep_best};
use crate::model::{Column, Model, Seen};
use crate::window::WINDOW_END;

/// Silence after which a service is forgotten: as long as its windows count.
const FORGET: Duration = Duration::from_secs(12 * 3600);
/// Counters of the CPU-seconds that a service used, the best first.
const COUNTERS: [&str; 6] =
    ["container.cpu.time", "k8s.container.cpu.time", "k8s.pod.cpu.time", "process.cpu.time", "jvm.cpu.time", "process_cpu_seconds_total"];
/// Gauges of the cores that it uses, for want of a counter.
const GAUGES: [&str; 2] = ["container.cpu.usage", "k8s.pod.cpu.usage"];

const LAYOUT: Layout = Layout {
    numbers: &[
        "completion_rate",
        "cpu_per_request",
        "cpu_per_request_error",
        "idle_cpu",
        "cpu_rate",
        "cores",
        "explained",
        "condition",
        "windows",
    ],
    texts: &["operation", "http_request_method", "demand_state", "cpu_from"],
    bytes: &[],
};

/// What the operations of all services cost.
#[derive(Debug)]
pub(super) struct Demands {
    services: Memory<Service>,
    advice: Advice,
    /// The last minute of each service that the archive told, whose rows may not all have come yet.
    taught: BTreeMap<ServiceKey, Minute>,
}

#[derive(Debug)]
struct Service {
    /// The place of what its CPU is read from among all sources.
    source: usize,
    operations: Operations<Arc<Operation>>,
}

/// An operation as `operation_latency` has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Operation {
    name: String,
    method: Option<String>,
}

/// Requests per second of a service in a window.
#[derive(Debug, Default)]
struct Requests {
    named: BTreeMap<Arc<Operation>, f64>,
    /// Those without a name, and those beyond the busiest; `None` where there are no such.
    others: Option<f64>,
    /// Whether anybody could tell.
    is_heard: bool,
}

/// Cores that a service uses, and the place of what says so among all sources.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    source: usize,
    rate: f64,
}

#[derive(Debug)]
struct Minute {
    end: Timestamp,
    cpu: Cpu,
    requests: Requests,
}

/// The columns that say which operation a row is about, and how often it was asked for.
struct Told<'a> {
    names: Column<'a>,
    methods: Column<'a>,
    rates: Column<'a>,
}

// === impl Demands ===

impl Default for Demands {
    fn default() -> Self {
        Self { services: Memory::new(APART, FORGET), advice: Advice::default(), taught: BTreeMap::new() }
    }
}

impl Demands {
    fn learn(&mut self, key: &ServiceKey, Minute { end, cpu, requests }: Minute) {
        // Two sources count different things: a worse one than is known says nothing.
        if !requests.is_heard || self.services.get(key).is_some_and(|service| service.source < cpu.source) {
            return;
        }
        let offset = key.name.bytes().map(usize::from).sum();
        let begin = || Service { source: cpu.source, operations: Operations::new(offset) };
        let Some(service) = self.services.due(key, end, || Some(begin())) else { return };
        if service.source != cpu.source {
            *service = begin();
        }
        let others = requests.others.unwrap_or_default();
        service.operations.learn(Usage { end: seconds(end), cpu: cpu.rate, rates: requests.named, others });
    }

    fn say(&self, key: &ServiceKey, requests: &Requests, cpu: Option<Cpu>, rows: &mut Rows) {
        let service = self.services.get(key);
        let solved = service.map(|service| service.operations.solved());
        let costs = solved.and_then(|solved| solved.costs.as_ref().ok());
        let unknown = match solved.map(|solved| &solved.costs) {
            Some(Err(DemandError::Alike(_))) => "alike",
            Some(Err(DemandError::Unexplained(_))) => "unexplained",
            None if cpu.is_none() => "no-cpu",
            _ => "few-windows",
        };
        let cores = Advice::of(&self.advice.cores, key).copied();
        #[expect(clippy::cast_precision_loss, reason = "some hundred windows")]
        let windows = service.map_or(0.0, |service| service.operations.windows() as f64);
        let named = requests.named.iter().map(|(operation, rate)| (Some(operation), *rate));
        for (operation, rate) in named.chain(requests.others.map(|rate| (None, rate))) {
            let cost = costs.and_then(|costs| operation.map_or_else(|| costs.others(), |operation| costs.of(operation)));
            let state = cost.map_or(unknown, |cost| if cost.is_shared { "shared" } else { "known" });
            let numbers = [
                requests.is_heard.then_some(rate),
                cost.map(|cost| cost.seconds),
                cost.map(|cost| cost.error),
                costs.map(|costs| costs.idle),
                cpu.map(|cpu| cpu.rate),
                cores,
                solved.and_then(|solved| solved.explained),
                solved.and_then(|solved| solved.condition),
                Some(windows),
            ];
            let (name, method) = (operation.map(|of| of.name.as_str()), operation.and_then(|of| of.method.as_deref()));
            rows.add(key, numbers, [name, method, Some(state), cpu.and_then(|cpu| source(cpu.source))]);
        }
    }
}

impl Model for Demands {
    fn name(&self) -> &'static str {
        "operation_demand"
    }

    /// Counters are final a minute after spans: when theirs is, both sides of a window are.
    fn reads(&self) -> &'static [&'static str] {
        &["metric_rates", "metric_gauges", "operation_latency"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        for (key, minute) in std::mem::take(&mut self.taught) {
            self.learn(&key, minute);
        }
        let mut rows = LAYOUT.rows();
        let Some(latency) = window.rows("operation_latency") else { return rows.finish(window) };
        let used = ByService::new(used(window.driver, window.rows("metric_gauges")), latency);
        for (key, requests) in requests(latency) {
            let cpu = used.get(&key);
            self.say(&key, &requests, cpu, &mut rows);
            if let Some(cpu) = cpu.filter(|_| window.is_final) {
                self.learn(&key, Minute { end: window.end, cpu, requests });
            }
        }
        if window.is_final {
            self.services.forget(window.end);
        }
        rows.finish(window)
    }

    /// Its own rows say what was used and asked for.
    fn remember(&mut self, name: &str, rows: &RecordBatch) {
        if name != self.name() {
            return;
        }
        let [ends, used, from] = [WINDOW_END, "cpu_rate", "cpu_from"].map(|name| Column::of(rows, name));
        let told = Told::of(rows);
        for (row, key) in services(rows) {
            let source = from.text(row).and_then(|name| sources().position(|source| source == name));
            let (Some(end), Some(source), Some(rate)) = (ends.time(row), source, used.number(row)) else { continue };
            let minute = || Minute { end, cpu: Cpu { source, rate }, requests: Requests::default() };
            if let Some(last) = self.taught.get_mut(&key) {
                if last.end != end {
                    let last = std::mem::replace(last, minute());
                    self.learn(&key, last);
                }
            } else if self.taught.len() < SERVICES_MAX {
                let _ = self.taught.insert(key.clone(), minute());
            }
            if let Some(minute) = self.taught.get_mut(&key) {
                // A later revision of the window replaces what was said.
                minute.cpu.rate = rate;
                let (operation, rate) = told.read(row);
                minute.requests.is_heard |= rate.is_some();
                match operation {
                    Some(operation) => drop(minute.requests.named.insert(Arc::new(operation), rate.unwrap_or_default())),
                    None => minute.requests.others = rate,
                }
            }
        }
    }

    fn advise(&mut self, advice: &Advice) {
        self.advice = advice.clone();
    }
}

// === impl Requests ===

impl Requests {
    /// Keeps the busiest by name, as many as a model keeps.
    fn bounded(mut self) -> Self {
        if let Some(rate) = take_small(&mut self.named) {
            *self.others.get_or_insert(0.0) += rate;
        }
        self
    }
}

// === impl Told ===

impl<'a> Told<'a> {
    fn of(rows: &'a RecordBatch) -> Self {
        let [names, methods, rates] = ["operation", "http_request_method", "completion_rate"].map(|name| Column::of(rows, name));
        Self { names, methods, rates }
    }

    fn read(&self, row: usize) -> (Option<Operation>, Option<f64>) {
        let method = || self.methods.text(row).map(str::to_owned);
        (self.names.text(row).map(|name| Operation { name: name.to_owned(), method: method() }), self.rates.number(row))
    }
}

/// What each service was asked for, from rows of `operation_latency`.
fn requests(latency: &RecordBatch) -> BTreeMap<ServiceKey, Requests> {
    let told = Told::of(latency);
    let mut by_service: BTreeMap<ServiceKey, Requests> = BTreeMap::new();
    for (row, key) in services(latency) {
        let requests = by_service.entry(key).or_default();
        let (operation, rate) = told.read(row);
        requests.is_heard |= rate.is_some();
        match operation {
            Some(operation) => *requests.named.entry(Arc::new(operation)).or_default() += rate.unwrap_or_default(),
            None => *requests.others.get_or_insert(0.0) += rate.unwrap_or_default(),
        }
    }
    by_service.into_iter().map(|(key, requests)| (key, requests.bounded())).collect()
}

/// The cores that each service uses by the best source, from rows of `metric_rates` and `metric_gauges`.
fn used(rates: &RecordBatch, gauges: Option<&RecordBatch>) -> BTreeMap<ServiceKey, Cpu> {
    let mut best: BTreeMap<ServiceKey, Option<(usize, Cpu)>> = BTreeMap::new();
    for (rows, figure, known) in [(Some(rates), "rate", &COUNTERS[..]), (gauges, "total", &GAUGES)] {
        let Some(rows) = rows else { continue };
        let [names, presence, units, figures] = ["metric_name", "presence", "unit", figure].map(|name| Column::of(rows, name));
        // Counters of anything but seconds are something else under the same name.
        let counts = |row: usize| figure == "total" || matches!(units.text(row), None | Some("" | "s"));
        for (row, key) in services(rows).filter(|(row, _)| presence.text(*row) == Some("active") && counts(*row)) {
            let source = names.text(row).filter(|name| known.contains(name)).and_then(|name| sources().position(|source| source == name));
            let (Some(source), Some(rate)) = (source, figures.number(row).filter(|rate| *rate >= 0.0)) else { continue };
            keep_best(best.entry(key).or_default(), source, Cpu { source, rate });
        }
    }
    best.into_iter().filter_map(|(key, found)| Some((key, found?.1))).collect()
}

/// All sources of CPU, the best first.
fn sources() -> impl Iterator<Item = &'static str> {
    COUNTERS.into_iter().chain(GAUGES)
}

fn source(place: usize) -> Option<&'static str> {
    sources().nth(place)
}
