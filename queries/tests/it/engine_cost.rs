//! What a row costs: run with `cargo test --release --workspace --test it -- --nocapture cost`.

use std::time::Duration;

use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;

use crate::engine_rows::{Span, engine, spans};

const SERVICES: [&str; 20] =
    ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15", "s16", "s17", "s18", "s19"];
const VIEWS: [(&str, &str); 4] = [
    (
        "count by service",
        "CREATE VIEW a AS SELECT window_end, service_name, count(*) AS n FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute') GROUP BY window_start, window_end, service_name",
    ),
    (
        "five sums by service and namespace",
        "CREATE VIEW b AS SELECT window_end, service_name, service_namespace, count(*) AS n, sum(duration) AS s, avg(duration) AS m, max(duration) AS h, sum(adjusted_count) AS w FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute') WHERE kind IN ('SERVER', 'CONSUMER') GROUP BY window_start, window_end, service_name, service_namespace",
    ),
    (
        "two quantiles by service",
        "CREATE VIEW c AS SELECT window_end, service_name, quantile(duration, 0.5) AS p50, quantile(duration, 0.99) AS p99 FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute') GROUP BY window_start, window_end, service_name",
    ),
    (
        "operations",
        "CREATE VIEW d AS SELECT window_end, service_name, name, kind, count(*) AS n, quantile(duration, 0.99) AS p99, count(*) FILTER (WHERE is_error) AS e FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute') GROUP BY window_start, window_end, service_name, name, kind",
    ),
];

/// Guarantees: aggregating a row costs less than decoding it would (a loose bound, so that a slow machine does not fail it).
#[tokio::test]
async fn cost_per_row_is_bounded() {
    let names = ["op0", "op1", "op2", "op3", "op4", "op5", "op6", "op7"];
    let rows: Vec<Span> = (0..8192_usize)
        .map(|index| Span {
            end: Timestamp::from_millis(1_000_000 + (index as i64 * 7_919) % 10_000),
            service: Some(SERVICES[index * 31 % 20]),
            name: names[index * 17 % 8],
            kind: "SERVER",
            duration: (index as f64 * 0.618).fract() * 0.5 + 0.001,
            weight: 1.0,
            is_error: index % 50 == 0,
        })
        .collect();
    // As requests arrive: 512 spans each.
    let batches: Vec<_> = rows.chunks(512).map(|rows| (Stream::Spans, spans(rows))).collect();
    let rounds: u32 = if cfg!(debug_assertions) { 2 } else { 60 };
    for (what, sql) in VIEWS {
        let mut engine = engine(&[sql]).await;
        engine.push("warm", batches.clone(), Timestamp::from_secs(1_010)).await.unwrap();
        let before = cpu();
        for _ in 0..rounds {
            engine.push("test", batches.clone(), Timestamp::from_secs(1_010)).await.unwrap();
        }
        let per_row = (cpu() - before) / (rounds * 8192);
        let before = cpu();
        let emitted = engine.advance(Timestamp::from_secs(1_010)).await.unwrap().len();
        println!("{what}: {per_row:?} per row, {:?} per emission ({emitted})", cpu() - before);
        assert!(per_row < Duration::from_micros(if cfg!(debug_assertions) { 100 } else { 2 }), "{what}: {per_row:?}");
    }
}

/// Processor time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}
