//! The shipped models: views of what the pure models make of other views, service by service, with what they learned so far.
//!
//! ```text
//! service_sojourn ─▶ service_forecast ─┐
//! service_summary ─▶ service_queue ────┼─▶ service_flow ─▶ service_plan ◀─ service_pulse
//!        calls ────▶ service_callees ──┘   metric_gauges ─▶ service_usage
//!        calls ────▶ service_cause          metric_rates, operation_latency ─▶ operation_demand
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tracescale_core::time::Timestamp;
pub use tracescale_models::control::Startups;

use self::rows::ServiceKey;
use crate::model::{Model, Seen};
use crate::snapshot::Snapshot;

mod callees;
mod cause;
mod demand;
mod flow;
mod forecast;
mod memory;
mod plan;
mod queue;
mod rows;
mod usage;
mod utilization;

/// What the shipped models must be told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The clock on the wall of the people whose habits make the load.
    pub clock: LocalClock,
    /// Local days (since 1970-01-01) on which they behave as on holidays.
    pub holidays: Vec<i64>,
    /// What is said of services at the start.
    pub advice: Advice,
}

/// What people and the controller say of services. It changes while models run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advice {
    /// Requests that a replica of a service (name, namespace; any namespace where there is none) works on at once. Where nothing is
    /// said it is learned.
    pub servers: BTreeMap<ServiceName, f64>,
    /// Workers of each of their replicas, where a request holds one until it is answered.
    pub workers: BTreeMap<ServiceName, u32>,
    /// What was promised of services.
    pub promises: BTreeMap<ServiceName, Promise>,
    /// How long their last replicas took to start.
    pub startups: BTreeMap<ServiceName, Startups>,
    /// The replicas that they have, and those that were ordered.
    pub capacities: BTreeMap<ServiceName, Capacity>,
    /// Cores that each of their replicas asks for.
    pub cores: BTreeMap<ServiceName, f64>,
}

/// Replicas of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Those that it is asked to have.
    pub desired: u32,
    /// Those that serve; `None` when nobody says.
    pub ready: Option<u32>,
    /// When the last of them were ordered that do not serve yet; `None` when that was not seen.
    pub ordered_at: Option<Timestamp>,
}

/// Name and namespace of a service; a name without a namespace stands for that name in any.
pub type ServiceName = (String, Option<String>);

/// A share of the requests takes no longer than a latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// Seconds.
    pub latency: f64,
    /// Share of the requests, 0..1.
    pub quantile: f64,
}

/// Tells the local time of an instant, in seconds since the epoch as if the clock on the wall showed UTC.
#[derive(Clone)]
pub struct LocalClock(Arc<dyn Fn(Timestamp) -> i64 + Send + Sync>);

/// Every shipped model.
#[must_use]
pub fn all(settings: &Settings) -> Vec<Box<dyn Model>> {
    let mut models: Vec<Box<dyn Model>> = vec![
        Box::new(forecast::Forecasts::new(settings.clock.clone(), settings.holidays.clone())),
        Box::<queue::Queues>::default(),
        Box::<cause::Causes>::default(),
        Box::<callees::Callees>::default(),
        Box::<flow::Flows>::default(),
        Box::<plan::Plans>::default(),
        Box::<usage::Usages>::default(),
        Box::<demand::Demands>::default(),
    ];
    models.iter_mut().for_each(|model| model.advise(&settings.advice));
    models
}

/// What a model says of a window of a snapshot, outside of any engine, as if it were final or not: to see how long that takes.
/// `None` for a window that the snapshot does not have.
///
/// # Errors
/// When rows cannot be built.
pub fn rehearse(model: &mut dyn Model, snapshot: &Snapshot, end: Timestamp, is_final: bool) -> Result<Option<RecordBatch>, ArrowError> {
    let window = model.reads().first().and_then(|driver| Seen::of(driver, end, &snapshot.views));
    window.map(|window| model.judge(&window.as_final(is_final))).transpose()
}

// === impl Advice ===

impl Advice {
    /// What is said of a service, or else of all services of its name.
    fn of<'a, T>(said: &'a BTreeMap<ServiceName, T>, key: &ServiceKey) -> Option<&'a T> {
        let of = |namespace: Option<&String>| said.get(&(key.name.clone(), namespace.cloned()));
        of(key.namespace.as_ref()).or_else(|| of(None))
    }
}

// === impl LocalClock ===

impl LocalClock {
    /// A clock by a function.
    #[must_use]
    pub fn new(local: impl Fn(Timestamp) -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(local))
    }

    pub(crate) fn seconds(&self, time: Timestamp) -> i64 {
        (self.0)(time)
    }
}

impl Default for LocalClock {
    fn default() -> Self {
        Self::new(|time| time.as_nanos().div_euclid(1_000_000_000))
    }
}

impl fmt::Debug for LocalClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalClock")
    }
}
