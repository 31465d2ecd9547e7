//! What must hold whatever comes: refusals say what to write, clocks may jump, groups and history are bounded.

use std::time::Duration;

use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_queries::config::EngineConfig;
use tracescale_queries::engine::Engine;
use tracescale_queries::problem::QueryError;
use tracescale_queries::snapshot::QueryLimits;

use crate::engine_rows::{engine, engine_with, last, span, spans, text, views};

const HOP: &str = "HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '10 seconds')";

fn at(second: i64) -> Timestamp {
    Timestamp::from_secs(second)
}

fn load() -> String {
    format!("CREATE VIEW load AS SELECT window_end, service_name, count(*) AS n FROM {HOP} GROUP BY window_end, service_name")
}

async fn problems(sql: &[&str]) -> Vec<(String, String)> {
    let problems = Engine::new(EngineConfig::default(), views(sql)).await.err().unwrap_or_default();
    problems.into_iter().map(|problem| (format!("{}: {}", problem.view, problem.message), problem.hint.unwrap_or_default())).collect()
}

/// Guarantees: a view that cannot be kept per pane is refused, with the offending part and what to write in its place.
#[tokio::test]
async fn refusals_name_the_node_and_the_way_out() {
    let group = "GROUP BY window_start, window_end, service_name";
    let cases: [(String, &str, &str); 19] = [
        (format!("SELECT window_end, array_agg(name) FROM {HOP} {group}"), "array_agg", "count(DISTINCT x)"),
        (format!("SELECT window_end, median(duration) AS m FROM {HOP} {group}"), "median", "quantile(x, 0.5)"),
        (
            format!("SELECT window_end, approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY duration) AS p FROM {HOP} {group}"),
            "approx_percentile_cont",
            "quantile(x, probability)",
        ),
        (format!("SELECT window_end, sum(DISTINCT duration) AS s FROM {HOP} {group}"), "DISTINCT", "leave out DISTINCT"),
        (format!("SELECT window_end, last_value(name ORDER BY end_time) AS l FROM {HOP} {group}"), "last_value", "min or max"),
        (
            format!("SELECT window_end, count(*) AS n, lag(count(*)) OVER (ORDER BY window_end) AS l FROM {HOP} {group}"),
            "window functions",
            "second view",
        ),
        (format!("SELECT window_end, count(*) AS n FROM {HOP} {group} LIMIT 3"), "Limit", "second view"),
        (format!("SELECT DISTINCT window_end, service_name FROM {HOP}"), "Distinct", "second view"),
        (format!("SELECT window_end, count(*) AS n FROM {HOP} WHERE end_time > now() - INTERVAL '1 hour' {group}"), "now()", "window_end"),
        (format!("SELECT window_end, sum(random()) AS n FROM {HOP} {group}"), "random()", "window_end"),
        (format!("SELECT window_end, count(*) AS n FROM {HOP} WHERE duration > (SELECT 1.0) {group}"), "sub-query", "second view"),
        (format!("SELECT window_end, count(*) AS n FROM {HOP} WHERE window_end > end_time {group}"), "window column", "HAVING"),
        (
            format!("SELECT service_name, count(*) AS n FROM {HOP} GROUP BY service_name"),
            "group by the window",
            "GROUP BY window_start, window_end",
        ),
        (format!("SELECT service_name, count(*) AS n FROM {HOP} {group}"), "window_end", "select window_end"),
        (
            "SELECT service_name, count(*) AS n FROM spans GROUP BY service_name".to_owned(),
            "stream spans has no end",
            "FROM HOP(spans, end_time",
        ),
        (
            "SELECT window_end, count(*) AS n FROM HOP(spans, end_time, INTERVAL '1 minute', INTERVAL '5 seconds') GROUP BY window_end"
                .to_owned(),
            "slide",
            "third argument",
        ),
        (
            "SELECT window_end, count(*) AS n FROM HOP(spans, end_time, '5s', INTERVAL '1 minute') GROUP BY window_end".to_owned(),
            "'5s'",
            "INTERVAL '5 seconds'",
        ),
        (
            "SELECT window_end, count(*) AS n FROM TUMBLE(spans, name, INTERVAL '1 minute') GROUP BY window_end".to_owned(),
            "not a timestamp",
            "",
        ),
        ("SELECT window_end FROM nowhere".to_owned(), "no view or stream nowhere", "spans"),
    ];
    for (select, message, hint) in cases {
        let found = problems(&[&format!("CREATE VIEW v AS {select}")]).await;
        let matches = found.iter().any(|(text, way)| text.contains(message) && way.contains(hint));
        assert!(matches, "{select}\n{found:#?}");
    }
}

/// Guarantees: every problem of every view is reported at once, with the view and its file; views in a circle are refused.
#[tokio::test]
async fn all_problems_at_once() {
    let found = problems(&[
        "CREATE VIEW a AS SELECT window_end FROM b",
        "CREATE VIEW b AS SELECT window_end FROM a",
        "CREATE VIEW c AS SELEC",
        "SELECT 1",
        "CREATE VIEW d AS SELECT window_end, nothing FROM load",
        &load(),
        &load(),
        "CREATE VIEW spans AS SELECT window_end FROM load",
    ])
    .await;
    let text: Vec<&str> = found.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(found.len(), 7, "{found:#?}");
    for part in ["a: the view reads b", "b: the view reads a", "test: ", "found: SELECT 1", "d: ", "already defined", "name of a stream"] {
        assert!(text.iter().any(|text| text.contains(part)), "{part}: {found:#?}");
    }
}

/// Guarantees: groups beyond the limit are summed up in one visible group, are counted, and nothing is lost from the total.
#[tokio::test]
async fn excess_groups_overflow_visibly() {
    let config = EngineConfig { max_groups_per_view: 2, ..EngineConfig::default() };
    let mut engine = engine_with(config, &[&load()]).await;
    let rows: Vec<_> = ["a", "b", "c", "d", "c"].into_iter().map(|service| span(1_001_000, service, 1.0)).collect();
    engine.push("x", vec![(Stream::Spans, spans(&rows))], at(1_001)).await.unwrap();
    let emitted = engine.advance(at(1_005)).await.unwrap();
    assert_eq!(text(&emitted[0].rows, &["service_name", "n", "presence"]), ["_overflow 3 active", "a 1 active", "b 1 active"]);
    assert_eq!(engine.stats().overflowed["load"], 2);
}

/// Guarantees: a sender whose clock is ahead neither closes windows nor disappears; its rows count as now and are counted.
#[tokio::test]
async fn future_rows_do_not_close_windows() {
    let mut engine = engine(&[&load()]).await;
    let rows = [span(1_001_000, "ok", 1.0), span(9_999_000_000, "ahead", 1.0)];
    engine.push("x", vec![(Stream::Spans, spans(&rows))], at(1_001)).await.unwrap();
    let emitted = engine.advance(at(1_010)).await.unwrap();
    assert!(emitted.iter().all(|emission| !emission.is_final));
    assert_eq!(text(&last(&emitted, "load", 1_010).rows, &["service_name", "n"]), ["ahead 1", "ok 1"]);
    assert_eq!(engine.stats().future_rows[&(Stream::Spans, "x".to_owned())], 1);
}

/// Guarantees: after the clock jumps a day ahead and back, emissions stay bounded and the next slide emits what came since.
#[tokio::test]
async fn clock_jumps_neither_flood_nor_stall() {
    let mut engine = engine(&[&load()]).await;
    engine.push("x", vec![(Stream::Spans, spans(&[span(100_001_000, "a", 1.0)]))], at(100_001)).await.unwrap();
    engine.advance(at(100_005)).await.unwrap();
    let ahead = at(100_005 + 86_400);
    let jumped = engine.advance(ahead).await.unwrap();
    assert!(jumped.len() <= 65, "{}", jumped.len());
    let back = engine.advance(at(100_006)).await.unwrap();
    assert!(back.len() <= 65, "{}", back.len());
    engine.push("x", vec![(Stream::Spans, spans(&[span(100_008_000, "a", 1.0)]))], at(100_008)).await.unwrap();
    let next = engine.advance(at(100_010)).await.unwrap();
    assert_eq!(text(&last(&next, "load", 100_010).rows, &["service_name", "n", "presence"]), ["a 1 active"]);
    assert_eq!(engine.stats().clock_steps, 1);
}

/// Guarantees: history stays within its bytes, dropping the oldest windows; forgotten groups leave no rows.
#[tokio::test]
async fn history_and_groups_are_bounded() {
    let config = EngineConfig { history_bytes: 20_000, group_ttl: Duration::from_secs(100), ..EngineConfig::default() };
    let mut engine = engine_with(config, &[&load()]).await;
    engine.push("x", vec![(Stream::Spans, spans(&[span(1_000_000, "gone", 1.0)]))], at(1_000)).await.unwrap();
    for second in (1_005..2_000).step_by(5) {
        engine.push("x", vec![(Stream::Spans, spans(&[span(second * 1_000 - 1, "here", 1.0)]))], at(second)).await.unwrap();
        engine.advance(at(second)).await.unwrap();
    }
    assert!(engine.stats().history_bytes <= 20_000, "{}", engine.stats().history_bytes);
    assert!(engine.stats().pane_bytes < 200_000, "{}", engine.stats().pane_bytes);
    assert_eq!(engine.stats().groups["load"], 1);
    let rows = engine.tables().query("SELECT service_name FROM load WHERE window_end = latest()", &[]).await.unwrap();
    assert_eq!(text(&rows[0], &["service_name"]), ["here"]);
}

/// Guarantees: queries say where they are wrong, cannot change anything, and end when their time or memory is used up.
#[tokio::test]
async fn queries_are_restricted() {
    let mut engine = engine(&[&load()]).await;
    engine.push("x", vec![(Stream::Spans, spans(&[span(1_001_000, "a", 1.0)]))], at(1_001)).await.unwrap();
    engine.advance(at(1_005)).await.unwrap();
    let snapshot = engine.tables();
    for (sql, part) in [
        ("DROP TABLE load", "only queries"),
        ("CREATE TABLE t (x INT)", "only queries"),
        ("SELECT * FROM load; SELECT 1", "2 SQL statements"),
        ("SELECT * FROM spans", "there is no view spans; there are: load"),
        ("SELECT missing FROM load", "missing"),
        ("SELECT window_end FROM load WHERE", "Expected"),
    ] {
        let error = snapshot.query(sql, &[]).await.unwrap_err();
        assert!(matches!(error, QueryError::Invalid { .. }) && error.to_string().contains(part), "{sql}: {error}");
    }
    let error = snapshot.query("SELECT\n  missing FROM load", &[]).await.unwrap_err();
    assert!(error.to_string().contains("line 2, column 3"), "{error}");
    let numbers = "WITH n AS (SELECT * FROM (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) v(x)) \
                   SELECT a.x + 10 * b.x + 100 * c.x + 1000 * d.x + 10000 * e.x AS y FROM n a, n b, n c, n d, n e ORDER BY y";
    let limits = QueryLimits { memory: 200_000, ..QueryLimits::default() };
    assert!(matches!(snapshot.query_within(numbers, &[], limits).await, Err(QueryError::Failed { .. })));
}

/// Guarantees: a view whose SQL fails on some row is counted and says why; other views go on.
#[tokio::test]
async fn a_failing_view_does_not_stop_the_others() {
    let bad =
        format!("CREATE VIEW bad AS SELECT window_end, sum(CAST(name AS BIGINT)) AS n FROM {HOP} GROUP BY window_end HAVING count(*) > 0");
    let mut engine = engine(&[&bad, &load()]).await;
    engine.push("x", vec![(Stream::Spans, spans(&[span(1_001_000, "a", 1.0)]))], at(1_001)).await.unwrap();
    let emitted = engine.advance(at(1_005)).await.unwrap();
    assert_eq!(text(&last(&emitted, "load", 1_005).rows, &["n"]), ["1"]);
    assert!(engine.stats().failures["bad"].1.contains("op"), "{:?}", engine.stats().failures);
}
