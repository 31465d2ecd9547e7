//! What a live run keeps, opened: the write-ahead log, the windows that it still owes, and the archive that it is cut into.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::mpsc;
use tracescale_archive::name::WriterName;
use tracescale_archive::streams::Ids;
use tracescale_archive::wal::{self, Entry, Lsn, Recovery, Wal};
use tracescale_archive::{Location, Options, Retention};
use tracescale_documents::storage::{self, Storage};
use tracescale_ingest::decode::Declared;
use tracescale_queries::Engine;

use crate::archiving::{Archiving, Settings};
use crate::clock;
use crate::keep::{Keep, Outbox, Shared};
use crate::logged;
use crate::metrics::Metrics;
use crate::resume::{self, Resumed};
use crate::warning::Troubles;
use crate::windows::KeptWindows;

/// Windows, decisions and alerts that wait for the log: a few seconds' worth of a large installation.
const OWN: usize = 512;
/// The log within the data directory.
const WAL_DIR: &str = "wal";
/// The archive within the data directory, unless it is elsewhere.
const ARCHIVE_DIR: &str = "archive";
/// The file in the log's directory with the name under which its records are archived: another log has another name, so
/// that positions in one are never taken for positions in the other.
const WRITER_FILE: &str = "writer";
/// The file beside it with the position up to which records are archived.
const ARCHIVED_FILE: &str = "archived";
/// Identical requests are recognized for so long: the senders we know give up after five minutes.
const REMEMBER: Duration = Duration::from_secs(300);

/// Everything about keeping, ready to run.
#[derive(Debug)]
pub struct Keeping {
    /// The stage that writes the log.
    pub keep: Keep,
    /// The stage that archives it.
    pub archiving: Archiving,
    /// Where other stages leave records.
    pub outbox: Outbox,
    /// Its other end.
    pub own: mpsc::Receiver<Entry>,
    /// How final windows are kept from here on.
    pub windows: KeptWindows,
}

/// Where a data directory's log is.
#[must_use]
pub fn wal_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(WAL_DIR)
}

/// Where the archive is.
///
/// # Errors
/// When the location cannot be understood.
pub fn location(data_dir: &Path, configured: Option<&str>) -> anyhow::Result<Location> {
    let text = configured.map_or_else(|| data_dir.join(ARCHIVE_DIR).display().to_string(), str::to_owned);
    Ok(Location::parse(&text)?)
}

/// The name under which a log is archived, if it has one.
///
/// # Errors
/// When the file cannot be read, or holds no name.
pub fn writer(wal_dir: &Path) -> anyhow::Result<Option<WriterName>> {
    let path = wal_dir.join(WRITER_FILE);
    match fs::read_to_string(&path) {
        Ok(name) if is_ours(name.trim()) => Ok(Some(WriterName::new(name.trim())?)),
        Ok(name) => bail!(
            "file {}: `{}` is not the name of a log; hint: it is that of a folder in the archive's v1/_log",
            path.display(),
            crate::rows::printable(name.trim(), 40)
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("file {}", path.display())),
    }
}

/// Whether we have given such a name: another one would archive everything a second time.
fn is_ours(name: &str) -> bool {
    name.strip_prefix('w').is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Notes that records below `through` are archived.
///
/// # Errors
/// When the file cannot be written.
pub fn note_archived(wal_dir: &Path, through: u64) -> std::io::Result<()> {
    let temporary = wal_dir.join("archived.new");
    fs::write(&temporary, through.to_string())?;
    fs::File::open(&temporary)?.sync_data()?;
    fs::rename(&temporary, wal_dir.join(ARCHIVED_FILE))
}

/// What was last noted; 0 when nothing was.
fn archived(wal_dir: &Path) -> u64 {
    fs::read_to_string(wal_dir.join(ARCHIVED_FILE)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Opens the log, feeds the engine with what it holds, and prepares the stages. All of them decode requests with `sampling`.
///
/// # Errors
/// When the log or its directory cannot be used, or the archive's location cannot be understood.
pub async fn open(
    data_dir: &Path,
    storage: &Storage,
    sampling: &Declared,
    engine: &mut Engine,
    metrics: &Metrics,
) -> anyhow::Result<Keeping> {
    let dir = wal_dir(data_dir);
    let location = location(data_dir, storage.archive.location.as_deref())?;
    let options = wal_options(storage, engine);
    let opening = dir.clone();
    let (mut wal, recovery) = tokio::task::spawn_blocking(move || Wal::open(&opening, options))
        .await?
        .with_context(|| format!("write-ahead log {}", dir.display()))?;
    tell(&recovery);
    let writer = match writer(&dir)? {
        Some(writer) => writer,
        None => {
            anyhow::ensure!(
                recovery.records == 0,
                "the write-ahead log {} has {} records and no file `{WRITER_FILE}` with the name under which they are archived; hint: \
                 restore it (the name is that of a folder in the archive's v1/_log), or move the log away to begin another",
                dir.display(),
                recovery.records
            );
            name_log(&dir)?
        }
    };
    // A log that lost its newest records, to a power failure say, must not give their numbers to others: those are archived.
    wal.skip_to(Lsn(archived(&dir)))?;
    let resumed = resume::resume(engine, &mut wal.reader(), wal.first(), sampling).await;
    let resumed = resumed.context("resuming from the write-ahead log")?;
    pay(&mut wal, &resumed)?;
    engine.listen(clock::now());
    let shared = Arc::new(Shared::default());
    metrics.keeping(Arc::clone(&shared));
    let (sender, own) = mpsc::channel(OWN);
    let outbox = Outbox::new(sender, Arc::clone(&shared));
    let settings = Settings { sampling: sampling.clone(), ..archive_settings(location, dir, writer, storage)? };
    let archiving = Archiving::new(settings, wal.reader(), Arc::clone(&shared), metrics.clone());
    let answers_first = storage.wal.durability == storage::Durability::None;
    let keep = Keep { wal, answers_first, shared, troubles: Troubles::default() };
    let windows = KeptWindows { outbox: outbox.clone(), fed: resumed.fed, revisions: resumed.revisions };
    Ok(Keeping { keep, archiving, outbox, own, windows })
}

fn wal_options(storage: &Storage, engine: &Engine) -> wal::Options {
    let durability = match storage.wal.durability {
        storage::Durability::Fsync => wal::Durability::Fsync,
        storage::Durability::Os | storage::Durability::None => wal::Durability::Os,
    };
    let budget_bytes = storage.wal.bytes_max as u64;
    let defaults = wal::Options::default();
    // What windows may still need is what is remembered.
    let remember = REMEMBER.max(engine.look_back());
    // A full log must have segments that can be let go.
    let segment_bytes = defaults.segment_bytes.min(budget_bytes / 8);
    wal::Options { durability, budget_bytes, segment_bytes, remember, ..defaults }
}

fn archive_settings(location: Location, wal_dir: PathBuf, writer: WriterName, storage: &Storage) -> anyhow::Result<Settings> {
    let archive = &storage.archive;
    let ids = match archive.ids {
        storage::Ids::Full => Ids::Full,
        storage::Ids::Trace => Ids::Trace,
        storage::Ids::None => Ids::None,
    };
    let retention = Retention { max_age: Some(archive.keep), max_bytes: Some(archive.bytes_max as u64), ..Retention::default() };
    let options = Options::new(writer, random()?);
    Ok(Settings { location, wal_dir, options, ids, every: archive.every, retention, sampling: Declared::default() })
}

/// Gives a new log its name, durably: rows archived under a forgotten name would be archived twice.
fn name_log(dir: &Path) -> anyhow::Result<WriterName> {
    let name = WriterName::new(format!("w{:016x}", random()?))?;
    let path = dir.join(WRITER_FILE);
    let write = || {
        let temporary = dir.join("writer.new");
        fs::write(&temporary, name.as_str())?;
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("file {}", path.display()))?;
    Ok(name)
}

/// Keeps the windows that the last run still owed.
fn pay(wal: &mut Wal, resumed: &Resumed) -> anyhow::Result<()> {
    if resumed.requests > 0 {
        let owed = resumed.owed.len();
        tracing::info!(requests = resumed.requests, items = resumed.items, owed, "windows go on from the write-ahead log");
    }
    let now = clock::now();
    let entries = resumed.owed.iter().map(|(emission, through)| logged::window(emission, *through, now)).collect::<Result<Vec<_>, _>>()?;
    if let Err(error) = wal.append(&entries) {
        anyhow::ensure!(error.is_retryable(), error);
        tracing::error!(%error, windows = entries.len(), "windows of the last run cannot be kept");
    }
    Ok(())
}

fn tell(recovery: &Recovery) {
    if let Some(torn) = &recovery.torn {
        tracing::warn!(%torn, "the write-ahead log was cut where a write had been interrupted");
    }
    for damaged in &recovery.quarantined {
        tracing::error!(%damaged, "a part of the write-ahead log was damaged");
    }
}

fn random() -> anyhow::Result<u64> {
    Ok(getrandom::u64()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what is noted is read, a log's name is recognized, and another text is refused with its file.
    #[test]
    fn the_files_beside_the_log_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!((archived(dir.path()), writer(dir.path()).unwrap()), (0, None));
        note_archived(dir.path(), 41).unwrap();
        note_archived(dir.path(), 42).unwrap();
        assert_eq!(archived(dir.path()), 42);
        let name = name_log(dir.path()).unwrap();
        assert_eq!(writer(dir.path()).unwrap(), Some(name));
        for wrong in ["", "garbage", "w12", "wzzzzzzzzzzzzzzzz"] {
            fs::write(dir.path().join(WRITER_FILE), wrong).unwrap();
            let error = writer(dir.path()).unwrap_err().to_string();
            assert!(error.contains(WRITER_FILE) && error.contains("hint"), "{error}");
        }
    }
}
