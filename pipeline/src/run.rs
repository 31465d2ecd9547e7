//! `tracescale run`: live, or over recorded traffic.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::cli::RunArgs;
use crate::config::Config;
use crate::console::{Console, Style};
use crate::telemetry::{self, Logs};
use crate::{check, replay, topology};

/// How long tasks that are still there when all is done may take to notice.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Threads of the runtime that receives and calls sinks; SQL has threads of its own.
const IO_THREADS: usize = 2;

/// Runs the command.
///
/// # Errors
/// When a stage fails.
pub fn main(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(IO_THREADS).enable_all().build()?;
    let loaded = runtime.block_on(Config::load(&args.config, &args.listen, args.data_dir.clone()));
    let config = match loaded {
        Ok(config) => config,
        Err(problems) => return check::refuse(&problems, args.json),
    };
    std::fs::create_dir_all(&config.data_dir).with_context(|| format!("data directory {}", config.data_dir.display()))?;
    let style = Style::choose(args.json);
    let log_file = config.data_dir.join("tracescale.log");
    let logs = if style == Style::Table { Logs::File(&log_file) } else { Logs::Stderr };
    let telemetry = {
        // The exporter's transport wants a runtime around it.
        let _inside = runtime.enter();
        telemetry::init(logs, config.otlp_endpoint())?
    };
    let console = Console::new(style);
    let outcome = match &args.replay {
        Some(file) => runtime.block_on(replay::run(&config, file, args.speed, console)),
        None => runtime.block_on(topology::live(config, console)),
    };
    // The last spans need the runtime; a stage that did not end in time must not keep the process.
    drop(telemetry);
    runtime.shutdown_timeout(LAST_WORDS);
    outcome.map(|()| ExitCode::SUCCESS)
}
