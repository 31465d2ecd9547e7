//! Runs over captures: complete, repeatable, and quick to react in the time of the capture.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::Value;

use crate::documents::{rule, target};
use crate::process::{Finished, run};
use crate::traffic::{BASE, capture, capture_of, capture_requests, request};

/// One replica for every 10 requests a second.
fn documents() -> String {
    let policy =
        "{min: 1, max: 50, scaleUp: {policies: [{type: Percent, value: 10000, period: 1s}]}, scaleDown: {stabilizationWindow: 0s}}";
    target(1) + "---" + &rule("5s", "completion_rate / 10", "burst", policy)
}

const VIEW: &str = "
CREATE VIEW burst AS
SELECT window_start, window_end, service_name, coalesce(sum(adjusted_count), 0) / window_seconds() AS completion_rate, count(*) AS n_eff
FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '10 seconds') WHERE is_entry
GROUP BY window_start, window_end, service_name;
";

fn replay(dir: &Path) -> Vec<Value> {
    lines(&replayed(dir))
}

fn replayed(dir: &Path) -> Finished {
    let done = run(dir, &["run", "--config", "config", "--replay", "capture.zst", "--speed", "max", "--json"]);
    assert!(done.status.success(), "{}", done.stderr);
    done
}

fn lines(done: &Finished) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Rows that final windows of a view count, corrections left out.
fn counted(lines: &[Value], view: &str) -> f64 {
    let finals = lines.iter().filter(|line| line["view"] == view && line["is_final"] == true && line["revision"] == 0);
    finals.map(|line| line["n_eff"].as_f64().unwrap_or(0.0)).sum()
}

/// When decisions were made.
fn decided(lines: &[Value]) -> Vec<i64> {
    lines.iter().filter(|line| line["type"] == "decision").map(|line| line["at"].as_i64().unwrap()).collect()
}

fn prepared(spans_per_second: impl IntoIterator<Item = u64>) -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("config")).unwrap();
    fs::write(dir.path().join("config/documents.yaml"), documents()).unwrap();
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

/// Guarantees: the same capture gives the same rows and decisions, in their order and to the last digit, also of services that fall
/// silent.
#[test]
fn a_replay_repeats_itself() {
    let (dir, _) = prepared([]);
    let silent = ["cart", "mail", "stock", "search", "tax"].map(|service| request(service, BASE, 5, Duration::from_millis(50)));
    let load = (0..120).map(|second| (second, if second < 60 { 20 } else { 200 }));
    let load = load.map(|(second, count)| request("checkout", BASE + second, count, Duration::from_millis(100)));
    capture_requests(&dir.path().join("capture.zst"), silent.into_iter().chain(load));
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
    let quiet_then_some = |second| if (60..297).contains(&second) { 0 } else { 100 };
    let (dir, _) = prepared((0..300).map(quiet_then_some));
    let lines = replay(dir.path());
    let decisions: Vec<_> = lines.iter().filter(|line| line["type"] == "decision").collect();
    let late = |line: &&&Value| line["at"].as_i64().unwrap() / 1_000_000_000 > i64::try_from(BASE).unwrap() + 200;
    let missing: Vec<_> = decisions.iter().filter(late).filter(|line| line["reason"] == "data_missing").collect();
    assert!(missing.len() > 10, "{} decisions without data", missing.len());
    assert!(decisions.iter().all(|line| line["action"] != "scale_down"));
}

/// Seconds from a request to those of another day.
const DAY: u64 = 86_400;

/// The spans of 90 seconds as requests, with a request of three spans each put in at these places and that much later.
fn with_strays(strays: &[(usize, u64)]) -> Vec<ExportTraceServiceRequest> {
    let length = Duration::from_millis(100);
    let mut requests: Vec<_> = (0..90).map(|second| request("checkout", BASE + second, 20, length)).collect();
    for (place, later) in strays.iter().rev() {
        requests.insert(*place, request("checkout", BASE + *place as u64 + later, 3, length));
    }
    requests
}

/// Guarantees: requests from clocks that are ahead, by minutes or more than a year, at the beginning, in the middle or at the end,
/// move no decision to another time, lose no row of others, are counted as live, a little ahead, and are told.
#[test]
fn clocks_that_are_ahead_do_not_move_recorded_time() {
    let (dir, _) = prepared([]);
    let path = dir.path().join("capture.zst");
    capture_requests(&path, with_strays(&[]));
    let expected = replay(dir.path());
    // Three spans more in a window may be a replica more: what must be the same is when decisions are made.
    for strays in [&[(0, 600), (45, 400 * DAY), (46, 600), (90, 600)][..], &[(0, 400 * DAY), (45, 600), (89, 400 * DAY), (90, 400 * DAY)]] {
        capture_requests(&path, with_strays(strays));
        let done = replayed(dir.path());
        let lines = lines(&done);
        // Windows of 10 seconds, every 5.
        let of_strays = counted(&lines, "burst") - counted(&expected, "burst");
        assert!((of_strays - f64::from(2 * 3 * u32::try_from(strays.len()).unwrap())).abs() < 1e-6, "{strays:?}: {of_strays}");
        assert_eq!(decided(&lines), decided(&expected), "{strays:?}");
        assert!(done.stderr.contains("12 spans") && done.stderr.contains("ahead of the requests around them"), "{}", done.stderr);
        let asked = run(
            dir.path(),
            &[
                "sql",
                "--config",
                "config",
                "--capture",
                "capture.zst",
                "--format",
                "json",
                "SELECT sum(n_eff) AS n FROM burst WHERE revision = 0",
            ],
        );
        let rows: Value = serde_json::from_str(asked.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {}", asked.stderr));
        assert!((rows["n"].as_f64().unwrap() - counted(&lines, "burst")).abs() < 1e-6, "{rows}");
    }
}

/// Guarantees: a pause of the recording for hours or more than a year is one: what was recorded behind it is counted whole and decided
/// on at its time, and the pause itself takes no longer to replay than the time in which something is left of what came before.
#[test]
fn a_pause_of_the_recording_is_left_out() {
    let (dir, _) = prepared([]);
    for pause in [3 * 3600, 400 * DAY] {
        let seconds = (0..60).chain(60 + pause..120 + pause);
        let requests = seconds.map(|second| request("checkout", BASE + second, 20, Duration::from_millis(100)));
        capture_requests(&dir.path().join("capture.zst"), requests);
        let done = replayed(dir.path());
        let lines = lines(&done);
        assert!((counted(&lines, "burst") - f64::from(2 * 20 * 120)).abs() < 1e-6);
        let behind = i64::try_from((BASE + 60 + pause) * 1_000_000_000).unwrap();
        let after = decided(&lines).into_iter().filter(|at| *at > behind).count();
        assert!(after > 10, "{after} decisions behind the pause");
        assert!(!done.stderr.contains("ahead of the requests"), "{}", done.stderr);
    }
}

/// Guarantees: a scale-down after which requests miss the objective is taken back and not repeated, from spans to orders.
#[test]
fn a_scale_down_that_hurts_is_taken_back() {
    let (dir, _) = prepared([]);
    let service = "service: {name: checkout, namespace: shop}";
    let promised = documents().replace(service, &format!("{service}\n  objective: {{latency: 200ms}}"));
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

/// Guarantees: a capture that was cut off gives what it has and says where it ends; every command tells what is damaged; a file that is
/// missing is named.
#[test]
fn a_torn_capture_is_read_to_its_end() {
    let (dir, total) = prepared([10; 30]);
    let path = dir.path().join("capture.zst");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
    let done = run(dir.path(), &["run", "--replay", "capture.zst", "--speed", "max", "--json"]);
    assert!(done.status.success());
    assert!(done.stderr.contains("capture.zst counts only up to byte"), "{}", done.stderr);
    let summary: Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(summary["spans"], total - 10);
    let damaged = [b"\0\0\0\x02\x0a\x7f".as_slice(), &bytes].concat();
    fs::write(&path, damaged).unwrap();
    for arguments in [
        &["run", "--replay", "capture.zst", "--speed", "max"][..],
        &["sql", "--capture", "capture.zst", "SELECT count(*) FROM spans"],
        &["backtest", "--capture", "capture.zst"],
    ] {
        let done = run(dir.path(), arguments);
        assert!(done.status.success(), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains("capture.zst has requests that cannot be read"), "{arguments:?}: {}", done.stderr);
    }
    let missing = run(dir.path(), &["run", "--replay", "nowhere.zst"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(missing.stderr.contains("nowhere.zst"), "{}", missing.stderr);
}
