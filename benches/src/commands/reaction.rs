//! From the first span of a burst to the scale call, in real time: the real binary, a rule over a view that moves every five
//! seconds, and a load that becomes ten times as much at a moment of its own in every round.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracescale_benches::body::Template;
use tracescale_benches::generate::{Attributes, service_name};
use tracescale_benches::load::offer;
use tracescale_benches::measure::{self, Spread, Table};
use tracescale_core::time::Timestamp;

use super::server::Options;
use super::{Shape, runtime};

/// Arguments of `reaction`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    server: Options,
    /// Spans per second before the burst.
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// How many times that in the burst.
    #[arg(long, default_value_t = 10.0)]
    factor: f64,
    /// Bursts, each at another moment between two slides.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
}

/// One burst and what followed.
struct Reaction {
    /// Seconds since the window slid, when the burst began.
    phase: f64,
    /// Milliseconds from the first span of the burst to the decision, and from there to the end of the scale call.
    decided: f64,
    carried_out: f64,
    /// Milliseconds from the newest row behind the decision to the decision.
    evidence: f64,
}

const SLIDE: Duration = Duration::from_secs(5);
/// What the bar allows beyond the slide.
const ALLOWED: Duration = Duration::from_millis(250);
/// Windows are full and the first scale-up is over.
const CALM: Duration = Duration::from_secs(20);
const BURST: Duration = Duration::from_secs(8);
const RENEW: Duration = Duration::from_millis(50);

const VIEW: &str = "CREATE VIEW burst AS
SELECT window_start, window_end, service_name, coalesce(sum(adjusted_count), 0) / window_seconds() AS completion_rate, count(*) AS n_eff
FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '10 seconds') WHERE is_entry
GROUP BY window_start, window_end, service_name;
";

pub(crate) fn run(args: &Args) -> Result<()> {
    println!("reaction: {:.0} spans/s, then {:.0}; a view that slides every {SLIDE:?}\n", args.rate, args.rate * args.factor);
    let templates = args.shape.templates(Attributes::Six, 16)?;
    let mut table = Table::new(&["round", "began after slide s", "decided ms", "carried out ms", "after newest row ms"]);
    let mut reactions = Vec::new();
    for round in 0..args.rounds {
        let phase = SLIDE * round / args.rounds;
        let reaction = runtime()?.block_on(burst(args, &templates, phase)).with_context(|| format!("round {round}"))?;
        let Reaction { phase, decided, carried_out, evidence } = reaction;
        table.row(&[&round, &format!("{phase:.1}"), &format!("{decided:.0}"), &format!("{carried_out:.0}"), &format!("{evidence:.0}")]);
        reactions.push(reaction);
    }
    println!("{table}");
    let whole: Vec<f64> = reactions.iter().map(|reaction| reaction.decided + reaction.carried_out).collect();
    let (spread, bar) = (Spread::of(&whole), (SLIDE + ALLOWED).as_secs_f64() * 1e3);
    println!("burst to scale call: {spread} ms; bar {bar:.0} ms, {}", if spread.max <= bar { "kept" } else { "MISSED" });
    Ok(())
}

async fn burst(args: &Args, templates: &[Template], phase: Duration) -> Result<Reaction> {
    let service = service_name(0);
    let running = args.server.start(true, &[("burst.sql", VIEW), ("documents.yaml", &documents(&service, args.rate))]).await?;
    let begin = (measure::now() + CALM).floor(SLIDE) + SLIDE + phase;
    let calm = begin.since(measure::now());
    offer(&running.load(args.rate, calm, RENEW), templates, CancellationToken::new()).await?;
    let begun = measure::now();
    offer(&running.load(args.rate * args.factor, BURST, RENEW), templates, CancellationToken::new()).await?;
    let (output, _) = running.finish().await?;
    let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let time = |line: &Value, field: &str| line[field].as_i64().map(Timestamp::from_nanos);
    let ordered = |line: &&Value| line["action"] == "scale_up" && time(line, "at").is_some_and(|at| at >= begun);
    let decision = lines.iter().find(ordered).context("the burst led to no scale-up")?;
    let outcome = lines.iter().find(|line| line["type"] == "outcome" && line["concludes"] == decision["id"]);
    let outcome = outcome.context("the scale call has no outcome")?;
    let at = time(decision, "at").context("the decision has no time")?;
    let ended = time(outcome, "at").context("the outcome has no time")?;
    let evidence = time(decision, "evidenceTime").context("the decision has no evidence")?;
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    Ok(Reaction {
        phase: begun.since(begun.floor(SLIDE)).as_secs_f64(),
        decided: millis(at.since(begun)),
        carried_out: millis(ended.since(at)),
        evidence: millis(at.since(evidence)),
    })
}

/// A target, and a rule that wants replicas in proportion to the rate and moves as soon as a fifth more are wanted.
fn documents(service: &str, rate: f64) -> String {
    format!(
        "apiVersion: tracescale.io/v1alpha1
kind: ScalingTarget
metadata: {{name: bench}}
spec:
  memory: {{replicas: 10}}
  service: {{name: {service}}}
---
apiVersion: tracescale.io/v1alpha1
kind: ScalingRule
metadata: {{name: burst}}
spec:
  every: 5s
  mode: enforce
  targets: [bench]
  sql: |
    SELECT target, completion_rate / {} AS replicas, b.n_eff, b.completeness, b.age, b.presence, b.is_final, b.window_end
    FROM targets JOIN burst b USING (service_name) WHERE window_end = latest()
  policy: {{min: 10, max: 1000, tolerance: 0.2, scaleDown: {{selectPolicy: Disabled}}}}
",
        rate / 100.0
    )
}
