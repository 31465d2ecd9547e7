//! The partial aggregates of a view, one set per pane: Arrow batches whose columns are group keys and aggregate states.
//!
//! A window is many panes, and the next window is nearly the same panes. So panes that the watermark has passed are merged into
//! blocks of 4, those into blocks of 16, and so on, each when a window first asks for it: a window of 720 panes is put together
//! from some twenty parts. A late row drops the blocks that hold its pane.

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

/// A pane that is still open is merged to one batch when it has this many.
const COMPACT_AT: usize = 16;
/// Parts of a block: panes, or smaller blocks.
const FAN: i64 = 4;

/// The panes of one view, by their start.
#[derive(Debug)]
pub(crate) struct Panes {
    width: i64,
    panes: BTreeMap<i64, States>,
    /// Blocks of 4 panes, of 16, …, by their start.
    blocks: Vec<BTreeMap<i64, States>>,
}

/// What panes are merged with.
#[derive(Debug)]
pub(crate) struct Merge<'a> {
    pub(crate) plans: &'a mut Plans,
    pub(crate) keys: &'a [Key],
}

#[derive(Debug, Default)]
struct States {
    batches: Vec<RecordBatch>,
    /// Batches that came since the last merge.
    loose: usize,
    bytes: usize,
}

// === impl Panes ===

impl Panes {
    /// No panes yet; each will be `width` nanoseconds wide.
    pub(crate) fn new(width: i64) -> Self {
        Self { width: width.max(1), panes: BTreeMap::new(), blocks: Vec::new() }
    }

    /// Adds states, whose `pane_column` says which pane each belongs to. Returns the panes that changed.
    pub(crate) fn add(&mut self, states: &RecordBatch, pane_column: usize) -> Result<BTreeSet<i64>, ArrowError> {
        let starts = states.column(pane_column).as_primitive::<TimestampNanosecondType>();
        let mut rows: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (row, start) in starts.values().iter().enumerate() {
            rows.entry(*start).or_default().push(row as u64);
        }
        let changed: BTreeSet<i64> = rows.keys().copied().collect();
        for (start, rows) in rows {
            let part = if rows.len() == states.num_rows() { states.clone() } else { take_record_batch(states, &UInt64Array::from(rows))? };
            self.panes.entry(start).or_default().push(part);
        }
        for pane in &changed {
            self.drop_blocks_of(*pane);
        }
        Ok(changed)
    }

    /// Merges open panes that consist of many batches.
    pub(crate) async fn compact(&mut self, plans: &mut Plans) -> Result<(), DataFusionError> {
        for pane in self.panes.values_mut().filter(|pane| pane.loose >= COMPACT_AT) {
            pane.merge(plans).await?;
        }
        Ok(())
    }

    /// The states of a window: those of its panes, with the window's own bounds as window keys, so that equal groups of
    /// different panes merge. Panes that end by `closed` are not expected to change.
    pub(crate) async fn window(
        &mut self,
        window: Range<i64>,
        closed: i64,
        merge: &mut Merge<'_>,
    ) -> Result<Vec<RecordBatch>, DataFusionError> {
        let mut states = Vec::new();
        let mut at = window.start;
        while let Some(pane) = self.next(at).filter(|pane| *pane < window.end) {
            let (level, part) = self.largest(pane, at..window.end.min(closed));
            let part = if level == 0 { pane..pane + self.width } else { part };
            states.extend(self.part(level, part.clone(), closed, merge).await?);
            at = part.end;
        }
        let bounds = (window.start, window.end);
        states.iter().map(|states| Ok(with_bounds(states, merge.keys, bounds)?)).collect()
    }

    /// The first time at or after `time` for which there is a pane.
    pub(crate) fn next(&self, time: i64) -> Option<i64> {
        self.panes.range(time..).next().map(|(start, _)| *start)
    }

    /// Drops panes that start before `horizon`.
    pub(crate) fn drop_before(&mut self, horizon: i64) {
        for starts in self.blocks.iter_mut().chain([&mut self.panes]) {
            if starts.first_key_value().is_some_and(|(start, _)| *start < horizon) {
                *starts = starts.split_off(&horizon);
            }
        }
    }

    /// Bytes of all states.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.iter().chain([&self.panes]).flat_map(BTreeMap::values).map(|states| states.bytes).sum()
    }

    /// The largest block within `range` that holds `pane`, as a level and its bounds; level 0 when there is none.
    fn largest(&self, pane: i64, range: Range<i64>) -> (usize, Range<i64>) {
        let fits = |level: &usize| self.block_at(*level, pane).filter(|block| range.start <= block.start && block.end <= range.end);
        let levels = (1_usize..).map_while(|level| Some((level, fits(&level)?)));
        levels.last().unwrap_or((0, pane..pane))
    }

    /// The block of a level that holds `pane`. Blocks of one level do not overlap, and each lies within one of the next level.
    fn block_at(&self, level: usize, pane: i64) -> Option<Range<i64>> {
        let width = FAN.checked_pow(u32::try_from(level).ok()?)?.checked_mul(self.width)?;
        let start = pane - pane.rem_euclid(width);
        Some(start..start.checked_add(width)?)
    }

    /// The states of a pane (level 0) or of a block, which is merged now if it was not before.
    async fn part(
        &mut self,
        level: usize,
        part: Range<i64>,
        closed: i64,
        merge: &mut Merge<'_>,
    ) -> Result<Vec<RecordBatch>, DataFusionError> {
        if level == 0 {
            let Some(pane) = self.panes.get_mut(&part.start) else { return Ok(Vec::new()) };
            if part.end <= closed {
                pane.merge(merge.plans).await?;
            }
            return Ok(pane.batches.clone());
        }
        if self.blocks.len() < level {
            self.blocks.resize_with(level, BTreeMap::new);
        }
        for below in 1..=level {
            self.fill(below, part.clone(), merge).await?;
        }
        Ok(self.blocks[level - 1].get(&part.start).map(|block| block.batches.clone()).unwrap_or_default())
    }

    /// Merges the blocks of one level within `range` that do not exist yet.
    async fn fill(&mut self, level: usize, range: Range<i64>, merge: &mut Merge<'_>) -> Result<(), DataFusionError> {
        let mut at = range.start;
        while let Some(pane) = self.next(at).filter(|pane| *pane < range.end) {
            let Some(block) = self.block_at(level, pane) else { return Ok(()) };
            at = block.end;
            if self.blocks[level - 1].contains_key(&block.start) {
                continue;
            }
            let parts = if level == 1 { &self.panes } else { &self.blocks[level - 2] };
            let bounds = (block.start, block.end);
            let parts = parts.range(block.clone()).flat_map(|(_, part)| &part.batches);
            let mut states = States::default();
            for part in parts {
                states.push(with_bounds(part, merge.keys, bounds)?);
            }
            states.merge(merge.plans).await?;
            self.blocks[level - 1].insert(block.start, states);
        }
        Ok(())
    }

    fn drop_blocks_of(&mut self, pane: i64) {
        for level in 1..=self.blocks.len() {
            if let Some(block) = self.block_at(level, pane) {
                self.blocks[level - 1].remove(&block.start);
            }
        }
    }
}

// === impl States ===

impl States {
    fn push(&mut self, batch: RecordBatch) {
        self.loose += 1;
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }

    async fn merge(&mut self, plans: &mut Plans) -> Result<(), DataFusionError> {
        if self.loose > 0 && self.batches.len() > 1 {
            self.batches = plans.reduce(self.batches.clone()).await?;
            self.bytes = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        }
        self.loose = 0;
        Ok(())
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
