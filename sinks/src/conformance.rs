//! What every sink must do alike, as one suite: a sink that passes can be used by the actuator without a special case.
//!
//! A [`Subject`] lends the suite a target and a second way to it, so that the truth is never learnt from the sink under test.
//! Conditions that a world cannot be brought into are skipped, and named in the [`Report`].

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, join_all};
use tracescale_core::capacity::{Capacity, Resources};
use tracescale_core::target::{KubernetesRef, MemoryRef, TargetRef};
use tracescale_core::time::Timestamp;

use crate::{ActionEvent, ActionKind, ApplyContext, Outcome, ScaleTarget, SinkError, SinkErrorKind};

mod resources;

/// The wait that [`Condition::Throttled`] asks for.
pub const WAIT: Duration = Duration::from_secs(1);

/// A sink under test, with a target in it.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The sink.
    fn sink(&self) -> &dyn ScaleTarget;
    /// A target that exists.
    fn target(&self) -> TargetRef;
    /// A target that does not exist.
    fn missing(&self) -> TargetRef;
    /// Sets the capacity not through the sink, ends all conditions, and forgets rivals.
    async fn reset(&self, replicas: u32);
    /// Reads the capacity not through the sink.
    async fn stored(&self) -> u32;
    /// Sets what each replica asks for not through the sink; false when that cannot be done here.
    async fn equip(&self, resources: Resources) -> bool {
        let _ = resources;
        false
    }
    /// Reads what each replica asks for not through the sink.
    async fn equipped(&self) -> Resources {
        Resources::NONE
    }
    /// Brings the target's world into a condition; false when that cannot be done here.
    async fn arrange(&self, condition: Condition) -> bool;
}

/// A condition of the target's world, until the next [`Subject::reset`] unless it says once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Once: the next call is turned away and asked to wait [`WAIT`].
    Throttled,
    /// Once: the next call finds nobody who could answer it.
    Unavailable,
    /// The next so many writes find that the target has changed since it was read; its capacity has not.
    Conflicts(u32),
    /// Once: the next write is stored as this number.
    Altered(u32),
    /// Writes are refused for a missing right.
    Denied,
    /// Another writer holds the capacity.
    Rival,
}

/// What the suite found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Checks that held.
    pub passed: Vec<&'static str>,
    /// Checks whose condition cannot be arranged here.
    pub skipped: Vec<&'static str>,
    /// Checks that failed, and how.
    pub failed: Vec<(&'static str, String)>,
}

/// Whether a check could be made; an error says how it failed.
type Checked = Result<Made, String>;
type Check = for<'a> fn(&'a dyn Subject) -> BoxFuture<'a, Checked>;

enum Made {
    Yes,
    Skipped,
}

const CHECKS: &[(&str, Check)] = &[
    ("observes what is stored", |subject| Box::pin(observes(subject))),
    ("sets and reads back", |subject| Box::pin(sets(subject))),
    ("a repeated call changes nothing", |subject| Box::pin(repeats(subject))),
    ("capacities are absolute", |subject| Box::pin(is_absolute(subject))),
    ("zero and back", |subject| Box::pin(zero(subject))),
    ("a dry run changes nothing", |subject| Box::pin(dry_run(subject))),
    ("calls at the same time agree", |subject| Box::pin(concurrent(subject))),
    ("what is missing is not found", |subject| Box::pin(missing(subject))),
    ("another world's target is invalid", |subject| Box::pin(foreign(subject))),
    ("a throttle is passed on with its wait", |subject| Box::pin(throttled(subject))),
    ("an outage is worth repeating", |subject| Box::pin(unavailable(subject))),
    ("a conflict is overcome", |subject| Box::pin(conflict(subject))),
    ("conflicts without end are given up", |subject| Box::pin(conflicts(subject))),
    ("an altered write is seen", |subject| Box::pin(altered(subject))),
    ("a missing right is denied", |subject| Box::pin(denied(subject))),
    ("a rival is not fought", |subject| Box::pin(rival(subject))),
    ("a rival is overruled when asked", |subject| Box::pin(overrule(subject))),
    ("resources are set and read back", |subject| Box::pin(resources::sets(subject))),
    ("what an order leaves open is left alone", |subject| Box::pin(resources::leaves_alone(subject))),
    ("a repeated order of resources changes nothing", |subject| Box::pin(resources::repeats(subject))),
    ("a dry run of resources changes nothing", |subject| Box::pin(resources::dry_run(subject))),
    ("a missing right to set resources is denied", |subject| Box::pin(resources::denied(subject))),
    ("a rival about resources is not fought", |subject| Box::pin(resources::rival(subject))),
    ("a conflict about resources is overcome", |subject| Box::pin(resources::conflict(subject))),
    ("nothing is said when nothing is to be done", |subject| Box::pin(silence(subject))),
    ("reports are taken, also twice", |subject| Box::pin(reports(subject))),
];

/// Runs every check.
pub async fn run(subject: &dyn Subject) -> Report {
    let mut report = Report::default();
    for (name, check) in CHECKS {
        subject.reset(2).await;
        match check(subject).await {
            Ok(Made::Yes) => report.passed.push(name),
            Ok(Made::Skipped) => report.skipped.push(name),
            Err(how) => report.failed.push((name, how)),
        }
    }
    subject.reset(2).await;
    report
}

async fn observes(subject: &dyn Subject) -> Checked {
    for replicas in [3, 0, 2] {
        subject.reset(replicas).await;
        let observed = subject.sink().observe(&subject.target()).await.map_err(failed)?;
        same("desired", observed.desired, replicas)?;
    }
    Ok(Made::Yes)
}

async fn sets(subject: &dyn Subject) -> Checked {
    let outcome = apply(subject, 5).await.map_err(failed)?;
    same("outcome", (outcome.before, outcome.requested, outcome.confirmed, outcome.changed), (2, 5, 5, true))?;
    same("stored", subject.stored().await, 5)?;
    let observed = subject.sink().observe(&subject.target()).await.map_err(failed)?;
    same("desired", observed.desired, 5)?;
    Ok(Made::Yes)
}

async fn repeats(subject: &dyn Subject) -> Checked {
    apply(subject, 5).await.map_err(failed)?;
    let again = apply(subject, 5).await.map_err(failed)?;
    same("outcome", (again.before, again.confirmed, again.changed), (5, 5, false))?;
    Ok(Made::Yes)
}

async fn is_absolute(subject: &dyn Subject) -> Checked {
    for replicas in [4, 7, 3, 3] {
        let outcome = apply(subject, replicas).await.map_err(failed)?;
        same("confirmed", outcome.confirmed, replicas)?;
        same("stored", subject.stored().await, replicas)?;
    }
    Ok(Made::Yes)
}

async fn zero(subject: &dyn Subject) -> Checked {
    for replicas in [0, 1] {
        let outcome = apply(subject, replicas).await.map_err(failed)?;
        same("outcome", (outcome.confirmed, outcome.changed), (replicas, true))?;
        same("stored", subject.stored().await, replicas)?;
    }
    Ok(Made::Yes)
}

async fn dry_run(subject: &dyn Subject) -> Checked {
    let context = ApplyContext { dry_run: true, ..context() };
    let outcome = subject.sink().apply(&subject.target(), Capacity::replicas(6), &context).await.map_err(failed)?;
    same("outcome", (outcome.before, outcome.confirmed, outcome.changed), (2, 6, false))?;
    same("stored", subject.stored().await, 2)?;
    Ok(Made::Yes)
}

async fn concurrent(subject: &dyn Subject) -> Checked {
    let outcomes = join_all((0..4).map(|_| apply(subject, 4))).await;
    for outcome in outcomes {
        same("confirmed", outcome.map_err(failed)?.confirmed, 4)?;
    }
    same("stored", subject.stored().await, 4)?;
    Ok(Made::Yes)
}

async fn missing(subject: &dyn Subject) -> Checked {
    let target = subject.missing();
    let observed = subject.sink().observe(&target).await.err();
    refused(observed, &SinkErrorKind::NotFound)?;
    let applied = subject.sink().apply(&target, Capacity::replicas(3), &context()).await.err();
    refused(applied, &SinkErrorKind::NotFound)?;
    Ok(Made::Yes)
}

async fn foreign(subject: &dyn Subject) -> Checked {
    let target = match subject.target() {
        TargetRef::Memory(_) => {
            let (api_version, kind) = ("apps/v1".to_owned(), "Deployment".to_owned());
            TargetRef::Kubernetes(KubernetesRef {
                api_version,
                kind,
                namespace: "shop".into(),
                name: "cart".into(),
                context: None,
                container: None,
            })
        }
        _ => TargetRef::Memory(MemoryRef { name: "cart".into(), replicas: 1 }),
    };
    refused(subject.sink().observe(&target).await.err(), &SinkErrorKind::Invalid)?;
    refused(subject.sink().apply(&target, Capacity::replicas(3), &context()).await.err(), &SinkErrorKind::Invalid)?;
    Ok(Made::Yes)
}

async fn throttled(subject: &dyn Subject) -> Checked {
    if !subject.arrange(Condition::Throttled).await {
        return Ok(Made::Skipped);
    }
    let error = refused(apply(subject, 5).await.err(), &SinkErrorKind::Throttled { retry_after: Some(WAIT) })?;
    same("retryable, wait", (error.is_retryable(), error.retry_after()), (true, Some(WAIT)))?;
    same("stored", subject.stored().await, 2)?;
    same("confirmed afterwards", apply(subject, 5).await.map_err(failed)?.confirmed, 5)?;
    Ok(Made::Yes)
}

async fn unavailable(subject: &dyn Subject) -> Checked {
    if !subject.arrange(Condition::Unavailable).await {
        return Ok(Made::Skipped);
    }
    let error = refused(subject.sink().observe(&subject.target()).await.err(), &SinkErrorKind::Unavailable)?;
    same("retryable", error.is_retryable(), true)?;
    subject.arrange(Condition::Unavailable).await;
    refused(apply(subject, 5).await.err(), &SinkErrorKind::Unavailable)?;
    same("confirmed afterwards", apply(subject, 5).await.map_err(failed)?.confirmed, 5)?;
    Ok(Made::Yes)
}

async fn conflict(subject: &dyn Subject) -> Checked {
    if !subject.arrange(Condition::Conflicts(1)).await {
        return Ok(Made::Skipped);
    }
    let outcome = apply(subject, 5).await.map_err(failed)?;
    same("outcome, conflicts counted", (outcome.confirmed, outcome.changed, outcome.conflicts > 0), (5, true, true))?;
    same("stored", subject.stored().await, 5)?;
    Ok(Made::Yes)
}

async fn conflicts(subject: &dyn Subject) -> Checked {
    if !subject.arrange(Condition::Conflicts(1000)).await {
        return Ok(Made::Skipped);
    }
    let error = refused(apply(subject, 5).await.err(), &SinkErrorKind::Conflict)?;
    same("retryable", error.is_retryable(), true)?;
    same("stored", subject.stored().await, 2)?;
    Ok(Made::Yes)
}

async fn altered(subject: &dyn Subject) -> Checked {
    if !subject.arrange(Condition::Altered(8)).await {
        return Ok(Made::Skipped);
    }
    let outcome = apply(subject, 10).await.map_err(failed)?;
    same("outcome", (outcome.requested, outcome.confirmed, outcome.changed, outcome.is_confirmed()), (10, 8, true, false))?;
    Ok(Made::Yes)
}

async fn denied(subject: &dyn Subject) -> Checked {
    if !subject.arrange(Condition::Denied).await {
        return Ok(Made::Skipped);
    }
    let error = refused(apply(subject, 5).await.err(), &SinkErrorKind::Denied)?;
    same("retryable", error.is_retryable(), false)?;
    same("stored", subject.stored().await, 2)?;
    Ok(Made::Yes)
}

async fn rival(subject: &dyn Subject) -> Checked {
    if !subject.arrange(Condition::Rival).await {
        return Ok(Made::Skipped);
    }
    for context in [context(), ApplyContext { dry_run: true, ..context() }] {
        let error = subject.sink().apply(&subject.target(), Capacity::replicas(5), &context).await.err();
        match error.map(|error| (error.is_retryable(), error.kind)) {
            Some((false, SinkErrorKind::Contested { by })) if !by.is_empty() => {}
            other => return Err(format!("expected a refusal that names the rival, got {other:?}")),
        }
        same("stored", subject.stored().await, 2)?;
    }
    Ok(Made::Yes)
}

async fn overrule(subject: &dyn Subject) -> Checked {
    if !subject.arrange(Condition::Rival).await {
        return Ok(Made::Skipped);
    }
    let context = ApplyContext { take_over: true, ..context() };
    let outcome = subject.sink().apply(&subject.target(), Capacity::replicas(5), &context).await.map_err(failed)?;
    same("outcome", (outcome.confirmed, outcome.changed), (5, true))?;
    Ok(Made::Yes)
}

async fn silence(subject: &dyn Subject) -> Checked {
    for condition in [Condition::Rival, Condition::Denied] {
        if !subject.arrange(condition).await {
            return Ok(Made::Skipped);
        }
        let outcome = apply(subject, 2).await.map_err(failed)?;
        same("outcome", (outcome.confirmed, outcome.changed), (2, false))?;
    }
    Ok(Made::Yes)
}

async fn reports(subject: &dyn Subject) -> Checked {
    let event = |kind, second: i64| ActionEvent::new(kind, "replicas 2 -> 5: 420 requests/s", Timestamp::from_secs(1_800_000_000 + second));
    for event in [event(ActionKind::ScaledUp, 0), event(ActionKind::Contested, 1), event(ActionKind::Contested, 6)] {
        subject.sink().report(&subject.target(), &event).await.map_err(failed)?;
    }
    Ok(Made::Yes)
}

async fn apply(subject: &dyn Subject, replicas: u32) -> Result<Outcome, SinkError> {
    subject.sink().apply(&subject.target(), Capacity::replicas(replicas), &context()).await
}

fn context() -> ApplyContext {
    ApplyContext { decision: "conformance".to_owned(), ..ApplyContext::default() }
}

fn refused(error: Option<SinkError>, kind: &SinkErrorKind) -> Result<SinkError, String> {
    match error {
        Some(error) if error.kind == *kind => Ok(error),
        Some(error) => Err(format!("expected {kind:?}: {}", failed(error))),
        None => Err(format!("expected {kind:?}, got no error")),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a function for map_err")]
fn failed(error: SinkError) -> String {
    error.chain()
}

#[expect(clippy::needless_pass_by_value, reason = "callers compare values that they have just made")]
fn same<T: PartialEq + fmt::Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {got:?}")) }
}

// === impl Report ===

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.passed {
            writeln!(f, "passed   {name}")?;
        }
        for name in &self.skipped {
            writeln!(f, "SKIPPED  {name}: cannot be arranged here")?;
        }
        for (name, how) in &self.failed {
            writeln!(f, "FAILED   {name}: {how}")?;
        }
        Ok(())
    }
}
