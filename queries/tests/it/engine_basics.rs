//! Windows come out when and as they should: provisional, final, idle, missing, late.

use std::sync::Arc;

use arrow::array::{BinaryArray, DictionaryArray, Int32Array};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use tracescale_core::attributes::Value;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_queries::snapshot::history_query;

use crate::engine_rows::{engine, last, span, spans, text};

const LOAD: &str = "CREATE VIEW load AS SELECT window_start, window_end, service_name, count(*) AS requests, sum(duration) AS seconds, \
     max(duration) AS slowest, stddev(duration) AS spread FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '10 seconds') \
     WHERE kind = 'SERVER' GROUP BY window_start, window_end, service_name HAVING count(*) >= 0";

fn at(second: i64) -> Timestamp {
    Timestamp::from_secs(second)
}

/// Guarantees: a window is provisional at its slide and final at the watermark, and panes merge to the whole window.
#[tokio::test]
async fn emits_provisional_then_final() {
    let mut engine = engine(&[LOAD]).await;
    engine.push("a", vec![(Stream::Spans, spans(&[span(1_001_000, "cart", 1.0), span(1_004_000, "cart", 2.0)]))], at(1_004)).await.unwrap();
    assert!(engine.advance(at(1_004)).await.unwrap().is_empty());
    engine.push("a", vec![(Stream::Spans, spans(&[span(1_006_000, "cart", 4.0), span(1_007_000, "pay", 1.0)]))], at(1_007)).await.unwrap();
    let provisional = engine.advance(at(1_010)).await.unwrap();
    assert_eq!(provisional.len(), 1);
    assert!(!provisional[0].is_final);
    let columns = ["service_name", "requests", "seconds", "slowest", "is_final", "presence"];
    assert_eq!(text(&last(&provisional, "load", 1_010).rows, &columns), ["cart 3 7.0 4.0 false active", "pay 1 1.0 1.0 false active"]);
    let finals = engine.advance(at(1_026)).await.unwrap();
    assert!(last(&finals, "load", 1_010).is_final);
    assert_eq!(text(&last(&finals, "load", 1_010).rows, &columns), ["cart 3 7.0 4.0 true active", "pay 1 1.0 1.0 true active"]);
    assert_eq!(last(&finals, "load", 1_010).evidence_time, at(1_007));
}

/// Guarantees: a silent service whose source still speaks is idle with zero counts; a silent source makes it missing, with
/// NULL in every measured column.
#[tokio::test]
async fn idle_is_not_missing() {
    let mut engine = engine(&[LOAD]).await;
    let both = [span(1_001_000, "cart", 1.0), span(1_002_000, "pay", 1.0)];
    engine.push("a", vec![(Stream::Spans, spans(&both))], at(1_002)).await.unwrap();
    engine.push("b", vec![(Stream::Spans, spans(&[span(1_002_000, "lone", 1.0)]))], at(1_002)).await.unwrap();
    let mut emissions = Vec::new();
    for second in (1_005..1_100).step_by(5) {
        engine.push("a", vec![(Stream::Spans, spans(&[span(second * 1_000 - 1, "cart", 1.0)]))], at(second)).await.unwrap();
        emissions.extend(engine.advance(at(second)).await.unwrap());
    }
    let columns = ["service_name", "requests", "seconds", "spread", "presence", "age"];
    let provisional = emissions.iter().rfind(|emission| !emission.is_final && emission.window_end == at(1_095)).unwrap();
    assert_eq!(
        text(&provisional.rows, &columns),
        ["cart 2 2.0 0.0 active 0.001", "lone NULL NULL NULL missing 93.0", "pay 0 NULL NULL idle 93.0"]
    );
}

/// Guarantees: windows are emitted on time when traffic stops altogether.
#[tokio::test]
async fn emits_without_traffic() {
    let mut engine = engine(&[LOAD]).await;
    engine.push("a", vec![(Stream::Spans, spans(&[span(1_001_000, "cart", 1.0)]))], at(1_002)).await.unwrap();
    engine.advance(at(1_005)).await.unwrap();
    assert_eq!(engine.next_deadline(), Some(at(1_010)));
    engine.advance(at(1_010)).await.unwrap();
    engine.advance(at(1_015)).await.unwrap();
    let emissions = engine.advance(at(1_020)).await.unwrap();
    let provisional = emissions.iter().find(|emission| !emission.is_final).unwrap();
    assert_eq!(provisional.window_end, at(1_020));
    assert_eq!(text(&provisional.rows, &["service_name", "requests", "presence"]), ["cart 0 idle"]);
}

/// Guarantees: a late row reaches every window that holds it, although their panes were merged into blocks long before.
#[tokio::test]
async fn late_rows_reach_merged_panes() {
    const MINUTE: &str = "CREATE VIEW minute AS SELECT window_end, service_name, count(*) AS n, quantile(duration, 1.0) AS top \
         FROM HOP(spans, end_time, INTERVAL '1 second', INTERVAL '1 minute') GROUP BY window_end, service_name";
    let mut engine = engine(&[MINUTE]).await;
    for second in 1_000..1_100 {
        engine.push("a", vec![(Stream::Spans, spans(&[span(second * 1_000, "cart", 1.0)]))], at(second)).await.unwrap();
        engine.advance(at(second)).await.unwrap();
    }
    engine.push("a", vec![(Stream::Spans, spans(&[span(1_045_500, "cart", 8.0)]))], at(1_100)).await.unwrap();
    let mut revised = Vec::new();
    for second in 1_100..1_110 {
        revised.extend(engine.advance(at(second)).await.unwrap().into_iter().filter(|emission| emission.revision == 1));
    }
    // The watermark is at 1,089: ten seconds behind the newest row.
    let ends: Vec<i64> = revised.iter().map(|emission| emission.window_end.as_nanos() / 1_000_000_000).collect();
    assert_eq!(ends, (1_046..=1_089).collect::<Vec<_>>());
    for emission in revised {
        let rows = emission.window_end.as_nanos() / 1_000_000_000 - 1_000;
        assert!(
            text(&emission.rows, &["n", "top"])[0].starts_with(&format!("{} 8.0", rows.min(60) + 1)),
            "{:?}",
            text(&emission.rows, &["n", "top"])
        );
    }
}

/// Guarantees: a late row within the allowed lateness emits its windows again with the next revision; a later one is
/// counted for its service.
#[tokio::test]
async fn late_rows_revise_or_are_counted() {
    let mut engine = engine(&[LOAD]).await;
    engine.push("a", vec![(Stream::Spans, spans(&[span(1_001_000, "cart", 1.0)]))], at(1_002)).await.unwrap();
    engine.push("a", vec![(Stream::Spans, spans(&[span(1_040_000, "cart", 1.0)]))], at(1_040)).await.unwrap();
    let finals = engine.advance(at(1_040)).await.unwrap();
    assert_eq!(text(&last(&finals, "load", 1_005).rows, &["requests", "revision"]), ["1 0"]);
    engine.push("a", vec![(Stream::Spans, spans(&[span(1_002_000, "cart", 1.0), span(900_000, "pay", 1.0)]))], at(1_041)).await.unwrap();
    let again = engine.advance(at(1_045)).await.unwrap();
    assert_eq!(text(&last(&again, "load", 1_005).rows, &["requests", "revision", "is_final"]), ["2 1 true"]);
    assert_eq!(text(&last(&again, "load", 1_010).rows, &["requests", "revision", "is_final"]), ["2 1 true"]);
    assert_eq!(engine.stats().late_rows[&(Stream::Spans, "pay".to_owned())], 1);
}

/// Guarantees: views of views and window functions run when what they read was emitted, and queries see the histories.
#[tokio::test]
async fn views_of_views_and_queries() {
    let trend = "CREATE VIEW trend AS SELECT window_end, service_name, requests, requests - lag(requests) OVER (PARTITION BY service_name \
                 ORDER BY window_end) AS change FROM load";
    let mut engine = engine(&[trend, LOAD]).await;
    for second in 1_001..1_030 {
        let rows: Vec<_> = (0..(second - 1_000)).map(|_| span(second * 1_000 - 500, "cart", 1.0)).collect();
        engine.push("a", vec![(Stream::Spans, spans(&rows))], at(second)).await.unwrap();
        engine.advance(at(second)).await.unwrap();
    }
    let snapshot = engine.tables();
    let rows = snapshot.query("SELECT window_end, requests, change, presence FROM trend WHERE window_end = latest()", &[]).await.unwrap();
    assert_eq!(text(&rows[0], &["window_end", "requests", "change", "presence"]), ["1970-01-01T00:17:05 205 50 active"]);
    let hopped = snapshot
        .query(
            "SELECT window_end, sum(requests) AS n FROM TUMBLE(load, window_end, INTERVAL '10 seconds') GROUP BY window_end ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    assert!(!hopped.is_empty());
}

/// Guarantees: attributes without a column are reached by name, as text, as number and by subscript, live and over history.
#[tokio::test]
async fn attributes_are_reached_by_key() {
    let mut attributes = Vec::new();
    tracescale_core::attributes::push(&mut attributes, "tenant", Value::Text("blue"));
    tracescale_core::attributes::push(&mut attributes, "items", Value::Integer(7));
    let plain = spans(&[span(1_001_000, "cart", 1.0), span(1_001_500, "cart", 1.0)]);
    let schema = plain.schema();
    let mut columns = plain.columns().to_vec();
    columns[schema.index_of("attributes").unwrap()] = Arc::new(BinaryArray::from_vec(vec![&attributes, &attributes]));
    let resource = BinaryArray::from_vec(vec![&attributes]);
    let resource = DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![0, 0]), Arc::new(resource)).unwrap();
    columns[schema.index_of("resource_attributes").unwrap()] = Arc::new(resource);
    let batch = RecordBatch::try_new(schema, columns).unwrap();
    let select = "SELECT window_end, attributes['tenant'] AS tenant, attribute(resource_attributes, 'tenant') AS owner, \
                  sum(attribute_number(attributes, 'items')) AS items, count(attribute(attributes, 'absent')) AS absent \
                  FROM TUMBLE(spans, end_time, INTERVAL '5 seconds') \
                  GROUP BY window_end, attributes['tenant'], attribute(resource_attributes, 'tenant')";
    let mut engine = engine(&[&format!("CREATE VIEW tenants AS {select}")]).await;
    engine.push("a", vec![(Stream::Spans, batch.clone())], at(1_002)).await.unwrap();
    let live = engine.advance(at(1_005)).await.unwrap();
    let plain = history_query(select, &[("spans", batch)]).await.unwrap();
    let columns = ["tenant", "owner", "items", "absent"];
    assert_eq!(text(&live[0].rows, &columns), ["blue blue 14.0 0"]);
    assert_eq!(text(&plain[0], &columns), ["blue blue 14.0 0"]);
}

/// Guarantees: windows spelled as the SQL standard has it are the same windows, live and over history, under their alias too; the
/// one spelling that the parser does not know is told with the one that it does.
#[tokio::test]
async fn the_standard_spelling_of_windows_is_read() {
    let batch = spans(&[span(1_001_000, "cart", 1.0), span(1_003_000, "cart", 2.0)]);
    let select = |from: &str| {
        format!("SELECT w.window_end, count(*) AS requests, sum(w.duration) AS seconds FROM {from} AS w GROUP BY w.window_end")
    };
    let rest = "INTERVAL '5' SECOND, INTERVAL '10' SECOND)";
    let spellings = [
        format!("HOP(spans, end_time, {rest}"),
        format!("HOP(TABLE(spans), DESCRIPTOR(end_time), {rest}"),
        format!("TABLE(HOP(TABLE(spans), DESCRIPTOR(end_time), {rest})"),
        format!("table(hop(spans, descriptor(end_time), {rest})"),
    ];
    for spelling in &spellings {
        let select = select(spelling);
        let mut engine = engine(&[&format!("CREATE VIEW load AS {select}")]).await;
        engine.push("a", vec![(Stream::Spans, batch.clone())], at(1_003)).await.unwrap();
        let live = engine.advance(at(1_005)).await.unwrap();
        assert_eq!(text(&live[0].rows, &["requests", "seconds"]), ["2 3.0"], "{spelling}");
        let plain = history_query(&select, &[("spans", batch.clone())]).await.unwrap();
        let rows: Vec<_> = plain.iter().flat_map(|rows| text(rows, &["requests", "seconds"])).collect();
        assert_eq!(rows, ["2 3.0", "2 3.0"], "{spelling}");
    }
    let unknown = history_query(&select("HOP(TABLE spans, DESCRIPTOR(end_time), INTERVAL '5 seconds', INTERVAL '10 seconds')"), &[]).await;
    assert!(unknown.unwrap_err().to_string().contains("write HOP(stream, time_column"));
}
