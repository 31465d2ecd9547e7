//! `service_queue`: each service as a queue, calibrated minute by minute on what final windows of `service_summary` show.
//!
//! What a service does itself is compared with the model, not what it waits for: the own time of its requests, which includes the
//! wait for its own servers, against service time and load. A model that is wrong too often is demoted, and says so.

mod service;

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::calibration::Servers;

use self::service::{Figures, Front, Service};
use super::memory::{APART, COMPLETE, Memory};
use super::rows::{Layout, Rates, ServiceKey, ends, services};
use super::utilization::{ByService, utilizations};
use super::{Advice, Promise};
use crate::histogram::Histogram;
use crate::model::{Column, Model, Seen};
use crate::window::WINDOW_END;

/// Silence after which a service is forgotten.
const FORGET: Duration = Duration::from_secs(7 * 24 * 3600);
/// Columns of numbers.
const NUMBERS: usize = 21;

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
        "safe_utilization",
        "predicted_p95",
        "observed_p95",
        "downstream_time",
        "relaxation_time",
        "model_error",
        "demoted",
        "learned_samples",
        "n_eff",
        "confidence",
        "workers",
        "hold_time",
        "capacity",
    ],
    texts: &["model_state", "servers_from"],
    bytes: &["service_distribution"],
};

/// Calibrations of every service.
#[derive(Debug)]
pub(super) struct Queues {
    advice: Advice,
    services: Memory<Service>,
}

/// What a row of the view says of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) end: Timestamp,
    pub(super) service_time: f64,
    pub(super) service_scv: f64,
    pub(super) servers: f64,
    pub(super) pooling: f64,
    pub(super) load_bias: f64,
    pub(super) distribution: Option<&'a [u8]>,
    pub(super) workers: Option<f64>,
    pub(super) hold_time: Option<f64>,
    servers_from: Option<&'a str>,
    learned_samples: f64,
    model_error: Option<f64>,
    demoted: bool,
}

// === impl Queues ===

impl Default for Queues {
    fn default() -> Self {
        Self { advice: Advice::default(), services: Memory::new(APART, FORGET) }
    }
}

impl Queues {
    fn promise(&self, key: &ServiceKey) -> Option<Promise> {
        Advice::of(&self.advice.promises, key).copied()
    }

    /// What is known of the servers of a service that was never seen.
    fn servers(&self, key: &ServiceKey) -> Servers {
        let mut servers = Servers::default();
        servers.say(said(&self.advice, key));
        servers
    }

    /// Learns from a final window.
    fn learn(&mut self, key: &ServiceKey, end: Timestamp, figures: &Figures) {
        if !figures.own_time.is_some_and(|time| time > 0.0) {
            return;
        }
        let (servers, workers, promise) = (self.servers(key), workers(&self.advice, key), self.promise(key));
        if let Some(service) = self.services.due(key, end, || Service::new(servers, figures)) {
            service.employ(workers);
            service.calibrate(end, figures, promise.as_ref());
        }
    }
}

impl Model for Queues {
    fn name(&self) -> &'static str {
        "service_queue"
    }

    fn reads(&self) -> &'static [&'static str] {
        &["service_summary", "service_self_time", "service_latency", "metric_gauges", "workloads", "calls"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        let (mut rows, summary) = (LAYOUT.rows(), window.driver);
        let own: BTreeMap<ServiceKey, usize> =
            window.rows("service_self_time").map(|rows| services(rows).map(|(row, key)| (key, row)).collect()).unwrap_or_default();
        let fetched: BTreeMap<ServiceKey, f64> = window.rows("service_latency").map(fetched_shares).unwrap_or_default();
        let busy = ByService::new(window.rows("metric_gauges").map(utilizations).unwrap_or_default(), summary);
        let fronts = window.rows("calls").map(fronts).unwrap_or_default();
        let mut versions = window.rows("workloads").map(versions).unwrap_or_default();
        let completeness = Column::of(summary, "completeness");
        for (row, key) in services(summary) {
            let is_complete = completeness.number(row).is_none_or(|share| share >= COMPLETE);
            let own = window.rows("service_self_time").zip(own.get(&key).copied());
            let figures = Figures::read(summary, row, own).map(|figures| Figures {
                busy: busy.get(&key).map(|busy| busy.mean),
                front: fronts.get(&key.full_name()).copied(),
                is_fetched: fetched.get(&key).is_some_and(|share| *share > 0.5),
                versions: versions.remove(&key).unwrap_or_default(),
                cores: Advice::of(&self.advice.cores, &key).copied(),
                ..figures
            });
            if window.is_final
                && is_complete
                && let Some(figures) = &figures
            {
                self.learn(&key, window.end, figures);
            }
            let known = self.services.get(&key).map(|service| service.row(window.end, figures.as_ref()));
            let (numbers, texts, bytes) = known.unwrap_or(([None; NUMBERS], [None; 2], [None]));
            rows.add_with_bytes(&key, numbers, texts, bytes);
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
        for (row, key) in services(rows) {
            if let Some(known) = Known::read(rows, row) {
                let workers = workers(&self.advice, &key);
                let mut service = Service::recalled(&known, self.servers(&key));
                service.employ(workers);
                self.services.put(key, known.end, service);
            }
        }
    }

    fn advise(&mut self, advice: &Advice) {
        self.advice = advice.clone();
        for (key, service) in self.services.iter_mut() {
            service.servers.say(said(&self.advice, key));
            service.employ(workers(&self.advice, key));
            if Advice::of(&advice.promises, key).is_none() {
                service.safe_utilization = None;
            }
        }
    }
}

// === impl Known ===

impl<'a> Known<'a> {
    /// What a row says; `None` for a service that nothing was learned of.
    pub(super) fn read(rows: &'a RecordBatch, row: usize) -> Option<Self> {
        let number = |name| Column::of(rows, name).number(row);
        Some(Self {
            end: Column::of(rows, WINDOW_END).time(row)?,
            service_time: number("service_time")?,
            service_scv: number("service_scv")?,
            servers: number("servers")?,
            pooling: number("pooling")?,
            load_bias: number("load_bias")?,
            distribution: Column::of(rows, "service_distribution").bytes(row),
            workers: number("workers"),
            hold_time: number("hold_time"),
            servers_from: Column::of(rows, "servers_from").text(row),
            learned_samples: number("learned_samples").unwrap_or_default(),
            model_error: number("model_error"),
            demoted: number("demoted") == Some(1.0),
        })
    }
}

// === impl Figures ===

impl Figures {
    /// Of a row of `service_summary` and a row of `service_self_time`; `None` for a service that is not heard of.
    fn read(summary: &RecordBatch, row: usize, own: Option<(&RecordBatch, usize)>) -> Option<Self> {
        let number = |name| Column::of(summary, name).number(row);
        let distribution = own.and_then(|(rows, row)| Histogram::from_bytes(Column::of(rows, "distribution").bytes(row)?).ok());
        Some(Self {
            arrival_rate: Rates::of(summary).get(row)?,
            completion_rate: number("completion_rate"),
            own_time: number("self_time"),
            own_scv: number("service_scv"),
            own_p95: own.and_then(|(rows, row)| Column::of(rows, "p95").number(row)),
            own_distribution: distribution,
            sojourn: number("mean_sojourn"),
            concurrency: number("concurrency"),
            front: None,
            instances: number("instances"),
            is_fetched: false,
            busy: None,
            versions: Vec::new(),
            cores: None,
            n_eff: number("n_eff"),
            confidence: number("confidence"),
        })
    }
}

/// Which part of the requests of each service are messages that it fetched.
fn fetched_shares(latency: &RecordBatch) -> BTreeMap<ServiceKey, f64> {
    let shares = Column::of(latency, "fetched_share");
    services(latency).filter_map(|(row, key)| Some((key, shares.number(row)?))).collect()
}

/// Which versions of each service were seen, wherever it runs.
fn versions(workloads: &RecordBatch) -> BTreeMap<ServiceKey, Vec<String>> {
    let columns = ["lowest_version", "highest_version"].map(|name| Column::of(workloads, name));
    let mut versions: BTreeMap<ServiceKey, Vec<String>> = BTreeMap::new();
    for (row, key) in services(workloads) {
        let seen = columns.iter().filter_map(|column| column.text(row)).map(str::to_owned);
        versions.entry(key).or_default().extend(seen);
    }
    versions
}

/// The queue in front of each service as its callers see it, calls counting by their number.
fn fronts(calls: &RecordBatch) -> BTreeMap<String, Front> {
    let [rates, matched, floors, means, tails] =
        ["call_rate", "matched_share", "wait_p05", "wait_mean", "wait_p95"].map(|name| Column::of(calls, name));
    let mut fronts: BTreeMap<String, (f64, Front)> = BTreeMap::new();
    for (row, _, server) in ends(calls) {
        let weight = rates.number(row).zip(matched.number(row)).map(|(rate, share)| rate * share).filter(|weight| *weight > 0.0);
        let waits = floors.number(row).zip(means.number(row)).zip(tails.number(row));
        let (Some(weight), Some(((floor, mean), tail))) = (weight, waits) else { continue };
        let (total, front) = fronts.entry(server).or_insert((0.0, Front { mean: 0.0, p95: 0.0 }));
        *total += weight;
        front.mean += (mean - floor).max(0.0) * weight;
        front.p95 += (tail - floor).max(0.0) * weight;
    }
    let averaged = |(total, front): (f64, Front)| Front { mean: front.mean / total, p95: front.p95 / total };
    fronts.into_iter().map(|(server, sums)| (server, averaged(sums))).collect()
}

/// Workers of a replica of which a request holds one until it is answered, as somebody says.
fn workers(advice: &Advice, key: &ServiceKey) -> Option<u32> {
    Advice::of(&advice.workers, key).copied()
}

/// Requests that a replica works on at once, as somebody says.
fn said(advice: &Advice, key: &ServiceKey) -> Option<f64> {
    Advice::of(&advice.servers, key).copied()
}
