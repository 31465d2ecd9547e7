//! Ten times too much for a minute, then recovery, then SIGTERM under load. Every count is compared with the server's own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracescale_benches::body::Template;
use tracescale_benches::generate::Attributes;
use tracescale_benches::load::{Outcome, offer};
use tracescale_benches::measure::{Table, float};
use tracescale_benches::process::Usage;
use tracescale_queries::streams;

use super::memory::{answers, mebibytes};
use super::server::{Options, Running};
use super::{Shape, runtime};

/// Arguments of `overload`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    server: Options,
    /// Attributes of a span.
    #[arg(long, value_enum, default_value = "6")]
    attributes: Attributes,
    /// Spans per second that are normal.
    #[arg(long, default_value_t = 100_000.0)]
    rate: f64,
    /// How many times that in the overload.
    #[arg(long, default_value_t = 10.0)]
    factor: f64,
    /// Seconds of overload.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds of the normal phases before and after.
    #[arg(long, default_value_t = 20)]
    calm: u64,
}

/// One phase and what memory did in it.
struct Phase {
    name: &'static str,
    outcome: Outcome,
    after: Usage,
    /// Resident memory over time, bytes.
    resident: Vec<u64>,
    most_queued: f64,
}

const SAMPLE: Duration = Duration::from_millis(500);
/// What waits in the queue is worked off before memory or counts are compared.
const SETTLE: Duration = Duration::from_secs(30);
/// What a span that waits for its trace takes: see `streams::Config::max_spans`.
const CALL_SPAN_BYTES: u64 = 104;
const UNTIL_TERM: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &Args) -> Result<()> {
    println!(
        "overload: {:.0} spans/s normal, ×{} for {} s; requests of {} spans × {} attributes, queue {} MiB\n",
        args.rate,
        args.factor,
        args.seconds,
        args.shape.spans(),
        args.attributes.count(),
        args.server.queue_bytes() >> 20
    );
    runtime()?.block_on(scenario(args))
}

async fn scenario(args: &Args) -> Result<()> {
    let templates = args.shape.templates(args.attributes, 64)?;
    let running = args.server.start(true, &[]).await?;
    let calm = Duration::from_secs(args.calm);
    let mut phases = Vec::new();
    for (name, rate, duration) in
        [("before", args.rate, calm), ("overload", args.rate * args.factor, Duration::from_secs(args.seconds)), ("after", args.rate, calm)]
    {
        let phase = phase(name, &running, &templates, rate, duration).await?;
        settle(&running).await?;
        reconcile(&running, &phases, &phase).await?;
        phases.push(phase);
    }
    let last = terminated(args, &running, &templates).await?;
    let (output, _) = running.finish().await?;
    phases.push(last);
    println!("{}", table(&phases));
    print_refusals(&phases);
    verdicts(args, &phases, &output)
}

async fn phase(name: &'static str, running: &Running, templates: &[Template], rate: f64, duration: Duration) -> Result<Phase> {
    let load = running.load(rate, duration, Duration::from_secs(1));
    let done = CancellationToken::new();
    let offering = async {
        let outcome = offer(&load, templates, CancellationToken::new()).await;
        done.cancel();
        outcome
    };
    let sampling = async {
        let (mut resident, mut queued) = (Vec::new(), 0.0_f64);
        while !done.is_cancelled() {
            tokio::time::sleep(SAMPLE).await;
            resident.push(running.usage()?.resident);
            queued = queued.max(running.metric("tracescale_queue_bytes", &[]).await?);
        }
        anyhow::Ok((resident, queued))
    };
    let (outcome, sampled) = tokio::join!(offering, sampling);
    let (resident, most_queued) = sampled?;
    Ok(Phase { name, outcome: outcome?, after: running.usage()?, resident, most_queued })
}

/// Waits until nothing is queued.
async fn settle(running: &Running) -> Result<()> {
    let emptied = async {
        while running.metric("tracescale_queue_bytes", &[]).await? > 0.0 {
            tokio::time::sleep(SAMPLE).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SETTLE, emptied).await.context("the queue was not worked off in time")?
}

/// The server's counters are the sender's, exactly.
async fn reconcile(running: &Running, phases: &[Phase], last: &Phase) -> Result<()> {
    let outcomes = || phases.iter().chain([last]).map(|phase| &phase.outcome);
    let failed: u64 = outcomes().map(|outcome| outcome.failed.requests).sum();
    ensure!(failed == 0, "{failed} requests were never answered");
    let items = running.metric("tracescale_received_items_total", &["signal=\"traces\""]).await?;
    let accepted = running.metric("tracescale_accepted_requests_total", &[]).await?;
    let refused = running.metric("tracescale_refused_requests_total", &[]).await?;
    let compared = [
        ("spans", items, outcomes().map(|outcome| outcome.acknowledged.spans + outcome.rejected).sum::<u64>()),
        ("accepted requests", accepted, outcomes().map(|outcome| outcome.acknowledged.requests).sum()),
        ("refused requests", refused, outcomes().map(|outcome| outcome.refused_total().tally.requests).sum()),
    ];
    for (what, counted, answered) in compared {
        ensure!((counted - float(answered)).abs() < 0.5, "after `{}`: {counted} {what} in /metrics, {answered} by the answers", last.name);
    }
    println!("after `{}`: spans, accepted and refused requests in /metrics equal the sender's counts", last.name);
    Ok(())
}

/// SIGTERM while the normal load goes on; it ends when connections are refused.
async fn terminated(args: &Args, running: &Running, templates: &[Template]) -> Result<Phase> {
    let stop = CancellationToken::new();
    let load = running.load(args.rate, UNTIL_TERM * 2, Duration::from_secs(1));
    let signalling = async {
        tokio::time::sleep(UNTIL_TERM).await;
        running.signal()?;
        let usage = running.usage()?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        stop.cancel();
        anyhow::Ok(usage)
    };
    let (outcome, usage) = tokio::join!(offer(&load, templates, stop.clone()), signalling);
    let usage = usage?;
    Ok(Phase { name: "SIGTERM", outcome: outcome?, after: usage, resident: vec![usage.resident], most_queued: 0.0 })
}

fn table(phases: &[Phase]) -> Table {
    let titles = [
        "phase",
        "offered/s",
        "acknowledged/s",
        "refused",
        "failed",
        "unsent",
        "p99 ms",
        "most resident MiB",
        "peak so far MiB",
        "most queued MiB",
    ];
    let mut table = Table::new(&titles);
    for Phase { name, outcome, after, resident, most_queued } in phases {
        table.row(&[
            name,
            &format!("{:.0}", float(outcome.offered.spans) / outcome.seconds),
            &format!("{:.0}", float(outcome.acknowledged.spans) / outcome.seconds),
            &outcome.refused_total().tally.requests,
            &outcome.failed.requests,
            &outcome.unsent.requests,
            &format!("{:.1}", outcome.latency(0.99) * 1e3),
            &mebibytes(most(resident)),
            &mebibytes(after.peak),
            &format!("{:.1}", most_queued / 1_048_576.0),
        ]);
    }
    table
}

fn most(resident: &[u64]) -> u64 {
    resident.iter().copied().max().unwrap_or(0)
}

fn print_refusals(phases: &[Phase]) {
    let mut table = Table::new(&["phase", "status", "requests", "retryable", "with a delay"]);
    for phase in phases {
        for (status, refused) in &phase.outcome.refused {
            table.row(&[&phase.name, status, &refused.tally.requests, &refused.retryable, &refused.with_delay]);
        }
    }
    println!("{table}");
}

fn verdicts(args: &Args, phases: &[Phase], output: &str) -> Result<()> {
    for phase in phases {
        println!("{}: {}", phase.name, answers(&phase.outcome));
    }
    let acknowledged: u64 = phases.iter().map(|phase| phase.outcome.acknowledged.spans).sum();
    let summary = output.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| line["type"] == "summary");
    let summary = summary.context("the server printed no summary")?;
    let counted = summary["spans"].as_u64().context("the summary has no spans")?;
    let not_retryable: u64 =
        phases.iter().map(|phase| phase.outcome.refused_total()).map(|refused| refused.tally.requests - refused.retryable).sum();
    let [before, overload, after, _] = phases else { anyhow::bail!("four phases were run") };
    let growth = overload.after.peak.saturating_sub(before.after.peak);
    let bound = args.server.queue_bytes() + CALL_SPAN_BYTES * streams::Config::default().max_spans as u64;
    let (first, second) = overload.resident.split_at(overload.resident.len() / 2);
    let recovered = after.outcome.acknowledged == after.outcome.offered && after.outcome.unsent.requests == 0;
    let mut table = Table::new(&["bar", "measured", "kept"]);
    let mut row = |bar: &str, measured: String, kept: bool| table.row(&[&bar, &measured, &if kept { "yes" } else { "NO" }]);
    let grown = format!("{} MiB, bound {} MiB", mebibytes(growth), mebibytes(bound));
    row("the overload takes at most the queue and the bound of open traces", grown, growth <= bound);
    let halves = format!("{} MiB, then {} MiB", mebibytes(most(first)), mebibytes(most(second)));
    row("its second half takes no more memory than its first (5 %)", halves, most(second) * 20 <= most(first) * 21);
    row("every refusal is retryable", format!("{not_retryable} are not"), not_retryable == 0);
    row("afterwards everything is accepted", format!("{} of {}", after.outcome.acknowledged.spans, after.outcome.offered.spans), recovered);
    // A request whose answer the closing connection cut off may have been taken: the sender will send it again.
    let unanswered: u64 = phases.iter().map(|phase| phase.outcome.failed.spans).sum();
    let kept = counted >= acknowledged && counted <= acknowledged + unanswered;
    row(
        "every acknowledged span is in the summary",
        format!("{acknowledged} acknowledged, {unanswered} unanswered, {counted} in it"),
        kept,
    );
    println!("\n{table}");
    Ok(())
}
