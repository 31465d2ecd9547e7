//! `service_callees`: how often each service calls each other one for a request, and how sure that is.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::flow::{Calls, Minute, Ratio, Ratios};

use super::memory::APART;
use super::rows::{Layout, Rates, ServiceKey, ends, seconds, services};
use crate::model::{Column, Model, Seen};

const LAYOUT: Layout = Layout {
    numbers: &["calls_per_request", "calls_per_request_error", "learned_samples", "is_sure", "retry_factor"],
    texts: &["callee"],
    bytes: &[],
};

/// The calls between all services.
#[derive(Debug, Default)]
pub(super) struct Callees {
    ratios: Ratios,
    learned: Option<Timestamp>,
}

/// What a window of `service_summary` and `calls` says.
pub(super) fn minute(window: &Seen<'_>) -> Minute {
    let rates = Rates::of(window.driver);
    let heard = |(row, key): (usize, ServiceKey)| Some((key.full_name(), rates.get(row)?));
    let arrivals: BTreeMap<String, f64> = services(window.driver).filter_map(heard).collect();
    Minute { end: seconds(window.end), arrivals, calls: window.rows("calls").map(edges).unwrap_or_default() }
}

/// What rows of the view say.
pub(super) fn ratios(rows: &RecordBatch) -> Vec<Ratio> {
    let column = |name| Column::of(rows, name);
    let [calls, error, samples, retries] = ["calls_per_request", "calls_per_request_error", "learned_samples", "retry_factor"].map(column);
    let callees = column("callee");
    let ratio = |(row, key): (usize, ServiceKey)| {
        Some(Ratio {
            from: key.full_name(),
            to: callees.text(row)?.to_owned(),
            calls_per_request: calls.number(row)?,
            error: error.number(row),
            samples: samples.number(row).unwrap_or_default(),
            retry_factor: retries.number(row),
        })
    };
    services(rows).filter_map(ratio).collect()
}

// === impl Callees ===

impl Callees {
    fn learn(&mut self, window: &Seen<'_>) {
        let between = self.learned.map_or(APART, |last| window.end.since(last).max(last.since(window.end)));
        if between < APART || window.rows("calls").is_none() {
            return;
        }
        // After the clock stepped back calls are learned anew.
        if self.learned.is_some_and(|last| window.end < last) {
            self.ratios = Ratios::default();
        }
        self.learned = Some(window.end);
        self.ratios.learn(&minute(window));
    }
}

impl Model for Callees {
    fn name(&self) -> &'static str {
        "service_callees"
    }

    fn reads(&self) -> &'static [&'static str] {
        &["service_summary", "calls"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        if window.is_final {
            self.learn(window);
        }
        let callers: BTreeMap<String, ServiceKey> = services(window.driver).map(|(_, key)| (key.full_name(), key)).collect();
        let mut rows = LAYOUT.rows();
        for ratio in self.ratios.iter() {
            let Some(key) = callers.get(&ratio.from) else { continue };
            let is_sure = if ratio.is_sure() { 1.0 } else { 0.0 };
            let numbers = [Some(ratio.calls_per_request), ratio.error, Some(ratio.samples), Some(is_sure), ratio.retry_factor];
            rows.add(key, numbers, [Some(&ratio.to)]);
        }
        rows.finish(window)
    }

    fn remember(&mut self, _: &str, _: &RecordBatch) {
        // Calls are known after a minute.
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
