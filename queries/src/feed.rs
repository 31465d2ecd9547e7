//! Rows on their way into panes: split off what is too late, bounded by the clock, given their pane, and collected to
//! micro-batches.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampNanosecondArray};
use arrow::compute::{filter_record_batch, max, min, not};
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tracescale_core::schema::Stream;
use tracescale_core::time::{Timestamp, nanos};

use crate::view::live_schema;

/// A stream seen through one of its time columns.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) stream: Stream,
    pub(crate) time_column: String,
    live: SchemaRef,
    time_index: usize,
    pending: Vec<(RecordBatch, Timestamp)>,
    rows: usize,
}

/// A batch after admission.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Rows that a window can still take.
    pub(crate) kept: Option<RecordBatch>,
    /// Rows that came after the allowed lateness, or have no time.
    pub(crate) late: Option<RecordBatch>,
    /// Event times of the kept rows.
    pub(crate) range: Option<(Timestamp, Timestamp)>,
    /// How many of the kept rows lie in the future beyond the allowed skew.
    pub(crate) future: u64,
}

// === impl Feed ===

impl Feed {
    pub(crate) fn new(stream: Stream, time_column: &str) -> Result<Self, ArrowError> {
        let schema = stream.schema();
        let time_index = schema.index_of(time_column)?;
        Ok(Self { stream, time_column: time_column.to_owned(), live: live_schema(&schema), time_index, pending: Vec::new(), rows: 0 })
    }

    /// Splits a batch at `horizon`. Times after `cap` are in the future.
    pub(crate) fn admit(&self, batch: &RecordBatch, horizon: Timestamp, cap: Timestamp) -> Result<Admitted, ArrowError> {
        let times = batch.column(self.time_index).as_primitive::<TimestampNanosecondType>();
        let (Some(oldest), Some(newest)) = (min(times), max(times)) else {
            let late = (batch.num_rows() > 0).then(|| batch.clone());
            return Ok(Admitted { kept: None, late, range: None, future: 0 });
        };
        let future = if newest > cap.as_nanos() { times.iter().flatten().filter(|time| *time > cap.as_nanos()).count() as u64 } else { 0 };
        let range = (Timestamp::from_nanos(oldest), Timestamp::from_nanos(newest));
        if oldest >= horizon.as_nanos() && times.null_count() == 0 {
            return Ok(Admitted { kept: Some(batch.clone()), late: None, range: Some(range), future });
        }
        let in_time: BooleanArray = times.iter().map(|time| Some(time.is_some_and(|time| time >= horizon.as_nanos()))).collect();
        let late = filter_record_batch(batch, &not(&in_time)?)?;
        let kept = Some(filter_record_batch(batch, &in_time)?).filter(|kept| kept.num_rows() > 0);
        let range = kept.is_some().then_some((range.0.max(horizon), range.1));
        Ok(Admitted { kept, late: Some(late), range, future })
    }

    /// Adds admitted rows.
    pub(crate) fn add(&mut self, batch: RecordBatch, cap: Timestamp) {
        self.rows += batch.num_rows();
        self.pending.push((batch, cap));
    }

    /// Rows that wait to be aggregated.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Takes the waiting rows once for each of the pane widths, with the start of their pane in both window columns.
    pub(crate) fn take(&mut self, widths: impl Iterator<Item = Duration>) -> Result<BTreeMap<Duration, Vec<RecordBatch>>, ArrowError> {
        self.rows = 0;
        let pending = std::mem::take(&mut self.pending);
        let mut taken = BTreeMap::new();
        for width in widths {
            if let Entry::Vacant(entry) = taken.entry(width) {
                entry.insert(pending.iter().map(|(batch, cap)| self.with_panes(batch, *cap, width)).collect::<Result<_, _>>()?);
            }
        }
        Ok(taken)
    }

    fn with_panes(&self, batch: &RecordBatch, cap: Timestamp, width: Duration) -> Result<RecordBatch, ArrowError> {
        let times = batch.column(self.time_index).as_primitive::<TimestampNanosecondType>();
        let (width, cap) = (nanos(width), cap.as_nanos());
        let panes: TimestampNanosecondArray = times.unary(|time| {
            let time = time.min(cap);
            time.saturating_sub(time.rem_euclid(width))
        });
        let panes: ArrayRef = Arc::new(panes);
        let mut columns = batch.columns().to_vec();
        columns.extend([Arc::clone(&panes), panes]);
        RecordBatch::try_new(Arc::clone(&self.live), columns)
    }
}
