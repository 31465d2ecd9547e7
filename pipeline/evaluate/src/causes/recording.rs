//! The recorded spans and pod metrics as they were, for whoever sends them to a live system again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::Error;
use super::nezha::System;
use super::table::{Table, names};
use super::traces::service_of;

/// One recorded system.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Which.
    pub name: &'static str,
    /// Traces without a fault, by their start.
    pub calm: Vec<Trace>,
    /// CPU of the pods meanwhile.
    pub calm_cpu: Vec<Cpu>,
    /// Faulty minutes that follow each other.
    pub runs: Vec<Vec<Minute>>,
}

/// A recorded minute of a fault.
#[derive(Clone, Debug)]
pub struct Minute {
    /// Its clock, `HH:MM`.
    pub at: String,
    /// What was injected.
    pub fault: String,
    /// Where.
    pub service: String,
    /// Whether more capacity of that service is the remedy.
    pub is_capacity: bool,
    /// When its last trace began, nanoseconds since 1970.
    pub end: i64,
    /// Traces by their start; those of an earlier minute of the run are left out.
    pub traces: Vec<Trace>,
    /// CPU of the pods, averaged over the minute.
    pub cpu: Vec<Cpu>,
}

/// The spans of one request.
#[derive(Clone, Debug)]
pub struct Trace {
    /// When its root began, nanoseconds since 1970.
    pub start: i64,
    /// Its id.
    pub id: u128,
    /// All of them.
    pub spans: Vec<RecordedSpan>,
}

/// One span.
#[derive(Clone, Debug)]
pub struct RecordedSpan {
    /// Its id.
    pub id: u64,
    /// The span that it is a part of.
    pub parent: Option<u64>,
    /// Who sent it.
    pub pod: String,
    /// What it is about.
    pub operation: String,
    /// Beginning, nanoseconds since 1970.
    pub start: i64,
    /// End, nanoseconds since 1970.
    pub end: i64,
    /// Which side of a call it is.
    pub side: Side,
}

/// Side of a call. The recordings do not say it: a span whose parent is of another service, or that has none, is a server's;
/// one with a child of another service is a client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It answers another service.
    Server,
    /// It calls another service.
    Client,
    /// Neither.
    Internal,
}

/// What a pod used.
#[derive(Clone, Debug, PartialEq)]
pub struct Cpu {
    /// The pod.
    pub pod: String,
    /// Cores.
    pub cores: f64,
    /// Share of its limit, 0..1 and above.
    pub utilization: f64,
}

// === impl RecordedSpan ===

impl RecordedSpan {
    /// The service of its pod.
    #[must_use]
    pub fn service(&self) -> &str {
        service_of(&self.pod)
    }
}

// === impl Cpu ===

impl Cpu {
    /// The service of the pod.
    #[must_use]
    pub fn service(&self) -> &str {
        service_of(&self.pod)
    }
}

/// The recorded systems below `root` that have spans.
///
/// # Errors
/// When a recording is missing or cannot be read.
pub fn recordings(root: &Path) -> Result<Vec<Recording>, Error> {
    [System::online_boutique(root)?, System::train_ticket(root)?].iter().map(System::recording).collect()
}

// === impl System ===

impl System {
    fn recording(&self) -> Result<Recording, Error> {
        let mut cpu = self.cpu()?;
        let calm_minute = self.minute_of(self.calm_at);
        let mut recording = Recording {
            name: self.name,
            calm: traces(&Table::read(self.calm_file.clone())?)?,
            calm_cpu: calm_minute.and_then(|minute| cpu.remove(&minute)).unwrap_or_default(),
            runs: Vec::new(),
        };
        let (mut last, mut known) = (None, HashSet::new());
        for name in names(&self.folder.join("trace"))? {
            let at = name.trim_end_matches("_trace.csv").replace('_', ":");
            let Some((minute, fault)) = self.fault_at(&at) else { continue };
            let mut traces = traces(&Table::read(self.folder.join("trace").join(&name))?)?;
            traces.retain(|trace| known.insert(trace.id));
            let end = traces.last().map_or(0, |trace| trace.start);
            let (service, is_capacity) = (service_of(&fault.inject_pod).to_owned(), fault.is_capacity());
            let cpu = cpu.remove(&minute).unwrap_or_default();
            let recorded = Minute { at, fault: fault.inject_type.clone(), service, is_capacity, end, traces, cpu };
            let follows = last.replace(minute) == Some(minute - 1);
            match recording.runs.last_mut().filter(|_| follows) {
                Some(run) => run.push(recorded),
                None => recording.runs.push(vec![recorded]),
            }
        }
        Ok(recording)
    }

    /// CPU of all pods by minute.
    fn cpu(&self) -> Result<BTreeMap<i64, Vec<Cpu>>, Error> {
        let folder = self.folder.join("metric");
        let mut minutes: BTreeMap<i64, Vec<Cpu>> = BTreeMap::new();
        for name in names(&folder)? {
            let Some(pod) = name.strip_suffix("_metric.csv") else { continue };
            let table = Table::read(folder.join(&name))?;
            let (time, used, share) = (table.column("Time")?, table.column("CpuUsage(m)")?, table.column("CpuUsageRate(%)")?);
            for row in table.rows(1) {
                let (Some(millicores), Some(percent)) = (row.number(used)?, row.number(share)?) else { continue };
                let cpu = Cpu { pod: pod.to_owned(), cores: millicores / 1000.0, utilization: percent / 100.0 };
                minutes.entry(row.minute(time)?).or_default().push(cpu);
            }
        }
        Ok(minutes)
    }
}

/// The traces of a file, by their start.
pub(super) fn traces(table: &Table) -> Result<Vec<Trace>, Error> {
    let column = |name| table.column(name);
    let (trace, id, parent, pod) = (column("TraceID")?, column("SpanID")?, column("ParentID")?, column("PodName")?);
    let (operation, start, end) = (column("OperationName")?, column("StartTimeUnixNano")?, column("EndTimeUnixNano")?);
    let mut traces: BTreeMap<u128, Trace> = BTreeMap::new();
    for row in table.rows(1) {
        let hex = |column| row.text(column).and_then(|text| hexadecimal(text).ok_or_else(|| row.error(format!("{text:?} is no id"))));
        let is_root = row.text(parent)? == "root";
        let span = RecordedSpan {
            id: span_id(hex(id)?),
            parent: if is_root { None } else { Some(span_id(hex(parent)?)) },
            pod: row.text(pod)?.to_owned(),
            operation: row.text(operation)?.to_owned(),
            start: row.nanos(start)?,
            end: row.nanos(end)?,
            side: Side::Internal,
        };
        let id = hex(trace)?;
        let trace = traces.entry(id).or_insert(Trace { start: span.start, id, spans: Vec::new() });
        if is_root {
            trace.start = span.start;
        }
        trace.spans.push(span);
    }
    let mut traces: Vec<Trace> = traces.into_values().collect();
    traces.iter_mut().for_each(Trace::take_sides);
    traces.sort_by_key(|trace| (trace.start, trace.id));
    Ok(traces)
}

// === impl Trace ===

impl Trace {
    fn take_sides(&mut self) {
        let services: HashMap<u64, String> = self.spans.iter().map(|span| (span.id, span.service().to_owned())).collect();
        let of_parent = |span: &RecordedSpan| span.parent.and_then(|parent| services.get(&parent));
        let is_entry = |span: &RecordedSpan| of_parent(span).is_none_or(|service| service != span.service());
        let callers: HashSet<u64> = self.spans.iter().filter(|span| is_entry(span)).filter_map(|span| span.parent).collect();
        let sides: Vec<Side> = self.spans.iter().map(|span| side(is_entry(span), callers.contains(&span.id))).collect();
        self.spans.iter_mut().zip(sides).for_each(|(span, side)| span.side = side);
    }
}

/// An entry that calls by itself stays an entry: there is one span for both.
fn side(is_entry: bool, is_caller: bool) -> Side {
    match (is_entry, is_caller) {
        (true, _) => Side::Server,
        (false, true) => Side::Client,
        (false, false) => Side::Internal,
    }
}

fn hexadecimal(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok()
}

#[expect(clippy::cast_possible_truncation, reason = "span ids have 16 digits")]
fn span_id(id: u128) -> u64 {
    id as u64
}
