//! Windows after a restart: fed again with what was received before it, as if nothing had happened.
//!
//! The write-ahead log has every request of the last minutes and every final window that was kept. Requests go through the
//! engine at the times at which they came; a final window that is in the log already is not kept a second time, one that
//! the last process still owed is. Nothing is decided on the way: decisions of the past are past.
//!
//! A window is owed when none is in the log that was made with as many requests. How often it was emitted says nothing: a
//! row that came while the window became final is in its first emission here, though the last process had to correct it.

use tracescale_archive::wal::{Lsn, Reader};
use tracescale_core::time::Timestamp;
use tracescale_ingest::decode::Declared;
use tracescale_queries::{Emission, Engine};

use crate::logged::{self, Logged};
use crate::revisions::Revisions;
use crate::warning::chain;
use crate::windows;

/// Bytes of bodies read at once.
const READ_BYTES: usize = 4 << 20;

/// What was done.
#[derive(Debug)]
pub struct Resumed {
    /// Requests that the windows were fed.
    pub requests: u64,
    /// Spans and points in them.
    pub items: u64,
    /// Final windows that are to be kept, each with the last request that it was made with.
    pub owed: Vec<(Emission, Lsn)>,
    /// The last request that the windows were fed.
    pub fed: Lsn,
    /// Final windows that the log has, those that are owed included.
    pub revisions: Revisions,
}

// === impl Resumed ===

impl Resumed {
    fn nothing() -> Self {
        // Below the first number: an emission of an empty engine was made with no request.
        let fed = Lsn(0);
        Self { requests: 0, items: 0, owed: Vec::new(), fed, revisions: Revisions::default() }
    }
}

/// Feeds the engine with what the log has of its look-back time, with what is declared of sampling.
///
/// # Errors
/// When the log cannot be read, or the engine fails.
pub async fn resume(engine: &mut Engine, log: &mut Reader, first: Lsn, declared: &Declared) -> anyhow::Result<Resumed> {
    let Some((begin, newest)) = span(log, first)? else { return Ok(Resumed::nothing()) };
    let from = newest - engine.look_back();
    let mut resumed = Resumed::nothing();
    let mut emitted: Vec<(Emission, Lsn)> = Vec::new();
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
                    resumed.revisions.add(window.view, window.end, window.revision, window.through);
                    continue;
                }
                Ok(_) => continue,
                Err(error) => {
                    tracing::error!(lsn = record.lsn.0, error = %chain(&error), "a record of the write-ahead log is left out");
                    continue;
                }
            };
            let decoded = match request.decode(declared) {
                Ok(decoded) => decoded,
                Err(error) => {
                    tracing::error!(lsn = record.lsn.0, error = %chain(&error), "a request of the write-ahead log is left out");
                    continue;
                }
            };
            // A clock that went back while the log was written does not take the windows back.
            let time = now.map_or(request.received_at(), |now| now.max(request.received_at()));
            let fed = resumed.fed;
            emitted.extend(windows::step(engine, now, time).await?.into_iter().map(|emission| (emission, fed)));
            now = Some(time);
            resumed.requests += 1;
            resumed.items += decoded.items - decoded.rejected;
            engine.push(&request.source(), decoded.batches, time).await?;
            resumed.fed = record.lsn;
        }
    }
    // What became final after the last request, because time went on.
    let fed = resumed.fed;
    emitted.extend(windows::step(engine, now, newest).await?.into_iter().map(|emission| (emission, fed)));
    // Of windows that began before the first request that was fed, rows may be missing; they were final when it came.
    let complete_from = if first.0 <= 1 && from <= begin { Timestamp::MIN } else { begin.max(from) };
    for (emission, through) in emitted {
        if emission.window_start >= complete_from && !resumed.revisions.covers(&emission, through) {
            let owed = resumed.revisions.number(&emission)?.into_owned();
            resumed.revisions.add(owed.view.clone(), owed.window_end, owed.revision, through);
            resumed.owed.push((owed, through));
        }
    }
    Ok(resumed)
}

/// When the first and the newest record of the log were written.
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;
    use std::time::Duration;

    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;
    use tracescale_archive::wal::{Entry, Options, Wal};
    use tracescale_ingest::Compression;
    use tracescale_ingest::decode::{Encoding, Signal};
    use tracescale_queries::{EngineConfig, ViewSource};

    use super::*;

    const BASE: Timestamp = Timestamp::from_secs(1_767_600_000);
    const VIEW: &str = "CREATE VIEW load AS SELECT window_start, window_end, CAST(sum(adjusted_count) AS BIGINT) AS samples
        FROM TUMBLE(spans, end_time, INTERVAL '5 seconds') GROUP BY window_start, window_end";

    fn at(seconds: u64) -> Timestamp {
        BASE + Duration::from_secs(seconds)
    }

    async fn engine() -> Engine {
        let view = ViewSource { name: "load".to_owned(), sql: VIEW.to_owned(), origin: "test".to_owned() };
        let config = EngineConfig { lateness: Duration::from_secs(2), ..EngineConfig::default() };
        Engine::new(config, vec![view]).await.unwrap()
    }

    /// A request with one span.
    fn request(received: u64, ended: u64) -> Entry {
        let time = u64::try_from(at(ended).as_nanos()).unwrap();
        let span = Span {
            trace_id: vec![1; 16],
            span_id: (received << 8 | ended).to_be_bytes().to_vec(),
            start_time_unix_nano: time,
            end_time_unix_nano: time,
            ..Span::default()
        };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let request = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] };
        Entry {
            signal: Signal::Traces.tag(),
            encoding: Encoding::Protobuf.tag(),
            compression: Compression::Identity.tag(),
            source: Ipv4Addr::LOCALHOST.into(),
            received_at: at(received),
            body: request.encode_to_vec().into(),
        }
    }

    async fn resumed(dir: &Path) -> (Wal, Resumed) {
        resumed_with(dir, &Declared::default()).await
    }

    async fn resumed_with(dir: &Path, declared: &Declared) -> (Wal, Resumed) {
        let (wal, _) = Wal::open(dir, Options::default()).unwrap();
        let resumed = resume(&mut engine().await, &mut wal.reader(), wal.first(), declared).await.unwrap();
        (wal, resumed)
    }

    /// The first window: its revision, how many rows are behind it, and the request that it was made with.
    fn owed(resumed: &Resumed) -> Vec<(u32, i64, Lsn)> {
        let first = resumed.owed.iter().filter(|(emission, _)| emission.window_end == at(5));
        let samples = |emission: &Emission| emission.rows.column_by_name("samples").unwrap().as_primitive::<Int64Type>().value(0);
        first.map(|(emission, through)| (emission.revision, samples(emission), *through)).collect()
    }

    /// Guarantees: a row that came while its window became final, and that the last process did not live to correct the window
    /// by, is in a higher revision; once that is in the log, nothing is owed any more.
    #[tokio::test]
    async fn a_correction_that_was_not_kept_is_owed_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = Wal::open(dir.path(), Options::default()).unwrap();
        // The second makes the first window final.
        wal.append(&[request(3, 3), request(8, 8)]).unwrap();
        drop(wal);
        let (mut wal, _) = Wal::open(dir.path(), Options::default()).unwrap();
        let mut predecessor = engine().await;
        for record in wal.reader().read(Lsn::FIRST, READ_BYTES).unwrap() {
            let Logged::Request(request) = logged::read(&record.entry).unwrap() else { panic!("not a request") };
            predecessor.push("sender", request.decode(&Declared::default()).unwrap().batches, request.received_at()).await.unwrap();
        }
        let emissions = predecessor.advance(at(8)).await.unwrap();
        let kept = emissions.iter().find(|emission| emission.is_final && emission.window_end == at(5)).unwrap();
        // The third has a row for the window. It was received at the same moment, but after the window was made.
        wal.append(&[request(8, 4), logged::window(kept, Lsn(2), at(8)).unwrap(), request(9, 9)]).unwrap();
        drop(wal);

        let (mut wal, first) = resumed(dir.path()).await;
        assert_eq!(owed(&first), [(1, 2, Lsn(3))]);
        assert_eq!(first.fed, Lsn(5));
        let entries: Vec<Entry> = first.owed.iter().map(|(emission, through)| logged::window(emission, *through, at(9)).unwrap()).collect();
        wal.append(&entries).unwrap();
        drop(wal);
        assert_eq!(owed(&resumed(dir.path()).await.1), []);
    }

    /// Guarantees: windows are resumed with what is declared of sampling.
    #[tokio::test]
    async fn declared_sampling_holds_for_what_is_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = Wal::open(dir.path(), Options::default()).unwrap();
        wal.append(&[request(3, 3), request(4, 4), request(20, 20), request(21, 21)]).unwrap();
        drop(wal);
        assert_eq!(owed(&resumed_with(dir.path(), &Declared::new(0.1, [])).await.1), [(0, 20, Lsn(2))]);
    }

    /// Guarantees: a window that became final because time went on, after the last request, is not owed when it is in the log.
    #[tokio::test]
    async fn windows_that_time_made_final_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = Wal::open(dir.path(), Options::default()).unwrap();
        wal.append(&[request(3, 3), request(4, 4)]).unwrap();
        drop(wal);
        let (mut wal, nothing) = resumed(dir.path()).await;
        assert_eq!(owed(&nothing), []);
        // An own record shows that the process lived until then.
        let alert = logged::Alert { at: at(20), kind: "test".to_owned(), subject: String::new(), message: String::new() };
        wal.append(&[logged::alert(&alert, at(20)).unwrap()]).unwrap();
        drop(wal);
        let (mut wal, resumed_once) = resumed(dir.path()).await;
        assert_eq!(owed(&resumed_once), [(0, 2, Lsn(2))]);
        let entries: Vec<Entry> =
            resumed_once.owed.iter().map(|(emission, through)| logged::window(emission, *through, at(20)).unwrap()).collect();
        wal.append(&entries).unwrap();
        drop(wal);
        assert_eq!(owed(&resumed(dir.path()).await.1), []);
    }
}
