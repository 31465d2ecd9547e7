//! Types, versions of a table, and what other readers find in the files.

use arrow::array::{BinaryArray, FixedSizeBinaryArray, Int8DictionaryArray, Int32Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{SchemaRef, TimeUnit};
use parquet::basic::LogicalType;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::*;
use crate::error::ArchiveError;
use crate::streams::{self, Ids};
use tracescale_core::schema::Stream;

fn table(fields: Vec<Field>) -> Table {
    Table { schema: Arc::new(Schema::new(fields)), sort: vec![], bloom: vec![], ..(*events()).clone() }
}

async fn archive_rows(archive: &mut Archive, table: &Table, columns: Vec<ArrayRef>, now: Timestamp) -> Result<(), ArchiveError> {
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap();
    let cut = Cut { through: archive.through() + 1, marks: BTreeMap::new(), tables: vec![(Arc::new(table.clone()), vec![batch])] };
    archive.commit(cut, now).await.map(drop)
}

async fn all_rows(store: &Store) -> Vec<RecordBatch> {
    let catalog = Catalog::over(store.clone()).await.unwrap();
    let mut batches = vec![];
    for file in catalog.files("events", &Range::default()) {
        let rows = catalog.rows(&file).await.unwrap();
        assert_eq!(rows[0].schema_ref().fields(), catalog.file_schema(&file).unwrap().fields());
        batches.extend(rows);
    }
    batches
}

fn times(seconds: &[i64]) -> ArrayRef {
    Arc::new(seconds.iter().map(|second| Some(START.as_nanos() + second * 1_000_000_000 + 1)).collect::<TimestampNanosecondArray>())
}

/// Guarantees: every type of the streams comes back as it was, also after a merge; times lose what is below a microsecond.
#[tokio::test]
async fn types_round_trip() {
    let binary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Binary));
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::UInt64, true)));
    let table = table(vec![
        Field::new("time", timestamp(), false),
        Field::new("resource", binary.clone(), false),
        Field::new("service", dictionary(), true),
        Field::new("trace_id", DataType::FixedSizeBinary(16), false),
        Field::new("series", DataType::UInt64, false),
        Field::new("counts", list.clone(), true),
    ]);
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    let values = BinaryArray::from_iter_values([b"\x00\xff".as_slice(), b"", b"\xfe"]);
    let resource = DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![2, 0, 1]), Arc::new(values)).unwrap();
    let ids = FixedSizeBinaryArray::try_from_iter([[1_u8; 16], [255; 16], [0; 16]].iter()).unwrap();
    let counts = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::UInt64Type, _, _>([
        Some(vec![Some(u64::MAX)]),
        None,
        Some(vec![]),
    ]);
    let columns: Vec<ArrayRef> = vec![
        times(&[0, 1, 2]),
        Arc::new(resource),
        Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("a"), None, Some("b")])),
        Arc::new(ids),
        Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1])),
        Arc::new(counts),
    ];
    for _ in 0..2 {
        archive_rows(&mut archive, &table, columns.clone(), START).await.unwrap();
    }
    for merged in [false, true] {
        if merged {
            settle_files(&mut archive, START + DAY).await;
        }
        let schema = table.archived_schema();
        let found = arrow::compute::concat_batches(&schema, &all_rows(&store).await).unwrap();
        assert_eq!(found.num_rows(), 6);
        let rows: Vec<u32> = if merged { vec![0, 2, 4] } else { vec![0, 1, 2] };
        let found = arrow::compute::take_record_batch(&found, &arrow::array::UInt32Array::from(rows)).unwrap();
        for (field, column) in table.schema.fields().iter().zip(&columns).skip(1) {
            let plain = |array: &ArrayRef| match array.data_type() {
                DataType::Dictionary(_, values) => cast(array, values).unwrap(),
                _ => Arc::clone(array),
            };
            let back = found.column_by_name(field.name()).unwrap();
            assert_eq!(back.data_type(), field.data_type());
            assert_eq!(plain(back).as_ref(), plain(column).as_ref(), "{}", field.name());
        }
        assert_eq!(found["time"].data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
        let back = cast(&found["time"], &timestamp()).unwrap();
        assert_eq!(back.as_primitive::<arrow::datatypes::TimestampNanosecondType>().value(2), START.as_nanos() + 2_000_000_000);
    }
}

/// Guarantees: more distinct texts than a dictionary of the source or a dictionary page can hold are archived all the same.
#[tokio::test]
async fn dictionaries_overflow_into_plain_columns() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    let small = table(vec![
        Field::new("time", timestamp(), false),
        Field::new("service", DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), true),
    ]);
    let mut expected = BTreeSet::new();
    for part in 0..4 {
        // 100 keys fit into an Int8; those of all parts together do not.
        let names: Vec<String> = (0..100).map(|name| format!("service {part} {name}")).collect();
        expected.extend(names.iter().cloned().map(Some));
        let column: Int8DictionaryArray = names.iter().map(|name| Some(name.as_str())).collect();
        archive_rows(&mut archive, &small, vec![times(&[0; 100]), Arc::new(column)], START).await.unwrap();
    }
    let large = table(vec![Field::new("time", timestamp(), false), Field::new("service", dictionary(), true)]);
    let names: Vec<String> = (0..3000).map(|name| format!("{name}{}", "x".repeat(700))).collect();
    expected.extend(names.iter().cloned().map(Some));
    let column: DictionaryArray<Int32Type> = names.iter().map(|name| Some(name.as_str())).collect();
    archive_rows(&mut archive, &large, vec![times(&[0; 3000]), Arc::new(column)], START).await.unwrap();
    settle_files(&mut archive, START + DAY).await;
    let found: BTreeSet<_> = all_rows(&store).await.iter().flat_map(|batch| texts(batch, "service")).collect();
    assert!(found == expected);
    assert!(archive.files().all(|file| file.bounds.is_empty() || file.bounds["service"].1.len() < 100), "bounds are short");
}

/// Guarantees: a table may gain and lose columns and widen types: readers see all of them, merging loses none, and what
/// cannot be converted stays apart.
#[tokio::test]
async fn tables_evolve() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let time = || Field::new("time", timestamp(), false);
    let first = table(vec![time(), field("a", DataType::Int32), field("old", DataType::Utf8)]);
    let second = table(vec![time(), field("new", dictionary()), field("a", DataType::Int64)]);
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    archive_rows(&mut archive, &first, vec![times(&[0]), Arc::new(Int32Array::from(vec![1])), text("kept")], START).await.unwrap();
    let new: DictionaryArray<Int32Type> = ["n"].into_iter().collect();
    archive_rows(&mut archive, &second, vec![times(&[1]), Arc::new(new), Arc::new(Int64Array::from(vec![1 << 40]))], START + MINUTE)
        .await
        .unwrap();
    let columns =
        |schema: &SchemaRef| schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect::<Vec<_>>();
    let expected = |a: DataType| {
        vec![
            ("time".to_owned(), DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("a".to_owned(), a),
            ("old".to_owned(), DataType::Utf8),
            ("new".to_owned(), dictionary()),
        ]
    };
    let tables = Catalog::over(store.clone()).await.unwrap().tables();
    assert_eq!(columns(&tables[0].schema), expected(DataType::Int64), "in order of appearance, with the newest types");
    settle_files(&mut archive, START + DAY).await;
    let [merged] = all_rows(&store).await.try_into().unwrap();
    assert_eq!(texts(&merged, "old"), [Some("kept".to_owned()), None]);
    assert_eq!(texts(&merged, "new"), [None, Some("n".to_owned())]);
    assert_eq!(merged["a"].as_primitive::<Int64Type>().values(), &[1, 1 << 40]);
    assert_eq!(Catalog::over(store.clone()).await.unwrap().tables()[0].schema.fields().len(), 4);
    // A text is no number: the files stay two, and merging does not try for ever.
    let third = table(vec![time(), field("a", DataType::Utf8)]);
    archive_rows(&mut archive, &third, vec![times(&[2]), text("x")], START + DAY).await.unwrap();
    settle_files(&mut archive, START + 2 * DAY).await;
    assert_eq!(archive.files().count(), 2);
    assert_eq!(all_rows(&store).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    let tables = Catalog::over(store).await.unwrap().tables();
    assert_eq!(tables[0].schema.field_with_name("a").unwrap().data_type(), &DataType::Utf8);
}

/// Guarantees: a table that contradicts itself, or rows that do not fit it, are refused by name, and nothing is written.
#[tokio::test]
async fn wrong_tables_are_refused() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    let events = events();
    let wrong = [
        Table { name: "../events".to_owned(), ..(*events).clone() },
        Table { time_column: "absent".to_owned(), ..(*events).clone() },
        Table { time_column: "id".to_owned(), ..(*events).clone() },
        Table { sort: vec!["absent".to_owned()], ..(*events).clone() },
        Table { omit: BTreeSet::from(["id".to_owned()]), ..(*events).clone() },
    ];
    for table in wrong {
        let cut = Cut { through: 1, marks: BTreeMap::new(), tables: vec![(Arc::new(table.clone()), vec![rows(&[(START, 1)])])] };
        let error = archive.commit(cut, START).await.unwrap_err();
        assert!(error.to_string().contains(&table.name), "{error}");
    }
    let batch = RecordBatch::try_from_iter([("time", times(&[0])), ("id", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]).unwrap();
    let error = archive.commit(cut(1, vec![batch]), START).await.unwrap_err();
    assert!(error.to_string().contains("column `id`"), "{error}");
    assert!(store.list("v1/events").await.unwrap().is_empty());
    archive.commit(cut(1, vec![rows(&[(START, 1)])]), START).await.unwrap();
}

/// Guarantees: a file says how it is sorted, has bloom filters and page statistics, tells where it comes from, and stores
/// texts as plain strings for readers that know no Arrow.
#[tokio::test]
async fn files_tell_other_readers_what_they_need() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    archive.commit(cut(1, vec![rows(&[(START, 1), (START, 2)])]), START).await.unwrap();
    let path = archive.files().next().unwrap().path.clone();
    let reader = SerializedFileReader::new(store.get(&path).await.unwrap().unwrap()).unwrap();
    let group = reader.metadata().row_group(0);
    let sorted: Vec<i32> = group.sorting_columns().unwrap().iter().map(|column| column.column_idx).collect();
    assert_eq!(sorted, [2, 0]);
    assert!(group.column(1).bloom_filter_offset().is_some() && group.column(0).bloom_filter_offset().is_none());
    assert!(group.columns().iter().all(|column| column.column_index_offset().is_some()));
    assert_eq!(group.column(2).column_descr().logical_type_ref(), Some(&LogicalType::String));
    let facts = reader.metadata().file_metadata().key_value_metadata().unwrap();
    for (key, expected) in [("tracescale.table", "events"), ("tracescale.writer", "w"), ("tracescale.sequence", "2")] {
        assert_eq!(facts.iter().find(|fact| fact.key == key).unwrap().value.as_deref(), Some(expected));
    }
}

/// Guarantees: the streams without ids have no column with one in the file.
#[test]
fn ids_can_be_left_out() {
    for (ids, expected) in [(Ids::Full, 3), (Ids::Trace, 1), (Ids::None, 0)] {
        let schema = streams::table(Stream::Spans, ids).archived_schema();
        let found = schema.fields().iter().filter(|field| matches!(field.data_type(), DataType::FixedSizeBinary(_))).count();
        assert_eq!(found, expected, "{ids:?}");
    }
}
