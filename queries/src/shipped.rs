//! The views and rules that come with the product, compiled in so that the binary needs no files beside it.

use std::sync::Arc;

use crate::config::{EngineParts, ViewSource};
use crate::streams::{Config, Counters, operators};
use crate::{functions, judgement};

macro_rules! view {
    ($name:literal) => {
        ($name, include_str!(concat!("../views/", $name, ".sql")))
    };
}

/// Name and SQL of every shipped view.
pub const VIEWS: &[(&str, &str)] = &[
    view!("calls"),
    view!("metric_gauges"),
    view!("metric_histograms"),
    view!("metric_rates"),
    view!("operation_latency"),
    view!("service_critical_path"),
    view!("service_errors"),
    view!("service_instances"),
    view!("service_latency"),
    view!("service_load"),
    view!("service_pulse"),
    view!("service_sampling"),
    view!("service_self_time"),
    view!("service_sojourn"),
    view!("service_summary"),
    view!("workloads"),
];

/// The rule that is used when no configuration is given, as a document.
pub const DEFAULT_RULE: &str = include_str!("../rules/observe.yaml");

/// Everything that an engine needs for the shipped views: the views themselves followed by `views`, the models, the derived
/// streams, the scalar functions; and the counters of the derived streams.
#[must_use]
pub fn parts(config: &Config, judgement: &judgement::Settings, views: Vec<ViewSource>) -> (EngineParts, Arc<Counters>) {
    let (derives, counters) = operators(config);
    let shipped = VIEWS.iter().map(|(name, sql)| ViewSource {
        name: (*name).to_owned(),
        sql: (*sql).to_owned(),
        origin: format!("queries/views/{name}.sql (shipped)"),
    });
    let views = shipped.chain(views).collect();
    (EngineParts { views, models: judgement::all(judgement), derives, functions: functions::all(), aggregates: Vec::new() }, counters)
}
