//! `service_usage`: how busy the replicas of each service are, and what CPU and memory each should ask for, from gauges of what
//! they use. It needs no spans.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::vertical::{Recommendation, Settings, UsageHistory};

use super::memory::{APART, Memory};
use super::rows::{Layout, ServiceKey, seconds, services};
use super::utilization::{GAUGES, keep_best, utilizations};
use crate::model::{Column, Model, Seen};
use crate::window::WINDOW_END;

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
        "utilization",
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

/// What replicas used in a window: cores on average, the most bytes of any, and the share of their CPU on average.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    cpu: Option<(usize, f64)>,
    memory: Option<(usize, f64)>,
    utilization: Option<f64>,
}

// === impl Usages ===

impl Default for Usages {
    fn default() -> Self {
        Self { services: Memory::new(APART, FORGET) }
    }
}

impl Usages {
    fn learn(&mut self, key: &ServiceKey, end: Timestamp, used: Used, killed: bool) {
        if used.cpu.is_none() && used.memory.is_none() {
            return;
        }
        let make = || UsageHistory::try_new(Settings::ours()).map(|history| Service { history, killed: None });
        let Some(service) = self.services.due(key, end, make) else { return };
        let at = seconds(end);
        if let Some((_, cores)) = used.cpu {
            let _ = service.history.observe_cpu(at, cores, None);
        }
        // Who was killed may have sent nothing more of its memory: that it was is known all the same.
        service.killed = if killed { Some(end) } else { service.killed };
        if let Some((_, bytes)) = used.memory {
            let _ = service.history.observe_memory(at, bytes);
            if killed {
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
        let used = used(window.driver);
        for key in measured(window.driver) {
            let Some(used) = used.get(&key).copied() else {
                // Nobody measured anything in this window. The row says so, with the presence that goes with it.
                rows.add(&key, [None; 12], []);
                continue;
            };
            if window.is_final {
                self.learn(&key, window.end, used, kills.contains(&key));
            }
            let learned = self.services.get(&key).map(|service| service.says(window.end)).unwrap_or_default();
            let measured = [used.cpu.map(|(_, cores)| cores), used.memory.map(|(_, bytes)| bytes), used.utilization];
            rows.add(&key, joined(measured, learned), []);
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
            let [cpu, memory] = [cpu, memory].map(|column| column.number(row).map(|value| (0, value)));
            let used = Used { cpu, memory, utilization: None };
            let killed = kill.number(row).is_some_and(|age| age < APART.as_secs_f64());
            self.learn(&key, end, used, killed);
        }
    }
}

// === impl Service ===

impl Service {
    /// What a replica should ask for, as far as it is known.
    fn says(&self, end: Timestamp) -> [Option<f64>; 9] {
        let recommended = self.history.recommend(seconds(end));
        let of = |get: fn(&Recommendation) -> Option<f64>| recommended.as_ref().and_then(get);
        [
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

/// A row: what was measured, then what was learned.
fn joined([cpu, memory, utilization]: [Option<f64>; 3], learned: [Option<f64>; 9]) -> [Option<f64>; 12] {
    let mut row = [None; 12];
    row[..3].copy_from_slice(&[cpu, memory, utilization]);
    row[3..].copy_from_slice(&learned);
    row
}

/// Services with one of the gauges, whether it came in this window or not.
fn measured(gauges: &RecordBatch) -> BTreeSet<ServiceKey> {
    let names = Column::of(gauges, "metric_name");
    let is_known = |row: usize| names.text(row).is_some_and(|name| [&CPU[..], &MEMORY, &GAUGES].iter().any(|known| known.contains(&name)));
    services(gauges).filter(|(row, _)| is_known(*row)).map(|(_, key)| key).collect()
}

/// What replicas of each service used, from rows of `metric_gauges`.
fn used(gauges: &RecordBatch) -> BTreeMap<ServiceKey, Used> {
    let column = |name| Column::of(gauges, name);
    let [names, means, most, presence] = ["metric_name", "mean", "max", "presence"].map(column);
    let mut services_used: BTreeMap<ServiceKey, Used> = BTreeMap::new();
    for (row, key) in services(gauges).filter(|(row, _)| presence.text(*row) == Some("active")) {
        let Some(name) = names.text(row) else { continue };
        let rank = |known: &[&str]| known.iter().position(|gauge| *gauge == name);
        let keep = |best, rank: Option<usize>, value: Option<f64>| {
            if let Some((rank, value)) = rank.zip(value.filter(|value| *value >= 0.0)) {
                keep_best(best, rank, value);
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
    for (key, of) in utilizations(gauges) {
        services_used.entry(key).or_default().utilization = Some(of.mean);
    }
    services_used
}

/// Services of which a process was killed, from rows of `metric_rates`.
fn kills(rates: &RecordBatch) -> BTreeSet<ServiceKey> {
    let (names, increase) = (Column::of(rates, "metric_name"), Column::of(rates, "increase"));
    let is_kill = |row: usize| names.text(row).is_some_and(|name| KILLS.contains(&name));
    let was_killed = |(row, _): &(usize, ServiceKey)| is_kill(*row) && increase.number(*row).is_some_and(|count| count > 0.0);
    services(rates).filter(was_killed).map(|(_, key)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a kill is known and told by its age, also where memory was not measured in its minute; where it was, more is asked
    /// for.
    #[test]
    fn kills_are_known_without_memory() {
        let key = ServiceKey { name: "cart".to_owned(), namespace: None };
        let at = |minute: i64| Timestamp::from_secs(1_767_600_000 + 60 * minute);
        let mut usages = Usages::default();
        let (cpu, memory) = (Some((0, 1.0)), Some((0, 1e9)));
        usages.learn(&key, at(0), Used { cpu, memory, utilization: None }, false);
        let says = |usages: &Usages, minute| usages.services.get(&key).map(|service| service.says(at(minute))).unwrap();
        let before = says(&usages, 0);
        assert_eq!(before[7], None);
        usages.learn(&key, at(1), Used { cpu, memory: None, utilization: None }, true);
        assert_eq!((says(&usages, 3)[7], says(&usages, 3)[1]), (Some(120.0), before[1]));
        usages.learn(&key, at(4), Used { cpu, memory, utilization: None }, true);
        assert!(says(&usages, 4)[7] == Some(0.0) && says(&usages, 4)[1] > before[1]);
    }
}
