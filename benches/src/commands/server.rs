//! The real `tracescale run` in its own process, configured for one benchmark and asked for its own counts.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tracescale_benches::body::Compression;
use tracescale_benches::load::{Load, Protocol};
use tracescale_benches::process::{Server, Usage, scrape, total};

use super::free_port;

/// Which binary, where, and how it is spoken to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The `tracescale` binary; by default the one beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Processors of the server (`taskset` syntax).
    #[arg(long)]
    server_cpus: Option<String>,
    /// Most bytes of requests that wait in the server, MiB.
    #[arg(long, default_value_t = 64)]
    queue_mib: u64,
    /// What the sender speaks.
    #[arg(long, value_enum, default_value = "grpc")]
    protocol: Protocol,
    /// How bodies are compressed.
    #[arg(long, value_enum, default_value = "zstd")]
    compression: Compression,
    /// Connections of the sender.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests that the sender leaves unanswered at a time.
    #[arg(long, default_value_t = 1_024)]
    in_flight: usize,
    /// Sections of the settings beside the receiver's, YAML indented by two.
    #[arg(skip)]
    sections: String,
}

/// A running binary with ports, data directory and output of its own.
pub(crate) struct Running {
    server: Server,
    folder: TempDir,
    address: SocketAddr,
    metrics: SocketAddr,
    options: Options,
}

const PATIENCE: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(120);
/// The queue has to hold twice the largest request.
const MAX_REQUEST_MIB: u64 = 8;

// === impl Options ===

impl Options {
    /// The configured bound of requests in memory, bytes.
    pub(crate) const fn queue_bytes(&self) -> u64 {
        self.queue_mib << 20
    }

    /// The same with sections `wal` and `archive` in its settings.
    pub(crate) fn storing(&self, durability: &str, every: &str) -> Self {
        let sections = format!("  wal: {{durability: {durability}}}\n  archive: {{every: {every}}}\n");
        Self { sections, ..self.clone() }
    }

    /// Starts the binary with these documents (file name and text) and waits until it listens. With `json`, it prints for machines.
    pub(crate) async fn start(&self, json: bool, documents: &[(&str, &str)]) -> Result<Running> {
        let folder = tempfile::tempdir()?;
        let binary = binary(self.binary.as_deref())?;
        let (grpc, http, metrics) = (free_port()?, free_port()?, free_port()?);
        let config = folder.path().join("config");
        fs::create_dir(&config)?;
        for (name, text) in [("settings.yaml", self.settings().as_str())].iter().chain(documents) {
            fs::write(config.join(name), text)?;
        }
        let mut arguments = vec!["run".to_owned(), "--config".into(), config.display().to_string()];
        for (flag, address) in [("--grpc", grpc), ("--http", http), ("--metrics", metrics)] {
            arguments.extend([flag.to_owned(), address.to_string()]);
        }
        arguments.extend(["--data-dir".to_owned(), folder.path().join("data").display().to_string()]);
        if json {
            arguments.push("--json".into());
        }
        let (output, log) = (folder.path().join("output"), folder.path().join("log"));
        let mut server = Server::start(&binary, &arguments, self.server_cpus.as_deref(), &output, &log)?;
        for address in [grpc, http, metrics] {
            let opened = server.wait_for(address, PATIENCE).await;
            opened.with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        }
        let address = if self.protocol == Protocol::Grpc { grpc } else { http };
        Ok(Running { server, folder, address, metrics, options: self.clone() })
    }

    fn settings(&self) -> String {
        let Self { queue_mib, sections, .. } = self;
        format!(
            "apiVersion: tracescale.io/v1alpha1\nkind: Settings\nmetadata: {{name: bench}}\nspec:\n  receiver:\n    limits: \
             {{maxRequestBytes: {MAX_REQUEST_MIB}MiB, queueBytes: {queue_mib}MiB}}\n{sections}"
        )
    }
}

// === impl Running ===

impl Running {
    /// A load on this server.
    pub(crate) fn load(&self, rate: f64, duration: Duration, renew: Duration) -> Load {
        let Options { protocol, compression, connections, in_flight, .. } = self.options;
        Load { address: self.address, protocol, compression, rate, duration, connections, in_flight, renew }
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        self.server.usage()
    }

    /// One of its own metrics, summed over the labels that are not named.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        Ok(total(&scrape(self.metrics).await?, name, labels))
    }

    pub(crate) fn signal(&self) -> Result<()> {
        self.server.signal()
    }

    /// Waits for its end after SIGTERM; answers what it printed and how it ended.
    pub(crate) async fn finish(self) -> Result<(String, std::process::ExitStatus)> {
        let status = self.server.terminate(DRAIN).await?;
        let output = read(self.folder.path(), "output")?;
        ensure!(status.success(), "the server ended with {status}: {}", tail(&read(self.folder.path(), "log")?));
        Ok((output, status))
    }
}

/// The `tracescale` binary: this one, or the one beside this program.
pub(crate) fn binary(named: Option<&Path>) -> Result<PathBuf> {
    let binary = match named {
        Some(named) => named.to_owned(),
        None => std::env::current_exe()?.with_file_name("tracescale"),
    };
    ensure!(binary.exists(), "{} does not exist: build it with `cargo build --release --workspace`", binary.display());
    Ok(binary)
}

fn read(folder: &Path, name: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(folder.join(name))?).into_owned())
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(2_000);
    text.get(start..).unwrap_or(text)
}
