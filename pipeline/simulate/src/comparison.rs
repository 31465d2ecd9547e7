//! What a backtest found, as data: the load, and what every policy made of it. The same data are a text for terminals
//! ([`Comparison::text`]), a page for eyes ([`Comparison::page`]) and, through serde, a document for programs.
//!
//! ```text
//! ServiceReport ─▶ ServiceResult ─▶ PolicyResult ─┐             ┌─▶ text
//!                                                 ├▶ Comparison ┼─▶ page
//!        rate, Demand ─▶ ServiceLoad ─────────────┘             └─▶ serde
//! ```
//!
//! Series are step functions: a value holds from its time until the next.

mod column;
mod document;
mod format;
mod frontier;
mod page;
mod plot;
mod scale;
mod steps;
mod text;
mod timeline;
mod totals;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::time::Timestamp;

pub use totals::Totals;

use crate::report::{ServiceReport, Supply};
use crate::score::{Demand, Elasticity, MINUTE_REQUESTS_MIN, Score};
use crate::world::Objective;

/// What the others are compared with, if a policy is called so; otherwise it is the first.
pub const CURRENT: &str = "current";
/// Most steps for which a load is sampled; a longer time is sampled more coarsely.
const SAMPLES_MAX: u32 = 100_000;

/// Policies under the same load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Comparison {
    /// What it is about.
    pub title: String,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Step of the simulation.
    #[serde(with = "tracescale_core::duration::text")]
    pub step: Duration,
    /// What the simulation takes for granted, a sentence each.
    #[serde(default)]
    pub assumptions: Vec<String>,
    /// The services and their load.
    pub services: Vec<ServiceLoad>,
    /// What the policies made of it.
    pub policies: Vec<PolicyResult>,
}

/// What came to a service, and what that needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceLoad {
    /// Name.
    pub name: String,
    /// What its requests were promised.
    pub objective: Objective,
    /// Requests per second.
    #[serde(with = "document::rates")]
    pub rate: Vec<(Timestamp, f64)>,
    /// Fewest replicas that keep the promise; empty when that is not known, or no number keeps it.
    pub demand: Vec<(Timestamp, u32)>,
}

/// What a policy made of all services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyResult {
    /// Name.
    pub name: String,
    /// Its settings, in a line.
    #[serde(default)]
    pub note: String,
    /// Services, found by name.
    pub services: Vec<ServiceResult>,
    /// What went wrong, such as rules that failed, a sentence each.
    #[serde(default)]
    pub failures: Vec<String>,
}

/// What a policy made of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceResult {
    /// Name of the service.
    pub service: String,
    /// What the promise is about: this share of the requests.
    pub quantile: f64,
    /// Promises, capacity, calm.
    #[serde(with = "document::ScoreDocument")]
    pub score: Score,
    /// How closely supply followed demand; `None` when demand is not known.
    #[serde(with = "document::elasticity", default)]
    pub elasticity: Option<Elasticity>,
    /// Replicas over time; in documents triples of time, desired and ready replicas.
    #[serde(with = "document::supply")]
    pub supply: Vec<Supply>,
    /// Requests by the minute in which they came: its start, how many, and how many took too long or failed.
    pub minutes: Vec<(Timestamp, f64, f64)>,
}

// === impl Comparison ===

impl Comparison {
    /// The policy that others are compared with; `None` without policies.
    #[must_use]
    pub fn baseline(&self) -> Option<&PolicyResult> {
        self.policies.iter().find(|policy| policy.name == CURRENT).or(self.policies.first())
    }

    /// As text for a terminal, at most 120 columns wide: a table of the policies, the same for the worst services, failures.
    #[must_use]
    pub fn text(&self) -> String {
        text::render(self)
    }

    /// As one HTML page that needs nothing else, with tables and plots.
    #[must_use]
    pub fn page(&self) -> String {
        page::render(self)
    }

    /// Positions of the services, those where policies matter most first: by violations of the worst policy, or by how far
    /// policies are apart in replica-hours, each relative to the service where that is largest.
    pub(crate) fn by_weight(&self) -> Vec<usize> {
        let measures: Vec<(f64, f64)> = self.services.iter().map(|service| self.measures(&service.name)).collect();
        let most = |pick: fn(&(f64, f64)) -> f64| measures.iter().map(pick).fold(f64::MIN_POSITIVE, f64::max);
        let (violations, spread) = (most(|measure| measure.0), most(|measure| measure.1));
        let weights: Vec<f64> = measures.iter().map(|measure| (measure.0 / violations).max(measure.1 / spread)).collect();
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by(|left, right| weights[*right].total_cmp(&weights[*left]));
        order
    }

    /// Violation minutes of the worst policy, and the difference between the policies in replica-hours.
    fn measures(&self, service: &str) -> (f64, f64) {
        let scores: Vec<&Score> = self.policies.iter().filter_map(|policy| policy.service(service)).map(|result| &result.score).collect();
        let hours = || scores.iter().map(|score| score.replica_hours).filter(|hours| hours.is_finite());
        let spread = hours().fold(0.0, f64::max) - hours().fold(f64::INFINITY, f64::min);
        let violations = scores.iter().map(|score| score.violation_minutes).max().unwrap_or(0);
        (f64::from(violations), spread.max(0.0))
    }
}

// === impl ServiceLoad ===

impl ServiceLoad {
    /// Samples the true rate (requests per second) and what it demands at every step.
    #[must_use]
    pub fn sampled(
        name: &str,
        objective: Objective,
        (from, until): (Timestamp, Timestamp),
        step: Duration,
        demand: &mut Demand,
        rate: impl Fn(Timestamp) -> f64,
    ) -> Self {
        let step = step.max(until.since(from) / SAMPLES_MAX).max(Duration::from_millis(1));
        let times = std::iter::successors(Some(from), |time| Some(*time + step)).take_while(|time| *time < until);
        let rate: Vec<(Timestamp, f64)> = times.map(|time| (time, rate(time))).collect();
        let wanted = rate.iter().map(|(time, rate)| Some((*time, demand.replicas(*rate)?))).collect::<Option<Vec<_>>>();
        Self { name: name.to_owned(), objective, rate, demand: wanted.unwrap_or_default() }
    }
}

// === impl PolicyResult ===

impl PolicyResult {
    /// Sums, weighted means and worst values over all services.
    #[must_use]
    pub fn total(&self) -> Totals {
        Totals::of(&self.services)
    }

    /// What it made of a service.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceResult> {
        self.services.iter().find(|result| result.service == name)
    }
}

// === impl ServiceResult ===

impl ServiceResult {
    /// The result of a run, for a promise about this share of the requests.
    #[must_use]
    pub fn of(report: &ServiceReport, quantile: f64, elasticity: Option<Elasticity>) -> Self {
        let starts = std::iter::successors(Some(report.start), |start| Some(*start + Duration::from_secs(60)));
        Self {
            service: report.name.clone(),
            quantile,
            score: Score::of(report, quantile),
            elasticity,
            supply: report.supply.clone(),
            minutes: starts.zip(&report.minutes).map(|(start, minute)| (start, minute.requests, minute.over)).collect(),
        }
    }

    /// Starts of the minutes in which the promise was broken, as [`Score::of`] counts them.
    pub(crate) fn violations(&self) -> impl Iterator<Item = Timestamp> {
        let allowed = 1.0 - self.quantile + 1e-12;
        let broken = move |minute: &&(Timestamp, f64, f64)| minute.1 >= MINUTE_REQUESTS_MIN - 1e-9 && minute.2 / minute.1 > allowed;
        self.minutes.iter().filter(broken).map(|minute| minute.0)
    }
}

#[cfg(test)]
mod tests;
