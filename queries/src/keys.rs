//! Group keys by number: dictionary columns enter the partial aggregate as integers.
//!
//! DataFusion groups by a dictionary column through its slow path, which copies the string of every row. Here the values of
//! each batch's dictionary are numbered once per distinct value, and a row costs one look-up by its key. Numbers hold within
//! one micro-batch only; states carry dictionaries again.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Int32Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

/// Numbers of values within one micro-batch.
#[derive(Debug, Default)]
struct Numbers {
    by_value: HashMap<Box<str>, i32>,
    values: Vec<Box<str>>,
}

/// The number of a dictionary column's value.
#[derive(Debug, Clone)]
pub(crate) struct KeyNumber {
    column: Arc<dyn PhysicalExpr>,
    numbers: Arc<Mutex<Numbers>>,
}

// === impl Numbers ===

impl Numbers {
    fn of(&mut self, value: &str) -> Option<i32> {
        if let Some(number) = self.by_value.get(value) {
            return Some(*number);
        }
        let number = i32::try_from(self.values.len()).ok()?;
        self.by_value.insert(Box::from(value), number);
        self.values.push(Box::from(value));
        Some(number)
    }
}

// === impl KeyNumber ===

impl KeyNumber {
    /// Numbers for a string dictionary; `None` for any other expression.
    pub(crate) fn new(expression: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Self> {
        let is_dictionary = expression.data_type(schema).is_ok_and(|data_type| data_type == tracescale_core::schema::dictionary());
        is_dictionary.then(|| Self { column: Arc::clone(expression), numbers: Arc::default() })
    }

    /// Forgets all numbers.
    pub(crate) fn reset(&self) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.by_value.clear();
        numbers.values.clear();
    }

    /// The values of a column of numbers.
    pub(crate) fn values(&self, column: &ArrayRef) -> Result<ArrayRef, DataFusionError> {
        let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let values: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.values.iter()));
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(column.as_primitive::<Int32Type>().clone(), values)?))
    }
}

impl PhysicalExpr for KeyNumber {
    fn data_type(&self, _: &Schema) -> Result<DataType, DataFusionError> {
        Ok(DataType::Int32)
    }

    fn nullable(&self, _: &Schema) -> Result<bool, DataFusionError> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue, DataFusionError> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        let dictionary = array.as_dictionary::<Int32Type>();
        let values = dictionary.values().as_string::<i32>();
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let map: Vec<Option<i32>> = values.iter().map(|value| numbers.of(value?)).collect();
        let number = |key: Option<i32>| map.get(usize::try_from(key?).ok()?).copied().flatten();
        let keys = dictionary.keys();
        let mapped: Int32Array = if keys.null_count() == 0 && map.iter().all(Option::is_some) {
            // The common case, without a null check per row.
            let plain: Vec<i32> = map.iter().map(|number| number.unwrap_or_default()).collect();
            keys.unary(|key| usize::try_from(key).ok().and_then(|key| plain.get(key)).copied().unwrap_or_default())
        } else {
            keys.iter().map(number).collect()
        };
        Ok(ColumnarValue::Array(Arc::new(mapped)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let [column] = <[_; 1]>::try_from(children).map_err(|_| DataFusionError::Internal("a key number has one child".to_owned()))?;
        Ok(Arc::new(Self { column, numbers: Arc::clone(&self.numbers) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for KeyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key_number({})", self.column)
    }
}

impl PartialEq for KeyNumber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.numbers, &other.numbers) && self.column.eq(&other.column)
    }
}

impl Eq for KeyNumber {}

impl Hash for KeyNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.numbers).hash(state);
        self.column.hash(state);
    }
}
