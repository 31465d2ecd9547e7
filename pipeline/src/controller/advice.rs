//! What models are told of services: what targets promise, and how long their replicas take to start.

use tracescale_core::decide::Starts;
use tracescale_core::target::{TargetName, TargetSpec};
use tracescale_queries::judgement::{Advice, Capacity, Promise, Startups};

use super::{Controller, Effect, Target};

/// What targets say of their services.
#[must_use]
pub fn of_targets<'a>(targets: impl Iterator<Item = &'a TargetSpec>) -> Advice {
    let mut advice = Advice::default();
    for target in targets {
        let name = (target.service.service_name.clone(), target.service.service_namespace.clone());
        let servers = target.servers.map(|servers| f64::from(servers.get()));
        if let Some(objective) = target.objective {
            let (latency, quantile) = (objective.latency.as_secs_f64(), objective.share());
            let _ = advice.promises.insert(name.clone(), Promise { latency, quantile });
        }
        if let Some(servers) = servers {
            let _ = advice.servers.insert(name.clone(), servers);
        }
        if let Some(workers) = target.workers {
            let _ = advice.workers.insert(name, workers.get());
        }
    }
    advice
}

impl Controller {
    /// What is to be told, when it is something else than before.
    pub(super) fn advise(&mut self) -> Option<Effect> {
        let mut advice = of_targets(self.targets.values().map(|target| &*target.spec));
        for target in self.targets.values() {
            let cpu = target.observed.as_ref().ok().and_then(|observed| observed.resources.cpu);
            if let Some(thousandths) = cpu {
                let service = &target.spec.service;
                #[expect(clippy::cast_precision_loss, reason = "no machine has so many")]
                let cores = thousandths as f64 / 1000.0;
                let _ = advice.cores.insert((service.service_name.clone(), service.service_namespace.clone()), cores);
            }
        }
        // Plans are for services that were promised something.
        for (name, target) in self.targets.iter().filter(|(_, target)| target.spec.objective.is_some()) {
            let service = &target.spec.service;
            if let Some(capacity) = self.capacity(target) {
                let _ = advice.capacities.insert((service.service_name.clone(), service.service_namespace.clone()), capacity);
            }
            if let Some(startups) = self.startups(name) {
                let _ = advice.startups.insert((service.service_name.clone(), service.service_namespace.clone()), startups);
            }
        }
        if advice == self.advised {
            return None;
        }
        self.advised = advice.clone();
        Some(Effect::Advise(Box::new(advice)))
    }

    /// The replicas of a target; `None` while nobody knows them.
    fn capacity(&self, target: &Target) -> Option<Capacity> {
        let observed = target.observed.as_ref().ok()?;
        let orders = self.decider.state(&target.spec.name).map(|state| &state.starts.orders[..]).unwrap_or_default();
        Some(Capacity { desired: observed.desired, ready: observed.ready, ordered_at: orders.last().map(|order| order.at) })
    }

    /// The start-ups of a target's replicas, as its policies say or as they were seen; `None` when nothing is known.
    fn startups(&self, target: &TargetName) -> Option<Startups> {
        let said = self.ruleset.serving(target).filter_map(|edition| edition.spec.policy.spec().control.startup).max();
        if let Some(startup) = said {
            return Some(Startups::said(startup.as_secs_f64()));
        }
        let Starts { seconds, .. } = &self.decider.state(target)?.starts;
        let mut startups = Startups::default();
        seconds.iter().for_each(|seconds| startups.record(f64::from(*seconds)));
        (startups.count() > 0).then_some(startups)
    }
}
