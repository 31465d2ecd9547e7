//! The running process: which task owns what, which channels join them, and in which order they end.
//!
//! ```text
//! receiver ─requests▶ keep ─requests▶ windows ─events▶ controller ─jobs▶ rules · actuator ─events▶ controller
//!                     keep ─log▶ archiving
//! ```
//!
//! The only place that starts tasks and makes channels. Every channel is bounded.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::StreamExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracescale_ingest::Receiver;
use tracescale_queries::Snapshot;
use tracescale_queries::judgement::Advice;
use tracescale_sinks::{ScaleTarget, SinkError, SinkErrorKind};

use crate::actuator::{self, Job};
use crate::clock;
use crate::config::Config;
use crate::console::Console;
use crate::controller::{Controller, Effect, Event};
use crate::journal::Journal;
use crate::keep::Outbox;
use crate::keeping::{self, Keeping};
use crate::logged;
use crate::metrics::{self, Metrics};
use crate::recall;
use crate::rollouts;
use crate::rules::{Evaluator, RuleFailure};
use crate::unpromised::Told;
use crate::windows::{ViewTroubles, Windows};

/// Requests that are in the log and wait for the windows; their bytes stay in the receiver's budget.
const KEPT: usize = 1024;
/// Events waiting for the controller, which takes microseconds for each; a full channel slows windows down, nothing is lost.
const EVENTS: usize = 1024;
/// Evaluations waiting for the rules thread. A version of a rule has at most one outstanding: a bound on the number of rules.
const EVALUATIONS: usize = 4096;
/// Calls waiting for sinks. A target has at most one observation and one action outstanding: 32 k targets.
const JOBS: usize = 65_536;
/// Calls to sinks under way at a time.
const CALLS: usize = 64;
/// How long the stages get to end after the receiver has.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// An evaluation that the controller asked for.
#[derive(Debug)]
struct Evaluation {
    version: tracescale_core::rollout::Version,
    rule: Arc<tracescale_documents::RuleSpec>,
    snapshot: Snapshot,
    targets: arrow::array::RecordBatch,
}

type Stage = (&'static str, anyhow::Result<()>);

/// Runs until a signal, or until a stage fails.
///
/// # Errors
/// When a port cannot be bound, a stage fails, or a stage does not end in time.
pub async fn live(config: Config, mut console: Console) -> anyhow::Result<()> {
    // Before anybody can know that we are here: an early order to stop must be an orderly one.
    let signals = Signals::install()?;
    let metrics = Metrics::new();
    let stop = CancellationToken::new();
    let (bound, requests) = Receiver::bind(config.receiver.clone(), clock::system()).await.context("receiver")?;
    metrics.receiver(bound.stats());
    let admin = metrics::bind(config.metrics).await?;
    console.listening(&[("OTLP/gRPC", bound.grpc_addr), ("OTLP/HTTP", bound.http_addr), ("metrics", admin.local_addr()?)], bound.stats());
    let journal = Journal::open(&config.data_dir).with_context(|| format!("data directory {}", config.data_dir.display()))?;
    let sinks: Arc<dyn ScaleTarget> = Arc::new(config.sinks(clock::system()));
    let (mut engine, losses) = config.engine().await.map_err(|problems| anyhow!("{} views do not work", problems.len()))?;
    metrics.losses(losses);
    let record = rollouts::read(&config.data_dir)?;
    metrics.rollouts(&record);
    let mut controller = config.resumed_controller(clock::now(), record);
    recall::decisions(&mut controller, &config.data_dir);
    recall::recall(&mut engine, &mut controller, &config.recorded()?, clock::now()).await;
    let Keeping { keep, archiving, outbox, own, windows } =
        keeping::open(&config.data_dir, config.storage(), config.sampling(), &mut engine, &metrics).await?;
    let (advice_in, advice) = watch::channel(Advice::default());
    let windows =
        Windows { engine, metrics: metrics.clone(), failing: ViewTroubles::default(), keeping: Some(windows), advice: Some(advice) };

    let (events_in, events) = mpsc::channel(EVENTS);
    let (evaluations_in, evaluations) = mpsc::channel(EVALUATIONS);
    let (jobs_in, jobs) = mpsc::channel(JOBS);
    let control = Control {
        controller,
        data_dir: config.data_dir.clone(),
        evaluations: evaluations_in,
        jobs: jobs_in,
        journal,
        journal_failing: false,
        console,
        metrics: metrics.clone(),
        outbox,
        advice: advice_in,
    };

    let mut stages: JoinSet<Stage> = JoinSet::new();
    let mut alive = BTreeSet::new();
    let mut stage = |name: &'static str| {
        let _ = alive.insert(name);
        name
    };
    let (name, token) = (stage("receiver"), stop.clone());
    let _ = stages.spawn(async move { (name, bound.serve(token).await.map_err(Into::into)) });
    let (kept_in, kept) = mpsc::channel(KEPT);
    let (name, all_kept) = (stage("keep"), CancellationToken::new());
    let ended = all_kept.clone().drop_guard();
    let _ = stages.spawn_blocking(move || {
        let _ended = ended;
        (name, on_own_runtime(keep.run(requests, own, kept_in)))
    });
    let name = stage("archiving");
    let _ = stages.spawn_blocking(move || (name, on_own_runtime_with_io(archiving.run(all_kept))));
    let (name, sender) = (stage("windows"), events_in.clone());
    let _ = stages.spawn_blocking(move || (name, on_own_runtime(windows.run(kept, sender))));
    let (name, sender) = (stage("rules"), events_in.clone());
    let _ = stages.spawn_blocking(move || (name, on_own_runtime(evaluate(evaluations, sender))));
    let (name, sender) = (stage("actuator"), events_in.clone());
    let _ = stages.spawn(async move { (name, act(sinks, jobs, sender).await) });
    let name = stage("controller");
    let _ = stages.spawn_blocking(move || (name, control.run(events)));
    let (name, token) = (stage("metrics"), stop.clone());
    let _ = stages.spawn(async move { (name, metrics::serve(admin, metrics, token).await) });
    let (name, token) = (stage("signals"), stop.clone());
    let _ = stages.spawn(async move { (name, signals.run(Arc::new(config), &events_in, token).await) });
    supervise(stages, alive, stop).await
}

/// The first stage that ends, for whatever reason, ends the process; the others get to finish in the order of the data.
async fn supervise(mut stages: JoinSet<Stage>, mut alive: BTreeSet<&'static str>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    let mut ended = |joined: Option<Result<Stage, tokio::task::JoinError>>, expected: bool| {
        let (name, result) = match joined {
            Some(Ok(stage)) => stage,
            Some(Err(error)) => ("a stage that panicked", Err(error.into())),
            None => return,
        };
        let _ = alive.remove(name);
        let result = if expected { result } else { result.and_then(|()| bail!("ended without being asked to")) };
        if let (Ok(()), Err(error)) = (&outcome, result) {
            outcome = Err(error.context(format!("stage `{name}`")));
        }
    };
    let first = stages.join_next().await;
    ended(first, stop.is_cancelled());
    stop.cancel();
    let rest = async {
        while let Some(joined) = stages.join_next().await {
            ended(Some(joined), true);
        }
    };
    let in_time = tokio::time::timeout(DRAIN_MAX, rest).await;
    if in_time.is_err() {
        let late = alive.into_iter().collect::<Vec<_>>().join(", ");
        return Err(anyhow!("still running {} s after the order to stop: {late}", DRAIN_MAX.as_secs()));
    }
    outcome
}

/// Files and object stores, apart from the threads that receive.
fn on_own_runtime_with_io(stage: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(stage)
}

/// SQL is CPU work: it gets a thread of its own, so that the receiver and health checks never wait for a plan.
fn on_own_runtime(stage: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(stage)
}

async fn evaluate(mut evaluations: mpsc::Receiver<Evaluation>, events: mpsc::Sender<Event>) -> anyhow::Result<()> {
    let mut evaluator = Evaluator::default();
    while let Some(Evaluation { version, rule, snapshot, targets }) = evaluations.recv().await {
        let asked_at = clock::now();
        let answers = evaluator.evaluate(&rule, &snapshot, targets, asked_at).await;
        if events.send(Event::Evaluated { rule: rule.name.clone(), version, asked_at, answers }).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn act(sinks: Arc<dyn ScaleTarget>, jobs: mpsc::Receiver<Job>, events: mpsc::Sender<Event>) -> anyhow::Result<()> {
    let (sinks, events) = (&*sinks, &events);
    let perform = |job| async move {
        let answer = actuator::perform(sinks, job, clock::now()).await;
        // The controller is gone only when the process ends.
        let _ = events.send(answer).await;
    };
    ReceiverStream::new(jobs).for_each_concurrent(CALLS, perform).await;
    Ok(())
}

/// SIGTERM and SIGINT stop; SIGHUP reads targets and rules again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

// === impl Signals ===

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let [terminate, interrupt, hang_up] = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hang_up: hang_up? })
    }

    async fn run(mut self, config: Arc<Config>, events: &mpsc::Sender<Event>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut reloads = JoinSet::new();
        let mut told = Told::default();
        let (targets, rules) = config.specs();
        told.tell(&targets, &rules);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                () = stop.cancelled() => return Ok(()),
                // Files may be slow and SQL takes a while: not on the threads that receive.
                _ = self.hang_up.recv() => {
                    let config = Arc::clone(&config);
                    let _ = reloads.spawn_blocking(move || config.reload());
                }
                Some(reloaded) = reloads.join_next() => match reloaded? {
                    Ok(described) => {
                        tracing::info!(targets = described.targets.len(), rules = described.rules.len(), "configuration read again");
                        told.tell(&described.targets, &described.rules);
                        let _ = events.send(Event::Reloaded(described)).await;
                    }
                    Err(problems) => problems.iter().for_each(|problem| tracing::error!(%problem, "configuration not changed")),
                },
            }
        }
        tracing::info!("stopping: finishing what was acknowledged");
        stop.cancel();
        Ok(())
    }
}

/// The controller on its thread, with what carries its effects out.
struct Control {
    controller: Controller,
    data_dir: std::path::PathBuf,
    evaluations: mpsc::Sender<Evaluation>,
    jobs: mpsc::Sender<Job>,
    journal: Journal,
    journal_failing: bool,
    console: Console,
    metrics: Metrics,
    outbox: Outbox,
    advice: watch::Sender<Advice>,
}

// === impl Control ===

impl Control {
    fn run(mut self, mut events: mpsc::Receiver<Event>) -> anyhow::Result<()> {
        let mut draining = false;
        while let Some(event) = events.blocking_recv() {
            let now = clock::now();
            draining |= matches!(event, Event::Drained);
            self.metrics.event(&event);
            self.console.event(now, &event);
            let mut effects = VecDeque::from(self.controller.handle(now, event));
            while let Some(effect) = effects.pop_front() {
                if let Some(refused) = self.carry_out(now, effect) {
                    effects.extend(self.controller.handle(now, refused));
                }
            }
            let flushed = self.journal.flush();
            self.written(flushed);
            if draining && !self.controller.is_waiting() {
                break;
            }
        }
        self.console.finish()
    }

    /// A disk that is full is told once and counted; deciding goes on.
    fn written(&mut self, result: std::io::Result<()>) {
        match result {
            Ok(()) => self.journal_failing = false,
            Err(error) => {
                self.metrics.journal_failed();
                if !self.journal_failing {
                    tracing::error!(%error, "cannot write decisions down; counting them in tracescale_journal_failures_total");
                }
                self.journal_failing = true;
            }
        }
    }

    /// Hands an effect over. A full queue is an answer like any other.
    fn carry_out(&mut self, now: tracescale_core::time::Timestamp, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Evaluate { rule, version, snapshot, targets } => {
                let name = rule.name.clone();
                let full = is_full(&self.evaluations.try_send(Evaluation { version, rule, snapshot, targets }));
                full.then_some(Event::Evaluated { rule: name, version, asked_at: now, answers: Err(RuleFailure::QueueFull) })
            }
            Effect::Observe(target) => {
                let full = is_full(&self.jobs.try_send(Job::Observe(Arc::clone(&target))));
                full.then(|| Event::Observed { target: target.name.clone(), result: Err(queue_full(&target.reference)) })
            }
            Effect::Apply { target, decision, desired } => {
                let job = Job::Apply { target: Arc::clone(&target), decision: Arc::clone(&decision), desired };
                let full = is_full(&self.jobs.try_send(job));
                full.then(|| Event::Applied { target: target.name.clone(), decision, result: Err(queue_full(&target.reference)) })
            }
            Effect::Record(decision) => {
                self.metrics.decision(&decision);
                self.console.decision(&decision);
                self.outbox.leave(logged::decision(&decision, now));
                let written = self.journal.append(&*decision);
                self.written(written);
                None
            }
            Effect::Conclude(conclusion) => {
                self.console.conclusion(&conclusion);
                self.outbox.leave(logged::outcome(&conclusion, now));
                let written = self.journal.append(&conclusion);
                self.written(written);
                None
            }
            Effect::Warn(warning) => {
                self.console.warning(&warning);
                self.outbox.leave(logged::alert(&warning.alert(now), now));
                None
            }
            Effect::Advise(advice) => {
                let _ = self.advice.send_replace(*advice);
                None
            }
            Effect::Keep(record) => {
                self.metrics.rollouts(&record);
                if let Err(error) = rollouts::write(&self.data_dir, &record) {
                    tracing::error!(%error, dir = %self.data_dir.display(), "rollouts are not written down: a restart would begin them anew");
                }
                None
            }
        }
    }
}

/// A queue whose reader has ended, as at shutdown, is not full: nobody waits for the answer any more.
fn is_full<T>(sent: &Result<(), mpsc::error::TrySendError<T>>) -> bool {
    matches!(sent, Err(mpsc::error::TrySendError::Full(_)))
}

/// Certainly nothing was changed, and the same call may be repeated.
fn queue_full(target: &tracescale_core::target::TargetRef) -> SinkError {
    SinkError::new(SinkErrorKind::Throttled { retry_after: None }, target, "too many calls are waiting for sinks")
}
