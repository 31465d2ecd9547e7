//! What a table of the archive looks like, and how rows are made to look like it.
//!
//! Rows change their types on the way in, so that any engine can read them: times lose their nanoseconds (Spark and others
//! cannot read `TIMESTAMP(NANOS)`; a duration column keeps what it has), every column may be null (a column that a later
//! version adds has no values before), and dictionary keys are `Int32`.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, TimestampMicrosecondArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};

use crate::error::ArchiveError;
use crate::name;

/// The column type of every time in the archive.
pub(crate) const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// A table as its writer defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name, which is also that of its folder: lower-case letters, digits and `_`, starting with a letter.
    pub name: String,
    /// The rows that the writer hands over.
    pub schema: SchemaRef,
    /// The column that decides on the hour: a timestamp without a zone.
    pub time_column: String,
    /// Columns that rows are sorted by within a file, first one first; by time when there are none. What readers filter by
    /// belongs to the front.
    pub sort: Vec<String>,
    /// Columns with a bloom filter: those that are looked up by value and are not sorted by.
    pub bloom: Vec<String>,
    /// Columns of `schema` that are not archived.
    pub omit: BTreeSet<String>,
}

// === impl Table ===

impl Table {
    /// The columns as they are archived: those not omitted, all nullable, with the types described at the top.
    #[must_use]
    pub fn archived_schema(&self) -> SchemaRef {
        let kept = self.schema.fields().iter().filter(|field| !self.omit.contains(field.name()));
        Arc::new(Schema::new(kept.map(|field| archived_field(field)).collect::<Vec<_>>()))
    }

    /// Checks the name, and that every column named exists.
    ///
    /// # Errors
    /// Names the table and what is wrong with it.
    pub fn validate(&self) -> Result<(), ArchiveError> {
        name::check_table(&self.name)?;
        let wrong = |reason: String| Err(ArchiveError::Table { table: self.name.clone(), reason });
        let schema = self.archived_schema();
        if let Some(repeated) = repeated_column(&schema) {
            return wrong(format!("it has two columns `{repeated}`"));
        }
        for column in self.sort.iter().chain(&self.bloom).chain([&self.time_column]) {
            let Ok(field) = schema.field_with_name(column) else {
                return wrong(format!("it is to use column `{column}`, which is not archived"));
            };
            if field.data_type().is_nested() {
                return wrong(format!("column `{column}` is nested, and can neither be sorted by nor looked up"));
            }
        }
        if schema.field_with_name(&self.time_column).is_ok_and(|field| *field.data_type() != TIME) {
            return wrong(format!("time column `{}` is no timestamp without a zone", self.time_column));
        }
        Ok(())
    }
}

fn repeated_column(schema: &Schema) -> Option<&str> {
    let mut seen = BTreeSet::new();
    schema.fields().iter().map(|field| field.name().as_str()).find(|name| !seen.insert(*name))
}

fn archived_field(field: &Field) -> Field {
    Field::new(field.name(), archived_type(field.data_type()), true)
}

fn archived_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Dictionary(_, values) => DataType::Dictionary(Box::new(DataType::Int32), values.clone()),
        DataType::List(item) => DataType::List(Arc::new(archived_field(item))),
        other => other.clone(),
    }
}

/// The rows with the columns of `schema`: types are converted, absent columns are null, others are left out.
///
/// # Errors
/// When a value does not fit the type it is to have; none is silently replaced.
pub(crate) fn conform(table: &str, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArchiveError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |field: &Arc<Field>| -> Result<ArrayRef, ArchiveError> {
        let Some(column) = batch.column_by_name(field.name()) else {
            return Ok(new_null_array(field.data_type(), batch.num_rows()));
        };
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        cast_with_options(column, field.data_type(), &options).map_err(|source| ArchiveError::Rows {
            table: table.to_owned(),
            column: Some(field.name().clone()),
            source,
        })
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|source| ArchiveError::Rows { table: table.to_owned(), column: None, source })
}

/// The times of conformed rows.
pub(crate) fn times<'a>(table: &str, batch: &'a RecordBatch, column: &str) -> Result<&'a TimestampMicrosecondArray, ArchiveError> {
    let times = batch.column_by_name(column).and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    times.ok_or_else(|| ArchiveError::Table { table: table.to_owned(), reason: format!("it has no time column `{column}`") })
}

/// The columns of all versions: in the order in which they came to be, each with the type that it had last. With
/// `versions` oldest first.
pub(crate) fn union<'a>(versions: impl IntoIterator<Item = &'a Schema>) -> SchemaRef {
    let mut fields: Vec<Field> = Vec::new();
    for field in versions.into_iter().flat_map(Schema::fields) {
        match fields.iter_mut().find(|known| known.name() == field.name()) {
            Some(known) => *known = field.as_ref().clone(),
            None => fields.push(field.as_ref().clone()),
        }
    }
    Arc::new(Schema::new(fields))
}
