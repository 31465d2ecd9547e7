//! The group of a row as one number: panes and dictionary columns enter the partial aggregate together, as a single integer key.
//!
//! DataFusion hashes and compares every key column of every row, and takes a slow path for dictionaries that copies each string.
//! Here the values of a dictionary are numbered once per distinct value; a row costs a look-up per key. Numbers hold within one
//! micro-batch only; states carry panes and dictionaries again.
//!
//! ```text
//! pane  10:00:05 ─▶ 0 ─┐
//! service   shop ─▶ 1 ─┴▶ (0, 1) = 0 ─┐
//! namespace NULL ─▶ 0 ────────────────┴▶ (0, 0) = 0 = the group
//! ```

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray, TimestampNanosecondArray, UInt32Array};
use arrow::datatypes::{DataType, Int32Type, Schema, TimestampNanosecondType, UInt32Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

use crate::hash::FastMap;

/// Pairs are looked up in an array when it needs no more places than this, else in a map.
const TABLE: usize = 1 << 16;

/// The number of a row's group.
#[derive(Debug, Clone)]
pub(crate) struct GroupNumber {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    numbers: Arc<Mutex<Vec<Level>>>,
}

/// The numbers of one key, and of what the keys up to it make together.
#[derive(Debug)]
struct Level {
    values: Values,
    /// For each group of the keys up to this one: the group of the keys before, and the number of this one's value.
    pairs: Vec<(u32, u32)>,
}

/// Values by number.
#[derive(Debug)]
enum Values {
    Panes {
        by_start: FastMap<i64, u32>,
        starts: Vec<i64>,
    },
    /// Number 0 is NULL.
    Strings {
        by_value: HashMap<Box<str>, u32>,
        values: Vec<Box<str>>,
    },
}

// === impl GroupNumber ===

impl GroupNumber {
    /// Numbers for the groups that a pane makes together with string dictionaries.
    pub(crate) fn new(pane: Arc<dyn PhysicalExpr>, dictionaries: impl IntoIterator<Item = Arc<dyn PhysicalExpr>>) -> Self {
        let keys: Vec<_> = std::iter::once(pane).chain(dictionaries).collect();
        let strings = || Values::Strings { by_value: HashMap::new(), values: Vec::new() };
        let values = std::iter::once(Values::Panes { by_start: FastMap::default(), starts: Vec::new() });
        let values = values.chain(std::iter::repeat_with(strings));
        let levels = values.take(keys.len()).map(|values| Level { values, pairs: Vec::new() }).collect();
        Self { keys, numbers: Arc::new(Mutex::new(levels)) }
    }

    /// Whether a key is a string dictionary.
    pub(crate) fn takes(key: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
        key.data_type(schema).is_ok_and(|data_type| data_type == tracescale_core::schema::dictionary())
    }

    /// Forgets all numbers.
    pub(crate) fn reset(&self) {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().for_each(Level::clear);
    }

    /// The key columns that a column of group numbers stands for.
    pub(crate) fn values(&self, groups: &ArrayRef) -> Result<Vec<ArrayRef>, ArrowError> {
        let levels = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups = groups.as_primitive::<UInt32Type>().values().to_vec();
        let mut columns = Vec::with_capacity(levels.len());
        for level in levels.iter().rev() {
            let mut numbers = Vec::with_capacity(groups.len());
            for group in &mut groups {
                let (before, number) = level.pairs[*group as usize];
                *group = before;
                numbers.push(number);
            }
            columns.push(level.values.column(&numbers)?);
        }
        columns.reverse();
        Ok(columns)
    }
}

impl PhysicalExpr for GroupNumber {
    fn data_type(&self, _: &Schema) -> Result<DataType, DataFusionError> {
        Ok(DataType::UInt32)
    }

    fn nullable(&self, _: &Schema) -> Result<bool, DataFusionError> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue, DataFusionError> {
        let mut groups = vec![0; batch.num_rows()];
        let mut count = 1;
        let mut levels = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, level) in self.keys.iter().zip(levels.iter_mut()) {
            let array = key.evaluate(batch)?.into_array(batch.num_rows())?;
            let numbers = level.values.numbers(&array);
            level.combine(&mut groups, count, &numbers);
            count = level.pairs.len();
        }
        Ok(ColumnarValue::Array(Arc::new(UInt32Array::from(groups))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.keys.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, keys: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        Ok(Arc::new(Self { keys, numbers: Arc::clone(&self.numbers) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for GroupNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        write!(f, "group_number({})", keys.join(", "))
    }
}

impl PartialEq for GroupNumber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.numbers, &other.numbers) && self.keys == other.keys
    }
}

impl Eq for GroupNumber {}

impl Hash for GroupNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.numbers).hash(state);
        self.keys.hash(state);
    }
}

// === impl Level ===

impl Level {
    fn clear(&mut self) {
        self.values.clear();
        self.pairs.clear();
    }

    /// Replaces each row's group of the keys before this one by its group of the keys up to this one.
    fn combine(&mut self, groups: &mut [u32], count: usize, numbers: &[u32]) {
        let Self { values, pairs } = self;
        let stride = values.len();
        let number = |pairs: &mut Vec<(u32, u32)>, pair| {
            pairs.push(pair);
            index(pairs.len() - 1)
        };
        if count.saturating_mul(stride) <= TABLE {
            let mut table = vec![u32::MAX; count * stride];
            for (known, (before, value)) in pairs.iter().enumerate() {
                table[*before as usize * stride + *value as usize] = index(known);
            }
            for (group, value) in groups.iter_mut().zip(numbers) {
                let place = &mut table[*group as usize * stride + *value as usize];
                if *place == u32::MAX {
                    *place = number(pairs, (*group, *value));
                }
                *group = *place;
            }
        } else {
            let mut map: FastMap<(u32, u32), u32> = pairs.iter().enumerate().map(|(known, pair)| (*pair, index(known))).collect();
            for (group, value) in groups.iter_mut().zip(numbers) {
                let pair = (*group, *value);
                *group = *map.entry(pair).or_insert_with(|| number(pairs, pair));
            }
        }
    }
}

// === impl Values ===

impl Values {
    /// How many numbers there are.
    fn len(&self) -> usize {
        match self {
            Self::Panes { starts, .. } => starts.len(),
            Self::Strings { values, .. } => values.len() + 1,
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Panes { by_start, starts } => {
                by_start.clear();
                starts.clear();
            }
            Self::Strings { by_value, values } => {
                by_value.clear();
                values.clear();
            }
        }
    }

    /// The number of each row's value.
    fn numbers(&mut self, array: &ArrayRef) -> Vec<u32> {
        match self {
            Self::Panes { by_start, starts } => {
                // Rows come nearly in order of time, so most have the pane of the row before.
                let mut last = None;
                let rows = array.as_primitive::<TimestampNanosecondType>().values();
                let number = rows.iter().map(|start| match last {
                    Some((same, number)) if same == *start => number,
                    _ => {
                        let number = *by_start.entry(*start).or_insert_with(|| {
                            starts.push(*start);
                            index(starts.len() - 1)
                        });
                        last = Some((*start, number));
                        number
                    }
                });
                number.collect()
            }
            Self::Strings { by_value, values } => {
                let dictionary = array.as_dictionary::<Int32Type>();
                let mut number = |value: &str| {
                    if let Some(number) = by_value.get(value) {
                        return *number;
                    }
                    values.push(Box::from(value));
                    by_value.insert(Box::from(value), index(values.len()));
                    index(values.len())
                };
                let strings = dictionary.values().as_string::<i32>();
                let of_code: Vec<u32> = strings.iter().map(|value| value.map_or(0, &mut number)).collect();
                let of = |code: i32| usize::try_from(code).ok().and_then(|code| of_code.get(code)).copied().unwrap_or_default();
                let keys = dictionary.keys();
                if keys.null_count() == 0 {
                    return keys.values().iter().map(|code| of(*code)).collect();
                }
                keys.iter().map(|code| code.map_or(0, of)).collect()
            }
        }
    }

    /// A column of values.
    fn column(&self, numbers: &[u32]) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Panes { starts, .. } => {
                let starts = numbers.iter().map(|number| starts[*number as usize]);
                Ok(Arc::new(TimestampNanosecondArray::from_iter_values(starts)))
            }
            Self::Strings { values, .. } => {
                // States keep only the strings that they use: a request with very many would be copied with each batch of groups.
                let mut codes: FastMap<u32, i32> = FastMap::default();
                let mut used: Vec<&str> = Vec::new();
                let mut code = |number: u32| {
                    let place = (number as usize).checked_sub(1)?;
                    Some(*codes.entry(number).or_insert_with(|| {
                        used.push(&values[place]);
                        i32::try_from(used.len() - 1).unwrap_or_default()
                    }))
                };
                let keys: Int32Array = numbers.iter().map(|number| code(*number)).collect();
                let values = Arc::new(StringArray::from(used));
                Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values)?))
            }
        }
    }
}

/// A micro-batch never has 2³² rows, so it has no more values or groups either.
fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
