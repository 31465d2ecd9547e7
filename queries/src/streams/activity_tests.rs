//! Tests of `activity` against the hand-computed example of the models.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::testing::{SECOND, TestSpan, floats, spans, texts, times};
use super::*;
use crate::streams::activity::Activity;

type Sums = BTreeMap<(Option<String>, i64), [f64; 5]>;

fn entry(start: f64, end: f64) -> TestSpan {
    TestSpan::new(1, 1, 0, "SERVER", "shop", start, end)
}

fn run(config: &Config, batches: &[Vec<TestSpan>]) -> (Sums, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let mut operator = Activity::new(config, Arc::clone(&counters));
    let mut sums = Sums::new();
    for batch in batches {
        for rows in operator.push(tracescale_core::schema::Stream::Spans, &spans(batch)).unwrap() {
            let columns =
                ["arrivals", "completions", "busy_seconds", "completed_seconds", "adjusted_count_squares"].map(|name| floats(&rows, name));
            let services = texts(&rows, "service_instance_id");
            for (row, time) in times(&rows, "time").into_iter().enumerate() {
                let sum = sums.entry((services[row].clone(), testing::nanos(time) / SECOND)).or_default();
                for (place, column) in columns.iter().enumerate() {
                    sum[place] += column[row].unwrap();
                }
            }
        }
    }
    (sums, counters)
}

fn over(sums: &Sums, from: i64, to: i64, column: usize) -> f64 {
    sums.iter().filter(|((_, second), _)| (from..to).contains(second)).map(|(_, sum)| sum[column]).sum()
}

fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() < 1e-9, "{actual} is not {expected}");
}

/// Guarantees: over [10, 20) the reference spans give L = 1.85, λ = 0.3, X = 0.2; the end at 20 lies outside.
#[test]
fn reference_window() {
    let rows: Vec<_> =
        [(8.0, 12.0), (9.0, 21.0), (11.0, 11.5), (15.0, 25.0), (19.0, 20.0), (5.0, 9.0)].map(|(start, end)| entry(start, end)).to_vec();
    let (sums, counters) = run(&Config::default(), &[rows]);
    close(over(&sums, 10, 20, 2) / 10.0, 1.85);
    close(over(&sums, 10, 20, 0) / 10.0, 0.3);
    close(over(&sums, 10, 20, 1) / 10.0, 0.2);
    close(over(&sums, 10, 20, 3), 4.5);
    assert!(counters.snapshot().iter().all(|(_, count)| *count == 0));
}

/// Guarantees: sampled spans count as many as they stand for, in every column; other kinds of spans do not count.
#[test]
fn adjusted_counts_weigh() {
    let sampled = TestSpan { count: 4.0, ..entry(0.5, 1.5) };
    let client = TestSpan { kind: "CLIENT", entry: false, ..entry(0.5, 1.5) };
    let (sums, _) = run(&Config::default(), &[vec![sampled, client]]);
    close(over(&sums, 0, 1, 2), 2.0);
    close(over(&sums, 1, 2, 2), 2.0);
    for (found, expected) in sums[&(Some("a".to_owned()), 1)].iter().zip([0.0, 4.0, 2.0, 4.0, 16.0]) {
        close(*found, expected);
    }
}

/// Guarantees: of a span longer than the cap the end and its last part are there, and the cut is counted.
#[test]
fn long_spans_are_cut_and_counted() {
    let config = Config { longest_span: Duration::from_secs(10), ..Config::default() };
    let (sums, counters) = run(&config, &[vec![entry(0.0, 100.0)]]);
    close(over(&sums, 0, 200, 2), 10.0);
    close(over(&sums, 0, 200, 0), 0.0);
    close(over(&sums, 0, 200, 1), 1.0);
    close(over(&sums, 0, 200, 3), 100.0);
    assert_eq!(counters.activity_truncated_spans.load(Ordering::Relaxed), 1);
}

/// Guarantees: clocks at the ends of time neither panic nor loop.
#[test]
fn extreme_clocks() {
    let (sums, _) = run(&Config::default(), &[vec![entry(-9.2e9, 9.2e9), entry(9.2e9, -9.2e9)]]);
    close(over(&sums, i64::MIN, i64::MAX, 1), 2.0);
}

proptest! {
    /// Guarantees: any order and any split into batches gives the same sums, and no busy time is lost.
    #[test]
    fn splits_and_orders_agree(
        rows in proptest::collection::vec((0u32..60_000, 0u32..20_000, 0usize..3, 1u32..4), 1..60),
        cuts in proptest::collection::vec(1usize..20, 1..10),
        seed in any::<u64>(),
    ) {
        let rows: Vec<TestSpan> = rows.iter().map(|(start, length, instance, count)| TestSpan {
            instance: ["a", "b", ""][*instance],
            count: f64::from(*count),
            ..entry(f64::from(*start) / 1e3, f64::from(start + length) / 1e3)
        }).collect();
        let (whole, _) = run(&Config::default(), std::slice::from_ref(&rows));
        let expected: f64 = rows.iter().map(|row| row.count * (row.end - row.start)).sum();
        prop_assert!((over(&whole, 0, 1000, 2) - expected).abs() < 1e-6);

        let (split, _) = run(&Config::default(), &testing::shuffled(&rows, &cuts, seed));
        prop_assert_eq!(whole.keys().collect::<Vec<_>>(), split.keys().collect::<Vec<_>>());
        for (key, sums) in &whole {
            for (left, right) in sums.iter().zip(&split[key]) {
                prop_assert!((left - right).abs() < 1e-6, "{:?}", key);
            }
        }
    }
}
