//! `tracescale sql`: the SQL of rules and views over everything that was recorded.

use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use anyhow::Context;
use tracescale_archive::{Store, audit};
use tracescale_queries::{Asked, Cluster, Past, PastLimits, QueryError};

use crate::cli::{EXIT_USAGE, ListenArgs, SqlArgs};
use crate::config::Config;
use crate::console;
use crate::recorded::{self, Source};
use crate::telemetry::{self, Logs};
use crate::{check, keeping};

mod follow;
mod output;
mod prompt;

pub use output::Format;
use output::Summary;

/// What is queried, and with what.
struct Recorded {
    source: Source,
    config: Config,
    limits: PastLimits,
    cluster: Option<Cluster>,
}

/// Runs the command.
///
/// # Errors
/// When the recorded data cannot be read, or a query fails.
pub fn main(args: &SqlArgs) -> anyhow::Result<ExitCode> {
    let _telemetry = telemetry::init(Logs::Stderr, None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let config = match runtime.block_on(Config::load(&args.config, &ListenArgs::default(), args.data_dir.clone())) {
        Ok(config) => config,
        Err(problems) => return check::refuse(&problems, false),
    };
    let source = source(args, &config)?;
    let defaults = PastLimits::default();
    let limits = PastLimits { memory: args.memory.map_or(defaults.memory, |mib| (mib as usize) << 20), ..defaults };
    if args.audit {
        return runtime.block_on(audit(&source));
    }
    if args.follow {
        let sql = args.sql.as_deref().context("--follow needs a query")?;
        return runtime.block_on(follow::run(&source, sql, args.format, limits)).map(|()| ExitCode::SUCCESS);
    }
    let cluster = if args.workers.is_empty() { None } else { Some(Cluster::new(&args.workers)?) };
    let recorded = Recorded { source, config, limits, cluster };
    let sql = match &args.sql {
        Some(sql) => sql.clone(),
        None if io::stdin().is_terminal() => {
            return prompt::run(&runtime, &recorded, args.format).map(|()| ExitCode::SUCCESS);
        }
        None => {
            let mut text = String::new();
            let _ = io::stdin().read_to_string(&mut text).context("standard input")?;
            text
        }
    };
    runtime.block_on(async {
        let past = recorded.open().await?;
        match run(&past, &sql, args).await? {
            Some(summary) => {
                tell(&summary);
                Ok(ExitCode::SUCCESS)
            }
            None => Ok(ExitCode::from(EXIT_USAGE)),
        }
    })
}

// === impl Recorded ===

impl Recorded {
    /// The tables as they are now.
    async fn open(&self) -> anyhow::Result<Past> {
        let past = recorded::open(&self.source, &self.config, self.limits).await?;
        Ok(match &self.cluster {
            Some(cluster) => past.with_cluster(cluster.clone()),
            None => past,
        })
    }
}

/// Tells what is not as it should be in an archive.
async fn audit(source: &Source) -> anyhow::Result<ExitCode> {
    let Source::Archive { location, .. } = source else { return Ok(ExitCode::SUCCESS) };
    let findings = audit::audit(&Store::open(location)?).await.with_context(|| format!("archive {location}"))?;
    findings.iter().try_for_each(|finding| print(&finding.to_string()))?;
    output::tell(&format!("{} findings in {location}", findings.len()));
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the recorded data are.
fn source(args: &SqlArgs, config: &Config) -> anyhow::Result<Source> {
    if let Some(capture) = &args.capture {
        return Ok(Source::Capture(capture.clone()));
    }
    let configured = args.archive.as_deref().or(config.storage().archive.location.as_deref());
    Ok(Source::Archive {
        location: keeping::location(&config.data_dir, configured)?,
        wal_dir: keeping::wal_dir(&config.data_dir),
        sampling: config.sampling().clone(),
    })
}

/// Runs one statement and writes what it gives. `None` when the statement is wrong, which the user was told.
async fn run(past: &Past, sql: &str, args: &SqlArgs) -> anyhow::Result<Option<Summary>> {
    let begin = crate::clock::now();
    let query = match past.prepare(sql).await {
        Ok(query) => query,
        // The statement may well be right.
        Err(error @ QueryError::Worker { .. }) => return Err(error.into()),
        Err(error) => {
            output::tell(&format!("error: {error}"));
            return Ok(None);
        }
    };
    if query.asked() != Asked::Rows && args.out.is_some() {
        output::tell("error: a plan is text; hint: leave out --out");
        return Ok(None);
    }
    let mut summary = match query.asked() {
        Asked::Plan => output::lines(&query.explain(false))?,
        Asked::Analysis => {
            let rows = query.collect().await?.iter().map(arrow::array::RecordBatch::num_rows).sum();
            let summary = output::lines(&query.analysis().await?)?;
            Summary { rows, ..summary }
        }
        Asked::Rows => output::write(query.schema(), query.run()?, args.format, args.out.as_deref()).await?,
    };
    summary.files = query.files();
    summary.took = crate::clock::now().since(begin);
    Ok(Some(summary))
}

/// How much it was, apart from the rows, which go to standard output.
fn tell(summary: &Summary) {
    output::tell(&summary.to_string());
}

/// Prints a line that is an answer.
fn print(text: &str) -> anyhow::Result<()> {
    console::print_line(text)
}
