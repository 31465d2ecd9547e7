//! The demo shop: five services in one process, instrumented with the OpenTelemetry SDK and exporting over OTLP/gRPC.
//!
//! It is what a newcomer points at tracescale, what `testdata/shop.otlp.zst` is recorded from, and what end-to-end tests
//! compare against: `--summary` writes how many spans and points the receiver acknowledged.

mod client;
mod control;
mod database;
mod faults;
mod headers;
mod instance;
mod load;
mod queue;
mod sampling;
mod services;
mod telemetry;
mod world;

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

use crate::control::Step;
use crate::load::Shape;
use crate::services::Service;
use crate::telemetry::Export;
use crate::world::World;

/// A small shop under load that sends its traces and metrics over OTLP/gRPC.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where telemetry goes.
    #[arg(long, default_value = "http://127.0.0.1:4317")]
    endpoint: String,
    /// How telemetry is sent.
    #[arg(long, default_value = "grpc", value_parser = ["grpc"])]
    protocol: String,
    /// Mean visits per second.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// How long visitors come, e.g. 90s, 10m.
    #[arg(long, default_value = "10m", value_parser = duration)]
    duration: Duration,
    /// Length of a compressed day; the rate follows it. Without it the rate is flat.
    #[arg(long, value_parser = duration)]
    day: Option<Duration>,
    /// No bursts on top of the daily shape.
    #[arg(long)]
    no_bursts: bool,
    /// What arrivals, service times and identities are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Head-sampling probability; sampled traces carry it in `tracestate` as `ot=th:…`.
    #[arg(long)]
    sample: Option<f64>,
    /// Replicas at the start, e.g. checkout=3; may be given several times.
    #[arg(long, value_name = "SERVICE=N")]
    replicas: Vec<String>,
    /// Statements that the database runs at once.
    #[arg(long, default_value_t = 12)]
    database_slots: u32,
    /// JSON list of steps: `[{"at": 60, "faults": {"db_slow": 3}, "replicas": {"checkout": 4}}]`.
    #[arg(long)]
    script: Option<PathBuf>,
    /// Address of the control interface: /faults, /replicas, /summary, /stop.
    #[arg(long, default_value = "127.0.0.1:8089")]
    control: SocketAddr,
    /// Writes what the receiver acknowledged, per service and kind, as JSON.
    #[arg(long)]
    summary: Option<PathBuf>,
    /// Seconds between metric exports.
    #[arg(long, default_value = "5s", value_parser = duration)]
    metric_interval: Duration,
    /// The longest a span waits for its batch.
    #[arg(long, default_value = "1s", value_parser = duration)]
    span_delay: Duration,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,tracescale_shop=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init();
    ensure!(arguments.rate > 0.0 && arguments.rate <= 10_000.0, "--rate {}: expects a number from 0 to 10000", arguments.rate);
    ensure!(arguments.sample.is_none_or(|p| p > 0.0 && p <= 1.0), "--sample: expects a probability above 0, at most 1");
    let script = match &arguments.script {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Step::parse_all(&text).with_context(|| path.display().to_string())?
        }
        None => Vec::new(),
    };
    let export = Export {
        endpoint: arguments.endpoint.clone(),
        sample: arguments.sample,
        metric_interval: arguments.metric_interval,
        span_delay: arguments.span_delay,
    };
    let world = World::new(export, arguments.database_slots, arguments.seed);
    world.set_replicas(&Value::Object(replicas(&arguments.replicas)?)).await?;
    let stop = Arc::new(Notify::new());
    let listener = TcpListener::bind(arguments.control).await.with_context(|| format!("--control {}", arguments.control))?;
    let control = listener.local_addr()?;
    say(&format!("shop: control http://{control}, telemetry {} ({})", arguments.endpoint, arguments.protocol))?;
    let steering = tokio::spawn(axum::serve(listener, control::router(Arc::clone(&world), Arc::clone(&stop))).into_future());
    let playing = tokio::spawn(control::play(Arc::clone(&world), script));
    let shape = Shape::new(arguments.rate, arguments.day, arguments.duration, !arguments.no_bursts, arguments.seed);
    tokio::select! {
        () = load::run(Arc::clone(&world), shape, arguments.duration, arguments.seed) => {}
        () = stop.notified() => {}
        () = asked_to_end() => {}
    }
    playing.abort();
    world.stop().await;
    steering.abort();
    let summary = world.summary();
    if let Some(path) = &arguments.summary {
        std::fs::write(path, format!("{summary:#}\n")).with_context(|| path.display().to_string())?;
    }
    say(&format!("shop: {} spans acknowledged; {summary}", world.tally.acknowledged_spans()))
}

/// The default sizes with `SERVICE=N` applied.
fn replicas(given: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut replicas: Map<String, Value> =
        Service::ALL.into_iter().map(|service| (service.name().to_owned(), service.size().replicas.into())).collect();
    for entry in given {
        let parsed = entry.split_once('=').and_then(|(name, count)| Some((name, count.parse::<u32>().ok()?)));
        let (name, count) = parsed.with_context(|| format!("--replicas {entry}: expects SERVICE=N"))?;
        replicas.insert(name.to_owned(), count.into());
    }
    Ok(replicas)
}

async fn asked_to_end() {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _signal = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => if interrupted.is_err() { std::future::pending::<()>().await },
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush().context("standard output")
}

/// `1500ms`, `90s`, `10m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("unknown unit {other:?}; use ms, s, m or h")),
    };
    let number: f64 = digits.parse().map_err(|_| "expects a number and a unit, e.g. 90s".to_owned())?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: durations read as people write them, and nonsense is refused.
    #[test]
    fn durations() {
        assert_eq!(duration("1500ms").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("90s").unwrap(), duration("1.5m").unwrap());
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        for wrong in ["", "s", "5d", "-3s", "x"] {
            duration(wrong).unwrap_err();
        }
    }
}
