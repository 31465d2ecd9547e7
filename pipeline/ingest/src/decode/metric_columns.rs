//! The columns of `metrics`, filled point by point by whichever decoder reads the bytes.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow::error::ArrowError;
use tracescale_core::attributes::Attributes;
use tracescale_core::schema::Stream;
use xxhash_rust::xxh3::xxh3_64;

use super::builders::{Bytes, Dictionary, Sparse, SparseList, dictionary_array, times};
use super::promoted::{ResourceColumns, ResourceKeys};

/// The kinds of metric, numbered as in the dictionary of `metric_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricKind {
    Gauge = 0,
    Sum = 1,
    Histogram = 2,
    ExponentialHistogram = 3,
    Summary = 4,
}

static KINDS: LazyLock<ArrayRef> =
    LazyLock::new(|| Arc::new(StringArray::from(vec!["gauge", "sum", "histogram", "exponential_histogram", "summary"])));
/// By OTLP number.
static TEMPORALITIES: LazyLock<ArrayRef> = LazyLock::new(|| Arc::new(StringArray::from(vec!["unspecified", "delta", "cumulative"])));

/// What the points of one metric share.
#[derive(Clone, Copy, Debug)]
pub(super) struct MetricRow<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
    pub(super) scope_name: &'a str,
    pub(super) kind: MetricKind,
    /// By OTLP number; kinds without one are unspecified.
    pub(super) temporality: i32,
    pub(super) is_monotonic: bool,
    /// Hash of resource, scope, name and unit.
    pub(super) identity: u64,
}

/// What every kind of point has. Its raw attributes go to [`MetricColumns::attributes`] beforehand.
#[derive(Clone, Copy, Debug)]
pub(super) struct PointRow {
    pub(super) time: i64,
    pub(super) start: Option<i64>,
    pub(super) no_recorded_value: bool,
    pub(super) exemplars: usize,
}

/// Count, sum and extremes of a distribution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Distribution {
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

/// One side of an exponential histogram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side<'a> {
    pub(super) offset: i32,
    pub(super) counts: &'a [u64],
}

/// The table of one metrics request.
#[derive(Debug)]
pub(super) struct MetricColumns {
    received_at: i64,
    time: Vec<i64>,
    start: Sparse<TimestampNanosecondType>,
    name: Dictionary,
    kind: Vec<i32>,
    temporality: Vec<i32>,
    is_monotonic: Vec<bool>,
    unit: Dictionary,
    series_id: Vec<u64>,
    no_recorded_value: Vec<bool>,
    value: Sparse<Float64Type>,
    value_int: Sparse<Int64Type>,
    count: Sparse<UInt64Type>,
    sum: Sparse<Float64Type>,
    min: Sparse<Float64Type>,
    max: Sparse<Float64Type>,
    bounds: SparseList<Float64Type>,
    bucket_counts: SparseList<UInt64Type>,
    scale: Sparse<Int32Type>,
    zero_count: Sparse<UInt64Type>,
    zero_threshold: Sparse<Float64Type>,
    positive_offset: Sparse<Int32Type>,
    positive_counts: SparseList<UInt64Type>,
    negative_offset: Sparse<Int32Type>,
    negative_counts: SparseList<UInt64Type>,
    quantiles: SparseList<Float64Type>,
    quantile_values: SparseList<Float64Type>,
    exemplar_count: Vec<u32>,
    pub(super) resources: ResourceColumns,
    resource_rows: usize,
    scope_name: Dictionary,
    /// Raw attributes; the open value is the point's to come.
    pub(super) attributes: Bytes,
    scratch: Vec<u8>,
}

// === impl MetricColumns ===

impl MetricColumns {
    pub(super) fn new(received_at: i64) -> Self {
        Self {
            received_at,
            time: Vec::new(),
            start: Sparse::default(),
            name: Dictionary::default(),
            kind: Vec::new(),
            temporality: Vec::new(),
            is_monotonic: Vec::new(),
            unit: Dictionary::default(),
            series_id: Vec::new(),
            no_recorded_value: Vec::new(),
            value: Sparse::default(),
            value_int: Sparse::default(),
            count: Sparse::default(),
            sum: Sparse::default(),
            min: Sparse::default(),
            max: Sparse::default(),
            bounds: SparseList::default(),
            bucket_counts: SparseList::default(),
            scale: Sparse::default(),
            zero_count: Sparse::default(),
            zero_threshold: Sparse::default(),
            positive_offset: Sparse::default(),
            positive_counts: SparseList::default(),
            negative_offset: Sparse::default(),
            negative_counts: SparseList::default(),
            quantiles: SparseList::default(),
            quantile_values: SparseList::default(),
            exemplar_count: Vec::new(),
            resources: ResourceColumns::new(),
            resource_rows: 0,
            scope_name: Dictionary::default(),
            attributes: Bytes::default(),
            scratch: Vec::new(),
        }
    }

    fn rows(&self) -> usize {
        self.time.len()
    }

    /// Appends what every point has and gives its row, for the columns of its kind.
    pub(super) fn push(&mut self, metric: &MetricRow<'_>, point: &PointRow) -> usize {
        let row = self.rows();
        self.time.push(point.time);
        self.start.set(row, point.start);
        self.name.push(metric.name);
        self.kind.push(metric.kind as i32);
        self.temporality.push(if (0..=2).contains(&metric.temporality) { metric.temporality } else { 0 });
        self.is_monotonic.push(metric.is_monotonic);
        self.unit.push(metric.unit);
        let identity = self.series_id(metric.identity);
        self.series_id.push(identity);
        self.no_recorded_value.push(point.no_recorded_value);
        self.exemplar_count.push(u32::try_from(point.exemplars).unwrap_or(u32::MAX));
        self.scope_name.push_non_empty(metric.scope_name);
        self.attributes.close();
        row
    }

    #[expect(clippy::cast_precision_loss, reason = "`value_int` keeps the exact value beside it")]
    pub(super) fn set_integer(&mut self, row: usize, value: i64) {
        self.value.set(row, Some(value as f64));
        self.value_int.set(row, Some(value));
    }

    pub(super) fn set_double(&mut self, row: usize, value: f64) {
        self.value.set(row, Some(value));
    }

    pub(super) fn set_distribution(&mut self, row: usize, distribution: &Distribution) {
        self.count.set(row, Some(distribution.count));
        self.sum.set(row, distribution.sum);
        self.min.set(row, distribution.min);
        self.max.set(row, distribution.max);
    }

    pub(super) fn set_buckets(&mut self, row: usize, bounds: &[f64], counts: &[u64]) {
        self.bounds.set(row, bounds.iter().copied());
        self.bucket_counts.set(row, counts.iter().copied());
    }

    pub(super) fn set_exponential(
        &mut self,
        row: usize,
        scale: i32,
        zero: (u64, f64),
        positive: Option<Side<'_>>,
        negative: Option<Side<'_>>,
    ) {
        self.scale.set(row, Some(scale));
        self.zero_count.set(row, Some(zero.0));
        self.zero_threshold.set(row, Some(zero.1));
        if let Some(side) = positive {
            self.positive_offset.set(row, Some(side.offset));
            self.positive_counts.set(row, side.counts.iter().copied());
        }
        if let Some(side) = negative {
            self.negative_offset.set(row, Some(side.offset));
            self.negative_counts.set(row, side.counts.iter().copied());
        }
    }

    pub(super) fn set_quantiles(&mut self, row: usize, quantiles: impl Iterator<Item = (f64, f64)> + Clone) {
        self.quantiles.set(row, quantiles.clone().map(|(quantile, _)| quantile));
        self.quantile_values.set(row, quantiles.map(|(_, value)| value));
    }

    /// Gives the rows since the last call the columns of `resource`.
    pub(super) fn close_resource(&mut self, resource: &ResourceKeys) {
        let rows = self.rows();
        self.resources.repeat(resource, rows - self.resource_rows);
        self.resource_rows = rows;
    }

    /// The identity of the series that the open attributes belong to.
    fn series_id(&mut self, metric: u64) -> u64 {
        self.scratch.clear();
        self.scratch.extend_from_slice(&metric.to_le_bytes());
        let start = self.attributes.open_at();
        append_sorted(&mut self.scratch, self.attributes.data.get(start..).unwrap_or_default());
        xxh3_64(&self.scratch)
    }

    /// The batch, when there are rows.
    pub(super) fn finish(self) -> Result<Vec<(Stream, RecordBatch)>, ArrowError> {
        let rows = self.rows();
        if rows == 0 {
            return Ok(Vec::new());
        }
        let (resource_columns, raw_resource) = self.resources.finish()?;
        let mut columns: Vec<ArrayRef> = vec![
            times(self.time),
            self.start.finish(rows),
            times(vec![self.received_at; rows]),
            self.name.finish_text()?,
            dictionary_array(self.kind, Arc::clone(&KINDS))?,
            dictionary_array(self.temporality, Arc::clone(&TEMPORALITIES))?,
            Arc::new(BooleanArray::from(self.is_monotonic)),
            self.unit.finish_text()?,
            Arc::new(UInt64Array::from(self.series_id)),
            Arc::new(BooleanArray::from(self.no_recorded_value)),
            self.value.finish(rows),
            self.value_int.finish(rows),
            self.count.finish(rows),
            self.sum.finish(rows),
            self.min.finish(rows),
            self.max.finish(rows),
            self.bounds.finish(rows)?,
            self.bucket_counts.finish(rows)?,
            self.scale.finish(rows),
            self.zero_count.finish(rows),
            self.zero_threshold.finish(rows),
            self.positive_offset.finish(rows),
            self.positive_counts.finish(rows)?,
            self.negative_offset.finish(rows),
            self.negative_counts.finish(rows)?,
            self.quantiles.finish(rows)?,
            self.quantile_values.finish(rows)?,
            Arc::new(UInt32Array::from(self.exemplar_count)),
        ];
        columns.extend(resource_columns);
        columns.extend([self.scope_name.finish_text()?, Arc::new(self.attributes.into_binary()?), raw_resource]);
        Ok(vec![(Stream::Metrics, RecordBatch::try_new(Stream::Metrics.schema(), columns)?)])
    }
}

/// A hash of raw attributes that does not depend on their order.
pub(super) fn unordered_hash(raw: &[u8]) -> u64 {
    let mut sorted = Vec::with_capacity(raw.len());
    append_sorted(&mut sorted, raw);
    xxh3_64(&sorted)
}

/// A hash of texts, in which no text can run into the next.
pub(super) fn texts_hash(seed: &[u64], texts: &[&str]) -> u64 {
    let mut bytes: Vec<u8> = seed.iter().flat_map(|part| part.to_le_bytes()).collect();
    for text in texts {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    xxh3_64(&bytes)
}

/// Appends the entries of raw attributes in the order of their keys.
fn append_sorted(out: &mut Vec<u8>, raw: &[u8]) {
    if Attributes::new(raw).iter().map(|(key, _)| key).is_sorted() {
        out.extend_from_slice(raw);
        return;
    }
    let mut entries: Vec<_> = Attributes::new(raw).raw_entries().collect();
    entries.sort_by_key(|(key, _)| *key);
    for (_, entry) in entries {
        out.extend_from_slice(entry);
    }
}
