//! Requests that are sent again because their acknowledgement was lost.

use std::net::IpAddr;
use std::time::Duration;

use tracescale_archive::wal::{Appended, Entry, Lsn, Options, Wal};
use tracescale_core::time::Timestamp;

use super::{MINUTE, all, bodies, entry, entry_at, open, options, segments_of};

fn append(wal: &mut Wal, entry: Entry) -> Option<u64> {
    match wal.append(&[entry]).unwrap().as_slice() {
        [Appended::New(lsn)] => Some(lsn.0),
        [Appended::Duplicate] => None,
        other => panic!("{other:?}"),
    }
}

/// Guarantees: a body is written once, whether it comes again in the same group, later, from another address, or after a
/// restart; with another tag it is another request.
#[test]
fn an_identical_body_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path(), segments_of(150));
    let group = [entry("a"), entry("b"), entry("a")];
    assert_eq!(wal.append(&group).unwrap(), [Appended::New(Lsn(1)), Appended::New(Lsn(2)), Appended::Duplicate]);
    assert_eq!(append(&mut wal, entry("b")), None);
    assert_eq!(append(&mut wal, Entry { source: IpAddr::from([1, 1, 1, 1]), ..entry("a") }), None);
    assert_eq!(append(&mut wal, Entry { signal: 9, ..entry("a") }), Some(3));
    assert_eq!(append(&mut wal, Entry { encoding: 9, ..entry("a") }), Some(4));
    assert_eq!(append(&mut wal, Entry { compression: 9, ..entry("a") }), Some(5));
    drop(wal);
    let mut wal = open(dir.path(), options());
    assert_eq!(append(&mut wal, entry("b")), None);
    assert_eq!(append(&mut wal, Entry { encoding: 9, ..entry("a") }), None);
    assert_eq!(append(&mut wal, entry("c")), Some(6));
    assert_eq!(all(dir.path()).len(), 6);
}

/// Guarantees: what was forgotten is written again, and a restart remembers exactly as much.
#[test]
fn memory_ends() {
    let dir = tempfile::tempdir().unwrap();
    let remembering = || Options { remember: MINUTE, ..options() };
    let mut wal = open(dir.path(), remembering());
    assert_eq!(append(&mut wal, entry_at(100, "a")), Some(1));
    assert_eq!(append(&mut wal, entry_at(130, "b")), Some(2));
    assert_eq!(append(&mut wal, entry_at(159, "a")), None);
    assert_eq!(append(&mut wal, entry_at(160, "a")), Some(3));
    drop(wal);
    let mut wal = open(dir.path(), remembering());
    assert_eq!(append(&mut wal, entry_at(189, "b")), None);
    assert_eq!(append(&mut wal, entry_at(190, "b")), Some(4));
    assert_eq!(append(&mut wal, entry_at(219, "a")), None);
    drop(wal);
    let mut wal = open(dir.path(), Options { remember: Duration::ZERO, ..options() });
    assert_eq!(append(&mut wal, entry_at(220, "b")), Some(5));
    assert_eq!(append(&mut wal, entry_at(220, "b")), Some(6));
}

/// Guarantees: memory is bounded by number as well, also after a restart.
#[test]
fn the_latest_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let bounded = || Options { remember_max: 2, ..options() };
    let mut wal = open(dir.path(), bounded());
    wal.append(&["a", "b", "c"].map(entry)).unwrap();
    drop(wal);
    let mut wal = open(dir.path(), bounded());
    assert_eq!(append(&mut wal, entry("c")), None);
    assert_eq!(append(&mut wal, entry("b")), None);
    assert_eq!(append(&mut wal, entry("a")), Some(4));
    assert_eq!(append(&mut wal, entry("b")), Some(5));
}

/// Guarantees: a clock that jumps in both directions loses no record, and repetitions are still recognised.
#[test]
fn the_clock_may_jump() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path(), segments_of(150));
    let times = [1_000, 1_001, 500, 501, i64::MIN / 2_000_000_000, 1_002, 900, 1_003];
    for (place, secs) in times.into_iter().enumerate() {
        let body = format!("body {place}");
        assert_eq!(append(&mut wal, entry_at(secs, body.clone())), Some(place as u64 + 1));
        assert_eq!(append(&mut wal, entry_at(secs - 1, body)), None);
    }
    assert_eq!(wal.release(wal.next(), Timestamp::from_secs(0)).unwrap(), 0);
    drop(wal);
    let mut wal = open(dir.path(), options());
    for place in 0..times.len() {
        assert_eq!(append(&mut wal, entry_at(0, format!("body {place}"))), None);
    }
    let expected: Vec<_> = (0..times.len()).map(|place| (place as u64 + 1, format!("body {place}"))).collect();
    assert_eq!(bodies(&all(dir.path())), expected);
}
