//! The PetShop recording: one application on managed services, five-minute averages, issues with a known root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tracescale_models::cause::{Baseline, Edge, Service, Window};

use super::Error;
use super::case::{Calm, Case, Look};
use super::report::Section;
use super::table::{Table, names, read_text};

/// Lines before the figures: component, metric, statistic, name of the index.
const HEADER_LINES: usize = 4;

#[derive(Deserialize)]
struct Issue {
    target: Target,
    root_cause: Root,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Target {
    timestamp: f64,
}

#[derive(Deserialize)]
struct Root {
    node: String,
}

#[derive(Deserialize)]
struct Metadata {
    reproducibility: Command,
}

#[derive(Deserialize)]
struct Command {
    command: String,
}

/// Who calls whom.
type Graph = Vec<(String, String)>;

/// Every issue, and the second half of the two calm days judged by the first.
pub(super) fn section(root: &Path) -> Result<Section, Error> {
    let folder = root.join("calls/petshop/low_traffic");
    let graph = graph(folder.join("graph.csv"))?;
    let calm = windows(folder.join("noissue/metrics.csv"), &graph)?;
    let (learned, judged) = calm.split_at(calm.len() / 2);
    let history: Vec<Window> = learned.iter().map(|(_, window)| window.clone()).collect();
    let mut section = Section { title: "PetShop, five-minute averages".to_owned(), ..Section::default() };
    let baseline = Baseline::learn(&history);
    let mut quiet = Calm::default();
    for (time, window) in judged {
        quiet.add(|| format!("{time:.0}"), &Look { window, history: &history, baseline: &baseline });
    }
    let all: Vec<Window> = calm.iter().map(|(_, window)| window.clone()).collect();
    let baseline = Baseline::learn(&all);
    for part in ["train", "test"] {
        for name in names(&folder.join(part))? {
            let issue_folder = folder.join(part).join(&name);
            let path = issue_folder.join("target.json");
            let issue: Issue = serde_json::from_str(&read_text(&path)?).map_err(|source| Error::Json { path, source })?;
            let rows = windows(issue_folder.join("metrics.csv"), &graph)?;
            let (before, during): (Vec<_>, Vec<_>) = rows.iter().partition(|(time, _)| *time < issue.target.timestamp);
            // The row just before the symptom may hold part of it.
            for (time, window) in before.iter().take(before.len().saturating_sub(1)) {
                quiet.add(|| format!("{part}/{name} {time:.0}"), &Look { window, history: &all, baseline: &baseline });
            }
            let looks: Vec<Look<'_>> = during.iter().map(|(_, window)| Look { window, history: &all, baseline: &baseline }).collect();
            let (fault, is_capacity) = fault(&issue.metadata.reproducibility.command);
            section.cases.push(Case::judged(format!("{part}/{name}"), fault, &issue.root_cause.node, is_capacity, &looks));
        }
    }
    section.calm = quiet;
    Ok(section)
}

/// What was done, and whether it is a lack of capacity: only the flood of requests to the table is.
fn fault(command: &str) -> (&'static str, bool) {
    match command {
        _ if command.contains("dynamo_db_requests") => ("request overload", true),
        _ if command.contains("delay") || command.contains("sleep") => ("added delay", false),
        _ => ("errors", false),
    }
}

fn graph(path: PathBuf) -> Result<Graph, Error> {
    let table = Table::read(path)?;
    let header = table.header();
    let mut graph = Vec::new();
    for row in table.rows(1) {
        for (place, server) in header.iter().enumerate().skip(1) {
            if row.number(place)?.is_some_and(|cell| cell > 0.0) {
                graph.push((row.text(0)?.to_owned(), (*server).to_owned()));
            }
        }
    }
    Ok(graph)
}

/// One window per line with the time it begins. A component's calls are shared among its callers by their requests, and what
/// the caller sees of it is its own latency: nothing else was recorded.
fn windows(path: PathBuf, graph: &Graph) -> Result<Vec<(f64, Window)>, Error> {
    let table = Table::read(path)?;
    let mut header = table.rows(0);
    let (Some(components), Some(metrics), Some(statistics)) = (header.next(), header.next(), header.next()) else {
        return Ok(Vec::new());
    };
    let mut columns = Vec::new();
    for place in 1..table.header().len() {
        columns.push((components.text(place)?, metrics.text(place)?, statistics.text(place)?));
    }
    let mut windows = Vec::new();
    for row in table.rows(HEADER_LINES) {
        let mut services: BTreeMap<&str, Service> = BTreeMap::new();
        for (place, (component, metric, statistic)) in columns.iter().enumerate() {
            let Some(value) = row.number(place + 1)? else { continue };
            let service = services.entry(component).or_insert_with(|| Service { name: (*component).to_owned(), ..Service::default() });
            match (*metric, *statistic) {
                ("latency", "Average") => service.sojourn = Some(value),
                ("requests", "Sum") => service.requests = value,
                ("availability", "Average") => service.error_share = Some(1.0 - value / 100.0),
                _ => {}
            }
        }
        let time = row.number(0)?.ok_or_else(|| row.error("no time".to_owned()))?;
        let edges = edges(graph, &services);
        windows.push((time, Window { services: services.into_values().collect(), edges }));
    }
    Ok(windows)
}

fn edges(graph: &Graph, services: &BTreeMap<&str, Service>) -> Vec<Edge> {
    let requests = |name: &str| services.get(name).map_or(0.0, |service| service.requests);
    let edge = |(client, server): &(String, String)| {
        let callers: f64 = graph.iter().filter(|(_, other)| other == server).map(|(caller, _)| requests(caller)).sum();
        let answer = services.get(server.as_str())?;
        Some(Edge {
            client: client.clone(),
            server: server.clone(),
            calls: if callers > 0.0 { answer.requests * requests(client) / callers } else { 0.0 },
            client_duration: answer.sojourn,
            server_duration: answer.sojourn,
            ..Edge::default()
        })
    };
    graph.iter().filter_map(edge).collect()
}
