//! Reading while the log is written, released, torn and repaired.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tracescale_archive::wal::{Lsn, Reader, Record, WalError};
use tracescale_core::time::Timestamp;

use super::{Random, append_each, bodies, entry, follow, open, options, segment_path, segments, segments_of};

const RECORDS: u64 = 2_500;

/// A body that says which record it must be in.
fn body(lsn: u64) -> Vec<u8> {
    let mut random = Random(lsn);
    let length = random.below(400);
    format!("{lsn} ").into_bytes().into_iter().chain((0..length).map(|_| random.next().to_le_bytes()[0])).collect()
}

/// Reads until `done`, and then to the end; checks every record.
fn tail(mut reader: Reader, done: &AtomicBool) -> Vec<Record> {
    let (mut records, mut from) = (Vec::<Record>::new(), Lsn(1));
    loop {
        let last = done.load(Ordering::Acquire);
        let some = reader.read(from, 2_000).unwrap();
        for record in &some {
            assert!(record.lsn >= from);
            assert_eq!(record.entry.body, body(record.lsn.0));
            from = Lsn(record.lsn.0 + 1);
        }
        match some.is_empty() {
            true if last => return records,
            true => thread::yield_now(),
            false => records.extend(some),
        }
    }
}

fn write(dir: &Path, seed: u64, mut release: impl FnMut(&mut tracescale_archive::wal::Wal), readers: impl FnOnce(Reader)) {
    let mut wal = open(dir, segments_of(20_000));
    readers(wal.reader());
    let mut random = Random(seed);
    while wal.next().0 <= RECORDS {
        let next = wal.next().0;
        let group: Vec<_> = (next..=RECORDS.min(next + random.below(20))).map(|lsn| entry(body(lsn))).collect();
        wal.append(&group).unwrap();
        release(&mut wal);
    }
}

/// Guarantees: readers of the same process and of another one, at work while groups are written and segments begun, see every
/// record once and in order.
#[test]
fn readers_keep_up_with_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut following = Vec::new();
        write(
            dir.path(),
            1,
            |_| {},
            |reader| {
                let other = Reader::open(dir.path()).unwrap();
                for reader in [reader.clone(), reader, other] {
                    following.push(scope.spawn(|| tail(reader, &done)));
                }
            },
        );
        done.store(true, Ordering::Release);
        for records in following {
            let records = records.join().unwrap();
            assert!(records.iter().map(|record| record.lsn.0).eq(1..=RECORDS));
        }
    });
    assert!(segments(dir.path()).len() > 10);
}

/// Guarantees: a reader whose segments are released under it goes on with what is there, in order and intact.
#[test]
fn segments_may_vanish_under_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut following = Vec::new();
        let release = |wal: &mut tracescale_archive::wal::Wal| {
            let below = Lsn(wal.next().0.saturating_sub(50));
            wal.release(below, Timestamp::MAX).unwrap();
        };
        write(dir.path(), 2, release, |reader| {
            let other = Reader::open(dir.path()).unwrap();
            following.extend([reader, other].map(|reader| scope.spawn(|| tail(reader, &done))));
        });
        done.store(true, Ordering::Release);
        for records in following {
            assert_eq!(records.join().unwrap().last().map(|record| record.lsn), Some(Lsn(RECORDS)));
        }
    });
    assert!(segments(dir.path()).len() < 4);
}

/// Guarantees: a read returns what was asked for: at least one record, otherwise no more bytes than wanted, from any number.
#[test]
fn reads_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path(), segments_of(300));
    append_each(&mut wal, &["aaaa", "bbbb", "cccc", "dddd", "a longer one", "eeee"]);
    let mut reader = wal.reader();
    let mut numbers = |from, max| reader.read(Lsn(from), max).unwrap().iter().map(|record| record.lsn.0).collect::<Vec<_>>();
    assert_eq!(numbers(1, 0), [1]);
    assert_eq!(numbers(1, 8), [1, 2]);
    assert_eq!(numbers(3, 11), [3, 4]);
    assert_eq!(numbers(5, 5), [5]);
    assert_eq!(numbers(6, 5), [6]);
    assert!(numbers(7, 5).is_empty());
    assert_eq!(numbers(0, 1_000), [1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers(2, 1_000), [2, 3, 4, 5, 6]);
    append_each(&mut wal, &["ffff"]);
    assert_eq!(reader.read(Lsn(7), 1).unwrap().len(), 1);
    assert_eq!(reader.durable(), Lsn(8));
}

/// Guarantees: a reader of another process ends before a record that is half written, and goes on when it is whole; and it
/// survives that its place is cut away.
#[test]
fn a_reader_waits_for_the_rest_of_a_record() {
    let dir = tempfile::tempdir().unwrap();
    append_each(&mut open(dir.path(), options()), &["1", "2", "3"]);
    let path = segment_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let mut reader = Reader::open(dir.path()).unwrap();
    for cut in [0, 10, 24] {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(reader.read(Lsn(1), 100).unwrap(), []);
        assert_eq!(reader.durable(), Lsn(1));
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(bodies(&reader.read(Lsn(1), 100).unwrap()), [(1, "1".into()), (2, "2".into())]);
    assert_eq!(reader.durable(), Lsn(3));
    assert_eq!(reader.read(Lsn(3), 100).unwrap(), []);
    fs::write(&path, &whole).unwrap();
    assert_eq!(bodies(&reader.read(Lsn(3), 100).unwrap()), [(3, "3".into())]);
    fs::write(&path, &whole[..30]).unwrap();
    assert_eq!(reader.read(Lsn(4), 100).unwrap(), []);
    fs::write(&path, &whole).unwrap();
    append_each(&mut open(dir.path(), options()), &["4"]);
    assert_eq!(bodies(&reader.read(Lsn(4), 100).unwrap()), [(4, "4".into())]);
    assert!(matches!(Reader::open(&dir.path().join("nowhere")).unwrap_err(), WalError::Io { .. }));
}

/// Guarantees: what stands behind the last durable record is none of a reader's business, be it half a record or a whole one.
#[test]
fn what_is_not_durable_is_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    append_each(&mut open(dir.path(), options()), &["1", "2", "3"]);
    let path = segment_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..24 + 2 * 45]).unwrap();
    let wal = open(dir.path(), options());
    let mut reader = wal.reader();
    for behind in [30, 45] {
        fs::write(&path, &whole[..24 + 2 * 45 + behind]).unwrap();
        assert_eq!(reader.read(Lsn(1), 100).unwrap().len(), 2);
        assert_eq!(reader.read(Lsn(3), 100).unwrap(), []);
    }
}

/// Guarantees: a byte that rots after the log was opened is an error that names it, not a silent end.
#[test]
fn damage_under_a_reader_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path(), options());
    append_each(&mut wal, &["1", "2", "3"]);
    let path = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[24 + 45 + 44] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut reader = wal.reader();
    assert_eq!(reader.read(Lsn(1), 1).unwrap().len(), 1);
    for _ in 0..2 {
        let error = reader.read(Lsn(2), 100).unwrap_err();
        assert!(matches!(&error, WalError::Damaged { path: at, offset: 69 } if *at == path), "{error:?}");
    }
    assert_eq!(follow(&mut reader, Lsn(3)).len(), 1);
    let mut foreign = Reader::open(dir.path()).unwrap();
    assert_eq!(foreign.read(Lsn(1), 1).unwrap().len(), 1);
    assert!(matches!(foreign.read(Lsn(2), 100).unwrap_err(), WalError::Damaged { offset: 69, .. }));
}
