//! From one OTLP request body to Arrow batches in the schemas of [`tracescale_core::schema`].
//!
//! ```text
//! protobuf ─▶ prost ─┐                   ┌▶ spans ───▶ span_columns ───┐
//!                    ├▶ request structs ─┤                             ├▶ Decoded
//! JSON ─────▶ json ──┘                   └▶ metrics ─▶ metric_columns ─┘
//! ```
//!
//! The columns ask for checked rows and raw attribute bytes, not for request structs, so that a decoder that walks the
//! wire format can fill the same columns and be compared with this one. Rules that refuse items are in `refusal`.

mod builders;
mod json;
mod metric_columns;
mod metrics;
mod promoted;
mod prost;
mod refusal;
mod sampling;
mod span_columns;
mod spans;
mod transcode;

use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::TimestampNanosecondType;
use arrow::error::ArrowError;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;

use self::refusal::Tally;
pub use self::sampling::{Declared, MAX_ADJUSTED_COUNT, Sampling};
pub use self::transcode::{to_json, to_protobuf};

/// The largest body that is decoded, in bytes. Far above any receiver's limit; it keeps every offset of the 32-bit Arrow
/// columns in range, because no byte of a body becomes more than eight bytes or one list item of a column.
pub const MAX_BODY: usize = 256 << 20;

/// Which OTLP service a request was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// `ExportTraceServiceRequest`.
    Traces,
    /// `ExportMetricsServiceRequest`.
    Metrics,
    /// `ExportLogsServiceRequest`: counted and acknowledged, never kept.
    Logs,
}

/// How a request body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Binary protobuf.
    Protobuf,
    /// OTLP/JSON (hex ids, 64-bit integers as strings).
    Json,
}

/// What one request became.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// Batches by stream; streams without rows are absent.
    pub batches: Vec<(Stream, RecordBatch)>,
    /// Items (spans, points, log records) in the request, rejected ones included.
    pub items: u64,
    /// Items refused one by one, with the reason of the first; answered as OTLP partial success.
    pub rejected: u64,
    /// Why the first rejected item was refused; empty when none was.
    pub rejected_reason: String,
    /// Events without a time and links without ids that were left out; their span was kept.
    pub skipped_details: u64,
    /// Spans whose sampling would make them count for more than [`MAX_ADJUSTED_COUNT`], and which count for that.
    pub clipped_counts: u64,
}

/// A body that is not OTLP at all; answered with `INVALID_ARGUMENT` / 400.
#[derive(Debug, thiserror::Error)]
#[error("malformed OTLP {encoding:?} request: {reason}")]
pub struct DecodeError {
    /// The declared encoding.
    pub encoding: Encoding,
    /// What the parser met, with the position where it is known.
    pub reason: String,
}

/// Turns one decompressed request body into batches. Pure: equal input, equal output. `declared` is what is known of spans that do
/// not state their sampling; whoever decodes a request again must declare the same, or its spans count differently.
///
/// # Errors
/// When the body as a whole cannot be read.
pub fn decode(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
    received_at: Timestamp,
    declared: &Declared,
) -> Result<Decoded, DecodeError> {
    if body.len() > MAX_BODY {
        return Err(DecodeError { encoding, reason: format!("the body has {} bytes, more than {MAX_BODY}", body.len()) });
    }
    let decoded = match (signal, encoding) {
        (Signal::Traces, Encoding::Protobuf) => spans::rows(&prost::read(body)?, received_at, declared),
        (Signal::Metrics, Encoding::Protobuf) => metrics::rows(&prost::read(body)?, received_at),
        (Signal::Logs, Encoding::Protobuf) => Ok(count_logs(&prost::read(body)?)),
        (Signal::Traces, Encoding::Json) => spans::rows(&json::read(body)?, received_at, declared),
        (Signal::Metrics, Encoding::Json) => metrics::rows(&json::read(body)?, received_at),
        (Signal::Logs, Encoding::Json) => Ok(count_logs(&json::read(body)?)),
    };
    decoded.map_err(|error: ArrowError| DecodeError { encoding, reason: format!("the rows do not fit a batch: {error}") })
}

fn count_logs(request: &ExportLogsServiceRequest) -> Decoded {
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    Decoded { items: scopes.map(|scope| scope.log_records.len() as u64).sum(), ..Decoded::default() }
}

// === impl Decoded ===

impl Decoded {
    /// The event times of all rows: what a replay is paced by.
    #[must_use]
    pub fn times(&self) -> Vec<Timestamp> {
        let column = |(stream, batch): &(Stream, RecordBatch)| {
            batch.column_by_name(stream.time_column())?.as_primitive_opt::<TimestampNanosecondType>().cloned()
        };
        self.batches
            .iter()
            .filter_map(column)
            .flat_map(|times| times.iter().flatten().map(Timestamp::from_nanos).collect::<Vec<_>>())
            .collect()
    }

    /// The newest event time of all rows. `None` without rows.
    #[must_use]
    pub fn newest_time(&self) -> Option<Timestamp> {
        self.times().into_iter().max()
    }

    /// Replaces the time of receipt of every row: a replay learns it from the rows themselves.
    ///
    /// # Errors
    /// Never for batches of [`decode`], whose streams all have that column.
    pub fn set_received_at(&mut self, at: Timestamp) -> Result<(), ArrowError> {
        for (_, batch) in &mut self.batches {
            let mut columns = batch.columns().to_vec();
            columns[batch.schema_ref().index_of("received_at")?] =
                Arc::new(TimestampNanosecondArray::from_value(at.as_nanos(), batch.num_rows()));
            *batch = RecordBatch::try_new(batch.schema(), columns)?;
        }
        Ok(())
    }
}

// === impl Tally ===

impl Tally {
    fn into_decoded(self, batches: Vec<(Stream, RecordBatch)>) -> Decoded {
        Decoded {
            batches,
            items: self.items,
            rejected: self.rejected,
            rejected_reason: self.reason,
            skipped_details: self.skipped_details,
            clipped_counts: self.clipped_counts,
        }
    }
}
