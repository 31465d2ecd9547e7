//! `tracescale test`: tests of rules, written in SQL.
//!
//! ```text
//! rule.slt ─INSERT▶ views and targets, filled by hand ─▶ rules ─▶ answers ─▶ decider ─▶ decisions ─SELECT▶ compared with rule.slt
//! ```
//!
//! The evaluator and the decider are those of production; only the rows come from the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use arrow::array::RecordBatch;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Record, RecordOutput, Runner};
use tracescale_documents::RuleSpec;
use tracescale_queries::QueryError;
use tracescale_queries::testbed::Testbed;

use crate::cli::{ListenArgs, TestArgs};
use crate::config::Config;
use crate::rule_tests::answers::{ANSWERS, DECISIONS};
use crate::{check, console, rows, rules};

mod answers;

/// What a file's tests came to.
#[derive(Debug, Default)]
struct Outcome {
    checks: usize,
    failures: Vec<String>,
}

/// Views, targets and rules as a database for the runner.
#[derive(Debug)]
struct Database {
    bed: Testbed,
    rules: Vec<RuleSpec>,
}

/// Why a statement of a test failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("table targets: {0}")]
    Target(String),
    #[error("rows cannot be made: {0}")]
    Rows(#[from] arrow::error::ArrowError),
}

/// Runs the command.
///
/// # Errors
/// When there is no test, a file cannot be read, or standard output fails.
pub fn main(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let files = files(&args.paths)?;
    let mut engine = None;
    let (mut checks, mut failed) = (0, 0);
    for file in &files {
        let mut documents = documents_of(file)?;
        documents.extend(args.config.iter().cloned());
        let loaded = runtime.block_on(Config::load_with(&documents, &ListenArgs::default(), None, engine.take()));
        let config = match loaded {
            Ok(config) => config,
            Err(problems) => return check::refuse(&problems, args.json),
        };
        let outcome = runtime.block_on(run(file, &config))?;
        engine = config.into_shipped_engine();
        checks += outcome.checks;
        failed += outcome.failures.len();
        tell(file, &outcome, args.json)?;
    }
    if !args.json {
        console::print_line(&format!("{} files, {checks} checks, {failed} failed", files.len()))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All tests of the paths, in order.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = BTreeSet::new();
    for path in paths {
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| format!("directory {}", path.display()))?;
            for entry in entries {
                let file = entry.with_context(|| format!("directory {}", path.display()))?.path();
                let _ = is_test(&file).then(|| files.insert(file));
            }
        } else {
            let _ = files.insert(path.clone());
        }
    }
    anyhow::ensure!(!files.is_empty(), "no test; hint: a test of rule.yaml is the file rule.slt beside it");
    Ok(files.into_iter().collect())
}

fn is_test(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|extension| extension == "slt")
}

/// The documents that a test is about: those of the same name beside it, else all of its directory.
fn documents_of(test: &Path) -> anyhow::Result<Vec<PathBuf>> {
    anyhow::ensure!(test.is_file(), "no file {}; hint: a test of rule.yaml is the file rule.slt beside it", test.display());
    let same = ["yaml", "yml", "json"].map(|extension| test.with_extension(extension)).into_iter().find(|path| path.is_file());
    let directory = test.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(vec![same.unwrap_or_else(|| directory.to_owned())])
}

async fn run(file: &Path, config: &Config) -> anyhow::Result<Outcome> {
    let script = fs::read_to_string(file).with_context(|| format!("test {}", file.display()))?;
    let records = sqllogictest::parse_with_name::<DefaultColumnType>(&script, file.display().to_string())?;
    let (engine, losses) = config.engine().await.map_err(|problems| anyhow::anyhow!("{} views do not work", problems.len()))?;
    let (_, rules) = config.specs();
    let snapshot = engine.tables();
    config.keep_engine(engine, losses);
    let database = || {
        let bed = Testbed::new(snapshot.clone(), &[("targets", rules::targets_schema().into())]);
        let rules = rules.clone();
        async { Ok(Database { bed: bed?, rules }) }
    };
    let mut runner = Runner::new(database);
    let mut outcome = Outcome::default();
    for record in records {
        if matches!(record, Record::System { .. }) {
            outcome.failures.push(format!("{}: a test of rules runs no commands", file.display()));
            continue;
        }
        match runner.run_async(record).await {
            Ok(RecordOutput::Nothing) => {}
            Ok(_) => outcome.checks += 1,
            Err(error) => outcome.failures.push(error.display(false).to_string()),
        }
    }
    runner.shutdown_async().await;
    if outcome.checks + outcome.failures.len() == 0 {
        outcome.failures.push(format!("{}: holds no statement and no query", file.display()));
    }
    Ok(outcome)
}

fn tell(file: &Path, outcome: &Outcome, json: bool) -> anyhow::Result<()> {
    let ok = outcome.failures.is_empty();
    if json {
        let line = serde_json::json!({"type": "test", "file": file, "ok": ok, "checks": outcome.checks, "failures": outcome.failures});
        return console::print_line(&line.to_string());
    }
    outcome.failures.iter().for_each(|failure| console::print_error(failure.trim_end()));
    console::print_line(&format!("{} {} ({} checks)", if ok { "ok    " } else { "failed" }, file.display(), outcome.checks))
}

// === impl Database ===

#[async_trait::async_trait]
impl AsyncDB for Database {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let words: BTreeSet<String> = sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_').map(str::to_lowercase).collect();
        if words.contains(ANSWERS) || words.contains(DECISIONS) {
            let judged = answers::judge(&self.bed, &self.rules).await?;
            self.bed.put(ANSWERS, judged.answers)?;
            self.bed.put(DECISIONS, judged.decisions)?;
        }
        Ok(output(&self.bed.run(sql).await?))
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &'static str {
        "tracescale"
    }
}

/// Rows as text, in the order of their columns.
fn output(batches: &[RecordBatch]) -> DBOutput<DefaultColumnType> {
    let columns = batches.first().map_or(0, RecordBatch::num_columns);
    let row = |batch: &RecordBatch, row: usize| batch.columns().iter().map(|column| text(&rows::value(column, row))).collect();
    let rows: Vec<Vec<String>> = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |place| row(batch, place))).collect();
    DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows }
}

/// A value as a test writes it: numbers without superfluous digits, an empty text in parentheses.
fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "NULL".to_owned(),
        serde_json::Value::String(text) if text.is_empty() => "(empty)".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().map(|value| (value * 1e6).round() / 1e6);
            rounded.map_or_else(|| number.to_string(), |value| value.to_string())
        }
        other => other.to_string(),
    }
}

/// Rules by name, so that answers come in a fixed order.
fn by_name(rules: &[RuleSpec]) -> BTreeMap<&str, &RuleSpec> {
    rules.iter().map(|rule| (rule.name.as_str(), rule)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: values read as people write them.
    #[test]
    fn values_as_people_write_them() {
        let texts = [serde_json::json!(7.0), serde_json::json!(0.1 + 0.2), serde_json::json!(""), serde_json::json!(null)];
        assert_eq!(texts.map(|value| text(&value)), ["7", "0.3", "(empty)", "NULL"]);
    }
}
