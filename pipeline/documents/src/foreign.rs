//! Documents of other autoscalers, read for what they mean here: `HorizontalPodAutoscaler`, KEDA's `ScaledObject`, Wave
//! Autoscale's `ScalingPlan`, CloudPulse's `ScalingRule`.
//!
//! ```text
//! text ─▶ tree ─▶ typed form, as faithful as it was written ─▶ our documents, and notes on what became of each field
//! ```
//!
//! The typed form is what a simulation needs to let the other system decide. The documents recommend and never act. Nothing is
//! left out silently: a field either means the same here, or a note says what it became and why. `deploy/importing.md` has the
//! mapping.
//!
//! Architecture invariants: reading is pure, bounded and never panics; what it writes, [`parse`](crate::parse) accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::foreign::walk::Walk;
use crate::reader::At;
use crate::tree::{self, Node, Value};
use crate::{API_VERSION, Problem, Source};

mod behavior;
mod cloudpulse;
mod hpa;
mod keda;
mod object;
mod promql;
mod quantity;
mod signal;
mod walk;
mod wave;
mod write;

pub use behavior::Behavior;
pub use cloudpulse::{Action as ThresholdAction, ThresholdRule};
pub use hpa::{DEFAULT_CPU_PERCENT, Hpa, Metric, MetricSource, MetricTarget};
pub use keda::{Demand, Fallback, Paused, ScaledObject, Trigger};
pub use object::ObjectRef;
pub use wave::{Action, Component, MetricQuery, PlanItem, ScalingPlan, Script};

/// A document of another system, and what it is here.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Where it was written.
    pub origin: Source,
    /// Its kind, as it was written.
    pub kind: String,
    /// Its name or id.
    pub name: String,
    /// What it says.
    pub form: Form,
    /// Our documents, each with a leading `---`: targets and rules that recommend. Complete by themselves.
    pub documents: String,
    /// What became of its fields, in the order of the lines.
    pub notes: Vec<Note>,
}

/// What a document says, in the terms of its own system.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Form {
    /// `HorizontalPodAutoscaler`.
    Hpa(Hpa),
    /// KEDA's `ScaledObject`.
    Keda(ScaledObject),
    /// Wave Autoscale's `ScalingPlan`.
    Wave(ScalingPlan),
    /// CloudPulse's `ScalingRule`.
    CloudPulse(ThresholdRule),
}

/// What became of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much of it is left.
    pub fate: Fate,
    /// Where in the document it stands; `spec.minReplicas`.
    pub path: String,
    /// The line, from 1, when it is known.
    pub line: Option<u64>,
    /// What is written there; `None` where nothing is. Secrets are not shown.
    pub value: Option<String>,
    /// What became of it, and why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How much of a field is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It means the same here.
    Exact,
    /// Something that comes near.
    Approximate,
    /// Nothing.
    Lost,
}

/// What a text holds.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Import {
    /// The documents that were carried over, in order.
    pub imported: Vec<Imported>,
    /// The other documents of the text: what they are and why they were left alone.
    pub others: Vec<Note>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Hpa,
    Keda,
    Wave,
    CloudPulse,
}

// === impl Fate ===

impl Fate {
    /// Stable label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Approximate => "approximate",
            Self::Lost => "lost",
        }
    }
}

// === impl Note ===

impl Note {
    /// The same where nothing of the text could be imported.
    fn problem(&self, origin: &str) -> Problem {
        Problem {
            file: origin.to_owned(),
            line: self.line,
            path: self.path.clone(),
            value: self.value.clone(),
            message: self.message.clone(),
            hint: self.hint.clone(),
        }
    }
}

impl fmt::Display for Note {
    /// `approximate: spec.pollingInterval = 30: …`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.fate.as_str(), self.path)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, ": {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}

/// Reads the foreign documents of a text; `origin` names it in problems. A `List` of objects is read as its items.
///
/// Documents that are of no kind that is known here are told in [`Import::others`], as long as there is one that is.
///
/// # Errors
/// Every problem of every document in it; also when nothing in it can be imported.
pub fn read(origin: &str, text: &str) -> Result<Import, Vec<Problem>> {
    let nodes = tree::read(text).map_err(|unreadable| {
        let (line, message, hint) = (unreadable.line, unreadable.message, unreadable.hint);
        vec![Problem { file: origin.to_owned(), line, path: String::new(), value: None, message, hint }]
    })?;
    let mut documents = Vec::new();
    nodes.iter().for_each(|node| flatten(node, "", 0, &mut documents));
    let is_component = |node: &&Node| text_of(node, "kind") == Some("ScalingComponent");
    let components = documents.iter().map(|at| at.node).filter(is_component);
    let components = components.filter_map(|node| Some((text_of(node, "id")?, node))).collect();
    let (mut import, mut problems) = (Import::default(), Vec::new());
    for at in &documents {
        match kind(at) {
            Ok(kind) => match document(origin, at, kind, &components) {
                Ok(imported) => import.imported.push(imported),
                Err(found) => problems.extend(found),
            },
            Err(note) => import.others.push(note),
        }
    }
    if import.imported.is_empty() && problems.is_empty() {
        problems.extend(import.others.iter().map(|note| note.problem(origin)));
        if problems.is_empty() {
            let message = "holds no document".to_owned();
            problems.push(Problem { file: origin.to_owned(), line: None, path: String::new(), value: None, message, hint: None });
        }
    }
    if problems.is_empty() { Ok(import) } else { Err(problems) }
}

/// Our documents of several, each once: two rules of one target share it. Where two autoscalers disagree about one object (one
/// of them is paused, say), both targets stand here, and [`parse`](crate::parse) tells that they fight.
#[must_use]
pub fn together<'i>(imported: impl IntoIterator<Item = &'i Imported>) -> String {
    let mut seen = BTreeSet::new();
    let documents = imported.into_iter().flat_map(|imported| each(&imported.documents));
    documents.filter(|document| seen.insert(*document)).collect()
}

/// Takes lists apart: a JSON list of documents, and the `List` kinds of Kubernetes.
fn flatten<'n>(node: &'n Node, path: &str, depth: usize, documents: &mut Vec<At<'n>>) {
    let is_list = text_of(node, "kind").is_some_and(|kind| kind.ends_with("List"));
    let (items, path) = match (&node.value, wave::field(node, "items").map(|items| &items.value)) {
        (Value::List(items), _) if depth == 0 => (items, String::new()),
        (Value::Map(_), Some(Value::List(items))) if is_list && depth < 4 => (items, format!("{path}items")),
        (Value::Null, _) => return,
        _ => return documents.push(At { node, path: path.trim_end_matches('.').to_owned(), line: node.line }),
    };
    for (index, item) in items.iter().enumerate() {
        flatten(item, &format!("{path}[{index}]."), depth + 1, documents);
    }
}

fn text_of<'n>(node: &'n Node, name: &str) -> Option<&'n str> {
    wave::field(node, name).and_then(wave::plain)
}

/// Which kind of document it is, or why it is none.
fn kind(at: &At<'_>) -> Result<Kind, Note> {
    let (version, kind) = (text_of(at.node, "apiVersion"), text_of(at.node, "kind"));
    let (group, name) = (version.and_then(|version| version.split('/').next()), kind.unwrap_or_default());
    let reason = match (group, name) {
        (Some("autoscaling"), "HorizontalPodAutoscaler") => match version {
            Some("autoscaling/v1" | "autoscaling/v2" | "autoscaling/v2beta2") => return Ok(Kind::Hpa),
            _ => ("is a version whose fields are not read", "kubectl get hpa.v2.autoscaling -o yaml gives one that is"),
        },
        (Some("keda.sh"), "ScaledObject") => return Ok(Kind::Keda),
        (Some("cloudpulse.io"), "ScalingRule") => return Ok(Kind::CloudPulse),
        (None, "ScalingPlan") => return Ok(Kind::Wave),
        (None, "ScalingComponent") => ("is read with the plan that names it", ""),
        (None, "Metric") => ("says how Wave Autoscale collects a metric", "send the metric by OTLP, under the name that the plan asks for"),
        (Some("keda.sh"), "ScaledJob") => ("starts jobs, which have no replicas", ""),
        (Some("keda.sh"), _) => ("is not needed: telemetry comes to tracescale by itself", ""),
        _ if version == Some(API_VERSION) => ("is a document of tracescale already", "tracescale check PATH"),
        (_, "") => ("has no kind", "HorizontalPodAutoscaler, ScaledObject, ScalingPlan or ScalingRule"),
        _ => {
            ("says nothing about scaling that is known here", "HorizontalPodAutoscaler, ScaledObject, ScalingPlan and ScalingRule are read")
        }
    };
    let (message, hint) = reason;
    let shown = match (version, kind) {
        (Some(version), Some(kind)) => format!("{version} {kind}"),
        (None, Some(kind)) => kind.to_owned(),
        _ => at.node.shown(),
    };
    Err(Note {
        fate: if name == "ScalingComponent" { Fate::Exact } else { Fate::Lost },
        path: if at.path.is_empty() { "kind".to_owned() } else { format!("{}.kind", at.path) },
        line: (at.line > 0).then_some(at.line),
        value: Some(one_line(&shown)),
        message: message.to_owned(),
        hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()),
    })
}

fn document(origin: &str, at: &At<'_>, kind: Kind, components: &BTreeMap<&str, &Node>) -> Result<Imported, Vec<Problem>> {
    let mut walk = Walk::new(origin);
    let read = form(&mut walk, at, kind, components);
    let Some((form, name)) = read.filter(|_| walk.is_sound()) else { return Err(walk.reader.problems) };
    let documents: String = match &form {
        Form::Hpa(hpa) => hpa::translate(&mut walk, hpa),
        Form::Keda(object) => keda::translate(&mut walk, object),
        Form::Wave(plan) => wave::translate(&mut walk, plan),
        Form::CloudPulse(rule) => cloudpulse::translate(&mut walk, rule),
    }
    .concat();
    // Whatever limit of ours was not foreseen above is told here, so that nobody gets documents that cannot be read.
    crate::parse(origin, &documents).map_err(|problems| problems.into_iter().map(|problem| unforeseen(at, problem)).collect::<Vec<_>>())?;
    for note in walk.notes.iter_mut().filter(|note| note.line.is_none()) {
        let (line, written) = at.node.find(&note.path);
        note.line = Some(line).filter(|line| *line > 0);
        note.value = written.map(|node| walk::shown(&note.path, node));
        if !at.path.is_empty() {
            note.path = format!("{}.{}", at.path, note.path);
        }
    }
    walk.notes.sort_by_key(|note| note.line);
    let kind = text_of(at.node, "kind").unwrap_or_default().to_owned();
    let origin = Source { file: origin.to_owned(), line: at.line };
    Ok(Imported { origin, kind, name, form, documents, notes: walk.notes })
}

fn form(walk: &mut Walk, at: &At<'_>, kind: Kind, components: &BTreeMap<&str, &Node>) -> Option<(Form, String)> {
    let mut fields = walk.reader.fields(at)?;
    let version = walk.text_if(&mut fields, "apiVersion").unwrap_or_default();
    fields.ignore("kind");
    let form = match kind {
        Kind::Hpa => hpa::read(walk, &mut fields, &version).map(|hpa| (hpa.name.clone(), Form::Hpa(hpa))),
        Kind::Keda => keda::read(walk, &mut fields).map(|object| (object.name.clone(), Form::Keda(object))),
        Kind::Wave => wave::read(walk, &mut fields, components).map(|plan| (plan.id.clone(), Form::Wave(plan))),
        Kind::CloudPulse => cloudpulse::read(walk, &mut fields).map(|rule| (rule.name.clone(), Form::CloudPulse(rule))),
    };
    walk.rest(fields);
    form.map(|(name, form)| (form, name))
}

/// A problem of what was written, as one of what was read.
fn unforeseen(at: &At<'_>, problem: Problem) -> Problem {
    let message = format!("cannot be carried over: {} {}", problem.path, problem.message);
    Problem { line: (at.line > 0).then_some(at.line), path: at.path.clone(), message, ..problem }
}

/// The name of a rule: system, namespace, name of the document, and part of it. No two parts of one document share a name.
fn rule_name(system: &str, namespace: &str, name: &str, part: Option<&str>, taken: &mut Vec<String>) -> String {
    let text = [Some(system), Some(namespace), Some(name), part].into_iter().flatten().collect::<Vec<_>>().join(".");
    let mut name = tracescale_core::name::sanitize(&text).unwrap_or_else(|| system.to_owned());
    // Room for a number.
    name.truncate(tracescale_core::name::MAX_NAME - 8);
    let name = name.trim_end_matches(['-', '.']).to_owned();
    let mut unique = name.clone();
    for number in 2..=taken.len() + 2 {
        if !taken.contains(&unique) {
            break;
        }
        unique = format!("{name}-{number}");
    }
    taken.push(unique.clone());
    unique
}

/// What people wrote, on one line and not too long.
fn one_line(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') { ' ' } else { c }).collect()
}

/// Written documents one by one: each begins with `---`.
fn each(text: &str) -> Vec<&str> {
    let marks = text.match_indices("---\n").map(|(at, _)| at);
    let begins: Vec<usize> = marks.filter(|at| *at == 0 || text.as_bytes()[*at - 1] == b'\n').collect();
    let ends = begins.iter().skip(1).copied().chain([text.len()]);
    begins.iter().zip(ends).map(|(begin, end)| &text[*begin..end]).collect()
}

#[cfg(test)]
mod tests;
