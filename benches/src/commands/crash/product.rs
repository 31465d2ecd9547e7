//! The real `tracescale run` over one data directory that outlives its processes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tracescale_benches::measure;
use tracescale_benches::process::{Server, scrape};

use super::Durability;

/// A binary, its documents and its data directory.
pub(super) struct Product {
    binary: PathBuf,
    folder: PathBuf,
}

/// A process of it.
pub(super) struct Running {
    server: Server,
    /// The line in which it says where it listens, and everything else it printed.
    output: PathBuf,
    log: PathBuf,
    begun: std::time::Instant,
}

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) grpc: SocketAddr,
    pub(super) metrics: SocketAddr,
}

const POLL: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(120);

// === impl Product ===

impl Product {
    /// Writes the documents.
    pub(super) fn new(binary: PathBuf, folder: &Path, durability: Durability) -> Result<Self> {
        ensure!(binary.exists(), "{} does not exist: build it with `cargo build --workspace`", binary.display());
        fs::create_dir_all(folder)?;
        fs::write(folder.join("documents.yaml"), documents(durability))?;
        Ok(Self { binary, folder: folder.to_owned() })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts a process; its output and log bear the round's number.
    pub(super) fn start(&self, round: u32) -> Result<Running> {
        let mut arguments: Vec<String> = ["run", "--json"].map(str::to_owned).into();
        let path = |path: PathBuf| path.display().to_string();
        arguments.extend(["--config".to_owned(), path(self.folder.join("documents.yaml"))]);
        arguments.extend(["--data-dir".to_owned(), path(self.data())]);
        arguments.extend(["--grpc", "--http", "--metrics"].into_iter().flat_map(|flag| [flag.to_owned(), "127.0.0.1:0".to_owned()]));
        let (output, log) = (self.folder.join(format!("output-{round}")), self.folder.join(format!("log-{round}")));
        let begun = measure::instant();
        let server = Server::start(&self.binary, &arguments, None, &output, &log)?;
        Ok(Running { server, output, log, begun })
    }
}

/// Little lateness, so that a repeated request is late now and then; a target, so that there are decisions.
fn documents(durability: Durability) -> String {
    let durability = durability.name();
    format!(
        "apiVersion: tracescale.io/v1alpha1
kind: Settings
metadata: {{name: crash}}
spec:
  windows: {{lateness: {}s, allowedLateness: {}s}}
  wal: {{durability: {durability}}}
  archive: {{every: 1s}}
---
apiVersion: tracescale.io/v1alpha1
kind: ScalingTarget
metadata: {{name: crash}}
spec:
  memory: {{replicas: 3}}
  service: {{name: {}}}
",
        super::LATENESS.as_secs(),
        super::ALLOWED_LATENESS.as_secs(),
        tracescale_benches::generate::service_name(0),
    )
}

// === impl Running ===

impl Running {
    /// Waits until it says where it listens; it may still be reading its log then.
    pub(super) async fn listening(&mut self) -> Result<Addresses> {
        loop {
            if let Some(addresses) = addresses(&fs::read_to_string(&self.output)?) {
                return Ok(addresses);
            }
            self.check()?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until it takes requests. Answers how long after its start that was.
    pub(super) async fn ready(&mut self, addresses: Addresses) -> Result<Duration> {
        while scrape(addresses.metrics).await.is_err() {
            self.check()?;
            tokio::time::sleep(POLL).await;
        }
        Ok(self.begun.elapsed())
    }

    /// That it has not ended by itself, and goes on in time.
    fn check(&mut self) -> Result<()> {
        if let Some(status) = self.server.ended()? {
            bail!("the process ended by itself with {status}: {}", self.words());
        }
        ensure!(self.begun.elapsed() < PATIENCE, "not ready after {PATIENCE:?}: {}", self.words());
        Ok(())
    }

    pub(super) fn signal(&self) -> Result<()> {
        self.server.signal()
    }

    pub(super) fn kill(mut self) -> Result<()> {
        if let Some(status) = self.server.ended()? {
            ensure!(status.success(), "the process ended by itself with {status}: {}", self.words());
        }
        let _ = self.server.kill();
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn stop(self) -> Result<()> {
        let Self { server, log, .. } = self;
        let status = server.terminate(PATIENCE).await?;
        ensure!(status.success(), "the process ended with {status}: {}", tail(&log));
        Ok(())
    }

    fn words(&self) -> String {
        tail(&self.log)
    }
}

fn addresses(output: &str) -> Option<Addresses> {
    let line = output.lines().find_map(|line| serde_json::from_str::<Value>(line).ok().filter(|line| line["type"] == "listening"))?;
    let address = |what: &str| line["addresses"][what].as_str()?.parse().ok();
    Some(Addresses { grpc: address("OTLP/gRPC")?, metrics: address("metrics")? })
}

fn tail(log: &Path) -> String {
    const MOST: usize = 2_000;
    let text = fs::read_to_string(log).context("no log").unwrap_or_else(|error| error.to_string());
    let start = text.len().saturating_sub(MOST);
    text.get(start..).unwrap_or(&text).to_owned()
}
