//! Calls per visit with their confidence, and how many calls run at once.

use crate::interval::Span;

/// One trace: how often it visited the caller and how many calls it made from there to one callee.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceCalls {
    /// Entry spans of the caller.
    pub visits: f64,
    /// Calls from the caller to the callee.
    pub calls: f64,
    /// The trace's adjusted count: sampling is by trace, so one weight holds for all of its spans.
    pub weight: f64,
}

/// Calls per visit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FanOut {
    /// Mean calls per visit; may exceed one.
    pub calls_per_visit: f64,
    /// Half of the 95 % interval relative to the mean; `None` for a mean of zero, or from a single trace, which says nothing of
    /// how traces differ.
    pub relative_half_width: Option<f64>,
    /// Traces with visits.
    pub traces: usize,
}

/// What is kept of many traces, or of other groups of visits that do not depend on each other: minutes, say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Clusters {
    visits: f64,
    calls: f64,
    visits_squared: f64,
    visits_by_calls: f64,
    calls_squared: f64,
    count: usize,
}

/// Calls per visit of traces. `None` without visits.
#[must_use]
pub fn fan_out(traces: &[TraceCalls]) -> Option<FanOut> {
    let mut clusters = Clusters::default();
    traces.iter().for_each(|trace| clusters.add(trace.weight * trace.visits, trace.weight * trace.calls));
    clusters.fan_out()
}

/// The largest number of spans that run at the same time: what a fork–join model needs, not the number of children. Spans that
/// only touch do not overlap.
#[must_use]
pub fn width(spans: &[Span]) -> usize {
    let mut events: Vec<(f64, bool)> = Vec::with_capacity(2 * spans.len());
    for span in spans.iter().filter(|span| span.end > span.start) {
        events.extend([(span.start, true), (span.end, false)]);
    }
    // At the same time ends come first.
    events.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut open, mut most) = (0usize, 0);
    for (_, begins) in events {
        open = if begins { open + 1 } else { open.saturating_sub(1) };
        most = most.max(open);
    }
    most
}

// === impl Clusters ===

impl Clusters {
    /// Adds a group of visits and the calls that they made.
    pub fn add(&mut self, visits: f64, calls: f64) {
        self.visits += visits;
        self.calls += calls;
        self.visits_squared += visits * visits;
        self.visits_by_calls += visits * calls;
        self.calls_squared += calls * calls;
        self.count += usize::from(visits > 0.0);
    }

    /// What was added so far counts for a share of what comes.
    pub fn fade(&mut self, share: f64) {
        self.visits *= share;
        self.calls *= share;
        for sum in [&mut self.visits_squared, &mut self.visits_by_calls, &mut self.calls_squared] {
            *sum *= share * share;
        }
    }

    /// Calls per visit as a ratio of sums, with the interval of the ratio (cluster) estimator: groups differ, what is in one does not
    /// vary independently. `None` without visits.
    #[must_use]
    pub fn fan_out(&self) -> Option<FanOut> {
        if !(self.visits > 0.0 && self.calls >= 0.0 && (self.visits_squared + self.calls_squared).is_finite()) {
            return None;
        }
        let mean = self.calls / self.visits;
        let residual = self.calls_squared - 2.0 * mean * self.visits_by_calls + mean * mean * self.visits_squared;
        let spread = residual.max(0.0).sqrt() / self.visits;
        let relative_half_width = (mean > 0.0 && self.count > 1).then(|| 1.96 * spread / mean);
        Some(FanOut { calls_per_visit: mean, relative_half_width, traces: self.count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(visits: f64, calls: f64) -> TraceCalls {
        TraceCalls { visits, calls, weight: 1.0 }
    }

    /// Guarantees: traces that all call twice have a fan-out of exactly two; weights count.
    #[test]
    fn a_ratio_of_sums() {
        let same = fan_out(&[trace(1.0, 2.0), trace(3.0, 6.0)]).unwrap();
        assert_eq!((same.calls_per_visit, same.relative_half_width, same.traces), (2.0, Some(0.0), 2));
        let weighted = fan_out(&[trace(1.0, 0.0), TraceCalls { weight: 3.0, ..trace(1.0, 4.0) }]).unwrap();
        assert!((weighted.calls_per_visit - 3.0).abs() < 1e-12);
        // √((0 − 3)² + (3 · (4 − 3))²) / 4 · 1.96 / 3
        assert!((weighted.relative_half_width.unwrap() - 1.96 * 18f64.sqrt() / 12.0).abs() < 1e-12);
    }

    /// Guarantees: no visits give nothing, one trace or no calls give no interval.
    #[test]
    fn what_is_not_known_is_none() {
        assert_eq!((fan_out(&[]), fan_out(&[trace(0.0, 0.0)])), (None, None));
        assert_eq!(fan_out(&[trace(1.0, 5.0)]).unwrap().relative_half_width, None);
        assert_eq!(fan_out(&[trace(1.0, 0.0), trace(1.0, 0.0)]).unwrap().relative_half_width, None);
    }

    /// Guarantees: the relative interval shrinks with the root of the number of traces.
    #[test]
    fn more_traces_are_surer() {
        let some: Vec<TraceCalls> = (0..50).map(|index| trace(1.0, f64::from(index % 2))).collect();
        let more: Vec<TraceCalls> = (0..200).map(|index| trace(1.0, f64::from(index % 2))).collect();
        let half = |traces: &[TraceCalls]| fan_out(traces).unwrap().relative_half_width.unwrap();
        assert!((half(&some) / half(&more) - 2.0).abs() < 1e-9);
    }

    /// Guarantees: groups that fade count less, in the mean and in how sure it is.
    #[test]
    fn old_groups_fade() {
        let mut clusters = Clusters::default();
        (0..50).for_each(|_| clusters.add(10.0, 10.0));
        clusters.fade(0.5);
        (0..25).for_each(|_| clusters.add(10.0, 40.0));
        let found = clusters.fan_out().unwrap();
        assert!((found.calls_per_visit - 2.5).abs() < 1e-12 && found.traces == 75);
        // Σ w² (y − 2.5 x)² = 50 · ¼ · 15² + 25 · 15², over Σ w x = 500.
        let spread = (12.5 * 225.0 + 25.0 * 225.0_f64).sqrt() / 500.0;
        assert!((found.relative_half_width.unwrap() - 1.96 * spread / 2.5).abs() < 1e-12);
    }

    /// Guarantees: the width is the overlap, not the number; touching and empty spans do not count.
    #[test]
    fn width_is_the_overlap() {
        let spans = [(10.0, 40.0), (30.0, 80.0), (85.0, 95.0), (80.0, 90.0), (35.0, 35.0)].map(|(start, end)| Span { start, end });
        assert_eq!((width(&spans), width(&[])), (2, 0));
    }
}
