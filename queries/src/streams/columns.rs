//! Typed access to the columns of a decoded batch: looked up once per batch, read per row without allocation.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, ListArray, PrimitiveArray,
    RecordBatch, StringArray, UInt64Array,
};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int32Type, TimestampNanosecondType, UInt64Type};
use arrow::error::ArrowError;
use tracescale_core::schema::Stream;

use crate::derive::DeriveError;

/// The columns of one batch of a stream.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    stream: Stream,
    batch: &'a RecordBatch,
}

/// A `Dictionary(Int32, Utf8)` column.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    keys: &'a Int32Array,
    values: &'a StringArray,
    shared: &'a ArrayRef,
}

/// Assembles the rows of a derived stream.
pub(super) fn assemble(stream: Stream, columns: Vec<ArrayRef>) -> Result<RecordBatch, DeriveError> {
    RecordBatch::try_new(stream.schema(), columns).map_err(|source| failed(stream, source))
}

/// An Arrow failure while building rows of `stream`.
pub(super) fn failed(stream: Stream, source: ArrowError) -> DeriveError {
    DeriveError::Arrow { stream: stream.name(), source }
}

// === impl Columns ===

impl<'a> Columns<'a> {
    pub(super) fn new(stream: Stream, batch: &'a RecordBatch) -> Self {
        Self { stream, batch }
    }

    /// The column as it is.
    pub(super) fn array(&self, column: &'static str) -> Result<&'a ArrayRef, DeriveError> {
        self.batch.column_by_name(column).ok_or(self.absent(column))
    }

    pub(super) fn times(&self, column: &'static str) -> Result<&'a PrimitiveArray<TimestampNanosecondType>, DeriveError> {
        self.primitive(column)
    }

    pub(super) fn floats(&self, column: &'static str) -> Result<&'a Float64Array, DeriveError> {
        self.primitive::<Float64Type>(column)
    }

    pub(super) fn counts(&self, column: &'static str) -> Result<&'a UInt64Array, DeriveError> {
        self.primitive::<UInt64Type>(column)
    }

    pub(super) fn integers(&self, column: &'static str) -> Result<&'a Int32Array, DeriveError> {
        self.primitive::<Int32Type>(column)
    }

    pub(super) fn booleans(&self, column: &'static str) -> Result<&'a BooleanArray, DeriveError> {
        self.array(column)?.as_boolean_opt().ok_or(self.absent(column))
    }

    pub(super) fn ids(&self, column: &'static str) -> Result<&'a FixedSizeBinaryArray, DeriveError> {
        self.array(column)?.as_fixed_size_binary_opt().ok_or(self.absent(column))
    }

    pub(super) fn lists(&self, column: &'static str) -> Result<&'a ListArray, DeriveError> {
        self.array(column)?.as_list_opt().ok_or(self.absent(column))
    }

    pub(super) fn text(&self, column: &'static str) -> Result<Text<'a>, DeriveError> {
        let dictionary = self.array(column)?.as_dictionary_opt::<Int32Type>().ok_or(self.absent(column))?;
        let values = dictionary.values().as_string_opt::<i32>().ok_or(self.absent(column))?;
        Ok(Text { keys: dictionary.keys(), values, shared: dictionary.values() })
    }

    fn primitive<T: ArrowPrimitiveType>(&self, column: &'static str) -> Result<&'a PrimitiveArray<T>, DeriveError> {
        self.array(column)?.as_primitive_opt::<T>().ok_or(self.absent(column))
    }

    fn absent(&self, column: &'static str) -> DeriveError {
        DeriveError::Column { stream: self.stream.name(), column }
    }
}

// === impl Text ===

impl<'a> Text<'a> {
    /// The dictionary code of a row; −1 when NULL.
    pub(super) fn code(&self, row: usize) -> i32 {
        if self.keys.is_null(row) { -1 } else { self.keys.value(row) }
    }

    /// The string of a code; `None` for a NULL.
    pub(super) fn value(&self, code: i32) -> Option<&'a str> {
        let place = usize::try_from(code).ok().filter(|place| *place < self.values.len() && self.values.is_valid(*place))?;
        Some(self.values.value(place))
    }

    /// Number of distinct codes.
    pub(super) fn cardinality(&self) -> usize {
        self.values.len()
    }

    /// A column over the same dictionary with other codes; negative ones are NULL. Copies no string.
    pub(super) fn recoded(&self, codes: impl Iterator<Item = i32>) -> Result<ArrayRef, ArrowError> {
        let keys: Int32Array = codes.map(|code| (code >= 0).then_some(code)).collect();
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::clone(self.shared))?))
    }
}

/// The sixteen bytes of a trace id.
pub(super) fn trace_id(bytes: &[u8]) -> u128 {
    bytes.try_into().map_or(0, u128::from_be_bytes)
}

/// The eight bytes of a span id; zero (which OTLP forbids) when absent.
pub(super) fn span_id(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}
