//! Reads the `policy` of a rule. What the values may be is checked where policies are made, in the core.

use std::sync::Arc;
use std::time::Duration;

use tracescale_core::policy::{
    ConditionSpec, DirectionSpec, GatesSpec, OnMissing, Policy, PolicySpec, RateKind, RatePolicy, ScheduleSpec, SelectPolicy,
};

use crate::control;
use crate::reader::{At, Fields, Reader};
use crate::tree::Value;

mod vertical;

/// Reads a policy. When something is wrong it is reported and the default policy stands in.
pub(crate) fn read(reader: &mut Reader, at: &At<'_>) -> Arc<Policy> {
    let Some(mut fields) = reader.fields(at) else { return Arc::default() };
    let mut spec = PolicySpec::default();
    let min = fields.take(reader, "min");
    let max = fields.require(reader, "max", "the most replicas that the rule may ask for");
    set(&mut spec.min, min.and_then(|at| reader.replicas(&at)));
    // Without a max that could be read, no min is too large.
    spec.max = max.and_then(|at| reader.replicas(&at)).unwrap_or(1_000_000);
    let priority = fields.take(reader, "priority").and_then(|at| reader.whole(&at, i32::MIN.into(), i32::MAX.into()));
    set(&mut spec.priority, priority.and_then(|value| i32::try_from(value).ok()));
    set(&mut spec.tolerance, fields.take(reader, "tolerance").and_then(|at| reader.number(&at)));
    if let Some(at) = fields.take(reader, "scaleUp") {
        direction(reader, &at, &mut spec.scale_up);
    }
    if let Some(at) = fields.take(reader, "scaleDown") {
        direction(reader, &at, &mut spec.scale_down);
    }
    set(&mut spec.on_missing, fields.take(reader, "onMissing").and_then(|at| on_missing(reader, &at)));
    if let Some(at) = fields.take(reader, "gates") {
        spec.gates = gates(reader, &at);
    }
    spec.condition = fields.take(reader, "condition").and_then(|at| condition(reader, &at));
    if let Some(at) = fields.take(reader, "schedules") {
        spec.schedules = reader.items(&at).iter().enumerate().map(|(index, at)| schedule(reader, at, index)).collect();
    }
    spec.control = control::read(reader, &mut fields);
    if let Some(at) = fields.take(reader, "vertical") {
        spec.vertical = vertical::read(reader, &at);
    }
    fields.finish(reader);
    match Policy::try_new(spec) {
        Ok(policy) => Arc::new(policy),
        Err(error) => {
            for problem in error.problems {
                let line = at.node.line_of(&problem.path);
                let path = format!("{}.{}", at.path, problem.path);
                reader.report(line, &path, Some(problem.value), problem.message, problem.hint);
            }
            Arc::default()
        }
    }
}

pub(crate) fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn direction(reader: &mut Reader, at: &At<'_>, spec: &mut DirectionSpec) {
    let Some(mut fields) = reader.fields(at) else { return };
    set(&mut spec.stabilization_window, fields.take(reader, "stabilizationWindow").and_then(|at| reader.any_duration(&at)));
    let select = [("Max", SelectPolicy::Max), ("Min", SelectPolicy::Min), ("Disabled", SelectPolicy::Disabled)];
    set(&mut spec.select_policy, fields.take(reader, "selectPolicy").and_then(|at| reader.one_of(&at, &select)));
    if let Some(at) = fields.take(reader, "policies") {
        spec.policies = reader.items(&at).iter().map(|at| rate(reader, at)).collect();
    }
    spec.tolerance = fields.take(reader, "tolerance").and_then(|at| reader.number(&at));
    set(&mut spec.cooldown, fields.take(reader, "cooldown").and_then(|at| reader.any_duration(&at)));
    spec.step_limit = fields.take(reader, "stepLimit").and_then(|at| reader.replicas(&at));
    fields.finish(reader);
}

/// A rate policy; a harmless one stands in for what cannot be read, so that the places of the others stay right.
fn rate(reader: &mut Reader, at: &At<'_>) -> RatePolicy {
    let mut policy = RatePolicy { kind: RateKind::Pods, value: 1, period: Duration::from_secs(60) };
    let Some(mut fields) = reader.fields(at) else { return policy };
    let kinds = [("Pods", RateKind::Pods), ("Percent", RateKind::Percent)];
    set(&mut policy.kind, fields.require(reader, "type", "Pods or Percent").and_then(|at| reader.one_of(&at, &kinds)));
    set(&mut policy.value, fields.require(reader, "value", "replicas, or percent").and_then(|at| reader.replicas(&at)));
    set(&mut policy.period, fields.require(reader, "period", "such as 60s").and_then(|at| reader.any_duration(&at)));
    fields.finish(reader);
    policy
}

fn on_missing(reader: &mut Reader, at: &At<'_>) -> Option<OnMissing> {
    let usual = OnMissing::Usual { after: OnMissing::USUAL_AFTER };
    let words = [("hold", OnMissing::Hold), ("skip", OnMissing::Skip), ("min", OnMissing::Min), ("max", OnMissing::Max), ("usual", usual)];
    // The fields of the long form are part of the schema also when the short form is written.
    if !matches!(at.node.value, Value::Map(_)) {
        return reader.one_of(at, &words);
    }
    let mut fields = reader.fields(at)?;
    let after = fields.take(reader, "after").map(|at| reader.any_duration(&at));
    let replicas = fields.require(reader, "replicas", "the replicas to go to, or `usual`");
    if replicas.as_ref().is_some_and(|at| matches!(&at.node.value, Value::Plain(word) if word == "usual")) {
        fields.finish(reader);
        return Some(OnMissing::Usual { after: after.unwrap_or(Some(OnMissing::USUAL_AFTER))? });
    }
    let replicas = replicas.and_then(|at| reader.replicas(&at));
    fields.finish(reader);
    match after {
        None => Some(OnMissing::Replicas(replicas?)),
        Some(after) => Some(OnMissing::After { after: after?, replicas: replicas? }),
    }
}

fn gates(reader: &mut Reader, at: &At<'_>) -> GatesSpec {
    let mut spec = GatesSpec::default();
    let Some(mut fields) = reader.fields(at) else { return spec };
    (spec.min_samples_up, spec.min_samples_down) = both(reader, &mut fields, "minSamples");
    (spec.min_confidence_up, spec.min_confidence_down) = both(reader, &mut fields, "minConfidence");
    (spec.min_completeness_up, spec.min_completeness_down) = both(reader, &mut fields, "minCompleteness");
    if let Some(at) = fields.take(reader, "maxAge") {
        (spec.max_age, spec.max_age_down) = ages(reader, &at);
    }
    spec.scale_down_needs_final = fields.take(reader, "scaleDownNeedsFinal").and_then(|at| reader.truth(&at));
    fields.finish(reader);
    spec
}

/// A limit per direction: `{scaleUp: 20, scaleDown: 30}`, or one number for both.
fn both(reader: &mut Reader, fields: &mut Fields<'_>, name: &'static str) -> (Option<f64>, Option<f64>) {
    let Some(at) = fields.take(reader, name) else { return (None, None) };
    if matches!(at.node.value, Value::Plain(_) | Value::Text(_)) {
        let value = reader.number(&at);
        return (value, value);
    }
    let Some(mut fields) = reader.fields(&at) else { return (None, None) };
    let up = fields.take(reader, "scaleUp").and_then(|at| reader.number(&at));
    let down = fields.take(reader, "scaleDown").and_then(|at| reader.number(&at));
    fields.finish(reader);
    (up, down)
}

/// How old evidence may be: one duration for both directions, or one for each.
fn ages(reader: &mut Reader, at: &At<'_>) -> (Option<Duration>, Option<Duration>) {
    if !matches!(at.node.value, Value::Map(_)) {
        return (reader.any_duration(at), None);
    }
    let Some(mut fields) = reader.fields(at) else { return (None, None) };
    let up = fields.take(reader, "scaleUp").and_then(|at| reader.any_duration(&at));
    let down = fields.take(reader, "scaleDown").and_then(|at| reader.any_duration(&at));
    fields.finish(reader);
    (up, down)
}

fn condition(reader: &mut Reader, at: &At<'_>) -> Option<ConditionSpec> {
    let mut fields = reader.fields(at)?;
    let times = fields.require(reader, "times", "how many evaluations must agree").and_then(|at| reader.replicas(&at));
    let window = fields.require(reader, "window", "such as 1m").and_then(|at| reader.any_duration(&at));
    fields.finish(reader);
    Some(ConditionSpec { times: times?, window: window? })
}

/// A schedule; what cannot be read is replaced by something harmless, so that only it is reported.
fn schedule(reader: &mut Reader, at: &At<'_>, index: usize) -> ScheduleSpec {
    let mut spec = ScheduleSpec {
        name: format!("schedule-{index}"),
        cron: "0 0 * * *".to_owned(),
        timezone: "UTC".to_owned(),
        duration: Duration::from_secs(3600),
        min: None,
        max: None,
    };
    let before = reader.problems.len();
    let Some(mut fields) = reader.fields(at) else { return ScheduleSpec { max: Some(1_000_000), ..spec } };
    let text = |reader: &mut Reader, at: Option<At<'_>>| at.and_then(|at| reader.text(&at).map(str::to_owned));
    let name = fields.take(reader, "name");
    set(&mut spec.name, text(reader, name));
    let cron = fields.require(reader, "cron", "when it begins, such as `0 8 * * MON-FRI`");
    set(&mut spec.cron, text(reader, cron));
    let timezone = fields.require(reader, "timezone", "an IANA name such as `Europe/Berlin` or `UTC`");
    set(&mut spec.timezone, text(reader, timezone));
    set(&mut spec.duration, fields.require(reader, "duration", "how long it lasts, such as 10h").and_then(|at| reader.any_duration(&at)));
    spec.min = fields.take(reader, "min").and_then(|at| reader.replicas(&at));
    spec.max = fields.take(reader, "max").and_then(|at| reader.replicas(&at));
    fields.finish(reader);
    if reader.problems.len() > before && spec.min.is_none() && spec.max.is_none() {
        spec.max = Some(1_000_000);
    }
    spec
}
