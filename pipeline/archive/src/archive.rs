//! The writer's side of the archive: cuts, and the order of steps that makes each of them all or nothing.
//!
//! ```text
//! encode ─▶ put every file ─▶ put the record ─▶ (checkpoint) ─▶ delete what earlier commits removed
//!                             ▲
//!                             the commit: before it readers see none of the files, after it all of them
//! ```
//!
//! **Who may write.** One process per writer name. Its first step is an `open` record: it takes the next sequence,
//! so that whatever an earlier process (or a request of it that is still on its way) wants to commit there is refused. Only
//! then files that no record names are known to be orphans, and are deleted. Files and logs of other writers are not touched.
//!
//! **When a step fails** it is not known whether the record is there. The archive then refuses to go on until
//! [`Archive::settle`] has found out, by taking the same sequence itself: either it gets it, and the commit will never be
//! there, or the commit is there already.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use serde_json::Value;
use tracescale_core::time::Timestamp;

use crate::chain::{self, Listing};
use crate::compact::Compaction;
use crate::encode::{EncodedFile, Hours, Origin, encode};
use crate::error::ArchiveError;
use crate::file::{FileMeta, Version, VersionId};
use crate::name::{FileName, WriterName};
use crate::record::{Cause, Cursor, Entry, FORMAT, LAYOUT, Record, State, file_name, log_folder, logs, print};
use crate::store::{Put, Store};
use crate::table::Table;

/// Another process that opens at the same moment may take the sequence that we are about to take.
const OPEN_ATTEMPTS: usize = 5;
/// Records stay for so long after a checkpoint made them superfluous: a process that was suspended must find its sequence
/// taken when it wakes up.
const LOG_KEPT: Duration = Duration::from_secs(24 * 3600);
/// After a pause this long that is checked first; well below the above.
const LONG_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// How an archive is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose name files and log bear.
    pub writer: WriterName,
    /// A number that no other run of this writer has, for example a random one: it tells a record of our own, which a lost
    /// answer made doubtful, from one of another process.
    pub session: u64,
    /// Which hours a cut may have.
    pub hours: Hours,
    /// When and how files are merged.
    pub compaction: Compaction,
    /// How long removed files stay: longer than the longest query.
    pub delete_after: Duration,
    /// Commits per checkpoint.
    pub checkpoint_every: u64,
}

/// What is to be archived at once.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    /// The position in the write-ahead log, exclusive, that is covered when the cut is there.
    pub through: u64,
    /// Cursors of the caller that are to be there exactly when the rows are. They replace those of earlier cuts.
    pub marks: BTreeMap<String, Value>,
    /// Rows by table; a table occurs once.
    pub tables: Vec<(Arc<Table>, Vec<RecordBatch>)>,
}

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Committed {
    /// The commit; `None` when there was nothing to commit.
    pub sequence: Option<u64>,
    /// The files that it added.
    pub added: Vec<FileMeta>,
}

/// An archive that is open for writing.
#[derive(Debug)]
pub struct Archive {
    pub(crate) store: Store,
    pub(crate) options: Options,
    pub(crate) state: State,
    /// A commit that may or may not be there.
    pending: Option<Pending>,
    fenced: Option<String>,
    /// Files of commits that will never be there.
    orphans: BTreeSet<String>,
    /// Removed files that are deleted, which the next record is to say.
    deleted: BTreeSet<String>,
    /// Checkpoints, oldest first, and since when they are known.
    checkpoints: Vec<(u64, Timestamp)>,
    last_put: Timestamp,
}

/// What was about to be put under the next sequence.
#[derive(Debug, Default)]
struct Pending {
    candidates: Vec<(Record, Bytes)>,
    files: Vec<String>,
}

/// What a commit is to say.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) cause: Cause,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) versions: Vec<Version>,
    pub(crate) remove: BTreeSet<String>,
}

// === impl Options ===

impl Options {
    /// Defaults for a writer.
    #[must_use]
    pub fn new(writer: WriterName, session: u64) -> Self {
        Self {
            writer,
            session,
            hours: Hours::default(),
            compaction: Compaction::default(),
            delete_after: Duration::from_secs(60),
            checkpoint_every: 64,
        }
    }
}

// === impl Archive ===

impl Archive {
    /// Takes a writer's part of the archive over: reads its log, shuts out any earlier process of that name, and deletes
    /// what a crash left behind.
    ///
    /// # Errors
    /// When the store fails or overwrites, or the log cannot be read.
    pub async fn open(store: Store, options: Options, now: Timestamp) -> Result<Self, ArchiveError> {
        store.probe(&format!("{}/probe-{}", log_folder(&options.writer), options.session)).await?;
        let listing = Listing::read(&store, &options.writer).await?;
        let checkpoints = listing.checkpoints().map(|sequence| (sequence, now)).collect();
        let state = chain::read(&store, &options.writer, None, listing).await?;
        let mut archive = Self {
            store,
            options,
            state,
            pending: None,
            fenced: None,
            orphans: BTreeSet::new(),
            deleted: BTreeSet::new(),
            checkpoints,
            last_put: now,
        };
        archive.take_over(now).await?;
        archive.find_orphans().await?;
        archive.sweep(now).await?;
        Ok(archive)
    }

    /// The position in the write-ahead log, exclusive, that is covered.
    #[must_use]
    pub const fn through(&self) -> u64 {
        self.state.cursor.through
    }

    /// The cursors of the last cut.
    #[must_use]
    pub const fn marks(&self) -> &BTreeMap<String, Value> {
        &self.state.cursor.marks
    }

    /// The last commit.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.state.sequence
    }

    /// This writer's files.
    pub fn files(&self) -> impl Iterator<Item = &FileMeta> {
        self.state.files.values()
    }

    /// Checks that the archive is still there: a folder whose disk went away, or that somebody moved, must not be begun anew
    /// behind what was committed to the old one.
    ///
    /// # Errors
    /// When the last record of our log is gone, or the store fails. Nothing was changed.
    pub async fn check_present(&self) -> Result<(), ArchiveError> {
        let path = Entry::Record(self.state.sequence).path(&self.options.writer);
        match self.store.get(&path).await? {
            Some(_) => Ok(()),
            None => Err(ArchiveError::Missing { path }),
        }
    }

    /// Archives a cut: when this returns, its rows and marks are there, durably, and once.
    ///
    /// # Errors
    /// Before anything was written when the cut is wrong; the archive goes on. When the store fails, the cut is in doubt:
    /// call [`Archive::settle`], and make the next cut from the position that it returns.
    pub async fn commit(&mut self, cut: Cut, now: Timestamp) -> Result<Committed, ArchiveError> {
        self.check_ready()?;
        self.check_cut(&cut)?;
        let cursor = Cursor { through: cut.through, marks: cut.marks };
        let origin = self.origin(now);
        let hours = self.options.hours;
        let tables = cut.tables;
        let encode_all = move || -> Result<_, ArchiveError> {
            let versions: Vec<Version> = tables.iter().map(|(table, _)| Version::of(table, origin.at)).collect();
            let files = tables.iter().map(|(table, rows)| encode(table, rows, &hours, &origin)).collect::<Result<Vec<_>, _>>()?;
            Ok((versions, files.concat()))
        };
        let (versions, files) = tokio::task::spawn_blocking(encode_all).await??;
        if files.is_empty() && cursor == self.state.cursor {
            return Ok(Committed::default());
        }
        let draft = Draft { cause: Cause::Cut, cursor: Some(cursor), versions, remove: BTreeSet::new() };
        self.publish(files, draft, now).await
    }

    fn check_cut(&self, cut: &Cut) -> Result<(), ArchiveError> {
        let committed = self.through();
        let rows = cut.tables.iter().flat_map(|(_, batches)| batches).any(|batch| batch.num_rows() > 0);
        if cut.through < committed || (rows && cut.through == committed) {
            return Err(ArchiveError::Covered { through: cut.through, committed });
        }
        let mut names = BTreeSet::new();
        match cut.tables.iter().find(|(table, _)| !names.insert(&table.name)) {
            Some((table, _)) => Err(ArchiveError::Table { table: table.name.clone(), reason: "it occurs twice in a cut".to_owned() }),
            None => Ok(()),
        }
    }

    /// Finds out what became of a commit that failed half-way, and returns the position that is covered. Does nothing when
    /// none is in doubt.
    ///
    /// # Errors
    /// When the store fails again; call it again. When another process has taken over.
    pub async fn settle(&mut self, now: Timestamp) -> Result<u64, ArchiveError> {
        if let Some(object) = &self.fenced {
            return Err(self.fenced_by(object.clone()));
        }
        if let Some(pending) = &mut self.pending {
            // An open record of an earlier attempt to settle may be on its way too: the same one again, not another.
            if !pending.candidates.iter().any(|(record, _)| record.cause == Cause::Open) {
                let candidate = self.open_record(now)?;
                self.pending.get_or_insert_default().candidates.push(candidate);
            }
            self.put_record(now).await?;
        }
        Ok(self.through())
    }

    pub(crate) fn check_ready(&self) -> Result<(), ArchiveError> {
        match (&self.fenced, &self.pending) {
            (Some(object), _) => Err(self.fenced_by(object.clone())),
            (None, Some(_)) => Err(ArchiveError::Unsettled { writer: self.options.writer.to_string() }),
            (None, None) => Ok(()),
        }
    }

    fn fenced_by(&self, object: String) -> ArchiveError {
        ArchiveError::Fenced { writer: self.options.writer.to_string(), object }
    }

    pub(crate) fn origin(&self, now: Timestamp) -> Origin {
        Origin { writer: self.options.writer.clone(), sequence: self.state.sequence + 1, at: now }
    }

    fn record(&self, draft: Draft, files: &[EncodedFile], now: Timestamp) -> Record {
        let known = &self.state.versions;
        let used: BTreeSet<&VersionId> = files.iter().map(|file| &file.meta.version).collect();
        let versions = draft.versions.into_iter().map(|version| (version.id(), version));
        Record {
            version: FORMAT,
            writer: self.options.writer.clone(),
            sequence: self.state.sequence + 1,
            session: self.options.session,
            at: now,
            cause: draft.cause,
            cursor: draft.cursor,
            versions: versions.filter(|(id, _)| used.contains(id) && !known.contains_key(id)).collect(),
            add: files.iter().map(|file| file.meta.clone()).collect(),
            remove: draft.remove,
            deleted: self.deleted.clone(),
        }
    }

    fn open_record(&self, now: Timestamp) -> Result<(Record, Bytes), ArchiveError> {
        let draft = Draft { cause: Cause::Open, cursor: None, versions: vec![], remove: BTreeSet::new() };
        let record = self.record(draft, &[], now);
        let bytes = print(&Entry::Record(record.sequence).path(&record.writer), &record)?;
        Ok((record, bytes.into()))
    }

    /// Puts files and then the record that names them.
    pub(crate) async fn publish(&mut self, files: Vec<EncodedFile>, draft: Draft, now: Timestamp) -> Result<Committed, ArchiveError> {
        self.check_pause(now).await?;
        let record = self.record(draft, &files, now);
        let bytes = print(&Entry::Record(record.sequence).path(&record.writer), &record)?;
        let committed = Committed { sequence: Some(record.sequence), added: record.add.clone() };
        // From here on a failure, or a caller that stops waiting, leaves it in doubt.
        self.pending =
            Some(Pending { candidates: vec![(record, bytes.into())], files: files.iter().map(|file| file.meta.path.clone()).collect() });
        for file in files {
            self.put_file(file).await?;
        }
        self.put_record(now).await?;
        self.checkpoint(now).await;
        Ok(committed)
    }

    async fn put_file(&mut self, file: EncodedFile) -> Result<(), ArchiveError> {
        let path = file.meta.path;
        if self.store.put(&path, file.bytes.clone(), self.options.session).await? == Put::Created {
            return Ok(());
        }
        // A request that was repeated because its answer was lost.
        if self.store.get(&path).await?.is_some_and(|found| found == file.bytes) {
            return Ok(());
        }
        self.fenced = Some(path.clone());
        Err(self.fenced_by(path))
    }

    /// Takes the next sequence with the newest candidate, or finds that another candidate has it.
    async fn put_record(&mut self, now: Timestamp) -> Result<(), ArchiveError> {
        let Some(pending) = &self.pending else { return Ok(()) };
        let Some((record, bytes)) = pending.candidates.last() else { return Ok(()) };
        let path = Entry::Record(record.sequence).path(&record.writer);
        let there = match self.store.put(&path, bytes.clone(), self.options.session).await? {
            Put::Created => Some(bytes.clone()),
            Put::AlreadyExists => self.store.get(&path).await?,
        };
        let Some((record, _)) = pending.candidates.iter().find(|(_, bytes)| there.as_ref() == Some(bytes)).cloned() else {
            self.fenced = Some(path.clone());
            return Err(self.fenced_by(path));
        };
        if record.cause == Cause::Open {
            self.orphans.extend(pending.files.iter().cloned());
        }
        self.pending = None;
        self.last_put = now;
        self.deleted.retain(|path| !record.deleted.contains(path));
        self.state.apply(record).map_err(|reason| ArchiveError::Record { object: path, reason })
    }

    async fn take_over(&mut self, now: Timestamp) -> Result<(), ArchiveError> {
        for _ in 0..OPEN_ATTEMPTS {
            let candidate = self.open_record(now)?;
            self.pending = Some(Pending { candidates: vec![candidate], files: vec![] });
            match self.put_record(now).await {
                Err(ArchiveError::Fenced { .. }) => {
                    // A last commit of the process before us.
                    (self.fenced, self.pending) = (None, None);
                    let listing = Listing::read(&self.store, &self.options.writer).await?;
                    self.state = chain::read(&self.store, &self.options.writer, Some(self.state.clone()), listing).await?;
                }
                other => return other,
            }
        }
        Err(self.fenced_by(Entry::Record(self.state.sequence).path(&self.options.writer)))
    }

    /// After a long pause our next sequence may have been taken and tidied away again.
    async fn check_pause(&mut self, now: Timestamp) -> Result<(), ArchiveError> {
        if now.since(self.last_put) < LONG_PAUSE {
            return Ok(());
        }
        let last = Listing::read(&self.store, &self.options.writer).await?.last();
        if last == self.state.sequence {
            return Ok(());
        }
        let object = Entry::Record(last).path(&self.options.writer);
        self.fenced = Some(object.clone());
        Err(self.fenced_by(object))
    }

    /// Writes down the state from time to time, so that the log need not be read from its start. Not being able to is no
    /// reason to fail: the next commit tries again.
    async fn checkpoint(&mut self, now: Timestamp) {
        let last = self.checkpoints.last().map_or(0, |(sequence, _)| *sequence);
        if self.state.sequence - last.min(self.state.sequence) < self.options.checkpoint_every {
            return;
        }
        if let Err(error) = self.write_checkpoint(now).await {
            tracing::warn!(writer = %self.options.writer, error = &error as &dyn std::error::Error, "no checkpoint of the archive's log");
        }
    }

    async fn write_checkpoint(&mut self, now: Timestamp) -> Result<(), ArchiveError> {
        let writer = &self.options.writer;
        let path = Entry::Checkpoint(self.state.sequence).path(writer);
        let bytes = print(&path, &self.state)?;
        self.store.put(&path, bytes.into(), self.options.session).await?;
        self.checkpoints.push((self.state.sequence, now));
        // The newest checkpoint old enough, but never the last one: a reader may be about to read what it found before.
        let old = self.checkpoints.iter().rev().skip(1).find(|(_, since)| now.since(*since) >= LOG_KEPT);
        let Some((superfluous, _)) = old.copied() else { return Ok(()) };
        for entry in Listing::read(&self.store, writer).await?.entries {
            if entry.sequence() < superfluous {
                self.store.delete(&entry.path(writer)).await?;
            }
        }
        self.checkpoints.retain(|(sequence, _)| *sequence >= superfluous);
        Ok(())
    }

    /// Own files that no commit names. Only after taking over: until then a record that names them may be on its way.
    async fn find_orphans(&mut self) -> Result<(), ArchiveError> {
        let own = self.options.writer.clone();
        let log = format!("{}/", log_folder(&own));
        let name = own.clone();
        self.store.sweep(move |path| path.starts_with(&log) || is_own(path, &name)).await?;
        let listed = self.store.list(LAYOUT).await?.into_iter().map(|object| object.path);
        let unnamed = |path: &String| !self.state.files.contains_key(path) && !self.state.removed.contains_key(path);
        self.orphans = listed.filter(|path| is_own(path, &own) && unnamed(path)).collect();
        Ok(())
    }

    /// Deletes files that were removed long enough ago, and orphans. Called by [`Archive::compact`] and
    /// [`Archive::expire`]; returns how many.
    ///
    /// # Errors
    /// When the store fails; what is left is deleted by the next call.
    pub async fn sweep(&mut self, now: Timestamp) -> Result<usize, ArchiveError> {
        let due = |since: &Timestamp| *since + self.options.delete_after <= now;
        let removed = self.state.removed.iter().filter(|(path, since)| due(since) && !self.deleted.contains(*path));
        let paths: Vec<String> = removed.map(|(path, _)| path.clone()).chain(self.orphans.iter().cloned()).collect();
        for path in &paths {
            self.store.delete(path).await?;
            self.store.prune(path).await?;
            if !self.orphans.remove(path) {
                self.deleted.insert(path.clone());
            }
        }
        Ok(paths.len())
    }
}

fn is_own(path: &str, writer: &WriterName) -> bool {
    !path.starts_with(logs()) && FileName::parse(file_name(path)).is_some_and(|name| name.writer == *writer)
}
