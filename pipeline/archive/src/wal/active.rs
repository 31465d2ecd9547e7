//! The segment that is written to.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tracescale_core::time::Timestamp;

use super::format::{SEGMENT_HEADER, SegmentHeader};
use super::recovery::Sealed;
use super::segment::{self, sync_dir};
use super::{Durability, Lsn, WalError};

/// The newest segment, open for writing.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) first: Lsn,
    /// Where the last good group ends.
    pub(super) end: u64,
    /// The newest time of a record.
    pub(super) newest: Option<Timestamp>,
    path: PathBuf,
    file: File,
    /// Whether part of a failed group may still stand behind `end`.
    leftover: bool,
    sealed: bool,
}

// === impl Active ===

impl Active {
    /// Makes a new segment, durable if its records are to be. One of the same name holds no record and is overwritten: a crash or
    /// a full disk left it behind.
    pub(super) fn create(dir: &Path, first: Lsn, durability: Durability) -> Result<Self, WalError> {
        let path = segment::path(dir, first);
        let write = || {
            let mut file = File::options().write(true).create(true).truncate(true).open(&path)?;
            file.write_all(&SegmentHeader::encode(first))?;
            Ok(file)
        };
        let file = write().map_err(|error| {
            // Best effort: what cannot be removed is overwritten by the next attempt.
            let _ = fs::remove_file(&path);
            WalError::io("create", &path)(error)
        })?;
        persist(dir, &path, &file, durability)?;
        Ok(Self { first, end: SEGMENT_HEADER as u64, newest: None, path, file, leftover: false, sealed: false })
    }

    /// Goes on with a segment; cuts off what stands behind its end, and makes the rest durable if it is to be: a process that was
    /// killed may have left it to the operating system.
    pub(super) fn resume(dir: &Path, segment: Sealed, durability: Durability) -> Result<Self, WalError> {
        let Sealed { first, bytes: end, newest } = segment;
        let path = segment::path(dir, first);
        let file = File::options().write(true).open(&path).map_err(WalError::io("open", &path))?;
        let mut active = Self { first, end, newest, path, file, leftover: true, sealed: false };
        active.clear_leftover()?;
        persist(dir, &active.path, &active.file, durability)?;
        Ok(active)
    }

    /// Whether it holds any record.
    pub(super) const fn is_empty(&self) -> bool {
        self.end == SEGMENT_HEADER as u64
    }

    /// Writes a group behind the last one. When that fails the segment is as it was before, or will be before the next group.
    pub(super) fn write(&mut self, group: &[u8]) -> Result<(), WalError> {
        self.clear_leftover()?;
        if let Err(error) = self.file.write_all(group) {
            self.leftover = true;
            // Most often it works at once, which keeps readers from seeing half a group. If not, the next write tries again.
            let _ = self.clear_leftover();
            return Err(WalError::io("write", &self.path)(error));
        }
        self.end += group.len() as u64;
        Ok(())
    }

    /// Makes everything written durable.
    pub(super) fn sync(&self) -> Result<(), WalError> {
        self.file.sync_data().map_err(poisoned(&self.path))
    }

    /// Makes it fit to be followed by another segment. Nothing may be written to it afterwards, even if that other segment cannot
    /// be made: what is left of the attempt may come back after a crash, and a segment ends where the next one begins.
    pub(super) fn seal(&mut self) -> Result<(), WalError> {
        self.clear_leftover()?;
        self.sync()?;
        self.sealed = true;
        Ok(())
    }

    /// Whether another segment must follow before anything more is written.
    pub(super) const fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Writes to a device from here on that takes all and can sync nothing.
    #[cfg(test)]
    pub(super) fn break_syncing(&mut self) {
        self.file = File::options().write(true).open("/dev/null").unwrap();
    }

    fn clear_leftover(&mut self) -> Result<(), WalError> {
        if !self.leftover {
            return Ok(());
        }
        let clear = |file: &mut File| -> io::Result<()> {
            file.set_len(self.end)?;
            file.seek(SeekFrom::Start(self.end)).map(drop)
        };
        clear(&mut self.file).map_err(WalError::io("cut", &self.path))?;
        self.leftover = false;
        Ok(())
    }
}

/// Makes a file and its name durable.
fn persist(dir: &Path, path: &Path, file: &File, durability: Durability) -> Result<(), WalError> {
    if durability == Durability::Fsync {
        file.sync_all().map_err(poisoned(path))?;
        sync_dir(dir).map_err(poisoned(dir))?;
    }
    Ok(())
}

/// For `map_err`: an error of syncing, which is final. The system may have dropped what it could not write and then say that
/// all is well, so trying again would prove nothing.
fn poisoned(path: &Path) -> impl FnOnce(io::Error) -> WalError {
    let path = path.to_owned();
    move |error| WalError::Poisoned { path, cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a write that fails and cannot even be taken back is taken back before the next one.
    #[test]
    fn a_leftover_is_removed_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut active = Active::create(dir.path(), Lsn(1), Durability::Fsync).unwrap();
        active.write(b"first").unwrap();
        // The device refuses to be written to for want of space, and refuses to be cut.
        let file = std::mem::replace(&mut active.file, File::options().write(true).open("/dev/full").unwrap());
        assert!(active.write(b"second").unwrap_err().is_retryable());
        assert!(active.leftover);
        let refused = active.write(b"second").unwrap_err();
        assert!(matches!(refused, WalError::Io { action: "cut", .. }), "{refused:?}");

        active.file = file;
        active.file.write_all(b"half of what fai").unwrap();
        active.write(b"third").unwrap();
        active.sync().unwrap();
        let bytes = fs::read(&active.path).unwrap();
        assert_eq!(&bytes[SEGMENT_HEADER..], b"firstthird");
    }

    /// Guarantees: an error of syncing is told as final, not as a lack of space.
    #[test]
    fn a_failed_sync_is_final() {
        let dir = tempfile::tempdir().unwrap();
        let mut active = Active::create(dir.path(), Lsn(1), Durability::Fsync).unwrap();
        active.break_syncing();
        active.write(b"group").unwrap();
        let error = active.sync().unwrap_err();
        assert!(matches!(&error, WalError::Poisoned { path, .. } if *path == active.path), "{error:?}");
        assert!(!error.is_retryable());
    }
}
