//! The reader's side of the archive: which files hold a table, and what is in them. Any process may read, at any time.
//!
//! What the catalogue shows is what the logs of all writers say: each commit wholly or not at all. Whoever reads the
//! folders without it sees, for a while, merged files beside those that they were merged from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use serde_json::Value;
use tracescale_core::time::Timestamp;

use crate::chain;
use crate::error::ArchiveError;
use crate::file::{FileMeta, Version, VersionId};
use crate::location::Location;
use crate::name::WriterName;
use crate::parquet_file::reader;
use crate::record::State;
use crate::store::Store;
use crate::table::union;

/// Which times are asked for: `[from, to)`, each end open when absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first time.
    pub from: Option<Timestamp>,
    /// The end, exclusive.
    pub to: Option<Timestamp>,
}

/// A table as all its files together have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Its name.
    pub name: String,
    /// Every column that a file has: in the order in which they came to be, each with its newest type.
    pub schema: SchemaRef,
    /// The time column, as of the newest version.
    pub time_column: String,
    /// What files are sorted by, as of the newest version.
    pub sort: Vec<String>,
}

/// A writer as its log has it.
#[derive(Clone, Debug, PartialEq)]
pub struct WriterInfo {
    /// Its name.
    pub writer: WriterName,
    /// Its last commit.
    pub sequence: u64,
    /// When that was.
    pub at: Timestamp,
    /// The position in its write-ahead log, exclusive, that is archived.
    pub through: u64,
    /// Its cursors.
    pub marks: BTreeMap<String, Value>,
}

/// What was in the archive when it was last looked at.
#[derive(Clone, Debug)]
pub struct Catalog {
    pub(crate) store: Store,
    pub(crate) writers: BTreeMap<WriterName, State>,
}

// === impl Catalog ===

impl Catalog {
    /// Reads the logs of a location. A location without an archive is an empty one.
    ///
    /// # Errors
    /// When the store fails, or a log cannot be read.
    pub async fn open(location: &Location) -> Result<Self, ArchiveError> {
        Self::over(Store::open(location)?).await
    }

    /// The same for a store that is open already.
    ///
    /// # Errors
    /// When the store fails, or a log cannot be read.
    pub async fn over(store: Store) -> Result<Self, ArchiveError> {
        let mut catalog = Self { store, writers: BTreeMap::new() };
        catalog.refresh().await?;
        Ok(catalog)
    }

    /// Looks again; reads only what is new.
    ///
    /// # Errors
    /// When the store fails, or a log cannot be read. What was known before stays.
    pub async fn refresh(&mut self) -> Result<(), ArchiveError> {
        let mut writers = BTreeMap::new();
        for (writer, listing) in chain::writers(&self.store).await? {
            let known = self.writers.get(&writer).cloned();
            writers.insert(writer.clone(), chain::read(&self.store, &writer, known, listing).await?);
        }
        self.writers = writers;
        Ok(())
    }

    /// Where the files are.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Who has written.
    #[must_use]
    pub fn writers(&self) -> Vec<WriterInfo> {
        let info = |state: &State| WriterInfo {
            writer: state.writer.clone(),
            sequence: state.sequence,
            at: state.at,
            through: state.cursor.through,
            marks: state.cursor.marks.clone(),
        };
        self.writers.values().map(info).collect()
    }

    /// Every table, by name.
    #[must_use]
    pub fn tables(&self) -> Vec<TableInfo> {
        let mut versions: BTreeMap<&str, BTreeMap<(Timestamp, &VersionId), &Version>> = BTreeMap::new();
        let mut newest: BTreeMap<&str, (Timestamp, &Version)> = BTreeMap::new();
        for state in self.writers.values() {
            for (id, version) in &state.versions {
                versions.entry(&version.table).or_default().insert((version.at, id), version);
            }
            for (table, (at, id)) in &state.newest {
                let Some(version) = state.versions.get(id) else { continue };
                let known = newest.entry(table).or_insert((*at, version));
                if *at > known.0 {
                    *known = (*at, version);
                }
            }
        }
        let info = |(name, (_, newest)): (&str, (Timestamp, &Version))| {
            let all = versions.get(name).into_iter().flat_map(BTreeMap::values).copied().chain([newest]);
            TableInfo {
                name: name.to_owned(),
                schema: union(all.map(|version| version.schema.as_ref())),
                time_column: newest.time_column.clone(),
                sort: newest.sort.clone(),
            }
        };
        newest.into_iter().map(info).collect()
    }

    /// The files of a table that may have rows in the range, oldest hour first. None when nobody has written the table.
    #[must_use]
    pub fn files(&self, table: &str, range: &Range) -> Vec<FileMeta> {
        let wanted = |file: &&FileMeta| file.table == table && file.overlaps(range.from, range.to);
        let mut files: Vec<FileMeta> = self.all_files().filter(wanted).cloned().collect();
        files.sort_by(|left, right| (left.hour, &left.path).cmp(&(right.hour, &right.path)));
        files
    }

    /// The columns of a file.
    #[must_use]
    pub fn file_schema(&self, file: &FileMeta) -> Option<SchemaRef> {
        Some(Arc::clone(&self.writers.get(&file.writer)?.versions.get(&file.version)?.schema))
    }

    /// Fetches a file; its columns are those of its own version.
    ///
    /// # Errors
    /// Names the file when it is missing or damaged.
    pub async fn read(&self, file: &FileMeta) -> Result<ParquetRecordBatchReader, ArchiveError> {
        const BATCH: usize = 8192;
        let bytes = self.fetch(file).await?;
        let path = file.path.clone();
        // A footer is decoded in microseconds; the rows follow as the caller asks for them.
        reader(&path, bytes, BATCH)
    }

    /// Fetches all rows of a file.
    ///
    /// # Errors
    /// Names the file when it is missing or damaged.
    pub async fn rows(&self, file: &FileMeta) -> Result<Vec<RecordBatch>, ArchiveError> {
        let (reader, path) = (self.read(file).await?, file.path.clone());
        let damaged = move |reason: String| ArchiveError::Damaged { path: path.clone(), reason };
        tokio::task::spawn_blocking(move || reader.collect::<Result<Vec<_>, _>>().map_err(|error| damaged(error.to_string()))).await?
    }

    async fn fetch(&self, file: &FileMeta) -> Result<Bytes, ArchiveError> {
        let bytes = self.store.get(&file.path).await?.ok_or_else(|| ArchiveError::Missing { path: file.path.clone() })?;
        if bytes.len() as u64 == file.bytes {
            return Ok(bytes);
        }
        let reason = format!("it has {} bytes where {} were written", bytes.len(), file.bytes);
        Err(ArchiveError::Damaged { path: file.path.clone(), reason })
    }

    pub(crate) fn all_files(&self) -> impl Iterator<Item = &FileMeta> {
        self.writers.values().flat_map(|state| state.files.values())
    }
}
