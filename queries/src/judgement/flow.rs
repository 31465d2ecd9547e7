//! `service_flow`: what load at the front doors makes of each service, by the calls that were observed between them.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::flow::{Announced, Flow, Minute, Ratio};

use super::callees;
use super::memory::APART;
use super::rows::{Layout, Rates, services};
use crate::model::{Column, Model, Seen};

/// How far ahead load is announced, in seconds: one of the horizons of `service_forecast`, the first that is not shorter than
/// most replicas take to start.
const HORIZON: f64 = 180.0;
/// Normal deviate of the upper quantile that is announced, nine of ten.
const P90: f64 = 1.281_551_565_545;

const LAYOUT: Layout = Layout {
    numbers: &["arrival_rate", "called_rate", "outside_share", "visits", "announced", "announced_p90", "retry_factor", "growth_most"],
    texts: &["bottleneck"],
    bytes: &[],
};

/// The call graph, and what was made of it in the last minute.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flow: Flow,
    learned: Option<Timestamp>,
    announced: BTreeMap<String, Announced>,
    visits: BTreeMap<String, f64>,
    limits: BTreeMap<String, (String, f64)>,
}

// === impl Flows ===

impl Flows {
    fn learn(&mut self, window: &Seen<'_>, minute: &Minute, ratios: &[Ratio]) {
        let between = self.learned.map_or(APART, |last| window.end.since(last).max(last.since(window.end)));
        if between < APART || window.rows("calls").is_none() {
            return;
        }
        // After the clock stepped back the graph is learned anew.
        if self.learned.is_some_and(|last| window.end < last) {
            self.flow = Flow::default();
        }
        self.learned = Some(window.end);
        self.flow.learn(minute);
        let named = |(name, value): (&str, f64)| (name.to_owned(), value);
        self.visits = self.flow.visits(ratios).into_iter().map(named).collect();
        let forecasts = window.newest_final("service_forecast").map(|(_, rows)| forecasts(rows)).unwrap_or_default();
        let announced = self.flow.announced(ratios, &forecasts, P90);
        self.announced = announced.into_iter().map(|(name, announced)| (name.to_owned(), announced)).collect();
        let busy = window.rows("service_queue").map(utilizations).unwrap_or_default();
        let limits = self.flow.limits(ratios, &busy);
        self.limits = limits.into_iter().map(|(name, limit)| (name.to_owned(), (limit.service.to_owned(), limit.growth))).collect();
    }
}

impl Model for Flows {
    fn name(&self) -> &'static str {
        "service_flow"
    }

    fn reads(&self) -> &'static [&'static str] {
        &["service_summary", "calls", "service_callees", "service_forecast", "service_queue"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        let rates = Rates::of(window.driver);
        let seen = callees::minute(window);
        let ratios = window.rows("service_callees").map(callees::ratios).unwrap_or_default();
        if window.is_final {
            self.learn(window, &seen, &ratios);
        }
        let (called, retries) = (self.flow.called(&seen, &ratios), retries(&ratios));
        let mut rows = LAYOUT.rows();
        for (row, key) in services(window.driver) {
            let name = key.full_name();
            let (announced, limit) = (self.announced.get(&name), self.limits.get(&name));
            let numbers = [
                rates.get(row),
                called.get(name.as_str()).copied(),
                self.flow.outside(&name),
                self.visits.get(&name).copied(),
                announced.map(|announced| announced.mean),
                announced.map(|announced| announced.upper),
                retries.get(name.as_str()).copied(),
                limit.map(|(_, growth)| *growth),
            ];
            rows.add(&key, numbers, [limit.map(|(service, _)| service.as_str())]);
        }
        rows.finish(window)
    }

    fn remember(&mut self, _: &str, _: &RecordBatch) {
        // A call graph is known after a minute.
    }
}

/// By how much the callers of services call them more often than usual while their calls fail. The load without retries is the
/// rate divided by this.
fn retries(ratios: &[Ratio]) -> BTreeMap<&str, f64> {
    let mut retries: BTreeMap<&str, f64> = BTreeMap::new();
    for (ratio, factor) in ratios.iter().filter_map(|ratio| Some((ratio, ratio.retry_factor?))) {
        let most = retries.entry(&ratio.to).or_default();
        *most = most.max(factor);
    }
    retries
}

fn forecasts(rows: &RecordBatch) -> BTreeMap<String, Announced> {
    let [horizon, mean, upper] = ["horizon", "forecast", "p90"].map(|name| Column::of(rows, name));
    let ours = |row: &usize| horizon.number(*row).is_some_and(|horizon| (horizon - HORIZON).abs() < 1.0);
    let known = services(rows).filter(|(row, _)| ours(row));
    known.filter_map(|(row, key)| Some((key.full_name(), Announced { mean: mean.number(row)?, upper: upper.number(row)? }))).collect()
}

fn utilizations(queue: &RecordBatch) -> BTreeMap<String, f64> {
    let busy = Column::of(queue, "utilization");
    services(queue).filter_map(|(row, key)| Some((key.full_name(), busy.number(row)?))).collect()
}
