//! `ScalingPlan` of Wave Autoscale, with the `ScalingComponent` documents that it names.
//!
//! A plan is a list of items of which the first, by priority, whose expression is true sets the replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::foreign::walk::Walk;
use crate::foreign::{Fate, ObjectRef};
use crate::reader::{At, Fields};
use crate::tree::{Node, Value};

mod script;
mod translate;

pub use script::{MetricQuery, Script};
pub(crate) use translate::translate;

/// The interval of plans that say none, and the shortest one, in milliseconds.
const SHORTEST_MILLIS: u64 = 1000;
/// What the interval is kept in has 16 bits: longer ones wrap there.
const INTERVAL_WRAPS: u64 = 1 << 16;
/// Longest interval that a rule can have, in milliseconds.
const LONGEST_MILLIS: u64 = 24 * 3600 * 1000;

/// A `ScalingPlan`, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingPlan {
    /// Its id.
    pub id: String,
    /// Whether it was switched on.
    pub enabled: bool,
    /// How often it is looked at, as written; what Wave makes of it is shorter above 65 s.
    #[serde(with = "tracescale_core::duration::text")]
    pub interval: Duration,
    /// Pause of the whole plan after an item was applied.
    #[serde(with = "tracescale_core::duration::text")]
    pub cool_down: Duration,
    /// Variables, each a script.
    pub variables: Vec<(String, String)>,
    /// The items, highest priority first, among equals in the order of the document.
    pub items: Vec<PlanItem>,
    /// What the items scale.
    pub components: Vec<Component>,
}

/// One item of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanItem {
    /// Its id.
    pub id: String,
    /// Higher is looked at first.
    pub priority: i32,
    /// The condition as written.
    pub expression: Option<String>,
    /// The condition as a tree, where it is arithmetic and comparison.
    pub condition: Option<Script>,
    /// Six or seven fields with seconds, in UTC; both this and the expression must hold.
    pub cron: Option<String>,
    /// Instead of the plan's.
    #[serde(with = "tracescale_core::duration::option")]
    pub cool_down: Option<Duration>,
    /// What it sets.
    pub actions: Vec<Action>,
}

/// What an item sets at a component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Action {
    /// Which component.
    pub component: String,
    /// Replicas as written, a number or a script; `None` where it sets something else.
    pub replicas: Option<String>,
    /// The same as a tree.
    pub value: Option<Script>,
}

/// Something that a plan scales.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Component {
    /// Its id.
    pub id: String,
    /// `kubernetes-deployment`, or one of the clouds' kinds.
    pub kind: String,
    /// The object, for Kubernetes.
    pub object: Option<ObjectRef>,
}

/// Reads a plan; `components` are the component documents of the same text, by id.
pub(crate) fn read(walk: &mut Walk, root: &mut Fields<'_>, components: &BTreeMap<&str, &Node>) -> Option<ScalingPlan> {
    let id = walk.text_of(root, "id", "the id of the plan");
    let metadata = root.take(&mut walk.reader, "metadata");
    let mut inner = metadata.as_ref().and_then(|at| walk.reader.fields(at));
    // Documents write title, interval and cool_down in `metadata` and beside it.
    for fields in [Some(&mut *root), inner.as_mut()].into_iter().flatten() {
        if let Some(at) = fields.take(&mut walk.reader, "title") {
            walk.note(Fate::Lost, &at, "is a title; the rule has the plan's id", "");
        }
    }
    let interval = either(walk, root, inner.as_mut(), "interval").map(|at| interval(walk, &at));
    let cool_down = either(walk, root, inner.as_mut(), "cool_down").map(|at| walk.seconds(&at));
    if let Some(fields) = inner {
        walk.rest(fields);
    }
    let enabled = root.take(&mut walk.reader, "enabled").map(|at| {
        let enabled = walk.truth(&at);
        if enabled == Some(false) {
            walk.note(Fate::Approximate, &at, "is switched off there; here it recommends, which changes nothing", "");
        }
        enabled
    });
    if enabled.is_none() {
        walk.assume(Fate::Approximate, "enabled", "is not written: switched off there; here it recommends, which changes nothing", "");
    }
    let variables = root.take(&mut walk.reader, "variables").map(|at| variables(walk, &at)).unwrap_or_default();
    let plans = root.require(&mut walk.reader, "plans", "at least one item")?;
    let items = walk.items(&plans);
    if items.is_empty() {
        walk.reader.wrong(&plans, "must hold at least one item", None);
    }
    let items: Option<Vec<_>> = items.iter().map(|at| item(walk, at)).collect();
    let mut items = items?;
    items.sort_by_key(|item| std::cmp::Reverse(item.priority));
    let components = find(walk, &items, components, &plans);
    Some(ScalingPlan {
        id: id?,
        enabled: enabled.unwrap_or(Some(false))?,
        interval: interval.unwrap_or(Some(Duration::from_millis(SHORTEST_MILLIS)))?,
        cool_down: cool_down.unwrap_or(Some(Duration::ZERO))?,
        variables,
        items,
        components: components?,
    })
}

fn either<'a>(walk: &mut Walk, root: &mut Fields<'a>, inner: Option<&mut Fields<'a>>, name: &'static str) -> Option<At<'a>> {
    let beside = root.take(&mut walk.reader, name);
    inner.and_then(|fields| fields.take(&mut walk.reader, name)).or(beside)
}

fn interval(walk: &mut Walk, at: &At<'_>) -> Option<Duration> {
    let millis = walk.reader.text(at)?.parse::<u64>().ok().filter(|millis| *millis <= LONGEST_MILLIS);
    let Some(millis) = millis else {
        walk.reader.wrong(at, "must be a whole number of milliseconds", format!("from {SHORTEST_MILLIS} to {LONGEST_MILLIS}"));
        return None;
    };
    if millis >= INTERVAL_WRAPS {
        let message =
            format!("is what is written; Wave waits {} ms, since it keeps 16 bits of it", (millis % INTERVAL_WRAPS).max(SHORTEST_MILLIS));
        walk.note(Fate::Approximate, at, message, "");
    } else {
        walk.exact(at, "is `every`");
    }
    Some(Duration::from_millis(millis.max(SHORTEST_MILLIS)))
}

fn variables(walk: &mut Walk, at: &At<'_>) -> Vec<(String, String)> {
    let Some(fields) = walk.reader.fields(at) else { return Vec::new() };
    walk.exact(at, "are put in where they are used");
    let mut variables = Vec::new();
    for at in fields.rest() {
        let name = at.path.rsplit('.').next().unwrap_or_default().to_owned();
        variables.extend(walk.reader.text(&at).map(|text| (name, text.to_owned())));
    }
    variables
}

fn item(walk: &mut Walk, at: &At<'_>) -> Option<PlanItem> {
    let mut fields = walk.reader.fields(at)?;
    let id = walk.text_of(&mut fields, "id", "the id of the item");
    for name in ["description", "ui"] {
        if let Some(at) = fields.take(&mut walk.reader, name) {
            walk.note(Fate::Lost, &at, "is for people; the decision names the rule", "");
        }
    }
    let expression = fields.take(&mut walk.reader, "expression").and_then(|at| match &at.node.value {
        // Wave takes an empty text for none.
        Value::Plain(text) | Value::Text(text) if text.trim().is_empty() => None,
        _ => walk.reader.text(&at).map(str::to_owned),
    });
    let cron = walk.text_if(&mut fields, "cron_expression");
    let cool_down = fields.take(&mut walk.reader, "cool_down").and_then(|at| walk.seconds(&at));
    let priority = fields.take(&mut walk.reader, "priority");
    let priority = priority.map_or(Some(0), |at| walk.reader.whole(&at, i16::MIN.into(), i16::MAX.into()));
    if expression.is_none() && cron.is_none() {
        walk.reader.report(
            at.line,
            &format!("{}.expression", at.path),
            None,
            "is missing",
            Some("a condition, or cron_expression".to_owned()),
        );
    }
    let actions = fields.require(&mut walk.reader, "scaling_components", "what the item sets").map(|at| {
        let items = walk.items(&at);
        items.iter().map(|at| action(walk, at)).collect::<Option<Vec<_>>>()
    });
    walk.rest(fields);
    let condition = expression.as_deref().and_then(script::read);
    let priority = i32::try_from(priority?).ok()?;
    Some(PlanItem { id: id?, priority, expression, condition, cron, cool_down, actions: actions?? })
}

fn action(walk: &mut Walk, at: &At<'_>) -> Option<Action> {
    let mut fields = walk.reader.fields(at)?;
    let component = walk.text_of(&mut fields, "component_id", "the id of a ScalingComponent");
    let replicas = walk.text_if(&mut fields, "replicas");
    let desired = walk.text_if(&mut fields, "desired");
    walk.rest(fields);
    let replicas = replicas.or(desired);
    let value = replicas.as_deref().and_then(script::read);
    Some(Action { component: component?, replicas, value })
}

/// Finds the components that the items name.
fn find(walk: &mut Walk, items: &[PlanItem], nodes: &BTreeMap<&str, &Node>, plans: &At<'_>) -> Option<Vec<Component>> {
    let mut components: Vec<Component> = Vec::new();
    for action in items.iter().flat_map(|item| &item.actions) {
        if components.iter().any(|component| component.id == action.component) {
            continue;
        }
        let Some(node) = nodes.get(action.component.as_str()) else {
            let hint = "put the ScalingComponent documents and the plan into one file".to_owned();
            let value = Some(action.component.clone());
            walk.reader.report(
                plans.line,
                "plans[].scaling_components[].component_id",
                value,
                "no ScalingComponent in this file has this id",
                Some(hint),
            );
            return None;
        };
        components.push(component(walk, node, action.component.clone())?);
    }
    Some(components)
}

fn component(walk: &mut Walk, node: &Node, id: String) -> Option<Component> {
    let root = At { node, path: format!("ScalingComponent[{id}]"), line: node.line };
    let mut fields = walk.reader.fields(&root)?;
    for name in ["kind", "id", "enabled", "title"] {
        fields.ignore(name);
    }
    let kind = walk.text_of(&mut fields, "component_kind", "such as kubernetes-deployment")?;
    let metadata = fields.take(&mut walk.reader, "metadata");
    walk.rest(fields);
    let Some(at) = metadata.filter(|_| kind == "kubernetes-deployment") else { return Some(Component { id, kind, object: None }) };
    let mut fields = walk.reader.fields(&at)?;
    let namespace = match fields.take(&mut walk.reader, "namespace") {
        Some(at) => walk.object_name(&at),
        None => Some("default".to_owned()),
    };
    let name = fields.require(&mut walk.reader, "name", "the name of the Deployment").and_then(|at| walk.object_name(&at));
    walk.rest(fields);
    let object = ObjectRef { api_version: "apps/v1".to_owned(), kind: "Deployment".to_owned(), namespace: namespace?, name: name? };
    Some(Component { id, kind, object: Some(object) })
}

/// A field of a mapping.
pub(crate) fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Value::Map(fields) = &node.value else { return None };
    fields.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
}

/// The text of a single value.
pub(crate) fn plain(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Plain(text) | Value::Text(text) => Some(text),
        _ => None,
    }
}
