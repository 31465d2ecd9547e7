//! Setting CPU and memory of each replica: in the running pods where that is possible, else in the template they are made from.
//!
//! ```text
//! GET scale ─▶ LIST pods by its selector ─▶ held by another? ─▶ Contested
//!     └─▶ PATCH pods/resize, pod by pod (strategic merge, resourceVersion) ─▶ LIST pods: read back
//!             └─▶ no such subresource, refused, or infeasible on its machine ─▶ PATCH the workload's pod template (a rollout)
//! ```
//!
//! A resize in place is not kept in the template: pods that start later ask for what the template says. They are counted by
//! `Observed::differing`, so that the decider gives its order again.

use serde_json::{Value, json};
use tracescale_core::capacity::Resources;

use crate::kubernetes::pods::{self, Container, Obstacle, Parsed, Pod};
use crate::kubernetes::wire::{Call, Verb};
use crate::kubernetes::{Failure, Kubernetes, Located, Problem, Scale};
use crate::{ApplyContext, Outcome, ResizeOutcome, ResizeWay, SinkErrorKind};

/// Attempts while somebody else writes the same objects; the machine's agent writes the status of a pod often.
const ATTEMPTS: u32 = 5;
/// Pods asked for at once, and pages read of them at most.
const PAGE: (&str, u32) = ("500", 20);
/// Pods resized by one call. The rest follows with the next: a call must end before its decision is forgotten.
const PODS: usize = 100;

/// How an attempt in place ended, when it did not fail.
enum InPlace {
    /// All pods, and the names of those that are left for the next call.
    Done { pods: Vec<Pod>, left: Vec<String> },
    /// It cannot be done so, and why.
    Impossible(String),
    /// Somebody wrote between our read and ours.
    Conflict { problem: Problem, progress: bool },
}

// === impl Kubernetes ===

impl Kubernetes {
    /// Brings every replica to ask for `desired`, and adds to `outcome` what came of it.
    pub(super) async fn resize(
        &self,
        located: &Located<'_>,
        desired: Resources,
        context: &ApplyContext,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let scale = self.read_scale(located).await?;
        let (mut found, mut attempts) = (None, 0);
        loop {
            let pods = self.pods(located, &scale).await?;
            let asked = pods::majority(pods.iter().map(|pod| pod.container.asked.only(desired)));
            // As it was before the first write, also when a conflict makes us look again.
            let before = *found.get_or_insert(asked.map(|(most, _)| most).unwrap_or_default());
            let reason = match self.in_place(located, &pods, desired, context, outcome).await? {
                InPlace::Done { pods: written, left } => {
                    let read = if outcome.changed { self.pods(located, &scale).await } else { Ok(Vec::new()) };
                    let after = match read {
                        Ok(read) if outcome.changed => read,
                        Ok(_) => written,
                        // The write is known to be done; failing now would hide that.
                        Err((_, problem)) => {
                            outcome.warnings.push(format!("not read back: {problem}"));
                            written
                        }
                    };
                    outcome.resized = Some(in_effect(&after, &left, before, desired, outcome));
                    outcome.at = (self.clock)();
                    return Ok(());
                }
                InPlace::Impossible(reason) => reason,
                InPlace::Conflict { problem, progress } => {
                    outcome.conflicts += 1;
                    attempts = if progress { 1 } else { attempts + 1 };
                    if attempts == ATTEMPTS {
                        return Err((SinkErrorKind::Conflict, problem));
                    }
                    continue;
                }
            };
            outcome.warnings.push(format!("not in place ({reason}): the pod template is set, which replaces the pods"));
            return self.set_template(located, desired, context, outcome).await;
        }
    }

    /// The running pods behind a scale; none when it does not say which they are.
    pub(super) async fn pods(&self, located: &Located<'_>, scale: &Scale) -> Result<Vec<Pod>, Failure> {
        let Some(selector) = scale.status.selector.as_deref().filter(|selector| !selector.is_empty()) else { return Ok(Vec::new()) };
        let reference = located.reference;
        let mut pods = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGE.1 {
            let mut call = Call::new(Verb::List, "v1", "pods", Some(&reference.namespace), None)
                .with_query("labelSelector", selector)
                .with_query("limit", PAGE.0);
            if let Some(token) = &next {
                call = call.with_query("continue", token);
            }
            let answer = call.send(&located.client, self.options.timeout).await?;
            let (page, token) =
                pods::parse(answer.body, reference.container.as_deref(), &reference.name).map_err(|wrong| wrong.of(&call))?;
            pods.extend(page);
            next = token;
            if next.is_none() {
                break;
            }
        }
        Ok(pods)
    }

    async fn in_place(
        &self,
        located: &Located<'_>,
        pods: &[Pod],
        desired: Resources,
        context: &ApplyContext,
        outcome: &mut Outcome,
    ) -> Result<InPlace, Failure> {
        if pods.is_empty() {
            return Ok(InPlace::Impossible("no pod is running".to_owned()));
        }
        if let Some(pod) = pods.iter().find(|pod| pod.obstacle == Some(Obstacle::Infeasible) && pod.container.asks_for(desired)) {
            return Ok(InPlace::Impossible(format!("pod {} has no room for it on its machine", pod.name)));
        }
        let rival = pods.iter().filter(|pod| !pod.container.asks_for(desired)).find_map(|pod| pod.rival.as_ref());
        if let Some(rival) = rival.filter(|_| !context.take_over) {
            let by = format!("field manager {rival}");
            return Err((SinkErrorKind::Contested { by: by.clone() }, Problem::ResourcesContested { by }));
        }
        let (mut written, mut progress) = (pods.to_vec(), false);
        let left = pods.iter().filter(|pod| !pod.container.asks_for(desired)).skip(PODS).map(|pod| pod.name.clone()).collect();
        for pod in written.iter_mut().filter(|pod| !pod.container.asks_for(desired)).take(PODS) {
            let body = json!({
                "metadata": {"resourceVersion": pod.version},
                "spec": {"containers": pod.container.patch(desired)},
            });
            let call = Call::new(Verb::Patch, "v1", "pods/resize", Some(&located.reference.namespace), Some(&pod.name));
            match dry(call, context).with_strategic_body(body).send(&located.client, self.options.timeout).await {
                Ok(answer) => {
                    progress = true;
                    outcome.changed |= !context.dry_run;
                    pod.container.asked = desired.or(pod.container.asked);
                    outcome.warnings.extend(answer.warnings);
                }
                Err((SinkErrorKind::Conflict, problem)) => return Ok(InPlace::Conflict { problem, progress }),
                Err((_, problem)) if problem.is_no_resize() => return Ok(InPlace::Impossible(problem.to_string())),
                // The pod has ended meanwhile; its successor is met with the next order.
                Err((SinkErrorKind::NotFound, _)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(InPlace::Done { pods: written, left })
    }

    async fn set_template(
        &self,
        located: &Located<'_>,
        desired: Resources,
        context: &ApplyContext,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let reference = located.reference;
        // Only the built-in kinds merge lists by name; on others the same patch would replace the containers.
        if reference.api_version != "apps/v1" {
            let (api_version, kind) = (reference.api_version.clone(), reference.kind.clone());
            return Err((SinkErrorKind::Invalid, Problem::NoTemplate { api_version, kind }));
        }
        let replicas = outcome.confirmed;
        loop {
            let (container, version) = self.read_template(located).await?;
            let before = container.asked.only(desired);
            let done = |confirmed: Resources| ResizeOutcome {
                before,
                requested: desired,
                confirmed: confirmed.only(desired),
                way: ResizeWay::Template,
                in_effect: 0,
                replicas,
            };
            if container.asks_for(desired) {
                outcome.resized = Some(done(container.asked));
                return Ok(());
            }
            let body = json!({
                "metadata": {"resourceVersion": version},
                "spec": {"template": {"spec": {"containers": container.patch(desired)}}},
            });
            let call = dry(located.call(Verb::Patch, ""), context).with_strategic_body(body);
            match call.send(&located.client, self.options.timeout).await {
                Ok(answer) => {
                    let stored = self.container_of(located, &call, &answer.body)?;
                    outcome.resized = Some(done(stored.asked));
                    outcome.warnings.extend(answer.warnings);
                }
                Err((SinkErrorKind::Conflict, problem)) => {
                    outcome.conflicts += 1;
                    if outcome.conflicts >= ATTEMPTS {
                        return Err((SinkErrorKind::Conflict, problem));
                    }
                    continue;
                }
                Err(failure) => return Err(failure),
            }
            if !context.dry_run {
                outcome.changed = true;
                match self.read_template(located).await {
                    Ok((read, _)) => {
                        outcome.resized = outcome.resized.take().map(|done| ResizeOutcome { confirmed: read.asked.only(desired), ..done })
                    }
                    // The write is known to be done; failing now would hide that.
                    Err((_, problem)) => outcome.warnings.push(format!("not read back: {problem}")),
                }
                outcome.at = (self.clock)();
            }
            return Ok(());
        }
    }

    /// The container of the pod template, and the object's version.
    async fn read_template(&self, located: &Located<'_>) -> Result<(Container, String), Failure> {
        let call = located.call(Verb::Get, "");
        let answer = call.send(&located.client, self.options.timeout).await?;
        let container = self.container_of(located, &call, &answer.body)?;
        Ok((container, answer.body["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()))
    }

    #[expect(clippy::unused_self, reason = "reads like its siblings")]
    fn container_of(&self, located: &Located<'_>, call: &Call, object: &Value) -> Result<Container, Failure> {
        let reference = located.reference;
        pods::template(object, reference.container.as_deref(), &reference.name).map_err(|wrong| wrong.of(call))
    }

    /// What new replicas will ask for; nothing when the object was not read, or which container is meant is not clear.
    #[expect(clippy::unused_self, reason = "reads like its siblings")]
    pub(super) fn template_of(&self, located: &Located<'_>, object: &Value) -> Resources {
        let reference = located.reference;
        let template = pods::template(object, reference.container.as_deref(), &reference.name);
        template.map_or(Resources::NONE, |container| container.asked)
    }

    /// What most replicas have, and how many have something else: of the pods when they are read, else of the template.
    pub(super) async fn observe_resources(
        &self,
        located: &Located<'_>,
        scale: &Scale,
        template: Resources,
    ) -> Result<(Resources, u32), Failure> {
        if !self.options.read_resources {
            return Ok((template, 0));
        }
        match self.pods(located, scale).await {
            Ok(pods) => Ok(pods::majority(pods.iter().map(Pod::shown)).unwrap_or((template, 0))),
            // Counting replicas needs neither the right to read pods nor a container that is clear. Where we may not read
            // pods we have not resized any, so the template tells.
            Err((SinkErrorKind::Denied | SinkErrorKind::Invalid, problem)) => {
                tracing::debug!(name = located.reference.name, error = %problem, "resources of pods are unknown");
                Ok((template, 0))
            }
            Err(failure) => Err(failure),
        }
    }
}

fn dry(call: Call, context: &ApplyContext) -> Call {
    if context.dry_run { call.with_query("dryRun", "All") } else { call }
}

/// What the pods say after a resize in place. Those that are left for the next call do not speak for what was accepted.
fn in_effect(pods: &[Pod], left: &[String], before: Resources, desired: Resources, outcome: &mut Outcome) -> ResizeOutcome {
    let count = |wanted: &dyn Fn(&Pod) -> bool| u32::try_from(pods.iter().filter(|pod| wanted(pod)).count()).unwrap_or(u32::MAX);
    for (obstacle, words) in [
        (Obstacle::Deferred, "wait for room on their machines"),
        (Obstacle::Infeasible, "have no room on their machines"),
        (Obstacle::Failed, "could not be resized by their machines"),
    ] {
        let met = count(&|pod| pod.obstacle == Some(obstacle));
        if met > 0 {
            outcome.warnings.push(format!("{met} of {} pods {words}", pods.len()));
        }
    }
    let met = pods.iter().filter(|pod| !left.contains(&pod.name));
    let asked = pods::majority(met.map(|pod| pod.container.asked.only(desired)));
    if !left.is_empty() {
        outcome.warnings.push(format!("{} of {} pods are left for the next call", left.len(), pods.len()));
    }
    if let Some((_, differing)) = asked.filter(|(_, differing)| *differing > 0) {
        outcome.warnings.push(format!("{differing} of {} pods ask for something else", pods.len()));
    }
    ResizeOutcome {
        before,
        requested: desired,
        confirmed: asked.map(|(most, _)| most).unwrap_or_default(),
        way: ResizeWay::InPlace,
        in_effect: count(&|pod| pod.shown().only(desired) == desired),
        replicas: count(&|_| true),
    }
}

// === impl Parsed ===

impl Parsed {
    fn of(self, call: &Call) -> Failure {
        match self {
            Self::Malformed(source) => (SinkErrorKind::Unavailable, call.malformed(source)),
            Self::Container(problem) => (SinkErrorKind::Invalid, problem),
        }
    }
}
