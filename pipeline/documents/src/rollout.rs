//! Reads the `rollout` of a rule.

use std::time::Duration;

use tracescale_core::rollout::{CanarySpec, RevertSpec, RolloutSpec};

use crate::policy::set;
use crate::reader::{At, Reader};

/// Longest stage: who waits longer forgets what for.
const MAX_STAGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads it. What cannot be read is reported, and the default stands in.
pub(crate) fn read(reader: &mut Reader, at: &At<'_>) -> RolloutSpec {
    let mut spec = RolloutSpec::default();
    let Some(mut fields) = reader.fields(at) else { return spec };
    set(&mut spec.shadow, fields.take(reader, "shadow").and_then(|at| reader.duration(&at, Duration::ZERO, MAX_STAGE)));
    if let Some(at) = fields.take(reader, "canary") {
        canary(reader, &at, &mut spec.canary);
    }
    if let Some(at) = fields.take(reader, "revertOn") {
        revert(reader, &at, &mut spec.revert_on);
    }
    fields.finish(reader);
    spec
}

fn canary(reader: &mut Reader, at: &At<'_>, spec: &mut CanarySpec) {
    let Some(mut fields) = reader.fields(at) else { return };
    if let Some(at) = fields.take(reader, "share") {
        match reader.number(&at) {
            Some(share) if share > 0.0 && share <= 1.0 => spec.share = share,
            Some(_) => reader.wrong(&at, "must be a number above 0, at most 1", "0.1 is ten percent".to_owned()),
            None => {}
        }
    }
    set(&mut spec.length, fields.take(reader, "for").and_then(|at| reader.duration(&at, Duration::ZERO, MAX_STAGE)));
    fields.finish(reader);
}

fn revert(reader: &mut Reader, at: &At<'_>, spec: &mut RevertSpec) {
    let Some(mut fields) = reader.fields(at) else { return };
    set(&mut spec.violations, fields.take(reader, "violations").and_then(|at| reader.truth(&at)));
    set(&mut spec.rollback, fields.take(reader, "rollback").and_then(|at| reader.truth(&at)));
    set(&mut spec.failure, fields.take(reader, "failure").and_then(|at| reader.truth(&at)));
    fields.finish(reader);
}
