//! Recorded load series: one reader for every format in the data folder.
//!
//! ```text
//! CSV tables, one number a line, LIMBO ┐
//! events ─▶ counts per bucket          ├─▶ Series: a number, or nothing, per step ─▶ resample ─▶ forecasts, scaling
//! counters ─▶ increments, M4 rows      ┘
//! ```
//!
//! A step without a number stays without: only the recordings that are known to write no row for an idle minute get zeros.

mod catalog;
mod counters;
mod events;
mod m4;
mod numbers;
mod series;
mod table;
mod text;

use std::path::{Path, PathBuf};

pub use m4::{Contest, m4_hourly};
pub use series::{Quantity, Series};

/// Where the load series lie below the data folder.
const FOLDER: &str = "load";

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; hint: the first argument is the folder that holds `{FOLDER}`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of more bytes than a recording has.
    #[error("{path} has {bytes} bytes, at most {most} are read; hint: cut the recording")]
    Large {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The most that is read.
        most: u64,
    },
    /// A line that does not say what it should.
    #[error("{path}, line {line}: {text:?} is not {expected}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from one.
        line: usize,
        /// What it says.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A table without a column.
    #[error("{path} has no column {column:?}; its header is {header:?}")]
    Column {
        /// Which file.
        path: PathBuf,
        /// Which column.
        column: &'static str,
        /// What there is.
        header: String,
    },
    /// Times that lie too far apart for the step.
    #[error("{path} spans {steps} steps of {step} s, at most {most} are kept; hint: a wrong time stamp, or a longer step")]
    Span {
        /// Which file.
        path: PathBuf,
        /// How many steps.
        steps: i64,
        /// How long, in seconds.
        step: i64,
        /// The most that are kept.
        most: i64,
    },
    /// A file without a number.
    #[error("{path} holds no numbers")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// A name that no series has.
    #[error("no series is called {name:?}; hint: the names are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

/// Names of all series that [`load`] knows.
#[must_use]
pub fn names() -> Vec<&'static str> {
    catalog::ENTRIES.iter().map(|entry| entry.name).collect()
}

/// Reads one series by its name, from the data folder `root`.
///
/// # Errors
/// When the name is not known or the recording cannot be read.
pub fn load(root: &Path, name: &str) -> Result<Series, LoadError> {
    let entry = catalog::ENTRIES.iter().find(|entry| entry.name == name);
    let unknown = || LoadError::Unknown { name: name.to_owned(), known: names().join(", ") };
    entry.ok_or_else(unknown)?.read(root)
}

/// Reads all series except the contest's, which [`m4_hourly`] reads.
///
/// # Errors
/// When a recording cannot be read.
pub fn load_all(root: &Path) -> Result<Vec<Series>, LoadError> {
    catalog::ENTRIES.iter().map(|entry| entry.read(root)).collect()
}

#[cfg(test)]
mod tests;
