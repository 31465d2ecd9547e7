//! What the operator sees: the newest row of every service and the newest decision of every target, as one table.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use tracescale_core::time::Timestamp;

use crate::rows;

/// The newest window of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceRow {
    /// `active`, `idle` or `missing`.
    pub presence: String,
    /// Requests a second.
    pub rate: Option<f64>,
    /// Share of requests that failed, 0 to 1.
    pub error_ratio: Option<f64>,
    /// Median latency, seconds.
    pub p50: Option<f64>,
    /// 99th percentile of latency, seconds.
    pub p99: Option<f64>,
    /// Time-average requests in flight.
    pub concurrency: Option<f64>,
    /// Mean time spent in the service itself, seconds.
    pub self_time: Option<f64>,
    /// Instances seen.
    pub instances: Option<f64>,
    /// When a view last had a row of it.
    pub shown_at: Timestamp,
}

/// The newest decision of one target, in the words of its record.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRow {
    /// Service the target scales, if it says so.
    pub service: Option<String>,
    /// Replicas that are.
    pub current: Option<u32>,
    /// Replicas that the rules and guards want.
    pub desired: Option<u32>,
    /// What was done about it.
    pub action: String,
    /// The reason that had the last word.
    pub reason: String,
}

/// What the table shows.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// By service name.
    pub services: BTreeMap<String, ServiceRow>,
    /// By target name.
    pub decisions: BTreeMap<String, DecisionRow>,
    /// Lines above the table.
    pub header: Vec<String>,
}

/// How long a service stays when the view has no row of it any more, which is when the engine has forgotten it. A view that
/// skips a few windows must not make services come and go.
const FORGET_AFTER: Duration = Duration::from_secs(60);
const HEADINGS: [&str; 12] =
    ["SERVICE", "STATE", "RATE/s", "ERR %", "P50 ms", "P99 ms", "IN FLIGHT", "SELF ms", "INST", "NOW", "WANT", "WHY"];
/// Longest name shown; service names come from senders.
const NAME_WIDTH: usize = 40;
/// Columns that hold words; the rest are numbers and lean to the right.
const WORDS: [usize; 3] = [0, 1, 11];

// === impl Board ===

impl Board {
    /// The table as text, at most `rows_max` services; says how many were left out.
    #[must_use]
    pub fn render(&self, now: Timestamp, rows_max: usize) -> String {
        let lines = self.lines();
        let mut cells: Vec<[String; 12]> = vec![HEADINGS.map(str::to_owned)];
        cells.extend(lines.iter().take(rows_max).map(|(name, row, decision)| line(name, *row, *decision)));
        let mut widths = [0_usize; 12];
        for line in &cells {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = format!("tracescale  {now}\n");
        for line in self.header.iter().filter(|line| !line.is_empty()) {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
        for line in &cells {
            let padded = line.iter().enumerate().map(|(index, cell)| {
                let width = widths[index];
                if WORDS.contains(&index) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            let _ = writeln!(text, "{}", padded.collect::<Vec<_>>().join("  ").trim_end());
        }
        let hidden = lines.len().saturating_sub(rows_max);
        if hidden > 0 {
            let _ = writeln!(text, "… and {hidden} more (--json shows all)");
        }
        if self.services.is_empty() && self.decisions.is_empty() {
            text.push_str("\nno telemetry yet: point an OTLP exporter at the addresses above\n");
        }
        text
    }

    /// Forgets services that the view no longer has: services that come and go must not fill the memory.
    pub fn forget(&mut self, now: Timestamp) {
        self.services.retain(|_, row| now < row.shown_at + FORGET_AFTER);
    }

    /// Services with the target that scales them, the first by name where there are several; then targets whose service was
    /// not seen.
    fn lines(&self) -> Vec<(&str, Option<&ServiceRow>, Option<&DecisionRow>)> {
        let mut scaled: HashMap<&str, &DecisionRow> = HashMap::new();
        for decision in self.decisions.values() {
            if let Some(service) = decision.service.as_deref() {
                let _ = scaled.entry(service).or_insert(decision);
            }
        }
        let services = self.services.iter().map(|(name, row)| (name.as_str(), Some(row), scaled.get(name.as_str()).copied()));
        let is_unseen = |decision: &DecisionRow| decision.service.as_ref().is_none_or(|service| !self.services.contains_key(service));
        let unseen = self.decisions.iter().filter(|(_, decision)| is_unseen(decision));
        services.chain(unseen.map(|(name, decision)| (name.as_str(), None, Some(decision)))).collect()
    }
}

fn line(name: &str, row: Option<&ServiceRow>, decision: Option<&DecisionRow>) -> [String; 12] {
    let absent = ServiceRow { presence: "missing".to_owned(), ..ServiceRow::default() };
    let row = row.unwrap_or(&absent);
    let millis = |seconds: Option<f64>| number(seconds.map(|seconds| seconds * 1e3), 1);
    [
        rows::printable(name, NAME_WIDTH),
        row.presence.clone(),
        number(row.rate, 1),
        number(row.error_ratio.map(|ratio| ratio * 100.0), 1),
        millis(row.p50),
        millis(row.p99),
        number(row.concurrency, 2),
        millis(row.self_time),
        number(row.instances, 0),
        count(decision.and_then(|decision| decision.current)),
        count(decision.and_then(|decision| decision.desired)),
        decision.map_or_else(String::new, |decision| format!("{}: {}", decision.action, decision.reason)),
    ]
}

/// Missing is shown as a dash, never as zero.
fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

fn count(value: Option<u32>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: missing values show as a dash, a service is joined with its target, and the table is bounded.
    #[test]
    fn the_table_shows_missing_as_missing() {
        let mut board = Board::default();
        let active = ServiceRow { presence: "active".to_owned(), rate: Some(12.34), p99: Some(0.25), ..ServiceRow::default() };
        board.services.insert("checkout".to_owned(), active);
        board.services.insert("zebra".to_owned(), ServiceRow { presence: "missing".to_owned(), ..ServiceRow::default() });
        let decision = DecisionRow {
            service: Some("checkout".to_owned()),
            current: Some(2),
            desired: Some(3),
            action: "scale up".to_owned(),
            reason: "demand".to_owned(),
        };
        board.decisions.insert("checkout".to_owned(), decision);
        let text = board.render(Timestamp::EPOCH, 1);
        let row = text.lines().find(|line| line.starts_with("checkout")).unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells, ["checkout", "active", "12.3", "–", "–", "250.0", "–", "–", "–", "2", "3", "scale", "up:", "demand"]);
        assert!(!text.contains("zebra") && text.contains("1 more"));
    }

    /// Guarantees: a table of very many services and targets is put together in one pass (service by target would take minutes),
    /// a service stands with the first of its targets, and the others are not lost.
    #[test]
    fn the_table_is_linear_in_services_and_targets() {
        let mut board = Board::default();
        let decision = |service: &str, desired| DecisionRow {
            service: Some(service.to_owned()),
            current: None,
            desired: Some(desired),
            action: "none".to_owned(),
            reason: "steady".to_owned(),
        };
        for index in 0..50_000 {
            let name = format!("service-{index:05}");
            board.decisions.insert(format!("target-{index:05}"), decision(&name, index));
            board.services.insert(name, ServiceRow::default());
        }
        board.decisions.insert("z-second".to_owned(), decision("service-00001", 7));
        board.decisions.insert("unseen".to_owned(), decision("elsewhere", 8));
        let lines = board.lines();
        assert_eq!((lines.len(), lines[1].2.unwrap().desired, lines[50_000].0), (50_001, Some(1), "unseen"));
        assert!(lines[50_000].1.is_none() && board.render(Timestamp::EPOCH, 3).contains("49998 more"));
    }

    /// Guarantees: services that the view no longer has are forgotten, however many came and went, and those that it has stay.
    #[test]
    fn services_that_are_gone_are_forgotten() {
        let mut board = Board::default();
        let mut most = 0;
        for second in 0..10_000 {
            let now = Timestamp::from_secs(second);
            for name in ["steady".to_owned(), format!("passing-{second}")] {
                board.services.insert(name, ServiceRow { shown_at: now, ..ServiceRow::default() });
            }
            board.forget(now);
            most = most.max(board.services.len());
        }
        assert_eq!(most, 61);
        assert!(board.services.contains_key("steady"));
    }
}
