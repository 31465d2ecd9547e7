//! Several writers, the same writer twice, and what a process finds that comes after another.

use serde_json::json;

use super::*;
use crate::audit::{Finding, audit};
use crate::error::ArchiveError;
use crate::record::{Entry, parse};
use crate::store::Put;
use crate::store::faults::{Faults, Mode};

/// Guarantees: two writers of one root see each other's rows through the catalogue and delete nothing of each other,
/// though one's name starts with the other's and both have garbage.
#[tokio::test]
async fn writers_share_a_root_and_touch_only_their_own() {
    let path = tempfile::tempdir().unwrap();
    let store = folder(path.path());
    let mut one = open(&store, "w", START).await;
    let mut two = open(&store, "w-1", START).await;
    one.commit(cut(1, vec![rows(&[(START, 1)])]), START).await.unwrap();
    two.commit(cut(1, vec![rows(&[(START, 2)])]), START).await.unwrap();
    // What each of them would leave behind by a crash: a file without a record, and half a file.
    for name in ["w-00000000000000000009-0.parquet", "w-1-00000000000000000009-0.parquet"] {
        store.put(&format!("v1/events/date=2026-08-29/hour=10/{name}"), "x".into(), 0).await.unwrap();
        std::fs::write(path.path().join(format!("v1/events/date=2026-08-29/hour=10/{name}#7")), "x").unwrap();
    }
    let count = || std::fs::read_dir(path.path().join("v1/events/date=2026-08-29/hour=10")).unwrap().count();
    assert_eq!(count(), 6);
    drop(open(&store, "w", START + HOUR).await);
    assert_eq!(count(), 4, "its own two");
    assert_eq!(ids(&store).await, [1, 2]);
    let findings = audit(&store).await.unwrap();
    assert!(matches!(findings.as_slice(), [Finding::Foreign { path, uncommitted: true }] if path.contains("/w-1-")), "{findings:?}");
    drop(open(&store, "w-1", START + HOUR).await);
    assert_eq!(count(), 2);
    assert_eq!(ids(&store).await, [1, 2]);
    let names: Vec<String> = Catalog::over(store).await.unwrap().writers().into_iter().map(|info| info.writer.to_string()).collect();
    assert_eq!(names, ["w", "w-1"]);
}

/// Guarantees: position and cursors come back exactly as of the last cut.
#[tokio::test]
async fn a_later_process_goes_on_where_the_last_cut_ended() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    assert_eq!(archive.through(), 0);
    for through in 1..=7 {
        let marks = BTreeMap::from([("growth".to_owned(), json!({ "upTo": through }))]);
        let cut = Cut { marks, ..cut(through, vec![rows(&[(START, through as i64)])]) };
        archive.commit(cut, START).await.unwrap();
    }
    let archive = open(&store, "w", START + HOUR).await;
    assert_eq!((archive.through(), archive.sequence()), (7, 9));
    assert_eq!(archive.marks()["growth"], json!({ "upTo": 7 }));
    assert_eq!(archive.files().count(), 7);
}

/// Guarantees: a second process of the same name shuts the first one out for good, before and after a failure of it.
#[tokio::test]
async fn the_process_before_is_fenced() {
    let store = memory();
    for failing in [false, true] {
        // Its thirteenth step is the one before the record of its first cut.
        let name = if failing { "failing" } else { "healthy" };
        let plan = if failing { vec![(13, Mode::Once)] } else { vec![] };
        let faults = Arc::new(Faults::new(plan));
        let mut first = Archive::open(store.clone().with_faults(Arc::clone(&faults)), options(name, 1), START).await.unwrap();
        if failing {
            let error = first.commit(cut(1, vec![rows(&[(START, 1)])]), START).await.unwrap_err();
            assert!(matches!(error, ArchiveError::Store { .. }), "{error}");
            assert!(matches!(first.compact(START).await.unwrap_err(), ArchiveError::Unsettled { .. }));
        }
        let mut second = open(&store, name, START).await;
        let error = if failing {
            first.settle(START).await.map(drop).unwrap_err()
        } else {
            first.commit(cut(1, vec![rows(&[(START, 1)])]), START).await.map(drop).unwrap_err()
        };
        assert!(error.to_string().contains(&format!("writer `{name}` is fenced")), "{error}");
        // It stays so.
        assert!(matches!(first.settle(START).await.unwrap_err(), ArchiveError::Fenced { .. }));
        assert!(matches!(first.expire(START, &crate::Retention::default()).await.unwrap_err(), ArchiveError::Fenced { .. }));
        second.commit(cut(1, vec![rows(&[(START, 1)])]), START).await.unwrap();
    }
    assert_eq!(ids(&store).await, [1, 1], "once from each of the two second processes");
}

/// Guarantees: a commit that is still on its way when its process dies is refused when it arrives after the next process
/// has started, so that the files that it names can be deleted.
#[tokio::test]
async fn a_record_that_arrives_late_is_refused() {
    let store = memory();
    let first = open(&store, "w", START).await;
    let sequence = first.sequence() + 1;
    drop(open(&store, "w", START + MINUTE).await);
    let late = store.put(&Entry::Record(sequence).path(&writer("w")), "{}".into(), 0).await.unwrap();
    assert_eq!(late, Put::AlreadyExists);
}

/// Guarantees: a process that slept until its sequence was tidied away is fenced all the same.
#[tokio::test]
async fn a_process_that_slept_for_days_is_fenced() {
    let store = memory();
    let mut sleeper = open(&store, "w", START).await;
    let mut archive = open(&store, "w", START + MINUTE).await;
    for day in 0..20 {
        archive.commit(cut(day + 1, vec![rows(&[(START, day as i64)])]), START + DAY * day as u32).await.unwrap();
    }
    let log = store.list("v1/_log/w").await.unwrap();
    assert!(log.len() < 16, "old records are deleted: {}", log.len());
    assert!(log.iter().all(|object| !object.path.ends_with("00000000000000000002.json")));
    let error = sleeper.commit(cut(1, vec![rows(&[(START, 99)])]), START + 30 * DAY).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Fenced { .. }), "{error}");
    assert_eq!(ids(&store).await, (0..20).collect::<Vec<_>>());
    assert_eq!(open(&store, "w", START + 31 * DAY).await.through(), 20);
}

/// Guarantees: a cut that was archived already is refused instead of archived twice; one without news writes nothing.
#[tokio::test]
async fn a_cut_is_archived_once() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    archive.commit(cut(5, vec![rows(&[(START, 1)])]), START).await.unwrap();
    for through in [4, 5] {
        let error = archive.commit(cut(through, vec![rows(&[(START, 1)])]), START).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Covered { committed: 5, .. }), "{error}");
    }
    let twice = Cut { tables: vec![(events(), vec![rows(&[(START, 2)])]), (events(), vec![])], ..cut(6, vec![]) };
    assert!(matches!(archive.commit(twice, START).await.unwrap_err(), ArchiveError::Table { .. }));
    for batches in [vec![], vec![rows(&[])]] {
        let committed = archive.commit(cut(5, batches), START).await.unwrap();
        assert_eq!(committed.sequence, None);
    }
    // No rows, but the log went on.
    assert_eq!(archive.commit(cut(6, vec![rows(&[])]), START).await.unwrap().added, []);
    assert_eq!(open(&store, "w", START).await.through(), 6);
    assert_eq!(ids(&store).await, [1]);
}

/// Guarantees: a store that replaces what it was told to create is refused before anything is lost in it.
#[tokio::test]
async fn a_store_that_overwrites_is_refused() {
    let store = Store::over("s3://old".to_owned(), Arc::new(super::overwriting::Overwriting::default()));
    let error = Archive::open(store, options("w", 1), START).await.unwrap_err();
    assert!(matches!(&error, ArchiveError::Unconditional { location } if location == "s3://old"), "{error}");
    assert!(error.to_string().contains("If-None-Match"));
}

/// Guarantees: broken, foreign, missing and later records are errors that name the object, and never a guess.
#[tokio::test]
async fn a_log_that_cannot_be_read_is_an_error() {
    let object = Entry::Record(2).path(&writer("w"));
    for (content, expected) in
        [("{", "cannot be read"), ("{\"version\":1}", "missing field"), ("{\"version\":2,\"new\":true}", "update"), ("", "cannot be read")]
    {
        let store = memory();
        drop(open(&store, "w", START).await);
        store.put(&object, content.into(), 0).await.unwrap();
        for error in [
            Catalog::over(store.clone()).await.map(drop).unwrap_err(),
            Archive::open(store.clone(), options("w", 2), START).await.map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().contains(&object) && error.to_string().contains(expected), "{error}");
        }
        let findings = audit(&store).await.unwrap();
        assert!(matches!(findings.as_slice(), [Finding::Log(error)] if error.to_string().contains(&object)), "{findings:?}");
    }
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    archive.commit(cut(1, vec![rows(&[(START, 1)])]), START).await.unwrap();
    archive.commit(cut(2, vec![rows(&[(START, 2)])]), START).await.unwrap();
    // The third commit wrote a checkpoint, which makes up for it; without it there is a gap.
    store.delete(&object).await.unwrap();
    assert_eq!(ids(&store).await, [1, 2]);
    store.delete(&Entry::Checkpoint(3).path(&writer("w"))).await.unwrap();
    let error = Catalog::over(store.clone()).await.unwrap_err();
    assert!(error.to_string().contains(&object) && error.to_string().contains("missing"), "{error}");
}

/// Guarantees: the format of the log is what it was: a record of version 1 is read in all later times.
#[test]
fn a_record_of_version_1_is_read() {
    let text = include_str!("record-v1.json");
    let record: crate::record::Record = parse("record-v1.json", text.as_bytes()).unwrap();
    assert_eq!(serde_json::to_value(&record).unwrap(), serde_json::from_str::<serde_json::Value>(text).unwrap());
    let [file] = record.add.as_slice() else { panic!("one file") };
    assert_eq!((file.rows, file.hour.start()), (2, START));
    assert_eq!(record.versions[&file.version].schema.as_ref(), events().archived_schema().as_ref());
}

/// Guarantees: a writer whose folder went away says so and writes nothing into one that took its place; brought back, it goes on,
/// also after a day in which records were replaced by checkpoints.
#[tokio::test]
async fn an_archive_that_went_away_is_not_begun_anew() {
    let path = tempfile::tempdir().unwrap();
    let (here, away) = (path.path().join("archive"), path.path().join("away"));
    let store = folder(&here);
    let mut archive = open(&store, "w", START).await;
    for number in 1..=8 {
        archive
            .commit(cut(number, vec![rows(&[(START, i64::try_from(number).unwrap())])]), START + HOUR * u32::try_from(number).unwrap())
            .await
            .unwrap();
    }
    archive.sweep(START + HOUR * 48).await.unwrap();
    archive.check_present().await.unwrap();
    std::fs::rename(&here, &away).unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::create_dir(&here).unwrap();
        }
        assert!(matches!(archive.check_present().await, Err(ArchiveError::Missing { .. })));
    }
    std::fs::remove_dir(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    archive.check_present().await.unwrap();
    archive.commit(cut(9, vec![rows(&[(START, 9)])]), START + HOUR * 48).await.unwrap();
    assert_eq!(ids(&store).await, (1..=9).collect::<Vec<i64>>());
}
