//! `service_forecast`: how many requests a service will get, learned minute by minute from final windows of `service_sojourn`: they do not
//! overlap, and the archive has one for each minute of the past.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_models::forecast::{Forecaster, Settings};

use super::LocalClock;
use super::memory::{Memory, Newest};
use super::rows::{Layout, Rates, services};
use crate::model::{Column, Model, Seen};
use crate::window::WINDOW_END;

/// Seconds between what is learned.
const STEP: i64 = 60;
/// How far ahead, in seconds: pipeline and start-up of fast and slow replicas, and an hour.
const LEADS: [i64; 5] = [60, 180, 300, 600, 3600];
/// Silence after which a service is forgotten.
const FORGET: Duration = Duration::from_secs(14 * 24 * 3600);

const LAYOUT: Layout = Layout {
    numbers: &["horizon", "arrival_rate", "forecast", "p50", "p90", "p95", "p99", "loss", "changing"],
    texts: &["model"],
    bytes: &[],
};

/// Forecasts of every service.
#[derive(Debug)]
pub(super) struct Forecasts {
    clock: LocalClock,
    holidays: Vec<i64>,
    services: Memory<Service>,
    learned: Newest,
}

#[derive(Debug)]
struct Service {
    forecaster: Forecaster,
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
        Self { clock, holidays, services: Memory::new(Duration::ZERO, FORGET), learned: Newest::default() }
    }

    /// Takes the windows of a minute, or of many in their order.
    fn learn(&mut self, rows: &RecordBatch) {
        let column = |name| Column::of(rows, name);
        let [requests, presence, ends] = ["requests", "presence", WINDOW_END].map(column);
        let step = Duration::from_secs(STEP.unsigned_abs());
        for (row, key) in services(rows) {
            let Some(end) = ends.time(row) else { continue };
            #[expect(clippy::cast_precision_loss, reason = "a minute")]
            let rate = requests.number(row).filter(|_| presence.text(row) != Some("missing")).map(|requests| requests / STEP as f64);
            let begin = self.clock.seconds(end - step);
            let make = || {
                let settings = Settings { holidays: self.holidays.clone(), ..Settings::new(STEP, LEADS.to_vec()) };
                Some(Service { forecaster: Forecaster::new(settings).ok()?, expected: Vec::new() })
            };
            if let Some(service) = self.services.due(&key, end, make) {
                let _ = service.forecaster.observe(begin, rate);
            }
        }
    }
}

impl Model for Forecasts {
    fn name(&self) -> &'static str {
        "service_forecast"
    }

    fn reads(&self) -> &'static [&'static str] {
        &["service_load", "service_sojourn"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        let (mut rows, load) = (LAYOUT.rows(), window.driver);
        if let Some((end, minute)) = window.newest_final("service_sojourn").filter(|(end, _)| self.learned.is_next(*end, window.end)) {
            self.learn(minute);
            self.services.forget(end);
            self.services.values_mut().for_each(Service::look_ahead);
        }
        let rates = Rates::of(load);
        for (row, key) in services(load) {
            let rate = rates.get(row);
            for expected in self.services.get(&key).map_or(&[][..], |service| &service.expected) {
                rows.add(&key, expected.numbers(rate), [Some(expected.model)]);
            }
        }
        rows.finish(window)
    }

    fn remember(&mut self, name: &str, rows: &RecordBatch) {
        if name == "service_sojourn" {
            self.learn(rows);
        }
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
