//! The shipped models: views of what the pure models make of other views, service by service, with what they learned so far.
//!
//! ```text
//! service_sojourn ─▶ service_forecast     service_summary ─▶ service_queue ─▶ service_plan ◀─ service_pulse
//! service_summary, calls ─▶ service_cause metric_gauges ─▶ service_usage
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tracescale_core::time::Timestamp;

use crate::model::{Model, Seen};
use crate::snapshot::Snapshot;

mod cause;
mod forecast;
mod plan;
mod queue;
mod rows;
mod usage;
mod utilization;

/// Services that a model keeps in mind; further ones are not judged. A forecaster takes some hundred kilobytes.
pub(crate) const SERVICES_MAX: usize = 2000;

/// What the shipped models must be told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The clock on the wall of the people whose habits make the load.
    pub clock: LocalClock,
    /// Local days (since 1970-01-01) on which they behave as on holidays.
    pub holidays: Vec<i64>,
    /// Requests that a replica of a service (name, namespace; any namespace where there is none) works on at once. One where
    /// nothing is said.
    pub servers: BTreeMap<ServiceName, f64>,
    /// What was promised of services.
    pub promises: BTreeMap<ServiceName, Promise>,
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
    /// Requests that a replica works on at once.
    pub servers: f64,
}

/// Tells the local time of an instant, in seconds since the epoch as if the clock on the wall showed UTC.
#[derive(Clone)]
pub struct LocalClock(Arc<dyn Fn(Timestamp) -> i64 + Send + Sync>);

/// Every shipped model.
#[must_use]
pub fn all(settings: &Settings) -> Vec<Box<dyn Model>> {
    vec![
        Box::new(forecast::Forecasts::new(settings.clock.clone(), settings.holidays.clone())),
        Box::new(queue::Queues::new(settings.servers.clone())),
        Box::<cause::Causes>::default(),
        Box::new(plan::Plans::new(settings.promises.clone())),
        Box::<usage::Usages>::default(),
    ]
}

/// What a model says of a window of a snapshot, outside of any engine: to see how long that takes.
///
/// # Errors
/// When rows cannot be built.
pub fn rehearse(model: &mut dyn Model, snapshot: &Snapshot, end: Timestamp, is_final: bool) -> Result<RecordBatch, ArrowError> {
    model.judge(&Seen::new(end, is_final, &snapshot.views))
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
