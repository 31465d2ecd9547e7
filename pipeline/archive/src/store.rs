//! The one place where objects are written, read and deleted.
//!
//! A *put* creates an object and never replaces one. When it returns, the object is there even if the machine loses power;
//! when it fails, the object may be there all the same, and what to do about that is the caller's affair.

mod local;

#[cfg(test)]
pub(crate) mod faults;

use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

use self::local::Folder;
use crate::error::ArchiveError;
use crate::location::Location;

/// An archive's objects; paths are below its root.
#[derive(Clone, Debug)]
pub struct Store {
    location: String,
    objects: Arc<dyn ObjectStore>,
    folder: Option<Arc<Folder>>,
    #[cfg(test)]
    faults: Option<Arc<faults::Faults>>,
}

/// How a put ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Created,
    AlreadyExists,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub(crate) path: String,
    pub(crate) bytes: u64,
}

// === impl Store ===

impl Store {
    /// Connects to a location. A folder is made when it is first written to.
    ///
    /// # Errors
    /// When the environment does not say enough, for example which credentials to use.
    pub fn open(location: &Location) -> Result<Self, ArchiveError> {
        match location {
            Location::Local(root) => Self::local(root),
            Location::Remote { provider, url, prefix } => {
                let objects = Location::connect(*provider, url)?;
                Ok(Self::over(url.clone(), Arc::new(PrefixStore::new(objects, prefix.clone()))))
            }
        }
    }

    /// Any object store that honours [`PutMode::Create`].
    #[must_use]
    pub fn over(location: String, objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            location,
            objects,
            folder: None,
            #[cfg(test)]
            faults: None,
        }
    }

    fn local(root: &FilePath) -> Result<Self, ArchiveError> {
        let wrong = |reason: String| ArchiveError::Location { location: root.display().to_string(), reason };
        let root = std::path::absolute(root).map_err(|error| wrong(error.to_string()))?;
        let prefix = Path::from_absolute_path(&root).map_err(|error| wrong(error.to_string()))?;
        let objects = Arc::new(PrefixStore::new(LocalFileSystem::new(), prefix));
        Ok(Self { folder: Some(Arc::new(Folder::new(root.clone()))), ..Self::over(root.display().to_string(), objects) })
    }

    /// For readers that bring their own Parquet reader: paths of [`crate::file::FileMeta`] are paths in it.
    #[must_use]
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Creates an object, durably, unless there is one.
    pub(crate) async fn put(&self, path: &str, bytes: Bytes, session: u64) -> Result<Put, ArchiveError> {
        let failed = |source| ArchiveError::Store { operation: "write", object: path.to_owned(), source };
        self.step("before a put").map_err(failed)?;
        let done = match &self.folder {
            Some(folder) => {
                let (store, folder, relative) = (self.clone(), Arc::clone(folder), path.to_owned());
                let step = move |name| store.step(name).map_err(std::io::Error::other);
                let put = tokio::task::spawn_blocking(move || folder.put(&relative, &bytes, session, &step)).await?;
                put.map_err(|source| Error::Generic { store: "folder", source: Box::new(source) })
            }
            None => {
                let options = PutOptions::from(PutMode::Create);
                match self.objects.put_opts(&Path::from(path), bytes.into(), options).await {
                    Ok(_) => Ok(Put::Created),
                    // Stores differ in what they call the refusal.
                    Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::AlreadyExists),
                    Err(error) => Err(error),
                }
            }
        };
        let done = done.map_err(failed)?;
        self.step("after a put").map_err(failed)?;
        Ok(done)
    }

    /// The object; `None` when there is none.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Bytes>, ArchiveError> {
        let failed = |source| ArchiveError::Store { operation: "read", object: path.to_owned(), source };
        self.step("before a get").map_err(failed)?;
        match self.objects.get(&Path::from(path)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// What is below a folder at any depth, in the order of paths. Files that are still being written are not.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<Listed>, ArchiveError> {
        let failed = |source| ArchiveError::Store { operation: "list", object: folder.to_owned(), source };
        self.step("before a list").map_err(failed)?;
        let listed = self.objects.list(Some(&Path::from(folder)));
        let listed = listed.map_ok(|meta| Listed { path: meta.location.to_string(), bytes: meta.size });
        let mut listed: Vec<Listed> = listed.try_collect().await.map_err(failed)?;
        listed.sort_unstable();
        Ok(listed)
    }

    /// Deletes an object; one that is not there is deleted already.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), ArchiveError> {
        let failed = |source| ArchiveError::Store { operation: "delete", object: path.to_owned(), source };
        self.step("before a delete").map_err(failed)?;
        match self.objects.delete(&Path::from(path)).await {
            Ok(()) | Err(Error::NotFound { .. }) => self.step("after a delete").map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes folders on the way to `path` that are empty now. Only a local archive has folders.
    pub(crate) async fn prune(&self, path: &str) -> Result<(), ArchiveError> {
        if let Some(folder) = self.folder.clone() {
            let path = path.to_owned();
            tokio::task::spawn_blocking(move || folder.prune(&path)).await?;
        }
        Ok(())
    }

    /// Deletes what a crash left half-written among the objects that are `own`, judged by the path they were to have.
    pub(crate) async fn sweep<F: Fn(&str) -> bool + Send + 'static>(&self, own: F) -> Result<(), ArchiveError> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let swept = tokio::task::spawn_blocking(move || folder.sweep(&own)).await?;
        let failed = |source| Error::Generic { store: "folder", source: Box::new(source) };
        swept.map_err(|error| ArchiveError::Store { operation: "clean", object: self.location.clone(), source: failed(error) })
    }

    /// Makes sure that a put never replaces: everything else rests on that. `path` is written twice, and deleted.
    pub(crate) async fn probe(&self, path: &str) -> Result<(), ArchiveError> {
        if self.folder.is_some() {
            return Ok(());
        }
        self.put(path, Bytes::from_static(b"1"), 0).await?;
        let second = self.put(path, Bytes::from_static(b"2"), 0).await?;
        let kept = self.get(path).await?;
        self.delete(path).await?;
        if second == Put::AlreadyExists && kept.as_deref() != Some(b"2") {
            return Ok(());
        }
        Err(ArchiveError::Unconditional { location: self.location.clone() })
    }

    /// Where tests make it fail.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests have another one, which uses and wraps")]
    const fn step(&self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self, name: &'static str) -> Result<(), Error> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.step(name))
    }

    #[cfg(test)]
    pub(crate) fn with_faults(self, faults: Arc<faults::Faults>) -> Self {
        Self { faults: Some(faults), ..self }
    }
}
