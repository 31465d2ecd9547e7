//! Why the log could not do something, and what to do about it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Lsn;

/// Why the log could not do something.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// There is no room on the disk, in the quota, or below the limit of a file's size. Nothing was written; try again later.
    #[error("no room to write {}; free some space or release records, nothing was lost", path.display())]
    Full {
        /// The segment.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The group would exceed the log's own budget. Nothing was written; try again when records were released.
    #[error(
        "the log may take {budget} bytes, has {used} and was to take {needed} more; \
         records are released once they are archived, or raise the budget"
    )]
    Budget {
        /// Most bytes that all segments may take.
        budget: u64,
        /// Bytes that they take.
        used: u64,
        /// Bytes of the group.
        needed: u64,
    },
    /// A body is longer than any record can hold. Nothing of its group was written.
    #[error("a body of {bytes} bytes is too long for the log, at most {limit} are possible; refuse it before it gets here")]
    TooLarge {
        /// Length of the body.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Syncing failed once. What the disk holds is unknown from there on, so nothing more may be acknowledged.
    #[error("the log stopped because syncing {} failed ({cause}); check the disk, then restart", path.display())]
    Poisoned {
        /// The file or directory.
        path: PathBuf,
        /// What the system said then.
        cause: String,
    },
    /// Another process, or another part of this one, has the log open.
    #[error("the log in {} is in use by another writer; give each process a directory of its own", dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A segment was written by a later release. It was not touched.
    #[error("{} has version {found} of the log's format, this program knows {known}; use the newer program to drain it", path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// A record that was intact when the log was opened cannot be read.
    #[error("{} is damaged at byte {offset}; opening the log anew saves the other records", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
    },
    /// The options contradict each other.
    #[error("a segment of {segment} bytes does not fit into a budget of {budget} bytes; a budget should hold several")]
    Options {
        /// Size of a segment.
        segment: u64,
        /// Size of all.
        budget: u64,
    },
    /// There are no numbers left.
    #[error("the log cannot count beyond record {0}; was it given a wrong number to go on from?")]
    Exhausted(Lsn),
    /// The operating system refused something else.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

// === impl WalError ===

impl WalError {
    /// Whether the same call can succeed later without anybody repairing the log: say "try again" to the sender.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Budget { .. })
    }

    /// For `map_err`: what failed, on which path. A lack of space becomes [`WalError::Full`].
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Self::Full { path, source },
            _ => Self::Io { action, path, source },
        }
    }
}
