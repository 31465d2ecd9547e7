//! Who added the delay: the time over normal of every call and of every service's own work, given to the one that can change it.

use std::collections::BTreeMap;

use super::baseline::{Baseline, median};
use super::figures::{Edge, Window};
use super::is_busy;

/// Requests or calls below which a mean says nothing of a window; such services are left to their utilization.
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
    /// More waiting of its own calls, common to whomever it calls: it is itself late in sending and receiving.
    pub(super) client: f64,
    /// More time of calls to it, when it is not instrumented.
    pub(super) external: f64,
    /// The largest share of a caller's response time that this is (or of its own, when it has no caller that is known).
    pub(super) share: f64,
}

/// An edge that got slower, and how much per call.
struct Slower<'a> {
    edge: &'a Edge,
    excess: f64,
    floor: Option<f64>,
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
pub(super) fn added<'a>(window: &'a Window, baseline: &Baseline) -> BTreeMap<&'a str, Added> {
    let mut map = BTreeMap::new();
    for service in window.services.iter().filter(|service| service.requests >= LEAST_REQUESTS) {
        let normal = baseline.service(&service.name).self_time;
        let excess = window.self_time(service).zip(normal).map_or(0.0, |(time, normal)| normal.excess(time));
        if excess > 0.0 {
            Added::entry(&mut map, &service.name).work = excess * service.requests;
        }
    }
    waits(window, baseline, &mut map);
    externals(window, baseline, &mut map);
    let shares: Vec<(&str, f64)> = map.iter().map(|(name, added)| (*name, share(window, name, added))).collect();
    for (name, share) in shares {
        Added::entry(&mut map, name).share = share;
    }
    map
}

/// Gives each edge's added wait to its server, except for the part that all calls of the same client share.
fn waits<'a>(window: &'a Window, baseline: &Baseline, map: &mut BTreeMap<&'a str, Added>) {
    let mut clients: BTreeMap<&str, Vec<Slower<'_>>> = BTreeMap::new();
    for edge in window.edges.iter().filter(|edge| edge.calls >= LEAST_REQUESTS && window.is_instrumented(&edge.server)) {
        let normal = baseline.edge(&edge.client, &edge.server);
        let Some((wait, usual)) = edge.mean_wait().zip(normal.wait) else { continue };
        let floor = edge.wait_floor.zip(normal.wait_floor).map(|(floor, usual)| (floor - usual.median).max(0.0));
        clients.entry(&edge.client).or_default().push(Slower { edge, excess: usual.excess(wait), floor });
    }
    for (client, edges) in clients {
        let mut excesses: Vec<f64> = edges.iter().map(|slower| slower.excess).collect();
        let common = if edges.len() < LEAST_EDGES { 0.0 } else { median(&mut excesses).unwrap_or(0.0) };
        let client_is_busy = window.service(client).is_some_and(is_busy);
        for Slower { edge, excess, floor } in edges.into_iter().filter(|slower| slower.excess > 0.0) {
            let server_is_busy = window.service(&edge.server).is_some_and(is_busy);
            let of_client = match (client_is_busy, server_is_busy) {
                (_, true) => 0.0,
                (true, false) => excess,
                (false, false) => common.min(excess),
            };
            if of_client > 0.0 {
                Added::entry(map, client).client += of_client * edge.calls;
            }
            let of_server = excess - of_client;
            if of_server > 0.0 {
                let server = Added::entry(map, &edge.server);
                server.queue += of_server * edge.calls;
                server.constant = server.constant.zip(floor).map(|(sum, floor)| sum + floor.min(of_server) * edge.calls);
            }
        }
    }
}

/// Calls to servers of which nothing else is known: all of their added time is theirs.
fn externals<'a>(window: &'a Window, baseline: &Baseline, map: &mut BTreeMap<&'a str, Added>) {
    for edge in window.edges.iter().filter(|edge| edge.calls >= LEAST_REQUESTS && !window.is_instrumented(&edge.server)) {
        let normal = baseline.edge(&edge.client, &edge.server).client_duration;
        let excess = edge.client_duration.zip(normal).map_or(0.0, |(time, normal)| normal.excess(time));
        if excess > 0.0 {
            Added::entry(map, &edge.server).external += excess * edge.calls;
        }
    }
}

/// The largest share of anyone's response time that the added delay of `name` is.
fn share(window: &Window, name: &str, added: &Added) -> f64 {
    let whole = |service: &str| {
        let service = window.service(service)?;
        let time = service.requests * service.sojourn.or_else(|| window.self_time(service))?;
        (time > 0.0).then_some(time)
    };
    let incoming = || window.edges.iter().filter(|edge| edge.server == name && edge.calls > 0.0);
    let calls: f64 = incoming().map(|edge| edge.calls).sum();
    let callers = incoming().filter_map(|edge| Some(added.total() * edge.calls / calls / whole(&edge.client)?)).reduce(f64::max);
    // Nobody is known to call it: its own response time, with the queue in front of it.
    callers.or_else(|| Some(added.total() / (whole(name)? + added.queue))).unwrap_or(1.0).min(1.0)
}
