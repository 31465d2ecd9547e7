//! Names of tables, writers and files. They become parts of paths, so that they are checked before anything else.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ArchiveError;

const MAX_TABLE: usize = 63;
const MAX_WRITER: usize = 128;
/// Digits of a sequence in a name: as many as the largest one has, so that names sort like numbers.
const SEQUENCE_DIGITS: usize = 20;
const EXTENSION: &str = ".parquet";

/// Who writes: the name of one process at a time, for example of a replica. Its files and its log bear it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WriterName(String);

/// The name of a data file: whose it is and which commit was to add it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) writer: WriterName,
    pub(crate) sequence: u64,
    /// Counts the files of a table and hour that one commit adds.
    pub(crate) index: u32,
}

// === impl WriterName ===

impl WriterName {
    /// Checks a name: letters, digits, `.`, `_` and `-`, starting with a letter or digit, at most 128 bytes.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(name: impl Into<String>) -> Result<Self, ArchiveError> {
        let name = name.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let starts_well = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if starts_well && name.len() <= MAX_WRITER && name.bytes().all(allowed) {
            return Ok(Self(name));
        }
        Err(ArchiveError::Name {
            what: "a writer",
            name,
            rule: "letters, digits, `.`, `_` and `-`, starting with a letter or digit, at most 128 bytes",
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WriterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl FileName ===

impl FileName {
    /// Reads a file name; `None` when no writer named it. Read from the right: a writer's name may hold any of it.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (rest, index) = name.strip_suffix(EXTENSION)?.rsplit_once('-')?;
        let (writer, sequence) = rest.rsplit_once('-')?;
        let parsed = Self { writer: WriterName::new(writer).ok()?, sequence: parse_sequence(sequence)?, index: index.parse().ok()? };
        // One spelling per name: `+1` and `01` are numbers too.
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}{EXTENSION}", self.writer, format_sequence(self.sequence), self.index)
    }
}

pub(crate) fn format_sequence(sequence: u64) -> String {
    format!("{sequence:0SEQUENCE_DIGITS$}")
}

pub(crate) fn parse_sequence(text: &str) -> Option<u64> {
    (text.len() == SEQUENCE_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

pub(crate) fn check_table(name: &str) -> Result<(), ArchiveError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts_well = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if starts_well && name.len() <= MAX_TABLE && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(ArchiveError::Name {
        what: "a table",
        name: name.to_owned(),
        rule: "lower-case letters, digits and `_`, starting with a letter, at most 63 bytes",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a name leaves its folder for nothing, and no two names are the same file.
    #[test]
    fn names_that_could_be_paths_are_refused() {
        for bad in ["", "../x", "a/b", "a\\b", "_log", "1a", "Spans", "a b", "é", "a.b", &"a".repeat(64)] {
            assert!(check_table(bad).is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a#1", "a b", "é", &"a".repeat(129)] {
            assert!(WriterName::new(bad).is_err(), "{bad:?}");
        }
        assert!(check_table("span_events2").is_ok());
        assert!(WriterName::new("tracescale-0.eu_1").is_ok());
    }

    /// Guarantees: a file is recognized as its writer's own, and never as that of a writer with a similar name.
    #[test]
    fn file_names_are_read_back() {
        let name = FileName { writer: WriterName::new("a-1").unwrap(), sequence: 7, index: 0 };
        assert_eq!(name.to_string(), "a-1-00000000000000000007-0.parquet");
        assert_eq!(FileName::parse(&name.to_string()), Some(name));
        for foreign in ["part-0.parquet", "a-7-0.parquet", "a-00000000000000000007-01.parquet", "a-00000000000000000007-0.parquet#1"] {
            assert_eq!(FileName::parse(foreign), None, "{foreign}");
        }
    }
}
