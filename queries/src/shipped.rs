//! What ships with the engine: the views of `queries/views`, the derived streams and the SQL functions that they use.

use std::sync::Arc;

use crate::config::{EngineParts, ViewSource};
use crate::functions;
use crate::histogram::Histogram;
use crate::streams::{self, Counters};

macro_rules! views {
    ($($name:literal),+ $(,)?) => {
        /// Name and SQL of every shipped view.
        pub const VIEWS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../views/", $name, ".sql")))),+];
    };
}

views![
    "calls",
    "metric_gauges",
    "metric_histograms",
    "metric_rates",
    "operation_latency",
    "service_errors",
    "service_instances",
    "service_latency",
    "service_load",
    "service_self_time",
    "service_summary",
    "workloads",
];

/// Everything that ships, as parts of an engine, and the counters of its derived streams.
#[must_use]
pub fn parts() -> (EngineParts, Arc<Counters>) {
    let (derives, counters) = streams::operators(&streams::Config::default(), encode_histogram);
    let view = |(name, sql): &(&str, &str)| ViewSource {
        name: (*name).to_owned(),
        sql: (*sql).to_owned(),
        origin: format!("queries/views/{name}.sql (shipped)"),
    };
    let views = VIEWS.iter().map(view).collect();
    (EngineParts { views, derives, functions: functions::all(), aggregates: Vec::new() }, counters)
}

fn encode_histogram(weighted: &[(f64, f64)]) -> Vec<u8> {
    let mut histogram = Histogram::new();
    weighted.iter().for_each(|(value, weight)| histogram.record(*value, *weight));
    histogram.to_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Guarantees: every file of `queries/views` ships, and nothing else.
    #[test]
    fn every_view_file_ships() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/views");
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files: BTreeSet<_> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(files, VIEWS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }
}
