//! Comma-separated files with one header row and no quotes, as the recorded call data are.

use std::path::{Path, PathBuf};

use super::Error;

/// A file in memory, its header taken apart.
pub(super) struct Table {
    path: PathBuf,
    text: String,
}

/// One line, with its place for messages.
pub(super) struct Row<'t> {
    table: &'t Table,
    number: usize,
    cells: Vec<&'t str>,
}

// === impl Table ===

impl Table {
    pub(super) fn read(path: PathBuf) -> Result<Self, Error> {
        let text = read_text(&path)?;
        Self::new(path, text)
    }

    /// Of a text in memory; `path` is for messages.
    pub(super) fn new(path: PathBuf, text: String) -> Result<Self, Error> {
        if text.contains('"') {
            return Err(Error::Content { path, line: 1, what: "quoted cells, which this reader does not know".to_owned() });
        }
        Ok(Self { path, text })
    }

    /// Names of the columns.
    pub(super) fn header(&self) -> Vec<&str> {
        self.text.lines().next().map_or_else(Vec::new, |line| line.split(',').map(str::trim).collect())
    }

    /// The number of the column `name`.
    pub(super) fn column(&self, name: &str) -> Result<usize, Error> {
        self.header().iter().position(|column| *column == name).ok_or_else(|| Error::Content {
            path: self.path.clone(),
            line: 1,
            what: format!("no column {name}"),
        })
    }

    /// The lines after the first `skipped`.
    pub(super) fn rows(&self, skipped: usize) -> impl Iterator<Item = Row<'_>> {
        let lines = self.text.lines().enumerate().skip(skipped).filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(index, line)| Row { table: self, number: index + 1, cells: line.split(',').map(str::trim).collect() })
    }
}

// === impl Row ===

impl<'t> Row<'t> {
    pub(super) fn text(&self, column: usize) -> Result<&'t str, Error> {
        self.cells.get(column).copied().ok_or_else(|| self.error(format!("no cell {}", column + 1)))
    }

    /// A number; `None` for an empty cell and for what is not finite.
    pub(super) fn number(&self, column: usize) -> Result<Option<f64>, Error> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(None);
        }
        let number: f64 = text.parse().map_err(|_| self.error(format!("{text:?} is no number")))?;
        Ok(number.is_finite().then_some(number))
    }

    /// A time in whole nanoseconds.
    pub(super) fn nanos(&self, column: usize) -> Result<i64, Error> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.error(format!("{text:?} is no time in nanoseconds")))
    }

    /// The minute (since 1970) of a time such as `2022-08-22 03:51:19.6 +0000 UTC`.
    pub(super) fn minute(&self, column: usize) -> Result<i64, Error> {
        let text = self.text(column)?;
        seconds(text).map(|seconds| seconds.div_euclid(60)).ok_or_else(|| self.error(format!("{text:?} is no time")))
    }

    pub(super) fn error(&self, what: String) -> Error {
        Error::Content { path: self.table.path.clone(), line: self.number, what }
    }
}

/// Seconds since 1970 of a UTC time written as `2022-08-22 03:51:19`, whatever follows.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let time = chrono::NaiveDateTime::parse_from_str(text.get(..19)?, "%Y-%m-%d %H:%M:%S").ok()?;
    Some(time.and_utc().timestamp())
}

/// The clock of a minute since 1970, `HH:MM`.
pub(super) fn clock(minute: i64) -> String {
    format!("{:02}:{:02}", minute.div_euclid(60).rem_euclid(24), minute.rem_euclid(60))
}

pub(super) fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Names in a folder, sorted.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let error = |source| Error::Read { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        names.push(entry.map_err(error)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}
