//! Questions about one service and one hour to a day of a large installation: how long they take and how many files they open.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use cpu_time::ProcessTime;
use tracescale::recorded::{self, Source};
use tracescale_archive::streams::Ids;
use tracescale_archive::{Catalog, Location, Range};
use tracescale_benches::generate::{BASE, service_name};
use tracescale_benches::measure::{self, Elapsed, Spread, Table, float, nanos_per};
use tracescale_benches::spans::{Batches, SYSTEM};
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_ingest::decode::Declared;
use tracescale_queries::{Past, PastLimits};

use super::archive::{commit, open};

/// Arguments of `history`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Spans.
    #[arg(long, default_value_t = 100_000_000)]
    spans: usize,
    /// Hours that they are spread over.
    #[arg(long, default_value_t = 24)]
    hours: usize,
    /// Services.
    #[arg(long, default_value_t = 50)]
    services: usize,
    /// The archive; it is made there, or used if it is there already. By default one that is deleted afterwards.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Threads that make it, each under a writer name of its own.
    #[arg(long, default_value_t = 2)]
    writers: usize,
    /// Rows of a file.
    #[arg(long, default_value_t = 1 << 20)]
    file_rows: usize,
    /// Merge the files when all are written.
    #[arg(long)]
    merge: bool,
    /// Warm runs of each query.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// The `tracescale` binary; by default the one beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// A query that was planned and run.
struct Asked {
    rows: usize,
    /// Opened, and of how many.
    files: (u64, u64),
    took: Elapsed,
}

const HOUR: Duration = Duration::from_secs(3600);
/// The first trace of an hour ends so long after it began: its calls end before it does, and belong to the same hour.
const FIRST: Duration = Duration::from_secs(2);
/// Rows of a batch: larger than a request, because joining requests is not what is measured here.
const BATCH_ROWS: usize = 16_384;
/// Different batches of a writer.
const TEMPLATES: usize = 20;
/// Long enough for every hour to be over and every removed file to be deleted.
const LATER: Duration = Duration::from_secs(4 * 3600);
/// Where nothing is: all rows are in the archive.
const NO_LOG: &str = "no-log";
/// Written last: an archive without it was not finished.
const FINISHED: &str = "finished";

pub(crate) fn run(args: &Args) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = args.keep.clone().unwrap_or_else(|| temporary.path().join("archive"));
    println!(
        "history: {} spans of {} services in {} h, all ids, files of {} rows; one service and one hour, {} warm runs\n",
        args.spans, args.services, args.hours, args.file_rows, args.runs
    );
    if !folder.join(FINISHED).exists() {
        build(args, &folder)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let catalog = Catalog::open(&Location::Local(folder.clone())).await?;
        let files = catalog.files(Stream::Spans.name(), &Range::default());
        let (rows, bytes) = files.iter().fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.bytes));
        println!("{rows} spans in {} files, {:.1} GB, {:.1} B/span\n", files.len(), float(bytes) / 1e9, float(bytes) / float(rows));
        println!("{}", queries(args, &folder).await?);
        Ok(())
    })
}

/// Makes the archive: every writer has its own hours.
fn build(args: &Args, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let writers = args.writers.max(1);
    let (cpu, wall) = (ProcessTime::now(), measure::instant());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|writer| scope.spawn(move || hours(args, folder, writer, writers))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a writer ended early"))))
    })?;
    let made = Elapsed { cpu: cpu.elapsed(), wall: wall.elapsed() };
    let spans = args.spans as u64;
    println!(
        "made in {:.0} s on {writers} threads ({:.0} ns CPU/span{})\n",
        made.wall.as_secs_f64(),
        nanos_per(made.cpu, spans),
        if args.merge { ", merging included" } else { "; files were written in their final size and not merged" }
    );
    fs::write(folder.join(FINISHED), b"")?;
    Ok(())
}

/// Every `writers`th hour from `writer` on.
fn hours(args: &Args, folder: &Path, writer: usize, writers: usize) -> Result<()> {
    let runtime = super::runtime()?;
    let mut batches = Batches::new(writer as u64 * 1_000 + 1, args.services, TEMPLATES, BATCH_ROWS)?;
    runtime.block_on(async {
        let mut archive = open(folder, &format!("bench-{writer}"), BASE).await?;
        let per_hour = (args.spans / args.hours.max(1)).div_ceil(BATCH_ROWS);
        let step = (HOUR - FIRST) / u32::try_from(per_hour)?;
        for hour in (writer..args.hours).step_by(writers) {
            let begin = BASE + HOUR * u32::try_from(hour)? + FIRST;
            let places: Vec<u32> = (0..u32::try_from(per_hour)?).collect();
            for places in places.chunks((args.file_rows / BATCH_ROWS).max(1)) {
                let rows = places.iter().map(|place| batches.take(begin + step * *place, step)).collect::<Result<Vec<_>>>()?;
                commit(&mut archive, Ids::Full, vec![(Stream::Spans, rows)], begin + HOUR).await?;
            }
        }
        let later = BASE + HOUR * u32::try_from(args.hours)? + LATER;
        while args.merge && archive.compact(later).await?.more {}
        Ok(())
    })
}

async fn queries(args: &Args, folder: &Path) -> Result<Table> {
    let binary = super::server::binary(args.binary.as_deref())?;
    let source =
        Source::Archive { location: Location::Local(folder.to_owned()), wal_dir: folder.join(NO_LOG), sampling: Declared::default() };
    let opening = measure::instant();
    let past = recorded::tables(&source, PastLimits::default()).await?;
    println!("catalogue read in {:.0} ms\n", opening.elapsed().as_secs_f64() * 1e3);
    let titles = ["query", "rows", "files opened", "new process, ms", "first run, ms", "warm, ms", "warm, ms CPU"];
    let mut table = Table::new(&titles);
    for (name, sql) in asked(args, &past).await? {
        let process = measure::instant();
        in_new_process(&binary, folder, &sql)?;
        let process = process.elapsed();
        let first = ask(&past, &sql).await?;
        let mut warm = Vec::with_capacity(args.runs);
        for _ in 0..args.runs {
            warm.push(ask(&past, &sql).await?);
        }
        let milliseconds = |get: fn(&Asked) -> Duration| {
            let times: Vec<f64> = warm.iter().map(|asked| get(asked).as_secs_f64() * 1e3).collect();
            Spread::of(&times)
        };
        table.row(&[
            &name,
            &first.rows,
            &format!("{} of {}", first.files.0, first.files.1),
            &format!("{:.0}", process.as_secs_f64() * 1e3),
            &format!("{:.0}", first.took.wall.as_secs_f64() * 1e3),
            &milliseconds(|asked| asked.took.wall),
            &milliseconds(|asked| asked.took.cpu),
        ]);
    }
    Ok(table)
}

/// The queries: a quantile, a group per minute, a trace within its hour and in all hours.
async fn asked(args: &Args, past: &Past) -> Result<Vec<(&'static str, String)>> {
    // One that users call: the busiest of its system.
    let (service, hour) = (service_name(args.services / 2 / SYSTEM * SYSTEM), args.hours / 2);
    let begin = BASE + HOUR * u32::try_from(hour)?;
    let range = format!("end_time >= TIMESTAMP '{}' AND end_time < TIMESTAMP '{}'", text(begin), text(begin + HOUR));
    let of = format!("WHERE service_name = '{service}' AND {range}");
    let some = past.prepare(&format!("SELECT trace_id, end_time FROM spans {of} LIMIT 1")).await?.collect().await?;
    let row = some.iter().find(|rows| rows.num_rows() > 0).with_context(|| format!("no span of {service}"))?;
    let id: String = row.column(0).as_fixed_size_binary().value(0).iter().map(|byte| format!("{byte:02x}")).collect();
    let count = past.prepare(&format!("SELECT count(*) FROM spans {of}")).await?.collect().await?;
    let count = count.first().and_then(|rows| rows.column(0).as_primitive_opt::<Int64Type>()?.values().first().copied());
    println!("{service} has {} spans in that hour\n", count.context("no count")?);
    ensure!(row.column(1).as_primitive_opt::<TimestampNanosecondType>().is_some(), "times are not in nanoseconds");
    let trace = format!("SELECT service_name, name, end_time, duration FROM spans WHERE trace_id = X'{id}'");
    Ok(vec![
        ("count, quantile", format!("SELECT count(*), quantile(duration, 0.99) FROM spans {of}")),
        (
            "by minute, name, route",
            format!(
                "SELECT date_trunc('minute', end_time) AS minute, name, http_route, count(*) AS spans, quantile(duration, 0.99) AS p99 \
                 FROM spans {of} GROUP BY 1, 2, 3"
            ),
        ),
        ("trace, in its hour", format!("{trace} AND {range}")),
        ("trace, in all hours", trace),
    ])
}

/// Plans and runs a query.
async fn ask(past: &Past, sql: &str) -> Result<Asked> {
    let (cpu, wall) = (ProcessTime::now(), measure::instant());
    let query = past.prepare(sql).await?;
    let rows: Vec<RecordBatch> = query.collect().await?;
    let took = Elapsed { cpu: cpu.elapsed(), wall: wall.elapsed() };
    let files = query.files().values().fold((0, 0), |(read, of), files| (read + files.read, of + files.of));
    Ok(Asked { rows: rows.iter().map(RecordBatch::num_rows).sum(), files, took })
}

fn in_new_process(binary: &Path, folder: &Path, sql: &str) -> Result<()> {
    let mut command = Command::new(binary);
    command
        .arg("sql")
        .arg(sql)
        .arg("--archive")
        .arg(folder)
        .arg("--data-dir")
        .arg(folder.join(NO_LOG))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = command.status().with_context(|| format!("{} cannot be started", binary.display()))?;
    ensure!(status.success(), "`tracescale sql` ended with {status}");
    Ok(())
}

/// A time as SQL has it.
fn text(time: Timestamp) -> String {
    time.to_string().trim_end_matches('Z').to_owned()
}
