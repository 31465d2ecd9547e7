//! The shipped models over live windows: what they learn, whom they blame, and what they remember.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::datatypes::Float64Type;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_queries::config::EngineConfig;
use tracescale_queries::engine::Engine;
use tracescale_queries::{judgement, shipped, streams};

use crate::engine_rows::text;
use crate::streams_engine::{batch, times, words};
use crate::streams_sql::files;

const MILLI: i64 = 1_000_000;
/// A whole minute, so that windows are easy to follow.
const START: i64 = 1_767_225_600;
/// Traces in a second.
const RATE: i64 = 12;

/// One span: id, parent, kind, service, begin and end in milliseconds.
type Span = (u8, u8, &'static str, &'static str, i64, i64);

/// A request to cart, 40 ms of its own, that calls stock, which works for 30 ms after `wait` milliseconds in front of it.
fn trace(begin: i64, wait: i64) -> [Span; 3] {
    let called = begin + 20;
    let served = called + wait;
    [
        (1, 0, "SERVER", "cart", begin, served + 30 + 20),
        (2, 1, "CLIENT", "cart", called, served + 30),
        (3, 2, "SERVER", "stock", served, served + 30),
    ]
}

/// A second's traces; `wait` says how long the call of the trace with that number waits.
fn second(second: i64, wait: impl Fn(i64) -> i64) -> RecordBatch {
    let spans: Vec<(i64, Span)> = (0..RATE)
        .flat_map(|place| {
            let begin = second * 1000 + place * 1000 / RATE;
            trace(begin, wait(second * RATE + place)).map(|span| (begin, span))
        })
        .collect();
    let ids = |width, id: &dyn Fn(&(i64, Span)) -> Option<Vec<u8>>| -> ArrayRef {
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(spans.iter().map(id), width).unwrap())
    };
    let entry: BooleanArray = spans.iter().map(|(_, span)| Some(span.2 == "SERVER")).collect();
    let durations = spans.iter().map(|(_, span)| f64::from(u32::try_from(span.5 - span.4).unwrap()) / 1000.0);
    let given: Vec<(&str, ArrayRef)> = vec![
        ("start_time", times(spans.iter().map(|(_, span)| span.4 * MILLI))),
        ("end_time", times(spans.iter().map(|(_, span)| span.5 * MILLI))),
        ("duration", Arc::new(Float64Array::from_iter_values(durations))),
        ("trace_id", ids(16, &|(begin, _)| Some([&[0; 8][..], &begin.to_be_bytes()].concat()))),
        ("span_id", ids(8, &|(_, span)| Some(vec![0, 0, 0, 0, 0, 0, 0, span.0]))),
        ("parent_span_id", ids(8, &|(_, span)| (span.1 > 0).then(|| vec![0, 0, 0, 0, 0, 0, 0, span.1]))),
        ("kind", words(spans.iter().map(|(_, span)| span.2).collect())),
        ("service_name", words(spans.iter().map(|(_, span)| span.3).collect())),
        ("service_instance_id", words(vec!["one"; spans.len()])),
        ("name", words(vec!["GET /"; spans.len()])),
        ("is_entry", Arc::new(entry)),
        ("adjusted_count", Arc::new(Float64Array::from(vec![1.0; spans.len()]))),
    ];
    batch(Stream::Spans, spans.len(), given)
}

/// The CPU of stock in a second, as agents send it who know no namespaces: by `mode`, one series each.
fn by_mode(second: i64, shares: &[f64]) -> RecordBatch {
    let count = shares.len();
    let given: Vec<(&str, ArrayRef)> = vec![
        ("time", times((0..count).map(|_| second * 1000 * MILLI))),
        ("metric_name", words(vec!["process.cpu.utilization"; count])),
        ("metric_kind", words(vec!["gauge"; count])),
        ("temporality", words(vec!["unspecified"; count])),
        ("series_id", Arc::new(UInt64Array::from_iter_values(1..=count as u64))),
        ("value", Arc::new(Float64Array::from(shares.to_vec()))),
        ("service_name", words(vec!["stock"; count])),
        ("service_instance_id", words(vec!["one"; count])),
    ];
    batch(Stream::Metrics, count, given)
}

async fn engine() -> Engine {
    engine_with(&judgement::Settings::default()).await
}

async fn engine_with(settings: &judgement::Settings) -> Engine {
    let (parts, _) = shipped::parts(&streams::Config::default(), settings, Vec::new());
    Engine::with_parts(EngineConfig::default(), parts).await.unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Feeds seconds `from..to`; time moves on every five.
async fn feed(engine: &mut Engine, from: i64, to: i64, wait: impl Fn(i64) -> i64) {
    for at in from..to {
        let now = Timestamp::from_secs(START + at + 2);
        engine.push("sender", vec![(Stream::Spans, second(START + at, &wait))], now).await.unwrap();
        if at % 5 == 4 {
            let _ = engine.advance(now).await.unwrap();
        }
    }
}

async fn rows(engine: &Engine, sql: &str) -> RecordBatch {
    let batches = engine.tables().query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn number(rows: &RecordBatch, name: &str, row: usize) -> f64 {
    rows.column_by_name(name).unwrap().as_primitive::<Float64Type>().value(row)
}

/// Guarantees: a steady service with room for its requests is calibrated to its own time, its load is forecast as it is, nobody is blamed, and a successor
/// that is taught the same windows says the same without having seen a span.
#[tokio::test]
async fn steady_services_are_learned() {
    let servers = ["cart", "stock"].map(|name| ((name.to_owned(), None), 4.0)).into();
    let advice = judgement::Advice { servers, ..judgement::Advice::default() };
    let mut engine = engine_with(&judgement::Settings { advice, ..judgement::Settings::default() }).await;
    feed(&mut engine, 0, 600, |_| 2).await;
    let queue = rows(&engine, "SELECT * FROM service_queue WHERE window_end = latest() ORDER BY service_name").await;
    assert_eq!(text(&queue, &["service_name", "servers_from", "model_state"]), ["cart said calibrating", "stock said calibrating"]);
    assert!((number(&queue, "service_time", 0) - 0.042).abs() < 0.003, "{queue:?}");
    assert!((number(&queue, "service_time", 1) - 0.030).abs() < 0.001);
    assert!((number(&queue, "utilization", 1) - 0.09).abs() < 0.01);
    let sql = "SELECT * FROM service_forecast WHERE window_end = latest() AND service_name = 'cart' ORDER BY horizon";
    let forecast = rows(&engine, sql).await;
    assert_eq!(forecast.num_rows(), 5);
    for row in 0..5 {
        assert!((number(&forecast, "forecast", row) - 12.0).abs() < 0.1, "{forecast:?}");
        assert!(number(&forecast, "p95", row) >= number(&forecast, "p50", row));
    }
    let cause = rows(&engine, "SELECT * FROM service_cause WHERE window_end = latest() ORDER BY service_name").await;
    assert_eq!(text(&cause, &["service_name", "cause", "more_helps"]), ["cart NULL unknown", "stock NULL unknown"]);

    let mut successor = self::engine().await;
    let minutes = rows(&engine, "SELECT * FROM service_sojourn WHERE is_final ORDER BY window_end").await;
    assert!(successor.remembers("service_sojourn") && !successor.remembers("service_errors"));
    successor.teach("service_sojourn", &minutes);
    let calibrated = rows(&engine, "SELECT * FROM service_queue WHERE is_final ORDER BY window_end").await;
    successor.teach("service_queue", &calibrated);
    feed(&mut successor, 600, 610, |_| 2).await;
    let known = rows(&successor, "SELECT * FROM service_queue WHERE window_end = latest() ORDER BY service_name").await;
    assert!((number(&known, "service_time", 0) - number(&queue, "service_time", 0)).abs() < 1e-3);
}

/// Guarantees: when requests queue in front of a callee, it is named as the cause with a queue's mark, more of it helps, and more of
/// its caller does not; when every call takes longer by the same time, it is the network and more of nobody helps.
#[tokio::test]
async fn the_callee_is_blamed_not_the_victim() {
    let mut engine = engine().await;
    feed(&mut engine, 0, 480, |_| 2).await;
    // A standing queue of varying length.
    feed(&mut engine, 480, 600, |trace| 200 + (trace * 7919) % 800).await;
    let sql = "SELECT * FROM service_cause WHERE window_end = latest() ORDER BY service_name";
    let cause = rows(&engine, sql).await;
    let said = text(&cause, &["service_name", "cause", "cause_kind", "more_helps", "blocked_by"]);
    assert_eq!(said, ["cart stock capacity no stock", "stock stock capacity yes NULL"]);

    let mut engine = self::engine().await;
    feed(&mut engine, 0, 480, |_| 2).await;
    feed(&mut engine, 480, 600, |trace| 400 + trace % 3).await;
    let cause = rows(&engine, sql).await;
    let said = text(&cause, &["service_name", "cause", "cause_kind", "more_helps"]);
    assert_eq!(said, ["cart stock network no", "stock stock network no"]);
}

/// Guarantees: what comes to the front door accounts for what is called behind it, also when the callee is not heard of, and the
/// forecast at the door announces the callee's load.
#[tokio::test]
async fn the_door_announces_what_is_behind_it() {
    let mut engine = engine().await;
    feed(&mut engine, 0, 600, |_| 2).await;
    let sql = "SELECT * FROM service_flow WHERE window_end = latest() ORDER BY service_name";
    let flow = rows(&engine, sql).await;
    assert_eq!(text(&flow, &["service_name", "bottleneck"]), ["cart cart", "stock NULL"]);
    for (column, row, expected) in
        [("called_rate", 1, 12.0), ("outside_share", 0, 1.0), ("outside_share", 1, 0.0), ("visits", 1, 1.0), ("announced", 1, 12.0)]
    {
        assert!((number(&flow, column, row) - expected).abs() < 0.05 * expected.max(0.2), "{column}: {flow:?}");
    }
    assert!(number(&flow, "announced_p90", 1) >= 12.0 && number(&flow, "growth_most", 0) > 1.5);
    let callees = rows(&engine, "SELECT * FROM service_callees WHERE window_end = latest()").await;
    assert_eq!(text(&callees, &["service_name", "callee", "is_sure", "retry_factor"]), ["cart stock 1.0 NULL"]);
    assert!((number(&callees, "calls_per_request", 0) - 1.0).abs() < 0.02, "{callees:?}");
    assert!(number(&callees, "calls_per_request_error", 0) < 0.05 && number(&callees, "learned_samples", 0) > 3000.0, "{callees:?}");
    assert!(flow.column_by_name("called_rate").unwrap().is_null(0) && flow.column_by_name("announced").unwrap().is_null(0));
}

/// Guarantees: a process that says its CPU by mode is as busy as its modes together, though its mean looks idle, and though its agent
/// knows no namespace: more of it helps.
#[tokio::test]
async fn a_busy_process_is_not_idle_by_mode() {
    let sql = "SELECT * FROM service_cause WHERE window_end = latest() AND service_name = 'stock'";
    let mut engine = engine().await;
    for (from, to, wait, shares) in [(0, 480, 2, [0.2, 0.1, 0.0]), (480, 600, 200, [0.8, 0.15, 0.0])] {
        for at in from..to {
            let now = Timestamp::from_secs(START + at + 2);
            let delay = |trace: i64| if wait > 2 { wait + (trace * 7919) % 800 } else { wait };
            let spans = second(START + at, delay);
            let spans = with(&spans, "service_namespace", words(vec!["shop"; spans.num_rows()]));
            engine.push("sender", vec![(Stream::Spans, spans), (Stream::Metrics, by_mode(START + at, &shares))], now).await.unwrap();
            if at % 5 == 4 {
                let _ = engine.advance(now).await.unwrap();
            }
        }
    }
    let cause = rows(&engine, sql).await;
    assert_eq!(text(&cause, &["cause", "cause_kind", "more_helps"]), ["shop/stock capacity yes"]);
    assert!((number(&cause, "utilization", 0) - 0.95).abs() < 1e-9, "{cause:?}");
    let gauges = rows(&engine, "SELECT * FROM metric_gauges WHERE window_end = latest()").await;
    assert_eq!(text(&gauges, &["series", "instances"]), ["3 1"]);
}

/// Guarantees: where senders sample, one slow span among a dozen is blamed on nobody, though each stands for hundreds of requests.
#[tokio::test]
async fn one_slow_sample_is_no_cause() {
    let mut engine = engine().await;
    for at in 0..600 {
        let now = Timestamp::from_secs(START + at + 2);
        // Of 48 traces in four seconds one is kept; a single one is slow.
        if at % 4 == 0 {
            let kept = second(START + at, |_| if at == 560 { 9000 } else { 2 }).slice(0, 3);
            let weights = Arc::new(Float64Array::from(vec![48.0; kept.num_rows()]));
            engine.push("sender", vec![(Stream::Spans, with(&kept, "adjusted_count", weights))], now).await.unwrap();
        }
        if at % 5 == 4 {
            let _ = engine.advance(now).await.unwrap();
        }
    }
    let calls = rows(&engine, "SELECT * FROM calls WHERE window_end = latest()").await;
    assert!((number(&calls, "call_rate", 0) - 12.0).abs() < 1.0 && number(&calls, "wait_mean", 0) > 0.1, "{calls:?}");
    let cause = rows(&engine, "SELECT * FROM service_cause WHERE window_end = latest() ORDER BY service_name").await;
    assert_eq!(text(&cause, &["service_name", "cause", "more_helps"]), ["cart NULL unknown", "stock NULL unknown"]);
}

/// Rows with another column.
fn with(rows: &RecordBatch, column: &str, values: ArrayRef) -> RecordBatch {
    let mut columns = rows.columns().to_vec();
    columns[rows.schema_ref().index_of(column).unwrap()] = values;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

/// Guarantees: a service without requests has no variation of its own time, rather than none at all.
#[tokio::test]
async fn an_idle_service_has_no_variation() {
    let mut engine = engine().await;
    feed(&mut engine, 0, 30, |_| 2).await;
    let _ = engine.advance(Timestamp::from_secs(START + 150)).await.unwrap();
    let sql = "SELECT * FROM service_self_time WHERE service_name = 'stock' ORDER BY window_end";
    let own = rows(&engine, sql).await;
    let [mean, scv] = ["mean", "scv"].map(|name| own.column_by_name(name).unwrap());
    assert!(mean.null_count() > 0 && mean.null_count() < own.num_rows(), "{own:?}");
    assert_eq!(mean.logical_nulls(), scv.logical_nulls());
}

/// Guarantees: a service that was promised something has a plan, which is as complete as the pulse that it follows, though longer
/// windows that end with it are not; and a promise that is taken back leaves none.
#[tokio::test]
async fn plans_are_as_complete_as_their_pulse() {
    let promise = judgement::Promise { latency: 0.5, quantile: 0.99 };
    let advice = judgement::Advice { promises: [(("cart".to_owned(), None), promise)].into(), ..judgement::Advice::default() };
    let mut engine = engine_with(&judgement::Settings { advice, ..judgement::Settings::default() }).await;
    feed(&mut engine, 0, 300, |_| 2).await;
    let newest = "(SELECT max(window_end) FROM service_plan WHERE is_final)";
    let sql = format!("SELECT * FROM service_plan WHERE is_final AND window_end = {newest}");
    let plan = rows(&engine, &sql).await;
    assert_eq!(text(&plan, &["service_name", "plan_reason"]), ["cart prior"], "{plan:?}");
    assert!((number(&plan, "completeness", 0) - 1.0).abs() < 1e-9 && number(&plan, "replicas", 0) >= 1.0, "{plan:?}");
    engine.advise(&judgement::Advice::default());
    let count = "SELECT count(*) + 0.0 AS count FROM service_plan";
    let before = number(&rows(&engine, count).await, "count", 0);
    feed(&mut engine, 300, 330, |_| 2).await;
    let after = number(&rows(&engine, count).await, "count", 0);
    assert!(before > 0.0 && after <= before, "{before} {after}");
}

/// Guarantees: in a query that is planned once, `now()` is the time of the snapshot that it runs on, by any of its names.
#[tokio::test]
async fn now_is_when_a_query_runs() {
    let mut engine = engine().await;
    feed(&mut engine, 0, 60, |_| 2).await;
    let first = engine.tables();
    let sql =
        "SELECT extract(epoch FROM now()) + 0.0 AS now, extract(epoch FROM current_timestamp) + 0.0 AS same FROM service_load LIMIT 1";
    let mut prepared = first.prepare(sql, &[]).await.unwrap_or_else(|error| panic!("{error:?}"));
    let before = prepared.run(&first, &[]).await.unwrap();
    feed(&mut engine, 60, 120, |_| 2).await;
    let after = prepared.run(&engine.tables(), &[]).await.unwrap();
    for (rows, second) in [(&before[0], 59 + 2), (&after[0], 119 + 2)] {
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        let expected = (START + second) as f64;
        assert!((number(rows, "now", 0) - expected).abs() < 1e-3 && (number(rows, "same", 0) - expected).abs() < 1e-3, "{rows:?}");
    }
}

/// The SQL of a shipped rule.
fn rule(name: &str) -> String {
    let text = &files("rules", "yaml")[name];
    let sql = text.split_once("  sql: |\n").unwrap().1;
    sql.split_once("\n  policy:").unwrap().0.to_owned()
}

/// Guarantees: the shipped rule on utilization answers where nobody sends a span, of gauges that know no namespace too; once the gauges stop coming its row is `missing` and has no answer, rather than zero.
#[tokio::test]
async fn utilization_needs_no_spans() {
    let targets: Vec<(&str, ArrayRef)> = vec![
        ("target", Arc::new(StringArray::from(vec!["any", "shop", "unheard"]))),
        ("service_name", Arc::new(StringArray::from(vec!["stock", "stock", "cart"]))),
        ("service_namespace", Arc::new(StringArray::from(vec![None, Some("shop"), None]))),
        ("ready", Arc::new(Int64Array::from(vec![Some(4); 3]))),
    ];
    let targets =
        [("targets", RecordBatch::try_from_iter_with_nullable(targets.into_iter().map(|(name, column)| (name, column, true))).unwrap())];
    let sql = rule("utilization");
    let answers = async |engine: &Engine| {
        let batches = engine.tables().query(&sql, &targets).await.unwrap_or_else(|error| panic!("{error:?}"));
        let rows = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        let said = |row: usize| {
            let replicas = rows.column_by_name("replicas").unwrap().is_valid(row).then(|| number(&rows, "replicas", row));
            let said = replicas.map_or_else(|| "NULL".to_owned(), |replicas| format!("{replicas:.3}"));
            format!("{} {said}", text(&rows.slice(row, 1), &["target", "presence"])[0])
        };
        let mut said: Vec<_> = (0..rows.num_rows()).map(said).collect();
        said.sort();
        said
    };
    let mut engine = engine().await;
    for at in 0..120 {
        let now = Timestamp::from_secs(START + at + 2);
        engine.push("sender", vec![(Stream::Metrics, by_mode(START + at, &[0.4, 0.3, 0.0]))], now).await.unwrap();
        if at % 5 == 4 {
            let _ = engine.advance(now).await.unwrap();
        }
    }
    assert_eq!(answers(&engine).await, ["any active 4.000", "shop active 4.000", "unheard NULL NULL"]);
    let usage = rows(&engine, "SELECT * FROM service_usage WHERE window_end = latest()").await;
    assert_eq!(text(&usage, &["service_name", "cpu_used", "history_days"]), ["stock NULL NULL"]);
    // Somebody else still speaks, so that time goes on.
    for at in 120..300 {
        let now = Timestamp::from_secs(START + at + 2);
        let other = by_mode(START + at, &[0.1]);
        let other = with(&other, "service_name", words(vec!["other"]));
        engine.push("another", vec![(Stream::Metrics, other)], now).await.unwrap();
        if at % 5 == 4 {
            let _ = engine.advance(now).await.unwrap();
        }
    }
    assert_eq!(answers(&engine).await, ["any missing NULL", "shop missing NULL", "unheard NULL NULL"]);
    let usage = rows(&engine, "SELECT * FROM service_usage WHERE window_end = latest() ORDER BY service_name").await;
    assert_eq!(text(&usage, &["service_name", "presence", "utilization"]), ["other active 0.1", "stock missing NULL"]);
}
