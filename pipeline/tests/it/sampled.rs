//! Traces that are sampled without saying so, against metrics that count every request: from a capture to decisions and alerts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Histogram, HistogramDataPoint, Metric, ResourceMetrics, ScopeMetrics, metric,
};
use prost::Message;
use serde_json::Value;
use tracescale_ingest::capture::{Format, Writer};
use tracescale_ingest::decode::{Encoding, Signal};

use crate::documents::{rule, target};
use crate::process::run;
use crate::traffic::{BASE, request};

/// Requests a second, and the minutes in which all of them have spans; afterwards one in ten has.
const RATE: u64 = 20;
const WHOLE: u64 = 240;
const LENGTH: u64 = 720;

/// All requests by a histogram that is exported once a minute.
fn counted(second: u64) -> ExportMetricsServiceRequest {
    let count = (second - BASE) * RATE;
    let point = HistogramDataPoint {
        start_time_unix_nano: BASE * 1_000_000_000,
        time_unix_nano: second * 1_000_000_000,
        count,
        sum: Some(f64::from(u32::try_from(count).unwrap()) * 0.1),
        explicit_bounds: vec![1.0],
        bucket_counts: vec![count, 0],
        ..HistogramDataPoint::default()
    };
    let histogram = Histogram { data_points: vec![point], aggregation_temporality: AggregationTemporality::Cumulative as i32 };
    let metric = Metric {
        name: "http.server.request.duration".into(),
        unit: "s".into(),
        data: Some(metric::Data::Histogram(histogram)),
        ..Metric::default()
    };
    let resource = request("checkout", second, 0, Duration::ZERO).resource_spans.remove(0).resource;
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }] }
}

fn write_capture(path: &Path) {
    let mut writer = Writer::new(Vec::new(), Format::ProtoZstd);
    for second in BASE..BASE + LENGTH {
        let spans = if second < BASE + WHOLE { RATE } else { RATE / 10 };
        let body = request("checkout", second, spans, Duration::from_millis(100)).encode_to_vec();
        writer.write(Signal::Traces, Encoding::Protobuf, &body).unwrap();
        // Not at the turn of a minute.
        if second > BASE && second % 60 == 17 {
            writer.write(Signal::Metrics, Encoding::Protobuf, &counted(second).encode_to_vec()).unwrap();
        }
    }
    fs::write(path, writer.into_inner()).unwrap();
}

/// The last order of the run, if any, and the last decision.
fn last(lines: &[Value]) -> (Option<u64>, &str) {
    let order = lines.iter().rfind(|line| line["action"] == "scale_up" || line["action"] == "scale_down");
    let decision = lines.iter().rfind(|line| line["type"] == "decision").expect("a decision");
    (order.and_then(|line| line["desired"].as_u64()), decision["reason"].as_str().unwrap())
}

/// Guarantees: when traces begin to be sampled nothing is taken away that metrics show to be needed, people are told once what to
/// declare, and every decision is made again from its record, bit for bit.
#[test]
fn sampled_traces_do_not_take_capacity_away() {
    let dir = tempfile::tempdir().unwrap();
    write_capture(&dir.path().join("capture.zst"));
    // One replica for every 2 requests a second.
    let documents = target(10) + "---" + &rule("5s", "completion_rate / 2", "service_load", "{min: 1, max: 200}");
    fs::write(dir.path().join("documents.yaml"), documents).unwrap();
    let arguments = ["--config", "documents.yaml", "--replay", "capture.zst", "--speed", "max", "--json", "--data-dir", "data"];
    let done = run(dir.path(), &[&["run"], &arguments[..]].concat());
    assert!(done.status.success(), "{}", done.stderr);
    let lines: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(last(&lines), (None, "traces_sampled"));
    let told: Vec<_> = done.stderr.lines().filter(|line| line.contains("its traces are sampled")).collect();
    assert_eq!(told.len(), 1, "{}", done.stderr);
    assert!(told[0].contains("20 requests/s by http.server.request.duration, spans account for 2:"), "{}", told[0]);
    assert!(told[0].contains("`spec.sampling.services.checkout: 0.1`"), "{}", told[0]);
    let again = run(dir.path(), &["explain", "all", "--replay", "--data-dir", "data"]);
    assert!(again.status.success() && again.stdout.contains("; 0 are not"), "{}{}", again.stdout, again.stderr);
}
