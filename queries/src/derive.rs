//! What turns decoded streams into derived ones (`activity`, `call_spans`, `increments`): the seam between row operators
//! that keep state of their own and the pane engine, which only ever sees streams.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use thiserror::Error;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;

/// An operator that turns rows of decoded streams into rows of a derived stream; stateful, bounded.
pub trait Derive: Send {
    /// The stream that this operator produces.
    fn output(&self) -> Stream;
    /// The streams that it reads.
    fn inputs(&self) -> &'static [Stream];
    /// Takes rows of `input` and returns the derived rows that are ready, in the schema of [`Derive::output`].
    ///
    /// # Errors
    /// When the rows do not have the schema of `input`, or an Arrow kernel fails.
    fn push(&mut self, input: Stream, batch: &RecordBatch) -> Result<Vec<RecordBatch>, DeriveError>;
    /// Learns that the inputs are complete up to `watermark` and returns the rows that this makes ready.
    ///
    /// # Errors
    /// When an Arrow kernel fails.
    fn advance(&mut self, watermark: Timestamp) -> Result<Vec<RecordBatch>, DeriveError>;
    /// How far this stream's watermark trails that of its inputs.
    fn delay(&self) -> Duration;
}

/// Why rows of a derived stream could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeriveError {
    /// A column is absent or has another type than the stream's schema says.
    #[error("{stream} batch has no column {column} of the expected type")]
    Column {
        /// The stream whose batch it was.
        stream: &'static str,
        /// The column.
        column: &'static str,
    },
    /// An Arrow kernel failed.
    #[error("cannot build rows of {stream}")]
    Arrow {
        /// The stream that was being built.
        stream: &'static str,
        /// What Arrow said.
        #[source]
        source: arrow::error::ArrowError,
    },
}
