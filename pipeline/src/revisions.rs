//! Which final windows are in the write-ahead log, and how the next emission of each is numbered.
//!
//! An engine that is fed again counts revisions from zero. Readers take the highest as the newest, so that what it emits
//! goes on behind what its predecessor had emitted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::Int32Array;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tracescale_archive::wal::Lsn;
use tracescale_core::time::Timestamp;
use tracescale_queries::Emission;

/// The windows that were in the log at the start, by view and end. Later ones are numbered by the engine alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    windows: BTreeMap<(String, Timestamp), Newest>,
}

/// The newest emission of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Newest {
    revision: u32,
    /// The last request behind it.
    through: Lsn,
}

/// The column that the engine appends.
const REVISION: &str = "revision";

// === impl Revisions ===

impl Revisions {
    /// Learns of a window in the log.
    pub fn add(&mut self, view: String, end: Timestamp, revision: u32, through: Lsn) {
        let newest = self.windows.entry((view, end)).or_insert(Newest { revision, through });
        *newest = Newest { revision: newest.revision.max(revision), through: newest.through.max(through) };
    }

    /// Whether the log has the window, made with the requests up to `through` or more.
    #[must_use]
    pub fn covers(&self, emission: &Emission, through: Lsn) -> bool {
        self.windows.get(&key(emission)).is_some_and(|newest| newest.through >= through)
    }

    /// The emission with a revision above every earlier one of its window.
    ///
    /// # Errors
    /// When its rows have no such column, which is a defect.
    pub fn number<'a>(&mut self, emission: &'a Emission) -> Result<Cow<'a, Emission>, ArrowError> {
        let Some(newest) = self.windows.get_mut(&key(emission)) else { return Ok(Cow::Borrowed(emission)) };
        let revision = emission.revision.max(newest.revision.saturating_add(1));
        newest.revision = revision;
        if revision == emission.revision {
            return Ok(Cow::Borrowed(emission));
        }
        Ok(Cow::Owned(Emission { revision, rows: renumbered(&emission.rows, revision)?, ..emission.clone() }))
    }
}

fn key(emission: &Emission) -> (String, Timestamp) {
    (emission.view.clone(), emission.window_end)
}

fn renumbered(rows: &RecordBatch, revision: u32) -> Result<RecordBatch, ArrowError> {
    let index = rows.schema_ref().index_of(REVISION)?;
    let mut columns = rows.columns().to_vec();
    columns[index] = Arc::new(Int32Array::from_value(i32::try_from(revision).unwrap_or(i32::MAX), rows.num_rows()));
    RecordBatch::try_new(rows.schema(), columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn emission(end: i64, revision: u32) -> Emission {
        let column: ArrayRef = Arc::new(Int32Array::from_value(i32::try_from(revision).unwrap(), 2));
        Emission {
            view: "service_latency".to_owned(),
            window_start: Timestamp::from_secs(end - 60),
            window_end: Timestamp::from_secs(end),
            is_final: true,
            revision,
            rows: RecordBatch::try_from_iter([(REVISION, column)]).unwrap(),
            evidence_time: Timestamp::from_secs(end),
        }
    }

    fn numbered(revisions: &mut Revisions, emission: &Emission) -> (u32, i32) {
        let numbered = revisions.number(emission).unwrap();
        (numbered.revision, numbered.rows.column(0).as_primitive::<Int32Type>().value(1))
    }

    /// Guarantees: what is emitted after a restart is newer than all that was there, in its rows too, and no number is given
    /// twice; windows that were not there keep the engine's numbers.
    #[test]
    fn revisions_go_on() {
        let mut revisions = Revisions::default();
        revisions.add("service_latency".to_owned(), Timestamp::from_secs(60), 2, Lsn(7));
        assert_eq!(numbered(&mut revisions, &emission(60, 0)), (3, 3));
        assert_eq!(numbered(&mut revisions, &emission(60, 1)), (4, 4));
        assert_eq!(numbered(&mut revisions, &emission(60, 9)), (9, 9));
        assert_eq!(numbered(&mut revisions, &emission(65, 0)), (0, 0));
        assert_eq!(numbered(&mut revisions, &emission(65, 1)), (1, 1));
    }

    /// Guarantees: a window is covered by one that was made with at least as many requests, whatever its revision.
    #[test]
    fn requests_decide_what_is_covered() {
        let mut revisions = Revisions::default();
        revisions.add("service_latency".to_owned(), Timestamp::from_secs(60), 2, Lsn(7));
        revisions.add("service_latency".to_owned(), Timestamp::from_secs(60), 1, Lsn(5));
        assert!(revisions.covers(&emission(60, 0), Lsn(7)));
        assert!(!revisions.covers(&emission(60, 0), Lsn(8)));
        assert!(!revisions.covers(&emission(65, 0), Lsn(1)));
    }
}
