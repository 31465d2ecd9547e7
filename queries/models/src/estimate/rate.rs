//! Arrival rate, throughput and concurrency of one window.
//!
//! A span is seen only after it ended, so arrivals by start time are complete only long after the window. For a fast answer,
//! completions plus the growth of what is under way give the same rate.

use crate::interval::Span;

/// A span and how many real ones it stands for (1 when nothing is sampled away).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighted {
    /// When it ran.
    pub span: Span,
    /// Its adjusted count.
    pub weight: f64,
}

/// What the spans say of a window `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// Spans that began in the window, per second.
    pub arrival_rate: f64,
    /// Spans that ended in the window, per second.
    pub throughput: f64,
    /// Time average of the spans under way.
    pub concurrency: f64,
    /// Mean duration of the spans that ended in the window; `None` when none did.
    pub sojourn: Option<f64>,
    /// Under way when the window began.
    pub backlog_before: f64,
    /// Under way when it ended.
    pub backlog_after: f64,
}

/// The flow of `spans` through `window`. `None` for an empty window, or when a weight is no positive number.
#[must_use]
pub fn flow(window: Span, spans: &[Weighted]) -> Option<Flow> {
    let width = window.end - window.start;
    let are_weights = spans.iter().all(|span| span.weight.is_finite() && span.weight >= 0.0);
    if !(width > 0.0 && width.is_finite() && are_weights) {
        return None;
    }
    let sum = |of: &dyn Fn(Span) -> f64| spans.iter().map(|Weighted { span, weight }| weight * of(*span)).sum::<f64>();
    let count = |is: &dyn Fn(Span) -> bool| sum(&|span| if is(span) { 1.0 } else { 0.0 });
    let ends_within = |span: Span| window.start <= span.end && span.end < window.end;
    let completions = count(&ends_within);
    let under_way = |at: f64| count(&|span| span.start < at && at <= span.end);
    let time = sum(&|span| if ends_within(span) { span.end - span.start } else { 0.0 });
    Some(Flow {
        arrival_rate: count(&|span| window.start <= span.start && span.start < window.end) / width,
        throughput: completions / width,
        concurrency: sum(&|span| (span.end.min(window.end) - span.start.max(window.start)).max(0.0)) / width,
        sojourn: (completions > 0.0).then(|| time / completions),
        backlog_before: under_way(window.start),
        backlog_after: under_way(window.end),
    })
}

/// Arrivals per second from completions and the growth of what is under way: X + (L₁ − L₀) / w. Right at once, where a count of
/// starts is too low until the last span has ended. `None` for an empty window; never negative.
#[must_use]
pub fn arrival_rate(throughput: f64, backlog_before: f64, backlog_after: f64, width: f64) -> Option<f64> {
    let rate = throughput + (backlog_after - backlog_before) / width;
    (width > 0.0 && rate.is_finite()).then_some(rate.max(0.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interval::little_residual;

    fn spans(list: &[(f64, f64)]) -> Vec<Weighted> {
        list.iter().map(|(start, end)| Weighted { span: Span { start: *start, end: *end }, weight: 1.0 }).collect()
    }

    const WINDOW: Span = Span { start: 10.0, end: 20.0 };

    /// Guarantees: the reference window: L 1.85, λ 0.3, X 0.2 (an end at the window's end lies outside).
    #[test]
    fn the_reference_window() {
        let list = spans(&[(8.0, 12.0), (9.0, 21.0), (11.0, 11.5), (15.0, 25.0), (19.0, 20.0), (5.0, 9.0)]);
        let flow = flow(WINDOW, &list).unwrap();
        for (actual, expected) in [(flow.concurrency, 1.85), (flow.arrival_rate, 0.3), (flow.throughput, 0.2)] {
            assert!((actual - expected).abs() < 1e-12, "{flow:?}");
        }
        assert!((flow.sojourn.unwrap() - 2.25).abs() < 1e-12);
        let residual = little_residual(flow.concurrency, flow.throughput, flow.sojourn.unwrap()).unwrap();
        assert!((residual - (1.85 / 0.45 - 1.0)).abs() < 1e-12);
    }

    /// Guarantees: nothing is said of an empty window or of weights that are none, and an idle window has no sojourn.
    #[test]
    fn what_cannot_be_computed_is_none() {
        assert_eq!(flow(Span { start: 1.0, end: 1.0 }, &[]), None);
        let broken = Weighted { span: WINDOW, weight: f64::NAN };
        assert_eq!(flow(WINDOW, &[broken]), None);
        assert_eq!(flow(WINDOW, &[]).unwrap().sojourn, None);
        assert_eq!((arrival_rate(1.0, 0.0, 5.0, 0.0), arrival_rate(0.0, 9.0, 0.0, 1.0)), (None, Some(0.0)));
    }

    proptest! {
        /// Guarantees: completions and the growth of the backlog give the rate of starts exactly, whatever the spans.
        #[test]
        fn backlog_makes_up_for_late_spans(list in proptest::collection::vec((0u32..30, 1u32..20, 1u32..4), 0..40)) {
            let list: Vec<Weighted> = list.into_iter().map(|(start, length, weight)| {
                let (start, weight) = (f64::from(start), f64::from(weight));
                Weighted { span: Span { start, end: start + f64::from(length) }, weight }
            }).collect();
            let flow = flow(WINDOW, &list).unwrap();
            let rate = arrival_rate(flow.throughput, flow.backlog_before, flow.backlog_after, 10.0).unwrap();
            prop_assert!((rate - flow.arrival_rate).abs() < 1e-9);
        }
    }
}
