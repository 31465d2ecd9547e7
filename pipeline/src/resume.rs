//! Windows after a restart: fed again with what was received before it, as if nothing had happened.
//!
//! The write-ahead log has every request of the last minutes and every final window that was kept. Requests go through the
//! engine at the times at which they came; a final window that is in the log already is not kept a second time, one that
//! the last process still owed is. Nothing is decided on the way: decisions of the past are past.

use std::collections::{BTreeMap, BTreeSet};

use tracescale_archive::wal::{Lsn, Reader};
use tracescale_core::time::Timestamp;
use tracescale_queries::{Emission, Engine};

use crate::logged::{self, Logged};
use crate::warning::chain;
use crate::windows;

/// Bytes of bodies read at once.
const READ_BYTES: usize = 4 << 20;

/// What was done.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Requests that the windows were fed.
    pub requests: u64,
    /// Spans and points in them.
    pub items: u64,
    /// Final windows that are to be kept.
    pub owed: Vec<Emission>,
}

/// Final windows that the log has.
#[derive(Debug, Default)]
struct Known {
    windows: BTreeSet<(String, Timestamp, u32)>,
    /// The newest final window of each view.
    newest: BTreeMap<String, Timestamp>,
}

/// Feeds the engine with what the log has of its look-back time.
///
/// # Errors
/// When the log cannot be read, or the engine fails.
pub async fn resume(engine: &mut Engine, log: &mut Reader, first: Lsn) -> anyhow::Result<Resumed> {
    let Some((begin, newest)) = span(log, first)? else { return Ok(Resumed::default()) };
    let from = newest - engine.look_back();
    let mut resumed = Resumed::default();
    let (mut known, mut emitted) = (Known::default(), Vec::new());
    let mut now: Option<Timestamp> = None;
    let mut position = first;
    loop {
        let records = log.read(position, READ_BYTES)?;
        let Some(last) = records.last() else { break };
        position = Lsn(last.lsn.0 + 1);
        for record in &records {
            let request = match logged::read(&record.entry) {
                Ok(Logged::Request(request)) if request.received_at() >= from => request,
                Ok(Logged::Window(window)) => {
                    known.add(window.view, window.end, window.revision);
                    continue;
                }
                Ok(_) => continue,
                Err(error) => {
                    tracing::error!(lsn = record.lsn.0, error = %chain(&error), "a record of the write-ahead log is left out");
                    continue;
                }
            };
            let decoded = match request.decode() {
                Ok(decoded) => decoded,
                Err(error) => {
                    tracing::error!(lsn = record.lsn.0, error = %chain(&error), "a request of the write-ahead log is left out");
                    continue;
                }
            };
            // A clock that went back while the log was written does not take the windows back.
            let time = now.map_or(request.received_at(), |now| now.max(request.received_at()));
            emitted.extend(windows::step(engine, now, time).await?);
            now = Some(time);
            resumed.requests += 1;
            resumed.items += decoded.items - decoded.rejected;
            engine.push(&request.source(), decoded.batches, time).await?;
        }
    }
    // Of windows that began before the first record, rows may be missing; they were final when those were given up.
    let complete_from = if first.0 <= 1 { Timestamp::MIN } else { begin.max(from) };
    resumed.owed = emitted.into_iter().filter(|emission| emission.window_start >= complete_from && !known.has(emission)).collect();
    Ok(resumed)
}

/// When the first and the newest request of the log were received.
fn span(log: &mut Reader, first: Lsn) -> anyhow::Result<Option<(Timestamp, Timestamp)>> {
    let mut span: Option<(Timestamp, Timestamp)> = None;
    let mut position = first;
    loop {
        let records = log.read(position, READ_BYTES)?;
        let Some(last) = records.last() else { return Ok(span) };
        position = Lsn(last.lsn.0 + 1);
        for record in &records {
            let at = record.entry.received_at;
            span = Some(span.map_or((at, at), |(begin, newest)| (begin, newest.max(at))));
        }
    }
}

// === impl Known ===

impl Known {
    fn add(&mut self, view: String, end: Timestamp, revision: u32) {
        let newest = self.newest.entry(view.clone()).or_insert(end);
        *newest = (*newest).max(end);
        let _ = self.windows.insert((view, end, revision));
    }

    /// A first emission is also known by a newer one of its view: windows become final in their order.
    fn has(&self, emission: &Emission) -> bool {
        let is_passed = emission.revision == 0 && self.newest.get(&emission.view).is_some_and(|newest| emission.window_end <= *newest);
        is_passed || self.windows.contains(&(emission.view.clone(), emission.window_end, emission.revision))
    }
}
