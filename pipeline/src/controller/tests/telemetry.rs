//! Final windows of shipped views with known figures.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, RecordBatch, StringArray};
use tracescale_core::time::Timestamp;
use tracescale_queries::Emission;
use tracescale_queries::histogram::Histogram;

/// A final window of a minute.
fn window(view: &str, end: Timestamp, columns: Vec<(&str, ArrayRef)>) -> Emission {
    Emission {
        view: view.to_owned(),
        window_start: end - std::time::Duration::from_secs(60),
        window_end: end,
        is_final: true,
        revision: 0,
        rows: RecordBatch::try_from_iter(columns).unwrap(),
        evidence_time: end,
    }
}

fn text(value: Option<&str>) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

fn number(value: Option<f64>) -> ArrayRef {
    Arc::new(Float64Array::from(vec![value]))
}

/// A minute of a service: requests of which some take a second and the others a hundredth of one.
pub(in crate::controller) fn sojourn(service: &str, end: Timestamp, requests: f64, slow: f64) -> Emission {
    sampled(service, end, requests, slow, requests)
}

/// As [`sojourn`], with so many effective samples.
pub(in crate::controller) fn sampled(service: &str, end: Timestamp, requests: f64, slow: f64, samples: f64) -> Emission {
    let mut durations = Histogram::new();
    durations.record(0.01, requests - slow);
    durations.record(1.0, slow);
    let columns = vec![
        ("service_name", text(Some(service))),
        ("service_namespace", text(None)),
        ("distribution", Arc::new(BinaryArray::from_vec(vec![&durations.to_bytes()])) as ArrayRef),
        ("requests", number(Some(requests))),
        ("errors", number(Some(requests / 100.0))),
        ("n_eff", number(Some(samples))),
        ("presence", text(Some("active"))),
    ];
    window("service_sojourn", end, columns)
}

/// A minute of a service of which no telemetry came.
pub(in crate::controller) fn silence(service: &str, end: Timestamp) -> Emission {
    let columns = vec![("service_name", text(Some(service))), ("requests", number(None)), ("presence", text(Some("missing")))];
    window("service_sojourn", end, columns)
}

/// What is said of causes: whether more replicas of the service help, and who is to blame for 80 % of the delay.
pub(in crate::controller) fn cause(service: &str, end: Timestamp, helps: &str, blamed: Option<&str>, utilization: f64) -> Emission {
    let columns = vec![
        ("service_name", text(Some(service))),
        ("service_namespace", text(None)),
        ("cause", text(blamed)),
        ("cause_kind", text(blamed.map(|_| "capacity"))),
        ("cause_share", number(blamed.map(|_| 0.8))),
        ("queue_share", number(blamed.map(|_| 0.9))),
        ("utilization", number(Some(utilization))),
        ("more_helps", text(Some(helps))),
        ("blocked_by", text(blamed.filter(|_| helps == "no"))),
    ];
    window("service_cause", end, columns)
}

/// How busy the model thinks that a service is.
pub(in crate::controller) fn queue(service: &str, end: Timestamp, utilization: f64) -> Emission {
    window("service_queue", end, vec![("service_name", text(Some(service))), ("utilization", number(Some(utilization)))])
}

/// Versions that sent spans.
pub(in crate::controller) fn versions(service: &str, end: Timestamp, lowest: &str, highest: &str) -> Emission {
    let columns =
        vec![("service_name", text(Some(service))), ("lowest_version", text(Some(lowest))), ("highest_version", text(Some(highest)))];
    window("workloads", end, columns)
}

/// Who sent spans, by where they run: instances that tell themselves apart, and requests.
pub(in crate::controller) fn senders(service: &str, end: Timestamp, places: &[(Option<f64>, f64)]) -> Emission {
    let numbers =
        |number: fn(&(Option<f64>, f64)) -> Option<f64>| -> ArrayRef { Arc::new(places.iter().map(number).collect::<Float64Array>()) };
    let columns = vec![
        ("service_name", Arc::new(StringArray::from(vec![service; places.len()])) as ArrayRef),
        ("instances", numbers(|(instances, _)| *instances)),
        ("n_eff", numbers(|(_, samples)| Some(*samples))),
    ];
    window("workloads", end, columns)
}

/// What metrics count and spans account for, in requests a second; each span stands for one.
pub(in crate::controller) fn sampling(service: &str, end: Timestamp, measured: Option<f64>, spans: f64) -> Emission {
    let columns = vec![
        ("service_name", text(Some(service))),
        ("service_namespace", text(None)),
        ("measured_rate", number(measured)),
        ("measured_by", text(measured.map(|_| "http.server.request.duration"))),
        ("span_rate", number(Some(spans))),
        ("n_eff", number(Some(spans * 60.0))),
    ];
    window("service_sampling", end, columns)
}

/// One service calls another.
pub(in crate::controller) fn call(client: &str, server: &str, end: Timestamp) -> Emission {
    window("calls", end, vec![("client_service", text(Some(client))), ("server_service", text(Some(server)))])
}
