//! How often each service calls each other one for a request, and how sure that is.

use std::collections::{BTreeMap, BTreeSet};

use super::{Calls, Minute};
use crate::control::VisitRatio;
use crate::estimate::fan_out::Clusters;
use crate::estimate::gate;

/// Edges that are followed; of further ones nothing is known.
const EDGES_MAX: usize = 20_000;
/// Effective samples of calls that a minute needs for an edge to begin; later ones count with as few as they have, or the ratio would
/// be that of the busy minutes.
const SAMPLES_MIN: f64 = 30.0;
/// Share of failed calls from which on more calls may be retries.
const FAILING: f64 = 0.05;
/// Growth of the calls per request beyond what was usual that, while calls fail, counts as retries.
const STORM: f64 = 1.1;
/// Seconds after which an edge without calls is forgotten.
const FORGET: f64 = 86_400.0;
/// Seconds in which half of what minutes said of an edge is forgotten.
const HALF_LIFE: f64 = 3_600.0;
/// Minutes from which it is known how they differ; before, calls are taken to be independent.
const MINUTES_MIN: usize = 5;

/// Calls of a service to another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// Calls per request of the caller, as they usually are.
    pub calls_per_request: f64,
    /// How far it may be off, relative to it: half of the 95 % interval by how minutes of the last hours differ, and by how much it
    /// has not yet followed their mean.
    pub error: Option<f64>,
    /// Effective samples of calls behind it.
    pub samples: f64,
    /// By how much it is exceeded while calls fail: retries, most likely. Absent while nothing looks like that.
    pub retry_factor: Option<f64>,
}

/// Calls between services, followed slowly and not at all while a callee fails: a storm of retries must not pass for demand.
#[derive(Clone, Debug, Default)]
pub struct Ratios {
    edges: BTreeMap<(String, String), Edge>,
    end: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    ratio: VisitRatio,
    clusters: Clusters,
    samples: f64,
    /// Calls per request in the last minute, over the usual ones.
    amplification: f64,
    is_storm: bool,
    seen: f64,
}

// === impl Ratio ===

impl Ratio {
    /// Whether it is known well enough to announce load by it.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        gate::use_fan_out(Some(self.samples), self.error).is_open()
    }
}

// === impl Ratios ===

impl Ratios {
    /// Learns from a minute. One that ends before the last one is ignored.
    pub fn learn(&mut self, minute: &Minute) {
        let Some(passed) = super::passed(self.end, minute.end) else { return };
        self.end = Some(minute.end);
        // A storm is over when nothing tells of it any more.
        self.edges.values_mut().for_each(|edge| edge.is_storm = false);
        for calls in minute.calls.iter().filter(|calls| !calls.to.is_empty()) {
            self.follow(minute, calls, passed);
        }
        self.rest(minute, passed);
        self.edges.retain(|_, edge| minute.end - edge.seen < FORGET);
    }

    /// Counts edges without a call. That is a measurement where the caller has requests, and the callee is heard of: calls to a service
    /// whose spans are lost go by another name.
    fn rest(&mut self, minute: &Minute, passed: f64) {
        let called: BTreeSet<(&str, &str)> =
            minute.calls.iter().filter(|calls| calls.rate != 0.0).map(|calls| (calls.from.as_str(), calls.to.as_str())).collect();
        let is_silent = |from: &str, to: &str| minute.arrivals.contains_key(to) && !called.contains(&(from, to));
        for ((from, _), edge) in self.edges.iter_mut().filter(|((from, to), _)| is_silent(from, to)) {
            if let Some(caller) = caller(minute, from) {
                edge.count(caller, 0.0, 0.0, passed);
            }
        }
    }

    fn follow(&mut self, minute: &Minute, calls: &Calls, passed: f64) {
        let Some(caller) = caller(minute, &calls.from) else { return };
        let measured = calls.rate / caller;
        let valid = measured >= 0.0 && measured.is_finite() && calls.samples > 0.0 && calls.from != calls.to;
        if !valid {
            return;
        }
        let key = (calls.from.clone(), calls.to.clone());
        if let Some(edge) = self.edges.get_mut(&key) {
            edge.seen = minute.end;
            edge.look_for_storm(measured, calls);
            if !edge.is_storm {
                edge.count(caller, calls.rate, calls.samples, passed);
            }
        } else if let Some(ratio) = VisitRatio::new(measured).filter(|_| calls.samples >= SAMPLES_MIN && self.edges.len() < EDGES_MAX) {
            let (clusters, samples) = (Clusters::default(), 0.0);
            let mut edge = Edge { ratio, clusters, samples, amplification: 1.0, is_storm: false, seen: minute.end };
            edge.count(caller, calls.rate, calls.samples, passed);
            let _ = self.edges.insert(key, edge);
        }
    }

    /// All of them, by caller and callee.
    pub fn iter(&self) -> impl Iterator<Item = Ratio> {
        self.edges.iter().map(|((from, to), edge)| Ratio {
            from: from.clone(),
            to: to.clone(),
            calls_per_request: edge.ratio.value(),
            error: edge.error(),
            samples: edge.samples,
            retry_factor: edge.is_storm.then_some(edge.amplification),
        })
    }
}

/// Requests per second of a caller that says something of its calls.
fn caller(minute: &Minute, name: &str) -> Option<f64> {
    minute.arrivals.get(name).copied().filter(|rate| *rate >= super::RATE_MIN)
}

// === impl Edge ===

impl Edge {
    fn look_for_storm(&mut self, measured: f64, calls: &Calls) {
        self.amplification = if self.ratio.value() > 0.0 { measured / self.ratio.value() } else { 1.0 };
        self.is_storm = calls.failed >= FAILING && self.amplification >= STORM;
    }

    /// Counts a minute, and follows the mean of those that count: following each minute a little would lead to their median, which
    /// for rare calls is none.
    fn count(&mut self, caller: f64, calls: f64, samples: f64, passed: f64) {
        let kept = 0.5_f64.powf(passed / HALF_LIFE);
        self.clusters.fade(kept);
        self.clusters.add(caller, calls);
        self.samples = self.samples * kept + samples;
        if let Some(known) = self.clusters.fan_out() {
            self.ratio = self.ratio.follow(known.calls_per_visit, passed);
        }
    }

    fn error(&self) -> Option<f64> {
        let known = self.clusters.fan_out()?;
        let half_width = if known.traces >= MINUTES_MIN { known.relative_half_width? } else { 1.96 / self.samples.sqrt() };
        let mean = known.calls_per_visit;
        Some((half_width * mean + (mean - self.ratio.value()).abs()) / self.ratio.value()).filter(|error| error.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute in which `a` is asked ten times a second and calls `b` so often.
    fn minute(number: u32, rate: f64, failed: f64) -> Minute {
        let calls = Calls { from: "a".to_owned(), to: "b".to_owned(), rate, samples: 60.0 * rate, failed };
        Minute { end: 60.0 * f64::from(number), arrivals: [("a".to_owned(), 10.0)].into(), calls: vec![calls] }
    }

    fn only(ratios: &Ratios) -> Ratio {
        ratios.iter().next().unwrap()
    }

    /// Guarantees: a ratio is sure once samples are many and minutes agree; of minutes that differ it never is; storms do not count.
    #[test]
    fn how_sure_a_ratio_is() {
        let mut steady = Ratios::default();
        steady.learn(&minute(1, 1.0, 0.0));
        let first = only(&steady);
        assert!(!first.is_sure() && (first.error.unwrap() - 1.96 / 60f64.sqrt()).abs() < 1e-12, "{first:?}");
        (2..=10).for_each(|number| steady.learn(&minute(number, 1.0 + 0.05 * f64::from(number % 2), 0.0)));
        assert!(only(&steady).is_sure() && only(&steady).error.unwrap() < 0.05, "{:?}", only(&steady));
        steady.learn(&minute(11, 9.0, 0.5));
        assert!(only(&steady).is_sure() && only(&steady).retry_factor.is_some_and(|factor| factor > 8.0));
        let mut changed = Ratios::default();
        (1..=6).for_each(|number| changed.learn(&minute(number, if number == 1 { 50.0 } else { 5.0 }, 0.0)));
        assert!(!only(&changed).is_sure() && only(&changed).calls_per_request > 4.5, "{:?}", only(&changed));
        let mut wild = Ratios::default();
        (1..=20).for_each(|number| wild.learn(&minute(number, if number % 5 == 0 { 20.0 } else { 1.0 }, 0.0)));
        assert!(!only(&wild).is_sure() && only(&wild).error.unwrap() > 0.3, "{:?}", only(&wild));
    }

    /// Guarantees: minutes without a call count as such while the caller has requests, so that a pair that calls one minute in ten is
    /// taken for what it is in the end; while the caller has none, or the callee is not heard of, nothing is said, and after a day without calls the pair is forgotten.
    #[test]
    fn minutes_without_a_call_count() {
        let mut rare = Ratios::default();
        let heard = |mut minute: Minute| {
            let _ = minute.arrivals.insert("b".to_owned(), 0.0);
            minute
        };
        let quiet = |number| heard(Minute { calls: Vec::new(), ..minute(number, 0.0, 0.0) });
        for number in 1..=2400 {
            rare.learn(&heard(if number % 10 == 1 { minute(number, 1.0, 0.0) } else { quiet(number) }));
        }
        let known = only(&rare);
        assert!((known.calls_per_request / 0.01 - 1.0).abs() < 0.1, "{known:?}");
        let lost = |number| Minute { calls: Vec::new(), ..minute(number, 0.0, 0.0) };
        let idle = |number| Minute { arrivals: [("b".to_owned(), 0.0)].into(), ..quiet(number) };
        (2401..=2500).for_each(|number| rare.learn(&if number % 2 == 0 { lost(number) } else { idle(number) }));
        assert!((only(&rare).calls_per_request - known.calls_per_request).abs() < 1e-12);
        (2501..=2391 + 24 * 60).for_each(|number| rare.learn(&quiet(number)));
        assert_eq!(rare.iter().count(), 0);
    }

    /// Guarantees: edges are bounded.
    #[test]
    fn edges_are_bounded() {
        let mut ratios = Ratios::default();
        let mut many = minute(1, 1.0, 0.0);
        let calls = many.calls[0].clone();
        many.calls = (0..EDGES_MAX + 10).map(|number| Calls { to: format!("b{number}"), ..calls.clone() }).collect();
        ratios.learn(&many);
        assert_eq!(ratios.iter().count(), EDGES_MAX);
    }
}
