//! The same question answered from single traces: whose share of the critical path is larger in slow traces than in usual ones.

use std::collections::BTreeMap;

use crate::interval::{Node, critical_path};

/// Traces below which the slowest twentieth is not a sample: fewer have no upper 95 % bound of their 95th percentile.
const LEAST_TRACES: usize = 59;

/// A span of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct PathSpan<'a> {
    /// When it ran, and its parent's index.
    pub node: Node,
    /// The service that recorded it.
    pub service: &'a str,
    /// For a call: whom it calls, when the span itself says so (`server.address`, `peer.service`).
    pub target: Option<&'a str>,
    /// Whether it is a call (`CLIENT` or `PRODUCER`).
    pub is_call: bool,
}

/// The critical path of one trace: who is responsible for how much of its duration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path {
    /// Duration of the trace, seconds.
    pub duration: f64,
    /// Seconds on the critical path by service.
    pub services: BTreeMap<String, f64>,
}

/// A service whose share of the critical path grew.
#[derive(Clone, Debug, PartialEq)]
pub struct Bottleneck {
    /// Its name.
    pub service: String,
    /// Its share of the duration of slow traces.
    pub slow: f64,
    /// Its share of the duration of median traces.
    pub usual: f64,
}

// === impl Bottleneck ===

impl Bottleneck {
    /// How much larger its share is in slow traces; a cause is above [`super::MATERIAL_SHARE`].
    #[must_use]
    pub fn excess(&self) -> f64 {
        self.slow - self.usual
    }
}

/// The critical path of one trace by service. The time of a call that no span of the server covers is given to the server: it
/// is the network to it and the queue in front of it. `None` for a trace without duration.
#[must_use]
pub fn critical_services(spans: &[PathSpan<'_>]) -> Option<Path> {
    let nodes: Vec<Node> = spans.iter().map(|span| span.node).collect();
    let mut callees: Vec<Option<&str>> = spans.iter().map(|span| span.target).collect();
    for span in spans {
        let parent = span.node.parent.and_then(|parent| Some((parent, spans.get(parent)?)));
        if let Some((parent, _)) = parent.filter(|(_, parent)| parent.is_call && parent.service != span.service) {
            callees[parent] = Some(span.service);
        }
    }
    let mut path = Path::default();
    for ((span, callee), time) in spans.iter().zip(callees).zip(critical_path(&nodes)) {
        let owner = callee.filter(|_| span.is_call).unwrap_or(span.service);
        if time > 0.0 {
            *path.services.entry(owner.to_owned()).or_default() += time;
            path.duration += time;
        }
    }
    (path.duration > 0.0).then_some(path)
}

/// Services by how much larger their share is in slow traces (the slowest twentieth) than in median ones (the middle fifth),
/// the largest first. Empty below 59 traces. Give one kind of request at a time: else the slow kind is compared with the fast.
#[must_use]
pub fn bottlenecks(paths: &[Path]) -> Vec<Bottleneck> {
    let mut sorted: Vec<&Path> = paths.iter().collect();
    sorted.sort_by(|a, b| a.duration.total_cmp(&b.duration));
    let count = sorted.len();
    if count < LEAST_TRACES {
        return Vec::new();
    }
    compare(&sorted[count - count.div_ceil(20)..], &sorted[count * 2 / 5..count * 3 / 5])
}

/// As [`bottlenecks`], with slow and usual traces that the caller chose, for example of now and of an hour ago.
#[must_use]
pub fn compare(slow: &[&Path], usual: &[&Path]) -> Vec<Bottleneck> {
    let (slow, usual) = (shares(slow), shares(usual));
    let mut found: Vec<Bottleneck> = slow
        .iter()
        .map(|(service, slow)| Bottleneck {
            service: (*service).to_owned(),
            slow: *slow,
            usual: usual.get(service).copied().unwrap_or(0.0),
        })
        .collect();
    found.sort_by(|a, b| b.excess().total_cmp(&a.excess()));
    found
}

fn shares<'a>(paths: &[&'a Path]) -> BTreeMap<&'a str, f64> {
    let total: f64 = paths.iter().map(|path| path.duration).sum();
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for (service, time) in paths.iter().flat_map(|path| &path.services).filter(|_| total > 0.0) {
        *shares.entry(service).or_default() += time / total;
    }
    shares
}
