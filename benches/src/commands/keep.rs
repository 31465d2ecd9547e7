//! What the write-ahead log costs: groups of requests appended in this process beside decoding the same requests, and the running
//! binary with each durability in turns.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio_util::sync::CancellationToken;
use tracescale_archive::wal::{self, Durability, Entry, Wal};
use tracescale_benches::body::{Compression, Template};
use tracescale_benches::generate::{Attributes, BASE};
use tracescale_benches::load::offer;
use tracescale_benches::measure::{Elapsed, Spread, Stopwatch, Table, float, nanos_per};
use tracescale_core::time::Timestamp;
use tracescale_ingest as ingest;
use tracescale_ingest::decode::{Declared, Encoding, Signal, decode};

use super::server::Options;
use super::{Shape, runtime};

/// Arguments of `keep`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    server: Options,
    /// Requests that are appended in each round of a cell.
    #[arg(long, default_value_t = 1_024)]
    requests: usize,
    /// Requests of a group.
    #[arg(long, value_delimiter = ',', default_value = "1,8,64")]
    groups: Vec<usize>,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Spans per second that the running binary is offered.
    #[arg(long, default_value_t = 50_000.0)]
    rate: f64,
    /// Seconds at that rate. The log is cut early when it is large: with the defaults it is not.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Spans per second that are too many.
    #[arg(long, default_value_t = 600_000.0)]
    flood: f64,
    /// Seconds of that; none to leave it out.
    #[arg(long, default_value_t = 8)]
    flood_seconds: u64,
    /// Rounds with the running binary; none to leave it out.
    #[arg(long, default_value_t = 3)]
    server_rounds: usize,
}

/// One setting of the running binary, and what was seen.
struct Setting {
    name: &'static str,
    options: Options,
    seen: Vec<Seen>,
}

struct Seen {
    /// Processor seconds per million spans at the steady rate.
    seconds: f64,
    p50: f64,
    p99: f64,
    /// Spans per second acknowledged of far too many.
    flood: f64,
}

/// What one round of appending took.
#[derive(Default)]
struct Appended {
    all: Elapsed,
    /// Seconds of each group.
    groups: Vec<f64>,
}

/// Different requests; the others are these with a mark.
const BODIES: usize = 64;
const ATTRIBUTES: Attributes = Attributes::Six;
const DURABILITIES: [(Durability, &str); 2] = [(Durability::Os, "os"), (Durability::Fsync, "fsync")];

pub(crate) fn run(args: &Args) -> Result<()> {
    println!(
        "keep: requests of {} spans × {} attributes, zstd; {} requests a round, {} rounds\n",
        args.shape.spans(),
        ATTRIBUTES.count(),
        args.requests,
        args.rounds
    );
    let templates = args.shape.templates(ATTRIBUTES, BODIES)?;
    println!("{}", alone(args, &templates)?);
    if args.server_rounds > 0 {
        println!("{}", runtime()?.block_on(running(args, &templates))?);
    }
    Ok(())
}

/// Groups in this process.
fn alone(args: &Args, templates: &[Template]) -> Result<Table> {
    let bodies = templates.iter().map(|template| Compression::Zstd.compress(template.plain())).collect::<Result<Vec<_>>>()?;
    let capacity = templates.iter().map(|template| template.plain().len()).max().unwrap_or(0);
    let spans = (args.requests * args.shape.spans()) as u64;
    let titles = ["durability", "requests a group", "group µs p50", "p99", "ns CPU/span", "of decoding, CPU", "ns/span (wall)", "MB/s"];
    let mut table = Table::new(&titles);
    for (durability, name) in DURABILITIES {
        for &group in &args.groups {
            let (mut log, mut decoding, mut wall, mut groups) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            let mut bytes = 0;
            for round in 0..args.rounds {
                let entries = entries(&bodies, args.requests, round);
                bytes = entries.iter().map(|entry| entry.body.len() as u64).sum();
                let appended = append(durability, group, &entries)?;
                log.push(nanos_per(appended.all.cpu, spans));
                wall.push(nanos_per(appended.all.wall, spans));
                groups.extend(appended.groups);
                decoding.push(nanos_per(decoded(&entries, capacity)?.cpu, spans));
            }
            groups.sort_by(f64::total_cmp);
            let at = |percent: usize| groups.get(groups.len() * percent / 100).copied().unwrap_or(0.0) * 1e6;
            let wall = Spread::of(&wall);
            table.row(&[
                &name,
                &group,
                &format!("{:.0}", at(50)),
                &format!("{:.0}", at(99)),
                &Spread::of(&log),
                &Spread::ratio(&log, &decoding),
                &wall,
                &format!("{:.0}", float(bytes) / float(spans) * 1e3 / wall.median),
            ]);
        }
    }
    Ok(table)
}

fn entries(bodies: &[Vec<u8>], count: usize, round: usize) -> Vec<Entry> {
    let entry = |index: usize| {
        let mut body = bodies[index % bodies.len()].clone();
        Compression::Zstd.mark(&mut body, (round * count + index) as u64);
        Entry {
            signal: Signal::Traces.tag(),
            encoding: Encoding::Protobuf.tag(),
            compression: ingest::Compression::Zstd.tag(),
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            received_at: BASE + Duration::from_millis(index as u64),
            body: body.into(),
        }
    };
    (0..count).map(entry).collect()
}

/// Appends to a new log.
fn append(durability: Durability, group: usize, entries: &[Entry]) -> Result<Appended> {
    let folder = tempfile::tempdir()?;
    let (mut log, _) = Wal::open(folder.path(), wal::Options { durability, ..wal::Options::default() })?;
    let mut appended = Appended::default();
    for group in entries.chunks(group.max(1)) {
        let watch = Stopwatch::start();
        let answers = log.append(group)?;
        let elapsed = watch.elapsed();
        appended.all += elapsed;
        appended.groups.push(elapsed.wall.as_secs_f64());
        ensure!(!answers.contains(&wal::Appended::Duplicate), "a request was taken for another one");
    }
    Ok(appended)
}

/// Decompresses and decodes the same requests.
fn decoded(entries: &[Entry], capacity: usize) -> Result<Elapsed> {
    let watch = Stopwatch::start();
    for entry in entries {
        let body = Compression::Zstd.decompress(&entry.body, capacity)?;
        drop(black_box(decode(Signal::Traces, Encoding::Protobuf, &body, Timestamp::EPOCH, &Declared::default())?));
    }
    Ok(watch.elapsed())
}

/// The running binary with each setting in turns.
async fn running(args: &Args, templates: &[Template]) -> Result<Table> {
    let settings = [
        ("answer first", "none", "1h"),
        ("os", "os", "1h"),
        ("fsync (default)", "fsync", "1h"),
        ("fsync, archive every 5 s", "fsync", "5s"),
    ];
    let setting = |(name, durability, every)| Setting { name, options: args.server.storing(durability, every), seen: Vec::new() };
    let mut settings = settings.map(setting);
    for _ in 0..args.server_rounds {
        for setting in &mut settings {
            let seen = observe(args, &setting.options, templates).await?;
            setting.seen.push(seen);
        }
    }
    let values = |setting: &Setting, get: fn(&Seen) -> f64| setting.seen.iter().map(get).collect::<Vec<f64>>();
    let titles = ["wal and archive", "CPU s/M spans", "to the first", "ack p50 ms", "ack p99 ms", "flood: M spans/s", "to the first"];
    let mut table = Table::new(&titles);
    let first = (values(&settings[0], |seen| seen.seconds), values(&settings[0], |seen| seen.flood));
    for setting in &settings {
        let (seconds, flood) = (values(setting, |seen| seen.seconds), values(setting, |seen| seen.flood));
        table.row(&[
            &setting.name,
            &Spread::of(&seconds),
            &Spread::ratio(&seconds, &first.0),
            &Spread::of(&values(setting, |seen| seen.p50 * 1e3)),
            &Spread::of(&values(setting, |seen| seen.p99 * 1e3)),
            &Spread::of(&flood.iter().map(|rate| rate / 1e6).collect::<Vec<_>>()),
            &Spread::ratio(&flood, &first.1),
        ]);
    }
    Ok(table)
}

async fn observe(args: &Args, options: &Options, templates: &[Template]) -> Result<Seen> {
    let running = options.start(false, &[]).await?;
    let before = running.usage()?;
    let load = running.load(args.rate, Duration::from_secs(args.seconds), Duration::from_secs(1));
    let steady = offer(&load, templates, CancellationToken::new()).await?;
    let cpu = running.usage()?.cpu.saturating_sub(before.cpu);
    ensure!(
        steady.acknowledged.spans == steady.offered.spans,
        "{} of {} spans acknowledged",
        steady.acknowledged.spans,
        steady.offered.spans
    );
    let repeated = running.metric("tracescale_duplicate_requests_total", &[]).await?;
    ensure!(repeated < 0.5, "{repeated} requests were taken for others");
    let mut flood = 0.0;
    if args.flood_seconds > 0 {
        let load = running.load(args.flood, Duration::from_secs(args.flood_seconds), Duration::from_secs(1));
        let outcome = offer(&load, templates, CancellationToken::new()).await?;
        flood = float(outcome.acknowledged.spans) / outcome.seconds;
    }
    running.finish().await?;
    let seconds = cpu.as_secs_f64() * 1e6 / float(steady.acknowledged.spans);
    Ok(Seen { seconds, p50: steady.latency(0.5), p99: steady.latency(0.99), flood })
}
