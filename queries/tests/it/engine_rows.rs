//! Batches for tests: spans with the columns that a test cares about, and readable views of results.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Int32Type};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_queries::config::{Emission, EngineConfig, ViewSource};
use tracescale_queries::engine::Engine;

/// One span, as far as tests care.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) end: Timestamp,
    pub(crate) service: Option<&'static str>,
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) duration: f64,
    pub(crate) weight: f64,
    pub(crate) is_error: bool,
}

pub(crate) fn span(end_millis: i64, service: &'static str, duration: f64) -> Span {
    Span {
        end: Timestamp::from_millis(end_millis),
        service: Some(service),
        name: "op",
        kind: "SERVER",
        duration,
        weight: 1.0,
        is_error: false,
    }
}

/// The spans as a batch in the schema of `spans`.
pub(crate) fn spans(rows: &[Span]) -> RecordBatch {
    let strings =
        |of: &dyn Fn(&Span) -> Option<&'static str>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<DictionaryArray<Int32Type>>()) };
    let schema = Stream::Spans.schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "end_time" => Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.end.as_nanos()))),
            "start_time" => {
                let start = |row: &Span| (row.end - std::time::Duration::from_secs_f64(row.duration.max(0.0))).as_nanos();
                Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(start)))
            }
            "duration" => Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.duration))),
            "adjusted_count" => Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.weight))),
            "is_error" => Arc::new(rows.iter().map(|row| Some(row.is_error)).collect::<BooleanArray>()),
            "service_name" => strings(&|row| row.service),
            "name" => strings(&|row| Some(row.name)),
            "kind" => strings(&|row| Some(row.kind)),
            "status" => strings(&|_| Some("UNSET")),
            _ => filler(field.data_type(), field.is_nullable(), rows.len()),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

fn filler(data_type: &DataType, nullable: bool, rows: usize) -> ArrayRef {
    if nullable {
        return arrow::array::new_null_array(data_type, rows);
    }
    match data_type {
        DataType::Timestamp(..) => Arc::new(TimestampNanosecondArray::from_value(0, rows)),
        DataType::FixedSizeBinary(width) => {
            let zeros = vec![0_u8; usize::try_from(*width).unwrap()];
            Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::repeat_n(zeros, rows.max(1))).unwrap().slice(0, rows))
        }
        other => {
            let text: ArrayRef = Arc::new(StringArray::from(vec!["0"; rows]));
            arrow::compute::cast(&text, other).unwrap_or_else(|_| {
                let bytes = arrow::compute::cast(&text, &DataType::Binary).unwrap();
                arrow::compute::cast(&bytes, other).unwrap()
            })
        }
    }
}

pub(crate) fn view(sql: &str) -> ViewSource {
    ViewSource { name: "test".to_owned(), sql: sql.to_owned(), origin: "test.sql".to_owned() }
}

pub(crate) fn views(sql: &[&str]) -> Vec<ViewSource> {
    sql.iter().map(|sql| view(sql)).collect()
}

pub(crate) async fn engine(sql: &[&str]) -> Engine {
    engine_with(EngineConfig::default(), sql).await
}

pub(crate) async fn engine_with(config: EngineConfig, sql: &[&str]) -> Engine {
    match Engine::new(config, views(sql)).await {
        Ok(engine) => engine,
        Err(problems) => panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

/// Rows as text, sorted, `column=value` separated by spaces.
pub(crate) fn text(rows: &RecordBatch, columns: &[&str]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters: Vec<_> = columns
        .iter()
        .map(|name| ArrayFormatter::try_new(rows.column_by_name(name).unwrap_or_else(|| panic!("{name}")), &options).unwrap())
        .collect();
    let mut lines: Vec<String> =
        (0..rows.num_rows()).map(|row| formatters.iter().map(|of| of.value(row).to_string()).collect::<Vec<_>>().join(" ")).collect();
    lines.sort();
    lines
}

/// The last emission of a view for a window end in seconds.
pub(crate) fn last<'a>(emissions: &'a [Emission], view: &str, end: i64) -> &'a Emission {
    emissions.iter().rev().find(|emission| emission.view == view && emission.window_end == Timestamp::from_secs(end)).unwrap_or_else(|| {
        let ends: Vec<_> =
            emissions.iter().map(|emission| (&emission.view, emission.window_end.as_nanos() / 1_000_000_000, emission.is_final)).collect();
        panic!("no emission of {view} at {end}: {ends:?}")
    })
}
