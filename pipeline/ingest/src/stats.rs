//! Counters of the receiver: plain atomics that cost nanoseconds and know nothing of how they are exported.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::decode::{Encoding, Signal};

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP.
    Http,
}

/// Why a request was not accepted. Closed: each is a label of one counter and has one answer in each protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The byte budget or the queue has no room. Retryable.
    QueueFull,
    /// Too many requests at a time. Retryable.
    Concurrency,
    /// Shutting down. Retryable (elsewhere, or here after the restart).
    Draining,
    /// The body stood still or took too long. Retryable.
    Stalled,
    /// It could not be written to disk. Retryable.
    NotKept,
    /// Larger than `max_request_bytes`, before or after decompression.
    TooLarge,
    /// Not OTLP, not what the compression header says, or not one whole message.
    Malformed,
    /// No bearer token, or an unknown one.
    Unauthenticated,
    /// A compression that we do not read.
    UnsupportedCompression,
    /// A content type that we do not read.
    UnsupportedMediaType,
    /// No such path or service.
    UnknownPath,
    /// A known path, but not `POST`.
    WrongMethod,
    /// The client went away while it sent the body.
    Aborted,
    /// The decoder panicked: a defect of ours.
    Internal,
}

/// Upper bounds of the request duration buckets, in microseconds; one more bucket is open-ended.
pub const DURATION_BUCKETS_MICROS: [u64; 8] = [250, 1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];

/// What the receiver counted since it started. Read at any time; each number is exact, a set of them is not one instant.
#[derive(Debug, Default)]
pub struct Stats {
    accepted: [[[AtomicU64; 2]; 2]; 3],
    refused: [AtomicU64; Refusal::ALL.len()],
    items: [AtomicU64; 3],
    rejected_items: [AtomicU64; 3],
    wire_bytes: AtomicU64,
    body_bytes: AtomicU64,
    queue_bytes: AtomicU64,
    requests_in_flight: AtomicU64,
    connections: AtomicU64,
    connections_total: AtomicU64,
    tls_failures: AtomicU64,
    duration_buckets: [AtomicU64; DURATION_BUCKETS_MICROS.len() + 1],
    duration_micros: AtomicU64,
}

/// Counts down when dropped.
#[derive(Debug)]
pub(crate) struct Gauge<'a>(&'a AtomicU64);

/// Durations of acknowledged requests: first byte of the header to acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// Requests per bucket of [`DURATION_BUCKETS_MICROS`] (not cumulative), the last one open-ended.
    pub buckets: [u64; DURATION_BUCKETS_MICROS.len() + 1],
    /// Sum of all durations.
    pub sum: Duration,
}

// === impl Protocol ===

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    /// The metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

// === impl Refusal ===

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::QueueFull,
        Self::Concurrency,
        Self::Draining,
        Self::Stalled,
        Self::NotKept,
        Self::TooLarge,
        Self::Malformed,
        Self::Unauthenticated,
        Self::UnsupportedCompression,
        Self::UnsupportedMediaType,
        Self::UnknownPath,
        Self::WrongMethod,
        Self::Aborted,
        Self::Internal,
    ];

    /// The metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Concurrency => "concurrency",
            Self::Draining => "draining",
            Self::Stalled => "stalled",
            Self::NotKept => "not_kept",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::UnsupportedCompression => "unsupported_compression",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::UnknownPath => "unknown_path",
            Self::WrongMethod => "wrong_method",
            Self::Aborted => "aborted",
            Self::Internal => "internal",
        }
    }

    /// Whether a client that keeps to the OTLP specification sends the request again.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::QueueFull | Self::Concurrency | Self::Draining | Self::Stalled | Self::NotKept)
    }
}

// === impl Stats ===

impl Stats {
    /// Requests acknowledged.
    #[must_use]
    pub fn accepted(&self, signal: Signal, protocol: Protocol, encoding: Encoding) -> u64 {
        self.accepted[signal as usize][protocol as usize][encoding as usize].load(Relaxed)
    }

    /// Requests acknowledged, of every kind.
    #[must_use]
    pub fn accepted_total(&self) -> u64 {
        self.accepted.iter().flatten().flatten().map(|counter| counter.load(Relaxed)).sum()
    }

    /// Requests refused for one reason.
    #[must_use]
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize].load(Relaxed)
    }

    /// Items (spans, points, log records) in acknowledged requests, rejected ones included.
    #[must_use]
    pub fn items(&self, signal: Signal) -> u64 {
        self.items[signal as usize].load(Relaxed)
    }

    /// Items answered as OTLP partial success.
    #[must_use]
    pub fn rejected_items(&self, signal: Signal) -> u64 {
        self.rejected_items[signal as usize].load(Relaxed)
    }

    /// Bytes of acknowledged requests as they came (compressed).
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        self.wire_bytes.load(Relaxed)
    }

    /// Bytes of acknowledged requests after decompression.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Relaxed)
    }

    /// Gauge: bytes held by requests being read, decoded, queued or still in use by whoever took them from the queue.
    #[must_use]
    pub fn queue_bytes(&self) -> u64 {
        self.queue_bytes.load(Relaxed)
    }

    /// Gauge: export requests being answered.
    #[must_use]
    pub fn requests_in_flight(&self) -> u64 {
        self.requests_in_flight.load(Relaxed)
    }

    /// Gauge: open connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Connections accepted since the start.
    #[must_use]
    pub fn connections_total(&self) -> u64 {
        self.connections_total.load(Relaxed)
    }

    /// TLS handshakes that failed or took too long.
    #[must_use]
    pub fn tls_failures(&self) -> u64 {
        self.tls_failures.load(Relaxed)
    }

    /// Durations of acknowledged requests.
    #[must_use]
    pub fn durations(&self) -> Durations {
        Durations {
            buckets: std::array::from_fn(|i| self.duration_buckets[i].load(Relaxed)),
            sum: Duration::from_micros(self.duration_micros.load(Relaxed)),
        }
    }

    pub(crate) fn record_accepted(&self, signal: Signal, protocol: Protocol, encoding: Encoding, wire: usize, body: usize) {
        self.accepted[signal as usize][protocol as usize][encoding as usize].fetch_add(1, Relaxed);
        self.wire_bytes.fetch_add(wire as u64, Relaxed);
        self.body_bytes.fetch_add(body as u64, Relaxed);
    }

    pub(crate) fn record_items(&self, signal: Signal, items: u64, rejected: u64) {
        self.items[signal as usize].fetch_add(items, Relaxed);
        self.rejected_items[signal as usize].fetch_add(rejected, Relaxed);
    }

    pub(crate) fn record_duration(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = DURATION_BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        self.duration_buckets[bucket].fetch_add(1, Relaxed);
        self.duration_micros.fetch_add(micros, Relaxed);
    }

    pub(crate) fn record_refused(&self, reason: Refusal) {
        self.refused[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn record_tls_failure(&self) {
        self.tls_failures.fetch_add(1, Relaxed);
    }

    /// The counter behind [`Self::queue_bytes`], which the byte budget keeps.
    pub(crate) fn held(&self) -> &AtomicU64 {
        &self.queue_bytes
    }

    pub(crate) fn request_started(&self) -> Gauge<'_> {
        Gauge::up(&self.requests_in_flight)
    }

    pub(crate) fn connection_opened(&self) -> Gauge<'_> {
        self.connections_total.fetch_add(1, Relaxed);
        Gauge::up(&self.connections)
    }
}

// === impl Gauge ===

impl<'a> Gauge<'a> {
    fn up(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Relaxed);
        Self(counter)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: every refusal has its own counter and its own label.
    #[test]
    fn refusals_do_not_share_counters() {
        let stats = Stats::default();
        for (i, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
            stats.record_refused(reason);
            assert_eq!(stats.refused(reason), 1);
        }
        let labels: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
    }

    /// Guarantees: a duration lands in the first bucket whose bound is not below it, however long it is.
    #[test]
    fn durations_land_in_their_bucket() {
        let stats = Stats::default();
        stats.record_duration(Duration::from_micros(250));
        stats.record_duration(Duration::from_micros(251));
        stats.record_duration(Duration::from_secs(3_600));
        let durations = stats.durations();
        assert_eq!((durations.buckets[0], durations.buckets[1], durations.buckets[8]), (1, 1, 1));
        assert_eq!(durations.sum, Duration::from_micros(3_600_000_501));
    }
}
