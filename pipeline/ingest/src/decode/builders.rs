//! Columns under construction: dictionaries that intern, bytes without an allocation per row, sparse columns.
//!
//! Built for telemetry, where a value is mostly the one of the row before: a dictionary first compares with its last
//! value, then looks into a table of its own. NULL is a key below zero until the column is finished, and a column that
//! few rows fill catches up with NULLs only when it is touched.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, DictionaryArray, FixedSizeBinaryArray, Int32Array, ListArray, PrimitiveArray,
    PrimitiveBuilder, StringArray, TimestampNanosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Field;
use arrow::error::ArrowError;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Dictionary key of a NULL row.
pub(super) const NULL_KEY: i32 = -1;
/// A sender who could foresee the hash could make every look-up linear. Keys are numbered in order of appearance, so
/// the seed changes no output.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0_u8));

/// Distinct byte strings, numbered in order of appearance.
#[derive(Debug)]
pub(super) struct Interner {
    values: Bytes,
    hashes: Vec<u64>,
    /// Open addressing with linear probing; a power of two, at most half full.
    slots: Vec<i32>,
    last: i32,
}

/// A `Dictionary(Int32, _)` column.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    values: Interner,
    keys: Vec<i32>,
}

/// Byte strings back to back: the values of a `Binary` or `Utf8` array.
#[derive(Debug)]
pub(super) struct Bytes {
    offsets: Vec<i32>,
    /// Bytes of the values; the open value is what stands after the last offset.
    pub(super) data: Vec<u8>,
}

/// A nullable `Utf8` column that few rows fill.
#[derive(Debug, Default)]
pub(super) struct SparseText {
    values: Bytes,
    valid: Vec<bool>,
}

/// A nullable primitive column that few rows fill.
#[derive(Debug)]
pub(super) struct Sparse<T: ArrowPrimitiveType>(PrimitiveBuilder<T>);

/// A nullable `List` column of non-null numbers that few rows fill.
#[derive(Debug)]
pub(super) struct SparseList<T: ArrowPrimitiveType> {
    offsets: Vec<i32>,
    items: Vec<T::Native>,
    valid: Vec<bool>,
}

// === impl Interner ===

impl Default for Interner {
    fn default() -> Self {
        Self { values: Bytes::default(), hashes: Vec::new(), slots: vec![NULL_KEY; 16], last: NULL_KEY }
    }
}

impl Interner {
    fn intern(&mut self, value: &[u8]) -> i32 {
        if self.last != NULL_KEY && self.values.get(self.last) == value {
            return self.last;
        }
        let hash = xxh3_64_with_seed(value, *SEED);
        let mut slot = self.slot(hash);
        while let Some(&key) = self.slots.get(slot).filter(|key| **key != NULL_KEY) {
            if self.hash_of(key) == hash && self.values.get(key) == value {
                self.last = key;
                return key;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        let key = index(self.hashes.len());
        self.slots[slot] = key;
        self.hashes.push(hash);
        self.values.push(value);
        self.last = key;
        if self.hashes.len() * 2 > self.slots.len() {
            self.grow();
        }
        key
    }

    fn grow(&mut self) {
        self.slots = vec![NULL_KEY; self.slots.len() * 2];
        for key in 0..self.hashes.len() {
            let mut slot = self.slot(self.hashes[key]);
            while self.slots[slot] != NULL_KEY {
                slot = (slot + 1) & (self.slots.len() - 1);
            }
            self.slots[slot] = index(key);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "only the low bits select a slot")]
    fn slot(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn hash_of(&self, key: i32) -> u64 {
        usize::try_from(key).ok().and_then(|key| self.hashes.get(key)).copied().unwrap_or_default()
    }
}

// === impl Dictionary ===

impl Dictionary {
    pub(super) fn intern(&mut self, value: &[u8]) -> i32 {
        self.values.intern(value)
    }

    /// The interned value of `key`; empty for NULL.
    pub(super) fn value(&self, key: i32) -> &[u8] {
        self.values.values.get(key)
    }

    pub(super) fn push(&mut self, value: &str) {
        let key = self.intern(value.as_bytes());
        self.keys.push(key);
    }

    pub(super) fn push_key(&mut self, key: i32) {
        self.keys.push(key);
    }

    /// Appends `value`, or NULL when it is empty.
    pub(super) fn push_non_empty(&mut self, value: &str) {
        if value.is_empty() { self.keys.push(NULL_KEY) } else { self.push(value) }
    }

    pub(super) fn repeat(&mut self, key: i32, rows: usize) {
        self.keys.extend(std::iter::repeat_n(key, rows));
    }

    pub(super) fn finish_text(self) -> Result<ArrayRef, ArrowError> {
        let values = Arc::new(self.values.values.into_text(None)?);
        dictionary_array(self.keys, values)
    }

    pub(super) fn finish_binary(self) -> Result<ArrayRef, ArrowError> {
        let values = Arc::new(self.values.values.into_binary()?);
        dictionary_array(self.keys, values)
    }
}

/// A dictionary column from keys into `values`; a key below zero is NULL.
pub(super) fn dictionary_array(mut keys: Vec<i32>, values: ArrayRef) -> Result<ArrayRef, ArrowError> {
    let nulls = keys.contains(&NULL_KEY).then(|| NullBuffer::from_iter(keys.iter().map(|key| *key != NULL_KEY)));
    if nulls.is_some() {
        keys.iter_mut().for_each(|key| *key = (*key).max(0));
    }
    let keys = Int32Array::try_new(ScalarBuffer::from(keys), nulls)?;
    Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
}

// === impl Bytes ===

impl Default for Bytes {
    fn default() -> Self {
        Self { offsets: vec![0], data: Vec::new() }
    }
}

impl Bytes {
    pub(super) fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.close();
    }

    /// Ends the open value.
    pub(super) fn close(&mut self) {
        self.offsets.push(index(self.data.len()));
    }

    /// Where the open value starts.
    pub(super) fn open_at(&self) -> usize {
        self.offsets.last().and_then(|offset| usize::try_from(*offset).ok()).unwrap_or_default()
    }

    fn get(&self, key: i32) -> &[u8] {
        let read = || {
            let key = usize::try_from(key).ok()?;
            let start = usize::try_from(*self.offsets.get(key)?).ok()?;
            let end = usize::try_from(*self.offsets.get(key + 1)?).ok()?;
            self.data.get(start..end)
        };
        read().unwrap_or_default()
    }

    fn into_text(self, nulls: Option<NullBuffer>) -> Result<StringArray, ArrowError> {
        StringArray::try_new(offsets(self.offsets), Buffer::from_vec(self.data), nulls)
    }

    pub(super) fn into_binary(self) -> Result<BinaryArray, ArrowError> {
        BinaryArray::try_new(offsets(self.offsets), Buffer::from_vec(self.data), None)
    }
}

// === impl SparseText ===

impl SparseText {
    /// Sets `row`, unless `value` is empty; rows left out become NULL.
    pub(super) fn set(&mut self, row: usize, value: &str) {
        if !value.is_empty() {
            self.pad(row);
            self.values.push(value.as_bytes());
            self.valid.push(true);
        }
    }

    fn pad(&mut self, rows: usize) {
        while self.valid.len() < rows {
            self.values.close();
            self.valid.push(false);
        }
    }

    pub(super) fn finish(mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(rows);
        let nulls = NullBuffer::from(self.valid);
        Ok(Arc::new(self.values.into_text(Some(nulls))?))
    }
}

// === impl Sparse ===

impl<T: ArrowPrimitiveType> Default for Sparse<T> {
    fn default() -> Self {
        Self(PrimitiveBuilder::with_capacity(0))
    }
}

impl<T: ArrowPrimitiveType> Sparse<T> {
    /// Sets `row`, unless there is no value; rows left out become NULL.
    pub(super) fn set(&mut self, row: usize, value: Option<T::Native>) {
        if let Some(value) = value {
            self.pad(row);
            self.0.append_value(value);
        }
    }

    fn pad(&mut self, rows: usize) {
        let missing = rows.saturating_sub(arrow::array::ArrayBuilder::len(&self.0));
        if missing > 0 {
            self.0.append_nulls(missing);
        }
    }

    pub(super) fn finish(mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        Arc::new(self.0.finish())
    }
}

// === impl SparseList ===

impl<T: ArrowPrimitiveType> Default for SparseList<T> {
    fn default() -> Self {
        Self { offsets: vec![0], items: Vec::new(), valid: Vec::new() }
    }
}

impl<T: ArrowPrimitiveType> SparseList<T> {
    /// Sets `row`; rows left out become NULL.
    pub(super) fn set(&mut self, row: usize, items: impl IntoIterator<Item = T::Native>) {
        self.pad(row);
        self.items.extend(items);
        self.offsets.push(index(self.items.len()));
        self.valid.push(true);
    }

    fn pad(&mut self, rows: usize) {
        let end = index(self.items.len());
        while self.valid.len() < rows {
            self.offsets.push(end);
            self.valid.push(false);
        }
    }

    pub(super) fn finish(mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(rows);
        let items = PrimitiveArray::<T>::try_new(ScalarBuffer::from(self.items), None)?;
        let field = Arc::new(Field::new("item", T::DATA_TYPE, false));
        Ok(Arc::new(ListArray::try_new(field, offsets(self.offsets), Arc::new(items), Some(NullBuffer::from(self.valid)))?))
    }
}

/// A required time column.
pub(super) fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::new(ScalarBuffer::from(values), None))
}

/// A required column of ids of `width` bytes.
pub(super) fn ids(width: i32, values: Vec<u8>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(FixedSizeBinaryArray::try_new(width, Buffer::from_vec(values), nulls)?))
}

fn offsets(values: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(values))
}

/// An Arrow offset. Saturates: [`super::MAX_BODY`] keeps every column far below the limit.
fn index(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, AsArray as _};
    use arrow::datatypes::Int32Type;

    use super::*;

    /// Guarantees: equal values share a key through every growth of the table, and NULLs stay NULL.
    #[test]
    fn interning_survives_growth() {
        let mut column = Dictionary::default();
        for round in 0..2 {
            for value in 0..1000 {
                column.push_non_empty(&if value % 7 == 0 { String::new() } else { format!("value {value}") });
            }
            assert_eq!(column.keys.len(), (round + 1) * 1000);
        }
        let array = column.finish_text().unwrap();
        let dictionary = array.as_dictionary::<Int32Type>();
        assert_eq!(dictionary.values().len(), 857);
        let texts = dictionary.downcast_dict::<StringArray>().unwrap();
        for row in 0..2000 {
            let value = row % 1000;
            assert_eq!(array.is_null(row), value % 7 == 0);
            if value % 7 != 0 {
                assert_eq!(arrow::array::ArrayAccessor::value(&texts, row), format!("value {value}"));
            }
        }
    }
}
