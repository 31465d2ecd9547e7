//! `worker` and `sql --workers`, as processes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::process::run;

/// Starts a worker on a free port; returns it with its address once it listens.
fn worker(dir: &Path) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tracescale"))
        .args(["worker", "--listen", "127.0.0.1:0", "--data-dir", "."])
        .current_dir(dir)
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let listening = lines.find(|line| line.contains("working on queries")).expect("it says where it listens");
    let fields: Value = serde_json::from_str(&listening).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    (child, format!("http://{}", fields["address"].as_str().unwrap()))
}

/// Guarantees: a query asks its workers first; one that is gone makes it fail with the address and what to do; a worker ends
/// cleanly when it is told to; an address that cannot be one is a wrong command line.
#[test]
fn a_query_asks_its_workers() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, url) = worker(dir.path());
    let ask =
        |workers: &str| run(dir.path(), &["sql", "--data-dir", ".", "--format", "csv", "--workers", workers, "SELECT 6 * 7 AS answer"]);
    let answered = ask(&url);
    assert!(answered.status.success() && answered.stdout.contains("42"), "{}\n{}", answered.stdout, answered.stderr);
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    let refused = ask(&url);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    for part in [url.as_str(), "cannot be reached", "tracescale worker"] {
        assert!(refused.stderr.contains(part), "{part} is missing in:\n{}", refused.stderr);
    }
    let wrong = ask("10.0.0.7:4319");
    assert_eq!(wrong.status.code(), Some(64), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("http://HOST:PORT"), "{}", wrong.stderr);
}
