//! Reading the log of one writer: the newest checkpoint, and the records after it.

use futures::{StreamExt as _, TryStreamExt as _};

use crate::error::ArchiveError;
use crate::name::WriterName;
use crate::record::{Entry, Record, State, file_name, log_folder, logs, parse};
use crate::store::{Listed, Store};

/// Requests under way at once.
const READS_AT_ONCE: usize = 16;
/// A writer deletes old records while we read. Each time it has written a checkpoint in the meantime, so that there is
/// less to read the next time.
const ATTEMPTS: usize = 5;

/// A listing of the log of one writer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    /// In the order of sequences; a record comes before the checkpoint of its sequence.
    pub(crate) entries: Vec<Entry>,
}

// === impl Listing ===

impl Listing {
    fn of<'a>(listed: impl Iterator<Item = &'a Listed>) -> Self {
        let mut entries: Vec<Entry> = listed.filter_map(|object| Entry::parse(file_name(&object.path))).collect();
        entries.sort_unstable_by_key(|entry| (entry.sequence(), matches!(entry, Entry::Checkpoint(_))));
        Self { entries }
    }

    pub(crate) async fn read(store: &Store, writer: &WriterName) -> Result<Self, ArchiveError> {
        Ok(Self::of(store.list(&log_folder(writer)).await?.iter()))
    }

    /// Sequences with a checkpoint, oldest first.
    pub(crate) fn checkpoints(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.entries.iter().filter_map(|entry| if let Entry::Checkpoint(sequence) = entry { Some(*sequence) } else { None })
    }

    /// The last commit; zero when there is none.
    pub(crate) fn last(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.sequence())
    }
}

/// Every writer with its log, from one listing.
pub(crate) async fn writers(store: &Store) -> Result<Vec<(WriterName, Listing)>, ArchiveError> {
    let listed = store.list(logs()).await?;
    let folder = |object: &Listed| -> Option<WriterName> {
        let (writer, name) = object.path.strip_prefix(logs())?.strip_prefix('/')?.split_once('/')?;
        Entry::parse(name)?;
        WriterName::new(writer).ok()
    };
    let ours: Vec<_> = listed.iter().filter_map(|object| Some((folder(object)?, object))).collect();
    // Paths are sorted, so that the objects of a writer are next to each other.
    let chunks = ours.chunk_by(|left, right| left.0 == right.0);
    Ok(chunks.map(|chunk| (chunk[0].0.clone(), Listing::of(chunk.iter().map(|(_, object)| *object)))).collect())
}

/// Brings `state` up to the end of the log, or reads it from the start.
pub(crate) async fn read(store: &Store, writer: &WriterName, state: Option<State>, listing: Listing) -> Result<State, ArchiveError> {
    let mut listing = listing;
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        match read_once(store, writer, state.clone(), &listing).await {
            Err(ArchiveError::Missing { .. }) if attempts > 0 => listing = Listing::read(store, writer).await?,
            Err(ArchiveError::Missing { path }) => {
                return Err(ArchiveError::Record { object: path, reason: "it is missing, and later ones are there".to_owned() });
            }
            other => return other,
        }
    }
}

async fn read_once(store: &Store, writer: &WriterName, state: Option<State>, listing: &Listing) -> Result<State, ArchiveError> {
    let (first, last) = (state.as_ref().map_or(0, |state| state.sequence) + 1, listing.last());
    let complete = |from: u64| listing.entries.iter().filter(|entry| matches!(entry, Entry::Record(n) if *n >= from)).count() as u64;
    let mut state = match (state, listing.checkpoints().next_back()) {
        (Some(state), _) if last < first || complete(first) == last + 1 - first => state,
        (_, Some(checkpoint)) => {
            let object = Entry::Checkpoint(checkpoint).path(writer);
            let state: State = parse(&object, &get(store, &object).await?)?;
            if state.sequence != checkpoint || state.writer != *writer {
                return Err(ArchiveError::Record { object, reason: "it is the checkpoint of another commit".to_owned() });
            }
            state
        }
        (_, None) => State::new(writer.clone()),
    };
    let objects = (state.sequence + 1..=last).map(|sequence| Entry::Record(sequence).path(writer));
    let mut records = futures::stream::iter(objects)
        .map(|object| async move {
            let bytes = get(store, &object).await?;
            Ok::<_, ArchiveError>((parse::<Record>(&object, &bytes)?, object))
        })
        .buffered(READS_AT_ONCE);
    while let Some((record, object)) = records.try_next().await? {
        state.apply(record).map_err(|reason| ArchiveError::Record { object, reason })?;
    }
    Ok(state)
}

async fn get(store: &Store, object: &str) -> Result<bytes::Bytes, ArchiveError> {
    store.get(object).await?.ok_or_else(|| ArchiveError::Missing { path: object.to_owned() })
}
