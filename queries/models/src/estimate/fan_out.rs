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

/// Calls per visit as a ratio of sums, with the interval of the ratio (cluster) estimator: traces differ, spans within one do
/// not vary independently. `None` without visits.
#[must_use]
pub fn fan_out(traces: &[TraceCalls]) -> Option<FanOut> {
    let sum = |of: &dyn Fn(&TraceCalls) -> f64| traces.iter().map(of).sum::<f64>();
    let visits = sum(&|trace| trace.weight * trace.visits);
    let calls = sum(&|trace| trace.weight * trace.calls);
    if !(visits > 0.0 && calls >= 0.0 && (visits + calls).is_finite()) {
        return None;
    }
    let mean = calls / visits;
    let spread = sum(&|trace| (trace.weight * (trace.calls - mean * trace.visits)).powi(2)).sqrt() / visits;
    let traces = traces.iter().filter(|trace| trace.visits > 0.0).count();
    let relative_half_width = (mean > 0.0 && traces > 1).then(|| 1.96 * spread / mean);
    Some(FanOut { calls_per_visit: mean, relative_half_width, traces })
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

    /// Guarantees: the width is the overlap, not the number; touching and empty spans do not count.
    #[test]
    fn width_is_the_overlap() {
        let spans = [(10.0, 40.0), (30.0, 80.0), (85.0, 95.0), (80.0, 90.0), (35.0, 35.0)].map(|(start, end)| Span { start, end });
        assert_eq!((width(&spans), width(&[])), (2, 0));
    }
}
