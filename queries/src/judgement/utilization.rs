//! How busy services are, from the gauges that agents and runtimes commonly send.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;

use super::rows::{ServiceKey, services};
use crate::model::Column;

/// Gauges that say which share of its CPU a replica uses, 0..1, those that know the limit first.
pub(super) const GAUGES: [&str; 5] = [
    "k8s.container.cpu_limit_utilization",
    "k8s.pod.cpu_limit_utilization",
    "container.cpu.limit_utilization",
    "process.cpu.utilization",
    "jvm.cpu.recent_utilization",
];

/// The one that may come in parts, by mode (user, system, wait), which add up.
const BY_MODE: &str = "process.cpu.utilization";

/// Above this a gauge is no share: it is in percent, or in cores.
const SHARE_MAX: f64 = 1.5;

/// Counters of CPU periods in which a container was throttled, and of all of them: of Docker and of cAdvisor, whose names may have
/// lost their `_total` on the way.
const THROTTLING: [[&str; 2]; 2] = [
    ["container.cpu.throttling_data.throttled_periods", "container.cpu.throttling_data.periods"],
    ["container_cpu_cfs_throttled_periods", "container_cpu_cfs_periods"],
];

/// How busy a service is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Utilization {
    /// Over its replicas and the window.
    pub(super) mean: f64,
    /// Of a single replica at any time.
    pub(super) peak: f64,
}

/// Figures by service, for the services of a window.
#[derive(Debug)]
pub(super) struct ByService<T> {
    figures: BTreeMap<ServiceKey, T>,
    /// How many services have a name.
    names: BTreeMap<String, usize>,
}

/// Keeps what the best of several sources says, the one with the lowest rank.
pub(super) fn keep_best<T>(best: &mut Option<(usize, T)>, rank: usize, figure: T) {
    if best.as_ref().is_none_or(|(known, _)| rank < *known) {
        *best = Some((rank, figure));
    }
}

/// The utilization of each service, from rows of `metric_gauges`.
pub(super) fn utilizations(gauges: &RecordBatch) -> BTreeMap<ServiceKey, Utilization> {
    let [names, presence, most] = ["metric_name", "presence", "max"].map(|name| Column::of(gauges, name));
    let mut best: BTreeMap<ServiceKey, Option<(usize, Utilization)>> = BTreeMap::new();
    for (row, key) in services(gauges).filter(|(row, _)| presence.text(*row) == Some("active")) {
        let rank = names.text(row).and_then(|name| GAUGES.iter().position(|gauge| *gauge == name));
        let mean = rank.and_then(|rank| of_replica(gauges, row, GAUGES[rank])).filter(|share| (0.0..=SHARE_MAX).contains(share));
        let (Some(rank), Some(mean)) = (rank, mean) else { continue };
        // Of parts the largest is known, which may be less than their sum.
        let utilization = Utilization { mean, peak: most.number(row).map_or(mean, |most| most.max(mean)) };
        keep_best(best.entry(key).or_default(), rank, utilization);
    }
    best.into_iter().filter_map(|(key, found)| Some((key, found?.1))).collect()
}

/// The share of a replica. Of several series to a replica the mean says nothing: it is a busy process with its idle modes, or a
/// busy container with its idle neighbours, and to take that for idle would withhold what helps.
fn of_replica(gauges: &RecordBatch, row: usize, gauge: &str) -> Option<f64> {
    let [mean, total, series, instances] = ["mean", "total", "series", "instances"].map(|name| Column::of(gauges, name).number(row));
    match (series, instances) {
        (Some(series), Some(instances)) if series > instances => (gauge == BY_MODE).then_some(total? / instances),
        (Some(series), None) if series > 1.0 && gauge == BY_MODE => None,
        _ => mean,
    }
}

/// The share of its CPU periods in which each service was throttled, from rows of `metric_rates`.
pub(super) fn throttled(rates: &RecordBatch) -> BTreeMap<ServiceKey, f64> {
    let (names, increases) = (Column::of(rates, "metric_name"), Column::of(rates, "increase"));
    let mut counts: BTreeMap<(ServiceKey, usize), [Option<f64>; 2]> = BTreeMap::new();
    for (row, key) in services(rates) {
        let Some(name) = names.text(row) else { continue };
        for (rank, pair) in THROTTLING.iter().enumerate() {
            let part = pair.iter().position(|counter| name.strip_prefix(counter).is_some_and(|rest| rest.is_empty() || rest == "_total"));
            if let Some((part, increase)) = part.zip(increases.number(row)) {
                counts.entry((key.clone(), rank)).or_default()[part] = Some(increase);
            }
        }
    }
    let share =
        |((key, _), [throttled, all]): (_, [Option<f64>; 2])| Some((key, (throttled? / all.filter(|all| *all > 0.0)?).clamp(0.0, 1.0)));
    counts.into_iter().filter_map(share).collect()
}

// === impl ByService ===

impl<T: Copy> ByService<T> {
    /// Figures for the services of `rows`.
    pub(super) fn new(figures: BTreeMap<ServiceKey, T>, rows: &RecordBatch) -> Self {
        let mut names = BTreeMap::new();
        let of_rows: BTreeSet<ServiceKey> = services(rows).map(|(_, key)| key).collect();
        of_rows.into_iter().for_each(|key| *names.entry(key.name).or_default() += 1);
        Self { figures, names }
    }

    /// The figure of a service. Where no other has its name, one counts also if only it has a namespace, or only the service does,
    /// since agents on a node often know no namespaces.
    pub(super) fn get(&self, key: &ServiceKey) -> Option<T> {
        if let Some(figure) = self.figures.get(key) {
            return Some(*figure);
        }
        let is_alone = self.names.get(&key.name) == Some(&1);
        let first = ServiceKey { name: key.name.clone(), namespace: None };
        let mut named = self.figures.range(first..).take_while(|(other, _)| other.name == key.name);
        let (other, figure) = named.next().filter(|_| is_alone)?;
        (named.next().is_none() && (other.namespace.is_none() || key.namespace.is_none())).then_some(*figure)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray};

    use super::*;

    /// A row of gauges: service, gauge, mean, series and instances.
    type Row = (&'static str, &'static str, f64, Option<f64>, Option<f64>);

    /// Guarantees: what is in percent is no share; parts by mode add up to the share of a replica; of several containers to a replica nothing is read, and the next
    /// gauge is; a process in parts that cannot be told from replicas is not known.
    #[test]
    fn several_series_to_a_replica_are_no_mean() {
        let rows: [Row; 7] = [
            ("modes", "process.cpu.utilization", 0.3, Some(6.0), Some(2.0)),
            ("pods", "k8s.container.cpu_limit_utilization", 0.5, Some(4.0), Some(2.0)),
            ("pods", "k8s.pod.cpu_limit_utilization", 0.8, Some(2.0), Some(2.0)),
            ("alone", "process.cpu.utilization", 0.7, Some(1.0), None),
            ("parts", "process.cpu.utilization", 0.3, Some(3.0), None),
            ("told", "jvm.cpu.recent_utilization", 0.6, None, None),
            ("percent", "process.cpu.utilization", 35.0, Some(1.0), Some(1.0)),
        ];
        let words = |word: fn(&Row) -> &'static str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(word))) };
        let numbers = |number: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(number).collect::<Float64Array>()) };
        let columns = [
            ("service_name", words(|row| row.0)),
            ("metric_name", words(|row| row.1)),
            ("presence", words(|_| "active")),
            ("mean", numbers(|row| Some(row.2))),
            ("max", numbers(|row| Some(row.2 + 0.1))),
            ("total", numbers(|row| row.3.map(|series| series * row.2))),
            ("series", numbers(|row| row.3)),
            ("instances", numbers(|row| row.4)),
        ];
        let shares = utilizations(&RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap());
        let shown: Vec<String> = shares.iter().map(|(key, of)| format!("{} {:.2} {:.2}", key.name, of.mean, of.peak)).collect();
        assert_eq!(shown, ["alone 0.70 0.80", "modes 0.90 0.90", "pods 0.80 0.90", "told 0.60 0.70"]);
    }

    /// Guarantees: throttled periods count among all of them, whoever counts them; one without the other says nothing.
    #[test]
    fn throttled_periods_are_a_share() {
        let rows = [
            ("a", "container_cpu_cfs_throttled_periods_total", 150.0),
            ("a", "container_cpu_cfs_periods_total", 600.0),
            ("b", "container.cpu.throttling_data.throttled_periods", 3.0),
            ("b", "container.cpu.throttling_data.periods", 30.0),
            ("c", "container_cpu_cfs_throttled_periods", 3.0),
            ("d", "container_cpu_cfs_throttled_periods", 0.0),
            ("d", "container_cpu_cfs_periods", 0.0),
        ];
        let columns: [(&str, ArrayRef); 3] = [
            ("service_name", Arc::new(StringArray::from_iter_values(rows.map(|row| row.0)))),
            ("metric_name", Arc::new(StringArray::from_iter_values(rows.map(|row| row.1)))),
            ("increase", Arc::new(Float64Array::from_iter_values(rows.map(|row| row.2)))),
        ];
        let shares = throttled(&RecordBatch::try_from_iter(columns).unwrap());
        assert_eq!(shares, BTreeMap::from([(key("a", None), 0.25), (key("b", None), 0.1)]));
    }

    fn key(name: &str, namespace: Option<&str>) -> ServiceKey {
        ServiceKey { name: name.to_owned(), namespace: namespace.map(str::to_owned) }
    }

    /// Guarantees: gauges of another or unknown namespace count for a service only where there can be no other one.
    #[test]
    fn namespaces_may_be_missing_on_one_side() {
        let of_service = |shares: &[(ServiceKey, f64)], key: &ServiceKey, is_alone| {
            let names = BTreeMap::from([(key.name.clone(), if is_alone { 1 } else { 2 })]);
            ByService { figures: shares.iter().cloned().collect(), names }.get(key)
        };
        let shares = [(key("cart", None), 0.9), (key("pay", Some("shop")), 0.8), (key("web", Some("a")), 0.1)];
        assert_eq!(of_service(&shares, &key("cart", Some("shop")), true), Some(0.9));
        assert_eq!(of_service(&shares, &key("cart", Some("shop")), false), None);
        assert_eq!(of_service(&shares, &key("pay", None), true), Some(0.8));
        assert_eq!(of_service(&shares, &key("web", Some("b")), true), None);
        assert_eq!(of_service(&shares, &key("we", None), true), None);
        let two = [(key("cart", Some("a")), 0.9), (key("cart", Some("b")), 0.1)];
        assert_eq!(of_service(&two, &key("cart", None), true), None);
        assert_eq!(of_service(&two, &key("cart", Some("b")), false), Some(0.1));
    }
}
