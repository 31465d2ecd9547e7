//! The prompt: lines until `;`, a history that outlives it, and completion of what can be written next.

use std::borrow::Cow;
use std::collections::BTreeSet;

use anyhow::Context as _;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};
use tokio::runtime::Runtime;
use tracescale_queries::Past;

use super::Recorded;
use super::output::{self, Format};
use crate::cli::SqlArgs;

/// The history within the data directory.
const HISTORY: &str = "sql_history";
/// Words of SQL that are completed.
const KEYWORDS: &[&str] = &[
    "SELECT",
    "DISTINCT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "HAVING",
    "ORDER BY",
    "LIMIT",
    "JOIN",
    "LEFT JOIN",
    "USING",
    "WITH",
    "UNION ALL",
    "INTERVAL",
    "BETWEEN",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST",
    "EXPLAIN",
    "EXPLAIN ANALYZE",
    "OVER",
    "PARTITION BY",
    "DESC",
];
const HELP: &str = "\
  statements end with ;          EXPLAIN and EXPLAIN ANALYZE show plans
  \\d           tables           \\d TABLE     columns of a table
  \\f FORMAT    table, csv, json \\r           look again at what is recorded
  \\q           leave            TAB          complete";

/// What is completed.
struct Words {
    words: BTreeSet<String>,
}

/// A line, understood.
enum Line<'a> {
    Quit,
    Help,
    Tables,
    Columns(&'a str),
    Format(&'a str),
    Refresh,
    Statement(&'a str),
}

/// Runs until the user leaves.
///
/// # Errors
/// When the recorded data cannot be read, or the terminal fails.
pub(crate) fn run(runtime: &Runtime, recorded: &Recorded, format: Format) -> anyhow::Result<()> {
    let mut past = runtime.block_on(recorded.open())?;
    let mut editor: Editor<Words, DefaultHistory> = Editor::new().context("terminal")?;
    editor.set_helper(Some(Words::of(&past)));
    let history = recorded.config.data_dir.join(HISTORY);
    // There is none the first time.
    let _ = editor.load_history(&history);
    output::tell("tracescale sql: \\? for help, \\q to leave");
    let mut args = SqlArgs { format, ..SqlArgs::default() };
    loop {
        let line = match editor.readline("tracescale> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("terminal"),
        };
        let _ = editor.add_history_entry(line.as_str());
        match Line::read(&line) {
            Line::Quit => break,
            Line::Help => output::tell(HELP),
            Line::Tables => tables(&past)?,
            Line::Columns(table) => columns(&past, table)?,
            Line::Format(name) => match clap::ValueEnum::from_str(name, true) {
                Ok(Format::Parquet) | Err(_) => output::tell("the formats here are table, csv and json"),
                Ok(format) => args.format = format,
            },
            Line::Refresh => {
                past = runtime.block_on(recorded.open())?;
                editor.set_helper(Some(Words::of(&past)));
            }
            Line::Statement("") => {}
            Line::Statement(sql) => match runtime.block_on(super::run(&past, sql, &args)) {
                Ok(Some(summary)) => super::tell(&summary),
                Ok(None) => {}
                Err(error) => output::tell(&format!("error: {error:#}")),
            },
        }
    }
    // A directory that cannot be written is no reason to fail at the end.
    if let Err(error) = editor.save_history(&history) {
        output::tell(&format!("the history was not saved: {error}"));
    }
    Ok(())
}

fn tables(past: &Past) -> anyhow::Result<()> {
    for (name, table) in past.tables() {
        let (files, rows) = (table.files.len(), table.files.iter().map(|file| file.rows).sum::<u64>());
        let recent: usize = table.rows.iter().map(arrow::array::RecordBatch::num_rows).sum();
        super::print(&format!("{name:<24} {rows:>14} rows in {files} files, {recent} recent ones"))?;
    }
    Ok(())
}

fn columns(past: &Past, table: &str) -> anyhow::Result<()> {
    let Some(table) = past.tables().get(table) else {
        output::tell(&format!("nothing is recorded under the name {table}"));
        return Ok(());
    };
    for field in table.schema.fields() {
        super::print(&format!("{:<32} {}", field.name(), field.data_type()))?;
    }
    Ok(())
}

// === impl Line ===

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("\\q" | "exit" | "quit", _) => Self::Quit,
            ("\\?" | "help", _) => Self::Help,
            ("\\d", "") => Self::Tables,
            ("\\d", table) => Self::Columns(table.trim_end_matches(';')),
            ("\\f", format) => Self::Format(format),
            ("\\r", _) => Self::Refresh,
            _ => Self::Statement(line.trim_end_matches(';').trim_end()),
        }
    }
}

// === impl Words ===

impl Words {
    fn of(past: &Past) -> Self {
        let columns = past.tables().values().flat_map(|table| table.schema.fields().iter().map(|field| field.name().clone()));
        let words = past.tables().keys().cloned().chain(columns).chain(past.functions().into_iter().map(|name| name + "("));
        Self { words: words.chain(KEYWORDS.iter().map(|word| (*word).to_owned())).collect() }
    }

    /// Where the word before the cursor begins, and what it may become. Keywords are written in capitals, names as they are.
    fn complete_at(&self, line: &str, cursor: usize) -> (usize, Vec<String>) {
        let before = &line[..cursor];
        let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |index| index + 1);
        let word = before[start..].to_lowercase();
        if word.is_empty() {
            return (start, Vec::new());
        }
        (start, self.words.iter().filter(|known| known.to_lowercase().starts_with(&word)).cloned().collect())
    }
}

impl Helper for Words {}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.complete_at(line, cursor))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Borrowed(prompt)
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let is_statement = matches!(Line::read(context.input()), Line::Statement(sql) if !sql.is_empty());
        let is_open = is_statement && !context.input().trim_end().ends_with(';');
        Ok(if is_open { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: words are completed from where they begin, whatever their case, and nothing is offered for no word.
    #[test]
    fn words_are_completed() {
        let words = Words { words: ["SELECT", "service_name", "service_latency", "quantile("].map(str::to_owned).into() };
        assert_eq!(words.complete_at("sel", 3), (0, vec!["SELECT".to_owned()]));
        assert_eq!(words.complete_at("select Serv from x", 11), (7, vec!["service_latency".to_owned(), "service_name".to_owned()]));
        assert_eq!(words.complete_at("select a.quan", 13), (9, vec!["quantile(".to_owned()]));
        assert_eq!(words.complete_at("select ", 7), (7, Vec::new()));
    }

    /// Guarantees: commands and statements are told apart.
    #[test]
    fn lines_are_understood() {
        assert!(matches!(Line::read(" \\q "), Line::Quit));
        assert!(matches!(Line::read("\\d spans;"), Line::Columns("spans")));
        assert!(matches!(Line::read("\\d"), Line::Tables));
        assert!(matches!(Line::read("select 1 ;\n"), Line::Statement("select 1")));
    }
}
