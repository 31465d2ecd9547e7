//! Documents: the YAML and JSON that people write, read strictly and with every problem at once.
//!
//! ```text
//! files (load) ─▶ text ─▶ tree with lines ─▶ readers that collect problems ─▶ Documents { targets, rules, budgets, … }
//! ```
//!
//! Architecture invariants: reading a text is pure, bounded and never panics, whatever the text; what comes out is valid.
//! SQL is carried as text: the engine checks it. Only `load` touches files. Every field is described in
//! `deploy/documents.md`, and a test compares that page with what the readers ask for.

use std::path::PathBuf;

mod budget;
mod control;
mod document;
pub mod foreign;
mod load;
mod models;
mod policy;
mod problem;
mod reader;
mod rollout;
mod rule;
mod sampling;
mod settings;
pub mod storage;
mod target;
mod tree;

pub use load::{MAX_FILES, load};
pub use models::Models;
pub use problem::Problem;
pub use reader::nearest;
pub use rule::{RuleSpec, TargetScope};
pub use sampling::Sampling;
pub use settings::{Discovery, Limits, Receiver, Secret, Settings, Telemetry, Tls, Windows};
pub use storage::Storage;
pub use tracescale_core::budget::Budget;
pub use tracescale_core::target::TargetSpec;

/// `apiVersion` of every document.
pub const API_VERSION: &str = "tracescale.io/v1alpha1";

/// Where a document was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, or the name that the caller gave the text.
    pub file: String,
    /// Line where the document begins, from 1; 0 when unknown.
    pub line: u64,
}

/// Everything that a set of documents says.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Documents {
    /// Scaling targets, in the order of files and documents. Names are unique.
    pub targets: Vec<(Source, TargetSpec)>,
    /// Scaling rules, in the order of files and documents. Names are unique; the targets that they name exist.
    pub rules: Vec<(Source, RuleSpec)>,
    /// Budgets, in the order of files and documents. Names are unique; the targets that they name exist.
    pub budgets: Vec<(Source, Budget)>,
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

/// Name and namespace of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
}

/// Reads one text with any number of documents; `source` names it in problems.
///
/// # Errors
/// Every problem of every document in it.
pub fn parse(source: &str, text: &str) -> Result<Documents, Vec<Problem>> {
    let mut collector = document::Collector::default();
    collector.text(source, text);
    let (documents, _, problems) = collector.finish();
    if problems.is_empty() { Ok(documents) } else { Err(problems) }
}

// === impl Metadata ===

impl Metadata {
    /// The service of a target that names none: the one with the target's name.
    pub(crate) fn service(&self) -> Option<tracescale_core::target::ServiceSelector> {
        self.name.clone().map(|service_name| tracescale_core::target::ServiceSelector { service_name, service_namespace: None })
    }
}

#[cfg(test)]
mod tests;
