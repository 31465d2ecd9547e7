//! The stationary models, computed once per grid point and interpolated, because a simulated second must cost microseconds.

use super::{Sharing, UTILIZATION_MAX, queue_tail, sharing_tail, slowdown, wait};
use crate::distribution::Distribution;
use crate::number::{at, position, real_length};

/// Shares of the requests that are slower, at which a latency law is kept.
pub const LEVELS: [f64; 20] =
    [0.9, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.014, 0.01, 0.007, 0.005, 0.003, 0.002, 0.001, 0.0003, 0.0001];
/// Distance of grid points in -ln(1 - utilization).
const GRID: f64 = 0.25;
/// Times at which a tail is computed before it is inverted.
const TIMES: u32 = 48;
/// So many servers that nobody waits at the lowest utilizations of the grid.
const ALONE: u32 = 1024;
/// Grid of server counts: every count up to this, then as many steps per octave.
const STEPS: u32 = 4;

/// Latency of a service at a load, in units of the mean service time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Law {
    /// Mean.
    pub mean: f64,
    /// The latency that the share [`LEVELS`] of the requests exceeds.
    pub exceeded: [f64; 20],
}

/// Latency laws of one kind of service by servers and utilization, computed when first needed.
#[derive(Clone, Debug)]
pub struct LatencyTable {
    sharing: Sharing,
    scv: f64,
    /// Work of mean 1.
    points: Vec<(f64, f64)>,
    /// By place on the grid of server counts, then by place on the grid of utilizations.
    rows: Vec<Vec<Option<Law>>>,
}

// === impl LatencyTable ===

impl LatencyTable {
    /// A table for work distributed like this, whatever its mean.
    #[must_use]
    pub fn new(sharing: Sharing, work: &Distribution) -> Self {
        let mean = work.mean();
        let scale = if mean > 0.0 { 1.0 / mean } else { 1.0 };
        let points = work.points().into_iter().map(|(value, weight)| (value * scale, weight)).collect();
        Self { sharing, scv: work.scv(), points, rows: Vec::new() }
    }

    /// The latency that the share [`LEVELS`] of the work itself exceeds, without any waiting.
    #[must_use]
    pub fn alone(&mut self) -> Law {
        self.law(ALONE, 0.0)
    }

    /// The law of `servers` servers at a utilization; above [`UTILIZATION_MAX`] that of the maximum.
    #[must_use]
    pub fn law(&mut self, servers: u32, utilization: f64) -> Law {
        let servers = servers.max(1);
        let (low, high) = neighbours(servers);
        let below = self.at_count(low, utilization);
        if low == high {
            return below;
        }
        // Delays fall with the number of servers about as its reciprocal does.
        let reciprocal = |count: u32| 1.0 / f64::from(count);
        let share = (reciprocal(low) - reciprocal(servers)) / (reciprocal(low) - reciprocal(high));
        below.mix(&self.at_count(high, utilization), share)
    }

    /// The law of a grid count.
    fn at_count(&mut self, servers: u32, utilization: f64) -> Law {
        let idle = 1.0 - utilization.clamp(0.0, UTILIZATION_MAX);
        let low = position(-idle.ln() / GRID);
        // Delays grow as 1 / (1 - utilization) does.
        let (from, to) = (1.0 / idle_at(low), 1.0 / idle_at(low + 1));
        let share = (1.0 / idle - from) / (to - from);
        let below = *self.cell(servers, low);
        below.mix(self.cell(servers, low + 1), share)
    }

    fn cell(&mut self, servers: u32, place: usize) -> &Law {
        let row = row_of(servers);
        if self.rows.len() <= row {
            self.rows.resize(row + 1, Vec::new());
        }
        let cells = &mut self.rows[row];
        if cells.len() <= place {
            cells.resize(place + 1, None);
        }
        let (sharing, points, scv) = (self.sharing, &self.points, self.scv);
        cells[place].get_or_insert_with(|| compute(sharing, points, scv, servers, 1.0 - idle_at(place)))
    }
}

/// What is idle at a place on the grid of utilizations.
fn idle_at(place: usize) -> f64 {
    (-GRID * real_length(place)).exp()
}

// === impl Law ===

impl Law {
    /// P(T > t): exponential between the levels.
    #[must_use]
    pub fn tail(&self, t: f64) -> f64 {
        let place = self.exceeded.partition_point(|value| *value <= t);
        if place == 0 {
            return 1.0 - (1.0 - LEVELS[0]) * t / self.exceeded[0].max(f64::MIN_POSITIVE);
        }
        let (low, high) = if place < LEVELS.len() { (place - 1, place) } else { (LEVELS.len() - 2, LEVELS.len() - 1) };
        let width = self.exceeded[high] - self.exceeded[low];
        if width <= 0.0 {
            return LEVELS[high];
        }
        let share = (t - self.exceeded[low]) / width;
        LEVELS[low] * (LEVELS[high] / LEVELS[low]).powf(share)
    }

    /// The law between this and another.
    #[must_use]
    pub fn mix(&self, other: &Self, share: f64) -> Self {
        let mut law = *self;
        law.mean += (other.mean - self.mean) * share;
        for (value, more) in law.exceeded.iter_mut().zip(&other.exceeded) {
            *value += (more - *value) * share;
        }
        law
    }
}

/// The grid counts at or around a number of servers.
fn neighbours(servers: u32) -> (u32, u32) {
    if servers <= STEPS {
        return (servers, servers);
    }
    let step = (1 << servers.ilog2()) / STEPS;
    let low = servers / step * step;
    if low == servers { (low, low) } else { (low, low + step) }
}

/// Place of a grid count.
fn row_of(servers: u32) -> usize {
    if servers <= STEPS {
        return at(servers);
    }
    let octave = servers.ilog2() - STEPS.ilog2();
    at(octave * STEPS + servers / (1 << octave))
}

fn compute(sharing: Sharing, points: &[(f64, f64)], scv: f64, servers: u32, utilization: f64) -> Law {
    let (slow, wait) = (slowdown(servers, utilization, scv), wait(servers, utilization, scv));
    let tail = |t: f64| match sharing {
        Sharing::Processor => sharing_tail(points, &slow, t),
        Sharing::Queue => queue_tail(points, &wait, t),
    };
    let mean = match sharing {
        Sharing::Processor => slow.mean,
        Sharing::Queue => 1.0 + wait.mean,
    };
    let least = LEVELS[LEVELS.len() - 1];
    let mut high = points.iter().fold(0.0, |most: f64, (value, _)| most.max(*value)).max(f64::MIN_POSITIVE);
    while tail(high) > least && high < 1e12 {
        high *= 2.0;
    }
    let low = points.iter().fold(high, |least, (value, _)| least.min(*value)).max(1e-6) * 0.99;
    let growth = (high / low).ln() / f64::from(TIMES);
    let mut grid: Vec<(f64, f64)> = (0..=TIMES)
        .map(|place| {
            let t = low * (growth * f64::from(place)).exp();
            (t, tail(t).max(1e-12))
        })
        .collect();
    // Rounding must not make a tail rise.
    for place in 1..grid.len() {
        grid[place].1 = grid[place].1.min(grid[place - 1].1);
    }
    Law { mean, exceeded: LEVELS.map(|level| invert(&grid, level)) }
}

/// The time at which a tail given by points falls to a level, exponential between points.
fn invert(grid: &[(f64, f64)], level: f64) -> f64 {
    let place = grid.partition_point(|(_, tail)| *tail > level).clamp(1, grid.len() - 1);
    let ((from, above), (to, below)) = (grid[place - 1], grid[place]);
    if above <= below {
        return to;
    }
    let share = ((above / level).ln() / (above / below).ln()).clamp(0.0, 1.0);
    from + (to - from) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: interpolated quantiles are within 3 % of the exact ones of M/M/c under processor sharing, between grid points
    /// of both servers and utilization.
    #[test]
    fn close_to_exact_quantiles() {
        let mut table = LatencyTable::new(Sharing::Processor, &Distribution::Exponential { mean: 0.2 });
        for (servers, utilization, mean, p50, p95, p99) in [
            (1, 0.5, 2.0, 1.132_002, 6.863_679, 12.445_541),
            (1, 0.9, 10.0, 4.336_106, 38.688_126, 78.332_563),
            (4, 0.7, 1.357_212, 0.868_504, 4.290_766, 7.292_49),
            (10, 0.9, 1.668_732, 1.014_397, 5.441_128, 9.831_043),
            (100, 0.99, 1.882_768, 1.138_988, 6.157_442, 11.196_275),
        ] {
            let law = table.law(servers, utilization);
            for (found, expected) in [(law.mean, mean), (law.exceeded[2], p50), (law.exceeded[8], p95), (law.exceeded[12], p99)] {
                assert!((found / expected - 1.0).abs() < 0.03, "{servers} at {utilization}: {found} is not {expected}");
            }
            assert!((law.tail(p99) / 0.01 - 1.0).abs() < 0.07, "{}", law.tail(p99));
        }
    }

    /// Guarantees: tails fall, from 1 at zero, past the last level, also for work that is always the same.
    #[test]
    fn tails_fall() {
        for work in [Distribution::Deterministic { value: 1.0 }, Distribution::Lognormal { mean: 1.0, scv: 4.0 }] {
            for sharing in [Sharing::Processor, Sharing::Queue] {
                let law = LatencyTable::new(sharing, &work).law(3, 0.8);
                let tails: Vec<f64> = (0..200).map(|t| law.tail(f64::from(t) * 0.3)).collect();
                assert!(tails.is_sorted_by(|a, b| a >= b) && (tails[0] - 1.0).abs() < 1e-9, "{work:?} {sharing:?} {tails:?}");
            }
        }
    }

    /// Guarantees: every number of servers lies between two grid counts that are at most a quarter apart, and each has a row of its own.
    #[test]
    fn grid_counts_enclose() {
        for servers in 1..5000 {
            let (low, high) = neighbours(servers);
            assert!(low <= servers && servers <= high && high - low <= low.div_ceil(4), "{servers}: {low} {high}");
            assert!(low == high || row_of(low) + 1 == row_of(high), "{servers}: {} {}", row_of(low), row_of(high));
        }
    }
}
