//! `tracescale worker`: executes the parts of other machines' queries over the same archive.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracescale_archive::{Location, Store};
use tracescale_queries::PastLimits;
use tracescale_queries::past::worker;

use crate::cli::{ListenArgs, WorkerArgs};
use crate::config::Config;
use crate::telemetry::{self, Logs};
use crate::{check, keeping};

/// How often an idle connection is asked whether its other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Runs the command.
///
/// # Errors
/// When the archive's location cannot be understood or the port cannot be bound.
pub fn main(args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    let _telemetry = telemetry::init(Logs::Stderr, None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let config = match runtime.block_on(Config::load(&args.config, &ListenArgs::default(), args.data_dir.clone())) {
        Ok(config) => config,
        Err(problems) => return check::refuse(&problems, false),
    };
    let configured = args.archive.as_deref().or(config.storage().archive.location.as_deref());
    let location = keeping::location(&config.data_dir, configured)?;
    let defaults = PastLimits::default();
    let limits = PastLimits { memory: args.memory.map_or(defaults.memory, |mib| (mib as usize) << 20), ..defaults };
    runtime.block_on(serve(args, &location, limits))?;
    Ok(ExitCode::SUCCESS)
}

/// Serves until the process is told to end. Queries that are running then fail where they were asked.
async fn serve(args: &WorkerArgs, location: &Location, limits: PastLimits) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let store = Store::open(location).with_context(|| format!("archive {location}"))?;
    let service = worker(store.objects(), limits)?.into_worker_server();
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("address {}", args.listen))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, archive = %location, "working on queries; there is no authentication; Ctrl-C ends it");
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().http2_keepalive_interval(Some(KEEPALIVE)).add_service(service).serve_with_incoming(incoming);
    tokio::select! {
        served = server => served.context("connections"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
