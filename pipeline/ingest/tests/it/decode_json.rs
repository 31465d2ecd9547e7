//! OTLP/JSON as senders really write it: each freedom that protobuf's JSON mapping gives them.

use tracescale_core::attributes::{Value, find};
use tracescale_core::schema::Stream;
use tracescale_ingest::decode::{Declared, Decoded, Encoding, Signal, decode};

use crate::rows::{RECEIVED_AT, batch, bytes, column, decoded};

/// A request with one span that has `fields` besides ids and times.
fn span(fields: &str) -> Decoded {
    let body = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174",
        "startTimeUnixNano":"1","endTimeUnixNano":2 {fields}}}]}}]}}]}}"#
    );
    decoded(Signal::Traces, Encoding::Json, body.as_bytes())
}

fn attribute(value: &str) -> Vec<u8> {
    let decoded = span(&format!(r#","attributes":[{{"key":"k","value":{value}}}]"#));
    bytes(batch(&decoded, Stream::Spans), "attributes").remove(0)
}

/// A request with one gauge point that has `fields` besides its time.
fn point(fields: &str) -> Decoded {
    let body = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","gauge":{{"dataPoints":[{{"timeUnixNano":"5" {fields}}}]}}}}]}}]}}]}}"#
    );
    decoded(Signal::Metrics, Encoding::Json, body.as_bytes())
}

fn failure(signal: Signal, body: &str) -> String {
    decode(signal, Encoding::Json, body.as_bytes(), RECEIVED_AT, &Declared::default()).unwrap_err().to_string()
}

/// Guarantees: ids are hexadecimal in either case, times are strings or numbers.
#[test]
fn ids_are_hexadecimal_and_times_either_form() {
    let decoded = span("");
    let spans = batch(&decoded, Stream::Spans);
    assert_eq!(column(spans, "trace_id"), ["5b8efff798038103d269b633813fc60c"]);
    assert_eq!(column(spans, "duration"), ["1e-9"]);
}

/// Guarantees: an id that is not hexadecimal spoils its span and not the request.
#[test]
fn ids_in_base64_are_refused_with_a_reason() {
    let decoded = span(r#","parentSpanId":"7uGbfsPBsXQ=","name":"base64""#);
    assert_eq!((decoded.items, decoded.rejected), (1, 1));
    assert_eq!(decoded.rejected_reason, "span 'base64': the parent span id is not 8 bytes (16 hex digits in JSON)");
}

/// Guarantees: enums come as numbers, numbers in strings, or names; an unknown name is unspecified.
#[test]
fn enums_are_numbers_or_names() {
    for (kind, expected) in [
        ("2", "SERVER"),
        (r#""3""#, "CLIENT"),
        (r#""SPAN_KIND_PRODUCER""#, "PRODUCER"),
        (r#""NEW""#, "UNSPECIFIED"),
        ("null", "UNSPECIFIED"),
        ("99", "UNSPECIFIED"),
    ] {
        let decoded = span(&format!(r#","kind":{kind},"status":{{"code":"STATUS_CODE_ERROR"}}"#));
        assert_eq!(column(batch(&decoded, Stream::Spans), "kind"), [expected], "{kind}");
        assert_eq!(column(batch(&decoded, Stream::Spans), "status"), ["ERROR"]);
    }
}

/// Guarantees: `null` is an absent field, wherever it stands.
#[test]
fn null_is_absent() {
    let decoded = span(r#","attributes":null,"events":null,"links":[],"status":null,"traceState":null,"parentSpanId":null,"flags":null"#);
    assert_eq!((decoded.items, decoded.rejected), (1, 0));
    let empty = decoded_json(r#"{"resourceSpans":[{"resource":null,"scopeSpans":null,"schemaUrl":null}]}"#);
    assert_eq!(empty.items, 0);
    assert_eq!(decoded_json(r#"{"resourceSpans":null}"#).items, 0);
    assert_eq!(decoded_json("{}").items, 0);
}

fn decoded_json(body: &str) -> Decoded {
    decoded(Signal::Traces, Encoding::Json, body.as_bytes())
}

/// Guarantees: empty lists, maps and values are values; 64-bit integers keep every digit; bytes are base64.
#[test]
fn attribute_values_of_every_form() {
    assert_eq!(find(&attribute(r#"{"arrayValue":{}}"#), "k").unwrap().text().unwrap(), "[]");
    assert_eq!(find(&attribute(r#"{"kvlistValue":{"values":null}}"#), "k").unwrap().text().unwrap(), "{}");
    assert_eq!(find(&attribute("{}"), "k"), Some(Value::Empty));
    assert_eq!(find(&attribute("null"), "k"), Some(Value::Empty));
    assert_eq!(find(&attribute(r#"{"intValue":"9223372036854775807"}"#), "k"), Some(Value::Integer(i64::MAX)));
    assert_eq!(find(&attribute(r#"{"intValue":-9007199254740993}"#), "k"), Some(Value::Integer(-9_007_199_254_740_993)));
    assert_eq!(find(&attribute(r#"{"bytesValue":"_-8"}"#), "k"), Some(Value::Bytes(&[0xFF, 0xEF])));
    assert_eq!(find(&attribute(r#"{"stringValue":"a\u00e9\"\n"}"#), "k"), Some(Value::Text("aé\"\n")));
    assert_eq!(find(&attribute(r#"{"stringValue":null,"boolValue":false}"#), "k"), Some(Value::Bool(false)));
}

/// Guarantees: numbers that JSON cannot write come as protobuf's strings for them.
#[test]
fn special_numbers_are_strings() {
    for (text, expected) in [("NaN", "NaN"), ("Infinity", "inf"), ("-Infinity", "-inf"), ("1.5e3", "1500.0")] {
        let decoded = point(&format!(r#","asDouble":"{text}""#));
        assert_eq!(column(batch(&decoded, Stream::Metrics), "value"), [expected]);
    }
    let double = attribute(r#"{"doubleValue":"NaN"}"#);
    assert!(matches!(find(&double, "k"), Some(Value::Double(value)) if value.is_nan()));
}

/// Guarantees: snake_case names are read like lowerCamelCase, and names of the future are skipped.
#[test]
fn both_name_forms_and_unknown_names() {
    let body = r#"{"future":{"a":[1,{"b":null}]},"resource_spans":[{"scope_spans":[{"spans":[{"trace_id":"5b8efff798038103d269b633813fc60c",
        "span_id":"eee19b7ec3c1b174","start_time_unix_nano":1,"end_time_unix_nano":"3","trace\u005fstate":"ot=th:c","new_field":[[]],
        "attributes":[{"key":"k","value":{"string_value":"v"},"extra":0}]}]}]}]}"#;
    let decoded = decoded_json(body);
    let spans = batch(&decoded, Stream::Spans);
    assert_eq!(column(spans, "adjusted_count"), ["4.0"]);
    assert_eq!(find(&bytes(spans, "attributes")[0], "k"), Some(Value::Text("v")));
}

/// Guarantees: what is no OTLP request is an error that says where, never an empty success.
#[test]
fn malformed_bodies_are_errors() {
    assert!(failure(Signal::Traces, "").contains("EOF"));
    assert!(failure(Signal::Traces, "[]").contains("expected an object"));
    assert!(failure(Signal::Traces, "null").contains("null"));
    assert!(failure(Signal::Traces, "{} {}").contains("trailing"));
    assert!(failure(Signal::Traces, r#"{"resourceSpans":{}}"#).contains("expected a list"));
    assert!(failure(Signal::Traces, "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\n\"flags\":-1}]}]}]}").contains("line 2"));
    assert!(failure(Signal::Metrics, r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":5}]}]}]}"#).contains("string"));
    assert!(failure(Signal::Logs, r#"{"resourceLogs":[{"scopeLogs":"x"}]}"#).contains("list"));
}

/// Guarantees: nesting without end is refused, not followed down the stack.
#[test]
fn depth_is_limited() {
    let open = r#"{"arrayValue":{"values":["#.repeat(10_000);
    let body = format!(r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"k","value":{open}"#);
    assert!(failure(Signal::Traces, &body).contains("recursion"));
    let unknown = format!(r#"{{"unknown":{}"#, "[".repeat(100_000));
    assert!(failure(Signal::Traces, &unknown).contains("EOF"), "skipped values take no stack");
}
