//! Waiting in front of a server: without trusting two clocks, and with a word on whether they may be trusted.

use crate::interval::{Exchange, Offset};

/// The quantile of an edge's overhead that counts as its way without any queue.
const FLOOR_QUANTILE: f64 = 0.05;
/// A time between two clocks is reported only beyond so many times their uncertainty.
const SIGNIFICANCE: f64 = 3.0;

/// The overhead (see [`crate::interval::overhead`]) that even fast calls of an edge have: its 5 % quantile. Take an hour of
/// calls. Sorts. `None` without any.
#[must_use]
pub fn floor(overheads: &mut [f64]) -> Option<f64> {
    overheads.sort_unstable_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of a length is a length"
    )]
    let rank = (FLOOR_QUANTILE * overheads.len() as f64).floor() as usize;
    overheads.get(rank).copied().filter(|floor| floor.is_finite())
}

/// The part of a call's overhead that is queueing: what exceeds the edge's floor. Needs no comparison of clocks.
#[must_use]
pub fn queueing(overhead: f64, floor: f64) -> f64 {
    (overhead - floor).max(0.0)
}

/// Time from the client's start to the server's, on one clock. `None` unless it is more than three times the uncertainty of the
/// clocks' offset: below that it may be all error.
#[must_use]
pub fn request_path(exchange: Exchange, offset: Offset) -> Option<f64> {
    significant(exchange.server.start - exchange.client.start, offset)
}

/// Time a message lay in its queue, from the end of the producer's span (or the broker's enqueue time) to the start of its
/// processing, on one clock. `None` unless it is more than three times the uncertainty of the offset.
#[must_use]
pub fn messaging_lag(sent: f64, processed: f64, offset: Offset) -> Option<f64> {
    significant(processed - sent, offset)
}

/// The offset of a consumer's clock from a producer's, from raw lags: a message that found the queue empty took no time, so the
/// least lag is the offset. Its uncertainty is what a fast delivery takes: `delivery`, in seconds. `None` without lags.
#[must_use]
pub fn lag_offset(lags: &[f64], delivery: f64) -> Option<Offset> {
    let least = lags.iter().copied().filter(|lag| lag.is_finite()).reduce(f64::min)?;
    Some(Offset { estimate: least, uncertainty: delivery.max(0.0) })
}

/// Consumers that keep up with `arrival_rate` and drain `backlog` messages within `drain` seconds at a utilization of `safe`:
/// ⌈(λ + backlog / drain) · S / ρ*⌉, at most `partitions`, because more would be idle. `None` when a figure makes no sense.
#[must_use]
pub fn consumers(arrival_rate: f64, backlog: f64, drain: f64, service_time: f64, safe: f64, partitions: Option<u32>) -> Option<u32> {
    let load = (arrival_rate + backlog / drain) * service_time / safe;
    let is_sane = arrival_rate >= 0.0 && backlog >= 0.0 && drain > 0.0 && service_time >= 0.0 && safe > 0.0;
    if !(is_sane && load <= f64::from(u32::MAX)) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked against both ends")]
    let wanted = (load - 1e-9).ceil().max(0.0) as u32;
    Some(wanted.min(partitions.unwrap_or(u32::MAX)))
}

fn significant(difference: f64, offset: Offset) -> Option<f64> {
    let time = difference - offset.estimate;
    (time > SIGNIFICANCE * offset.uncertainty).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::{Span, offset_of_exchange, overhead};

    fn exchange() -> Exchange {
        Exchange { client: Span { start: 0.0, end: 100.0 }, server: Span { start: 1030.0, end: 1090.0 } }
    }

    /// Guarantees: the reference call (net 40, offset 1010 ± 20): what exceeds the floor is queueing, and a request path of 20
    /// within an uncertainty of 20 is not reported.
    #[test]
    fn the_reference_call() {
        assert!((queueing(overhead(exchange()), 15.0) - 25.0).abs() < 1e-12);
        assert!(queueing(overhead(exchange()), 50.0) == 0.0);
        assert_eq!(request_path(exchange(), offset_of_exchange(exchange())), None);
        assert_eq!(request_path(exchange(), Offset { estimate: 1010.0, uncertainty: 5.0 }), Some(20.0));
    }

    /// Guarantees: the floor is the 5 % quantile, so one call that the clock rounded down to nothing does not set it.
    #[test]
    fn the_floor_is_a_low_quantile() {
        let mut overheads: Vec<f64> = (0..100).rev().map(f64::from).collect();
        assert_eq!(floor(&mut overheads), Some(5.0));
        assert_eq!((floor(&mut [7.0]), floor(&mut [])), (Some(7.0), None));
    }

    /// Guarantees: the least lag sets the clocks right, and only lags beyond the uncertainty are reported.
    #[test]
    fn the_least_lag_is_the_offset() {
        let offset = lag_offset(&[-4.0, -4.9, -1.0], 0.1).unwrap();
        assert_eq!(messaging_lag(100.0, 99.0, offset).map(|lag| (lag * 10.0).round()), Some(39.0));
        assert_eq!((messaging_lag(100.0, 95.2, offset), lag_offset(&[], 0.1)), (None, None));
    }

    /// Guarantees: consumers for the rate and for the backlog, at most one per partition.
    #[test]
    fn consumers_drain_the_backlog() {
        assert_eq!(consumers(10.0, 0.0, 60.0, 0.5, 0.5, None), Some(10));
        assert_eq!(consumers(10.0, 600.0, 60.0, 0.5, 0.5, None), Some(20));
        assert_eq!(consumers(10.0, 600.0, 60.0, 0.5, 0.5, Some(12)), Some(12));
        assert_eq!((consumers(0.0, 0.0, 60.0, 0.5, 0.5, None), consumers(1.0, 1.0, 0.0, 0.5, 0.5, None)), (Some(0), None));
    }
}
