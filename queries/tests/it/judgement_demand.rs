//! `operation_demand` over live windows: what operations cost in CPU, by counters in parts and spans.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::Float64Type;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_queries::config::EngineConfig;
use tracescale_queries::engine::Engine;
use tracescale_queries::{judgement, shipped, streams};

use crate::engine_rows::text;
use crate::streams_engine::{batch, times, words};

const SECOND: i64 = 1_000_000_000;
/// A whole minute, so that windows are easy to follow.
const START: i64 = 1_767_225_600;
/// Requests in a second, of both operations.
const CHEAP: usize = 8;
const DEAR: usize = 4;

/// Cores at so many requests per second: 0.1 without any, 5 ms and 50 ms for each.
fn cores(cheap: f64, dear: f64) -> f64 {
    0.1 + 0.005 * cheap + 0.05 * dear
}

/// A second of requests to `shop`.
fn spans(second: i64) -> RecordBatch {
    let count = CHEAP + DEAR;
    let ids = |width: usize| -> ArrayRef {
        let id = |place: usize| [&second.to_be_bytes()[..], &(place as u64 + 1).to_be_bytes()].concat()[16 - width..].to_vec();
        let ids = (0..count).map(|place| Some(id(place)));
        Arc::new(arrow::array::FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, i32::try_from(width).unwrap()).unwrap())
    };
    let route = |place| if place < CHEAP { "/cheap" } else { "/dear" };
    let given: Vec<(&str, ArrayRef)> = vec![
        ("start_time", times((0..count).map(|_| second * SECOND))),
        ("end_time", times((0..count).map(|_| second * SECOND + SECOND / 10))),
        ("duration", Arc::new(Float64Array::from(vec![0.1; count]))),
        ("trace_id", ids(16)),
        ("span_id", ids(8)),
        ("kind", words(vec!["SERVER"; count])),
        ("service_name", words(vec!["shop"; count])),
        ("service_namespace", words(vec!["prod"; count])),
        ("name", words(vec!["GET"; count])),
        ("http_route", words((0..count).map(route).collect())),
        ("http_request_method", words(vec!["GET"; count])),
        ("is_entry", Arc::new(BooleanArray::from(vec![true; count]))),
        ("adjusted_count", Arc::new(Float64Array::from(vec![1.0; count]))),
    ];
    batch(Stream::Spans, count, given)
}

/// The CPU-seconds since `START`, of user and system, as an agent counts them that knows no namespace; and a worse counter.
#[expect(clippy::cast_precision_loss, reason = "seconds of a test")]
fn counters(second: i64) -> RecordBatch {
    let total = cores(CHEAP as f64, DEAR as f64) * (second - START) as f64;
    let given: Vec<(&str, ArrayRef)> = vec![
        ("time", times((0..3).map(|_| second * SECOND))),
        ("start_time", times((0..3).map(|_| START * SECOND))),
        ("metric_name", words(vec!["process.cpu.time", "process.cpu.time", "jvm.cpu.time"])),
        ("unit", words(vec!["s"; 3])),
        ("metric_kind", words(vec!["sum"; 3])),
        ("temporality", words(vec!["cumulative"; 3])),
        ("is_monotonic", Arc::new(BooleanArray::from(vec![true; 3]))),
        ("series_id", Arc::new(UInt64Array::from(vec![1, 2, 3]))),
        ("value", Arc::new(Float64Array::from(vec![0.9 * total, 0.1 * total, 7.0 * total]))),
        ("service_name", words(vec!["shop"; 3])),
    ];
    batch(Stream::Metrics, 3, given)
}

/// What the archive remembers of so many minutes before `START`, whose mix varied.
fn remembered(minutes: i32) -> RecordBatch {
    let mix = |minute: i32| (20.0 + 10.0 * (f64::from(minute) / 20.0).sin(), 3.0 + 2.0 * (f64::from(minute) / 11.0).sin());
    let rows: Vec<(i32, &str, f64)> =
        (0..minutes).flat_map(|minute| [(minute, "/cheap", mix(minute).0), (minute, "/dear", mix(minute).1)]).collect();
    let ends = rows.iter().map(|(minute, ..)| (START - i64::from(60 * (minutes - 1 - minute))) * SECOND);
    let all = |text: &'static str| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows.len()])) };
    let used = rows.iter().map(|(minute, ..)| cores(mix(*minute).0, mix(*minute).1));
    let columns: [(&str, ArrayRef); 8] = [
        ("window_end", Arc::new(TimestampNanosecondArray::from_iter_values(ends))),
        ("service_name", all("shop")),
        ("service_namespace", all("prod")),
        ("operation", Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, name, _)| *name)))),
        ("http_request_method", all("GET")),
        ("completion_rate", Arc::new(Float64Array::from_iter_values(rows.iter().map(|(.., rate)| *rate)))),
        ("cpu_rate", Arc::new(Float64Array::from_iter_values(used))),
        ("cpu_from", all("process.cpu.time")),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn rows(engine: &Engine) -> RecordBatch {
    let sql = "SELECT * FROM operation_demand WHERE is_final AND window_end = (SELECT max(window_end) FROM operation_demand WHERE is_final)
               ORDER BY operation";
    let batches = engine.tables().query(sql, &[]).await.unwrap_or_else(|error| panic!("{error:?}"));
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn number(rows: &RecordBatch, name: &str, row: usize) -> f64 {
    rows.column_by_name(name).unwrap().as_primitive::<Float64Type>().value(row)
}

/// Guarantees: after 29 windows from the archive nothing is said but what is measured; five live minutes make it thirty, and say what a request of each operation costs
/// and what the service uses without any, in the cores that its replicas ask for. Of two counters the better one counts, with all its modes.
#[tokio::test]
async fn operations_have_their_cost() {
    let advice = judgement::Advice { cores: [(("shop".to_owned(), None), 0.5)].into(), ..judgement::Advice::default() };
    let settings = judgement::Settings { advice, ..judgement::Settings::default() };
    let (parts, _) = shipped::parts(&streams::Config::default(), &settings, Vec::new());
    let mut engine = Engine::with_parts(EngineConfig::default(), parts).await.unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(engine.remembers("operation_demand"));
    // By its name the service passes over two minutes.
    let past = remembered(147);
    // The archive hands out batches that end anywhere.
    engine.teach("operation_demand", &past.slice(0, 101));
    engine.teach("operation_demand", &past.slice(101, past.num_rows() - 101));
    let mut before = None;
    for at in START..START + 420 {
        let now = Timestamp::from_secs(at + 2);
        let mut pushed = vec![(Stream::Spans, spans(at))];
        if at % 10 == 0 && at > START {
            pushed.push((Stream::Metrics, counters(at)));
        }
        engine.push("sender", pushed, now).await.unwrap();
        if at % 5 == 4 {
            let _ = engine.advance(now).await.unwrap();
        }
        if at == START + 240 {
            before = Some(rows(&engine).await);
        }
    }
    let before = before.unwrap();
    let said = ["operation", "http_request_method", "demand_state", "cpu_from", "windows", "cpu_per_request", "idle_cpu"];
    let few = "GET few-windows process.cpu.time 29.0 NULL NULL";
    assert_eq!(text(&before, &said), [format!("/cheap {few}"), format!("/dear {few}")]);
    let after = rows(&engine).await;
    assert_eq!(
        text(&after, &["service_namespace", "operation", "demand_state", "cores", "windows"]),
        ["prod /cheap known 0.5 30.0", "prod /dear known 0.5 30.0"]
    );
    #[expect(clippy::cast_precision_loss, reason = "requests of a second")]
    let (cheap, dear) = (CHEAP as f64, DEAR as f64);
    for (row, column, expected) in [
        (0, "cpu_per_request", 0.005),
        (1, "cpu_per_request", 0.05),
        (0, "idle_cpu", 0.1),
        (0, "completion_rate", cheap),
        (1, "completion_rate", dear),
        (1, "cpu_rate", cores(cheap, dear)),
        (1, "explained", 1.0),
    ] {
        assert!((number(&after, column, row) / expected - 1.0).abs() < 0.02, "{column}: {after:?}");
    }
    assert!(number(&after, "cpu_per_request_error", 1) < 0.005 && number(&after, "condition", 0) < 30.0, "{after:?}");
}
