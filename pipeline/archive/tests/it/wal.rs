//! The write-ahead log: what several tests need.

mod append;
mod crash;
mod damage;
mod duplicates;
mod model;
mod readers;
mod repair;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tracescale_archive::wal::{Appended, Durability, Entry, Lsn, Options, Reader, Record, Wal};
use tracescale_core::time::Timestamp;

/// Length of a segment's header and of a record without its body, as documented.
const SEGMENT_HEADER: u64 = 24;
const RECORD_HEADER: u64 = 44;

fn entry(body: impl Into<Bytes>) -> Entry {
    let source = IpAddr::from([10, 0, 0, 7]);
    Entry { signal: 1, encoding: 2, compression: 3, source, received_at: Timestamp::from_secs(1_000), body: body.into() }
}

fn entry_at(secs: i64, body: impl Into<Bytes>) -> Entry {
    Entry { received_at: Timestamp::from_secs(secs), ..entry(body) }
}

/// Without waiting for a disk; that tests need not survive a power failure.
fn options() -> Options {
    Options { durability: Durability::Os, ..Options::default() }
}

fn segments_of(bytes: u64) -> Options {
    Options { segment_bytes: bytes, ..options() }
}

fn open(dir: &Path, options: Options) -> Wal {
    let (wal, recovery) = Wal::open(dir, options).unwrap();
    assert_eq!((&recovery.torn, recovery.quarantined.as_slice()), (&None, [].as_slice()), "{recovery}");
    wal
}

/// Appends each body as a group of its own.
fn append_each(wal: &mut Wal, bodies: &[&'static str]) {
    for body in bodies {
        let next = wal.next();
        assert_eq!(wal.append(&[entry(*body)]).unwrap(), [Appended::New(next)]);
    }
}

/// Everything that a reader of another process finds.
fn all(dir: &Path) -> Vec<Record> {
    follow(&mut Reader::open(dir).unwrap(), Lsn(1))
}

/// Everything from `from` on, in small bites.
fn follow(reader: &mut Reader, mut from: Lsn) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let mut some = reader.read(from, 100).unwrap();
        let Some(last) = some.last() else { return records };
        from = last.lsn.following();
        records.append(&mut some);
    }
}

fn bodies(records: &[Record]) -> Vec<(u64, String)> {
    records.iter().map(|record| (record.lsn.0, String::from_utf8_lossy(&record.entry.body).into_owned())).collect()
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.wal"))
}

/// The first numbers of all segments.
fn segments(dir: &Path) -> Vec<u64> {
    let mut firsts: Vec<u64> =
        fs::read_dir(dir).unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".wal")?.parse().ok()).collect();
    firsts.sort_unstable();
    firsts
}

/// A directory for tests that open thousands of logs: in memory where there is such a thing, so that they need not wait for a disk.
fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A copy of the segments, so that each damage starts from the same log.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = quick_dir();
    for first in segments(from) {
        fs::copy(segment_path(from, first), segment_path(to.path(), first)).unwrap();
    }
    to
}

/// A small deterministic generator (splitmix64), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

const MINUTE: Duration = Duration::from_secs(60);
