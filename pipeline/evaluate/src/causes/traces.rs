//! One minute of recorded spans as windows of figures, computed from the spans as a live system would.

use std::collections::{BTreeMap, HashMap};

use tracescale_models::cause::{Edge, Path, PathSpan, Service, Window, critical_services};
use tracescale_models::interval::{Node, Span, self_time};

use super::Error;
use super::table::Table;

/// One span; times in seconds since the file's first span.
struct Recorded {
    trace: usize,
    span: Span,
    service: String,
    parent: Option<usize>,
    /// Whether a child of it belongs to another service.
    is_call: bool,
}

/// The spans of one file.
pub(super) struct Spans {
    spans: Vec<Recorded>,
    /// Beginning and end of the traces' starts, seconds.
    starts: Vec<f64>,
}

/// Sums over one pair of services.
#[derive(Default)]
struct Calls {
    client: f64,
    server: f64,
    waits: Vec<f64>,
}

/// Sums over the entry spans of one service.
#[derive(Default, Clone, Copy)]
struct Visits {
    count: f64,
    sojourn: f64,
    self_time: f64,
}

// === impl Spans ===

impl Spans {
    pub(super) fn read(table: &Table) -> Result<Self, Error> {
        let column = |name| table.column(name);
        let (trace, id, parent, pod) = (column("TraceID")?, column("SpanID")?, column("ParentID")?, column("PodName")?);
        let (start, end) = (column("StartTimeUnixNano")?, column("EndTimeUnixNano")?);
        let (mut spans, mut parents, mut places) = (Vec::new(), Vec::new(), HashMap::new());
        let (mut traces, mut starts, mut origin) = (HashMap::new(), Vec::new(), None);
        for row in table.rows(1) {
            let (from, until) = (row.nanos(start)?, row.nanos(end)?);
            let origin = *origin.get_or_insert(from);
            let span = Span { start: seconds(from - origin), end: seconds(until - origin) };
            let next = traces.len();
            let place = *traces.entry(row.text(trace)?).or_insert(next);
            if place == starts.len() {
                starts.push(span.start);
            }
            if row.text(parent)? == "root" {
                starts[place] = span.start;
            }
            places.insert((place, row.text(id)?), spans.len());
            parents.push(row.text(parent)?);
            let service = service_of(row.text(pod)?).to_owned();
            spans.push(Recorded { trace: place, span, service, parent: None, is_call: false });
        }
        for (index, parent) in parents.into_iter().enumerate() {
            let parent = places.get(&(spans[index].trace, parent)).copied().filter(|parent| *parent != index);
            spans[index].parent = parent;
            if let Some(parent) = parent.filter(|parent| spans[*parent].service != spans[index].service) {
                spans[parent].is_call = true;
            }
        }
        Ok(Self { spans, starts })
    }

    /// All of it as one window.
    pub(super) fn window(&self) -> Window {
        self.window_of(|_| true)
    }

    /// Cut into `parts` windows of equal length by the start of the trace.
    pub(super) fn windows(&self, parts: u32) -> Vec<Window> {
        let low = self.starts.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.starts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let width = (high - low) / f64::from(parts);
        let bounds = (0..parts).map(|part| (low + width * f64::from(part), part + 1 == parts));
        bounds.map(|(from, last)| self.window_of(|start| start >= from && (last || start < from + width))).collect()
    }

    fn window_of(&self, within: impl Fn(f64) -> bool) -> Window {
        let mut calls: BTreeMap<(&str, &str), Calls> = BTreeMap::new();
        let mut visits: BTreeMap<&str, Visits> = BTreeMap::new();
        let away = self.away();
        for (index, recorded) in self.spans.iter().enumerate().filter(|(_, recorded)| within(self.starts[recorded.trace])) {
            let parent = recorded.parent.map(|parent| &self.spans[parent]);
            let duration = recorded.span.end - recorded.span.start;
            if let Some(parent) = parent.filter(|parent| parent.service != recorded.service) {
                let calls = calls.entry((&parent.service, &recorded.service)).or_default();
                calls.client += parent.span.end - parent.span.start;
                calls.server += duration;
                calls.waits.push(parent.span.end - parent.span.start - duration);
            }
            if parent.is_none_or(|parent| parent.service != recorded.service) {
                let visit = visits.entry(&recorded.service).or_default();
                visit.count += 1.0;
                visit.sojourn += duration;
                visit.self_time += self_time(recorded.span, &mut away[index].clone());
            }
        }
        let service = |(name, visit): (&str, Visits)| Service {
            name: name.to_owned(),
            requests: visit.count,
            sojourn: Some(visit.sojourn / visit.count),
            self_time: Some(visit.self_time / visit.count),
            ..Service::default()
        };
        Window {
            services: visits.into_iter().map(service).collect(),
            edges: calls.into_iter().map(|((client, server), calls)| calls.edge(client, server)).collect(),
        }
    }

    /// For each span the calls to other services that are made anywhere beneath it within its own service.
    fn away(&self) -> Vec<Vec<Span>> {
        let mut away = vec![Vec::new(); self.spans.len()];
        for call in self.spans.iter().filter(|recorded| recorded.is_call) {
            let mut above = call.parent;
            // Bounded by the number of spans: a broken file may hold a ring of parents.
            for _ in 0..self.spans.len() {
                let Some(index) = above.filter(|index| self.spans[*index].service == call.service) else { break };
                away[index].push(call.span);
                above = self.spans[index].parent;
            }
        }
        away
    }

    /// The critical path of each trace.
    pub(super) fn paths(&self) -> Vec<Path> {
        let mut traces: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, recorded) in self.spans.iter().enumerate() {
            traces.entry(recorded.trace).or_default().push(index);
        }
        traces.values().filter_map(|members| critical_services(&self.path_spans(members))).collect()
    }

    fn path_spans(&self, members: &[usize]) -> Vec<PathSpan<'_>> {
        let places: HashMap<usize, usize> = members.iter().enumerate().map(|(place, index)| (*index, place)).collect();
        let span = |index: &usize| {
            let recorded = &self.spans[*index];
            let parent = recorded.parent.and_then(|parent| places.get(&parent).copied());
            let node = Node { span: recorded.span, parent };
            PathSpan { node, service: &recorded.service, target: None, is_call: recorded.is_call }
        };
        members.iter().map(span).collect()
    }
}

// === impl Calls ===

impl Calls {
    #[expect(clippy::cast_precision_loss, reason = "a file holds far fewer spans than 2^52")]
    fn edge(mut self, client: &str, server: &str) -> Edge {
        self.waits.sort_unstable_by(f64::total_cmp);
        let count = self.waits.len() as f64;
        Edge {
            client: client.to_owned(),
            server: server.to_owned(),
            calls: count,
            samples: None,
            client_duration: Some(self.client / count),
            server_duration: Some(self.server / count),
            wait: Some(self.waits.iter().sum::<f64>() / count),
            wait_floor: self.waits.get(self.waits.len() / 20).copied(),
        }
    }
}

/// The service of a pod: its name without the two parts that Kubernetes appends.
pub(super) fn service_of(pod: &str) -> &str {
    pod.rsplitn(3, '-').nth(2).unwrap_or(pod)
}

#[expect(clippy::cast_precision_loss, reason = "differences within one file are minutes")]
fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}
