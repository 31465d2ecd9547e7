//! What a span takes in the archive: the recorded capture, in one cut, in cuts of a minute, and after compaction.
//!
//! ```text
//! cargo run --release -p tracescale-archive --example sizes -- testdata/shop.otlp.zst [COLUMNS]
//! ```

use std::collections::BTreeMap;
use std::fs::File;

use arrow::array::RecordBatch;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use tracescale_archive::encode::{EncodedFile, Hours, Origin, encode};
use tracescale_archive::name::WriterName;
use tracescale_archive::streams::{self, Ids};
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_ingest::{capture, decode};

type Error = Box<dyn std::error::Error>;

#[allow(clippy::print_stdout, reason = "it prints figures")]
fn main() -> Result<(), Error> {
    let path = std::env::args().nth(1).ok_or("usage: sizes CAPTURE [COLUMNS]")?;
    let detailed = std::env::args().nth(2).is_some();
    let mut batches: Vec<(Timestamp, Stream, RecordBatch)> = vec![];
    for message in capture::Reader::new(File::open(path)?) {
        let message = message?;
        let mut decoded = decode::decode(message.signal, message.encoding, &message.body, Timestamp::EPOCH)?;
        let Some(time) = decoded.newest_time() else { continue };
        decoded.set_received_at(time)?;
        batches.extend(decoded.batches.into_iter().map(|(stream, batch)| (time, stream, batch)));
    }
    let newest = batches.iter().map(|b| b.0).max().ok_or("empty")?;
    for ids in [Ids::Full, Ids::Trace, Ids::None] {
        for table in streams::tables(ids) {
            let rows: Vec<RecordBatch> = batches.iter().filter(|(_, stream, _)| stream.name() == table.name).map(|b| b.2.clone()).collect();
            let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
            if count == 0 {
                continue;
            }
            let origin = Origin { writer: WriterName::new("w")?, sequence: 1, at: newest };
            let files = encode(&table, &rows, &Hours::default(), &origin)?;
            let mut minutes: BTreeMap<i64, Vec<RecordBatch>> = BTreeMap::new();
            for (time, stream, batch) in &batches {
                if stream.name() == table.name {
                    minutes.entry(time.as_nanos() / 60_000_000_000).or_default().push(batch.clone());
                }
            }
            let mut minute_bytes = 0;
            let mut n = 0;
            for rows in minutes.values() {
                for f in encode(&table, rows, &Hours::default(), &origin)? {
                    minute_bytes += f.bytes.len();
                    n += 1;
                }
            }
            println!(
                "{ids:?} {} rows {count} one cut: {:.1} B/row in {} files; minutes: {:.1} in {n}",
                table.name,
                total(&files) as f64 / count as f64,
                files.len(),
                minute_bytes as f64 / count as f64
            );
            if detailed && ids == Ids::Full {
                print_columns(&files, count)?;
            }
        }
    }
    Ok(())
}
fn total(files: &[EncodedFile]) -> usize {
    files.iter().map(|f| f.bytes.len()).sum()
}
fn print_columns(files: &[EncodedFile], count: usize) -> Result<(), Error> {
    let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
    let mut sum = 0;
    for file in files {
        let reader = SerializedFileReader::new(file.bytes.clone())?;
        for group in reader.metadata().row_groups() {
            for column in group.columns() {
                *sizes.entry(column.column_path().string()).or_default() += column.compressed_size();
                sum += column.compressed_size();
            }
        }
    }
    let mut s: Vec<_> = sizes.into_iter().collect();
    s.sort_by_key(|x| -x.1);
    for (n, b) in s {
        println!("    {n:40} {:7.3}", b as f64 / count as f64);
    }
    println!("  rest {:.2}", (total(files) as i64 - sum) as f64 / count as f64);
    Ok(())
}
