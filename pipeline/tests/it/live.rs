//! A live run from the outside: OTLP in, rows, decisions and a scale call out, an orderly end.

use std::fs;
use std::time::Duration;

use crate::documents::{rule, target};
use crate::process::{Process, run};
use crate::traffic::{request, send, this_second};

/// 1 s of work each, so that a few spans are demand enough.
fn wants(replicas: &str) -> String {
    rule("1s", replicas, "service_latency", "{min: 1, max: 10, gates: {minSamples: {scaleUp: 10}}}")
}

/// Guarantees: with no configuration at all, a service that sends spans is shown and gets a recommendation; after SIGTERM the
/// summary counts exactly what was acknowledged, and the exit code is 0.
#[tokio::test]
async fn a_newcomer_sees_services_and_recommendations() {
    let dir = tempfile::tempdir().unwrap();
    let (process, grpc, _) = Process::start(dir.path(), &[]);
    let now = this_second();
    send(grpc, (now - 10..now).map(|second| request("checkout", second, 20, Duration::from_millis(50)))).await;
    let row = process.wait_for(|line| line["view"] == "service_latency" && line["service_name"] == "checkout");
    assert_eq!(row["presence"], "active");
    let decision =
        process.wait_for(|line| line["type"] == "decision" && line["target"] == "shop.checkout" && line["chosenRule"] == "observe");
    assert_eq!((&decision["mode"], &decision["current"]), (&"recommend".into(), &1.into()));
    let (summary, status) = process.stop();
    assert_eq!((&summary["spans"], &summary["rejected"]), (&200.into(), &0.into()));
    assert!(status.success());
}

/// Guarantees: demand leads to a scale call on the target, the next observation sees it, `explain` tells why, and
/// `/metrics` counts it.
#[tokio::test]
async fn demand_scales_and_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("target.yaml"), target(1)).unwrap();
    fs::write(dir.path().join("rule.yaml"), wants("4")).unwrap();
    let (process, grpc, metrics) = Process::start(dir.path(), &["--config", "."]);
    let now = this_second();
    send(grpc, (now - 10..now).map(|second| request("checkout", second, 20, Duration::from_millis(50)))).await;
    let up = process.wait_for(|line| line["type"] == "decision" && line["action"] == "scale_up");
    assert_eq!((&up["current"], &up["desired"], &up["mode"]), (&1.into(), &4.into(), &"enforce".into()));
    process.wait_for(|line| line["type"] == "decision" && line["current"] == 4 && line["action"] == "none");
    let page = http_get(metrics, "/metrics").await;
    assert!(page.contains("tracescale_received_items_total{signal=\"traces\"} 200"), "{page}");
    assert!(page.contains("tracescale_sink_calls_total{kind=\"apply\",result=\"ok\"} 1"), "{page}");
    let (_, status) = process.stop();
    assert!(status.success());
    let told = run(dir.path(), &["explain", up["id"].as_str().unwrap()]);
    assert!(told.status.success(), "{}", told.stderr);
    for part in [
        "scale_up: 1 -> 4 replicas, enforce mode",
        "load: 4.000 replicas, provisional window",
        "what each guard did",
        "applied: 1 -> 4 replicas, read back",
    ] {
        assert!(told.stdout.contains(part), "{part} is missing in:\n{}", told.stdout);
    }
}

/// Guarantees: SIGHUP takes new rules over without a restart, and a broken file leaves the old ones in force.
#[tokio::test]
async fn rules_are_read_again_on_sighup() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("target.yaml"), target(1)).unwrap();
    fs::write(dir.path().join("rule.yaml"), wants("2")).unwrap();
    let (process, grpc, _) = Process::start(dir.path(), &["--config", "."]);
    let now = this_second();
    send(grpc, (now - 10..now).map(|second| request("checkout", second, 20, Duration::from_millis(50)))).await;
    process.wait_for(|line| line["type"] == "decision" && line["desired"] == 2);
    fs::write(dir.path().join("rule.yaml"), "kind: Nonsense").unwrap();
    process.signal("-HUP");
    process.wait_for(|line| line["type"] == "decision" && line["desired"] == 2);
    fs::write(dir.path().join("rule.yaml"), wants("5")).unwrap();
    process.signal("-HUP");
    process.wait_for(|line| line["type"] == "decision" && line["desired"] == 5);
    assert!(process.stop().1.success());
}

/// Guarantees: every metric that `/metrics` shows after a run with traffic and decisions is on the page that documents them.
#[tokio::test]
async fn every_metric_is_documented() {
    let dir = tempfile::tempdir().unwrap();
    let (process, grpc, metrics) = Process::start(dir.path(), &[]);
    let now = this_second();
    send(grpc, [request("checkout", now, 20, Duration::from_millis(50))]).await;
    process.wait_for(|line| line["type"] == "decision");
    let page = http_get(metrics, "/metrics").await;
    let names: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let documented = include_str!("../../../deploy/metrics.md");
    assert!(names.len() > 20, "{page}");
    for name in names {
        assert!(documented.contains(&format!("`{name}")), "deploy/metrics.md does not name {name}");
    }
}

/// Guarantees: our own spans reach another receiver when one is configured, and our own receiver is refused as that other.
#[tokio::test]
async fn own_spans_are_exported() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (other, other_grpc, _) = Process::start(there.path(), &[]);
    let settings = |endpoint: &str| {
        format!("apiVersion: tracescale.io/v1alpha1\nkind: Settings\nspec: {{telemetry: {{otlpEndpoint: \"{endpoint}\"}}}}\n")
    };
    fs::write(here.path().join("settings.yaml"), settings(&format!("http://{other_grpc}"))).unwrap();
    let (process, _, _) = Process::start(here.path(), &["--config", "."]);
    assert!(process.stop().1.success());
    let (summary, _) = other.stop();
    assert!(summary["spans"].as_u64() > Some(0), "{summary}");
    fs::write(here.path().join("settings.yaml"), settings("http://localhost:4317")).unwrap();
    let refused = run(here.path(), &["run", "--config", "."]);
    assert_eq!(refused.status.code(), Some(64));
    assert!(refused.stderr.contains("our own receiver"), "{}", refused.stderr);
}

async fn http_get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: tracescale\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
