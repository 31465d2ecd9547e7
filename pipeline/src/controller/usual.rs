//! How many replicas a target usually has at an hour of the week: what to hold when nothing is known for long.
//!
//! An hour's figure is its 95th percentile; the usual one is the middle of those of the last [`WEEKS`] weeks, so that one
//! extraordinary day is not usual. Hours are those of UTC. Learned from observations in memory: a restart begins anew.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tracescale_core::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);
/// Hours of a week.
const HOURS: i64 = 168;
/// Weeks that are remembered.
const WEEKS: usize = 4;
/// Different numbers of replicas that are told apart within one hour; observations come every few seconds.
const DISTINCT_MAX: usize = 512;

/// What was observed of one target: 168 hours of four numbers at most, and the hour that runs.
#[derive(Debug, Default)]
pub(super) struct Usual {
    /// Percentiles of past hours, the oldest first, by hour of the week.
    hours: BTreeMap<i64, VecDeque<u32>>,
    running: Option<Running>,
}

/// The hour that runs.
#[derive(Debug)]
struct Running {
    start: Timestamp,
    /// How often each number of replicas was observed.
    seen: BTreeMap<u32, u32>,
}

// === impl Usual ===

impl Usual {
    /// Takes note of an observation.
    pub(super) fn observe(&mut self, now: Timestamp, replicas: u32) {
        let start = now.floor(HOUR);
        if let Some(over) = self.running.take_if(|running| running.start != start)
            && let Some(percentile) = over.percentile()
        {
            let past = self.hours.entry(hour_of_week(over.start)).or_default();
            past.push_back(percentile);
            if past.len() > WEEKS {
                let _ = past.pop_front();
            }
        }
        self.running.get_or_insert_with(|| Running { start, seen: BTreeMap::new() }).add(replicas);
    }

    /// The usual replicas at this hour; `None` when no week is known. The hour that runs does not count: it may be unusual.
    pub(super) fn at(&self, now: Timestamp) -> Option<u32> {
        let mut past: Vec<u32> = self.hours.get(&hour_of_week(now))?.iter().copied().collect();
        past.sort_unstable();
        past.get(past.len() / 2).copied()
    }
}

// === impl Running ===

impl Running {
    fn add(&mut self, replicas: u32) {
        let is_full = self.seen.len() >= DISTINCT_MAX && !self.seen.contains_key(&replicas);
        let nearest = || self.seen.range(replicas..).next().or_else(|| self.seen.iter().next_back()).map(|(known, _)| *known);
        let key = if is_full { nearest().unwrap_or(replicas) } else { replicas };
        let times = self.seen.entry(key).or_default();
        *times = times.saturating_add(1);
    }

    /// The smallest number that 95 of 100 observations do not exceed.
    fn percentile(&self) -> Option<u32> {
        let all: u64 = self.seen.values().map(|times| u64::from(*times)).sum();
        let mut below = 0_u64;
        self.seen.iter().find_map(|(replicas, times)| {
            below += u64::from(*times);
            (below * 100 >= all * 95).then_some(*replicas)
        })
    }
}

fn hour_of_week(time: Timestamp) -> i64 {
    let hours = time.as_nanos().div_euclid(tracescale_core::time::nanos(HOUR));
    hours.rem_euclid(HOURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_767_600_000);

    /// Guarantees: an hour's 95th percentile is usual a week later at that hour, and neither before nor at other hours.
    #[test]
    fn a_week_later_it_is_usual() {
        let mut usual = Usual::default();
        for minute in 0..60_u32 {
            // Two of sixty are no more than one in twenty: a spike.
            let replicas = if minute < 2 { 90 } else { 7 };
            usual.observe(START + Duration::from_secs(60 * u64::from(minute)), replicas);
        }
        assert_eq!(usual.at(START), None, "the hour that runs may be unusual");
        usual.observe(START + HOUR, 3);
        let week = HOUR * 168;
        assert_eq!((usual.at(START + week), usual.at(START + week + HOUR)), (Some(7), None));
    }

    /// Guarantees: one extraordinary week does not make the usual, old weeks are forgotten, and memory is bounded.
    #[test]
    fn the_middle_of_four_weeks() {
        let mut usual = Usual::default();
        let week = |number: u32| START + HOUR * 168 * number;
        for (number, replicas) in (0..).zip([100, 100, 100, 4, 5, 60, 5]) {
            usual.observe(week(number), replicas);
            usual.observe(week(number) + HOUR, 1);
        }
        assert_eq!(usual.at(week(9)), Some(5), "of 4, 5, 60 and 5");
        for replicas in 0..10_000 {
            usual.observe(week(10), replicas);
        }
        assert_eq!(usual.running.as_ref().map(|running| running.seen.len()), Some(DISTINCT_MAX));
        assert_eq!(usual.hours.values().map(VecDeque::len).max(), Some(WEEKS));
    }
}
