//! The write-ahead log: an accepted export request is here before its sender hears so.
//!
//! It keeps the bodies as they came, mostly compressed: writing one costs a copy and a checksum, and decoding them again costs
//! something only after a crash. One thread owns the [`Wal`]. It takes all requests that wait, hands them to [`Wal::append`] as one
//! group, and acknowledges them when that returns. While one group is synced the next one gathers, so that the cost of
//! syncing is shared by more requests the busier it is.
//!
//! # What an acknowledgement is worth
//!
//! | event                         | [`Durability::Fsync`]     | [`Durability::Os`]                                     |
//! |-------------------------------|---------------------------|--------------------------------------------------------|
//! | the process dies (`kill -9`)  | nothing is lost           | nothing is lost                                        |
//! | the machine dies              | nothing is lost           | what the system had not written out, about 30 seconds  |
//! | the disk is full              | refused, retryable        | refused, retryable                                     |
//! | the disk fails to sync        | refused, the log stops    | the same, where a segment ends                         |
//! | bytes rot                     | their records are lost    | their records are lost                                 |
//!
//! *Refused* means that no record of the group is acknowledged or shown to a [`Reader`]. A group of which a part was
//! written when the process died may come back in part: nobody was told anything about it, and the repetitions of its
//! requests are recognised as [`Appended::Duplicate`].
//!
//! *Stops* means that every further append fails until the log is opened anew. After a failed sync the system may have dropped
//! the data and report success the next time, so nothing that follows could be believed.
//!
//! # Numbers
//!
//! Records are numbered 1, 2, 3, … without gaps, except where damaged ones were given up. Opening a log that lost its newest
//! records (to a power failure under [`Durability::Os`], or to a disk) would give their numbers to new ones. Whoever keeps a number to
//! go on from, such as the archive's commits, therefore calls [`Wal::skip_to`] with it before it appends.
//!
//! # Room
//!
//! The log never deletes a record by itself, not even when it is full: [`Wal::release`] does, told what was archived.
//! Segments are kept a while longer than that for the fingerprints of their records, so that a restart does not forget
//! them, but only while the log takes less than half of its budget.

mod active;
mod duplicates;
mod error;
mod format;
mod reader;
mod recovery;
mod scan;
mod segment;

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracescale_core::time::Timestamp;

use active::Active;
use duplicates::{Duplicates, Fingerprint, fingerprint};
pub use error::WalError;
pub use format::MAX_BODY;
use format::encode_record;
pub use reader::Reader;
use recovery::Sealed;
pub use recovery::{Quarantined, Recovery, Torn};

/// The file that a writer locks.
const LOCK: &str = "lock";
/// A buffer larger than this is given back after the group that needed it, in bytes.
const BUFFER_KEPT: usize = 8 << 20;

/// When a group counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the disk has it (`fdatasync`): survives a power failure.
    #[default]
    Fsync,
    /// When the operating system has it: survives the death of the process, not of the machine.
    Os,
}

/// How a log behaves. None of it is kept in the files; each opening may choose anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// When a group counts as written.
    pub durability: Durability,
    /// A segment that would grow beyond this is closed and another begun, in bytes. A single larger group still gets written.
    pub segment_bytes: u64,
    /// Most bytes that all segments take; beginning a segment may exceed it by a header of 24 bytes.
    pub budget_bytes: u64,
    /// How long an identical body is recognised; zero for not at all.
    pub remember: Duration,
    /// Most bodies that are recognised, the latest ones. Each takes about 60 bytes of memory.
    pub remember_max: usize,
}

/// A request as it was received. The log gives no meaning to the three tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which signal it carries.
    pub signal: u8,
    /// How it is encoded.
    pub encoding: u8,
    /// How it is compressed.
    pub compression: u8,
    /// Who sent it. An IPv4 address that is mapped into IPv6 is read back as what it stands for.
    pub source: IpAddr,
    /// When it arrived. May run backwards.
    pub received_at: Timestamp,
    /// The body as received; at most [`MAX_BODY`] bytes.
    pub body: Bytes,
}

/// The number of a record in the log. The first is 1, and none is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

/// A request in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub lsn: Lsn,
    /// The request.
    pub entry: Entry,
}

/// What became of a request. Either way it can be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It has this number.
    New(Lsn),
    /// The log has the same body already: its sender repeats itself.
    Duplicate,
}

/// The writer. There is one per directory.
#[derive(Debug)]
pub struct Wal {
    dir: PathBuf,
    options: Options,
    /// Closed segments, oldest first.
    sealed: VecDeque<Sealed>,
    sealed_bytes: u64,
    active: Active,
    next: Lsn,
    /// One past the last durable record, for readers.
    durable: Arc<AtomicU64>,
    duplicates: Duplicates,
    /// The group that is being written.
    buffer: Vec<u8>,
    /// What could not be synced, and why.
    poisoned: Option<(PathBuf, String)>,
    _lock: Lock,
}

/// A locked file.
#[derive(Debug)]
struct Lock(File);

/// A group that lies in the buffer.
struct Group {
    appended: Vec<Appended>,
    fingerprints: Vec<Fingerprint>,
    next: Lsn,
    newest: Option<Timestamp>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            segment_bytes: 64 << 20,
            budget_bytes: 4 << 30,
            // The Go and Java senders give up after five minutes.
            remember: Duration::from_secs(300),
            // 1700 requests per second for five minutes, in about 30 MB.
            remember_max: 1 << 19,
        }
    }
}

// === impl Lsn ===

impl Lsn {
    /// The number of the first record of all.
    pub const FIRST: Self = Self(1);

    /// The number after this one: where to read on behind a record.
    #[must_use]
    pub const fn following(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Wal ===

impl Wal {
    /// Opens the log in `dir`, and makes one if there is none. Reads all of it, repairs what is damaged and reports that.
    ///
    /// # Errors
    /// When another writer has it, a segment is of a later version, the options contradict each other, or the disk fails.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovery), WalError> {
        if options.segment_bytes > options.budget_bytes {
            return Err(WalError::Options { segment: options.segment_bytes, budget: options.budget_bytes });
        }
        make_dir(dir)?;
        let lock = lock(dir)?;
        let mut duplicates = Duplicates::new(options.remember, options.remember_max);
        let recovered = recovery::recover(dir, options.durability, &mut duplicates)?;
        let wal = Self {
            dir: dir.to_owned(),
            options,
            sealed_bytes: recovered.sealed.iter().map(|segment| segment.bytes).sum(),
            sealed: recovered.sealed.into(),
            active: recovered.active,
            next: recovered.report.next,
            durable: Arc::new(AtomicU64::new(recovered.report.next.0)),
            duplicates,
            buffer: Vec::new(),
            poisoned: None,
            _lock: lock,
        };
        Ok((wal, recovered.report))
    }

    /// Writes a group: when this returns all of it is as durable as [`Options::durability`] says, or none of it was written. One
    /// result per entry, in their order.
    ///
    /// # Errors
    /// When there is no room (see [`WalError::is_retryable`]), a body is too long, or the disk fails. The log stays usable except
    /// after [`WalError::Poisoned`].
    pub fn append(&mut self, entries: &[Entry]) -> Result<Vec<Appended>, WalError> {
        self.refuse_if_poisoned()?;
        let lengths = entries.iter().map(Entry::length).collect::<Result<Vec<_>, _>>()?;
        if u64::MAX - self.next.0 <= entries.len() as u64 {
            return Err(WalError::Exhausted(self.next));
        }
        let group = self.stage(entries, &lengths);
        let written = if self.buffer.is_empty() { Ok(()) } else { self.commit() };
        self.buffer.clear();
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        if let Err(error) = written {
            self.duplicates.withdraw(&group.fingerprints);
            return Err(self.remember_poison(error));
        }
        self.duplicates.keep(&group.fingerprints);
        self.active.newest = self.active.newest.max(group.newest);
        self.next = group.next;
        self.durable.store(group.next.0, Ordering::Release);
        Ok(group.appended)
    }

    /// Deletes the oldest segments of which every record is below `below`, and older than [`Options::remember`] at `now` (or at
    /// the newest time seen, if that is later) unless more than half of the budget is taken. Returns the bytes freed.
    ///
    /// # Errors
    /// When a file cannot be deleted. Those before it are.
    pub fn release(&mut self, below: Lsn, now: Timestamp) -> Result<u64, WalError> {
        let now = now.max(self.duplicates.newest());
        let mut freed = 0;
        while let Some(oldest) = self.sealed.front().copied() {
            let end = self.sealed.get(1).map_or(self.active.first, |second| second.first);
            let young = oldest.newest.is_some_and(|newest| now.since(newest) < self.options.remember);
            let crowded = self.bytes() > self.options.budget_bytes / 2;
            if end > below || (young && !crowded) {
                break;
            }
            let path = segment::path(&self.dir, oldest.first);
            // No sync of the directory: a file that a power failure brings back is released again.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(WalError::io("delete", &path)(error)),
                _ => {}
            }
            self.sealed.pop_front();
            self.sealed_bytes -= oldest.bytes;
            freed += oldest.bytes;
        }
        Ok(freed)
    }

    /// Gives no number below `lsn` to any record from here on. Does nothing if none would be given anyway.
    ///
    /// # Errors
    /// As [`Wal::append`]; the numbers are skipped all the same, but a restart would not know.
    pub fn skip_to(&mut self, lsn: Lsn) -> Result<(), WalError> {
        if lsn <= self.next {
            return Ok(());
        }
        self.refuse_if_poisoned()?;
        self.next = lsn;
        self.rotate().map_err(|error| self.remember_poison(error))?;
        self.durable.store(lsn.0, Ordering::Release);
        Ok(())
    }

    /// A reader that sees every record as soon as it is durable. It can go to another thread, and outlive the writer.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::shared(&self.dir, Arc::clone(&self.durable))
    }

    /// The number of the next record.
    #[must_use]
    pub const fn next(&self) -> Lsn {
        self.next
    }

    /// No record below this is there.
    #[must_use]
    pub fn first(&self) -> Lsn {
        self.sealed.front().map_or(self.active.first, |oldest| oldest.first)
    }

    /// Bytes that all segments take.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.sealed_bytes + self.active.end
    }

    /// Puts what is new of `entries` into the buffer.
    fn stage(&mut self, entries: &[Entry], lengths: &[u32]) -> Group {
        let newest = entries.iter().map(|entry| entry.received_at).max();
        if let Some(newest) = newest {
            self.duplicates.advance(newest);
        }
        let mut group = Group { appended: Vec::with_capacity(entries.len()), fingerprints: Vec::new(), next: self.next, newest: None };
        for (entry, length) in entries.iter().zip(lengths) {
            let fingerprint = fingerprint(entry.signal, entry.encoding, entry.compression, &entry.body);
            if !self.duplicates.stage(fingerprint) {
                group.appended.push(Appended::Duplicate);
                continue;
            }
            encode_record(&mut self.buffer, group.next, entry, *length);
            group.appended.push(Appended::New(group.next));
            group.fingerprints.push(fingerprint);
            group.newest = group.newest.max(Some(entry.received_at));
            group.next = group.next.following();
        }
        group
    }

    /// Writes the buffer.
    fn commit(&mut self) -> Result<(), WalError> {
        let needed = self.buffer.len() as u64;
        // Before the budget is looked at: a segment that is not written to any more can be released, which may be all it takes.
        let full = self.active.end + needed > self.options.segment_bytes && !self.active.is_empty();
        if full || self.active.is_sealed() {
            self.rotate()?;
        }
        let (budget, used) = (self.options.budget_bytes, self.bytes());
        if used.saturating_add(needed) > budget {
            return Err(WalError::Budget { budget, used, needed });
        }
        self.active.write(&self.buffer)?;
        match self.options.durability {
            Durability::Fsync => self.active.sync(),
            Durability::Os => Ok(()),
        }
    }

    /// Closes the segment that is written to and begins the next one.
    fn rotate(&mut self) -> Result<(), WalError> {
        self.active.seal()?;
        let active = Active::create(&self.dir, self.next, self.options.durability)?;
        let Active { first, end: bytes, newest, .. } = std::mem::replace(&mut self.active, active);
        self.sealed.push_back(Sealed { first, bytes, newest });
        self.sealed_bytes += bytes;
        Ok(())
    }

    fn refuse_if_poisoned(&self) -> Result<(), WalError> {
        let poisoned = |(path, cause): &(PathBuf, String)| Err(WalError::Poisoned { path: path.clone(), cause: cause.clone() });
        self.poisoned.as_ref().map_or(Ok(()), poisoned)
    }

    fn remember_poison(&mut self, error: WalError) -> WalError {
        if let WalError::Poisoned { path, cause } = &error {
            self.poisoned = Some((path.clone(), cause.clone()));
        }
        error
    }
}

// === impl Entry ===

impl Entry {
    fn length(&self) -> Result<u32, WalError> {
        let bytes = self.body.len();
        let fits = u32::try_from(bytes).ok().filter(|_| bytes <= MAX_BODY);
        fits.ok_or(WalError::TooLarge { bytes, limit: MAX_BODY })
    }
}

/// Makes a directory and what is missing above it, durably.
fn make_dir(dir: &Path) -> Result<(), WalError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    fs::create_dir_all(dir).map_err(WalError::io("create", dir))?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        segment::sync_dir(parent).map_err(WalError::io("sync", parent))?;
    }
    Ok(())
}

// === impl Lock ===

impl Drop for Lock {
    /// Closing would do, were it not for other threads: a process that one of them is just starting has a copy of every open
    /// file for a moment, and would keep the lock.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn lock(dir: &Path) -> Result<Lock, WalError> {
    let path = dir.join(LOCK);
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(WalError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(WalError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(WalError::io("lock", &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &'static [u8]) -> Entry {
        let source = IpAddr::from([127, 0, 0, 1]);
        Entry { signal: 0, encoding: 0, compression: 0, source, received_at: Timestamp::EPOCH, body: Bytes::from_static(body) }
    }

    /// Guarantees: after a failed sync nothing is acknowledged any more, nothing unsynced is shown to readers, and a repetition
    /// is not taken for a duplicate of what may be lost.
    #[test]
    fn a_failed_sync_stops_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = Wal::open(dir.path(), Options::default()).unwrap();
        assert_eq!(wal.append(&[entry(b"one")]).unwrap(), [Appended::New(Lsn(1))]);
        wal.active.break_syncing();
        for body in [b"two".as_slice(), b"two", b"one", b"three"] {
            let error = wal.append(&[entry(body)]).unwrap_err();
            assert!(matches!(error, WalError::Poisoned { .. }), "{error:?}");
        }
        assert!(matches!(wal.skip_to(Lsn(9)).unwrap_err(), WalError::Poisoned { .. }));
        assert_eq!((wal.next(), wal.reader().durable()), (Lsn(2), Lsn(2)));
        assert_eq!(wal.reader().read(Lsn(1), 100).unwrap().len(), 1);
    }

    /// Guarantees: numbers are not given twice even at their end.
    #[test]
    fn numbers_do_not_wrap() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = Wal::open(dir.path(), Options::default()).unwrap();
        wal.skip_to(Lsn(u64::MAX - 1)).unwrap();
        assert!(matches!(wal.append(&[entry(b"one")]).unwrap_err(), WalError::Exhausted(_)));
        assert_eq!(wal.next(), Lsn(u64::MAX - 1));
    }
}
