//! What can go wrong with a view, a query or the engine, said so that the reader can act on it.
//!
//! DataFusion's error type stays inside this crate: its text is kept, its type is a boxed source.

use std::error::Error;
use std::fmt;

use datafusion::error::DataFusionError;
use thiserror::Error;

use crate::derive::DeriveError;
use crate::past;

/// A boxed cause.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// Why a view was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewProblem {
    /// The view, or the name of its source when the view's own name cannot be read.
    pub view: String,
    /// Where its SQL came from, usually a file.
    pub origin: String,
    /// What is wrong, with the offending SQL.
    pub message: String,
    /// What to write in its place.
    pub hint: Option<String>,
}

/// Why the engine could not take rows or emit windows.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A batch does not have the schema of its stream.
    #[error("batch of stream {stream} does not have its schema: {detail}")]
    Schema {
        /// The stream.
        stream: &'static str,
        /// What differs.
        detail: String,
    },
    /// A derived stream could not be made.
    #[error("cannot derive a stream")]
    Derive(#[from] DeriveError),
    /// An Arrow kernel failed on a batch.
    #[error("cannot process rows of stream {stream}")]
    Rows {
        /// The stream.
        stream: &'static str,
        /// What Arrow said.
        #[source]
        source: Cause,
    },
}

/// Why a query over views could not be planned or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The SQL does not parse, names something unknown, or has the wrong types.
    #[error("{message}{}{}", at(*position), hinted(hint.as_ref()))]
    Invalid {
        /// What is wrong.
        message: String,
        /// Line and column in the SQL, both from 1.
        position: Option<(u64, u64)>,
        /// What to write in its place.
        hint: Option<String>,
    },
    /// The query failed while it ran.
    #[error("the query failed while it ran: {message}")]
    Failed {
        /// What failed.
        message: String,
        /// What DataFusion said.
        #[source]
        source: Cause,
    },
    /// A worker does not answer, went away, or failed.
    #[error("worker {url} {problem}")]
    Worker {
        /// Its address.
        url: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The query took longer than it may.
    #[error("the query did not finish within {limit:?}; read fewer windows, or evaluate it less often")]
    TimedOut {
        /// The limit.
        limit: std::time::Duration,
    },
}

fn at(position: Option<(u64, u64)>) -> String {
    position.map_or_else(String::new, |(line, column)| format!(" (line {line}, column {column})"))
}

fn hinted(hint: Option<&String>) -> String {
    hint.map_or_else(String::new, |hint| format!("; {hint}"))
}

/// A message and a hint, before it is known whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

// === impl Complaint ===

impl Complaint {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn of_view(self, view: &str, origin: &str) -> ViewProblem {
        ViewProblem { view: view.to_owned(), origin: origin.to_owned(), message: self.message, hint: self.hint }
    }
}

impl From<&DataFusionError> for Complaint {
    fn from(error: &DataFusionError) -> Self {
        let position = position(error).map_or_else(String::new, |at| crate::problem::at(Some(at)));
        Self { message: format!("{}{position}", text(error)), hint: None }
    }
}

impl From<DataFusionError> for Complaint {
    fn from(error: DataFusionError) -> Self {
        Self::from(&error)
    }
}

// === impl ViewProblem ===

impl fmt::Display for ViewProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: view {}: {}", self.origin, self.view, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}

impl Error for ViewProblem {}

// === impl QueryError ===

impl QueryError {
    pub(crate) fn planning(error: &DataFusionError) -> Self {
        Self::Invalid { message: text(error), position: position(error), hint: None }
    }

    pub(crate) fn running(error: DataFusionError) -> Self {
        if let Some(worker) = past::blame(&error) {
            return worker;
        }
        Self::Failed { message: text(&error), source: error.into() }
    }
}

impl From<Complaint> for QueryError {
    fn from(complaint: Complaint) -> Self {
        Self::Invalid { message: complaint.message, position: None, hint: complaint.hint }
    }
}

/// The error's own words, without the names of DataFusion's layers in front.
pub(crate) fn text(error: &DataFusionError) -> String {
    let message = error.strip_backtrace();
    let mut rest = message.as_str();
    for layer in ["Error during planning: ", "SQL error: ", "Schema error: ", "Execution error: ", "External error: ", "Arrow error: "] {
        rest = rest.strip_prefix(layer).unwrap_or(rest);
    }
    rest.trim().to_owned()
}

fn position(error: &DataFusionError) -> Option<(u64, u64)> {
    let span = error.diagnostic()?.span?;
    Some((span.start.line, span.start.column))
}
