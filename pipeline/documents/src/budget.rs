//! Scaling budgets.

use std::collections::BTreeMap;

use tracescale_core::budget::{Budget, MAX_WEIGHT};
use tracescale_core::target::TargetName;

use crate::Metadata;
use crate::reader::{At, Fields, Reader};
use crate::rule::{Names, names};
use crate::tree::Value;

/// Reads the `spec` of a budget, and the names in it, also when the budget is not usable.
pub(crate) fn read(reader: &mut Reader, metadata: &Metadata, spec: &At<'_>) -> (Option<Budget>, Names) {
    let before = reader.problems.len();
    let Some(mut fields) = reader.fields(spec) else { return (None, Names::new()) };
    let max = fields.require(reader, "maxReplicas", "the most replicas of all its targets together").and_then(|at| {
        let most = reader.replicas(&at)?;
        if most == 0 {
            reader.wrong(&at, "must be at least 1", "to stop a target, set `paused: true` on it".to_owned());
        }
        Some(most)
    });
    let scope = fields.take(reader, "targets").filter(|at| !is_all(at)).map(|at| names(reader, &at));
    let weights = named(reader, &mut fields, "weights", (1, MAX_WEIGHT.into()));
    let priorities = named(reader, &mut fields, "priorities", (i32::MIN.into(), i32::MAX.into()));
    fields.finish(reader);
    for (name, line, path) in weights.iter().chain(&priorities).map(|(place, _)| place) {
        if scope.as_ref().is_some_and(|scope| scope.iter().all(|(member, ..)| member != name)) {
            let hint = "name it there too, or take it out here".to_owned();
            reader.report(*line, path, Some(name.to_string()), "is not among the budget's `targets`", Some(hint));
        }
    }
    let mut wanted = scope.clone().unwrap_or_default();
    if scope.is_none() {
        wanted.extend(weights.iter().chain(&priorities).map(|(place, _)| place.clone()));
    }
    let make = || {
        Some(Budget {
            name: metadata.name.clone()?,
            targets: scope.map(|names| names.into_iter().map(|(name, ..)| name).collect()),
            max_replicas: max?,
            weights: values(weights, |value| u32::try_from(value).ok()),
            priorities: values(priorities, |value| i32::try_from(value).ok()),
        })
    };
    (if reader.problems.len() == before { make() } else { None }, wanted)
}

fn is_all(at: &At<'_>) -> bool {
    matches!(&at.node.value, Value::Plain(word) if word == "all")
}

/// A name with its place, and the whole number that stands there.
type Entry = ((TargetName, u64, String), i64);

/// A mapping from names of targets to whole numbers.
fn named(reader: &mut Reader, fields: &mut Fields<'_>, field: &'static str, (least, most): (i64, i64)) -> Vec<Entry> {
    let Some(at) = fields.take(reader, field) else { return Vec::new() };
    let Some(inner) = reader.fields(&at) else { return Vec::new() };
    let parent = format!("{}.", at.path);
    let mut entries = Vec::new();
    for at in inner.rest() {
        let text = at.path.strip_prefix(&parent).unwrap_or_default();
        match TargetName::try_new(text) {
            Ok(name) => entries.extend(reader.whole(&at, least, most).map(|value| ((name, at.line, at.path.clone()), value))),
            Err(error) => reader.wrong(&at, error, None),
        }
    }
    entries
}

fn values<T>(entries: Vec<Entry>, convert: impl Fn(i64) -> Option<T>) -> BTreeMap<TargetName, T> {
    entries.into_iter().filter_map(|((name, ..), value)| Some((name, convert(value)?))).collect()
}
