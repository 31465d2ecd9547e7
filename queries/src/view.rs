//! One view over a stream: its plans, panes, groups and how far it has been emitted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use tracescale_core::time::Timestamp;

use crate::config::Emission;
use crate::cursor::Cursor;
use crate::life::Life;
use crate::output::{self, Moment};
use crate::pane::{Merge, Panes, bound};
use crate::registry::Registry;
use crate::shape::Key;
use crate::surgery::Plans;
use crate::window::Windows;

/// A view over a stream, live.
#[derive(Debug)]
pub(crate) struct PaneView {
    pub(crate) name: String,
    /// Index of the feed that it reads.
    pub(crate) feed: usize,
    pub(crate) windows: Windows,
    pub(crate) schema: SchemaRef,
    pub(crate) keys: Vec<Key>,
    pub(crate) outputs: Vec<Option<usize>>,
    pub(crate) plans: Plans,
    pub(crate) panes: Panes,
    pub(crate) registry: Registry,
    pub(crate) cursor: Cursor,
    /// Final windows that late rows have changed.
    pub(crate) changed: BTreeSet<Timestamp>,
    /// How often each final window was emitted again.
    pub(crate) revisions: BTreeMap<Timestamp, u32>,
}

/// What the engine knows at an emission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now<'a> {
    pub(crate) now: Timestamp,
    pub(crate) watermark: Timestamp,
    pub(crate) life: &'a Life,
    pub(crate) max_finals: usize,
}

/// What a view did in one call.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    pub(crate) emissions: Vec<Emission>,
    pub(crate) skipped: u64,
    pub(crate) backlog: bool,
}

// === impl PaneView ===

impl PaneView {
    /// Adds rows, which carry their pane in the window columns.
    pub(crate) async fn aggregate(&mut self, rows: Vec<RecordBatch>) -> Result<(), DataFusionError> {
        let pane_column = self.keys.iter().position(|key| *key != Key::Group).unwrap_or(0);
        for states in self.plans.partial(rows).await? {
            let states = self.registry.observe(states)?;
            for pane in self.panes.add(&states, pane_column)? {
                self.touch(Timestamp::from_nanos(pane));
            }
        }
        self.panes.compact(&mut self.plans).await
    }

    /// Emits what is due.
    pub(crate) async fn emit(&mut self, at: Now<'_>) -> Result<Emitted, DataFusionError> {
        let panes = &self.panes;
        let next_rows = |time: Timestamp| panes.next(time.as_nanos()).map(Timestamp::from_nanos);
        let due = self.cursor.due(at.now, at.watermark, at.max_finals, next_rows);
        let mut emitted = Emitted { skipped: due.skipped, backlog: due.backlog, ..Emitted::default() };
        for end in due.finals {
            emitted.emissions.extend(self.emit_final(end, at).await?);
        }
        // Late rows trickle in: windows that they change are emitted again once per slide, not once per row.
        if due.provisional.is_some() {
            for _ in 0..at.max_finals {
                let Some(end) = self.changed.pop_first() else { break };
                emitted.emissions.extend(self.emit_final(end, at).await?);
            }
            emitted.backlog |= !self.changed.is_empty();
        }
        if let Some(end) = due.provisional {
            emitted.emissions.extend(self.window(end, false, 0, at).await?);
        }
        Ok(emitted)
    }

    /// Drops what no window can need any more.
    pub(crate) fn forget(&mut self, watermark: Timestamp, allowed_lateness: Duration, group_ttl: Duration) {
        let oldest = self.cursor.finished().unwrap_or(watermark).min(watermark - allowed_lateness);
        let horizon = self.windows.start(oldest).floor(self.windows.pane());
        self.panes.drop_before(horizon.as_nanos());
        self.revisions = self.revisions.split_off(&horizon);
        self.registry.forget(watermark - group_ttl);
    }

    async fn emit_final(&mut self, end: Timestamp, at: Now<'_>) -> Result<Option<Emission>, DataFusionError> {
        self.changed.remove(&end);
        let revision = self.revisions.get(&end).map_or(0, |revision| revision + 1);
        self.revisions.insert(end, revision);
        self.window(end, true, revision, at).await
    }

    async fn window(&mut self, end: Timestamp, is_final: bool, revision: u32, at: Now<'_>) -> Result<Option<Emission>, DataFusionError> {
        let start = self.windows.start(end);
        let bounds = (start.as_nanos(), end.as_nanos());
        let mut merge = Merge { plans: &mut self.plans, keys: &self.keys };
        let mut states = self.panes.window(bounds.0..bounds.1, at.watermark.as_nanos(), &mut merge).await?;
        if let Some((groups, bands)) = self.registry.silent(end, at.life)? {
            let mut groups = groups.into_iter();
            let keys = self.keys.iter().filter_map(|key| bound(*key, bounds, bands.len()).or_else(|| groups.next())).collect();
            states.push(self.plans.empty_states(keys, bands)?);
        }
        if states.is_empty() {
            return Ok(None);
        }
        let batches = self.plans.finish(states).await?;
        let moment = Moment { view: &self.name, start, end, is_final, revision, now: at.now, watermark: at.watermark };
        Ok(output::emission(moment, &batches, &self.schema, &self.outputs, at.life)?)
    }

    /// A pane has new rows: the final windows that hold it must be emitted again.
    fn touch(&mut self, pane: Timestamp) {
        self.cursor.begin(pane);
        let Some(finished) = self.cursor.finished() else { return };
        let mut end = self.windows.end_after(pane);
        while end <= finished && self.windows.start(end) <= pane {
            self.changed.insert(end);
            end = end + self.windows.slide;
        }
    }

    /// Names of the columns that show group keys, window bounds excluded.
    pub(crate) fn key_names(&self) -> Vec<String> {
        let shown = self.schema.fields().iter().zip(&self.outputs);
        shown.filter(|(_, output)| output.is_some_and(|key| self.keys[key] == Key::Group)).map(|(field, _)| field.name().clone()).collect()
    }
}

/// The live layout of a stream: its columns and the pane bounds.
pub(crate) fn live_schema(stream: &SchemaRef) -> SchemaRef {
    use arrow::datatypes::{Field, Schema};
    let bound = |name| Arc::new(Field::new(name, tracescale_core::schema::timestamp(), false));
    let mut fields: Vec<_> = stream.fields().iter().cloned().collect();
    fields.extend([bound(crate::window::WINDOW_START), bound(crate::window::WINDOW_END)]);
    Arc::new(Schema::new(fields))
}
