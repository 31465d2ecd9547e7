//! What the engine counts about itself. Counters only grow; gauges describe the moment of the last call.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::error::DataFusionError;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;

/// Names that are counted apart; further ones are counted as [`crate::config::OVERFLOW`].
const MAX_NAMES: usize = 4096;

/// Counters and gauges of the engine.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EngineStats {
    /// Rows taken, by stream; derived streams count the rows that their operators made.
    pub rows: BTreeMap<Stream, u64>,
    /// Rows that came after the allowed lateness, by stream and service.
    pub late_rows: BTreeMap<(Stream, String), u64>,
    /// How often the SQL of a view failed on actual rows, and what it said last, by view.
    pub failures: BTreeMap<String, (u64, String)>,
    /// Rows whose event time was further in the future than `max_future_skew`, by stream and source.
    pub future_rows: BTreeMap<(Stream, String), u64>,
    /// Known groups, by view.
    pub groups: BTreeMap<String, usize>,
    /// Group states that were summed up in the overflow group, by view.
    pub overflowed: BTreeMap<String, u64>,
    /// Bytes of partial aggregates of all views.
    pub pane_bytes: usize,
    /// Bytes of rows kept for look-back.
    pub history_bytes: usize,
    /// The watermark of each stream.
    pub watermarks: BTreeMap<Stream, Timestamp>,
    /// Emissions of final windows, re-emissions included.
    pub final_emissions: u64,
    /// Emissions of windows that late rows had changed.
    pub revisions: u64,
    /// Emissions before the watermark.
    pub provisional_emissions: u64,
    /// Provisional windows that were not emitted because `advance` came too late for them.
    pub skipped_provisional: u64,
    /// How long after its slide the last provisional window was emitted.
    pub emission_lag: Duration,
    /// How often the wall clock was seen to step back.
    pub clock_steps: u64,
}

// === impl EngineStats ===

impl EngineStats {
    pub(crate) fn failed(&mut self, view: &str, error: &DataFusionError) {
        let message = error.strip_backtrace();
        let failure = self.failures.entry(view.to_owned()).or_default();
        *failure = (failure.0 + 1, message);
    }

    pub(crate) fn late(&mut self, stream: Stream, service: &str, rows: u64) {
        add(&mut self.late_rows, stream, service, rows);
    }

    pub(crate) fn future(&mut self, stream: Stream, source: &str, rows: u64) {
        add(&mut self.future_rows, stream, source, rows);
    }
}

fn add(counts: &mut BTreeMap<(Stream, String), u64>, stream: Stream, name: &str, rows: u64) {
    let key = (stream, name.to_owned());
    let key = if counts.len() < MAX_NAMES || counts.contains_key(&key) { key } else { (stream, crate::config::OVERFLOW.to_owned()) };
    *counts.entry(key).or_default() += rows;
}
