//! `service_usage`: what CPU and memory a replica of each service should ask for, from gauges of what replicas use.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::vertical::{Current, Settings, UsageHistory};

use super::memory::Memory;
use super::rows::{Layout, ServiceKey, seconds, services};
use crate::model::{Column, Model, Seen};
use crate::window::WINDOW_END;

/// Time between samples: windows of a minute that do not overlap.
const APART: Duration = Duration::from_secs(60);
/// Silence after which a service is forgotten: memory peaks count for a week.
const FORGET: Duration = Duration::from_secs(7 * 24 * 3600);
/// Gauges of cores in use, the best first.
const CPU: [&str; 3] = ["container.cpu.usage", "k8s.pod.cpu.usage", "container_cpu_usage_cores"];
/// Gauges of bytes that cannot be given back, the best first.
const MEMORY: [&str; 4] = ["container.memory.working_set", "k8s.pod.memory.working_set", "container.memory.usage", "process.memory.usage"];
/// Counters of processes that were killed for lack of memory.
const KILLS: [&str; 3] = ["k8s.container.oom_events", "container.oom_events", "container_oom_events_total"];

const LAYOUT: Layout = Layout {
    numbers: &[
        "cpu_used",
        "memory_used",
        "cpu",
        "memory",
        "memory_limit",
        "cpu_lower",
        "cpu_upper",
        "memory_lower",
        "memory_upper",
        "last_oom_age",
        "history_days",
    ],
    texts: &[],
    bytes: &[],
};

/// Usage of every service.
#[derive(Debug)]
pub(super) struct Usages {
    services: Memory<Service>,
}

#[derive(Debug)]
struct Service {
    history: UsageHistory,
    killed: Option<Timestamp>,
}

/// What replicas used in a window: cores on average, and the most bytes of any.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    cpu: Option<(usize, f64)>,
    memory: Option<(usize, f64)>,
}

// === impl Usages ===

impl Default for Usages {
    fn default() -> Self {
        Self { services: Memory::new(APART, FORGET) }
    }
}

impl Usages {
    fn learn(&mut self, key: &ServiceKey, end: Timestamp, used: Used, killed: bool) {
        let make = || UsageHistory::try_new(Settings::ours()).map(|history| Service { history, killed: None });
        let Some(service) = self.services.due(key, end, make) else { return };
        let at = seconds(end);
        if let Some((_, cores)) = used.cpu {
            let _ = service.history.observe_cpu(at, cores, None);
        }
        if let Some((_, bytes)) = used.memory {
            let _ = service.history.observe_memory(at, bytes);
            if killed {
                service.killed = Some(end);
                let _ = service.history.oom(at, bytes);
            }
        }
    }
}

impl Model for Usages {
    fn name(&self) -> &'static str {
        "service_usage"
    }

    fn reads(&self) -> &'static [&'static str] {
        &["metric_gauges", "metric_rates"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        let mut rows = LAYOUT.rows();
        let kills = window.rows("metric_rates").map(kills).unwrap_or_default();
        for (key, used) in used(window.driver) {
            if window.is_final {
                self.learn(&key, window.end, used, kills.contains_key(&key));
            }
            if let Some(service) = self.services.get(&key) {
                rows.add(&key, service.row(window.end, used), []);
            }
        }
        if window.is_final {
            self.services.forget(window.end);
        }
        rows.finish(window)
    }

    /// Its own rows say what was used; kills are counted again by their age.
    fn remember(&mut self, name: &str, rows: &RecordBatch) {
        if name != self.name() {
            return;
        }
        let column = |name| Column::of(rows, name);
        let [cpu, memory, kill] = ["cpu_used", "memory_used", "last_oom_age"].map(column);
        for (row, key) in services(rows) {
            let Some(end) = column(WINDOW_END).time(row) else { continue };
            let used = Used { cpu: cpu.number(row).map(|cores| (0, cores)), memory: memory.number(row).map(|bytes| (0, bytes)) };
            let killed = kill.number(row).is_some_and(|age| age < APART.as_secs_f64());
            self.learn(&key, end, used, killed);
        }
    }
}

// === impl Service ===

impl Service {
    fn row(&self, end: Timestamp, used: Used) -> [Option<f64>; 11] {
        let recommended = self.history.recommend(seconds(end), Current::default());
        let of = |get: fn(&tracescale_models::vertical::Recommendation) -> Option<f64>| recommended.as_ref().and_then(get);
        [
            used.cpu.map(|(_, cores)| cores),
            used.memory.map(|(_, bytes)| bytes),
            of(|wish| wish.cpu_request),
            of(|wish| wish.memory_request),
            of(|wish| wish.memory_limit),
            of(|wish| wish.lower.cpu),
            of(|wish| wish.upper.cpu),
            of(|wish| wish.lower.memory),
            of(|wish| wish.upper.memory),
            self.killed.map(|killed| end.since(killed).as_secs_f64()),
            Some(self.history.confidence()),
        ]
    }
}

/// What replicas of each service used, from rows of `metric_gauges`.
fn used(gauges: &RecordBatch) -> BTreeMap<ServiceKey, Used> {
    let column = |name| Column::of(gauges, name);
    let [names, means, most, presence] = ["metric_name", "mean", "max", "presence"].map(column);
    let mut services_used: BTreeMap<ServiceKey, Used> = BTreeMap::new();
    for (row, key) in services(gauges).filter(|(row, _)| presence.text(*row) == Some("active")) {
        let Some(name) = names.text(row) else { continue };
        let rank = |known: &[&str]| known.iter().position(|gauge| *gauge == name);
        let keep = |best: &mut Option<(usize, f64)>, rank: Option<usize>, value: Option<f64>| {
            if let Some(found) = rank.zip(value.filter(|value| *value >= 0.0))
                && best.is_none_or(|best| found.0 < best.0)
            {
                *best = Some(found);
            }
        };
        let (cpu, memory) = (rank(&CPU), rank(&MEMORY));
        if cpu.is_some() || memory.is_some() {
            let used = services_used.entry(key).or_default();
            // The balancer evens out load, so replicas use about the same cores; memory has to fit into each.
            keep(&mut used.cpu, cpu, means.number(row));
            keep(&mut used.memory, memory, most.number(row));
        }
    }
    services_used
}

/// Services of which a process was killed, from rows of `metric_rates`.
fn kills(rates: &RecordBatch) -> BTreeMap<ServiceKey, f64> {
    let (names, increase) = (Column::of(rates, "metric_name"), Column::of(rates, "increase"));
    let killed = |(row, key): (usize, ServiceKey)| {
        let is_kill = names.text(row).is_some_and(|name| KILLS.contains(&name));
        increase.number(row).filter(|count| is_kill && *count > 0.0).map(|count| (key, count))
    };
    services(rates).filter_map(killed).collect()
}
