//! Which items are refused one by one, and why: the rest of their request is kept (OTLP partial success).
//!
//! An item is refused when no honest row can be made of it: without ids a span pairs with nothing, without times it
//! belongs to no window, and a histogram whose buckets do not fit its bounds has no quantiles.

use std::fmt::Display;

/// A span may end this much before it began, in nanoseconds: wall clocks are stepped back while spans run. Such a span
/// lasts zero seconds and starts where it ends. More than a second is no clock step but a broken sender.
const MAX_CLOCK_STEP: i64 = 1_000_000_000;

/// Why an item was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the trace id is not 16 bytes (32 hex digits in JSON), or all zero")]
    TraceId,
    #[error("the span id is not 8 bytes (16 hex digits in JSON), or all zero")]
    SpanId,
    #[error("the parent span id is not 8 bytes (16 hex digits in JSON)")]
    ParentSpanId,
    #[error("the start time is absent")]
    NoStart,
    #[error("the end time is absent")]
    NoEnd,
    #[error("the time is absent")]
    NoTime,
    #[error("a time lies beyond the year 2262")]
    TimeRange,
    #[error("the span ends more than a second before it starts")]
    Backwards,
    #[error("the metric has no name")]
    NoName,
    #[error("the number point has neither a value nor the flag that none was recorded")]
    NoValue,
    #[error("the bucket counts do not fit the bounds: one more count than bounds is needed, or neither")]
    Buckets,
    #[error("the bucket bounds do not increase")]
    Bounds,
}

/// What became of the items of one request.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) items: u64,
    pub(super) rejected: u64,
    pub(super) reason: String,
    pub(super) skipped_details: u64,
    pub(super) clipped_counts: u64,
}

// === impl Tally ===

impl Tally {
    /// Counts a refused item; the reason of the first is kept.
    pub(super) fn refuse(&mut self, what: impl Display, refusal: Refusal) {
        if self.rejected == 0 {
            self.reason = format!("{what}: {refusal}");
        }
        self.rejected += 1;
    }
}

/// A trace id; all zero is invalid by the W3C and OTLP specifications.
pub(super) fn trace_id(bytes: &[u8]) -> Result<[u8; 16], Refusal> {
    bytes.try_into().ok().filter(|id| *id != [0; 16]).ok_or(Refusal::TraceId)
}

/// A span id; all zero is invalid.
pub(super) fn span_id(bytes: &[u8]) -> Result<[u8; 8], Refusal> {
    bytes.try_into().ok().filter(|id| *id != [0; 8]).ok_or(Refusal::SpanId)
}

/// A parent's span id. Some senders write zeros where there is no parent.
pub(super) fn parent_span_id(bytes: &[u8]) -> Result<Option<[u8; 8]>, Refusal> {
    match bytes {
        [] => Ok(None),
        _ => <[u8; 8]>::try_from(bytes).map(|id| Some(id).filter(|id| *id != [0; 8])).map_err(|_| Refusal::ParentSpanId),
    }
}

/// A point in time that must be there.
pub(super) fn time(nanos: u64, absent: Refusal) -> Result<i64, Refusal> {
    if nanos == 0 { Err(absent) } else { i64::try_from(nanos).map_err(|_| Refusal::TimeRange) }
}

/// Start and end of a span, the start mended when the clock was stepped back in between.
pub(super) fn interval(start: u64, end: u64) -> Result<(i64, i64), Refusal> {
    let (start, end) = (time(start, Refusal::NoStart)?, time(end, Refusal::NoEnd)?);
    if start - end > MAX_CLOCK_STEP { Err(Refusal::Backwards) } else { Ok((start.min(end), end)) }
}

/// Checks that `counts` buckets go with `bounds`.
pub(super) fn buckets(counts: usize, bounds: &[f64]) -> Result<(), Refusal> {
    if !(counts == bounds.len() + 1 || counts == 0 && bounds.is_empty()) {
        Err(Refusal::Buckets)
    } else if bounds.is_sorted_by(|low, high| low < high) && !bounds.first().is_some_and(|bound| bound.is_nan()) {
        Ok(())
    } else {
        Err(Refusal::Bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a clock stepped back by up to a second costs the duration, not the span; more is refused.
    #[test]
    fn small_clock_steps_are_mended() {
        let second = 1_000_000_000;
        assert_eq!(interval(second, 2 * second), Ok((1_000_000_000, 2_000_000_000)));
        assert_eq!(interval(2 * second, second), Ok((1_000_000_000, 1_000_000_000)));
        assert_eq!(interval(2 * second + 1, second), Err(Refusal::Backwards));
        assert_eq!(interval(0, second), Err(Refusal::NoStart));
        assert_eq!(interval(second, 0), Err(Refusal::NoEnd));
        assert_eq!(interval(u64::MAX, second), Err(Refusal::TimeRange));
    }

    /// Guarantees: ids of a wrong length and zero ids are refused, a zero parent is no parent.
    #[test]
    fn ids_are_checked() {
        assert_eq!(trace_id(&[1; 15]), Err(Refusal::TraceId));
        assert_eq!(trace_id(&[0; 16]), Err(Refusal::TraceId));
        assert_eq!(span_id(&[0; 8]), Err(Refusal::SpanId));
        assert_eq!(span_id(&[7; 8]), Ok([7; 8]));
        assert_eq!(parent_span_id(&[]), Ok(None));
        assert_eq!(parent_span_id(&[0; 8]), Ok(None));
        assert_eq!(parent_span_id(&[1; 4]), Err(Refusal::ParentSpanId));
    }

    /// Guarantees: a histogram has one more bucket than bounds, or neither, and its bounds increase.
    #[test]
    fn buckets_fit_bounds() {
        assert_eq!(buckets(0, &[]), Ok(()));
        assert_eq!(buckets(1, &[]), Ok(()));
        assert_eq!(buckets(3, &[1.0, 2.0]), Ok(()));
        assert_eq!(buckets(2, &[1.0, 2.0]), Err(Refusal::Buckets));
        assert_eq!(buckets(3, &[2.0, 2.0]), Err(Refusal::Bounds));
        assert_eq!(buckets(2, &[f64::NAN]), Err(Refusal::Bounds));
    }
}
