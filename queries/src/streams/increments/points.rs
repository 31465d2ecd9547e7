//! Reads the metric points that can grow out of a `metrics` batch.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, ListArray, PrimitiveArray, UInt64Array};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, TimestampNanosecondType, UInt64Type};
use tracescale_models::counter::Point;
use tracescale_models::explicit::ExplicitHistogram;
use tracescale_models::exponential::{Buckets, ExponentialHistogram};

use super::series::{AnyPoint, Totals};
use crate::derive::DeriveError;
use crate::streams::columns::{Columns, Text};

/// What the words in `metric_kind` mean here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sum,
    Explicit,
    Exponential,
    Summary,
    Other,
}

/// The columns of a `metrics` batch that are read here.
pub(super) struct Points<'a> {
    columns: Columns<'a>,
    time: &'a PrimitiveArray<TimestampNanosecondType>,
    start: &'a PrimitiveArray<TimestampNanosecondType>,
    kind: (Text<'a>, Vec<Kind>),
    is_delta: (Text<'a>, Vec<bool>),
    is_monotonic: &'a BooleanArray,
    no_value: &'a BooleanArray,
    series: &'a UInt64Array,
    value: &'a Float64Array,
    count: &'a UInt64Array,
    sum: &'a Float64Array,
    bounds: &'a ListArray,
    bucket_counts: &'a ListArray,
    scale: &'a Int32Array,
    zero_count: &'a UInt64Array,
    zero_threshold: &'a Float64Array,
    positive: (&'a Int32Array, &'a ListArray),
    negative: (&'a Int32Array, &'a ListArray),
}

// === impl Points ===

impl<'a> Points<'a> {
    pub(super) fn new(columns: Columns<'a>) -> Result<Self, DeriveError> {
        let kind = columns.text("metric_kind")?;
        let temporality = columns.text("temporality")?;
        Ok(Self {
            columns,
            time: columns.times("time")?,
            start: columns.times("start_time")?,
            kind: (kind, words(kind, kind_of)),
            is_delta: (temporality, words(temporality, |word| word == "delta")),
            is_monotonic: columns.booleans("is_monotonic")?,
            no_value: columns.booleans("no_recorded_value")?,
            series: columns.counts("series_id")?,
            value: columns.floats("value")?,
            count: columns.counts("count")?,
            sum: columns.floats("sum")?,
            bounds: columns.lists("bounds")?,
            bucket_counts: columns.lists("bucket_counts")?,
            scale: columns.integers("scale")?,
            zero_count: columns.counts("zero_count")?,
            zero_threshold: columns.floats("zero_threshold")?,
            positive: (columns.integers("positive_offset")?, columns.lists("positive_counts")?),
            negative: (columns.integers("negative_offset")?, columns.lists("negative_counts")?),
        })
    }

    pub(super) fn columns(&self) -> Columns<'a> {
        self.columns
    }

    /// The series and the point of a row; `None` when it is of a kind that does not grow, or has no value.
    pub(super) fn get(&self, row: usize) -> Option<(u64, AnyPoint)> {
        if self.no_value.value(row) {
            return None;
        }
        let kind = word(&self.kind, row).unwrap_or(Kind::Other);
        // Summaries have no temporality of their own; their count and sum are cumulative by definition.
        let is_delta = kind != Kind::Summary && word(&self.is_delta, row).unwrap_or(false);
        let point = match kind {
            Kind::Sum if is_delta || self.is_monotonic.value(row) => {
                let value = optional(self.value, row).filter(|value| value.is_finite())?;
                if is_delta { AnyPoint::DeltaNumber(self.point(row, value)) } else { AnyPoint::Number(self.point(row, value)) }
            }
            Kind::Explicit => {
                let value = self.explicit(row)?;
                if is_delta { AnyPoint::DeltaExplicit(self.point(row, value)) } else { AnyPoint::Explicit(self.point(row, value)) }
            }
            Kind::Exponential => {
                let value = self.exponential(row);
                if is_delta { AnyPoint::DeltaExponential(self.point(row, value)) } else { AnyPoint::Exponential(self.point(row, value)) }
            }
            Kind::Summary => AnyPoint::Summary(self.point(row, Totals { count: float(optional(self.count, row)?), sum: self.sum(row)? })),
            Kind::Sum | Kind::Other => return None,
        };
        Some((self.series.value(row), point))
    }

    fn point<V>(&self, row: usize, value: V) -> Point<V> {
        // Zero is how OTLP says that there is no start.
        Point { start: optional(self.start, row).filter(|start| *start > 0), time: self.time.value(row), value }
    }

    /// A sum that is not a number says no more than none.
    fn sum(&self, row: usize) -> Option<f64> {
        optional(self.sum, row).filter(|sum| sum.is_finite())
    }

    fn explicit(&self, row: usize) -> Option<ExplicitHistogram> {
        let counts: Vec<f64> = integers(self.bucket_counts, row).iter().copied().map(float).collect();
        let count = optional(self.count, row).map_or_else(|| counts.iter().sum(), float);
        let bounds =
            if self.bounds.is_null(row) { Vec::new() } else { list(self.bounds, row).as_primitive_opt::<Float64Type>()?.values().to_vec() };
        Some(ExplicitHistogram { bounds, counts, count, sum: self.sum(row) })
    }

    fn exponential(&self, row: usize) -> ExponentialHistogram {
        let buckets = |(offsets, counts): (&Int32Array, &ListArray)| Buckets {
            offset: optional(offsets, row).unwrap_or(0),
            counts: integers(counts, row).iter().copied().map(float).collect(),
        };
        ExponentialHistogram {
            scale: optional(self.scale, row).unwrap_or(0).clamp(-10, 20),
            zero_count: optional(self.zero_count, row).map_or(0.0, float),
            zero_threshold: optional(self.zero_threshold, row).unwrap_or(0.0),
            positive: buckets(self.positive),
            negative: buckets(self.negative),
            sum: self.sum(row),
        }
    }
}

/// The meaning of every word of a dictionary.
fn words<T>(text: Text<'_>, meaning: impl Fn(&str) -> T) -> Vec<T> {
    (0..text.cardinality()).map(|code| meaning(i32::try_from(code).ok().and_then(|code| text.value(code)).unwrap_or_default())).collect()
}

fn word<T: Copy>((text, meanings): &(Text<'_>, Vec<T>), row: usize) -> Option<T> {
    meanings.get(usize::try_from(text.code(row)).ok()?).copied()
}

fn kind_of(word: &str) -> Kind {
    match word {
        "sum" => Kind::Sum,
        "histogram" => Kind::Explicit,
        "exponential_histogram" => Kind::Exponential,
        "summary" => Kind::Summary,
        _ => Kind::Other,
    }
}

fn optional<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    array.is_valid(row).then(|| array.value(row))
}

/// One list of a list column, without copying its items.
fn list(lists: &ListArray, row: usize) -> ArrayRef {
    lists.value(row)
}

fn integers(lists: &ListArray, row: usize) -> Vec<u64> {
    if lists.is_null(row) {
        return Vec::new();
    }
    list(lists, row).as_primitive_opt::<UInt64Type>().map(|items| items.values().to_vec()).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 is known to sixteen digits, which is enough")]
fn float(count: u64) -> f64 {
    count as f64
}
