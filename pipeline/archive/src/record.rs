//! The records of the commit log, and what they add up to.
//!
//! ```text
//! v1/_log/<writer>/00000000000000000001.json              one commit: files added, files removed, cursors
//! v1/_log/<writer>/00000000000000000064.checkpoint.json   everything up to and with commit 64
//! ```
//!
//! A commit is there when its record is, and not before. Records are only ever created; a sequence that is taken stays taken.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracescale_core::time::Timestamp;

use crate::error::ArchiveError;
use crate::file::{FileMeta, Version, VersionId};
use crate::hour::Hour;
use crate::name::{FileName, WriterName, format_sequence, parse_sequence};

/// The version of records that this program writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;
/// Where everything is. A layout that this program cannot read would be elsewhere.
pub(crate) const LAYOUT: &str = "v1";
const LOG: &str = "v1/_log";

/// Why a commit was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// A process took the writer's name over. Whatever an earlier one still has under way can no longer be committed.
    Open,
    /// Rows were added.
    Cut,
    /// Files were merged.
    Compact,
    /// Hours were dropped.
    Expire,
}

/// One commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) writer: WriterName,
    pub(crate) sequence: u64,
    /// Tells the runs of a writer apart, so that a record is never taken for one's own that another process wrote.
    pub(crate) session: u64,
    pub(crate) at: Timestamp,
    pub(crate) cause: Cause,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<Cursor>,
    /// Versions that files of this commit have and that the log has not named yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) versions: BTreeMap<VersionId, Version>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) add: Vec<FileMeta>,
    /// Paths that are no longer part of the archive.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) remove: BTreeSet<String>,
    /// Paths removed by earlier commits that are deleted by now.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) deleted: BTreeSet<String>,
}

/// How far the archive has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cursor {
    pub(crate) through: u64,
    pub(crate) marks: BTreeMap<String, Value>,
}

/// What the commits of a writer add up to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    pub(crate) version: u32,
    pub(crate) writer: WriterName,
    /// The last commit; zero before the first.
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) cursor: Cursor,
    pub(crate) versions: BTreeMap<VersionId, Version>,
    /// The version of each table that was cut last, and when that was.
    pub(crate) newest: BTreeMap<String, (Timestamp, VersionId)>,
    /// The files of the archive by path.
    #[serde(with = "files")]
    pub(crate) files: BTreeMap<String, FileMeta>,
    /// Files that are no longer part of the archive but may still be there, and since when.
    pub(crate) removed: BTreeMap<String, Timestamp>,
}

/// An object of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entry {
    Record(u64),
    Checkpoint(u64),
}

// === impl State ===

impl State {
    pub(crate) const fn new(writer: WriterName) -> Self {
        Self {
            version: FORMAT,
            writer,
            sequence: 0,
            at: Timestamp::EPOCH,
            cursor: Cursor { through: 0, marks: BTreeMap::new() },
            versions: BTreeMap::new(),
            newest: BTreeMap::new(),
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
        }
    }

    /// Adds the next commit.
    ///
    /// # Errors
    /// When it is not the next, or contradicts what came before: then records were changed or lost.
    pub(crate) fn apply(&mut self, record: Record) -> Result<(), String> {
        if record.writer != self.writer {
            return Err(format!("it is of writer `{}`", record.writer));
        }
        if record.sequence != self.sequence + 1 {
            return Err(format!("it is commit {} where commit {} belongs", record.sequence, self.sequence + 1));
        }
        self.versions.extend(record.versions);
        for file in &record.add {
            if !self.versions.contains_key(&file.version) {
                return Err(format!("it adds `{}` with a version that no record describes", file.path));
            }
        }
        for path in record.remove {
            if self.files.remove(&path).is_none() {
                return Err(format!("it removes `{path}`, which is not in the archive"));
            }
            self.removed.insert(path, record.at);
        }
        for path in &record.deleted {
            self.removed.remove(path);
        }
        for file in record.add {
            if record.cause == Cause::Cut {
                self.newest.insert(file.table.clone(), (record.at, file.version.clone()));
            }
            if self.files.insert(file.path.clone(), file).is_some() {
                return Err("it adds a file that is in the archive already".to_owned());
            }
        }
        if let Some(cursor) = record.cursor {
            self.cursor = cursor;
        }
        (self.sequence, self.at) = (record.sequence, record.at);
        self.forget_versions();
        Ok(())
    }

    /// Forgets versions that no file has and that are not the newest of their table.
    fn forget_versions(&mut self) {
        let mut used: BTreeSet<&VersionId> = self.newest.values().map(|(_, version)| version).collect();
        used.extend(self.files.values().map(|file| &file.version));
        let unused: Vec<_> = self.versions.keys().filter(|version| !used.contains(version)).cloned().collect();
        unused.iter().for_each(|version| drop(self.versions.remove(version)));
    }
}

// === impl Entry ===

impl Entry {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".json")?;
        match stem.strip_suffix(".checkpoint") {
            Some(sequence) => parse_sequence(sequence).map(Self::Checkpoint),
            None => parse_sequence(stem).map(Self::Record),
        }
    }

    pub(crate) const fn sequence(self) -> u64 {
        match self {
            Self::Record(sequence) | Self::Checkpoint(sequence) => sequence,
        }
    }

    pub(crate) fn path(self, writer: &WriterName) -> String {
        match self {
            Self::Record(sequence) => format!("{}/{}.json", log_folder(writer), format_sequence(sequence)),
            Self::Checkpoint(sequence) => format!("{}/{}.checkpoint.json", log_folder(writer), format_sequence(sequence)),
        }
    }
}

pub(crate) fn log_folder(writer: &WriterName) -> String {
    format!("{LOG}/{writer}")
}

/// The folder of all logs.
pub(crate) const fn logs() -> &'static str {
    LOG
}

pub(crate) fn data_path(table: &str, hour: Hour, name: &FileName) -> String {
    format!("{LAYOUT}/{table}/{hour}/{name}")
}

/// The last part of a path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Reads a record or a checkpoint. The version is looked at first: of a later one nothing else is known.
pub(crate) fn parse<T: DeserializeOwned>(object: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let broken = |error: serde_json::Error| ArchiveError::Record { object: object.to_owned(), reason: error.to_string() };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(broken)?;
    if version > FORMAT {
        return Err(ArchiveError::Newer { object: object.to_owned(), found: version, supported: FORMAT });
    }
    serde_json::from_slice(bytes).map_err(broken)
}

/// Writes a record or a checkpoint.
pub(crate) fn print<T: Serialize>(object: &str, value: &T) -> Result<Vec<u8>, ArchiveError> {
    serde_json::to_vec(value).map_err(|error| ArchiveError::Record { object: object.to_owned(), reason: error.to_string() })
}

/// Files know their paths: a list is enough.
mod files {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::file::FileMeta;

    pub(super) fn serialize<S: Serializer>(files: &BTreeMap<String, FileMeta>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(files.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, FileMeta>, D::Error> {
        let files = Vec::<FileMeta>::deserialize(deserializer)?;
        Ok(files.into_iter().map(|file| (file.path.clone(), file)).collect())
    }
}
