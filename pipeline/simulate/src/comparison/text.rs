//! A comparison as text for a terminal.

use super::column::{COLUMNS, Cell, cells};
use super::format::{MISSING, length, minute, objective, shortened};
use super::{Comparison, PolicyResult};

/// Widest line.
const WIDTH: usize = 120;
/// Longest name of a policy, if numbers leave room for it.
const NAME_MAX: usize = 28;
/// Services that get a table of their own.
const SERVICES_MAX: usize = 10;
/// Failures that are shown of a policy.
const FAILURES_MAX: usize = 10;

/// The whole text; every line ends with a newline.
pub(super) fn render(comparison: &Comparison) -> String {
    let mut lines = vec![comparison.title.clone(), period(comparison)];
    lines.extend(comparison.assumptions.iter().map(|assumption| format!("- {assumption}")));
    lines.push(String::new());
    lines.extend(table(&comparison.policies, &cells(comparison, None)));
    if let Some(baseline) = comparison.baseline() {
        let name = &baseline.name;
        lines.push(format!("* best of its column; second lines: change relative to {name}; latencies of the slowest service;"));
        lines.push("  θ, τ: elasticity in percent, U too few replicas, O too many, θ by how much, τ for how long".to_owned());
    }
    lines.extend(worst_services(comparison));
    lines.extend(comparison.policies.iter().flat_map(failures));
    let finished = |line: String| shortened(line.trim_end(), WIDTH) + "\n";
    lines.into_iter().map(finished).collect()
}

fn period(comparison: &Comparison) -> String {
    let (from, until) = (minute(comparison.from), minute(comparison.until));
    let long = length(comparison.until.since(comparison.from));
    format!("{from} to {until} UTC ({long}), steps of {}, services: {}", length(comparison.step), comparison.services.len())
}

/// A table for each of the services where policies matter most; none when there is but one service, for it is the total.
fn worst_services(comparison: &Comparison) -> Vec<String> {
    if comparison.services.len() < 2 {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for place in comparison.by_weight().into_iter().take(SERVICES_MAX) {
        let service = &comparison.services[place];
        lines.push(String::new());
        lines.push(format!("{} ({})", shortened(&service.name, WIDTH / 2), objective(&service.objective)));
        lines.extend(table(&comparison.policies, &cells(comparison, Some(&service.name))));
    }
    let left = comparison.services.len().saturating_sub(SERVICES_MAX);
    if left > 0 {
        lines.push(String::new());
        lines.push(format!("{left} more services, where policies broke fewer promises and differ less"));
    }
    lines
}

fn failures(policy: &PolicyResult) -> Vec<String> {
    if policy.failures.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![String::new(), format!("failures of {}", policy.name)];
    lines.extend(policy.failures.iter().take(FAILURES_MAX).map(|failure| format!("- {failure}")));
    if policy.failures.len() > FAILURES_MAX {
        lines.push(format!("- and {} more", policy.failures.len() - FAILURES_MAX));
    }
    lines
}

/// An aligned table: names to the left, numbers to the right; a second line holds what changed.
fn table(policies: &[PolicyResult], rows: &[Vec<Cell>]) -> Vec<String> {
    // A column of its own for the mark keeps digits below digits.
    let marked = |cell: &Cell| format!("{}{}", cell.text, if cell.best { '*' } else { ' ' });
    let changed = |cell: &Cell| cell.change.clone().unwrap_or_default() + " ";
    let mut lines = vec![("policy".to_owned(), COLUMNS.iter().map(|column| column.title.to_owned() + " ").collect::<Vec<_>>())];
    for (policy, row) in policies.iter().zip(rows) {
        lines.push((policy.name.clone(), row.iter().map(marked).collect()));
        if row.iter().any(|cell| cell.change.is_some()) {
            lines.push((String::new(), row.iter().map(changed).collect()));
        }
    }
    if policies.is_empty() {
        lines.push((MISSING.to_owned(), vec![String::new(); COLUMNS.len()]));
    }
    let letters = |text: &String| text.chars().count();
    let width = |place: usize| lines.iter().filter_map(|(_, row)| row.get(place)).map(letters).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let numbers: usize = widths.iter().sum();
    let wanted = lines.iter().map(|(name, _)| letters(name)).max().unwrap_or(0).min(NAME_MAX);
    let gap = if wanted + numbers + 2 * COLUMNS.len() <= WIDTH + 1 { 2 } else { 1 };
    // The mark of the last column may stand right at the edge.
    let name_width = wanted.min(WIDTH.saturating_sub(numbers + gap * COLUMNS.len()));
    let line = |(name, row): &(String, Vec<String>)| {
        let numbers = row.iter().zip(&widths).map(|(cell, width)| format!("{:gap$}{cell:>width$}", "")).collect::<String>();
        format!("{:<name_width$}{numbers}", shortened(name, name_width))
    };
    lines.iter().map(line).collect()
}
