//! What intervals of time say: concurrency, Little's law, self time, the critical path and the offset between two clocks.
//!
//! Times are plain `f64` in one unit of the caller's choice (seconds or nanoseconds since a common origin).

/// A span of time `[start, end)`; `end < start` counts as empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Beginning.
    pub start: f64,
    /// End.
    pub end: f64,
}

/// A node of a trace for [`critical_path`]: a span and the index of its parent, `None` for the root.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// When it ran.
    pub span: Span,
    /// Its parent's index in the same slice.
    pub parent: Option<usize>,
}

/// One remote call as both sides saw it: the client's clock for `client`, the server's for `server`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchange {
    /// The client span.
    pub client: Span,
    /// The server span.
    pub server: Span,
}

/// Server clock minus client clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offset {
    /// Best estimate.
    pub estimate: f64,
    /// The truth lies within ± this of the estimate.
    pub uncertainty: f64,
}

/// Length of the union of `spans` within `bounds`. Sorts `spans` by start.
#[must_use]
pub fn covered(bounds: Span, spans: &mut [Span]) -> f64 {
    spans.sort_unstable_by(|a, b| a.start.total_cmp(&b.start));
    let (mut total, mut reached) = (0.0, bounds.start);
    for span in spans {
        let end = span.end.min(bounds.end);
        let start = span.start.max(reached);
        if end > start {
            total += end - start;
            reached = end;
        }
    }
    total
}

/// Time that `span` spent itself: its duration without the union of its synchronous children, clipped to it. Sorts `children`.
#[must_use]
pub fn self_time(span: Span, children: &mut [Span]) -> f64 {
    (span.end - span.start - covered(span, children)).max(0.0)
}

/// Little's residual L / (X·T) − 1 from time-average concurrency, throughput and mean sojourn of one window. Near zero when all
/// three describe the same stable load; negative when spans are lost or late, positive when long ones dominate.
#[must_use]
pub fn little_residual(concurrency: f64, throughput: f64, sojourn: f64) -> Option<f64> {
    let expected = throughput * sojourn;
    (expected > 0.0 && concurrency >= 0.0).then(|| concurrency / expected - 1.0)
}

/// How much of the root's duration each node is responsible for; the shares sum to the root's duration. Walks backwards from
/// the root's end: whichever child ended last before the current point is what the parent was waiting for.
#[must_use]
pub fn critical_path(nodes: &[Node]) -> Vec<f64> {
    let mut shares = vec![0.0; nodes.len()];
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut root = None;
    for (index, node) in nodes.iter().enumerate() {
        match node.parent {
            Some(parent) if parent < nodes.len() && parent != index => children[parent].push(index),
            _ => root = root.or(Some(index)),
        }
    }
    for list in &mut children {
        list.sort_unstable_by(|a, b| nodes[*b].span.end.total_cmp(&nodes[*a].span.end));
    }
    let Some(root) = root else { return shares };
    // An explicit stack: traces may be deeper than ours. A node is entered once, because each has one parent.
    let mut stack = vec![(root, nodes[root].span.start, nodes[root].span.end)];
    while let Some((index, floor, until)) = stack.pop() {
        let start = nodes[index].span.start.max(floor);
        let mut current = nodes[index].span.end.min(until);
        for child in &children[index] {
            let span = nodes[*child].span;
            // A child that ends after the point, or does not lie inside, was not waited for.
            if span.end > current || span.end <= start {
                continue;
            }
            shares[index] += current - span.end;
            stack.push((*child, start, span.end));
            // One that ends before it begins was waited for at its end, for no time.
            current = span.start.min(span.end).max(start);
        }
        shares[index] += (current - start).max(0.0);
    }
    shares
}

/// Time of a call that the server did not see: network both ways and every queue in front of the server. Needs no comparison
/// of clocks. Clamped at zero.
#[must_use]
pub fn overhead(exchange: Exchange) -> f64 {
    ((exchange.client.end - exchange.client.start) - (exchange.server.end - exchange.server.start)).max(0.0)
}

/// The clock offset that one call proves: it began on the server after it began on the client, and ended before.
#[must_use]
pub fn offset_of_exchange(exchange: Exchange) -> Offset {
    let (low, high) = offset_bounds(exchange);
    Offset { estimate: 0.5 * (low + high), uncertainty: 0.5 * (high - low).abs() }
}

/// The clock offset of one pair of hosts from many calls: the 0.99-quantile of the lower bounds and the 0.01-quantile of the
/// upper ones. `None` without calls, or when the bounds contradict each other (the offset drifts, or retries are mixed in).
#[must_use]
pub fn offset(exchanges: &[Exchange]) -> Option<Offset> {
    let (mut lows, mut highs): (Vec<f64>, Vec<f64>) = exchanges.iter().map(|exchange| offset_bounds(*exchange)).unzip();
    lows.sort_unstable_by(f64::total_cmp);
    highs.sort_unstable_by(f64::total_cmp);
    let rank = lows.len().checked_sub(1)? / 100;
    let (low, high) = (*lows.get(lows.len() - 1 - rank)?, *highs.get(rank)?);
    (low <= high).then_some(Offset { estimate: 0.5 * (low + high), uncertainty: 0.5 * (high - low) })
}

fn offset_bounds(exchange: Exchange) -> (f64, f64) {
    (exchange.server.end - exchange.client.end, exchange.server.start - exchange.client.start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(start: f64, end: f64) -> Span {
        Span { start, end }
    }

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-9, "{actual} is not {expected}");
    }

    /// Guarantees: overlapping children count once: 100 − 80 = 20.
    #[test]
    fn self_time_is_without_the_union_of_children() {
        close(self_time(span(0.0, 100.0), &mut [span(85.0, 95.0), span(10.0, 40.0), span(30.0, 80.0)]), 20.0);
    }

    /// Guarantees: children that stick out are clipped, and those outside do not count.
    #[test]
    fn children_are_clipped() {
        close(self_time(span(10.0, 20.0), &mut [span(5.0, 12.0), span(18.0, 30.0), span(21.0, 25.0), span(0.0, 9.0)]), 6.0);
        close(self_time(span(10.0, 20.0), &mut [span(0.0, 100.0)]), 0.0);
    }

    /// Guarantees: concurrency over [10, 20) by integration is 1.85, and Little's law holds exactly for whole spans.
    #[test]
    fn concurrency_and_residual() {
        let spans = [(8.0, 12.0), (9.0, 21.0), (11.0, 11.5), (15.0, 25.0), (19.0, 20.0), (5.0, 9.0)];
        let busy: f64 = spans.iter().map(|(start, end)| (f64::min(*end, 20.0) - f64::max(*start, 10.0)).max(0.0)).sum();
        close(busy / 10.0, 1.85);
        close(little_residual(2.0, 10.0, 0.2).unwrap(), 0.0);
        close(little_residual(1.5, 10.0, 0.2).unwrap(), -0.25);
        assert_eq!(little_residual(1.0, 0.0, 0.2), None);
    }

    /// Guarantees: the backward walk leaves A off the path: B 50, C 10, root 40.
    #[test]
    fn critical_path_of_the_reference_trace() {
        let child = |start, end| Node { span: span(start, end), parent: Some(0) };
        let nodes = [Node { span: span(0.0, 100.0), parent: None }, child(10.0, 40.0), child(30.0, 80.0), child(85.0, 95.0)];
        assert_eq!(critical_path(&nodes), [40.0, 0.0, 50.0, 10.0]);
    }

    /// Guarantees: what ends before it begins, as under a clock that was set back, takes no time of its own, and its parent no more
    /// than there is.
    #[test]
    fn empty_spans_take_no_time() {
        let child = |start, end| Node { span: span(start, end), parent: Some(0) };
        let nodes = [Node { span: span(0.0, 100.0), parent: None }, child(80.0, 50.0), child(10.0, 40.0)];
        assert_eq!(critical_path(&nodes), [70.0, 0.0, 30.0]);
    }

    /// Guarantees: one call bounds the offset to [990, 1030] and its overhead is 40.
    #[test]
    fn offset_of_the_reference_exchange() {
        let exchange = Exchange { client: span(0.0, 100.0), server: span(1030.0, 1090.0) };
        let offset = offset_of_exchange(exchange);
        close(offset.estimate, 1010.0);
        close(offset.uncertainty, 20.0);
        close(overhead(exchange), 40.0);
    }

    /// Guarantees: many calls narrow the offset, and contradicting ones give none.
    #[test]
    fn offset_from_many_calls() {
        let wide = Exchange { client: span(0.0, 100.0), server: span(1030.0, 1090.0) };
        let narrow = Exchange { client: span(0.0, 100.0), server: span(1005.0, 1099.0) };
        let both = offset(&[wide, narrow]).unwrap();
        close(both.estimate, 1002.0);
        close(both.uncertainty, 3.0);
        let drifted = Exchange { client: span(0.0, 100.0), server: span(5.0, 99.0) };
        assert_eq!(offset(&[wide, drifted]), None);
        assert_eq!(offset(&[]), None);
    }

    proptest! {
        /// Guarantees: shares of the critical path are not negative and sum to the root's duration, whatever the tree.
        #[test]
        fn critical_path_sums_to_the_root(shape in proptest::collection::vec((0usize..20, 0u32..90, 1u32..60), 1..20)) {
            let mut nodes = vec![Node { span: span(0.0, 100.0), parent: None }];
            for (parent, start, length) in shape {
                let start = f64::from(start);
                nodes.push(Node { span: span(start, start + f64::from(length)), parent: Some(parent % nodes.len()) });
            }
            let shares = critical_path(&nodes);
            prop_assert!(shares.iter().all(|share| *share >= 0.0));
            prop_assert!((shares.iter().sum::<f64>() - 100.0).abs() < 1e-9);
        }
    }
}
