//! How many servers one instance has, from its spans alone: with n requests under way it completes them at the rate
//! μ · min(n, c), so the time spent in each state and the completions in it show where the rate stops growing.
//!
//! Needs every span of an instance, or its counts under way: a sample of traces does not show the states.

use crate::confidence::Interval;
use crate::interval::Span;

/// States kept; more requests under way than this count as this many.
const MAX_STATES: usize = 4096;
/// Step of the grid of candidates.
const STEP: f64 = 0.25;
/// Half of the 0.95 quantile of χ² with one degree of freedom: how much less likely the ends of the interval may be.
const PROFILE: f64 = 1.92;
/// Only states this far above the estimate show that the rate stopped growing.
const BEYOND: f64 = 1.3;
/// Completions beyond the estimate that prove it.
const LEAST_BEYOND: f64 = 200.0;
/// Completions in a state that make it a state that was seen.
const LEAST_SEEN: f64 = 50.0;

/// Time in, and completions from, each number of requests under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Occupancy {
    time: Vec<f64>,
    completions: Vec<f64>,
}

/// A fitted number of servers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The most likely number, in quarters.
    pub servers: f64,
    /// The 95 % profile interval.
    pub interval: Interval,
    /// Completions per second of one busy server.
    pub rate: f64,
}

/// What is known of the number of servers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Servers {
    /// Enough was seen beyond it.
    Fitted(Fit),
    /// The rate never stopped growing: there are at least so many.
    AtLeast(f64),
    /// Too little was seen.
    Unknown,
}

// === impl Occupancy ===

impl Occupancy {
    /// From the spans of one instance, all of them. Time outside of `window` does not count.
    #[must_use]
    pub fn of(window: Span, spans: &[Span]) -> Self {
        let mut events: Vec<(f64, bool)> = Vec::with_capacity(2 * spans.len());
        let is_valid = |span: &&Span| span.end > span.start && span.end > window.start && span.start < window.end;
        for span in spans.iter().filter(is_valid) {
            events.extend([(span.start, true), (span.end, false)]);
        }
        // At the same time the departure comes first: it leaves the state that its own service made.
        events.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut occupancy = Self::default();
        let (mut under_way, mut since) = (0usize, window.start);
        for (at, begins) in events {
            let until = at.clamp(window.start, window.end);
            let leaves = !begins && (window.start..window.end).contains(&at);
            occupancy.observe(under_way, until - since, if leaves { 1.0 } else { 0.0 });
            since = until;
            under_way = if begins { under_way + 1 } else { under_way.saturating_sub(1) };
        }
        occupancy.observe(under_way, window.end - since, 0.0);
        occupancy
    }

    /// Adds `time` seconds with `under_way` requests and the `completions` that happened then.
    pub fn observe(&mut self, under_way: usize, time: f64, completions: f64) {
        if !(time >= 0.0 && completions >= 0.0 && time.is_finite() && completions.is_finite()) {
            return;
        }
        let state = under_way.min(MAX_STATES);
        if self.time.len() <= state {
            self.time.resize(state + 1, 0.0);
            self.completions.resize(state + 1, 0.0);
        }
        self.time[state] += time;
        self.completions[state] += completions;
    }

    /// Seconds and completions with so many requests under way.
    #[must_use]
    pub fn state(&self, under_way: usize) -> (f64, f64) {
        let of = |values: &[f64]| values.get(under_way).copied().unwrap_or(0.0);
        (of(&self.time), of(&self.completions))
    }

    /// The most likely number of servers, if enough was seen beyond it.
    #[must_use]
    pub fn fit(&self) -> Servers {
        let candidates = self.candidates();
        let Some(best) = candidates.iter().copied().reduce(|a, b| if b.likelihood > a.likelihood { b } else { a }) else {
            return Servers::Unknown;
        };
        let beyond: f64 = self.states().filter(|state| state.under_way > BEYOND * best.servers).map(|state| state.completions).sum();
        if beyond < LEAST_BEYOND {
            let seen = self.states().filter(|state| state.completions >= LEAST_SEEN).map(|state| state.under_way);
            return seen.reduce(f64::max).map_or(Servers::Unknown, Servers::AtLeast);
        }
        let likely = || candidates.iter().filter(|other| other.likelihood >= best.likelihood - PROFILE).map(|other| other.servers);
        let interval = Interval { low: likely().fold(best.servers, f64::min), high: likely().fold(best.servers, f64::max) };
        Servers::Fitted(Fit { servers: best.servers, interval, rate: best.rate })
    }

    /// Whether the rate of completions falls again when many requests are under way: below `share` of its best. Then a
    /// scalability law with a retrograde part fits, and min(n, c) does not.
    #[must_use]
    pub fn is_retrograde(&self, share: f64) -> bool {
        let seen: Vec<f64> =
            self.states().filter(|state| state.completions >= LEAST_SEEN).map(|state| state.completions / state.time).collect();
        let best = seen.iter().copied().fold(0.0, f64::max);
        seen.last().is_some_and(|last| *last < share * best)
    }

    /// The states with requests in which time was spent.
    fn states(&self) -> impl Iterator<Item = State> + '_ {
        let states = self.time.iter().zip(&self.completions).enumerate().skip(1).filter(|(_, (time, _))| **time > 0.0);
        #[expect(clippy::cast_precision_loss, reason = "at most 4096 states")]
        states.map(|(under_way, (time, completions))| State { under_way: under_way as f64, time: *time, completions: *completions })
    }

    fn candidates(&self) -> Vec<Candidate> {
        let states: Vec<State> = self.states().collect();
        let most = states.last().map_or(0.0, |state| state.under_way);
        let mut candidates = Vec::new();
        let mut servers = 1.0;
        while servers <= most {
            candidates.extend(Candidate::of(servers, &states));
            servers += STEP;
        }
        candidates
    }
}

/// One state.
#[derive(Clone, Copy)]
struct State {
    under_way: f64,
    time: f64,
    completions: f64,
}

/// One number of servers and how likely it is.
#[derive(Clone, Copy)]
struct Candidate {
    servers: f64,
    rate: f64,
    likelihood: f64,
}

// === impl Candidate ===

impl Candidate {
    fn of(servers: f64, states: &[State]) -> Option<Self> {
        let completions: f64 = states.iter().map(|state| state.completions).sum();
        let busy: f64 = states.iter().map(|state| state.under_way.min(servers) * state.time).sum();
        let rate = completions / busy;
        if !(rate > 0.0 && rate.is_finite()) {
            return None;
        }
        let logs: f64 = states.iter().map(|state| state.completions * (rate * state.under_way.min(servers)).ln()).sum();
        Some(Self { servers, rate, likelihood: logs - rate * busy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A linear congruential generator with the constants of Knuth's MMIX, upper bits only.
    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (f64::from(u32::try_from(self.0 >> 32).unwrap()) + 0.5) / 4_294_967_296.0
        }

        fn exponential(&mut self) -> f64 {
            -self.uniform().ln()
        }

        /// Mean one, squared coefficient of variation `scv`.
        fn lognormal(&mut self, scv: f64) -> f64 {
            let variance = (1.0 + scv).ln();
            let normal = (-2.0 * self.uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos();
            (variance.sqrt() * normal - 0.5 * variance).exp()
        }
    }

    const WINDOW: Span = Span { start: 0.0, end: f64::MAX };

    /// Poisson arrivals at `servers` servers that are shared by all requests under way.
    fn processor_sharing(servers: f64, load: f64, scv: f64, arrivals: usize) -> Vec<Span> {
        let mut random = Random(7);
        let (mut now, mut next) = (0.0, 0.0);
        let (mut work, mut spans): (Vec<(f64, f64)>, Vec<Span>) = (Vec::new(), Vec::new());
        let mut left = arrivals;
        while left > 0 || !work.is_empty() {
            let speed = (servers / f64::max(1.0, f64::from(u32::try_from(work.len()).unwrap()))).min(1.0);
            let least = work.iter().map(|(rest, _)| *rest).fold(f64::INFINITY, f64::min);
            let ends = now + least / speed;
            let arrives = if left > 0 { next } else { f64::INFINITY };
            let until = ends.min(arrives);
            work.iter_mut().for_each(|(rest, _)| *rest -= (until - now) * speed);
            now = until;
            if arrives < ends {
                work.push((random.lognormal(scv), now));
                (left, next) = (left - 1, now + random.exponential() / (load * servers));
            } else {
                let done = (0..work.len()).min_by(|a, b| work[*a].0.total_cmp(&work[*b].0)).unwrap();
                spans.push(Span { start: work.swap_remove(done).1, end: now });
            }
        }
        spans
    }

    /// Poisson arrivals at `servers` servers that each take the longest waiting request.
    fn first_come(servers: usize, load: f64, scv: f64, arrivals: usize) -> Vec<Span> {
        let mut random = Random(11);
        let mut free = vec![0.0f64; servers];
        let (mut now, mut spans) = (0.0, Vec::new());
        for _ in 0..arrivals {
            now += random.exponential() / (load * f64::from(u32::try_from(servers).unwrap()));
            let first = (0..servers).min_by(|a, b| free[*a].total_cmp(&free[*b])).unwrap();
            free[first] = free[first].max(now) + random.lognormal(scv);
            spans.push(Span { start: now, end: free[first] });
        }
        spans
    }

    fn fitted(spans: &[Span]) -> Fit {
        let end = spans.iter().map(|span| span.end).fold(0.0, f64::max);
        match Occupancy::of(Span { start: 0.0, end: end + 1.0 }, spans).fit() {
            Servers::Fitted(fit) => fit,
            other => panic!("{other:?}"),
        }
    }

    /// Guarantees: in simulated processor sharing the servers are found exactly, whatever the variability, and their rate is
    /// known to 3 %.
    #[test]
    fn processor_sharing_shows_its_servers() {
        for (servers, scv) in [(4.0, 1.0), (4.0, 4.0), (8.0, 1.0)] {
            let fit = fitted(&processor_sharing(servers, 0.85, scv, 60_000));
            assert!((fit.servers - servers).abs() < 1e-9, "{servers} {scv}: {fit:?}");
            assert!((fit.rate - 1.0).abs() < 0.03 && fit.interval.low <= fit.servers && fit.servers <= fit.interval.high, "{fit:?}");
            assert!(fit.interval.high - fit.interval.low <= 1.0, "{fit:?}");
        }
    }

    /// Guarantees: in a simulated queue served in order the servers are found to 7 % although service is not exponential.
    #[test]
    fn a_queue_in_order_shows_its_servers() {
        for (servers, scv) in [(4, 1.0), (4, 2.0), (8, 1.0)] {
            let fit = fitted(&first_come(servers, 0.85, scv, 60_000));
            let truth = f64::from(u32::try_from(servers).unwrap());
            assert!((fit.servers / truth - 1.0).abs() <= 0.07, "{servers} {scv}: {fit:?}");
        }
    }

    /// Guarantees: an instance that never had more to do than servers only gives a lower limit, and no spans give nothing.
    #[test]
    fn what_was_not_seen_is_not_fitted() {
        let spans = processor_sharing(64.0, 0.1, 1.0, 5_000);
        let end = spans.last().unwrap().end;
        let Servers::AtLeast(least) = Occupancy::of(Span { start: 0.0, end }, &spans).fit() else { panic!("fitted") };
        assert!((6.0..20.0).contains(&least), "{least}");
        assert_eq!(Occupancy::of(WINDOW, &[]).fit(), Servers::Unknown);
        assert_eq!(Occupancy::default().fit(), Servers::Unknown);
    }

    /// Guarantees: times and completions go to the state before each departure, and what lies outside the window is cut off.
    #[test]
    fn states_by_hand() {
        let spans = [(0.0, 4.0), (1.0, 3.0), (3.0, 9.0)].map(|(start, end)| Span { start, end });
        let occupancy = Occupancy::of(Span { start: 0.5, end: 8.0 }, &spans);
        assert_eq!([0, 1, 2, 3].map(|state| occupancy.state(state)), [(0.0, 0.0), (4.5, 0.0), (3.0, 2.0), (0.0, 0.0)]);
    }

    /// Guarantees: a rate that falls again is recognised, one that levels off is not.
    #[test]
    fn a_falling_rate_is_retrograde() {
        let mut occupancy = Occupancy::default();
        for (under_way, completions) in [(1, 100.0), (2, 200.0), (4, 300.0), (8, 290.0)] {
            occupancy.observe(under_way, 10.0, completions);
        }
        assert!(!occupancy.is_retrograde(0.9));
        occupancy.observe(16, 10.0, 150.0);
        assert!(occupancy.is_retrograde(0.9) && !Occupancy::default().is_retrograde(0.9));
    }
}
