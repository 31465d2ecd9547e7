//! `tracescale record`: live OTLP traffic into a capture, in the framing of the Collector's file exporter.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracescale_ingest::capture::{Format, WriteError, Writer};
use tracescale_ingest::decode::Signal;
use tracescale_ingest::{Config, Receiver, Stats};

use crate::cli::{ListenArgs, RecordArgs};
use crate::clock;
use crate::console::print_line;
use crate::telemetry::{self, Logs};
use crate::warning::chain;

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// Runs the command.
///
/// # Errors
/// When the file cannot be written or a port cannot be bound.
pub fn main(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let _telemetry = telemetry::init(Logs::Stderr, None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(record(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn record(args: &RecordArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let file = File::create(&args.out).with_context(|| format!("capture {}", args.out.display()))?;
    let mut writer = Writer::new(BufWriter::new(file), format_of(&args.out));
    let config = config(&args.listen);
    let max_bytes = config.max_request_bytes;
    let (bound, mut requests) = Receiver::bind(config, clock::system()).await.context("receiver")?;
    let stats = bound.stats();
    tracing::info!(grpc = %bound.grpc_addr, http = %bound.http_addr, out = %args.out.display(), "recording; Ctrl-C ends it");
    let stop = CancellationToken::new();
    let serve = bound.serve(stop.clone());
    let write = async {
        let mut progress = tokio::time::interval(PROGRESS);
        let (mut written, mut bytes) = (0_u64, 0_u64);
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => {
                        let body = request.body.open(max_bytes).context("a request cannot be decompressed again")?;
                        bytes += body.len() as u64;
                        match writer.write(request.signal, request.encoding, &body) {
                            Ok(()) => written += 1,
                            // JSON has no NaN: the request was acknowledged, so its loss is told; the recording goes on.
                            Err(error @ WriteError::Transcode(_)) => tracing::error!(error = %chain(&error), "a request was not recorded"),
                            Err(error) => return Err(error.into()),
                        }
                    }
                    None => break,
                },
                _ = progress.tick() => tell(args.json, written, bytes, items(&stats))?,
            }
        }
        let file = writer.into_inner().into_inner().context("capture")?;
        file.sync_all().context("capture")?;
        tell(args.json, written, bytes, items(&stats))
    };
    let until = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = at_most(args.duration) => {}
        }
        stop.cancel();
        Ok(())
    };
    let served = async { serve.await.map_err(anyhow::Error::from) };
    tokio::try_join!(served, write, until).map(|_| ())
}

async fn at_most(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

fn items(stats: &Stats) -> u64 {
    stats.items(Signal::Traces) + stats.items(Signal::Metrics)
}

fn tell(json: bool, requests: u64, bytes: u64, items: u64) -> anyhow::Result<()> {
    if json {
        return print_line(&serde_json::json!({"type": "recorded", "requests": requests, "items": items, "bytes": bytes}).to_string());
    }
    tracing::info!(requests, items, bytes, "recorded");
    std::io::stderr().flush().context("standard error")
}

fn format_of(out: &Path) -> Format {
    match out.extension().and_then(|extension| extension.to_str()) {
        Some("json" | "jsonl") => Format::Json,
        _ => Format::ProtoZstd,
    }
}

fn config(listen: &ListenArgs) -> Config {
    let default = Config::default();
    Config { grpc: listen.grpc.unwrap_or(default.grpc), http: listen.http.unwrap_or(default.http), ..default }
}
