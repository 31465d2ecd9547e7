//! `check`, `record` and wrong command lines.

use std::fs;
use std::process::Command;

use crate::process::run;

/// Guarantees: every problem of every document, view and rule is told at once with file, path, value and hint; exit code 64.
#[test]
fn check_tells_every_problem() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), "apiVersion: tracescale.io/v1alpha1\nkind: ScalingRul\nmetadata: {name: a}\n").unwrap();
    let rule =
        "apiVersion: tracescale.io/v1alpha1\nkind: ScalingRule\nmetadata: {name: b}\nspec: {every: 5, sql: SELECT 1, policy: {max: 3}}\n";
    fs::write(dir.path().join("b.yaml"), rule).unwrap();
    let documents = run(dir.path(), &["check", "."]);
    assert_eq!(documents.status.code(), Some(64));
    for part in ["a.yaml", "did you mean `ScalingRule`?", "b.yaml", "spec.every = 5", "2 problems"] {
        assert!(documents.stderr.contains(part), "{part} is missing in:\n{}", documents.stderr);
    }
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    fs::write(dir.path().join("b.yaml"), rule.replace("every: 5", "every: 5s").replace("SELECT 1", "SELECT nothing FROM service_latency"))
        .unwrap();
    fs::write(
        dir.path().join("v.sql"),
        "CREATE VIEW v AS SELECT array_agg(name) AS names FROM TUMBLE(spans, end_time, INTERVAL '1 minute')",
    )
    .unwrap();
    let sql = run(dir.path(), &["check", "."]);
    assert_eq!(sql.status.code(), Some(64));
    assert!(sql.stderr.contains("v.sql") && sql.stderr.contains("view v"), "{}", sql.stderr);
    fs::remove_file(dir.path().join("v.sql")).unwrap();
    let rule = run(dir.path(), &["check", "."]);
    assert!(rule.stderr.contains("b.yaml") && rule.stderr.contains("nothing"), "{}", rule.stderr);
}

/// Guarantees: a rule whose columns have types that decisions cannot read is refused with file, path, value and hint, and one
/// whose numbers convert without loss is not.
#[test]
fn check_refuses_wrong_column_types() {
    let dir = tempfile::tempdir().unwrap();
    let rule = |sql: &str| {
        let head = "apiVersion: tracescale.io/v1alpha1\nkind: ScalingRule\nmetadata: {name: b}\nspec:\n  policy: {max: 3}\n";
        fs::write(dir.path().join("b.yaml"), format!("{head}  sql: |\n    {sql}\n")).unwrap();
        run(dir.path(), &["check", "."])
    };
    let wrong = rule("SELECT 1 AS target, 'many' AS replicas, 0.5 AS is_final FROM targets");
    assert_eq!(wrong.status.code(), Some(64), "{}", wrong.stderr);
    for part in ["b.yaml", "rule b: spec.sql", "target (Int64)", "replicas (Utf8)", "is_final (Float64)", "hint: write CAST", "3 problems"]
    {
        assert!(wrong.stderr.contains(part), "{part} is missing in:\n{}", wrong.stderr);
    }
    let right = rule("SELECT target, CAST(current AS REAL) AS replicas, NULL AS age, CAST(ready AS INT) AS n_eff FROM targets");
    assert!(right.status.success(), "{}", right.stderr);
}

/// Guarantees: the examples that ship are valid, and so are the shipped rules.
#[test]
fn shipped_documents_are_valid() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for path in ["deploy/examples/shop", "deploy/examples/shop-kubernetes", "queries/rules"] {
        let checked = run(root.as_ref(), &["check", path]);
        assert!(checked.status.success(), "{path}:\n{}", checked.stderr);
    }
}

/// Guarantees: a target without an objective is noted in one line, in words and as JSON, and is no problem; one with it is not.
#[test]
fn check_notes_what_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let head = "apiVersion: tracescale.io/v1alpha1\nkind:";
    let sql = "'SELECT target, 1 AS replicas FROM targets'";
    let rule = format!("{head} ScalingRule\nmetadata: {{name: load}}\nspec: {{sql: {sql}, policy: {{max: 3}}}}\n");
    let target = |name: &str, objective: &str| {
        format!("{head} ScalingTarget\nmetadata: {{name: {name}}}\nspec: {{memory: {{replicas: 1}}{objective}}}\n")
    };
    let both = [rule, target("cart", ""), target("web", ", objective: {latency: 1s}")].join("---\n");
    fs::write(dir.path().join("all.yaml"), both).unwrap();
    let said = run(dir.path(), &["check", "."]);
    assert!(said.status.success(), "{}", said.stderr);
    let lines: Vec<&str> = said.stdout.lines().collect();
    let [note, ok] = lines[..] else { panic!("{}", said.stdout) };
    assert!(ok.starts_with("ok: 2 targets, 1 rules"), "{ok}");
    assert!(note.starts_with("note: target cart has no objective: ") && note.ends_with("hint: set spec.objective.latency"), "{note}");
    let json = run(dir.path(), &["check", "--json", "."]);
    let lines: Vec<serde_json::Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["type"].as_str().unwrap()).collect::<Vec<_>>(), ["note", "ok"]);
    assert_eq!((lines[0]["target"].as_str(), lines[0]["off"].as_array().map(Vec::len)), (Some("cart"), Some(3)));
}

/// Guarantees: the shipped rules pass their own tests, and a test that expects something else fails with its line.
#[test]
fn shipped_rules_pass_their_tests() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../queries/rules");
    let passed = Command::new(env!("CARGO_BIN_EXE_tracescale")).args(["test", rules]).output().unwrap();
    let said = String::from_utf8_lossy(&passed.stdout);
    assert!(passed.status.success() && said.ends_with(" 0 failed\n"), "{said}{}", String::from_utf8_lossy(&passed.stderr));
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(format!("{rules}/concurrency.yaml"), dir.path().join("concurrency.yaml")).unwrap();
    let test = "statement ok\nINSERT INTO targets (target, current) VALUES ('cart', 2)\n\nquery R\nSELECT replicas FROM answers\n----\n3\n";
    std::fs::write(dir.path().join("concurrency.slt"), test).unwrap();
    let failed = Command::new(env!("CARGO_BIN_EXE_tracescale")).arg("test").arg(dir.path()).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("concurrency.slt:4"), "{}", String::from_utf8_lossy(&failed.stderr));
}

/// Guarantees: what `record` writes, `run --replay` reads, span by span.
#[tokio::test]
async fn a_recording_can_be_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = Command::new(env!("CARGO_BIN_EXE_tracescale"))
        .args(["record", "--out", "capture.zst", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .current_dir(dir.path())
        .env("RUST_LOG", "info")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(recorder.stderr.take().unwrap()));
    let listening = lines.by_ref().map_while(Result::ok).find(|line| line.contains("recording")).expect("it says where it listens");
    let fields: serde_json::Value = serde_json::from_str(&listening).unwrap();
    let grpc = fields["grpc"].as_str().unwrap().parse().unwrap();
    let now = crate::traffic::this_second();
    crate::traffic::send(grpc, [crate::traffic::request("checkout", now, 50, std::time::Duration::from_millis(5))]).await;
    let killed = Command::new("kill").args(["-TERM", &recorder.id().to_string()]).status().unwrap();
    assert!(killed.success());
    lines.for_each(drop);
    assert!(recorder.wait().unwrap().success());
    let replayed = run(dir.path(), &["run", "--replay", "capture.zst", "--speed", "max", "--json"]);
    let summary: serde_json::Value = serde_json::from_str(replayed.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["spans"], &summary["requests"]), (&50.into(), &1.into()));
}

/// Guarantees: a backtest of a time in which nothing is recorded says how to find out what is, of the same source.
#[test]
fn a_backtest_without_windows_says_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let _ = crate::traffic::capture(&dir.path().join("capture.zst"), [10; 70]);
    let later = run(dir.path(), &["backtest", "--capture", "capture.zst", "--from", "2027-01-01T00:00:00Z"]);
    let query = "SELECT min(window_end), max(window_end) FROM service_load";
    let hint = format!("no windows of whole minutes are recorded in that time; hint: `tracescale sql --capture capture.zst \"{query}\"`");
    assert!(later.stderr.contains(&hint), "{}", later.stderr);
    let asked = run(dir.path(), &["sql", "--capture", "capture.zst", query]);
    assert!(asked.stdout.contains("2026-01-05T08:00"), "{}{}", asked.stdout, asked.stderr);
    let backwards = run(dir.path(), &["backtest", "--from", "2026-01-05T09:00:00Z", "--to", "2026-01-05T08:00:00Z"]);
    assert!(
        backwards.stderr.contains("--from 2026-01-05T09:00:00.000Z is not before --to 2026-01-05T08:00:00.000Z"),
        "{}",
        backwards.stderr
    );
    assert_eq!(backwards.status.code(), Some(64));
}

/// Guarantees: a wrong command line is a usage error, and so is a capture speed without a capture.
#[test]
fn wrong_command_lines_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["fly"][..], &["run", "--speed", "2x"], &["run", "--replay", "x", "--speed", "0x"], &["explain"]] {
        assert_eq!(run(dir.path(), arguments).status.code(), Some(64), "{arguments:?}");
    }
    let unknown = run(dir.path(), &["explain", "nothing"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(unknown.stderr.contains(".tracescale"), "{}", unknown.stderr);
}
