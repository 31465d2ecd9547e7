//! Arrivals from outside: renewal processes, and Poisson processes whose rate follows a series, by thinning.

use tracescale_core::time::Timestamp;

use crate::number::nanos;
use crate::random::{Purpose, Stream, combine};
use crate::world::{Arrivals, Load};

/// Gaps between candidates of a process without load are no shorter than this, in seconds, so that time is never stuck.
const RATE_LEAST: f64 = 1e-12;

/// Requests of one load.
#[derive(Debug)]
pub(super) struct Source {
    /// Position of the service.
    pub(super) service: u32,
    arrivals: Arrivals,
    stream: Stream,
    /// Requests so far; with `key` it names each of them.
    count: u64,
    key: u64,
    /// Interval of the series that `at` lies in; `None` before the first.
    segment: Option<usize>,
    /// Time of the last candidate.
    at: Timestamp,
}

// === impl Source ===

impl Source {
    pub(super) fn new(load: &Load, place: u64, seed: u64, start: Timestamp) -> Self {
        let stream = Stream::new(seed, place, Purpose::Arrivals);
        let mut source = Self {
            service: load.service,
            arrivals: load.arrivals.clone(),
            stream,
            count: 0,
            key: combine(seed, place),
            segment: None,
            at: start,
        };
        if let Arrivals::Varying(series) = &source.arrivals {
            while series.segment_end(source.segment).is_some_and(|end| end <= start) {
                source.segment = Some(source.segment.map_or(0, |place| place + 1));
            }
            // The last number holds for good, so its interval has no end to pass.
            if series.segment_end(source.segment).is_none() {
                source.segment = Some(series.values.len().saturating_sub(1));
            }
        }
        source
    }

    /// Name of the next request: the same in every run, whatever happened to others.
    pub(super) fn name_next(&mut self) -> u64 {
        self.count += 1;
        combine(self.key, self.count)
    }

    /// Time of the next request; `None` when none will ever come.
    pub(super) fn next(&mut self) -> Option<i64> {
        match &self.arrivals {
            Arrivals::Renewal(gaps) => {
                let gap = gaps.sample(&mut self.stream);
                self.at = Timestamp::from_nanos(self.at.as_nanos().saturating_add(nanos(gap)));
                Some(self.at.as_nanos())
            }
            Arrivals::Varying(_) => self.next_varying(),
        }
    }

    /// Candidates at the highest rate of the interval, each kept with the probability that the true rate has of it.
    fn next_varying(&mut self) -> Option<i64> {
        let Arrivals::Varying(series) = &self.arrivals else { return None };
        loop {
            let (from, to) = series.segment(self.segment);
            let highest = from.max(to);
            let end = series.segment_end(self.segment);
            let gap = if highest > RATE_LEAST { nanos(self.stream.exponential() / highest) } else { i64::MAX };
            let candidate = self.at.as_nanos().saturating_add(gap);
            match end {
                // The process has no memory: it starts afresh at the border.
                Some(end) if candidate >= end.as_nanos() => {
                    self.at = end;
                    self.segment = Some(self.segment.map_or(0, |place| place + 1));
                }
                None if candidate == i64::MAX => return None,
                _ => {
                    self.at = Timestamp::from_nanos(candidate);
                    if self.stream.chance(series.at(self.at) / highest) {
                        return Some(candidate);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::series::Series;

    fn times(series: Series, start: i64, count: usize) -> Vec<f64> {
        let load = Load { service: 0, arrivals: Arrivals::Varying(series) };
        let mut source = Source::new(&load, 0, 1, Timestamp::from_secs(start));
        std::iter::from_fn(|| source.next()).take(count).map(crate::number::seconds).collect()
    }

    /// Guarantees: a rate of zero gives no request, and a series that ends in zero ends the process.
    #[test]
    fn no_load_gives_no_requests() {
        let found = times(Series::of(Duration::from_secs(10), vec![0.0, 0.0, 50.0, 0.0]), 0, 10_000);
        assert!(found.iter().all(|at| (10.0..30.0).contains(at)) && (400..600).contains(&found.len()), "{}", found.len());
        assert!(times(Series::constant(0.0), 0, 1).is_empty());
    }

    /// Guarantees: a start within the series, after it and before it all give the rate that holds there.
    #[test]
    fn starts_anywhere() {
        let series = Series::of(Duration::from_secs(10), vec![100.0, 100.0, 10.0]);
        for (start, rate) in [(0, 100.0), (-50, 100.0), (500, 10.0)] {
            let found = times(series.clone(), start, 1000);
            let first: Vec<&f64> = found.iter().filter(|at| **at < f64::from(i32::try_from(start).unwrap()) + 5.0).collect();
            let expected = rate * 5.0;
            assert!((crate::number::real_length(first.len()) - expected).abs() < 4.0 * f64::sqrt(expected), "{start}: {}", first.len());
        }
    }
}
