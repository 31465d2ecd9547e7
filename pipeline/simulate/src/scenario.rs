//! Loads and troubles to test autoscalers with, as rates per minute: made from a seed, the same every time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::time::Timestamp;

use crate::number::{real_length, whole};
use crate::policy::Outage;
use crate::random::{Purpose, Stream};
use crate::series::{Interpolation, Series};

/// Minutes of a day.
const DAY: f64 = 1440.0;
/// Longest scenario: a year.
const MINUTES_MAX: u32 = 366 * 1440;

/// A shape of load, in requests per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "kind")]
pub enum Shape {
    /// Always the same; with a low rate, the small service whose load is all noise.
    Constant {
        /// The rate.
        rate: f64,
    },
    /// Days with a morning rise and an evening one, weekends lower, noise that lasts, and bursts.
    Days {
        /// Mean rate of a workday.
        base: f64,
        /// Amplitude of the daily wave relative to the mean.
        daily: f64,
        /// Amplitude of the half-daily wave.
        half_daily: f64,
        /// What weekends have of a workday; 1 for none.
        weekend: f64,
        /// Standard deviation of the logarithm of the noise.
        noise: f64,
        /// Bursts per day: doubling to fivefold within a minute, halving every ten minutes.
        bursts: f64,
    },
    /// A crowd that comes within a minute, stays for ten and goes with a half-life of ten.
    FlashCrowd {
        /// Rate before and after.
        base: f64,
        /// How many times as much.
        factor: f64,
        /// Minute in which it comes.
        at: u32,
    },
    /// From one rate to another at once.
    Step {
        /// Rate before.
        before: f64,
        /// Rate after.
        after: f64,
        /// Minute from which it is so.
        at: u32,
    },
    /// From one rate to another in a straight line over the whole time.
    Ramp {
        /// Rate at the start.
        from: f64,
        /// Rate at the end.
        to: f64,
    },
    /// Nothing, and for some minutes of each period a rate.
    Intermittent {
        /// The rate while there is load.
        rate: f64,
        /// Minutes of a period.
        period: u32,
        /// Minutes with load at its start.
        active: u32,
    },
}

/// Trouble with the work of a service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "kind")]
pub enum Trouble {
    /// Work grows by this share of the original every hour.
    Leak {
        /// The share.
        per_hour: f64,
    },
    /// Work is multiplied from a minute on.
    Deployment {
        /// By this.
        factor: f64,
        /// From this minute.
        at: u32,
    },
    /// Work is multiplied for some minutes: something that the service waits for is slow.
    Dependency {
        /// By this.
        factor: f64,
        /// From this minute.
        at: u32,
        /// For so many minutes.
        minutes: u32,
    },
}

// === impl Shape ===

impl Shape {
    /// Days as services usually have them: a wave of 60 % and one of 20 %, weekends at 70 %, a tenth of noise, two bursts.
    #[must_use]
    pub fn days(base: f64) -> Self {
        Self::Days { base, daily: 0.6, half_daily: 0.2, weekend: 0.7, noise: 0.1, bursts: 2.0 }
    }

    /// The load over so many minutes from a start (at most a year), by this seed.
    #[must_use]
    pub fn series(&self, start: Timestamp, minutes: u32, seed: u64) -> Series {
        let minutes = minutes.clamp(1, MINUTES_MAX);
        let values: Vec<f64> = match *self {
            Self::Days { .. } => self.days_of(minutes, seed),
            _ => (0..=minutes).map(|minute| self.at(minute, minutes)).collect(),
        };
        let sudden = matches!(self, Self::Step { .. } | Self::Intermittent { .. });
        let interpolation = if sudden { Interpolation::Step } else { Interpolation::Linear };
        Series { start, interval: Duration::from_secs(60), values, scale: 1.0, interpolation }
    }

    /// Rate of a minute, without chance.
    fn at(&self, minute: u32, minutes: u32) -> f64 {
        let time = f64::from(minute);
        match *self {
            Self::Constant { rate } => rate,
            Self::Days { base, daily, half_daily, weekend, .. } => {
                let angle = std::f64::consts::TAU * time / DAY;
                // Lowest at the start of the day; the half-daily wave makes a second hump in the evening.
                let wave = 1.0 - daily * angle.cos() - half_daily * (2.0 * angle).sin();
                let is_weekend = whole(time / DAY) % 7 >= 5;
                base * wave.max(0.0) * if is_weekend { weekend } else { 1.0 }
            }
            Self::FlashCrowd { base, factor, at } => {
                let since = time - f64::from(at);
                let crowd = if since < 1.0 { 0.0 } else { 0.5_f64.powf((since - 11.0).max(0.0) / 10.0) };
                base * (1.0 + (factor - 1.0) * crowd)
            }
            Self::Step { before, after, at } => {
                if minute < at {
                    before
                } else {
                    after
                }
            }
            Self::Ramp { from, to } => from + (to - from) * time / f64::from(minutes),
            Self::Intermittent { rate, period, active } => {
                if minute % period.max(1) < active {
                    rate
                } else {
                    0.0
                }
            }
        }
    }

    /// Days with noise and bursts.
    fn days_of(&self, minutes: u32, seed: u64) -> Vec<f64> {
        let Self::Days { noise, bursts, .. } = *self else { return Vec::new() };
        let mut stream = Stream::new(seed, 0, Purpose::Load);
        // Noise that loses half of itself in ten minutes, with the stated variance.
        let keep = 0.5_f64.powf(0.1);
        let fresh = noise * (1.0 - keep * keep).sqrt();
        let (mut drift, mut burst) = (noise * stream.normal(), 0.0);
        let rate = |minute| {
            drift = keep * drift + fresh * stream.normal();
            burst *= 0.5_f64.powf(0.1);
            if stream.chance(bursts / DAY) {
                burst += 1.0 + 3.0 * stream.share();
            }
            self.at(minute, minutes) * (drift - 0.5 * noise * noise).exp() * (1.0 + burst)
        };
        (0..=minutes).map(rate).collect()
    }
}

// === impl Trouble ===

impl Trouble {
    /// What the work of a service is multiplied by, over so many minutes from a start.
    #[must_use]
    pub fn factor(&self, start: Timestamp, minutes: u32) -> Series {
        let minutes = minutes.clamp(1, MINUTES_MAX);
        let at_minute = |minute: u32| match *self {
            Self::Leak { per_hour } => 1.0 + per_hour * f64::from(minute) / 60.0,
            Self::Deployment { factor, at } => {
                if minute < at {
                    1.0
                } else {
                    factor
                }
            }
            Self::Dependency { factor, at, minutes } => {
                if (at..at.saturating_add(minutes)).contains(&minute) {
                    factor
                } else {
                    1.0
                }
            }
        };
        let interpolation = if matches!(self, Self::Leak { .. }) { Interpolation::Linear } else { Interpolation::Step };
        let values = (0..=minutes).map(at_minute).collect();
        Series { start, interval: Duration::from_secs(60), values, scale: 1.0, interpolation }
    }
}

/// A quarter of an hour without telemetry, from a minute on.
#[must_use]
pub fn telemetry_outage(start: Timestamp, minute: u32) -> Outage {
    let from = start + Duration::from_secs(60) * minute;
    Outage { from, until: from + Duration::from_secs(900) }
}

/// Mean of a load, in requests per second.
#[must_use]
pub fn mean_rate(series: &Series) -> f64 {
    series.values.iter().sum::<f64>() * series.scale / real_length(series.values.len().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(shape: Shape, minutes: u32) -> Vec<f64> {
        let series = shape.series(Timestamp::EPOCH, minutes, 1);
        series.validate().unwrap();
        series.values
    }

    /// Guarantees: a crowd of five times as many is there after a minute, and half of it gone ten minutes after it turns.
    #[test]
    fn flash_crowds() {
        let found = rates(Shape::FlashCrowd { base: 10.0, factor: 5.0, at: 30 }, 60);
        let expected = [(30, 10.0), (31, 50.0), (41, 50.0), (51, 30.0)];
        assert!(expected.iter().all(|(minute, rate): &(usize, f64)| (found[*minute] - rate).abs() < 1e-9), "{found:?}");
    }

    /// Guarantees: days have their mean, their night, their weekend, and the same numbers for the same seed only.
    #[test]
    fn days_and_weeks() {
        let quiet = Shape::Days { base: 100.0, daily: 0.6, half_daily: 0.2, weekend: 0.5, noise: 0.0, bursts: 0.0 };
        let found = rates(quiet, 7 * 1440);
        let day = |day: usize| found[day * 1440..(day + 1) * 1440].iter().sum::<f64>() / DAY;
        assert!((day(0) - 100.0).abs() < 1e-6 && (day(6) - 50.0).abs() < 1e-6);
        assert!(found[0] < 45.0 && found[720] > 155.0);
        let noisy = |seed| Shape::days(100.0).series(Timestamp::EPOCH, 1440, seed);
        assert_eq!(noisy(3), noisy(3));
        assert_ne!(noisy(3), noisy(4));
        assert!((mean_rate(&noisy(3)) / 100.0 - 1.0).abs() < 0.5);
    }

    /// Guarantees: steps, ramps, gaps and troubles are what they say.
    #[test]
    fn simple_shapes() {
        assert_eq!(rates(Shape::Step { before: 9.0, after: 1.0, at: 2 }, 3), [9.0, 9.0, 1.0, 1.0]);
        assert_eq!(rates(Shape::Ramp { from: 0.0, to: 4.0 }, 4), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(rates(Shape::Intermittent { rate: 2.0, period: 3, active: 1 }, 4), [2.0, 0.0, 0.0, 2.0, 0.0]);
        let leak = Trouble::Leak { per_hour: 0.01 }.factor(Timestamp::EPOCH, 120);
        assert!((leak.at(Timestamp::from_secs(5400)) - 1.015).abs() < 1e-9);
        let slow = Trouble::Dependency { factor: 4.0, at: 1, minutes: 2 }.factor(Timestamp::EPOCH, 4);
        assert_eq!(slow.values, [1.0, 4.0, 4.0, 1.0, 1.0]);
        assert_eq!(Trouble::Deployment { factor: 1.3, at: 1 }.factor(Timestamp::EPOCH, 2).values, [1.0, 1.3, 1.3]);
        assert_eq!(telemetry_outage(Timestamp::EPOCH, 2).until, Timestamp::from_secs(1020));
    }
}
