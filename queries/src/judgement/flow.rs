//! `service_flow`: what load at the front doors makes of each service, by the calls that were observed between them.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::flow::{Announced, Calls, Flow, Minute};

use super::rows::{Layout, Rates, ends, seconds, services};
use crate::model::{Column, Model, Seen};

/// Time between windows that are learned from: windows of a minute that do not overlap.
const APART: Duration = Duration::from_secs(60);
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
    fn learn(&mut self, window: &Seen<'_>, minute: &Minute) {
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
        self.visits = self.flow.visits().into_iter().map(named).collect();
        let forecasts = window.newest_final("service_forecast").map(|(_, rows)| forecasts(rows)).unwrap_or_default();
        let announced = self.flow.announced(&forecasts, P90);
        self.announced = announced.into_iter().map(|(name, announced)| (name.to_owned(), announced)).collect();
        let busy = window.rows("service_queue").map(utilizations).unwrap_or_default();
        let limits = self.flow.limits(&busy);
        self.limits = limits.into_iter().map(|(name, limit)| (name.to_owned(), (limit.service.to_owned(), limit.growth))).collect();
    }
}

impl Model for Flows {
    fn name(&self) -> &'static str {
        "service_flow"
    }

    fn reads(&self) -> &'static [&'static str] {
        &["service_summary", "calls", "service_forecast", "service_queue"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        let rates = Rates::of(window.driver);
        let heard = |(row, key): (usize, super::rows::ServiceKey)| Some((key.full_name(), rates.get(row)?));
        let arrivals: BTreeMap<String, f64> = services(window.driver).filter_map(heard).collect();
        let calls = window.rows("calls").map(edges).unwrap_or_default();
        let seen = Minute { end: seconds(window.end), arrivals, calls };
        if window.is_final {
            self.learn(window, &seen);
        }
        let (called, retries) = (self.flow.called(&seen), self.flow.retries());
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

fn edges(calls: &RecordBatch) -> Vec<Calls> {
    let [rate, samples, failed] = ["call_rate", "n_eff", "error_ratio"].map(|name| Column::of(calls, name));
    let edge = |(row, from, to)| {
        let (samples, failed) = (samples.number(row).unwrap_or_default(), failed.number(row).unwrap_or_default());
        Some(Calls { from, to, rate: rate.number(row)?, samples, failed })
    };
    ends(calls).filter_map(edge).collect()
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
