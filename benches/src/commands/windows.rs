//! Decoded batches through the engine and every shipped view, as the running process drives it: pushed as they come, time
//! moved on every second. Prost decodes the same bytes in between, so that both see the same caches and clock speed.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tracescale_benches::body::Template;
use tracescale_benches::generate::{Attributes, BASE, MetricGenerator, MetricShape};
use tracescale_benches::measure::{Elapsed, Spread, Stopwatch, Table, float, nanos_per};
use tracescale_core::time::Timestamp;
use tracescale_ingest::decode::{Declared, Decoded, Encoding, Signal, decode};
use tracescale_queries::{Engine, EngineConfig, EngineParts, judgement, shipped, streams};

use super::Shape;

/// Arguments of `windows`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Spans per second of event time.
    #[arg(long, default_value_t = 50_000)]
    rate: usize,
    /// Attributes of a span.
    #[arg(long, value_enum, default_value = "6")]
    attributes: Attributes,
    /// Seconds of event time before the measurement: windows, watermarks and histories fill.
    #[arg(long, default_value_t = 75)]
    warm_up: usize,
    /// Measured seconds of event time.
    #[arg(long, default_value_t = 60)]
    seconds: usize,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Also measure each view alone, for a third of the time.
    #[arg(long)]
    each: bool,
}

/// Thread CPU time of each stage over the measured part.
#[derive(Default)]
struct Stages {
    prost: Elapsed,
    decode: Elapsed,
    push: Elapsed,
    advance: Elapsed,
    advances: u64,
    slowest_advance: Duration,
    items: u64,
    emitted_rows: u64,
    pane_bytes: usize,
    history_bytes: usize,
}

enum Input {
    Traces(Vec<Template>),
    Metrics(MetricGenerator),
}

const SENDERS: usize = 4;
const EXPORTS_PER_SECOND: usize = 1;

pub(crate) fn run(args: &Args) -> Result<()> {
    println!(
        "windows: {} spans/s of event time, {} attributes, {} s after {} s of warm-up, {} rounds; advance every second\n",
        args.rate,
        args.attributes.count(),
        args.seconds,
        args.warm_up,
        args.rounds
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let templates = args.shape.templates(args.attributes, 64)?;
    let mut rounds = Vec::new();
    for _ in 0..args.rounds {
        let round = runtime.block_on(measure(args, Input::Traces(templates.clone()), parts(), args.warm_up, args.seconds))?;
        ensure!(round.emitted_rows > 0, "no view emitted a row");
        rounds.push(round);
    }
    println!("{}", stages(&rounds, "span"));
    println!("{}", derived(args, &templates)?);
    let metrics = MetricGenerator::new(MetricShape::default());
    let metrics = runtime.block_on(measure(args, Input::Metrics(metrics), parts(), args.warm_up, args.seconds))?;
    println!("{}", stages(&[metrics], "metric point"));
    if args.each {
        println!("{}", runtime.block_on(each(args, &templates))?);
    }
    Ok(())
}

fn stages(rounds: &[Stages], item: &str) -> Table {
    let per = |get: fn(&Stages) -> Duration| -> Vec<f64> { rounds.iter().map(|round| nanos_per(get(round), round.items)).collect() };
    let prost = per(|round| round.prost.cpu);
    let push = per(|round| round.push.cpu);
    let advance = per(|round| round.advance.cpu);
    let engine = per(|round| round.push.cpu + round.advance.cpu);
    let mut table = Table::new(&["stage", &format!("ns CPU per {item}"), "ratio to prost"]);
    let mut row = |name: &str, values: &[f64]| table.row(&[&name, &Spread::of(values), &Spread::ratio(values, &prost)]);
    row("prost decode, drop", &prost);
    row("decode to Arrow", &per(|round| round.decode.cpu));
    row("engine: push", &push);
    row("engine: advance", &advance);
    row("engine: both", &engine);
    let last = rounds.last();
    let mut fact = |name: &str, value: String| table.row(&[&name, &value, &""]);
    if let Some(last) = last {
        fact("items measured", last.items.to_string());
        fact("advance, mean", format!("{:.2} ms", nanos_per(last.advance.cpu, last.advances) / 1e6));
        fact("advance, slowest (wall)", format!("{:.2} ms", last.slowest_advance.as_secs_f64() * 1e3));
        fact("rows emitted", last.emitted_rows.to_string());
        fact("pane states", format!("{:.1} MiB", float(last.pane_bytes as u64) / 1_048_576.0));
        fact("histories", format!("{:.1} MiB", float(last.history_bytes as u64) / 1_048_576.0));
    }
    table
}

/// What the operators of the derived streams (matching calls, integrating busy time) take of the engine's time: they alone, over
/// the same batches. The rest is the pane engine.
fn derived(args: &Args, templates: &[Template]) -> Result<Table> {
    let (mut prost, mut derived) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let (mut stages, mut operators) = (Stages::default(), parts().derives);
        let (mut push, mut sent) = (Elapsed::default(), 0);
        for second in 0..args.warm_up + args.seconds {
            if second == args.warm_up {
                (stages, push) = (Stages::default(), Elapsed::default());
            }
            let begin = BASE + Duration::from_secs(second as u64);
            let requests = args.rate.div_ceil(args.shape.spans());
            for index in 0..requests {
                let at = begin + Duration::from_secs(1) * u32::try_from(index)? / u32::try_from(requests)?;
                sent += 1;
                let body = templates[sent % templates.len()].render(at, sent as u64);
                let decoded = stages.decoded(Signal::Traces, &body, at)?;
                let watch = Stopwatch::start();
                for (stream, batch) in &decoded.batches {
                    for operator in operators.iter_mut().filter(|operator| operator.inputs().contains(stream)) {
                        drop(black_box(operator.push(*stream, batch)?));
                    }
                }
                push += watch.elapsed();
            }
            let watch = Stopwatch::start();
            for operator in &mut operators {
                drop(black_box(operator.advance(begin - config().lateness)?));
            }
            push += watch.elapsed();
        }
        prost.push(nanos_per(stages.prost.cpu, stages.items));
        derived.push(nanos_per(push.cpu, stages.items));
    }
    let mut table = Table::new(&["of the engine", "ns CPU per span", "ratio to prost"]);
    table.row(&[&"derived streams alone", &Spread::of(&derived), &Spread::ratio(&derived, &prost)]);
    Ok(table)
}

/// Every view of windows alone, with what it reads; what views share is paid by each of them here.
async fn each(args: &Args, templates: &[Template]) -> Result<Table> {
    let mut table = Table::new(&["view alone", "push ns/span", "advance ns/span", "engine / prost"]);
    for view in parts().views {
        let mut alone = parts();
        alone.views.retain(|other| other.name == view.name);
        // A view of views cannot stand alone.
        if Engine::with_parts(config(), alone).await.is_err() {
            continue;
        }
        let mut alone = parts();
        alone.views.retain(|other| other.name == view.name);
        let stages = measure(args, Input::Traces(templates.to_vec()), alone, args.warm_up / 3, args.seconds / 3).await?;
        // Views of metrics have nothing to do here.
        if stages.emitted_rows == 0 {
            continue;
        }
        let engine = stages.push.cpu + stages.advance.cpu;
        table.row(&[
            &view.name,
            &format!("{:.0}", nanos_per(stages.push.cpu, stages.items)),
            &format!("{:.0}", nanos_per(stages.advance.cpu, stages.items)),
            &format!("{:.2}", engine.as_secs_f64() / stages.prost.cpu.as_secs_f64()),
        ]);
    }
    Ok(table)
}

fn config() -> EngineConfig {
    EngineConfig::default()
}

fn parts() -> EngineParts {
    shipped::parts(&streams::Config::default(), &judgement::Settings::default(), Vec::new()).0
}

async fn measure(args: &Args, mut input: Input, parts: EngineParts, warm_up: usize, seconds: usize) -> Result<Stages> {
    let mut engine = Engine::with_parts(config(), parts).await.map_err(|problems| anyhow!("{problems:?}"))?;
    let mut stages = Stages::default();
    let mut sent = 0;
    for second in 0..warm_up + seconds {
        if second == warm_up {
            stages = Stages::default();
        }
        let begin = BASE + Duration::from_secs(second as u64);
        let requests = match &input {
            Input::Traces(_) => args.rate.div_ceil(args.shape.spans()),
            Input::Metrics(_) => EXPORTS_PER_SECOND,
        };
        for index in 0..requests {
            let at = begin + Duration::from_secs(1) * u32::try_from(index)? / u32::try_from(requests)?;
            sent += 1;
            let body = input.body(at, sent);
            stages.request(&mut engine, input.signal(), &body, at, sent).await?;
        }
        let watch = Stopwatch::start();
        let emissions = engine.advance(begin + Duration::from_secs(1)).await?;
        let elapsed = watch.elapsed();
        stages.advance += elapsed;
        stages.advances += 1;
        stages.slowest_advance = stages.slowest_advance.max(elapsed.wall);
        stages.emitted_rows += emissions.iter().map(|emission| emission.rows.num_rows() as u64).sum::<u64>();
        let late: u64 = engine.stats().late_rows.values().sum();
        ensure!(late == 0, "{late} rows were late");
    }
    let stats = engine.stats();
    (stages.pane_bytes, stages.history_bytes) = (stats.pane_bytes, stats.history_bytes);
    Ok(stages)
}

// === impl Input ===

impl Input {
    const fn signal(&self) -> Signal {
        match self {
            Self::Traces(_) => Signal::Traces,
            Self::Metrics(_) => Signal::Metrics,
        }
    }

    fn body(&mut self, at: Timestamp, index: usize) -> Vec<u8> {
        match self {
            Self::Traces(templates) => templates[index % templates.len()].render(at, index as u64),
            Self::Metrics(generator) => generator.request(at).encode_to_vec(),
        }
    }
}

// === impl Stages ===

impl Stages {
    /// Decodes with prost, then to Arrow.
    fn decoded(&mut self, signal: Signal, body: &[u8], at: Timestamp) -> Result<Decoded> {
        let watch = Stopwatch::start();
        match signal {
            Signal::Metrics => drop(black_box(ExportMetricsServiceRequest::decode(body)?)),
            Signal::Traces | Signal::Logs => drop(black_box(ExportTraceServiceRequest::decode(body)?)),
        }
        self.prost += watch.elapsed();

        let watch = Stopwatch::start();
        let decoded = decode(signal, Encoding::Protobuf, body, at, &Declared::default())?;
        self.decode += watch.elapsed();
        ensure!(decoded.rejected == 0, "{} items were refused: {}", decoded.rejected, decoded.rejected_reason);
        self.items += decoded.items;

        Ok(decoded)
    }

    async fn request(&mut self, engine: &mut Engine, signal: Signal, body: &[u8], at: Timestamp, index: usize) -> Result<()> {
        let decoded = self.decoded(signal, body, at)?;
        let source = format!("10.0.0.{}", index % SENDERS);
        let watch = Stopwatch::start();
        engine.push(&source, decoded.batches, at).await?;
        self.push += watch.elapsed();
        Ok(())
    }
}
