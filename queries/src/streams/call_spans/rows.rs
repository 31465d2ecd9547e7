//! Rows of `call_spans` on their way into a batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::Int32Type;
use tracescale_core::schema::Stream;

use super::store::Span;
use crate::derive::DeriveError;
use crate::streams::columns::{assemble, failed};
use crate::streams::seconds;
use crate::streams::symbols::{Symbol, Symbols};

/// One row; see `queries/README.md` for the columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    end: i64,
    client: (Symbol, Symbol),
    server: (Symbol, Symbol),
    operation: Symbol,
    is_call: bool,
    matched: bool,
    is_error: bool,
    count: f64,
    client_duration: Option<f64>,
    server_duration: Option<f64>,
    wait: Option<f64>,
    self_time: Option<f64>,
}

// === impl Row ===

impl Row {
    /// A call of which both sides were seen. `end` is its event time.
    pub(super) fn matched(client: &Span, server: &Span, end: i64, wait: i64) -> Self {
        Self {
            end,
            client: (client.service, client.namespace),
            server: (server.service, server.namespace),
            operation: server.operation,
            is_call: true,
            matched: true,
            is_error: client.is_error || server.is_error,
            // Both sides are only seen when the rarer of the two was sampled.
            count: client.count.max(server.count),
            client_duration: Some(duration(client)),
            server_duration: Some(duration(server)),
            wait: Some(seconds(wait.max(0))),
            self_time: None,
        }
    }

    /// A call whose other side was not seen in time. `end` is its event time.
    pub(super) fn unmatched(client: &Span, end: i64) -> Self {
        Self {
            end,
            client: (client.service, client.namespace),
            server: (client.peer, Symbol::NULL),
            operation: client.operation,
            is_call: true,
            matched: false,
            is_error: client.is_error,
            count: client.count,
            client_duration: Some(duration(client)),
            server_duration: None,
            wait: None,
            self_time: None,
        }
    }

    /// An entry span, with its self time where that is known.
    pub(super) fn entry(span: &Span, matched: bool, self_time: Option<f64>) -> Self {
        Self {
            end: span.end,
            client: (Symbol::NULL, Symbol::NULL),
            server: (span.service, span.namespace),
            operation: span.operation,
            is_call: false,
            matched,
            is_error: span.is_error,
            count: span.count,
            client_duration: None,
            server_duration: Some(duration(span)),
            wait: None,
            self_time,
        }
    }
}

/// Duration of a span in seconds.
pub(super) fn duration(span: &Span) -> f64 {
    seconds(span.end.saturating_sub(span.start))
}

/// All rows as a batch; none when there are none.
pub(super) fn batch(rows: &mut Vec<Row>, symbols: &Symbols) -> Result<Vec<RecordBatch>, DeriveError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let names = |column: fn(&Row) -> Symbol| symbols.column(rows.iter().map(column)).map_err(|source| failed(Stream::CallSpans, source));
    let floats = |column: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(column).collect::<Float64Array>()) };
    let flags = |column: fn(&Row) -> bool| -> ArrayRef { Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(column(row))))) };
    let kinds = Int32Array::from_iter_values(rows.iter().map(|row| i32::from(!row.is_call)));
    let kinds = DictionaryArray::<Int32Type>::try_new(kinds, Arc::new(StringArray::from(vec!["call", "entry"])));
    let batch = assemble(
        Stream::CallSpans,
        vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.end))),
            names(|row| row.client.0)?,
            names(|row| row.client.1)?,
            names(|row| row.server.0)?,
            names(|row| row.server.1)?,
            names(|row| row.operation)?,
            Arc::new(kinds.map_err(|source| failed(Stream::CallSpans, source))?),
            flags(|row| row.matched),
            flags(|row| row.is_error),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.count))),
            floats(|row| row.client_duration),
            floats(|row| row.server_duration),
            floats(|row| row.wait),
            floats(|row| row.self_time),
        ],
    )?;
    rows.clear();
    Ok(vec![batch])
}
