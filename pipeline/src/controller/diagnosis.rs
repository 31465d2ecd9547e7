//! What telemetry says of each target's service beside the rules: read from final windows of shipped views.
//!
//! ```text
//! service_sojourn ─▶ requests over the objective ┐
//! service_cause · service_queue ─▶ utilization ──┼▶ Diagnosis
//! service_cause ─▶ who is to blame ──────────────┤
//! service_flow ─▶ requests that nobody reports ──┤
//! service_sampling ─▶ requests without spans ─────┤
//! workloads ─▶ a new version, senders ───────────┤
//! sinks ─▶ replicas that are ready and silent ───┘
//! ```
//!
//! A share of slow requests is as sure as the number of *independent* requests behind it: where senders sample, requests count
//! as the effective samples that stand for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use tracescale_core::capacity::Observed;
use tracescale_core::decide::{Cause, Diagnosis};
use tracescale_core::proportion::Count;
use tracescale_core::target::{Objective, TargetName, TargetRef, TargetSpec};
use tracescale_core::time::Timestamp;
use tracescale_core::versions::Versions;
use tracescale_queries::Emission;
use tracescale_queries::histogram::Histogram;

use super::services::{Services, number, text};
use crate::warning::Warning;

mod declared;
mod instances;
mod traced;

use declared::Declared;
pub use declared::Unheard;
use instances::{Heard, Instances};
pub use traced::Disagreement;
use traced::{Compared, Traced};

/// Length of a diagnosis. A verdict compares windows of one length, of 300 requests each: three minutes have them from 1.7
/// requests a second on, and judge a change no more than three minutes later than they could.
const WINDOW: Duration = Duration::from_secs(180);
/// Windows of the views that a diagnosis is made of.
const MINUTE: Duration = Duration::from_secs(60);
/// Minutes that are kept of each service: those of a diagnosis, and one that is not complete yet.
const MINUTES: usize = 4;
/// Minutes of which the counts of slow requests are kept, for what was before a change of a rule: two hours.
const HISTORY: usize = 120;
/// Requests per second that callers must account for before it means something that fewer are reported.
const CALLED_MIN: f64 = 1.0;

/// The shipped views that a diagnosis needs; a query that names them keeps them.
pub(super) const VIEWS: [&str; 6] = [SOJOURN, CAUSE, QUEUE, FLOW, WORKLOADS, SAMPLING];
const SOJOURN: &str = "service_sojourn";
const CAUSE: &str = "service_cause";
const QUEUE: &str = "service_queue";
const FLOW: &str = "service_flow";
const WORKLOADS: &str = "workloads";
const SAMPLING: &str = "service_sampling";
/// The columns that name a row's service.
const SERVICE: [&str; 2] = ["service_name", "service_namespace"];

/// What is known of every target's service. Bounded by the targets.
#[derive(Debug, Default)]
pub(super) struct Diagnoses {
    services: BTreeMap<TargetName, Service>,
    /// Whether each request counts, not the effective samples.
    counts_all: bool,
    /// Services of which people say that all traces are there that should be.
    unsampled: BTreeSet<String>,
    declared: Declared,
    news: Vec<Warning>,
}

/// A minute of a target that is over: how many of its requests were over the objective.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Over {
    pub(super) target: TargetName,
    pub(super) end: Timestamp,
    pub(super) slow: Count,
}

#[derive(Debug, Default)]
struct Service {
    /// By their end, without gaps or with.
    minutes: BTreeMap<Timestamp, Minute>,
    verdict: Option<Verdict>,
    /// Requests that it reports, as a part of those that its callers account for, and when.
    heard: Option<(Timestamp, f64)>,
    versions: Versions,
    deployed_at: Option<Timestamp>,
    instances: Instances,
    traced: Traced,
    /// Slow requests of past minutes, the oldest first.
    history: VecDeque<(Timestamp, Count)>,
}

#[derive(Debug, Default)]
struct Minute {
    requests: Option<Requests>,
    /// Utilization as gauges say, and as the model does.
    measured: Option<f64>,
    modelled: Option<f64>,
}

/// Requests of a minute.
#[derive(Clone, Debug, Default)]
struct Requests {
    durations: Histogram,
    /// Effective samples, and those of failed requests.
    all: f64,
    failed: f64,
}

/// What `service_cause` says of a service.
#[derive(Clone, Debug, PartialEq)]
struct Verdict {
    cause: Option<Cause>,
    futile: Option<bool>,
    queue_share: Option<f64>,
}

// === impl Diagnoses ===

impl Diagnoses {
    /// Reads final windows. Gives the minutes that are over since, of targets with an objective.
    pub(super) fn learn(&mut self, now: Timestamp, emissions: &[Emission], services: &Services<'_>) -> Vec<Over> {
        let mut over = Vec::new();
        for emission in emissions.iter().filter(|emission| emission.is_final && VIEWS.contains(&emission.view.as_str())) {
            match emission.view.as_str() {
                SOJOURN => over.extend(self.sojourn(emission, services)),
                WORKLOADS => self.workloads(emission, services),
                FLOW => self.flow(emission, services),
                SAMPLING => self.sampling(emission, services),
                view => self.judgement(view == CAUSE, emission, services),
            }
        }
        for service in self.services.values_mut() {
            service.tidy(now);
        }
        over
    }

    /// Takes note of what a sink saw of a target. A target in memory stands for nothing that could send telemetry.
    pub(super) fn see(&mut self, spec: &TargetSpec, observed: &Observed) {
        if !matches!(spec.reference, TargetRef::Memory(_)) {
            self.services.entry(spec.name.clone()).or_default().instances.see(observed);
        }
    }

    /// From now on each request counts.
    pub(super) fn count_all(&mut self) {
        self.counts_all = true;
    }

    /// Takes the probabilities that are declared of services: of 1, metrics may count what is not traced on purpose.
    pub(super) fn declare(&mut self, probabilities: &BTreeMap<String, f64>) {
        let whole = probabilities.iter().filter(|(_, probability)| **probability >= 1.0);
        self.unsampled.extend(whole.map(|(service, _)| service.clone()));
        self.declared.declare(probabilities.keys().cloned());
    }

    /// What people should know since the last look.
    pub(super) fn take_news(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.news)
    }

    /// Forgets targets that are no more.
    pub(super) fn retain(&mut self, is_there: impl Fn(&TargetName) -> bool) {
        self.services.retain(|name, _| is_there(name));
    }

    /// What is known of a target's service; `None` when nothing is.
    pub(super) fn of(&self, spec: &TargetSpec) -> Option<Diagnosis> {
        self.services.get(&spec.name).and_then(|service| service.diagnosis(spec.objective))
    }

    /// Slow requests of a target's minutes that ended within a span.
    pub(super) fn history(&self, target: &TargetName, from: Timestamp, to: Timestamp) -> impl Iterator<Item = (Timestamp, Count)> {
        let history = self.services.get(target).into_iter().flat_map(|service| service.history.iter().copied());
        history.filter(move |(end, _)| *end > from && *end <= to)
    }

    fn sojourn(&mut self, emission: &Emission, services: &Services<'_>) -> Vec<Over> {
        let rows = &emission.rows;
        let mut minutes: BTreeMap<&TargetName, (Objective, Option<Requests>)> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            for spec in services.of(rows, SERVICE, row) {
                let Some(objective) = spec.objective else { continue };
                // A minute without telemetry says nothing of requests, one that is idle says that there were none.
                let Some(read) = Requests::read(rows, row, self.counts_all) else { continue };
                let (_, requests) = minutes.entry(&spec.name).or_insert((objective, None));
                requests.get_or_insert_default().add(&read);
            }
        }
        let mut over = Vec::new();
        for (target, (objective, requests)) in minutes {
            let Some(requests) = requests else { continue };
            let service = self.services.entry(target.clone()).or_default();
            let slow = count(requests.slow(objective), requests.all);
            service.minutes.entry(emission.window_end).or_default().requests = Some(requests);
            // A minute that late rows change is not another one.
            if service.history.back().is_none_or(|(last, _)| *last < emission.window_end) {
                service.history.push_back((emission.window_end, slow));
                over.push(Over { target: target.clone(), end: emission.window_end, slow });
            }
        }
        over
    }

    fn judgement(&mut self, is_cause: bool, emission: &Emission, services: &Services<'_>) {
        // Of the windows that begin every few seconds, those that are minutes of requests too.
        let is_minute = emission.window_end.floor(MINUTE) == emission.window_end;
        let rows = &emission.rows;
        for row in 0..rows.num_rows() {
            for spec in services.of(rows, SERVICE, row).filter(|spec| spec.objective.is_some()) {
                let service = self.services.entry(spec.name.clone()).or_default();
                if let Some(utilization) = number(rows, "utilization", row).filter(|_| is_minute) {
                    let minute = service.minutes.entry(emission.window_end).or_default();
                    let known = if is_cause { &mut minute.measured } else { &mut minute.modelled };
                    *known = Some(known.map_or(utilization, |known| known.max(utilization)));
                }
                if is_cause {
                    service.verdict = Some(Verdict::read(rows, row, spec));
                }
            }
        }
    }

    fn flow(&mut self, emission: &Emission, services: &Services<'_>) {
        let rows = &emission.rows;
        let mut worst: BTreeMap<&TargetName, Option<f64>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let called = number(rows, "called_rate", row).filter(|called| *called >= CALLED_MIN);
            // A service without any telemetry is missing, and treated as such.
            let heard = number(rows, "arrival_rate", row).zip(called).map(|(own, called)| own / called);
            for spec in services.of(rows, SERVICE, row) {
                // A target of several namespaces is only heard where all of them are.
                let known = worst.entry(&spec.name).or_default();
                *known = known.map_or(heard, |known| Some(heard.map_or(known, |heard| heard.min(known))));
            }
        }
        for (target, heard) in worst {
            self.services.entry(target.clone()).or_default().heard = heard.map(|heard| (emission.window_end, heard));
        }
    }

    fn sampling(&mut self, emission: &Emission, services: &Services<'_>) {
        if emission.window_end.floor(MINUTE) != emission.window_end {
            return;
        }
        let rows = &emission.rows;
        let mut minutes: BTreeMap<&TargetName, (&TargetSpec, Option<Compared>)> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let compared = number(rows, "measured_rate", row).zip(number(rows, "span_rate", row)).map(|(measured, spans)| Compared {
                measured,
                by: text(rows, "measured_by", row).unwrap_or_default().to_owned(),
                spans,
                samples: number(rows, "n_eff", row).unwrap_or_default(),
            });
            for spec in services.of(rows, SERVICE, row).filter(|spec| !self.unsampled.contains(&spec.service.service_name)) {
                let (_, known) = minutes.entry(&spec.name).or_insert((spec, None));
                *known = match (known.take(), compared.clone()) {
                    (Some(known), Some(compared)) => Some(known.and(compared)),
                    (known, compared) => known.or(compared),
                };
            }
        }
        for (target, (spec, compared)) in minutes {
            let traced = &mut self.services.entry(target.clone()).or_default().traced;
            traced.hear(emission.window_end, compared);
            let news = traced.news(&spec.service.service_name);
            self.news.extend(news.map(|news| Warning::Sampling { target: target.clone(), news }));
        }
    }

    fn workloads(&mut self, emission: &Emission, services: &Services<'_>) {
        let rows = &emission.rows;
        let is_minute = emission.window_end.floor(MINUTE) == emission.window_end;
        let names = (0..rows.num_rows()).filter_map(|row| text(rows, SERVICE[0], row));
        self.news.extend(self.declared.hear(emission.window_end, names).map(Warning::Unheard));
        let mut heard: BTreeMap<&TargetName, Option<Heard>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            // While one version replaces another, there are two.
            let versions = ["lowest_version", "highest_version"].into_iter().filter_map(|column| text(rows, column, row));
            for version in versions {
                for spec in services.of(rows, SERVICE, row) {
                    let service = self.services.entry(spec.name.clone()).or_default();
                    if service.versions.see(version, emission.window_end) {
                        service.deployed_at = Some(emission.window_end);
                    }
                }
            }
            if !is_minute {
                continue;
            }
            let samples = number(rows, "n_eff", row).unwrap_or_default();
            // Where a service ran before has a row of its own, without spans.
            let here = Some(Heard { instances: number(rows, "instances", row), samples }).filter(|_| samples > 0.0);
            for spec in services.of(rows, SERVICE, row) {
                let known = heard.entry(&spec.name).or_default();
                *known = known.zip(here).map(|(known, here)| known.and(here)).or(*known).or(here);
            }
        }
        for (target, heard) in heard {
            self.services.entry(target.clone()).or_default().instances.hear(emission.window_end, heard.unwrap_or_default());
        }
    }
}

// === impl Service ===

impl Service {
    fn tidy(&mut self, now: Timestamp) {
        // After the clock stepped back, windows of the future would stand in the way for long.
        self.instances.tidy(now);
        self.traced.tidy(now);
        self.minutes.retain(|end, _| *end <= now + MINUTE);
        self.history.retain(|(end, _)| *end <= now + MINUTE);
        while self.minutes.len() > MINUTES {
            let _ = self.minutes.pop_first();
        }
        while self.history.len() > HISTORY {
            let _ = self.history.pop_front();
        }
    }

    fn diagnosis(&self, objective: Option<Objective>) -> Option<Diagnosis> {
        let measured = objective.and_then(|objective| self.measured(objective));
        let silent = self.instances.silent();
        let heard = self.heard.map(|(at, _)| at);
        let traced = self.traced.share();
        let newest = || heard.max(silent.map(|(at, _)| at)).max(traced.map(|(at, _)| at)).max(self.deployed_at);
        let diagnosis = measured.or_else(|| newest().map(|at| Diagnosis::new(at, WINDOW)))?;
        let (heard, silent) = (self.heard.map(|(_, heard)| heard), silent.map(|(_, silent)| silent));
        Some(Diagnosis { deployed_at: self.deployed_at, heard, silent, traced: traced.map(|(_, share)| share), ..diagnosis })
    }

    /// What the newest minutes without a gap say, when they are [`WINDOW`].
    fn measured(&self, objective: Objective) -> Option<Diagnosis> {
        let mut known = self.minutes.iter().rev().skip_while(|(_, minute)| minute.requests.is_none()).peekable();
        let at = *known.peek()?.0;
        let (mut requests, mut slow, mut length) = (Requests::default(), 0.0, Duration::ZERO);
        let (mut measured, mut modelled) = (Vec::new(), Vec::new());
        for (end, minute) in known {
            if *end + length != at || length >= WINDOW {
                break;
            }
            let part = minute.requests.as_ref()?;
            (requests.all, requests.failed) = (requests.all + part.all, requests.failed + part.failed);
            slow += part.slow(objective);
            measured.extend(minute.measured);
            modelled.extend(minute.modelled);
            length += MINUTE;
        }
        if length != WINDOW {
            return None;
        }
        let (slow, failed) = (count(slow, requests.all), count(requests.failed, requests.all));
        let mut diagnosis = Diagnosis {
            requests: Some(slow.all),
            violations: Some(slow.bad),
            errors: Some(failed.bad),
            objective: Some(objective.share()),
            // Gauges know what the processor does; the model only what requests make it do.
            utilization: mean(&measured).or_else(|| mean(&modelled)),
            ..Diagnosis::new(at, WINDOW)
        };
        // Who is to blame is asked when there is something to blame somebody for.
        let is_violated = slow.share().is_some_and(|share| share > 1.0 - objective.share());
        if let Some(verdict) = self.verdict.clone().filter(|_| is_violated) {
            (diagnosis.cause, diagnosis.futile, diagnosis.queue_share) = (verdict.cause, verdict.futile, verdict.queue_share);
        }
        Some(diagnosis)
    }
}

// === impl Requests ===

impl Requests {
    fn read(rows: &RecordBatch, row: usize, counts_all: bool) -> Option<Self> {
        if text(rows, "presence", row) == Some("missing") {
            return None;
        }
        let counted = number(rows, "requests", row).unwrap_or_default();
        if counted <= 0.0 {
            return Some(Self::default());
        }
        let bytes = rows.column_by_name("distribution")?.as_binary_opt::<i32>()?;
        let durations = Histogram::from_bytes(bytes.value(row)).ok()?;
        let all = number(rows, "n_eff", row).filter(|_| !counts_all).unwrap_or(counted).min(counted);
        let failed = number(rows, "errors", row).unwrap_or_default() / counted * all;
        Some(Self { durations, all, failed })
    }

    fn add(&mut self, other: &Self) {
        self.durations.merge(&other.durations);
        self.all += other.all;
        self.failed += other.failed;
    }

    /// Effective samples over the latency of an objective.
    fn slow(&self, objective: Objective) -> f64 {
        self.durations.fraction_above(objective.latency.as_secs_f64()).unwrap_or_default() * self.all
    }
}

// === impl Verdict ===

impl Verdict {
    fn read(rows: &RecordBatch, row: usize, spec: &TargetSpec) -> Self {
        let text = |column| text(rows, column, row);
        let name = text("service_name").unwrap_or_default();
        let own = text("service_namespace").map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"));
        let futile = match text("more_helps") {
            Some("no") => Some(true),
            Some("yes") => Some(false),
            _ => None,
        };
        let blamed = text("blocked_by").filter(|_| futile == Some(true));
        // The worst cause of all may be another one than that of this service: nothing is said then of kind and share.
        let is_worst = |service: &str| text("cause") == Some(service);
        let cause = blamed.map(|service| Cause {
            service: if service == own { spec.service.service_name.clone() } else { service.to_owned() },
            kind: text("cause_kind").filter(|_| is_worst(service)).unwrap_or("unknown").to_owned(),
            share: number(rows, "cause_share", row).filter(|_| is_worst(service)).unwrap_or_default(),
        });
        // What waits in front of a service that is short of capacity waits for its servers.
        let queue_share = number(rows, "queue_share", row).filter(|_| futile == Some(false) && is_worst(&own));
        Self { cause, futile, queue_share }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a few minutes")]
    let count = values.len() as f64;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / count)
}

/// Whole numbers of requests.
fn count(bad: f64, all: f64) -> Count {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; counts of requests")]
    let whole = |value: f64| value.round() as u64;
    Count { bad: whole(bad).min(whole(all)), all: whole(all) }
}

#[cfg(test)]
mod tests;
