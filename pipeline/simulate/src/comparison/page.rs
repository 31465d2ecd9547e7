//! A comparison as one HTML page that needs nothing else: style and the few lines of script are in it, plots are SVG.

use std::collections::BTreeMap;

use tracescale_core::time::Timestamp;

use super::column::{COLUMNS, Cell, cells};
use super::format::{MISSING, amount, escaped, length, minute, objective};
use super::plot::line_style;
use super::steps::{Point, sum};
use super::timeline::{Line, Timeline};
use super::{Comparison, PolicyResult, ServiceLoad, ServiceResult, frontier};
use crate::number::real;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Services with a plot of their own.
const PLOTS_MAX: usize = 12;

/// The whole page.
pub(super) fn render(comparison: &Comparison) -> String {
    let title = escaped(&comparison.title);
    let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out +=
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n";
    out += &format!("<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n");
    out += &header(comparison, &title);
    out += &summary(comparison);
    let order = comparison.by_weight();
    if comparison.services.len() > 1 {
        out += &section("All services", "", &figure(comparison, &total(comparison)));
    }
    for place in order.iter().take(PLOTS_MAX) {
        out += &service(comparison, &comparison.services[*place]);
    }
    out += &rest(comparison, &order[order.len().min(PLOTS_MAX)..]);
    out += &failures(comparison);
    out += "</main>\n<div id=\"reading\" hidden></div>\n";
    out + &format!("<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
}

fn section(title: &str, remark: &str, body: &str) -> String {
    let remark = if remark.is_empty() { String::new() } else { format!(" <small>{}</small>", escaped(remark)) };
    format!("<section>\n<h2>{}{remark}</h2>\n{body}</section>\n", escaped(title))
}

fn header(comparison: &Comparison, title: &str) -> String {
    let (from, until) = (minute(comparison.from), minute(comparison.until));
    let long = length(comparison.until.since(comparison.from));
    let facts = [
        format!("{from} – {until} UTC"),
        long,
        format!("steps of {}", length(comparison.step)),
        format!("{} services", comparison.services.len()),
        format!("{} policies", comparison.policies.len()),
    ];
    let facts: String = facts.iter().map(|fact| format!("<span>{}</span>", escaped(fact))).collect();
    let mut out = format!("<header>\n<h1>{title}</h1>\n<p class=\"facts\">{facts}</p>\n");
    if !comparison.assumptions.is_empty() {
        let items: String = comparison.assumptions.iter().map(|text| format!("<li>{}</li>\n", escaped(text))).collect();
        out += &format!("<p class=\"about\">Assumptions</p>\n<ul class=\"assumptions\">\n{items}</ul>\n");
    }
    out + "</header>\n"
}

/// The table of policies, what its columns mean, and the frontier.
fn summary(comparison: &Comparison) -> String {
    let mut body = table(comparison, &cells(comparison, None), true);
    let baseline = comparison.baseline().map_or(MISSING, |policy| policy.name.as_str());
    body += &format!("<p class=\"key\"><b>Bold</b> is best; small: change relative to {}. ", escaped(baseline));
    let meanings: String = COLUMNS.iter().map(|column| format!("<b>{}</b> {}; ", escaped(column.title), escaped(column.meaning))).collect();
    body += meanings.trim_end_matches("; ");
    body += ".</p>\n";
    let mut out = section("Policies", "", &body);
    let plot = frontier::svg(comparison);
    if !plot.is_empty() {
        let body = format!("<figure>\n{plot}\n</figure>\n");
        out += &section("What keeping promises costs", "each point is a policy; the line joins those that none beats in both", &body);
    }
    out
}

fn table(comparison: &Comparison, rows: &[Vec<Cell>], notes: bool) -> String {
    let heads: String =
        COLUMNS.iter().map(|column| format!("<th title=\"{}\">{}</th>", escaped(column.meaning), escaped(column.title))).collect();
    let mut out = format!("<div class=\"scroll\"><table class=\"figures\">\n<thead><tr><th>policy</th>{heads}</tr></thead>\n<tbody>\n");
    for (place, (policy, row)) in comparison.policies.iter().zip(rows).enumerate() {
        let note = if notes && !policy.note.is_empty() { format!("<small>{}</small>", escaped(&policy.note)) } else { String::new() };
        let name = format!("<th>{}{}{note}</th>", swatch(place), escaped(&policy.name));
        let figures: String = row.iter().map(cell).collect();
        out += &format!("<tr data-policy=\"{place}\">{name}{figures}</tr>\n");
    }
    out + "</tbody>\n</table></div>\n"
}

fn cell(cell: &Cell) -> String {
    let class = if cell.best { " class=\"best\"" } else { "" };
    let change = cell.change.as_ref().map(|change| format!("<small>{}</small>", escaped(change))).unwrap_or_default();
    format!("<td{class}>{}{change}</td>", escaped(&cell.text))
}

/// A piece of a policy's line.
fn swatch(policy: usize) -> String {
    format!("<svg class=\"swatch\" viewBox=\"0 0 30 10\"><path {} d=\"M1 5H29\"/></svg>", line_style(policy))
}

fn figure(comparison: &Comparison, timeline: &Timeline<'_>) -> String {
    let item = |(place, policy): (usize, &PolicyResult)| {
        format!("<span data-policy=\"{place}\">{}{}</span>", swatch(place), escaped(&policy.name))
    };
    let items: String = comparison.policies.iter().enumerate().map(item).collect();
    format!("<figure>\n<p class=\"legend\">{items}</p>\n{}\n</figure>\n", timeline.svg())
}

fn service(comparison: &Comparison, load: &ServiceLoad) -> String {
    let mut body = figure(comparison, &alone(comparison, load));
    // Of a single service the first table has said it all.
    if comparison.services.len() > 1 {
        body += &table(comparison, &cells(comparison, Some(&load.name)), false);
    }
    section(&load.name, &objective(&load.objective), &body)
}

/// The timeline of one service.
fn alone<'a>(comparison: &'a Comparison, load: &'a ServiceLoad) -> Timeline<'a> {
    let line = |policy: &'a PolicyResult| {
        let result = policy.service(&load.name);
        Line {
            name: &policy.name,
            ready: result.map(ready).unwrap_or_default(),
            violations: result.into_iter().flat_map(ServiceResult::violations).map(|start| (start, 1.0)).collect(),
            minutes: result.map_or(f64::NAN, |result| f64::from(result.score.violation_minutes)),
        }
    };
    let lines = comparison.policies.iter().map(line).collect();
    let (from, until) = (comparison.from, comparison.until);
    Timeline { from, until, load: load.rate.clone(), demand: demand(load), lines, services: 1.0 }
}

/// The timeline of the sum of all services.
fn total(comparison: &Comparison) -> Timeline<'_> {
    let lines: Vec<Line<'_>> = comparison.policies.iter().map(total_line).collect();
    let counts = lines.iter().flat_map(|line| &line.violations).map(|violation| violation.1);
    let services = counts.fold(1.0, f64::max);
    // A sum without some of the services would look like excess.
    let known = comparison.services.iter().all(|service| !service.demand.is_empty());
    let demand = if known { sum(comparison.services.iter().map(demand)) } else { Vec::new() };
    let load = sum(comparison.services.iter().map(|service| service.rate.clone()));
    Timeline { from: comparison.from, until: comparison.until, load, demand, lines, services }
}

fn total_line(policy: &PolicyResult) -> Line<'_> {
    let mut violations: BTreeMap<Timestamp, f64> = BTreeMap::new();
    for start in policy.services.iter().flat_map(ServiceResult::violations) {
        *violations.entry(start).or_default() += 1.0;
    }
    let total = policy.total();
    Line {
        name: &policy.name,
        ready: sum(policy.services.iter().map(ready)),
        violations: violations.into_iter().collect(),
        minutes: if total.services > 0 { real(total.violation_minutes) } else { f64::NAN },
    }
}

fn ready(result: &ServiceResult) -> Vec<Point> {
    result.supply.iter().map(|supply| (supply.at, f64::from(supply.ready))).collect()
}

fn demand(load: &ServiceLoad) -> Vec<Point> {
    load.demand.iter().map(|(at, replicas)| (*at, f64::from(*replicas))).collect()
}

/// A line per service that has no plot.
fn rest(comparison: &Comparison, services: &[usize]) -> String {
    if services.is_empty() {
        return String::new();
    }
    let heads: String = comparison.policies.iter().map(|policy| format!("<th>{}</th>", escaped(&policy.name))).collect();
    let mut body = format!("<div class=\"scroll\"><table>\n<thead><tr><th>service</th><th>promise</th>{heads}</tr></thead>\n<tbody>\n");
    for place in services {
        let load = &comparison.services[*place];
        let figures = |policy: &PolicyResult| match policy.service(&load.name) {
            Some(result) => {
                let (minutes, hours) = (f64::from(result.score.violation_minutes), result.score.replica_hours);
                format!("<td>{} min · {} h</td>", amount(minutes), amount(hours))
            }
            None => format!("<td>{MISSING}</td>"),
        };
        let row: String = comparison.policies.iter().map(figures).collect();
        body += &format!("<tr><th>{}</th><td>{}</td>{row}</tr>\n", escaped(&load.name), escaped(&objective(&load.objective)));
    }
    body += "</tbody>\n</table></div>\n";
    section("Other services", "violation minutes and replica-hours", &body)
}

fn failures(comparison: &Comparison) -> String {
    let of = |policy: &PolicyResult| {
        let items: String = policy.failures.iter().map(|text| format!("<li>{}</li>\n", escaped(text))).collect();
        format!("<p class=\"about\">{}</p>\n<ul class=\"failures\">\n{items}</ul>\n", escaped(&policy.name))
    };
    let body: String = comparison.policies.iter().filter(|policy| !policy.failures.is_empty()).map(of).collect();
    if body.is_empty() { body } else { section("Failures", "", &body) }
}
