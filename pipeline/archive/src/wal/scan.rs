//! Reading a whole segment at start: which bytes are intact, and where records stand behind damaged ones.

use std::io;
use std::ops::Range;
use std::path::Path;

use tracescale_core::time::Timestamp;

use super::format::{RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader, VERSION};
use super::segment::{Choice, SegmentFile, Step};
use super::{Lsn, WalError};

/// No segment holds more records than this. It bounds how far bytes in a damaged file that happen to look like a record can
/// push the numbers on.
const RECORDS_MAX: u64 = 1 << 32;
/// How many bytes are searched at once.
const WINDOW: usize = 1 << 20;

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// Whether the header is intact and says what the name says.
    pub(super) header: bool,
    /// Where intact records stand, adjacent ones merged.
    pub(super) intact: Vec<Range<u64>>,
    /// What is neither header nor intact record.
    pub(super) damaged: Vec<Range<u64>>,
    /// Number of intact records.
    pub(super) records: u64,
    /// One past the last intact record, or the segment's first number.
    pub(super) next: Lsn,
    /// The newest time of a record.
    pub(super) newest: Option<Timestamp>,
    /// Length of the file.
    pub(super) length: u64,
}

/// Looks for records in a damaged segment.
struct Search<'a> {
    segment: &'a mut SegmentFile,
    /// Numbers that a record behind the damage can have.
    numbers: Range<u64>,
}

/// Reads the segment at `path`, whose name says `first` and whose successor, if there is one, begins with `before`. Shows
/// every intact record to `visit`, in order.
pub(super) fn scan(path: &Path, first: Lsn, before: Option<Lsn>, mut visit: impl FnMut(&RecordHeader, &[u8])) -> Result<Scan, WalError> {
    let (mut segment, header) = SegmentFile::open(path).map_err(WalError::io("open", path))?;
    if let SegmentHeader::Newer(found) = header {
        return Err(WalError::Version { path: path.to_owned(), found, known: VERSION });
    }
    let mut scan = Scan::new(header == SegmentHeader::Known(first), first, segment.end());
    let limit = before.map_or(u64::MAX, |before| before.0).min(first.0.saturating_add(RECORDS_MAX));
    let mut read = || {
        while segment.offset() < segment.end() {
            let start = segment.offset();
            let step = segment.step(|_| Choice::Take)?;
            if let Step::Record(header, body) = &step
                && (scan.next.0..limit).contains(&header.lsn.0)
            {
                scan.accept(header, start..segment.offset());
                visit(header, body);
                continue;
            }
            let found = Search { segment: &mut segment, numbers: scan.next.0..limit }.behind(start)?;
            let resume = found.unwrap_or(scan.length);
            merge(&mut scan.damaged, start..resume);
            segment.seek(resume)?;
        }
        Ok(())
    };
    read().map_err(WalError::io("read", path))?;
    Ok(scan)
}

// === impl Scan ===

impl Scan {
    fn new(header: bool, first: Lsn, length: u64) -> Self {
        let mut damaged = Vec::new();
        if !header {
            damaged.push(0..length.min(SEGMENT_HEADER as u64));
        }
        Self { header, intact: Vec::new(), damaged, records: 0, next: first, newest: None, length }
    }

    /// Where the file is to be cut when a crash interrupted its last write and did nothing else.
    pub(super) fn torn_at(&self) -> Option<u64> {
        match self.damaged.as_slice() {
            [tail] if self.header && tail.end == self.length => Some(tail.start),
            _ => None,
        }
    }

    fn accept(&mut self, header: &RecordHeader, place: Range<u64>) {
        merge(&mut self.intact, place);
        self.records += 1;
        self.next = header.lsn.following();
        self.newest = self.newest.max(Some(header.received_at));
    }
}

/// Appends a range to ranges, to the last one if it continues it.
fn merge(ranges: &mut Vec<Range<u64>>, place: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == place.start => last.end = place.end,
        _ => ranges.push(place),
    }
}

// === impl Search ===

impl Search<'_> {
    /// Where the next intact record stands behind the bad one at `start`.
    ///
    /// Most often only a body is damaged, and the header says where it ends. Believing the header keeps us from
    /// searching the body, which a sender could have filled with what looks like records.
    fn behind(&mut self, start: u64) -> io::Result<Option<u64>> {
        let end = self.segment.end();
        if let Some(header) = self.header_at(start)?.filter(|header| header.lsn.0 == self.numbers.start) {
            let next = start + header.size();
            if next == end {
                return Ok(None);
            }
            if self.is_record(next)? {
                return Ok(Some(next));
            }
        }
        self.search(start + 1)
    }

    fn search(&mut self, mut from: u64) -> io::Result<Option<u64>> {
        let end = self.segment.end();
        while from + RECORD_HEADER as u64 <= end {
            let window = self.segment.bytes(from, WINDOW)?;
            let mut at = from;
            for raw in window.windows(RECORD_HEADER) {
                let room = end - at - RECORD_HEADER as u64;
                let plausible = |header: &RecordHeader| header.is_plausible(room) && self.numbers.contains(&header.lsn.0);
                if RecordHeader::decode(raw).is_some_and(|header| plausible(&header)) && self.is_record(at)? {
                    return Ok(Some(at));
                }
                at += 1;
            }
            if at == from {
                break;
            }
            from = at;
        }
        Ok(None)
    }

    fn header_at(&mut self, offset: u64) -> io::Result<Option<RecordHeader>> {
        let room = self.segment.end().checked_sub(offset + RECORD_HEADER as u64);
        let header = RecordHeader::decode(&self.segment.bytes(offset, RECORD_HEADER)?);
        Ok(header.filter(|header| room.is_some_and(|room| header.is_plausible(room))))
    }

    fn is_record(&mut self, offset: u64) -> io::Result<bool> {
        self.segment.seek(offset)?;
        let step = self.segment.step(|_| Choice::Take)?;
        Ok(matches!(step, Step::Record(header, _) if self.numbers.contains(&header.lsn.0)))
    }
}
