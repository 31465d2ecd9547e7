//! Opening a log that was not closed in good order: cutting what a crash tore, setting aside what is damaged.
//!
//! A damaged segment is replaced in this order, so that a crash at any point leaves either the old file or the new one under
//! its name, and the next start does what is missing: write the intact records to `….wal.repair`; sync it; link the old file into
//! `quarantine/`; rename the new one over the old one.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tracescale_core::time::Timestamp;

use super::active::Active;
use super::duplicates::{Duplicates, fingerprint};
use super::format::{SEGMENT_HEADER, SegmentHeader};
use super::scan::{self, Scan};
use super::segment::{self, sync_dir};
use super::{Durability, Lsn, WalError};

/// Where damaged files are kept. They do not count against the budget, and nobody deletes them but the operator.
const QUARANTINE: &str = "quarantine";

/// What opening a log found, and what it did about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The number of the next record.
    pub next: Lsn,
    /// No record below this is there.
    pub first: Lsn,
    /// Number of records that are there.
    pub records: u64,
    /// What was cut off the newest segment.
    pub torn: Option<Torn>,
    /// Segments that were damaged elsewhere.
    pub quarantined: Vec<Quarantined>,
}

/// The end of the newest segment, which a crash interrupted. None of it was acknowledged as durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub file: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
}

/// A segment that was damaged by something else than a crash: a disk, a person, another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The segment; it now holds what could be saved.
    pub file: PathBuf,
    /// Where the damaged original is.
    pub moved_to: PathBuf,
    /// Where the damage begins.
    pub offset: u64,
    /// Every damaged range of the original.
    pub damaged: Vec<Range<u64>>,
    /// Bytes in these ranges.
    pub lost_bytes: u64,
    /// Records in the new file.
    pub records_saved: u64,
}

/// A segment that is complete and not written to any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) first: Lsn,
    pub(super) bytes: u64,
    /// The newest time of a record.
    pub(super) newest: Option<Timestamp>,
}

/// A log as found, after repairs.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) sealed: Vec<Sealed>,
    pub(super) active: Active,
    pub(super) report: Recovery,
}

/// Reads the whole log in `dir`, repairs it and fills `duplicates`.
pub(super) fn recover(dir: &Path, durability: Durability, duplicates: &mut Duplicates) -> Result<Recovered, WalError> {
    let firsts = segment::list(dir)?;
    let mut report = Recovery { next: Lsn::FIRST, first: Lsn::FIRST, records: 0, torn: None, quarantined: Vec::new() };
    let mut sealed = Vec::new();
    for (place, first) in firsts.iter().copied().enumerate() {
        let after = firsts.get(place + 1).copied();
        let mut scan = scan::scan(&segment::path(dir, first), first, after, |header, body| {
            duplicates.learn(fingerprint(header.signal, header.encoding, header.compression, body), header.received_at);
        })?;
        report.repair(dir, first, after.is_none(), &mut scan)?;
        report.next = scan.next;
        report.records += scan.records;
        sealed.push(Sealed { first, bytes: scan.length, newest: scan.newest });
    }
    report.first = firsts.first().copied().unwrap_or(report.next);
    let active = match sealed.pop() {
        Some(newest) if newest.bytes >= SEGMENT_HEADER as u64 => Active::resume(dir, newest, durability)?,
        // None at all, or one whose header was cut off.
        _ => Active::create(dir, report.next, durability)?,
    };
    Ok(Recovered { sealed, active, report })
}

// === impl Recovery ===

impl Recovery {
    /// Repairs one segment, and makes `scan` say how it is afterwards.
    fn repair(&mut self, dir: &Path, first: Lsn, newest: bool, scan: &mut Scan) -> Result<(), WalError> {
        let file = segment::path(dir, first);
        // A crash while the segment was made. A full header was synced before anything was written behind it.
        let unborn = !scan.header && scan.length <= SEGMENT_HEADER as u64;
        let torn_at = if unborn { Some(0) } else { scan.torn_at() };
        if let Some(offset) = torn_at.filter(|_| newest) {
            self.torn = Some(Torn { file, offset, bytes: scan.length - offset });
            scan.length = offset;
        } else if !scan.damaged.is_empty() {
            let moved_to = replace(dir, first, scan)?;
            let damaged = std::mem::take(&mut scan.damaged);
            self.quarantined.push(Quarantined {
                file,
                moved_to,
                offset: damaged.first().map_or(0, |range| range.start),
                lost_bytes: damaged.iter().map(length).sum(),
                damaged,
                records_saved: scan.records,
            });
            scan.length = SEGMENT_HEADER as u64 + scan.intact.iter().map(length).sum::<u64>();
        }
        Ok(())
    }
}

impl fmt::Display for Recovery {
    /// One sentence for a log in good order, one more for each repair.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.records {
            0 => write!(f, "the log is empty and goes on with record {}", self.next)?,
            records => {
                let (records, Self { first, next, .. }) = (count(records, "record"), self);
                write!(f, "the log holds {records} from number {first} on and goes on with record {next}")?;
            }
        }
        if let Some(torn) = &self.torn {
            write!(f, "; {torn}")?;
        }
        self.quarantined.iter().try_for_each(|quarantined| write!(f, "; {quarantined}"))
    }
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, bytes } = self;
        let bytes = count(*bytes, "byte");
        write!(f, "the last write to {} was interrupted: {bytes} cut off at byte {offset}", file.display())
    }
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, moved_to, offset, damaged, lost_bytes, records_saved } = self;
        let (places, lost) = (count(damaged.len() as u64, "place"), count(*lost_bytes, "byte"));
        let (file, moved_to, saved) = (file.display(), moved_to.display(), count(*records_saved, "record"));
        write!(f, "{file} was damaged from byte {offset} on: {lost} lost in {places}, {saved} saved; the original is kept as {moved_to}")
    }
}

/// Puts a file with the intact records of a segment in the segment's place. Returns where the original is.
fn replace(dir: &Path, first: Lsn, scan: &Scan) -> Result<PathBuf, WalError> {
    let damaged = segment::path(dir, first);
    let repaired = damaged.with_extension("wal.repair");
    copy_intact(&damaged, &repaired, first, scan).map_err(WalError::io("repair the segment as", &repaired))?;
    let quarantine = dir.join(QUARANTINE);
    let kept = keep(&damaged, &quarantine, &segment::file_name(first)).map_err(WalError::io("keep a damaged segment in", &quarantine))?;
    fs::rename(&repaired, &damaged).map_err(WalError::io("replace", &damaged))?;
    sync_dir(dir).map_err(WalError::io("sync", dir))?;
    Ok(kept)
}

fn copy_intact(damaged: &Path, repaired: &Path, first: Lsn, scan: &Scan) -> io::Result<()> {
    let mut from = File::open(damaged)?;
    let mut to = File::create(repaired)?;
    to.write_all(&SegmentHeader::encode(first))?;
    for range in &scan.intact {
        from.seek(SeekFrom::Start(range.start))?;
        let copied = io::copy(&mut (&from).take(length(range)), &mut to)?;
        if copied != length(range) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    to.sync_all()
}

/// Gives a file a second name in the quarantine, the first of `name`, `name.1`, `name.2`, … that is free or is this file already,
/// because an earlier repair got no further.
fn keep(file: &Path, quarantine: &Path, name: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(quarantine)?;
    let original = file.metadata()?;
    let mut kept = quarantine.join(name);
    let mut attempt = 0_u64;
    loop {
        match kept.metadata() {
            Ok(other) if (other.dev(), other.ino()) == (original.dev(), original.ino()) => break,
            Ok(_) => {
                attempt += 1;
                kept = quarantine.join(format!("{name}.{attempt}"));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Not every file system has links.
                fs::hard_link(file, &kept).or_else(|_| fs::copy(file, &kept).and_then(|_| File::open(&kept)?.sync_all()))?;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    sync_dir(quarantine)?;
    quarantine.parent().map_or(Ok(()), sync_dir)?;
    Ok(kept)
}

/// "1 byte", "2 bytes".
fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}
