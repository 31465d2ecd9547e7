//! One data directory through many processes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracescale_archive::audit::audit;
use tracescale_archive::{Catalog, Location};
use tracescale_benches::measure;
use tracescale_benches::process::{scrape, total};
use tracescale_core::time::Timestamp;

use super::archived::Archived;
use super::faults::Fault;
use super::product::{Addresses, Product, Running};
use super::traffic::{Sender, Sent};
use super::verdict::Verdict;
use super::{End, UNTIL_FINAL};

/// A product that is ended so many times under the load of some senders.
pub(super) struct Lane {
    pub(super) product: Product,
    pub(super) rounds: u32,
    pub(super) senders: u64,
    pub(super) seed: u64,
}

/// What happened.
#[derive(Default)]
pub(super) struct Story {
    pub(super) ends: BTreeMap<End, u32>,
    pub(super) faults: BTreeMap<Fault, u32>,
    /// Milliseconds from the start of a process until it took requests.
    pub(super) recoveries: Vec<f64>,
    /// Repeated requests that the processes recognised, as far as they lived to say so.
    pub(super) duplicates: f64,
}

/// What happened, and what it came to.
pub(super) struct Outcome {
    pub(super) story: Story,
    pub(super) sent: Vec<Sent>,
    pub(super) verdict: Verdict,
}

type Address = watch::Sender<Option<SocketAddr>>;

/// Longest time from the start of a process to its end by an early kill, in milliseconds.
const STARTING_MS: u64 = 1_500;
/// Longest time that a process reads its log before it is killed.
const RECOVERING_MS: u64 = 2_000;
/// Longest time that a process takes requests.
const RUNNING_MS: u64 = 1_000;
/// Longest time between SIGTERM and SIGKILL.
const STOPPING_MS: u64 = 300;
/// Share of the rounds before which something is wrong on the disk.
const FAULTS: f64 = 0.25;
/// Longest wait for the senders at the end.
const PATIENCE: Duration = Duration::from_secs(120);

// === impl Lane ===

impl Lane {
    /// Runs every round, lets the senders and then the process finish, and compares.
    pub(super) async fn run(self) -> Result<Outcome> {
        let mut random = SmallRng::seed_from_u64(self.seed);
        let (address, listening) = watch::channel(None);
        let stop = CancellationToken::new();
        let mut senders = JoinSet::new();
        for number in 0..self.senders {
            senders.spawn(Sender::new(self.seed, number).run(listening.clone(), stop.clone()));
        }
        let begin = measure::now();
        let mut story = Story::default();
        for round in 0..self.rounds {
            if random.random_bool(FAULTS) {
                let fault = Fault::ALL[random.random_range(0..Fault::ALL.len())];
                *story.faults.entry(fault).or_default() += u32::from(fault.inject(&self.product.data(), &mut random)?);
            }
            let end = End::draw(&mut random);
            self.round(round, end, &address, &mut random, &mut story).await.with_context(|| format!("round {round}: {}", end.name()))?;
            *story.ends.entry(end).or_default() += 1;
        }
        let (sent, end) = self.finish(&address, senders, stop, &mut story).await.context("the last process")?;
        let verdict = self.compare(&sent, begin, end).await?;
        Ok(Outcome { story, sent, verdict })
    }

    async fn round(&self, round: u32, end: End, address: &Address, random: &mut SmallRng, story: &mut Story) -> Result<()> {
        let mut wait = |most: u64| tokio::time::sleep(Duration::from_millis(random.random_range(0..most)));
        let mut running = self.product.start(round)?;
        if end == End::Starting {
            wait(STARTING_MS).await;
            return running.kill();
        }
        let addresses = running.listening().await?;
        let _ = address.send_replace(Some(addresses.grpc));
        if end == End::Recovering {
            wait(RECOVERING_MS).await;
            return running.kill();
        }
        story.recoveries.push(running.ready(addresses).await?.as_secs_f64() * 1e3);
        wait(RUNNING_MS).await;
        story.duplicates += duplicates(addresses).await?;
        match end {
            End::Stopping => {
                running.signal()?;
                wait(STOPPING_MS).await;
                running.kill()
            }
            End::Stopped => running.stop().await,
            End::Starting | End::Recovering | End::Running => running.kill(),
        }
    }

    /// The last process: it lives until every request is acknowledged and every window final. Answers what was sent, and
    /// until when windows are final.
    async fn finish(
        &self,
        address: &Address,
        mut senders: JoinSet<Result<Vec<Sent>>>,
        stop: CancellationToken,
        story: &mut Story,
    ) -> Result<(Vec<Sent>, Timestamp)> {
        let mut running: Running = self.product.start(self.rounds)?;
        let addresses = running.listening().await?;
        let _ = address.send_replace(Some(addresses.grpc));
        story.recoveries.push(running.ready(addresses).await?.as_secs_f64() * 1e3);
        stop.cancel();
        let mut sent = Vec::new();
        let all = async {
            while let Some(sender) = senders.join_next().await {
                sent.extend(sender??);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, all).await.context("requests are still not acknowledged")??;
        let end = measure::now();
        tokio::time::sleep(UNTIL_FINAL + super::SLIDE).await;
        story.duplicates += duplicates(addresses).await?;
        running.stop().await?;
        Ok((sent, end))
    }

    async fn compare(&self, sent: &[Sent], begin: Timestamp, end: Timestamp) -> Result<Verdict> {
        let archive: &Path = &self.product.data().join("archive");
        let catalog = Catalog::open(&Location::parse(&archive.display().to_string())?).await?;
        let archived = Archived::read(&catalog).await?;
        let mut verdict = Verdict::of(sent, &archived, begin, end);
        verdict.findings = audit(catalog.store()).await?.iter().map(ToString::to_string).collect();
        Ok(verdict)
    }
}

async fn duplicates(addresses: Addresses) -> Result<f64> {
    Ok(total(&scrape(addresses.metrics).await?, "tracescale_duplicate_requests_total", &[]))
}
