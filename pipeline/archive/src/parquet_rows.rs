//! Any rows as one Parquet file, for results that people take elsewhere.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

/// A Parquet file that is being written.
#[derive(Debug)]
pub struct ParquetRows<W: Write + Send> {
    writer: ArrowWriter<W>,
}

// === impl ParquetRows ===

impl<W: Write + Send> ParquetRows<W> {
    /// Begins a file with these columns, compressed with zstd.
    ///
    /// # Errors
    /// When a column has a type that Parquet has not.
    pub fn new(file: W, schema: &SchemaRef) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        Ok(Self { writer: ArrowWriter::try_new(file, SchemaRef::clone(schema), Some(properties))? })
    }

    /// Writes rows.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.writer.write(rows)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> Result<(), ParquetError> {
        self.writer.close().map(|_| ())
    }
}
