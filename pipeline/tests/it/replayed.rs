//! Runs over captures: complete, repeatable, and quick to react in the time of the capture.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::process::run;
use crate::traffic::{BASE, capture, capture_of};

/// A target that may be acted on, and a rule that wants one replica for every 10 requests a second.
const CONFIG: &str = "
apiVersion: tracescale.io/v1alpha1
kind: ScalingTarget
metadata: {name: checkout}
spec:
  memory: {replicas: 1}
  service: {name: checkout, namespace: shop}
---
apiVersion: tracescale.io/v1alpha1
kind: ScalingRule
metadata: {name: rate}
spec:
  every: 5s
  mode: enforce
  sql: |
    SELECT target, completion_rate / 10 AS replicas, l.n_eff, l.completeness, l.age, l.presence, l.is_final, l.window_end
    FROM targets JOIN burst l USING (service_name) WHERE window_end = latest()
  policy: {min: 1, max: 50, scaleUp: {policies: [{type: Percent, value: 10000, period: 1s}]}, scaleDown: {stabilizationWindow: 0s}}
";

const VIEW: &str = "
CREATE VIEW burst AS
SELECT window_start, window_end, service_name, coalesce(sum(adjusted_count), 0) / window_seconds() AS completion_rate, count(*) AS n_eff
FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '10 seconds') WHERE is_entry
GROUP BY window_start, window_end, service_name;
";

fn replay(dir: &Path) -> Vec<Value> {
    let done = run(dir, &["run", "--config", "config", "--replay", "capture.zst", "--speed", "max", "--json"]);
    assert!(done.status.success(), "{}", done.stderr);
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn prepared(spans_per_second: impl IntoIterator<Item = u64>) -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("config")).unwrap();
    fs::write(dir.path().join("config/documents.yaml"), CONFIG).unwrap();
    fs::write(dir.path().join("config/burst.sql"), VIEW).unwrap();
    let total = capture(&dir.path().join("capture.zst"), spans_per_second);
    (dir, total)
}

/// Guarantees: no span of a capture is lost or counted twice in any final window of any size, and the summary counts all.
#[test]
fn every_span_is_in_every_window_that_covers_it() {
    let counts: Vec<u64> = (0..90).map(|second| 5 + second % 7).collect();
    let (dir, total) = prepared(counts.clone());
    let lines = replay(dir.path());
    assert_eq!(lines.last().unwrap()["spans"], total);
    let mut finals = BTreeMap::new();
    for line in lines.iter().filter(|line| line["view"] == "service_latency" && line["is_final"] == true && line["presence"] == "active") {
        let start = line["window_start"].as_str().unwrap().to_owned();
        let (rows, revision) = (line["samples"].as_u64().unwrap(), line["revision"].as_i64().unwrap());
        assert_eq!((finals.insert(start, rows), revision), (None, 0), "{line}");
    }
    // Windows of a minute that begin every five seconds: 17 reach into 90 seconds before or at their start, 30 in all.
    for (start, rows) in &finals {
        let start = chrono::DateTime::parse_from_rfc3339(start).unwrap().timestamp();
        let covers = |second: &usize| (start..start + 60).contains(&(i64::try_from(BASE).unwrap() + i64::try_from(*second).unwrap()));
        assert_eq!(*rows, (0..counts.len()).filter(covers).map(|second| counts[second]).sum::<u64>(), "window at {start}");
    }
    assert_eq!(finals.values().sum::<u64>(), 12 * total);
}

/// Guarantees: the same capture gives the same rows and decisions, to the last digit.
#[test]
fn a_replay_repeats_itself() {
    let (dir, _) = prepared((0..120).map(|second| if second < 60 { 20 } else { 200 }));
    let (first, second) = (replay(dir.path()), replay(dir.path()));
    assert!(first.iter().any(|line| line["action"] == "scale_up"));
    assert_eq!(first.len(), second.len());
    for (one, other) in first.iter().zip(&second) {
        assert_eq!(one, other);
    }
}

/// Guarantees: a burst leads to a scale call at the first slide after the spans that prove it, in the time of the capture.
#[test]
fn a_burst_is_answered_within_a_slide() {
    let burst = 62;
    let (dir, _) = prepared((0..100).map(|second| if second < burst { 10 } else { 300 }));
    let lines = replay(dir.path());
    let up = lines.iter().find(|line| line["action"] == "scale_up" && line["desired"].as_u64() > Some(2)).expect("a scale-up");
    let millis = up["at"].as_i64().unwrap() / 1_000_000 - i64::try_from((BASE + burst) * 1000).unwrap();
    assert!((0..=5250).contains(&millis), "{millis} ms after the burst began");
    let evidence = (up["at"].as_i64().unwrap() - up["evidenceTime"].as_i64().unwrap()) / 1_000_000;
    assert!((0..=5250).contains(&evidence), "{evidence} ms after the newest row behind it");
}

/// Guarantees: when the telemetry stops, demand is missing and the capacity is kept, also before the source counts as silent and
/// with no stabilization window to hide it; silence is never taken for zero.
#[test]
fn silence_holds() {
    let quiet_then_one = |second| if second < 60 || second == 299 { 100 } else { 0 };
    let (dir, _) = prepared((0..300).map(quiet_then_one));
    let lines = replay(dir.path());
    let decisions: Vec<_> = lines.iter().filter(|line| line["type"] == "decision").collect();
    let late = |line: &&&Value| line["at"].as_i64().unwrap() / 1_000_000_000 > i64::try_from(BASE).unwrap() + 200;
    let missing: Vec<_> = decisions.iter().filter(late).filter(|line| line["reason"] == "data_missing").collect();
    assert!(missing.len() > 10, "{} decisions without data", missing.len());
    assert!(decisions.iter().all(|line| line["action"] != "scale_down"));
}

/// Guarantees: a scale-down after which requests miss the objective is taken back and not repeated, from spans to orders.
#[test]
fn a_scale_down_that_hurts_is_taken_back() {
    let (dir, _) = prepared([]);
    let service = "service: {name: checkout, namespace: shop}";
    let promised = CONFIG.replace(service, &format!("{service}\n  objective: {{latency: 200ms}}"));
    fs::write(dir.path().join("config/documents.yaml"), promised).unwrap();
    // Half of the traffic goes away, and what is left becomes slow a minute later.
    let traffic = |second| (if second < 250 { 60 } else { 30 }, Duration::from_millis(if second < 300 { 100 } else { 500 }));
    let _ = capture_of(&dir.path().join("capture.zst"), (0..420).map(traffic));
    let lines = replay(dir.path());
    let orders = lines.iter().filter(|line| line["action"] == "scale_up" || line["action"] == "scale_down");
    let orders: Vec<_> = orders.map(|line| (line["reason"].as_str().unwrap(), line["desired"].as_u64().unwrap())).collect();
    let down = orders.iter().rposition(|(_, desired)| *desired == 3).expect("a scale-down");
    assert_eq!(orders[down + 1..], [("rolled_back", 6)], "{orders:?}");
}

/// Guarantees: a capture that was cut off gives what it has and says where it ends; something else is refused.
#[test]
fn a_torn_capture_is_read_to_its_end() {
    let (dir, total) = prepared([10; 30]);
    let path = dir.path().join("capture.zst");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
    let done = run(dir.path(), &["run", "--replay", "capture.zst", "--speed", "max", "--json"]);
    assert!(done.status.success());
    assert!(done.stderr.contains("cut off at byte"), "{}", done.stderr);
    let summary: Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(summary["spans"], total - 10);
    let missing = run(dir.path(), &["run", "--replay", "nowhere.zst"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(missing.stderr.contains("nowhere.zst"), "{}", missing.stderr);
}
