//! The running binary at a steady rate: resident memory over time, processor time per span, and the rate that it can take.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio_util::sync::CancellationToken;
use tracescale_benches::generate::Attributes;
use tracescale_benches::load::{Outcome, offer};
use tracescale_benches::measure::{Table, float};

use super::server::{Options, Running};
use super::{Shape, runtime};

/// Arguments of `memory`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    server: Options,
    /// Attributes of a span.
    #[arg(long, value_enum, default_value = "6")]
    attributes: Attributes,
    /// Spans per second.
    #[arg(long, default_value_t = 100_000.0)]
    rate: f64,
    /// Seconds at that rate.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Rates to try afterwards, to find the knee; each for `--step` seconds.
    #[arg(long, value_delimiter = ',', default_value = "100000,200000,300000,400000,500000,600000")]
    knee: Vec<f64>,
    /// Seconds per rate of the knee.
    #[arg(long, default_value_t = 15)]
    step: u64,
}

const SAMPLE: Duration = Duration::from_secs(5);
/// The knee is where acknowledgements take longer than this.
const KNEE_P99: f64 = 0.05;

pub(crate) fn run(args: &Args) -> Result<()> {
    println!(
        "memory: {:.0} spans/s for {} s, requests of {} spans × {} attributes, queue {} MiB\n",
        args.rate,
        args.seconds,
        args.shape.spans(),
        args.attributes.count(),
        args.server.queue_bytes() >> 20
    );
    runtime()?.block_on(async {
        let running = args.server.start(false, &[]).await?;
        println!("{}", steady(args, &running).await?);
        let (output, _) = running.finish().await?;
        println!("its own summary: {}\n", output.lines().last().unwrap_or_default());
        if !args.knee.is_empty() {
            println!("{}", knee(args).await?);
        }
        Ok(())
    })
}

async fn steady(args: &Args, running: &Running) -> Result<Table> {
    let templates = args.shape.templates(args.attributes, 64)?;
    let idle = running.usage()?;
    let mut table = Table::new(&["after s", "resident MiB", "peak MiB", "CPU cores used", "ns CPU/span", "queue MiB"]);
    table.row(&[&0, &mebibytes(idle.resident), &mebibytes(idle.peak), &"", &"", &""]);
    let load = running.load(args.rate, Duration::from_secs(args.seconds), Duration::ZERO);
    let sampling = async {
        let mut before = running.usage()?;
        for sample in 1..=args.seconds / SAMPLE.as_secs() {
            tokio::time::sleep(SAMPLE).await;
            let now = running.usage()?;
            let cpu = now.cpu.saturating_sub(before.cpu).as_secs_f64();
            let queue = running.metric("tracescale_queue_bytes", &[]).await?;
            table.row(&[
                &(sample * SAMPLE.as_secs()),
                &mebibytes(now.resident),
                &mebibytes(now.peak),
                &format!("{:.2}", cpu / SAMPLE.as_secs_f64()),
                &format!("{:.0}", cpu * 1e9 / (args.rate * SAMPLE.as_secs_f64())),
                &format!("{:.1}", queue / 1_048_576.0),
            ]);
            before = now;
        }
        anyhow::Ok(table)
    };
    let (outcome, table) = tokio::join!(offer(&load, &templates, CancellationToken::new()), sampling);
    let outcome = outcome?;
    println!("{}", answers(&outcome));
    let counted = running.metric("tracescale_received_items_total", &["signal=\"traces\""]).await?;
    let acknowledged = float(outcome.acknowledged.spans + outcome.rejected);
    ensure!((counted - acknowledged).abs() < 0.5, "{acknowledged} spans were acknowledged, /metrics counts {counted}");
    table
}

/// What became of an offered load, in one line.
pub(crate) fn answers(outcome: &Outcome) -> String {
    format!(
        "offered {} spans in {:.1} s; acknowledged {}, refused {}, failed {}, unsent {}; acknowledgement p50 {:.1} ms, p99 {:.1} ms",
        outcome.offered.spans,
        outcome.seconds,
        outcome.acknowledged.spans,
        outcome.refused_total().tally.spans,
        outcome.failed.spans,
        outcome.unsent.spans,
        outcome.latency(0.5) * 1e3,
        outcome.latency(0.99) * 1e3
    )
}

/// Every rate on a fresh process.
async fn knee(args: &Args) -> Result<Table> {
    let templates = args.shape.templates(args.attributes, 64)?;
    let titles = [
        "offered/s",
        "acknowledged/s",
        "refused",
        "unsent",
        "p50 ms",
        "p99 ms",
        "CPU cores used",
        "spans/s/core",
        "peak MiB",
        "within the knee",
    ];
    let mut table = Table::new(&titles);
    for &rate in &args.knee {
        let running = args.server.start(false, &[]).await?;
        let before = running.usage()?;
        let load = running.load(rate, Duration::from_secs(args.step), Duration::from_secs(1));
        let outcome = offer(&load, &templates, CancellationToken::new()).await?;
        let after = running.usage()?;
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let acknowledged = float(outcome.acknowledged.spans);
        let refused = outcome.refused_total().tally.requests;
        let holds = refused == 0 && outcome.failed.requests == 0 && outcome.unsent.requests == 0 && outcome.latency(0.99) < KNEE_P99;
        table.row(&[
            &format!("{rate:.0}"),
            &format!("{:.0}", acknowledged / outcome.seconds),
            &refused,
            &outcome.unsent.requests,
            &format!("{:.1}", outcome.latency(0.5) * 1e3),
            &format!("{:.1}", outcome.latency(0.99) * 1e3),
            &format!("{:.2}", cpu / outcome.seconds),
            &format!("{:.0}", acknowledged / cpu),
            &mebibytes(after.peak),
            &if holds { "yes" } else { "no" },
        ]);
        running.finish().await?;
    }
    Ok(table)
}

/// Bytes as MiB with one digit.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", float(bytes) / 1_048_576.0)
}
