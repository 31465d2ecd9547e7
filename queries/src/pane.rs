//! The partial aggregates of a view, one set per pane: Arrow batches whose columns are group keys and aggregate states.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampNanosecondArray, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampNanosecondType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;

use crate::shape::Key;
use crate::surgery::Plans;

/// A pane with more batches than this is merged to one.
const COMPACT_AT: usize = 16;

/// The panes of one view, by their start.
#[derive(Debug, Default)]
pub(crate) struct Panes {
    panes: BTreeMap<i64, Pane>,
}

#[derive(Debug, Default)]
struct Pane {
    states: Vec<RecordBatch>,
    bytes: usize,
}

// === impl Panes ===

impl Panes {
    /// Adds states, whose `pane_column` says which pane each belongs to. Returns the panes that changed.
    pub(crate) fn add(&mut self, states: &RecordBatch, pane_column: usize) -> Result<BTreeSet<i64>, ArrowError> {
        let starts = states.column(pane_column).as_primitive::<TimestampNanosecondType>();
        let mut rows: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (row, start) in starts.values().iter().enumerate() {
            rows.entry(*start).or_default().push(row as u64);
        }
        let changed = rows.keys().copied().collect();
        for (start, rows) in rows {
            let part = if rows.len() == states.num_rows() { states.clone() } else { take_record_batch(states, &UInt64Array::from(rows))? };
            let pane = self.panes.entry(start).or_default();
            pane.bytes += part.get_array_memory_size();
            pane.states.push(part);
        }
        Ok(changed)
    }

    /// Merges panes that consist of many batches.
    pub(crate) async fn compact(&mut self, plans: &Plans) -> Result<(), DataFusionError> {
        for pane in self.panes.values_mut().filter(|pane| pane.states.len() >= COMPACT_AT) {
            pane.states = plans.reduce(std::mem::take(&mut pane.states)).await?;
            pane.bytes = pane.states.iter().map(RecordBatch::get_array_memory_size).sum();
        }
        Ok(())
    }

    /// The states of a window: those of its panes, with the window's own bounds as window keys, so that equal groups of
    /// different panes merge.
    pub(crate) fn window(&self, panes: Range<i64>, keys: &[Key]) -> Result<Vec<RecordBatch>, ArrowError> {
        let bounds = (panes.start, panes.end);
        self.panes.range(panes).flat_map(|(_, pane)| &pane.states).map(|states| with_bounds(states, keys, bounds)).collect()
    }

    /// The first time at or after `time` for which there is a pane.
    pub(crate) fn next(&self, time: i64) -> Option<i64> {
        self.panes.range(time..).next().map(|(start, _)| *start)
    }

    /// Drops panes that start before `horizon`.
    pub(crate) fn drop_before(&mut self, horizon: i64) {
        self.panes = self.panes.split_off(&horizon);
    }

    /// Bytes of all states.
    pub(crate) fn bytes(&self) -> usize {
        self.panes.values().map(|pane| pane.bytes).sum()
    }
}

/// Key columns that hold window bounds, for `rows` rows.
pub(crate) fn bound(key: Key, (start, end): (i64, i64), rows: usize) -> Option<ArrayRef> {
    let value = match key {
        Key::WindowStart => start,
        Key::WindowEnd => end,
        Key::Group => return None,
    };
    Some(Arc::new(TimestampNanosecondArray::from_value(value, rows)))
}

fn with_bounds(states: &RecordBatch, keys: &[Key], bounds: (i64, i64)) -> Result<RecordBatch, ArrowError> {
    let mut columns = states.columns().to_vec();
    for (column, key) in columns.iter_mut().zip(keys) {
        if let Some(constant) = bound(*key, bounds, column.len()) {
            *column = constant;
        }
    }
    RecordBatch::try_new(states.schema(), columns)
}
