//! The command line: what can be typed, and which command it runs.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tracescale_core::time::Timestamp;
use tracescale_queries::Cluster;

use crate::sql::Format;
use crate::{backtest, check, evaluate, explain, import, record, rule_tests, run, sql, worker};

/// Exit code of a wrong command line or configuration (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// Where a worker listens unless told otherwise: next to OTLP's ports, for this machine only.
const DEFAULT_WORKER: &str = "127.0.0.1:4319";

/// Scales services from their OpenTelemetry traces and metrics, by rules in SQL.
#[derive(Debug, Parser)]
#[command(name = "tracescale", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive OTLP, compute the views, evaluate the rules and act (or show what would be done).
    Run(RunArgs),
    /// Read configuration and print every problem at once; exit 64 when there is one.
    Check(CheckArgs),
    /// Run tests of rules: `rule.slt` beside `rule.yaml`; exit 1 when one fails.
    Test(TestArgs),
    /// Write live OTLP traffic to a capture that `run --replay` reads.
    Record(RecordArgs),
    /// Say why a decision is what it is.
    Explain(ExplainArgs),
    /// Query everything that was recorded, with the functions of rules.
    Sql(SqlArgs),
    /// Execute parts of the queries that `sql --workers` sends, over the same archive.
    ///
    /// There is no authentication and no encryption: whoever reaches the port can read the whole archive. Put it on a private
    /// network.
    Worker(WorkerArgs),
    /// Try rules and other autoscalers on what was recorded.
    Backtest(BacktestArgs),
    /// Read the documents of other autoscalers and write ours.
    Import(ImportArgs),
    /// Measure on recorded series and labelled faults how well the models judge.
    Evaluate(EvaluateArgs),
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Files or directories of documents (`*.yaml`, `*.json`) and views (`*.sql`); repeatable.
    #[arg(long, value_name = "PATH")]
    pub config: Vec<PathBuf>,
    /// Take recorded traffic instead of listening.
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Pace of a replay: `1x` is as recorded, `60x` a minute a second, `max` as fast as possible.
    #[arg(long, default_value = "1x", value_parser = parse_speed, requires = "replay")]
    pub speed: Speed,
    /// Print view rows, decisions and the summary as JSON lines.
    #[arg(long)]
    pub json: bool,
    /// Where to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Where decisions are written; overrides `dataDir`.
    #[arg(long, value_name = "DIR", env = "TRACESCALE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Addresses; each overrides the `Settings` document.
#[derive(Clone, Debug, Default, Args)]
pub struct ListenArgs {
    /// Address of OTLP/gRPC.
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<SocketAddr>,
    /// Address of OTLP/HTTP.
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Address of `/metrics`.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
}

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Files or directories.
    #[arg(required = true, value_name = "CONFIG")]
    pub paths: Vec<PathBuf>,
    /// Print the problems as JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// The capture to write; `.json` and `.jsonl` give JSON lines, everything else zstd-compressed protobuf messages.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Stop after this long (`90s`, `10m`); otherwise on Ctrl-C.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Where to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Print progress as JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// A decision's id, or a target's name for its newest decision; with `--replay` also `all`.
    #[arg(value_name = "DECISION")]
    pub decision: String,
    /// Where decisions were written.
    #[arg(long, value_name = "DIR", env = "TRACESCALE_DATA_DIR", default_value = crate::config::DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// Print the whole record as JSON.
    #[arg(long, conflicts_with = "replay")]
    pub json: bool,
    /// Make the decision again from its recorded inputs, and say whether it is the same, bit for bit; exit 1 when it is not.
    #[arg(long)]
    pub replay: bool,
}

/// Arguments of `sql`.
#[derive(Clone, Debug, Default, Args)]
pub struct SqlArgs {
    /// A query; without one it is read from standard input, or from a prompt.
    #[arg(value_name = "SQL")]
    pub sql: Option<String>,
    /// How rows are written.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Write them to a file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Run the query over each final window as it comes, until interrupted.
    #[arg(long, conflicts_with_all = ["out", "capture", "workers"])]
    pub follow: bool,
    /// Compare the files of the archive with its log: lost, damaged and foreign ones; exit 1 when there are any.
    #[arg(long, conflicts_with_all = ["sql", "follow", "capture"])]
    pub audit: bool,
    /// Query a capture instead of the archive.
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// Where the archive is: a directory, or s3://…, gs://…, az://…
    #[arg(long, value_name = "LOCATION", conflicts_with = "capture")]
    pub archive: Option<String>,
    /// Files or directories of documents and views, for where the archive is and for the views of a capture; repeatable.
    #[arg(long, value_name = "PATH")]
    pub config: Vec<PathBuf>,
    /// Where `run` writes; its log has what the archive has not yet.
    #[arg(long, value_name = "DIR", env = "TRACESCALE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Most memory of intermediate results, in MiB (default 1024); more goes to temporary files.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..))]
    pub memory: Option<u32>,
    /// Workers that read a large archive for this machine: http://HOST:PORT, two or more with commas. Each runs `tracescale
    /// worker` of the same version over the same archive.
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = parse_worker, conflicts_with = "capture")]
    pub workers: Vec<String>,
}

/// Arguments of `worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Where to listen. There is no authentication: an address of a private network.
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_WORKER)]
    pub listen: SocketAddr,
    /// Where the archive is: a directory that all machines share, or s3://…, gs://…, az://…
    #[arg(long, value_name = "LOCATION")]
    pub archive: Option<String>,
    /// Where `run` writes; the archive is in it unless it is elsewhere.
    #[arg(long, value_name = "DIR", env = "TRACESCALE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Files or directories of documents, for where the archive is; repeatable.
    #[arg(long, value_name = "PATH")]
    pub config: Vec<PathBuf>,
    /// Most memory of all queries' intermediate results, in MiB (default 1024); more goes to temporary files.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..))]
    pub memory: Option<u32>,
}

/// Arguments of `backtest`.
#[derive(Clone, Debug, Args)]
pub struct BacktestArgs {
    /// Files or directories with the rules to try, and their views and targets; repeatable. Without one the shipped rule.
    #[arg(long, value_name = "PATH")]
    pub rule: Vec<PathBuf>,
    /// What to compare with: `current`, `static:8`, `hpa:cpu=70`, `kpa:target=20`, `keda:rate=50`, `seasonal:rate=50`, or the
    /// file of another rule, an HPA or a ScaledObject; comma-separated, repeatable. Percentages are relative to the first.
    #[arg(long, value_name = "POLICIES")]
    pub compare: Vec<String>,
    /// Begin (RFC 3339); otherwise with what was recorded first.
    #[arg(long, value_name = "TIME", value_parser = backtest::time)]
    pub from: Option<Timestamp>,
    /// End (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = backtest::time)]
    pub to: Option<Timestamp>,
    /// The load of a capture instead of the archive's.
    #[arg(long, value_name = "FILE", conflicts_with = "load")]
    pub capture: Option<PathBuf>,
    /// A load of CSV rows `time,rate` or `time,service,rate` (requests per second).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to"])]
    pub load: Option<PathBuf>,
    /// Mean work of a request of `--load`, in time of one server.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = backtest::parse_service_time)]
    pub service_time: Duration,
    /// Squared coefficient of variation of that work.
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = backtest::parse_scv)]
    pub scv: f64,
    /// Promise to judge by, such as `250ms@0.99`; without one three times the 95th percentile of each service's work.
    #[arg(long, value_name = "LATENCY@SHARE", value_parser = backtest::parse_slo)]
    pub slo: Option<backtest::Slo>,
    /// Servers of a replica: cores, or requests that it serves at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub servers: u32,
    /// How requests share a replica.
    #[arg(long, value_enum, default_value_t)]
    pub queue: backtest::Queue,
    /// From asking for a replica until it is ready.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub startup: Duration,
    /// Replicas of each service at the start; otherwise those recorded, or those needed.
    #[arg(long)]
    pub initial: Option<u32>,
    /// Time between two looks: windows, rules and decisions. Windows slide no faster.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = backtest::parse_step)]
    pub step: Duration,
    /// How services are simulated.
    #[arg(long, value_enum, default_value_t)]
    pub engine: backtest::Engine,
    /// Where randomness comes from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the report: `.json`, or else an HTML page.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the archive is: a directory, or s3://…, gs://…, az://…
    #[arg(long, value_name = "LOCATION", conflicts_with_all = ["capture", "load"])]
    pub archive: Option<String>,
    /// Where `run` writes; its log has what the archive has not yet.
    #[arg(long, value_name = "DIR", env = "TRACESCALE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Arguments of `import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Files with HorizontalPodAutoscaler, ScaledObject, ScalingPlan (Wave) or ScalingRule (CloudPulse) documents.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write our documents there instead of to standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print problems as JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `test`.
#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// Tests, or directories of them.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Further documents and views that the tests need; repeatable.
    #[arg(long, value_name = "PATH")]
    pub config: Vec<PathBuf>,
    /// Print outcomes as JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `evaluate`.
#[derive(Clone, Debug, Args)]
pub struct EvaluateArgs {
    /// What to measure.
    #[arg(value_enum, value_name = "WHAT")]
    pub what: evaluate::What,
    /// The folder with recorded series.
    #[arg(long, value_name = "DIR", env = "TRACESCALE_DATA")]
    pub data: Option<PathBuf>,
    /// A part of the series and faults, to see that it works.
    #[arg(long)]
    pub quick: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How fast recorded traffic is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many recorded seconds a second.
    Times(f64),
    /// No waiting.
    Max,
}

// === impl Cli ===

impl Cli {
    /// What no argument says for itself.
    fn checked(self) -> Result<Self, clap::Error> {
        match &self.command {
            Command::Backtest(BacktestArgs { from: Some(from), to: Some(to), .. }) if from >= to => {
                let wrong = format!("--from {from} is not before --to {to}; hint: a backtest goes from the earlier to the later");
                Err(Self::command().error(ErrorKind::ValueValidation, wrong))
            }
            _ => Ok(self),
        }
    }
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse().and_then(Cli::checked) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for, everything else is a usage error.
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    let outcome = match cli.command {
        Command::Run(args) => run::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Record(args) => record::main(&args),
        Command::Explain(args) => explain::main(&args),
        Command::Sql(args) => sql::main(&args),
        Command::Worker(args) => worker::main(&args),
        Command::Backtest(args) => backtest::main(&args),
        Command::Import(args) => import::main(&args),
        Command::Test(args) => rule_tests::main(&args),
        Command::Evaluate(args) => evaluate::main(&args),
    };
    outcome.unwrap_or_else(|error| {
        // As with `| head`: whoever read our output has read enough.
        if error.to_string().contains("Broken pipe") || error.chain().any(is_broken_pipe) {
            return ExitCode::SUCCESS;
        }
        print_error(&error);
        ExitCode::FAILURE
    })
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn print_error(error: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "error: {error:#}");
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.strip_suffix('x').unwrap_or(text).parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err("expected a positive factor such as `1x` or `60x`, or `max`".to_owned()),
    }
}

fn parse_worker(text: &str) -> Result<String, String> {
    Cluster::new(&[text]).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    tracescale_core::duration::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the command line is consistent (no clashing flags, valid defaults).
    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Guarantees: a speed is a positive factor or `max`, and nothing else.
    #[test]
    fn speeds_are_checked() {
        assert_eq!(parse_speed("60x"), Ok(Speed::Times(60.0)));
        assert_eq!(parse_speed("0.5"), Ok(Speed::Times(0.5)));
        assert_eq!(parse_speed("max"), Ok(Speed::Max));
        for bad in ["0x", "-1", "NaN", "inf", "fast", ""] {
            assert!(parse_speed(bad).is_err(), "{bad}");
        }
    }
}
