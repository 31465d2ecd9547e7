//! From the rows of the plan to the rows of a view: the appended columns, and NULL in place of numbers that nobody measured.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, StringArray};
use arrow::compute::{cast, concat_batches, nullif};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tracescale_core::time::Timestamp;

use crate::config::Emission;
use crate::life::Life;
use crate::problem::Complaint;
use crate::registry::Band;

/// The columns that the engine appends to every view.
pub(crate) const APPENDED: [(&str, DataType); 5] = [
    ("is_final", DataType::Boolean),
    ("revision", DataType::Int32),
    ("completeness", DataType::Float64),
    ("age", DataType::Float64),
    ("presence", DataType::Utf8),
];

/// Group columns that name a service.
const SERVICE_COLUMNS: [&str; 3] = ["service_name", "client_service", "server_service"];

/// Which window of which view is being emitted, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) view: &'a str,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) is_final: bool,
    pub(crate) revision: u32,
    pub(crate) now: Timestamp,
    pub(crate) watermark: Timestamp,
}

/// The schema of a view over a stream: what it selects without the hidden column, nullable, and the appended columns.
pub(crate) fn schema(plan: &Schema) -> Result<SchemaRef, Complaint> {
    let selected = &plan.fields()[..plan.fields().len() - 1];
    append(selected.iter().map(|field| field.as_ref().clone()))
}

fn append(selected: impl Iterator<Item = Field>) -> Result<SchemaRef, Complaint> {
    let mut fields: Vec<Field> = selected.map(|field| field.with_nullable(true)).collect();
    for (name, data_type) in APPENDED {
        if fields.iter().any(|field| field.name() == name) {
            return Err(
                Complaint::new(format!("the view selects a column {name}, which the engine appends itself")).hint("give it another alias")
            );
        }
        fields.push(Field::new(name, data_type, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Makes the emission of a window from the rows of the plan. `outputs` says which columns are group keys.
pub(crate) fn emission(
    moment: Moment<'_>,
    batches: &[RecordBatch],
    schema: &SchemaRef,
    outputs: &[Option<usize>],
    life: &Life,
) -> Result<Option<Emission>, ArrowError> {
    let Some(first) = batches.first() else { return Ok(None) };
    let batch = concat_batches(&first.schema(), batches)?;
    if batch.num_rows() == 0 {
        return Ok(None);
    }
    let hidden = batch.column(batch.num_columns() - 1).as_primitive::<TimestampNanosecondType>();
    let bands: Vec<Band> = hidden.iter().map(|value| value.map_or(Band::Idle(moment.start), Band::decode)).collect();
    let missing: BooleanArray = bands.iter().map(|band| Some(matches!(band, Band::Missing(_)))).collect();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (column, output) in batch.columns().iter().zip(outputs) {
        columns.push(if output.is_some() { Arc::clone(column) } else { nullif(column, &missing)? });
    }
    columns.extend(appended(moment, &bands, &last_signs(&batch, life)?, life));
    let active = bands.iter().filter_map(|band| if let Band::Active(time) = band { Some(*time) } else { None });
    let evidence_time = active.max().unwrap_or(moment.end);
    let rows = RecordBatch::try_new(Arc::clone(schema), columns)?;
    let Moment { view, start: window_start, end: window_end, is_final, revision, .. } = moment;
    Ok(Some(Emission { view: view.to_owned(), window_start, window_end, is_final, revision, rows, evidence_time }))
}

/// For each row the last sign of life of anything that could have reported on its service, or on both services of a call.
fn last_signs(batch: &RecordBatch, life: &Life) -> Result<Vec<Timestamp>, ArrowError> {
    let columns = SERVICE_COLUMNS.iter().filter_map(|name| batch.column_by_name(name));
    let texts = columns.map(|column| cast(column, &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
    let row = |row: usize| {
        let names = texts.iter().map(AsArray::as_string::<i32>).filter(|names| names.is_valid(row)).map(|names| names.value(row));
        names.map(|name| life.last_sign(name)).max().unwrap_or_else(|| life.last())
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

fn appended(moment: Moment<'_>, bands: &[Band], last_signs: &[Timestamp], life: &Life) -> [ArrayRef; 5] {
    let rows = bands.len();
    // Nothing is known of the time after the last sign of life, however short the silence: a window whose end nobody could
    // report on is not complete, and nothing may be scaled in on it.
    let completeness = bands.iter().zip(last_signs).map(|(band, sign)| {
        let cut = if let Band::Missing(last) = band { *sign.min(last) } else { *sign };
        life.completeness(moment.start, moment.end, moment.watermark, cut)
    });
    let completeness = Float64Array::from_iter_values(completeness);
    let age = bands.iter().map(|band| {
        let (Band::Active(last) | Band::Idle(last) | Band::Missing(last)) = band;
        moment.now.since(*last).as_secs_f64()
    });
    let presence = bands.iter().map(|band| match band {
        Band::Active(_) => "active",
        Band::Idle(_) => "idle",
        Band::Missing(_) => "missing",
    });
    [
        Arc::new(BooleanArray::from(vec![moment.is_final; rows])),
        Arc::new(Int32Array::from_value(i32::try_from(moment.revision).unwrap_or(i32::MAX), rows)),
        Arc::new(completeness),
        Arc::new(Float64Array::from_iter_values(age)),
        Arc::new(StringArray::from_iter_values(presence)),
    ]
}
