//! Tests of `increments` with hand-computed series.

use arrow::array::{Array, AsArray, RecordBatch};
use proptest::prelude::*;
use tracescale_core::schema::Stream;

use super::increments::Increments;
use super::testing::{TestPoint, floats, metrics, times};
use super::*;

/// A row of `increments`: time, increment, covered seconds, reset, count, histogram.
type Row = (f64, f64, f64, bool, Option<f64>, Vec<(f64, f64)>);

struct Differ {
    operator: Increments,
    counters: Arc<Counters>,
}

// === impl Differ ===

impl Differ {
    fn new(config: &Config) -> Self {
        let counters = Arc::new(Counters::default());
        Self { operator: Increments::new(config, encode, Arc::clone(&counters)), counters }
    }

    fn push(&mut self, points: &[TestPoint]) -> Vec<Row> {
        self.operator.push(Stream::Metrics, &metrics(points)).unwrap().iter().flat_map(read).collect()
    }
}

/// The weighted values as they are, little-endian.
fn encode(points: &[(f64, f64)]) -> Vec<u8> {
    points.iter().flat_map(|(value, weight)| [value.to_le_bytes(), weight.to_le_bytes()].concat()).collect()
}

fn read(batch: &RecordBatch) -> Vec<Row> {
    let (time, increment, covered, count) =
        (times(batch, "time"), floats(batch, "increment"), floats(batch, "covered_seconds"), floats(batch, "count"));
    let resets = batch.column_by_name("is_reset").unwrap().as_boolean();
    let histograms = batch.column_by_name("histogram").unwrap().as_binary::<i32>();
    let points = |bytes: &[u8]| {
        bytes
            .chunks(16)
            .map(|pair| (f64::from_le_bytes(pair[..8].try_into().unwrap()), f64::from_le_bytes(pair[8..].try_into().unwrap())))
            .collect()
    };
    (0..batch.num_rows())
        .map(|row| {
            let histogram = if histograms.is_valid(row) { points(histograms.value(row)) } else { Vec::new() };
            (time[row], increment[row].unwrap(), covered[row].unwrap(), resets.value(row), count[row], histogram)
        })
        .collect()
}

fn total(rows: &[Row]) -> (f64, f64) {
    rows.iter().fold((0.0, 0.0), |(sum, covered), row| (sum + row.1, covered + row.2))
}

fn cumulative(start: f64, time: f64, value: f64) -> TestPoint {
    TestPoint::sum("cumulative", Some(start), time, value)
}

/// Guarantees: growth between two points is spread over the seconds between them, and nothing is said before the first.
#[test]
fn cumulative_sums() {
    let mut differ = Differ::new(&Config::default());
    assert!(differ.push(&[cumulative(100.0, 1000.0, 50.0)]).is_empty());
    let rows = differ.push(&[cumulative(100.0, 1010.0, 70.0)]);
    assert_eq!(rows.len(), 10);
    assert_eq!((rows[0].0, rows[0].1, rows[0].2, rows[9].0), (1000.0, 2.0, 1.0, 1009.0));
    assert_eq!(differ.counters.increments_base_points.load(Ordering::Relaxed), 1);
}

/// Guarantees: a restart gives the whole value over the time since the new start, once marked as a reset.
#[test]
fn restarts() {
    let mut differ = Differ::new(&Config::default());
    differ.push(&[cumulative(100.0, 1000.0, 50.0)]);
    let rows = differ.push(&[cumulative(1006.0, 1010.0, 8.0)]);
    assert_eq!(total(&rows), (8.0, 4.0));
    assert_eq!(rows.iter().filter(|row| row.3).count(), 1);
    assert_eq!(differ.counters.increments_resets.load(Ordering::Relaxed), 1);
}

/// Guarantees: delta sums add over their own interval only; a gap between two has no row, repetition adds nothing.
#[test]
fn delta_sums() {
    let mut differ = Differ::new(&Config::default());
    let delta = |start, end, value| TestPoint::sum("delta", Some(start), end, value);
    let rows = differ.push(&[delta(10.0, 20.0, 5.0), delta(40.0, 50.0, 6.0), delta(40.0, 50.0, 6.0)]);
    let (sum, covered) = total(&rows);
    assert!((sum - 11.0).abs() < 1e-9 && (covered - 20.0).abs() < 1e-9);
    assert!(rows.iter().all(|row| row.0 < 20.0 || row.0 >= 40.0));
    assert_eq!(differ.counters.increments_stale_points.load(Ordering::Relaxed), 1);
}

/// Guarantees: two writers of one series are seen as such instead of as a restart with every point.
#[test]
fn overlapping_writers() {
    let mut differ = Differ::new(&Config::default());
    let rows = differ.push(&[
        cumulative(100.0, 1000.0, 50.0),
        cumulative(500.0, 1001.0, 7.0),
        cumulative(100.0, 1010.0, 60.0),
        cumulative(500.0, 1011.0, 9.0),
    ]);
    assert_eq!(total(&rows), (10.0, 10.0));
    assert_eq!(differ.counters.increments_overlaps.load(Ordering::Relaxed), 2);
}

/// Guarantees: histograms grow per bucket; values keep their side of each bound, and shares of a slice add up.
#[test]
fn explicit_histograms() {
    let mut differ = Differ::new(&Config::default());
    let point = |time, buckets: [u64; 3], sum| TestPoint {
        kind: "histogram",
        value: None,
        count: Some(buckets.iter().sum()),
        sum: Some(sum),
        bounds: vec![0.1, 1.0],
        buckets: buckets.to_vec(),
        ..cumulative(100.0, time, 0.0)
    };
    differ.push(&[point(1000.0, [5, 5, 5], 10.0)]);
    let rows = differ.push(&[point(1005.0, [15, 10, 6], 14.0)]);
    assert_eq!(rows.len(), 5);
    assert_eq!(total(&rows), (4.0, 5.0));
    assert!((rows.iter().map(|row| row.4.unwrap()).sum::<f64>() - 16.0).abs() < 1e-9);
    let above = |edge: f64| rows.iter().flat_map(|row| &row.5).filter(|(value, _)| *value > edge).map(|(_, weight)| weight).sum::<f64>();
    assert!((above(0.0) - 16.0).abs() < 1e-9 && (above(0.1) - 6.0).abs() < 1e-9 && (above(1.0) - 1.0).abs() < 1e-9);
}

/// Guarantees: exponential histograms grow per bucket, also when the sender lowers its scale; without a sum the buckets give one.
#[test]
fn exponential_histograms() {
    let mut differ = Differ::new(&Config::default());
    let point = |time, scale, offset, buckets: &[u64]| TestPoint {
        kind: "exponential_histogram",
        value: None,
        count: Some(buckets.iter().sum()),
        scale: Some(scale),
        offset: Some(offset),
        buckets: buckets.to_vec(),
        ..cumulative(100.0, time, 0.0)
    };
    differ.push(&[point(1000.0, 3, 0, &[1, 1])]);
    let rows = differ.push(&[point(1001.0, 2, 0, &[4, 3])]);
    assert_eq!(rows.len(), 1);
    // Buckets 0 and 1 of scale 3 are bucket 0 of scale 2: it grew by 2, bucket 1 by 3.
    assert_eq!(rows[0].4, Some(5.0));
    let expected = 2.0 * 2f64.powf(0.125) + 3.0 * 2f64.powf(0.375);
    assert!((rows[0].1 - expected).abs() < 1e-9);
    assert_eq!(rows[0].5.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(), [2.0, 3.0]);
}

/// Guarantees: gauges, points without a value and histograms that contradict themselves give nothing; the last are counted.
#[test]
fn what_does_not_grow() {
    let mut differ = Differ::new(&Config::default());
    let gauge = TestPoint { kind: "gauge", ..cumulative(100.0, 1000.0, 5.0) };
    let empty = TestPoint { series: 2, value: None, ..cumulative(990.0, 1000.0, 5.0) };
    let broken = TestPoint {
        series: 3,
        kind: "histogram",
        count: Some(3),
        buckets: vec![1, 2, 3],
        bounds: vec![1.0],
        ..cumulative(990.0, 1000.0, 5.0)
    };
    let unbounded = TestPoint { series: 4, kind: "histogram", count: Some(4), buckets: vec![4], ..cumulative(990.0, 1000.0, 5.0) };
    assert!(differ.push(&[gauge, empty, broken, unbounded]).is_empty());
    assert_eq!(differ.counters.increments_malformed_points.load(Ordering::Relaxed), 2);
}

/// Guarantees: series are bounded in number, and the silent ones are forgotten in time.
#[test]
fn series_are_bounded() {
    let mut differ = Differ::new(&Config { max_series: 100, ..Config::default() });
    for series in 0..1000u32 {
        differ.push(&[TestPoint { series: u64::from(series), ..cumulative(0.0, 1000.0 + f64::from(series), 1.0) }]);
        assert!(differ.operator.held() <= 100);
    }
    assert!(differ.counters.increments_evicted_series.load(Ordering::Relaxed) >= 900);
    differ.operator.advance(Timestamp::from_secs(10_000)).unwrap();
    assert_eq!(differ.operator.held(), 0);
}

proptest! {
    /// Guarantees: however points are batched, increments add up to the growth and cover the time between first and last point.
    #[test]
    fn increments_telescope(steps in proptest::collection::vec((1u32..60, 0u32..1000), 1..30), cut in 1usize..10) {
        let mut points = vec![cumulative(0.0, 1000.0, 5.0)];
        for (gap, added) in steps {
            let last = points.last().unwrap().clone();
            points.push(TestPoint { time: last.time + f64::from(gap), value: last.value.map(|value| value + f64::from(added)), ..last });
        }
        let mut differ = Differ::new(&Config::default());
        let rows: Vec<Row> = points.chunks(cut).flat_map(|batch| differ.push(batch)).collect();
        let last = points.last().unwrap();
        let (sum, covered) = total(&rows);
        prop_assert!((sum - (last.value.unwrap() - 5.0)).abs() < 1e-6);
        prop_assert!((covered - (last.time - 1000.0)).abs() < 1e-6);
    }
}
