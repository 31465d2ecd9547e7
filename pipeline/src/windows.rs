//! The windows stage: owns the engine, feeds it requests in the order of the queue and moves its time on.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracescale_archive::wal::Lsn;
use tracescale_core::time::Timestamp;
use tracescale_queries::judgement::Advice;
use tracescale_queries::{Emission, Engine, EngineStats};
use tracing::Instrument;

use crate::clock;
use crate::controller::Event;
use crate::keep::{Kept, Outbox};
use crate::logged;
use crate::metrics::Metrics;
use crate::revisions::Revisions;
use crate::warning::Troubles;

/// Longest time between two looks, so that rules and observations fall due in between.
pub const TICK: Duration = Duration::from_secs(1);

/// The stage's parts.
#[derive(Debug)]
pub struct Windows {
    /// The engine.
    pub engine: Engine,
    /// Our own metrics.
    pub metrics: Metrics,
    /// Views that fail.
    pub failing: ViewTroubles,
    /// How final windows are kept, when they are.
    pub keeping: Option<KeptWindows>,
    /// What models are told, when somebody else than the caller tells them.
    pub advice: Option<watch::Receiver<Advice>>,
}

/// How final windows are kept.
#[derive(Debug)]
pub struct KeptWindows {
    /// Where they are left for the log.
    pub outbox: Outbox,
    /// The last request that the engine was fed.
    pub fed: Lsn,
    /// Which revisions there are already.
    pub revisions: Revisions,
}

/// Views that fail on their rows, from what the engine counts.
#[derive(Debug, Default)]
pub struct ViewTroubles {
    troubles: Troubles<String>,
    /// Failures that were counted at the last look, by view.
    counted: BTreeMap<String, u64>,
}

// === impl Windows ===

impl Windows {
    /// Runs until the queue of requests is closed and empty; then emits what is due and says that it is done.
    ///
    /// # Errors
    /// When the engine fails, which is a defect: bad input was refused before it came here.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Kept>, events: mpsc::Sender<Event>) -> anyhow::Result<()> {
        loop {
            let deadline = next_tick(clock::now(), self.engine.next_deadline());
            tokio::select! {
                biased;
                () = clock::sleep_until(deadline) => {
                    if events.send(self.advance(clock::now()).await?).await.is_err() {
                        return Ok(());
                    }
                }
                request = requests.recv() => match request {
                    Some(request) => self.push(request).await?,
                    None => break,
                }
            }
        }
        // The controller may be gone already when the process ends for another reason.
        let _ = events.send(self.advance(clock::now()).await?).await;
        let _ = events.send(Event::Drained).await;
        Ok(())
    }

    /// Feeds one request; its share of the byte budget is free when this returns.
    async fn push(&mut self, Kept { lsn, request }: Kept) -> anyhow::Result<()> {
        let source = request.source.to_string();
        self.engine.push(&source, request.decoded.batches, request.received_at).await?;
        if let Some(keeping) = &mut self.keeping {
            keeping.fed = lsn;
        }
        Ok(())
    }

    /// Moves time on to `now`.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn advance(&mut self, now: Timestamp) -> anyhow::Result<Event> {
        if let Some(news) = self.advice.as_mut().filter(|advice| advice.has_changed().unwrap_or(false)) {
            self.engine.advise(&news.borrow_and_update());
        }
        let span = tracing::info_span!("advance windows", emissions = tracing::field::Empty);
        let emissions = self.engine.advance(now).instrument(span.clone()).await?;
        let _ = span.record("emissions", emissions.len());
        self.metrics.windows(self.engine.stats());
        if let Some(keeping) = &mut self.keeping {
            emissions.iter().filter(|emission| emission.is_final).for_each(|emission| keeping.keep(emission, now));
        }
        for (view, told) in self.failing.look(now, self.engine.stats(), &emissions) {
            match told {
                Some((times, error)) => tracing::warn!(view, error, times, "a view failed on its rows"),
                None => tracing::info!(view, "a view works again"),
            }
        }
        Ok(Event::Advanced { emissions, snapshot: self.engine.tables() })
    }
}

// === impl KeptWindows ===

impl KeptWindows {
    fn keep(&mut self, emission: &Emission, now: Timestamp) {
        let numbered = self.revisions.number(emission);
        self.outbox.leave(numbered.map_err(Into::into).and_then(|numbered| logged::window(&numbered, self.fed, now)));
    }
}

// === impl ViewTroubles ===

impl ViewTroubles {
    /// What is to be told of which views: how often one failed and why, or that it works again, as its windows show.
    fn look<'a>(&mut self, now: Timestamp, stats: &'a EngineStats, emissions: &[Emission]) -> Vec<(&'a str, Option<(u64, &'a str)>)> {
        let mut news = Vec::new();
        for (view, (total, message)) in &stats.failures {
            let counted = self.counted.entry(view.clone()).or_default();
            let times = *total - std::mem::replace(counted, *total);
            if times > 0 {
                let told = self.troubles.wrong(now, view.clone(), message, times);
                news.extend(told.map(|times| (view.as_str(), Some((times, message.as_str())))));
            } else if emissions.iter().any(|emission| emission.view == *view) && self.troubles.right(now, view) {
                news.push((view, None));
            }
        }
        news
    }
}

/// Moves an engine's time from `from` to `to` with nothing in between, through every deadline as the stage does. Returns what became
/// final.
///
/// # Errors
/// When the engine fails.
pub async fn step(engine: &mut Engine, from: Option<Timestamp>, to: Timestamp) -> anyhow::Result<Vec<Emission>> {
    let mut emissions = Vec::new();
    let Some(from) = from else { return Ok(emissions) };
    let mut now = from;
    while let Some(next) = next_step(engine, from, now, to) {
        now = next;
        emissions.extend(engine.advance(now).await?.into_iter().filter(|emission| emission.is_final));
    }
    Ok(emissions)
}

/// When the stage would look after `now`, on a way from `from` to `to` on which nothing comes; `None` when not before `to`. On a way
/// on which everything is forgotten, what is between is left out: it is looked at until windows are final and groups missing, when
/// nothing is left of them, and at the end.
pub fn next_step(engine: &Engine, from: Timestamp, now: Timestamp, to: Timestamp) -> Option<Timestamp> {
    let next = next_tick(now, engine.next_deadline().map(|due| due.max(now + Duration::from_nanos(1))));
    let (last, forgotten) = (to.floor(TICK), from + engine.quiet_after());
    let left_out = match next.since(from) {
        _ if last < forgotten => next,
        silence if silence <= engine.settled_after() => next,
        _ if next < forgotten => forgotten,
        _ => last,
    };
    // Near the end of all time there is no later one.
    Some(next.max(left_out)).filter(|next| *next > now && *next <= to)
}

/// When time next moves on: at the engine's deadline, and at every [`TICK`].
pub fn next_tick(now: Timestamp, deadline: Option<Timestamp>) -> Timestamp {
    let tick = now.floor(TICK) + TICK;
    deadline.map_or(tick, |deadline| deadline.min(tick))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::RecordBatch;
    use arrow::datatypes::Schema;

    use super::*;

    /// Guarantees: a view that fails is told once a minute with a count, and works again when it emits without failing.
    #[test]
    fn a_failing_view_is_told_once_a_minute() {
        let at = |seconds: i64| Timestamp::from_secs(1_767_600_000 + seconds);
        let mut stats = EngineStats::default();
        let emission = Emission {
            view: "load".to_owned(),
            window_start: at(0),
            window_end: at(60),
            is_final: true,
            revision: 0,
            rows: RecordBatch::new_empty(Arc::new(Schema::empty())),
            evidence_time: at(60),
        };
        let mut views = ViewTroubles::default();
        let mut told = Vec::new();
        for second in 0..90 {
            if (10..80).contains(&second) {
                stats.failures.entry("load".to_owned()).or_insert((0, "divided by zero".to_owned())).0 += 2;
            }
            let emissions: &[Emission] = if second % 5 == 0 { std::slice::from_ref(&emission) } else { &[] };
            for (view, news) in views.look(at(second), &stats, emissions) {
                told.push((second, view.to_owned(), news.map(|(times, error)| (times, error.to_owned()))));
            }
        }
        let failed = |times| Some((times, "divided by zero".to_owned()));
        assert_eq!(told, [(10, "load".to_owned(), failed(2)), (70, "load".to_owned(), failed(120)), (80, "load".to_owned(), None)]);
    }
}
