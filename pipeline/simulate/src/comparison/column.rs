//! The columns that text and page share, so that both say the same.

use super::format::{MISSING, amount, change, latency, percent};
use super::{Comparison, Totals};
use crate::number::real;
use crate::score::Elasticity;

/// A figure; less is better for all of them.
pub(super) struct Column {
    /// Head of the column.
    pub title: &'static str,
    /// What it means, and its unit.
    pub meaning: &'static str,
    /// The number that is compared.
    value: fn(&Totals) -> Option<f64>,
    /// How it is written.
    text: fn(&Totals, f64) -> String,
}

/// A figure of a policy, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// The number, or a dash.
    pub text: String,
    /// Change relative to the baseline; `None` for the baseline itself and where nothing can be said.
    pub change: Option<String>,
    /// Whether no policy is better, and another is worse.
    pub best: bool,
}

/// All columns, in order.
pub(super) const COLUMNS: [Column; 12] = [
    Column {
        title: "SLO min",
        meaning: "minutes in which too many requests were too slow or failed",
        value: |totals| Some(real(totals.violation_minutes)),
        text: |_, value| amount(value),
    },
    Column {
        title: "% over",
        meaning: "share of all requests that were too slow or failed, in percent",
        value: |totals| totals.violation_share,
        text: |_, value| percent(value),
    },
    Column { title: "p50", meaning: "median latency, of the service where it is highest", value: |totals| totals.p50, text: seconds },
    Column { title: "p95", meaning: "95th percentile, of the service where it is highest", value: |totals| totals.p95, text: seconds },
    Column { title: "p99", meaning: "99th percentile, of the service where it is highest", value: |totals| totals.p99, text: seconds },
    Column {
        title: "repl-h",
        meaning: "replica-hours, from creation to termination",
        value: |totals| Some(totals.replica_hours),
        text: |_, value| amount(value),
    },
    Column {
        title: "up/down",
        meaning: "scale-ups and scale-downs",
        value: |totals| Some(real(totals.ups + totals.downs)),
        text: |totals, _| format!("{}/{}", amount(real(totals.ups)), amount(real(totals.downs))),
    },
    Column {
        title: "osc",
        meaning: "changes of direction within ten minutes",
        value: |totals| Some(real(totals.oscillations)),
        text: |_, value| amount(value),
    },
    measure("θU", "mean shortage relative to demand, in percent", |totals| elastic(totals, |found| found.theta_under)),
    measure("θO", "mean excess relative to demand, in percent", |totals| elastic(totals, |found| found.theta_over)),
    measure("τU", "share of the time with too few replicas, in percent", |totals| elastic(totals, |found| found.tau_under)),
    measure("τO", "share of the time with too many replicas, in percent", |totals| elastic(totals, |found| found.tau_over)),
];

const fn measure(title: &'static str, meaning: &'static str, value: fn(&Totals) -> Option<f64>) -> Column {
    Column { title, meaning, value, text: |_, value| amount(value) }
}

fn seconds(_: &Totals, value: f64) -> String {
    latency(value)
}

fn elastic(totals: &Totals, value: fn(&Elasticity) -> f64) -> Option<f64> {
    totals.elasticity.as_ref().map(value)
}

/// Cells of every policy, by policy and column: over all services, or of one of them.
pub(super) fn cells(comparison: &Comparison, service: Option<&str>) -> Vec<Vec<Cell>> {
    let total = |policy: &super::PolicyResult| match service {
        Some(name) => Totals::of(policy.service(name)),
        None => policy.total(),
    };
    let totals: Vec<Totals> = comparison.policies.iter().map(total).collect();
    let baseline = comparison.policies.iter().position(|policy| policy.name == super::CURRENT).unwrap_or(0);
    let mut rows = vec![Vec::with_capacity(COLUMNS.len()); totals.len()];
    for column in &COLUMNS {
        for (row, cell) in rows.iter_mut().zip(column_cells(column, &totals, baseline)) {
            row.push(cell);
        }
    }
    rows
}

fn column_cells(column: &Column, totals: &[Totals], baseline: usize) -> Vec<Cell> {
    let value = |totals: &Totals| (column.value)(totals).filter(|value| totals.services > 0 && value.is_finite());
    let values: Vec<Option<f64>> = totals.iter().map(value).collect();
    let texts: Vec<Option<String>> = totals.iter().zip(&values).map(|(totals, value)| Some((column.text)(totals, (*value)?))).collect();
    let best = (0..values.len()).filter(|place| values[*place].is_some()).min_by(|left, right| {
        let order = |place: &usize| values[*place].unwrap_or(f64::INFINITY);
        order(left).total_cmp(&order(right))
    });
    // What reads the same is equally good; if all read the same, none is best.
    let distinct = texts.iter().flatten().any(|text| best.is_some_and(|best| texts[best].as_ref() != Some(text)));
    let base = values.get(baseline).copied().flatten();
    let cell = |place: usize| Cell {
        text: texts[place].clone().unwrap_or_else(|| MISSING.to_owned()),
        change: base.filter(|_| place != baseline).zip(values[place]).and_then(|(base, value)| change(base, value)),
        best: distinct && texts[place].is_some() && best.is_some_and(|best| texts[best] == texts[place]),
    };
    (0..totals.len()).map(cell).collect()
}
