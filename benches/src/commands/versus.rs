//! Receive-and-drop beside rotel's blackhole exporter: the same bytes from the same h2load, in turns, one server at a time.
//!
//! Throughput on a small machine says as much about the sender as about the server, since both share the processors. The
//! comparison is therefore spans per second of *server* processor time; the rate on the wall is printed beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tracescale_benches::body::Compression;
use tracescale_benches::generate::Attributes;
use tracescale_benches::measure::{self, Spread, Table, float};
use tracescale_benches::process::Server;

use super::{Shape, bodies, free_port, runtime};

/// Arguments of `versus`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    /// The `rotel-agent` binary.
    #[arg(long)]
    rotel: PathBuf,
    /// Pairs of runs per cell.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests per run.
    #[arg(long, default_value_t = 4_000)]
    requests: u64,
    /// Connections of h2load.
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Requests in flight per connection.
    #[arg(long, default_value_t = 4)]
    streams: u32,
    /// Processors of the server (`taskset` syntax); h2load gets the others by `--sender-cpus`.
    #[arg(long)]
    server_cpus: Option<String>,
    /// Processors of h2load.
    #[arg(long)]
    sender_cpus: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Tracescale,
    Rotel,
}

struct Cell {
    attributes: Attributes,
    compression: Compression,
    grpc: bool,
    body: PathBuf,
}

/// One run against one server.
struct Run {
    /// Microseconds of server processor time per span.
    cpu: f64,
    /// Million spans per second on the wall.
    rate: f64,
    /// Most resident memory, MiB.
    peak: f64,
}

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    println!(
        "versus: {} requests of {} spans a run, {} pairs, h2load {} connections × {} in flight\n",
        args.requests,
        args.shape.spans(),
        args.rounds,
        args.connections,
        args.streams
    );
    let titles = [
        "attributes",
        "protocol",
        "body",
        "tracescale µs CPU/span",
        "rotel µs CPU/span",
        "rotel / tracescale CPU",
        "tracescale M/s wall",
        "rotel M/s wall",
        "tracescale MiB",
        "rotel MiB",
    ];
    let mut table = Table::new(&titles);
    for attributes in [Attributes::Six, Attributes::Fourteen] {
        for (grpc, compression) in [
            (true, Compression::None),
            (true, Compression::Gzip),
            (true, Compression::Zstd),
            (false, Compression::Gzip),
            (false, Compression::Zstd),
        ] {
            let body = bodies::write(args.shape, attributes, compression, grpc, folder.path())?;
            let cell = Cell { attributes, compression, grpc, body };
            cell.row(args, folder.path(), &mut table)?;
        }
    }
    println!("{table}");
    println!("—: rotel 0.0.1a15 does not read zstd, over gRPC or HTTP.");
    Ok(())
}

// === impl Cell ===

impl Cell {
    fn row(&self, args: &Args, folder: &Path, table: &mut Table) -> Result<()> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let accepted = self.accepted_by_rotel();
        for _ in 0..args.rounds {
            ours.push(self.run(Peer::Tracescale, args, folder)?);
            if accepted {
                theirs.push(self.run(Peer::Rotel, args, folder)?);
            }
        }
        let column = |runs: &[Run], get: fn(&Run) -> f64| -> Vec<f64> { runs.iter().map(get).collect() };
        let spread = |runs: &[Run], get: fn(&Run) -> f64| -> String {
            if runs.is_empty() { "—".to_owned() } else { Spread::of(&column(runs, get)).to_string() }
        };
        let ratio = if theirs.is_empty() {
            "—".to_owned()
        } else {
            Spread::ratio(&column(&theirs, |run| run.cpu), &column(&ours, |run| run.cpu)).to_string()
        };
        table.row(&[
            &self.attributes.count(),
            &if self.grpc { "gRPC" } else { "HTTP" },
            &self.compression.name(),
            &spread(&ours, |run| run.cpu),
            &spread(&theirs, |run| run.cpu),
            &ratio,
            &spread(&ours, |run| run.rate),
            &spread(&theirs, |run| run.rate),
            &spread(&ours, |run| run.peak),
            &spread(&theirs, |run| run.peak),
        ]);
        Ok(())
    }

    fn accepted_by_rotel(&self) -> bool {
        self.compression != Compression::Zstd
    }

    fn run(&self, peer: Peer, args: &Args, folder: &Path) -> Result<Run> {
        let (grpc, http) = (free_port()?, free_port()?);
        let mut server = peer.start(args, folder, grpc, http)?;
        runtime()?.block_on(async {
            server.wait_for(grpc, PATIENCE).await?;
            server.wait_for(http, PATIENCE).await
        })?;
        let address = if self.grpc { grpc } else { http };
        // Connections, allocator and caches warm up outside of the measurement.
        self.h2load(args, address, args.requests.div_ceil(10))?;
        let before = server.usage()?;
        let begun = measure::instant();
        self.h2load(args, address, args.requests)?;
        let seconds = begun.elapsed().as_secs_f64();
        let after = server.usage()?;
        let spans = float(args.requests * args.shape.spans() as u64);
        let status = runtime()?.block_on(server.terminate(PATIENCE))?;
        ensure!(status.success() || peer == Peer::Rotel, "the receiver ended with {status}");
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / spans;
        Ok(Run { cpu, rate: spans / seconds / 1e6, peak: float(after.peak) / 1_048_576.0 })
    }

    /// Sends the body so many times; every answer has to be a success.
    fn h2load(&self, args: &Args, address: SocketAddr, requests: u64) -> Result<()> {
        let mut command = match &args.sender_cpus {
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cpus, "h2load"]);
                command
            }
            None => Command::new("h2load"),
        };
        command.args(["-n", &requests.to_string(), "-c", &args.connections.to_string(), "-m", &args.streams.to_string()]);
        command.arg("-d").arg(&self.body);
        let (content, encoding, path) = if self.grpc {
            ("application/grpc", "grpc-encoding", "opentelemetry.proto.collector.trace.v1.TraceService/Export")
        } else {
            command.args(["-p", "http/1.1"]);
            ("application/x-protobuf", "content-encoding", "v1/traces")
        };
        command.args(["-H", &format!("content-type: {content}")]);
        if self.grpc {
            command.args(["-H", "te: trailers"]);
        }
        if let Some(name) = self.compression.header() {
            command.args(["-H", &format!("{encoding}: {name}")]);
        }
        let output = command.arg(format!("http://{address}/{path}")).output().context("h2load cannot be started")?;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = |start| report.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        ensure!(line("status codes:").contains(&format!(" {requests} 2xx")), "not every answer is a success:\n{report}");
        // A gRPC error is HTTP 200 too, but without a message: five bytes of frame are what a success has.
        let messages = format!("({}) data", requests * 5);
        ensure!(!self.grpc || line("traffic:").contains(&messages), "not every answer has a message:\n{report}");
        Ok(())
    }
}

// === impl Peer ===

impl Peer {
    fn start(self, args: &Args, folder: &Path, grpc: SocketAddr, http: SocketAddr) -> Result<Server> {
        let cpus = args.server_cpus.as_deref();
        let (grpc, http) = (grpc.to_string(), http.to_string());
        let (program, arguments) = match self {
            Self::Tracescale => (std::env::current_exe()?, vec!["receive".to_owned(), "--grpc".into(), grpc, "--http".into(), http]),
            Self::Rotel => {
                let mut arguments = vec!["start".to_owned(), "--exporter".into(), "blackhole".into()];
                arguments.extend(["--otlp-grpc-endpoint".into(), grpc, "--otlp-http-endpoint".into(), http]);
                arguments.extend(["--otlp-grpc-max-recv-msg-size-mib".into(), "64".into()]);
                arguments.extend(["--pid-file".into(), folder.join("rotel.pid").display().to_string()]);
                arguments.extend(["--log-file".into(), folder.join("rotel.log").display().to_string()]);
                (args.rotel.clone(), arguments)
            }
        };
        if !program.exists() {
            bail!("{} does not exist", program.display());
        }
        Server::start(&program, &arguments, cpus, &folder.join("output"), &folder.join("log"))
    }
}
