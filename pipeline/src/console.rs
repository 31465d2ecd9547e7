//! What a run shows: a live table on a terminal, log lines otherwise, JSON lines for machines; a summary at the end.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tracescale_core::decide::Decision;
use tracescale_core::rollout::Stage;
use tracescale_core::time::Timestamp;
use tracescale_ingest::Stats;
use tracescale_ingest::decode::Signal;
use tracescale_queries::Emission;

use crate::board::{Board, DecisionRow, ServiceRow};
use crate::conclusion::Conclusion;
use crate::controller::Event;
use crate::rows;
use crate::warning::{Warning, chain, told};

/// The view that the table shows.
const SUMMARY_VIEW: &str = "service_summary";
/// Shortest time between two drawings of the table.
const REDRAW: Duration = Duration::from_millis(500);
/// Time between two lines on throughput when there is no table.
const REPORT: Duration = Duration::from_secs(10);
/// Services that the table shows; the rest are counted.
const TABLE_ROWS: usize = 40;

/// How a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A table that is drawn again and again.
    Table,
    /// Log lines on standard error.
    Log,
    /// JSON lines on standard output.
    Json,
}

/// What was taken in, however it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests taken.
    pub requests: u64,
    /// Spans taken.
    pub spans: u64,
    /// Metric points taken.
    pub points: u64,
    /// Items refused one by one.
    pub rejected: u64,
}

/// The display of a run.
#[derive(Debug)]
pub struct Console {
    style: Style,
    board: Board,
    receiver: Option<Arc<Stats>>,
    totals: Totals,
    drawn: Timestamp,
    reported: (Timestamp, Totals),
    started: Option<Timestamp>,
    /// When the last traffic came; from then on only final windows are of interest.
    settled: Option<Timestamp>,
    now: Timestamp,
    windows: BTreeMap<String, u64>,
    actions: BTreeMap<&'static str, u64>,
}

// === impl Style ===

impl Style {
    /// What suits the terminal, or its absence.
    #[must_use]
    pub fn choose(json: bool) -> Self {
        if json {
            Self::Json
        } else if io::stdout().is_terminal() {
            Self::Table
        } else {
            Self::Log
        }
    }
}

// === impl Console ===

impl Console {
    /// A display that has shown nothing yet.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self {
            style,
            board: Board::default(),
            receiver: None,
            totals: Totals::default(),
            drawn: Timestamp::MIN,
            reported: (Timestamp::MIN, Totals::default()),
            started: None,
            settled: None,
            now: Timestamp::EPOCH,
            windows: BTreeMap::new(),
            actions: BTreeMap::new(),
        }
    }

    /// Says where we listen.
    pub fn listening(&mut self, addresses: &[(&str, SocketAddr)], receiver: Arc<Stats>) {
        self.receiver = Some(receiver);
        let text = addresses.iter().map(|(what, address)| format!("{what} {address}")).collect::<Vec<_>>().join(" · ");
        self.board.header = vec![format!("listening on {text}"), String::new()];
        match self.style {
            Style::Json => {
                let map: Map<_, _> = addresses.iter().map(|(what, address)| ((*what).to_owned(), json!(address.to_string()))).collect();
                self.line(&json!({"type": "listening", "addresses": map}));
            }
            Style::Log => tracing::info!("listening on {text}"),
            Style::Table => {}
        }
    }

    /// Says what is replayed.
    pub fn replaying(&mut self, what: &str) {
        self.board.header = vec![format!("replaying {what}"), String::new()];
        if self.style == Style::Log {
            tracing::info!("replaying {what}");
        }
    }

    /// Counts what a replay took in; a live run counts at its receiver.
    pub fn took(&mut self, totals: Totals) {
        self.totals = totals;
    }

    /// No more traffic will come: what follows only makes windows final.
    pub fn settle(&mut self, now: Timestamp) {
        self.settled = Some(now);
    }

    /// Shows what an event brings.
    pub fn event(&mut self, now: Timestamp, event: &Event) {
        let _ = self.started.get_or_insert(now);
        self.now = self.settled.unwrap_or(now);
        if let Event::Advanced { emissions, .. } = event {
            for emission in emissions {
                self.emission(emission);
            }
            self.board.forget(self.now);
        }
        match self.style {
            Style::Table if now.since(self.drawn) >= REDRAW || now < self.drawn => self.draw(self.now),
            Style::Log if now.since(self.reported.0) >= REPORT || now < self.reported.0 => self.report(now),
            _ => {}
        }
    }

    fn emission(&mut self, emission: &Emission) {
        if self.settled.is_some() && !emission.is_final {
            return;
        }
        if emission.is_final {
            *self.windows.entry(emission.view.clone()).or_default() += emission.rows.num_rows() as u64;
        }
        if emission.view == SUMMARY_VIEW && !emission.is_final {
            for row in 0..emission.rows.num_rows() {
                self.service(&emission.rows, row);
            }
        }
        if self.style == Style::Json {
            for row in 0..emission.rows.num_rows() {
                let mut object = Map::from_iter([("type".to_owned(), json!("view")), ("view".to_owned(), json!(emission.view))]);
                object.extend(rows::object(&emission.rows, row));
                self.line(&Value::Object(object));
            }
        }
    }

    fn service(&mut self, batch: &arrow::array::RecordBatch, row: usize) {
        let column = |name: &str| batch.column_by_name(name);
        let number = |name: &str| column(name).and_then(|column| rows::number(column, row));
        let text = |name: &str| column(name).and_then(|column| rows::text(column, row));
        let Some(service) = text("service_name") else { return };
        let presence = text("presence").unwrap_or("active");
        let new = ServiceRow {
            presence: presence.to_owned(),
            rate: number("completion_rate"),
            error_ratio: number("error_ratio"),
            p50: number("p50"),
            p99: number("p99"),
            concurrency: number("concurrency"),
            self_time: number("self_time"),
            instances: number("instances"),
            shown_at: self.now,
        };
        let old = self.board.services.insert(service.to_owned(), new);
        if self.style == Style::Log && old.is_none_or(|old| old.presence != presence) {
            tracing::info!(service, presence, "service");
        }
    }

    /// Shows a decision.
    pub fn decision(&mut self, decision: &Decision) {
        *self.actions.entry(decision.action.as_str()).or_default() += 1;
        let row = DecisionRow {
            service: Some(decision.inputs.target.service.service_name.clone()),
            current: decision.current,
            desired: decision.desired,
            action: decision.action.as_str().replace('_', " "),
            reason: decision.reason.as_str().replace('_', " "),
        };
        if self.style == Style::Json {
            match serde_json::to_value(decision) {
                Ok(Value::Object(fields)) => {
                    let mut object = Map::from_iter([("type".to_owned(), json!("decision"))]);
                    object.extend(fields);
                    self.line(&Value::Object(object));
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, decision = %decision.id, "could not show a decision"),
            }
        }
        let old = self.board.decisions.insert(decision.target.to_string(), row.clone());
        if self.style == Style::Log && old.is_none_or(|old| old != row) {
            tracing::info!(
                target = %decision.target,
                action = decision.action.as_str(),
                reason = decision.reason.as_str(),
                current = decision.current,
                desired = decision.desired,
                mode = decision.mode.as_str(),
                decision = %decision.id,
                "decision"
            );
        }
    }

    /// Shows what became of a decision's order.
    pub fn conclusion(&mut self, conclusion: &Conclusion) {
        match self.style {
            Style::Json => match serde_json::to_value(conclusion) {
                Ok(Value::Object(fields)) => {
                    let object = std::iter::once(("type".to_owned(), json!("outcome"))).chain(fields).collect();
                    self.line(&Value::Object(object));
                }
                other => tracing::error!(?other, decision = %conclusion.concludes, "could not show an outcome"),
            },
            Style::Log => tracing::info!(decision = %conclusion.concludes, outcome = %conclusion.result, "outcome"),
            Style::Table => {}
        }
    }

    /// Tells of something a rule or sink did wrong.
    pub fn warning(&self, warning: &Warning) {
        match warning {
            Warning::RuleFailed { rule, failure, times } => tracing::warn!(%rule, error = %chain(failure), times, "rule failed"),
            Warning::RuleRecovered { rule } => tracing::info!(%rule, "rule works again"),
            Warning::UnknownTargets { rule, names, times } => {
                tracing::warn!(%rule, ?names, times, "rule named targets that it does not serve or that no document describes")
            }
            Warning::Unanswered { names } => {
                tracing::warn!(
                    ?names,
                    "no rule ever had a row for these targets; naming them in `targets` of a rule makes silence count as missing"
                );
            }
            Warning::Rollout { rule, stage: stage @ Stage::Reverted { .. } } => tracing::warn!(%rule, "{}", told(stage)),
            Warning::Rollout { rule, stage } => tracing::info!(%rule, "{}", told(stage)),
            Warning::RuleLate { rule } => tracing::warn!(%rule, "rule is due again before its last evaluation came back"),
            Warning::Sampling { target, news } => tracing::warn!(%target, "{news}"),
            Warning::Unheard(unheard) => tracing::warn!("{unheard}"),
            Warning::SinkFailed { target, error } => {
                tracing::warn!(%target, kind = error.kind.as_str(), error = %chain(error), "sink failed");
            }
        }
    }

    fn totals(&self) -> Totals {
        let Some(receiver) = &self.receiver else { return self.totals };
        Totals {
            requests: receiver.accepted_total(),
            spans: receiver.items(Signal::Traces),
            points: receiver.items(Signal::Metrics),
            rejected: receiver.rejected_items(Signal::Traces) + receiver.rejected_items(Signal::Metrics),
        }
    }

    fn draw(&mut self, now: Timestamp) {
        self.drawn = now;
        let totals = self.totals();
        if let Some(line) = self.board.header.get_mut(1) {
            *line = format!(
                "{} requests · {} spans · {} metric points · {} rejected",
                totals.requests, totals.spans, totals.points, totals.rejected
            );
        }
        // Home, text, clear what is left of the last drawing: no flicker.
        let text = self.board.render(now, TABLE_ROWS).replace('\n', "\x1b[K\n");
        let _ = write!(io::stdout().lock(), "\x1b[H{text}\x1b[J").and_then(|()| io::stdout().flush());
    }

    fn report(&mut self, now: Timestamp) {
        let (then, before) = self.reported;
        let totals = self.totals();
        self.reported = (now, totals);
        if then == Timestamp::MIN {
            return;
        }
        let seconds = now.since(then).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = |after: u64, before: u64| (after.saturating_sub(before) as f64 / seconds).round();
        tracing::info!(
            spans_per_second = rate(totals.spans, before.spans),
            points_per_second = rate(totals.points, before.points),
            services = self.board.services.len(),
            targets = self.board.decisions.len(),
            "receiving"
        );
    }

    /// The summary of the run.
    ///
    /// # Errors
    /// When standard output fails.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let (now, totals) = (self.now, self.totals());
        let seconds = self.started.map_or(0.0, |started| now.since(started).as_secs_f64());
        if self.style == Style::Json {
            self.line(&json!({
                "type": "summary", "seconds": seconds, "requests": totals.requests, "spans": totals.spans, "points": totals.points,
                "rejected": totals.rejected, "final_rows": self.windows, "decisions": self.actions,
                "services": self.board.services.len(), "targets": self.board.decisions.len(),
            }));
            return Ok(());
        }
        if self.style == Style::Table {
            self.draw(now);
        } else {
            print_line(&self.board.render(now, usize::MAX))?;
        }
        let actions =
            self.actions.iter().map(|(action, count)| format!("{count} {}", action.replace('_', " "))).collect::<Vec<_>>().join(", ");
        print_line(&format!(
            "{seconds:.0} s: {} requests, {} spans, {} metric points, {} rejected; {} window rows; decisions: {}",
            totals.requests,
            totals.spans,
            totals.points,
            totals.rejected,
            self.windows.values().sum::<u64>(),
            if actions.is_empty() { "none" } else { &actions },
        ))
    }

    /// Tells what people should know of a run that is over. A table hides the log; then they read it below the table.
    pub fn remark(&self, remark: &str) {
        tracing::warn!("{remark}");
        if self.style == Style::Table {
            print_error(&format!("warning: {remark}"));
        }
    }

    /// A reader that went away is told once; deciding goes on.
    fn line(&mut self, value: &Value) {
        if let Err(error) = print_line(&value.to_string()) {
            tracing::error!(%error, "standard output is gone; going on with log lines");
            self.style = Style::Log;
        }
    }
}

/// One line on standard output.
///
/// # Errors
/// When it cannot be written.
pub fn print_line(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}

/// One line on standard error; there is nowhere to complain to when that fails.
pub fn print_error(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
