//! How busy services are, from the gauges that agents and runtimes commonly send.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use super::rows::{ServiceKey, services};
use crate::model::Column;

/// Gauges that say which share of its CPU a replica uses, 0..1, those that know the limit first.
const GAUGES: [&str; 5] = [
    "k8s.container.cpu_limit_utilization",
    "k8s.pod.cpu_limit_utilization",
    "container.cpu.limit_utilization",
    "process.cpu.utilization",
    "jvm.cpu.recent_utilization",
];

/// The utilization of each service, averaged over its replicas, from rows of `metric_gauges`.
pub(super) fn utilizations(gauges: &RecordBatch) -> BTreeMap<ServiceKey, f64> {
    let (names, means, presence) = (Column::of(gauges, "metric_name"), Column::of(gauges, "mean"), Column::of(gauges, "presence"));
    let mut best: BTreeMap<ServiceKey, (usize, f64)> = BTreeMap::new();
    for (row, key) in services(gauges) {
        let rank = names.text(row).and_then(|name| GAUGES.iter().position(|gauge| *gauge == name));
        let mean = means.number(row).filter(|mean| *mean >= 0.0 && presence.text(row) == Some("active"));
        let (Some(rank), Some(mean)) = (rank, mean) else { continue };
        let found = best.entry(key).or_insert((rank, mean));
        if rank < found.0 {
            *found = (rank, mean);
        }
    }
    best.into_iter().map(|(key, (_, mean))| (key, mean)).collect()
}
