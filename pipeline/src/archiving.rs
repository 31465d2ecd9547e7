//! The archiving stage: cuts the write-ahead log into Parquet files, and keeps the archive in order.
//!
//! It reads nothing but the log, so that a crash changes nothing: what is not committed is read and cut again. When the
//! store of the archive fails, the log grows up to its bound; receiving and deciding go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracescale_archive::wal::{Lsn, Reader, WalError};
use tracescale_archive::{Archive, ArchiveError, Cut, Location, Options, Retention, Store, streams::Ids};
use tracescale_core::time::Timestamp;
use tracescale_ingest::decode::Declared;

use crate::archived::Rows;
use crate::clock;
use crate::keep::Shared;
use crate::keeping;
use crate::metrics::Metrics;
use crate::warning::{Troubles, chain};

/// How often the log is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Rows of one cut, about: with [`CUT_BYTES`] what the stage holds in memory.
const CUT_ROWS: usize = 1 << 18;
/// Bytes of one cut's rows in memory, about.
const CUT_BYTES: usize = 128 << 20;
/// Bytes of bodies read at once.
const READ_BYTES: usize = 2 << 20;
/// Bytes in the log that are cut before their time.
const EARLY_BYTES: u64 = 24 << 20;
/// How often old hours are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);
/// How often an idle stage looks whether the archive is still there.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// Shortest pause after a failure of the store; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause after a failure of the store.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the stage is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the archive is.
    pub location: Location,
    /// Where the log is.
    pub wal_dir: PathBuf,
    /// How its files are named and merged.
    pub options: Options,
    /// Which ids are kept.
    pub ids: Ids,
    /// How long rows wait in the log.
    pub every: Duration,
    /// What is kept.
    pub retention: Retention,
    /// What is declared of spans that do not state their sampling.
    pub sampling: Declared,
}

/// The stage's parts.
#[derive(Debug)]
pub struct Archiving {
    settings: Settings,
    log: Reader,
    shared: Arc<Shared>,
    metrics: Metrics,
    archive: Option<Archive>,
    troubles: Troubles<&'static str>,
    pause: Duration,
    /// When records began to wait.
    waiting: Option<Timestamp>,
    /// What was appended when the last cut was made.
    cut_bytes: u64,
    expired: Timestamp,
    /// When the archive was last seen to be there.
    checked: Timestamp,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    /// The archive's store, or another writer.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The archive is not where it was, or not as it was.
    #[error("the archive is not there any more; hint: bring its folder or disk back, or restart to begin another")]
    Gone(#[source] ArchiveError),
    /// The log.
    #[error("the write-ahead log cannot be read")]
    Log(#[from] WalError),
    /// The archive covers more than the log has ever had.
    #[error(
        "the archive {location} has this writer's log up to record {through}, but the log ends at {end}; hint: the log in the data directory is an older copy: move it away, and a new one begins"
    )]
    OlderLog {
        /// Where the archive is.
        location: Location,
        /// What it covers.
        through: u64,
        /// Where the log ends.
        end: u64,
    },
}

/// How a look at the log ended.
enum Progress {
    /// There is more to do now.
    More,
    /// Everything is done for now.
    Idle,
}

// === impl Archiving ===

impl Archiving {
    /// A stage that has not looked at anything yet.
    #[must_use]
    pub fn new(settings: Settings, log: Reader, shared: Arc<Shared>, metrics: Metrics) -> Self {
        Self {
            settings,
            log,
            shared,
            metrics,
            archive: None,
            troubles: Troubles::default(),
            pause: PAUSE_MIN,
            waiting: None,
            cut_bytes: 0,
            expired: Timestamp::MIN,
            checked: Timestamp::MIN,
        }
    }

    /// Runs until `stop`, and then until everything in the log is archived, or the store fails.
    ///
    /// # Errors
    /// When another process writes under our name, or the log is not that of the archive: going on would lose rows.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            let stopping = stop.is_cancelled();
            match self.step(clock::now(), stopping).await {
                Ok(Progress::More) => {}
                Ok(Progress::Idle) if stopping => return Ok(()),
                Ok(Progress::Idle) => wait(TICK, &stop).await,
                Err(error) if is_final(&error) => return Err(error.into()),
                Err(error) => {
                    self.failed(&error);
                    if stopping {
                        // The log has it; the next run goes on.
                        return Ok(());
                    }
                    wait(self.pause, &stop).await;
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    fn failed(&mut self, error: &StepError) {
        self.metrics.archive_failed();
        if let Some(times) = self.troubles.wrong(clock::now(), "archive", &chain(error), 1) {
            tracing::error!(error = %chain(error), times, "the archive cannot be written; the write-ahead log keeps what waits");
        }
    }

    async fn step(&mut self, now: Timestamp, all: bool) -> Result<Progress, StepError> {
        let through = self.open(now).await?;
        let is_due = self.log.durable() > through && self.is_due(now, all);
        if let Some(archive) = &self.archive
            && (is_due || now < self.checked || now.since(self.checked) >= CHECK_EVERY)
        {
            archive.check_present().await.map_err(StepError::Gone)?;
            self.checked = now;
        }
        if is_due {
            let done = self.cut(through, now).await?;
            self.recovered(now);
            return Ok(if done { Progress::Idle } else { Progress::More });
        }
        let Some(archive) = &mut self.archive else { return Ok(Progress::Idle) };
        if all {
            return Ok(Progress::Idle);
        }
        let compacted = archive.compact(now).await?;
        if now.since(self.expired) >= EXPIRE_EVERY {
            self.expired = now;
            let expired = archive.expire(now, &self.settings.retention).await?;
            if expired.files > 0 {
                tracing::info!(files = expired.files, rows = expired.rows, bytes = expired.bytes, "old hours left the archive");
            }
        }
        self.recovered(now);
        Ok(if compacted.more { Progress::More } else { Progress::Idle })
    }

    /// Opens the archive, or finds out what became of a cut that failed half-way. Returns the position that is archived.
    async fn open(&mut self, now: Timestamp) -> Result<Lsn, StepError> {
        let through = match &mut self.archive {
            Some(archive) => archive.settle(now).await?,
            None => {
                let store = Store::open(&self.settings.location)?;
                let archive = Archive::open(store, self.settings.options.clone(), now).await?;
                let (through, end) = (archive.through(), self.log.durable().0);
                if through > end {
                    return Err(StepError::OlderLog { location: self.settings.location.clone(), through, end });
                }
                self.archive = Some(archive);
                through
            }
        };
        self.shared.archived.store(through, Ordering::Relaxed);
        Ok(Lsn(through.max(1)))
    }

    fn is_due(&mut self, now: Timestamp, all: bool) -> bool {
        let since = *self.waiting.get_or_insert(now);
        let bytes = self.shared.appended_bytes.load(Ordering::Relaxed) - self.cut_bytes;
        // A clock that went back must not hold anything up.
        all || now < since || now.since(since) >= self.settings.every || bytes >= EARLY_BYTES
    }

    /// Archives what is in the log from `from` on, as much as one cut takes. True when nothing is left.
    async fn cut(&mut self, from: Lsn, now: Timestamp) -> Result<bool, StepError> {
        let appended = self.shared.appended_bytes.load(Ordering::Relaxed);
        let (mut rows, mut next, mut read_all) = (Rows::default(), from, false);
        while rows.count() < CUT_ROWS && rows.bytes() < CUT_BYTES {
            let records = self.log.read(next, READ_BYTES)?;
            let Some(last) = records.last() else {
                read_all = true;
                break;
            };
            next = Lsn(last.lsn.0 + 1);
            for record in &records {
                if let Err(error) = rows.take(&record.entry, &self.settings.sampling) {
                    self.metrics.record_unreadable();
                    tracing::error!(lsn = record.lsn.0, error = %chain(&error), "a record of the write-ahead log cannot be archived");
                }
            }
        }
        let count = rows.count();
        let cut = Cut { through: next.0, tables: rows.into_cut(self.settings.ids), ..Cut::default() };
        if let Some(archive) = &mut self.archive {
            let committed = archive.commit(cut, now).await?;
            let bytes = committed.added.iter().map(|file| file.bytes).sum();
            self.metrics.archived(count as u64, committed.added.len() as u64, bytes);
            self.shared.archived.store(archive.through(), Ordering::Relaxed);
            // Where it cannot be written, a log that loses its end later is refused instead of gone on with.
            if let Err(error) = keeping::note_archived(&self.settings.wal_dir, archive.through()) {
                tracing::warn!(%error, "cannot note what is archived");
            }
        }
        if read_all {
            self.waiting = None;
            self.cut_bytes = appended;
        }
        Ok(read_all)
    }

    fn recovered(&mut self, now: Timestamp) {
        self.pause = PAUSE_MIN;
        if self.troubles.right(now, &"archive") {
            tracing::info!("the archive can be written again");
        }
    }
}

/// Whether going on would lose rows or write over those of others.
fn is_final(error: &StepError) -> bool {
    matches!(error, StepError::Archive(ArchiveError::Fenced { .. }) | StepError::OlderLog { .. })
}

async fn wait(pause: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}
