//! What rows requests become: our own fixtures, cell by cell, and the published examples.

use std::path::PathBuf;

use tracescale_core::attributes::{Value, find, iter};
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_ingest::capture::Reader;
use tracescale_ingest::decode::{Declared, Encoding, Signal, decode, to_protobuf};

use crate::rows::{RECEIVED_AT, batch, bytes, column, decoded};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixture_path(name)).unwrap()
}

fn fixture_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/otlp").join(name)
}

/// A file of the shared data folder, or `None` with a message when there is no such folder on this machine.
fn shared(path: &str) -> Option<Vec<u8>> {
    let Some(folder) = std::env::var_os("TRACESCALE_DATA") else {
        println!("skipped: TRACESCALE_DATA is not set; it names the folder that holds {path}");
        return None;
    };
    Some(std::fs::read(PathBuf::from(folder).join(path)).unwrap())
}

/// Guarantees: every batch has exactly the schema of its stream.
#[test]
fn schemas_are_exact() {
    for (signal, name) in [(Signal::Traces, "traces.json"), (Signal::Metrics, "metrics.json")] {
        let decoded = decoded(signal, Encoding::Json, &fixture(name));
        assert!(!decoded.batches.is_empty());
        for (stream, batch) in &decoded.batches {
            assert_eq!(batch.schema(), stream.schema(), "{}", stream.name());
        }
    }
}

/// Guarantees: our fixtures in JSON and in protobuf are the same requests and give the same rows.
#[test]
fn fixtures_agree_in_both_encodings() {
    for (signal, name) in [(Signal::Traces, "traces"), (Signal::Metrics, "metrics"), (Signal::Logs, "logs")] {
        let json = fixture(&format!("{name}.json"));
        let protobuf = to_protobuf(signal, Encoding::Json, &json).unwrap();
        let path = fixture_path(&format!("{name}.pb"));
        if std::env::var_os("TRACESCALE_BLESS").is_some() {
            std::fs::write(&path, &protobuf).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), *protobuf, "{name}.pb is stale: run with TRACESCALE_BLESS=1");
        let (from_json, from_protobuf) = (decoded(signal, Encoding::Json, &json), decoded(signal, Encoding::Protobuf, &protobuf));
        assert_eq!(format!("{from_json:?}"), format!("{from_protobuf:?}"));
    }
}

/// Guarantees: times, ids, kinds, status, sampling and promoted attributes of each span land in their columns.
#[test]
fn spans_become_rows() {
    let decoded = decoded(Signal::Traces, Encoding::Protobuf, &fixture("traces.pb"));
    let spans = batch(&decoded, Stream::Spans);
    let check = |name: &str, expected: [&str; 7]| assert_eq!(column(spans, name), expected, "{name}");
    check("name", ["GET /cart", "query", "nested", "called", "remote", "local", "nobody"]);
    check("kind", ["SERVER", "CLIENT", "SERVER", "SERVER", "CONSUMER", "CONSUMER", "INTERNAL"]);
    check("is_entry", ["true", "false", "false", "true", "true", "false", "false"]);
    check("status", ["ERROR", "UNSET", "OK", "UNSET", "UNSET", "UNSET", "UNSET"]);
    check("is_error", ["true", "false", "false", "false", "false", "false", "false"]);
    check("status_message", ["timed out", "-", "-", "-", "-", "-", "-"]);
    check("duration", ["0.25", "0.01", "0.01", "0.01", "0.01", "0.01", "0.0"]);
    check("adjusted_count", ["2.0", "1.0", "1.0", "1.0", "1.0", "1.0", "1.0"]);
    check("sampling_known", ["true", "false", "false", "false", "false", "false", "false"]);
    check("trace_state", ["ot=th:8", "-", "-", "-", "-", "-", "-"]);
    check("service_name", ["cart", "cart", "cart", "cart", "cart", "cart", "unknown_service"]);
    check("service_instance_id", ["cart-1", "cart-1", "cart-1", "cart-1", "cart-1", "cart-1", "-"]);
    check("deployment_environment_name", ["test", "test", "test", "test", "test", "test", "-"]);
    check("scope_name", ["http", "http", "http", "http", "http", "http", "-"]);
    check("http_request_method", ["POST", "-", "-", "-", "-", "-", "-"]);
    check("http_response_status_code", ["503", "-", "-", "-", "-", "-", "-"]);
    check("db_system", ["-", "postgresql", "-", "-", "-", "-", "-"]);
    check("db_namespace", ["-", "carts", "-", "-", "-", "-", "-"]);
    check("server_address", ["-", "db.shop", "-", "-", "-", "-", "-"]);
    check("server_port", ["-", "5432", "-", "-", "-", "-", "-"]);
    check("peer_service", ["-", "carts-db", "-", "-", "-", "-", "-"]);
    check("dropped_attributes_count", ["1", "0", "0", "0", "0", "0", "0"]);
    assert_eq!(column(spans, "parent_span_id")[..2], ["-", "a000000000000001"]);
    assert_eq!(column(spans, "trace_id")[0], "0102030405060708090a0b0c0d0e0f10");
    assert_eq!(column(spans, "end_time")[0], "2023-11-14T22:13:20.250");
    assert_eq!(column(spans, "start_time")[6], column(spans, "end_time")[6]);
    assert_eq!(column(spans, "received_at")[0], "2023-11-14T22:15:00");
    assert_eq!(decoded.newest_time(), Some(Timestamp::from_millis(1_700_000_000_250)));
}

/// Guarantees: spans that do not state their sampling count as is declared of their service, else of all; what is stated wins; in
/// both encodings alike, and everything else stays as it is.
#[test]
fn declared_sampling_counts() {
    let declared = Declared::new(0.5, [("cart".to_owned(), 0.1)]);
    let [plain, json] = [(Encoding::Protobuf, "traces.pb"), (Encoding::Json, "traces.json")].map(|(encoding, name)| {
        let decoded = decode(Signal::Traces, encoding, &fixture(name), RECEIVED_AT, &declared).unwrap();
        assert_eq!(decoded.clipped_counts, 0);
        batch(&decoded, Stream::Spans).clone()
    });
    assert_eq!(plain, json);
    assert_eq!(column(&plain, "adjusted_count"), ["2.0", "10.0", "10.0", "10.0", "10.0", "10.0", "2.0"]);
    assert_eq!(column(&plain, "sampling_known"), ["true"; 7]);
    let undeclared = decoded(Signal::Traces, Encoding::Protobuf, &fixture("traces.pb"));
    let schema = plain.schema();
    let same = schema
        .fields()
        .iter()
        .filter(|field| plain.column_by_name(field.name()) == batch(&undeclared, Stream::Spans).column_by_name(field.name()));
    assert_eq!(same.count(), schema.fields().len() - 2);
    let rare = Declared::new(1.0, [("cart".to_owned(), 1e-9)]);
    let clipped = decode(Signal::Traces, Encoding::Protobuf, &fixture("traces.pb"), RECEIVED_AT, &rare).unwrap();
    assert_eq!(clipped.clipped_counts, 5);
    assert_eq!(
        column(batch(&clipped, Stream::Spans), "adjusted_count"),
        ["2.0", "1000000.0", "1000000.0", "1000000.0", "1000000.0", "1000000.0", "1.0"]
    );
}

/// Guarantees: no attribute is lost, promoted or not, of whatever type.
#[test]
fn raw_attributes_keep_everything() {
    let decoded = decoded(Signal::Traces, Encoding::Protobuf, &fixture("traces.pb"));
    let spans = batch(&decoded, Stream::Spans);
    let attributes = &bytes(spans, "attributes")[0];
    assert_eq!(iter(attributes).count(), 6);
    assert_eq!(find(attributes, "http.method"), Some(Value::Text("GET")));
    assert_eq!(find(attributes, "http.status_code"), Some(Value::Integer(503)));
    assert_eq!(find(attributes, "cart.items").unwrap().text().unwrap(), r#"[1,"two",0.5,true,null]"#);
    assert_eq!(find(attributes, "cart.owner").unwrap().text().unwrap(), r#"{"id":"deadbeef"}"#);
    let resource = &bytes(spans, "resource_attributes");
    assert_eq!(find(&resource[0], "process.pid"), Some(Value::Integer(42)));
    assert!(resource[6].is_empty());
}

/// Guarantees: events and links have tables of their own that name their span and service.
#[test]
fn events_and_links_become_rows() {
    let decoded = decoded(Signal::Traces, Encoding::Protobuf, &fixture("traces.pb"));
    let events = batch(&decoded, Stream::SpanEvents);
    assert_eq!(column(events, "name"), ["exception"]);
    assert_eq!(column(events, "exception_type"), ["Timeout"]);
    assert_eq!(column(events, "exception_message"), ["stock did not answer"]);
    assert_eq!(column(events, "service_name"), ["cart"]);
    assert_eq!(column(events, "time"), ["2023-11-14T22:13:20.200"]);
    let links = batch(&decoded, Stream::SpanLinks);
    assert_eq!(column(links, "linked_trace_id"), ["f102030405060708090a0b0c0d0e0f10"]);
    assert_eq!(column(links, "linked_span_id"), ["b000000000000001"]);
    assert_eq!(column(links, "span_id"), ["a000000000000001"]);
    assert_eq!(find(&bytes(links, "attributes")[0], "why"), Some(Value::Text("batch")));
}

/// Guarantees: a bad item costs itself only, all are counted, and the first reason is told.
#[test]
fn bad_items_are_refused_one_by_one() {
    let traces = decoded(Signal::Traces, Encoding::Protobuf, &fixture("traces.pb"));
    assert_eq!((traces.items, traces.rejected), (9, 2));
    assert_eq!(traces.rejected_reason, "span 'short id': the trace id is not 16 bytes (32 hex digits in JSON), or all zero");
    let metrics = decoded(Signal::Metrics, Encoding::Protobuf, &fixture("metrics.pb"));
    assert_eq!((metrics.items, metrics.rejected), (14, 4));
    assert!(metrics.rejected_reason.starts_with("metric 'latency': the bucket counts"), "{}", metrics.rejected_reason);
    let logs = decoded(Signal::Logs, Encoding::Protobuf, &fixture("logs.pb"));
    assert_eq!((logs.items, logs.rejected, logs.batches.len(), logs.newest_time()), (2, 0, 0, None));
}

/// Guarantees: all five kinds of point fill their columns and leave the others NULL.
#[test]
fn every_kind_of_point_becomes_a_row() {
    let decoded = decoded(Signal::Metrics, Encoding::Protobuf, &fixture("metrics.pb"));
    let points = batch(&decoded, Stream::Metrics);
    let check = |name: &str, expected: [&str; 10]| assert_eq!(column(points, name), expected, "{name}");
    let (exponential, cumulative) = ("exponential_histogram", "cumulative");
    check("metric_kind", ["gauge", "gauge", "gauge", "gauge", "sum", "histogram", "histogram", exponential, exponential, "summary"]);
    let none = "unspecified";
    check("temporality", [none, none, none, none, cumulative, "delta", "delta", cumulative, cumulative, none]);
    check("is_monotonic", ["false", "false", "false", "false", "true", "false", "false", "false", "false", "false"]);
    check("value", ["7.0", "-3.0", "NaN", "-", "12.5", "-", "-", "-", "-", "-"]);
    check("value_int", ["7", "-3", "-", "-", "-", "-", "-", "-", "-", "-"]);
    check("no_recorded_value", ["false", "false", "false", "true", "false", "false", "false", "false", "false", "false"]);
    check("exemplar_count", ["0", "0", "0", "0", "2", "0", "0", "0", "0", "0"]);
    check("count", ["-", "-", "-", "-", "-", "6", "4", "9", "0", "10"]);
    check("sum", ["-", "-", "-", "-", "-", "1.5", "-", "3.0", "-", "5.0"]);
    check("min", ["-", "-", "-", "-", "-", "0.01", "-", "-", "-", "-"]);
    check("bounds", ["-", "-", "-", "-", "-", "[0.1, 0.5]", "[]", "-", "-", "-"]);
    check("bucket_counts", ["-", "-", "-", "-", "-", "[1, 2, 3]", "[]", "-", "-", "-"]);
    check("scale", ["-", "-", "-", "-", "-", "-", "-", "-2", "3", "-"]);
    check("zero_threshold", ["-", "-", "-", "-", "-", "-", "-", "0.001", "0.0", "-"]);
    check("positive_offset", ["-", "-", "-", "-", "-", "-", "-", "-5", "-", "-"]);
    check("positive_counts", ["-", "-", "-", "-", "-", "-", "-", "[3, 4]", "-", "-"]);
    check("negative_counts", ["-", "-", "-", "-", "-", "-", "-", "[1]", "-", "-"]);
    check("quantiles", ["-", "-", "-", "-", "-", "-", "-", "-", "-", "[0.5, 0.99]"]);
    check("quantile_values", ["-", "-", "-", "-", "-", "-", "-", "-", "-", "[0.4, 2.0]"]);
    assert_eq!(column(points, "start_time")[3..5], ["-", "2023-11-14T22:13:10"]);
}

/// Guarantees: a series keeps its id whatever the order of its attributes, and no two series share one.
#[test]
fn series_are_told_apart() {
    let decoded = decoded(Signal::Metrics, Encoding::Protobuf, &fixture("metrics.pb"));
    let ids = column(batch(&decoded, Stream::Metrics), "series_id");
    assert_eq!(ids[0], ids[1]);
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 7);
}

/// Guarantees: one real export recorded as JSON lines and as protobuf frames gives the same rows.
#[test]
fn a_recorded_export_agrees_in_both_encodings() {
    let Some((json, protobuf)) = shared("otlp/redis-metrics/metrics.json").zip(shared("otlp/redis-metrics/metrics.pb")) else { return };
    let (json, protobuf): (Vec<_>, Vec<_>) = (Reader::new(&json[..]).collect(), Reader::new(&protobuf[..]).collect());
    assert_eq!((json.len(), protobuf.len()), (10, 10));
    for (json, protobuf) in json.into_iter().zip(protobuf) {
        let (json, protobuf) = (json.unwrap(), protobuf.unwrap());
        assert_eq!((json.encoding, protobuf.encoding), (Encoding::Json, Encoding::Protobuf));
        assert_eq!((json.signal, protobuf.signal), (Signal::Metrics, Signal::Metrics));
        let json = decoded(Signal::Metrics, Encoding::Json, &json.body);
        let protobuf = decoded(Signal::Metrics, Encoding::Protobuf, &protobuf.body);
        assert!(json.items >= 26 && json.rejected == 0, "{json:?}");
        assert_eq!(json.batches, protobuf.batches);
        assert_eq!(json.items, protobuf.items);
    }
}

/// Guarantees: the examples that the OTLP specification and Jaeger publish are read whole.
#[test]
fn published_examples_are_read() {
    let examples = [
        (Signal::Traces, "otlp/proto-examples/trace.json", 1),
        (Signal::Metrics, "otlp/proto-examples/metrics.json", 4),
        (Signal::Logs, "otlp/proto-examples/logs.json", 1),
        (Signal::Logs, "otlp/proto-examples/events.json", 1),
        (Signal::Traces, "otlp/jaeger-ui/otlp2jaeger-in.json", 2),
    ];
    for (signal, path, items) in examples {
        let Some(body) = shared(path) else { return };
        let decoded = decoded(signal, Encoding::Json, &body);
        assert_eq!((decoded.items, decoded.rejected), (items, 0), "{path}");
    }
    let Some(body) = shared("otlp/jaeger-ui/otlp2jaeger-multi-in-combined.json") else { return };
    let decoded = decoded(Signal::Traces, Encoding::Json, &body);
    assert!(decoded.items > 1 && decoded.rejected == 0, "{decoded:?}");
}
