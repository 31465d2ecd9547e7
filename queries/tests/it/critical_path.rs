//! `service_critical_path` over traffic of which a part is slow, for a known reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_queries::config::EngineConfig;
use tracescale_queries::engine::Engine;
use tracescale_queries::{judgement, shipped, streams};

use crate::streams_engine::{batch, times, words};

const MILLI: i64 = 1_000_000;

/// Span, parent, kind, service, begin and end in milliseconds.
type Span = (u8, u8, &'static str, &'static str, i64, i64);

/// A request to web, which calls till for 30 ms and then stock, and works 50 ms itself.
fn trace(stock: i64) -> [Span; 5] {
    [
        (1, 0, "SERVER", "web", 0, 80 + stock),
        (2, 1, "CLIENT", "web", 10, 40),
        (3, 2, "SERVER", "till", 10, 40),
        (4, 1, "CLIENT", "web", 50, 50 + stock),
        (5, 4, "SERVER", "stock", 50, 50 + stock),
    ]
}

/// Ten traces that begin within this second; in one of them stock takes 420 ms instead of 20.
fn spans(second: i64) -> RecordBatch {
    let trace = |place: i64| trace(if place == 0 { 420 } else { 20 }).map(|span| (second * 1000 + place * 50, span));
    let rows: Vec<(i64, Span)> = (0..10).flat_map(trace).collect();
    let column = |of: fn(&Span) -> &'static str| words(rows.iter().map(|(_, span)| of(span)).collect());
    let id = |number: u8| [&[0; 7][..], &[number]].concat();
    let ids = |width, id: &dyn Fn(&(i64, Span)) -> Option<Vec<u8>>| -> ArrayRef {
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(rows.iter().map(id), width).unwrap())
    };
    batch(
        Stream::Spans,
        rows.len(),
        vec![
            ("start_time", times(rows.iter().map(|(base, span)| (base + span.4) * MILLI))),
            ("end_time", times(rows.iter().map(|(base, span)| (base + span.5) * MILLI))),
            ("duration", Arc::new(Float64Array::from_value(0.1, rows.len()))),
            ("trace_id", ids(16, &|(base, _)| Some([&[0; 8][..], &base.to_be_bytes()].concat()))),
            ("span_id", ids(8, &|(_, span)| Some(id(span.0)))),
            ("parent_span_id", ids(8, &|(_, span)| (span.1 > 0).then(|| id(span.1)))),
            ("kind", column(|span| span.2)),
            ("service_name", column(|span| span.3)),
            ("is_entry", Arc::new(rows.iter().map(|(_, span)| Some(span.2 == "SERVER")).collect::<BooleanArray>())),
            ("adjusted_count", Arc::new(Float64Array::from_value(1.0, rows.len()))),
        ],
    )
}

/// The columns of the newest final window by service, NULL as NaN.
async fn newest(engine: &Engine, columns: [&str; 4]) -> BTreeMap<String, [f64; 4]> {
    let sql = format!(
        "SELECT service_name, {} FROM service_critical_path
         WHERE root_service = 'web' AND root_namespace IS NULL
           AND window_end = (SELECT max(window_end) FROM service_critical_path WHERE is_final)",
        columns.join(", ")
    );
    let mut rows = BTreeMap::new();
    for batch in engine.tables().query(&sql, &[]).await.unwrap() {
        let names = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
        for row in 0..batch.num_rows() {
            let value = |place: usize| {
                let column = batch.column(place + 1).as_primitive::<Float64Type>();
                if column.is_valid(row) { column.value(row) } else { f64::NAN }
            };
            rows.insert(names.as_string::<i32>().value(row).to_owned(), std::array::from_fn(value));
        }
    }
    rows
}

async fn engine(seconds: i64) -> Engine {
    let (parts, _) = shipped::parts(&streams::Config::default(), &judgement::Settings::default(), Vec::new());
    let mut engine = Engine::with_parts(EngineConfig::default(), parts).await.unwrap_or_else(|problems| panic!("{problems:#?}"));
    for second in 1000..1135 {
        let rows = if second < 1135 - seconds { Vec::new() } else { vec![(Stream::Spans, spans(second))] };
        engine.push("a", rows, Timestamp::from_secs(second + 1)).await.unwrap();
        if (second + 1) % 5 == 0 {
            engine.advance(Timestamp::from_secs(second + 1)).await.unwrap();
        }
    }
    engine
}

/// Guarantees: shares are of the duration of all traces, of the slowest twentieth and of the usual ones; the service that makes
/// traces slow has the highest excess, those that are as ever have less of slow traces; the shares of all services add up to 1.
#[tokio::test]
async fn the_cause_of_slow_traces_has_the_highest_excess() {
    let rows = newest(&engine(135).await, ["path_share", "slow_share", "usual_share", "excess"]).await;
    let expected = [
        ("stock", [60.0 / 140.0, 420.0 / 500.0, 0.2, 0.64]),
        ("till", [30.0 / 140.0, 30.0 / 500.0, 0.3, -0.24]),
        ("web", [50.0 / 140.0, 50.0 / 500.0, 0.5, -0.4]),
    ];
    assert_eq!(rows.len(), expected.len());
    for (service, values) in expected {
        for (found, expected) in rows[service].iter().zip(values) {
            assert!((found - expected).abs() < 1e-5, "{service}: {:?}, expected {values:?}", rows[service]);
        }
    }
    for column in 0..3 {
        assert!((rows.values().map(|row| row[column]).sum::<f64>() - 1.0).abs() < 1e-5, "{rows:?}");
    }
}
