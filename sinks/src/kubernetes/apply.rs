//! Setting the replicas of an object: compare, look for other hands, write under a precondition, read back.

use std::sync::{Arc, PoisonError};

use serde_json::json;
use tracescale_core::capacity::Capacity;
use tracescale_core::target::KubernetesRef;

use crate::kubernetes::contest::{AUTOSCALERS_EXPIRY, Autoscaler, Ownership, Verdict};
use crate::kubernetes::wire::{Call, Verb};
use crate::kubernetes::{Failure, Kubernetes, Located, Problem, Scale};
use crate::{ApplyContext, Outcome, SinkErrorKind};

/// Attempts at one write. Each conflict means that somebody wrote the object within milliseconds; its own controller writes
/// the status that often during a rollout.
const ATTEMPTS: u32 = 5;
/// Autoscalers asked for at once, and pages read of them at most.
const PAGE: (&str, u32) = ("500", 20);
/// Namespaces whose autoscalers are remembered.
const PLACES: usize = 4096;

// === impl Kubernetes ===

impl Kubernetes {
    pub(super) async fn apply(&self, reference: &KubernetesRef, desired: Capacity, context: &ApplyContext) -> Result<Outcome, Failure> {
        let located = self.locate(reference).await?;
        let mut outcome = match desired.replicas {
            Some(replicas) => self.set_replicas(&located, replicas, context).await?,
            None => {
                let found = self.read_scale(&located).await?.spec.replicas;
                self.outcome(found, found, found, 0)
            }
        };
        if !desired.resources.is_empty() {
            self.resize(&located, desired.resources, context, &mut outcome).await?;
        }
        Ok(outcome)
    }

    async fn set_replicas(&self, located: &Located<'_>, desired: u32, context: &ApplyContext) -> Result<Outcome, Failure> {
        let mut conflicts = 0;
        loop {
            let scale = self.read_scale(located).await?;
            if scale.spec.replicas == desired {
                return Ok(self.outcome(desired, desired, desired, conflicts));
            }
            let notes = if context.take_over { Vec::new() } else { self.look_for_others(located, &scale).await? };
            match self.write(located, &scale, desired, context).await {
                Ok(mut outcome) => {
                    outcome.conflicts = conflicts;
                    outcome.warnings.extend(notes);
                    return Ok(outcome);
                }
                Err((SinkErrorKind::Conflict, problem)) => {
                    conflicts += 1;
                    if conflicts == ATTEMPTS {
                        return Err((SinkErrorKind::Conflict, problem));
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn outcome(&self, before: u32, requested: u32, confirmed: u32, conflicts: u32) -> Outcome {
        Outcome { before, requested, confirmed, changed: false, conflicts, warnings: Vec::new(), at: (self.clock)(), resized: None }
    }

    async fn write(&self, located: &Located<'_>, scale: &Scale, desired: u32, context: &ApplyContext) -> Result<Outcome, Failure> {
        let mut call = located.call(Verb::Patch, "/scale");
        if context.dry_run {
            call = call.with_query("dryRun", "All");
        }
        // Without a version the server would take the patch whatever happened since our read.
        let call = call.with_body(json!({
            "metadata": {"resourceVersion": scale.metadata.resource_version},
            "spec": {"replicas": desired},
        }));
        let answer = call.send(&located.client, self.options.timeout).await?;
        let written = self.parse_scale(located, &call, answer.body)?;
        let mut outcome = self.outcome(scale.spec.replicas, desired, written.spec.replicas, 0);
        outcome.warnings = answer.warnings;
        if context.dry_run {
            return Ok(outcome);
        }
        outcome.changed = true;
        self.contests.wrote(located.reference, outcome.at);
        match self.read_scale(located).await {
            Ok(read) => outcome.confirmed = read.spec.replicas,
            // The write is known to be done; failing now would hide that.
            Err((_, problem)) => outcome.warnings.push(format!("not read back: {problem}")),
        }
        if outcome.confirmed != desired {
            let note =
                format!("asked for {desired} replicas, found {}: an admission webhook or another writer changed it", outcome.confirmed);
            outcome.warnings.push(note);
        }
        outcome.at = (self.clock)();
        tracing::debug!(
            decision = context.decision,
            namespace = located.reference.namespace,
            name = located.reference.name,
            before = outcome.before,
            confirmed = outcome.confirmed,
            "replicas set"
        );
        Ok(outcome)
    }

    /// Refuses when somebody else holds the replicas; returns what is worth saying.
    async fn look_for_others(&self, located: &Located<'_>, scale: &Scale) -> Result<Vec<String>, Failure> {
        let reference = located.reference;
        let autoscalers = self.autoscalers(located).await?;
        if let Some(found) = autoscalers.iter().find(|autoscaler| autoscaler.acts_on(reference)) {
            return Err(contested(format!("HorizontalPodAutoscaler {}/{}", reference.namespace, found.name), String::new()));
        }
        let call = located.call(Verb::Get, "").metadata_only();
        let answer = call.send(&located.client, self.options.timeout).await?;
        let ownership: Ownership = serde_json::from_value(answer.body["metadata"].clone())
            .map_err(|source| (SinkErrorKind::Unavailable, call.malformed(source)))?;
        match self.contests.judge(reference, &ownership, scale.spec.replicas, self.options.yield_for, (self.clock)()) {
            Verdict::Free(notes) => Ok(notes),
            Verdict::Held { by, for_another } => {
                let until =
                    for_another.map_or_else(String::new, |left| format!(" and is left alone for another {} s", left.as_secs().max(1)));
                Err(contested(by, until))
            }
        }
    }

    async fn autoscalers(&self, located: &Located<'_>) -> Result<Arc<Vec<Autoscaler>>, Failure> {
        let namespace = &located.reference.namespace;
        let place = (located.reference.context.clone(), namespace.clone());
        let now = (self.clock)();
        let known = self.autoscalers.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        if let Some((read_at, autoscalers)) = known
            && now.since(read_at) < AUTOSCALERS_EXPIRY
        {
            return Ok(autoscalers);
        }
        let autoscalers = Arc::new(self.list_autoscalers(located).await?);
        let mut places = self.autoscalers.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= PLACES {
            places.clear();
        }
        places.insert(place, (now, Arc::clone(&autoscalers)));
        Ok(autoscalers)
    }

    async fn list_autoscalers(&self, located: &Located<'_>) -> Result<Vec<Autoscaler>, Failure> {
        let mut autoscalers = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGE.1 {
            let namespace = Some(located.reference.namespace.as_str());
            let mut call = Call::new(Verb::List, "autoscaling/v2", "horizontalpodautoscalers", namespace, None).with_query("limit", PAGE.0);
            if let Some(token) = &next {
                call = call.with_query("continue", token);
            }
            let answer = match call.send(&located.client, self.options.timeout).await {
                // A cluster without that group has no autoscaler.
                Err((SinkErrorKind::NotFound, problem)) if problem.is_of_the_path() => break,
                answer => answer?,
            };
            let (page, token) = Autoscaler::parse(answer.body).map_err(|source| (SinkErrorKind::Unavailable, call.malformed(source)))?;
            autoscalers.extend(page);
            if token.is_none() {
                break;
            }
            next = token;
        }
        Ok(autoscalers)
    }
}

fn contested(by: String, until: String) -> Failure {
    (SinkErrorKind::Contested { by: by.clone() }, Problem::Contested { by, until })
}
