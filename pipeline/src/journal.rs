//! Every decision as one JSON line in `decisions-NNNNNN.jsonl`, in files of bounded size and number.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest size of one file, in bytes, before the next is begun.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How many files are kept; the oldest goes first. With [`FILE_BYTES_MAX`] half a gigabyte.
const FILES_MAX: usize = 8;
/// Longest line that is read, in bytes: a record has some thousand, and what is no journal must not fill the memory.
const LINE_MAX: u64 = 1 << 20;

/// The writing side.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// Held as long as we write: lines of two writers would mix.
    _lock: File,
    file: BufWriter<File>,
    number: u64,
    bytes: u64,
    bytes_max: u64,
}

// === impl Journal ===

impl Journal {
    /// Goes on with the newest file in `dir`, which is made when it is absent.
    ///
    /// # Errors
    /// When the directory or file cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Self::with_limit(dir, FILE_BYTES_MAX)
    }

    fn with_limit(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let lock = File::options().create(true).append(true).open(dir.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another tracescale writes there; hint: name another with --data-dir"),
            TryLockError::Error(error) => error,
        })?;
        let number = files(dir)?.last().map_or(1, |(number, _)| *number);
        let file = open(dir, number)?;
        let bytes = file.metadata()?.len();
        let mut journal = Self { dir: dir.to_owned(), _lock: lock, file: BufWriter::new(file), number, bytes, bytes_max };
        if bytes > 0 {
            // The last line may be torn; ours begins on a line of its own.
            journal.file.write_all(b"\n")?;
        }
        Ok(journal)
    }

    /// Appends one record.
    ///
    /// # Errors
    /// When it cannot be written; the journal stays usable, and a later record begins on a line of its own.
    pub fn append<T: Serialize>(&mut self, record: &T) -> io::Result<()> {
        if self.bytes >= self.bytes_max {
            self.rotate()?;
        }
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.bytes += line.len() as u64;
        self.file.write_all(&line)
    }

    /// Hands what is buffered to the operating system.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file = BufWriter::new(open(&self.dir, self.number + 1)?);
        self.number += 1;
        self.bytes = 0;
        let files = files(&self.dir)?;
        for (_, path) in files.iter().take(files.len().saturating_sub(FILES_MAX)) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// The newest record that `wanted` accepts. Lines that cannot be read (a torn last line) are passed over.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn find<T: DeserializeOwned>(dir: &Path, wanted: impl Fn(&T) -> bool) -> io::Result<Option<T>> {
    for (_, path) in files(dir)?.iter().rev() {
        let mut newest = None;
        let _ = lines(path, |line| {
            if let Ok(record) = serde_json::from_slice::<T>(line)
                && wanted(&record)
            {
                newest = Some(record);
            }
        })?;
        if newest.is_some() {
            return Ok(newest);
        }
    }
    Ok(None)
}

/// Every record of a kind, oldest first; records of another kind are passed over. Returns how many lines are no JSON: a process that
/// was killed leaves a torn one.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn each<T: DeserializeOwned>(dir: &Path, mut visit: impl FnMut(T)) -> io::Result<u64> {
    newest(dir, FILES_MAX, &mut visit)
}

/// [`each`] of the newest files, at most so many.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn newest<T: DeserializeOwned>(dir: &Path, most: usize, mut visit: impl FnMut(T)) -> io::Result<u64> {
    let (mut unreadable, files) = (0, files(dir)?);
    for (_, path) in &files[files.len().saturating_sub(most)..] {
        let mut torn = 0;
        let too_long = lines(path, |line| match serde_json::from_slice::<T>(line) {
            Ok(record) => visit(record),
            Err(_) if line.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok() => {}
            Err(_) => torn += 1,
        })?;
        unreadable += torn + too_long;
    }
    Ok(unreadable)
}

/// Shows every line of a file, and returns how many were passed over because they are too long.
fn lines(path: &Path, mut visit: impl FnMut(&[u8])) -> io::Result<u64> {
    let (mut reader, mut line, mut too_long) = (BufReader::new(File::open(path)?), Vec::new(), 0);
    loop {
        line.clear();
        if reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(too_long);
        }
        if line.pop_if(|byte| *byte == b'\n').is_none() && line.len() as u64 == LINE_MAX {
            too_long += 1;
            let _ = reader.skip_until(b'\n')?;
        } else {
            visit(&line);
        }
    }
}

fn open(dir: &Path, number: u64) -> io::Result<File> {
    File::options().create(true).append(true).open(dir.join(format!("decisions-{number:06}.jsonl")))
}

/// The journal's files, oldest first.
fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // What somebody else left under such a name (a folder, a pipe, a link to a device) is none of ours.
        if !entry.file_type()?.is_file() {
            continue;
        }
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let digits = name.and_then(|name| name.strip_prefix("decisions-")?.strip_suffix(".jsonl"));
        let number = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())).and_then(|digits| digits.parse().ok());
        files.extend(number.map(|number| (number, path)));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the newest match is found across files and restarts, and a torn last line harms nothing.
    #[test]
    fn the_newest_match_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for start in [0_u32, 10] {
            let mut journal = Journal::open(dir.path()).unwrap();
            (start..start + 10).for_each(|n| journal.append(&n).unwrap());
            journal.flush().unwrap();
        }
        let (_, last) = files(dir.path()).unwrap().pop().unwrap();
        File::options().append(true).open(last).unwrap().write_all(b"{\"torn").unwrap();
        assert_eq!(find(dir.path(), |n: &u32| n.is_multiple_of(7)).unwrap(), Some(14));
        assert_eq!(find(dir.path(), |n: &u32| *n == 3).unwrap(), Some(3));
        assert_eq!(find(dir.path(), |n: &u32| *n > 99).unwrap(), None);
    }

    /// Guarantees: folders and odd names among the files do no harm.
    #[test]
    fn what_is_no_journal_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("decisions-000000.jsonl")).unwrap();
        fs::create_dir(dir.path().join("decisions-000009.jsonl")).unwrap();
        fs::write(dir.path().join("decisions-+8.jsonl"), "8\n").unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.append(&1_u32).unwrap();
        journal.flush().unwrap();
        let mut seen = Vec::new();
        assert_eq!(newest(dir.path(), 2, |n: u32| seen.push(n)).unwrap(), 0);
        assert_eq!(seen, [1]);
    }

    /// Guarantees: a line without an end takes no more memory than the longest record, and what follows it is read.
    #[test]
    fn endless_lines_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = vec![b'7'; 5 * usize::try_from(LINE_MAX).unwrap()];
        bytes.extend(b"\n8\n");
        bytes.extend(vec![b' '; usize::try_from(LINE_MAX).unwrap() - 1]);
        bytes.extend(b"\n\n9");
        fs::write(dir.path().join("decisions-000001.jsonl"), bytes).unwrap();
        let mut seen = Vec::new();
        assert_eq!(each(dir.path(), |n: u32| seen.push(n)).unwrap(), 2);
        assert_eq!(seen, [8, 9]);
    }

    /// Guarantees: a second writer is turned away while the first one lives.
    #[test]
    fn one_writer_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::open(dir.path()).unwrap();
        assert!(Journal::open(dir.path()).unwrap_err().to_string().contains("--data-dir"));
        drop(first);
        assert!(Journal::open(dir.path()).is_ok());
    }

    /// Guarantees: size and number of files are bounded; the oldest records go first.
    #[test]
    fn the_journal_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::with_limit(dir.path(), 100).unwrap();
        (1000..3000_u32).for_each(|n| journal.append(&n).unwrap());
        journal.flush().unwrap();
        assert!(files(dir.path()).unwrap().len() <= FILES_MAX);
        assert_eq!(find(dir.path(), |n: &u32| *n == 1000).unwrap(), None);
        assert_eq!(find(dir.path(), |n: &u32| *n == 2999).unwrap(), Some(2999));
    }
}
