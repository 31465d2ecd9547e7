//! Rows that came after their windows were final: kept as Arrow IPC streams, one file per stream and run, up to a bound.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;

/// Most bytes of rows (in memory) that one run keeps; what comes after is counted only.
const BYTES_MAX: usize = 256 << 20;

/// The files of one run, opened when the first late row of a stream arrives.
pub struct Late {
    dir: PathBuf,
    started: Timestamp,
    files: BTreeMap<&'static str, StreamWriter<BufWriter<File>>>,
    bytes: usize,
    dropped_rows: u64,
}

// === impl Late ===

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Late").field("dir", &self.dir).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Late {
    /// Keeps late rows under `dir`.
    #[must_use]
    pub fn new(dir: &Path, started: Timestamp) -> Self {
        Self { dir: dir.join("late"), started, files: BTreeMap::new(), bytes: 0, dropped_rows: 0 }
    }

    /// Writes rows of one stream. Returns how many rows of this run were not kept so far because the bound is reached.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, stream: Stream, rows: &RecordBatch) -> anyhow::Result<u64> {
        let bytes = rows.get_array_memory_size();
        if self.bytes.saturating_add(bytes) > BYTES_MAX {
            self.dropped_rows += rows.num_rows() as u64;
            return Ok(self.dropped_rows);
        }
        self.bytes += bytes;
        let writer = match self.files.entry(stream.name()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                fs::create_dir_all(&self.dir).with_context(|| format!("directory {}", self.dir.display()))?;
                let path = self.dir.join(format!("{}-{}.arrows", stream.name(), self.started.as_nanos()));
                let file = File::create(&path).with_context(|| format!("file {}", path.display()))?;
                entry.insert(StreamWriter::try_new(BufWriter::new(file), &rows.schema())?)
            }
        };
        writer.write(rows).context("late rows")?;
        Ok(self.dropped_rows)
    }

    /// Ends every file.
    ///
    /// # Errors
    /// When one cannot be completed.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.files.values_mut().try_for_each(StreamWriter::finish).context("late rows")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::ipc::reader::StreamReader;

    use super::*;

    /// Guarantees: what is written can be read by any Arrow reader, and nothing is made when nothing was late.
    #[test]
    fn late_rows_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        Late::new(dir.path(), Timestamp::EPOCH).finish().unwrap();
        assert!(!dir.path().join("late").exists());
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
        let mut late = Late::new(dir.path(), Timestamp::EPOCH);
        assert_eq!((late.write(Stream::Spans, &rows).unwrap(), late.write(Stream::Spans, &rows).unwrap()), (0, 0));
        late.finish().unwrap();
        let file = File::open(dir.path().join("late/spans-0.arrows")).unwrap();
        let read: Vec<_> = StreamReader::try_new(file, None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [rows.clone(), rows]);
    }
}
