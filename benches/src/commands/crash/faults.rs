//! What a crash or a careless hand leaves on the disk between two runs. None of it was ever acknowledged.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::SmallRng;

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A write to the log that was interrupted.
    TornTail,
    /// Files that a put into the archive, or the repair of the log, had not finished.
    Leftovers,
    /// A data file of our writer that no commit names.
    Orphan,
}

/// Digits of the sequence in the name of a data file.
const SEQUENCE_DIGITS: usize = 20;
/// Longest torn tail: more than a record's header, less than a small request.
const TAIL_MAX: usize = 400;

// === impl Fault ===

impl Fault {
    pub(super) const ALL: [Self; 3] = [Self::TornTail, Self::Leftovers, Self::Orphan];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::TornTail => "torn tail of the log",
            Self::Leftovers => "temporary files",
            Self::Orphan => "orphaned data file",
        }
    }

    /// Does the damage; `false` when there is nothing yet that it could be done to.
    pub(super) fn inject(self, data: &Path, random: &mut SmallRng) -> Result<bool> {
        match self {
            Self::TornTail => tear(&data.join("wal"), random),
            Self::Leftovers => leave(data, random),
            Self::Orphan => orphan(&data.join("archive"), random),
        }
    }
}

fn tear(wal: &Path, random: &mut SmallRng) -> Result<bool> {
    let segments = files(wal, "wal")?;
    let Some(newest) = segments.iter().max() else { return Ok(false) };
    let mut garbage = vec![0_u8; random.random_range(1..TAIL_MAX)];
    random.fill(garbage.as_mut_slice());
    File::options().append(true).open(newest)?.write_all(&garbage)?;
    Ok(true)
}

fn leave(data: &Path, random: &mut SmallRng) -> Result<bool> {
    let (data_files, segments) = (files(&data.join("archive"), "parquet")?, files(&data.join("wal"), "wal")?);
    let (Some(file), Some(segment)) = (data_files.first(), segments.iter().max()) else { return Ok(false) };
    let mut next = renamed(file, random)?.into_os_string();
    next.push("#17");
    fs::write(next, b"PAR1 and no more")?;
    fs::write(segment.with_extension("wal.repair"), b"half a segment")?;
    Ok(true)
}

fn orphan(archive: &Path, random: &mut SmallRng) -> Result<bool> {
    let data_files = files(archive, "parquet")?;
    if data_files.is_empty() {
        return Ok(false);
    }
    let file = &data_files[random.random_range(0..data_files.len())];
    fs::copy(file, renamed(file, random)?)?;
    Ok(true)
}

/// The name that the same writer would give to a file of a commit far ahead.
fn renamed(file: &Path, random: &mut SmallRng) -> Result<PathBuf> {
    let name = file.file_stem().and_then(OsStr::to_str).context("a data file without a name")?;
    let mut parts = name.rsplitn(3, '-');
    let (index, _, writer) = (parts.next(), parts.next(), parts.next());
    let (index, writer) = index.zip(writer).with_context(|| format!("`{name}` is not named by a writer"))?;
    let sequence = random.random_range(1_000_000..2_000_000_u64);
    Ok(file.with_file_name(format!("{writer}-{sequence:0SEQUENCE_DIGITS$}-{index}.parquet")))
}

/// Every file with this extension, however deep.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension() == Some(OsStr::new(extension)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
