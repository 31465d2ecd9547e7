//! The Nezha recordings: Online Boutique and Train Ticket under load, with faults injected one after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tracescale_models::cause::{Baseline, Edge, MATERIAL_SHARE, Service, Window, compare};

use super::Error;
use super::case::{Calm, Case, Look};
use super::report::{Section, Sensitivity};
use super::table::{Table, clock, names, read_text, seconds};
use super::traces::{Spans, service_of};

/// Windows of one minute from which normal is learned: an hour, which one incident of some minutes does not bend.
const HISTORY: usize = 60;
/// Minutes after an injection in which its fault is looked for; faults last about five.
const FAULT_MINUTES: i64 = 5;
/// Minutes after an injection that count neither for it nor as calm: the system recovers, and injections are 8 min apart.
const RECOVERY_MINUTES: i64 = 8;
/// Windows into which the one calm minute of spans is cut, to see how much figures vary by chance.
const CALM_PARTS: u32 = 6;

/// Limits of utilization that are tried besides the default, to show what hangs on it.
const OTHER_LIMITS: [f64; 4] = [0.6, 0.7, 0.8, 0.95];

/// One recorded system.
pub(super) struct System {
    pub(super) name: &'static str,
    pub(super) folder: PathBuf,
    faults: Vec<Fault>,
    /// The calm minute of spans, its file, and when it was.
    calm: Spans,
    pub(super) calm_file: PathBuf,
    pub(super) calm_at: &'static str,
    minutes: BTreeMap<i64, Window>,
}

/// An injected fault.
#[derive(Debug, Deserialize)]
pub(super) struct Fault {
    inject_time: String,
    pub(super) inject_pod: String,
    pub(super) inject_type: String,
}

// === impl Fault ===

impl Fault {
    pub(super) fn is_capacity(&self) -> bool {
        matches!(self.inject_type.as_str(), "cpu_contention" | "cpu_consumed")
    }

    fn minute(&self) -> Option<i64> {
        seconds(&self.inject_time).map(|seconds| seconds.div_euclid(60))
    }

    /// Minutes since the injection.
    fn age(&self, minute: i64) -> Option<i64> {
        self.minute().map(|start| minute - start)
    }
}

// === impl System ===

impl System {
    /// Online Boutique on 22 August 2022.
    pub(super) fn online_boutique(root: &Path) -> Result<Self, Error> {
        let folder = root.join("calls/nezha-onlineboutique-2022-08-22");
        Self::read("Online Boutique", folder, "2022-08-22", ("trace/03_53_trace.csv", "03:53"))
    }

    /// Train Ticket on 29 January 2023.
    pub(super) fn train_ticket(root: &Path) -> Result<Self, Error> {
        let folder = root.join("calls/nezha-trainticket-2023-01-29");
        Self::read("Train Ticket", folder, "2023-01-29", ("trace-faultfree/08_50_trace.csv", "08:50"))
    }

    fn read(name: &'static str, folder: PathBuf, day: &str, calm: (&str, &'static str)) -> Result<Self, Error> {
        let path = folder.join(format!("{day}-fault_list.json"));
        let hours: BTreeMap<String, Vec<Fault>> =
            serde_json::from_str(&read_text(&path)?).map_err(|source| Error::Json { path: path.clone(), source })?;
        let faults: Vec<Fault> = hours.into_values().flatten().collect();
        if let Some(fault) = faults.iter().find(|fault| fault.minute().is_none()) {
            return Err(Error::Content { path, line: 1, what: format!("{:?} is no time", fault.inject_time) });
        }
        let (calm_file, calm_at) = (folder.join(calm.0), calm.1);
        let calm = Spans::read(&Table::read(calm_file.clone())?)?;
        let minutes = minutes(&folder, &calm.window())?;
        Ok(Self { name, folder, faults, calm, calm_file, calm_at, minutes })
    }

    /// Every fault of the day and every calm minute, judged minute by minute from pod metrics and the call graph; then once more
    /// for each of other limits of utilization.
    pub(super) fn metrics(&self) -> Section {
        let windows: Vec<Window> = self.minutes.values().cloned().collect();
        let baselines: Vec<Baseline> =
            (0..windows.len()).map(|index| Baseline::learn(&windows[index.saturating_sub(HISTORY)..index])).collect();
        let mut section = self.metrics_with(&windows, &baselines);
        let other = |safe: f64| {
            let mut windows = windows.clone();
            windows.iter_mut().flat_map(|window| &mut window.services).for_each(|service| service.safe_utilization = Some(safe));
            let section = self.metrics_with(&windows, &baselines);
            Sensitivity { safe_utilization: safe, score: section.score(), calm_alarms: section.calm.alarms.len() }
        };
        section.sensitivity = OTHER_LIMITS.map(other).to_vec();
        section
    }

    fn metrics_with(&self, windows: &[Window], baselines: &[Baseline]) -> Section {
        let times: Vec<i64> = self.minutes.keys().copied().collect();
        let look = |index: usize| {
            let history = &windows[index.saturating_sub(HISTORY)..index];
            Look { window: &windows[index], history, baseline: &baselines[index] }
        };
        let cases = self.faults.iter().map(|fault| {
            let is_within = |time: &i64| fault.age(*time).is_some_and(|age| (1..=FAULT_MINUTES).contains(&age));
            let looks: Vec<Look<'_>> = (0..times.len()).filter(|index| is_within(&times[*index])).map(look).collect();
            let name = fault.inject_time.get(11..16).unwrap_or_default().to_owned();
            Case::judged(name, &fault.inject_type, service_of(&fault.inject_pod), fault.is_capacity(), &looks)
        });
        let cases = cases.collect();
        let is_calm = |time: i64| !self.faults.iter().any(|fault| fault.age(time).is_some_and(|age| (0..=RECOVERY_MINUTES).contains(&age)));
        let mut calm = Calm::default();
        for index in (0..times.len()).filter(|index| is_calm(times[*index])) {
            calm.add(|| clock(times[index]), &look(index));
        }
        Section { title: format!("{}, pod metrics of the day, minute by minute", self.name), cases, calm, ..Section::default() }
    }

    /// The minutes of which spans were kept: judged from spans alone or together with the pods' CPU.
    pub(super) fn traces(&self, with_cpu: bool) -> Result<Section, Error> {
        let mut history = self.calm.windows(CALM_PARTS);
        if let Some(minute) = self.minute_of(self.calm_at).filter(|_| with_cpu) {
            history.iter_mut().for_each(|window| self.add_cpu(window, minute));
        }
        let (baseline, usual) = (Baseline::learn(&history), self.calm.paths());
        let (mut cases, mut paths) = (Vec::new(), Vec::new());
        for name in names(&self.folder.join("trace"))? {
            let at = name.trim_end_matches("_trace.csv").replace('_', ":");
            let Some((minute, fault)) = self.fault_at(&at) else { continue };
            let spans = Spans::read(&Table::read(self.folder.join("trace").join(&name))?)?;
            let mut window = spans.window();
            if with_cpu {
                self.add_cpu(&mut window, minute);
            }
            let look = Look { window: &window, history: &history, baseline: &baseline };
            let service = service_of(&fault.inject_pod);
            cases.push(Case::judged(at.clone(), &fault.inject_type, service, fault.is_capacity(), &[look]));
            let all = spans.paths();
            if let Some(worst) = compare(&all.iter().collect::<Vec<_>>(), &usual.iter().collect::<Vec<_>>()).first() {
                let is_cause = if worst.excess() > MATERIAL_SHARE { "" } else { " (below what counts)" };
                let excess = 100.0 * worst.excess();
                paths.push(format!("{at} {} at {service}: {} +{excess:.0} %{is_cause}", fault.inject_type, worst.service));
            }
        }
        let mut calm = Calm::default();
        for (index, window) in history.iter().enumerate() {
            let others: Vec<Window> =
                history.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, other)| other.clone()).collect();
            calm.add(|| format!("part {}", index + 1), &Look { window, history: &others, baseline: &Baseline::learn(&others) });
        }
        let with = if with_cpu { "spans and CPU" } else { "spans alone" };
        Ok(Section { title: format!("{}, {with}", self.name), cases, calm, paths, ..Section::default() })
    }

    pub(super) fn minute_of(&self, at: &str) -> Option<i64> {
        self.minutes.keys().copied().find(|minute| clock(*minute) == at)
    }

    /// The fault under way at a clock time `HH:MM`.
    pub(super) fn fault_at(&self, at: &str) -> Option<(i64, &Fault)> {
        let minute = self.minute_of(at)?;
        let is_under_way = |fault: &&Fault| fault.age(minute).is_some_and(|age| (1..=FAULT_MINUTES).contains(&age));
        // The first minute of a fault belongs to it too, unless it was injected at that minute's end.
        let begins = |fault: &&Fault| fault.age(minute) == Some(0) && fault.inject_time.get(17..19).is_some_and(|second| second < "50");
        self.faults.iter().find(is_under_way).or_else(|| self.faults.iter().find(begins)).map(|fault| (minute, fault))
    }

    fn add_cpu(&self, window: &mut Window, minute: i64) {
        for service in &mut window.services {
            let known = self.minutes.get(&minute).and_then(|figures| figures.service(&service.name));
            service.utilization = known.and_then(|figures| figures.utilization);
        }
    }
}

/// Figures per minute from the pods' metrics. Latencies are medians per edge where they were recorded, else the server's P90 of
/// services that call nobody; calls per request come from the calm minute of spans.
fn minutes(folder: &Path, graph: &Window) -> Result<BTreeMap<i64, Window>, Error> {
    let folder = folder.join("metric");
    let mut minutes: BTreeMap<i64, Window> = BTreeMap::new();
    for name in names(&folder)?.into_iter().filter(|name| name.ends_with("_metric.csv")) {
        let table = Table::read(folder.join(&name))?;
        let (time, cpu, rate) = (table.column("Time")?, table.column("CpuUsageRate(%)")?, table.column("PodWorkload(Ops)")?);
        let latency = table.column("PodServerLatencyP90(s)")?;
        for row in table.rows(1) {
            minutes.entry(row.minute(time)?).or_default().services.push(Service {
                name: service_of(name.trim_end_matches("_metric.csv")).to_owned(),
                requests: row.number(rate)?.unwrap_or(0.0) * 60.0,
                sojourn: row.number(latency)?,
                utilization: row.number(cpu)?.map(|percent| percent / 100.0),
                ..Service::default()
            });
        }
    }
    for window in minutes.values_mut() {
        let calls = |edge: &Edge| {
            let usual = graph.service(&edge.client).filter(|service| service.requests > 0.0)?;
            Some(edge.calls / usual.requests * window.service(&edge.client)?.requests)
        };
        let known = graph.edges.iter().filter(|edge| window.service(&edge.server).is_some());
        let bare =
            |edge: &Edge| Some(Edge { client: edge.client.clone(), server: edge.server.clone(), calls: calls(edge)?, ..Edge::default() });
        window.edges = known.filter_map(bare).collect();
    }
    if folder.join("source_50.csv").exists() {
        medians(&folder, &mut minutes)?;
    }
    Ok(minutes)
}

/// Puts the recorded medians of both sides of each edge in place of the percentiles.
fn medians(folder: &Path, minutes: &mut BTreeMap<i64, Window>) -> Result<(), Error> {
    for (file, is_client) in [("source_50.csv", true), ("destination_50.csv", false)] {
        let table = Table::read(folder.join(file))?;
        let pairs: Vec<(usize, &str, &str)> = table
            .header()
            .into_iter()
            .enumerate()
            .skip(2)
            .filter_map(|(place, name)| name.split_once('_').map(|(client, server)| (place, client, server)))
            .collect();
        for row in table.rows(1) {
            let Some(window) = minutes.get_mut(&row.minute(0)?) else { continue };
            for (place, client, server) in &pairs {
                let value = row.number(*place)?;
                let edge = window.edges.iter_mut().find(|edge| edge.client == *client && edge.server == *server);
                if let Some(edge) = edge {
                    *(if is_client { &mut edge.client_duration } else { &mut edge.server_duration }) = value;
                }
            }
        }
    }
    let table = Table::read(folder.join("front_service.csv"))?;
    let median = table.column("LatencyP50(s)")?;
    let mut fronts = BTreeMap::new();
    for row in table.rows(1) {
        fronts.insert(row.minute(0)?, row.number(median)?);
    }
    for (minute, window) in minutes {
        let Window { services, edges } = window;
        for service in services {
            let incoming = || edges.iter().filter(|edge| edge.server == service.name);
            let calls: f64 = incoming().map(|edge| edge.calls).sum();
            let time: Option<f64> = incoming().map(|edge| Some(edge.server_duration? * edge.calls)).sum();
            service.sojourn = match time {
                Some(time) if calls > 0.0 => Some(time / calls),
                _ if service.name == "frontend" => fronts.get(minute).copied().flatten(),
                _ => None,
            };
        }
    }
    Ok(())
}
