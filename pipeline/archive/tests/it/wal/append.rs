//! Writing in good order: groups, segments, release, the budget, numbers.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;
use tracescale_archive::wal::{Appended, Durability, Entry, Lsn, MAX_BODY, Options, Wal, WalError};
use tracescale_core::time::Timestamp;

use super::{
    MINUTE, RECORD_HEADER, SEGMENT_HEADER, all, append_each, bodies, entry, entry_at, follow, open, options, segment_path, segments,
    segments_of,
};

/// Guarantees: every field comes back as it was given, from this process, from another one, and after a restart.
#[test]
fn records_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1));
    let group = [
        entry("first"),
        Entry { signal: 0, encoding: 255, compression: 7, source: v6, received_at: Timestamp::MIN, body: Bytes::new() },
        Entry { received_at: Timestamp::MAX, ..entry(vec![0; 200_000]) },
    ];
    let (mut wal, recovery) = Wal::open(&dir.path().join("deep/down"), Options::default()).unwrap();
    assert_eq!((recovery.next, recovery.first, recovery.records), (Lsn(1), Lsn(1), 0));
    assert_eq!(wal.append(&group).unwrap(), [1, 2, 3].map(|lsn| Appended::New(Lsn(lsn))));
    assert_eq!(wal.append(&[]).unwrap(), []);
    for records in [follow(&mut wal.reader(), Lsn(1)), all(&dir.path().join("deep/down"))] {
        assert_eq!(records.iter().map(|record| record.lsn.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(records.iter().map(|record| &record.entry).eq(&group));
    }
    drop(wal);
    let (wal, recovery) = Wal::open(&dir.path().join("deep/down"), Options::default()).unwrap();
    assert_eq!((wal.next(), wal.first(), recovery.records), (Lsn(4), Lsn(1), 3));
    assert_eq!(recovery.to_string(), "the log holds 3 records from number 1 on and goes on with record 4");
    assert!(follow(&mut wal.reader(), Lsn(1)).into_iter().map(|record| record.entry).eq(group));
}

/// Guarantees: a segment ends before the group that would make it too long, groups are never divided, and what the log says
/// of its size is what the files have.
#[test]
fn segments_rotate_between_groups() {
    let dir = tempfile::tempdir().unwrap();
    let record = RECORD_HEADER + 6;
    let mut wal = open(dir.path(), segments_of(SEGMENT_HEADER + 3 * record));
    let group = |from: u64, count: u64| (from..from + count).map(|body| entry(format!("{body:06}"))).collect::<Vec<_>>();
    for count in [1, 1, 1, 1, 3, 2, 1, 9, 1] {
        wal.append(&group(wal.next().0, count)).unwrap();
    }
    assert_eq!(segments(dir.path()), [1, 4, 5, 8, 11, 20]);
    let on_disk: u64 = segments(dir.path()).iter().map(|first| fs::metadata(segment_path(dir.path(), *first)).unwrap().len()).sum();
    assert_eq!(wal.bytes(), on_disk);
    let expected: Vec<_> = (1..=20).map(|lsn| (lsn, format!("{lsn:06}"))).collect();
    assert_eq!(bodies(&all(dir.path())), expected);
    drop(wal);
    let wal = open(dir.path(), segments_of(SEGMENT_HEADER + 3 * record));
    assert_eq!((wal.bytes(), wal.next(), wal.first()), (on_disk, Lsn(21), Lsn(1)));
}

/// Guarantees: only whole segments of which nothing is needed are deleted, the oldest first, never the one in use.
#[test]
fn release_deletes_whole_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path(), segments_of(1));
    for body in ["1", "2", "3", "4"] {
        wal.append(&[entry(body)]).unwrap();
    }
    let late = Timestamp::from_secs(10_000);
    let size = SEGMENT_HEADER + RECORD_HEADER + 1;
    assert_eq!(wal.release(Lsn(1), late).unwrap(), 0);
    assert_eq!(wal.release(Lsn(3), late).unwrap(), 2 * size);
    assert_eq!((wal.first(), wal.bytes(), segments(dir.path())), (Lsn(3), 2 * size, vec![3, 4]));
    // Somebody was quicker: gone is gone.
    fs::remove_file(segment_path(dir.path(), 3)).unwrap();
    assert_eq!(wal.release(Lsn(u64::MAX), late).unwrap(), size);
    assert_eq!((wal.first(), segments(dir.path())), (Lsn(4), vec![4]));
    assert_eq!(wal.append(&[entry("5")]).unwrap(), [Appended::New(Lsn(5))]);
    drop(wal);
    let wal = open(dir.path(), options());
    assert_eq!((wal.first(), wal.next()), (Lsn(4), Lsn(6)));
}

/// Guarantees: segments stay for their fingerprints while there is room, by the newest time seen, and go when room gets scarce.
#[test]
fn young_segments_stay_while_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let size = SEGMENT_HEADER + RECORD_HEADER + 1;
    let mut wal = open(dir.path(), Options { remember: MINUTE, budget_bytes: 8 * size, ..segments_of(1) });
    for (secs, body) in [(100, "1"), (160, "2"), (120, "3"), (150, "4")] {
        wal.append(&[entry_at(secs, body)]).unwrap();
    }
    // Half of the budget is taken. The clock may stand at 0: the newest time seen is 160.
    assert_eq!(wal.release(wal.next(), Timestamp::EPOCH).unwrap(), size);
    assert_eq!(wal.release(wal.next(), Timestamp::from_secs(219)).unwrap(), 0);
    assert_eq!(wal.release(wal.next(), Timestamp::from_secs(220)).unwrap(), 2 * size);
    for body in ["5", "6", "7", "8"] {
        wal.append(&[entry_at(220, body)]).unwrap();
    }
    assert_eq!(wal.bytes(), 5 * size);
    assert_eq!(wal.release(wal.next(), Timestamp::from_secs(220)).unwrap(), size);
    assert_eq!(wal.release(wal.next(), Timestamp::from_secs(220)).unwrap(), 0);
    assert_eq!(wal.first(), Lsn(5));
}

/// Guarantees: the budget holds, refuses whole groups in a way that says what to do, and a log that is full of released
/// records drains: nothing that fits into the budget is refused for ever.
#[test]
fn the_budget_refuses_and_drains() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 1_000;
    let mut wal = open(dir.path(), Options { budget_bytes: budget, ..segments_of(budget) });
    let body = |name: &str, length: usize| entry(format!("{name:0>length$}"));
    wal.append(&[body("1", 300), body("2", 300)]).unwrap();
    let group = [body("3", 100), body("4", 400)];
    for _ in 0..3 {
        let error = wal.append(&group).unwrap_err();
        assert!(matches!(error, WalError::Budget { needed: 588, .. }) && error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains("may take 1000 bytes") && error.to_string().contains("raise the budget"), "{error}");
        assert!(wal.bytes() <= budget + SEGMENT_HEADER);
    }
    assert_eq!(all(dir.path()).len(), 2);
    assert_eq!(wal.append(&[body("1", 300)]).unwrap(), [Appended::Duplicate], "a repetition needs no room");
    wal.release(Lsn(3), Timestamp::EPOCH).unwrap();
    assert_eq!(wal.append(&group).unwrap(), [Appended::New(Lsn(3)), Appended::New(Lsn(4))]);

    let error = Wal::open(tempfile::tempdir().unwrap().path(), Options { budget_bytes: 9, ..segments_of(10) }).unwrap_err();
    assert!(matches!(error, WalError::Options { segment: 10, budget: 9 }));
}

/// Guarantees: a body that no record can hold refuses its group for good, and the log goes on.
#[test]
fn a_body_too_long_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path(), options());
    let error = wal.append(&[entry("before"), entry(vec![0; MAX_BODY + 1])]).unwrap_err();
    assert!(matches!(error, WalError::TooLarge { .. }) && !error.is_retryable());
    append_each(&mut wal, &["before", "after"]);
    assert_eq!(bodies(&all(dir.path())), [(1, "before".into()), (2, "after".into())]);
}

/// Guarantees: the longest body allowed is written and read.
#[test]
fn the_longest_body_fits() {
    let dir = tempfile::tempdir().unwrap();
    let longest = entry(vec![0; MAX_BODY]);
    let mut wal = open(dir.path(), options());
    wal.append(std::slice::from_ref(&longest)).unwrap();
    let records = wal.reader().read(Lsn(1), 1).unwrap();
    assert!(records.len() == 1 && records[0].entry == longest);
}

/// Guarantees: one writer at a time, also within a process; the next one can have it when the first is gone.
#[test]
fn there_is_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path(), options());
    let error = Wal::open(dir.path(), options()).unwrap_err();
    assert!(matches!(&error, WalError::Locked { dir: locked } if locked == dir.path()), "{error:?}");
    drop(wal);
    open(dir.path(), options());
}

/// Guarantees: numbers that somebody relies on are not given again, across restarts.
#[test]
fn numbers_can_be_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path(), options());
    append_each(&mut wal, &["1", "2"]);
    wal.skip_to(Lsn(2)).unwrap();
    assert_eq!(wal.next(), Lsn(3));
    wal.skip_to(Lsn(10)).unwrap();
    let mut reader = wal.reader();
    assert_eq!((wal.next(), reader.durable()), (Lsn(10), Lsn(10)));
    assert_eq!(reader.read(Lsn(3), 100).unwrap(), []);
    drop(wal);
    let mut wal = open(dir.path(), options());
    assert_eq!(wal.next(), Lsn(10));
    append_each(&mut wal, &["10"]);
    assert_eq!(bodies(&all(dir.path())), [(1, "1".into()), (2, "2".into()), (10, "10".into())]);
    assert_eq!(bodies(&wal.reader().read(Lsn(3), 100).unwrap()), [(10, "10".into())]);
    wal.release(Lsn(10), Timestamp::MAX).unwrap();
    assert_eq!(wal.first(), Lsn(10));
}

/// Guarantees: when a segment cannot be begun nothing is written to the one before it, whose end is the other's beginning; and
/// it works as soon as it can.
#[test]
fn a_segment_that_cannot_be_begun_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    // Two records, and a third one without a body.
    let mut wal = open(dir.path(), segments_of(SEGMENT_HEADER + 3 * RECORD_HEADER + 2));
    append_each(&mut wal, &["1", "2"]);
    // A directory of this name is in the way.
    fs::create_dir(segment_path(dir.path(), 3)).unwrap();
    let before = wal.bytes();
    for body in ["a body that does not fit", ""] {
        let error = wal.append(&[entry(body)]).unwrap_err();
        assert!(matches!(&error, WalError::Io { action: "create", path, .. } if *path == segment_path(dir.path(), 3)), "{error:?}");
        assert_eq!((wal.bytes(), wal.next()), (before, Lsn(3)));
    }
    assert!(matches!(wal.skip_to(Lsn(3)), Ok(())));
    fs::create_dir(segment_path(dir.path(), 9)).unwrap();
    wal.skip_to(Lsn(9)).unwrap_err();
    fs::remove_dir(segment_path(dir.path(), 3)).unwrap();
    fs::remove_dir(segment_path(dir.path(), 9)).unwrap();
    append_each(&mut wal, &["", "10"]);
    drop(wal);
    assert_eq!(open(dir.path(), options()).next(), Lsn(11));
    assert_eq!(bodies(&all(dir.path())), [(1, "1".into()), (2, "2".into()), (9, String::new()), (10, "10".into())]);
    assert_eq!(segments(dir.path()), [1, 9]);
}

/// Guarantees: a segment of a later version is refused by name and not touched, by the writer and by readers.
#[test]
fn a_later_version_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    append_each(&mut open(dir.path(), segments_of(1)), &["1", "2"]);
    let path = segment_path(dir.path(), 2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    let crc = crc32fast::hash(&bytes[..20]).to_le_bytes();
    bytes[20..24].copy_from_slice(&crc);
    fs::write(&path, &bytes).unwrap();
    let error = Wal::open(dir.path(), options()).unwrap_err();
    assert!(matches!(&error, WalError::Version { found: 9, known: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("00000000000000000002.wal"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let mut reader = tracescale_archive::wal::Reader::open(dir.path()).unwrap();
    assert!(matches!(reader.read(Lsn(2), 100).unwrap_err(), WalError::Version { .. }));
}

/// Guarantees: files that are not the log's stay where they are, and are not read.
#[test]
fn other_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["notes.txt", "1.wal", "00000000000000000001.wal.bak", "99999999999999999999.wal"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let mut wal = open(dir.path(), Options { durability: Durability::Fsync, ..segments_of(1) });
    append_each(&mut wal, &["1", "2"]);
    wal.release(Lsn(3), Timestamp::MAX).unwrap();
    drop(wal);
    open(dir.path(), options());
    for name in ["notes.txt", "1.wal", "00000000000000000001.wal.bak", "99999999999999999999.wal"] {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), name);
    }
}
