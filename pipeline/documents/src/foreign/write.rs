//! Writes our own documents, as a person would: with comments that say what was assumed.

use std::fmt::Write as _;
use std::time::Duration;

use tracescale_core::duration;
use tracescale_core::policy::{DirectionSpec, OnMissing, PolicySpec, RateKind, SelectPolicy};

use crate::API_VERSION;
use crate::foreign::ObjectRef;

/// A target to be written.
#[derive(Clone, Debug)]
pub(crate) struct TargetText {
    pub(crate) name: String,
    pub(crate) comments: Vec<String>,
    /// The object; a counter in this process where the other system names none.
    pub(crate) object: Option<ObjectRef>,
    pub(crate) service: String,
    pub(crate) paused: bool,
}

/// A rule to be written.
#[derive(Clone, Debug)]
pub(crate) struct RuleText {
    pub(crate) name: String,
    pub(crate) comments: Vec<String>,
    pub(crate) every: Duration,
    pub(crate) target: String,
    pub(crate) sql: String,
    pub(crate) policy: PolicySpec,
}

/// A text in quotes, as YAML and JSON both read it.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A number as an SQL literal of type DOUBLE.
pub(crate) fn number(value: f64) -> String {
    format!("{value:?}")
}

fn head(text: &mut String, comments: &[String], kind: &str, name: &str) {
    text.push_str("---\n");
    for comment in comments {
        // What people wrote may stand in a comment, so it must not end the line.
        let line: String =
            comment.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') { ' ' } else { c }).collect();
        let _ = writeln!(text, "# {line}");
    }
    let _ = writeln!(text, "apiVersion: {API_VERSION}\nkind: {kind}\nmetadata: {{name: {}}}\nspec:", quoted(name));
}

// === impl TargetText ===

impl TargetText {
    pub(crate) fn write(&self) -> String {
        let mut text = String::new();
        head(&mut text, &self.comments, "ScalingTarget", &self.name);
        match &self.object {
            Some(object) => {
                let (version, kind) = (quoted(&object.api_version), quoted(&object.kind));
                let (namespace, name) = (quoted(&object.namespace), quoted(&object.name));
                let _ = writeln!(text, "  kubernetes: {{apiVersion: {version}, kind: {kind}, namespace: {namespace}, name: {name}}}");
            }
            None => text.push_str("  memory: {replicas: 1}\n"),
        }
        let _ = writeln!(text, "  service: {{name: {}}}", quoted(&self.service));
        if self.paused {
            text.push_str("  paused: true\n");
        }
        text
    }
}

// === impl RuleText ===

impl RuleText {
    pub(crate) fn write(&self) -> String {
        let mut text = String::new();
        head(&mut text, &self.comments, "ScalingRule", &self.name);
        let every = duration::format(self.every);
        let _ = writeln!(text, "  every: {every}\n  mode: recommend\n  targets: [{}]\n  sql: |", quoted(&self.target));
        for line in self.sql.lines() {
            let _ = writeln!(text, "    {line}");
        }
        text.push_str("  policy:\n");
        policy(&mut text, &self.policy);
        text
    }
}

/// The fields of a policy. What the other system has a say in is written also where it is our default.
fn policy(text: &mut String, spec: &PolicySpec) {
    let _ = writeln!(text, "    min: {}\n    max: {}", spec.min, spec.max);
    if spec.priority != 0 {
        let _ = writeln!(text, "    priority: {}", spec.priority);
    }
    let _ = writeln!(text, "    tolerance: {}", spec.tolerance);
    direction(text, "scaleUp", &spec.scale_up);
    direction(text, "scaleDown", &spec.scale_down);
    let missing = match spec.on_missing {
        OnMissing::Skip => "skip".to_owned(),
        OnMissing::Min => "min".to_owned(),
        OnMissing::Max => "max".to_owned(),
        OnMissing::Replicas(replicas) => format!("{{replicas: {replicas}}}"),
        OnMissing::After { after, replicas } => format!("{{after: {}, replicas: {replicas}}}", duration::format(after)),
        OnMissing::Usual { after } => format!("{{after: {}, replicas: usual}}", duration::format(after)),
        _ => "hold".to_owned(),
    };
    let _ = writeln!(text, "    onMissing: {missing}");
    if let Some(final_only) = spec.gates.scale_down_needs_final {
        let _ = writeln!(text, "    gates: {{scaleDownNeedsFinal: {final_only}}}");
    }
    if !spec.schedules.is_empty() {
        text.push_str("    schedules:\n");
    }
    for schedule in &spec.schedules {
        let bound = |name: &str, value: Option<u32>| value.map_or_else(String::new, |value| format!(", {name}: {value}"));
        let _ = writeln!(
            text,
            "      - {{name: {}, cron: {}, timezone: {}, duration: {}{}{}}}",
            quoted(&schedule.name),
            quoted(&schedule.cron),
            quoted(&schedule.timezone),
            duration::format(schedule.duration),
            bound("min", schedule.min),
            bound("max", schedule.max)
        );
    }
}

fn direction(text: &mut String, name: &str, spec: &DirectionSpec) {
    let _ = writeln!(text, "    {name}:\n      stabilizationWindow: {}", duration::format(spec.stabilization_window));
    let select = match spec.select_policy {
        SelectPolicy::Max => "Max",
        SelectPolicy::Min => "Min",
        SelectPolicy::Disabled => "Disabled",
    };
    let kind = |kind: RateKind| if kind == RateKind::Pods { "Pods" } else { "Percent" };
    let rates = spec
        .policies
        .iter()
        .map(|rate| format!("{{type: {}, value: {}, period: {}}}", kind(rate.kind), rate.value, duration::format(rate.period)));
    let _ = writeln!(text, "      selectPolicy: {select}\n      policies: [{}]", rates.collect::<Vec<_>>().join(", "));
    if let Some(tolerance) = spec.tolerance {
        let _ = writeln!(text, "      tolerance: {tolerance}");
    }
    if !spec.cooldown.is_zero() {
        let _ = writeln!(text, "      cooldown: {}", duration::format(spec.cooldown));
    }
    if let Some(step) = spec.step_limit {
        let _ = writeln!(text, "      stepLimit: {step}");
    }
}
