//! Compaction: many small files become few large ones, which are smaller in sum and quicker to read.
//!
//! Files of one table and hour are merged
//! * when the hour has been over for a while and so has its last late row: what is small becomes one file;
//! * before that when there are many, so that a reader of the running hour does not open hundreds of files.
//!
//! Rows of an older version of the table get its newest columns. A column that the newest version leaves out stays in
//! files that have it: compaction loses nothing. A file whose types cannot be converted without loss is left as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tracescale_core::time::Timestamp;

use crate::archive::{Archive, Draft};
use crate::encode::Place;
use crate::error::ArchiveError;
use crate::file::{FileMeta, Level, Version};
use crate::hour::Hour;
use crate::merge::{Target, merge, rewritable};
use crate::record::Cause;
use crate::table::union;

/// Files merged at once; each costs a decoded batch.
const MOST_INPUTS: usize = 64;

/// When and how files are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// How long after an hour, and after the last file for it, its files are merged.
    pub delay: Duration,
    /// With more fresh files than this an hour is not waited for.
    pub most_fresh: usize,
    /// A merged file is full with so many bytes. As many are read at once, so that merging takes two to three times as much memory.
    pub target_bytes: u64,
    /// Or with so many rows.
    pub target_rows: u64,
}

/// What a call of [`Archive::compact`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Table and hour that it worked on; `None` when nothing was due.
    pub group: Option<(String, Hour)>,
    /// Files merged.
    pub removed: usize,
    /// Files that they became.
    pub added: usize,
    /// Rows in them.
    pub rows: u64,
    /// Whether another call would find work.
    pub more: bool,
}

// === impl Compaction ===

impl Default for Compaction {
    fn default() -> Self {
        Self { delay: Duration::from_secs(600), most_fresh: 16, target_bytes: 128 << 20, target_rows: 2_000_000 }
    }
}

impl Compaction {
    /// The files of a group that are to be merged now; none when it is not due.
    fn choose<'a>(&self, files: &[&'a FileMeta], now: Timestamp) -> Vec<&'a FileMeta> {
        let Some(first) = files.first() else { return vec![] };
        let newest = files.iter().map(|file| file.at).max().unwrap_or(now);
        let over = first.hour.end() + self.delay <= now && newest + self.delay <= now;
        let (fresh, merged): (Vec<&FileMeta>, Vec<&FileMeta>) = files.iter().partition(|file| file.level == Level::Fresh);
        let small = merged.into_iter().filter(|file| file.bytes < self.target_bytes / 2 && file.rows < self.target_rows / 2);
        let mut chosen: Vec<&FileMeta> = if over { fresh.into_iter().chain(small).collect() } else { fresh };
        let due =
            if over { chosen.len() > 1 || chosen.iter().any(|file| file.level == Level::Fresh) } else { chosen.len() > self.most_fresh };
        if !due {
            return vec![];
        }
        // Small ones first: as many as possible, and never only one because two are too large together.
        chosen.sort_by_key(|file| (file.bytes, file.path.as_str()));
        let mut bytes = 0;
        let fits = |file: &&FileMeta| {
            bytes += file.bytes;
            bytes <= self.target_bytes
        };
        let count = chosen.iter().copied().take(MOST_INPUTS).take_while(fits).count().max(2);
        chosen.truncate(count);
        chosen
    }
}

// === impl Archive ===

impl Archive {
    /// Merges files of one table and hour, if some are due, and deletes files that were merged a while ago. Call it again
    /// while it says that there is more. Other writers' files are theirs to merge.
    ///
    /// # Errors
    /// When a file is missing or damaged; nothing is changed then. When the store fails: see [`Archive::commit`].
    pub async fn compact(&mut self, now: Timestamp) -> Result<Compacted, ArchiveError> {
        self.check_ready()?;
        self.sweep(now).await?;
        let Some((inputs, version)) = self.due(now) else { return Ok(Compacted::default()) };
        let mut contents: Vec<(FileMeta, Bytes)> = Vec::with_capacity(inputs.len());
        for file in inputs {
            let bytes = self.store.get(&file.path).await?.ok_or_else(|| ArchiveError::Missing { path: file.path.clone() })?;
            contents.push((file, bytes));
        }
        let group = contents.first().map(|(file, _)| (file.table.clone(), file.hour));
        let remove: BTreeSet<String> = contents.iter().map(|(file, _)| file.path.clone()).collect();
        let target = Target { bytes: self.options.compaction.target_bytes, rows: self.options.compaction.target_rows };
        let (origin, merged) = (self.origin(now), version.clone());
        let files = tokio::task::spawn_blocking(move || merge(contents, &merged, target, &origin)).await??;
        let (removed, added, rows) = (remove.len(), files.len(), files.iter().map(|file| file.meta.rows).sum());
        self.publish(files, Draft { cause: Cause::Compact, cursor: None, versions: vec![version], remove }, now).await?;
        Ok(Compacted { group, removed, added, rows, more: self.due(now).is_some() })
    }

    /// The files to merge next, oldest hour first, and what they are to become.
    fn due(&self, now: Timestamp) -> Option<(Vec<FileMeta>, Version)> {
        let mut groups: BTreeMap<(Place, &str), Vec<&FileMeta>> = BTreeMap::new();
        for file in self.state.files.values() {
            groups.entry(((file.hour, file.stray), file.table.as_str())).or_default().push(file);
        }
        groups.into_iter().find_map(|((_, table), files)| {
            let version = self.merged_version(table, &files)?;
            let fitting: Vec<_> = files.into_iter().filter(|file| self.fits(file, &version)).collect();
            let chosen = self.options.compaction.choose(&fitting, now);
            (!chosen.is_empty()).then(|| (chosen.into_iter().cloned().collect(), version))
        })
    }

    /// The newest version of a table, and the columns that only older files of the group have.
    fn merged_version(&self, table: &str, files: &[&FileMeta]) -> Option<Version> {
        let newest = self.state.versions.get(&self.state.newest.get(table)?.1)?;
        let ids: BTreeSet<_> = files.iter().map(|file| &file.version).collect();
        let older = ids.into_iter().filter_map(|id| self.state.versions.get(id));
        // The newest first for the order of its columns, and last for its types.
        let schemas = std::iter::once(newest).chain(older).chain(std::iter::once(newest)).map(|version| version.schema.as_ref());
        Some(Version { schema: union(schemas), ..newest.clone() })
    }

    fn fits(&self, file: &FileMeta, version: &Version) -> bool {
        self.state.versions.get(&file.version).is_some_and(|own| rewritable(&own.schema, &version.schema))
    }
}
