//! The columns of `spans`, `span_events` and `span_links`, filled row by row by whichever decoder reads the bytes.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::error::ArrowError;
use tracescale_core::schema::{SPAN_ATTRIBUTES, Stream};

use super::builders::{Bytes, Dictionary, NULL_KEY, SparseText, dictionary_array, ids, times};
use super::promoted::{Found, PromotedColumns, Promotion, ResourceColumns, ResourceKeys};
use super::sampling::{Declared, Sampling};

/// Bits of `Span.flags` that say whether the parent lives in another process.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

const SERVER: i32 = 2;
const CONSUMER: i32 = 5;
const STATUS_ERROR: i32 = 2;

pub(super) static SPAN_PROMOTION: LazyLock<Promotion> = LazyLock::new(|| Promotion::new(SPAN_ATTRIBUTES));
static STATUS_CODE_COLUMN: LazyLock<Option<usize>> =
    LazyLock::new(|| SPAN_ATTRIBUTES.iter().position(|attribute| attribute.column == "http_response_status_code"));
/// By OTLP number.
static KINDS: LazyLock<ArrayRef> =
    LazyLock::new(|| Arc::new(StringArray::from(vec!["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"])));
/// By OTLP number.
static STATUSES: LazyLock<ArrayRef> = LazyLock::new(|| Arc::new(StringArray::from(vec!["UNSET", "OK", "ERROR"])));

/// One span, checked. Its raw attributes go to [`SpanColumns::attributes`] beforehand.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanRow<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) parent_span_id: Option<[u8; 8]>,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) name: &'a str,
    pub(super) kind: i32,
    pub(super) flags: u32,
    pub(super) status: i32,
    pub(super) status_message: &'a str,
    pub(super) trace_state: &'a str,
    pub(super) scope_name: &'a str,
    /// Attributes, events and links that the sender left out.
    pub(super) dropped: [u32; 3],
}

/// The three tables of one trace request.
#[derive(Debug)]
pub(super) struct SpanColumns {
    received_at: i64,
    start: Vec<i64>,
    end: Vec<i64>,
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    parent: Vec<u8>,
    has_parent: Vec<bool>,
    name: Dictionary,
    kind: Vec<i32>,
    is_entry: Vec<bool>,
    status: Vec<i32>,
    status_message: SparseText,
    is_error: Vec<bool>,
    adjusted_count: Vec<f64>,
    sampling_known: Vec<bool>,
    trace_state: SparseText,
    promoted: PromotedColumns,
    scope_name: Dictionary,
    dropped: [Vec<u32>; 3],
    /// Raw attributes; the open value is the span's to come.
    pub(super) attributes: Bytes,
    pub(super) resources: ResourceColumns,
    pub(super) events: EventColumns,
    pub(super) links: LinkColumns,
    /// Resource of each row, as the key of its raw attributes.
    resource_of: Vec<i32>,
    /// Rows that are entries unless their parent turns out to be in the same resource: row and parent.
    undecided: Vec<(usize, [u8; 8])>,
    last_sampling: Option<(String, Sampling)>,
    /// Of spans of the resource that do not state it.
    unstated: Sampling,
}

/// The columns of `span_events`.
#[derive(Debug, Default)]
pub(super) struct EventColumns {
    time: Vec<i64>,
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    service_name: Dictionary,
    name: Dictionary,
    exception_type: Dictionary,
    exception_message: SparseText,
    /// Raw attributes; the open value is the event's to come.
    pub(super) attributes: Bytes,
}

/// The columns of `span_links`.
#[derive(Debug, Default)]
pub(super) struct LinkColumns {
    end_time: Vec<i64>,
    ids: [Vec<u8>; 4],
    service_name: Dictionary,
    /// Raw attributes; the open value is the link's to come.
    pub(super) attributes: Bytes,
}

// === impl SpanColumns ===

impl SpanColumns {
    pub(super) fn new(received_at: i64) -> Self {
        Self {
            received_at,
            start: Vec::new(),
            end: Vec::new(),
            trace_id: Vec::new(),
            span_id: Vec::new(),
            parent: Vec::new(),
            has_parent: Vec::new(),
            name: Dictionary::default(),
            kind: Vec::new(),
            is_entry: Vec::new(),
            status: Vec::new(),
            status_message: SparseText::default(),
            is_error: Vec::new(),
            adjusted_count: Vec::new(),
            sampling_known: Vec::new(),
            trace_state: SparseText::default(),
            promoted: PromotedColumns::new(SPAN_ATTRIBUTES),
            scope_name: Dictionary::default(),
            dropped: Default::default(),
            attributes: Bytes::default(),
            resources: ResourceColumns::new(),
            events: EventColumns::default(),
            links: LinkColumns::default(),
            resource_of: Vec::new(),
            undecided: Vec::new(),
            last_sampling: None,
            unstated: Sampling::UNKNOWN,
        }
    }

    /// Begins the rows of a resource: what is declared of its sampling, and its keys.
    pub(super) fn open_resource(&mut self, raw: &[u8], declared: &Declared) -> ResourceKeys {
        let resource = self.resources.intern(raw);
        self.unstated = declared.of(self.resources.service_name(&resource));
        resource
    }

    pub(super) fn rows(&self) -> usize {
        self.end.len()
    }

    /// Appends a span; says whether its adjusted count was clipped.
    pub(super) fn push(&mut self, span: &SpanRow<'_>, found: &Found<'_>) -> bool {
        let row = self.rows();
        self.start.push(span.start);
        self.end.push(span.end);
        self.trace_id.extend_from_slice(&span.trace_id);
        self.span_id.extend_from_slice(&span.span_id);
        self.parent.extend_from_slice(&span.parent_span_id.unwrap_or_default());
        self.has_parent.push(span.parent_span_id.is_some());
        self.name.push(span.name);
        self.kind.push(if (0..=CONSUMER).contains(&span.kind) { span.kind } else { 0 });
        let entry = self.is_entry_so_far(row, span);
        self.is_entry.push(entry);
        let status = if (0..=STATUS_ERROR).contains(&span.status) { span.status } else { 0 };
        self.status.push(status);
        self.status_message.set(row, span.status_message);
        let http_status = STATUS_CODE_COLUMN.and_then(|column| found.get(column)).and_then(|value| value.integer());
        self.is_error.push(status == STATUS_ERROR || http_status.is_some_and(|code| code >= 500));
        let sampling = self.sampling(span.trace_state);
        self.adjusted_count.push(sampling.adjusted_count);
        self.sampling_known.push(sampling.known);
        self.trace_state.set(row, span.trace_state);
        self.promoted.push(row, found);
        self.scope_name.push_non_empty(span.scope_name);
        for (column, dropped) in self.dropped.iter_mut().zip(span.dropped) {
            column.push(dropped);
        }
        self.attributes.close();
        sampling.clipped
    }

    /// Gives the rows since the last call the columns of `resource`.
    pub(super) fn close_resource(&mut self, resource: &ResourceKeys) {
        let rows = self.rows() - self.resource_of.len();
        self.resources.repeat(resource, rows);
        self.resource_of.extend(std::iter::repeat_n(resource.raw, rows));
    }

    /// A server or consumer span is an entry unless its parent is local. SDKs say so in the flags; for those that do
    /// not, a parent in the same resource of this request is local.
    fn is_entry_so_far(&mut self, row: usize, span: &SpanRow<'_>) -> bool {
        match span.parent_span_id {
            _ if !matches!(span.kind, SERVER | CONSUMER) => false,
            None => true,
            Some(_) if span.flags & HAS_IS_REMOTE != 0 => span.flags & IS_REMOTE != 0,
            Some(parent) => {
                self.undecided.push((row, parent));
                true
            }
        }
    }

    fn sampling(&mut self, trace_state: &str) -> Sampling {
        let stated = match &self.last_sampling {
            Some((state, sampling)) if state == trace_state => *sampling,
            _ => {
                let sampling = Sampling::from_trace_state(trace_state);
                self.last_sampling = Some((trace_state.to_owned(), sampling));
                sampling
            }
        };
        if stated.known { stated } else { self.unstated }
    }

    fn settle_entries(&mut self) {
        let id = |row: usize, span: [u8; 8]| (self.resource_of[row], trace_of(&self.trace_id, row), span);
        let mut parents: HashSet<_> = self.undecided.iter().map(|(row, parent)| id(*row, *parent)).collect();
        if parents.is_empty() {
            return;
        }
        let spans: HashSet<_> = self.span_id.chunks_exact(8).enumerate().map(|(row, span)| id(row, to_array(span))).collect();
        parents.retain(|parent| spans.contains(parent));
        let nested: Vec<_> =
            self.undecided.iter().filter(|(row, parent)| parents.contains(&id(*row, *parent))).map(|(row, _)| *row).collect();
        for row in nested {
            self.is_entry[row] = false;
        }
    }

    /// The batches that have rows.
    pub(super) fn finish(mut self) -> Result<Vec<(Stream, RecordBatch)>, ArrowError> {
        let rows = self.rows();
        self.settle_entries();
        let mut batches = Vec::new();
        let events = std::mem::take(&mut self.events).finish(self.received_at)?;
        let links = std::mem::take(&mut self.links).finish(self.received_at)?;
        if rows > 0 {
            batches.push((Stream::Spans, self.finish_spans(rows)?));
        }
        batches.extend(events.map(|batch| (Stream::SpanEvents, batch)));
        batches.extend(links.map(|batch| (Stream::SpanLinks, batch)));
        Ok(batches)
    }

    fn finish_spans(self, rows: usize) -> Result<RecordBatch, ArrowError> {
        let duration = Float64Array::from_iter_values(self.start.iter().zip(&self.end).map(|(start, end)| seconds(end - start)));
        let (resource_columns, raw_resource) = self.resources.finish()?;
        let mut columns: Vec<ArrayRef> = vec![
            times(self.end),
            times(self.start),
            Arc::new(duration),
            times(vec![self.received_at; rows]),
            ids(16, self.trace_id, None)?,
            ids(8, self.span_id, None)?,
            ids(8, self.parent, Some(NullBuffer::from(self.has_parent)))?,
            self.name.finish_text()?,
            dictionary_array(self.kind, Arc::clone(&KINDS))?,
            Arc::new(BooleanArray::from(self.is_entry)),
            dictionary_array(self.status, Arc::clone(&STATUSES))?,
            self.status_message.finish(rows)?,
            Arc::new(BooleanArray::from(self.is_error)),
            Arc::new(Float64Array::from(self.adjusted_count)),
            Arc::new(BooleanArray::from(self.sampling_known)),
            self.trace_state.finish(rows)?,
        ];
        columns.extend(resource_columns);
        columns.extend(self.promoted.finish(rows)?);
        columns.push(self.scope_name.finish_text()?);
        columns.extend(self.dropped.map(|counts| Arc::new(UInt32Array::from(counts)) as ArrayRef));
        columns.extend([Arc::new(self.attributes.into_binary()?), raw_resource]);
        RecordBatch::try_new(Stream::Spans.schema(), columns)
    }
}

// === impl EventColumns ===

impl EventColumns {
    /// Appends an event of `span`, whose raw attributes were written before.
    pub(super) fn push(&mut self, span: &SpanRow<'_>, service_name: &[u8], name: &str, time: i64, exception: [Option<&str>; 2]) {
        let row = self.time.len();
        self.time.push(time);
        self.trace_id.extend_from_slice(&span.trace_id);
        self.span_id.extend_from_slice(&span.span_id);
        push_service(&mut self.service_name, service_name);
        self.name.push(name);
        let [kind, message] = exception;
        self.exception_type.push_non_empty(kind.unwrap_or_default());
        self.exception_message.set(row, message.unwrap_or_default());
        self.attributes.close();
    }

    fn finish(self, received_at: i64) -> Result<Option<RecordBatch>, ArrowError> {
        let rows = self.time.len();
        if rows == 0 {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = vec![
            times(self.time),
            times(vec![received_at; rows]),
            ids(16, self.trace_id, None)?,
            ids(8, self.span_id, None)?,
            self.service_name.finish_text()?,
            self.name.finish_text()?,
            self.exception_type.finish_text()?,
            self.exception_message.finish(rows)?,
            Arc::new(self.attributes.into_binary()?),
        ];
        RecordBatch::try_new(Stream::SpanEvents.schema(), columns).map(Some)
    }
}

// === impl LinkColumns ===

impl LinkColumns {
    /// Appends a link of `span`, whose raw attributes were written before.
    pub(super) fn push(&mut self, span: &SpanRow<'_>, service_name: &[u8], trace_id: &[u8; 16], span_id: &[u8; 8]) {
        self.end_time.push(span.end);
        let ids: [&[u8]; 4] = [&span.trace_id, &span.span_id, trace_id, span_id];
        for (column, id) in self.ids.iter_mut().zip(ids) {
            column.extend_from_slice(id);
        }
        push_service(&mut self.service_name, service_name);
        self.attributes.close();
    }

    fn finish(self, received_at: i64) -> Result<Option<RecordBatch>, ArrowError> {
        let rows = self.end_time.len();
        if rows == 0 {
            return Ok(None);
        }
        let [trace_id, span_id, linked_trace_id, linked_span_id] = self.ids;
        let columns: Vec<ArrayRef> = vec![
            times(self.end_time),
            times(vec![received_at; rows]),
            ids(16, trace_id, None)?,
            ids(8, span_id, None)?,
            ids(16, linked_trace_id, None)?,
            ids(8, linked_span_id, None)?,
            self.service_name.finish_text()?,
            Arc::new(self.attributes.into_binary()?),
        ];
        RecordBatch::try_new(Stream::SpanLinks.schema(), columns).map(Some)
    }
}

fn push_service(column: &mut Dictionary, service_name: &[u8]) {
    let key = if service_name.is_empty() { NULL_KEY } else { column.intern(service_name) };
    column.push_key(key);
}

fn trace_of(trace_ids: &[u8], row: usize) -> [u8; 16] {
    to_array(&trace_ids[row * 16..(row + 1) * 16])
}

fn to_array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

#[expect(clippy::cast_precision_loss, reason = "a span that lasts 104 days is still exact to the nanosecond")]
fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}
