//! What is kept: over a `kill -9` and a restart, in SQL, replayed, tried again in a backtest; and what other systems' documents become.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::process::{Process, run};
use crate::traffic::{capture, request, send, this_second};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rows(dir: &Path, sql: &str) -> Vec<Value> {
    let finished = run(dir, &["sql", "--format", "json", sql]);
    assert!(finished.status.success(), "{}", finished.stderr);
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Guarantees: every acknowledged span is in SQL exactly once, from the log at once and from files after an orderly stop, also when
/// the process was killed in between; recorded decisions are made again bit for bit; a query that is wrong says how.
#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    const COUNT: &str = "SELECT service_name, count(*) AS n, count(DISTINCT span_id) AS ids FROM spans GROUP BY service_name";
    let dir = tempfile::tempdir().unwrap();
    let expected = |n: u64| serde_json::json!({"service_name": "cart", "n": n, "ids": n});
    let (process, grpc, _) = Process::start(dir.path(), &[]);
    let now = this_second();
    send(grpc, (now - 10..now).map(|second| request("cart", second, 20, Duration::from_millis(50)))).await;
    process.signal("-KILL");
    drop(process);
    assert_eq!(rows(dir.path(), COUNT), [expected(200)]);

    let (process, grpc, _) = Process::start(dir.path(), &[]);
    let now = this_second() + 1;
    tokio::time::sleep(Duration::from_secs(1)).await;
    send(grpc, (now..now + 1).map(|second| request("cart", second, 30, Duration::from_millis(50)))).await;
    process.wait_for(|line| line["type"] == "decision");
    let (_, status) = process.stop();
    assert!(status.success());
    assert_eq!(rows(dir.path(), COUNT), [expected(230)]);
    let files = run(dir.path(), &["sql", "SELECT count(*) FROM spans WHERE end_time < '2020-01-01'"]);
    assert!(files.stderr.contains("spans: 0 of "), "{}", files.stderr);

    assert!(!rows(dir.path(), "SELECT id, target FROM decisions WHERE record LIKE '%inputs%'").is_empty());
    let replayed = run(dir.path(), &["explain", "all", "--replay"]);
    assert!(replayed.status.success() && replayed.stdout.contains("; 0 are not"), "{}{}", replayed.stdout, replayed.stderr);
    assert!(run(dir.path(), &["sql", "--audit"]).status.success());
    fs::write(dir.path().join(".tracescale/archive/v1/spans/date=2020-01-01.parquet"), "foreign").unwrap();
    let audit = run(dir.path(), &["sql", "--audit"]);
    assert_eq!(audit.status.code(), Some(1), "{}", audit.stdout);
    assert_eq!(rows(dir.path(), COUNT), [expected(230)]);
    let wrong = run(dir.path(), &["sql", "SELECT no_such FROM spans"]);
    assert_eq!(wrong.status.code(), Some(64));
    assert!(wrong.stderr.contains("no_such"), "{}", wrong.stderr);
}

/// Guarantees: what is declared of sampling holds for what is received, for what the log still has after a kill, for files of the
/// archive, and for a capture and the windows of a run over it.
#[tokio::test]
async fn declared_sampling_is_the_same_everywhere() {
    const SUM: &str = "SELECT service_name, sum(adjusted_count) AS n, bool_and(sampling_known) AS known FROM spans GROUP BY 1 ORDER BY 1";
    const SETTINGS: &str = "apiVersion: tracescale.io/v1alpha1\nkind: Settings\nspec: {sampling: {services: {cart: 0.1}}}\n";
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("settings.yaml"), SETTINGS).unwrap();
    let asked = |arguments: &[&str]| {
        let finished = run(dir.path(), &[&["sql", "--format", "json"], arguments].concat());
        assert!(finished.status.success(), "{}", finished.stderr);
        finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let expected = [("cart", 500.0, true), ("pay", 50.0, false)]
        .map(|(service, n, known)| serde_json::json!({"service_name": service, "n": n, "known": known}));
    let (process, grpc, _) = Process::start(dir.path(), &["--config", "settings.yaml"]);
    let now = this_second();
    send(grpc, ["cart", "pay"].map(|service| request(service, now, 50, Duration::from_millis(50)))).await;
    process.signal("-KILL");
    drop(process);
    assert_eq!(asked(&["--config", "settings.yaml", SUM]), expected, "from the log");
    let (process, ..) = Process::start(dir.path(), &["--config", "settings.yaml"]);
    process.wait_for(|line| line["type"] == "view" && line["view"] == "service_load");
    assert!(process.stop().1.success());
    assert_eq!(asked(&[SUM]), expected, "from files");

    capture(&dir.path().join("capture.zst"), [20; 70]);
    fs::write(dir.path().join("settings.yaml"), SETTINGS.replace("cart", "checkout")).unwrap();
    let of = |sql| asked(&["--config", "settings.yaml", "--capture", "capture.zst", sql]);
    assert_eq!(of(SUM), [serde_json::json!({"service_name": "checkout", "n": 14_000.0, "known": true})]);
    let rates = of("SELECT max(completion_rate) AS most FROM service_load");
    assert_eq!(rates, [serde_json::json!({"most": 200.0})]);
    let replayed = run(dir.path(), &["run", "--config", "settings.yaml", "--replay", "capture.zst", "--speed", "max", "--json"]);
    let lines = replayed.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let rates = lines.filter(|line| line["view"] == "service_load").filter_map(|line| line["completion_rate"].as_f64());
    assert!((rates.fold(0.0, f64::max) - 200.0).abs() < 1e-6);
}

/// Guarantees: after a kill, decisions go on from the last one that was written down.
#[tokio::test]
async fn decisions_go_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let decisions = || -> Vec<Value> {
        let journal = fs::read_to_string(dir.path().join(".tracescale/decisions-000001.jsonl")).unwrap_or_default();
        let records = journal.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter(|record| record["inputs"].is_object()).collect()
    };
    let mut counts = Vec::new();
    for _ in 0..2 {
        let (process, grpc, _) = Process::start(dir.path(), &[]);
        let now = this_second();
        tokio::time::sleep(Duration::from_secs(1)).await;
        send(grpc, (now..now + 1).map(|second| request("cart", second, 30, Duration::from_millis(50)))).await;
        process.wait_for(|line| line["type"] == "decision");
        let known = counts.last().copied().unwrap_or(0);
        while decisions().len() == known {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        process.signal("-KILL");
        drop(process);
        counts.push(decisions().len());
    }
    let (all, first) = (decisions(), counts[0]);
    let last = |record: &Value| record["inputs"]["state"]["lastDecision"].clone();
    assert!(last(&all[0]).is_null() && all.len() > first, "{first} {}", all.len());
    assert!(!last(&all[first]).is_null(), "{}", all[first]);
}

/// Guarantees: a log that lost its name is not archived a second time under another, and one that is damaged is not taken for a
/// short one.
#[tokio::test]
async fn a_log_without_its_name_or_with_damage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (process, grpc, _) = Process::start(dir.path(), &[]);
    let now = this_second();
    send(grpc, (now - 10..now).map(|second| request("cart", second, 20, Duration::from_millis(50)))).await;
    process.signal("-KILL");
    drop(process);
    let log = dir.path().join(".tracescale/wal");
    let name = fs::read_to_string(log.join("writer")).unwrap();
    let any = "127.0.0.1:0";
    for wrong in [None, Some("garbage")] {
        match wrong {
            None => fs::remove_file(log.join("writer")).unwrap(),
            Some(text) => fs::write(log.join("writer"), text).unwrap(),
        }
        let refused = run(dir.path(), &["run", "--grpc", any, "--http", any, "--metrics", any]);
        assert!(!refused.status.success() && refused.stderr.contains("writer"), "{}", refused.stderr);
    }
    fs::write(log.join("writer"), &name).unwrap();
    fs::remove_dir_all(dir.path().join(".tracescale/archive")).unwrap_or_default();
    let segment = log.join("00000000000000000001.wal");
    let mut bytes = fs::read(&segment).unwrap();
    let third = bytes.len() / 3;
    bytes[third..third + 8].fill(b'Z');
    fs::write(&segment, bytes).unwrap();
    let damaged = run(dir.path(), &["sql", "SELECT count(*) FROM spans"]);
    assert!(!damaged.status.success() && damaged.stderr.contains("is damaged at byte"), "{}{}", damaged.stdout, damaged.stderr);
}

/// Guarantees: a decision whose record was changed is not the same when it is made again, and its fields are named.
#[tokio::test]
async fn a_changed_record_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (process, grpc, _) = Process::start(dir.path(), &[]);
    let now = this_second();
    send(grpc, (now - 10..now).map(|second| request("cart", second, 20, Duration::from_millis(50)))).await;
    let decision = process.wait_for(|line| line["type"] == "decision" && line["target"] == "shop.cart");
    let (_, status) = process.stop();
    assert!(status.success());
    let id = decision["id"].as_str().unwrap();
    assert!(run(dir.path(), &["explain", id, "--replay"]).status.success());
    let journal = dir.path().join(".tracescale/decisions-000001.jsonl");
    let changed: Vec<String> = fs::read_to_string(&journal)
        .unwrap()
        .lines()
        .map(|line| match serde_json::from_str::<Value>(line) {
            Ok(mut record) if record["id"] == id => {
                record["desired"] = 77.into();
                record.to_string()
            }
            _ => line.to_owned(),
        })
        .collect();
    fs::write(&journal, changed.join("\n")).unwrap();
    let replayed = run(dir.path(), &["explain", id, "--replay"]);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(replayed.stdout.contains("desired: was 77"), "{}", replayed.stdout);
    fs::write(&journal, "").unwrap();
    let nothing = run(dir.path(), &["explain", "all", "--replay"]);
    assert!(!nothing.status.success() && nothing.stderr.contains("no decisions"), "{}", nothing.stderr);
}

/// Guarantees: a load from a file goes through rules and comparisons to a report in all three forms, twice the same; what is
/// wrong with the arguments is said.
#[test]
fn a_load_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let rate = |minute: i64| if (20..40).contains(&minute) { 60.0 } else { 12.0 };
    let lines: Vec<String> = (0..60).map(|minute| format!("{},cart,{}", 1_767_600_000 + 60 * minute, rate(minute))).collect();
    fs::write(dir.path().join("load.csv"), format!("time,service,rate\n{}\n", lines.join("\n"))).unwrap();
    let arguments =
        ["backtest", "--load", "load.csv", "--compare", "static:2,hpa:cpu=70,kpa,keda", "--step", "30s", "--out", "report.html", "--json"];
    let first = run(dir.path(), &arguments);
    assert!(first.status.success(), "{}", first.stderr);
    let report: Value = serde_json::from_str(&first.stdout).unwrap();
    let names: Vec<&str> = report["policies"].as_array().unwrap().iter().map(|policy| policy["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["static:2", "hpa:cpu=70", "kpa", "keda", "observe (shipped)"]);
    let score = |place: usize| &report["policies"][place]["services"][0]["score"];
    assert_eq!(score(0)["ups"].as_u64(), Some(0), "{}", score(0));
    assert!(score(4)["ups"].as_u64().unwrap() > 0, "{}", score(4));
    let violations = |place: usize| score(place)["violationMinutes"].as_u64().unwrap();
    assert!(violations(0) > violations(4), "static {} against {}", violations(0), violations(4));
    assert!(fs::read_to_string(dir.path().join("report.html")).unwrap().contains("<svg"));
    assert_eq!(run(dir.path(), &arguments).stdout, first.stdout);
    for (arguments, wanted) in [
        (&["backtest", "--load", "none.csv"][..], "none.csv"),
        (&["backtest", "--load", "load.csv", "--compare", "vpa"], "`vpa`"),
        (&["backtest"], "service_load"),
    ] {
        let wrong = run(dir.path(), arguments);
        assert!(!wrong.status.success() && wrong.stderr.contains(wanted), "{}", wrong.stderr);
    }
}

/// Guarantees: the sample documents of other autoscalers become documents that `check` accepts, with their SQL.
#[test]
fn imported_documents_pass_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let samples: Vec<PathBuf> = fs::read_dir(root().join("deploy/examples/import")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(samples.len() >= 4);
    for sample in samples {
        let name = sample.file_name().unwrap().to_str().unwrap();
        let imported = run(dir.path(), &["import", sample.to_str().unwrap(), "--out", name]);
        assert!(imported.status.success(), "{name}: {}", imported.stderr);
        let checked = run(dir.path(), &["check", name]);
        assert!(checked.status.success(), "{name}: {}{}", checked.stdout, checked.stderr);
    }
    let own = "apiVersion: tracescale.io/v1alpha1\nkind: ScalingRule\nmetadata: {name: a}\nspec: {sql: SELECT 1}\n";
    fs::write(dir.path().join("own.yaml"), own).unwrap();
    let wrong = run(dir.path(), &["import", "own.yaml"]);
    assert_eq!(wrong.status.code(), Some(64), "{}", wrong.stderr);
    assert!(wrong.stdout.contains("own.yaml") || wrong.stderr.contains("own.yaml"), "{}{}", wrong.stdout, wrong.stderr);
}
