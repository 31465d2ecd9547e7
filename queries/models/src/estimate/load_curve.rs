//! How many servers a replica has, from what its requests take at different loads.
//!
//! With the right number the service time behind the latency comes out the same at every load. Fewer servers explain a latency that
//! hardly grows by ever shorter requests; more explain one that grows by ever longer ones. Works with sampled traces too, unlike
//! [`super::servers`], but only after the load has been low and high.

use super::gate;
use crate::sizing::{Station, service_time_behind};

/// Levels of load that are told apart: each a quarter more than the one before.
const LEVEL: f64 = 1.25;
/// Levels that are kept; the oldest make room.
const LEVELS_MAX: usize = 40;
/// Seconds in which half of what was seen at a level is forgotten.
const HALF_LIFE: f64 = 21_600.0;
/// Requests that a level needs to count.
const SAMPLES_MIN: f64 = 300.0;
/// Requests of a level above which old ones make room.
const SAMPLES_MAX: f64 = 20_000.0;
/// Numbers of servers that are tried.
const CANDIDATES: [f64; 15] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 256.0];
/// The fewest servers win whose service times spread at most this much more than the best, by a factor and by a share.
const WORSE: f64 = 1.2;
const NOISE: f64 = 0.02;
/// Spread of the service times (standard deviation of the logarithms) above which nothing explains them.
const SPREAD_MAX: f64 = 0.25;

/// What a load curve says of the servers of a replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown {
    /// So many: with more, requests would have been slowed less.
    Exactly(f64),
    /// At least so many: nobody was slowed.
    AtLeast(f64),
}

/// What requests took at each level of load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadCurve {
    levels: Vec<Level>,
}

/// Means of the windows at one level.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Level {
    place: i32,
    /// Requests per second and replica.
    rate: f64,
    /// Seconds that they took.
    latency: f64,
    /// Replicas of the last window.
    replicas: u32,
    /// Requests behind it.
    samples: f64,
    /// Seconds of the last window.
    at: f64,
}

// === impl LoadCurve ===

impl LoadCurve {
    /// Adds a window that ended at `at` seconds: requests per second on all replicas, the mean latency in seconds that the servers
    /// are responsible for, and how many (effective) requests this is the mean of. Ignores what is no measurement.
    pub fn observe(&mut self, at: f64, arrival_rate: f64, replicas: u32, latency: f64, samples: f64) {
        let rate = arrival_rate / f64::from(replicas.max(1));
        let valid = [rate, latency, samples].iter().all(|value| *value > 0.0 && value.is_finite()) && at.is_finite() && replicas > 0;
        if !valid {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "saturates, which is meant")]
        let place = (rate.ln() / LEVEL.ln()).floor() as i32;
        if let Some(level) = self.levels.iter_mut().find(|level| level.place == place) {
            let samples = samples.min(SAMPLES_MAX);
            let kept = level.left(at).min(SAMPLES_MAX - samples);
            let mean = |old: f64, new: f64| (old * kept + new * samples) / (kept + samples);
            let (rate, latency) = (mean(level.rate, rate), mean(level.latency, latency));
            *level = Level { place, rate, latency, replicas, samples: kept + samples, at: level.at.max(at) };
            return;
        }
        if self.levels.len() == LEVELS_MAX
            && let Some((oldest, _)) = self.levels.iter().enumerate().min_by(|a, b| a.1.at.total_cmp(&b.1.at))
        {
            let _ = self.levels.swap_remove(oldest);
        }
        self.levels.push(Level { place, rate, latency, replicas, samples, at });
    }

    /// The servers of a replica as of `at` seconds, for replicas that share requests as those of the station do. At most as many as
    /// requests were under way on a replica: what was never used is not believed in. `None` while too few loads were seen, or when
    /// no number explains them.
    #[must_use]
    pub fn servers(&self, at: f64, station: &Station) -> Option<Shown> {
        let levels: Vec<&Level> = self.levels.iter().filter(|level| level.left(at) >= SAMPLES_MIN).collect();
        let rates = || levels.iter().map(|level| level.rate);
        let range = rates().fold(0.0, f64::max) / rates().fold(f64::INFINITY, f64::min);
        if !gate::use_fit(levels.len(), Some(range)).is_open() {
            return None;
        }
        let under_way = levels.iter().map(|level| level.rate * level.latency).fold(1.0, f64::max);
        let most = CANDIDATES.iter().position(|servers| *servers > under_way).unwrap_or(CANDIDATES.len());
        let spread = |servers: &f64| Some((*servers, spread(&Station { servers: *servers, ..station.clone() }, &levels)?));
        let spreads: Vec<(f64, f64)> = CANDIDATES[..most].iter().filter_map(spread).collect();
        let least = spreads.iter().map(|(_, spread)| *spread).fold(f64::INFINITY, f64::min);
        let explains = |spread: f64| spread <= WORSE * least + NOISE;
        let (servers, _) = spreads.into_iter().find(|(_, spread)| explains(*spread)).filter(|_| least <= SPREAD_MAX)?;
        let (_, unlimited) = CANDIDATES.last().and_then(spread)?;
        Some(if explains(unlimited) { Shown::AtLeast(servers) } else { Shown::Exactly(servers) })
    }
}

// === impl Level ===

impl Level {
    /// Requests behind it that are not forgotten.
    fn left(&self, at: f64) -> f64 {
        self.samples * (-(at - self.at).max(0.0) / HALF_LIFE).exp2()
    }
}

/// Standard deviation of the logarithm of the service times behind the levels.
fn spread(station: &Station, levels: &[&Level]) -> Option<f64> {
    let time = |level: &&Level| {
        let rate = level.rate * f64::from(level.replicas);
        service_time_behind(station, level.latency, rate, level.replicas).map(f64::ln)
    };
    let times = levels.iter().map(time).collect::<Option<Vec<f64>>>()?;
    #[expect(clippy::cast_precision_loss, reason = "at most 40")]
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    Some((times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizing::{Prediction, ServiceTime, predict};

    fn station(servers: f64, pooling: f64) -> Station {
        Station { pooling, ..Station::new(ServiceTime::from_moments(0.05, 1.0).unwrap(), servers) }
    }

    /// A day in which the utilization of four replicas goes from `low` to `high` and back; latencies are off by up to `noise`.
    fn day(truth: &Station, (low, high): (f64, f64), noise: f64) -> LoadCurve {
        let mut curve = LoadCurve::default();
        for minute in 0..1440_u32 {
            let wave = 0.5 - 0.5 * (f64::from(minute) / 1440.0 * std::f64::consts::TAU).cos();
            let utilization = low + (high - low) * wave;
            let rate = utilization * truth.servers * 4.0 / truth.service_time.mean();
            let Some(Prediction::Stable(stable)) = predict(truth, rate, 4) else { panic!("{rate}") };
            let wrong = 1.0 + noise * f64::from(minute % 7) / 3.0 - noise;
            curve.observe(60.0 * f64::from(minute), rate, 4, stable.mean() * wrong, 1000.0);
        }
        curve
    }

    /// Guarantees: the servers behind a day's latencies are found for a random split and for a balancer that looks, with noise; as
    /// many as were in use where more were never needed.
    #[test]
    fn finds_the_servers() {
        for (servers, pooling, range) in [(1.0, 1.0, (0.1, 0.8)), (2.0, 1.0, (0.1, 0.85)), (2.0, 0.5, (0.15, 0.9)), (8.0, 1.0, (0.2, 0.95))]
        {
            let truth = station(servers, pooling);
            let found = day(&truth, range, 0.05).servers(86_400.0, &truth);
            assert_eq!(found, Some(Shown::Exactly(servers)), "{servers} {pooling}");
        }
        let roomy = station(32.0, 1.0);
        assert_eq!(day(&roomy, (0.05, 0.3), 0.0).servers(86_400.0, &roomy), Some(Shown::AtLeast(8.0)));
        let idle = station(8.0, 1.0);
        assert_eq!(day(&idle, (0.01, 0.1), 0.0).servers(86_400.0, &idle), Some(Shown::AtLeast(1.0)));
    }

    /// Guarantees: with one load, with old ones, and with latencies that no queue has, nothing is known.
    #[test]
    fn says_when_it_does_not_know() {
        let truth = station(2.0, 1.0);
        assert_eq!(day(&truth, (0.4, 0.6), 0.0).servers(86_400.0, &truth), None);
        assert_eq!(day(&truth, (0.1, 0.8), 0.0).servers(20.0 * 86_400.0, &truth), None);
        let mut wild = LoadCurve::default();
        for minute in 0..600_u32 {
            let latency = if minute % 20 < 10 { 0.01 } else { 0.5 };
            wild.observe(60.0 * f64::from(minute), 1.25_f64.powi(i32::try_from(minute % 20).unwrap()), 1, latency, 1000.0);
        }
        assert_eq!(wild.servers(36_000.0, &truth), None);
        let mut nothing = LoadCurve::default();
        for (rate, latency, samples) in [(0.0, 1.0, 1.0), (1.0, f64::NAN, 1.0), (1.0, 1.0, -1.0), (f64::INFINITY, 1.0, 1.0)] {
            nothing.observe(0.0, rate, 1, latency, samples);
        }
        nothing.observe(0.0, 1.0, 0, 1.0, 1.0);
        assert_eq!(nothing, LoadCurve::default());
    }

    /// Guarantees: levels are bounded however wild loads are.
    #[test]
    fn levels_are_bounded() {
        let mut curve = LoadCurve::default();
        for place in 0..10_000_u32 {
            curve.observe(f64::from(place), f64::from(place % 997 + 1).powi(6), 1, 0.05, 1.0);
        }
        assert!(curve.levels.len() <= LEVELS_MAX);
    }
}
