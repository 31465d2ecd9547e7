//! The windows stage: owns the engine, feeds it requests in the order of the queue and moves its time on.

use tokio::sync::mpsc;
use tracescale_core::time::Timestamp;
use tracescale_ingest::Admitted;
use tracescale_queries::Engine;
use tracing::Instrument;

use crate::clock;
use crate::controller::Event;
use crate::late::Late;
use crate::metrics::Metrics;

/// The stage's parts.
#[derive(Debug)]
pub struct Windows {
    /// The engine.
    pub engine: Engine,
    /// Where rows go that came too late.
    pub late: Late,
    /// Our own metrics.
    pub metrics: Metrics,
}

// === impl Windows ===

impl Windows {
    /// Runs until the queue of requests is closed and empty; then emits what is due and says that it is done.
    ///
    /// # Errors
    /// When the engine fails, which is a defect: bad input was refused before it came here.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Admitted>, events: mpsc::Sender<Event>) -> anyhow::Result<()> {
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
        self.late.finish()
    }

    /// Feeds one request; its share of the byte budget is free when this returns.
    async fn push(&mut self, request: Admitted) -> anyhow::Result<()> {
        let source = request.source.to_string();
        self.engine.push(&source, request.decoded.batches, request.received_at).await?;
        Ok(())
    }

    /// Moves time on to `now`.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn advance(&mut self, now: Timestamp) -> anyhow::Result<Event> {
        let span = tracing::info_span!("advance windows", emissions = tracing::field::Empty);
        let emissions = self.engine.advance(now).instrument(span.clone()).await?;
        let _ = span.record("emissions", emissions.len());
        for (stream, rows) in self.engine.take_late() {
            match self.late.write(stream, &rows) {
                Ok(dropped) => self.metrics.late_rows_not_kept(dropped),
                Err(error) => tracing::warn!(%error, stream = stream.name(), rows = rows.num_rows(), "could not keep late rows"),
            }
        }
        self.metrics.windows(self.engine.stats());
        Ok(Event::Advanced { emissions, snapshot: self.engine.tables() })
    }
}

/// When time next moves on: at the engine's deadline, and at every whole second so that rules and observations fall due in between.
pub fn next_tick(now: Timestamp, deadline: Option<Timestamp>) -> Timestamp {
    let second = std::time::Duration::from_secs(1);
    let tick = now.floor(second) + second;
    deadline.map_or(tick, |deadline| deadline.min(tick))
}
