//! What is archived, and as which tables: from records of the write-ahead log to rows.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tracescale_archive::streams::{self, Ids};
use tracescale_archive::{Table, wal};
use tracescale_core::decide::{Decision, Resize};
use tracescale_core::schema::{Stream, timestamp};
use tracescale_core::time::Timestamp;
use tracescale_ingest::decode::Declared;

use crate::conclusion::{Conclusion, Ending};
use crate::logged::{self, Alert, Logged, LoggedError};

/// The time of a view's rows.
const WINDOW_END: &str = "window_end";
/// The table of decisions.
pub const DECISIONS: &str = "decisions";
/// The table of what became of orders.
pub const OUTCOMES: &str = "outcomes";
/// The table of what people were told.
pub const ALERTS: &str = "alerts";

/// Rows that are collected for a cut, by table.
#[derive(Debug, Default)]
pub struct Rows {
    tables: BTreeMap<String, (SchemaRef, Vec<RecordBatch>)>,
    decisions: Vec<Decision>,
    outcomes: Vec<Conclusion>,
    alerts: Vec<Alert>,
    rows: usize,
    bytes: usize,
}

// === impl Rows ===

impl Rows {
    /// Takes a record of the log, with what is declared of sampling.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn take(&mut self, entry: &wal::Entry, declared: &Declared) -> Result<(), LoggedError> {
        match logged::read(entry)? {
            Logged::Request(request) => {
                for (stream, rows) in request.decode(declared)?.batches {
                    self.add(stream.name(), rows);
                }
            }
            Logged::Window(window) => self.add(&window.view, window.rows),
            Logged::Decision(decision) => {
                // A record with all its inputs is a few kilobytes.
                self.bytes += entry.body.len();
                self.decisions.push(*decision);
            }
            Logged::Outcome(outcome) => self.outcomes.push(outcome),
            Logged::Alert(alert) => self.alerts.push(alert),
        }
        Ok(())
    }

    /// Rows so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rows + self.decisions.len() + self.outcomes.len() + self.alerts.len()
    }

    /// Bytes that they take in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All rows by table, with names and schemas as they are in SQL.
    #[must_use]
    pub fn into_tables(self) -> Vec<(String, SchemaRef, Vec<RecordBatch>)> {
        let mut tables: Vec<_> = self.tables.into_iter().map(|(name, (schema, rows))| (name, schema, rows)).collect();
        let own = [
            (DECISIONS, decisions_schema(), decisions(&self.decisions)),
            (OUTCOMES, outcomes_schema(), outcomes(&self.outcomes)),
            (ALERTS, alerts_schema(), alerts(&self.alerts)),
        ];
        tables.extend(own.into_iter().filter_map(|(name, schema, rows)| Some((name.to_owned(), schema, vec![rows?]))));
        tables
    }

    /// All rows as the tables that are archived.
    #[must_use]
    pub fn into_cut(self, ids: Ids) -> Vec<(Arc<Table>, Vec<RecordBatch>)> {
        self.into_tables().into_iter().map(|(name, schema, rows)| (Arc::new(table(&name, schema, ids)), rows)).collect()
    }

    /// Adds rows of a stream or view.
    pub fn add(&mut self, table: &str, rows: RecordBatch) {
        if rows.num_rows() == 0 {
            return;
        }
        self.rows += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        match self.tables.entry(table.to_owned()) {
            Entry::Occupied(mut known) => {
                let (schema, batches) = known.get_mut();
                if *schema == rows.schema() {
                    batches.push(rows);
                    return;
                }
                // A view whose definition changed between two runs: the newer columns win, what both have stays.
                *schema = nullable(&rows.schema());
                batches.push(rows);
                batches.iter_mut().for_each(|rows| *rows = reshaped(rows, schema));
            }
            Entry::Vacant(new) => {
                let _ = new.insert((rows.schema(), vec![rows]));
            }
        }
    }
}

/// How a table is archived.
#[must_use]
pub fn table(name: &str, schema: SchemaRef, ids: Ids) -> Table {
    if let Some(stream) = Stream::from_name(name) {
        return streams::table(stream, ids);
    }
    let (time_column, sort): (&str, &[&str]) = match name {
        DECISIONS => ("at", &["target", "at"]),
        OUTCOMES | ALERTS => ("at", &["at"]),
        _ => (WINDOW_END, &["service_name", "client_service", "server_service", WINDOW_END]),
    };
    let is_sortable =
        |column: &&&str| **column == time_column || schema.field_with_name(column).is_ok_and(|field| is_text(field.data_type()));
    let sort = sort.iter().filter(is_sortable).map(|column| (*column).to_owned()).collect();
    Table { name: name.to_owned(), time_column: time_column.to_owned(), sort, bloom: Vec::new(), omit: [].into(), schema }
}

/// The columns of [`DECISIONS`]. `cpu` (thousandths of a core) and `memory` (bytes) are what each replica should ask for, where
/// that is to change. `record` is the whole decision as JSON, from which it can be made again.
#[must_use]
pub fn decisions_schema() -> SchemaRef {
    schema(&[
        ("at", timestamp()),
        ("id", DataType::Utf8),
        ("target", DataType::Utf8),
        ("action", DataType::Utf8),
        ("reason", DataType::Utf8),
        ("mode", DataType::Utf8),
        ("rule", DataType::Utf8),
        ("current", DataType::Int64),
        ("proposed", DataType::Int64),
        ("desired", DataType::Int64),
        ("cpu", DataType::Int64),
        ("memory", DataType::Int64),
        ("evidence_time", timestamp()),
        ("record", DataType::Utf8),
    ])
}

/// The columns of [`OUTCOMES`].
#[must_use]
pub fn outcomes_schema() -> SchemaRef {
    schema(&[
        ("at", timestamp()),
        ("decision", DataType::Utf8),
        ("result", DataType::Utf8),
        ("before", DataType::Int64),
        ("confirmed", DataType::Int64),
        ("detail", DataType::Utf8),
    ])
}

/// The columns of [`ALERTS`].
#[must_use]
pub fn alerts_schema() -> SchemaRef {
    schema(&[("at", timestamp()), ("kind", DataType::Utf8), ("subject", DataType::Utf8), ("message", DataType::Utf8)])
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()))
}

fn decisions(rows: &[Decision]) -> Option<RecordBatch> {
    let text = |of: &dyn Fn(&Decision) -> String| Arc::new(rows.iter().map(|row| Some(of(row))).collect::<StringArray>());
    let number = |of: &dyn Fn(&Decision) -> Option<u32>| Arc::new(rows.iter().map(|row| of(row).map(i64::from)).collect::<Int64Array>());
    let resource = |of: &dyn Fn(&Resize) -> Option<u64>| {
        let values = rows.iter().map(|row| row.resize.as_ref().and_then(of).and_then(|value| i64::try_from(value).ok()));
        Arc::new(values.collect::<Int64Array>())
    };
    let columns: Vec<Arc<dyn arrow::array::Array>> = vec![
        times(rows.iter().map(|row| Some(row.at))),
        text(&|row| row.id.to_string()),
        text(&|row| row.target.to_string()),
        text(&|row| row.action.as_str().to_owned()),
        text(&|row| row.reason.to_string()),
        text(&|row| row.mode.as_str().to_owned()),
        Arc::new(rows.iter().map(|row| row.chosen_rule.as_ref().map(ToString::to_string)).collect::<StringArray>()),
        number(&|row| row.current),
        number(&|row| row.proposed),
        number(&|row| row.desired),
        resource(&|resize| resize.desired.cpu),
        resource(&|resize| resize.desired.memory),
        times(rows.iter().map(|row| row.evidence_time)),
        Arc::new(rows.iter().map(|row| serde_json::to_string(row).ok()).collect::<StringArray>()),
    ];
    batch(decisions_schema(), columns, rows.len())
}

fn outcomes(rows: &[Conclusion]) -> Option<RecordBatch> {
    let applied = |row: &Conclusion| match row.result {
        Ending::Applied { before, confirmed, .. } => (Some(i64::from(before)), Some(i64::from(confirmed))),
        _ => (None, None),
    };
    let columns: Vec<Arc<dyn arrow::array::Array>> = vec![
        times(rows.iter().map(|row| Some(row.at))),
        Arc::new(rows.iter().map(|row| Some(row.concludes.as_str())).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.result.as_str())).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| applied(row).0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| applied(row).1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.result.to_string())).collect::<StringArray>()),
    ];
    batch(outcomes_schema(), columns, rows.len())
}

fn alerts(rows: &[Alert]) -> Option<RecordBatch> {
    let text = |of: &dyn Fn(&Alert) -> &String| Arc::new(rows.iter().map(|row| Some(of(row).as_str())).collect::<StringArray>());
    let at = times(rows.iter().map(|row| Some(row.at)));
    batch(alerts_schema(), vec![at, text(&|row| &row.kind), text(&|row| &row.subject), text(&|row| &row.message)], rows.len())
}

fn times(times: impl Iterator<Item = Option<Timestamp>>) -> Arc<TimestampNanosecondArray> {
    Arc::new(times.map(|time| time.map(Timestamp::as_nanos)).collect())
}

/// Columns were made from the schema's own rows: they fit.
fn batch(schema: SchemaRef, columns: Vec<Arc<dyn arrow::array::Array>>, rows: usize) -> Option<RecordBatch> {
    if rows == 0 { None } else { RecordBatch::try_new(schema, columns).ok() }
}

/// Rows with the columns of another schema, all of which may be null: those that are missing or have another type are.
#[must_use]
pub fn reshaped(rows: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let column = |field: &Arc<Field>| {
        let same = rows.column_by_name(field.name()).and_then(|column| arrow::compute::cast(column, field.data_type()).ok());
        same.unwrap_or_else(|| arrow::array::new_null_array(field.data_type(), rows.num_rows()))
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap_or_else(|_| RecordBatch::new_empty(Arc::clone(schema)))
}

/// A schema all of whose columns may be null.
#[must_use]
pub fn nullable(schema: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}
