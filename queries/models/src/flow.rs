//! How requests spread through a call graph: from rates of services and calls, minute by minute, to what load at the front
//! doors makes of each service.
//!
//! ```text
//! arrivals, calls ─▶ Ratios, slowly followed ──────┬─▶ rate that callers account for now ─▶ is a service unheard?
//!                    load from outside ─▶ doors ───┴─▶ forecasts at the doors ─▶ announced load of each service
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::control::{FrontDoor, cascade};
use crate::queue::network::{Call, Network};

mod ratios;

pub use ratios::{Ratio, Ratios};

/// Front doors whose forecasts count, those with the most load.
const DOORS_MAX: usize = 64;
/// Requests per second of a caller below which a minute says nothing of its calls.
const RATE_MIN: f64 = 0.1;
/// Seconds after which a silent service is forgotten.
const FORGET: f64 = 86_400.0;
/// Seconds in which half of what is known of the usual share of calls that are reported is forgotten: far longer than telemetry is
/// lost, so that a loss does not become usual.
const REPORTED_HALF_LIFE: f64 = 7.0 * 86_400.0;
/// Share of a service's requests from outside, of late, below which it is no front door.
const DOOR: f64 = 0.05;
/// Seconds in which half of what is known of that share is forgotten.
const DOOR_HALF_LIFE: f64 = 3_600.0;
/// Longest pause between minutes that counts, in seconds: a longer one tells no more.
const PAUSE_MOST: f64 = 3_600.0;

/// What one minute says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Minute {
    /// End, in seconds on any clock.
    pub end: f64,
    /// Requests per second that came to each service, of those that were heard of.
    pub arrivals: BTreeMap<String, f64>,
    /// Calls between services.
    pub calls: Vec<Calls>,
}

/// Calls from one service to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Calls {
    /// Who calls.
    pub from: String,
    /// Who is called; empty when nobody knows.
    pub to: String,
    /// Calls per second.
    pub rate: f64,
    /// Effective samples behind that.
    pub samples: f64,
    /// Share of them that failed, 0..1.
    pub failed: f64,
}

/// A load that forecasts at the front doors lead to, in requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Announced {
    /// Expected.
    pub mean: f64,
    /// An upper quantile of it, of the same probability as those of the forecasts.
    pub upper: f64,
}

/// What limits the growth of a front door.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit<'a> {
    /// The first service to saturate.
    pub service: &'a str,
    /// Factor by which the door's load may grow until then; below 1 when it is too much already.
    pub growth: f64,
}

/// What is known of a call graph beside the calls per request.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// Share of each service's requests that come from outside.
    doors: BTreeMap<String, Door>,
    /// Calls per request of each caller that lead to nobody that is known, as they usually are.
    unmatched: BTreeMap<String, f64>,
    /// Requests of each service per call to it, as they usually are: batches of messages are one request for many.
    reported: BTreeMap<String, f64>,
    end: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Door {
    share: f64,
    rate: f64,
    seen: f64,
}

/// A call graph by positions.
struct Graph<'a> {
    names: Vec<&'a str>,
    places: BTreeMap<&'a str, usize>,
    calls: Vec<Call>,
}

// === impl Flow ===

impl Flow {
    /// Learns from a minute. One that ends before the last one is ignored.
    pub fn learn(&mut self, minute: &Minute) {
        let Some(passed) = passed(self.end, minute.end) else { return };
        self.end = Some(minute.end);
        let called = rates(minute);
        self.see_doors(minute, &called, passed);
        self.see_reports(minute, &called, passed);
        self.doors.retain(|_, door| minute.end - door.seen < FORGET);
        self.unmatched.retain(|name, _| self.doors.contains_key(name));
        self.reported.retain(|name, _| self.doors.contains_key(name));
    }

    fn see_reports(&mut self, minute: &Minute, called: &BTreeMap<&str, f64>, passed: f64) {
        let kept = 0.5_f64.powf(passed / REPORTED_HALF_LIFE);
        let follow = |known: Option<&f64>, new: f64| known.map_or(new, |known| known * kept + new * (1.0 - kept));
        for (from, lost) in unmatched(minute) {
            let value = follow(self.unmatched.get(&from), lost);
            let _ = self.unmatched.insert(from, value);
        }
        for (to, called) in called {
            if let Some(arrivals) = minute.arrivals.get(*to).filter(|_| *called >= RATE_MIN) {
                // More requests than calls come from elsewhere.
                let value = follow(self.reported.get(*to), (arrivals / called).min(1.0));
                let _ = self.reported.insert((*to).to_owned(), value);
            }
        }
    }

    fn see_doors(&mut self, minute: &Minute, called: &BTreeMap<&str, f64>, passed: f64) {
        let kept = 0.5_f64.powf(passed / DOOR_HALF_LIFE);
        for (name, rate) in minute.arrivals.iter().filter(|(_, rate)| **rate >= RATE_MIN) {
            let inside = called.get(name.as_str()).copied().unwrap_or(0.0);
            let share = (1.0 - inside / rate).clamp(0.0, 1.0);
            let door = self.doors.entry(name.clone()).or_insert(Door { share, rate: *rate, seen: minute.end });
            *door = Door { share: door.share * kept + share * (1.0 - kept), rate: *rate, seen: minute.end };
        }
    }

    /// Share of a service's requests that come from outside of what is observed, 0..1.
    #[must_use]
    pub fn outside(&self, service: &str) -> Option<f64> {
        self.doors.get(service).map(|door| door.share)
    }

    /// Requests per second at each service that its callers account for in a window: the calls to it, and those calls that lead to
    /// nobody that is known and usually do not, up to as many as the callers usually make to it; each as many requests as the
    /// service usually reports for a call. Callers that call less account for less.
    #[must_use]
    pub fn called<'a>(&self, window: &Minute, ratios: &'a [Ratio]) -> BTreeMap<&'a str, f64> {
        let lost = unmatched(window);
        let mut measured: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for calls in window.calls.iter().filter(|calls| calls.rate > 0.0) {
            *measured.entry((&calls.from, &calls.to)).or_default() += calls.rate;
        }
        let mut called: BTreeMap<&'a str, f64> = BTreeMap::new();
        for Ratio { from, to, calls_per_request, .. } in ratios {
            let Some(rate) = window.arrivals.get(from).filter(|rate| rate.is_finite() && **rate > 0.0) else { continue };
            let usual = self.unmatched.get(from).copied().unwrap_or(0.0);
            let stray = (lost.get(from).copied().unwrap_or(0.0) - usual).max(0.0) * rate;
            let seen = measured.get(&(from.as_str(), to.as_str())).copied().unwrap_or(0.0);
            let account = seen.max((seen + stray).min(rate * calls_per_request));
            *called.entry(to).or_default() += account * self.reported.get(to).copied().unwrap_or(1.0);
        }
        called
    }

    /// Visits of each service per request from outside, whatever door it comes through, of those whose callers are all known well
    /// enough. Empty without load from outside, and where calls amplify each other without end.
    #[must_use]
    pub fn visits<'a>(&'a self, ratios: &'a [Ratio]) -> BTreeMap<&'a str, f64> {
        let graph = self.graph(ratios);
        let outside: Vec<f64> = graph.names.iter().map(|name| self.doors.get(*name).map_or(0.0, |door| door.share * door.rate)).collect();
        let traffic = Network::new(graph.names.len(), &graph.calls).and_then(|network| network.traffic(&outside));
        let visits = traffic.map(|traffic| traffic.visits).unwrap_or_default();
        let doubtful = doubtful(ratios);
        graph.names.iter().copied().zip(visits).filter(|(name, _)| !doubtful.contains(name)).collect()
    }

    /// The load of each service that forecasts at the front doors lead to, where callers lead to any; `forecasts` by service, of
    /// all its requests, with an upper quantile whose normal deviate is `z`.
    #[must_use]
    pub fn announced<'a>(&'a self, ratios: &'a [Ratio], forecasts: &BTreeMap<String, Announced>, z: f64) -> BTreeMap<&'a str, Announced> {
        let graph = self.graph(ratios);
        let Ok(network) = Network::new(graph.names.len(), &graph.calls) else { return BTreeMap::new() };
        let mut reached: BTreeMap<&str, Vec<FrontDoor>> = BTreeMap::new();
        for (door, share, forecast) in self.doors(forecasts) {
            let Some(place) = graph.places.get(door) else { continue };
            let mut outside = vec![0.0; graph.names.len()];
            outside[*place] = 1.0;
            let Ok(traffic) = network.traffic(&outside) else { continue };
            for (name, visits) in graph.names.iter().zip(traffic.visits).filter(|(_, visits)| *visits > 0.0) {
                let door = FrontDoor { mean: forecast.mean * share, upper: forecast.upper.max(forecast.mean) * share, visits };
                reached.entry(name).or_default().push(door);
            }
        }
        let called: BTreeSet<&str> = ratios.iter().filter(|ratio| ratio.is_sure()).map(|ratio| ratio.to.as_str()).collect();
        let announced = |name: &'_ str| {
            let doors = reached.get(name)?;
            let mean = doors.iter().map(|door| door.mean * door.visits).sum();
            Some(Announced { mean, upper: cascade(doors, z)? })
        };
        called.into_iter().filter_map(|name| Some((name, announced(name)?))).collect()
    }

    /// For each front door with load: the service that is the first to saturate when the load of that door grows, and the factor
    /// by which it may grow until then. `utilization` by service, 0..1; services without are not limits.
    #[must_use]
    pub fn limits<'a>(&'a self, ratios: &'a [Ratio], utilization: &BTreeMap<String, f64>) -> BTreeMap<&'a str, Limit<'a>> {
        let now: BTreeMap<String, Announced> =
            self.doors.iter().map(|(name, door)| (name.clone(), Announced { mean: door.rate, upper: door.rate })).collect();
        let graph = self.graph(ratios);
        let Ok(network) = Network::new(graph.names.len(), &graph.calls) else { return BTreeMap::new() };
        let unsure: BTreeSet<&str> = ratios.iter().filter(|ratio| !ratio.is_sure()).map(|ratio| ratio.from.as_str()).collect();
        let mut parts: Vec<(&str, Vec<f64>)> = Vec::new();
        let mut totals = vec![0.0; graph.names.len()];
        for (name, share, door) in self.doors(&now) {
            let mut outside = vec![0.0; graph.names.len()];
            let Some(place) = graph.places.get(name).filter(|_| door.mean * share > 0.0) else { continue };
            outside[*place] = door.mean * share;
            let Ok(traffic) = network.traffic(&outside) else { continue };
            totals.iter_mut().zip(&traffic.rates).for_each(|(total, rate)| *total += rate);
            // Who calls nobody knows how often may lead to what saturates first.
            let is_known = graph.names.iter().zip(&traffic.rates).all(|(name, rate)| *rate <= 0.0 || !unsure.contains(name));
            if is_known {
                parts.push((graph.names[*place], traffic.rates));
            }
        }
        let busy = |place: usize| utilization.get(graph.names[place]).copied().filter(|share| *share > 0.0 && share.is_finite());
        let limit = |(door, rates): (_, Vec<f64>)| {
            let growths = (0..rates.len()).filter(|place| rates[*place] > 0.0).filter_map(|place| {
                // What others bring stays; this door's part may grow until the servers are busy all the time.
                let own = busy(place)? * rates[place] / totals[place];
                Some(Limit { service: graph.names[place], growth: (1.0 + (1.0 - busy(place)?) / own).max(0.0) })
            });
            growths.min_by(|a, b| a.growth.total_cmp(&b.growth)).map(|limit| (door, limit))
        };
        parts.into_iter().filter_map(limit).collect()
    }

    /// Doors with a forecast, the busiest first.
    fn doors<'a>(&'a self, forecasts: &'a BTreeMap<String, Announced>) -> Vec<(&'a str, f64, Announced)> {
        let known = |(name, door): (&'a String, &'a Door)| {
            let forecast = forecasts.get(name).copied().filter(|forecast| forecast.mean >= 0.0 && forecast.upper.is_finite())?;
            (door.share >= DOOR).then_some((name.as_str(), door.share, forecast))
        };
        let mut doors: Vec<_> = self.doors.iter().filter_map(known).collect();
        doors.sort_by(|a, b| (b.1 * b.2.mean).total_cmp(&(a.1 * a.2.mean)));
        doors.truncate(DOORS_MAX);
        doors
    }

    /// The calls that are known well enough.
    fn graph<'a>(&'a self, ratios: &'a [Ratio]) -> Graph<'a> {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let sure = || ratios.iter().filter(|ratio| ratio.is_sure());
        let ends = sure().flat_map(|ratio| [ratio.from.as_str(), ratio.to.as_str()]);
        for name in ends.chain(self.doors.keys().map(String::as_str)) {
            let next = places.len();
            let _ = places.entry(name).or_insert(next);
        }
        let mut names = vec![""; places.len()];
        places.iter().for_each(|(name, place)| names[*place] = name);
        let call = |ratio: &Ratio| Call { from: places[ratio.from.as_str()], to: places[ratio.to.as_str()], mean: ratio.calls_per_request };
        let calls = sure().map(call).collect();
        Graph { names, places, calls }
    }
}

/// Services of which callers call an unknown number of times for a request, and all that they call.
fn doubtful(ratios: &[Ratio]) -> BTreeSet<&str> {
    let mut callees: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    ratios.iter().for_each(|ratio| callees.entry(&ratio.from).or_default().push(&ratio.to));
    let mut next: Vec<&str> = ratios.iter().filter(|ratio| !ratio.is_sure()).map(|ratio| ratio.to.as_str()).collect();
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    while let Some(service) = next.pop() {
        if reached.insert(service) {
            next.extend(callees.get(service).into_iter().flatten());
        }
    }
    reached
}

/// Seconds since the last minute, as far as they count; `None` for one that is not later.
fn passed(last: Option<f64>, end: f64) -> Option<f64> {
    let passed = last.map_or(60.0, |last| end - last);
    (passed > 0.0 && end.is_finite()).then(|| passed.min(PAUSE_MOST))
}

/// Calls per second to each service.
fn rates(minute: &Minute) -> BTreeMap<&str, f64> {
    let mut rates: BTreeMap<&str, f64> = BTreeMap::new();
    for calls in minute.calls.iter().filter(|calls| calls.rate > 0.0 && calls.from != calls.to) {
        *rates.entry(&calls.to).or_default() += calls.rate;
    }
    rates
}

/// Calls per request of each caller to nobody that is known.
fn unmatched(minute: &Minute) -> BTreeMap<String, f64> {
    let mut stray: BTreeMap<&str, f64> = BTreeMap::new();
    for calls in minute.calls.iter().filter(|calls| calls.rate > 0.0 && !minute.arrivals.contains_key(&calls.to)) {
        *stray.entry(&calls.from).or_default() += calls.rate;
    }
    let callers = minute.arrivals.iter().filter(|(_, rate)| **rate >= RATE_MIN && rate.is_finite());
    callers.map(|(name, rate)| (name.clone(), stray.get(name.as_str()).copied().unwrap_or(0.0) / rate)).collect()
}

#[cfg(test)]
mod tests;
