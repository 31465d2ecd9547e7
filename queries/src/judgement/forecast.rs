//! `service_forecast`: how many requests a service will get, minute by minute learned from final windows of `service_load`.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::forecast::{Forecaster, Settings};

use super::rows::{Layout, ServiceKey, services};
use super::{LocalClock, SERVICES_MAX};
use crate::model::{Column, Model, Seen};
use crate::window::WINDOW_END;

/// Seconds between what is learned.
const STEP: i64 = 60;
/// How far ahead, in seconds: pipeline and start-up of fast and slow replicas, and an hour.
pub(super) const LEADS: [i64; 5] = [60, 180, 300, 600, 3600];
/// Silence after which a service is forgotten.
const FORGET: Duration = Duration::from_secs(14 * 24 * 3600);

const LAYOUT: Layout =
    Layout { numbers: &["horizon", "arrival_rate", "forecast", "p50", "p90", "p95", "p99", "loss", "changing"], texts: &["model"] };

/// Forecasts of every service.
#[derive(Debug)]
pub(super) struct Forecasts {
    clock: LocalClock,
    holidays: Vec<i64>,
    services: BTreeMap<ServiceKey, Service>,
}

#[derive(Debug)]
struct Service {
    forecaster: Forecaster,
    learned: Timestamp,
    expected: Vec<Expected>,
}

/// What is expected at one lead. Made once a minute, shown in every window.
#[derive(Clone, Debug)]
struct Expected {
    horizon: i64,
    point: f64,
    upper: [Option<f64>; 4],
    loss: f64,
    changing: bool,
    model: &'static str,
}

// === impl Forecasts ===

impl Forecasts {
    pub(super) fn new(clock: LocalClock, holidays: Vec<i64>) -> Self {
        Self { clock, holidays, services: BTreeMap::new() }
    }

    /// Takes the rate of the minute that ends at `end`.
    fn learn(&mut self, key: ServiceKey, end: Timestamp, rate: Option<f64>) {
        let step = Duration::from_secs(STEP.unsigned_abs());
        if end.floor(step) != end {
            return;
        }
        if !self.services.contains_key(&key) {
            let settings = Settings { holidays: self.holidays.clone(), ..Settings::new(STEP, LEADS.to_vec()) };
            let Ok(forecaster) = Forecaster::new(settings) else { return };
            if self.services.len() >= SERVICES_MAX {
                return;
            }
            let _ = self.services.insert(key.clone(), Service { forecaster, learned: Timestamp::MIN, expected: Vec::new() });
        }
        let Some(service) = self.services.get_mut(&key) else { return };
        if service.learned < end {
            service.learned = end;
            let _ = service.forecaster.observe(self.clock.seconds(end - step), rate);
        }
    }
}

impl Model for Forecasts {
    fn name(&self) -> &'static str {
        "service_forecast"
    }

    fn reads(&self) -> &'static [&'static str] {
        &["service_load"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        let mut rows = LAYOUT.rows();
        let Some(load) = window.rows("service_load") else { return Ok(RecordBatch::new_empty(std::sync::Arc::new(self.schema()))) };
        let rates = Rates::of(load);
        for (row, key) in services(load) {
            let rate = rates.get(row);
            if window.is_final {
                let before = self.services.get(&key).map(|service| service.learned);
                self.learn(key.clone(), window.end, rate);
                if let Some(service) = self.services.get_mut(&key).filter(|service| Some(service.learned) != before) {
                    service.look_ahead();
                }
            }
            for expected in self.services.get(&key).map_or(&[][..], |service| &service.expected) {
                rows.add(&key, expected.numbers(rate), [Some(expected.model)]);
            }
        }
        if window.is_final {
            let horizon = window.end - FORGET;
            self.services.retain(|_, service| service.learned >= horizon);
        }
        rows.finish(window, load)
    }

    fn remember(&mut self, name: &str, rows: &RecordBatch) {
        if name != "service_load" {
            return;
        }
        let (rates, ends) = (Rates::of(rows), Column::of(rows, WINDOW_END));
        for (row, key) in services(rows) {
            if let Some(end) = ends.time(row) {
                self.learn(key, end, rates.get(row));
            }
        }
        self.services.values_mut().for_each(Service::look_ahead);
    }

    fn len(&self) -> usize {
        self.services.len()
    }
}

// === impl Service ===

impl Service {
    fn look_ahead(&mut self) {
        let expected = |horizon| {
            let forecast = self.forecaster.forecast(horizon)?;
            Some(Expected {
                horizon,
                point: forecast.point,
                upper: [0.5, 0.9, 0.95, 0.99].map(|tau| forecast.upper(tau)),
                loss: forecast.loss,
                changing: forecast.changed,
                model: forecast.model,
            })
        };
        self.expected = LEADS.into_iter().filter_map(expected).collect();
    }
}

// === impl Expected ===

impl Expected {
    fn numbers(&self, rate: Option<f64>) -> [Option<f64>; 9] {
        let [p50, p90, p95, p99] = self.upper;
        let changing = if self.changing { 1.0 } else { 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "at most a week")]
        let horizon = self.horizon as f64;
        [Some(horizon), rate, Some(self.point), p50, p90, p95, p99, Some(self.loss), Some(changing)]
    }
}

/// Arrival rates of rows of `service_load`; of a service that is not heard of there is none.
#[derive(Clone, Copy, Debug)]
struct Rates<'a> {
    arrivals: Column<'a>,
    completions: Column<'a>,
    presence: Column<'a>,
}

// === impl Rates ===

impl<'a> Rates<'a> {
    fn of(rows: &'a RecordBatch) -> Self {
        let column = |name| Column::of(rows, name);
        Self { arrivals: column("arrival_rate"), completions: column("completion_rate"), presence: column("presence") }
    }

    fn get(&self, row: usize) -> Option<f64> {
        if self.presence.text(row) == Some("missing") {
            return None;
        }
        let arrivals = self.arrivals.number(row)?;
        // Requests that take longer than windows wait show only when they end.
        Some(if arrivals > 0.0 { arrivals } else { self.completions.number(row).unwrap_or(0.0) })
    }
}
