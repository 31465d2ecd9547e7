//! Puts small batches together to one, so that operators run over thousands of rows at a time.
//!
//! Requests bring their own dictionaries with mostly the same strings. They are united here, once, so that every view behind has
//! few distinct values to number.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, PrimitiveArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::concat;
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

/// The rows of `batches`, which share a schema, in one batch.
pub(crate) fn gather(batches: &[&RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let Some(first) = batches.first() else { return Err(ArrowError::InvalidArgumentError("there is no batch to gather".to_owned())) };
    let column = |index: usize| {
        let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
        unite(&parts).unwrap_or_else(|| concat(&parts))
    };
    let columns = (0..first.num_columns()).map(column).collect::<Result<Vec<_>, _>>()?;
    let rows = batches.iter().map(|batch| batch.num_rows()).sum();
    RecordBatch::try_new_with_options(first.schema(), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))
}

/// Dictionaries over their common values; `None` for other types.
fn unite(parts: &[&dyn Array]) -> Option<Result<ArrayRef, ArrowError>> {
    let parts: Vec<&DictionaryArray<Int32Type>> = parts.iter().map(|part| part.as_dictionary_opt()).collect::<Option<_>>()?;
    let strings: Vec<&StringArray> = parts.iter().map(|part| part.values().as_string_opt()).collect::<Option<_>>()?;
    let rows = parts.iter().map(|part| part.len()).sum();
    let (mut codes, mut valid) = (Vec::with_capacity(rows), Vec::new());
    let (mut by_value, mut values): (HashMap<&str, i32>, Vec<&str>) = (HashMap::new(), Vec::new());
    for (part, strings) in parts.iter().zip(strings) {
        let mut code = |value| {
            *by_value.entry(value).or_insert_with(|| {
                values.push(value);
                i32::try_from(values.len() - 1).unwrap_or(NULL)
            })
        };
        let new: Vec<i32> = strings.iter().map(|value| value.map_or(NULL, &mut code)).collect();
        let of = |old: &i32| usize::try_from(*old).ok().and_then(|old| new.get(old)).copied().unwrap_or(NULL);
        let begin = codes.len();
        codes.extend(part.keys().values().iter().map(of));
        let nulls = part.keys().nulls().filter(|nulls| nulls.null_count() > 0);
        if nulls.is_some() || codes[begin..].contains(&NULL) {
            valid.resize(begin, true);
            let is_valid = |(row, code): (usize, &i32)| *code != NULL && nulls.is_none_or(|nulls| nulls.is_valid(row));
            valid.extend(codes[begin..].iter().enumerate().map(is_valid));
        }
    }
    let nulls = (!valid.is_empty()).then(|| {
        valid.resize(rows, true);
        NullBuffer::from(valid)
    });
    let keys = PrimitiveArray::<Int32Type>::try_new(codes.into(), nulls);
    let values = Arc::new(StringArray::from(values));
    Some(keys.and_then(|keys| DictionaryArray::try_new(keys, values)).map(|array| Arc::new(array) as ArrayRef))
}

/// The code of NULL on its way to the null mask.
const NULL: i32 = -1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: &[(Option<&'static str>, i64)]) -> RecordBatch {
        let names: DictionaryArray<Int32Type> = rows.iter().map(|(name, _)| *name).collect();
        let numbers = arrow::array::Int64Array::from_iter_values(rows.iter().map(|(_, number)| *number));
        let columns = [("name", Arc::new(names) as ArrayRef, true), ("number", Arc::new(numbers) as ArrayRef, false)];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    proptest! {
        /// Guarantees: rows come out as they went in, and every string is once in the united dictionary.
        #[test]
        fn gathers_rows_in_order(parts in prop::collection::vec(
            prop::collection::vec((prop::sample::select(vec![None, Some("a"), Some("b"), Some("")]), any::<i64>()), 0..6), 1..5)
        ) {
            let batches: Vec<RecordBatch> = parts.iter().map(|part| batch(part)).collect();
            let gathered = gather(&batches.iter().collect::<Vec<_>>()).unwrap();
            let names = gathered.column(0).as_dictionary::<Int32Type>();
            let text = names.downcast_dict::<StringArray>().unwrap();
            let rows: Vec<Option<&str>> = text.into_iter().collect();
            prop_assert_eq!(rows, parts.iter().flatten().map(|(name, _)| *name).collect::<Vec<_>>());
            let numbers = gathered.column(1).as_primitive::<arrow::datatypes::Int64Type>();
            prop_assert_eq!(numbers.values().to_vec(), parts.iter().flatten().map(|(_, number)| *number).collect::<Vec<_>>());
            let mut values: Vec<_> = names.values().as_string::<i32>().iter().collect();
            values.sort_unstable();
            values.dedup();
            prop_assert_eq!(values.len(), names.values().len());
        }
    }
}
