//! One Parquet file: how each column is encoded, what the footer says, and what the log learns from it.
//!
//! What encodings are worth was measured, see `examples/sizes.rs`: ids do not compress at all; times hardly do, unless as
//! differences; the bytes of floating-point numbers compress when those of equal weight lie together; everything else
//! repeats, and is a dictionary.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use tracescale_core::time::Timestamp;

use crate::encode::{EncodedFile, Origin, Place};
use crate::error::ArchiveError;
use crate::file::{FileMeta, Level, Version};
use crate::name::FileName;
use crate::record::data_path;

const ROW_GROUP_ROWS: usize = 131_072;
const PAGE_ROWS: usize = 20_000;
/// Bounds of longer texts are cut, so that one stack trace cannot bloat the log.
const BOUND_BYTES: usize = 64;
const BLOOM_FALSE_POSITIVES: f64 = 0.01;
/// Fresh files are soon rewritten.
const FRESH_ZSTD: i32 = 1;
const COMPACTED_ZSTD: i32 = 3;

/// A file being written, in memory.
pub(crate) struct FileWriter {
    writer: ArrowWriter<Vec<u8>>,
    version: Version,
    level: Level,
    origin: Origin,
    rows: u64,
}

// === impl FileWriter ===

impl FileWriter {
    /// Starts a file with the columns of `schema`, which are those of the version.
    pub(crate) fn new(version: &Version, schema: &SchemaRef, level: Level, origin: &Origin) -> Result<Self, ArchiveError> {
        let properties = properties(version, schema, level, origin).map_err(|source| error(version, source))?;
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(|source| error(version, source))?;
        Ok(Self { writer, version: version.clone(), level, origin: origin.clone(), rows: 0 })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArchiveError> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(|source| error(&self.version, source))
    }

    pub(crate) const fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the row groups that are complete.
    pub(crate) fn bytes(&self) -> usize {
        self.writer.bytes_written()
    }

    pub(crate) fn finish(mut self, (hour, stray): Place, name: &FileName) -> Result<EncodedFile, ArchiveError> {
        let footer = self.writer.finish().map_err(|source| error(&self.version, source))?;
        let bytes = Bytes::from(std::mem::take(self.writer.inner_mut()));
        let (min_time, max_time) = time_bounds(&footer, &self.version.time_column);
        let meta = FileMeta {
            path: data_path(&self.version.table, hour, name),
            table: self.version.table.clone(),
            hour,
            stray,
            bytes: bytes.len() as u64,
            rows: self.rows,
            min_time,
            max_time,
            level: self.level,
            writer: self.origin.writer,
            at: self.origin.at,
            bounds: self.version.sort.iter().filter_map(|column| Some((column.clone(), text_bounds(&footer, column)?))).collect(),
            version: self.version.id(),
        };
        Ok(EncodedFile { meta, bytes })
    }
}

fn error(version: &Version, source: ParquetError) -> ArchiveError {
    ArchiveError::Encode { table: version.table.clone(), source }
}

fn properties(version: &Version, schema: &Schema, level: Level, origin: &Origin) -> Result<WriterProperties, ParquetError> {
    let zstd = if level == Level::Fresh { FRESH_ZSTD } else { COMPACTED_ZSTD };
    let facts = [
        ("tracescale.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("tracescale.table", version.table.clone()),
        ("tracescale.writer", origin.writer.to_string()),
        ("tracescale.sequence", origin.sequence.to_string()),
    ];
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(zstd)?))
        .set_created_by(concat!("tracescale ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(BOUND_BYTES))
        .set_column_index_truncate_length(Some(BOUND_BYTES))
        .set_sorting_columns(Some(sorting_columns(version, schema)))
        .set_key_value_metadata(Some(facts.map(|(key, value)| KeyValue::new(key.to_owned(), value)).to_vec()));
    for field in schema.fields() {
        builder = encoding(builder, field.name(), field.data_type());
    }
    for column in &version.bloom {
        let path = ColumnPath::from(column.as_str());
        builder = builder
            .set_column_bloom_filter_fpp(path.clone(), BLOOM_FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(path, ROW_GROUP_ROWS as u64);
    }
    Ok(builder.build())
}

fn encoding(builder: WriterPropertiesBuilder, name: &str, data_type: &DataType) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(name);
    let plain = |encoding| builder.clone().set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path.clone(), encoding);
    match data_type {
        DataType::Timestamp(..) => plain(Encoding::DELTA_BINARY_PACKED),
        DataType::FixedSizeBinary(_) => plain(Encoding::PLAIN).set_column_compression(path.clone(), Compression::UNCOMPRESSED),
        DataType::Float64 if matches!(name, "duration") => plain(Encoding::BYTE_STREAM_SPLIT),
        _ => builder,
    }
}

/// The sort order, up to the first column that is no plain column of Parquet.
fn sorting_columns(version: &Version, schema: &Schema) -> Vec<SortingColumn> {
    let leaves = leaf_indices(schema);
    let sorted = version.sort.iter().map_while(|column| leaves.get(column.as_str()));
    sorted.map(|leaf| SortingColumn { column_idx: *leaf, descending: false, nulls_first: true }).collect()
}

/// Parquet counts leaves, Arrow fields.
fn leaf_indices(schema: &Schema) -> BTreeMap<&str, i32> {
    fn leaves(data_type: &DataType) -> i32 {
        match data_type {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::Map(item, _) => {
                leaves(item.data_type())
            }
            DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
            _ => 1,
        }
    }
    let mut next = 0;
    let mut indices = BTreeMap::new();
    for field in schema.fields() {
        if !field.data_type().is_nested() {
            indices.insert(field.name().as_str(), next);
        }
        next += leaves(field.data_type());
    }
    indices
}

/// The statistics of a column in every row group.
fn statistics<'a>(footer: &'a ParquetMetaData, column: &'a str) -> impl Iterator<Item = Option<&'a Statistics>> {
    let path = ColumnPath::from(column);
    footer.row_groups().iter().map(move |group| group.columns().iter().find(|chunk| *chunk.column_path() == path)?.statistics())
}

fn time_bounds(footer: &ParquetMetaData, column: &str) -> (Option<Timestamp>, Option<Timestamp>) {
    let time = |micros: &i64| Timestamp::from_nanos(micros.saturating_mul(1000));
    let each = || {
        statistics(footer, column).filter_map(|statistics| if let Statistics::Int64(values) = statistics? { Some(values) } else { None })
    };
    (each().filter_map(|values| values.min_opt()).min().map(time), each().filter_map(|values| values.max_opt()).max().map(time))
}

/// Between what the texts of a column lie; `None` when there are none, or one row group does not say.
fn text_bounds(footer: &ParquetMetaData, column: &str) -> Option<(String, String)> {
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes?.to_vec()).ok();
    let mut bounds: Option<(String, String)> = None;
    for (statistics, group) in statistics(footer, column).zip(footer.row_groups()) {
        let Statistics::ByteArray(_) = statistics? else { return None };
        let statistics = statistics?;
        if statistics.null_count_opt() == u64::try_from(group.num_rows()).ok() {
            continue;
        }
        let (min, max) = (text(statistics.min_bytes_opt())?, text(statistics.max_bytes_opt())?);
        bounds = Some(match bounds {
            Some((least, most)) => (least.min(min), most.max(max)),
            None => (min, max),
        });
    }
    bounds
}

/// Reads a file that is in memory. The columns have the Arrow types that were written.
pub(crate) fn reader(path: &str, bytes: Bytes, batch_rows: usize) -> Result<ParquetRecordBatchReader, ArchiveError> {
    let damaged = |source: ParquetError| ArchiveError::Damaged { path: path.to_owned(), reason: source.to_string() };
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, ArrowReaderOptions::new()).map_err(damaged)?;
    builder.with_batch_size(batch_rows).build().map_err(damaged)
}
