//! The receiver alone: what is acknowledged is decoded to Arrow, counted and dropped.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracescale_benches::measure;
use tracescale_ingest::{Config, Receiver};

/// Arguments of `receive`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of OTLP/gRPC.
    #[arg(long, default_value = "127.0.0.1:4317")]
    grpc: SocketAddr,
    /// Address of OTLP/HTTP.
    #[arg(long, default_value = "127.0.0.1:4318")]
    http: SocketAddr,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(receive(*args))
}

async fn receive(args: Args) -> Result<()> {
    let config = Config { grpc: args.grpc, http: args.http, ..Config::default() };
    let (bound, mut queue) = Receiver::bind(config, Arc::new(measure::now)).await?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let asked = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stop.cancel();
    };
    let count = async {
        let (mut requests, mut items) = (0_u64, 0_u64);
        while let Some(admitted) = queue.recv().await {
            requests += 1;
            items += admitted.decoded.items;
        }
        (requests, items)
    };
    let (served, (requests, items), ()) = tokio::join!(bound.serve(shutdown), count, asked);
    println!("{}", serde_json::json!({ "requests": requests, "items": items }));
    served.context("receiver")
}
