//! The horizontal pod autoscaler (`autoscaling/v2`), as its controller computes: legacy path and behaviours, readiness, missing
//! metrics, tolerance, stabilization, rate limits.
//!
//! `Object` metrics are [`HpaMetric::ExternalValue`] or [`HpaMetric::ExternalAverage`] of the object; `ContainerResource` is the
//! same as the resource of a pod with one container.

mod config;
mod limits;
mod proposal;

use std::time::Duration;

use tracescale_core::time::Timestamp;

pub use config::{Behavior, HpaConfig, HpaMetric, Rate, RateKind, ScalingRules, Select};

pub(crate) use limits::Memory;
use proposal::{Target, per_pod, pods};
pub(crate) use proposal::{by_average, by_value};

use crate::policy::{Measure, Policy, Telemetry};

/// A horizontal pod autoscaler.
#[derive(Clone, Debug)]
pub struct Hpa {
    config: HpaConfig,
    memory: Memory,
}

// === impl Hpa ===

impl Hpa {
    /// An autoscaler that has not run yet.
    #[must_use]
    pub fn new(config: HpaConfig) -> Self {
        Self { config, memory: Memory::default() }
    }

    /// One sync; `further` proposals compete with those of the metrics.
    pub(crate) fn sync(&mut self, now: Timestamp, seen: &Telemetry, further: &[Option<u32>]) -> Option<u32> {
        let mut proposals: Vec<Option<u32>> = self.config.metrics.iter().map(|metric| self.propose(now, seen, metric)).collect();
        proposals.extend(further);
        self.memory.decide(&self.config, now, seen.desired(), &proposals)
    }

    fn propose(&self, now: Timestamp, seen: &Telemetry, metric: &HpaMetric) -> Option<u32> {
        let (config, current) = (&self.config, seen.desired());
        match *metric {
            HpaMetric::Cpu { utilization, request } => {
                let pods = pods(now, config, seen, config.cpu_path.visible(now), |group| group.cpu);
                per_pod(config, now, current, &pods, Target::Utilization { percent: utilization, request })
            }
            HpaMetric::Pods { measure: Measure::Cpu, average_value } => {
                let pods = pods(now, config, seen, config.metrics_path.visible(now), |group| group.cpu);
                per_pod(config, now, current, &pods, Target::Average(average_value))
            }
            HpaMetric::Pods { measure: Measure::Concurrency, average_value } => {
                let pods = pods(now, config, seen, config.metrics_path.visible(now), |group| group.concurrency);
                per_pod(config, now, current, &pods, Target::Average(average_value))
            }
            HpaMetric::Pods { measure, average_value } => {
                // Every replica gets its share of what is measured of the service.
                let share = self.measure(now, seen, measure)? / f64::from(seen.ready().max(1));
                let pods = pods(now, config, seen, config.metrics_path.visible(now), |_| share);
                per_pod(config, now, current, &pods, Target::Average(average_value))
            }
            HpaMetric::ExternalAverage { measure, average_value } => {
                Some(by_average(config, seen.existing(), self.measure(now, seen, measure)?, average_value))
            }
            HpaMetric::ExternalValue { measure, value } => {
                Some(by_value(config, current, seen.ready(), self.measure(now, seen, measure)?, value))
            }
        }
    }

    fn measure(&self, now: Timestamp, seen: &Telemetry, measure: Measure) -> Option<f64> {
        Some(self.config.metrics_path.means(now, seen)?.get(measure))
    }
}

impl Policy for Hpa {
    fn name(&self) -> String {
        "hpa".to_owned()
    }

    fn interval(&self) -> Duration {
        self.config.sync_period
    }

    fn tick(&mut self, now: Timestamp, seen: &Telemetry) -> Option<u32> {
        self.sync(now, seen, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::{Observation, Phase, ReplicaGroup};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn group(first: u64, count: u32, created: i64, cpu: f64) -> ReplicaGroup {
        let (created_at, ready_at) = (at(created), Some(at(created)));
        ReplicaGroup { first, count, phase: Phase::Ready, created_at, ready_at, cpu, concurrency: 2.0 * cpu }
    }

    /// Telemetry of 15 s observations until 1200 s, in which CPU per pod is 0.5 until 1185 s and 1 after.
    fn telemetry() -> Telemetry {
        let mut telemetry = Telemetry::new(Duration::from_secs(600));
        for step in 0..80 {
            let until = (step + 1) * 15;
            let cpu = if until <= 1185 { 0.5 } else { 1.0 };
            let replicas = vec![group(0, 4, -1000, cpu)];
            let observation = Observation { from: at(step * 15), until: at(until), arrivals: 600.0, replicas, ..Observation::default() };
            telemetry.see(4, observation, false);
        }
        telemetry
    }

    /// Guarantees: the autoscaler acts on CPU as old as its path makes it, and not earlier.
    #[test]
    fn acts_on_delayed_measurements() {
        let config = HpaConfig { metrics: vec![HpaMetric::Cpu { utilization: 50, request: 1.0 }], ..HpaConfig::default() };
        let mut hpa = Hpa::new(config);
        // At 1200 s the newest visible data end at 1182.5 s.
        assert_eq!(hpa.tick(at(1200), &telemetry()), None);
        // At 1215 s they end at 1202.5 s: 100 % of a request at a target of 50 %.
        assert_eq!(hpa.tick(at(1215), &telemetry()), Some(8));
    }

    /// Guarantees: every kind of metric is computed from its own measurement.
    #[test]
    fn kinds_of_metrics() {
        let propose = |metric| {
            let hpa = Hpa::new(HpaConfig { metrics: vec![metric], ..HpaConfig::default() });
            hpa.propose(at(1215), &telemetry(), &hpa.config.metrics[0])
        };
        let measure = Measure::ArrivalRate;
        assert_eq!(propose(HpaMetric::ExternalAverage { measure, average_value: 8.0 }), Some(5));
        assert_eq!(propose(HpaMetric::ExternalValue { measure, value: 20.0 }), Some(8));
        assert_eq!(propose(HpaMetric::Pods { measure, average_value: 5.0 }), Some(8));
        assert_eq!(propose(HpaMetric::Pods { measure: Measure::Concurrency, average_value: 1.0 }), Some(8));
        assert_eq!(propose(HpaMetric::Pods { measure: Measure::Cpu, average_value: 0.25 }), Some(16));
    }

    /// Guarantees: replicas that were created after the sample are pending or missing, never busy.
    #[test]
    fn new_replicas_have_no_sample() {
        let mut telemetry = telemetry();
        let replicas = vec![group(0, 4, -1000, 1.0), group(4, 2, 1201, 0.0)];
        telemetry.see(6, Observation { from: at(1200), until: at(1210), replicas, ..Observation::default() }, false);
        let config = HpaConfig::default();
        let found = pods(at(1215), &config, &telemetry, at(1202), |group| group.cpu);
        assert_eq!(found.iter().map(|pod| (pod.count, pod.sample.is_some())).collect::<Vec<_>>(), [(4, true), (2, false)]);
        // 100 % of 80 %, with two of six idle: 66 % of 80 %: the direction turned.
        assert_eq!(per_pod(&config, at(1215), 6, &found, Target::Utilization { percent: 80, request: 1.0 }), Some(6));
    }

    /// Guarantees: no measurement is no decision.
    #[test]
    fn outage_changes_nothing() {
        let mut silent = Telemetry::new(Duration::from_secs(600));
        let replicas = vec![group(0, 4, -1000, 1.0)];
        silent.see(4, Observation { until: at(1200), replicas, ..Observation::default() }, true);
        assert_eq!(Hpa::new(HpaConfig::default()).tick(at(1215), &silent), None);
    }

    /// Guarantees: an empty document is the constants of the controller.
    #[test]
    fn defaults_of_the_controller() {
        let config: HpaConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, HpaConfig::default());
        assert_eq!((config.min_replicas, config.sync_period.as_secs(), config.downscale_stabilization.as_secs()), (1, 15, 300));
        assert_eq!((config.cpu_initialization.as_secs(), config.initial_readiness.as_secs()), (300, 30));
        assert_eq!((config.tolerances(), config.behavior.is_none()), ((0.1, 0.1), true));
        assert_eq!(config.metrics, [HpaMetric::Cpu { utilization: 80, request: 1.0 }]);
    }
}
