//! A day of a large installation through `tracescale backtest`: services whose load follows the day, with noise and bursts.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tracescale_benches::generate::{BASE, service_name};
use tracescale_benches::measure::{self, Elapsed, Spread, Table};
use tracescale_benches::process::ended_children;

use super::server::binary;

/// Arguments of `backtest`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Services.
    #[arg(long, default_value_t = 200)]
    services: usize,
    /// Minutes of load.
    #[arg(long, default_value_t = 1_440)]
    minutes: usize,
    /// Seed of the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Times between two looks.
    #[arg(long, value_delimiter = ',', default_value = "60s,30s,15s")]
    step: Vec<String>,
    /// The rule.
    #[arg(long, default_value = "queries/rules/observe.yaml")]
    rule: PathBuf,
    /// What it is compared with.
    #[arg(long, default_value = "hpa:cpu=70,kpa,keda")]
    compare: String,
    /// The `tracescale` binary; by default the one beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// How the load of a service goes through the day.
struct Shape {
    /// Requests per second, on average.
    mean: f64,
    /// Share of it that the time of day makes more or less.
    swing: f64,
    /// When it is highest, as a share of the day.
    peak: f64,
    /// Standard deviation of a minute, as a share.
    noise: f64,
}

const MINUTE: Duration = Duration::from_secs(60);
/// Minutes of a day.
const DAY: f64 = 1_440.0;
/// How likely a burst begins in a minute: two a day.
const BURST: f64 = 2.0 / DAY;
const BURST_MINUTES: std::ops::Range<u32> = 5..40;
const BURST_FACTOR: std::ops::Range<f64> = 1.5..4.0;

pub(crate) fn run(args: &Args) -> Result<()> {
    println!("backtest: {} services, {} minutes, compared with {}, {} rounds\n", args.services, args.minutes, args.compare, args.rounds);
    let binary = binary(args.binary.as_deref())?;
    let folder = tempfile::tempdir()?;
    let load = folder.path().join("load.csv");
    fs::write(&load, day(args)?)?;
    let mut took: Vec<Vec<Elapsed>> = vec![Vec::new(); args.step.len()];
    for _ in 0..args.rounds {
        for (step, took) in args.step.iter().zip(&mut took) {
            took.push(backtest(args, &binary, &load, step)?);
        }
    }
    let mut table = Table::new(&["step", "wall s", "processor s"]);
    for (step, took) in args.step.iter().zip(&took) {
        let seconds = |get: fn(&Elapsed) -> Duration| Spread::of(&took.iter().map(|took| get(took).as_secs_f64()).collect::<Vec<_>>());
        table.row(&[step, &seconds(|took| took.wall), &seconds(|took| took.cpu)]);
    }
    println!("{table}");
    Ok(())
}

/// The load as a file of rows `time,service,rate`.
fn day(args: &Args) -> Result<String> {
    let mut random = SmallRng::seed_from_u64(args.seed);
    let mut text = "time,service,rate\n".to_owned();
    for service in 0..args.services {
        let name = service_name(service);
        let shape = Shape::drawn(&mut random);
        let (mut burst, mut left) = (1.0, 0_u32);
        for minute in 0..u32::try_from(args.minutes)? {
            if left == 0 && random.random_bool(BURST) {
                (burst, left) = (random.random_range(BURST_FACTOR), random.random_range(BURST_MINUTES));
            }
            let factor = if left > 0 { burst } else { 1.0 };
            left = left.saturating_sub(1);
            let rate = shape.rate(minute, &mut random) * factor;
            writeln!(text, "{},{name},{rate:.3}", (BASE + MINUTE * minute).as_nanos() / 1_000_000_000)?;
        }
    }
    Ok(text)
}

fn backtest(args: &Args, binary: &Path, load: &Path, step: &str) -> Result<Elapsed> {
    let (before, wall) = (ended_children()?, measure::instant());
    let mut command = Command::new(binary);
    command.arg("backtest").arg("--load").arg(load).arg("--rule").arg(&args.rule);
    command.args(["--compare", &args.compare, "--step", step]).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("{} cannot be started", binary.display()))?;
    let took = Elapsed { wall: wall.elapsed(), cpu: ended_children()?.saturating_sub(before) };
    ensure!(output.status.success(), "`tracescale backtest` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

// === impl Shape ===

impl Shape {
    /// Between one and a hundred requests per second, most of them near ten.
    fn drawn(random: &mut SmallRng) -> Self {
        Self {
            mean: 10_f64.powf(random.random_range(0.0..2.0)),
            swing: random.random_range(0.1..0.8),
            peak: random.random_range(0.4..0.9),
            noise: random.random_range(0.02..0.2),
        }
    }

    fn rate(&self, minute: u32, random: &mut SmallRng) -> f64 {
        let day = self.swing.mul_add((TAU * (f64::from(minute) / DAY - self.peak)).cos(), 1.0);
        let noise = self.noise.mul_add(random.random_range(-1.0..1.0) * 3_f64.sqrt(), 1.0);
        self.mean * day * noise.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a day has a row per service and minute, no rate is negative, and the seed alone decides.
    #[test]
    fn a_day_is_complete() {
        let args = Args {
            services: 3,
            minutes: 1_440,
            seed: 1,
            rounds: 1,
            step: Vec::new(),
            rule: PathBuf::new(),
            compare: String::new(),
            binary: None,
        };
        let text = day(&args).unwrap();
        let rates: Vec<f64> = text.lines().skip(1).map(|line| line.rsplit_once(',').unwrap().1.parse().unwrap()).collect();
        assert_eq!(rates.len(), 3 * 1_440);
        assert!(rates.iter().all(|rate| *rate >= 0.0));
        assert_eq!(day(&args).unwrap(), text);
        assert_ne!(day(&Args { seed: 2, ..args }).unwrap(), text);
    }
}
