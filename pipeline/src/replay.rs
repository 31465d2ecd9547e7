//! A run over recorded traffic: the same engine, controller and sinks as live, on the times of the capture.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tracescale_core::time::Timestamp;
use tracescale_ingest::decode::Signal;
use tracescale_sinks::Sinks;

use crate::actuator::{self, Job};
use crate::captured::{Capture, Received};
use crate::cli::Speed;
use crate::clock;
use crate::config::Config;
use crate::console::{Console, Totals};
use crate::controller::{Controller, Effect, Event};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::rules::Evaluator;
use crate::unpromised::Told;
use crate::windows::{self, ViewTroubles, Windows};

/// The sender that all recorded requests count as.
const SOURCE: &str = "replay";

/// Everything of a live run, in one task.
struct Replay {
    windows: Windows,
    controller: Controller,
    evaluator: Evaluator,
    sinks: Sinks,
    journal: Journal,
    console: Console,
    pace: Pace,
    totals: Totals,
    metrics: Metrics,
}

/// Recorded time against the clock on the wall.
#[derive(Clone, Debug)]
struct Pace {
    speed: Speed,
    /// Recorded and real time of the first request.
    origin: Option<(Timestamp, Timestamp)>,
    /// The recorded time that has been reached, for sinks.
    now: Arc<AtomicI64>,
}

/// Replays a capture and shows the summary.
///
/// # Errors
/// When the capture cannot be read or the engine fails.
pub async fn run(config: &Config, file: &Path, speed: Speed, mut console: Console) -> anyhow::Result<()> {
    let mut capture = Capture::open(file, config.sampling().clone(), config.disorder())?;
    console.replaying(&file.display().to_string());
    let (targets, rules) = config.specs();
    Told::default().tell(&targets, &rules);
    let metrics = Metrics::new();
    let now = Arc::new(AtomicI64::new(0));
    let virtual_clock = {
        let now = Arc::clone(&now);
        Arc::new(move || Timestamp::from_nanos(now.load(Ordering::Relaxed)))
    };
    let mut replay = Replay {
        windows: Windows {
            engine: config.engine().await.map_err(|problems| anyhow::anyhow!("{} views do not work", problems.len()))?.0,
            metrics: metrics.clone(),
            failing: ViewTroubles::default(),
            keeping: None,
            advice: None,
        },
        controller: config.controller(),
        evaluator: Evaluator::default(),
        sinks: config.sinks(virtual_clock),
        journal: Journal::open(&config.data_dir).with_context(|| format!("data directory {}", config.data_dir.display()))?,
        console,
        pace: Pace { speed, origin: None, now },
        totals: Totals::default(),
        metrics,
    };
    for received in capture.by_ref() {
        replay.take(received?).await?;
    }
    replay.finish(config.settle_time(), &capture).await
}

// === impl Replay ===

impl Replay {
    async fn take(&mut self, Received { signal, at, decoded }: Received) -> anyhow::Result<()> {
        self.totals.requests += 1;
        self.totals.rejected += decoded.rejected;
        match signal {
            Signal::Traces => self.totals.spans += decoded.items - decoded.rejected,
            Signal::Metrics => self.totals.points += decoded.items - decoded.rejected,
            Signal::Logs => {}
        }
        self.console.took(self.totals);
        let Some(at) = at else { return Ok(()) };
        self.advance_to(at).await?;
        self.windows.engine.push(SOURCE, decoded.batches, at).await?;
        Ok(())
    }

    /// Steps through every deadline up to `time`, at the pace asked for.
    async fn advance_to(&mut self, time: Timestamp) -> anyhow::Result<()> {
        if self.pace.origin.is_none() {
            self.pace.begin(time);
            return self.step(time).await;
        }
        let from = self.pace.now();
        while let Some(next) = windows::next_step(&self.windows.engine, from, self.pace.now(), time) {
            self.pace.leave_out(next);
            self.step(next).await?;
        }
        self.pace.reach(time).await;
        Ok(())
    }

    async fn step(&mut self, now: Timestamp) -> anyhow::Result<()> {
        self.pace.reach(now).await;
        let advanced = self.windows.advance(now).await?;
        let mut events = VecDeque::from([advanced]);
        while let Some(event) = events.pop_front() {
            self.metrics.event(&event);
            self.console.event(now, &event);
            for effect in self.controller.handle(now, event) {
                events.extend(self.carry_out(now, effect).await?);
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, now: Timestamp, effect: Effect) -> anyhow::Result<Option<Event>> {
        Ok(match effect {
            Effect::Evaluate { rule, version, snapshot, targets } => {
                let answers = self.evaluator.evaluate(&rule, &snapshot, targets, now).await;
                Some(Event::Evaluated { rule: rule.name.clone(), version, asked_at: now, answers })
            }
            Effect::Observe(target) => Some(actuator::perform(&self.sinks, Job::Observe(target), now).await),
            Effect::Apply { target, decision, desired } => {
                Some(actuator::perform(&self.sinks, Job::Apply { target, decision, desired }, now).await)
            }
            Effect::Record(decision) => {
                self.metrics.decision(&decision);
                self.console.decision(&decision);
                self.journal.append(&*decision)?;
                None
            }
            Effect::Conclude(conclusion) => {
                self.console.conclusion(&conclusion);
                self.journal.append(&conclusion)?;
                None
            }
            Effect::Warn(warning) => {
                self.console.warning(&warning);
                None
            }
            // What is replayed is past; rollouts of today go on where live traffic is.
            Effect::Keep(_) => None,
            Effect::Advise(advice) => {
                self.windows.engine.advise(&advice);
                None
            }
        })
    }

    /// Lets every window that holds rows become final, and ends. Nothing is decided on the silence after the capture.
    async fn finish(mut self, settle: Duration, capture: &Capture) -> anyhow::Result<()> {
        if self.pace.origin.is_some() {
            let _ = self.controller.handle(self.pace.now(), Event::Drained);
            self.console.settle(self.pace.now());
            self.pace.speed = Speed::Max;
            self.advance_to(self.pace.now() + settle).await?;
        }
        self.journal.flush()?;
        self.console.finish()?;
        capture.remarks(self.windows.engine.stats()).iter().for_each(|remark| self.console.remark(remark));
        Ok(())
    }
}

// === impl Pace ===

impl Pace {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now.load(Ordering::Relaxed))
    }

    fn begin(&mut self, first: Timestamp) {
        self.origin = Some((first, clock::now()));
        self.now.store(first.as_nanos(), Ordering::Relaxed);
    }

    /// Does not wait for a stretch up to `time` in which no step is taken.
    fn leave_out(&mut self, time: Timestamp) {
        let (now, longer) = (self.now(), time.since(self.now() + windows::TICK));
        if let Some((recorded, _)) = self.origin.as_mut().filter(|_| !longer.is_zero()) {
            tracing::info!(from = %now, until = %time, "nothing is recorded for long: the rest of the pause is left out");
            *recorded = *recorded + longer;
        }
    }

    /// Waits until the recorded time `time` is due; recorded time never goes back.
    async fn reach(&self, time: Timestamp) {
        if time <= self.now() {
            return;
        }
        if let (Speed::Times(times), Some((recorded, real))) = (self.speed, self.origin) {
            clock::sleep_until(real + time.since(recorded).div_f64(times)).await;
        }
        self.now.store(time.as_nanos(), Ordering::Relaxed);
    }
}
