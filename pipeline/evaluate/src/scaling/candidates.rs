//! The policies with their grids: a main knob, from careful to thrifty, and the settings beside it.

use std::time::Duration;

use tracescale_core::policy::PolicySpec;
use tracescale_models::control::{Planner, Settings, Startups, Window};
use tracescale_models::sizing::{Objective, ServiceTime, Station};
use tracescale_simulate::baseline::Baseline;
use tracescale_simulate::baseline::hpa::{Behavior, HpaConfig, HpaMetric, ScalingRules};
use tracescale_simulate::baseline::keda::KedaConfig;
use tracescale_simulate::baseline::kpa::KpaConfig;
use tracescale_simulate::modelled::{Modelled, ModelledError};
use tracescale_simulate::policy::{Measure, Policy};
use tracescale_simulate::random::{Purpose, Stream};
use tracescale_simulate::world::ServiceSpec;

use super::trial::{CORES, PROMISE, REPLICAS, WORK};
use super::workload::Workload;
use tracescale_core::time::Timestamp;

/// Kinds of policies that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// The model.
    Tracescale,
    /// Horizontal pod autoscaler on CPU.
    Hpa,
    /// Knative pod autoscaler on concurrency.
    Kpa,
    /// KEDA on the rate of arrivals.
    Keda,
}

/// Slide of the windows that history is read as.
const SLIDE: Duration = Duration::from_secs(15);
/// Days of history that a planner reads.
const HISTORY: Duration = Duration::from_secs(10 * 86_400);
/// Points of every grid.
const POINTS: u32 = 16;

/// HPA and KEDA: how long lower recommendations are waited for, in seconds.
const WAITS: [u64; 2] = [300, 60];
/// KPA: stable window in seconds, panic threshold in percent, delay of scaling down in seconds.
const WINDOWS: [(u64, f64, u64); 3] = [(60, 200.0, 0), (60, 200.0, 300), (120, 150.0, 60)];

// === impl Family ===

impl Family {
    /// Those that the model is compared with.
    pub(super) const BASELINES: [Self; 3] = [Self::Hpa, Self::Kpa, Self::Keda];

    /// Name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tracescale => "tracescale",
            Self::Hpa => "hpa",
            Self::Kpa => "kpa",
            Self::Keda => "keda",
        }
    }

    /// The main knob from careful to thrifty: the price of a violation minute, or the utilization or concurrency aimed at.
    pub(super) fn knobs(self) -> Vec<f64> {
        let points = (0..POINTS).map(f64::from);
        let last = f64::from(POINTS - 1);
        match self {
            Self::Tracescale => points.map(|place| 20_000.0 * (1.0 / 20_000.0_f64).powf(place / last)).collect(),
            Self::Hpa | Self::Keda => points.map(|place| 0.2 + 0.05 * place).collect(),
            Self::Kpa => points.map(|place| 0.3 + 0.14 * place).collect(),
        }
    }

    /// How many settings there are beside the knob.
    pub(super) fn others(self) -> usize {
        match self {
            Self::Tracescale => 1,
            Self::Hpa | Self::Keda => WAITS.len(),
            Self::Kpa => WINDOWS.len(),
        }
    }

    /// A setting, for people.
    pub(super) fn describe(self, knob: f64, other: usize) -> String {
        match self {
            Self::Tracescale => format!("a violation minute is worth {knob:.0} replica-minutes"),
            Self::Hpa => format!("CPU at {:.0} %, down after {} s", knob * 100.0, WAITS[other]),
            Self::Keda => format!("{:.1} requests/s per replica, down after {} s", threshold(knob), WAITS[other]),
            Self::Kpa => {
                let (window, panic, delay) = WINDOWS[other];
                format!("concurrency {knob:.2}, window {window} s, panic {panic:.0} %, down after {delay} s")
            }
        }
    }
}

/// Requests per second and replica at a utilization.
fn threshold(utilization: f64) -> f64 {
    utilization * f64::from(CORES) / WORK
}

fn seconds(value: u64) -> Duration {
    Duration::from_secs(value)
}

/// A baseline at a setting. The model is none.
pub(super) fn baseline(family: Family, knob: f64, other: usize) -> Option<Box<dyn Policy>> {
    let baseline = match family {
        Family::Tracescale => return None,
        Family::Hpa => Baseline::Hpa(hpa(knob, WAITS[other])),
        Family::Keda => Baseline::Keda(keda(knob, WAITS[other])),
        Family::Kpa => Baseline::Kpa(kpa(knob, WINDOWS[other])),
    };
    Some(baseline.build())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
fn hpa(target: f64, wait: u64) -> HpaConfig {
    let utilization = (target * 100.0).round() as u32;
    HpaConfig {
        metrics: vec![HpaMetric::Cpu { utilization, request: f64::from(CORES) }],
        max_replicas: REPLICAS,
        downscale_stabilization: seconds(wait),
        ..HpaConfig::default()
    }
}

fn kpa(target: f64, (window, panic, delay): (u64, f64, u64)) -> KpaConfig {
    KpaConfig {
        capacity: target,
        target_utilization: 1.0,
        stable_window: seconds(window),
        panic_threshold_percentage: panic,
        scale_down_delay: seconds(delay),
        min_scale: 1,
        max_scale: REPLICAS,
        ..KpaConfig::default()
    }
}

/// Polling and cooldown concern the way from and to zero only, which the promise does not allow here.
fn keda(target: f64, wait: u64) -> KedaConfig {
    let scale_down = ScalingRules { stabilization: Some(seconds(wait)), ..ScalingRules::default() };
    KedaConfig {
        measure: Measure::ArrivalRate,
        threshold: threshold(target),
        min_replicas: 1,
        max_replicas: REPLICAS,
        behavior: Some(Behavior { scale_down, ..Behavior::default() }),
        ..KedaConfig::default()
    }
}

/// A planner that has read the windows before `from`, and the last fifty starts of replicas; as archives have them in production.
/// `None` when the service's promise cannot be kept.
pub(super) fn planner(load: &Workload, service: &ServiceSpec, from: Timestamp, seed: u64) -> Option<Planner> {
    let mut starts = Startups::default();
    let stream = Stream::new(seed, 1, Purpose::Startup);
    for item in 0..50 {
        starts.record(service.startup.sample(&mut stream.of(item)));
    }
    let work = ServiceTime::from_moments(service.service_time.mean(), service.service_time.scv())?;
    let station = Station { pooling: service.balancing.pooling(), ..Station::new(work, f64::from(CORES)) };
    let settings = Settings {
        objective: Objective { latency: PROMISE.latency, quantile: PROMISE.quantile },
        station,
        utilization_max: 0.95,
        replicas_min: 1,
        replicas_max: REPLICAS,
        violation_price: 100.0,
        violation_budget: None,
        pipeline_delay: 10.0,
        interval: 5.0,
        drain: 60.0,
    };
    let mut planner = Planner::new(settings, starts)?;
    let mut noise = Stream::new(seed, 1, Purpose::Arrivals);
    let mut at = load.start.max(from - HISTORY);
    while at < from {
        let rate = load.rates.at(at + SLIDE / 2);
        let counted = (rate + noise.normal() * (rate / SLIDE.as_secs_f64()).sqrt()).max(0.0);
        at = at + SLIDE;
        let end = at.since(Timestamp::EPOCH).as_secs_f64();
        planner.observe(&Window { end, arrival_rate: Some(counted), ..Window::default() });
    }
    Some(planner)
}

/// The model with a price, paced by a budget of violations if there is one, behind its guards.
pub(super) fn modelled(planner: &Planner, price: f64, budget: Option<f64>, guards: PolicySpec) -> Result<Modelled, ModelledError> {
    let mut planner = planner.clone();
    planner.set_violation_price(price);
    planner.set_violation_budget(budget);
    Modelled::new(planner, guards, PROMISE)
}
