//! Tests of the archive as a whole: what is asked of it is asked through the catalogue, as a reader would.

mod catalog;
mod compaction;
mod crash;
mod overwriting;
mod types;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array as _, ArrayRef, AsArray as _, DictionaryArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use object_store::memory::InMemory;
use tracescale_core::schema::{dictionary, timestamp};
use tracescale_core::time::Timestamp;

use crate::archive::{Archive, Cut, Options};
use crate::catalog::{Catalog, Range};
use crate::encode::Hours;
use crate::location::Location;
use crate::name::WriterName;
use crate::store::Store;
use crate::table::Table;

/// 2026-08-29T10:00:00Z.
const START: Timestamp = Timestamp::from_secs(1_787_997_600);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A table with a time, a service and a number that identifies the row.
fn events() -> Arc<Table> {
    let fields =
        vec![Field::new("time", timestamp(), false), Field::new("id", DataType::Int64, false), Field::new("service", dictionary(), true)];
    Arc::new(Table {
        name: "events".to_owned(),
        schema: Arc::new(Schema::new(fields)),
        time_column: "time".to_owned(),
        sort: vec!["service".to_owned(), "time".to_owned()],
        bloom: vec!["id".to_owned()],
        omit: BTreeSet::new(),
    })
}

/// Rows with these times and ids.
fn rows(rows: &[(Timestamp, i64)]) -> RecordBatch {
    let times: TimestampNanosecondArray = rows.iter().map(|(time, _)| Some(time.as_nanos())).collect();
    let ids: Int64Array = rows.iter().map(|(_, id)| Some(*id)).collect();
    let services: DictionaryArray<Int32Type> = rows.iter().map(|(_, id)| ["shop", "cart", "mail"].get(*id as usize % 4).copied()).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(ids), Arc::new(services)];
    RecordBatch::try_new(Arc::clone(&events().schema), columns).unwrap()
}

fn cut(through: u64, batches: Vec<RecordBatch>) -> Cut {
    Cut { through, marks: BTreeMap::new(), tables: vec![(events(), batches)] }
}

fn memory() -> Store {
    Store::over("memory".to_owned(), Arc::new(InMemory::new()))
}

fn folder(path: &std::path::Path) -> Store {
    Store::open(&Location::Local(path.to_owned())).unwrap()
}

fn writer(name: &str) -> WriterName {
    WriterName::new(name).unwrap()
}

fn options(name: &str, session: u64) -> Options {
    Options { checkpoint_every: 3, hours: Hours::default(), ..Options::new(writer(name), session) }
}

async fn open(store: &Store, name: &str, now: Timestamp) -> Archive {
    Archive::open(store.clone(), options(name, now.as_nanos() as u64), now).await.unwrap()
}

/// The ids of all rows that a reader sees in a range, sorted.
async fn ids_in(store: &Store, range: Range) -> Vec<i64> {
    let catalog = Catalog::over(store.clone()).await.unwrap();
    let mut ids = vec![];
    for file in catalog.files("events", &range) {
        let batches = catalog.rows(&file).await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>(), file.rows);
        for batch in batches {
            ids.extend(batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values());
        }
    }
    ids.sort_unstable();
    ids
}

async fn ids(store: &Store) -> Vec<i64> {
    ids_in(store, Range::default()).await
}

/// The texts of a dictionary column.
fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let values = arrow::compute::cast(batch.column_by_name(column).unwrap(), &DataType::Utf8).unwrap();
    let values: &StringArray = values.as_string();
    (0..values.len()).map(|row| values.is_valid(row).then(|| values.value(row).to_owned())).collect()
}

/// Merges and deletes until nothing is due.
async fn settle_files(archive: &mut Archive, now: Timestamp) {
    while archive.compact(now).await.unwrap().more {}
    archive.sweep(now + DAY).await.unwrap();
}
