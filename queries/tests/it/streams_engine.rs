//! The shipped views on the live engine: steady traffic with known rates comes out as exactly these rates, and the default rule
//! draws the right conclusion.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Float64Builder, Int64Array, ListBuilder,
    RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array, UInt64Builder, new_null_array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_queries::config::EngineConfig;
use tracescale_queries::engine::Engine;
use tracescale_queries::{judgement, shipped, streams};

use crate::engine_rows::text;

const MILLI: i64 = 1_000_000;
/// Span, parent, kind, service, begin and end in milliseconds: cart takes 100 ms, 60 of them in a call that stock serves in 40.
const TRACE: [(u8, u8, &str, &str, i64, i64); 3] =
    [(1, 0, "SERVER", "cart", 0, 100), (2, 1, "CLIENT", "cart", 20, 80), (3, 2, "SERVER", "stock", 30, 70)];

fn at(second: i64) -> Timestamp {
    Timestamp::from_secs(second)
}

/// A batch of `rows` rows of a stream; columns that are not given are NULL or empty.
pub(crate) fn batch(stream: Stream, rows: usize, given: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let given: BTreeMap<&str, ArrayRef> = given.into_iter().collect();
    let column = |field: &Arc<Field>| given.get(field.name().as_str()).map_or_else(|| empty(field, rows), Arc::clone);
    RecordBatch::try_new(stream.schema(), stream.schema().fields().iter().map(column).collect()).unwrap()
}

fn empty(field: &Field, rows: usize) -> ArrayRef {
    let bytes = BinaryArray::from_iter_values(std::iter::repeat_n(b"", rows.max(1)));
    match field.data_type() {
        data_type if field.is_nullable() => new_null_array(data_type, rows),
        DataType::Timestamp(..) => Arc::new(TimestampNanosecondArray::from(vec![0; rows])),
        DataType::UInt32 => Arc::new(UInt32Array::from(vec![0; rows])),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![false; rows])),
        DataType::Binary => Arc::new(bytes),
        DataType::Dictionary(_, values) if **values == DataType::Utf8 => words(vec![""; rows]),
        DataType::Dictionary(..) => Arc::new(DictionaryArray::<Int32Type>::new(vec![0; rows].into(), Arc::new(bytes))),
        other => panic!("no empty value for {}: {other}", field.name()),
    }
}

pub(crate) fn words(values: Vec<&str>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<DictionaryArray<Int32Type>>())
}

pub(crate) fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from_iter_values(values))
}

/// Ten traces that all lie within this second.
fn spans(second: i64) -> RecordBatch {
    let rows: Vec<_> = (0..10).flat_map(|place| TRACE.map(|span| (second * 1000 + place * 90, span))).collect();
    let ids = |width, id: &dyn Fn(&(i64, (u8, u8, &str, &str, i64, i64))) -> Option<Vec<u8>>| -> ArrayRef {
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(rows.iter().map(id), width).unwrap())
    };
    let flags =
        |flag: fn(&str) -> bool| -> ArrayRef { Arc::new(rows.iter().map(|(_, span)| Some(flag(span.2))).collect::<BooleanArray>()) };
    let durations = rows.iter().map(|(_, span)| f64::from(u32::try_from(span.5 - span.4).unwrap()) / 1000.0);
    batch(
        Stream::Spans,
        rows.len(),
        vec![
            ("start_time", times(rows.iter().map(|(base, span)| (base + span.4) * MILLI))),
            ("end_time", times(rows.iter().map(|(base, span)| (base + span.5) * MILLI))),
            ("duration", Arc::new(Float64Array::from_iter_values(durations))),
            ("trace_id", ids(16, &|(base, _)| Some([&[0; 8][..], &base.to_be_bytes()].concat()))),
            ("span_id", ids(8, &|(_, span)| Some(vec![0, 0, 0, 0, 0, 0, 0, span.0]))),
            ("parent_span_id", ids(8, &|(_, span)| (span.1 > 0).then(|| vec![0, 0, 0, 0, 0, 0, 0, span.1]))),
            ("kind", words(rows.iter().map(|(_, span)| span.2).collect())),
            ("service_name", words(rows.iter().map(|(_, span)| span.3).collect())),
            ("service_instance_id", words(vec!["one"; rows.len()])),
            ("name", words(vec!["GET /"; rows.len()])),
            ("is_entry", flags(|kind| kind == "SERVER")),
            ("adjusted_count", Arc::new(Float64Array::from(vec![1.0; rows.len()]))),
        ],
    )
}

/// A counter that grows by 5 a second, and a level of 7.
fn metrics(second: i64) -> RecordBatch {
    let counted = f64::from(u32::try_from(second).unwrap()) * 5.0;
    batch(
        Stream::Metrics,
        2,
        vec![
            ("time", times([second * 1000 * MILLI; 2].into_iter())),
            ("start_time", times([MILLI; 2].into_iter())),
            ("metric_name", words(vec!["jobs", "depth"])),
            ("metric_kind", words(vec!["sum", "gauge"])),
            ("temporality", words(vec!["cumulative", "unspecified"])),
            ("is_monotonic", Arc::new(BooleanArray::from(vec![true, false]))),
            ("series_id", Arc::new(UInt64Array::from(vec![1, 2]))),
            ("value", Arc::new(Float64Array::from(vec![counted, 7.0]))),
            ("service_name", words(vec!["cart", "cart"])),
        ],
    )
}

/// The metrics by which requests are counted.
const NAMES: [&str; 6] = [
    "http.server.request.duration",
    "http.server.duration",
    "rpc.server.duration",
    "http_server_request_duration_seconds",
    "http_server_duration_milliseconds",
    "rpc_server_duration_milliseconds",
];

/// Requests by metrics of cart: 40 a second over HTTP, under the newer and the older name of the metric and a fifth of them only under
/// the older, and 8 a second over RPC. Of stock, as Prometheus spells them: 4 over HTTP, under one name and a half of them also under another, and 8 over RPC.
fn answered(second: i64) -> RecordBatch {
    let second = u64::try_from(second).unwrap();
    let counted = [32 * second, 40 * second, 8 * second, 4 * second, 2 * second, 8 * second];
    let (mut bounds, mut buckets) =
        (required_items(Float64Builder::new(), DataType::Float64), required_items(UInt64Builder::new(), DataType::UInt64));
    for count in counted {
        bounds.append_value([Some(1.0)]);
        buckets.append_value([Some(count), Some(0)]);
    }
    batch(
        Stream::Metrics,
        NAMES.len(),
        vec![
            ("time", times([i64::try_from(second).unwrap() * 1000 * MILLI; NAMES.len()].into_iter())),
            ("start_time", times([MILLI; NAMES.len()].into_iter())),
            ("metric_name", words(NAMES.to_vec())),
            ("metric_kind", words(vec!["histogram"; NAMES.len()])),
            ("temporality", words(vec!["cumulative"; NAMES.len()])),
            ("series_id", Arc::new(UInt64Array::from(vec![3, 4, 5, 6, 7, 8]))),
            ("count", Arc::new(UInt64Array::from(counted.to_vec()))),
            ("sum", Arc::new(Float64Array::from_iter_values(counted.map(|count| f64::from(u32::try_from(count).unwrap()) * 0.1)))),
            ("bounds", Arc::new(bounds.finish())),
            ("bucket_counts", Arc::new(buckets.finish())),
            ("service_name", words([vec!["cart"; 3], vec!["stock"; 3]].concat())),
        ],
    )
}

fn required_items<B: arrow::array::ArrayBuilder>(items: B, data_type: DataType) -> ListBuilder<B> {
    ListBuilder::new(items).with_field(Field::new("item", data_type, false))
}

fn targets() -> RecordBatch {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let schema =
        Schema::new(vec![text("target"), text("service_name"), text("service_namespace"), Field::new("current", DataType::Int64, true)]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(StringArray::from(vec!["cart", "stock", "ghost"])),
            Arc::new(StringArray::from(vec!["cart", "stock", "ghost"])),
            new_null_array(&DataType::Utf8, 3),
            Arc::new(Int64Array::from(vec![1, 1, 1])),
        ],
    )
    .unwrap()
}

async fn query(engine: &Engine, sql: &str, columns: &[&str]) -> Vec<String> {
    let batches = engine.tables().query(sql, &[("targets", targets())]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let mut rows: Vec<String> = batches.iter().flat_map(|batch| text(batch, columns)).collect();
    rows.sort();
    rows
}

async fn steady() -> Engine {
    let (parts, counters) = shipped::parts(&streams::Config::default(), &judgement::Settings::default(), Vec::new());
    let mut engine = Engine::with_parts(EngineConfig::default(), parts).await.unwrap_or_else(|problems| panic!("{problems:#?}"));
    for second in 1000..1135 {
        let rows = vec![(Stream::Spans, spans(second)), (Stream::Metrics, metrics(second)), (Stream::Metrics, answered(second))];
        engine.push("a", rows, at(second + 1)).await.unwrap();
        if (second + 1) % 5 == 0 {
            engine.advance(at(second + 1)).await.unwrap();
        }
    }
    let wrong: Vec<_> = counters.snapshot().into_iter().filter(|(name, count)| *count > 0 && *name != "increments_base_points").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    engine
}

/// Guarantees: every shipped view gives the rates, times and levels of known steady traffic, over the newest final window.
#[tokio::test]
async fn shipped_views_measure_known_traffic() {
    let engine = steady().await;
    let last = |view: &str, columns: &str| {
        let columns: Vec<String> =
            columns.split(", ").map(|column| format!("round(CAST({column} AS DOUBLE), 3) + 0.0 AS {column}")).collect();
        let names = if view == "calls" { "client_service, server_service" } else { "service_name" };
        format!("SELECT {names}, {} FROM {view} WHERE window_end = (SELECT max(window_end) FROM {view} WHERE is_final)", columns.join(", "))
    };
    let load =
        ["service_name", "arrival_rate", "completion_rate", "concurrency", "mean_sojourn", "little_residual", "instances", "samples"];
    let rows = query(&engine, &last("service_load", &load[1..].join(", ")), &load).await;
    assert_eq!(rows, ["cart 10.0 10.0 1.0 0.1 0.0 1.0 600.0", "stock 10.0 10.0 0.4 0.04 0.0 1.0 600.0"]);
    let own = ["service_name", "mean", "self_share", "samples"];
    let rows = query(&engine, &last("service_self_time", &own[1..].join(", ")), &own).await;
    assert_eq!(rows, ["cart 0.04 0.4 600.0", "stock 0.04 1.0 600.0"]);
    let paths = ["service_name", "path_share", "usual_share", "slow_share", "excess", "samples"];
    let rows = query(&engine, &last("service_critical_path", &paths[1..].join(", ")), &paths).await;
    assert_eq!(rows, ["cart 0.6 0.6 0.6 0.0 600.0", "stock 0.4 0.4 0.4 0.0 600.0"]);
    let calls = ["client_service", "server_service", "call_rate", "client_mean", "server_mean", "wait_mean", "matched_share"];
    let rows = query(&engine, &last("calls", &calls[2..].join(", ")), &calls).await;
    assert_eq!(rows, ["cart stock 10.0 0.06 0.04 0.02 1.0"]);
    let errors = ["service_name", "error_rate", "error_ratio", "completion_rate"];
    let rows = query(&engine, &last("service_errors", &errors[1..].join(", ")), &errors).await;
    assert_eq!(rows, ["cart 0.0 0.0 10.0", "stock 0.0 0.0 10.0"]);
    let rates = ["service_name", "rate", "rate_per_series", "series", "resets"];
    assert_eq!(query(&engine, &last("metric_rates", &rates[1..].join(", ")), &rates).await, ["cart 5.0 5.0 1.0 0.0"]);
    let gauges = ["service_name", "mean", "total", "series"];
    assert_eq!(query(&engine, &last("metric_gauges", &gauges[1..].join(", ")), &gauges).await, ["cart 7.0 7.0 1.0"]);
    let sampling = ["service_name", "measured_rate", "span_rate", "traced_share", "samples"];
    let rows = query(&engine, &last("service_sampling", &sampling[1..].join(", ")), &sampling).await;
    // What RPC counts may be among the requests over HTTP of cart, and cannot be among those of stock.
    assert_eq!(rows, ["cart 40.0 10.0 0.25 600.0", "stock 12.0 10.0 0.833 600.0"]);
    let measured = "SELECT DISTINCT service_name, measured_by FROM service_sampling WHERE is_final AND measured_by IS NOT NULL";
    let rows = query(&engine, measured, &["service_name", "measured_by"]).await;
    assert_eq!(rows, ["cart http.server.duration", "stock http.server.request.duration and rpc.server.duration"]);
    let latency = "SELECT service_name FROM service_latency WHERE abs(p99 - mean) < mean * 0.01 AND window_end = latest()";
    assert_eq!(query(&engine, latency, &["service_name"]).await, ["cart", "stock"]);
    let operations = "SELECT service_name, operation FROM operation_latency WHERE window_end = latest()";
    assert_eq!(query(&engine, operations, &["service_name", "operation"]).await, ["cart GET /", "stock GET /"]);
    let instances = "SELECT service_name, service_instance_id FROM service_instances WHERE window_end = latest() AND presence = 'active'";
    assert_eq!(query(&engine, instances, &["service_name", "service_instance_id"]).await, ["cart one", "stock one"]);
}

/// Guarantees: the default rule sizes by offered load (10/s × 40 ms / 0.7 → 1), over the newest and over the newest final
/// windows, and a target without telemetry gets NULL.
#[tokio::test]
async fn the_default_rule_proposes_for_every_target() {
    let snapshot = steady().await.tables();
    let (_, rest) = shipped::DEFAULT_RULE.split_once("  sql: |\n").unwrap();
    let (sql, _) = rest.split_once("  policy:\n").unwrap();
    let mut plan = snapshot.prepare(sql, &[("targets", targets().schema())]).await.unwrap();
    let columns = ["target", "replicas", "is_final", "presence"];
    let extra = [("targets", targets())];
    let newest = plan.run(&snapshot, &extra).await.unwrap();
    let finals = plan.run_final(&snapshot, &extra).await.unwrap();
    for (batches, is_final) in [(newest, false), (finals, true)] {
        let mut rows: Vec<String> = batches.iter().flat_map(|batch| text(batch, &columns)).collect();
        rows.sort();
        assert_eq!(
            rows,
            [format!("cart 1.0 {is_final} active"), "ghost NULL NULL NULL".to_owned(), format!("stock 1.0 {is_final} active")]
        );
    }
}
