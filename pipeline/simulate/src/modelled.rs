//! tracescale in the simulator: windows of spans as late as they are in production, the planner, and the decider with its guards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tracescale_core::capacity::{Observed, Resources};
use tracescale_core::decide::{Applied, Decider, Demand, Evidence, Presence, Proposal};
use tracescale_core::name::NameError;
use tracescale_core::policy::{Mode, Policy as Guards, PolicyError, PolicySpec, RuleName, RuleRef};
use tracescale_core::target::{ServiceSelector, TargetName, TargetSpec};
use tracescale_core::time::Timestamp;
use tracescale_models::control::{Plan, Planner, Starting, Supply, Window};

use crate::plant::Phase;
use crate::policy::{Policy, Telemetry};
use crate::score::MINUTE_REQUESTS_MIN;
use crate::world::Objective;

/// Length of a window,
const WINDOW: Duration = Duration::from_secs(15);
/// and of its slide.
const SLIDE: Duration = Duration::from_secs(5);
/// Age of the newest final window when a rule is evaluated: what batching, transport and lateness take.
const PIPELINE_DELAY: Duration = Duration::from_secs(10);
/// How often it looks whether a window became final: rules run when one does.
const LOOK: Duration = Duration::from_secs(5);
/// Windows that are caught up with at most after a pause; older ones are a gap.
const WINDOWS_MOST: u32 = 120;
/// Replicas whose start was seen that are remembered at most.
const STARTED_MOST: usize = 100_000;

/// An autoscaler of one service that plans by model.
#[derive(Clone, Debug)]
pub struct Modelled {
    planner: Planner,
    decider: Decider,
    target: TargetSpec,
    rule: RuleRef,
    /// End of the newest window that the planner saw.
    seen_until: Option<Timestamp>,
    /// Numbers of the replicas whose start was told to the planner.
    started: BTreeSet<u64>,
    /// When it first looked: replicas that were there before did not start.
    since: Option<Timestamp>,
    last: Option<Plan>,
    promise: Objective,
    minute: Minute,
}

/// Requests of the minute that is being counted, as they become visible.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    until: Option<Timestamp>,
    requests: f64,
    over: f64,
    looks: u32,
}

/// Why there is no such autoscaler.
#[derive(Debug, thiserror::Error)]
pub enum ModelledError {
    /// The guards contradict each other.
    #[error("the policy document is not valid: {0}; hint: start from `Modelled::document`")]
    Policy(#[from] PolicyError),
    /// A name is none.
    #[error("a name of the simulated target is not valid: {0}")]
    Name(#[from] NameError),
}

// === impl Modelled ===

impl Modelled {
    /// A planner behind guards, for a promise of latency. What the planner already knows is history.
    ///
    /// # Errors
    /// When the policy is not valid.
    pub fn new(planner: Planner, document: PolicySpec, promise: Objective) -> Result<Self, ModelledError> {
        let name = TargetName::try_new("service")?;
        let target = TargetSpec::in_memory(name, ServiceSelector { service_name: "service".to_owned(), service_namespace: None }, 1);
        let name = RuleName::try_new("model")?;
        let rule = RuleRef { name, mode: Mode::Enforce, every: SLIDE, policy: Arc::new(Guards::try_new(document)?) };
        Ok(Self {
            planner,
            decider: Decider::new(),
            target,
            rule,
            seen_until: None,
            started: BTreeSet::new(),
            since: None,
            last: None,
            promise,
            minute: Minute::default(),
        })
    }

    /// The guards that suit a plan, which already looks ahead and has a price for being wrong: the defaults, but no tolerance,
    /// and a minute of stabilization instead of five.
    #[must_use]
    pub fn document(min: u32, max: u32) -> PolicySpec {
        let mut document = PolicySpec { min, max, tolerance: 0.0, ..PolicySpec::default() };
        document.scale_down.stabilization_window = Duration::from_secs(60);
        document
    }

    /// Other guards from now on; everything learned and remembered stays.
    ///
    /// # Errors
    /// When the policy is not valid.
    pub fn set_document(&mut self, document: PolicySpec) -> Result<(), ModelledError> {
        self.rule.policy = Arc::new(Guards::try_new(document)?);
        Ok(())
    }

    /// The planner, to change its price.
    pub fn planner_mut(&mut self) -> &mut Planner {
        &mut self.planner
    }

    /// The last plan.
    #[must_use]
    pub fn last_plan(&self) -> Option<&Plan> {
        self.last.as_ref()
    }

    /// Shows the planner all windows that became visible, and the starts of replicas.
    fn observe(&mut self, now: Timestamp, seen: &Telemetry) {
        let visible = (now - PIPELINE_DELAY).floor(SLIDE);
        let oldest = visible - SLIDE * WINDOWS_MOST;
        let mut end = self.seen_until.map_or(visible, |seen| seen + SLIDE).max(oldest);
        while end <= visible {
            if let Some(means) = seen.over(end - WINDOW, end) {
                let done = means.completion_rate;
                self.planner.observe(&Window {
                    end: seconds(end),
                    arrival_rate: Some(means.arrival_rate),
                    completion_rate: Some(done),
                    // Without pauses inside of requests, CPU per request is the time that spans show for lone requests.
                    service_time: (done > 0.0).then(|| means.cpu / done),
                    // More than come within the promised latency cannot all be answered within it.
                    backlog: Some((means.concurrency - means.arrival_rate * self.promise.latency).max(0.0)),
                    violated: if end == visible { self.minute.take(self.promise.quantile) } else { None },
                    announced: None,
                    bias: None,
                });
            }
            self.seen_until = Some(end);
            end = end + SLIDE;
        }
        let since = *self.since.get_or_insert(now);
        for group in seen.replicas() {
            let Some(ready_at) = group.ready_at.filter(|_| group.phase == Phase::Ready && group.created_at > since) else { continue };
            for number in group.first..group.first + u64::from(group.count) {
                if self.started.len() < STARTED_MOST && self.started.insert(number) {
                    self.planner.started(ready_at.since(group.created_at).as_secs_f64());
                }
            }
        }
    }

    /// What a rule would return for the plan.
    fn proposal(&self, now: Timestamp, plan: &Plan, samples: f64) -> Proposal {
        let evidence = Evidence {
            window_end: self.seen_until,
            is_final: Some(true),
            n_eff: Some(samples),
            confidence: Some(1.0 - plan.shortage),
            completeness: Some(1.0),
            age_seconds: self.seen_until.map(|end| now.since(end).as_secs_f64()),
            presence: Some(if plan.level > 0.0 { Presence::Active } else { Presence::Idle }),
            ..Evidence::default()
        };
        Proposal { rule: self.rule.name.clone(), evaluated_at: now, demand: Demand::Replicas(f64::from(plan.replicas)), evidence }
    }
}

// === impl Minute ===

impl Minute {
    /// Counts what became visible since the last look.
    fn count(&mut self, visible: Timestamp, seen: &Telemetry) {
        let Some(newest) = seen.latest(visible).filter(|newest| self.until.is_none_or(|until| newest.until > until)) else { return };
        self.until = Some(newest.until);
        self.looks += 1;
        self.requests += newest.arrivals;
        self.over += newest.arrivals * newest.latency.map_or(0.0, |latency| latency.over);
    }

    /// Whether the promise was broken, once a minute was counted; then begins anew.
    fn take(&mut self, quantile: f64) -> Option<bool> {
        if LOOK * self.looks < Duration::from_secs(60) {
            return None;
        }
        let counted = std::mem::replace(self, Self { until: self.until, ..Self::default() });
        (counted.requests >= MINUTE_REQUESTS_MIN).then_some(counted.over > (1.0 - quantile) * counted.requests)
    }
}

impl Policy for Modelled {
    fn name(&self) -> String {
        "tracescale".to_owned()
    }

    fn interval(&self) -> Duration {
        LOOK
    }

    fn tick(&mut self, now: Timestamp, seen: &Telemetry) -> Option<u32> {
        self.minute.count(now - PIPELINE_DELAY, seen);
        if self.seen_until.is_some_and(|until| (now - PIPELINE_DELAY).floor(SLIDE) <= until) {
            return None;
        }
        self.observe(now, seen);
        let plan = self.planner.plan(&supply(now, seen))?;
        // A minute of samples, as rules count them.
        let proposal = self.proposal(now, &plan, (plan.level * 60.0).max(30.0));
        self.last = Some(plan);
        let observed = Ok(Observed {
            desired: seen.desired(),
            ready: Some(seen.ready()),
            observed_at: now,
            generation: None,
            resources: Resources::default(),
            differing: 0,
            template: Resources::default(),
        });
        let decision = self.decider.decide(now, &self.target, &observed, std::slice::from_ref(&self.rule), &[proposal]);
        let order = decision.order()?;
        self.decider.applied(now, &self.target.name, Applied::Done { replicas: order });
        Some(order)
    }
}

/// Replicas as the planner counts them.
fn supply(now: Timestamp, seen: &Telemetry) -> Supply {
    let mut supply = Supply::default();
    for group in seen.replicas() {
        match group.phase {
            Phase::Ready => supply.ready += group.count,
            Phase::Starting => supply.starting.push(Starting { count: group.count, age: now.since(group.created_at).as_secs_f64() }),
            Phase::Draining => supply.draining += group.count,
        }
    }
    supply
}

/// Seconds since the epoch.
fn seconds(time: Timestamp) -> f64 {
    crate::number::seconds(time.as_nanos())
}

#[cfg(test)]
mod tests;
