//! Rows into Parquet files, one per hour. Plain functions that take their time: call them where blocking is allowed.
//!
//! ```text
//! batches ─▶ conform ─▶ pieces ─▶ (hour, sort key) ─▶ sorted positions ─▶ one file per hour
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use arrow::array::{Array as _, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use bytes::Bytes;
use tracescale_core::time::Timestamp;

use crate::error::ArchiveError;
use crate::file::{FileMeta, Level, Version};
use crate::hour::Hour;
use crate::name::{FileName, WriterName};
use crate::parquet_file::FileWriter;
use crate::table::{Table, conform, times};

/// Rows handed to the Parquet writer at once.
const CHUNK: usize = 8192;
/// Small batches are joined up to so many rows, because gathering rows costs per source and chunk.
const PIECE_ROWS: usize = 131_072;
/// And up to so many bytes, so that the 32-bit offsets of text and lists suffice.
const PIECE_BYTES: usize = 256 << 20;

/// Which hours a cut may have. What is outside is *stray*: an exporter with a broken clock, or data replayed from long
/// ago. Stray rows keep their times but go into the folder of the hour in which they are archived, in files marked so, and
/// readers find them by the times in the log. Without that, one bad clock could make a folder per row; and in the folder
/// of their arrival they age with what arrived with them, where a time in 2262 would never expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Rows older than this are stray.
    pub past: Duration,
    /// Rows further ahead than this are stray.
    pub future: Duration,
    /// Hours per cut and table. The fullest ones are kept, the rows of the others are stray.
    pub most: usize,
}

/// By whom, when and how files are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who writes.
    pub writer: WriterName,
    /// The commit that is to add the files.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
}

/// A file that is not published yet.
#[derive(Clone, Debug)]
pub struct EncodedFile {
    /// What the log is to say.
    pub meta: FileMeta,
    /// What is in it.
    pub bytes: Bytes,
}

/// Where rows go: their hour, and whether they are stray there.
pub(crate) type Place = (Hour, bool);

// === impl Hours ===

impl Default for Hours {
    /// A month back, a day ahead, three days at once.
    fn default() -> Self {
        Self { past: Duration::from_secs(31 * 86_400), future: Duration::from_secs(86_400), most: 72 }
    }
}

impl Hours {
    /// The place of every hour, and of rows without a time under `None`.
    fn places(&self, rows: &HashMap<Option<Hour>, u64>, now: Timestamp) -> HashMap<Option<Hour>, Place> {
        let (first, last) = (Hour::of(now - self.past), Hour::of(now + self.future));
        let mut near: Vec<_> = rows.iter().filter_map(|(hour, rows)| hour.map(|hour| (Reverse(*rows), Reverse(hour)))).collect();
        near.retain(|(_, Reverse(hour))| (first..=last).contains(hour));
        near.sort_unstable();
        near.truncate(self.most);
        let mut places: HashMap<_, _> = rows.keys().map(|hour| (*hour, (Hour::of(now), true))).collect();
        places.extend(near.into_iter().map(|(_, Reverse(hour))| (Some(hour), (hour, false))));
        places
    }
}

/// Writes the rows of a table as files, at most one per hour and one for stray rows. Equal input, equal bytes.
///
/// # Errors
/// When the table is not valid, or a row does not fit its columns.
pub fn encode(table: &Table, batches: &[RecordBatch], hours: &Hours, origin: &Origin) -> Result<Vec<EncodedFile>, ArchiveError> {
    table.validate()?;
    let version = Version::of(table, origin.at);
    let pieces = pieces(&version, batches)?;
    let places = place_rows(&version, &pieces, hours, origin.at)?;
    let sorter = Sorter::new(&version, &version.schema)?;
    let keys = pieces.iter().map(|piece| sorter.keys(piece)).collect::<Result<Vec<_>, _>>()?;
    let sources: Vec<&RecordBatch> = pieces.iter().collect();
    let mut files = Vec::with_capacity(places.len());
    for ((hour, stray), mut positions) in places {
        positions.sort_by(|left, right| keys[left.0].row(left.1).cmp(&keys[right.0].row(right.1)));
        // Two files of one folder: the hour's own, and the stray ones.
        let mut file = FileWriter::new(&version, &version.schema, Level::Fresh, origin)?;
        for chunk in positions.chunks(CHUNK) {
            file.write(&interleave_record_batch(&sources, chunk).map_err(|source| rows_error(&table.name, source))?)?;
        }
        let name = FileName { writer: origin.writer.clone(), sequence: origin.sequence, index: u32::from(stray) };
        files.push(file.finish((hour, stray), &name)?);
    }
    Ok(files)
}

/// The rows in the columns of the version, in few batches.
fn pieces(version: &Version, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>, ArchiveError> {
    let mut pieces = Vec::new();
    let mut open: Vec<RecordBatch> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    let close = |open: &mut Vec<RecordBatch>| {
        let joined = concat_batches(&version.schema, open.iter()).map_err(|source| rows_error(&version.table, source));
        open.clear();
        joined
    };
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let size = batch.get_array_memory_size();
        if !open.is_empty() && (rows + batch.num_rows() > PIECE_ROWS || bytes + size > PIECE_BYTES) {
            pieces.push(close(&mut open)?);
            (rows, bytes) = (0, 0);
        }
        (rows, bytes) = (rows + batch.num_rows(), bytes + size);
        open.push(conform(&version.table, batch, &version.schema)?);
    }
    if !open.is_empty() {
        pieces.push(close(&mut open)?);
    }
    Ok(pieces)
}

/// The positions (piece, row) of the rows of each place.
fn place_rows(
    version: &Version,
    pieces: &[RecordBatch],
    hours: &Hours,
    now: Timestamp,
) -> Result<BTreeMap<Place, Vec<(usize, usize)>>, ArchiveError> {
    let mut by_hour: HashMap<Option<Hour>, Vec<(usize, usize)>> = HashMap::new();
    for (index, piece) in pieces.iter().enumerate() {
        let times = times(&version.table, piece, &version.time_column)?;
        for row in 0..times.len() {
            let hour = times.is_valid(row).then(|| Hour::of_micros(times.value(row)));
            by_hour.entry(hour).or_default().push((index, row));
        }
    }
    let counts = by_hour.iter().map(|(hour, rows)| (*hour, rows.len() as u64)).collect();
    let places = hours.places(&counts, now);
    let mut placed: BTreeMap<Place, Vec<(usize, usize)>> = BTreeMap::new();
    for (hour, rows) in by_hour {
        placed.entry(places[&hour]).or_default().extend(rows);
    }
    // Hours come out of a hash table; equal rows must not depend on its order.
    placed.values_mut().for_each(|rows| rows.sort_unstable());
    Ok(placed)
}

/// Makes sort keys.
pub(crate) struct Sorter {
    table: String,
    columns: Vec<usize>,
    converter: RowConverter,
}

// === impl Sorter ===

impl Sorter {
    pub(crate) fn new(version: &Version, schema: &Schema) -> Result<Self, ArchiveError> {
        let error = |source| rows_error(&version.table, source);
        let columns = version.sort.iter().map(|column| schema.index_of(column)).collect::<Result<Vec<_>, _>>().map_err(error)?;
        let fields = columns.iter().map(|column| SortField::new(schema.field(*column).data_type().clone())).collect();
        Ok(Self { table: version.table.clone(), columns, converter: RowConverter::new(fields).map_err(error)? })
    }

    /// One key per row; keys of one sorter compare like rows.
    pub(crate) fn keys(&self, batch: &RecordBatch) -> Result<Rows, ArchiveError> {
        let columns: Vec<_> = self.columns.iter().map(|column| batch.column(*column).clone()).collect();
        self.converter.convert_columns(&columns).map_err(|source| rows_error(&self.table, source))
    }
}

pub(crate) fn rows_error(table: &str, source: ArrowError) -> ArchiveError {
    ArchiveError::Rows { table: table.to_owned(), column: None, source }
}
