//! Which service is the cause of slow requests, and whether more replicas of a service would help.
//!
//! ```text
//! trailing windows ─▶ Baseline ─┐
//! window ──────────────────────┴▶ added delay per service ─▶ causes, ranked ─▶ would_help(service)
//! traces ─▶ critical paths ─▶ bottlenecks (slow against median traces)
//! ```
//!
//! A caller waits for whom it calls, so the victim of a bottleneck looks slower than the bottleneck. Three rules undo that:
//! time of a call that the server did not see belongs to the server's queue, not to the caller; only time over normal counts;
//! and a cause is scaled only where there is evidence of a queue for its capacity (it is busy, or the added time is spent in
//! front of it without being a constant). Everything else is an event for a person, because replicas would not help.

use std::collections::BTreeMap;

use crate::cause::added::{Added, added};
pub use crate::cause::baseline::{Baseline, Normal};
pub use crate::cause::figures::{Edge, Service, Window};
use crate::cause::graph::Graph;
pub use crate::cause::path::{Bottleneck, Path, PathSpan, bottlenecks, compare, critical_services};

mod added;
mod baseline;
mod figures;
mod graph;
mod path;
#[cfg(test)]
mod tests;

/// Utilization up to which a service is safe when nobody knows better: above it, forecast errors and slow relaxation make
/// every queue long, whatever its service time.
pub const SAFE_UTILIZATION: f64 = 0.85;
/// Utilization below which a queue is not one for the processor: waiting there has another reason.
pub const IDLE_UTILIZATION: f64 = 0.4;
/// Added delay below this share of everybody's response time is no cause.
pub const MATERIAL_SHARE: f64 = 0.1;
/// Share of the added delay in front of a service from which on it is a queue.
pub const QUEUE_SHARE: f64 = 0.3;
/// Share of an added wait that even the fastest calls pay from which on it is no queue: a queue is sometimes short, a longer
/// way is not.
pub const CONSTANT_SHARE: f64 = 0.75;
/// Share of an added wait that must be a standing queue, one in which even the fastest twentieth waits longer than the mean call
/// used to. A queue that still empties holds one request in 1 − ρ up not at all, so a standing one proves ρ > 0.95; a mean
/// alone is made by a few slow calls.
const STANDING_SHARE: f64 = 0.5;
/// Share of throttled CPU periods from which on the CPU limit is the problem.
pub const THROTTLED_SHARE: f64 = 0.01;
/// Causes for which others are looked for that wait for them, the worst first: where more are slow at once, all is.
const CAUSES_MAX: usize = 200;
/// Rise of the share of failed requests that explains a change of latency by itself.
const ERROR_RISE: f64 = 0.05;

/// What is wrong with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Requests queue for it: more replicas help.
    Capacity,
    /// Its CPU limit throttles it although it is not busy on average: a larger limit helps, replicas hardly.
    CpuLimit,
    /// It is a dependency without instrumentation that became slow.
    Dependency,
    /// Every call to it takes longer by a constant: the way to it, not its queue.
    Network,
    /// Its own work takes longer, or it fails, although it has capacity to spare: code, data, configuration.
    NotCapacity,
    /// It added delay, and the figures do not say why.
    Unknown,
}

/// A service that is responsible for added delay, or saturated.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Its name.
    pub service: String,
    /// What is wrong with it.
    pub kind: Kind,
    /// Its part of all added delay that has a cause, 0 to 1; zero when it is saturated without any measured delay.
    pub score: f64,
    /// Delay added, seconds summed over all requests of the window. Divided by the window's length it is the number of
    /// requests more that are under way because of it.
    pub added: f64,
    /// The largest share of a caller's response time that this is.
    pub share: f64,
    /// Part of the added delay that is spent in front of it.
    pub queue_share: f64,
    /// Its utilization, if known.
    pub utilization: Option<f64>,
}

/// What is said of a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Every cause, the worst first. Empty when nothing is wrong, or when nothing can be said.
    pub causes: Vec<Cause>,
    /// Services that wait for a cause, directly or through others, and of whose time its delay is a part that counts: by name,
    /// with the worst such cause.
    victims: BTreeMap<String, String>,
}

/// Whether more replicas of a service would make requests faster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Help {
    /// Yes: requests queue for it.
    Yes,
    /// No: the delay comes from elsewhere.
    No {
        /// From where; the service itself when its slowness is not one of capacity.
        blocked_by: String,
    },
    /// Nothing speaks for or against it: there is no cause, it is not known, or the service does not wait for it.
    Unknown,
}

/// Says who is the cause. Never fails: without a baseline only saturation can be told.
#[must_use]
pub fn judge(window: &Window, baseline: &Baseline) -> Verdict {
    let graph = Graph::of(window);
    let mut delays = added(&graph, baseline);
    let is_newly_busy = |name: &str| graph.service(name).is_some_and(|service| is_newly_busy(service, baseline));
    for service in window.services.iter().filter(|service| is_newly_busy(&service.name)) {
        let _ = delays.entry(&service.name).or_default();
    }
    let mut causes: Vec<Cause> = delays
        .into_iter()
        .map(|(name, added)| cause(&graph, baseline, name, &added))
        .filter(|cause| cause.share > MATERIAL_SHARE || is_newly_busy(&cause.service))
        .collect();
    let total: f64 = causes.iter().map(|cause| cause.added).sum();
    for cause in &mut causes {
        cause.score = if total > 0.0 { cause.added / total } else { 0.0 };
    }
    let busy = |cause: &Cause| cause.utilization.unwrap_or(0.0);
    causes.sort_by(|a, b| b.added.total_cmp(&a.added).then(busy(b).total_cmp(&busy(a))).then(a.service.cmp(&b.service)));
    let victims = victims(&graph, &causes);
    Verdict { causes, victims }
}

fn cause(graph: &Graph<'_>, baseline: &Baseline, name: &str, added: &Added) -> Cause {
    let total = added.total();
    Cause {
        service: name.to_owned(),
        kind: kind(graph, baseline, name, added),
        score: 0.0,
        added: total,
        share: added.share,
        queue_share: if total > 0.0 { added.queue / total } else { 0.0 },
        utilization: graph.service(name).and_then(|service| service.utilization),
    }
}

/// What the added delay of a service is made of, in the order in which one kind of evidence outweighs another.
fn kind(graph: &Graph<'_>, baseline: &Baseline, name: &str, added: &Added) -> Kind {
    let Some(service) = graph.service(name) else { return Kind::Dependency };
    let normal = baseline.service(name);
    if is_busy(service) {
        return Kind::Capacity;
    }
    let throttling = service.throttled.filter(|share| *share > THROTTLED_SHARE);
    if throttling.is_some_and(|share| normal.throttled.is_none_or(|normal| normal.excess(share) > 0.0)) {
        return Kind::CpuLimit;
    }
    let queue_share = if added.total() > 0.0 { added.queue / added.total() } else { 0.0 };
    let constant = added.constant.filter(|_| added.queue > 0.0).map(|constant| constant / added.queue);
    if queue_share > 0.5 && constant.is_some_and(|share| share >= CONSTANT_SHARE) {
        return Kind::Network;
    }
    let errors = service.error_share.zip(normal.error_share).map_or(0.0, |(share, normal)| normal.excess(share));
    let queues =
        queue_share > QUEUE_SHARE && constant.is_some_and(|share| share < CONSTANT_SHARE) && added.standing > STANDING_SHARE * added.queue;
    let peak = service.peak();
    let is_rising = peak.zip(normal.peak_utilization).is_some_and(|(peak, normal)| normal.excess(peak) > 0.0);
    let is_below_usual = service.utilization.zip(normal.utilization).is_some_and(|(utilization, normal)| utilization < normal.median);
    match peak {
        _ if errors > ERROR_RISE => Kind::NotCapacity,
        Some(peak) if peak < IDLE_UTILIZATION => Kind::NotCapacity,
        // A processor that does less than usual while requests wait longer is not what they wait for.
        Some(_) if is_below_usual && !is_rising => Kind::NotCapacity,
        _ if queues => Kind::Capacity,
        // On its way up to what is safe: own work then holds waiting for the processor, and nobody can tell how much.
        Some(_) if is_rising => Kind::Unknown,
        Some(_) if queue_share <= QUEUE_SHARE => Kind::NotCapacity,
        _ => Kind::Unknown,
    }
}

/// Whether a service uses more of its capacity than is safe.
fn is_busy(service: &Service) -> bool {
    service.utilization.is_some_and(|utilization| utilization >= service.safe_utilization.unwrap_or(SAFE_UTILIZATION))
}

/// Whether it is busy and was not always: a service that is busy every day causes no news.
fn is_newly_busy(service: &Service, baseline: &Baseline) -> bool {
    let normal = baseline.service(&service.name).utilization;
    is_busy(service) && normal.is_none_or(|normal| service.utilization.is_some_and(|utilization| normal.excess(utilization) > 0.0))
}

/// The services that wait for a cause. A delay that is lost in the time of a service does not make it a victim.
fn victims(graph: &Graph<'_>, causes: &[Cause]) -> BTreeMap<String, String> {
    let mut victims: BTreeMap<String, String> = BTreeMap::new();
    for cause in causes.iter().take(CAUSES_MAX) {
        for service in graph.callers(&cause.service) {
            if cause.added > MATERIAL_SHARE * graph.whole_time(service).unwrap_or(0.0) && !victims.contains_key(&service.name) {
                let _ = victims.insert(service.name.clone(), cause.service.clone());
            }
        }
    }
    victims
}

// === impl Verdict ===

impl Verdict {
    /// The worst cause; `None` when nothing is wrong or nothing can be said.
    #[must_use]
    pub fn culprit(&self) -> Option<&Cause> {
        self.causes.first()
    }

    /// Whether more replicas of `service` would make requests faster. A "no" stands against scaling for latency only: it says
    /// nothing of capacity for a load still to come.
    #[must_use]
    pub fn would_help(&self, service: &str) -> Help {
        match self.causes.iter().find(|cause| cause.service == service).map(|cause| cause.kind) {
            Some(Kind::Capacity) => Help::Yes,
            Some(Kind::Unknown) => Help::Unknown,
            Some(Kind::CpuLimit | Kind::Dependency | Kind::Network | Kind::NotCapacity) => Help::No { blocked_by: service.to_owned() },
            None => self.victims.get(service).map_or(Help::Unknown, |cause| Help::No { blocked_by: cause.clone() }),
        }
    }
}

// === impl Kind ===

impl Kind {
    /// Its name in views and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::CpuLimit => "cpu-limit",
            Self::Dependency => "dependency",
            Self::Network => "network",
            Self::NotCapacity => "not-capacity",
            Self::Unknown => "unknown",
        }
    }
}
