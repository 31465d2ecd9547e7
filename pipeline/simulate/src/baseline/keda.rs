//! KEDA with a Prometheus trigger: between one and many it is the horizontal pod autoscaler with an external metric; between
//! zero and one it is KEDA's own poll.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::time::Timestamp;

use super::hpa::{Behavior, Hpa, HpaConfig, by_average, by_value};
use crate::policy::{Measure, MeasurementPath, Policy, Telemetry};

/// Settings of a scaled object with one Prometheus trigger, with KEDA's constants as defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KedaConfig {
    /// What the query gives.
    pub measure: Measure,
    /// `threshold`: how much of it per replica (`AverageValue`) or in all (`Value`).
    pub threshold: f64,
    /// `metricType`.
    pub metric_type: MetricType,
    /// `activationThreshold`: active strictly above.
    pub activation_threshold: f64,
    /// `pollingInterval`; matters between zero and one only.
    #[serde(with = "tracescale_core::duration::text")]
    pub polling_interval: Duration,
    /// `cooldownPeriod`; matters on the way to zero only.
    #[serde(with = "tracescale_core::duration::text")]
    pub cooldown_period: Duration,
    /// `initialCooldownPeriod`.
    #[serde(with = "tracescale_core::duration::text")]
    pub initial_cooldown_period: Duration,
    /// `minReplicaCount`.
    pub min_replicas: u32,
    /// `maxReplicaCount`.
    pub max_replicas: u32,
    /// `idleReplicaCount`.
    pub idle_replicas: Option<u32>,
    /// `ignoreNullValues`: an empty answer is zero, not an error.
    pub ignore_null_values: bool,
    /// `fallback`.
    pub fallback: Option<Fallback>,
    /// `advanced.horizontalPodAutoscalerConfig.behavior`.
    pub behavior: Option<Behavior>,
    /// The way of the query.
    pub path: MeasurementPath,
}

/// How a metric relates to the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MetricType {
    /// Per replica.
    #[default]
    AverageValue,
    /// In all.
    Value,
}

/// What to do when the query fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fallback {
    /// Failures in a row that are borne.
    pub failure_threshold: u32,
    /// Replicas after that.
    pub replicas: u32,
}

/// KEDA.
#[derive(Clone, Debug)]
pub struct Keda {
    config: KedaConfig,
    controller: HpaConfig,
    hpa: Hpa,
    created: Option<Timestamp>,
    last_active: Option<Timestamp>,
    next_poll: Option<Timestamp>,
    failures: u32,
}

// === impl KedaConfig ===

impl Default for KedaConfig {
    fn default() -> Self {
        Self {
            measure: Measure::ArrivalRate,
            threshold: 100.0,
            metric_type: MetricType::AverageValue,
            activation_threshold: 0.0,
            polling_interval: Duration::from_secs(30),
            cooldown_period: Duration::from_secs(300),
            initial_cooldown_period: Duration::ZERO,
            min_replicas: 0,
            max_replicas: 100,
            idle_replicas: None,
            ignore_null_values: true,
            fallback: None,
            behavior: None,
            path: MeasurementPath::PROMETHEUS,
        }
    }
}

// === impl Keda ===

impl Keda {
    /// A scaled object that was just created.
    #[must_use]
    pub fn new(config: KedaConfig) -> Self {
        let controller = HpaConfig {
            min_replicas: config.min_replicas.max(1),
            max_replicas: config.max_replicas,
            metrics: Vec::new(),
            behavior: config.behavior.clone(),
            ..HpaConfig::default()
        };
        let hpa = Hpa::new(controller.clone());
        Self { config, controller, hpa, created: None, last_active: None, next_poll: None, failures: 0 }
    }

    /// The answer of the query, in thousandths as it is served. `None` when it fails.
    fn query(&self, now: Timestamp, seen: &Telemetry) -> Option<f64> {
        let Some(means) = self.config.path.means(now, seen) else {
            return self.config.ignore_null_values.then_some(0.0);
        };
        Some(served(means.get(self.config.measure)))
    }

    /// The poll between zero and one. `None` when it changes nothing.
    fn poll(&mut self, now: Timestamp, current: u32, answer: Option<f64>) -> Option<u32> {
        let config = &self.config;
        let created = *self.created.get_or_insert(now);
        if answer.is_some_and(|value| value > config.activation_threshold) {
            self.last_active = Some(now);
            return (current == 0).then_some(config.min_replicas.max(1));
        }
        answer?;
        let floor = config.idle_replicas.or((config.min_replicas == 0).then_some(0));
        let rested = match self.last_active {
            Some(active) => now >= active + config.cooldown_period,
            None => now >= created + config.initial_cooldown_period,
        };
        match floor {
            Some(floor) if current > floor => rested.then_some(floor),
            _ => (current < config.min_replicas && floor.is_none()).then_some(config.min_replicas),
        }
    }

    /// What the external metric proposes, the fallback included.
    fn propose(&mut self, answer: Option<f64>, seen: &Telemetry) -> Option<u32> {
        self.failures = if answer.is_some() { 0 } else { self.failures.saturating_add(1) };
        let config = &self.config;
        let value = match (answer, config.fallback) {
            (Some(value), _) => value,
            (None, Some(fallback)) if self.failures > fallback.failure_threshold => {
                let replicas = f64::from(fallback.replicas);
                match config.metric_type {
                    MetricType::AverageValue => config.threshold * replicas,
                    MetricType::Value => config.threshold * replicas / f64::from(seen.ready().max(1)),
                }
            }
            (None, _) => return None,
        };
        Some(match config.metric_type {
            MetricType::AverageValue => by_average(&self.controller, seen.existing(), value, config.threshold),
            MetricType::Value => by_value(&self.controller, seen.desired(), seen.ready(), value, config.threshold),
        })
    }
}

impl Policy for Keda {
    fn name(&self) -> String {
        "keda".to_owned()
    }

    /// The sync of the autoscaler that KEDA makes; polls happen at the first sync at which they are due.
    fn interval(&self) -> Duration {
        self.controller.sync_period
    }

    fn tick(&mut self, now: Timestamp, seen: &Telemetry) -> Option<u32> {
        let answer = self.query(now, seen);
        let current = seen.desired();
        if self.next_poll.is_none_or(|due| now >= due) {
            self.next_poll = Some(now + self.config.polling_interval);
            let polled = self.poll(now, current, answer);
            if polled.is_some() {
                return polled;
            }
        }
        // At zero the autoscaler is switched off, and at the idle number KEDA has the word.
        if current == 0 || self.config.idle_replicas == Some(current) {
            return None;
        }
        let proposal = self.propose(answer, seen);
        self.hpa.sync(now, seen, &[proposal])
    }
}

/// A number as the metrics server of KEDA gives it: in thousandths, nothing below zero, nothing infinite.
fn served(value: f64) -> f64 {
    if value.is_finite() && value > 0.0 { (value * 1000.0).round() / 1000.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::{Observation, Phase, ReplicaGroup};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// Telemetry of the two minutes before a time, in which this many requests per second came.
    fn telemetry(second: i64, replicas: u32, rate: Option<f64>) -> Telemetry {
        let mut telemetry = Telemetry::new(Duration::from_secs(300));
        let (from, until) = (at(second - 120), at(second));
        let group = ReplicaGroup {
            first: 0,
            count: replicas,
            phase: Phase::Ready,
            created_at: at(0),
            ready_at: Some(at(0)),
            cpu: 0.0,
            concurrency: 0.0,
        };
        let arrivals = rate.unwrap_or(0.0) * 120.0;
        let observation = Observation { from, until, arrivals, replicas: vec![group], ..Observation::default() };
        telemetry.see(replicas, observation, rate.is_none());
        telemetry
    }

    /// A run of (second, replicas, rate or outage, expected order).
    fn check(config: KedaConfig, rounds: &[(i64, u32, Option<f64>, Option<u32>)]) {
        let mut keda = Keda::new(config);
        for (second, replicas, rate, expected) in rounds {
            let found = keda.tick(at(*second), &telemetry(*second, *replicas, *rate));
            assert_eq!(found, *expected, "at {second} s: {replicas} replicas, {rate:?}/s");
        }
    }

    /// Guarantees: activity above the threshold wakes one replica at a poll, not at every sync; then the autoscaler takes over.
    #[test]
    fn wakes_at_polls() {
        let rounds = [
            (0, 0, Some(0.0), None),
            (15, 0, Some(950.0), None),
            (30, 0, Some(950.0), Some(1)),
            (45, 1, Some(950.0), Some(4)),
            (60, 4, Some(950.0), Some(8)),
            (75, 8, Some(950.0), Some(10)),
            (90, 10, Some(950.0), None),
        ];
        check(KedaConfig::default(), &rounds);
        check(
            KedaConfig { activation_threshold: 50.0, ..KedaConfig::default() },
            &[(0, 0, Some(50.0), None), (30, 0, Some(50.1), Some(1))],
        );
        check(KedaConfig { min_replicas: 3, ..KedaConfig::default() }, &[(0, 0, Some(1.0), Some(3))]);
    }

    /// Guarantees: zero comes a cooldown after the last activity; a service that never was active has its own.
    #[test]
    fn sleeps_after_the_cooldown() {
        let rounds = [(0, 1, Some(5.0), None), (30, 1, Some(0.0), None), (299, 1, Some(0.0), None), (330, 1, Some(0.0), Some(0))];
        check(KedaConfig::default(), &rounds);
        check(KedaConfig::default(), &[(0, 1, Some(0.0), Some(0))]);
        let patient = KedaConfig { initial_cooldown_period: Duration::from_secs(60), ..KedaConfig::default() };
        check(patient, &[(0, 1, Some(0.0), None), (30, 1, Some(0.0), None), (60, 1, Some(0.0), Some(0))]);
    }

    /// Guarantees: an idle number is the floor instead of zero; with a minimum there is no way to zero, and up to it from below.
    #[test]
    fn floors() {
        let idle = KedaConfig { idle_replicas: Some(1), min_replicas: 3, ..KedaConfig::default() };
        check(idle, &[(0, 3, Some(9.0), None), (300, 3, Some(0.0), Some(1)), (330, 1, Some(0.0), None)]);
        let least = KedaConfig { min_replicas: 2, ..KedaConfig::default() };
        check(least, &[(0, 2, Some(0.0), None), (30, 1, Some(0.0), Some(2))]);
    }

    /// Guarantees: an outage is zero by default, which scales to zero; an error without that; a fallback after failures.
    #[test]
    fn outages() {
        check(KedaConfig::default(), &[(0, 4, Some(400.0), None), (300, 4, None, Some(0))]);
        let strict = KedaConfig { ignore_null_values: false, ..KedaConfig::default() };
        check(strict.clone(), &[(0, 4, Some(400.0), None), (300, 4, None, None), (900, 4, None, None)]);
        let fallback = Some(Fallback { failure_threshold: 1, replicas: 6 });
        check(KedaConfig { fallback, ..strict.clone() }, &[(0, 4, None, None), (15, 4, None, Some(6))]);
        let by_value = KedaConfig { fallback, metric_type: MetricType::Value, ..strict };
        // The metric is 100 · 6 / 4, the proposal 4 ready · 1.5.
        check(by_value, &[(0, 4, None, None), (15, 4, None, Some(6))]);
    }

    /// Guarantees: answers are served in thousandths; what is no number is zero.
    #[test]
    fn served_numbers() {
        assert!((served(1.234_56) - 1.235).abs() < 1e-12);
        assert!([f64::NAN, f64::INFINITY, -3.0].map(served).iter().all(|value| value.abs() < 1e-12));
    }
}
