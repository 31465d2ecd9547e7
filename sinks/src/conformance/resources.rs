//! The part of the suite about CPU and memory of each replica.

use tracescale_core::capacity::{Capacity, Resources};

use super::{Checked, Condition, Made, Subject, context, failed, refused, same};
use crate::{ApplyContext, Outcome, SinkError, SinkErrorKind};

const BEFORE: Resources = Resources { cpu: Some(500), memory: Some(512 << 20), memory_limit: Some(1 << 30) };
const AFTER: Resources = Resources { cpu: Some(250), memory: Some(768 << 20), memory_limit: Some(1 << 30) };

async fn resize(subject: &dyn Subject, resources: Resources, context: &ApplyContext) -> Result<Outcome, SinkError> {
    subject.sink().apply(&subject.target(), Capacity::resources(resources), context).await
}

pub(super) async fn sets(subject: &dyn Subject) -> Checked {
    if !subject.equip(BEFORE).await {
        return Ok(Made::Skipped);
    }
    let observed = subject.sink().observe(&subject.target()).await.map_err(failed)?;
    same("resources before", (observed.resources, observed.differing), (BEFORE, 0))?;
    let outcome = resize(subject, AFTER, &context()).await.map_err(failed)?;
    same("outcome", (outcome.changed, outcome.is_confirmed()), (true, true))?;
    let resized = outcome.resized.ok_or("the outcome says nothing of resources")?;
    same("resized", (resized.before, resized.requested, resized.confirmed), (BEFORE, AFTER, AFTER))?;
    same("stored", subject.equipped().await, AFTER)?;
    let observed = subject.sink().observe(&subject.target()).await.map_err(failed)?;
    same("observed", (observed.resources, observed.differing), (AFTER, 0))?;
    Ok(Made::Yes)
}

pub(super) async fn leaves_alone(subject: &dyn Subject) -> Checked {
    if !subject.equip(BEFORE).await {
        return Ok(Made::Skipped);
    }
    let only_cpu = Resources { cpu: Some(250), ..Resources::NONE };
    let outcome = resize(subject, only_cpu, &context()).await.map_err(failed)?;
    same("replicas", (outcome.before, outcome.requested, outcome.confirmed, subject.stored().await), (2, 2, 2, 2))?;
    same("stored", subject.equipped().await, Resources { cpu: Some(250), ..BEFORE })?;
    let outcome = subject.sink().apply(&subject.target(), Capacity::replicas(3), &context()).await.map_err(failed)?;
    same("nothing of resources", outcome.resized, None)?;
    same("stored", (subject.stored().await, subject.equipped().await), (3, Resources { cpu: Some(250), ..BEFORE }))?;
    Ok(Made::Yes)
}

pub(super) async fn repeats(subject: &dyn Subject) -> Checked {
    if !subject.equip(BEFORE).await {
        return Ok(Made::Skipped);
    }
    resize(subject, AFTER, &context()).await.map_err(failed)?;
    for condition in [Condition::Rival, Condition::Denied] {
        if !subject.arrange(condition).await {
            return Ok(Made::Skipped);
        }
        let again = resize(subject, AFTER, &context()).await.map_err(failed)?;
        same("outcome", (again.changed, again.is_confirmed()), (false, true))?;
    }
    Ok(Made::Yes)
}

pub(super) async fn dry_run(subject: &dyn Subject) -> Checked {
    if !subject.equip(BEFORE).await {
        return Ok(Made::Skipped);
    }
    let outcome = resize(subject, AFTER, &ApplyContext { dry_run: true, ..context() }).await.map_err(failed)?;
    let confirmed = outcome.resized.map(|resized| resized.confirmed);
    same("outcome", (outcome.changed, confirmed), (false, Some(AFTER)))?;
    same("stored", subject.equipped().await, BEFORE)?;
    Ok(Made::Yes)
}

pub(super) async fn denied(subject: &dyn Subject) -> Checked {
    if !subject.equip(BEFORE).await || !subject.arrange(Condition::Denied).await {
        return Ok(Made::Skipped);
    }
    let error = refused(resize(subject, AFTER, &context()).await.err(), &SinkErrorKind::Denied)?;
    same("retryable", error.is_retryable(), false)?;
    same("stored", subject.equipped().await, BEFORE)?;
    Ok(Made::Yes)
}

pub(super) async fn rival(subject: &dyn Subject) -> Checked {
    if !subject.equip(BEFORE).await || !subject.arrange(Condition::Rival).await {
        return Ok(Made::Skipped);
    }
    match resize(subject, AFTER, &context()).await.map_err(|error| error.kind) {
        Err(SinkErrorKind::Contested { by }) if !by.is_empty() => {}
        other => return Err(format!("expected a refusal that names the rival, got {other:?}")),
    }
    same("stored", subject.equipped().await, BEFORE)?;
    let outcome = resize(subject, AFTER, &ApplyContext { take_over: true, ..context() }).await.map_err(failed)?;
    same("overruled", (outcome.changed, outcome.is_confirmed()), (true, true))?;
    Ok(Made::Yes)
}

pub(super) async fn conflict(subject: &dyn Subject) -> Checked {
    if !subject.equip(BEFORE).await || !subject.arrange(Condition::Conflicts(1)).await {
        return Ok(Made::Skipped);
    }
    let outcome = resize(subject, AFTER, &context()).await.map_err(failed)?;
    same("outcome, conflicts counted", (outcome.changed, outcome.is_confirmed(), outcome.conflicts > 0), (true, true, true))?;
    same("stored", subject.equipped().await, AFTER)?;
    Ok(Made::Yes)
}
