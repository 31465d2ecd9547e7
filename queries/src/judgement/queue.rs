//! `service_queue`: each service as a queue, calibrated minute by minute on what final windows of `service_summary` show.
//!
//! What a service does itself is compared with the model, not what it waits for: the own time of its requests, which includes the
//! wait for its own servers, against service time and load. A model that is wrong too often is demoted, and says so.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::calibration::{Calibration, Comparison};
use tracescale_models::queue::overload::relaxation_time;
use tracescale_models::sizing::{Prediction, ServiceTime, Station, predict};

use super::memory::Memory;
use super::rows::{Layout, Rates, ServiceKey, seconds, services};
use super::{Advice, ServiceName};
use crate::model::{Column, Model, Seen};
use crate::window::WINDOW_END;

/// Time between windows that are learned from: windows of a minute that do not overlap.
const APART: Duration = Duration::from_secs(60);
/// Seconds until a change of replicas shows: start-up, and the delay of final windows.
const DEAD_TIME: f64 = 180.0;
/// The quantile that is compared: high enough to show waiting, low enough to be known after a few hundred requests.
const QUANTILE: f64 = 0.95;
/// A random split is what most balancers come to in the end; measurements replace it.
const POOLING: f64 = 1.0;
/// The variation of a service that nothing is known of.
const SCV: f64 = 1.0;
/// Silence after which a service is forgotten.
const FORGET: Duration = Duration::from_secs(7 * 24 * 3600);

const LAYOUT: Layout = Layout {
    numbers: &[
        "arrival_rate",
        "service_time",
        "service_scv",
        "servers",
        "pooling",
        "load_bias",
        "instances",
        "utilization",
        "predicted_p95",
        "observed_p95",
        "downstream_time",
        "relaxation_time",
        "model_error",
        "demoted",
        "learned_samples",
        "n_eff",
        "confidence",
    ],
    texts: &["model_state"],
};

/// Calibrations of every service.
#[derive(Debug)]
pub(super) struct Queues {
    servers: BTreeMap<ServiceName, f64>,
    services: Memory<Service>,
}

#[derive(Debug)]
struct Service {
    calibration: Calibration,
}

/// The figures of one service in one window.
#[derive(Clone, Copy, Debug)]
struct Figures {
    arrival_rate: f64,
    own_time: Option<f64>,
    own_scv: Option<f64>,
    own_p95: Option<f64>,
    sojourn: Option<f64>,
    instances: Option<f64>,
    n_eff: Option<f64>,
    confidence: Option<f64>,
}

/// What the model says of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Predicted {
    utilization: Option<f64>,
    quantile: Option<f64>,
    /// The same for one pool and for a random split.
    bounds: Option<(f64, f64)>,
}

// === impl Queues ===

impl Default for Queues {
    fn default() -> Self {
        Self { servers: BTreeMap::new(), services: Memory::new(APART, FORGET) }
    }
}

impl Queues {
    fn servers(&self, key: &ServiceKey) -> f64 {
        servers(&self.servers, key)
    }

    /// Learns from a final window.
    fn learn(&mut self, key: &ServiceKey, end: Timestamp, figures: &Figures) {
        let Some(own_time) = figures.own_time.filter(|time| *time > 0.0) else { return };
        let servers = self.servers(key);
        let make = || Some(Service { calibration: Calibration::new(own_time, SCV, servers, POOLING) });
        if let Some(service) = self.services.due(key, end, make) {
            service.calibrate(end, own_time, figures);
        }
    }
}

// === impl Service ===

impl Service {
    fn calibrate(&mut self, end: Timestamp, own_time: f64, figures: &Figures) {
        let at = seconds(end);
        let predicted = self.predict(end, figures, true);
        let samples = figures.n_eff.unwrap_or_default();
        let Some(utilization) = predicted.utilization else { return };
        let quiet = self.calibration.observe_service(own_time, figures.own_scv.unwrap_or(SCV), samples, utilization);
        let (Some(observed), Some(quantile)) = (figures.own_p95, predicted.quantile) else { return };
        if quiet {
            return;
        }
        if let Some((pooled, split)) = predicted.bounds {
            let _ = self.calibration.observe_pooling(at, observed, pooled, split, utilization);
        }
        let service = self.service_time().and_then(|time| time.quantile(QUANTILE));
        if let Some(service) = service {
            let window = Comparison { at, samples, observed, predicted: quantile, service, utilization };
            let _ = self.calibration.compare(&window, DEAD_TIME);
        }
    }

    fn service_time(&self) -> Option<ServiceTime> {
        ServiceTime::from_moments(self.calibration.service_time.value(), self.calibration.service_scv.value())
    }

    /// What the model says of the load and the replicas of a window; with its bounds, when they are wanted.
    fn predict(&self, end: Timestamp, figures: &Figures, with_bounds: bool) -> Predicted {
        let calibration = &self.calibration;
        let (Some(time), Some(instances)) = (self.service_time(), figures.instances.filter(|instances| *instances >= 1.0)) else {
            return Predicted::default();
        };
        let station = Station { pooling: calibration.pooling, ..Station::new(time, calibration.servers.value()) };
        let rate = figures.arrival_rate * calibration.bias(seconds(end));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
        let replicas = instances as u32;
        let quantile = |pooling| match predict(&Station { pooling, ..station.clone() }, rate, replicas)? {
            Prediction::Stable(stable) => stable.quantile(QUANTILE),
            Prediction::Unstable { .. } => None,
        };
        Predicted {
            utilization: Some(station.load(rate) / (station.servers.max(1.0) * instances)).filter(|share| share.is_finite()),
            quantile: quantile(calibration.pooling),
            bounds: if with_bounds { quantile(0.0).zip(quantile(1.0)) } else { None },
        }
    }

    fn state(&self) -> &'static str {
        match (self.calibration.demoted(), self.calibration.trust.error) {
            (true, _) => "demoted",
            (false, None) => "calibrating",
            (false, Some(_)) => "trusted",
        }
    }
}

impl Model for Queues {
    fn name(&self) -> &'static str {
        "service_queue"
    }

    fn reads(&self) -> &'static [&'static str] {
        &["service_summary", "service_self_time"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        let (mut rows, summary) = (LAYOUT.rows(), window.driver);
        let p95 = own_p95(window);
        for (row, key) in services(summary) {
            let figures = Figures::read(summary, row, p95.get(&key).copied());
            if window.is_final
                && let Some(figures) = &figures
            {
                self.learn(&key, window.end, figures);
            }
            let known = self.services.get(&key);
            let (numbers, state) = known.map_or(([None; 17], None), |service| service.row(window.end, figures.as_ref()));
            rows.add(&key, numbers, [state]);
        }
        if window.is_final {
            self.services.forget(window.end);
        }
        rows.finish(window)
    }

    /// Its own rows hold what it had learned.
    fn remember(&mut self, name: &str, rows: &RecordBatch) {
        if name != self.name() {
            return;
        }
        let number = |name, row| Column::of(rows, name).number(row);
        for (row, key) in services(rows) {
            let read = || {
                let mut calibration =
                    Calibration::new(number("service_time", row)?, number("service_scv", row)?, self.servers(&key), POOLING);
                let end = Column::of(rows, WINDOW_END).time(row)?;
                let samples = number("learned_samples", row).unwrap_or_default();
                let _ = calibration.service_time.observe(number("service_time", row)?, samples);
                let _ = calibration.service_scv.observe(number("service_scv", row)?, samples);
                calibration.pooling = number("pooling", row)?;
                calibration.log_bias = number("load_bias", row)?.ln();
                calibration.bias_at = Some(seconds(end));
                calibration.trust.error = number("model_error", row);
                calibration.trust.demoted = number("demoted", row) == Some(1.0);
                Some((end, calibration))
            };
            if let Some((end, calibration)) = read() {
                self.services.put(key, end, Service { calibration });
            }
        }
    }

    fn advise(&mut self, advice: &Advice) {
        self.servers.clone_from(&advice.servers);
        for (key, service) in self.services.iter_mut() {
            service.calibration.servers.prior = servers(&self.servers, key);
        }
    }
}

impl Service {
    fn row(&self, end: Timestamp, figures: Option<&Figures>) -> ([Option<f64>; 17], Option<&'static str>) {
        let calibration = &self.calibration;
        let predicted = figures.map(|figures| self.predict(end, figures, false)).unwrap_or_default();
        let of = |get: fn(&Figures) -> Option<f64>| figures.and_then(get);
        let (time, servers) = (calibration.service_time.value(), calibration.servers.value());
        let relaxation = predicted.utilization.and_then(|utilization| relaxation_time(time, servers, utilization));
        let numbers = [
            of(|figures| Some(figures.arrival_rate)),
            Some(time),
            Some(calibration.service_scv.value()),
            Some(servers),
            Some(calibration.pooling),
            Some(calibration.bias(seconds(end))),
            of(|figures| figures.instances),
            predicted.utilization,
            predicted.quantile,
            of(|figures| figures.own_p95),
            of(|figures| Some((figures.sojourn? - figures.own_time?).max(0.0))),
            relaxation,
            calibration.trust.error,
            Some(if calibration.demoted() { 1.0 } else { 0.0 }),
            Some(calibration.service_time.samples),
            of(|figures| figures.n_eff),
            of(|figures| figures.confidence),
        ];
        (numbers, Some(self.state()))
    }
}

// === impl Figures ===

impl Figures {
    /// `None` for a service that is not heard of.
    fn read(summary: &RecordBatch, row: usize, own_p95: Option<f64>) -> Option<Self> {
        let number = |name| Column::of(summary, name).number(row);
        Some(Self {
            arrival_rate: Rates::of(summary).get(row)?,
            own_time: number("self_time"),
            own_scv: number("service_scv"),
            own_p95,
            sojourn: number("mean_sojourn"),
            instances: number("instances"),
            n_eff: number("n_eff"),
            confidence: number("confidence"),
        })
    }
}

/// Requests that a replica works on at once: as somebody says, or one.
fn servers(said: &BTreeMap<ServiceName, f64>, key: &ServiceKey) -> f64 {
    let said = Advice::of(said, &key.name, key.namespace.as_deref()).copied();
    said.filter(|servers| *servers > 0.0).unwrap_or(1.0)
}

/// The 95th percentile of the own time of each service.
fn own_p95(window: &Seen<'_>) -> BTreeMap<ServiceKey, f64> {
    let Some(rows) = window.rows("service_self_time") else { return BTreeMap::new() };
    let p95 = Column::of(rows, "p95");
    services(rows).filter_map(|(row, key)| Some((key, p95.number(row)?))).collect()
}
