//! Who added the delay: the time over normal of every call and of every service's own work, given to the one that can change it.

use std::collections::BTreeMap;

use super::baseline::{Baseline, median};
use super::figures::Edge;
use super::graph::Graph;
use super::is_busy;

/// Requests or calls below which a mean says nothing of a window; such services are left to their utilization. Where senders
/// sample, one that stands for hundreds is one.
pub(super) const LEAST_REQUESTS: f64 = 30.0;
/// Calls to so many different servers show what is common to all of a client's calls.
const LEAST_EDGES: usize = 3;

/// The delay that a service added in one window, seconds summed over the window's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Added {
    /// More of its own work (or of waiting inside of it).
    pub(super) work: f64,
    /// More waiting in front of it.
    pub(super) queue: f64,
    /// The part of `queue` that even the fastest calls pay. `None` when it is not known of all calls.
    pub(super) constant: Option<f64>,
    /// The part of `queue` on edges where even the fastest twentieth of the calls waits longer than the mean call used to.
    pub(super) standing: f64,
    /// More waiting of its own calls that their servers' other callers do not see: it is late itself, or the way from it is.
    pub(super) client: f64,
    /// More time of calls to it, when it is not instrumented.
    pub(super) external: f64,
    /// The largest share of a caller's response time that this is (or of its own, when it has no caller that is known).
    pub(super) share: f64,
}

/// How much slower an edge got per call; zero when it did not.
struct Slower<'a> {
    edge: &'a Edge,
    excess: f64,
    floor: Option<f64>,
    is_standing: bool,
}

// === impl Slower ===

impl<'a> Slower<'a> {
    /// `None` when too little is known of the edge to judge it.
    fn of(graph: &Graph<'a>, baseline: &Baseline, edge: &'a Edge) -> Option<Self> {
        let is_known = edge.seen() >= LEAST_REQUESTS && graph.service(&edge.server).is_some();
        let normal = baseline.edge(&edge.client, &edge.server);
        let (wait, usual) = edge.mean_wait().zip(normal.wait).filter(|_| is_known)?;
        let floor = edge.wait_floor.zip(normal.wait_floor).map(|(floor, usual)| (floor - usual.median).max(0.0));
        let is_standing = edge.wait_floor.is_some_and(|floor| floor > usual.median);
        Some(Self { edge, excess: usual.excess(wait), floor, is_standing })
    }
}

// === impl Added ===

impl Added {
    pub(super) fn total(&self) -> f64 {
        self.work + self.queue + self.client + self.external
    }

    fn entry<'m, 'a>(map: &'m mut BTreeMap<&'a str, Self>, name: &'a str) -> &'m mut Self {
        map.entry(name).or_insert(Self { constant: Some(0.0), ..Self::default() })
    }
}

/// The delay over normal, by the service that added it.
pub(super) fn added<'a>(graph: &Graph<'a>, baseline: &Baseline) -> BTreeMap<&'a str, Added> {
    let mut map = BTreeMap::new();
    // Few requests of a busy service may decide its rank: that it is a cause does not rest on them.
    for service in graph.window.services.iter().filter(|service| service.seen() >= LEAST_REQUESTS || is_busy(service)) {
        let normal = baseline.service(&service.name).self_time;
        let excess = graph.self_time(service).zip(normal).map_or(0.0, |(time, normal)| normal.excess(time));
        if excess > 0.0 {
            Added::entry(&mut map, &service.name).work = excess * service.requests;
        }
    }
    waits(graph, baseline, &mut map);
    externals(graph, baseline, &mut map);
    for (name, added) in &mut map {
        added.share = share(graph, name, added);
    }
    map
}

/// Gives each edge's added wait to its server, except for what only this client sees: a queue in front of a server delays
/// whoever calls it, and a client that is late itself is late with all of its calls.
fn waits<'a>(graph: &Graph<'a>, baseline: &Baseline, map: &mut BTreeMap<&'a str, Added>) {
    let edges: Vec<Slower<'_>> = graph.window.edges.iter().filter_map(|edge| Slower::of(graph, baseline, edge)).collect();
    let (of_clients, of_servers) = (common_to_clients(&edges), common_to_servers(&edges));
    let common = |of: &BTreeMap<&str, f64>, name: &str| of.get(name).copied().unwrap_or(0.0);
    for slower in edges.iter().filter(|slower| slower.excess > 0.0) {
        let Slower { edge, excess, .. } = *slower;
        let is_busy = |name: &str| graph.service(name).is_some_and(is_busy);
        let of_server = match (is_busy(&edge.client), is_busy(&edge.server)) {
            (_, true) => excess,
            (true, false) => 0.0,
            (false, false) => (excess - common(&of_clients, &edge.client)).max(0.0).min(common(&of_servers, &edge.server)),
        };
        if of_server < excess {
            Added::entry(map, &edge.client).client += (excess - of_server) * edge.calls;
        }
        if of_server > 0.0 {
            let server = Added::entry(map, &edge.server);
            server.queue += of_server * edge.calls;
            server.standing += if slower.is_standing { of_server * edge.calls } else { 0.0 };
            server.constant = server.constant.zip(slower.floor).map(|(sum, floor)| sum + floor.min(of_server) * edge.calls);
        }
    }
}

/// What every call of a client waits longer: the median over its servers, of those clients whose servers are enough to tell.
fn common_to_clients<'a>(edges: &[Slower<'a>]) -> BTreeMap<&'a str, f64> {
    let mut excesses: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for slower in edges {
        excesses.entry(&slower.edge.client).or_default().push(slower.excess);
    }
    let enough = excesses.into_iter().filter(|(_, excesses)| excesses.len() >= LEAST_EDGES);
    enough.filter_map(|(client, mut excesses)| Some((client, median(&mut excesses)?))).collect()
}

/// What every caller of a server waits longer: the least over its callers.
fn common_to_servers<'a>(edges: &[Slower<'a>]) -> BTreeMap<&'a str, f64> {
    let mut least = BTreeMap::new();
    for slower in edges {
        let of_server = least.entry(&*slower.edge.server).or_insert(f64::INFINITY);
        *of_server = slower.excess.min(*of_server);
    }
    least
}

/// Calls to servers of which nothing else is known: all of their added time is theirs.
fn externals<'a>(graph: &Graph<'a>, baseline: &Baseline, map: &mut BTreeMap<&'a str, Added>) {
    for edge in graph.window.edges.iter().filter(|edge| edge.seen() >= LEAST_REQUESTS && graph.service(&edge.server).is_none()) {
        let normal = baseline.edge(&edge.client, &edge.server).client_duration;
        let excess = edge.client_duration.zip(normal).map_or(0.0, |(time, normal)| normal.excess(time));
        if excess > 0.0 {
            Added::entry(map, &edge.server).external += excess * edge.calls;
        }
    }
}

/// The largest share of anyone's response time that the added delay of `name` is.
fn share(graph: &Graph<'_>, name: &str, added: &Added) -> f64 {
    let whole = |service: &str| graph.whole_time(graph.service(service)?).filter(|time| *time > 0.0);
    let incoming = || graph.calls_to(name).iter().filter(|edge| edge.calls > 0.0);
    let calls: f64 = incoming().map(|edge| edge.calls).sum();
    let callers = incoming().filter_map(|edge| Some(added.total() * edge.calls / calls / whole(&edge.client)?)).reduce(f64::max);
    // Nobody is known to call it: its own response time, with the queue in front of it.
    callers.or_else(|| Some(added.total() / (whole(name)? + added.queue))).unwrap_or(1.0).min(1.0)
}
