//! Views that a model with memory fills instead of SQL: forecasts, calibrated queues, causes. To whoever reads them they are views
//! like any other.
//!
//! A model answers for the windows of the first view that it reads, provisional and final ones. What it learns, it learns from
//! final windows, each once, and from what the archive remembers of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tracescale_core::time::Timestamp;

use crate::history::History;
use crate::judgement::Advice;
use crate::window::{WINDOW_END, WINDOW_START};

/// A view with memory.
pub trait Model: Send + fmt::Debug {
    /// Its name in SQL.
    fn name(&self) -> &'static str;
    /// The views that it reads: first the one for whose windows it answers.
    fn reads(&self) -> &'static [&'static str];
    /// Columns that identify a row within a window, and are in the read views too.
    fn keys(&self) -> &'static [&'static str];
    /// Its columns, beginning with [`window_columns`].
    fn schema(&self) -> Schema;
    /// The rows for a window, in the columns of [`Model::schema`]. Learns from the window when it is final.
    ///
    /// # Errors
    /// When rows cannot be built.
    fn judge(&mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError>;
    /// Learns from earlier rows of the view `name`, oldest first: of one that it reads, or of its own.
    fn remember(&mut self, name: &str, rows: &RecordBatch);
    /// Hears what people and the controller say of services, at the start and whenever that changes.
    fn advise(&mut self, _advice: &Advice) {}
}

/// A window as a model sees it.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// First instant after it.
    pub end: Timestamp,
    /// Whether no more rows can come into it.
    pub is_final: bool,
    /// The rows of the view for whose windows the model answers.
    pub driver: &'a RecordBatch,
    histories: &'a BTreeMap<String, History>,
}

/// A column read by name; one that is absent, or of another type, has no values.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a>(Option<&'a Arc<dyn Array>>);

/// The columns that every model begins with.
#[must_use]
pub fn window_columns() -> Vec<Field> {
    let text = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    vec![
        Field::new(WINDOW_START, tracescale_core::schema::timestamp(), true),
        Field::new(WINDOW_END, tracescale_core::schema::timestamp(), true),
        Field::new("service_name", text(), true),
        Field::new("service_namespace", text(), true),
    ]
}

// === impl Seen ===

impl<'a> Seen<'a> {
    /// The window of the view `driver` that ends then; `None` while it has no such window.
    pub(crate) fn of(driver: &str, end: Timestamp, histories: &'a BTreeMap<String, History>) -> Option<Self> {
        let window = histories.get(driver)?.get(end)?;
        Some(Self { end, is_final: window.is_final, driver: &window.rows, histories })
    }

    /// The same as if the window were final or not.
    pub(crate) fn as_final(self, is_final: bool) -> Self {
        Self { is_final, ..self }
    }

    /// The rows of another view for this window.
    #[must_use]
    pub fn rows(&self, view: &str) -> Option<&'a RecordBatch> {
        self.histories.get(view)?.get(self.end).map(|window| &window.rows)
    }

    /// The rows of the newest final window of a view that is over by the end of this one: of views with fewer windows.
    #[must_use]
    pub fn newest_final(&self, view: &str) -> Option<(Timestamp, &'a RecordBatch)> {
        self.histories.get(view)?.newest_final_by(self.end).map(|(end, window)| (end, &window.rows))
    }
}

impl fmt::Debug for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("end", &self.end).field("is_final", &self.is_final).finish_non_exhaustive()
    }
}

// === impl Column ===

impl<'a> Column<'a> {
    /// A column of a batch.
    #[must_use]
    pub fn of(rows: &'a RecordBatch, name: &str) -> Self {
        Self(rows.column_by_name(name))
    }

    /// The number in a row; a number that is none is missing.
    #[must_use]
    pub fn number(&self, row: usize) -> Option<f64> {
        let column = self.0?;
        if row >= column.len() || column.is_null(row) {
            return None;
        }
        if let Some(whole) = column.as_primitive_opt::<Int64Type>() {
            #[expect(clippy::cast_precision_loss, reason = "counts of instances and rows")]
            return Some(whole.value(row) as f64);
        }
        Some(column.as_primitive_opt::<Float64Type>()?.value(row)).filter(|value| value.is_finite())
    }

    /// The text in a row.
    #[must_use]
    pub fn text(&self, row: usize) -> Option<&'a str> {
        let column = self.0?;
        if row >= column.len() || column.is_null(row) {
            return None;
        }
        match column.data_type() {
            DataType::Utf8 => Some(column.as_string::<i32>().value(row)),
            DataType::Utf8View => Some(column.as_string_view().value(row)),
            DataType::Dictionary(_, _) => {
                let dictionary = column.as_dictionary_opt::<Int32Type>()?;
                let key = dictionary.key(row)?;
                Some(dictionary.values().as_string_opt::<i32>()?.value(key))
            }
            _ => None,
        }
    }

    /// The bytes in a row.
    #[must_use]
    pub fn bytes(&self, row: usize) -> Option<&'a [u8]> {
        let column = self.0?.as_binary_opt::<i32>()?;
        (row < column.len() && column.is_valid(row)).then(|| column.value(row))
    }

    /// The time in a row.
    #[must_use]
    pub fn time(&self, row: usize) -> Option<Timestamp> {
        let times = self.0?.as_primitive_opt::<TimestampNanosecondType>()?;
        (row < times.len() && times.is_valid(row)).then(|| Timestamp::from_nanos(times.value(row)))
    }
}
