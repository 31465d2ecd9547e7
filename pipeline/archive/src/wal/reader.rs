//! Reading the log while it is written, in the same process or from another one.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::format::{SegmentHeader, VERSION};
use super::scan;
use super::segment::{self, Choice, SegmentFile, Step};
use super::{Entry, Lsn, Record, WalError};

/// How often a segment may vanish between listing and opening it before we believe that something else is wrong.
const VANISHED_MAX: usize = 16;

/// Reads records in order. One that goes on where it stopped keeps its file open and neither searches nor skips.
///
/// Clones are independent of each other and begin without an open file.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    mark: Mark,
    position: Option<Position>,
}

/// How far records may be read.
#[derive(Clone, Debug)]
enum Mark {
    /// Below what the writer of this process says is durable.
    Shared(Arc<AtomicU64>),
    /// As far as they are intact; one past the last that was read.
    Seen(Lsn),
}

/// Where reading stopped.
#[derive(Debug)]
struct Position {
    /// First number of the segment.
    first: Lsn,
    /// Records before the file's offset are below this.
    next: Lsn,
    file: SegmentFile,
}

/// How reading one segment ended.
enum Ended {
    /// No more is wanted, or may be read.
    Enough,
    /// The file ends here.
    File,
    /// There is no intact record here.
    Bad,
}

/// What one call collects.
struct Batch {
    from: Lsn,
    below: Lsn,
    room: usize,
    records: Vec<Record>,
}

// === impl Reader ===

impl Reader {
    pub(super) fn shared(dir: &Path, durable: Arc<AtomicU64>) -> Self {
        Self { dir: dir.to_owned(), mark: Mark::Shared(durable), position: None }
    }

    /// Reads a log that another process may be writing: takes no lock, changes nothing. It ends at the first record of the
    /// newest segment that is not intact (yet); a record with intact ones behind it is damage. It can see records which are not durable yet, and which a failing disk
    /// takes back: for looking at a log, not for acknowledging anything.
    ///
    /// # Errors
    /// When `dir` cannot be listed.
    pub fn open(dir: &Path) -> Result<Self, WalError> {
        segment::list(dir)?;
        Ok(Self { dir: dir.to_owned(), mark: Mark::Seen(Lsn::FIRST), position: None })
    }

    /// One past the last durable record; for a reader of another process's log, one past the last that it read.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        match &self.mark {
            Mark::Shared(durable) => Lsn(durable.load(Ordering::Acquire)),
            Mark::Seen(next) => *next,
        }
    }

    /// The records from `from` on: as many as have `max_bytes` of bodies, but at least one if there is any. Where numbers
    /// are missing, because they were released or lost, it goes on with the next that is there. So the next call continues
    /// with [`Lsn::following`] of the last record. Released records still come from a file that it has open.
    ///
    /// # Errors
    /// When a file cannot be read, was written by a later release, or is damaged.
    pub fn read(&mut self, from: Lsn, max_bytes: usize) -> Result<Vec<Record>, WalError> {
        let below = if matches!(self.mark, Mark::Shared(_)) { self.durable() } else { Lsn(u64::MAX) };
        if from >= below {
            return Ok(Vec::new());
        }
        let mut batch = Batch { from, below, room: max_bytes, records: Vec::new() };
        let position = match self.position.take() {
            Some(mut position) if position.next == from => {
                // Bytes read ahead could by now have been taken back and written anew.
                position.file.refresh().map_err(WalError::io("read", &segment::path(&self.dir, position.first)))?;
                Some(position)
            }
            _ => self.locate(below, |firsts| match firsts.partition_point(|first| *first <= from) {
                0 => firsts.first().copied(),
                after => firsts.get(after - 1).copied(),
            })?,
        };
        if let Some(position) = position {
            self.position = self.collect(position, &mut batch)?;
        }
        let next = batch.records.last().map(|record| record.lsn.following());
        if let Some(position) = &mut self.position {
            position.next = next.unwrap_or(from);
        }
        if let (Mark::Seen(seen), Some(next)) = (&mut self.mark, next) {
            *seen = next.max(*seen);
        }
        Ok(batch.records)
    }

    /// Fills the batch from as many segments as it takes. Returns where to go on, if the place is sound.
    fn collect(&self, mut position: Position, batch: &mut Batch) -> Result<Option<Position>, WalError> {
        let mut complete = false;
        loop {
            let path = segment::path(&self.dir, position.first);
            let ended = batch.fill(&mut position.file).map_err(WalError::io("read", &path))?;
            if matches!(ended, Ended::Enough) {
                return Ok(Some(position));
            }
            // Only what is behind the newest segment is complete, and only if we looked at its end after that became so.
            let current = position.first;
            let Some(next) = self.locate(batch.below, |firsts| firsts.iter().copied().find(|first| *first > current))? else {
                return match ended {
                    Ended::Bad if matches!(self.mark, Mark::Shared(_)) => Err(WalError::Damaged { path, offset: position.file.offset() }),
                    // Where a record is half written its writer may yet take it back, and others with it. What has intact
                    // records behind it is no half-written end.
                    Ended::Bad => match scan::scan(&path, current, None, |_, _| {})? {
                        damaged if damaged.torn_at().is_none() && !damaged.damaged.is_empty() => {
                            Err(WalError::Damaged { path, offset: position.file.offset() })
                        }
                        _ => Ok(None),
                    },
                    _ => Ok(Some(position)),
                };
            };
            if !complete {
                complete = true;
                position.file.refresh().map_err(WalError::io("read", &path))?;
            } else if matches!(ended, Ended::Bad) {
                return Err(WalError::Damaged { path, offset: position.file.offset() });
            } else {
                complete = false;
                position = next;
            }
        }
    }

    /// Opens the segment that `choose` picks of those that hold records below `below`. Its writer may release it in between; then
    /// there are others to pick from.
    fn locate(&self, below: Lsn, choose: impl Fn(&[Lsn]) -> Option<Lsn>) -> Result<Option<Position>, WalError> {
        let mut attempt = 0;
        loop {
            let firsts = segment::list(&self.dir)?;
            let Some(first) = choose(&firsts[..firsts.partition_point(|first| *first < below)]) else { return Ok(None) };
            let path = segment::path(&self.dir, first);
            match SegmentFile::open(&path) {
                Ok((file, SegmentHeader::Known(_))) => return Ok(Some(Position { first, next: first, file })),
                Ok((_, SegmentHeader::Newer(found))) => return Err(WalError::Version { path, found, known: VERSION }),
                Ok((_, SegmentHeader::Damaged)) => return self.unborn(first, path),
                Err(error) if error.kind() == ErrorKind::NotFound && attempt < VANISHED_MAX => attempt += 1,
                Err(error) => return Err(WalError::io("open", &path)(error)),
            }
        }
    }

    /// The newest segment has no header while another process makes it; elsewhere that is damage.
    fn unborn(&self, first: Lsn, path: PathBuf) -> Result<Option<Position>, WalError> {
        let newest = segment::list(&self.dir)?.last() == Some(&first);
        if newest && matches!(self.mark, Mark::Seen(_)) { Ok(None) } else { Err(WalError::Damaged { path, offset: 0 }) }
    }
}

impl Clone for Reader {
    fn clone(&self) -> Self {
        Self { dir: self.dir.clone(), mark: self.mark.clone(), position: None }
    }
}

// === impl Batch ===

impl Batch {
    fn fill(&mut self, file: &mut SegmentFile) -> io::Result<Ended> {
        loop {
            // What follows the last durable record may be half written: do not even look.
            if self.records.last().is_some_and(|record| record.lsn.following() >= self.below) {
                return Ok(Ended::Enough);
            }
            let step = file.step(|header| {
                let wanted = self.records.is_empty() || header.length as usize <= self.room;
                match header.lsn {
                    lsn if lsn < self.from => Choice::Skip,
                    lsn if lsn < self.below && wanted => Choice::Take,
                    _ => Choice::Leave,
                }
            })?;
            match step {
                Step::Record(header, body) => {
                    self.room = self.room.saturating_sub(body.len());
                    self.records.push(Record {
                        lsn: header.lsn,
                        entry: Entry {
                            signal: header.signal,
                            encoding: header.encoding,
                            compression: header.compression,
                            source: header.source,
                            received_at: header.received_at,
                            body: body.into(),
                        },
                    });
                }
                Step::Skipped => {}
                Step::Left => return Ok(Ended::Enough),
                Step::End => return Ok(Ended::File),
                Step::Bad => return Ok(Ended::Bad),
            }
        }
    }
}
