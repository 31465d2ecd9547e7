//! The seasonal baseline that people really run: the largest demand of the half hour that followed this moment one season ago,
//! as one more metric of a horizontal pod autoscaler.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::time::Timestamp;

use super::hpa::{Hpa, HpaConfig};
use crate::number::whole;
use crate::policy::{Measure, MeasurementPath, Policy, Telemetry};

/// Resolution of the remembered demand.
const MINUTE: Duration = Duration::from_secs(60);
/// Most minutes remembered: a bit more than nine weeks.
const MINUTES_MAX: usize = 100_000;

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SeasonalConfig {
    /// The autoscaler that this is added to.
    pub hpa: HpaConfig,
    /// Length of a season.
    #[serde(with = "tracescale_core::duration::text")]
    pub period: Duration,
    /// How far ahead to look.
    #[serde(with = "tracescale_core::duration::text")]
    pub ahead: Duration,
    /// What demand is.
    pub measure: Measure,
    /// How much of it per replica.
    pub target: f64,
    /// The way of the measurement; its window is not used.
    pub path: MeasurementPath,
}

/// An autoscaler with a memory of one season.
#[derive(Clone, Debug)]
pub struct Seasonal {
    config: SeasonalConfig,
    hpa: Hpa,
    /// Mean demand by minute: when the minute began, how much.
    history: VecDeque<(Timestamp, f64)>,
}

// === impl SeasonalConfig ===

impl Default for SeasonalConfig {
    fn default() -> Self {
        Self {
            hpa: HpaConfig::default(),
            period: Duration::from_secs(7 * 86_400),
            ahead: Duration::from_secs(1_800),
            measure: Measure::ArrivalRate,
            target: 100.0,
            path: MeasurementPath::PROMETHEUS,
        }
    }
}

// === impl Seasonal ===

impl Seasonal {
    /// An autoscaler without a memory yet.
    #[must_use]
    pub fn new(config: SeasonalConfig) -> Self {
        let hpa = Hpa::new(config.hpa.clone());
        Self { config, hpa, history: VecDeque::new() }
    }

    /// Demand of the past, one number per minute from `start` on, as if it had been seen.
    pub fn remember(&mut self, start: Timestamp, demand: &[f64]) {
        let mut at = start.floor(MINUTE);
        for value in demand {
            self.push(at, *value);
            at = at + MINUTE;
        }
    }

    fn push(&mut self, at: Timestamp, demand: f64) {
        let old = at - self.config.period;
        while self.history.front().is_some_and(|(first, _)| *first < old) || self.history.len() >= MINUTES_MAX {
            self.history.pop_front();
        }
        self.history.push_back((at, demand));
    }

    /// Takes note of the minutes that were completed since the last one.
    fn learn(&mut self, now: Timestamp, seen: &Telemetry) {
        let end = self.config.path.visible(now).floor(MINUTE);
        let oldest = end - 10 * MINUTE;
        let mut from = self.history.back().map_or(end - MINUTE, |(last, _)| *last + MINUTE).max(oldest);
        while from < end {
            if let Some(means) = seen.over(from, from + MINUTE) {
                self.push(from, means.get(self.config.measure));
            }
            from = from + MINUTE;
        }
    }

    /// Replicas for the largest demand of the next half hour, one season ago. `None` when nothing is remembered of it.
    fn propose(&self, now: Timestamp) -> Option<u32> {
        let from = (now - self.config.period).floor(MINUTE);
        let until = from + self.config.ahead;
        let start = self.history.partition_point(|(at, _)| *at < from);
        let ahead = self.history.iter().skip(start).take_while(|(at, _)| *at <= until);
        let most = ahead.map(|(_, demand)| *demand).reduce(f64::max)?;
        Some(whole((most / self.config.target - 1e-9).ceil()))
    }
}

impl Policy for Seasonal {
    fn name(&self) -> String {
        "seasonal".to_owned()
    }

    fn interval(&self) -> Duration {
        self.hpa.interval()
    }

    fn tick(&mut self, now: Timestamp, seen: &Telemetry) -> Option<u32> {
        self.learn(now, seen);
        match self.propose(now) {
            Some(proposal) => self.hpa.sync(now, seen, &[Some(proposal)]),
            // Without a memory it is the autoscaler alone, not an autoscaler with a broken metric.
            None => self.hpa.sync(now, seen, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::Observation;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// Guarantees: the largest demand within the window counts, both edges included, and none outside of it.
    #[test]
    fn looks_at_the_season_before() {
        let period = Duration::from_secs(86_400);
        let mut seasonal = Seasonal::new(SeasonalConfig { period, ..SeasonalConfig::default() });
        let mut demand = vec![50.0; 24 * 60];
        demand[60] = 410.0;
        seasonal.remember(at(0), &demand);
        let day = 86_400;
        for (minute, expected) in [(29, 1), (30, 5), (60, 5), (61, 1)] {
            assert_eq!(seasonal.propose(at(day + minute * 60 + 59)), Some(expected), "minute {minute}");
        }
        assert_eq!(seasonal.propose(at(-day)), None);
    }

    /// Guarantees: minutes are learned once each, from complete data, and forgotten after a season.
    #[test]
    fn learns_by_the_minute() {
        let config = SeasonalConfig { period: Duration::from_secs(600), ..SeasonalConfig::default() };
        let mut seasonal = Seasonal::new(config);
        let mut telemetry = Telemetry::new(Duration::from_secs(1200));
        for step in 1..=100 {
            let (from, until) = (at((step - 1) * 15), at(step * 15));
            telemetry.see(1, Observation { from, until, arrivals: 15.0 * 7.0, ..Observation::default() }, false);
            seasonal.tick(until, &telemetry);
        }
        let times: Vec<i64> = seasonal.history.iter().map(|(at, _)| at.as_nanos() / 60_000_000_000).collect();
        assert_eq!(times, (13..=23).collect::<Vec<_>>());
        assert!(seasonal.history.iter().all(|(_, demand)| (demand - 7.0).abs() < 1e-9));
    }
}
