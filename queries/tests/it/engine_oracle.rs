//! The oracle: whatever way rows are cut into batches and ordered within the lateness, final windows are what one plain query
//! over all rows gives, with the same SQL text.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_queries::config::Emission;
use tracescale_queries::snapshot::history_query;

use crate::engine_rows::{Span, engine, spans, text};

struct Case {
    columns: &'static [&'static str],
    select: &'static str,
}

const CASES: [Case; 6] = [
    Case {
        columns: &["window_start", "window_end", "service_name", "n", "errors", "services", "seconds", "mean", "low", "high", "spread"],
        select: "SELECT window_start, window_end, service_name, count(*) AS n, count(*) FILTER (WHERE is_error) AS errors, \
                 count(DISTINCT name) AS services, sum(duration) AS seconds, avg(duration) AS mean, min(duration) AS low, \
                 max(duration) AS high, stddev(duration) AS spread \
                 FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute') GROUP BY window_start, window_end, service_name",
    },
    Case {
        columns: &["window_end", "n", "p50", "p99", "weighted", "rate"],
        select: "SELECT window_end, count(*) AS n, quantile(duration, 0.5) AS p50, quantile(duration, 0.99) AS p99, \
                 quantile(duration, 0.9, adjusted_count) FILTER (WHERE NOT is_error) AS weighted, \
                 sum(adjusted_count) / window_seconds() AS rate \
                 FROM TUMBLE(spans, end_time, INTERVAL '15 seconds') GROUP BY window_end",
    },
    Case {
        columns: &["window_end", "kind", "name", "n", "top"],
        select: "SELECT window_end, kind, name, sum(CASE WHEN is_error THEN 1 ELSE 0 END) AS n, max(duration) AS top \
                 FROM HOP(spans, end_time, INTERVAL '7 seconds', INTERVAL '24 seconds') WHERE kind <> 'CLIENT' \
                 GROUP BY window_start, window_end, kind, name HAVING count(*) > 1",
    },
    Case {
        columns: &["window_end", "first", "n"],
        select: "WITH servers AS (SELECT window_end, end_time, upper(service_name) AS service, duration * 2 AS twice FROM \
                 HOP(spans, end_time, INTERVAL '4 seconds', INTERVAL '10 seconds') s WHERE s.duration > 0.5) \
                 SELECT window_end, substr(service, 1, 1) AS first, count(twice) AS n FROM servers \
                 GROUP BY window_end, substr(service, 1, 1) ORDER BY first",
    },
    Case {
        columns: &["window_end", "services"],
        select: "SELECT window_end, count(DISTINCT service_name) AS services FROM HOP(spans, end_time, INTERVAL '3 seconds', \
                 INTERVAL '9 seconds') GROUP BY window_end",
    },
    Case {
        columns: &["window_end", "service_name", "late_share", "total"],
        select: "SELECT window_end, service_name, histogram_fraction_above(histogram(duration), 1.0) AS late_share, \
                 histogram_count(histogram(duration, adjusted_count)) AS total \
                 FROM HOP(spans, start_time, INTERVAL '5 seconds', INTERVAL '20 seconds') GROUP BY window_end, service_name",
    },
];

const ROLLUP: &str = "SELECT window_end, sum(n) AS total, max(high) AS high FROM base GROUP BY window_end";

fn rows() -> impl Strategy<Value = Vec<Span>> {
    let services = prop::sample::select(vec![Some("cart"), Some("pay"), Some("ship"), None]);
    let row =
        (0..90_000_i64, services, prop::sample::select(vec!["a", "b", "c"]), prop::sample::select(vec!["SERVER", "CLIENT", "CONSUMER"]));
    let row = (row, 0.001..3.0_f64, prop::sample::select(vec![1.0, 2.0, 1.5, 64.0]), any::<bool>());
    let row = row.prop_map(|((millis, service, name, kind), duration, weight, is_error)| Span {
        end: Timestamp::from_millis(1_000_000 + millis),
        service,
        name,
        kind,
        duration,
        weight,
        is_error,
    });
    prop::collection::vec(row, 1..120)
}

/// Rows in batches, in an order that is at most 8 seconds off, so within the lateness of 10.
fn shuffled(mut rows: Vec<Span>, jitter: &[i64], cuts: &[usize]) -> Vec<Vec<Span>> {
    let mut order: Vec<(i64, Span)> =
        rows.drain(..).enumerate().map(|(index, row)| (row.end.as_nanos() / 1_000_000 + jitter[index % jitter.len()], row)).collect();
    order.sort_by_key(|(key, _)| *key);
    let rows: Vec<Span> = order.into_iter().map(|(_, row)| row).collect();
    let mut batches = Vec::new();
    let (mut rest, mut cuts) = (&rows[..], cuts.iter().cycle());
    while !rest.is_empty() {
        let (batch, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
        batches.push(batch.to_vec());
        rest = after;
    }
    batches
}

async fn live(create: &[String], view: &str, batches: &[Vec<Span>], advances: bool) -> Vec<Emission> {
    let create: Vec<&str> = create.iter().map(String::as_str).collect();
    let mut engine = engine(&create).await;
    let mut emissions = Vec::new();
    let mut now = Timestamp::EPOCH;
    for batch in batches {
        now = batch.iter().map(|row| row.end).max().unwrap().max(now);
        engine.push("test", vec![(Stream::Spans, spans(batch))], now).await.unwrap();
        if advances {
            emissions.extend(engine.advance(now).await.unwrap());
        }
    }
    for later in (30..=180).step_by(30) {
        emissions.extend(engine.advance(now + std::time::Duration::from_secs(later)).await.unwrap());
    }
    assert!(engine.stats().late_rows.is_empty());
    assert_eq!(engine.stats().revisions, 0, "rows within the lateness are not late");
    emissions.retain(|emission| emission.is_final && emission.view == view);
    emissions
}

/// Rows of final windows by window, those of silent groups left out, numbers rounded to 9 significant digits.
fn live_rows(emissions: &[Emission], columns: &[&str]) -> BTreeMap<String, usize> {
    let mut shown: Vec<&str> = columns.to_vec();
    shown.push("presence");
    let lines = emissions.iter().flat_map(|emission| text(&emission.rows, &shown));
    count(lines.filter_map(|line| line.strip_suffix(" active").map(str::to_owned)))
}

fn count(lines: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        let rounded: Vec<String> = line.split(' ').map(round).collect();
        *counts.entry(rounded.join(" ")).or_default() += 1;
    }
    counts
}

fn round(word: &str) -> String {
    match word.parse::<f64>() {
        Ok(number) if word.contains('.') || word.contains('e') => {
            let rounded = format!("{number:.8e}");
            if number.abs() < 1e-7 { "0".to_owned() } else { rounded }
        }
        _ => word.to_owned(),
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Guarantees: final windows equal one plain query over all rows, for every split and order within the lateness.
    #[test]
    fn windows_equal_a_plain_query(
        rows in rows(),
        jitter in prop::collection::vec(0..8_000_i64, 1..7),
        cuts in prop::collection::vec(1..40_usize, 1..5),
        advances in any::<bool>(),
        case in 0..CASES.len(),
    ) {
        let Case { columns, select } = &CASES[case];
        let batches = shuffled(rows.clone(), &jitter, &cuts);
        run(async {
            let emissions = live(&[format!("CREATE VIEW base AS {select}")], "base", &batches, advances).await;
            let expected = history_query(select, &[("spans", spans(&rows))]).await.unwrap();
            let expected = count(expected.iter().flat_map(|rows| text(rows, columns)));
            prop_assert_eq!(live_rows(&emissions, columns), expected);
            Ok(())
        })?;
    }

    /// Guarantees: a view of a view equals the same query over the plain result of the inner one.
    #[test]
    fn views_of_views_equal_a_plain_query(rows in rows(), cuts in prop::collection::vec(1..40_usize, 1..5)) {
        let inner = CASES[0].select;
        let batches = shuffled(rows.clone(), &[0], &cuts);
        run(async {
            let create = [format!("CREATE VIEW base AS {inner}"), format!("CREATE VIEW sums AS {ROLLUP}")];
            let emissions = live(&create, "sums", &batches, true).await;
            let plain = history_query(&format!("WITH base AS ({inner}) {ROLLUP}"), &[("spans", spans(&rows))]).await.unwrap();
            let expected = count(plain.iter().flat_map(|rows| text(rows, &["window_end", "total", "high"])));
            let mut got = count(emissions.iter().flat_map(|emission| text(&emission.rows, &["window_end", "total", "high"])));
            // Windows in which every group was silent have rows here and none in a plain query.
            got.retain(|line, _| !line.ends_with(" 0 NULL") && !line.ends_with(" NULL NULL"));
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }
}
