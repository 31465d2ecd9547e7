//! Reads the `vertical` of a policy: what a rule may do to CPU and memory of each replica.

use tracescale_core::policy::{Mode, RangeSpec, VerticalSpec};
use tracescale_core::quantity;

use super::set;
use crate::reader::{At, Fields, Reader};

/// How an amount is read, what it is, and an example of it.
struct Unit {
    read: fn(&str) -> Option<u64>,
    what: &'static str,
    example: &'static str,
}

const CPU: Unit = Unit { read: quantity::millicores, what: "an amount of CPU", example: "250m or 1.5 (cores)" };
const MEMORY: Unit = Unit { read: quantity::bytes, what: "an amount of memory", example: "128MiB or 2GiB" };

/// Reads the guards; what cannot be read is reported and keeps its default.
pub(super) fn read(reader: &mut Reader, at: &At<'_>) -> VerticalSpec {
    let mut spec = VerticalSpec::default();
    let Some(mut fields) = reader.fields(at) else { return spec };
    let modes = [("off", Mode::Off), ("recommend", Mode::Recommend), ("enforce", Mode::Enforce)];
    set(&mut spec.mode, fields.take(reader, "mode").and_then(|at| reader.one_of(&at, &modes)));
    range(reader, &mut fields, "cpu", &CPU, &mut spec.cpu);
    range(reader, &mut fields, "memory", &MEMORY, &mut spec.memory);
    set(&mut spec.every, fields.take(reader, "every").and_then(|at| reader.any_duration(&at)));
    set(&mut spec.minimum_gain, fields.take(reader, "minimumGain").and_then(|at| reader.number(&at)));
    fields.finish(reader);
    spec
}

fn range(reader: &mut Reader, fields: &mut Fields<'_>, name: &'static str, unit: &Unit, range: &mut RangeSpec) {
    let Some(at) = fields.take(reader, name) else { return };
    let Some(mut fields) = reader.fields(&at) else { return };
    set(&mut range.min, fields.take(reader, "min").and_then(|at| amount(reader, &at, unit)));
    let max = fields.take(reader, "max");
    // A max that cannot be read is reported once; it is not missing as well.
    range.max = max.map(|at| amount(reader, &at, unit).unwrap_or_else(|| range.min.max(1)));
    fields.finish(reader);
}

/// An amount as Kubernetes writes it; memory also with the units of other fields, `MiB` and the like.
fn amount(reader: &mut Reader, at: &At<'_>, unit: &Unit) -> Option<u64> {
    let text = reader.text(at)?;
    let value = (unit.read)(text.strip_suffix('B').filter(|rest| rest.ends_with('i')).unwrap_or(text));
    if value.is_none() {
        reader.wrong(at, format!("must be {}", unit.what), format!("such as {}", unit.example));
    }
    value
}
