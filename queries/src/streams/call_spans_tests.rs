//! Tests of `call_spans` with hand-computed traces.

use std::sync::atomic::AtomicU64;

use arrow::array::{AsArray, RecordBatch};
use proptest::prelude::*;
use tracescale_core::schema::Stream;

use super::call_spans::CallSpans;
use super::testing::{TestSpan, floats, links, shuffled, spans, texts, times};
use super::*;

/// One row of `call_spans`, comparable. Rows of paths are left to their own tests.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
struct Row {
    end: f64,
    client: Option<String>,
    server: Option<String>,
    operation: Option<String>,
    kind: Option<String>,
    matched: bool,
    error: bool,
    count: f64,
    client_duration: Option<f64>,
    server_duration: Option<f64>,
    wait: Option<f64>,
    self_time: Option<f64>,
}

struct Matcher {
    operator: CallSpans,
    counters: Arc<Counters>,
}

// === impl Matcher ===

impl Matcher {
    fn new(config: &Config) -> Self {
        let counters = Arc::new(Counters::default());
        Self { operator: CallSpans::new(config, Arc::clone(&counters)), counters }
    }

    fn push(&mut self, rows: &[TestSpan]) -> Vec<Row> {
        read(self.operator.push(Stream::Spans, &spans(rows)).unwrap())
    }

    fn advance(&mut self, seconds: f64) -> Vec<Row> {
        read(self.operator.advance(Timestamp::from_nanos(testing::nanos(seconds))).unwrap())
    }

    fn counted(&self, counter: fn(&Counters) -> &AtomicU64) -> u64 {
        counter(&self.counters).load(Ordering::Relaxed)
    }
}

fn read(batches: Vec<RecordBatch>) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let text = |name| texts(&batch, name);
        let float = |name| floats(&batch, name);
        let flag = |name: &str, row| batch.column_by_name(name).unwrap().as_boolean().value(row);
        let (ends, clients, servers, operations, kinds) =
            (times(&batch, "end_time"), text("client_service"), text("server_service"), text("operation"), text("call_kind"));
        let (counts, waits, selfs) = (float("adjusted_count"), float("wait"), float("self_time"));
        let (client_durations, server_durations) = (float("client_duration"), float("server_duration"));
        for row in (0..batch.num_rows()).filter(|row| kinds[*row].as_deref() != Some("path")) {
            rows.push(Row {
                end: ends[row],
                client: clients[row].clone(),
                server: servers[row].clone(),
                operation: operations[row].clone(),
                kind: kinds[row].clone(),
                matched: flag("matched", row),
                error: flag("is_error", row),
                count: counts[row].unwrap(),
                client_duration: client_durations[row],
                server_duration: server_durations[row],
                wait: waits[row],
                self_time: selfs[row],
            });
        }
    }
    rows
}

fn call(client: &str, server: &str, end: f64, durations: (f64, Option<f64>), wait: Option<f64>) -> Row {
    Row {
        end,
        client: Some(client.to_owned()),
        server: (!server.is_empty()).then(|| server.to_owned()),
        operation: Some("x".to_owned()),
        kind: Some("call".to_owned()),
        matched: durations.1.is_some(),
        error: false,
        count: 1.0,
        client_duration: Some(durations.0),
        server_duration: durations.1,
        wait,
        self_time: None,
    }
}

fn entry(server: &str, end: f64, matched: bool, duration: f64, self_time: impl Into<Option<f64>>) -> Row {
    Row {
        client: None,
        kind: Some("entry".to_owned()),
        matched,
        client_duration: None,
        server_duration: Some(duration),
        self_time: self_time.into(),
        ..call("", server, end, (0.0, None), None)
    }
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
    rows
}

/// shop calls stock (server seen) and a database (not seen); the server clock is 1000 s ahead of nothing here.
fn trace() -> Vec<TestSpan> {
    vec![
        TestSpan::new(7, 1, 0, "SERVER", "shop", 0.0, 1.0),
        TestSpan::new(7, 2, 1, "INTERNAL", "shop", 0.125, 0.875),
        TestSpan::new(7, 3, 2, "CLIENT", "shop", 0.25, 0.5),
        TestSpan::new(7, 4, 3, "SERVER", "stock", 0.3125, 0.4375),
        TestSpan { peer: "ledger", ..TestSpan::new(7, 5, 1, "CLIENT", "shop", 0.375, 0.75) },
    ]
}

fn trace_rows() -> Vec<Row> {
    sorted(vec![
        call("shop", "stock", 0.5, (0.25, Some(0.125)), Some(0.125)),
        call("shop", "ledger", 0.75, (0.375, None), None),
        entry("stock", 0.4375, true, 0.125, 0.125),
        // 1 s without the union of (.25, .5) and (.375, .75); the local span between does not count as somebody else's time.
        entry("shop", 1.0, false, 1.0, 0.5),
    ])
}

/// Guarantees: wait is the difference of both durations, self time leaves out the union of calls made below local spans, a
/// client without a server is reported under its peer's name.
#[test]
fn a_trace_becomes_calls_and_entries() {
    let mut matcher = Matcher::new(&Config::default());
    let mut rows = matcher.push(&trace());
    assert_eq!(rows, [call("shop", "stock", 0.5, (0.25, Some(0.125)), Some(0.125))]);
    assert!(matcher.advance(1.0).is_empty());
    rows.extend(matcher.advance(5.0));
    assert_eq!(sorted(rows), trace_rows());
    assert_eq!(matcher.operator.held(), (0, 0), "a finished trace is forgotten");
}

/// Guarantees: the reference root [0,100] with calls [10,40], [30,80], [85,95] has a self time of 20.
#[test]
fn reference_self_time() {
    let mut matcher = Matcher::new(&Config { trace_ttl: Duration::from_secs(200), ..Config::default() });
    let child = |id, start, end| TestSpan::new(1, id, 1, "CLIENT", "shop", start, end);
    matcher.push(&[TestSpan::new(1, 1, 0, "SERVER", "shop", 0.0, 100.0), child(2, 10.0, 40.0), child(3, 30.0, 80.0), child(4, 85.0, 95.0)]);
    let entries: Vec<_> = matcher.advance(200.0).into_iter().filter(|row| row.kind.as_deref() == Some("entry")).collect();
    assert_eq!(entries, [entry("shop", 100.0, false, 100.0, 20.0)]);
}

/// Guarantees: asynchronous consumers are not waited for; a server whose client is not instrumented is.
#[test]
fn only_synchronous_children_count() {
    let mut matcher = Matcher::new(&Config::default());
    matcher.push(&[
        TestSpan::new(1, 1, 0, "SERVER", "shop", 0.0, 1.0),
        TestSpan::new(1, 2, 1, "CONSUMER", "mail", 0.0, 0.5),
        TestSpan::new(1, 3, 1, "SERVER", "stock", 0.5, 0.75),
    ]);
    let rows = matcher.advance(10.0);
    assert!(rows.contains(&entry("shop", 1.0, false, 1.0, 0.75)), "{rows:?}");
}

/// Guarantees: the lag of a message is from the producer's end to the consumer's start, at the consumer's event time.
#[test]
fn messages_wait_in_the_queue() {
    let mut matcher = Matcher::new(&Config::default());
    matcher.push(&[TestSpan::new(1, 1, 0, "PRODUCER", "shop", 0.0, 0.5)]);
    assert!(matcher.advance(30.0).is_empty());
    let rows = matcher.push(&[TestSpan::new(1, 2, 1, "CONSUMER", "mail", 40.0, 41.0)]);
    assert_eq!(rows, [call("shop", "mail", 41.0, (0.5, Some(1.0)), Some(39.5))]);
    assert_eq!(matcher.advance(100.0), [entry("mail", 41.0, true, 1.0, 1.0)]);
    assert_eq!(matcher.operator.held(), (0, 0));
}

/// Guarantees: a message that nobody takes is reported when it is given up, with that moment as its event time.
#[test]
fn undelivered_messages_are_reported_late_but_not_behind() {
    let mut matcher = Matcher::new(&Config::default());
    matcher.push(&[TestSpan { peer: "mails", ..TestSpan::new(1, 1, 0, "PRODUCER", "shop", 0.0, 0.5) }]);
    assert!(matcher.advance(60.0).is_empty());
    assert_eq!(matcher.advance(70.0), [call("shop", "mails", 64.5, (0.5, None), None)]);
    assert!(matcher.push(&[TestSpan::new(1, 2, 1, "CONSUMER", "mail", 80.0, 81.0)]).is_empty());
}

/// Guarantees: a consumer finds its messages in other traces by span link, whether the links came before or after it.
#[test]
fn messages_by_link() {
    for links_first in [true, false] {
        let mut matcher = Matcher::new(&Config::default());
        let linked = links(&[(9, 2, 1, 1, 41.0), (9, 2, 3, 1, 41.0), (9, 2, 1, 1, 41.0)]);
        matcher.push(&[TestSpan::new(1, 1, 0, "PRODUCER", "shop", 0.0, 0.5), TestSpan::new(3, 1, 0, "PRODUCER", "till", 1.0, 1.5)]);
        if links_first {
            matcher.operator.push(Stream::SpanLinks, &linked).unwrap();
        }
        matcher.push(&[TestSpan::new(9, 2, 0, "CONSUMER", "mail", 40.0, 41.0)]);
        if !links_first {
            matcher.operator.push(Stream::SpanLinks, &linked).unwrap();
        }
        let rows = sorted(matcher.advance(45.0));
        let expected = sorted(vec![
            call("shop", "mail", 41.0, (0.5, Some(1.0)), Some(39.5)),
            call("till", "mail", 41.0, (0.5, Some(1.0)), Some(38.5)),
            entry("mail", 41.0, true, 1.0, 1.0),
        ]);
        assert_eq!(rows, expected, "links first: {links_first}");
    }
}

/// Guarantees: what was reported as unmatched is not reported again when its server comes too late, and the orphan is counted.
#[test]
fn no_call_is_reported_twice() {
    let mut matcher = Matcher::new(&Config::default());
    matcher.push(&[TestSpan::new(1, 1, 9, "CLIENT", "shop", 0.0, 1.0)]);
    assert_eq!(matcher.advance(10.0).len(), 1);
    assert!(matcher.push(&[TestSpan::new(1, 2, 1, "SERVER", "stock", 0.0, 20.0)]).is_empty());
    assert_eq!(matcher.advance(30.0), [entry("stock", 20.0, false, 20.0, 20.0)]);
    matcher.push(&[TestSpan::new(2, 2, 77, "SERVER", "stock", 30.0, 31.0)]);
    matcher.advance(60.0);
    assert_eq!(matcher.counted(|counters| &counters.calls_missing_parents), 1);
}

/// Guarantees: a span that is sent twice counts once; a server that outlasts its client gives a wait of zero and is counted.
#[test]
fn repeated_and_contradicting_spans() {
    let mut matcher = Matcher::new(&Config::default());
    let client = TestSpan::new(1, 1, 0, "CLIENT", "shop", 0.0, 1.0);
    let server = TestSpan { error: true, count: 2.0, ..TestSpan::new(1, 2, 1, "SERVER", "stock", 0.0, 1.5) };
    let rows = matcher.push(&[client.clone(), client.clone(), server.clone(), server]);
    assert_eq!(rows, [Row { error: true, count: 2.0, ..call("shop", "stock", 1.0, (1.0, Some(1.5)), Some(0.0)) }]);
    assert_eq!(matcher.counted(|counters| &counters.calls_duplicate_spans), 2);
    assert_eq!(matcher.counted(|counters| &counters.calls_negative_waits), 1);
}

/// Guarantees: the store never holds more than its bound; the oldest trace leaves with what is known, its self time unknown
/// when a parent is missing.
#[test]
fn the_store_is_bounded() {
    let mut matcher = Matcher::new(&Config { max_spans: 10, ..Config::default() });
    let mut rows = Vec::new();
    for trace in 1..=100u32 {
        let start = f64::from(trace);
        let parent = if trace == 1 { 9 } else { 0 };
        rows.extend(matcher.push(&[TestSpan::new(u128::from(trace), 1, parent, "SERVER", "shop", start, start + 0.5)]));
        assert!(matcher.operator.held().0 <= 10);
    }
    assert_eq!(rows.len(), 90);
    assert_eq!(rows[..2], [entry("shop", 1.5, false, 0.5, None), entry("shop", 2.5, false, 0.5, 0.5)]);
    assert_eq!(matcher.counted(|counters| &counters.calls_evicted_spans), 1);
    assert_eq!(matcher.counted(|counters| &counters.calls_early_spans), 89);
    assert_eq!(matcher.advance(1000.0).len(), 10);
}

/// Guarantees: an entry that ran longer than its children are kept has no self time; a span from the far future is not kept.
#[test]
fn what_cannot_be_known_is_not_said() {
    let mut matcher = Matcher::new(&Config::default());
    matcher.push(&[TestSpan::new(1, 1, 0, "SERVER", "shop", 0.0, 100.0)]);
    assert_eq!(matcher.advance(200.0), [entry("shop", 100.0, false, 100.0, None)]);
    matcher.push(&[TestSpan::new(2, 1, 0, "SERVER", "shop", 0.0, 9.0e9)]);
    assert_eq!(matcher.operator.held(), (0, 0));
    assert_eq!(matcher.counted(|counters| &counters.calls_future_spans), 1);
}

/// Guarantees: a trace with more spans than are scanned on arrival is paired all the same.
#[test]
fn large_traces_are_paired_when_due() {
    let mut matcher = Matcher::new(&Config::default());
    let mut all = vec![TestSpan::new(1, 1, 0, "SERVER", "shop", 0.0, 10.0)];
    for call in 0..400u32 {
        let (id, start) = (u64::from(call) * 2 + 10, f64::from(call) / 64.0);
        all.push(TestSpan::new(1, id, 1, "CLIENT", "shop", start, start + 0.015_625));
        all.push(TestSpan::new(1, id + 1, id, "SERVER", "stock", start, start + 0.007_812_5));
    }
    let mut rows = matcher.push(&all);
    rows.extend(matcher.advance(100.0));
    assert_eq!(rows.iter().filter(|row| row.kind.as_deref() == Some("call") && row.matched).count(), 400);
    assert_eq!(rows.len(), 801);
    assert!(rows.contains(&entry("shop", 10.0, false, 10.0, 3.75)));
}

/// Guarantees: strings that no span uses any more are forgotten, and those in use keep their meaning.
#[test]
fn names_do_not_pile_up() {
    let mut matcher = Matcher::new(&Config::default());
    matcher.push(&[TestSpan { peer: "kept", ..TestSpan::new(1, 1, 0, "PRODUCER", "shop", 0.0, 50.0) }]);
    for round in 0..3u64 {
        let names: Vec<&'static str> = (0..10_000).map(|name| &*Box::leak(format!("{round}-{name}").into_boxed_str())).collect();
        let rows: Vec<_> = (10..)
            .zip(&names)
            .map(|(id, name)| TestSpan { peer: name, ..TestSpan::new(u128::from(id), id, 0, "CLIENT", "shop", 0.0, 0.5) })
            .collect();
        matcher.push(&rows);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        matcher.advance(5.0 + round as f64);
    }
    assert!(matcher.operator.names() < 25_000, "{}", matcher.operator.names());
    assert_eq!(matcher.advance(1000.0)[0].server.as_deref(), Some("kept"));
}

/// Random traces of calls, messages and local spans below entry spans.
pub(super) fn forest() -> impl Strategy<Value = Vec<TestSpan>> {
    proptest::collection::vec((0u128..4, 0usize..8, 0usize..5, 0u32..400, 1u32..400, 0usize..3), 1..60).prop_map(|shape| {
        let mut rows: Vec<TestSpan> = Vec::new();
        for (place, (trace, parent, kind, start, length, service)) in (1u64..).zip(shape) {
            let above: Vec<u64> = rows.iter().filter(|row| row.trace == trace).map(|row| row.id).collect();
            // The last choice is a parent that never comes.
            let parent = if above.is_empty() { 0 } else { above.get(parent % (above.len() + 1)).copied().unwrap_or(999) };
            let kind = ["SERVER", "CLIENT", "PRODUCER", "CONSUMER", "INTERNAL"][kind];
            let start = f64::from(start) / 64.0;
            rows.push(TestSpan::new(
                trace,
                place,
                parent,
                kind,
                ["shop", "stock", "mail"][service],
                start,
                start + f64::from(length) / 64.0,
            ));
        }
        rows
    })
}

proptest! {
    /// Guarantees: whatever the order of spans and their split into batches, the same rows leave in the end, and nothing stays.
    #[test]
    fn splits_and_orders_agree(rows in forest(), cuts in proptest::collection::vec(1usize..20, 1..6), seed in any::<u64>()) {
        let run = |batches: &[Vec<TestSpan>]| {
            let mut matcher = Matcher::new(&Config::default());
            let mut out: Vec<Row> = batches.iter().flat_map(|batch| matcher.push(batch)).collect();
            out.extend(matcher.advance(10_000.0));
            prop_assert_eq!(matcher.operator.held(), (0, 0));
            Ok(sorted(out))
        };
        prop_assert_eq!(run(std::slice::from_ref(&rows))?, run(&shuffled(&rows, &cuts, seed))?);
    }

    /// Guarantees: the same rows leave whether the watermark moves once at the end or keeps up within the lateness of the rows.
    #[test]
    fn watermarks_on_the_way_agree(mut rows in forest(), seed in any::<u64>()) {
        let at_once = {
            let mut matcher = Matcher::new(&Config::default());
            let mut out = matcher.push(&rows);
            out.extend(matcher.advance(10_000.0));
            out
        };
        // Each span arrives up to five seconds after its end, in an order of its own.
        let late = |row: &TestSpan| row.end + f64::from(u32::try_from((row.id ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44).unwrap() % 320) / 64.0;
        rows.sort_by(|a, b| late(a).total_cmp(&late(b)));
        let mut matcher = Matcher::new(&Config::default());
        let mut out = Vec::new();
        for row in &rows {
            out.extend(matcher.advance(late(row) - 5.0));
            out.extend(matcher.push(std::slice::from_ref(row)));
        }
        out.extend(matcher.advance(10_000.0));
        // What a pair looks like may differ in columns that are not compared, so rows are put in order by those that are.
        let keys = |rows: Vec<Row>| {
            let entries = rows.into_iter().filter(|row| row.kind.as_deref() == Some("entry"));
            let mut keys: Vec<String> = entries.map(|row| format!("{:?} {:?} {:?}", row.end, row.server, row.self_time)).collect();
            keys.sort();
            keys
        };
        prop_assert_eq!(keys(out), keys(at_once));
    }
}
