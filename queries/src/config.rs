//! What the engine is told at the start, and what it hands out: plain data, no behaviour.

use std::fmt;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use tracescale_core::time::Timestamp;

use crate::derive::Derive;
use crate::model::Model;

/// Bounds and tolerances of the engine. [`EngineConfig::default`] suits a single replica.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// How far the watermark trails the newest event time: a window is final this long after its end.
    pub lateness: Duration,
    /// How far behind the watermark a row may be and still change a window that was final; later rows are counted, and in the archive only.
    pub allowed_lateness: Duration,
    /// How long after the last row the wall clock takes over the watermark, on top of `lateness`.
    pub idle: Duration,
    /// Groups that a view keeps apart; rows of further groups are summed up in one group, whose text keys are [`OVERFLOW`].
    pub max_groups_per_view: usize,
    /// Bytes of emitted rows that all views together keep for look-back; the oldest windows go first.
    pub history_bytes: usize,
    /// How long emitted rows are kept for look-back at most.
    pub history: Duration,
    /// Silence of a telemetry source after which its services count as missing, not as idle.
    pub source_timeout: Duration,
    /// Silence of a group after which it is forgotten.
    pub group_ttl: Duration,
    /// How far ahead of the wall clock an event time may be; later ones are treated as this far ahead, and counted.
    pub max_future_skew: Duration,
    /// Rows that are collected before they are aggregated.
    pub micro_batch_rows: usize,
    /// Shortest distance of windows: views that slide more often slide so often, where their size is a multiple of it. For
    /// backtests, which need not look every few seconds.
    pub slide_min: Duration,
    /// Windows that one call of `advance` finishes per view; what is left over follows in the next call.
    pub max_final_windows: usize,
}

/// The text key of the group that collects what exceeds `max_groups_per_view`.
pub const OVERFLOW: &str = "_overflow";

/// A view as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewSource {
    /// Name of the file or document, for messages; the view's own name is in the SQL.
    pub name: String,
    /// `CREATE VIEW name AS SELECT …`
    pub sql: String,
    /// Where it came from, usually a path.
    pub origin: String,
}

/// What an engine is made of besides its configuration.
#[derive(Default)]
pub struct EngineParts {
    /// Views, in any order.
    pub views: Vec<ViewSource>,
    /// Views that models fill; one that reads views which are not there is dropped.
    pub models: Vec<Box<dyn Model>>,
    /// Operators for derived streams; one that no view reads is dropped.
    pub derives: Vec<Box<dyn Derive>>,
    /// Scalar functions beside DataFusion's and the engine's own.
    pub functions: Vec<ScalarUDF>,
    /// Aggregate functions beside DataFusion's and the engine's own.
    pub aggregates: Vec<AggregateUDF>,
}

/// The rows of one view for one window.
#[derive(Clone, Debug)]
pub struct Emission {
    /// The view.
    pub view: String,
    /// First instant of the window.
    pub window_start: Timestamp,
    /// First instant after the window.
    pub window_end: Timestamp,
    /// Whether the watermark has passed the window.
    pub is_final: bool,
    /// How often a final window was changed by late rows.
    pub revision: u32,
    /// The rows, with the columns that the engine appends.
    pub rows: RecordBatch,
    /// The newest event time behind the rows; the window's end when no group was active.
    pub evidence_time: Timestamp,
}

// === impl EngineConfig ===

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            lateness: Duration::from_secs(10),
            allowed_lateness: Duration::from_secs(60),
            idle: Duration::from_secs(5),
            max_groups_per_view: 10_000,
            history_bytes: 256 << 20,
            history: Duration::from_secs(6 * 3600),
            source_timeout: Duration::from_secs(60),
            group_ttl: Duration::from_secs(3600),
            max_future_skew: Duration::from_secs(5),
            micro_batch_rows: 8192,
            slide_min: Duration::ZERO,
            max_final_windows: 64,
        }
    }
}

// === impl EngineParts ===

impl fmt::Debug for EngineParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineParts").field("views", &self.views).field("derives", &self.derives.len()).finish_non_exhaustive()
    }
}
