//! What readers see, and what they do not.

use super::*;
use crate::audit::{Finding, audit};
use crate::encode::{Origin, encode};
use crate::hour::Hour;

/// Guarantees: a location without an archive is an empty one; looking at it makes nothing.
#[tokio::test]
async fn nothing_is_there_before_the_first_cut() {
    let path = tempfile::tempdir().unwrap();
    let root = path.path().join("not yet");
    let catalog = Catalog::open(&Location::Local(root.clone())).await.unwrap();
    assert!(catalog.tables().is_empty() && catalog.files("events", &Range::default()).is_empty() && catalog.writers().is_empty());
    assert!(audit(catalog.store()).await.unwrap().is_empty());
    assert!(!root.exists());
}

/// Guarantees: an open catalogue follows the log: new files appear, merged ones disappear, at each refresh and not before.
#[tokio::test]
async fn a_catalogue_is_refreshed() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    let mut catalog = Catalog::over(store.clone()).await.unwrap();
    for round in 1..=8 {
        archive.commit(cut(round, vec![rows(&[(START, round as i64)])]), START).await.unwrap();
        assert_eq!(catalog.files("events", &Range::default()).len() as u64, round - 1);
        catalog.refresh().await.unwrap();
        assert_eq!(catalog.files("events", &Range::default()).len() as u64, round);
    }
    settle_files(&mut archive, START + DAY).await;
    let stale = catalog.files("events", &Range::default());
    let error = catalog.rows(&stale[0]).await.unwrap_err();
    assert!(error.to_string().contains(&stale[0].path) && error.to_string().contains("refresh"), "{error}");
    catalog.refresh().await.unwrap();
    assert_eq!(catalog.files("events", &Range::default()).len(), 1);
    let [info] = catalog.writers().try_into().unwrap();
    assert_eq!((info.through, info.sequence), (8, archive.sequence()));
}

/// Guarantees: a file is offered exactly when a row of it can be in the range, and says between what its texts lie.
#[tokio::test]
async fn files_are_chosen_by_time() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    let part: Vec<_> = (0..4).map(|hour| (START + HOUR * hour + 5 * MINUTE, i64::from(hour))).collect();
    archive.commit(cut(1, vec![rows(&part)]), START).await.unwrap();
    let range = |from: Option<u32>, to: Option<u32>| Range { from: from.map(|m| START + MINUTE * m), to: to.map(|m| START + MINUTE * m) };
    for (from, to, expected) in [
        (None, None, vec![0, 1, 2, 3]),
        (Some(65), None, vec![1, 2, 3]),
        (Some(66), None, vec![2, 3]),
        (None, Some(65), vec![0]),
        (None, Some(66), vec![0, 1]),
        (Some(6), Some(65), vec![]),
        (Some(65), Some(126), vec![1, 2]),
    ] {
        assert_eq!(ids_in(&store, range(from, to)).await, expected, "{from:?} to {to:?}");
    }
    let catalog = Catalog::over(store).await.unwrap();
    let files = catalog.files("events", &Range::default());
    let names = ["shop", "cart", "mail"].map(|name| (name.to_owned(), name.to_owned()));
    assert_eq!(files[..3].iter().map(|file| file.bounds["service"].clone()).collect::<Vec<_>>(), names);
    assert!(files[3].bounds.is_empty(), "it has no service");
    assert_eq!(files[1].min_time, Some(START + 65 * MINUTE));
    assert_eq!(files[1].path, "v1/events/date=2026-08-29/hour=11/w-00000000000000000002-0.parquet");
}

/// Guarantees: a file that somebody puts into a folder is not part of the archive, and is found.
#[tokio::test]
async fn foreign_files_are_reported_and_not_read() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    archive.commit(cut(1, vec![rows(&[(START, 1)])]), START).await.unwrap();
    let origin = Origin { writer: writer("x"), sequence: 1, at: START };
    let [file] = encode(&events(), &[rows(&[(START, 2)])], &Hours::default(), &origin).unwrap().try_into().unwrap();
    store.put("v1/events/date=2026-08-29/hour=10/mine.parquet", file.bytes.clone(), 0).await.unwrap();
    store.put(&file.meta.path, file.bytes, 0).await.unwrap();
    assert_eq!(ids(&store).await, [1]);
    let catalog = Catalog::over(store.clone()).await.unwrap();
    for findings in [catalog.foreign().await.unwrap(), audit(&store).await.unwrap()] {
        let [Finding::Foreign { path: mine, uncommitted: false }, Finding::Foreign { path: theirs, uncommitted: true }] =
            findings.as_slice()
        else {
            panic!("{findings:?}")
        };
        assert!(mine.ends_with("/mine.parquet") && *theirs == file.meta.path);
    }
    drop(open(&store, "w", START).await);
    assert_eq!(catalog.foreign().await.unwrap().len(), 2, "they are not ours to delete");
}

/// Guarantees: clocks that are wrong by years make no folders: their rows are stray, keep their times, are found by them,
/// age with the hour in which they came, and survive a merge.
#[tokio::test]
async fn absurd_times_go_astray_together() {
    let store = memory();
    let mut archive = open(&store, "w", START).await;
    let absurd = [Timestamp::MIN, Timestamp::from_secs(-1), Timestamp::EPOCH, START + 400 * DAY, Timestamp::MAX];
    for round in 0..2_i64 {
        let mut part: Vec<_> = absurd.iter().zip(1..).map(|(time, id)| (*time, round * 1000 + id)).collect();
        part.push((START, round * 1000));
        // More hours than a cut may have; one of them has more rows than the others, and is kept although it is the oldest.
        part.extend((0..200).map(|hour| (START - HOUR * hour, round * 1000 + 100 + i64::from(hour))));
        part.extend((0..3).map(|row| (START - HOUR * 199, round * 1000 + 500 + row)));
        archive.commit(cut(round as u64 + 1, vec![rows(&part)]), START).await.unwrap();
    }
    let expected: Vec<i64> = (0..2).flat_map(|round| (0..=5).chain(100..300).chain(500..503).map(move |id| round * 1000 + id)).collect();
    assert_eq!(ids(&store).await, expected);
    let check = async |files: usize| {
        let found = Catalog::over(store.clone()).await.unwrap().files("events", &Range::default());
        assert_eq!(found.len(), files);
        let stray: Vec<_> = found.iter().filter(|file| file.stray).collect();
        assert_eq!(stray.len(), files / 73);
        for file in stray {
            assert_eq!(file.hour, Hour::of(START));
            assert!(file.min_time < Some(Timestamp::from_secs(-9_000_000_000)) && file.max_time > Some(START + 400 * DAY), "{file:?}");
        }
        let hours: BTreeSet<Hour> = found.iter().map(|file| file.hour).collect();
        assert_eq!((hours.len(), hours.first().copied()), (72, Some(Hour::of(START - HOUR * 199))));
    };
    check(2 * 73).await;
    // The year 1677 is asked for, and the file with it is offered.
    assert!(ids_in(&store, Range { from: None, to: Some(Timestamp::from_secs(-9_000_000_000)) }).await.contains(&1));
    settle_files(&mut archive, START + DAY).await;
    check(73).await;
    assert_eq!(ids(&store).await, expected);
}
