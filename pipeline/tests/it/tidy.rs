//! The rules of the repository as tests: crate edges, file headers and lengths, dead files, who may call what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest source file, in lines: beyond it a file holds more than one idea.
const LINES_MAX: usize = 500;

/// Foreign worlds that a crate must not know, and crates of ours that it must not see.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("tracescale-core", &["tokio", "futures", "arrow", "datafusion", "kube", "tonic", "axum", "rand", "getrandom", "tracescale-"]),
    ("tracescale-models", &["tokio", "arrow", "datafusion", "kube", "tonic", "axum", "tracescale-"]),
    (
        "tracescale-simulate",
        &["tokio", "arrow", "datafusion", "kube", "tonic", "axum", "rand", "getrandom", "tracescale-queries", "tracescale-documents"],
    ),
    (
        "tracescale-archive",
        &[
            "datafusion",
            "kube",
            "tonic",
            "axum",
            "anyhow",
            "tracescale-ingest",
            "tracescale-queries",
            "tracescale-sinks",
            "tracescale-documents",
        ],
    ),
    (
        "tracescale-evaluate",
        &["tokio", "arrow", "datafusion", "kube", "tonic", "axum", "anyhow", "tracescale-queries", "tracescale-ingest", "tracescale-sinks"],
    ),
    ("tracescale-documents", &["tokio", "arrow", "datafusion", "kube", "tonic", "axum", "tracescale-ingest", "tracescale-queries"]),
    ("tracescale-ingest", &["datafusion", "kube", "anyhow", "tracescale-queries", "tracescale-sinks", "tracescale-documents"]),
    (
        "tracescale-queries",
        &[
            "tonic",
            "kube",
            "anyhow",
            "tracescale-archive",
            "tracescale-simulate",
            "tracescale-ingest",
            "tracescale-sinks",
            "tracescale-documents",
        ],
    ),
    ("tracescale-sinks", &["datafusion", "tonic", "anyhow", "tracescale-ingest", "tracescale-queries", "tracescale-documents"]),
];

/// Text that may stand only in the files named, and why.
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("SystemTime::now", &["pipeline/src/clock.rs", "pipeline/tests/", "benches/"], "time is an argument"),
    ("Instant::now", &["benches/", "testdata/shop/", "sinks/src/memory.rs"], "time is an argument"),
    ("unbounded_channel", &[], "every queue has a bound"),
    ("process::exit", &[], "return an exit code"),
    ("todo!(", &[], "finish it"),
    ("#[ignore", &[], "a test that does not run proves nothing"),
];

/// Guarantees: no crate imports a foreign world or a sibling that it must not know.
#[test]
fn crates_keep_to_their_edges() {
    let dependencies = direct_dependencies();
    for (name, forbidden) in FORBIDDEN {
        let direct = dependencies.get(*name).unwrap_or_else(|| panic!("no crate {name}"));
        for dependency in direct {
            let bad = forbidden.iter().any(|edge| if edge.ends_with('-') { dependency.starts_with(edge) } else { dependency == edge });
            assert!(!bad, "{name} must not depend on {dependency}");
        }
    }
    for (name, direct) in &dependencies {
        let beside = name == "tracescale" || name == "tracescale-benches";
        assert!(beside || !direct.contains("tracescale"), "{name} must not depend on the binary");
    }
}

/// Guarantees: every source file says why it exists and holds one idea.
#[test]
fn files_have_a_header_and_a_bounded_length() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//!") && !text.starts_with("#![") {
            wrong.push(format!("{path}: does not start with a `//!` header"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{path}: {lines} lines, at most {LINES_MAX}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Guarantees: no source file is dead: each module file is declared by its parent.
#[test]
fn every_file_is_declared() {
    let sources = sources();
    let mut dead = Vec::new();
    for path in sources.keys().map(Path::new) {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let dir = path.parent().expect("a file has a directory");
        let is_root = matches!(stem, "lib" | "main")
            || dir.ends_with("bin")
            || dir.ends_with("examples")
            || dir.ends_with("fuzz_targets")
            || dir.ends_with("benches");
        let module = if stem == "mod" { dir.file_name().and_then(|name| name.to_str()).unwrap_or_default() } else { stem };
        let home = if stem == "mod" { dir.parent().expect("a module directory has a parent") } else { dir };
        let is_test_root = home.ends_with("tests");
        if is_root || is_test_root || stem == "build" {
            continue;
        }
        let parents = [home.join("lib.rs"), home.join("main.rs"), home.join("mod.rs"), home.with_extension("rs")];
        let declared = parents
            .iter()
            .filter_map(|parent| sources.get(&parent.display().to_string()))
            .any(|text| text.lines().any(|line| line.trim_end().ends_with(&format!("mod {module};"))));
        if !declared {
            dead.push(path.display().to_string());
        }
    }
    assert!(dead.is_empty(), "declared by no module: {}", dead.join(", "));
}

/// Guarantees: calls that the design confines to one file stay there.
#[test]
fn confined_calls_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if path.ends_with("tidy.rs") {
            continue;
        }
        for (call, homes, why) in CONFINED {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            if !homes.iter().any(|home| path.starts_with(home)) && code.clone().any(|line| line.contains(call)) {
                wrong.push(format!("{path}: `{call}`: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Guarantees: log messages are lowercase without a full stop, so that they read alike.
#[test]
fn log_messages_have_one_form() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for line in text.lines().filter(|line| ["trace!(", "debug!(", "info!(", "warn!(", "error!("].iter().any(|call| line.contains(call)))
        {
            let Some(message) = line.rsplit_once("\")").and_then(|(head, _)| head.rsplit_once('"')).map(|(_, message)| message) else {
                continue;
            };
            let shouts = message
                .split(' ')
                .next()
                .is_some_and(|word| word.len() > 1 && word.starts_with(char::is_uppercase) && word[1..].chars().all(char::is_lowercase));
            if shouts || message.ends_with('.') {
                wrong.push(format!("{path}: {message:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

/// Every Rust source of ours by its path from the root.
fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    let mut dirs = vec![root()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a readable directory") {
            let path = entry.expect("a directory entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                dirs.push(path);
            } else if name.ends_with(".rs") {
                let relative = path.strip_prefix(root()).expect("inside the root").display().to_string();
                sources.insert(relative, fs::read_to_string(&path).expect("a source in UTF-8"));
            }
        }
    }
    sources
}

/// Direct normal dependencies of every crate of ours.
fn direct_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let direct = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().expect("dependencies").iter();
        all.filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect()
    };
    packages.iter().map(|package| (package["name"].as_str().expect("a name").to_owned(), direct(package))).collect()
}
