//! What the operator sees: the newest row of every service and the newest decision of every target, as one table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tracescale_core::time::Timestamp;

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

const HEADINGS: [&str; 12] =
    ["SERVICE", "STATE", "RATE/s", "ERR %", "P50 ms", "P99 ms", "IN FLIGHT", "SELF ms", "INST", "NOW", "WANT", "WHY"];
/// Columns that hold words; the rest are numbers and lean to the right.
const WORDS: [usize; 3] = [0, 1, 11];

// === impl Board ===

impl Board {
    /// The table as text, at most `rows_max` services; says how many were left out.
    #[must_use]
    pub fn render(&self, now: Timestamp, rows_max: usize) -> String {
        let mut cells: Vec<[String; 12]> = vec![HEADINGS.map(str::to_owned)];
        cells.extend(self.lines().take(rows_max));
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
        let hidden = self.lines().count().saturating_sub(rows_max);
        if hidden > 0 {
            let _ = writeln!(text, "… and {hidden} more (--json shows all)");
        }
        if self.services.is_empty() && self.decisions.is_empty() {
            text.push_str("\nno telemetry yet: point an OTLP exporter at the addresses above\n");
        }
        text
    }

    /// Services with the target that scales them; then targets whose service was not seen.
    fn lines(&self) -> impl Iterator<Item = [String; 12]> + '_ {
        let services = self.services.iter().map(|(name, row)| {
            let decision = self.decisions.values().find(|decision| decision.service.as_deref() == Some(name));
            line(name, row, decision)
        });
        let unseen = self
            .decisions
            .iter()
            .filter(|(_, decision)| decision.service.as_ref().is_none_or(|service| !self.services.contains_key(service)));
        let absent = ServiceRow { presence: "missing".to_owned(), ..ServiceRow::default() };
        services.chain(unseen.map(move |(name, decision)| line(name, &absent, Some(decision))))
    }
}

fn line(name: &str, row: &ServiceRow, decision: Option<&DecisionRow>) -> [String; 12] {
    let millis = |seconds: Option<f64>| number(seconds.map(|seconds| seconds * 1e3), 1);
    [
        name.to_owned(),
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
}
