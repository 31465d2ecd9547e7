//! What the log says about a data file, so that readers need not open it to know that they do not need it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::convert::try_schema_from_flatbuffer_bytes;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracescale_core::time::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::hour::Hour;
use crate::name::WriterName;
use crate::table::Table;

/// How often a file was rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As cut from the write-ahead log.
    Fresh,
    /// Merged from others.
    Compacted,
}

/// A data file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileMeta {
    /// Where it is, below the root.
    pub path: String,
    /// Its table.
    pub table: String,
    /// Its folder.
    pub hour: Hour,
    /// Whether its rows have times that are outside of that hour: see [`crate::encode::Hours`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stray: bool,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// The earliest time in it; absent when no row has one.
    pub min_time: Option<Timestamp>,
    /// The latest time in it.
    pub max_time: Option<Timestamp>,
    /// Fresh or compacted.
    pub level: Level,
    /// Who wrote it.
    pub writer: WriterName,
    /// When it was committed.
    pub at: Timestamp,
    /// The version of the table that it has.
    pub version: VersionId,
    /// For text columns that rows are sorted by: no value is below the first or above the second. Long ones are cut.
    pub bounds: BTreeMap<String, (String, String)>,
}

/// Identifies a [`Version`] by its content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(String);

/// What a table looked like at a time; compaction needs no more to rewrite its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The table.
    pub table: String,
    /// When it was first written.
    pub at: Timestamp,
    /// The column that decides on the hour.
    pub time_column: String,
    /// Columns that rows are sorted by.
    pub sort: Vec<String>,
    /// Columns with a bloom filter.
    pub bloom: Vec<String>,
    /// The columns, in the log as base64 of an Arrow IPC schema message.
    #[serde(serialize_with = "serialize_schema", deserialize_with = "deserialize_schema")]
    pub schema: SchemaRef,
}

// === impl Version ===

impl Version {
    /// The version that files of a table have now.
    #[must_use]
    pub fn of(table: &Table, at: Timestamp) -> Self {
        Self {
            table: table.name.clone(),
            at,
            time_column: table.time_column.clone(),
            sort: if table.sort.is_empty() { vec![table.time_column.clone()] } else { table.sort.clone() },
            bloom: table.bloom.clone(),
            schema: table.archived_schema(),
        }
    }

    /// Its identity. The time does not count: the same columns are the same version whenever they are written.
    #[must_use]
    pub fn id(&self) -> VersionId {
        let texts = [std::slice::from_ref(&self.table), std::slice::from_ref(&self.time_column), &self.sort, &[String::new()], &self.bloom];
        let mut bytes = texts.concat().join("\0").into_bytes();
        bytes.push(0);
        bytes.extend(schema_bytes(&self.schema));
        VersionId(format!("{:016x}", xxh3_64(&bytes)))
    }
}

// === impl FileMeta ===

impl FileMeta {
    /// Whether a row of the file can have a time in `[from, to)`. Rows without a time are in no range but the unbounded.
    #[must_use]
    pub fn overlaps(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> bool {
        let (Some(min), Some(max)) = (self.min_time, self.max_time) else { return from.is_none() && to.is_none() };
        from.is_none_or(|from| max >= from) && to.is_none_or(|to| min < to)
    }
}

fn schema_bytes(schema: &Schema) -> Vec<u8> {
    let mut tracker = DictionaryTracker::new(false);
    IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &IpcWriteOptions::default()).ipc_message
}

fn serialize_schema<S: Serializer>(schema: &SchemaRef, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(schema_bytes(schema)))
}

fn deserialize_schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SchemaRef, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = BASE64.decode(text).map_err(serde::de::Error::custom)?;
    try_schema_from_flatbuffer_bytes(&bytes).map(Arc::new).map_err(serde::de::Error::custom)
}
