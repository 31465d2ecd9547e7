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
    kind: RowKind,
    matched: bool,
    is_error: bool,
    count: f64,
    client_duration: Option<f64>,
    server_duration: Option<f64>,
    wait: Option<f64>,
    self_time: Option<f64>,
    path_time: Option<f64>,
    root_duration: Option<f64>,
}

/// What a row is about, as a code of the column `call_kind`.
#[derive(Clone, Copy, Debug)]
enum RowKind {
    Call = 0,
    Entry = 1,
    Path = 2,
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
            kind: RowKind::Call,
            matched: true,
            is_error: client.is_error || server.is_error,
            // Both sides are only seen when the rarer of the two was sampled.
            count: client.count.max(server.count),
            client_duration: Some(duration(client)),
            server_duration: Some(duration(server)),
            wait: Some(seconds(wait.max(0))),
            self_time: None,
            path_time: None,
            root_duration: None,
        }
    }

    /// A call whose other side was not seen in time. `end` is its event time.
    pub(super) fn unmatched(client: &Span, end: i64) -> Self {
        Self {
            end,
            client: (client.service, client.namespace),
            server: (client.peer, Symbol::NULL),
            operation: client.operation,
            kind: RowKind::Call,
            matched: false,
            is_error: client.is_error,
            count: client.count,
            client_duration: Some(duration(client)),
            server_duration: None,
            wait: None,
            self_time: None,
            path_time: None,
            root_duration: None,
        }
    }

    /// An entry span, with its self time where that is known.
    pub(super) fn entry(span: &Span, matched: bool, self_time: Option<f64>) -> Self {
        Self {
            end: span.end,
            client: (Symbol::NULL, Symbol::NULL),
            server: (span.service, span.namespace),
            operation: span.operation,
            kind: RowKind::Entry,
            matched,
            is_error: span.is_error,
            count: span.count,
            client_duration: None,
            server_duration: Some(duration(span)),
            wait: None,
            self_time,
            path_time: None,
            root_duration: None,
        }
    }

    /// What a service has of the critical path of a trace, in nanoseconds, where that is known. `count` is of the trace.
    pub(super) fn path(root: &Span, service: (Symbol, Symbol), count: f64, path_time: Option<i64>) -> Self {
        Self {
            end: root.end,
            client: (root.service, root.namespace),
            server: service,
            operation: root.operation,
            kind: RowKind::Path,
            matched: path_time.is_some(),
            is_error: root.is_error,
            count,
            client_duration: None,
            server_duration: None,
            wait: None,
            self_time: None,
            path_time: path_time.map(seconds),
            root_duration: Some(duration(root)),
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
    let kinds = Int32Array::from_iter_values(rows.iter().map(|row| row.kind as i32));
    let kinds = DictionaryArray::<Int32Type>::try_new(kinds, Arc::new(StringArray::from(vec!["call", "entry", "path"])));
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
            floats(|row| row.path_time),
            floats(|row| row.root_duration),
        ],
    )?;
    rows.clear();
    Ok(vec![batch])
}
