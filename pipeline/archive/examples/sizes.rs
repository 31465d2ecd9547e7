//! What a row of a capture takes in the archive: in one cut, in cuts of a minute, and after these were merged.
//!
//! ```text
//! cargo run -p tracescale-archive --example sizes -- testdata/shop.otlp.zst [FOLDER]
//! ```
//!
//! With FOLDER, or the URL of a bucket, nothing is printed: the merged files with all ids are left there for other readers.
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "it prints figures")]

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use tracescale_archive::name::WriterName;
use tracescale_archive::streams::{self, Ids};
use tracescale_archive::{Archive, Cut, Location, Options, Store};
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_ingest::{capture, decode};

type Error = Box<dyn std::error::Error>;

const MINUTE: Duration = Duration::from_secs(60);
/// Long enough for every hour to be over and every removed file to be deleted.
const LATER: Duration = Duration::from_secs(4 * 3600);

/// The batches that were received in a minute, by stream.
type Minute = BTreeMap<Stream, Vec<RecordBatch>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let path = std::env::args().nth(1).ok_or("usage: sizes CAPTURE [FOLDER]")?;
    let minutes = read(&path)?;
    if let Some(folder) = std::env::args().nth(2) {
        archive(Store::open(&Location::parse(&folder)?)?, Ids::Full, &minutes, true).await?;
        return Ok(());
    }
    let mut whole = Minute::new();
    for (stream, batches) in minutes.values().flatten() {
        whole.entry(*stream).or_default().extend(batches.iter().cloned());
    }
    let last = *minutes.keys().next_back().ok_or("the capture is empty")?;
    for ids in [Ids::Full, Ids::Trace, Ids::None] {
        let memory = || Store::over("memory".to_owned(), Arc::new(InMemory::new()));
        let one = archive(memory(), ids, &BTreeMap::from([(last, whole.clone())]), false).await?;
        print(&format!("{ids:?}, one cut"), &one);
        print(&format!("{ids:?}, cuts of a minute"), &archive(memory(), ids, &minutes, false).await?);
        let store = memory();
        let merged = archive(store.clone(), ids, &minutes, true).await?;
        print(&format!("{ids:?}, cuts of a minute, merged"), &merged);
        if ids == Ids::Full {
            print_columns(&store, &merged).await?;
        }
    }
    Ok(())
}

/// Reads a capture; a request counts as received when its newest item ended.
fn read(path: &str) -> Result<BTreeMap<Timestamp, Minute>, Error> {
    let mut minutes: BTreeMap<Timestamp, Minute> = BTreeMap::new();
    for message in capture::Reader::new(File::open(path)?) {
        let message = message?;
        let mut decoded = decode::decode(message.signal, message.encoding, &message.body, Timestamp::EPOCH, &decode::Declared::default())?;
        let Some(time) = decoded.newest_time() else { continue };
        decoded.set_received_at(time)?;
        for (stream, batch) in decoded.batches {
            minutes.entry(time.floor(MINUTE) + MINUTE).or_default().entry(stream).or_default().push(batch);
        }
    }
    Ok(minutes)
}

/// Archives each minute, and returns rows and bytes of each table.
async fn archive(
    store: Store,
    ids: Ids,
    minutes: &BTreeMap<Timestamp, Minute>,
    merge: bool,
) -> Result<BTreeMap<String, (u64, u64)>, Error> {
    let tables: Vec<_> = streams::tables(ids).into_iter().map(Arc::new).collect();
    let start = minutes.keys().next().copied().unwrap_or_default();
    let mut archive = Archive::open(store, Options::new(WriterName::new("sizes")?, 1), start).await?;
    for (at, minute) in minutes {
        let batches = |name: &str| Stream::from_name(name).and_then(|stream| minute.get(&stream)).cloned().unwrap_or_default();
        let tables = tables.iter().map(|table| (Arc::clone(table), batches(&table.name))).collect();
        archive.commit(Cut { through: archive.through() + 1, marks: BTreeMap::new(), tables }, *at).await?;
    }
    if merge {
        let later = minutes.keys().next_back().copied().unwrap_or_default() + LATER;
        while archive.compact(later).await?.more {}
        archive.sweep(later + LATER).await?;
    }
    let mut sizes: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for file in archive.files() {
        let (rows, bytes) = sizes.entry(file.table.clone()).or_default();
        (*rows, *bytes) = (*rows + file.rows, *bytes + file.bytes);
    }
    Ok(sizes)
}

fn print(what: &str, sizes: &BTreeMap<String, (u64, u64)>) {
    for (table, (rows, bytes)) in sizes {
        println!("{what:34} {table:12} {rows:7} rows {:6.1} bytes each", *bytes as f64 / *rows as f64);
    }
}

async fn print_columns(store: &Store, sizes: &BTreeMap<String, (u64, u64)>) -> Result<(), Error> {
    let folder = Path::from("v1/spans");
    let mut columns: BTreeMap<String, i64> = BTreeMap::new();
    for object in store.objects().list_with_delimiter(Some(&folder)).await?.common_prefixes {
        let files: Vec<_> = futures::TryStreamExt::try_collect(store.objects().list(Some(&object))).await?;
        for file in files {
            let bytes = store.objects().get(&file.location).await?.bytes().await?;
            let reader = SerializedFileReader::new(bytes)?;
            for column in reader.metadata().row_groups().iter().flat_map(parquet::file::metadata::RowGroupMetaData::columns) {
                *columns.entry(column.column_path().string()).or_default() += column.compressed_size();
            }
        }
    }
    let rows = sizes.get("spans").map_or(1, |(rows, _)| *rows);
    let mut columns: Vec<_> = columns.into_iter().collect();
    columns.sort_by_key(|(_, bytes)| -bytes);
    for (column, bytes) in columns {
        println!("    {column:32} {:7.3}", bytes as f64 / rows as f64);
    }
    Ok(())
}
