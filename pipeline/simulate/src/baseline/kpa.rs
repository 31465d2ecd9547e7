//! The Knative pod autoscaler: concurrency (or requests per second) over a stable and a panic window.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::time::Timestamp;

use crate::number::{duration, whole};
use crate::policy::{Measure, MeasurementPath, Policy, Telemetry};

/// Lowest target per replica.
const TARGET_LEAST: f64 = 0.01;
/// Wants kept at most for a delay of scaling down.
const WANTS_MAX: usize = 100_000;
/// Absorbs what binary fractions add to a quotient.
const ROUNDING: f64 = 1e-9;

/// Settings, with the constants of `config-autoscaler` as defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KpaConfig {
    /// Time between decisions.
    #[serde(with = "tracescale_core::duration::text")]
    pub tick: Duration,
    /// What is measured: concurrency or the rate of arrivals.
    pub measure: Measure,
    /// What a replica can take: the container's concurrency, or 200 for requests per second.
    pub capacity: f64,
    /// Share of the capacity that is aimed at.
    pub target_utilization: f64,
    /// The stable window.
    #[serde(with = "tracescale_core::duration::text")]
    pub stable_window: Duration,
    /// The panic window, in hundredths of the stable one.
    pub panic_window_percentage: f64,
    /// Panic begins when this many hundredths of the ready replicas are wanted.
    pub panic_threshold_percentage: f64,
    /// Most replicas wanted, relative to those that are ready.
    pub max_scale_up_rate: f64,
    /// Fewest replicas wanted: those that are ready divided by this.
    pub max_scale_down_rate: f64,
    /// Requests that a revision must be able to take on at once; only used to tell whether the activator is in the path.
    pub target_burst_capacity: f64,
    /// Time between becoming inactive and zero replicas.
    #[serde(with = "tracescale_core::duration::text")]
    pub scale_to_zero_grace: Duration,
    /// Least time that the last replica is kept.
    #[serde(with = "tracescale_core::duration::text")]
    pub retention: Duration,
    /// How long a lower want must last.
    #[serde(with = "tracescale_core::duration::text")]
    pub scale_down_delay: Duration,
    /// Replicas of a new revision.
    pub initial_scale: u32,
    /// Replicas when anything is wanted at all; counts only above 1.
    pub activation_scale: Option<u32>,
    /// Fewest replicas.
    pub min_scale: u32,
    /// Most replicas; 0 is no bound.
    pub max_scale: u32,
    /// The way of measurements; its window is not used.
    pub path: MeasurementPath,
}

/// A Knative pod autoscaler.
#[derive(Clone, Debug)]
pub struct Kpa {
    config: KpaConfig,
    state: State,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Since when it panics, or when panic was last renewed.
    panic_since: Option<Timestamp>,
    /// Most replicas wanted in this panic.
    panic_most: u32,
    wants: VecDeque<(Timestamp, u32)>,
    started: bool,
    /// Whether the initial scale was reached.
    initialized: bool,
    /// Since when the revision is active; `None` while inactive.
    active_since: Option<Timestamp>,
    inactive_since: Option<Timestamp>,
}

/// What a decision is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Situation {
    ready: u32,
    stable: f64,
    panic: f64,
}

// === impl KpaConfig ===

impl Default for KpaConfig {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(2),
            measure: Measure::Concurrency,
            capacity: 100.0,
            target_utilization: 0.7,
            stable_window: Duration::from_secs(60),
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            target_burst_capacity: 211.0,
            scale_to_zero_grace: Duration::from_secs(30),
            retention: Duration::ZERO,
            scale_down_delay: Duration::ZERO,
            initial_scale: 1,
            activation_scale: None,
            min_scale: 0,
            max_scale: 0,
            path: MeasurementPath::PROXY,
        }
    }
}

// === impl Kpa ===

impl Kpa {
    /// An autoscaler that has not run yet.
    #[must_use]
    pub fn new(config: KpaConfig) -> Self {
        Self { config, state: State::default() }
    }

    /// Room for a burst beyond what is wanted; below zero the activator stays in the path. Counts replicas that really serve.
    #[must_use]
    pub fn excess_burst_capacity(&self, ready: u32, panic_mean: f64) -> f64 {
        let capacity = self.config.target_burst_capacity;
        if capacity > 0.0 {
            (f64::from(ready) * self.config.capacity - capacity - panic_mean).floor()
        } else if capacity < 0.0 {
            -1.0
        } else {
            0.0
        }
    }

    /// What the windows want, before bounds and before zero is dealt with.
    fn want(&mut self, now: Timestamp, situation: Situation) -> u32 {
        let config = &self.config;
        let target = (config.capacity * config.target_utilization).max(TARGET_LEAST);
        let ready = f64::from(situation.ready.max(1));
        let (most, least) = ((config.max_scale_up_rate * ready).ceil(), (ready / config.max_scale_down_rate).floor());
        let [stable, panic] = [situation.stable, situation.panic].map(|mean| (mean / target - ROUNDING).ceil().max(0.0));
        let bound = |wanted: f64| {
            let bounded = whole(wanted.max(least).min(most));
            match config.activation_scale {
                Some(scale) if scale > 1 && wanted > 0.0 => bounded.max(scale),
                _ => bounded,
            }
        };
        let (want_stable, want_panic) = (bound(stable), bound(panic));
        let state = &mut self.state;
        if panic / ready >= config.panic_threshold_percentage / 100.0 {
            state.panic_since = Some(now);
        } else if state.panic_since.is_some_and(|since| since + config.stable_window < now) {
            state.panic_since = None;
            state.panic_most = 0;
        }
        let mut want = want_stable;
        if state.panic_since.is_some() {
            // In panic the number never falls.
            state.panic_most = state.panic_most.max(want_stable).max(want_panic);
            want = state.panic_most;
        }
        if config.scale_down_delay > Duration::ZERO {
            let since = now - config.scale_down_delay;
            state.wants.retain(|(at, _)| *at > since);
            if state.wants.len() >= WANTS_MAX {
                state.wants.pop_front();
            }
            state.wants.push_back((now, want));
            want = state.wants.iter().map(|(_, wanted)| *wanted).max().unwrap_or(want);
        }
        want
    }

    /// Bounds and the initial scale.
    fn bounded(&mut self, want: u32, ready: u32) -> u32 {
        let config = &self.config;
        self.state.initialized |= ready >= config.initial_scale;
        let mut want = want.max(config.min_scale);
        if !self.state.initialized {
            want = want.max(config.initial_scale);
        }
        if config.max_scale > 0 { want.min(config.max_scale) } else { want }
    }

    /// Zero is reached in steps: active for a stable window, then inactive for the grace.
    fn slow_to_zero(&mut self, now: Timestamp, want: u32, current: u32) -> u32 {
        let (config, state) = (&self.config, &mut self.state);
        if want > 0 {
            state.inactive_since = None;
            state.active_since.get_or_insert(now);
            return want;
        }
        if current == 0 {
            return 0;
        }
        if let Some(since) = state.active_since {
            if now < since + config.stable_window {
                return 1;
            }
            state.active_since = None;
            state.inactive_since = Some(now);
        }
        let since = *state.inactive_since.get_or_insert(now);
        if now >= since + config.scale_to_zero_grace.max(config.retention) { 0 } else { 1 }
    }
}

impl Policy for Kpa {
    fn name(&self) -> String {
        "kpa".to_owned()
    }

    fn interval(&self) -> Duration {
        self.config.tick
    }

    fn tick(&mut self, now: Timestamp, seen: &Telemetry) -> Option<u32> {
        let ready = seen.ready();
        if !self.state.started {
            self.state.started = true;
            self.state.active_since = (seen.desired() > 0).then_some(now);
            // A scaler that is born to several replicas cannot know why they are there.
            if ready > 1 {
                self.state.panic_since = Some(now);
                self.state.panic_most = ready;
            }
        }
        let end = self.config.path.visible(now);
        let panic_window = duration(self.config.stable_window.as_secs_f64() * self.config.panic_window_percentage / 100.0);
        // No data keep the last decision.
        let stable = seen.over(end - self.config.stable_window, end)?.get(self.config.measure);
        let panic = seen.over(end - panic_window, end)?.get(self.config.measure);
        let want = self.want(now, Situation { ready, stable, panic });
        let want = self.bounded(want, ready);
        let want = self.slow_to_zero(now, want, seen.desired());
        (want != seen.desired()).then_some(want)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// A run of (second, ready, stable mean, panic mean, expected want).
    fn check(config: KpaConfig, rounds: &[(i64, u32, f64, f64, u32)]) {
        let mut kpa = Kpa::new(config);
        for (second, ready, stable, panic, expected) in rounds {
            let want = kpa.want(at(*second), Situation { ready: *ready, stable: *stable, panic: *panic });
            assert_eq!(want, *expected, "at {second} s: {ready} ready, {stable} stable, {panic} panic");
        }
    }

    /// Guarantees: 70 concurrent requests per replica, rounded up; never less than half of those ready.
    #[test]
    fn stable_mode() {
        check(KpaConfig::default(), &[(0, 1, 70.0, 70.0, 1), (2, 1, 70.1, 70.0, 2), (4, 3, 200.0, 200.0, 3), (6, 9, 70.0, 0.0, 4)]);
        check(KpaConfig::default(), &[(0, 1, 0.0, 0.0, 0), (2, 2, 0.0, 0.0, 1)]);
    }

    /// Guarantees: panic at twice the ready replicas, no fall in panic, and its end 60 s after it was last renewed.
    #[test]
    fn panic_mode() {
        // 279 / 70 is 4 of 2 ready. 300 / 70 is 5 of 4, which renews nothing: panic began at 0 and ends past 60 s.
        let once =
            [(0, 2, 100.0, 279.0, 4), (2, 4, 100.0, 300.0, 5), (4, 5, 100.0, 0.0, 5), (60, 5, 100.0, 0.0, 5), (61, 5, 100.0, 0.0, 2)];
        check(KpaConfig::default(), &once);
        let renewed =
            [(0, 2, 100.0, 279.0, 4), (2, 2, 100.0, 279.0, 4), (61, 4, 100.0, 0.0, 4), (62, 4, 100.0, 0.0, 4), (63, 4, 100.0, 0.0, 2)];
        check(KpaConfig::default(), &renewed);
    }

    /// Guarantees: the limits of the rates, the delay of scaling down, and the activation scale above 1 only.
    #[test]
    fn limits_by_hand() {
        let slow = KpaConfig { max_scale_up_rate: 2.0, ..KpaConfig::default() };
        check(slow, &[(0, 3, 7000.0, 0.0, 6)]);
        let delayed = KpaConfig { scale_down_delay: Duration::from_secs(10), ..KpaConfig::default() };
        check(delayed, &[(0, 4, 280.0, 0.0, 4), (2, 4, 140.0, 0.0, 4), (9, 4, 140.0, 0.0, 4), (10, 4, 140.0, 0.0, 2)]);
        let awake = KpaConfig { activation_scale: Some(3), ..KpaConfig::default() };
        check(awake, &[(0, 1, 1.0, 0.0, 3), (2, 1, 0.0, 0.0, 0)]);
        check(KpaConfig { activation_scale: Some(1), ..KpaConfig::default() }, &[(0, 1, 1.0, 0.0, 1)]);
        check(KpaConfig { capacity: 0.0, ..KpaConfig::default() }, &[(0, 1, 0.05, 0.0, 5)]);
    }

    /// Guarantees: zero only after a stable window of activity and the grace; a want in between starts over.
    #[test]
    fn zero_takes_its_time() {
        let mut kpa = Kpa::new(KpaConfig::default());
        kpa.state.active_since = Some(at(0));
        let rounds = [(30, 0, 1), (59, 0, 1), (60, 0, 1), (89, 0, 1), (90, 0, 0)];
        for (second, want, expected) in rounds {
            assert_eq!(kpa.slow_to_zero(at(second), want, 1), expected, "at {second} s");
        }
        assert_eq!(kpa.slow_to_zero(at(100), 2, 0), 2);
        assert_eq!([(159, 1), (160, 1), (190, 0)].map(|(second, _)| kpa.slow_to_zero(at(second), 0, 1)), [1, 1, 0]);
    }

    /// Guarantees: bounds hold, the initial scale only until it was reached.
    #[test]
    fn bounds_and_initial_scale() {
        let mut kpa = Kpa::new(KpaConfig { initial_scale: 3, min_scale: 1, max_scale: 5, ..KpaConfig::default() });
        assert_eq!([kpa.bounded(0, 1), kpa.bounded(9, 1), kpa.bounded(0, 3), kpa.bounded(0, 1)], [3, 5, 1, 1]);
    }

    /// Guarantees: the burst capacity counts real replicas, and its special values.
    #[test]
    fn burst_capacity() {
        let kpa = |target_burst_capacity| Kpa::new(KpaConfig { target_burst_capacity, ..KpaConfig::default() });
        assert!((kpa(211.0).excess_burst_capacity(3, 50.5) - 38.0).abs() < 1e-9);
        assert!((kpa(211.0).excess_burst_capacity(0, 0.0) + 211.0).abs() < 1e-9);
        assert!(kpa(0.0).excess_burst_capacity(1, 9e9).abs() < 1e-9 && (kpa(-1.0).excess_burst_capacity(9, 0.0) + 1.0).abs() < 1e-9);
    }
}
