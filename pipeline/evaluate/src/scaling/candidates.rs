//! The grids: every policy with its main knob and its other settings.

use std::time::Duration;

use tracescale_simulate::baseline::Baseline;
use tracescale_simulate::baseline::hpa::{HpaConfig, HpaMetric};
use tracescale_simulate::baseline::hpa::{Behavior, ScalingRules};
use tracescale_simulate::baseline::keda::KedaConfig;
use tracescale_simulate::baseline::kpa::KpaConfig;
use tracescale_simulate::policy::Measure;

use super::trial::{CORES, REPLICAS, WORK};

pub(super) const HPA: [f64; 9] = [0.25, 0.35, 0.45, 0.55, 0.65, 0.7, 0.75, 0.8, 0.9];
pub(super) const KPA: [f64; 8] = [0.5, 0.7, 0.9, 1.1, 1.3, 1.6, 1.9, 2.4];
pub(super) const KEDA: [f64; 9] = [0.25, 0.35, 0.45, 0.55, 0.65, 0.72, 0.78, 0.84, 0.9];

fn seconds(value: u64) -> Duration {
    Duration::from_secs(value)
}

pub(super) fn hpa(target: f64, other: usize) -> Baseline {
    let utilization = (target * 100.0).round() as u32;
    Baseline::Hpa(HpaConfig {
        metrics: vec![HpaMetric::Cpu { utilization, request: f64::from(CORES) }],
        max_replicas: REPLICAS,
        downscale_stabilization: [seconds(300), seconds(60), seconds(900)][other],
        ..HpaConfig::default()
    })
}

pub(super) fn kpa(target: f64, other: usize) -> Baseline {
    let (window, panic, delay) = [(60, 200.0, 0), (60, 200.0, 300), (300, 200.0, 0), (60, 120.0, 300), (60, 1000.0, 300)][other];
    Baseline::Kpa(KpaConfig {
        capacity: target,
        target_utilization: 1.0,
        stable_window: seconds(window),
        panic_threshold_percentage: panic,
        scale_down_delay: seconds(delay),
        min_scale: 1,
        max_scale: REPLICAS,
        ..KpaConfig::default()
    })
}

pub(super) fn keda(target: f64, other: usize) -> Baseline {
    let behavior = Behavior {
        scale_down: ScalingRules { stabilization: Some([seconds(300), seconds(60), seconds(900)][other]), ..ScalingRules::default() },
        ..Behavior::default()
    };
    Baseline::Keda(KedaConfig {
        measure: Measure::ArrivalRate,
        threshold: target * f64::from(CORES) / WORK,
        min_replicas: 1,
        max_replicas: REPLICAS,
        behavior: Some(behavior),
        ..KedaConfig::default()
    })
}
