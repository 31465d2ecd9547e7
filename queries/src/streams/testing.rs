//! Batches of decoded streams for tests: only what a test is about is spelt out, every other column has an empty value.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryBuilder, Float64Builder, ListBuilder, RecordBatch, StringArray, UInt64Builder,
    new_null_array,
};
use arrow::array::{
    BinaryArray, BooleanArray, Float64Array, Int32Array, StringDictionaryBuilder, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, TimestampNanosecondType};
use tracescale_core::schema::Stream;

pub(super) const SECOND: i64 = 1_000_000_000;

/// One span; times in seconds.
#[derive(Clone, Debug)]
pub(super) struct TestSpan {
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: u64,
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) kind: &'static str,
    pub(super) service: &'static str,
    pub(super) instance: &'static str,
    pub(super) entry: bool,
    pub(super) error: bool,
    pub(super) count: f64,
    pub(super) peer: &'static str,
}

/// One metric point; times in seconds.
#[derive(Clone, Debug)]
pub(super) struct TestPoint {
    pub(super) series: u64,
    pub(super) kind: &'static str,
    pub(super) temporality: &'static str,
    pub(super) start: Option<f64>,
    pub(super) time: f64,
    pub(super) value: Option<f64>,
    pub(super) count: Option<u64>,
    pub(super) sum: Option<f64>,
    pub(super) bounds: Vec<f64>,
    pub(super) buckets: Vec<u64>,
    pub(super) scale: Option<i32>,
    pub(super) offset: Option<i32>,
}

// === impl TestSpan ===

impl TestSpan {
    pub(super) fn new(trace: u128, id: u64, parent: u64, kind: &'static str, service: &'static str, start: f64, end: f64) -> Self {
        let entry = matches!(kind, "SERVER" | "CONSUMER");
        Self { trace, id, parent, start, end, kind, service, instance: "a", entry, error: false, count: 1.0, peer: "" }
    }
}

// === impl TestPoint ===

impl TestPoint {
    pub(super) fn sum(temporality: &'static str, start: Option<f64>, time: f64, value: f64) -> Self {
        Self {
            series: 1,
            kind: "sum",
            temporality,
            start,
            time,
            value: Some(value),
            count: None,
            sum: None,
            bounds: Vec::new(),
            buckets: Vec::new(),
            scale: None,
            offset: None,
        }
    }
}

pub(super) fn spans(rows: &[TestSpan]) -> RecordBatch {
    let times = |time: fn(&TestSpan) -> f64| -> ArrayRef {
        Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| nanos(time(row)))))
    };
    let names = |name: fn(&TestSpan) -> &'static str| text(rows.iter().map(name));
    build(
        Stream::Spans,
        rows.len(),
        vec![
            ("start_time", times(|row| row.start)),
            ("end_time", times(|row| row.end)),
            ("received_at", times(|row| row.end)),
            ("trace_id", ids(16, rows.iter().map(|row| Some(row.trace.to_be_bytes().to_vec())))),
            ("span_id", ids(8, rows.iter().map(|row| Some(row.id.to_be_bytes().to_vec())))),
            ("parent_span_id", ids(8, rows.iter().map(|row| (row.parent != 0).then(|| row.parent.to_be_bytes().to_vec())))),
            ("kind", names(|row| row.kind)),
            ("service_name", names(|row| row.service)),
            ("service_instance_id", names(|row| row.instance)),
            ("peer_service", names(|row| row.peer)),
            ("is_entry", Arc::new(rows.iter().map(|row| Some(row.entry)).collect::<BooleanArray>())),
            ("is_error", Arc::new(rows.iter().map(|row| Some(row.error)).collect::<BooleanArray>())),
            ("adjusted_count", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.count)))),
        ],
    )
}

/// Links of (trace, span) to (trace, span), the first of which ended at `end` seconds.
pub(super) fn links(rows: &[(u128, u64, u128, u64, f64)]) -> RecordBatch {
    build(
        Stream::SpanLinks,
        rows.len(),
        vec![
            ("end_time", Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| nanos(row.4))))),
            ("trace_id", ids(16, rows.iter().map(|row| Some(row.0.to_be_bytes().to_vec())))),
            ("span_id", ids(8, rows.iter().map(|row| Some(row.1.to_be_bytes().to_vec())))),
            ("linked_trace_id", ids(16, rows.iter().map(|row| Some(row.2.to_be_bytes().to_vec())))),
            ("linked_span_id", ids(8, rows.iter().map(|row| Some(row.3.to_be_bytes().to_vec())))),
        ],
    )
}

pub(super) fn metrics(rows: &[TestPoint]) -> RecordBatch {
    let starts = rows.iter().map(|row| row.start.map(nanos)).collect::<TimestampNanosecondArray>();
    let mut bounds = ListBuilder::new(Float64Builder::new()).with_field(Field::new("item", DataType::Float64, false));
    let mut buckets = ListBuilder::new(UInt64Builder::new()).with_field(Field::new("item", DataType::UInt64, false));
    let mut positive = ListBuilder::new(UInt64Builder::new()).with_field(Field::new("item", DataType::UInt64, false));
    for row in rows {
        bounds.append_value(row.bounds.iter().copied().map(Some));
        let (explicit, exponential) = if row.scale.is_some() { (&[][..], &row.buckets[..]) } else { (&row.buckets[..], &[][..]) };
        buckets.append_value(explicit.iter().copied().map(Some));
        positive.append_value(exponential.iter().copied().map(Some));
    }
    build(
        Stream::Metrics,
        rows.len(),
        vec![
            ("time", Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| nanos(row.time))))),
            ("start_time", Arc::new(starts)),
            ("metric_kind", text(rows.iter().map(|row| row.kind))),
            ("temporality", text(rows.iter().map(|row| row.temporality))),
            ("is_monotonic", Arc::new(rows.iter().map(|_| Some(true)).collect::<BooleanArray>())),
            ("series_id", Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.series)))),
            ("value", Arc::new(rows.iter().map(|row| row.value).collect::<Float64Array>())),
            ("count", Arc::new(rows.iter().map(|row| row.count).collect::<UInt64Array>())),
            ("sum", Arc::new(rows.iter().map(|row| row.sum).collect::<Float64Array>())),
            ("bounds", Arc::new(bounds.finish())),
            ("bucket_counts", Arc::new(buckets.finish())),
            ("scale", Arc::new(rows.iter().map(|row| row.scale).collect::<Int32Array>())),
            ("positive_offset", Arc::new(rows.iter().map(|row| row.offset).collect::<Int32Array>())),
            ("positive_counts", Arc::new(positive.finish())),
        ],
    )
}

/// The values of a text column.
pub(super) fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let array = batch.column_by_name(column).unwrap().as_dictionary::<Int32Type>();
    let values = array.values().as_string::<i32>();
    array.keys().iter().map(|key| key.map(|key| values.value(usize::try_from(key).unwrap()).to_owned())).collect()
}

/// The values of a number column.
pub(super) fn floats(batch: &RecordBatch, column: &str) -> Vec<Option<f64>> {
    batch.column_by_name(column).unwrap().as_primitive::<Float64Type>().iter().collect()
}

/// The values of a time column in seconds.
pub(super) fn times(batch: &RecordBatch, column: &str) -> Vec<f64> {
    batch
        .column_by_name(column)
        .unwrap()
        .as_primitive::<TimestampNanosecondType>()
        .values()
        .iter()
        .map(|time| super::seconds(*time))
        .collect()
}

pub(super) fn nanos(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "times of tests are small")]
    let nanos = (seconds * 1e9).round() as i64;
    nanos
}

fn build(stream: Stream, rows: usize, columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let mut columns: HashMap<&str, ArrayRef> = columns.into_iter().collect();
    let schema = stream.schema();
    let arrays = schema.fields().iter().map(|field| columns.remove(field.name().as_str()).unwrap_or_else(|| empty(field, rows))).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    assert!(columns.is_empty(), "{:?}", columns.keys());
    batch
}

fn empty(field: &Field, rows: usize) -> ArrayRef {
    if field.is_nullable() {
        return new_null_array(field.data_type(), rows);
    }
    match field.data_type() {
        DataType::Timestamp(..) => Arc::new(TimestampNanosecondArray::from(vec![0; rows])),
        DataType::Float64 => Arc::new(Float64Array::from(vec![0.0; rows])),
        DataType::UInt32 => Arc::new(UInt32Array::from(vec![0; rows])),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![false; rows])),
        DataType::Binary => Arc::new(BinaryArray::from_iter_values(std::iter::repeat_n(b"", rows))),
        DataType::Dictionary(_, value) if **value == DataType::Utf8 => {
            Arc::new(DictionaryArray::<Int32Type>::new(vec![0; rows].into(), Arc::new(StringArray::from(vec!["x"]))))
        }
        DataType::Dictionary(..) => {
            Arc::new(DictionaryArray::<Int32Type>::new(vec![0; rows].into(), Arc::new(BinaryArray::from_iter_values([b""]))))
        }
        other => panic!("no empty value for {}: {other}", field.name()),
    }
}

/// Empty strings become NULL.
fn text<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    let mut builder = StringDictionaryBuilder::<Int32Type>::new();
    values.for_each(|value| builder.append_option((!value.is_empty()).then_some(value)));
    Arc::new(builder.finish())
}

fn ids(width: i32, values: impl Iterator<Item = Option<Vec<u8>>>) -> ArrayRef {
    let mut builder = FixedSizeBinaryBuilder::new(width);
    for value in values {
        match value {
            Some(value) => builder.append_value(value).unwrap(),
            None => builder.append_null(),
        }
    }
    let array = builder.finish();
    assert_eq!(array.value_length(), width);
    Arc::new(array)
}

/// The rows in another order, in batches of the given sizes (repeated).
pub(super) fn shuffled<T: Clone>(rows: &[T], cuts: &[usize], seed: u64) -> Vec<Vec<T>> {
    let mut keyed: Vec<(u64, &T)> = (0u64..)
        .zip(rows)
        .map(|(place, row)| ((place ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17).wrapping_mul(seed | 1), row))
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    let mut rest: &[(u64, &T)] = &keyed;
    let mut batches = Vec::new();
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (batch, remainder) = rest.split_at((*cut).min(rest.len()));
        batches.push(batch.iter().map(|(_, row)| (*row).clone()).collect());
        rest = remainder;
    }
    batches
}
