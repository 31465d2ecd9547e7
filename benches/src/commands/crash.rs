//! Durability, by force: the real binary is killed again and again, in every phase of its life, while exporters go on as
//! exporters do. In the end the archive is compared with what was acknowledged.

mod archived;
mod faults;
mod lane;
mod product;
mod summary;
mod traffic;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracescale_benches::measure;

use self::lane::Lane;
use self::product::Product;
use super::runtime;

/// Arguments of `crash`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// How often the process is ended, over all lanes.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Data directories that share the rounds, each with a process and senders of its own.
    #[arg(long, default_value_t = 8)]
    lanes: u32,
    /// Lanes that run at the same time.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Concurrent senders of a lane.
    #[arg(long, default_value_t = 4)]
    senders: u64,
    /// Seed of everything that is left to chance here.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What an acknowledgement means.
    #[arg(long, value_enum, default_value = "fsync")]
    durability: Durability,
    /// Keeps data directories, outputs and logs here.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// The `tracescale` binary; by default the one beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// The durabilities under which the end of a process loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Durability {
    Fsync,
    Os,
}

/// How a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// Killed before it listens.
    Starting,
    /// Killed when it listens, most often while it reads its log.
    Recovering,
    /// Killed while it takes requests.
    Running,
    /// Killed after SIGTERM.
    Stopping,
    /// SIGTERM, and waited for.
    Stopped,
}

/// Given to the process; see its documents.
const LATENESS: Duration = Duration::from_secs(2);
const ALLOWED_LATENESS: Duration = Duration::from_secs(30);
/// Views whose `samples` are entry spans, and how much later than others their windows are final.
const VIEWS: [(&str, Duration); 2] = [("service_latency", Duration::ZERO), ("service_load", Duration::from_secs(60))];
/// The windows of these views.
const SLIDE: Duration = Duration::from_secs(5);
const SIZE: Duration = Duration::from_secs(60);
/// Windows are final this long after their end without traffic, and corrected at the next slide.
const UNTIL_FINAL: Duration = Duration::from_secs(2 + 5 + 1);
// === impl Durability ===

impl Durability {
    const fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
        }
    }
}

// === impl End ===

impl End {
    const ALL: [Self; 5] = [Self::Starting, Self::Recovering, Self::Running, Self::Stopping, Self::Stopped];

    fn draw(random: &mut SmallRng) -> Self {
        match random.random_range(0..100) {
            0..15 => Self::Starting,
            15..40 => Self::Recovering,
            40..78 => Self::Running,
            78..92 => Self::Stopping,
            _ => Self::Stopped,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Starting => "SIGKILL before it listens",
            Self::Recovering => "SIGKILL soon after it listens",
            Self::Running => "SIGKILL while it takes requests",
            Self::Stopping => "SIGKILL while it stops",
            Self::Stopped => "SIGTERM, and its end",
        }
    }
}

/// Runs the lanes at the same time and compares each.
///
/// # Errors
/// When a lane cannot go on, or anything is lost, double or counted wrong.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Args { rounds, lanes, senders, seed, durability, .. } = *args;
    let lanes = lanes.clamp(1, rounds.max(1));
    println!("crash: {rounds} rounds in {lanes} lanes of {senders} senders, seed {seed}, durability {}\n", durability.name());
    let temporary = tempfile::tempdir()?;
    let folder = args.keep.as_deref().unwrap_or(temporary.path());
    let beside = std::env::current_exe()?.with_file_name("tracescale");
    let binary = args.binary.clone().unwrap_or(beside);
    let begun = measure::instant();
    let outcomes = runtime()?.block_on(async {
        let mut running = JoinSet::new();
        let places = Arc::new(Semaphore::new(args.at_once.max(1)));
        for number in 0..lanes {
            let product = Product::new(binary.clone(), &folder.join(format!("lane-{number}")), durability)?;
            // The rest goes to the first lanes.
            let rounds = rounds / lanes + u32::from(number < rounds % lanes);
            let lane = Lane { product, rounds, senders, seed: seed ^ u64::from(number) << 48 };
            let places = Arc::clone(&places);
            running.spawn(async move {
                let _place = places.acquire().await?;
                lane.run().await.with_context(|| format!("lane {number}"))
            });
        }
        let mut outcomes = Vec::new();
        while let Some(outcome) = running.join_next().await {
            outcomes.push(outcome??);
        }
        anyhow::Ok(outcomes)
    })?;
    summary::print(&outcomes, begun.elapsed())
}
