//! SQL over recorded tables: files and rows together, pruning by what is known of files, and what is wrong with them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use object_store::local::LocalFileSystem;
use parquet::arrow::ArrowWriter;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_queries::{Asked, FilesRead, Past, PastFile, PastLimits, PastTable};

use crate::engine_rows::{Span, span, spans, text};

const BEGIN: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

/// Spans of one hour of two services, one each minute.
fn hour(number: i64) -> Vec<Span> {
    let minute = |minute: i64| {
        let at = BEGIN + number * HOUR + minute * 60_000;
        [span(at, "cart", 0.1), span(at + 1, "pay", 0.2)]
    };
    (0..60).flat_map(minute).collect()
}

/// Writes rows as the archive does: microseconds, some columns left out. Returns what a catalogue knows of the file.
fn file(dir: &Path, name: &str, rows: &[Span], omitted: &[&str]) -> PastFile {
    let rows = spans(rows);
    let kept: Vec<usize> = (0..rows.num_columns()).filter(|i| !omitted.contains(&rows.schema().field(*i).name().as_str())).collect();
    let rows = rows.project(&kept).unwrap();
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let is_time = |field: &Field| matches!(field.data_type(), DataType::Timestamp(..));
    let field = |field: &Arc<Field>| {
        field.as_ref().clone().with_nullable(true).with_data_type(if is_time(field) { micros.clone() } else { field.data_type().clone() })
    };
    let schema = Arc::new(Schema::new(rows.schema().fields().iter().map(field).collect::<Vec<_>>()));
    let columns = rows.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()).unwrap()).collect();
    let mut writer = ArrowWriter::try_new(File::create(dir.join(name)).unwrap(), Arc::clone(&schema), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    writer.close().unwrap();
    let times = cast(rows.column_by_name("end_time").unwrap(), &DataType::Int64).unwrap();
    let times = times.as_primitive::<Int64Type>();
    let edge = |value: Option<i64>| Timestamp::from_nanos(value.unwrap());
    PastFile {
        path: name.to_owned(),
        bytes: std::fs::metadata(dir.join(name)).unwrap().len(),
        rows: rows.num_rows() as u64,
        time: Some((edge(arrow::compute::min(times)), edge(arrow::compute::max(times)))),
        texts: [("service_name".to_owned(), ("cart".to_owned(), "pay".to_owned()))].into(),
    }
}

fn nullable() -> SchemaRef {
    let schema = Stream::Spans.schema();
    Arc::new(Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

fn past(dir: &Path, files: Vec<PastFile>, rows: &[Span]) -> Past {
    let rows = if rows.is_empty() { Vec::new() } else { vec![RecordBatch::try_new(nullable(), spans(rows).columns().to_vec()).unwrap()] };
    let table = PastTable { name: "spans".to_owned(), schema: nullable(), time_column: "end_time".to_owned(), files, rows };
    let store = Arc::new(LocalFileSystem::new_with_prefix(dir).unwrap());
    Past::new(vec![table], Some(store), PastLimits::default()).unwrap()
}

async fn ask(past: &Past, sql: &str, columns: &[&str]) -> (Vec<String>, FilesRead) {
    let query = past.prepare(sql).await.unwrap();
    let rows = query.collect().await.unwrap();
    let mut lines: Vec<String> = rows.iter().flat_map(|rows| text(rows, columns)).collect();
    lines.sort();
    (lines, query.files()["spans"])
}

/// Guarantees: files and rows in memory are one table, bounds on time and service leave unneeded files closed, and nothing that
/// qualifies is missed for it.
#[tokio::test]
async fn only_needed_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let files = (0..6).map(|number| file(dir.path(), &format!("{number}.parquet"), &hour(number), &[])).collect();
    let past = past(dir.path(), files, &hour(6)[..20]);
    let (lines, files) = ask(&past, "SELECT service_name, count(*) AS n FROM spans GROUP BY service_name", &["service_name", "n"]).await;
    assert_eq!((lines, files.read, files.of), (vec!["cart 370".to_owned(), "pay 370".to_owned()], 6, 6));
    let at = |number: i64| Timestamp::from_millis(BEGIN + number * HOUR);
    for (condition, wanted, read) in [
        (format!("end_time >= '{}' AND end_time < '{}'", at(2), at(3)), "60", 1),
        (format!("end_time BETWEEN '{}' AND '{}' AND duration > 0", at(1), at(3)), "121", 3),
        (format!("end_time > '{}'", at(6)), "9", 0),
        (format!("end_time >= TIMESTAMP '{}' - INTERVAL '1 minute'", at(6)), "11", 1),
    ] {
        let sql = format!("SELECT count(*) AS n FROM spans WHERE service_name = 'cart' AND {condition}");
        let (lines, files) = ask(&past, &sql, &["n"]).await;
        assert_eq!((lines, files.read), (vec![wanted.to_owned()], read), "{condition}");
    }
    let (lines, files) = ask(&past, "SELECT count(*) AS n FROM spans WHERE service_name = 'zoo'", &["n"]).await;
    assert_eq!((lines, files.read), (vec!["0".to_owned()], 0));
}

/// Guarantees: window calls and the functions of rules work over files as they do over rows.
#[tokio::test]
async fn windows_work_over_files() {
    const SQL: &str = "SELECT window_end, service_name, count(*) AS n, quantile(duration, 0.5) AS p50, count(*) / window_seconds() AS rate
                       FROM HOP(spans, end_time, INTERVAL '10 minutes', INTERVAL '30 minutes') GROUP BY window_end, service_name";
    const COLUMNS: [&str; 5] = ["window_end", "service_name", "n", "p50", "rate"];
    let dir = tempfile::tempdir().unwrap();
    let filed = past(dir.path(), vec![file(dir.path(), "a.parquet", &hour(0), &[])], &[]);
    let held = past(dir.path(), Vec::new(), &hour(0));
    let (from_file, from_rows) = (ask(&filed, SQL, &COLUMNS).await.0, ask(&held, SQL, &COLUMNS).await.0);
    assert!(from_file.len() > 10);
    assert_eq!(from_file, from_rows);
}

/// Guarantees: a file that lacks a column reads as NULL there, beside files that have it.
#[tokio::test]
async fn missing_columns_are_null() {
    let dir = tempfile::tempdir().unwrap();
    let files =
        vec![file(dir.path(), "old.parquet", &hour(0), &["trace_id", "adjusted_count"]), file(dir.path(), "new.parquet", &hour(1), &[])];
    let past = past(dir.path(), files, &[]);
    let (lines, _) =
        ask(&past, "SELECT count(*) AS n, count(trace_id) AS ids, count(adjusted_count) AS counts FROM spans", &["n", "ids", "counts"])
            .await;
    assert_eq!(lines, ["240 120 120"]);
}

/// Guarantees: a missing, a cut and a foreign file are errors that name it; an unknown table says what there is.
#[tokio::test]
async fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let whole = file(dir.path(), "whole.parquet", &hour(0), &[]);
    let cut = file(dir.path(), "cut.parquet", &hour(1), &[]);
    std::fs::write(dir.path().join("cut.parquet"), &std::fs::read(dir.path().join("cut.parquet")).unwrap()[..200]).unwrap();
    std::fs::write(dir.path().join("foreign.parquet"), "id,name\n1,a\n").unwrap();
    let foreign = PastFile { path: "foreign.parquet".to_owned(), bytes: 12, ..whole.clone() };
    let missing = PastFile { path: "missing.parquet".to_owned(), ..whole.clone() };
    for (name, bad) in [("cut.parquet", cut), ("foreign.parquet", foreign), ("missing.parquet", missing)] {
        let past = past(dir.path(), vec![whole.clone(), bad], &[]);
        let query = past.prepare("SELECT sum(duration) FROM spans").await.unwrap();
        let error = query.collect().await.unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    let past = past(dir.path(), vec![whole], &[]);
    let error = past.prepare("SELECT * FROM span").await.unwrap_err().to_string();
    assert!(error.contains("span") && error.contains("there are: spans"), "{error}");
    let error = past.prepare("SELECT * FROM activity").await.unwrap_err().to_string();
    assert!(error.contains("service_load"), "{error}");
    assert!(past.prepare("DELETE FROM spans").await.is_err());
}

/// Guarantees: EXPLAIN is told apart, and shows the plan.
#[tokio::test]
async fn queries_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let past = past(dir.path(), vec![file(dir.path(), "a.parquet", &hour(0), &[])], &[]);
    let query = past.prepare("EXPLAIN SELECT count(*) FROM spans WHERE service_name = 'pay'").await.unwrap();
    assert_eq!(query.asked(), Asked::Plan);
    assert!(query.explain(false).contains("a.parquet"), "{}", query.explain(false));
    let analyzed = past.prepare("EXPLAIN ANALYZE SELECT count(*) FROM spans").await.unwrap();
    assert_eq!(analyzed.asked(), Asked::Analysis);
    let _ = analyzed.collect().await.unwrap();
    assert!(analyzed.explain(true).contains("output_rows"));
}
