//! One segment as a file: its name, and reading it record by record.

use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::format::{RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader};
use super::{Lsn, WalError};

/// Digits of the largest number, so that names sort like numbers.
const DIGITS: usize = 20;
const EXTENSION: &str = ".wal";
/// Large enough that small records cost few system calls, small enough to throw away after each call.
const READ_AHEAD: usize = 64 << 10;

/// Reads the records of one segment in order.
#[derive(Debug)]
pub(super) struct SegmentFile {
    input: BufReader<File>,
    /// Where the next record starts; outside of a call the input stands there.
    offset: u64,
    /// How long the file was when last looked at.
    end: u64,
}

/// What to do with a record whose header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Read its body.
    Take,
    /// Go on behind it.
    Skip,
    /// Leave it for later.
    Leave,
}

/// What was found at the offset.
#[derive(Debug)]
pub(super) enum Step {
    /// A record; the offset is behind it.
    Record(RecordHeader, Vec<u8>),
    /// A record that was skipped; the offset is behind it.
    Skipped,
    /// A record that was left; the offset is unchanged.
    Left,
    /// The file ends exactly here.
    End,
    /// No intact record; the offset is unchanged.
    Bad,
}

/// The name of the segment that begins with `first`.
pub(super) fn file_name(first: Lsn) -> String {
    format!("{:0DIGITS$}{EXTENSION}", first.0)
}

/// The segments in a directory, oldest first. Files with other names are nobody's business.
pub(super) fn list(dir: &Path) -> Result<Vec<Lsn>, WalError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(WalError::io("list", dir))? {
        let name = entry.map_err(WalError::io("list", dir))?.file_name();
        found.extend(name.to_str().and_then(parse_name));
    }
    found.sort_unstable();
    Ok(found)
}

fn parse_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(EXTENSION)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten().filter(|number| *number > 0).map(Lsn)
}

/// The path of the segment that begins with `first`.
pub(super) fn path(dir: &Path, first: Lsn) -> PathBuf {
    dir.join(file_name(first))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

// === impl SegmentFile ===

impl SegmentFile {
    /// Opens a segment and reads its header. The first record is expected behind it, however the header looks.
    pub(super) fn open(path: &Path) -> io::Result<(Self, SegmentHeader)> {
        let file = File::open(path)?;
        let mut segment = Self { input: BufReader::with_capacity(READ_AHEAD, file), offset: 0, end: 0 };
        let mut header = Vec::with_capacity(SEGMENT_HEADER);
        segment.input.by_ref().take(SEGMENT_HEADER as u64).read_to_end(&mut header)?;
        segment.seek(SEGMENT_HEADER as u64)?;
        Ok((segment, SegmentHeader::decode(&header)))
    }

    /// Where the next record starts.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// How long the file was when last looked at.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Goes to where a record starts, forgets what was read ahead, and looks again how long the file is.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.input.seek(SeekFrom::Start(offset))?;
        self.offset = offset;
        self.end = self.input.get_ref().metadata()?.len();
        Ok(())
    }

    /// Like [`SegmentFile::seek`] to where it stands.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        self.seek(self.offset)
    }

    /// Up to `length` bytes from `offset` on, records or not.
    pub(super) fn bytes(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.seek(offset)?;
        let mut bytes = Vec::new();
        self.input.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Looks at the next record; `choose` is asked only about plausible ones.
    pub(super) fn step(&mut self, choose: impl FnOnce(&RecordHeader) -> Choice) -> io::Result<Step> {
        match self.try_step(choose) {
            // The file became shorter than it was when we looked: its writer took a failed group back.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.stay(Step::Bad),
            other => other,
        }
    }

    fn try_step(&mut self, choose: impl FnOnce(&RecordHeader) -> Choice) -> io::Result<Step> {
        if self.offset == self.end {
            return Ok(Step::End);
        }
        let Some(room) = self.end.checked_sub(self.offset + RECORD_HEADER as u64) else { return Ok(Step::Bad) };
        let mut raw = [0; RECORD_HEADER];
        self.input.read_exact(&mut raw)?;
        let Some(header) = RecordHeader::decode(&raw).filter(|header| header.is_plausible(room)) else {
            return self.stay(Step::Bad);
        };
        match choose(&header) {
            Choice::Leave => self.stay(Step::Left),
            Choice::Skip => {
                self.input.seek_relative(i64::from(header.length))?;
                self.offset += header.size();
                Ok(Step::Skipped)
            }
            Choice::Take => {
                // Not more than the file holds: `is_plausible` saw to it.
                let mut body = vec![0; header.length as usize];
                self.input.read_exact(&mut body)?;
                if !header.fits(&body) {
                    return self.stay(Step::Bad);
                }
                self.offset += header.size();
                Ok(Step::Record(header, body))
            }
        }
    }

    fn stay(&mut self, step: Step) -> io::Result<Step> {
        self.input.seek(SeekFrom::Start(self.offset))?;
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: names sort like numbers, and only names that the log gives are taken for segments.
    #[test]
    fn names_are_strict() {
        assert_eq!(file_name(Lsn(42)), "00000000000000000042.wal");
        assert_eq!(parse_name("00000000000000000042.wal"), Some(Lsn(42)));
        assert_eq!(parse_name(&file_name(Lsn(u64::MAX))), Some(Lsn(u64::MAX)));
        for other in ["42.wal", "00000000000000000042.wal.repair", "+0000000000000000042.wal", "99999999999999999999.wal", "lock"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
        assert_eq!(parse_name("00000000000000000000.wal"), None);
    }
}
