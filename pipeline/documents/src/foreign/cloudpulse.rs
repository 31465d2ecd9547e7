//! `ScalingRule` of `cloudpulse.io/v1`: one threshold and one step.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::policy::{DirectionSpec, OnMissing, PolicySpec, SelectPolicy};

use crate::foreign::signal::is_metric_name;
use crate::foreign::walk::Walk;
use crate::foreign::write::{RuleText, TargetText, literal, number};
use crate::foreign::{Fate, object, rule_name};
use crate::reader::Fields;

/// Bounds of the translation: the document has none.
const BOUNDS: (u32, u32) = (1, 100);
/// How often the translation is asked: CloudPulse polls its agents every 30 s.
const EVERY: Duration = Duration::from_secs(30);

/// A `ScalingRule`, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThresholdRule {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The node that it watches.
    pub node_id: String,
    /// The metric, `cpu_usage`.
    pub metric: String,
    /// The threshold, in the unit of the metric (percent for `cpu_usage`).
    pub threshold: f64,
    /// What to do: up when the metric is above the threshold, down when it is below.
    pub action: Action,
    /// How many replicas to add or remove.
    pub replicas: u32,
    /// Pause after it acted.
    #[serde(with = "tracescale_core::duration::text")]
    pub cooldown: Duration,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Adds replicas.
    ScaleUp,
    /// Removes replicas.
    ScaleDown,
}

/// Reads the whole object.
pub(crate) fn read(walk: &mut Walk, root: &mut Fields<'_>) -> Option<ThresholdRule> {
    let metadata = object::metadata(walk, root);
    object::no_annotations(walk, &metadata);
    let at = root.require(&mut walk.reader, "spec", "spec: {nodeId, metric, threshold, action, replicas, cooldown}")?;
    let mut fields = walk.reader.fields(&at)?;
    let node_id = fields.require(&mut walk.reader, "nodeId", "the node").and_then(|at| walk.object_name(&at));
    let metric = fields.require(&mut walk.reader, "metric", "such as cpu_usage").and_then(|at| {
        let text = walk.reader.text(&at)?;
        if !is_metric_name(text) {
            walk.reader.wrong(&at, "is not a name that a metric can have", None);
            return None;
        }
        Some(text.to_owned())
    });
    let threshold = fields.require(&mut walk.reader, "threshold", "such as 80").and_then(|at| walk.quantity(&at));
    let actions = [("scale_up", Action::ScaleUp), ("scale_down", Action::ScaleDown)];
    let action = fields.require(&mut walk.reader, "action", "scale_up or scale_down").and_then(|at| walk.reader.one_of(&at, &actions));
    let replicas = fields.require(&mut walk.reader, "replicas", "such as 2").and_then(|at| {
        let replicas = walk.replicas(&at)?;
        if replicas == 0 {
            walk.reader.wrong(&at, "must be at least 1", None);
            return None;
        }
        walk.note(
            Fate::Approximate,
            &at,
            "is taken for the replicas to add or remove; nothing of CloudPulse that acts was ever published",
            "",
        );
        Some(replicas)
    });
    let cooldown = match fields.take(&mut walk.reader, "cooldown") {
        Some(at) => {
            walk.exact(&at, "is `cooldown` of the direction");
            walk.seconds(&at)
        }
        None => {
            walk.assume(Fate::Exact, "spec.cooldown", "is not written: none", "");
            Some(Duration::ZERO)
        }
    };
    walk.rest(fields);
    Some(ThresholdRule {
        name: metadata.name?,
        namespace: metadata.namespace?,
        node_id: node_id?,
        metric: metric?,
        threshold: threshold?,
        action: action?,
        replicas: replicas?,
        cooldown: cooldown?,
    })
}

/// Writes the documents.
pub(crate) fn translate(walk: &mut Walk, rule: &ThresholdRule) -> Vec<String> {
    let hint = "replace `memory` by `kubernetes: {…}` with the object that is to be scaled";
    walk.assume(Fate::Approximate, "spec.nodeId", "is a node, which has no replicas: the target is a number in this process", hint);
    let message = format!("is the level `{}` among the metrics with the node as service.name (metric_gauges.mean)", rule.metric);
    walk.assume(Fate::Approximate, "spec.metric", message, "send it by OTLP under this name and in this unit");
    let (least, most) = BOUNDS;
    let message = format!("a rule of CloudPulse has no bounds: the policy has {least} and {most}");
    walk.assume(Fate::Approximate, "spec", message, "set `min` and `max` to what is safe");
    let target = TargetText {
        name: rule.node_id.clone(),
        comments: vec!["A node has no replicas: put here the object to be scaled, `kubernetes: {…}` instead of `memory`.".to_owned()],
        object: None,
        service: rule.node_id.clone(),
        paused: false,
    };
    let is_up = rule.action == Action::ScaleUp;
    let (sign, change) = if is_up { (">", "+") } else { ("<", "-") };
    let sql = format!(
        "SELECT t.target,\n       CASE WHEN g.mean {sign} {} THEN greatest(t.current {change} {}, 0) END AS replicas,\n       \
         g.window_end, g.is_final, g.completeness, g.age, g.presence,\n       g.mean\nFROM targets t\n\
         LEFT JOIN (SELECT * FROM metric_gauges WHERE window_end = latest() AND metric_name = {}) g\n       \
         ON g.service_name = t.service_name\n      AND (t.service_namespace IS NULL OR g.service_namespace = t.service_namespace)\n\
         WHERE t.target = {}",
        number(rule.threshold),
        rule.replicas,
        literal(&rule.metric),
        literal(&target.name)
    );
    let comments = vec![
        format!("Imported from ScalingRule {}/{}: {} {sign} {}.", rule.namespace, rule.name, rule.metric, rule.threshold),
        "While the threshold is not crossed the rule has no opinion; others may decide.".to_owned(),
    ];
    let name = rule_name("cloudpulse", &rule.namespace, &rule.name, None, &mut Vec::new());
    let text = RuleText { name, comments, every: EVERY, target: target.name.clone(), sql, policy: policy(rule, is_up) };
    vec![target.write(), text.write()]
}

/// Steps in one direction, at once and then a pause.
fn policy(rule: &ThresholdRule, is_up: bool) -> PolicySpec {
    let acts = |acts: bool| DirectionSpec {
        stabilization_window: Duration::ZERO,
        select_policy: if acts { SelectPolicy::Max } else { SelectPolicy::Disabled },
        policies: Vec::new(),
        cooldown: if acts { rule.cooldown } else { Duration::ZERO },
        step_limit: acts.then_some(rule.replicas),
        tolerance: None,
    };
    PolicySpec {
        min: BOUNDS.0,
        max: BOUNDS.1,
        tolerance: 0.0,
        scale_up: acts(is_up),
        scale_down: acts(!is_up),
        on_missing: OnMissing::Skip,
        ..PolicySpec::default()
    }
}
