//! Repairs that a crash interrupts, damage that is no single byte, and bytes that look like records.

use std::fs;
use std::io::Write;

use tracescale_archive::wal::{Appended, Lsn, Wal, WalError};

use super::{RECORD_HEADER, SEGMENT_HEADER, all, append_each, bodies, entry, open, options, segment_path, segments_of};

fn named(bodies: &[(u64, &str)]) -> Vec<(u64, String)> {
    bodies.iter().map(|(lsn, body)| (*lsn, (*body).to_owned())).collect()
}

/// Three segments, of which the first is damaged in its first record.
fn damaged() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    append_each(&mut open(dir.path(), segments_of(SEGMENT_HEADER + 2 * RECORD_HEADER + 2)), &["1", "2", "3", "4", "5"]);
    let path = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[30] ^= 1;
    fs::write(path, bytes).unwrap();
    dir
}

/// Guarantees: a repair that was interrupted at any point is done again from the start, and leaves one copy of the original.
#[test]
fn an_interrupted_repair_is_repeated() {
    for crash_after in 0..3 {
        let dir = damaged();
        let (path, quarantine) = (segment_path(dir.path(), 1), dir.path().join("quarantine"));
        let original = fs::read(&path).unwrap();
        fs::write(path.with_extension("wal.repair"), "half of what was to be written").unwrap();
        if crash_after > 0 {
            fs::create_dir(&quarantine).unwrap();
        }
        if crash_after > 1 {
            fs::hard_link(&path, quarantine.join(path.file_name().unwrap())).unwrap();
        }
        let (_, recovery) = Wal::open(dir.path(), options()).unwrap();
        assert_eq!(recovery.quarantined.len(), 1, "{recovery}");
        assert_eq!(recovery.quarantined[0].records_saved, 1);
        assert_eq!(bodies(&all(dir.path())), named(&[(2, "2"), (3, "3"), (4, "4"), (5, "5")]));
        let kept: Vec<_> = fs::read_dir(&quarantine).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(kept, [recovery.quarantined[0].moved_to.clone()]);
        assert_eq!(fs::read(&kept[0]).unwrap(), original);
        assert!(!path.with_extension("wal.repair").exists());
    }
}

/// Guarantees: what was quarantined before is not overwritten, and the report reads like one.
#[test]
fn each_original_is_kept() {
    let dir = damaged();
    let quarantine = dir.path().join("quarantine");
    fs::create_dir(&quarantine).unwrap();
    fs::write(quarantine.join("00000000000000000001.wal"), "an older one").unwrap();
    let (wal, recovery) = Wal::open(dir.path(), options()).unwrap();
    assert_eq!(recovery.quarantined[0].moved_to, quarantine.join("00000000000000000001.wal.1"));
    assert_eq!(fs::read_to_string(quarantine.join("00000000000000000001.wal")).unwrap(), "an older one");
    let shown = recovery.to_string().replace(dir.path().to_str().unwrap(), "…");
    assert_eq!(
        shown,
        "the log holds 4 records from number 1 on and goes on with record 6; …/00000000000000000001.wal was damaged from byte 24 on: \
         45 bytes lost in 1 place, 1 record saved; the original is kept as …/quarantine/00000000000000000001.wal.1"
    );
    drop(wal);
    open(dir.path(), options());
}

/// Guarantees: bytes within a body that look like a record of the log are not taken for one when that body is damaged.
#[test]
fn a_forged_record_stays_a_body() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut wal = open(elsewhere.path(), options());
    wal.skip_to(Lsn(3)).unwrap();
    append_each(&mut wal, &["forged"]);
    let forged = fs::read(segment_path(elsewhere.path(), 3)).unwrap()[24..].to_vec();

    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path(), options());
    wal.append(&[entry("1"), entry([b"evil".as_slice(), &forged, b"end"].concat()), entry("3")]).unwrap();
    drop(wal);
    let path = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"evil").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (_, recovery) = Wal::open(dir.path(), options()).unwrap();
    assert_eq!(recovery.quarantined.len(), 1);
    assert_eq!(bodies(&all(dir.path())), named(&[(1, "1"), (3, "3")]));
}

/// Guarantees: a hole of zeros, as lost pages leave it, costs the records it touches, also when it is longer than the window of
/// the search; zeros and garbage at the end are cut off.
#[test]
fn holes_and_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path(), options());
    append_each(&mut wal, &["1", "2"]);
    let from = usize::try_from(wal.bytes()).unwrap();
    wal.append(&[entry(vec![7; 700_000]), entry(vec![8; 700_000]), entry("5"), entry("6")]).unwrap();
    drop(wal);
    let path = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[from..from + 1_200_000].fill(0);
    fs::write(&path, bytes).unwrap();
    let (wal, recovery) = Wal::open(dir.path(), options()).unwrap();
    assert_eq!(recovery.quarantined[0].lost_bytes, 2 * (700_000 + RECORD_HEADER));
    drop(wal);
    for tail in [vec![0; 5_000], b"no record at all".repeat(300), vec![0xFF; 5_000]] {
        fs::File::options().append(true).open(&path).unwrap().write_all(&tail).unwrap();
        let (wal, recovery) = Wal::open(dir.path(), options()).unwrap();
        assert_eq!(recovery.torn.unwrap().bytes, tail.len() as u64);
        assert_eq!(wal.next(), Lsn(7));
        assert_eq!(bodies(&all(dir.path())), named(&[(1, "1"), (2, "2"), (5, "5"), (6, "6")]));
    }
}

/// Guarantees: a segment that holds nothing of the log is set aside whole, wherever it stands, and its number is not lost.
#[test]
fn a_foreign_file_is_set_aside() {
    for first in [1, 3, 5] {
        let dir = tempfile::tempdir().unwrap();
        append_each(&mut open(dir.path(), segments_of(SEGMENT_HEADER + 2 * RECORD_HEADER + 2)), &["1", "2", "3", "4", "5"]);
        fs::write(segment_path(dir.path(), first), "a letter to somebody, certainly no segment").unwrap();
        let (mut wal, recovery) = Wal::open(dir.path(), options()).unwrap();
        assert_eq!(recovery.quarantined[0].lost_bytes, 42, "{recovery}");
        assert_eq!(wal.append(&[entry("6")]).unwrap(), [Appended::New(Lsn(if first == 5 { 5 } else { 6 }))]);
        drop(wal);
        open(dir.path(), options());
        assert_eq!(all(dir.path()).len(), if first == 5 { 5 } else { 4 });
    }
}

/// Guarantees: a segment whose end is missing although others follow is reported as damage, not passed over.
#[test]
fn a_cut_in_the_middle_is_damage() {
    let dir = damaged();
    let path = segment_path(dir.path(), 3);
    let length = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let mut reader = tracescale_archive::wal::Reader::open(dir.path()).unwrap();
    assert!(matches!(reader.read(Lsn(1), 1_000).unwrap_err(), WalError::Damaged { offset: 24, .. }));
    let error = reader.read(Lsn(3), 1_000).unwrap_err();
    assert!(matches!(&error, WalError::Damaged { path: at, offset: 69 } if *at == path), "{error:?}");
    let (_, recovery) = Wal::open(dir.path(), options()).unwrap();
    assert_eq!(recovery.quarantined.len(), 2);
    assert_eq!(bodies(&all(dir.path())), named(&[(2, "2"), (3, "3"), (5, "5")]));
}
