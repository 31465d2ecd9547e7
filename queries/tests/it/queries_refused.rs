//! What no query may contain is told where the SQL is read, before anything of it is computed.

use std::time::Duration;

use tracescale_queries::snapshot::history_query;
use tracescale_queries::{Engine, EngineConfig, EngineParts, QueryError, QueryLimits, ViewSource};

/// Expressions that take all memory or minutes while they are planned.
const HUGE: [(&str, &str); 15] = [
    ("array_length(range(0, 10000000000))", "range"),
    ("array_length(Generate_Series(0, 10000000000))", "generate_series"),
    ("length(repeat('x', 2000000000))", "repeat"),
    ("length(\"repeat\"('x', 2000000000))", "repeat"),
    ("length(lpad('x', 2000000000))", "lpad"),
    ("length(rpad('x', 2000000000, 'y'))", "rpad"),
    ("array_length(array_repeat(1, 2000000000))", "array_repeat"),
    ("array_length(list_resize([1], 2000000000))", "list_resize"),
    ("arrow_cast(NULL, 'FixedSizeBinary(2000000000)')", "arrow_cast"),
    ("array_length(CAST(NULL AS INT[2000000000]))", "INT[2000000000]"),
    ("NULL::INT[2000000000][]", "INT[2000000000][]"),
    ("(SELECT max(1) FROM (VALUES (1, 2)) v(a, b) GROUP BY CUBE (a, b, a + 1, a + 2, a + 3))", "CUBE"),
    ("CAST(NULL AS STRUCT<a INT[2000000000]>)", "INT[2000000000]"),
    ("(SELECT count(*) FROM range(0, 10000000000))", "range"),
    ("(SELECT count(*) FROM (SELECT unnest(range(0, 10000000000))))", "range"),
];

/// Guarantees: a query whose result is as large as a number in it is refused with a hint, wherever in the query it stands.
#[tokio::test]
async fn what_grows_with_a_number_is_refused() {
    for (expression, named) in HUGE {
        let error = history_query(&format!("WITH a AS (SELECT {expression} AS x) SELECT x FROM a"), &[]).await.unwrap_err();
        let QueryError::Invalid { message, hint, .. } = &error else { panic!("{expression}: {error:?}") };
        assert!(message.contains(named) && hint.is_some(), "{expression}: {error}");
    }
    // Ordinary calls stay what they are.
    for (expression, expected) in [("array_slice([1, 2, 3], 1, 2)", "[1, 2]"), ("replace('a_b', '_', '-')", "a-b")] {
        let rows = history_query(&format!("SELECT {expression} AS x"), &[]).await.unwrap();
        let text = cell(&rows[0]);
        assert_eq!(text, expected);
    }
}

/// Guarantees: our aggregates say that they have no DISTINCT, rather than to pass it over or to fail inside; those of DataFusion have it.
#[tokio::test]
async fn our_aggregates_have_no_distinct() {
    let from = "FROM (VALUES (1.0, 2.0), (1.0, 2.0)) v(n, x)";
    for call in ["usl_single(DISTINCT n, x)", "USL_CONTENTION(DISTINCT n, n)", "quantile(DISTINCT n, 0.5)", "histogram(DISTINCT n)"] {
        let error = history_query(&format!("SELECT {call} AS y {from}"), &[]).await.unwrap_err();
        let QueryError::Invalid { message, hint: Some(_), .. } = &error else { panic!("{call}: {error:?}") };
        assert!(message.contains("has no DISTINCT"), "{call}: {error}");
    }
    assert_eq!(cell(&history_query(&format!("SELECT count(DISTINCT n) AS y {from}"), &[]).await.unwrap()[0]), "1");
}

/// Guarantees: what would overflow the stack of a thread is refused, however deep it is, and what is not too deep is planned.
#[tokio::test]
async fn what_is_too_deep_is_refused() {
    let sum = |operators: usize| format!("SELECT 1{} AS x", "+1".repeat(operators));
    let cast = |casts: usize| format!("SELECT 1{} AS x", "::INT".repeat(casts));
    let unions = |unions: usize| format!("SELECT 1 AS x{}", " UNION ALL SELECT 1".repeat(unions));
    let tables = |tables: usize| {
        format!("SELECT 1 AS x FROM (SELECT 1) a0{}", (1..tables).map(|table| format!(", (SELECT 1) a{table}")).collect::<String>())
    };
    let deep: [&dyn Fn(usize) -> String; 4] = [&sum, &cast, &unions, &tables];
    for sql in deep {
        assert!(history_query(&sql(90), &[]).await.is_ok(), "{:.40}", sql(90));
        for levels in [102, 1_000, 4_000, 30_000] {
            let error = history_query(&sql(levels), &[]).await.unwrap_err();
            assert!(matches!(&error, QueryError::Invalid { hint: Some(_), .. }), "{:.40}: {error}", sql(levels));
        }
    }
    let view = format!("CREATE VIEW a AS SELECT window_end, max({}) AS x FROM b GROUP BY window_end", vec!["1"; 4_000].join(" + "));
    let views = vec![ViewSource { name: "v".into(), sql: view, origin: "v.sql".into() }];
    let problems = Engine::with_parts(EngineConfig::default(), EngineParts { views, ..EngineParts::default() }).await.unwrap_err();
    assert!(problems[0].message.contains("more than 100 levels"), "{problems:?}");
}

/// Guarantees: the same holds for views over streams and for views over views.
#[tokio::test]
async fn views_are_refused_likewise() {
    let over_stream = "CREATE VIEW a AS SELECT window_end, array_length(range(0, 10000000000)) AS x, lpad('x', 2000000000) AS y \
         FROM TUMBLE(spans, end_time, INTERVAL '1 minute') GROUP BY window_end";
    let over_view = "CREATE VIEW c AS SELECT window_end, repeat('x', 2000000000) AS x FROM b";
    let plain = "CREATE VIEW b AS SELECT window_end, count(*) AS n FROM TUMBLE(spans, end_time, INTERVAL '1 minute') GROUP BY window_end";
    let endless = "CREATE VIEW d AS SELECT b.window_end, x.n FROM b, \
         (WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 AS n FROM t) SELECT n FROM t) AS x";
    let views =
        [over_stream, over_view, endless, plain].map(|sql| ViewSource { name: "v".into(), sql: sql.into(), origin: "v.sql".into() });
    let parts = EngineParts { views: views.into(), ..EngineParts::default() };
    let problems = Engine::with_parts(EngineConfig::default(), parts).await.unwrap_err();
    let of =
        |view: &str, word: &str| problems.iter().any(|wrong| wrong.view == view && wrong.message.contains(word) && wrong.hint.is_some());
    assert!(of("v", "RECURSIVE") && of("a", "range") && of("a", "lpad") && of("c", "repeat"), "{problems:?}");
}

/// Guarantees: a recursion without end ends at the time limit.
#[tokio::test]
async fn an_endless_recursion_ends_at_the_limit() {
    let engine = Engine::with_parts(EngineConfig::default(), EngineParts::default()).await.unwrap();
    let sql = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 AS n FROM t) SELECT max(n) FROM t";
    let limits = QueryLimits { time: Duration::from_millis(300), ..QueryLimits::default() };
    let error = engine.tables().query_within(sql, &[], limits).await.unwrap_err();
    assert!(matches!(error, QueryError::TimedOut { .. }), "{error:?}");
}

fn cell(rows: &arrow::record_batch::RecordBatch) -> String {
    arrow::util::display::array_value_to_string(rows.column(0), 0).unwrap()
}
