//! `tracescale-bench`: every figure in `benches/README.md`, one subcommand each. Each prints the machine, what it does, and
//! Markdown tables of `median (min–max)` over its rounds; what is compared alternates within one run.

#![expect(clippy::print_stdout, reason = "the tables are what this program is for")]

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracescale_benches::measure;

// As the shipped binary does; without it every allocation would be measured with another allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures tracescale.
#[derive(Debug, Parser)]
#[command(name = "tracescale-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// OTLP bytes to Arrow, beside prost decoding alone.
    Decode(commands::decode::Args),
    /// Receive OTLP until SIGTERM or Ctrl-C and drop the rows: the near side of `versus`.
    Receive(commands::receive::Args),
    /// Receive-and-drop beside rotel's blackhole exporter, in turns (started by `benches/versus`).
    Versus(commands::versus::Args),
    /// Write request bodies as files, for other load generators.
    Bodies(commands::bodies::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Receive(_) | Command::Bodies(_))
        && let Ok(machine) = measure::machine()
    {
        println!("machine: {machine}\n");
    }
    let outcome = match cli.command {
        Command::Decode(args) => commands::decode::run(&args),
        Command::Receive(args) => commands::receive::run(&args),
        Command::Versus(args) => commands::versus::run(&args),
        Command::Bodies(args) => commands::bodies::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
