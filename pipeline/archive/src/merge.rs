//! Several sorted files of one table and hour into few, in their order. A plain function that takes its time.
//!
//! Of each input one batch is decoded at a time. The inputs and outputs themselves are in memory, encoded; compaction
//! bounds them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::row::Rows;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use crate::encode::{EncodedFile, Origin, Place, Sorter, rows_error};
use crate::error::ArchiveError;
use crate::file::{FileMeta, Level, Version};
use crate::name::FileName;
use crate::parquet_file::{FileWriter, reader};
use crate::table::conform;

const CHUNK: usize = 8192;
/// Rows of one input that are decoded at once.
const BATCH: usize = 4096;

/// When an output file is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

/// An input and where it stands. The greatest of the heap is the one with the least row.
struct Source {
    index: usize,
    path: String,
    batches: ParquetRecordBatchReader,
    keys: Rows,
    /// Its current batch among the decoded ones, and the next row of it.
    batch: usize,
    row: usize,
}

/// The merge under way.
struct Merge<'a> {
    version: &'a Version,
    sorter: Sorter,
    target: Target,
    origin: &'a Origin,
    place: Place,
    /// Batches that rows of the next chunk come from.
    decoded: Vec<RecordBatch>,
    chunk: Vec<(usize, usize)>,
    output: Option<FileWriter>,
    files: Vec<EncodedFile>,
}

/// Merges files of one place into files with the columns of `version`.
///
/// # Errors
/// When an input is not what its name says, or the number of rows is not the same afterwards.
pub(crate) fn merge(
    inputs: Vec<(FileMeta, Bytes)>,
    version: &Version,
    target: Target,
    origin: &Origin,
) -> Result<Vec<EncodedFile>, ArchiveError> {
    let Some(place) = inputs.first().map(|(file, _)| (file.hour, file.stray)) else { return Ok(vec![]) };
    let (files, before) = (inputs.len(), inputs.iter().map(|(file, _)| file.rows).sum::<u64>());
    let mut merge = Merge {
        version,
        sorter: Sorter::new(version, &version.schema)?,
        target,
        origin,
        place,
        decoded: vec![],
        chunk: Vec::with_capacity(CHUNK),
        output: None,
        files: vec![],
    };
    let mut heap = BinaryHeap::new();
    for (index, (file, bytes)) in inputs.into_iter().enumerate() {
        let batches = reader(&file.path, bytes, BATCH)?;
        heap.extend(merge.start(index, file.path, batches)?);
    }
    merge.run(heap)?;
    let after = merge.files.iter().map(|file| file.meta.rows).sum();
    if before != after {
        return Err(ArchiveError::Miscounted { table: version.table.clone(), files, before, after });
    }
    Ok(merge.files)
}

// === impl Merge ===

impl Merge<'_> {
    fn start(&mut self, index: usize, path: String, mut batches: ParquetRecordBatchReader) -> Result<Option<Source>, ArchiveError> {
        let Some((batch, keys)) = self.decode(&path, &mut batches)? else { return Ok(None) };
        Ok(Some(Source { index, path, batches, keys, batch, row: 0 }))
    }

    /// The next batch that has rows: its place among the decoded ones, and its keys.
    fn decode(&mut self, path: &str, batches: &mut ParquetRecordBatchReader) -> Result<Option<(usize, Rows)>, ArchiveError> {
        for batch in batches {
            let batch = batch.map_err(|error| ArchiveError::Damaged { path: path.to_owned(), reason: error.to_string() })?;
            let batch = conform(&self.version.table, &batch, &self.version.schema)?;
            if batch.num_rows() > 0 {
                let keys = self.sorter.keys(&batch)?;
                self.decoded.push(batch);
                return Ok(Some((self.decoded.len() - 1, keys)));
            }
        }
        Ok(None)
    }

    fn run(&mut self, mut heap: BinaryHeap<Source>) -> Result<(), ArchiveError> {
        loop {
            let Some(least) = heap.peek_mut() else { break };
            self.take_row(least)?;
            if self.chunk.len() == CHUNK {
                self.flush()?;
                self.forget(&mut heap);
            }
        }
        self.flush()?;
        self.close()
    }

    fn take_row(&mut self, mut least: PeekMut<'_, Source>) -> Result<(), ArchiveError> {
        self.chunk.push((least.batch, least.row));
        least.row += 1;
        if least.row == least.keys.num_rows() {
            let Source { path, batches, .. } = &mut *least;
            match self.decode(path, batches) {
                Ok(Some((batch, keys))) => (least.batch, least.row, least.keys) = (batch, 0, keys),
                Ok(None) => drop(PeekMut::pop(least)),
                Err(error) => {
                    // The heap compares it once more when it takes it back, and there is no next row to compare.
                    least.row = 0;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Writes the chunk.
    fn flush(&mut self) -> Result<(), ArchiveError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let sources: Vec<&RecordBatch> = self.decoded.iter().collect();
        let rows = interleave_record_batch(&sources, &self.chunk).map_err(|source| rows_error(&self.version.table, source))?;
        self.chunk.clear();
        let mut output = match self.output.take() {
            Some(output) => output,
            None => FileWriter::new(self.version, &self.version.schema, Level::Compacted, self.origin)?,
        };
        output.write(&rows)?;
        let full = output.bytes() as u64 >= self.target.bytes || output.rows() >= self.target.rows;
        self.output = Some(output);
        if full { self.close() } else { Ok(()) }
    }

    /// Drops batches whose rows are all written. The heap's order does not depend on where batches are.
    fn forget(&mut self, heap: &mut BinaryHeap<Source>) {
        let decoded = std::mem::take(&mut self.decoded);
        let sources = std::mem::take(heap).into_vec().into_iter().map(|mut source| {
            self.decoded.push(decoded[source.batch].clone());
            source.batch = self.decoded.len() - 1;
            source
        });
        *heap = sources.collect();
    }

    fn close(&mut self) -> Result<(), ArchiveError> {
        let Some(output) = self.output.take() else { return Ok(()) };
        let index = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        let name = FileName { writer: self.origin.writer.clone(), sequence: self.origin.sequence, index };
        self.files.push(output.finish(self.place, &name)?);
        Ok(())
    }
}

// === impl Source ===

impl Ord for Source {
    fn cmp(&self, other: &Self) -> Ordering {
        // Equal rows in the order of inputs, so that the same inputs give the same file.
        other.keys.row(other.row).cmp(&self.keys.row(self.row)).then_with(|| other.index.cmp(&self.index))
    }
}

impl PartialOrd for Source {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Source {}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

/// Whether a file of `from` can be rewritten as `to` without touching a value.
pub(crate) fn rewritable(from: &SchemaRef, to: &SchemaRef) -> bool {
    from.fields().iter().all(|field| to.field_with_name(field.name()).is_ok_and(|target| widens(field.data_type(), target.data_type())))
}

fn widens(from: &arrow::datatypes::DataType, to: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType::{
        Binary, Dictionary, Float32, Float64, Int8, Int16, Int32, Int64, List, Null, UInt8, UInt16, UInt32, UInt64, Utf8,
    };
    match (from, to) {
        (from, to) if from == to => true,
        (Null, _)
        | (Int8, Int16 | Int32 | Int64 | Float32 | Float64)
        | (Int16, Int32 | Int64 | Float32 | Float64)
        | (Int32, Int64 | Float64)
        | (UInt8, UInt16 | UInt32 | UInt64 | Int16 | Int32 | Int64 | Float32 | Float64)
        | (UInt16, UInt32 | UInt64 | Int32 | Int64 | Float32 | Float64)
        | (UInt32, UInt64 | Int64 | Float64)
        | (Float32, Float64)
        | (Utf8, Binary) => true,
        (Dictionary(_, from), Dictionary(_, to)) => widens(from, to),
        (Dictionary(_, from), to) => widens(from, to),
        (from, Dictionary(_, to)) => from == to.as_ref(),
        (List(from), List(to)) => widens(from.data_type(), to.data_type()),
        _ => false,
    }
}
