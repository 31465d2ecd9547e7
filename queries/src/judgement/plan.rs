//! `service_plan`: how many replicas a service with an objective should have, by what its load may come to until an order can help
//! and by what a minute of violation is worth.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::control::{Plan, Planner, Reason, Settings, Starting, Startups, Supply, Window};
use tracescale_models::sizing::{Objective, ServiceTime, Station, Workers, keeps};

use super::memory::{COMPLETE, Memory, Newest, SERVICES_MAX};
use super::queue;
use super::rows::{Layout, ServiceKey, seconds, services};
use super::{Advice, Capacity, Promise};
use crate::histogram::Histogram;
use crate::model::{Column, Model, Seen};
use crate::window::WINDOW_END;

/// Utilization that no plan exceeds: what the load may come to has its own price, this is for what no model knows.
const UTILIZATION_MAX: f64 = 0.95;
/// Replicas that no plan exceeds; policies have bounds of their own.
const REPLICAS_MAX: u32 = 1_000;
/// What avoiding a minute of violation is worth at first, in replica-minutes.
const VIOLATION_PRICE: f64 = 100.0;
/// Share of the minutes that may break the promise: the price is paced so that about so many do.
const VIOLATION_BUDGET: f64 = 0.01;
/// Seconds from an event to the window that shows it: batches of the sender, and lateness.
const PIPELINE_DELAY: f64 = 15.0;
/// Seconds between windows.
const INTERVAL: f64 = 5.0;
/// Seconds in which a backlog is worked off where no price says it.
const DRAIN: f64 = 60.0;
/// Requests that a minute needs to break or keep a promise.
const MINUTE_REQUESTS_MIN: f64 = 10.0;
/// Services in a window that begin or take another time: what their replicas take then is found anew, in a few milliseconds each,
/// for which the windows of all wait. The same goes for first plans, after a restart with many services.
const CHANGES_MOST: usize = 100;
/// Changes below which it is not worth it: of service time and servers, relative; and of the pooling.
const CHANGE: f64 = 0.03;
const POOLING_CHANGE: f64 = 0.05;
/// The same of the squared variation of the service time, relative: it is known less well, and tells of another tail at the same mean.
const SCV_CHANGE: f64 = 0.25;
/// The same of what others leave of the objective, relative.
const OBJECTIVE_CHANGE: f64 = 0.1;
/// Silence after which a service is forgotten.
const FORGET: Duration = Duration::from_secs(9 * 24 * 3600);

const LAYOUT: Layout = Layout {
    numbers: &[
        "replicas",
        "lead",
        "level",
        "median_peak",
        "covered_rate",
        "shortage",
        "service_time",
        "catch_up_servers",
        "violation_price",
        "instances",
    ],
    texts: &["plan_reason"],
    bytes: &[],
};

/// Planners of every service that has an objective.
#[derive(Debug)]
pub(super) struct Plans {
    advice: Advice,
    stations: Memory<Known>,
    services: Memory<Service>,
    /// The newest minute whose requests were held against the promise.
    judged: Newest,
}

#[derive(Debug)]
struct Service {
    planner: Planner,
    promise: Promise,
    /// The station that the planner was last told.
    told: Known,
    /// Whether it was ever asked for a plan: the first one finds what replicas take.
    is_asked: bool,
    plan: Option<Plan>,
}

/// What `service_queue` knows of a service.
#[derive(Clone, Debug)]
struct Known {
    service_time: f64,
    service_scv: f64,
    servers: f64,
    pooling: f64,
    load_bias: f64,
    /// The distribution of the service time, whatever its mean; `None` until it is known.
    distribution: Option<Vec<u8>>,
    /// Seconds that a request usually spends in others.
    outside: f64,
    workers: Option<u32>,
}

/// What the newest windows say besides the pulse.
#[derive(Debug, Default)]
struct Beside {
    /// Requests under way.
    concurrency: BTreeMap<ServiceKey, f64>,
    instances: BTreeMap<ServiceKey, f64>,
    /// Requests per second that forecasts at the front doors announce.
    announced: BTreeMap<ServiceKey, f64>,
    /// Whether the last minute broke the promise, where one has just ended.
    violated: BTreeMap<ServiceKey, bool>,
}

// === impl Plans ===

impl Default for Plans {
    fn default() -> Self {
        let (stations, services) = (Memory::new(Duration::ZERO, FORGET), Memory::new(Duration::ZERO, FORGET));
        Self { advice: Advice::default(), stations, services, judged: Newest::default() }
    }
}

impl Plans {
    fn promise(&self, key: &ServiceKey) -> Option<Promise> {
        Advice::of(&self.advice.promises, key).copied()
    }

    fn learn_stations(&mut self, queue: &RecordBatch) {
        for (row, key) in services(queue) {
            if self.promise(&key).is_some()
                && let Some(row) = queue::Known::read(queue, row)
            {
                self.stations.put(key, row.end, Known::of(&row));
            }
        }
    }

    /// A planner to learn a window into: one that is there, or can be now that the service is known. `changes` is what is left
    /// of [`CHANGES_MOST`].
    fn service(&mut self, key: &ServiceKey, end: Timestamp, changes: &mut usize) -> Option<&mut Service> {
        let (known, advice) = (self.stations.get(key)?, &self.advice);
        let make = || {
            let promise = *Advice::of(&advice.promises, key)?;
            let starts = Advice::of(&advice.startups, key);
            *changes = changes.checked_sub(1)?;
            let planner = planner(promise, known, starts.cloned().unwrap_or_default())?;
            Some(Service { planner, promise, told: known.clone(), is_asked: false, plan: None })
        };
        let service = self.services.due(key, end, make)?;
        if known.differs(&service.told, &service.promise)
            && let Some((left, station)) = changes.checked_sub(1).zip(known.station())
        {
            (*changes, service.told) = (left, known.clone());
            let objective = known.objective(&station, &service.promise);
            let _ = service.planner.set_station(station, objective);
        }
        Some(service)
    }

    /// Takes final windows, in their order.
    fn learn(&mut self, pulse: &RecordBatch, beside: &Beside, mut changes: usize) {
        let column = |name| Column::of(pulse, name);
        let [ends, rates, presence, completeness] = [WINDOW_END, "completion_rate", "presence", "completeness"].map(column);
        for (row, key) in services(pulse) {
            let Some(end) = ends.time(row) else { continue };
            let bias = self.stations.get(&key).map(|known| known.load_bias);
            let is_known = presence.text(row) != Some("missing") && completeness.number(row).is_none_or(|share| share >= COMPLETE);
            let rate = rates.number(row).filter(|_| is_known);
            let Some(service) = self.service(&key, end, &mut changes) else { continue };
            // More than come within the promised latency cannot all be answered within it.
            let waiting = |concurrency: &f64| (concurrency - rate.unwrap_or(0.0) * service.promise.latency).max(0.0);
            service.planner.observe(&Window {
                end: seconds(end),
                arrival_rate: rate,
                completion_rate: rate,
                service_time: None,
                backlog: beside.concurrency.get(&key).map(waiting),
                violated: beside.violated.get(&key).copied(),
                announced: beside.announced.get(&key).copied(),
                bias,
            });
        }
    }

    /// Which services broke their promise in a minute.
    fn violated(&self, minute: &RecordBatch) -> BTreeMap<ServiceKey, bool> {
        let (requests, distributions) = (Column::of(minute, "requests"), Column::of(minute, "distribution"));
        let judged = |(row, key): (usize, ServiceKey)| {
            let promise = self.promise(&key)?;
            let _ = requests.number(row).filter(|requests| *requests >= MINUTE_REQUESTS_MIN)?;
            let slow = Histogram::from_bytes(distributions.bytes(row)?).ok()?.fraction_above(promise.latency)?;
            Some((key, slow > 1.0 - promise.quantile))
        };
        services(minute).filter_map(judged).collect()
    }
}

// === impl Service ===

impl Service {
    /// Plans anew; for the first time only while there is something left of `first_plans`.
    fn ask(&mut self, supply: &Supply, first_plans: &mut usize) {
        if !self.is_asked {
            let Some(left) = first_plans.checked_sub(1) else { return };
            (*first_plans, self.is_asked) = (left, true);
        }
        self.plan = self.planner.plan(supply);
    }
}

// === impl Known ===

impl Known {
    fn of(row: &queue::Known<'_>) -> Self {
        Self {
            service_time: row.service_time,
            service_scv: row.service_scv,
            servers: row.servers,
            pooling: row.pooling,
            load_bias: row.load_bias,
            distribution: row.distribution.map(<[u8]>::to_vec),
            outside: row.hold_time.map_or(0.0, |hold| (hold - row.service_time).max(0.0)),
            workers: row.workers.and_then(whole_workers),
        }
    }

    /// What is left of a promise for the service itself; all of it where others leave too little even for idle replicas.
    fn objective(&self, station: &Station, promise: &Promise) -> Objective {
        let whole = Objective { latency: promise.latency, quantile: promise.quantile };
        let left = Objective { latency: promise.latency - self.outside, ..whole };
        if keeps(station, 0.0, &left, 1) == Some(true) { left } else { whole }
    }

    /// Whether plans would be others.
    fn differs(&self, told: &Self, promise: &Promise) -> bool {
        let apart = |one: f64, other: f64, change: f64| (one / other).ln().abs() > change;
        let left = |known: &Self| (promise.latency - known.outside).max(0.0);
        apart(self.service_time, told.service_time, CHANGE)
            || apart(self.servers, told.servers, CHANGE)
            || apart(self.service_scv, told.service_scv, SCV_CHANGE)
            || (self.pooling - told.pooling).abs() > POOLING_CHANGE
            || self.distribution.is_some() != told.distribution.is_some()
            || self.workers != told.workers
            || (left(self) - left(told)).abs() > OBJECTIVE_CHANGE * left(told)
    }

    fn station(&self) -> Option<Station> {
        let points = self.distribution.as_ref().and_then(|bytes| Histogram::from_bytes(bytes).ok()).map(|known| known.points());
        let shape = points.and_then(|points| ServiceTime::from_points(&points));
        let measured = shape.and_then(|shape| shape.scaled(self.service_time / shape.mean()));
        let time = measured.or_else(|| ServiceTime::from_moments(self.service_time, self.service_scv))?;
        let workers = self.workers.map(|count| Workers { count, outside: self.outside });
        Some(Station { pooling: self.pooling, workers, ..Station::new(time, self.servers) })
    }
}

impl Model for Plans {
    fn name(&self) -> &'static str {
        "service_plan"
    }

    fn reads(&self) -> &'static [&'static str] {
        &["service_pulse", "service_sojourn", "service_load", "service_queue", "service_flow"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        let (mut rows, pulse) = (LAYOUT.rows(), window.driver);
        if self.advice.promises.is_empty() {
            return rows.finish(window);
        }
        let mut beside = Beside::default();
        if let Some((_, load)) = window.newest_final("service_load") {
            beside.concurrency = by_service(load, "concurrency");
            beside.instances = by_service(load, "instances");
        }
        if let Some((_, flow)) = window.newest_final("service_flow") {
            beside.announced = by_service(flow, "announced");
        }
        if window.is_final {
            if let Some((_, queue)) = window.newest_final("service_queue") {
                self.learn_stations(queue);
            }
            if let Some((_, minute)) = window.newest_final("service_sojourn").filter(|(end, _)| self.judged.is_next(*end, window.end)) {
                beside.violated = self.violated(minute);
            }
            self.learn(pulse, &beside, CHANGES_MOST);
            self.stations.forget(window.end);
            self.services.forget(window.end);
        }
        let mut first_plans = CHANGES_MOST;
        for (_, key) in services(pulse) {
            let instances = beside.instances.get(&key).copied();
            if let Some(service) = self.services.get_mut(&key) {
                if window.is_final {
                    let said = Advice::of(&self.advice.capacities, &key);
                    service.ask(&supply(said, instances, window.end), &mut first_plans);
                }
                if let Some(plan) = &service.plan {
                    rows.add(&key, numbers(plan, service.planner.violation_price(), instances), [Some(reason(plan.reason))]);
                }
            }
        }
        rows.finish(window)
    }

    fn remember(&mut self, name: &str, rows: &RecordBatch) {
        match name {
            "service_queue" => self.learn_stations(rows),
            "service_pulse" => self.learn(rows, &Beside::default(), SERVICES_MAX),
            _ => {}
        }
    }

    /// Who gets another promise begins anew; another start-up changes how far ahead a planner looks.
    fn advise(&mut self, advice: &Advice) {
        self.advice = advice.clone();
        let said = |key: &ServiceKey| Advice::of(&advice.promises, key).copied();
        self.stations.retain(|key, _| said(key).is_some());
        self.services.retain(|key, service| said(key) == Some(service.promise));
        for (key, service) in self.services.iter_mut() {
            if let Some(starts) = Advice::of(&advice.startups, key) {
                service.planner.set_starts(starts.clone());
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
fn whole_workers(workers: f64) -> Option<u32> {
    (workers >= 1.0).then_some(workers as u32)
}

/// What there is and what was ordered: as the controller says, or else what spans show.
fn supply(said: Option<&Capacity>, instances: Option<f64>, end: Timestamp) -> Supply {
    let Some(Capacity { desired, ready, ordered_at }) = said.copied() else {
        return Supply { ready: whole(instances), ..Supply::default() };
    };
    let ready = ready.unwrap_or(desired).min(desired);
    let age = ordered_at.map_or(0.0, |at| end.since(at).as_secs_f64());
    let starting = (desired > ready).then(|| Starting { count: desired - ready, age });
    Supply { ready, starting: starting.into_iter().collect(), draining: 0 }
}

fn planner(promise: Promise, known: &Known, starts: Startups) -> Option<Planner> {
    let station = known.station()?;
    let settings = Settings {
        objective: known.objective(&station, &promise),
        station,
        utilization_max: UTILIZATION_MAX,
        replicas_min: 1,
        replicas_max: REPLICAS_MAX,
        violation_price: VIOLATION_PRICE,
        violation_budget: Some(VIOLATION_BUDGET),
        pipeline_delay: PIPELINE_DELAY,
        interval: INTERVAL,
        drain: DRAIN,
    };
    Planner::new(settings, starts)
}

fn numbers(plan: &Plan, price: f64, instances: Option<f64>) -> [Option<f64>; 10] {
    [
        Some(f64::from(plan.replicas)),
        Some(plan.lead),
        Some(plan.level),
        Some(plan.median),
        Some(plan.covered),
        Some(plan.shortage),
        Some(plan.service_time),
        Some(plan.catch_up),
        Some(price),
        instances,
    ]
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Forecast => "forecast",
        Reason::Prior => "prior",
        Reason::Backlog => "backlog",
        Reason::Announced => "announced",
        Reason::Fewest => "fewest",
        Reason::Most => "most",
    }
}

/// A column of a batch by its services.
fn by_service(rows: &RecordBatch, name: &str) -> BTreeMap<ServiceKey, f64> {
    let column = Column::of(rows, name);
    services(rows).filter_map(|(row, key)| Some((key, column.number(row)?))).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
fn whole(number: Option<f64>) -> u32 {
    number.unwrap_or_default() as u32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampNanosecondArray};

    use super::*;

    const SERVICES: usize = 250;

    /// A row of these numbers for every service.
    fn rows(second: i64, numbers: &[(&str, f64)]) -> RecordBatch {
        let ends: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Timestamp::from_secs(second).as_nanos(); SERVICES]));
        let names: ArrayRef = Arc::new((0..SERVICES).map(|service| Some(format!("s{service}"))).collect::<StringArray>());
        let column = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![value; SERVICES])) };
        let numbers = numbers.iter().map(|(name, value)| (*name, column(*value)));
        RecordBatch::try_from_iter([(WINDOW_END, ends), ("service_name", names)].into_iter().chain(numbers)).unwrap()
    }

    fn plans() -> Plans {
        let promise = Promise { latency: 0.5, quantile: 0.99 };
        let promises = (0..SERVICES).map(|service| ((format!("s{service}"), None), promise)).collect();
        let mut plans = Plans::default();
        plans.advise(&Advice { promises, ..Advice::default() });
        let queue = [("service_time", 0.05), ("service_scv", 1.0), ("servers", 2.0), ("pooling", 0.4), ("load_bias", 1.0)];
        plans.remember("service_queue", &rows(1_000_000, &queue));
        plans
    }

    /// Guarantees: another mean, another tail and other servers make other plans, noise does not.
    #[test]
    fn what_makes_other_plans() {
        let told = plans().stations.get(&ServiceKey { name: "s1".to_owned(), namespace: None }).unwrap().clone();
        let promise = Promise { latency: 0.5, quantile: 0.99 };
        let differs = |change: fn(&mut Known)| {
            let mut known = told.clone();
            change(&mut known);
            known.differs(&told, &promise)
        };
        assert!(differs(|known| known.service_time *= 1.05) && differs(|known| known.servers = 4.0));
        assert!(differs(|known| known.service_scv = 2.0) && differs(|known| known.outside = 0.1));
        assert!(!differs(|known| known.service_scv *= 1.1) && !differs(|known| known.service_time *= 1.01));
    }

    /// Guarantees: a window of which a part was not heard does not pass for one with less load.
    #[test]
    fn what_was_not_heard_is_no_quiet_time() {
        let level_after = |completeness: f64| {
            let mut plans = plans();
            for window in 1..=42 {
                let (rate, completeness) = if window > 40 { (4.0, completeness) } else { (40.0, 1.0) };
                plans.remember(
                    "service_pulse",
                    &rows(1_000_000 + 15 * window, &[("completion_rate", rate), ("completeness", completeness)]),
                );
            }
            plans.services.values_mut().next().and_then(|service| service.planner.plan(&Supply::default())).unwrap().level
        };
        assert!((level_after(0.6) - 40.0).abs() < 1.0 && level_after(1.0) < 10.0, "{} {}", level_after(0.6), level_after(1.0));
    }

    /// Guarantees: what is known of services is forgotten with what was promised of them.
    #[test]
    fn stations_are_forgotten() {
        let mut plans = plans();
        assert_eq!(plans.stations.iter_mut().count(), SERVICES);
        let promise = Promise { latency: 0.5, quantile: 0.99 };
        plans.advise(&Advice { promises: [(("s7".to_owned(), None), promise)].into(), ..Advice::default() });
        assert_eq!(plans.stations.iter_mut().count(), 1);
        plans.stations.forget(Timestamp::from_secs(1_000_001) + FORGET);
        assert_eq!(plans.stations.iter_mut().count(), 0);
    }

    /// Guarantees: whoever is remembered has a planner at once; of those that begin together later, as many in a window as its
    /// processor time allows, and all in the end; first plans the same.
    #[test]
    fn all_services_get_a_planner() {
        let (mut remembered, mut begun) = (plans(), plans());
        remembered.remember("service_pulse", &rows(1_000_015, &[("completion_rate", 40.0)]));
        let planned = [1, 2, 3].map(|_| {
            let mut first_plans = CHANGES_MOST;
            remembered.services.values_mut().for_each(|service| service.ask(&Supply::default(), &mut first_plans));
            remembered.services.values_mut().filter(|service| service.plan.is_some()).count()
        });
        assert_eq!(planned, [CHANGES_MOST, 2 * CHANGES_MOST, SERVICES]);
        let counts = [1, 2, 3].map(|window| {
            begun.learn(&rows(1_000_000 + 15 * window, &[("completion_rate", 40.0)]), &Beside::default(), CHANGES_MOST);
            begun.services.values_mut().count()
        });
        assert_eq!(counts, [CHANGES_MOST, 2 * CHANGES_MOST, SERVICES]);
    }
}
