//! What an archived row takes and costs: cuts as the running binary makes them, then merged when their hours are over.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use cpu_time::ProcessTime;
use tracescale_archive::file::{FileMeta, Level};
use tracescale_archive::name::WriterName;
use tracescale_archive::streams::{self, Ids};
use tracescale_archive::{Archive, Cut, Location, Options, Store};
use tracescale_benches::generate::BASE;
use tracescale_benches::measure::{self, Elapsed, Spread, Table, float, nanos_per};
use tracescale_benches::spans::Batches;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_ingest::{capture, decode};

use super::runtime;

/// Arguments of `archive`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Spans.
    #[arg(long, default_value_t = 1 << 20)]
    spans: usize,
    /// Hours that they are spread over.
    #[arg(long, default_value_t = 1)]
    hours: u32,
    /// Services.
    #[arg(long, default_value_t = 50)]
    services: usize,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A capture whose rows are archived too.
    #[arg(long, default_value = "testdata/shop.otlp.zst")]
    capture: PathBuf,
}

/// Rows that are archived at once: when, and what.
type CutRows = (Timestamp, Vec<(Stream, Vec<RecordBatch>)>);

/// An archive before and after its files were merged.
struct Written {
    rows: u64,
    fresh: u64,
    merged: u64,
    writing: Elapsed,
    merging: Elapsed,
}

/// Rows of a cut, as in the running binary.
const CUT_ROWS: usize = 1 << 18;
/// Spans of a request.
const BATCH_ROWS: usize = 512;
/// The first trace ends so long after the hour began: its calls end before it does, and belong to the same hour.
const FIRST: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);
/// Long enough for every hour to be over and every removed file to be deleted.
const LATER: Duration = Duration::from_secs(4 * 3600);
const IDS: [(Ids, &str); 3] = [(Ids::Full, "full"), (Ids::Trace, "trace"), (Ids::None, "none")];

pub(crate) fn run(args: &Args) -> Result<()> {
    println!(
        "archive: {} spans of {} services over {} h, cuts of {CUT_ROWS} rows, {} rounds; processor time of all threads\n",
        args.spans, args.services, args.hours, args.rounds
    );
    let cuts = generated(args)?;
    let titles =
        ["ids", "B/span fresh", "B/span merged", "cut, ns CPU/span", "merge, ns CPU/span", "cut, M spans/s/core", "cut, M spans/s (wall)"];
    let mut table = Table::new(&titles);
    let mut rounds: BTreeMap<&str, Vec<Written>> = BTreeMap::new();
    for _ in 0..args.rounds {
        for (ids, name) in IDS {
            rounds.entry(name).or_default().push(runtime()?.block_on(archived(ids, &cuts, Stream::Spans))?);
        }
    }
    for (_, name) in IDS {
        let written = rounds.remove(name).unwrap_or_default();
        let Some(first) = written.first() else { continue };
        let per = |get: fn(&Written) -> Duration| -> Vec<f64> { written.iter().map(|round| nanos_per(get(round), round.rows)).collect() };
        let cutting = Spread::of(&per(|round| round.writing.cpu));
        table.row(&[
            &name,
            &format!("{:.1}", float(first.fresh) / float(first.rows)),
            &format!("{:.1}", float(first.merged) / float(first.rows)),
            &cutting,
            &Spread::of(&per(|round| round.merging.cpu)),
            &format!("{:.2}", 1e3 / cutting.median),
            &format!("{:.2}", 1e3 / Spread::of(&per(|round| round.writing.wall)).median),
        ]);
    }
    println!("{table}");
    println!("{}", of_capture(&args.capture)?);
    Ok(())
}

/// Cuts of generated spans, in memory.
fn generated(args: &Args) -> Result<Vec<CutRows>> {
    let count = args.spans.div_ceil(BATCH_ROWS);
    let mut batches = Batches::new(1, args.services, count.min(CUT_ROWS / BATCH_ROWS * 4), BATCH_ROWS)?;
    let step = (Duration::from_secs(3600) * args.hours).saturating_sub(FIRST) / u32::try_from(count)?;
    let mut cuts = Vec::new();
    let mut at = BASE + FIRST;
    let mut left = count;
    while left > 0 {
        let now = left.min(CUT_ROWS / BATCH_ROWS);
        let mut rows = Vec::with_capacity(now);
        for _ in 0..now {
            rows.push(batches.take(at, step)?);
            at = at + step;
        }
        left -= now;
        cuts.push((at, vec![(Stream::Spans, rows)]));
    }
    Ok(cuts)
}

/// The sizes of every table of a capture.
fn of_capture(path: &Path) -> Result<Table> {
    let cuts = captured(path).with_context(|| format!("capture {}", path.display()))?;
    let mut table = Table::new(&["of the capture", "ids", "rows", "B/row fresh, a cut a minute", "B/row merged"]);
    for stream in [Stream::Spans, Stream::Metrics] {
        for (ids, name) in IDS {
            let written = runtime()?.block_on(archived(ids, &cuts, stream))?;
            if written.rows > 0 && (stream == Stream::Spans || ids == Ids::Full) {
                let per_row = |bytes: u64| format!("{:.1}", float(bytes) / float(written.rows));
                table.row(&[&stream.name(), &name, &written.rows, &per_row(written.fresh), &per_row(written.merged)]);
            }
        }
    }
    Ok(table)
}

/// The rows of a capture in cuts of a minute; a request counts as received when its newest item ended.
fn captured(path: &Path) -> Result<Vec<CutRows>> {
    let mut minutes: BTreeMap<Timestamp, BTreeMap<Stream, Vec<RecordBatch>>> = BTreeMap::new();
    for message in capture::Reader::new(File::open(path)?) {
        let message = message?;
        let mut decoded = decode::decode(message.signal, message.encoding, &message.body, Timestamp::EPOCH, &decode::Declared::default())?;
        let Some(time) = decoded.newest_time() else { continue };
        decoded.set_received_at(time)?;
        for (stream, batch) in decoded.batches {
            minutes.entry(time.floor(MINUTE) + MINUTE).or_default().entry(stream).or_default().push(batch);
        }
    }
    Ok(minutes.into_iter().map(|(at, tables)| (at, tables.into_iter().collect())).collect())
}

/// Archives all cuts in a folder of their own, merges them, and says what that took; sizes are those of one stream.
async fn archived(ids: Ids, cuts: &[CutRows], of: Stream) -> Result<Written> {
    let folder = tempfile::tempdir()?;
    let begin = cuts.first().map_or(BASE, |(at, _)| *at);
    let mut archive = open(folder.path(), "bench", begin).await?;
    let (watch, wall) = (ProcessTime::now(), measure::instant());
    for (at, rows) in cuts {
        commit(&mut archive, ids, rows.clone(), *at).await?;
    }
    let writing = Elapsed { cpu: watch.elapsed(), wall: wall.elapsed() };
    let fresh: u64 = files(&archive, of).map(|file| file.bytes).sum();
    let later = cuts.last().map_or(BASE, |(at, _)| *at) + LATER;
    let (watch, wall) = (ProcessTime::now(), measure::instant());
    while archive.compact(later).await?.more {}
    let merging = Elapsed { cpu: watch.elapsed(), wall: wall.elapsed() };
    anyhow::ensure!(files(&archive, of).all(|file| file.level == Level::Compacted), "a file was not merged");
    let rows = files(&archive, of).map(|file| file.rows).sum();
    Ok(Written { rows, fresh, merged: files(&archive, of).map(|file| file.bytes).sum(), writing, merging })
}

fn files(archive: &Archive, of: Stream) -> impl Iterator<Item = &FileMeta> {
    archive.files().filter(move |file| file.table == of.name())
}

/// An archive in a folder.
pub(crate) async fn open(folder: &Path, writer: &str, now: Timestamp) -> Result<Archive> {
    let store = Store::open(&Location::Local(folder.to_owned()))?;
    Ok(Archive::open(store, Options::new(WriterName::new(writer)?, 1), now).await?)
}

/// Archives one cut.
pub(crate) async fn commit(archive: &mut Archive, ids: Ids, rows: Vec<(Stream, Vec<RecordBatch>)>, now: Timestamp) -> Result<()> {
    let tables = rows.into_iter().map(|(stream, rows)| (Arc::new(streams::table(stream, ids)), rows)).collect();
    archive.commit(Cut { through: archive.through() + 1, marks: BTreeMap::new(), tables }, now).await?;
    Ok(())
}
