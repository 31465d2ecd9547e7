//! Rows on their way into panes: split off what is too late, bounded by the clock, given their pane, and collected to
//! micro-batches.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampNanosecondArray};
use arrow::compute::{filter_record_batch, max, min, not};
use arrow::datatypes::{Field, FieldRef, Schema, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tracescale_core::schema::Stream;
use tracescale_core::time::{Timestamp, nanos};

use crate::gather::gather;
use crate::window::{WINDOW_END, WINDOW_START};

/// Batches with fewer rows than this on average are put together before they are aggregated: an operator costs microseconds per
/// batch whatever its size, so requests of a few hundred rows would pay more for being batches than for being rows.
const SMALL: usize = 4096;

/// A stream seen through one of its time columns.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) stream: Stream,
    pub(crate) time_column: String,
    time_index: usize,
    /// The columns of the stream that views read, in the order in which views asked for them.
    columns: Vec<usize>,
    /// Rows of those columns, with their event times, bounded by the clock.
    pending: Vec<(RecordBatch, Vec<i64>)>,
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
        Ok(Self { stream, time_column: time_column.to_owned(), time_index, columns: Vec::new(), pending: Vec::new(), rows: 0 })
    }

    /// Where a column will be in the batches that [`Feed::take`] returns: the window columns first, then those of the stream.
    pub(crate) fn place(&mut self, column: &str) -> Result<usize, ArrowError> {
        match column {
            WINDOW_START => return Ok(0),
            WINDOW_END => return Ok(1),
            _ => {}
        }
        let index = self.stream.schema().index_of(column)?;
        let known = self.columns.iter().position(|known| *known == index).unwrap_or_else(|| {
            self.columns.push(index);
            self.columns.len() - 1
        });
        Ok(known + 2)
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
    pub(crate) fn add(&mut self, batch: &RecordBatch, cap: Timestamp) -> Result<(), ArrowError> {
        let times = batch.column(self.time_index).as_primitive::<TimestampNanosecondType>();
        let times = times.values().iter().map(|time| (*time).min(cap.as_nanos())).collect();
        self.rows += batch.num_rows();
        self.pending.push((batch.project(&self.columns)?, times));
        Ok(())
    }

    /// Rows that wait to be aggregated.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Takes the waiting rows once for each of the pane widths, with the start of their pane in both window columns.
    pub(crate) fn take(&mut self, widths: impl Iterator<Item = Duration>) -> Result<BTreeMap<Duration, Vec<RecordBatch>>, ArrowError> {
        let pending = coalesce(std::mem::take(&mut self.pending), self.rows)?;
        self.rows = 0;
        let mut taken = BTreeMap::new();
        for width in widths {
            if let Entry::Vacant(entry) = taken.entry(width) {
                entry.insert(pending.iter().map(|(batch, times)| with_panes(batch, times, nanos(width))).collect::<Result<_, _>>()?);
            }
        }
        Ok(taken)
    }
}

/// Makes one batch of small ones.
fn coalesce(batches: Vec<(RecordBatch, Vec<i64>)>, rows: usize) -> Result<Vec<(RecordBatch, Vec<i64>)>, ArrowError> {
    match batches.first() {
        Some(_) if batches.len() > 1 && rows / batches.len() < SMALL => {
            let batch = gather(&batches.iter().map(|(batch, _)| batch).collect::<Vec<_>>())?;
            Ok(vec![(batch, batches.into_iter().flat_map(|(_, times)| times).collect())])
        }
        _ => Ok(batches),
    }
}

fn with_panes(batch: &RecordBatch, times: &[i64], width: i64) -> Result<RecordBatch, ArrowError> {
    let mut pane = i64::MIN;
    let starts = times.iter().map(|time| {
        // Rows come nearly in order of time, and a division costs more than all the rest.
        if time.checked_sub(pane).is_none_or(|since| !(0..width).contains(&since)) {
            pane = time.saturating_sub(time.rem_euclid(width));
        }
        pane
    });
    let starts: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(starts));
    let bound = |name| -> FieldRef { Arc::new(Field::new(name, tracescale_core::schema::timestamp(), false)) };
    let fields = [bound(WINDOW_START), bound(WINDOW_END)].into_iter().chain(batch.schema_ref().fields().iter().cloned());
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = [Arc::clone(&starts), starts].into_iter().chain(batch.columns().iter().cloned()).collect();
    RecordBatch::try_new(schema, columns)
}
