//! The derived streams: what cannot be one SQL aggregate over decoded rows, because it pairs rows of different senders or
//! remembers the previous point of a series.
//!
//! ```text
//! spans ──────────▶ activity     busy time, arrivals, completions per second and instance (stateless)
//! spans, links ───▶ call_spans   both sides of a call joined, self time, critical path    (state: open traces)
//! metrics ────────▶ increments   what counters and histograms grew by                     (state: one entry per series)
//! ```
//!
//! Architecture invariants: all state is bounded by configuration, what falls out of a bound is counted in [`Counters`]; nothing
//! is allocated per row beyond what the state must keep; equal rows in any order and any batches give equal derived rows.

pub mod activity;
#[cfg(test)]
mod activity_tests;
pub mod call_spans;
#[cfg(test)]
mod call_spans_path_tests;
#[cfg(test)]
mod call_spans_tests;
mod columns;
pub mod increments;
#[cfg(test)]
mod increments_tests;
mod symbols;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracescale_core::time::Timestamp;

use crate::derive::Derive;
use crate::histogram::Histogram;

/// Turns weighted values into the bytes of a mergeable histogram, the state that SQL `histogram(x, weight)` has.
pub type EncodeHistogram = fn(&[(f64, f64)]) -> Vec<u8>;

/// Bounds of the derived streams.
#[derive(Clone, Debug)]
pub struct Config {
    /// `activity`: longest part of a span (from its end) whose busy time is integrated. Also how far its watermark trails.
    pub longest_span: Duration,
    /// `call_spans`: how long after its end a span waits for its other side beyond the watermark; covers clock skew between hosts.
    pub call_hold: Duration,
    /// `call_spans`: how long spans wait for the end of the entry span above them.
    pub trace_ttl: Duration,
    /// `call_spans`: how long a message waits for its consumer.
    pub message_ttl: Duration,
    /// `call_spans`: spans kept at once (72 bytes each plus about 40 per trace); the oldest traces leave first.
    pub max_spans: usize,
    /// `call_spans`: span links kept at once.
    pub max_links: usize,
    /// `increments`: longest interval that growth is spread over. Also how far its watermark trails.
    pub longest_spread: Duration,
    /// `increments`: most slices per point.
    pub max_slices: u32,
    /// `increments`: a series that began at most this long before its first point counts from its start.
    pub fresh_series: Duration,
    /// `increments`: series kept at once; the least recently seen leave first.
    pub max_series: usize,
    /// `increments`: how long a silent series is kept.
    pub series_ttl: Duration,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What the derived streams could not use, or had to give up; shared with whoever exports it.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[doc = $doc])+ pub $name: AtomicU64,)+ }

        impl Counters {
            /// Every counter by name.
            #[must_use]
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)+]
            }
        }
    };
}

counters! {
    /// Spans longer than [`Config::longest_span`]: only their last part is in `activity`.
    activity_truncated_spans,
    /// Spans that left the call matcher before their time, because it was full, with their trace looking whole.
    calls_early_spans,
    /// Spans that left the call matcher before their time with parents missing; self times of their trace are NULL.
    calls_evicted_spans,
    /// Entry spans whose parent was never seen.
    calls_missing_parents,
    /// Spans that the matcher had seen before.
    calls_duplicate_spans,
    /// Calls whose server side lasted longer than their client side.
    calls_negative_waits,
    /// Entry spans too long for their children to be known; their self time is NULL.
    calls_long_entries,
    /// Roots whose critical path is not known: spans below them are missing, or the trace is too long or too large.
    calls_unknown_paths,
    /// Spans that end long after the watermark: not matched.
    calls_future_spans,
    /// Span links that found no room.
    calls_dropped_links,
    /// Points that set only a base: first points of old series and unknown starts.
    increments_base_points,
    /// Points not newer than their predecessor.
    increments_stale_points,
    /// Counters that started again.
    increments_resets,
    /// Points that cover time which another writer of the series covers.
    increments_overlaps,
    /// Points whose growth was older than [`Config::longest_spread`] in part; that part is left out.
    increments_truncated_points,
    /// Points that contradict themselves (buckets without matching bounds) or change the kind of their series.
    increments_malformed_points,
    /// Series that left before their time, because there were too many.
    increments_evicted_series,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            longest_span: Duration::from_secs(30),
            call_hold: Duration::from_secs(2),
            trace_ttl: Duration::from_secs(30),
            message_ttl: Duration::from_secs(60),
            max_spans: 1 << 20,
            max_links: 1 << 16,
            longest_spread: Duration::from_secs(60),
            max_slices: 12,
            fresh_series: Duration::from_secs(90),
            max_series: 200_000,
            series_ttl: Duration::from_secs(15 * 60),
        }
    }
}

// === impl Counters ===

impl Counters {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// One operator for every derived stream, and the counters that they share.
#[must_use]
pub fn operators(config: &Config) -> (Vec<Box<dyn Derive>>, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let operators: Vec<Box<dyn Derive>> = vec![
        Box::new(activity::Activity::new(config, Arc::clone(&counters))),
        Box::new(call_spans::CallSpans::new(config, Arc::clone(&counters))),
        Box::new(increments::Increments::new(config, encode_histogram, Arc::clone(&counters))),
    ];
    (operators, counters)
}

/// The bytes of a [`Histogram`] of these weighted values.
#[must_use]
pub fn encode_histogram(points: &[(f64, f64)]) -> Vec<u8> {
    Histogram::from_buckets(points.iter().map(|(value, weight)| (*value, *value, *weight))).to_bytes()
}

/// Seconds of a count of nanoseconds.
#[expect(clippy::cast_precision_loss, reason = "durations of spans and export intervals; 2^53 ns are a hundred days")]
fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// Nanoseconds since the epoch of a time plus a duration, saturating.
fn after(nanos: i64, duration: Duration) -> i64 {
    (Timestamp::from_nanos(nanos) + duration).as_nanos()
}
