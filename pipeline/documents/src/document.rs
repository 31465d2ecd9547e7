//! From trees to documents: kinds, metadata, and what must hold across all documents together.

use std::collections::{BTreeMap, BTreeSet};

use tracescale_core::target::TargetName;

use crate::reader::{At, Fields, Reader, nearest};
use crate::settings::FileRef;
use crate::tree::{self, Node, Value};
use crate::{API_VERSION, Documents, Metadata, Problem, Source, budget, rule, settings, target};

/// Gathers documents and problems over several texts.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    pub(crate) documents: Documents,
    pub(crate) problems: Vec<Problem>,
    files: Vec<(Source, FileRef)>,
    /// The names that rules ask for, to be found when all targets are known.
    wanted: Vec<Wanted>,
    /// Names of all targets, also of those that could not be read: a broken target is not also a dangling name.
    names: BTreeMap<String, Source>,
    rules: BTreeMap<String, Source>,
    budgets: BTreeMap<String, Source>,
    objects: BTreeMap<String, (String, Source)>,
    /// Every field that was asked for, by kind: the schema, as the code reads it.
    pub(crate) known: BTreeSet<(&'static str, String)>,
}

#[derive(Debug)]
struct Wanted {
    name: TargetName,
    source: Source,
    line: u64,
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Target,
    Rule,
    Budget,
    Settings,
}

const KINDS: [(&str, Kind); 4] =
    [("ScalingTarget", Kind::Target), ("ScalingRule", Kind::Rule), ("ScalingBudget", Kind::Budget), ("Settings", Kind::Settings)];

// === impl Collector ===

impl Collector {
    /// Takes in one text.
    pub(crate) fn text(&mut self, file: &str, text: &str) {
        match tree::read(text) {
            Ok(nodes) => {
                for node in &nodes {
                    // A JSON file may hold a list of documents.
                    match &node.value {
                        Value::List(items) => items.iter().for_each(|item| self.document(file, item)),
                        Value::Null => {}
                        _ => self.document(file, node),
                    }
                }
            }
            Err(unreadable) => self.problems.push(Problem {
                file: file.to_owned(),
                line: unreadable.line,
                path: String::new(),
                value: None,
                message: unreadable.message,
                hint: unreadable.hint,
            }),
        }
    }

    fn document(&mut self, file: &str, node: &Node) {
        let mut reader = Reader::new(file);
        let source = Source { file: file.to_owned(), line: node.line };
        let kind = self.read(&mut reader, &source, node);
        self.problems.append(&mut reader.problems);
        if let Some(kind) = kind {
            self.known.extend(reader.known.into_iter().map(|path| (kind, path)));
        }
    }

    fn read(&mut self, reader: &mut Reader, source: &Source, node: &Node) -> Option<&'static str> {
        let root = At { node, path: String::new(), line: node.line };
        let mut fields = reader.fields(&root)?;
        let version = fields.require(reader, "apiVersion", &format!("apiVersion: {API_VERSION}"));
        if let Some(at) = version
            && reader.text(&at).is_some_and(|text| text != API_VERSION)
        {
            reader.wrong(&at, "is not a version that this program reads", format!("apiVersion: {API_VERSION}"));
        }
        let names = KINDS.map(|(name, _)| name).join(", ");
        let kind = fields.require(reader, "kind", &format!("one of {names}")).and_then(|at| reader.one_of(&at, &KINDS));
        let metadata = metadata(reader, &mut fields, kind != Some(Kind::Settings));
        let empty = Node { line: node.line, value: Value::Null };
        let spec = fields.take(reader, "spec").unwrap_or(At { node: &empty, path: "spec".to_owned(), line: node.line });
        fields.ignore("status");
        fields.finish(reader);
        match kind? {
            Kind::Target => self.target(reader, source, &metadata, &spec),
            Kind::Rule => self.rule(reader, source, &metadata, &spec),
            Kind::Budget => self.budget(reader, source, &metadata, &spec),
            Kind::Settings => self.settings(reader, source, &spec),
        }
        KINDS.iter().find(|(_, each)| Some(*each) == kind).map(|(name, _)| *name)
    }

    fn target(&mut self, reader: &mut Reader, source: &Source, metadata: &Metadata, spec: &At<'_>) {
        let target = target::read(reader, metadata, spec);
        unique(reader, &mut self.names, source, metadata, "target");
        let Some(target) = target else { return };
        let object = target.reference.to_string();
        if let Some((other, first)) = self.objects.get(&object) {
            let message = format!("scales {object}, as target `{other}` in {} does: two writers would fight", place(first));
            reader.report(spec.line, &spec.path, None, message, None);
        } else {
            self.objects.insert(object, (target.name.to_string(), source.clone()));
        }
        self.documents.targets.push((source.clone(), target));
    }

    fn rule(&mut self, reader: &mut Reader, source: &Source, metadata: &Metadata, spec: &At<'_>) {
        let (rule, names) = rule::read(reader, metadata, spec);
        unique(reader, &mut self.rules, source, metadata, "rule");
        self.wanted.extend(names.into_iter().map(|(name, line, path)| Wanted { name, source: source.clone(), line, path }));
        self.documents.rules.extend(rule.map(|rule| (source.clone(), rule)));
    }

    fn budget(&mut self, reader: &mut Reader, source: &Source, metadata: &Metadata, spec: &At<'_>) {
        let (budget, names) = budget::read(reader, metadata, spec);
        unique(reader, &mut self.budgets, source, metadata, "budget");
        self.wanted.extend(names.into_iter().map(|(name, line, path)| Wanted { name, source: source.clone(), line, path }));
        self.documents.budgets.extend(budget.map(|budget| (source.clone(), budget)));
    }

    fn settings(&mut self, reader: &mut Reader, source: &Source, spec: &At<'_>) {
        let (settings, files) = settings::read(reader, spec);
        if let Some(first) = &self.documents.settings_source {
            let message = format!("a second Settings document; the first is in {}", place(first));
            reader.report(source.line, "kind", Some("Settings".to_owned()), message, Some("put all settings into one document".to_owned()));
            return;
        }
        self.files.extend(files.into_iter().map(|file| (source.clone(), file)));
        self.documents.settings = settings;
        self.documents.settings_source = Some(source.clone());
    }

    /// Checks what holds across documents; gives the documents, the files that settings name, and all problems.
    pub(crate) fn finish(mut self) -> (Documents, Vec<(Source, FileRef)>, Vec<Problem>) {
        let names: Vec<&str> = self.names.keys().map(String::as_str).collect();
        for wanted in &self.wanted {
            if self.names.contains_key(wanted.name.as_str()) {
                continue;
            }
            let hint = nearest(wanted.name.as_str(), &names).map_or_else(
                || "without `targets`, every target is meant, also those that are discovered".to_owned(),
                |name| format!("did you mean `{name}`?"),
            );
            self.problems.push(Problem {
                file: wanted.source.file.clone(),
                line: (wanted.line > 0).then_some(wanted.line),
                path: wanted.path.clone(),
                value: Some(wanted.name.to_string()),
                message: "no ScalingTarget has this name".to_owned(),
                hint: Some(hint),
            });
        }
        self.problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        (self.documents, self.files, self.problems)
    }
}

fn metadata(reader: &mut Reader, fields: &mut Fields<'_>, required: bool) -> Metadata {
    let mut metadata = Metadata::default();
    let at = if required { fields.require(reader, "metadata", "metadata: {name: …}") } else { fields.take(reader, "metadata") };
    let Some(at) = at else { return metadata };
    let Some(mut fields) = reader.fields(&at) else { return metadata };
    let name = if required { fields.require(reader, "name", "a name such as checkout") } else { fields.take(reader, "name") };
    if let Some(at) = name
        && let Some(text) = reader.text(&at)
    {
        match tracescale_core::name::check(text) {
            Ok(()) => metadata.name = Some(text.to_owned()),
            Err(error) => {
                let hint = tracescale_core::name::sanitize(text).map(|name| format!("such as {name}"));
                reader.wrong(&at, error, hint);
            }
        }
    }
    metadata.namespace = fields.take(reader, "namespace").and_then(|at| reader.text(&at).map(str::to_owned));
    // What a cluster adds to every object.
    for name in ["labels", "annotations"] {
        let _ = fields.take(reader, name);
    }
    for name in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "finalizers", "ownerReferences"] {
        fields.ignore(name);
    }
    fields.finish(reader);
    metadata
}

fn unique(reader: &mut Reader, names: &mut BTreeMap<String, Source>, source: &Source, metadata: &Metadata, what: &str) {
    let Some(name) = &metadata.name else { return };
    if let Some(first) = names.get(name) {
        let message = format!("another {what} in {} has this name", place(first));
        reader.report(source.line, "metadata.name", Some(name.clone()), message, Some("names are unique over all files".to_owned()));
    } else {
        names.insert(name.clone(), source.clone());
    }
}

fn place(source: &Source) -> String {
    if source.line > 0 { format!("{}:{}", source.file, source.line) } else { source.file.clone() }
}
