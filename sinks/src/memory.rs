//! A capacity that lives in this process: for demonstrations, simulation, and tests of everything that talks to a sink.
//!
//! It misbehaves on demand. Faults are scripted per target and used up in order, one by each call that could meet them, so a
//! test can say exactly what a sink does on its third call. Replicas may take a while to start, as real ones do.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tracescale_core::capacity::{Capacity, Observed, Resources};
use tracescale_core::target::{MemoryRef, TargetRef};
use tracescale_core::time::Timestamp;

use crate::{ActionEvent, ApplyContext, Clock, Outcome, ScaleTarget, SinkError, SinkErrorKind};

mod resize;

/// Writes tried again after a conflict before giving up.
const CONFLICT_RETRIES: u32 = 4;
/// Reports kept per target; older ones are forgotten.
const REPORTS: usize = 256;

/// One misbehaviour, used up by one call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The next call is turned away with a wish to wait.
    Throttle(Option<Duration>),
    /// The next call gets no answer; nothing was written.
    Unavailable,
    /// The next write finds that somebody set this capacity first.
    Conflict(u32),
    /// The next write is accepted and forgotten.
    LostUpdate,
    /// The next write is stored as this many replicas, as an admission webhook might.
    Altered(u32),
    /// The next call takes this long.
    Delay(Duration),
    /// Replicas asked for from now on never become ready, until [`Memory::unstick`].
    Stuck,
    /// The next write is refused for a missing right.
    Denied,
    /// Another writer holds the capacity until [`Memory::release`].
    Contested(String),
}

/// Capacities in this process.
pub struct Memory {
    clock: Clock,
    start_up: Duration,
    targets: Mutex<BTreeMap<String, State>>,
}

/// Faults may be scripted for a target before it comes to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    #[default]
    Unborn,
    Alive,
    Removed,
}

#[derive(Debug, Default)]
struct State {
    life: Life,
    desired: u32,
    generation: u64,
    ready: u32,
    /// Replicas on their way, with the time at which they are ready.
    starting: Vec<(Timestamp, u32)>,
    stuck: bool,
    held_by: Option<String>,
    faults: VecDeque<Fault>,
    writes: u64,
    reports: VecDeque<ActionEvent>,
    /// What each replica asks for.
    resources: Resources,
}

// === impl Memory ===

impl Memory {
    /// Targets come to be when they are first named, with the replicas of their reference. New replicas are ready at once.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, start_up: Duration::ZERO, targets: Mutex::default() }
    }

    /// New replicas take this long to become ready.
    #[must_use]
    pub fn with_start_up(mut self, start_up: Duration) -> Self {
        self.start_up = start_up;
        self
    }

    /// Adds faults to what the next calls about a target will meet.
    pub fn script(&self, name: &str, faults: impl IntoIterator<Item = Fault>) {
        self.lock().entry(name.to_owned()).or_default().faults.extend(faults);
    }

    /// Sets a capacity as another writer would, without a trace of us. Creates the target.
    pub fn set(&self, name: &str, replicas: u32) {
        let now = (self.clock)();
        let mut targets = self.lock();
        let state = targets.entry(name.to_owned()).or_default();
        state.life = Life::Alive;
        state.set(replicas, now, self.start_up);
    }

    /// Removes a target for good: it is then not found, until [`Memory::set`].
    pub fn remove(&self, name: &str) {
        let removed = State { life: Life::Removed, ..State::default() };
        self.lock().insert(name.to_owned(), removed);
    }

    /// Lets stuck replicas start now.
    pub fn unstick(&self, name: &str) {
        let now = (self.clock)();
        if let Some(state) = self.lock().get_mut(name) {
            state.stuck = false;
            state.set(state.desired, now, self.start_up);
        }
    }

    /// Makes another writer let go.
    pub fn release(&self, name: &str) {
        if let Some(state) = self.lock().get_mut(name) {
            state.held_by = None;
        }
    }

    /// The capacity as stored, with no fault in between; none when the target does not exist.
    #[must_use]
    pub fn replicas(&self, name: &str) -> Option<u32> {
        self.lock().get(name).filter(|state| state.life == Life::Alive).map(|state| state.desired)
    }

    /// How many writes a target took.
    #[must_use]
    pub fn writes(&self, name: &str) -> u64 {
        self.lock().get(name).map_or(0, |state| state.writes)
    }

    /// The latest reports about a target, oldest first.
    #[must_use]
    pub fn reports(&self, name: &str) -> Vec<ActionEvent> {
        self.lock().get(name).map_or_else(Vec::new, |state| state.reports.iter().cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        // No code panics while it holds the lock; a poisoned one still guards whole states.
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `then` on the state of an existing target.
    fn with<T>(&self, target: &TargetRef, then: impl FnOnce(&mut State) -> Result<T, SinkError>) -> Result<T, SinkError> {
        let reference = reference(target)?;
        let mut targets = self.lock();
        let state = targets.entry(reference.name.clone()).or_default();
        if state.life == Life::Unborn {
            state.life = Life::Alive;
            state.generation = 1;
            state.desired = reference.replicas;
            state.ready = reference.replicas;
        }
        if state.life == Life::Removed {
            return Err(SinkError::new(SinkErrorKind::NotFound, target, "it was removed"));
        }
        then(state)
    }

    /// Meets the faults that any call meets; sleeps outside the lock.
    async fn meet(&self, target: &TargetRef) -> Result<(), SinkError> {
        loop {
            let fault = self.with(target, |state| Ok(state.take(Fault::is_of_any_call)))?;
            match fault {
                Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
                Some(Fault::Throttle(retry_after)) => {
                    return Err(SinkError::new(SinkErrorKind::Throttled { retry_after }, target, "a scripted throttle"));
                }
                Some(Fault::Unavailable) => return Err(SinkError::new(SinkErrorKind::Unavailable, target, "a scripted outage")),
                _ => return Ok(()),
            }
        }
    }

    fn write(&self, state: &mut State, target: &TargetRef, desired: u32, context: &ApplyContext) -> Result<Outcome, SinkError> {
        let now = (self.clock)();
        let mut conflicts = 0;
        loop {
            let before = state.desired;
            let mut outcome = Outcome {
                before,
                requested: desired,
                confirmed: before,
                changed: false,
                conflicts,
                warnings: Vec::new(),
                at: now,
                resized: None,
            };
            if before == desired {
                return Ok(outcome);
            }
            let mut stored = desired;
            match state.take(Fault::is_of_a_write) {
                Some(Fault::Conflict(_)) if conflicts == CONFLICT_RETRIES => {
                    return Err(SinkError::new(SinkErrorKind::Conflict, target, "scripted conflicts"));
                }
                Some(Fault::Conflict(other)) => {
                    conflicts += 1;
                    state.set(other, now, self.start_up);
                    continue;
                }
                Some(Fault::Denied) => return Err(SinkError::new(SinkErrorKind::Denied, target, "a scripted refusal")),
                Some(Fault::LostUpdate) => {
                    outcome.changed = !context.dry_run;
                    return Ok(outcome);
                }
                Some(Fault::Contested(by)) => state.held_by = Some(by),
                Some(Fault::Stuck) => state.stuck = true,
                Some(Fault::Altered(other)) => stored = other,
                _ => {}
            }
            if let Some(by) = state.held_by.clone().filter(|_| !context.take_over) {
                return Err(SinkError::new(SinkErrorKind::Contested { by }, target, "set `takeOver` to write nevertheless"));
            }
            outcome.confirmed = stored;
            if !context.dry_run {
                state.held_by = None;
                state.writes += 1;
                state.set(stored, now, self.start_up);
                outcome.changed = true;
            }
            return Ok(outcome);
        }
    }
}

#[async_trait]
impl ScaleTarget for Memory {
    async fn observe(&self, target: &TargetRef) -> Result<Observed, SinkError> {
        self.meet(target).await?;
        let now = (self.clock)();
        self.with(target, |state| {
            state.settle(now);
            Ok(Observed {
                desired: state.desired,
                ready: Some(state.ready),
                observed_at: now,
                generation: Some(state.generation.to_string()),
                resources: state.resources,
                differing: 0,
                template: Resources::NONE,
            })
        })
    }

    async fn apply(&self, target: &TargetRef, desired: Capacity, context: &ApplyContext) -> Result<Outcome, SinkError> {
        self.meet(target).await?;
        self.with(target, |state| {
            let replicas = desired.replicas.unwrap_or(state.desired);
            let mut outcome = self.write(state, target, replicas, context)?;
            if !desired.resources.is_empty() {
                self.resize(state, target, desired.resources, context, &mut outcome)?;
            }
            Ok(outcome)
        })
    }

    async fn report(&self, target: &TargetRef, event: &ActionEvent) -> Result<(), SinkError> {
        self.with(target, |state| {
            if state.reports.len() == REPORTS {
                state.reports.pop_front();
            }
            state.reports.push_back(event.clone());
            Ok(())
        })
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("start_up", &self.start_up).field("targets", &self.targets).finish_non_exhaustive()
    }
}

// === impl State ===

impl State {
    /// Takes the next fault when it is one of these.
    fn take(&mut self, wanted: fn(&Fault) -> bool) -> Option<Fault> {
        self.faults.pop_front_if(|fault| wanted(fault))
    }

    fn set(&mut self, desired: u32, now: Timestamp, start_up: Duration) {
        self.settle(now);
        self.desired = desired;
        self.generation = self.generation.saturating_add(1);
        let mut surplus = (self.ready + self.starting.iter().map(|(_, count)| count).sum::<u32>()).saturating_sub(desired);
        // What has not started yet goes first, youngest first, as a replica set does it.
        while surplus > 0 {
            let Some((at, count)) = self.starting.pop() else { break };
            let cut = count.min(surplus);
            surplus -= cut;
            if count > cut {
                self.starting.push((at, count - cut));
            }
        }
        self.ready -= surplus.min(self.ready);
        let present = self.ready + self.starting.iter().map(|(_, count)| count).sum::<u32>();
        if desired > present && !self.stuck {
            self.starting.push((now + start_up, desired - present));
            self.settle(now);
        }
    }

    /// Replicas whose start-up is over become ready.
    fn settle(&mut self, now: Timestamp) {
        let ready: u32 = self.starting.extract_if(.., |(at, _)| *at <= now).map(|(_, count)| count).sum();
        self.ready += ready;
    }
}

// === impl Fault ===

impl Fault {
    const fn is_of_any_call(&self) -> bool {
        matches!(self, Self::Throttle(_) | Self::Unavailable | Self::Delay(_))
    }

    const fn is_of_a_write(&self) -> bool {
        !self.is_of_any_call()
    }
}

fn reference(target: &TargetRef) -> Result<&MemoryRef, SinkError> {
    match target {
        TargetRef::Memory(reference) => Ok(reference),
        _ => Err(SinkError::new(SinkErrorKind::Invalid, target, "not a memory target")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    fn target(replicas: u32) -> TargetRef {
        TargetRef::Memory(MemoryRef { name: "cart".into(), replicas })
    }

    fn turned() -> (Arc<AtomicI64>, Clock) {
        let seconds = Arc::new(AtomicI64::new(0));
        let hand = Arc::clone(&seconds);
        (seconds, Arc::new(move || Timestamp::from_secs(hand.load(Ordering::Relaxed))))
    }

    /// Guarantees: replicas become ready only after the start-up time, and are given up youngest first.
    #[tokio::test]
    async fn replicas_take_their_time_to_start() {
        let (seconds, clock) = turned();
        let memory = Memory::new(clock).with_start_up(Duration::from_secs(30));
        let context = ApplyContext::default();
        memory.apply(&target(2), Capacity::replicas(5), &context).await.expect("applied");
        let ready = async || memory.observe(&target(2)).await.expect("observed").ready;
        assert_eq!(ready().await, Some(2));
        memory.apply(&target(2), Capacity::replicas(3), &context).await.expect("applied");
        seconds.store(30, Ordering::Relaxed);
        assert_eq!(ready().await, Some(3));
        memory.apply(&target(2), Capacity::replicas(1), &context).await.expect("applied");
        assert_eq!(ready().await, Some(1));
    }

    /// Guarantees: stuck replicas never become ready until they are let go.
    #[tokio::test]
    async fn stuck_replicas_stay_unready() {
        let (seconds, clock) = turned();
        let memory = Memory::new(clock);
        memory.script("cart", [Fault::Stuck]);
        memory.apply(&target(2), Capacity::replicas(5), &ApplyContext::default()).await.expect("applied");
        seconds.store(3600, Ordering::Relaxed);
        let observed = memory.observe(&target(2)).await.expect("observed");
        assert_eq!((observed.desired, observed.ready), (5, Some(2)));
        memory.unstick("cart");
        assert_eq!(memory.observe(&target(2)).await.expect("observed").ready, Some(5));
    }

    /// Guarantees: a delayed call takes as long as scripted, and only once.
    #[tokio::test(start_paused = true)]
    async fn a_delay_is_met_once() {
        let memory = Memory::new(turned().1);
        memory.script("cart", [Fault::Delay(Duration::from_secs(7))]);
        let start = tokio::time::Instant::now();
        memory.observe(&target(2)).await.expect("observed");
        memory.observe(&target(2)).await.expect("observed");
        assert_eq!(start.elapsed(), Duration::from_secs(7));
    }
}
