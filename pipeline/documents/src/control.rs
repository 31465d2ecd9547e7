//! Reads the part of a policy that judges changes by what is known of the service beside the rule.

use tracescale_core::policy::{CauseGuard, ControlSpec, VerifySpec};

use crate::policy::set;
use crate::reader::{At, Fields, Reader};

/// Reads the fields that stand directly in `policy`.
pub(crate) fn read(reader: &mut Reader, fields: &mut Fields<'_>) -> ControlSpec {
    let mut spec = ControlSpec::default();
    let words = [("block", CauseGuard::Block), ("note", CauseGuard::Note), ("off", CauseGuard::Off)];
    set(&mut spec.cause, fields.take(reader, "cause").and_then(|at| reader.one_of(&at, &words)));
    set(&mut spec.reactive, fields.take(reader, "reactive").and_then(|at| reader.truth(&at)));
    spec.startup = fields.take(reader, "startup").and_then(|at| reader.any_duration(&at));
    set(&mut spec.after_deployment, fields.take(reader, "afterDeployment").and_then(|at| reader.any_duration(&at)));
    spec.after_outage = fields.take(reader, "afterOutage").and_then(|at| reader.any_duration(&at));
    if let Some(at) = fields.take(reader, "verify") {
        verify(reader, &at, &mut spec.verify);
    }
    spec
}

fn verify(reader: &mut Reader, at: &At<'_>, spec: &mut VerifySpec) {
    let Some(mut fields) = reader.fields(at) else { return };
    set(&mut spec.enabled, fields.take(reader, "enabled").and_then(|at| reader.truth(&at)));
    spec.settle = fields.take(reader, "settle").and_then(|at| reader.any_duration(&at));
    set(&mut spec.floor, fields.take(reader, "floor").and_then(|at| reader.any_duration(&at)));
    fields.finish(reader);
}
