//! What is kept: the write-ahead log, the Parquet archive, and the log of its commits.
//!
//! ```text
//! archive ── cuts, takes over, settles           catalog ── what readers see      audit ── what should not be
//!   ├─ encode ── rows into files by hour            │
//!   ├─ compact ─ merge ── files into fewer          │
//!   └─ expire ── drops old hours                    │
//!          ▼                                        ▼
//! record ── commits and what they add up to ◀── chain ── reads the log of a writer
//! store ── creates, never replaces          ◀── location ── where that is
//! ```
//!
//! ```text
//! wal ── requests, before their senders are told: what a cut is made from
//! ```
//!
//! ```text
//! <root>/v1/<table>/date=YYYY-MM-DD/hour=HH/<writer>-<sequence>-<n>.parquet      readable by anything that reads Parquet
//! <root>/v1/_log/<writer>/<sequence>.json                                        what of that is part of the archive
//! ```
//!
//! Several processes may write to one root, each under a name of its own: none waits for another, and there is no leader.

pub mod archive;
pub mod audit;
pub mod catalog;
mod chain;
pub mod compact;
pub mod encode;
pub mod error;
pub mod expire;
pub mod file;
pub mod hour;
pub mod location;
mod merge;
pub mod name;
mod parquet_file;
pub mod parquet_rows;
mod record;
pub mod store;
pub mod streams;
pub mod table;
pub mod wal;

pub use archive::{Archive, Committed, Cut, Options};
pub use catalog::{Catalog, Range};
pub use error::ArchiveError;
pub use expire::Retention;
pub use location::Location;
pub use store::Store;
pub use table::Table;

#[cfg(test)]
#[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "tests count in small numbers")]
mod tests;
