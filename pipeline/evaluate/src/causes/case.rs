//! One labelled case, one calm period: what was said of them, and what naive rankings would have said.

use serde::Serialize;
use tracescale_models::cause::{Baseline, Cause, Help, Kind, Normal, Service, Verdict, Window, judge};

/// A fault whose place is known.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// Which.
    pub name: String,
    /// What was injected.
    pub fault: String,
    /// Where.
    pub service: String,
    /// Whether more capacity of that service is the remedy.
    pub is_capacity: bool,
    /// Who was named as culprit in most of its windows.
    pub said: Option<String>,
    /// What was said to be wrong with it.
    pub kind: Option<&'static str>,
    /// On which figures.
    pub why: String,
    /// Services that were said to need capacity in any of its windows.
    pub scale_outs: Vec<String>,
    /// Why the right service was not named, if it was not.
    pub missed: Option<String>,
    /// What more replicas of the front door would have done, in the window that named the culprit.
    pub front_door: Option<String>,
    /// Whether a rule "above 70 % utilization" would have scaled something out in any of its windows.
    pub above_70_percent: bool,
    /// What rankings by one figure say.
    pub naive: Naive,
}

/// Who has most of one figure, in most windows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Naive {
    /// Most time of its own, uncovered time of its calls included.
    pub self_time: Option<String>,
    /// Highest utilization.
    pub utilization: Option<String>,
    /// Latency grown by the largest factor.
    pub growth: Option<String>,
}

/// Windows without a listed fault.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Calm {
    /// How many were judged.
    pub windows: usize,
    /// How many named any culprit, of whatever kind.
    pub named: usize,
    /// How many would have kept the front door from being scaled for latency.
    pub blocked: usize,
    /// Those that would have led to a scale-out.
    pub alarms: Vec<Alarm>,
    /// Windows in which a rule "above 70 % utilization" would have scaled something out.
    pub above_70_percent: usize,
}

/// A scale-out that no listed fault explains.
#[derive(Clone, Debug, Serialize)]
pub struct Alarm {
    /// When.
    pub at: String,
    /// What for.
    pub service: String,
    /// Utilization of that service, if known. An injection that its list forgot is still a real saturation.
    pub utilization: Option<f64>,
    /// On which figures.
    pub why: String,
}

/// A window and what came before it.
pub(super) struct Look<'w> {
    pub(super) window: &'w Window,
    pub(super) history: &'w [Window],
    /// Learned from the history.
    pub(super) baseline: &'w Baseline,
}

/// Counts votes; the first to reach the most wins.
#[derive(Default)]
struct Votes<'v>(Vec<(&'v str, usize)>);

// === impl Case ===

impl Case {
    /// Judges each window of a case by itself.
    pub(super) fn judged(name: String, fault: &str, service: &str, is_capacity: bool, looks: &[Look<'_>]) -> Self {
        let verdicts: Vec<Verdict> = looks.iter().map(Look::verdict).collect();
        let mut votes = Votes::default();
        for culprit in verdicts.iter().filter_map(Verdict::culprit) {
            votes.add(&culprit.service);
        }
        let said = votes.winner();
        let of_said = || verdicts.iter().filter_map(Verdict::culprit).filter(|cause| Some(&cause.service) == said.as_ref());
        // Capacity outranks what a window at the fault's edge says.
        let cause = of_said().find(|cause| cause.kind == Kind::Capacity).or_else(|| of_said().next());
        let why = cause.map_or_else(|| "nothing over normal".to_owned(), explain);
        let mut scale_outs: Vec<String> = verdicts.iter().flat_map(scaled).map(|cause| cause.service.clone()).collect();
        scale_outs.sort_unstable();
        scale_outs.dedup();
        let kind = cause.map(|cause| cause.kind.as_str());
        let missed = (said.as_deref() != Some(service)).then(|| missed(service, looks));
        let is_of_said = |verdict: &Verdict| verdict.culprit().is_some_and(|cause| Some(&cause.service) == said.as_ref());
        let naming = verdicts.iter().zip(looks).find(|(verdict, _)| is_of_said(verdict));
        Self {
            name,
            fault: fault.to_owned(),
            service: service.to_owned(),
            is_capacity,
            kind,
            why,
            scale_outs,
            missed,
            front_door: naming.and_then(|(verdict, look)| look.front_door(verdict)),
            above_70_percent: looks.iter().any(|look| look.is_above_70_percent()),
            naive: Naive::of(looks),
            said,
        }
    }

    /// Whether the right service was named.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.said.as_deref() == Some(&self.service)
    }

    /// Scale-outs that would not have helped.
    #[must_use]
    pub fn wrong_scale_outs(&self) -> usize {
        self.scale_outs.iter().filter(|service| !(self.is_capacity && **service == self.service)).count()
    }
}

// === impl Calm ===

impl Calm {
    pub(super) fn add(&mut self, at: impl Fn() -> String, look: &Look<'_>) {
        let verdict = look.verdict();
        self.windows += 1;
        self.named += usize::from(verdict.culprit().is_some());
        self.blocked += usize::from(look.front_door(&verdict).is_some_and(|said| said.contains(" not help")));
        self.above_70_percent += usize::from(look.is_above_70_percent());
        let alarm = |cause: &Cause| Alarm { at: at(), service: cause.service.clone(), utilization: cause.utilization, why: explain(cause) };
        self.alarms.extend(scaled(&verdict).map(alarm));
    }
}

// === impl Look ===

impl Look<'_> {
    pub(super) fn verdict(&self) -> Verdict {
        judge(self.window, self.baseline)
    }

    fn is_above_70_percent(&self) -> bool {
        self.window.services.iter().any(|service| service.utilization.is_some_and(|utilization| utilization > 0.7))
    }

    /// What is said of the service with the most requests that nobody calls.
    fn front_door(&self, verdict: &Verdict) -> Option<String> {
        let is_entry = |service: &&Service| !self.window.edges.iter().any(|edge| edge.server == service.name);
        let entries = self.window.services.iter().filter(is_entry);
        let front = entries.max_by(|a, b| a.requests.total_cmp(&b.requests))?;
        Some(match verdict.would_help(&front.name) {
            Help::Yes => format!("more {} would help", front.name),
            Help::No { blocked_by } => format!("more {} would not help: {blocked_by}", front.name),
            Help::Unknown => return None,
        })
    }

    fn largest(&self, figure: impl Fn(&Service) -> Option<f64>) -> Option<&str> {
        let known = self.window.services.iter().filter_map(|service| Some((service, figure(service)?)));
        known.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(service, _)| service.name.as_str())
    }

    fn growth(&self, name: &str) -> Option<f64> {
        let sojourn = |window: &Window| window.service(name).and_then(|service| service.sojourn);
        let usual = Normal::of(self.history.iter().filter_map(sojourn))?;
        (usual.median > 0.0).then_some(sojourn(self.window)? / usual.median)
    }

    fn own_time(&self, service: &Service) -> Option<f64> {
        let out = self.window.edges.iter().filter(|edge| edge.client == service.name);
        let uncovered: f64 = out.filter_map(|edge| Some(edge.mean_wait()? * edge.calls)).sum();
        Some(self.window.self_time(service)? * service.requests + uncovered)
    }
}

// === impl Naive ===

impl Naive {
    fn of(looks: &[Look<'_>]) -> Self {
        let (mut self_time, mut utilization, mut growth) = (Votes::default(), Votes::default(), Votes::default());
        for look in looks {
            self_time.extend(look.largest(|service| look.own_time(service)));
            utilization.extend(look.largest(|service| service.utilization));
            growth.extend(look.largest(|service| look.growth(&service.name)));
        }
        Self { self_time: self_time.winner(), utilization: utilization.winner(), growth: growth.winner() }
    }
}

// === impl Votes ===

impl<'v> Votes<'v> {
    fn add(&mut self, name: &'v str) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => self.0.push((name, 1)),
        }
    }

    fn extend(&mut self, name: Option<&'v str>) {
        if let Some(name) = name {
            self.add(name);
        }
    }

    fn winner(&self) -> Option<String> {
        let most = self.0.iter().map(|(_, count)| *count).max()?;
        self.0.iter().find(|(_, count)| *count == most).map(|(name, _)| (*name).to_owned())
    }
}

fn scaled(verdict: &Verdict) -> impl Iterator<Item = &Cause> {
    verdict.causes.iter().filter(|cause| cause.kind == Kind::Capacity)
}

/// The most that was seen of a service that was not named.
fn missed(service: &str, looks: &[Look<'_>]) -> String {
    let rows = || looks.iter().filter_map(|look| look.window.service(service));
    if rows().next().is_none() {
        return "it has no figures".to_owned();
    }
    let requests = rows().map(|row| row.requests).fold(0.0, f64::max);
    let utilization = rows().filter_map(|row| row.utilization).reduce(f64::max);
    let growth = looks.iter().filter_map(|look| look.growth(service)).reduce(f64::max);
    let or_unknown = |figure: Option<f64>| figure.map_or_else(|| "unknown".to_owned(), |figure| format!("{figure:.2}"));
    format!("of it at most: {requests:.0} requests in a window, utilization {}, latency × {}", or_unknown(utilization), or_unknown(growth))
}

/// The figures behind a cause.
fn explain(cause: &Cause) -> String {
    let utilization = cause.utilization.map_or_else(|| "utilization unknown".to_owned(), |share| format!("utilization {share:.2}"));
    if cause.added <= 0.0 {
        return format!("saturated, {utilization}, no measurable delay");
    }
    let (added, share, queue) = (cause.added, 100.0 * cause.share, 100.0 * cause.queue_share);
    format!("{utilization}, {added:.1} s added in the window, {share:.0} % of a caller's time, {queue:.0} % of it in front")
}
