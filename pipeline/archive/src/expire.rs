//! Retention: old hours are dropped whole, oldest first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracescale_core::time::Timestamp;

use crate::archive::{Archive, Draft};
use crate::error::ArchiveError;
use crate::hour::Hour;
use crate::record::Cause;

/// What is kept. Each writer applies it to its own files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long after its end an hour is kept; forever when absent.
    pub max_age: Option<Duration>,
    /// The same for single tables, instead of `max_age`.
    pub tables: BTreeMap<String, Duration>,
    /// Bytes that the files of this writer may take in sum. The oldest hours of all tables go first; the newest one stays.
    pub max_bytes: Option<u64>,
}

/// What a call of [`Archive::expire`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Files dropped.
    pub files: usize,
    /// Rows in them.
    pub rows: u64,
    /// Their size.
    pub bytes: u64,
}

// === impl Archive ===

impl Archive {
    /// Drops what is not to be kept, in one commit; the files follow after the same grace as merged ones.
    ///
    /// # Errors
    /// When the store fails: see [`Archive::commit`].
    pub async fn expire(&mut self, now: Timestamp, retention: &Retention) -> Result<Expired, ArchiveError> {
        self.check_ready()?;
        self.sweep(now).await?;
        let remove = self.expired(now, retention);
        if remove.is_empty() {
            return Ok(Expired::default());
        }
        let files = remove.iter().filter_map(|path| self.state.files.get(path));
        let expired = files.fold(Expired::default(), |sum, file| Expired {
            files: sum.files + 1,
            rows: sum.rows + file.rows,
            bytes: sum.bytes + file.bytes,
        });
        self.publish(vec![], Draft { cause: Cause::Expire, cursor: None, versions: vec![], remove }, now).await?;
        Ok(expired)
    }

    fn expired(&self, now: Timestamp, retention: &Retention) -> BTreeSet<String> {
        let mut remove = BTreeSet::new();
        let mut kept: BTreeMap<Hour, Vec<(&String, u64)>> = BTreeMap::new();
        for (path, file) in &self.state.files {
            let age = retention.tables.get(&file.table).copied().or(retention.max_age);
            if age.is_some_and(|age| file.hour.end() + age <= now) {
                remove.insert(path.clone());
            } else {
                kept.entry(file.hour).or_default().push((path, file.bytes));
            }
        }
        let mut bytes: u64 = kept.values().flatten().map(|(_, bytes)| bytes).sum();
        let most = retention.max_bytes.unwrap_or(u64::MAX);
        let newest = kept.keys().next_back().copied();
        for (hour, files) in kept {
            if bytes <= most || Some(hour) == newest {
                break;
            }
            bytes -= files.iter().map(|(_, bytes)| bytes).sum::<u64>();
            remove.extend(files.into_iter().map(|(path, _)| path.clone()));
        }
        remove
    }
}
