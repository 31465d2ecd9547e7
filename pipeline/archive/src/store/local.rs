//! Durable files: what is there after a put is there after a loss of power.
//!
//! ```text
//! write NAME#SESSION ─▶ sync its data ─▶ link it to NAME, which fails if NAME exists ─▶ remove NAME#SESSION ─▶ sync the folder
//! ```
//!
//! A listing leaves out names that end in `#` and digits, and so do the patterns of other readers (`*.parquet`).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Put;

/// Separates the name from the session in a temporary name.
const MARK: char = '#';
/// Folders that are remembered as durable; when there are more they are all synced anew.
const MOST_KNOWN: usize = 4096;
/// Another process may remove a folder that is empty at the moment; that can hardly happen again and again.
const ATTEMPTS: usize = 8;

/// A folder with objects.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Folders whose own entry is durable. Filled by syncing their parents, whoever made them: another process may have
    /// made one a moment ago and not synced it yet.
    known: Mutex<HashSet<PathBuf>>,
}

// === impl Folder ===

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, known: Mutex::default() }
    }

    pub(super) fn put<F>(&self, relative: &str, bytes: &[u8], session: u64, step: &F) -> io::Result<Put>
    where
        F: Fn(&'static str) -> io::Result<()>,
    {
        let target = self.root.join(relative);
        let parent = target.parent().unwrap_or(&self.root).to_owned();
        let temporary = self.root.join(format!("{relative}{MARK}{session}"));
        let mut file = self.create(&temporary, &parent)?;
        step("before writing a file")?;
        file.write_all(bytes)?;
        file.sync_data()?;
        drop(file);
        step("before linking a file")?;
        let put = match fs::hard_link(&temporary, &target) {
            Ok(()) => Put::Created,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Put::AlreadyExists,
            Err(error) => return Err(error),
        };
        step("before removing a temporary file")?;
        fs::remove_file(&temporary)?;
        step("before syncing a folder")?;
        // Also when it existed: whoever linked it may not have come to this.
        sync(&parent)?;
        Ok(put)
    }

    fn create(&self, temporary: &Path, parent: &Path) -> io::Result<File> {
        for _ in 1..ATTEMPTS {
            self.make(parent)?;
            match File::create(temporary) {
                Err(error) if error.kind() == ErrorKind::NotFound => self.known().clear(),
                other => return other,
            }
        }
        self.make(parent)?;
        File::create(temporary)
    }

    /// Makes a folder and those above it, each durably.
    fn make(&self, folder: &Path) -> io::Result<()> {
        if self.known().contains(folder) {
            return Ok(());
        }
        // Those below the root are synced even if they are there: their maker may not have come to that.
        let ours = folder.ancestors().take_while(|folder| folder.starts_with(&self.root)).count();
        let made = folder.ancestors().take_while(|folder| !folder.exists()).count();
        fs::create_dir_all(folder)?;
        for inside in folder.ancestors().take(ours.max(made)) {
            inside.parent().map_or(Ok(()), sync)?;
        }
        let mut known = self.known();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(folder.to_owned());
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the folders above a deleted file that are empty, up to the root. One that another process fills at this
    /// moment is not empty, or is made again by it.
    pub(super) fn prune(&self, relative: &str) {
        let target = self.root.join(relative);
        for folder in target.ancestors().skip(1).take_while(|folder| *folder != self.root && folder.starts_with(&self.root)) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
            self.known().remove(folder);
        }
    }

    /// Deletes temporary files whose final path is `own`.
    pub(super) fn sweep<F: Fn(&str) -> bool>(&self, own: &F) -> io::Result<()> {
        let mut open = vec![self.root.clone()];
        while let Some(folder) = open.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(entry.path());
                } else if self.final_path(&entry.path()).is_some_and(|path| own(&path)) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// The path that a temporary file was to get; `None` for other files.
    fn final_path(&self, path: &Path) -> Option<String> {
        let (target, session) = path.strip_prefix(&self.root).ok()?.to_str()?.rsplit_once(MARK)?;
        (!session.is_empty() && session.bytes().all(|byte| byte.is_ascii_digit())).then(|| target.to_owned())
    }
}

#[cfg(unix)]
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Windows cannot sync folders; its journal keeps entries in order.
#[cfg(not(unix))]
fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}
