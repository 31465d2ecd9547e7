//! Merging and dropping files.

use bytes::Bytes;

use super::*;
use crate::audit::audit;
use crate::compact::Compaction;
use crate::error::ArchiveError;
use crate::expire::Retention;
use crate::file::Level;
use crate::hour::Hour;

async fn files(store: &Store) -> Vec<crate::file::FileMeta> {
    Catalog::over(store.clone()).await.unwrap().files("events", &Range::default())
}

/// The (service, time) of all rows of a file, in its order.
async fn order(store: &Store, file: &crate::file::FileMeta) -> Vec<(Option<String>, i64)> {
    let mut found = vec![];
    for batch in Catalog::over(store.clone()).await.unwrap().rows(file).await.unwrap() {
        let times = batch.column_by_name("time").unwrap();
        let times = times.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        found.extend(texts(&batch, "service").into_iter().zip(times.values().iter().copied()));
    }
    found
}

/// Guarantees: small files of an hour that is over become one that is sorted throughout; those that they were made from
/// stay for the time of grace and are deleted after it.
#[tokio::test]
async fn an_hour_that_is_over_becomes_one_sorted_file() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    for round in 0..10_i64 {
        // Backwards in time, so that concatenation would not do.
        let part: Vec<_> = (0..1000)
            .map(|row| (START + Duration::from_secs(3000) - Duration::from_secs((round * 7 + row) as u64), round * 1000 + row))
            .collect();
        archive.commit(cut(round as u64 + 1, vec![rows(&part)]), START).await.unwrap();
    }
    let fresh = files(&store).await;
    assert_eq!(fresh.len(), 10);
    assert!(!archive.compact(START + HOUR).await.unwrap().more, "the hour has just ended");
    let later = START + HOUR + 10 * MINUTE;
    let compacted = archive.compact(later).await.unwrap();
    assert_eq!((compacted.removed, compacted.added, compacted.rows, compacted.more), (10, 1, 10_000, false));
    assert_eq!(compacted.group, Some(("events".to_owned(), Hour::of(START))));
    let [file] = files(&store).await.try_into().unwrap();
    assert_eq!(file.level, Level::Compacted);
    let order = order(&store, &file).await;
    assert!(order.is_sorted() && order.len() == 10_000);
    assert_eq!(ids(&store).await, (0..10_000).collect::<Vec<_>>());
    for old in &fresh {
        assert!(store.get(&old.path).await.unwrap().is_some(), "a query may still read it");
    }
    archive.sweep(later + 59 * Duration::from_secs(1)).await.unwrap();
    assert!(store.get(&fresh[0].path).await.unwrap().is_some());
    archive.sweep(later + MINUTE).await.unwrap();
    assert_eq!(store.get(&fresh[0].path).await.unwrap(), None);
    assert!(audit(&store).await.unwrap().is_empty());
    assert_eq!(archive.compact(later + DAY).await.unwrap().group, None);
}

/// Guarantees: rows that come after their hour was merged are seen at once, and are merged in when no more come.
#[tokio::test]
async fn late_rows_join_their_hour() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    archive.commit(cut(1, vec![rows(&[(START, 1)])]), START).await.unwrap();
    let mut now = START + 2 * HOUR;
    settle_files(&mut archive, now).await;
    archive.commit(cut(2, vec![rows(&[(START, 2)])]), now).await.unwrap();
    assert_eq!(ids(&store).await, [1, 2]);
    now = now + 9 * MINUTE;
    assert_eq!(archive.compact(now).await.unwrap().group, None, "another late row may follow");
    archive.commit(cut(3, vec![rows(&[(START, 3)])]), now).await.unwrap();
    let compacted = archive.compact(now + 10 * MINUTE).await.unwrap();
    assert_eq!((compacted.removed, compacted.added), (3, 1));
    assert_eq!(ids(&store).await, [1, 2, 3]);
}

/// Guarantees: a running hour with many files is merged before it ends, at most once per so many files.
#[tokio::test]
async fn a_running_hour_does_not_pile_up_files() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    let mut most = 0;
    for round in 0..60 {
        archive.commit(cut(round + 1, vec![rows(&[(START, round as i64)])]), START).await.unwrap();
        while archive.compact(START).await.unwrap().more {}
        most = most.max(files(&store).await.len());
    }
    assert!(most <= 16 + 60 / 17, "{most}");
    assert_eq!(ids(&store).await, (0..60).collect::<Vec<_>>());
}

/// Guarantees: outputs end at the target, what is full is not touched again, and merging comes to an end.
#[tokio::test]
async fn full_files_are_left_alone() {
    let store = memory();
    let mut settings = options("w", 1);
    settings.compaction = Compaction { target_rows: 8192, ..Compaction::default() };
    let mut archive = Archive::open(store.clone(), settings, START).await.unwrap();
    for round in 0..5 {
        let part: Vec<_> = (0..4000).map(|row| (START, round * 4000 + row)).collect();
        archive.commit(cut(round as u64 + 1, vec![rows(&part)]), START).await.unwrap();
    }
    let now = START + DAY;
    let compacted = archive.compact(now).await.unwrap();
    assert_eq!((compacted.removed, compacted.added, compacted.more), (5, 3, false));
    let full: Vec<_> = files(&store).await.into_iter().filter(|file| file.rows >= 8192).map(|file| file.path).collect();
    assert_eq!(full.len(), 2);
    archive.commit(cut(6, vec![rows(&[(START, 20_000)])]), now).await.unwrap();
    assert_eq!(archive.compact(now + DAY).await.unwrap().removed, 2, "the late row and the file that is not full");
    let after: Vec<_> = files(&store).await.into_iter().map(|file| file.path).collect();
    assert!(full.iter().all(|path| after.contains(path)));
    assert_eq!(ids(&store).await, (0..=20_000).collect::<Vec<_>>());
}

/// Guarantees: a file that is lost or cut stops the merge with an error that names it, and changes nothing.
#[tokio::test]
async fn a_damaged_file_is_not_merged_away() {
    for cut_off in [false, true] {
        let path = tempfile::tempdir().unwrap();
        let store = folder(path.path());
        let mut archive = open(&store, "w", START).await;
        for round in 1..=2 {
            archive.commit(cut(round, vec![rows(&[(START, round as i64)])]), START).await.unwrap();
        }
        let victim = files(&store).await[0].path.clone();
        if cut_off {
            std::fs::OpenOptions::new().write(true).open(path.path().join(&victim)).unwrap().set_len(100).unwrap();
        } else {
            std::fs::remove_file(path.path().join(&victim)).unwrap();
        }
        let error = archive.compact(START + DAY).await.unwrap_err();
        assert!(
            matches!(error, ArchiveError::Missing { .. } | ArchiveError::Damaged { .. }) && error.to_string().contains(&victim),
            "{error}"
        );
        assert_eq!(files(&store).await.len(), 2);
        // The archive goes on.
        archive.commit(cut(3, vec![rows(&[(START, 3)])]), START).await.unwrap();
        let catalog = Catalog::over(store.clone()).await.unwrap();
        let file = catalog.files("events", &Range::default()).into_iter().find(|file| file.path == victim).unwrap();
        assert!(catalog.rows(&file).await.unwrap_err().to_string().contains(&victim));
        let findings = audit(&store).await.unwrap();
        assert!(findings.len() == 1 && findings[0].to_string().contains(&victim), "{findings:?}");
    }
}

/// Guarantees: a file that turns out to be damaged in the middle of a merge stops it with an error as well.
#[tokio::test]
async fn damage_in_the_middle_is_an_error() {
    let path = tempfile::tempdir().unwrap();
    let store = folder(path.path());
    let mut archive = open(&store, "w", START).await;
    for round in 0..2 {
        let part: Vec<_> = (0..25_000).map(|row| (START, round * 25_000 + row * 7919 % 25_000)).collect();
        archive.commit(cut(round as u64 + 1, vec![rows(&part)]), START).await.unwrap();
    }
    let victim = path.path().join(&files(&store).await[0].path);
    let mut bytes = std::fs::read(&victim).unwrap();
    let reader = parquet::file::reader::SerializedFileReader::new(Bytes::from(bytes.clone())).unwrap();
    let (start, length) = parquet::file::reader::FileReader::metadata(&reader).row_group(0).column(1).byte_range();
    // The last page of the ids, which is decoded when 20 000 rows are merged.
    let end = (start + length) as usize;
    bytes[end - 400..end].fill(0xA5);
    std::fs::write(&victim, bytes).unwrap();
    let error = archive.compact(START + DAY).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
    assert_eq!(files(&store).await.len(), 2);
}

/// Guarantees: hours are dropped whole when they are too old for their table, and their folders go with them.
#[tokio::test]
async fn old_hours_expire() {
    let path = tempfile::tempdir().unwrap();
    let store = folder(path.path());
    let mut archive = open(&store, "w", START).await;
    let part: Vec<_> = (0..6).map(|hour| (START + HOUR * hour, i64::from(hour))).collect();
    archive.commit(cut(1, vec![rows(&part)]), START).await.unwrap();
    let now = START + 6 * HOUR;
    assert_eq!(archive.expire(now, &Retention::default()).await.unwrap().files, 0);
    let retention = Retention { max_age: Some(4 * HOUR), ..Retention::default() };
    assert_eq!(archive.expire(now, &retention).await.unwrap().rows, 2, "hours 0 and 1 ended four hours ago or more");
    assert_eq!(ids(&store).await, [2, 3, 4, 5]);
    let retention = Retention { tables: BTreeMap::from([("events".to_owned(), 3 * HOUR)]), ..retention };
    assert_eq!(archive.expire(now, &retention).await.unwrap().rows, 1, "the table's own age is stricter");
    archive.sweep(now + DAY).await.unwrap();
    assert_eq!(std::fs::read_dir(path.path().join("v1/events/date=2026-08-29")).unwrap().count(), 3);
    assert!(audit(&store).await.unwrap().is_empty());
    // Rows for a folder that is gone.
    archive.commit(cut(2, vec![rows(&[(START, 9)])]), now).await.unwrap();
    assert_eq!(ids(&store).await, [3, 4, 5, 9]);
}

/// Guarantees: the oldest hours make room, as many as are needed and never the newest.
#[tokio::test]
async fn too_many_bytes_expire_from_the_oldest_hour() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    let part: Vec<_> = (0..6).map(|hour| (START + HOUR * hour, i64::from(hour))).collect();
    archive.commit(cut(1, vec![rows(&part)]), START).await.unwrap();
    let each = archive.files().map(|file| file.bytes).max().unwrap();
    let bytes = |max_bytes| Retention { max_bytes: Some(max_bytes), ..Retention::default() };
    archive.expire(START, &bytes(each * 7)).await.unwrap();
    assert_eq!(ids(&store).await.len(), 6);
    archive.expire(START, &bytes(each * 2)).await.unwrap();
    assert_eq!(ids(&store).await, [4, 5]);
    archive.expire(START, &bytes(0)).await.unwrap();
    assert_eq!(ids(&store).await, [5]);
}
