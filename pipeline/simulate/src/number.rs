//! Conversions between counts, nanoseconds and real numbers, in one place, because each of them loses something.

use std::time::Duration;

/// Nanoseconds in a second.
pub(crate) const SECOND: f64 = 1e9;

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "a simulation never counts to 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

/// A length as a real number.
#[expect(clippy::cast_precision_loss, reason = "no collection has 2^53 elements")]
pub(crate) fn real_length(length: usize) -> f64 {
    length as f64
}

/// Nanoseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "a difference of simulated times is far below 2^53 ns, 104 days")]
pub(crate) fn seconds(nanos: i64) -> f64 {
    nanos as f64 / SECOND
}

/// Seconds as nanoseconds, rounded to the nearest; saturates, and what is not a number is zero.
#[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
pub(crate) fn nanos(seconds: f64) -> i64 {
    (seconds * SECOND).round() as i64
}

/// Seconds as nanoseconds, rounded up, so that nothing ends before it is done.
#[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
pub(crate) fn nanos_up(seconds: f64) -> i64 {
    (seconds * SECOND).ceil() as i64
}

/// A number of replicas from a real number: the part after the point is cut off, below zero is zero.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
pub(crate) fn whole(value: f64) -> u32 {
    value as u32
}

/// A position in a collection; the part after the point is cut off, below zero is zero.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
pub(crate) fn position(value: f64) -> usize {
    value as usize
}

/// A length of time from seconds; what is negative or no number is zero.
pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// An index for storage in 32 bits. Bounds elsewhere keep every collection far below 2^32.
pub(crate) fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// An index for access.
pub(crate) fn at(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
