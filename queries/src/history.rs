//! The emitted rows of views, kept for look-back within a number of bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use tracescale_core::time::Timestamp;

use crate::config::Emission;

/// The windows of one view by their end. A later emission of a window replaces the earlier one.
#[derive(Clone, Debug)]
pub(crate) struct History {
    schema: SchemaRef,
    windows: Arc<BTreeMap<Timestamp, Arc<Window>>>,
    bytes: usize,
}

/// Which windows a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// Provisional ones too.
    All,
    /// Those that the watermark has passed.
    Final,
}

/// The rows of one window.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) rows: RecordBatch,
    pub(crate) is_final: bool,
    pub(crate) revision: u32,
    pub(crate) evidence_time: Timestamp,
    bytes: usize,
}

// === impl History ===

impl History {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, windows: Arc::default(), bytes: 0 }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn put(&mut self, emission: &Emission) {
        let bytes = emission.rows.get_array_memory_size();
        let Emission { is_final, revision, evidence_time, .. } = *emission;
        let window = Arc::new(Window { rows: emission.rows.clone(), is_final, revision, evidence_time, bytes });
        self.bytes += bytes;
        if let Some(old) = Arc::make_mut(&mut self.windows).insert(emission.window_end, window) {
            self.bytes -= old.bytes;
        }
    }

    pub(crate) fn get(&self, end: Timestamp) -> Option<&Arc<Window>> {
        self.windows.get(&end)
    }

    /// The newest final window that ends at `end` or before.
    pub(crate) fn newest_final_by(&self, end: Timestamp) -> Option<(Timestamp, &Arc<Window>)> {
        self.windows.range(..=end).rev().find(|(_, window)| window.is_final).map(|(end, window)| (*end, window))
    }

    /// The rows of these windows, oldest window first.
    pub(crate) fn batches(&self, face: Face) -> Vec<RecordBatch> {
        self.windows.values().filter(|window| window.is_in(face)).map(|window| window.rows.clone()).collect()
    }

    /// The end of the newest of these windows.
    pub(crate) fn newest_of(&self, face: Face) -> Option<Timestamp> {
        self.windows.iter().rev().find(|(_, window)| window.is_in(face)).map(|(end, _)| *end)
    }

    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.windows.keys().next().copied()
    }

    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.windows.keys().next_back().copied()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops windows that ended before `horizon`.
    pub(crate) fn drop_before(&mut self, horizon: Timestamp) {
        if self.oldest().is_some_and(|oldest| oldest < horizon) {
            let windows = Arc::make_mut(&mut self.windows);
            *windows = windows.split_off(&horizon);
            self.bytes = windows.values().map(|window| window.bytes).sum();
        }
    }

    /// Drops the oldest window.
    pub(crate) fn drop_oldest(&mut self) {
        if let Some((_, window)) = Arc::make_mut(&mut self.windows).pop_first() {
            self.bytes -= window.bytes;
        }
    }
}

// === impl Window ===

impl Window {
    fn is_in(&self, face: Face) -> bool {
        face == Face::All || self.is_final
    }
}

/// Drops the oldest windows of all views until together they take at most `limit` bytes. The newest window of a view stays.
pub(crate) fn bound<'a>(histories: impl Iterator<Item = &'a mut History>, limit: usize) {
    let mut histories: Vec<&mut History> = histories.collect();
    let mut bytes: usize = histories.iter().map(|history| history.bytes()).sum();
    while bytes > limit {
        let oldest = histories.iter_mut().filter(|history| history.oldest() != history.newest()).min_by_key(|history| history.oldest());
        let Some(history) = oldest else { return };
        let before = history.bytes();
        history.drop_oldest();
        bytes -= before - history.bytes();
    }
}
