//! Looks for what should not be: broken logs, lost and damaged files, and files that nobody has committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::catalog::Catalog;
use crate::chain;
use crate::error::ArchiveError;
use crate::name::FileName;
use crate::record::{LAYOUT, file_name, logs};
use crate::store::{Listed, Store};

/// Something that is not as it should be.
#[derive(Debug)]
pub enum Finding {
    /// A log that cannot be read; the files of its writer are unknown.
    Log(ArchiveError),
    /// A committed file that is missing or has another size.
    File(ArchiveError),
    /// A file that no commit names, below the folders of the archive. Readers through the catalogue do not see it.
    Foreign {
        /// Which one.
        path: String,
        /// Whether it is named like a writer's. Its writer deletes it when it is opened next, or is about to commit it.
        uncommitted: bool,
    },
}

// === impl Finding ===

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) | Self::File(error) => write!(f, "{error}"),
            Self::Foreign { path, uncommitted: true } => write!(f, "`{path}` is not committed (yet)"),
            Self::Foreign { path, uncommitted: false } => write!(f, "`{path}` was put there by somebody else"),
        }
    }
}

/// Compares what the logs say with what is there. The contents of files are not read.
///
/// # Errors
/// When the store fails. A log that cannot be read is a finding.
pub async fn audit(store: &Store) -> Result<Vec<Finding>, ArchiveError> {
    let mut catalog = Catalog { store: store.clone(), writers: BTreeMap::new() };
    let mut findings = vec![];
    for (writer, listing) in chain::writers(store).await? {
        match chain::read(store, &writer, None, listing).await {
            Ok(state) => drop(catalog.writers.insert(writer, state)),
            Err(error @ ArchiveError::Store { .. }) => return Err(error),
            Err(error) => findings.push(Finding::Log(error)),
        }
    }
    let listed: BTreeMap<String, u64> = data_files(store).await?.into_iter().map(|file| (file.path, file.bytes)).collect();
    for file in catalog.all_files() {
        match listed.get(&file.path) {
            None => findings.push(Finding::File(ArchiveError::Missing { path: file.path.clone() })),
            Some(bytes) if *bytes != file.bytes => {
                let reason = format!("it has {bytes} bytes where {} were written", file.bytes);
                findings.push(Finding::File(ArchiveError::Damaged { path: file.path.clone(), reason }));
            }
            Some(_) => {}
        }
    }
    findings.extend(unnamed(&catalog, listed.into_keys()));
    Ok(findings)
}

// === impl Catalog ===

impl Catalog {
    /// Files below the folders of the archive that no commit names.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn foreign(&self) -> Result<Vec<Finding>, ArchiveError> {
        let listed = data_files(&self.store).await?;
        Ok(unnamed(self, listed.into_iter().map(|file| file.path)))
    }
}

async fn data_files(store: &Store) -> Result<Vec<Listed>, ArchiveError> {
    let mut listed = store.list(LAYOUT).await?;
    listed.retain(|file| !file.path.starts_with(logs()));
    Ok(listed)
}

fn unnamed(catalog: &Catalog, listed: impl Iterator<Item = String>) -> Vec<Finding> {
    let removed = catalog.writers.values().flat_map(|state| state.removed.keys().map(String::as_str));
    let named: BTreeSet<&str> = catalog.all_files().map(|file| file.path.as_str()).chain(removed).collect();
    let unnamed = listed.filter(|path| !named.contains(path.as_str()));
    unnamed.map(|path| Finding::Foreign { uncommitted: FileName::parse(file_name(&path)).is_some(), path }).collect()
}
