//! From a plan to a target and a rule for each component that is a Kubernetes Deployment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use tracescale_core::policy::{DirectionSpec, PolicySpec};

use crate::foreign::hpa::hold_down;
use crate::foreign::signal::is_metric_name;
use crate::foreign::walk::Walk;
use crate::foreign::wave::{Component, MetricQuery, ScalingPlan, Script};
use crate::foreign::write::{RuleText, literal, number};
use crate::foreign::{Fate, rule_name};

/// Most replicas where a plan computes them: it names no bound itself.
const MAX_REPLICAS: u32 = 100;
/// Variables that name each other are followed so far.
const MAX_DEPTH: usize = 8;
/// Longest condition or value in SQL: a query has 64 KiB.
const MAX_SQL: usize = 3 << 10;
/// Most brackets in one of them: the engine plans at most 100 levels of operators.
const MAX_BRACKETS: usize = 40;
/// Most metrics of a rule; each is a table of the query.
const MAX_METRICS: usize = 16;
/// Most branches of a query.
const MAX_BRANCHES: usize = 6;

/// Writes scripts as SQL and remembers the metrics that they need.
struct Compiler<'p> {
    /// The plan's variables; `None` for those that are more than arithmetic.
    variables: &'p BTreeMap<&'p str, Option<Script>>,
    /// Metric names; the alias of each is `m` and its place.
    metrics: Vec<String>,
    /// Why a script has no SQL.
    reason: String,
}

/// Writes the documents.
pub(crate) fn translate(walk: &mut Walk, plan: &ScalingPlan) -> Vec<String> {
    let variables = plan.variables.iter().map(|(name, text)| (name.as_str(), super::script::read(text))).collect();
    queries(walk, plan, &variables);
    let mut documents = Vec::new();
    let mut names = Vec::new();
    for component in &plan.components {
        let Some(object) = &component.object else {
            let message = format!("component {} is of kind {}, which tracescale does not scale", component.id, component.kind);
            walk.assume(
                Fate::Lost,
                "plans[].scaling_components",
                message,
                "only objects of Kubernetes with a scale subresource are targets",
            );
            continue;
        };
        let target = object.target(walk, &format!("ScalingComponent[{}].metadata.name", component.id), false);
        documents.push(target.write());
        let part = (plan.components.len() > 1).then_some(component.id.as_str());
        let name = rule_name("wave", &object.namespace, &plan.id, part, &mut names);
        documents.extend(rule(walk, plan, &variables, component, name));
    }
    if documents.is_empty() {
        walk.assume(Fate::Lost, "plans", "scales nothing that tracescale can scale, so there is no document", "");
    }
    documents
}

/// Notes what the views cannot tell of the metrics that a plan asks for.
fn queries(walk: &mut Walk, plan: &ScalingPlan, variables: &BTreeMap<&str, Option<Script>>) {
    let scripts =
        plan.items.iter().flat_map(|item| item.condition.iter().chain(item.actions.iter().filter_map(|action| action.value.as_ref())));
    let mut seen: Vec<MetricQuery> = Vec::new();
    for script in scripts.chain(variables.values().flatten()) {
        script.visit(&mut |script| {
            if let Script::Get(query) = script
                && !seen.contains(query)
            {
                seen.push(query.clone());
            }
        });
    }
    for query in seen {
        let path = format!("get({})", query.metric_id);
        let name = query.name.as_ref().unwrap_or(&query.metric_id);
        let message = format!("is the level `{name}` among the service's own metrics (metric_gauges), over the last minute by event time");
        walk.assume(Fate::Approximate, &path, message, "send the metric by OTLP with the service.name of the target");
        let period = query.period_sec.unwrap_or(300.0);
        if (period - 60.0).abs() > 1e-9 {
            walk.assume(Fate::Approximate, &format!("{path}.period_sec"), format!("is {period} s; windows of the views have 60 s"), "");
        }
        for (tag, value) in &query.tags {
            let hint = "views add up all series of a metric; write a view over `metrics` with attribute(attributes, …)";
            walk.assume(
                Fate::Lost,
                &format!("{path}.tags.{tag}"),
                format!("`{value}` selects among series, which the views do not keep apart"),
                hint,
            );
        }
    }
}

fn rule(
    walk: &mut Walk,
    plan: &ScalingPlan,
    variables: &BTreeMap<&str, Option<Script>>,
    component: &Component,
    name: String,
) -> Option<String> {
    let object = component.object.as_ref()?;
    let mut compiler = Compiler { variables, metrics: Vec::new(), reason: String::new() };
    let mut branches = String::new();
    let mut wanted: Vec<Option<f64>> = Vec::new();
    let mut lost: Vec<&str> = Vec::new();
    let mut comments = vec![
        format!("Imported from ScalingPlan {}, component {}.", plan.id, component.id),
        "The first item that holds, by priority, sets the replicas; where none holds they stay.".to_owned(),
        "Needs the metrics by OTLP with the service.name of the target; while one is missing, nothing changes.".to_owned(),
    ];
    for item in &plan.items {
        let path = format!("plans[{}]", item.id);
        if item.cron.is_some() {
            let hint = "write an entry of `policy.schedules`: it begins at a cron expression and lasts for a duration";
            walk.assume(Fate::Lost, &path, "sets replicas at a moment (cron_expression); here only spans of time are known", hint);
            comments.push(format!("Not carried over: item {}.", item.id));
            continue;
        }
        let condition = item.condition.as_ref().and_then(|script| compiler.truth(script, 0));
        let action = item.actions.iter().find(|action| action.component == component.id);
        let value = match action {
            // The item wins, and leaves this component as it is.
            None => Some("t.current".to_owned()),
            Some(action) => action.value.as_ref().and_then(|script| compiler.number(script, 0)),
        };
        let (Some(condition), Some(value)) = (condition, value) else {
            let reason = std::mem::take(&mut compiler.reason);
            let reason = if reason.is_empty() { "it is more than arithmetic and comparison".to_owned() } else { reason };
            walk.assume(Fate::Lost, &path, format!("has no counterpart in SQL: {reason}"), "write the item as a branch of the rule's CASE");
            lost.push(item.id.as_str());
            continue;
        };
        if wanted.len() >= MAX_BRANCHES {
            walk.assume(
                Fate::Lost,
                &path,
                format!("is one item more than the {MAX_BRANCHES} that become branches"),
                "write a rule by hand",
            );
            lost.push(item.id.as_str());
            continue;
        }
        let _ = writeln!(branches, "            WHEN {condition} THEN {value} -- {}", super::super::one_line(&item.id));
        wanted.extend(action.map(|action| match action.value {
            Some(Script::Number(number)) => Some(number),
            _ => None,
        }));
    }
    if branches.is_empty() {
        walk.assume(Fate::Lost, "plans", format!("no item is left for component {}: it has a target, but no rule", component.id), "");
        return None;
    }
    let mut policy = policy(walk, plan, &wanted, compiler.metrics.is_empty());
    // An item that is lost may be the one that adds replicas, and what is left only removes them.
    comments.extend(hold_down(walk, "plans", &lost, &mut policy));
    let sql = sql(&branches, &compiler.metrics, &object.target_name());
    Some(RuleText { name, comments, every: plan.interval, target: object.target_name(), sql, policy }.write())
}

fn sql(branches: &str, metrics: &[String], target: &str) -> String {
    let each = |part: &dyn Fn(usize) -> String, between: &str| (0..metrics.len()).map(part).collect::<Vec<_>>().join(between);
    let mut sql = "SELECT t.target,\n       CASE".to_owned();
    if !metrics.is_empty() {
        let missing = each(&|at| format!("coalesce(m{at}.presence, 'missing') = 'missing'"), " OR ");
        let _ = write!(sql, " WHEN {missing} THEN NULL");
    }
    let _ = write!(sql, "\n{branches}            ELSE t.current END AS replicas");
    if !metrics.is_empty() {
        let of_all = |function: &str, column: &str| match metrics.len() {
            1 => format!("m0.{column}"),
            _ => format!("{function}({})", each(&|at| format!("m{at}.{column}"), ", ")),
        };
        let is_final = each(&|at| format!("m{at}.is_final"), " AND ");
        let (completeness, age) = (of_all("least", "completeness"), of_all("greatest", "age"));
        let _ = write!(
            sql,
            ",\n       m0.window_end, {is_final} AS is_final, {completeness} AS completeness, {age} AS age, m0.presence,\n       {}",
            each(&|at| format!("m{at}.mean AS metric_{at}"), ", ")
        );
    }
    sql.push_str("\nFROM targets t");
    for (at, name) in metrics.iter().enumerate() {
        let name = literal(name);
        let _ = write!(
            sql,
            "\nLEFT JOIN (SELECT * FROM metric_gauges WHERE window_end = latest() AND metric_name = {name}) m{at}\n       ON m{at}.service_name = \
             t.service_name\n      AND (t.service_namespace IS NULL OR m{at}.service_namespace = t.service_namespace)"
        );
    }
    let _ = write!(sql, "\nWHERE t.target = {}", literal(target));
    sql
}

fn policy(walk: &mut Walk, plan: &ScalingPlan, wanted: &[Option<f64>], is_without_metrics: bool) -> PolicySpec {
    let (mut min, mut max) = (0, MAX_REPLICAS);
    let literals: Option<Vec<u32>> = wanted.iter().map(|value| value.and_then(whole)).collect();
    match literals.as_deref() {
        Some(numbers @ [_, ..]) => {
            min = numbers.iter().copied().min().unwrap_or(0);
            max = numbers.iter().copied().max().unwrap_or(max).max(1);
            let message = format!("a plan has no bounds: the numbers that its items set are those of the policy ({min} and {max})");
            walk.assume(Fate::Approximate, "plans", message, "");
        }
        _ => {
            let message = format!("a plan has no bounds, and its replicas are computed: the policy has {min} and {max}");
            walk.assume(Fate::Approximate, "plans", message, "set `min` and `max` to what is safe");
        }
    }
    let cooldown = plan.items.iter().filter_map(|item| item.cool_down).chain([plan.cool_down]).max().unwrap_or_default();
    if !cooldown.is_zero() {
        let message = "pauses the whole plan; here it pauses scaling up after scaling up, and scaling down after either. The longest of plan and items holds";
        walk.assume(Fate::Approximate, "cool_down", message, "");
    }
    // A plan has neither tolerance nor stabilization nor rate limits.
    let direction = || DirectionSpec { stabilization_window: Duration::ZERO, policies: Vec::new(), cooldown, ..DirectionSpec::up() };
    let mut policy = PolicySpec { min, max, tolerance: 0.0, scale_up: direction(), scale_down: direction(), ..PolicySpec::default() };
    if is_without_metrics {
        policy.gates.scale_down_needs_final = Some(false);
    }
    policy
}

/// A number of replicas, when it is one.
fn whole(value: f64) -> Option<u32> {
    format!("{value}").parse().ok().filter(|replicas| *replicas <= 1_000_000)
}

// === impl Compiler ===

impl<'p> Compiler<'p> {
    fn number(&mut self, script: &Script, depth: usize) -> Option<String> {
        let text = match script {
            Script::Number(value) => number(*value),
            Script::Variable(name) => match name.as_str() {
                "replicas" | "updated_replicas" => "CAST(t.current AS DOUBLE)".to_owned(),
                "ready_replicas" | "available_replicas" => "CAST(t.ready AS DOUBLE)".to_owned(),
                "unavailable_replicas" => "CAST(t.current - t.ready AS DOUBLE)".to_owned(),
                _ => {
                    let inner = self.variable(name, depth)?;
                    self.number(inner, depth + 1)?
                }
            },
            Script::Get(query) => self.metric(query)?,
            Script::Prefix { sign, of } if sign == "-" => format!("(- {})", self.number(of, depth)?),
            Script::Infix { sign, left, right } if matches!(sign.as_str(), "+" | "-" | "*" | "/" | "%") => {
                format!("({} {sign} {})", self.number(left, depth)?, self.number(right, depth)?)
            }
            Script::Call { function, arguments } => {
                let function = match (function.as_str(), arguments.len()) {
                    ("min", 1..) => "least",
                    ("max", 1..) => "greatest",
                    (other @ ("ceil" | "floor" | "round" | "abs"), 1) => other,
                    _ => return None,
                };
                let arguments: Option<Vec<_>> = arguments.iter().map(|argument| self.number(argument, depth)).collect();
                format!("{function}({})", arguments?.join(", "))
            }
            Script::Truth(_) | Script::Prefix { .. } | Script::Infix { .. } => return None,
        };
        self.short(text)
    }

    fn truth(&mut self, script: &Script, depth: usize) -> Option<String> {
        let text = match script {
            Script::Truth(value) => value.to_string(),
            Script::Variable(name) => {
                let inner = self.variable(name, depth)?;
                self.truth(inner, depth + 1)?
            }
            Script::Prefix { sign, of } if sign == "!" => format!("(NOT {})", self.truth(of, depth)?),
            Script::Infix { sign, left, right } => match sign.as_str() {
                "&&" => format!("({} AND {})", self.truth(left, depth)?, self.truth(right, depth)?),
                "||" => format!("({} OR {})", self.truth(left, depth)?, self.truth(right, depth)?),
                "==" | "!=" | "<" | "<=" | ">" | ">=" => {
                    let sign = match sign.as_str() {
                        "==" => "=",
                        "!=" => "<>",
                        other => other,
                    };
                    format!("{} {sign} {}", self.number(left, depth)?, self.number(right, depth)?)
                }
                _ => return None,
            },
            Script::Number(_) | Script::Get(_) | Script::Prefix { .. } | Script::Call { .. } => return None,
        };
        self.short(text)
    }

    fn short(&mut self, text: String) -> Option<String> {
        if text.len() > MAX_SQL || text.matches('(').count() > MAX_BRACKETS {
            "it is too long, counting what its variables say".clone_into(&mut self.reason);
            return None;
        }
        Some(text)
    }

    fn variable(&mut self, name: &str, depth: usize) -> Option<&'p Script> {
        let script = self.variables.get(name).filter(|_| depth < MAX_DEPTH).and_then(Option::as_ref);
        if script.is_none() {
            self.reason = format!("the variable ${} is not known, or more than arithmetic", super::super::one_line(name));
        }
        script
    }

    fn metric(&mut self, query: &MetricQuery) -> Option<String> {
        let column = match query.stats.as_deref().unwrap_or("latest") {
            "latest" | "avg" => "mean",
            "max" => "max",
            "min" => "min",
            other => {
                self.reason = format!("no view has the statistic {}", super::super::one_line(other));
                return None;
            }
        };
        let name = query.name.as_ref().unwrap_or(&query.metric_id);
        if !is_metric_name(name) {
            "a metric has a name that cannot be asked for".clone_into(&mut self.reason);
            return None;
        }
        let at = self.metrics.iter().position(|known| known == name).unwrap_or_else(|| {
            self.metrics.push(name.clone());
            self.metrics.len() - 1
        });
        if self.metrics.len() > MAX_METRICS {
            self.metrics.truncate(MAX_METRICS);
            self.reason = format!("the plan asks for more than {MAX_METRICS} metrics");
            return None;
        }
        Some(format!("m{at}.{column}"))
    }
}
