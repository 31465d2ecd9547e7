//! Resources of the replicas of a target in memory: one value for all of them, and faults as for their number.

use tracescale_core::capacity::Resources;
use tracescale_core::target::TargetRef;

use super::{CONFLICT_RETRIES, Fault, Memory, State};
use crate::{ApplyContext, Outcome, ResizeOutcome, ResizeWay, SinkError, SinkErrorKind};

// === impl Memory ===

impl Memory {
    /// Sets what each replica asks for as another hand would, without a trace of us. Targets ask for nothing until then.
    /// Creates the target.
    pub fn equip(&self, name: &str, resources: Resources) {
        let mut targets = self.lock();
        let state = targets.entry(name.to_owned()).or_default();
        state.life = super::Life::Alive;
        state.resources = resources;
    }

    /// What each replica asks for, with no fault in between; none when the target does not exist.
    #[must_use]
    pub fn resources(&self, name: &str) -> Option<Resources> {
        self.lock().get(name).filter(|state| state.life == super::Life::Alive).map(|state| state.resources)
    }

    /// Makes every replica ask for `desired`, and adds to `outcome` what came of it.
    pub(super) fn resize(
        &self,
        state: &mut State,
        target: &TargetRef,
        desired: Resources,
        context: &ApplyContext,
        outcome: &mut Outcome,
    ) -> Result<(), SinkError> {
        let before = state.resources.only(desired);
        let replicas = state.desired;
        let done = |confirmed: Resources| {
            let in_effect = if confirmed == desired && !context.dry_run { replicas } else { 0 };
            ResizeOutcome { before, requested: desired, confirmed, way: ResizeWay::InPlace, in_effect, replicas }
        };
        if before == desired {
            outcome.resized = Some(done(before));
            return Ok(());
        }
        let mut stored = true;
        let mut conflicts = 0;
        while let Some(fault) = state.take(Fault::is_of_a_write) {
            match fault {
                Fault::Conflict(_) if conflicts == CONFLICT_RETRIES => {
                    return Err(SinkError::new(SinkErrorKind::Conflict, target, "scripted conflicts"));
                }
                Fault::Conflict(_) => conflicts += 1,
                Fault::Denied => return Err(SinkError::new(SinkErrorKind::Denied, target, "a scripted refusal")),
                Fault::Contested(by) => state.held_by = Some(by),
                Fault::LostUpdate => stored = false,
                Fault::Stuck => state.stuck = true,
                // Numbers of replicas are not altered here.
                _ => {}
            }
        }
        if let Some(by) = state.held_by.clone().filter(|_| !context.take_over) {
            return Err(SinkError::new(SinkErrorKind::Contested { by }, target, "set `takeOver` to write nevertheless"));
        }
        let resized = done(if stored { desired } else { before });
        outcome.resized = Some(resized);
        outcome.conflicts += conflicts;
        if context.dry_run {
            return Ok(());
        }
        outcome.changed = true;
        if stored {
            state.held_by = None;
            state.writes += 1;
            state.generation = state.generation.saturating_add(1);
            state.resources = desired.or(state.resources);
        }
        Ok(())
    }
}
