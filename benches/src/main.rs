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
    /// Arrow batches through the engine and all shipped views, beside prost decoding of the same bytes.
    Windows(commands::windows::Args),
    /// One evaluation of a rule for thousands of targets, and their decisions, on one thread.
    Rules(commands::rules::Args),
    /// What planners of replicas remember after nine days, and how long they and their models take, on one thread.
    Plans(commands::plans::Args),
    /// Memory and processor time of the running binary at a steady rate, and the rate that it can take.
    Memory(commands::memory::Args),
    /// Far too much load, recovery, and SIGTERM under load: memory, refusals, and exact counts.
    Overload(commands::overload::Args),
    /// Kill the running binary again and again: nothing that was acknowledged is lost, and nothing counts twice.
    Crash(commands::crash::Args),
    /// From a burst to the scale call, in real time.
    Reaction(commands::reaction::Args),
    /// What an archived span takes and costs.
    Archive(commands::archive::Args),
    /// Questions about one service and one hour to a day of 100 million archived spans.
    History(commands::history::Args),
    /// What the write-ahead log costs, alone and in the running binary.
    Keep(commands::keep::Args),
    /// A day of 200 services through `tracescale backtest`.
    Backtest(commands::backtest::Args),
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
        Command::Windows(args) => commands::windows::run(&args),
        Command::Rules(args) => commands::rules::run(&args),
        Command::Plans(args) => commands::plans::run(&args),
        Command::Memory(args) => commands::memory::run(&args),
        Command::Overload(args) => commands::overload::run(&args),
        Command::Crash(args) => commands::crash::run(&args),
        Command::Reaction(args) => commands::reaction::run(&args),
        Command::Archive(args) => commands::archive::run(&args),
        Command::History(args) => commands::history::run(&args),
        Command::Keep(args) => commands::keep::run(&args),
        Command::Backtest(args) => commands::backtest::run(&args),
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
