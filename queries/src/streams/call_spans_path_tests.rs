//! Tests of the critical path in `call_spans`: whose time a trace is made of, and when nobody can tell.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use proptest::prelude::*;
use tracescale_core::schema::Stream;
use tracescale_models::interval::{Node, Span, critical_path};

use super::call_spans::CallSpans;
use super::call_spans_tests::forest;
use super::testing::{TestSpan, floats, nanos, shuffled, spans, texts, times};
use super::*;

/// One row of a path, comparable.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
struct Path {
    end: f64,
    client: Option<String>,
    server: Option<String>,
    matched: bool,
    error: bool,
    count: f64,
    time: Option<f64>,
    root: Option<f64>,
}

struct Matcher {
    operator: CallSpans,
    counters: Arc<Counters>,
    rows: Vec<Path>,
}

// === impl Matcher ===

impl Matcher {
    fn new(config: &Config) -> Self {
        let counters = Arc::new(Counters::default());
        Self { operator: CallSpans::new(config, Arc::clone(&counters)), counters, rows: Vec::new() }
    }

    fn push(&mut self, rows: &[TestSpan]) {
        let rows = self.operator.push(Stream::Spans, &spans(rows)).unwrap();
        self.rows.extend(read(&rows));
    }

    fn advance(&mut self, seconds: f64) {
        let rows = self.operator.advance(Timestamp::from_nanos(nanos(seconds))).unwrap();
        self.rows.extend(read(&rows));
    }

    fn unknown(&self) -> u64 {
        self.counters.calls_unknown_paths.load(Ordering::Relaxed)
    }
}

fn read(batches: &[RecordBatch]) -> Vec<Path> {
    let mut rows = Vec::new();
    for batch in batches {
        let (kinds, clients, servers) = (texts(batch, "call_kind"), texts(batch, "client_service"), texts(batch, "server_service"));
        let (paths, roots, counts) = (floats(batch, "path_time"), floats(batch, "root_duration"), floats(batch, "adjusted_count"));
        let flag = |name: &str, row| batch.column_by_name(name).unwrap().as_boolean().value(row);
        for row in 0..batch.num_rows() {
            if kinds[row].as_deref() != Some("path") {
                assert_eq!((paths[row], roots[row]), (None, None), "only rows of paths have them");
                continue;
            }
            rows.push(Path {
                end: times(batch, "end_time")[row],
                client: clients[row].clone(),
                server: servers[row].clone(),
                matched: flag("matched", row),
                error: flag("is_error", row),
                count: counts[row].unwrap(),
                time: paths[row],
                root: roots[row],
            });
        }
    }
    rows
}

/// The path times by service after everything has come, and how many roots had none.
fn paths(config: &Config, rows: &[TestSpan]) -> (BTreeMap<String, Option<f64>>, u64) {
    let mut matcher = Matcher::new(config);
    matcher.push(rows);
    matcher.advance(10_000.0);
    assert_eq!(matcher.operator.held(), (0, 0));
    let times = matcher.rows.iter().map(|row| (row.server.clone().unwrap(), row.time)).collect::<BTreeMap<_, _>>();
    assert_eq!(times.len(), matcher.rows.len(), "one row for each service");
    (times, matcher.unknown())
}

fn known<const N: usize>(times: [(&str, f64); N]) -> (BTreeMap<String, Option<f64>>, u64) {
    (times.into_iter().map(|(service, time)| (service.to_owned(), Some(time))).collect(), 0)
}

fn unknown<const N: usize>(services: [&str; N]) -> (BTreeMap<String, Option<f64>>, u64) {
    (services.into_iter().map(|service| (service.to_owned(), None)).collect(), 1)
}

/// A call from `shop` and what answers it, as two spans.
fn call(id: u64, parent: u64, service: &'static str, client: (f64, f64), server: (f64, f64)) -> [TestSpan; 2] {
    [
        TestSpan::new(1, id, parent, "CLIENT", "shop", client.0, client.1),
        TestSpan::new(1, id + 1, id, "SERVER", service, server.0, server.1),
    ]
}

fn root(start: f64, end: f64) -> TestSpan {
    TestSpan::new(1, 1, 0, "SERVER", "shop", start, end)
}

/// Guarantees: the reference trace, root [0,100] with A [10,40], B [30,80], C [85,95] in services of their own, gives B 50, C 10,
/// the root's service 40, and A, which nobody waited for, zero.
#[test]
fn reference_trace() {
    let config = Config { trace_ttl: Duration::from_secs(200), ..Config::default() };
    let mut rows = vec![root(0.0, 100.0)];
    for (id, service, start, end) in [(10, "a", 10.0, 40.0), (20, "b", 30.0, 80.0), (30, "c", 85.0, 95.0)] {
        rows.extend(call(id, 1, service, (start, end), (start, end)));
    }
    assert_eq!(paths(&config, &rows), known([("shop", 40.0), ("a", 0.0), ("b", 50.0), ("c", 10.0)]));
}

/// Guarantees: a row says when the root ended, whose request it was, how long it took, whether it failed and how many traces it
/// stands for: a service below a sampled one is seen as rarely as that.
#[test]
fn a_row_speaks_of_the_root() {
    let mut matcher = Matcher::new(&Config::default());
    let [client, server] = call(2, 1, "stock", (0.25, 0.75), (0.375, 0.625));
    let below = TestSpan::new(1, 4, 3, "CLIENT", "stock", 0.5, 0.625);
    let last = TestSpan::new(1, 5, 4, "SERVER", "till", 0.5, 0.5625);
    matcher.push(&[TestSpan { error: true, ..root(0.0, 1.0) }, client, TestSpan { count: 8.0, ..server }, below, last]);
    matcher.advance(2.5);
    assert!(matcher.rows.is_empty(), "spans may still come");
    matcher.advance(4.0);
    matcher.rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let row = |server: &str, count, time| Path {
        end: 1.0,
        client: Some("shop".to_owned()),
        server: Some(server.to_owned()),
        matched: true,
        error: true,
        count,
        time: Some(time),
        root: Some(1.0),
    };
    assert_eq!(matcher.rows, [row("shop", 1.0, 0.75), row("stock", 8.0, 0.1875), row("till", 8.0, 0.0625)]);
}

/// Guarantees: several visits of a service in a trace are one row with the sum, so that the root's duration counts once.
#[test]
fn visits_of_a_service_add_up() {
    let mut rows = vec![root(0.0, 4.0)];
    rows.extend(call(10, 1, "stock", (0.0, 1.0), (0.25, 0.75)));
    rows.extend(call(20, 1, "stock", (2.0, 3.0), (2.0, 3.0)));
    assert_eq!(paths(&Config::default(), &rows), known([("shop", 2.5), ("stock", 1.5)]));
}

/// Guarantees: without a root nothing is said; without a span between, the whole path is unknown rather than somebody else's.
#[test]
fn missing_spans_make_the_path_unknown() {
    let [client, server] = call(10, 1, "stock", (1.0, 3.0), (1.25, 2.75));
    assert_eq!(paths(&Config::default(), &[client.clone(), server.clone()]), known([]));
    let orphan = TestSpan::new(1, 40, 39, "SERVER", "till", 1.5, 2.0);
    assert_eq!(paths(&Config::default(), &[root(0.0, 4.0), client.clone(), server.clone(), orphan]), unknown(["shop", "stock", "till"]));
    // A message whose producer is missing was not waited for, nor was what began after the root's end.
    let message = TestSpan::new(1, 40, 39, "CONSUMER", "mail", 1.5, 2.0);
    let later = TestSpan::new(1, 41, 38, "SERVER", "till", 4.5, 5.0);
    assert_eq!(paths(&Config::default(), &[root(0.0, 4.0), client, server, message, later]), known([("shop", 2.5), ("stock", 1.5)]));
}

/// Guarantees: a root that ends long after its calls were reported still has its path, as far as spans are kept; one that comes when
/// they are not has none, and one that comes late without anything forgotten has.
#[test]
fn late_roots() {
    for (end, arrives, expected) in [(20.0, 20.0, Some(19.0)), (29.0, 29.0, None), (20.0, 29.0, Some(19.0)), (20.0, 40.0, None)] {
        let mut matcher = Matcher::new(&Config::default());
        matcher.push(&call(10, 1, "stock", (1.0, 2.0), (1.0, 2.0)));
        let mut second = 0.0;
        while second < arrives {
            matcher.advance(second);
            second += 1.0;
        }
        matcher.push(&[root(0.0, end)]);
        matcher.advance(arrives + 60.0);
        let times: Vec<_> = matcher.rows.iter().filter(|row| row.server.as_deref() == Some("shop")).map(|row| row.time).collect();
        assert_eq!(times, [expected], "root until {end}, here at {arrives}");
        assert_eq!(matcher.unknown(), u64::from(expected.is_none()));
    }
}

/// Guarantees: what takes a message from a queue, begins after its parent's end or goes on long after the root is not on the path.
#[test]
fn asynchronous_children_are_not_waited_for() {
    let rows = [
        root(0.0, 4.0),
        TestSpan::new(1, 2, 1, "PRODUCER", "shop", 1.0, 1.5),
        TestSpan::new(1, 3, 2, "CONSUMER", "mail", 1.5, 3.5),
        TestSpan::new(1, 4, 1, "INTERNAL", "shop", 2.0, 2.5),
        TestSpan::new(1, 5, 4, "SERVER", "audit", 3.0, 3.5),
        TestSpan::new(1, 6, 1, "SERVER", "report", 3.0, 7.0),
    ];
    assert_eq!(paths(&Config::default(), &rows), known([("shop", 4.0)]));
}

/// Guarantees: a trace that begins with a message has no path, one that begins with its delivery has.
#[test]
fn messages_begin_traces() {
    let producer = TestSpan::new(1, 1, 0, "PRODUCER", "shop", 0.0, 1.0);
    let consumer = TestSpan::new(2, 1, 0, "CONSUMER", "mail", 5.0, 6.0);
    assert_eq!(paths(&Config::default(), &[producer, consumer]), known([("mail", 1.0)]));
}

/// Guarantees: a server whose clock is wrong gets its own duration and leaves the caller the rest, and what is below it moves along;
/// a server that outlasts its client gets no more than the client saw.
#[test]
fn skewed_clocks() {
    for skew in [-8.0, -0.5, 0.0, 0.25, 1.5] {
        let mut rows = vec![root(100.0, 101.0)];
        rows.extend(call(10, 1, "stock", (100.125, 100.875), (100.25 + skew, 100.75 + skew)));
        rows.push(TestSpan::new(1, 12, 11, "CLIENT", "stock", 100.375 + skew, 100.625 + skew));
        rows.push(TestSpan::new(1, 13, 12, "SERVER", "till", 100.375, 100.5));
        assert_eq!(paths(&Config::default(), &rows), known([("shop", 0.5), ("stock", 0.375), ("till", 0.125)]), "{skew}");
    }
    let mut rows = vec![root(100.0, 101.0)];
    rows.extend(call(10, 1, "stock", (100.125, 100.875), (100.0, 102.0)));
    assert_eq!(paths(&Config::default(), &rows), known([("shop", 0.25), ("stock", 0.75)]));
}

/// Guarantees: both sides of a call under one span id are one call, at the root too.
#[test]
fn shared_span_ids() {
    let rows = [
        TestSpan::new(1, 1, 0, "CLIENT", "app", 0.0, 8.0),
        TestSpan::new(1, 1, 0, "SERVER", "shop", 1.0, 7.0),
        TestSpan::new(1, 2, 1, "CLIENT", "shop", 2.0, 6.0),
        TestSpan::new(1, 2, 1, "SERVER", "stock", 3.0, 5.0),
    ];
    assert_eq!(paths(&Config::default(), &rows), known([("app", 2.0), ("shop", 4.0), ("stock", 2.0)]));
}

/// Guarantees: too large traces, ids that form a net instead of a tree, and more roots than a trace has are unknown; a large trace
/// within the bound is not.
#[test]
fn what_is_no_trace_has_no_path() {
    let many = |count: u64| -> Vec<TestSpan> {
        let children = (2..=count).map(|id| TestSpan::new(1, id, 1, "INTERNAL", "shop", 1.0, 2.0));
        [root(0.0, 4.0)].into_iter().chain(children).collect()
    };
    assert_eq!(paths(&Config::default(), &many(10_000)), known([("shop", 4.0)]));
    assert_eq!(paths(&Config::default(), &many(10_001)), unknown(["shop"]));
    // Each id twice, as different kinds: the children of one are the children of the other, and so on.
    let mut net = vec![root(0.0, 4.0)];
    for id in 2..=40 {
        for kind in ["INTERNAL", "SERVER"] {
            net.push(TestSpan { entry: false, ..TestSpan::new(1, id, id - 1, kind, "shop", 1.0, 2.0) });
        }
    }
    assert_eq!(paths(&Config::default(), &net), unknown(["shop"]));
    let mut matcher = Matcher::new(&Config::default());
    let roots: Vec<TestSpan> = (1..=17).map(|id| TestSpan::new(1, id, 0, "SERVER", "shop", 1.0, 2.0)).collect();
    matcher.push(&roots);
    matcher.advance(10.0);
    assert_eq!((matcher.rows.len(), matcher.unknown()), (17, 17));
    assert!(matcher.rows.iter().all(|row| row.time.is_none() && row.root == Some(1.0)));
}

/// Guarantees: when traces have to leave early, a root whose spans may be among those that left has no path, later ones have.
#[test]
fn full_stores() {
    let mut matcher = Matcher::new(&Config { max_spans: 4, ..Config::default() });
    matcher.advance(2.5);
    matcher.push(&call(10, 1, "stock", (1.0, 2.0), (1.0, 2.0)));
    for (trace, start) in [(2, 2.0), (3, 3.0), (4, 4.0)] {
        matcher.push(&[TestSpan { trace, ..root(start, 10.0) }]);
    }
    matcher.push(&[root(0.0, 10.0)]);
    matcher.advance(20.0);
    let mut found: Vec<_> = matcher.rows.iter().map(|row| (row.root.unwrap(), row.time)).collect();
    found.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(found, [(6.0, Some(6.0)), (7.0, Some(7.0)), (8.0, Some(8.0)), (10.0, None)]);
}

/// Trees without gaps of any synchronous kinds, children where they please.
fn trees() -> impl Strategy<Value = Vec<TestSpan>> {
    let span = (0usize..30, 0usize..3, 0u32..640, 0u32..320, 0usize..4);
    (1u32..640, proptest::collection::vec(span, 0..30)).prop_map(|(length, shape)| {
        let mut rows = vec![root(0.0, f64::from(length) / 64.0)];
        for (id, (parent, kind, start, length, service)) in (2u64..).zip(shape) {
            let parent = rows[parent % rows.len()].id;
            let (kind, service) = (["SERVER", "CLIENT", "INTERNAL"][kind], ["shop", "stock", "mail", "till"][service]);
            let start = f64::from(start) / 64.0 - 2.0;
            rows.push(TestSpan::new(1, id, parent, kind, service, start, start + f64::from(length) / 64.0));
        }
        rows
    })
}

/// Trees of services in which every child lies within its parent, ends differ, and each span is a service of its own.
fn nested() -> impl Strategy<Value = Vec<TestSpan>> {
    const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    proptest::collection::vec((0usize..12, 0.0..0.9_f64, 0.05..0.95_f64), 0..11).prop_map(|shape| {
        let mut rows = vec![TestSpan::new(1, 1, 0, "SERVER", NAMES[0], 0.0, 16.0)];
        for (parent, begin, length) in shape {
            let parent = rows[parent % rows.len()].clone();
            let start = parent.start + (parent.end - parent.start) * begin;
            let end = start + (parent.end - start) * length;
            let whole = |time: f64| (time * 1e6).round() / 1e6;
            let id = rows.len() as u64 + 1;
            rows.push(TestSpan::new(1, id, parent.id, "INTERNAL", NAMES[rows.len()], whole(start), whole(end)));
        }
        rows
    })
}

fn sorted(mut rows: Vec<Path>) -> Vec<Path> {
    rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
    rows
}

proptest! {
    /// Guarantees: path times of a trace without gaps are not negative and add up to the root's duration, whatever its clocks say;
    /// where spans outlast the root by more than the hold it may be unknown, but never a part.
    #[test]
    fn times_add_up_to_the_root(rows in trees()) {
        let mut matcher = Matcher::new(&Config::default());
        matcher.push(&rows);
        matcher.advance(10_000.0);
        let outlasts = rows.iter().any(|row| row.end > rows[0].end + 2.0);
        prop_assert!(outlasts || matcher.unknown() == 0);
        let times: Vec<_> = matcher.rows.iter().map(|row| row.time).collect();
        prop_assert!(!times.is_empty() && times.iter().all(|time| time.is_none() == (matcher.unknown() > 0)));
        prop_assert!(times.iter().flatten().all(|time| *time >= 0.0));
        prop_assert!(matcher.unknown() > 0 || (times.iter().flatten().sum::<f64>() - rows[0].end).abs() < 1e-12);
    }

    /// Guarantees: where every child fits its parent it is the path that the models crate computes.
    #[test]
    fn agrees_with_the_model(rows in nested()) {
        let mut ends: Vec<f64> = rows.iter().map(|row| row.end).collect();
        ends.sort_by(f64::total_cmp);
        ends.dedup();
        prop_assume!(ends.len() == rows.len());
        let parent = |row: &TestSpan| usize::try_from(row.parent).unwrap().checked_sub(1);
        let nodes: Vec<Node> = rows.iter().map(|row| Node { span: Span { start: row.start, end: row.end }, parent: parent(row) }).collect();
        let (found, _) = paths(&Config::default(), &rows);
        for (row, expected) in rows.iter().zip(critical_path(&nodes)) {
            prop_assert!((found[row.service].unwrap() - expected).abs() < 1e-6, "{}: {found:?}, {expected}", row.service);
        }
    }

    /// Guarantees: whatever the order of spans and their split into batches, the same rows leave, also when the watermark keeps up.
    #[test]
    fn orders_and_watermarks_agree(mut rows in prop_oneof![forest(), trees()], cuts in proptest::collection::vec(1usize..20, 1..6), seed in any::<u64>()) {
        let mut at_once = Matcher::new(&Config::default());
        at_once.push(&rows);
        at_once.advance(10_000.0);
        let mut in_parts = Matcher::new(&Config::default());
        shuffled(&rows, &cuts, seed).iter().for_each(|batch| in_parts.push(batch));
        in_parts.advance(10_000.0);
        let late = |row: &TestSpan| row.end + f64::from(u32::try_from((row.id ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44).unwrap() % 320) / 64.0;
        rows.sort_by(|a, b| late(a).total_cmp(&late(b)));
        let mut on_the_way = Matcher::new(&Config::default());
        for row in &rows {
            on_the_way.advance(late(row) - 5.0);
            on_the_way.push(std::slice::from_ref(row));
        }
        on_the_way.advance(10_000.0);
        let expected = sorted(at_once.rows);
        prop_assert_eq!(&sorted(in_parts.rows), &expected);
        prop_assert_eq!(&sorted(on_the_way.rows), &expected);
    }
}
