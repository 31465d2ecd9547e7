//! From the largest proposal to what is ordered: stabilization and rate limits, on both of the autoscaler's paths.

use std::collections::VecDeque;
use std::time::Duration;

use tracescale_core::time::Timestamp;

use super::config::{HpaConfig, Rate, RateKind, ScalingRules, Select};
use crate::number::whole;

/// Recommendations and events kept at most; far above an hour of syncs.
const MEMORY_MAX: usize = 10_000;

/// What the autoscaler remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Proposals before stabilization, oldest first.
    recommendations: VecDeque<(Timestamp, u32)>,
    /// Changes that were ordered, oldest first; only kept when there are behaviours.
    events: VecDeque<(Timestamp, i64)>,
}

// === impl Memory ===

impl Memory {
    /// What to order, given the proposal of each metric (`None`: invalid). `None` when nothing changes.
    pub(crate) fn decide(&mut self, config: &HpaConfig, now: Timestamp, current: u32, proposals: &[Option<u32>]) -> Option<u32> {
        if self.recommendations.is_empty() {
            self.recommendations.push_back((now, current));
        }
        if current == 0 && config.min_replicas != 0 {
            return None;
        }
        let desired = if current > config.max_replicas {
            config.max_replicas
        } else if current < config.min_replicas {
            config.min_replicas
        } else {
            let proposal = largest(current, proposals)?;
            match &config.behavior {
                None => self.legacy(config, now, current, proposal),
                Some(behavior) => {
                    let (up, down) = (&behavior.scale_up, &behavior.scale_down);
                    let stable = self.stabilize(config, now, current, proposal, up, down);
                    self.limit(config, now, current, stable, up, down)
                }
            }
        };
        if desired == current {
            return None;
        }
        if config.behavior.is_some() {
            push(&mut self.events, (now, i64::from(desired) - i64::from(current)));
        }
        Some(desired)
    }

    /// Without behaviours: the largest of the last five minutes, and at most double.
    fn legacy(&mut self, config: &HpaConfig, now: Timestamp, current: u32, proposal: u32) -> u32 {
        let since = now - config.downscale_stabilization;
        self.recommendations.retain(|(at, _)| *at >= since);
        let stable = self.recommendations.iter().map(|(_, replicas)| *replicas).fold(proposal, u32::max);
        push(&mut self.recommendations, (now, proposal));
        let most = config.max_replicas.min(current.saturating_mul(2).max(4));
        stable.clamp(config.min_replicas.min(most), most)
    }

    /// With behaviours: a window in each direction, within which the least eager recommendation holds.
    fn stabilize(
        &mut self,
        config: &HpaConfig,
        now: Timestamp,
        current: u32,
        proposal: u32,
        up: &ScalingRules,
        down: &ScalingRules,
    ) -> u32 {
        let up_window = up.stabilization.unwrap_or_default();
        let down_window = down.stabilization.unwrap_or(config.downscale_stabilization);
        let within =
            |window: Duration| self.recommendations.iter().filter(move |(at, _)| *at > now - window).map(|(_, replicas)| *replicas);
        let least = within(up_window).fold(proposal, u32::min);
        let most = within(down_window).fold(proposal, u32::max);
        let mut stable = current;
        if stable < least {
            stable = least;
        }
        if stable > most {
            stable = most;
        }
        let memory = now - up_window.max(down_window);
        self.recommendations.retain(|(at, _)| *at > memory);
        // What is remembered is the proposal itself, not what became of it.
        push(&mut self.recommendations, (now, proposal));
        stable
    }

    fn limit(&self, config: &HpaConfig, now: Timestamp, current: u32, wanted: u32, up: &ScalingRules, down: &ScalingRules) -> u32 {
        if wanted > current {
            let rules = up.rates.clone().unwrap_or_else(|| ScalingRules::UP.to_vec());
            let limits = rules.iter().map(|rate| {
                let start = self.period_start(now, current, rate);
                match rate.kind {
                    RateKind::Pods => start + f64::from(rate.value),
                    RateKind::Percent => (start * (1.0 + f64::from(rate.value) / 100.0) - 1e-9).ceil(),
                }
            });
            let limit = match up.select {
                Select::Disabled => f64::from(current),
                Select::Max => limits.fold(0.0, f64::max),
                Select::Min => limits.fold(f64::INFINITY, f64::min),
            };
            let limit = whole(limit).max(current).min(config.max_replicas);
            return wanted.min(limit);
        }
        if wanted < current {
            let rules = down.rates.clone().unwrap_or_else(|| ScalingRules::DOWN.to_vec());
            let limits = rules.iter().map(|rate| {
                let start = self.period_start(now, current, rate);
                match rate.kind {
                    RateKind::Pods => start - f64::from(rate.value),
                    RateKind::Percent => (start * (1.0 - f64::from(rate.value) / 100.0) + 1e-9).trunc(),
                }
            });
            let limit = match down.select {
                Select::Disabled => f64::from(current),
                // The largest change is the smallest number.
                Select::Max => limits.fold(f64::INFINITY, f64::min),
                Select::Min => limits.fold(0.0, f64::max),
            };
            let limit = whole(limit).min(current).max(config.min_replicas);
            return wanted.max(limit);
        }
        wanted
    }

    /// Replicas at the beginning of a rate's period: the present ones without what was added since, with what was removed.
    fn period_start(&self, now: Timestamp, current: u32, rate: &Rate) -> f64 {
        let change: i64 = self.events.iter().filter(|(at, _)| *at > now - rate.period).map(|(_, change)| *change).sum();
        f64::from(u32::try_from((i64::from(current) - change).max(0)).unwrap_or(u32::MAX))
    }
}

/// The largest proposal; `None` when none is valid, or one is invalid and the others would scale down.
fn largest(current: u32, proposals: &[Option<u32>]) -> Option<u32> {
    let most = proposals.iter().flatten().max().copied()?;
    let complete = proposals.iter().all(Option::is_some);
    (complete || most >= current).then_some(most)
}

fn push<T>(queue: &mut VecDeque<T>, value: T) {
    if queue.len() >= MEMORY_MAX {
        queue.pop_front();
    }
    queue.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::super::config::Behavior;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn config(behavior: Option<Behavior>) -> HpaConfig {
        HpaConfig { max_replicas: 100, behavior, ..HpaConfig::default() }
    }

    /// A run of (second, current, proposal, expected order).
    fn check(config: &HpaConfig, rounds: &[(i64, u32, u32, Option<u32>)]) {
        let mut memory = Memory::default();
        for (second, current, proposal, expected) in rounds {
            let found = memory.decide(config, at(*second), *current, &[Some(*proposal)]);
            assert_eq!(found, *expected, "at {second} s with {current}, proposed {proposal}");
        }
    }

    /// Guarantees: without behaviours, at most double or four per sync, and the largest of 300 s on the way down, to the second.
    #[test]
    fn legacy_path() {
        check(&config(None), &[(0, 1, 50, Some(4)), (15, 4, 50, Some(8)), (30, 8, 50, Some(16)), (45, 16, 10, Some(32))]);
        // The initial recommendation is the present number; it counts until exactly 300 s later.
        check(&config(None), &[(0, 10, 10, None), (15, 10, 4, None), (300, 10, 4, None), (301, 10, 4, Some(4))]);
        check(&HpaConfig { max_replicas: 3, ..config(None) }, &[(0, 1, 50, Some(3))]);
    }

    /// Guarantees: bounds are enforced at once, whatever metrics say; zero replicas switch the autoscaler off.
    #[test]
    fn bounds_come_first() {
        let bounded = HpaConfig { min_replicas: 3, max_replicas: 5, ..HpaConfig::default() };
        let mut memory = Memory::default();
        assert_eq!(memory.decide(&bounded, at(0), 9, &[None]), Some(5));
        assert_eq!(memory.decide(&bounded, at(15), 1, &[None]), Some(3));
        assert_eq!(memory.decide(&bounded, at(30), 0, &[Some(4)]), None);
        // The nine replicas that it found are its first recommendation, and hold for 300 s.
        assert_eq!(memory.decide(&bounded, at(45), 4, &[Some(1)]), Some(5));
    }

    /// Guarantees: an invalid metric forbids scaling down and does not forbid scaling up; all invalid forbids both.
    #[test]
    fn invalid_metrics() {
        assert_eq!(largest(5, &[None, None]), None);
        assert_eq!(largest(5, &[None, Some(4)]), None);
        assert_eq!(largest(5, &[None, Some(6)]), Some(6));
        assert_eq!(largest(5, &[Some(3), Some(4)]), Some(4));
    }

    /// Guarantees: the default behaviours: the larger of 4 replicas and 100 % per 15 s up without waiting; 100 % down after 300 s.
    #[test]
    fn default_behaviors() {
        let config = config(Some(Behavior::default()));
        check(&config, &[(0, 1, 50, Some(5)), (5, 5, 50, None), (16, 5, 50, Some(10)), (32, 10, 50, Some(20))]);
        check(&config, &[(0, 10, 10, None), (15, 10, 2, None), (299, 10, 2, None), (300, 10, 2, Some(2))]);
    }

    /// Guarantees: windows hold the least eager recommendation in each direction, and forget at their edge.
    #[test]
    fn windows_in_both_directions() {
        let mut behavior = Behavior::default();
        behavior.scale_up.stabilization = Some(Duration::from_secs(60));
        behavior.scale_down.stabilization = Some(Duration::from_secs(30));
        let config = config(Some(behavior));
        check(&config, &[(0, 4, 6, None), (30, 4, 8, None), (60, 4, 7, Some(7))]);
        check(&config, &[(0, 4, 4, None), (15, 4, 2, None), (29, 4, 1, None), (30, 4, 1, Some(2))]);
    }

    /// Guarantees: policies count from the replicas at the beginning of their period, and the selection picks among them.
    #[test]
    fn rates_by_hand() {
        let rate = |kind, value, seconds| Rate { kind, value, period: Duration::from_secs(seconds) };
        let mut behavior = Behavior::default();
        behavior.scale_up.rates = Some(vec![rate(RateKind::Pods, 3, 60), rate(RateKind::Percent, 50, 60)]);
        behavior.scale_down.rates = Some(vec![rate(RateKind::Pods, 1, 60), rate(RateKind::Percent, 10, 60)]);
        behavior.scale_down.stabilization = Some(Duration::ZERO);
        // Up from 10: 13 or 15. Half a minute later the period still begins at 10; after a minute at 15: 18 or 23.
        let up = &[(0, 10, 40, Some(15)), (30, 15, 40, None), (60, 15, 40, Some(23))];
        check(&config(Some(behavior.clone())), up);
        // Down from 25: 24 or 22 (cut off from 22.5). Within the minute the removed ones count as present.
        check(&config(Some(behavior.clone())), &[(0, 25, 1, Some(22)), (30, 22, 1, None), (60, 22, 1, Some(19))]);
        behavior.scale_up.select = Select::Min;
        behavior.scale_down.select = Select::Min;
        check(&config(Some(behavior.clone())), &[(0, 10, 40, Some(13)), (60, 13, 40, Some(16))]);
        check(&config(Some(behavior.clone())), &[(0, 25, 1, Some(24))]);
        behavior.scale_up.select = Select::Disabled;
        behavior.scale_down.select = Select::Disabled;
        check(&config(Some(behavior)), &[(0, 10, 40, None), (60, 10, 1, None)]);
    }
}
