//! What can go wrong with the archive.

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

/// Why the archive cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// A location that cannot be understood.
    #[error("`{location}` is no location of an archive: {reason}")]
    Location {
        /// As written.
        location: String,
        /// What is wrong, and what it may be instead.
        reason: String,
    },
    /// The store refused or failed.
    #[error("cannot {operation} `{object}`")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// The cause.
        #[source]
        source: object_store::Error,
    },
    /// The store overwrites where it was told not to.
    #[error(
        "`{location}` overwrites an object that was to be written only if absent: commits of two writers could erase each other; \
             the store must honour `If-None-Match: *`"
    )]
    Unconditional {
        /// The store.
        location: String,
    },
    /// Another process writes under this name.
    #[error("writer `{writer}` is fenced: another process wrote `{object}`; every process needs a writer name of its own")]
    Fenced {
        /// The name.
        writer: String,
        /// What the other one wrote.
        object: String,
    },
    /// An earlier call failed half-way, so that it is not known whether its commit is there.
    #[error("an earlier commit of writer `{writer}` is in doubt; call `settle`, and go on from the position that it finds")]
    Unsettled {
        /// The name.
        writer: String,
    },
    /// A cut that reaches no further than the last one: its rows are archived already.
    #[error("a cut through position {through} has rows, but everything before {committed} is archived already")]
    Covered {
        /// Where the cut ends.
        through: u64,
        /// Where the archive ends.
        committed: u64,
    },
    /// A record of the log that cannot be read.
    #[error(
        "`{object}` of the commit log cannot be read: {reason}; restore it, or move the folder of its writer away to go on without its files"
    )]
    Record {
        /// Which one.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// A record of a later version of the program.
    #[error("`{object}` has version {found}, and this program reads up to {supported}; update it")]
    Newer {
        /// Which one.
        object: String,
        /// Its version.
        found: u32,
        /// The newest readable one.
        supported: u32,
    },
    /// A name that cannot be part of a path.
    #[error("`{name}` cannot name {what}: {rule}")]
    Name {
        /// What was to be named.
        what: &'static str,
        /// The name.
        name: String,
        /// What names look like.
        rule: &'static str,
    },
    /// A table that contradicts itself.
    #[error("table `{table}`: {reason}")]
    Table {
        /// Which one.
        table: String,
        /// What is wrong.
        reason: String,
    },
    /// Rows that cannot be converted, sorted or merged.
    #[error("the rows of table `{table}`{} cannot be archived", column.as_ref().map(|column| format!(", column `{column}`,")).unwrap_or_default())]
    Rows {
        /// Which table.
        table: String,
        /// Which column, when it is one.
        column: Option<String>,
        /// The cause.
        #[source]
        source: ArrowError,
    },
    /// Rows that cannot be written as Parquet.
    #[error("the rows of table `{table}` cannot be written as Parquet")]
    Encode {
        /// Which table.
        table: String,
        /// The cause.
        #[source]
        source: ParquetError,
    },
    /// A merge that lost or doubled rows. Nothing was committed.
    #[error("merging {files} files of table `{table}` gave {after} rows of {before}; nothing was changed")]
    Miscounted {
        /// Which table.
        table: String,
        /// How many files.
        files: usize,
        /// Rows before.
        before: u64,
        /// Rows after.
        after: u64,
    },
    /// A file that the log names and that is not there.
    #[error(
        "`{path}` is missing; it was deleted from outside, or was merged away since the catalogue was refreshed: refresh and try again"
    )]
    Missing {
        /// Which one.
        path: String,
    },
    /// A file that is not what was written.
    #[error("`{path}` is damaged: {reason}")]
    Damaged {
        /// Which one.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A table that no writer has written.
    #[error("there is no table `{table}` in the archive")]
    NoTable {
        /// The name.
        table: String,
    },
    /// The runtime ended under us.
    #[error("the archive was stopped while it worked")]
    Stopped(#[from] tokio::task::JoinError),
}
