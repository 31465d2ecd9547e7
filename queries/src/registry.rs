//! The groups of a view: which ones exist, when each was last seen, and what happens to more of them than the view may have.
//!
//! A group that fell silent keeps its row until its time to live is over. To tell the rows of a window apart without a join,
//! the hidden newest-event column carries the state of the group in bands: see [`Band`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Scalar, StringArray, TimestampNanosecondArray, new_null_array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, max as newest_of, min as oldest_of};
use arrow::datatypes::{DataType, Int32Type, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use tracescale_core::time::Timestamp;

use crate::config::OVERFLOW;
use crate::life::Life;
use crate::shape::Key;

const SERVICE_KEYS: [&str; 3] = ["service_name", "client_service", "server_service"];
const BAND: i64 = 1 << 62;

/// What the hidden column says of a group. `max` over a group's values gives the strongest: missing, then active, then idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Band {
    /// Rows in the window, the newest at this time.
    Active(Timestamp),
    /// No rows in the window; its source is alive. Last seen at this time.
    Idle(Timestamp),
    /// Its source is silent. Last seen at this time.
    Missing(Timestamp),
}

/// Hashed alike in every run, so that a replay gives the same rows in the same order.
type Groups = HashMap<Box<[u8]>, Group, BuildHasherDefault<DefaultHasher>>;

/// The known groups of one view.
#[derive(Debug)]
pub(crate) struct Registry {
    converter: RowConverter,
    /// Index of each group key in the state layout, with its type.
    columns: Vec<(usize, DataType)>,
    service_columns: Vec<usize>,
    groups: Groups,
    capacity: usize,
    overflowed: u64,
}

#[derive(Debug)]
struct Group {
    first: i64,
    newest: i64,
    services: Box<[Arc<str>]>,
}

// === impl Band ===

impl Band {
    pub(crate) fn encode(self) -> i64 {
        match self {
            Self::Active(time) => time.as_nanos(),
            Self::Idle(time) => time.as_nanos().saturating_sub(BAND),
            Self::Missing(time) => time.as_nanos().saturating_add(BAND),
        }
    }

    pub(crate) fn decode(value: i64) -> Self {
        if value >= BAND {
            Self::Missing(Timestamp::from_nanos(value - BAND))
        } else if value < 0 {
            Self::Idle(Timestamp::from_nanos(value + BAND))
        } else {
            Self::Active(Timestamp::from_nanos(value))
        }
    }
}

// === impl Registry ===

impl Registry {
    /// For states whose leading columns are `keys`.
    pub(crate) fn new(state_schema: &arrow::datatypes::Schema, keys: &[Key], capacity: usize) -> Result<Self, ArrowError> {
        let columns: Vec<(usize, DataType)> = keys
            .iter()
            .enumerate()
            .filter(|(_, key)| **key == Key::Group)
            .map(|(index, _)| (index, state_schema.field(index).data_type().clone()))
            .collect();
        let named = |(_, (index, _)): &(usize, &(usize, DataType))| SERVICE_KEYS.contains(&state_schema.field(*index).name().as_str());
        let service_columns = columns.iter().enumerate().filter(named).map(|(position, _)| position).collect();
        let converter = RowConverter::new(columns.iter().map(|(_, data_type)| SortField::new(data_type.clone())).collect())?;
        Ok(Self { converter, columns, service_columns, groups: Groups::default(), capacity, overflowed: 0 })
    }

    /// Learns the groups of `states`. Groups beyond the capacity leave as the overflow group.
    pub(crate) fn observe(&mut self, states: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let newest = states.column(states.num_columns() - 1).as_primitive::<TimestampNanosecondType>().clone();
        if self.columns.is_empty() {
            if let (Some(first), Some(last)) = (oldest_of(&newest), newest_of(&newest)) {
                self.see(&[], first, last);
            }
            return Ok(states);
        }
        let keys: Vec<ArrayRef> = self.columns.iter().map(|(index, _)| Arc::clone(states.column(*index))).collect();
        let rows = self.converter.convert_columns(&keys)?;
        let mut overflow = vec![false; states.num_rows()];
        for (index, over) in overflow.iter_mut().enumerate() {
            let time = if newest.is_valid(index) { newest.value(index) } else { continue };
            *over = !self.see_row(&rows, index, &keys, time);
        }
        let count = overflow.iter().filter(|over| **over).count();
        if count == 0 {
            return Ok(states);
        }
        self.overflowed += count as u64;
        self.overflow(&states, &BooleanArray::from(overflow), &newest)
    }

    /// Groups that are known.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// How many group states were summed up in the overflow group.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// The key columns and the encoded band of every group that existed before `end`. `at` is the time to judge silence by.
    pub(crate) fn silent(&self, end: Timestamp, life: &Life) -> Result<Option<(Vec<ArrayRef>, ArrayRef)>, ArrowError> {
        let known: Vec<(&[u8], &Group)> =
            self.groups.iter().filter(|(_, group)| group.first < end.as_nanos()).map(|(row, group)| (row.as_ref(), group)).collect();
        if known.is_empty() {
            return Ok(None);
        }
        let bands = known.iter().map(|(_, group)| {
            let newest = Timestamp::from_nanos(group.newest);
            let missing = life.is_missing(life.last_sign_of(&group.services), end);
            if missing { Band::Missing(newest).encode() } else { Band::Idle(newest).encode() }
        });
        let bands: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(bands));
        if self.columns.is_empty() {
            return Ok(Some((Vec::new(), bands)));
        }
        let parser = self.converter.parser();
        let arrays = self.converter.convert_rows(known.iter().map(|(row, _)| parser.parse(row)))?;
        let arrays = arrays.iter().zip(&self.columns).map(|(array, (_, data_type))| cast(array, data_type)).collect::<Result<_, _>>()?;
        Ok(Some((arrays, bands)))
    }

    /// Forgets groups that were last seen before `horizon`.
    pub(crate) fn forget(&mut self, horizon: Timestamp) {
        self.groups.retain(|_, group| group.newest >= horizon.as_nanos());
    }

    fn see_row(&mut self, rows: &Rows, index: usize, keys: &[ArrayRef], time: i64) -> bool {
        let row = rows.row(index);
        if let Some(group) = self.groups.get_mut(row.data()) {
            (group.first, group.newest) = (group.first.min(time), group.newest.max(time));
            return true;
        }
        if self.groups.len() >= self.capacity {
            return false;
        }
        let services = self.service_columns.iter().filter_map(|position| text(&keys[*position], index)).collect();
        self.groups.insert(Box::from(row.data()), Group { first: time, newest: time, services });
        true
    }

    /// Sees the one group of a view without group keys (an empty row), or the overflow group.
    fn see(&mut self, row: &[u8], first: i64, newest: i64) {
        let group = self.groups.entry(Box::from(row)).or_insert_with(|| Group { first, newest, services: Box::default() });
        (group.first, group.newest) = (group.first.min(first), group.newest.max(newest));
    }

    fn overflow(
        &mut self,
        states: &RecordBatch,
        mask: &BooleanArray,
        newest: &TimestampNanosecondArray,
    ) -> Result<RecordBatch, ArrowError> {
        let mut columns = states.columns().to_vec();
        let mut key = Vec::new();
        for (index, data_type) in &self.columns {
            let one = overflow_key(data_type)?;
            key.push(Arc::clone(&one));
            // `zip` does not take dictionaries: go through the value type.
            let plain = plain_type(data_type);
            let replaced = zip(mask, &Scalar::new(cast(&one, &plain)?), &cast(&columns[*index], &plain)?)?;
            columns[*index] = cast(&replaced, data_type)?;
        }
        let rows = self.converter.convert_columns(&key)?;
        for time in mask.iter().zip(newest).filter_map(|(over, time)| time.filter(|_| over == Some(true))) {
            self.see(rows.row(0).data(), time, time);
        }
        RecordBatch::try_new(states.schema(), columns)
    }
}

fn overflow_key(data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match plain_type(data_type) {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => cast(&StringArray::from(vec![OVERFLOW]), data_type),
        _ => Ok(new_null_array(data_type, 1)),
    }
}

fn plain_type(data_type: &DataType) -> DataType {
    if let DataType::Dictionary(_, values) = data_type { values.as_ref().clone() } else { data_type.clone() }
}

fn text(column: &ArrayRef, index: usize) -> Option<Arc<str>> {
    if column.is_null(index) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(Arc::from(column.as_string::<i32>().value(index))),
        DataType::Utf8View => Some(Arc::from(column.as_string_view().value(index))),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_dictionary_opt::<Int32Type>()?;
            text(dictionary.values(), dictionary.key(index)?)
        }
        _ => None,
    }
}
