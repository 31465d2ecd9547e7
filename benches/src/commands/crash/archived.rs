//! What the archive holds after a run, read through its catalogue as any reader would.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampNanosecondType, UInt64Type};
use tracescale_archive::{Catalog, Range};
use tracescale_core::time::Timestamp;

use super::VIEWS;

/// A span.
#[derive(Clone, Debug)]
pub(super) struct SpanRow {
    pub(super) id: u64,
    pub(super) service: String,
    pub(super) end: Timestamp,
    pub(super) received_at: Timestamp,
    pub(super) is_entry: bool,
}

/// A row of a view for one final window.
#[derive(Clone, Debug)]
pub(super) struct WindowRow {
    pub(super) view: &'static str,
    pub(super) end: Timestamp,
    pub(super) service: String,
    pub(super) revision: i64,
    pub(super) samples: i64,
}

/// Everything that is compared.
#[derive(Debug, Default)]
pub(super) struct Archived {
    pub(super) spans: Vec<SpanRow>,
    /// Metric points: series, time and value.
    pub(super) points: Vec<(u64, Timestamp, u64)>,
    pub(super) windows: Vec<WindowRow>,
    /// How often each decision, outcome and alert is there.
    pub(super) records: BTreeMap<(&'static str, Vec<String>), usize>,
}

/// Tables of our own records, and what tells their rows apart.
const RECORDS: [(&str, &[&str]); 3] =
    [("decisions", &["id"]), ("outcomes", &["at", "decision"]), ("alerts", &["at", "kind", "subject", "message"])];

// === impl Archived ===

impl Archived {
    /// Reads all of it.
    pub(super) async fn read(catalog: &Catalog) -> Result<Self> {
        let mut archived = Self::default();
        for rows in table(catalog, "spans").await? {
            archived.add_spans(&rows)?;
        }
        for rows in table(catalog, "metrics").await? {
            archived.add_points(&rows)?;
        }
        for (view, _) in VIEWS {
            for rows in table(catalog, view).await? {
                archived.add_windows(view, &rows)?;
            }
        }
        for (name, key) in RECORDS {
            for rows in table(catalog, name).await? {
                let columns = key.iter().map(|column| texts(&rows, column)).collect::<Result<Vec<_>>>()?;
                for row in 0..rows.num_rows() {
                    let key = columns.iter().map(|column| column[row].clone()).collect();
                    *archived.records.entry((name, key)).or_default() += 1;
                }
            }
        }
        Ok(archived)
    }

    fn add_spans(&mut self, rows: &RecordBatch) -> Result<()> {
        let (services, ends, received) = (texts(rows, "service_name")?, times(rows, "end_time")?, times(rows, "received_at")?);
        let (ids, entries) = (column(rows, "span_id")?, column(rows, "is_entry")?);
        let (ids, entries) = (ids.as_fixed_size_binary(), entries.as_boolean());
        for (row, service) in services.into_iter().enumerate() {
            let id = u64::from_be_bytes(ids.value(row).try_into()?);
            self.spans.push(SpanRow { id, service, end: ends[row], received_at: received[row], is_entry: entries.value(row) });
        }
        Ok(())
    }

    fn add_points(&mut self, rows: &RecordBatch) -> Result<()> {
        let (series, values) = (column(rows, "series_id")?, column(rows, "value_int")?);
        let (series, values) = (series.as_primitive::<UInt64Type>(), values.as_primitive::<Int64Type>());
        for (row, time) in times(rows, "time")?.into_iter().enumerate() {
            self.points.push((series.value(row), time, values.value(row).cast_unsigned()));
        }
        Ok(())
    }

    fn add_windows(&mut self, view: &'static str, rows: &RecordBatch) -> Result<()> {
        let (services, ends) = (texts(rows, "service_name")?, times(rows, "window_end")?);
        let (revisions, samples) = (integers(rows, "revision")?, integers(rows, "samples")?);
        for (row, service) in services.into_iter().enumerate() {
            self.windows.push(WindowRow { view, end: ends[row], service, revision: revisions[row], samples: samples[row] });
        }
        Ok(())
    }
}

async fn table(catalog: &Catalog, name: &str) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for file in catalog.files(name, &Range::default()) {
        batches.extend(catalog.rows(&file).await?);
    }
    Ok(batches)
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name).with_context(|| format!("there is no archived column `{name}`"))
}

fn texts(rows: &RecordBatch, name: &str) -> Result<Vec<String>> {
    let column = cast(column(rows, name)?, &DataType::Utf8)?;
    Ok(column.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}

fn times(rows: &RecordBatch, name: &str) -> Result<Vec<Timestamp>> {
    let column = cast(column(rows, name)?, &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
    Ok(column.as_primitive::<TimestampNanosecondType>().values().iter().copied().map(Timestamp::from_nanos).collect())
}

/// Absent numbers are zero: nobody counted anything.
fn integers(rows: &RecordBatch, name: &str) -> Result<Vec<i64>> {
    let column = cast(column(rows, name)?, &DataType::Int64)?;
    Ok(column.as_primitive::<Int64Type>().iter().map(Option::unwrap_or_default).collect())
}
